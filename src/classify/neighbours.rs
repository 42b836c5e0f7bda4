//! The pictures that a picture is most like, by the cosine of the angle between their features.

use rayon::prelude::*;
use serde::Serialize;

use crate::checkpoint::Features;

/// Divides similarities before they become weights of a vote (Wu et al. 2018; Caron et al. 2021, DINO, appendix F.1).
const TEMPERATURE: f64 = 0.07;

/// A picture that another is like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its name.
    pub name: String,
    /// Its class, where it is known.
    pub label: Option<String>,
    /// Cosine of the angle between the features, −1 to 1.
    pub similarity: f32,
}

/// The pictures that one is most like.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    /// Most similar first.
    pub neighbours: Vec<Neighbour>,
    /// The class that they vote for, each with weight exp(similarity/0.07), and its share of the weight; `None` where
    /// no label is known.
    pub vote: Option<(String, f32)>,
}

/// Features to look for neighbours in.
#[derive(Debug)]
pub struct Neighbours {
    features: Features,
}

/// Features of other weights, or prepared in another way.
#[derive(Debug, thiserror::Error)]
#[error("these are features of other weights ({model}), or of pictures prepared in another way")]
pub struct OtherWeights {
    /// The architecture that they are of.
    pub model: String,
}

impl Neighbours {
    /// Neighbours among `features`, which must be of weights with this [`backbone_sha256`].
    ///
    /// [`backbone_sha256`]: crate::checkpoint::backbone_sha256
    ///
    /// # Errors
    ///
    /// [`OtherWeights`].
    pub fn new(mut features: Features, backbone: &str) -> Result<Self, OtherWeights> {
        if features.about.backbone != backbone {
            return Err(OtherWeights {
                model: features.about.model,
            });
        }
        let width = features.about.width;
        features.values.chunks_mut(width).for_each(normalise);
        Ok(Self { features })
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.features.about.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `count` pictures that one with these features is most like; of equals, the first.
    ///
    /// # Shapes
    ///
    /// `features` `[D]`.
    pub fn of(&self, features: &[f32], count: usize) -> Nearest {
        let mut row = features.to_vec();
        normalise(&mut row);
        let width = self.features.about.width;
        let rows = self.features.values.par_chunks(width);
        let mut all: Vec<(usize, f32)> = rows
            .map(|other| row.iter().zip(other).map(|(a, b)| a * b).sum::<f32>())
            .enumerate()
            .collect();
        let count = count.min(all.len());
        let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if count > 0 && count < all.len() {
            all.select_nth_unstable_by(count - 1, order);
        }
        all.truncate(count);
        all.sort_unstable_by(order);
        let about = &self.features.about;
        let mut weights = vec![0.0; about.classes.len()];
        let labels = self.features.labels.as_ref();
        for &(index, similarity) in &all {
            if let Some(labels) = labels {
                // A cosine is at most 1: less that, no weight overflows.
                weights[labels[index]] += ((f64::from(similarity) - 1.0) / TEMPERATURE).exp();
            }
        }
        let sum: f64 = weights.iter().sum();
        let best = (0..weights.len())
            .rev()
            .max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
        Nearest {
            vote: best
                .filter(|_| sum > 0.0)
                .map(|best| (about.classes[best].clone(), (weights[best] / sum) as f32)),
            neighbours: all
                .into_iter()
                .map(|(index, similarity)| Neighbour {
                    name: about.names[index].clone(),
                    label: labels.map(|labels| about.classes[labels[index]].clone()),
                    similarity,
                })
                .collect(),
        }
    }
}

/// Divides by the length, which is 1 then; nothing stays nothing.
fn normalise(row: &mut [f32]) {
    let squares: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    if squares > 0.0 {
        let length = squares.sqrt();
        row.iter_mut()
            .for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::FeaturesMeta;

    fn features() -> Features {
        Features {
            about: FeaturesMeta {
                width: 2,
                model: "vit".into(),
                backbone: "b".into(),
                names: ["east", "north", "north too", "west", "nowhere"]
                    .map(String::from)
                    .into(),
                classes: vec!["x".into(), "y".into()],
                ..FeaturesMeta::default()
            },
            labels: Some(vec![0, 1, 1, 0, 0]),
            values: vec![2.0, 0.0, 0.0, 3.0, 0.0, 5.0, -1.0, 0.0, 0.0, 0.0],
        }
    }

    #[test]
    fn the_nearest_come_first_and_vote_by_their_similarity() {
        let neighbours = Neighbours::new(features(), "b").unwrap();
        let nearest = neighbours.of(&[1.0, 10.0], 3);
        let names: Vec<&str> = nearest.neighbours.iter().map(|n| &*n.name).collect();
        assert_eq!(names, ["north", "north too", "east"]);
        let cosines: Vec<f32> = nearest.neighbours.iter().map(|n| n.similarity).collect();
        let length = 101f32.sqrt();
        for (found, expected) in cosines.iter().zip([10.0, 10.0, 1.0]) {
            assert!((found - expected / length).abs() < 1e-6, "{cosines:?}");
        }
        let (label, share) = nearest.vote.unwrap();
        let weight = |cosine: f64| (cosine / 0.07).exp();
        let [near, far] = [10.0, 1.0].map(|x| weight(x / 101f64.sqrt()));
        assert_eq!(label, "y");
        assert!((f64::from(share) - 2.0 * near / (2.0 * near + far)).abs() < 1e-6);
        // As many as there are, and what has no direction is like nothing.
        assert_eq!(neighbours.of(&[1.0, 0.0], 9).neighbours.len(), 5);
        let nothing = neighbours.of(&[0.0, 0.0], 1);
        assert_eq!(
            (
                nothing.neighbours[0].similarity,
                &*nothing.neighbours[0].name
            ),
            (0.0, "east")
        );
    }

    #[test]
    fn without_labels_nobody_votes_and_other_weights_are_refused() {
        let unlabelled = Features {
            labels: None,
            ..features()
        };
        let nearest = Neighbours::new(unlabelled, "b").unwrap().of(&[1.0, 0.1], 2);
        assert_eq!((nearest.vote, &nearest.neighbours[0].label), (None, &None));
        let refused = Neighbours::new(features(), "c").unwrap_err().to_string();
        assert!(
            refused.contains("features of other weights (vit)"),
            "{refused}"
        );
    }
}

//! Test-time augmentation: the mean of a model's answers to several views of a picture.

use serde::{Deserialize, Serialize};

/// Which views are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tta {
    /// The picture and its mirror image.
    Mirror,
    /// Both, and both shifted by one pixel up and left, and by one down and right; the shifted ones have
    /// half the weight (Jordan 2024, § 3.7, arXiv 2404.00498).
    MirrorShift,
}

/// The choices by name.
pub(super) const NAMES: [(&str, Tta); 2] =
    [("mirror", Tta::Mirror), ("mirror-shift", Tta::MirrorShift)];

impl std::fmt::Display for Tta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = NAMES.iter().find(|(_, tta)| tta == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl std::str::FromStr for Tta {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|&(_, tta)| tta).ok_or_else(|| {
            format!("{text:?} is not an augmentation: expected mirror or mirror-shift")
        })
    }
}

/// One view of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct View {
    mirrored: bool,
    /// Shift down and right, in pixels.
    shift: isize,
    /// Its weight in the mean.
    pub(super) weight: f32,
}

impl Tta {
    /// The views; their weights sum to 1.
    pub(super) fn views(self) -> Vec<View> {
        let both = |shift, weight| {
            [false, true].map(|mirrored| View {
                mirrored,
                shift,
                weight,
            })
        };
        match self {
            Self::Mirror => both(0, 0.5).to_vec(),
            Self::MirrorShift => [both(0, 0.25), both(-1, 0.125), both(1, 0.125)].concat(),
        }
    }
}

impl View {
    /// This view of pictures `[B, 3, S, S]`, with S = `side`. Pixels from outside are mirrored at the edge.
    pub(super) fn of(self, images: &[f32], side: usize) -> Vec<f32> {
        let from = |i: usize| {
            let at = (i as isize - self.shift).unsigned_abs();
            if at < side { at } else { 2 * (side - 1) - at }
        };
        let mut view = Vec::with_capacity(images.len());
        for plane in images.chunks_exact(side * side) {
            for y in 0..side {
                let line = &plane[from(y) * side..][..side];
                view.extend((0..side).map(|x| {
                    let x = from(x);
                    line[if self.mirrored { side - 1 - x } else { x }]
                }));
            }
        }
        view
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn views_move_and_mirror_and_weigh_one_together() {
        let picture: Vec<f32> = (0..9).map(|i| i as f32).collect();
        let see = |mirrored, shift| {
            let weight = 1.0;
            let view = View {
                mirrored,
                shift,
                weight,
            };
            view.of(&picture, 3)
        };
        assert_eq!(see(false, 0), picture);
        assert_eq!(see(true, 0), [2., 1., 0., 5., 4., 3., 8., 7., 6.]);
        assert_eq!(see(false, -1), [4., 5., 4., 7., 8., 7., 4., 5., 4.]);
        assert_eq!(see(false, 1), [4., 3., 4., 1., 0., 1., 4., 3., 4.]);
        for (name, tta) in NAMES {
            assert_eq!(name.parse::<Tta>().unwrap(), tta);
            assert_eq!(tta.to_string(), name);
            assert_eq!(serde_json::to_value(tta).unwrap(), name);
            assert_eq!(tta.views().iter().map(|v| v.weight).sum::<f32>(), 1.0);
        }
        let of = |tta: Tta| -> Vec<(bool, isize, f32)> {
            let views = tta.views().into_iter();
            views.map(|v| (v.mirrored, v.shift, v.weight)).collect()
        };
        assert_eq!(of(Tta::Mirror), [(false, 0, 0.5), (true, 0, 0.5)]);
        let shifts = [(0, 0.25), (-1, 0.125), (1, 0.125)];
        let six: Vec<_> = shifts
            .iter()
            .flat_map(|&(shift, weight)| [false, true].map(|m| (m, shift, weight)))
            .collect();
        assert_eq!(of(Tta::MirrorShift), six);
        assert!("flip".parse::<Tta>().unwrap_err().contains("mirror-shift"));
    }
}

//! Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019): pictures mixed with others of their batch.

use rand::RngExt;
use rand::seq::SliceRandom;

use super::config::AugmentConfig;
use super::seeded::{Purpose, beta, coin, generator};

/// How one batch is mixed: each picture with a partner, all with the same weight or rectangle.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::data) struct Mix {
    /// For each picture, the index of its partner in the batch.
    pub partner: Vec<usize>,
    /// The weight of the picture itself, 0 to 1; the partner has the rest.
    pub lambda: f32,
    /// Cutmix: the columns and rows that come from the partner. Mixup: `None`, as every pixel is a weighted mean.
    cut: Option<[std::ops::Range<usize>; 2]>,
}

/// Draws how a batch of `len` pictures of `size`² pixels is mixed, for the given seed, epoch and batch; `None` where
/// neither mixup nor cutmix is on.
pub(in crate::data) fn draw_mix(
    config: &AugmentConfig,
    seed: u64,
    epoch: usize,
    batch: usize,
    len: usize,
    size: usize,
) -> Option<Mix> {
    let rng = &mut generator(seed, Purpose::Mix, epoch, batch);
    let cut = match (config.mixup > 0.0, config.cutmix > 0.0) {
        (false, false) => return None,
        (true, true) => coin(rng),
        (_, cutmix) => cutmix,
    };
    let lambda = beta(
        rng,
        f64::from(if cut { config.cutmix } else { config.mixup }),
    );
    let mut partner: Vec<usize> = (0..len).collect();
    partner.shuffle(rng);
    if !cut {
        let (lambda, cut) = (lambda as f32, None);
        return Some(Mix {
            partner,
            lambda,
            cut,
        });
    }
    // Yun et al. 2019, Eq. 2: a rectangle of 1 − λ of the area around a random centre, clipped to the picture; λ is then
    // recomputed from the clipped area.
    let side = (size as f64 * (1.0 - lambda).sqrt()) as usize;
    let mut span = || {
        let middle = rng.random_range(0..size);
        middle.saturating_sub(side / 2)..(middle + side.div_ceil(2)).min(size)
    };
    let (columns, rows) = (span(), span());
    let taken = (columns.len() * rows.len()) as f32 / (size * size) as f32;
    Some(Mix {
        partner,
        lambda: 1.0 - taken,
        cut: Some([columns, rows]),
    })
}

impl Mix {
    /// Mixes the partner into a picture. Both are normalised, `[3, S, S]` with S = `size`.
    pub(crate) fn apply(&self, picture: &mut [f32], partner: &[f32], size: usize) {
        match &self.cut {
            None => {
                for (value, other) in picture.iter_mut().zip(partner) {
                    *value = self.lambda * *value + (1.0 - self.lambda) * other;
                }
            }
            Some([columns, rows]) => {
                for row in
                    (0..3).flat_map(|channel| rows.clone().map(move |row| channel * size + row))
                {
                    let part = row * size + columns.start..row * size + columns.end;
                    picture[part.clone()].copy_from_slice(&partner[part]);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(mixup: f32, cutmix: f32) -> AugmentConfig {
        AugmentConfig {
            mixup,
            cutmix,
            ..AugmentConfig::default()
        }
    }

    fn mixed(mix: &Mix, size: usize) -> Vec<f32> {
        let mut picture = vec![1.0; 3 * size * size];
        mix.apply(&mut picture, &vec![0.0; 3 * size * size], size);
        picture
    }

    #[test]
    fn neither_is_nothing() {
        assert_eq!(draw_mix(&config(0.0, 0.0), 1, 2, 3, 4, 5), None);
    }

    #[test]
    fn lambda_is_what_is_left_of_a_picture() {
        for (settings, kinds) in [
            (config(0.8, 0.0), 1),
            (config(0.0, 1.0), 1),
            (config(0.8, 1.0), 2),
        ] {
            let mut seen = std::collections::HashSet::new();
            let mut with_others = 0;
            for batch in 0..100 {
                let mix = draw_mix(&settings, 9, 0, batch, 7, 13).unwrap();
                seen.insert(mix.cut.is_some());
                with_others += (0..7).filter(|&i| mix.partner[i] != i).count();
                let mut partners = mix.partner.clone();
                partners.sort_unstable();
                assert_eq!(partners, (0..7).collect::<Vec<_>>());
                let picture = mixed(&mix, 13);
                let left = picture.iter().sum::<f32>() / picture.len() as f32;
                assert!((left - mix.lambda).abs() < 1e-4, "{left} {mix:?}");
                if mix.cut.is_some() {
                    assert!(picture.iter().all(|v| *v == 0.0 || *v == 1.0));
                    assert_eq!(
                        picture[..169],
                        picture[338..],
                        "the same rectangle in each channel"
                    );
                }
            }
            assert_eq!(seen.len(), kinds);
            // By chance one of seven is its own partner.
            assert!(with_others > 500, "{with_others} of 700");
        }
    }

    #[test]
    fn both_share_the_batches_fairly() {
        let cuts = (0..400)
            .filter(|&batch| {
                draw_mix(&config(1.0, 1.0), 5, 1, batch, 2, 8)
                    .unwrap()
                    .cut
                    .is_some()
            })
            .count();
        assert!((160..240).contains(&cuts), "{cuts}");
    }
}

//! Random changes to training pictures, on eight-bit pixels, before they are normalised.
//!
//! In this order, each only where [`AugmentConfig`] asks for it:
//!
//! 1. a random resized crop, or a padded random crop (`geometry`);
//! 2. a horizontal flip (`geometry`);
//! 3. a policy, TrivialAugment or RandAugment (`policy`);
//! 4. random erasing (`geometry`);
//! 5. of a whole batch, mixup or cutmix (`mix`).
//!
//! Every draw comes from a generator of its own, seeded by what it is for (`seeded`): the seed, the epoch, and the
//! picture or the batch. So the same picture of the same epoch is changed in the same way on any number of threads, in
//! any batch, and after any interruption.

mod geometry;
mod mix;
mod policy;
mod seeded;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::preprocess::Preprocess;

pub(super) use mix::draw_mix;
pub(super) use seeded::{Purpose, generator};

/// Horizontal flips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// Never.
    #[default]
    None,
    /// Each picture, each epoch, with probability one half.
    Random,
    /// At random in the first epoch, then every other epoch (Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds", § 3.6):
    /// two epochs in a row show a picture from both sides.
    Alternating,
}

/// A collection of operations of which each picture gets some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// No operations.
    #[default]
    None,
    /// One operation at a random strength, in the wide space (Müller & Hutter 2021, Table 4).
    TrivialAugment,
    /// `randaugment_ops` operations at `randaugment_magnitude` (Cubuk et al. 2020).
    RandAugment,
}

/// Which random changes training pictures undergo. The default is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Pixels by which a picture is shifted at most, each way (He et al. 2016, § 4.2). What comes in from outside has the
    /// mean colour, which normalises to nought; the paper pads with nought after normalising, and so does this.
    pub crop_padding: usize,
    /// Range of the area that a crop of random place and shape takes, as fractions of the picture's (Szegedy et al.
    /// 2015, § 6), such as `[0.35, 1.0]`.
    pub random_resized_crop: Option<[f32; 2]>,
    /// Horizontal flips.
    pub flip: Flip,
    /// Operations on colour and shape.
    pub policy: Policy,
    /// Operations that RandAugment applies to each picture.
    pub randaugment_ops: usize,
    /// Strength of RandAugment's operations, 0 to 30.
    pub randaugment_magnitude: u8,
    /// Probability that a rectangle of a picture is erased (Zhong et al. 2020).
    pub erasing: f32,
    /// Alpha of mixup's Beta(alpha, alpha) distribution (Zhang et al. 2018, Eq. 1); 0 turns it off.
    pub mixup: f32,
    /// Alpha of cutmix's Beta(alpha, alpha) distribution (Yun et al. 2019, § 3.1); 0 turns it off. With mixup on too,
    /// a fair coin chooses one of the two for each batch.
    pub cutmix: f32,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        AugmentConfig {
            crop_padding: 0,
            random_resized_crop: None,
            flip: Flip::None,
            policy: Policy::None,
            randaugment_ops: 2,
            randaugment_magnitude: 9,
            erasing: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
        }
    }
}

/// A setting out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("augment.{key}: found {found}, expected {expected}")]
pub struct AugmentError {
    /// The field.
    pub key: &'static str,
    /// As given.
    pub found: String,
    /// What would be right.
    pub expected: &'static str,
}

impl AugmentConfig {
    /// Checks every field's range.
    ///
    /// # Errors
    ///
    /// [`AugmentError`] for the first field that is out of range.
    pub fn validate(&self) -> Result<(), AugmentError> {
        let check = |right: bool, key, found: String, expected| {
            let error = AugmentError {
                key,
                found,
                expected,
            };
            if right { Ok(()) } else { Err(error) }
        };
        let c = self;
        check(
            c.crop_padding <= 1024,
            "crop_padding",
            c.crop_padding.to_string(),
            "0 to 1024 pixels",
        )?;
        if let Some([low, high]) = c.random_resized_crop {
            check(
                0.0 < low && low <= high && high <= 1.0,
                "random_resized_crop",
                format!("[{low}, {high}]"),
                "two fractions of the area, ascending, above 0 and at most 1, such as [0.35, 1.0]",
            )?;
            check(
                c.crop_padding == 0,
                "crop_padding",
                format!("{} beside random_resized_crop", c.crop_padding),
                "0, or no random_resized_crop: both crop",
            )?;
        }
        check(
            (1..=14).contains(&c.randaugment_ops),
            "randaugment_ops",
            c.randaugment_ops.to_string(),
            "1 to 14",
        )?;
        check(
            c.randaugment_magnitude <= 30,
            "randaugment_magnitude",
            c.randaugment_magnitude.to_string(),
            "0 to 30",
        )?;
        check(
            (0.0..=1.0).contains(&c.erasing),
            "erasing",
            c.erasing.to_string(),
            "a probability, 0 to 1",
        )?;
        check(
            (0.0..=100.0).contains(&c.mixup),
            "mixup",
            c.mixup.to_string(),
            "an alpha, 0 to 100",
        )?;
        check(
            (0.0..=100.0).contains(&c.cutmix),
            "cutmix",
            c.cutmix.to_string(),
            "an alpha, 0 to 100",
        )
    }

    /// One picture as `epoch` shows it, at the model's size: steps 1 to 4 of the module's list.
    ///
    /// `index` tells the picture from every other of its split; with the seed and the epoch it decides every draw.
    pub fn apply(
        &self,
        picture: &RgbImage,
        preprocess: &Preprocess,
        seed: u64,
        epoch: usize,
        index: usize,
    ) -> RgbImage {
        let rng = &mut generator(seed, Purpose::Picture, epoch, index);
        let fill = preprocess.mean_colour();
        let mut picture = match self.random_resized_crop {
            Some(scale) => {
                geometry::random_resized_crop(picture, preprocess.image_size, scale, rng)
            }
            None => preprocess.resize(picture),
        };
        if self.crop_padding > 0 {
            picture = geometry::padded_crop(&picture, self.crop_padding, fill, rng);
        }
        if self.flips(seed, epoch, index) {
            geometry::flip(&mut picture);
        }
        match self.policy {
            Policy::None => {}
            Policy::TrivialAugment => policy::trivial_augment(&mut picture, fill, rng),
            Policy::RandAugment => {
                policy::rand_augment(
                    &mut picture,
                    self.randaugment_ops,
                    self.randaugment_magnitude,
                    fill,
                    rng,
                );
            }
        }
        if self.erasing > 0.0 {
            geometry::erase(&mut picture, self.erasing, rng);
        }
        picture
    }

    fn flips(&self, seed: u64, epoch: usize, index: usize) -> bool {
        let coin = |epoch| seeded::coin(&mut generator(seed, Purpose::Flip, epoch, index));
        match self.flip {
            Flip::None => false,
            Flip::Random => coin(epoch),
            Flip::Alternating => coin(0) ^ (epoch % 2 == 1),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::preprocess::Resize;
    use super::*;

    fn everything() -> AugmentConfig {
        AugmentConfig {
            crop_padding: 3,
            flip: Flip::Random,
            policy: Policy::RandAugment,
            erasing: 0.5,
            ..AugmentConfig::default()
        }
    }

    fn preprocess() -> Preprocess {
        Preprocess {
            image_size: 13,
            resize: Resize::Crop,
            mean: [0.5; 3],
            std: [0.25; 3],
        }
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(13, 13, |x, y| {
            image::Rgb([(x * 19) as u8, (y * 19) as u8, (x * y) as u8])
        })
    }

    #[test]
    fn the_default_changes_nothing() {
        let config = AugmentConfig::default();
        for index in 0..20 {
            assert_eq!(
                config.apply(&picture(), &preprocess(), 1, 2, index),
                picture()
            );
        }
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn the_same_draw_twice_another_draw_differs() {
        for config in [
            everything(),
            AugmentConfig {
                random_resized_crop: Some([0.2, 1.0]),
                crop_padding: 0,
                policy: Policy::TrivialAugment,
                ..everything()
            },
        ] {
            assert_eq!(config.validate(), Ok(()));
            let shown =
                |seed, epoch, index| config.apply(&picture(), &preprocess(), seed, epoch, index);
            assert_eq!(shown(1, 2, 3), shown(1, 2, 3));
            let differ = |other: &dyn Fn(usize) -> RgbImage| {
                (0..10).filter(|&i| other(i) != shown(1, 2, i)).count()
            };
            assert!(differ(&|i| shown(2, 2, i)) > 7);
            assert!(differ(&|i| shown(1, 3, i)) > 7);
            assert!(differ(&|i| shown(1, 2, i + 100)) > 7);
        }
    }

    #[test]
    fn each_step_is_taken_where_it_is_asked_for() {
        let none = AugmentConfig::default;
        let shown = |config: &AugmentConfig, i| config.apply(&picture(), &preprocess(), 1, 2, i);
        for config in [
            AugmentConfig {
                crop_padding: 3,
                ..none()
            },
            AugmentConfig {
                random_resized_crop: Some([0.2, 0.8]),
                ..none()
            },
            AugmentConfig {
                flip: Flip::Random,
                ..none()
            },
            AugmentConfig {
                policy: Policy::TrivialAugment,
                // Not its own.
                randaugment_ops: 0,
                ..none()
            },
            AugmentConfig {
                policy: Policy::RandAugment,
                ..none()
            },
            AugmentConfig {
                erasing: 1.0,
                ..none()
            },
        ] {
            let changed = (0..20).filter(|&i| shown(&config, i) != picture()).count();
            assert!(changed >= 5, "{changed} of 20 under {config:?}");
        }
        let idle = AugmentConfig {
            policy: Policy::RandAugment,
            randaugment_ops: 0,
            ..none()
        };
        let flip = AugmentConfig {
            flip: Flip::Random,
            ..none()
        };
        for i in 0..20 {
            assert_eq!(shown(&idle, i), picture());
            let mut expected = picture();
            if flip.flips(1, 2, i) {
                image::imageops::flip_horizontal_in_place(&mut expected);
            }
            assert_eq!(shown(&flip, i), expected);
        }
    }

    #[test]
    fn alternating_flips_alternate() {
        let config = AugmentConfig {
            flip: Flip::Alternating,
            ..AugmentConfig::default()
        };
        let flipped: Vec<bool> = (0..200).map(|index| config.flips(7, 0, index)).collect();
        let count = flipped.iter().filter(|f| **f).count();
        assert!((70..130).contains(&count), "{count}");
        for (index, &first) in flipped.iter().enumerate() {
            for epoch in 0..5 {
                assert_eq!(config.flips(7, epoch, index), first ^ (epoch % 2 == 1));
            }
        }
    }

    #[test]
    fn random_flips_are_half_and_differ_between_epochs() {
        let config = AugmentConfig {
            flip: Flip::Random,
            ..AugmentConfig::default()
        };
        let flips = |epoch| {
            (0..400)
                .filter(|&index| config.flips(0, epoch, index))
                .count()
        };
        assert!((160..240).contains(&flips(0)), "{}", flips(0));
        let same = (0..400)
            .filter(|&i| config.flips(0, 0, i) == config.flips(0, 1, i))
            .count();
        assert!((160..240).contains(&same), "{same}");
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let found = |change: fn(&mut AugmentConfig)| {
            let mut config = AugmentConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            found(|c| c.mixup = -1.0),
            "augment.mixup: found -1, expected an alpha, 0 to 100"
        );
        assert_eq!(
            found(|c| c.cutmix = f32::NAN),
            "augment.cutmix: found NaN, expected an alpha, 0 to 100"
        );
        assert_eq!(
            found(|c| c.erasing = 1.5),
            "augment.erasing: found 1.5, expected a probability, 0 to 1"
        );
        assert_eq!(
            found(|c| c.randaugment_ops = 0),
            "augment.randaugment_ops: found 0, expected 1 to 14"
        );
        assert!(found(|c| c.randaugment_magnitude = 31).contains("expected 0 to 30"));
        assert!(found(|c| c.random_resized_crop = Some([0.9, 0.2])).contains("found [0.9, 0.2]"));
        assert!(found(|c| c.random_resized_crop = Some([0.0, 0.2])).contains("above 0"));
        assert!(found(|c| c.crop_padding = 5000).contains("0 to 1024"));
        let both = found(|c| {
            c.crop_padding = 4;
            c.random_resized_crop = Some([0.3, 1.0]);
        });
        assert!(
            both.contains("found 4 beside random_resized_crop"),
            "{both}"
        );
    }

    #[test]
    fn settings_are_read_by_their_names() {
        let config: AugmentConfig = serde_json::from_str(
            r#"{"flip": "alternating", "policy": "trivialaugment", "cutmix": 1.0}"#,
        )
        .unwrap();
        assert_eq!(config.flip, Flip::Alternating);
        assert_eq!(config.policy, Policy::TrivialAugment);
        assert!(serde_json::from_str::<AugmentConfig>(r#"{"flop": "random"}"#).is_err());
    }
}

//! All random changes to one picture.

use image::RgbImage;

use super::config::{AugmentConfig, Flip, Policy};
use super::seeded::{self, Purpose, generator};
use super::{geometry, policy};
use crate::data::preprocess::Preprocess;

impl AugmentConfig {
    /// Resizes a picture to `image_size`² pixels and changes it at random: steps 1 to 4 in the list of
    /// the module.
    ///
    /// `seed`, `epoch` and `index`, the index of the picture in its split, determine the result.
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
                let (size, filter) = (preprocess.image_size, preprocess.filter);
                geometry::random_resized_crop(picture, size, scale, filter, rng)
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
    use super::*;
    use crate::data::preprocess::Resize;

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
            ..Preprocess::default()
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
}

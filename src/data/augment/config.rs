//! The settings of augmentation.

use serde::{Deserialize, Serialize};

use crate::setting::Invalid;

/// When pictures are flipped horizontally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// Never.
    #[default]
    None,
    /// With probability 1/2, drawn for each picture in each epoch.
    Random,
    /// At random in the first epoch, then flipped and unflipped by turns (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on
    /// a Single GPU", § 3.6), so that two consecutive epochs show both versions.
    Alternating,
}

/// An automatic augmentation policy: random operations on colour and shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// No operations.
    #[default]
    None,
    /// One operation of random strength, from the "wide" space (Müller & Hutter 2021, Table 4).
    TrivialAugment,
    /// `randaugment_ops` operations of strength `randaugment_magnitude` (Cubuk et al. 2020).
    RandAugment,
}

/// The settings of augmentation. The default changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Padding of the random crop, in pixels: the largest shift in each direction (He et al. 2016, § 4.2); 0 turns it
    /// off. The padding has the mean colour, which normalises to zero, as the paper's zero padding after normalisation.
    pub crop_padding: usize,
    /// Range of the area of a random resized crop, as fractions of the picture's area, such as `[0.35, 1.0]` (Szegedy et
    /// al. 2015, § 6); `None` turns it off.
    pub random_resized_crop: Option<[f32; 2]>,
    /// Horizontal flips.
    pub flip: Flip,
    /// Automatic augmentation policy.
    pub policy: Policy,
    /// Number of RandAugment's operations on each picture, 1 to 14.
    pub randaugment_ops: usize,
    /// Strength of RandAugment's operations, 0 to 30.
    pub randaugment_magnitude: u8,
    /// Probability that a rectangle of a picture is erased, 0 to 1 (Zhong et al. 2020).
    pub erasing: f32,
    /// Alpha of mixup's Beta(alpha, alpha) distribution (Zhang et al. 2018, Eq. 1); 0 turns it off.
    pub mixup: f32,
    /// Alpha of cutmix's Beta(alpha, alpha) distribution (Yun et al. 2019, § 3.1); 0 turns it off. With both on,
    /// one of the two is drawn for each batch with probability 1/2.
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

impl AugmentConfig {
    /// Checks the range of every field.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first field that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        let check = |right: bool, key, found: String, expected| {
            let error = || Invalid::new(key, found, expected).of_section("augment");
            if right { Ok(()) } else { Err(error()) }
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        let found = |change: fn(&mut AugmentConfig)| {
            let mut config = AugmentConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            found(|c| c.mixup = -1.0),
            "augment.mixup is -1: expected an alpha, 0 to 100"
        );
        assert_eq!(
            found(|c| c.cutmix = f32::NAN),
            "augment.cutmix is NaN: expected an alpha, 0 to 100"
        );
        assert_eq!(
            found(|c| c.erasing = 1.5),
            "augment.erasing is 1.5: expected a probability, 0 to 1"
        );
        assert_eq!(
            found(|c| c.randaugment_ops = 0),
            "augment.randaugment_ops is 0: expected 1 to 14"
        );
        assert!(found(|c| c.randaugment_magnitude = 31).contains("expected 0 to 30"));
        assert!(found(|c| c.random_resized_crop = Some([0.9, 0.2])).contains("is [0.9, 0.2]"));
        assert!(found(|c| c.random_resized_crop = Some([0.0, 0.2])).contains("above 0"));
        assert!(found(|c| c.crop_padding = 5000).contains("0 to 1024"));
        let both = found(|c| {
            c.crop_padding = 4;
            c.random_resized_crop = Some([0.3, 1.0]);
        });
        assert!(both.contains("is 4 beside random_resized_crop"), "{both}");
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

//! What changes along a training besides the learning rate: less of each picture at first, mixed
//! pictures until near the end.
//!
//! All of it is a function of the share of the budget that is spent. Under a budget of epochs or
//! updates that share is known for every batch beforehand, so batches can be made ahead and a
//! resumed training makes the same ones; under a time budget it follows the clock, as the learning
//! rate does.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::data::View;
use crate::model::ModelConfig;
use crate::setting::{Invalid, within};

/// The course of a training; the default leaves every picture whole and mixed to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CurriculumConfig {
    /// Share of the budget after which mixup and cutmix are off, 0 to 1: the last updates see
    /// pictures of the kind that will be asked about (He et al. 2019, "Data Augmentation
    /// Revisited").
    pub mix_until: f64,
    /// Side of the pictures at first, in pixels, growing in steps of the patch size (CNNs: 8, airbench: 16) to
    /// the full size (progressive learning: Tan & Le 2021, section 4). Without one, pictures have
    /// their full size throughout.
    pub start_size: Option<usize>,
    /// Share of the budget after which pictures have their full size.
    pub full_size_at: f64,
    /// Share of each picture's patches that is left out of the encoder at first, falling in a
    /// straight line (PatchDropout: Liu et al. 2022; FLIP: Li et al. 2023).
    pub token_drop: f64,
    /// Share of the budget after which no patch is left out.
    pub token_drop_until: f64,
}

impl Default for CurriculumConfig {
    fn default() -> Self {
        Self {
            mix_until: 1.0,
            start_size: None,
            full_size_at: 0.6,
            token_drop: 0.0,
            token_drop_until: 0.6,
        }
    }
}

/// Largest share of the budget with less than whole pictures: the rest always sees what evaluation
/// will see.
const LATEST: f64 = 0.95;

impl CurriculumConfig {
    /// Checks every number's range.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that is outside.
    pub fn validate(&self) -> Result<(), Invalid> {
        for (key, value, low, high) in [
            ("curriculum.mix_until", self.mix_until, 0.0, 1.0),
            ("curriculum.full_size_at", self.full_size_at, 0.0, LATEST),
            ("curriculum.token_drop", self.token_drop, 0.0, 0.9),
            (
                "curriculum.token_drop_until",
                self.token_drop_until,
                0.0,
                LATEST,
            ),
        ] {
            within(key, value, low..=high)?;
        }
        Ok(())
    }

    /// The course for a model.
    ///
    /// # Errors
    ///
    /// [`Invalid`] where a number is outside its range or does not fit the model.
    pub fn resolve(&self, model: &ModelConfig) -> Result<Curriculum, Invalid> {
        self.validate()?;
        let (full, step) = (model.image_size(), model.size_step());
        let start = self.start_size.unwrap_or(full);
        if start < step || start > full || !(full - start).is_multiple_of(step) {
            let smallest = full - (full - step.min(full)) / step * step;
            let expected = format!("{smallest} to {full} in steps of {step}");
            return Err(Invalid::new("curriculum.start_size", start, expected));
        }
        if self.token_drop > 0.0 && model.grid().is_none() {
            let expected = format!("0, for {} has no tokens", model.name());
            return Err(Invalid::new(
                "curriculum.token_drop",
                self.token_drop,
                expected,
            ));
        }
        if let Some(reason) = model.needs_whole_pictures() {
            let refuse = |key, found: String, neutral: String| {
                let expected = format!("{neutral} with {reason}");
                Err(Invalid::new(key, found, expected))
            };
            if start < full {
                return refuse("curriculum.start_size", start.to_string(), full.to_string());
            }
            if self.token_drop > 0.0 {
                return refuse(
                    "curriculum.token_drop",
                    self.token_drop.to_string(),
                    "0".to_owned(),
                );
            }
        }
        Ok(Curriculum {
            config: self.clone(),
            model: model.clone(),
            start,
            step,
        })
    }
}

/// What one batch is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// How its pictures are made.
    pub view: View,
    /// Share of each picture's patches that is left out of the encoder.
    pub token_drop: f64,
}

/// A [`CurriculumConfig`] for one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Curriculum {
    config: CurriculumConfig,
    model: ModelConfig,
    start: usize,
    step: usize,
}

impl Curriculum {
    /// What the batch at this share of the budget is like, 0 to 1.
    pub fn at(&self, spent: f64) -> Moment {
        let c = &self.config;
        let full = self.model.image_size();
        // As many stages of equal length as there are sizes below the full one.
        let stages = (full - self.start) / self.step;
        let stage = if spent < c.full_size_at {
            (spent / c.full_size_at * stages as f64) as usize
        } else {
            stages
        };
        let left = if spent < c.token_drop_until {
            1.0 - spent / c.token_drop_until
        } else {
            0.0
        };
        Moment {
            view: View {
                image_size: self.start + stage * self.step,
                mix: spent < c.mix_until,
            },
            token_drop: c.token_drop * left,
        }
    }

    /// Floating-point operations of a forward pass over one picture of the batch at this share of
    /// the budget; see [`ModelConfig::flops`].
    pub fn flops(&self, spent: f64) -> u64 {
        let moment = self.at(spent);
        self.model
            .flops_of(moment.view.image_size, moment.token_drop)
    }

    /// How an average update compares with one of whole pictures, by arithmetic: 1 without a
    /// curriculum, else less. `of_time` where the budget is a time, in which cheaper updates are
    /// more than their share.
    pub fn mean_work(&self, of_time: bool) -> f64 {
        if of_time {
            1.0 / self.mean(0.0..1.0, |cost| 1.0 / cost)
        } else {
            self.work(0.0..1.0)
        }
    }

    /// Arithmetic between two shares of a budget of updates; that of all of it, with whole pictures
    /// throughout, is 1.
    pub fn work(&self, shares: Range<f64>) -> f64 {
        (shares.end - shares.start) * self.mean(shares, |cost| cost)
    }

    /// The mean over a stretch of the budget of some function of an update's cost, which is 1 where
    /// pictures are whole.
    fn mean(&self, shares: Range<f64>, of: impl Fn(f64) -> f64) -> f64 {
        const POINTS: usize = 500;
        let full = self.model.flops() as f64;
        let step = (shares.end - shares.start) / POINTS as f64;
        let costs =
            (0..POINTS).map(|i| self.flops(shares.start + (i as f64 + 0.5) * step) as f64 / full);
        costs.map(of).sum::<f64>() / POINTS as f64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::Position;

    fn vit() -> ModelConfig {
        ModelConfig::preset("vit-w1", 32, Some(4), 10).unwrap()
    }

    fn everything() -> CurriculumConfig {
        CurriculumConfig {
            mix_until: 0.8,
            start_size: Some(16),
            full_size_at: 0.6,
            token_drop: 0.5,
            token_drop_until: 0.4,
        }
    }

    #[test]
    fn the_default_is_whole_pictures_to_the_end() {
        for model in [vit(), ModelConfig::preset("resnet9", 30, None, 3).unwrap()] {
            let curriculum = CurriculumConfig::default().resolve(&model).unwrap();
            for spent in [0.0, 0.5, 0.999] {
                let moment = curriculum.at(spent);
                assert_eq!(moment.view.image_size, model.image_size());
                assert!(moment.view.mix);
                assert_eq!(moment.token_drop, 0.0);
                assert_eq!(curriculum.flops(spent), model.flops());
            }
            assert_eq!(curriculum.mean_work(false), 1.0);
        }
    }

    #[test]
    fn each_plan_begins_and_ends_where_it_says() {
        let curriculum = everything().resolve(&vit()).unwrap();
        let sizes = [0.0, 0.149, 0.151, 0.31, 0.46, 0.599, 0.6, 1.0]
            .map(|spent| curriculum.at(spent).view.image_size);
        assert_eq!(sizes, [16, 16, 20, 24, 28, 28, 32, 32]);
        let drops = [0.0, 0.2, 0.4, 0.9].map(|spent| curriculum.at(spent).token_drop);
        assert_eq!(drops, [0.5, 0.25, 0.0, 0.0]);
        let mixes = [0.0, 0.79, 0.8, 1.0].map(|spent| curriculum.at(spent).view.mix);
        assert_eq!(mixes, [true, true, false, false]);
        // From the very beginning where a plan has no length.
        let none = CurriculumConfig {
            full_size_at: 0.0,
            token_drop_until: 0.0,
            mix_until: 0.0,
            ..everything()
        };
        let moment = none.resolve(&vit()).unwrap().at(0.0);
        assert_eq!(
            (moment.view.image_size, moment.view.mix, moment.token_drop),
            (32, false, 0.0)
        );
    }

    #[test]
    fn rotary_positions_are_for_whole_pictures_of_full_size() {
        let ModelConfig::Vit(mut config) = vit() else {
            unreachable!()
        };
        config.position = Position::Rope2d;
        let model = ModelConfig::Vit(config);
        assert!(CurriculumConfig::default().resolve(&model).is_ok());
        let smaller = CurriculumConfig {
            start_size: Some(16),
            ..CurriculumConfig::default()
        };
        let fewer = CurriculumConfig {
            token_drop: 0.5,
            ..CurriculumConfig::default()
        };
        for (config, key) in [(smaller, "start_size"), (fewer, "token_drop")] {
            let error = config.resolve(&model).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("rope-2d"), "{error}");
        }
    }

    #[test]
    fn less_of_a_picture_is_less_work() {
        let model = vit();
        let curriculum = everything().resolve(&model).unwrap();
        // A quarter of the patches, and half of those: attention makes it a little less.
        let share = curriculum.flops(0.0) as f64 / model.flops() as f64;
        assert!((0.1..0.13).contains(&share), "{share}");
        assert_eq!(curriculum.flops(0.6), model.flops());
        let (by_updates, by_time) = (curriculum.mean_work(false), curriculum.mean_work(true));
        assert!(0.5 < by_updates && by_updates < 0.8, "{by_updates}");
        assert!(0.1 < by_time && by_time < by_updates, "{by_time}");
        // The parts add up, and the last of them is dear.
        let (first, last) = (curriculum.work(0.0..0.6), curriculum.work(0.6..1.0));
        assert!((first + last - by_updates).abs() < 1e-3, "{first}, {last}");
        assert!((last - 0.4).abs() < 1e-9, "{last}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let resnet = ModelConfig::preset("resnet9", 32, None, 3).unwrap();
        let found = |change: &dyn Fn(&mut CurriculumConfig), model: &ModelConfig| {
            let mut config = CurriculumConfig::default();
            change(&mut config);
            config.resolve(model).unwrap_err().to_string()
        };
        for (key, change) in [
            ("full_size_at is 1: expected 0 to 0.95", 0),
            ("token_drop is 1: expected 0 to 0.9", 1),
            ("token_drop_until is NaN: expected 0 to 0.95", 2),
            ("mix_until is -1: expected 0 to 1", 3),
            ("start_size is 18: expected 4 to 32 in steps of 4", 4),
            ("start_size is 36: expected 4 to 32 in steps of 4", 5),
        ] {
            let message = found(
                &|c| match change {
                    0 => c.full_size_at = 1.0,
                    1 => c.token_drop = 1.0,
                    2 => c.token_drop_until = f64::NAN,
                    3 => c.mix_until = -1.0,
                    4 => c.start_size = Some(18),
                    _ => c.start_size = Some(36),
                },
                &vit(),
            );
            assert_eq!(message, format!("curriculum.{key}"));
        }
        assert_eq!(
            found(&|c| c.token_drop = 0.5, &resnet),
            "curriculum.token_drop is 0.5: expected 0, for resnet9 has no tokens"
        );
        assert_eq!(
            found(&|c| c.start_size = Some(20), &resnet),
            "curriculum.start_size is 20: expected 8 to 32 in steps of 8"
        );
    }
}

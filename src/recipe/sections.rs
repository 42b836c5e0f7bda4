//! The sections of a recipe that no other floor owns: data, preprocessing, model and loop.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Table;

use crate::data::{Centre, Filter, Resize, check_resize_to};
use crate::names;
use crate::ops::PrecisionChoice;
use crate::setting::{Invalid, below, is_default, positive, within};

/// Where the pictures come from and how they are split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataRecipe {
    /// Folder, archive or file; without one, the bundled Fashion-MNIST sample.
    #[serde(with = "names::optional_path")]
    pub path: Option<PathBuf>,
    /// Fraction of the training pictures held out for validation if the data has no validation split.
    pub val_fraction: f64,
    /// The same for the test split; 0 holds out none.
    pub test_fraction: f64,
    /// Seed of the held-out pictures and of `fraction`. It is not the seed of the training, so that
    /// trainings under several seeds, a teacher and its student all hold out the same pictures.
    pub split_seed: u64,
    /// Fraction of the training split to train on, stratified.
    pub fraction: f64,
    /// Memory for decoded pictures in MiB; what does not fit is decoded again each time.
    pub cache_mb: usize,
    /// Threads that make batches; 0 uses the threads of the computation.
    pub workers: usize,
    /// Whether an unreadable picture is an error; else it is skipped.
    pub strict: bool,
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            path: None,
            val_fraction: 0.1,
            test_fraction: 0.1,
            split_seed: 0,
            fraction: 1.0,
            cache_mb: 4096,
            workers: 0,
            strict: false,
        }
    }
}

impl DataRecipe {
    /// Checks every number against its range.
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        within("data.val_fraction", self.val_fraction, 0.0..=0.9)?;
        within("data.test_fraction", self.test_fraction, 0.0..=0.9)?;
        let held_out = self.val_fraction + self.test_fraction;
        if held_out > 0.95 {
            let both = "data.val_fraction + data.test_fraction";
            return Err(Invalid::new(both, held_out, "at most 0.95"));
        }
        positive("data.fraction", self.fraction, 1.0)?;
        within("data.cache_mb", self.cache_mb, 0..=16_777_216)?;
        within("data.workers", self.workers, 0..=1024)
    }
}

/// How a picture becomes the model's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessRecipe {
    /// Side of the square input in pixels; without one, that of the pictures if all are square, of
    /// the same size and at most 96, else 96.
    pub image_size: Option<usize>,
    /// What happens to pictures that are not square.
    pub resize: Resize,
    /// Side to which they are resized before the middle is cut out; without one, `image_size`.
    pub resize_to: Option<usize>,
    /// Where that middle is.
    #[serde(skip_serializing_if = "is_default")]
    pub centre: Centre,
    /// What a pixel of a resized picture is made of.
    #[serde(skip_serializing_if = "is_default")]
    pub filter: Filter,
    /// Whether every pixel of a large photograph is decoded and takes part.
    #[serde(skip_serializing_if = "is_default")]
    pub exact: bool,
    /// Mean of each channel, 0 to 1; without one, measured on the training split.
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of each channel; without one, measured on the training split.
    pub std: Option<[f32; 3]>,
}

impl Default for PreprocessRecipe {
    fn default() -> Self {
        Self {
            image_size: None,
            resize: Resize::Crop,
            resize_to: None,
            centre: Centre::Even,
            filter: Filter::Bilinear,
            exact: false,
            mean: None,
            std: None,
        }
    }
}

impl PreprocessRecipe {
    /// Checks every number against its range.
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if let Some(size) = self.image_size {
            within("preprocess.image_size", size, 8..=2048)?;
        }
        check_resize_to(self.resize, self.resize_to)?;
        for mean in self.mean.into_iter().flatten() {
            within("preprocess.mean", mean, 0.0..=1.0)?;
        }
        for std in self.std.into_iter().flatten() {
            within("preprocess.std", std, 1e-3..=1.0)?;
        }
        Ok(())
    }
}

/// The architecture: a preset and what differs from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelRecipe {
    /// Preset, such as `vit-w1` or `resnet18`.
    pub name: String,
    /// Side of a patch in pixels; without one, the preset's choice for the image size.
    pub patch_size: Option<usize>,
    /// Fields of the preset's configuration to change.
    #[serde(flatten)]
    pub overrides: Table,
}

impl Default for ModelRecipe {
    fn default() -> Self {
        Self {
            name: "vit-micro".to_owned(),
            patch_size: None,
            overrides: Table::new(),
        }
    }
}

/// The loop's own settings; one of `epochs`, `steps` and `time` ends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRecipe {
    /// Passes over the training split.
    pub epochs: Option<usize>,
    /// Optimizer updates.
    pub steps: Option<u64>,
    /// Wall-clock time, such as `30m` or `1h30m`.
    pub time: Option<String>,
    /// Batch size.
    pub batch_size: usize,
    /// Batches per optimizer update.
    pub accumulate: usize,
    /// Seed of weights, data order, augmentation and drop path.
    pub seed: u64,
    /// Precision of matrix products: `auto`, `f32` or `bf16`.
    pub precision: PrecisionChoice,
    /// Label smoothing, 0 to below 1.
    pub label_smoothing: f32,
    /// Decay of the weights' moving average; 0 turns it off.
    pub ema: f64,
    /// Horizon of that average in epochs, which may be a fraction, instead of a decay: the decay is
    /// e^(−1/n), where n is the number of updates in that many epochs. 0 leaves it to `ema`.
    pub ema_epochs: f64,
    /// Epochs without improvement before it stops; 0 never does.
    pub patience: usize,
    /// Longest time between two saved states, in minutes.
    pub checkpoint_minutes: f64,
}

impl Default for TrainRecipe {
    fn default() -> Self {
        Self {
            epochs: Some(20),
            steps: None,
            time: None,
            batch_size: 128,
            accumulate: 1,
            seed: 0,
            precision: PrecisionChoice::Auto,
            label_smoothing: 0.1,
            ema: 0.0,
            ema_epochs: 0.0,
            patience: 0,
            checkpoint_minutes: 5.0,
        }
    }
}

impl TrainRecipe {
    /// Checks every number against its range.
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if let Some(epochs) = self.epochs {
            within("train.epochs", epochs, 1..=1_000_000)?;
        }
        if let Some(steps) = self.steps {
            within("train.steps", steps, 1..=1_000_000_000)?;
        }
        within("train.batch_size", self.batch_size, 1..=65_536)?;
        within("train.accumulate", self.accumulate, 1..=65_536)?;
        below("train.label_smoothing", self.label_smoothing.into(), 1.0)?;
        below("train.ema", self.ema, 1.0)?;
        within("train.ema_epochs", self.ema_epochs, 0.0..=1e6)?;
        if self.ema > 0.0 && self.ema_epochs > 0.0 {
            let found = format!("{} beside train.ema = {}", self.ema_epochs, self.ema);
            let expected = "one of the two, the other 0";
            return Err(Invalid::new("train.ema_epochs", found, expected));
        }
        within("train.patience", self.patience, 0..=1_000_000)?;
        within(
            "train.checkpoint_minutes",
            self.checkpoint_minutes,
            0.0..=1e5,
        )
    }
}

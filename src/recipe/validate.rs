//! The range of every number in a recipe.

use std::time::Duration;

use super::{Recipe, RecipeError};
use crate::setting::{Invalid, below, positive, within};

impl Recipe {
    /// Checks every number against its range.
    ///
    /// # Errors
    ///
    /// [`RecipeError::Invalid`], which names the key.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let t = &self.train;
        let o = &self.optimizer;
        let d = &self.data;
        within("data.val_fraction", d.val_fraction, 0.0..=0.9)?;
        within("data.test_fraction", d.test_fraction, 0.0..=0.9)?;
        if d.val_fraction + d.test_fraction > 0.95 {
            return Err(range(
                "data.val_fraction + data.test_fraction",
                d.val_fraction + d.test_fraction,
                "at most 0.95",
            ));
        }
        positive("data.fraction", d.fraction, 1.0)?;
        within("data.cache_mb", d.cache_mb as f64, 0.0..=16_777_216.0)?;
        within("data.workers", d.workers as f64, 0.0..=1024.0)?;
        if let Some(size) = self.preprocess.image_size {
            within("preprocess.image_size", size as f64, 8.0..=2048.0)?;
        }
        for (key, values, low) in [
            ("preprocess.mean", self.preprocess.mean, 0.0),
            ("preprocess.std", self.preprocess.std, 1e-3),
        ] {
            for value in values.into_iter().flatten() {
                within(key, f64::from(value), low..=1.0)?;
            }
        }
        if let Some(epochs) = t.epochs {
            within("train.epochs", epochs as f64, 1.0..=1e6)?;
        }
        if let Some(steps) = t.steps {
            within("train.steps", steps as f64, 1.0..=1e9)?;
        }
        within("train.batch_size", t.batch_size as f64, 1.0..=65_536.0)?;
        within("train.accumulate", t.accumulate as f64, 1.0..=65_536.0)?;
        below("train.label_smoothing", f64::from(t.label_smoothing), 1.0)?;
        below("train.ema", t.ema, 1.0)?;
        within("train.ema_epochs", t.ema_epochs, 0.0..=1e6)?;
        if t.ema > 0.0 && t.ema_epochs > 0.0 {
            return Err(range(
                "train.ema_epochs",
                format!("{} beside train.ema = {}", t.ema_epochs, t.ema),
                "one of the two, the other 0",
            ));
        }
        within("train.patience", t.patience as f64, 0.0..=1e6)?;
        within("train.checkpoint_minutes", t.checkpoint_minutes, 0.0..=1e5)?;
        positive("optimizer.lr", o.lr, 100.0)?;
        within("optimizer.weight_decay", o.weight_decay, 0.0..=10.0)?;
        below("optimizer.beta1", o.beta1, 1.0)?;
        below("optimizer.beta2", o.beta2, 1.0)?;
        below("optimizer.momentum", o.momentum, 1.0)?;
        positive("optimizer.muon_lr", o.muon_lr, 100.0)?;
        below("optimizer.muon_momentum", o.muon_momentum, 1.0)?;
        positive("optimizer.epsilon", o.epsilon, 1.0)?;
        within("optimizer.clip_grad", o.clip_grad, 0.0..=1e6)?;
        within(
            "schedule.warmup_epochs",
            self.schedule.warmup_epochs,
            0.0..=1e4,
        )?;
        self.distillation.validate()?;
        let (guided, curriculum) = (&self.distillation.config, &self.curriculum);
        if guided.guidance > 0.0
            && curriculum.token_drop > 0.0
            && guided.guidance_until <= curriculum.token_drop_until
        {
            return Err(range(
                "distillation.guidance_until",
                guided.guidance_until,
                "more than curriculum.token_drop_until: while tokens are dropped there is no map to guide",
            ));
        }
        self.augment.validate()?;
        self.curriculum.validate()?;
        self.init.validate()?;
        self.budget()?;
        Ok(())
    }
}

pub(super) fn range(key: &str, found: impl ToString, expected: &str) -> RecipeError {
    Invalid::new(key, found.to_string(), expected).into()
}

/// Reads `30m`, `1h30m`, `90s` or `45` (seconds).
///
/// # Errors
///
/// [`RecipeError::Invalid`], which names `key`.
pub fn parse_duration(key: &str, text: &str) -> Result<Duration, RecipeError> {
    let wrong = || {
        range(
            key,
            format!("{text:?}"),
            "a duration such as 90s, 30m or 1h30m",
        )
    };
    let mut seconds = 0.0;
    let mut number = String::new();
    for c in text.trim().chars() {
        let unit = match c {
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => {
                number.push(c);
                continue;
            }
        };
        seconds += unit * number.parse::<f64>().map_err(|_| wrong())?;
        number.clear();
    }
    if !number.is_empty() {
        seconds += number.parse::<f64>().map_err(|_| wrong())?;
    }
    if !(1.0..=1e8).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

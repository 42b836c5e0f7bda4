//! The training loop.

mod closing;
mod event;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Device;

pub use self::event::{Ending, Outcome, TrainError, TrainEvent};
use super::average::decay_over;
use super::clock::{Pace, spent};
use super::curriculum::{Curriculum, CurriculumConfig};
use super::finetune::{FinetuneConfig, Start};
use super::learner::{BACKWARD, Learner, NotTaken, OPTIMIZER, Step};
use super::optimizer::OptimizerConfig;
use super::progress::{Best, EpochRecord, Progress};
use super::schedule::{Budget, Schedule, ScheduleConfig};
use super::state::Saved;
use super::task::{Direction, FORWARD, Figure, TEACHER, Task, Validation};
use crate::checkpoint::{self, Base, TensorFile, WeightsMeta};
use crate::data::{Batches, DataError, TrainLoader, View, patch_covariance};
use crate::model::{Model, Noise};
use crate::ops::{Precision, profile};
use crate::stop::{self, Stop};

/// Names of the spans that a step consists of, for `profile`.
pub const STEP: [&str; 5] = [DATA, TEACHER, FORWARD, BACKWARD, OPTIMIZER];
const DATA: &str = "waiting for data";

const BEST: &str = "best.safetensors";
const LAST: &str = "last.safetensors";

/// Settings of the loop.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// How long to train.
    pub budget: Budget,
    /// Batches whose gradients are averaged into one update.
    pub accumulate: usize,
    /// Seed of weights, data order, augmentation and drop path.
    pub seed: u64,
    /// Decay of the weights' moving average; 0 turns it off.
    pub ema: f64,
    /// Horizon of that average in epochs, instead of a decay; 0 leaves it to the decay.
    pub ema_epochs: f64,
    /// Stop after this many epochs without a better validation; 0 never stops early.
    pub patience: usize,
    /// Longest time between two saved states.
    pub checkpoint_every: Duration,
    /// What the operands of matrix products are rounded to.
    pub precision: Precision,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The learning rate's course.
    pub schedule: ScheduleConfig,
    /// What else changes along the way.
    pub curriculum: CurriculumConfig,
    /// What is frozen, and how fast the layers learn.
    pub finetune: FinetuneConfig,
}

/// All that a training works with.
#[derive(Debug)]
pub struct Trainer {
    /// Settings.
    pub config: TrainConfig,
    /// Makes the batches.
    pub train: TrainLoader,
    /// Where it runs, without autodiff.
    pub device: Device,
    /// What goes with the weights.
    pub meta: WeightsMeta,
    /// Weights to start from; without, they are drawn from the seed.
    pub init: Option<Start>,
    /// Those weights by name and hash, on which a file of adapters alone depends; without, weights are written whole.
    pub base: Option<Base>,
    /// Folder of `best.safetensors` and `last.safetensors`.
    pub weights: PathBuf,
    /// Folder of the saved state.
    pub state: PathBuf,
    /// The recipe of the training, which its state names.
    pub recipe: String,
    /// Requested by whoever wants it to stop.
    pub stop: Stop,
}

/// What changes from update to update.
struct Run<'t> {
    learner: Learner<'t>,
    progress: Progress,
    began: Instant,
    /// Seconds of earlier sessions.
    before_s: f64,
    pace: Pace,
    /// Whether epochs end with a validation.
    validates: bool,
    /// Seconds that one is expected to take under a time budget.
    expected_s: f64,
}

impl Run<'_> {
    /// Brings `elapsed_s` up to now: the clock of a time budget counts saving and drawing too.
    fn tick(&mut self) {
        self.progress.elapsed_s = self.before_s + self.began.elapsed().as_secs_f64();
    }

    /// Refuses to go on with weights that are not numbers.
    fn check_weights(&mut self) -> Result<(), TrainError> {
        match self.learner.broken_weight() {
            Some(value) => Err(self.not_finite("weights", f64::from(value), self.progress.lr)),
            None => Ok(()),
        }
    }

    fn not_finite(&self, what: &'static str, value: f64, lr: f64) -> TrainError {
        TrainError::NotFinite {
            what,
            value,
            update: self.progress.update,
            epoch: self.progress.epoch + 1,
            lr,
        }
    }
}

impl Trainer {
    /// Trains a task from `saved`, or from the seed, to the end of the budget. Without a validation
    /// the last epoch counts as the best.
    ///
    /// # Errors
    ///
    /// [`TrainError`]; the last saved state stays as it is.
    pub fn train<'t>(
        mut self,
        task: Box<dyn Task + 't>,
        saved: Option<Saved>,
        observe: &mut dyn FnMut(TrainEvent),
    ) -> Result<Outcome, TrainError> {
        let batches_per_epoch = self.train.steps_per_epoch();
        if batches_per_epoch == 0 {
            return Err(TrainError::Empty);
        }
        let updates_per_epoch = batches_per_epoch.div_ceil(self.config.accumulate) as u64;
        let total = match self.config.budget {
            Budget::Epochs(epochs) => Some(epochs as u64 * updates_per_epoch),
            Budget::Steps(steps) => Some(steps),
            Budget::Time(_) => None,
        };
        let schedule = Schedule::new(
            &self.config.schedule,
            self.config.optimizer.lr,
            updates_per_epoch,
            total,
        );
        let curriculum = self.config.curriculum.resolve(&self.meta.model)?;
        let mut run = self.begin(task, saved, updates_per_epoch)?;
        self.catch_up(&run)?;
        let mut saved_at = Instant::now();
        self.foresee_closing(&mut run, observe)?;
        self.validate_start(&mut run, observe)?;

        let ending = loop {
            // A training that was stopped within its last epoch still has to close it.
            if run.progress.batch == 0 {
                if self.spent(&run.progress, total) >= 1.0 {
                    break Ending::Complete;
                }
                if self.config.patience > 0 && run.progress.stale >= self.config.patience {
                    break Ending::Stale;
                }
            }
            let epoch = run.progress.epoch;
            let views = self.views(&run, &curriculum, total);
            let mut batches = self.train.epoch_with(epoch, run.progress.batch, views);
            while run.progress.batch < batches_per_epoch {
                let spent = self.spent(&run.progress, total);
                if spent >= 1.0 {
                    break;
                }
                let lr = schedule.learning_rate(run.progress.update, spent);
                let token_drop = curriculum.at(spent).token_drop;
                let update = self.update(&mut run, &mut batches, spent, lr, token_drop);
                let mut event = match update {
                    // What was begun of the update is lost, and taken again on resume.
                    Err(error) if error.is_stop() => return self.interrupted(run, observe),
                    taken => taken?,
                };
                if let TrainEvent::Update { spent, .. } = &mut event {
                    *spent = self.spent(&run.progress, total).min(1.0);
                }
                observe(event);
                let interrupted = self.stop.is_requested();
                let timed = matches!(self.config.budget, Budget::Time(_));
                // The first state of a time budget is saved early, to know how long that takes.
                let first = timed && run.progress.update == 1;
                if interrupted || first || saved_at.elapsed() >= self.config.checkpoint_every {
                    let saving = Instant::now();
                    self.save(&mut run, observe)?;
                    saved_at = Instant::now();
                    if first {
                        // Closing an epoch writes the state and, twice, the weights, which are a third of it.
                        run.progress.closing_s += 2.0 * saving.elapsed().as_secs_f64();
                    }
                }
                if interrupted {
                    return Ok(Outcome {
                        ending: Ending::Interrupted,
                        progress: run.progress,
                    });
                }
            }
            let closing = Instant::now();
            drop(batches);
            self.drop_validation_that_does_not_fit(&mut run, observe);
            match self.finish_epoch(&mut run, total, observe) {
                // A resume validates this epoch and closes it.
                Err(error) if error.is_stop() => return self.interrupted(run, observe),
                closed => closed?,
            }
            observe(TrainEvent::Saved);
            saved_at = Instant::now();
            run.progress.closing_s = closing.elapsed().as_secs_f64();
            run.tick();
            if self.stop.is_requested() {
                break Ending::Interrupted;
            }
        };
        run.progress.finished = ending != Ending::Interrupted;
        self.save(&mut run, observe)?;
        Ok(Outcome {
            ending,
            progress: run.progress,
        })
    }

    /// Saves what there is when someone asked to stop in the middle of an update or of a validation.
    fn interrupted(
        &self,
        mut run: Run<'_>,
        observe: &mut dyn FnMut(TrainEvent),
    ) -> Result<Outcome, TrainError> {
        self.save(&mut run, observe)?;
        Ok(Outcome {
            ending: Ending::Interrupted,
            progress: run.progress,
        })
    }

    fn begin<'t>(
        &self,
        task: Box<dyn Task + 't>,
        saved: Option<Saved>,
        updates_per_epoch: u64,
    ) -> Result<Run<'t>, TrainError> {
        let device = self.device.clone().autodiff();
        let config = &self.meta.model;
        let seed = self.config.seed;
        let model = match (&saved, &self.init, config.whitens()) {
            // A saved state brings all of its weights along.
            (Some(_), _, _) => config.init_constant(&device),
            // Weights to start from bring their whitening.
            (None, Some(init), _) => init.fill(
                config.init_constant(&device),
                &self.meta,
                seed,
                &self.device,
            )?,
            (None, None, None) => config.init(seed, &device),
            (None, None, Some(side)) => {
                let (pictures, preprocess) = (self.train.pictures(), self.train.preprocess());
                let covariance = patch_covariance(pictures, preprocess, side)?;
                config.init(seed, &device).whitened(&covariance, &device)
            }
        };
        let TrainConfig {
            optimizer,
            finetune,
            precision,
            ..
        } = &self.config;
        let decay = match self.config.ema_epochs {
            epochs if epochs > 0.0 => decay_over(epochs * updates_per_epoch as f64),
            _ => self.config.ema,
        };
        let mut learner = Learner::new(
            model,
            task,
            optimizer,
            finetune,
            decay,
            *precision,
            self.config.seed,
        );
        let mut progress = Progress::default();
        if let Some(saved) = saved {
            learner.restore(&saved, &self.device)?;
            progress = saved.progress;
            progress.finished = false;
        }
        Ok(Run {
            learner,
            before_s: progress.elapsed_s,
            began: Instant::now(),
            progress,
            pace: Pace::default(),
            validates: true,
            expected_s: 0.0,
        })
    }

    /// How each batch of the epoch in which `run` stands is made. A count of updates is known
    /// ahead; a clock is read when the batch is made, a little before its turn.
    fn views(
        &self,
        run: &Run<'_>,
        curriculum: &Curriculum,
        total: Option<u64>,
    ) -> impl FnMut(usize) -> View + Send + use<> {
        let (curriculum, budget) = (curriculum.clone(), self.config.budget);
        let accumulate = self.config.accumulate;
        let (first_batch, first_update) = (run.progress.batch, run.progress.update);
        let (before_s, began) = (run.before_s, run.began);
        let reserve_s = run.progress.reserve_s();
        move |batch| {
            let update = first_update + ((batch - first_batch) / accumulate) as u64;
            let elapsed_s = before_s + began.elapsed().as_secs_f64();
            curriculum
                .at(spent(budget, total, reserve_s, update, elapsed_s))
                .view
        }
    }

    /// One optimizer update over up to `accumulate` batches.
    fn update(
        &self,
        run: &mut Run<'_>,
        batches: &mut Batches,
        spent: f64,
        lr: f64,
        token_drop: f64,
    ) -> Result<TrainEvent, TrainError> {
        let batches_per_epoch = self.train.steps_per_epoch();
        let start = Instant::now();
        let waited = batches.waited();
        let group = self
            .config
            .accumulate
            .min(batches_per_epoch - run.progress.batch);
        let noise = Noise::new(self.config.seed, run.progress.update).dropping_tokens(token_drop);
        let (mut images, mut flops) = (0, 0);
        let next = || {
            let batch = {
                let _span = profile::span(DATA);
                batches.next().ok_or(TrainError::Empty)??
            };
            images += batch.len;
            flops = self.meta.model.flops_of(batch.image_size, token_drop);
            Ok(batch)
        };
        let step = Step {
            lr,
            spent,
            batches: group,
            noise,
            stop: self.stop.clone(),
        };
        let loss_sum = match run.learner.update(step, next) {
            Ok(loss_sum) => loss_sum,
            Err(NotTaken::Batch(error)) => return Err(error),
            Err(NotTaken::Stopped) => return Err(DataError::Stopped.into()),
            Err(NotTaken::NotFinite { what, value }) => {
                return Err(run.not_finite(what, value, lr));
            }
        };
        let loss = loss_sum / group as f64;

        let seconds = start.elapsed().as_secs_f64();
        let waited_s = (batches.waited() - waited).as_secs_f64();
        let progress = &mut run.progress;
        progress.batch += group;
        progress.update += 1;
        progress.loss_sum += loss_sum;
        progress.epoch_s += seconds;
        progress.waited_s += waited_s;
        progress.lr = lr;
        run.pace.add(seconds);
        progress.update_s = run.pace.next();
        run.tick();
        Ok(TrainEvent::Update {
            epoch: run.progress.epoch + 1,
            batches: (run.progress.batch, batches_per_epoch),
            loss,
            lr,
            images,
            seconds,
            waited_s,
            spent: 0.0,
            flops,
        })
    }

    /// What validation says of the present weights; `None` without one.
    fn validation(&self, run: &Run<'_>, shipped: &Model) -> Result<Option<Validation>, TrainError> {
        if !run.validates {
            return Ok(None);
        }
        let validate = || {
            let average = run.learner.average();
            run.learner.task().validate(shipped, average)
        };
        let found = stop::until(&self.stop, validate).ok_or(DataError::Stopped)??;
        if let Some(Validation { loss, score, .. }) = found {
            for (what, value) in [("validation loss", loss), ("validation score", score)] {
                if !value.is_finite() {
                    return Err(run.not_finite(what, value, run.progress.lr));
                }
            }
        }
        Ok(found)
    }

    /// Counts the start as epoch 0 where its head was fitted to these classes, so that a training that ends below it
    /// leaves it as the best: the first updates often lose what they later regain.
    ///
    /// Weights that knew the classes before do not count: they may have learned from pictures that are held out now.
    fn validate_start(
        &mut self,
        run: &mut Run<'_>,
        observe: &mut dyn FnMut(TrainEvent),
    ) -> Result<(), TrainError> {
        let is_fitted = self.init.as_ref().is_some_and(|init| init.head.is_some());
        // A kill may have left the weights out after the state was written.
        let is_known = run.progress.best.is_some_and(|best| best.epoch == 0);
        let left_out = is_known && !self.weights.join(BEST).is_file();
        if run.progress.update > 0 || !(is_fitted || left_out) {
            return Ok(());
        }
        let shipped = run.learner.shipped();
        if let Some(validation) = self.validation(run, &shipped)? {
            run.tick();
            run.progress.best = Some(Best::of(0, &validation));
            run.learner.save(&self.state, &run.progress, &self.recipe)?;
            self.write_weights(run, &shipped, &validation.figures, |_| true)?;
            observe(TrainEvent::Saved);
        }
        Ok(())
    }

    /// Validates, records the epoch, writes the state and the weights.
    fn finish_epoch(
        &mut self,
        run: &mut Run<'_>,
        total: Option<u64>,
        observe: &mut dyn FnMut(TrainEvent),
    ) -> Result<(), TrainError> {
        let _pause = profile::pause();
        run.check_weights()?;
        let shipped = run.learner.shipped();
        let validation = self.validation(run, &shipped)?;
        let direction = run.learner.task().direction();
        run.tick();
        // A split below one batch is one smaller batch.
        let batch_size = self.train.batch_size().min(self.train.pictures().len());
        let progress = &mut run.progress;
        let batches = progress.batch.max(1);
        progress.epoch += 1;
        let record = EpochRecord {
            epoch: progress.epoch,
            elapsed_s: progress.elapsed_s,
            train_loss: progress.loss_sum / batches as f64,
            figures: validation
                .as_ref()
                .map_or_else(Vec::new, |v| v.figures.clone()),
            lr: progress.lr,
            images_per_s: (batches * batch_size) as f64 / progress.epoch_s.max(1e-9),
            waiting: progress.waited_s / progress.epoch_s.max(1e-9),
            share: batches as f64 / self.train.steps_per_epoch().max(1) as f64,
            spent: Some(spent(
                self.config.budget,
                total,
                0.0,
                progress.update,
                progress.elapsed_s,
            )),
        };
        progress.images += (batches * batch_size) as u64;
        progress.training_s += progress.epoch_s;
        progress.batch = 0;
        progress.loss_sum = 0.0;
        progress.epoch_s = 0.0;
        progress.waited_s = 0.0;
        let best = match (&validation, progress.best) {
            (Some(validation), Some(best)) => beats(direction, validation, best),
            _ => true,
        };
        if best {
            progress.stale = 0;
            progress.best = validation.map(|found| Best::of(progress.epoch, &found));
        } else {
            progress.stale += 1;
        }
        progress.history.push(record.clone());
        // The state first: what a kill leaves out then follows from it. Weights of an epoch that no state knows
        // of would stay the best where the epoch goes otherwise the second time, as under a budget of time.
        run.learner.save(&self.state, &run.progress, &self.recipe)?;
        self.write_weights(run, &shipped, &record.figures, |_| true)?;
        observe(TrainEvent::Epoch { record, best });
        Ok(())
    }

    /// Writes the weights of the epoch that was closed last, of which validation found `figures`, where `wanted` says
    /// so of the file: as the last, and as the best if they are.
    fn write_weights(
        &mut self,
        run: &Run<'_>,
        shipped: &Model,
        figures: &[Figure],
        wanted: impl Fn(&Path) -> bool,
    ) -> Result<(), TrainError> {
        let progress = &run.progress;
        run.learner.task().describe(figures, &mut self.meta);
        self.meta.epoch = progress.epoch;
        let is_best = progress.best.is_none_or(|b| b.epoch == progress.epoch);
        let files = [(LAST, true), (BEST, is_best)];
        for (name, is_of_this_epoch) in files {
            let path = self.weights.join(name);
            if is_of_this_epoch && wanted(&path) {
                let base = self.base.as_ref();
                run.learner.write(&path, shipped, &self.meta, base)?;
            }
        }
        Ok(())
    }

    /// Writes the weights that a kill left out after the state was written.
    fn catch_up(&mut self, run: &Run<'_>) -> Result<(), TrainError> {
        let epoch = run.progress.epoch;
        if epoch == 0 || run.progress.batch > 0 {
            return Ok(());
        }
        let is_of_another_epoch = |path: &Path| {
            let meta = TensorFile::open(path).and_then(|file| checkpoint::meta(&file));
            meta.map_or(true, |meta| meta.epoch != epoch)
        };
        let closed = run.progress.history.last();
        let figures = closed.map_or(&[][..], |record| &record.figures);
        let shipped = run.learner.shipped();
        self.write_weights(run, &shipped, figures, is_of_another_epoch)
    }

    fn save(
        &self,
        run: &mut Run<'_>,
        observe: &mut dyn FnMut(TrainEvent),
    ) -> Result<(), TrainError> {
        run.check_weights()?;
        run.learner.save(&self.state, &run.progress, &self.recipe)?;
        observe(TrainEvent::Saved);
        Ok(())
    }
}

/// Whether an epoch's validation is better than the best so far: by score, of equals by loss.
fn beats(direction: Direction, validation: &Validation, best: Best) -> bool {
    let (score, old) = (validation.score, best.score);
    let better = match direction {
        Direction::Higher => score > old,
        Direction::Lower => score < old,
    };
    better || (score == old && validation.loss < best.loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_decides_and_loss_breaks_ties() {
        let best = Best {
            epoch: 3,
            score: 0.5,
            loss: 1.0,
        };
        for (score, loss, higher, lower) in [
            (0.6, 2.0, true, false),
            (0.4, 0.1, false, true),
            (0.5, 0.9, true, true),
            (0.5, 1.1, false, false),
            (0.5, 1.0, false, false),
        ] {
            let validation = Validation {
                score,
                loss,
                figures: Vec::new(),
            };
            for (direction, better) in [(Direction::Higher, higher), (Direction::Lower, lower)] {
                let found = beats(direction, &validation, best);
                assert_eq!(found, better, "{direction:?}: {score}, {loss}");
            }
        }
    }
}

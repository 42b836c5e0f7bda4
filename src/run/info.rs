//! `run.json`: program, hardware, data and cost of a run.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

use super::devices::Devices;
use super::dir::RunDir;
use super::plan::Plan;
use super::teacher::TeacherInfo;
use crate::device::{self, Hardware};
use crate::names;
use crate::train::{Budget, Progress};

/// The commit this binary was built from.
pub(crate) const COMMIT: &str = env!("VITRINE_COMMIT");

/// One process that trained: the program and the hardware.
#[derive(Debug, Clone, Serialize)]
struct Process {
    vitrine: &'static str,
    commit: &'static str,
    burn: &'static str,
    command: Vec<String>,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher: Option<TeacherInfo>,
    threads: usize,
    hardware: Hardware,
    started: u64,
}

/// What `run.json` holds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunInfo {
    /// The [`Process`] that began the run.
    #[serde(flatten)]
    process: Value,
    /// The processes that resumed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resumed: Vec<Value>,
    run: String,
    data: String,
    classes: usize,
    pictures: [usize; 3],
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<InitInfo>,
    parameters: u64,
    flops_per_image: u64,
    seed: u64,
    budget: Value,
    ended: Option<u64>,
    training_s: Option<f64>,
    /// Passes over the training split.
    epochs_seen: Option<f64>,
    /// Training pictures that were seen, repetitions counted.
    images_seen: Option<u64>,
    training_images_per_s: Option<f64>,
    peak_memory_bytes: Option<u64>,
    best_epoch: Option<usize>,
}

/// The weights that a run started from.
#[derive(Debug, Clone, Serialize)]
struct InitInfo {
    weights: String,
    sha256: String,
}

impl RunInfo {
    /// The entry of a run that begins now.
    pub(crate) fn begin(plan: &Plan, devices: Devices<'_>, dir: &RunDir) -> Self {
        let recipe = &plan.recipe;
        let teacher = plan.teacher.as_ref();
        let process = Process {
            vitrine: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            burn: "0.22.1",
            command: std::env::args_os().map(names::text).collect(),
            device: devices.student.name.clone(),
            teacher: teacher.map(|teacher| teacher.info(devices.teacher)),
            threads: rayon::current_num_threads(),
            hardware: device::hardware(),
            started: now(),
        };
        Self {
            process: json!(process),
            resumed: Vec::new(),
            run: names::text(dir.root()),
            data: plan.dataset.origin.clone(),
            classes: plan.splits.classes.len(),
            pictures: [
                plan.splits.train.len(),
                plan.splits.val.len(),
                plan.splits.test.len(),
            ],
            model: recipe.model.name.clone(),
            init: recipe.origin().map(|(weights, sha256)| InitInfo {
                weights: names::text(weights),
                sha256: sha256.to_owned(),
            }),
            parameters: plan.model.parameters(),
            flops_per_image: plan.model.flops(),
            seed: recipe.train.seed,
            budget: match recipe.budget() {
                // A probe ends where its loss does.
                _ if recipe.init.probe.is_some() => Value::Null,
                Ok(Budget::Epochs(epochs)) => json!({ "epochs": epochs }),
                Ok(Budget::Steps(steps)) => json!({ "steps": steps }),
                Ok(Budget::Time(time)) => json!({ "time_s": time.as_secs_f64() }),
                Err(_) => Value::Null,
            },
            ended: None,
            training_s: None,
            epochs_seen: None,
            images_seen: None,
            training_images_per_s: None,
            peak_memory_bytes: None,
            best_epoch: None,
        }
    }

    /// Turns this into the entry of a resumed run: the first process is taken from `before`, the
    /// current `run.json`, and this process is added to those that resumed it.
    pub(crate) fn resume(mut self, before: &Value) -> Self {
        let now = self.process.clone();
        for (key, value) in self.process.as_object_mut().into_iter().flatten() {
            *value = before[key].clone();
        }
        self.resumed = before["resumed"].as_array().cloned().unwrap_or_default();
        self.resumed.push(now);
        self.peak_memory_bytes = before["peak_memory_bytes"].as_u64();
        self
    }

    /// Records the peak memory, the largest of all processes.
    pub(crate) fn pause(&mut self) {
        self.peak_memory_bytes = self.peak_memory_bytes.max(device::peak_memory_bytes());
    }

    /// Records what is known at the end of the training.
    pub(crate) fn end(&mut self, progress: &Progress) {
        self.ended = Some(now());
        self.training_s = Some(progress.elapsed_s);
        self.epochs_seen = Some(progress.epochs_seen());
        self.images_seen = Some(progress.images);
        self.training_images_per_s =
            (progress.training_s > 0.0).then(|| progress.images as f64 / progress.training_s);
        self.pause();
        self.best_epoch = progress.best.map(|b| b.epoch);
    }

    /// Pretty JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("run information is plain data")
    }
}

/// A run's `run.json`, if it can be read.
pub(crate) fn read(dir: &RunDir) -> Option<Value> {
    let json = std::fs::read_to_string(dir.info()).ok()?;
    serde_json::from_str(&json).ok()
}

/// The number at `key` in a run's `run.json`, if there is one that a training can have recorded.
pub(crate) fn recorded(dir: &RunDir, key: &str) -> Option<f64> {
    let number = read(dir)?.get(key)?.as_f64()?;
    (0.0..=1e18).contains(&number).then_some(number)
}

/// Seconds since 1970, UTC.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

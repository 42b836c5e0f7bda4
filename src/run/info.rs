//! `run.json`: where a run came from.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Devices, Finished, Plan, RunDir, TeacherInfo};
use crate::device::{self, Hardware};
use crate::recipe::Recipe;

/// The commit this binary was built from.
pub const COMMIT: &str = env!("VITRINE_COMMIT");

/// What `run.json` holds.
#[derive(Debug, Clone, Serialize)]
pub struct RunInfo {
    vitrine: &'static str,
    commit: &'static str,
    burn: &'static str,
    command: Vec<String>,
    run: String,
    data: String,
    classes: usize,
    pictures: [usize; 3],
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<InitInfo>,
    parameters: u64,
    flops_per_image: u64,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher: Option<TeacherInfo>,
    threads: usize,
    hardware: Hardware,
    seed: u64,
    started: u64,
    ended: Option<u64>,
    training_s: Option<f64>,
    training_images_per_s: Option<f64>,
    peak_memory_bytes: Option<u64>,
    best_epoch: Option<usize>,
}

/// Weights that a run started from.
#[derive(Debug, Clone, Serialize)]
struct InitInfo {
    weights: PathBuf,
    sha256: String,
}

impl RunInfo {
    /// The entry of a run that begins now.
    pub fn begin(recipe: &Recipe, devices: Devices<'_>, plan: &Plan, dir: &RunDir) -> Self {
        Self {
            vitrine: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            burn: "0.22.1",
            command: std::env::args().collect(),
            run: dir.root().display().to_string(),
            data: plan.dataset.origin.clone(),
            classes: plan.dataset.classes.len(),
            pictures: [
                plan.splits.train.len(),
                plan.splits.val.len(),
                plan.splits.test.len(),
            ],
            model: recipe.model.name.clone(),
            init: recipe.origin().map(|(weights, sha256)| InitInfo {
                weights: weights.to_owned(),
                sha256: sha256.to_owned(),
            }),
            parameters: plan.model.parameters(),
            flops_per_image: plan.model.flops(),
            device: devices.student.name.clone(),
            teacher: plan
                .teacher
                .as_ref()
                .map(|teacher| teacher.info(devices.teacher)),
            threads: rayon::current_num_threads(),
            hardware: device::hardware(),
            seed: recipe.train.seed,
            started: now(),
            ended: None,
            training_s: None,
            training_images_per_s: None,
            peak_memory_bytes: None,
            best_epoch: None,
        }
    }

    /// Adds what is known at the end.
    pub fn end(&mut self, finished: &Finished) {
        self.ended = Some(now());
        self.training_s = Some(finished.outcome.progress.elapsed_s);
        let history = &finished.outcome.progress.history;
        let rates = history.iter().map(|r| r.images_per_s).sum::<f64>();
        self.training_images_per_s = Some(rates / history.len().max(1) as f64);
        self.peak_memory_bytes = device::peak_memory_bytes();
        self.best_epoch = finished.outcome.progress.best.map(|b| b.epoch);
    }

    /// Pretty JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("run information is plain data")
    }
}

/// Seconds since 1970, UTC.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

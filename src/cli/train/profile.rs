//! `train --profile`: where the time of a step went, or that of a probe.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::data::SplitName;
use crate::device::Selected;
use crate::ops::precision::product_limit;
use crate::ops::profile::{self, Span};
use crate::recipe::{ProbeViews, Recipe};
use crate::report::text;
use crate::run::{self, RunEvent};
use crate::train::{STEP, TrainEvent};

/// Measures a training, if that is wanted.
#[derive(Debug, Default)]
pub(super) struct Profiler {
    wanted: bool,
    began: Option<Instant>,
    spans: Option<BTreeMap<&'static str, Span>>,
    teacher_flops: u64,
    /// Floating-point operations of the whole training.
    flops: f64,
    probe: Option<ProbeParts>,
}

/// When the parts of a probe ended.
#[derive(Debug)]
struct ProbeParts {
    decoded: Instant,
    features: Instant,
    fitted: Option<Instant>,
    /// Floating-point operations of the features of a picture.
    picture_flops: u64,
    views: u64,
}

impl Profiler {
    /// Decoding, which comes first, is counted from now on.
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            began: Some(Instant::now()),
            ..Self::default()
        }
    }

    /// Takes note of one event.
    pub(super) fn watch(&mut self, event: &RunEvent<'_>) {
        if !self.wanted {
            return;
        }
        match event {
            RunEvent::Begin(plan) => {
                self.teacher_flops = plan.teacher_flops();
                self.probe = plan.recipe.init.probe.map(|views| ProbeParts {
                    decoded: Instant::now(),
                    features: Instant::now(),
                    fitted: None,
                    picture_flops: plan.model.flops(),
                    views: match views {
                        ProbeViews::Plain => 1,
                        ProbeViews::Mirror => 2,
                    },
                });
                profile::start();
            }
            RunEvent::Features { split, done, total } => {
                if let Some(probe) = &mut self.probe
                    && done == total
                {
                    let views = match split {
                        SplitName::Train => probe.views,
                        _ => 1,
                    };
                    probe.features = Instant::now();
                    self.flops += (probe.picture_flops * views) as f64 * *total as f64;
                }
            }
            // A backward pass takes twice as many as a forward pass.
            RunEvent::Train(TrainEvent::Update { images, flops, .. }) => {
                self.flops += *images as f64 * (3 * flops + self.teacher_flops) as f64;
            }
            RunEvent::Testing => {
                self.spans = Some(profile::stop());
                if let Some(probe) = &mut self.probe {
                    probe.fitted = Some(Instant::now());
                }
            }
            _ => {}
        }
    }

    /// The time of each part of a step, or of a probe, and of each operation, if it was wanted.
    pub(super) fn table(
        self,
        recipe: &Recipe,
        device: &Selected,
    ) -> anyhow::Result<Option<String>> {
        if !self.wanted {
            return Ok(None);
        }
        let spans = self.spans.unwrap_or_else(profile::stop);
        let (what, parts) = match (&self.probe, self.began) {
            (Some(probe), Some(began)) => ("the probe", probe.parts(began)),
            _ => ("steps", steps(&spans)),
        };
        let operations: Vec<_> = spans
            .iter()
            .filter(|(name, _)| !STEP.contains(name))
            .map(|(name, span)| (*name, span.seconds, span.count))
            .collect();
        let computing = parts
            .iter()
            .filter(|(name, _)| ![DECODING, FIT].contains(name));
        let seconds: f64 = computing.map(|(_, seconds)| seconds).sum();
        let precision = run::precision(recipe, device)?;
        let rate = product_limit(&device.device, precision)
            .map(|limit| (self.flops / seconds.max(1e-12), limit));
        Ok(Some(text::profile(what, &parts, &operations, rate)))
    }
}

const DECODING: &str = "decoding";
const FIT: &str = "fit";

impl ProbeParts {
    /// Seconds of each part of a probe that began then.
    fn parts(&self, began: Instant) -> Vec<(&'static str, f64)> {
        let fitted = self.fitted.unwrap_or(self.features);
        let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
        vec![
            (DECODING, seconds(began, self.decoded)),
            ("features", seconds(self.decoded, self.features)),
            (FIT, seconds(self.features, fitted)),
        ]
    }
}

/// Seconds of each part of a step.
fn steps(spans: &BTreeMap<&'static str, Span>) -> Vec<(&'static str, f64)> {
    let seconds = |name| Some((name, spans.get(name)?.seconds));
    STEP.into_iter().filter_map(seconds).collect()
}

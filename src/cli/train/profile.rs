//! `train --profile`: where the time of a step went.

use std::collections::BTreeMap;

use crate::device::Selected;
use crate::ops::precision::product_limit;
use crate::ops::profile::{self, Span};
use crate::recipe::Recipe;
use crate::report::text;
use crate::run::{self, RunEvent};
use crate::train::{STEP, TrainEvent};

/// Measures a training, if that is wanted.
#[derive(Debug, Default)]
pub(super) struct Profiler {
    wanted: bool,
    spans: Option<BTreeMap<&'static str, Span>>,
    teacher_flops: u64,
    /// Floating-point operations of the whole training.
    flops: f64,
}

impl Profiler {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            wanted,
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
                profile::start();
            }
            // A backward pass takes twice as many as a forward pass.
            RunEvent::Train(TrainEvent::Update { images, flops, .. }) => {
                self.flops += *images as f64 * (3 * flops + self.teacher_flops) as f64;
            }
            RunEvent::Testing => self.spans = Some(profile::stop()),
            _ => {}
        }
    }

    /// The time of each part of a step and of each operation, if it was wanted.
    pub(super) fn table(
        self,
        recipe: &Recipe,
        device: &Selected,
    ) -> anyhow::Result<Option<String>> {
        if !self.wanted {
            return Ok(None);
        }
        let spans = self.spans.unwrap_or_else(profile::stop);
        let parts: Vec<_> = STEP
            .into_iter()
            .filter_map(|name| Some((name, spans.get(name)?.seconds)))
            .collect();
        let operations: Vec<_> = spans
            .iter()
            .filter(|(name, _)| !STEP.contains(name))
            .map(|(name, span)| (*name, span.seconds, span.count))
            .collect();
        let seconds: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let precision = run::precision(recipe, device)?;
        let rate = product_limit(&device.device, precision)
            .map(|limit| (self.flops / seconds.max(1e-12), limit));
        Ok(Some(text::profile(&parts, &operations, rate)))
    }
}

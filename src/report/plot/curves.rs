//! Curves of one run, and of several runs together.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::figure::{Drawn, Figure, PlotError, save};
use super::panel::{Line, Panel, Unit, panel};
use crate::train::EpochRecord;
use crate::train::probe::PROBE_L2;
use crate::train::task::classification::{TOP1, TOP5, VAL_LOSS};

/// Draws loss, accuracy, learning rate and speed of one run over its epochs.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub(crate) fn results(history: &[EpochRecord], path: &Path) -> Result<(), PlotError> {
    save(&Results(history), path)
}

/// The validation curve of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    /// Its model; runs of one model share a colour.
    pub model: String,
    /// Epoch, seconds of training, validation top-1 as a fraction.
    pub points: Vec<(usize, f64, f64)>,
}

/// Draws validation accuracy of several runs over epochs and over time. Runs of one model are drawn
/// as their mean, with the range from worst to best.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub(crate) fn compare_curves(curves: &[Curve], path: &Path) -> Result<(), PlotError> {
    save(&Compare(curves), path)
}

struct Results<'a>(&'a [EpochRecord]);

impl Figure for Results<'_> {
    fn size(&self) -> (u32, u32) {
        match self.0.iter().any(|r| r.figure(PROBE_L2).is_some()) {
            true => (1800, 760),
            false => (1800, 1200),
        }
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        // Of a probe the rows are strengths of its penalty.
        let is_probe = self.0.iter().any(|r| r.figure(PROBE_L2).is_some());
        let at = |r: &EpochRecord| match r.figure(PROBE_L2) {
            Some(l2) => l2.log10(),
            None => r.epoch as f64,
        };
        let x = match is_probe {
            true => "strength of the L2 penalty, as a power of ten",
            false => "epoch",
        };
        let over = |value: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
            self.0
                .iter()
                .filter_map(|r| Some((at(r), value(r)?)))
                .collect()
        };
        let mut accuracy = vec![Line::new("top-1", over(&|r| r.figure(TOP1)))];
        let top5 = over(&|r| r.figure(TOP5));
        if !top5.is_empty() {
            accuracy.push(Line::new("top-5", top5));
        }
        let panels = [
            Panel {
                title: "Loss",
                x,
                whole: !is_probe,
                lines: vec![
                    Line::new("training", over(&|r| Some(r.train_loss))),
                    Line::new("validation", over(&|r| r.figure(VAL_LOSS))),
                ],
                unit: Unit::Plain,
            },
            Panel {
                title: "Accuracy on validation",
                x,
                whole: !is_probe,
                lines: accuracy,
                unit: Unit::Percent,
            },
            Panel {
                title: "Learning rate at the end of the epoch",
                x: "epoch",
                whole: true,
                lines: vec![Line::new("learning rate", over(&|r| Some(r.lr)))],
                unit: Unit::Scientific,
            },
            Panel {
                title: "Training images per second",
                x: "epoch",
                whole: true,
                lines: vec![Line::new("images/s", over(&|r| Some(r.images_per_s)))],
                unit: Unit::Plain,
            },
        ];
        // A probe has no learning rate, and one speed.
        let rows = if is_probe { 1 } else { 2 };
        for (area, one) in root.split_evenly((rows, 2)).iter().zip(&panels) {
            panel(area, one)?;
        }
        Ok(())
    }
}

struct Compare<'a>(&'a [Curve]);

impl Compare<'_> {
    fn lines(&self, x: impl Fn(&(usize, f64, f64)) -> f64) -> Vec<Line> {
        let mut models: Vec<&str> = Vec::new();
        for curve in self.0 {
            if !models.contains(&curve.model.as_str()) {
                models.push(&curve.model);
            }
        }
        models
            .into_iter()
            .map(|model| {
                let runs: Vec<&Curve> = self.0.iter().filter(|c| c.model == model).collect();
                let name = match runs.len() {
                    1 => model.to_owned(),
                    n => format!("{model} ({n} runs)"),
                };
                let shortest = runs.iter().map(|r| r.points.len()).min().unwrap_or(0);
                let (mut means, mut band) = (Vec::new(), Vec::new());
                for i in 0..shortest {
                    let here: Vec<_> = runs.iter().map(|r| &r.points[i]).collect();
                    let n = here.len() as f64;
                    let at = here.iter().map(|p| x(p)).sum::<f64>() / n;
                    let values = || here.iter().map(|p| p.2);
                    means.push((at, values().sum::<f64>() / n));
                    let low = values().fold(f64::INFINITY, f64::min);
                    let high = values().fold(f64::NEG_INFINITY, f64::max);
                    band.push((at, low, high));
                }
                let line = Line::new(&name, means);
                match runs.len() {
                    1 => line,
                    _ => line.with_band(band),
                }
            })
            .collect()
    }
}

impl Figure for Compare<'_> {
    fn size(&self) -> (u32, u32) {
        (1800, 760)
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let longest = self
            .0
            .iter()
            .flat_map(|c| &c.points)
            .map(|p| p.1)
            .fold(0.0, f64::max);
        let (unit, name) = match longest {
            t if t > 7200.0 => (3600.0, "hours of training"),
            t if t > 120.0 => (60.0, "minutes of training"),
            _ => (1.0, "seconds of training"),
        };
        let panels = [
            Panel {
                title: "Validation accuracy over epochs",
                x: "epoch",
                whole: true,
                lines: self.lines(|p| p.0 as f64),
                unit: Unit::Percent,
            },
            Panel {
                title: "Validation accuracy over time",
                x: name,
                whole: false,
                lines: self.lines(|p| p.1 / unit),
                unit: Unit::Percent,
            },
        ];
        for (area, one) in root.split_evenly((1, 2)).iter().zip(&panels) {
            panel(area, one)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::figure::tests::draws;
    use crate::train::task::classification::figures;

    fn record(epoch: usize, train_loss: f64, val_top1: Option<f64>) -> EpochRecord {
        EpochRecord {
            epoch,
            elapsed_s: 40.0 * epoch as f64,
            train_loss,
            figures: val_top1.map_or_else(Vec::new, |top1| figures(top1, None, top1)),
            lr: 1e-3,
            images_per_s: 800.0,
            waiting: 0.0,
            share: 1.0,
            spent: None,
        }
    }

    #[test]
    fn any_history() {
        draws(|path| results(&[], path));
        draws(|path| results(&[record(1, 2.3, Some(0.1))], path));
        let broken = [
            record(1, f64::NAN, None),
            record(2, 1e300, None),
            record(3, f64::INFINITY, Some(f64::NAN)),
        ];
        draws(|path| results(&broken, path));
        for odd in [
            [1e308, -1e308],
            [f64::MAX, f64::MIN],
            [5e-324, 0.0],
            [1.0, 1.0 + f64::EPSILON],
        ] {
            let odd = odd.map(|value| record(1_000_000_000_000, value, Some(value)));
            draws(|path| results(&odd, path));
        }
    }

    #[test]
    fn any_runs() {
        let run = |model: &str, epochs: usize| Curve {
            model: model.to_owned(),
            points: (1..=epochs).map(|e| (e, 9.0 * e as f64, 0.5)).collect(),
        };
        draws(|path| compare_curves(&[], path));
        draws(|path| compare_curves(&[run("a", 0)], path));
        draws(|path| compare_curves(&[run("a", 1), run("b", 5), run("a", 3)], path));
        let odd = |value| Curve {
            model: "a".to_owned(),
            points: vec![(1, value, value), (usize::MAX, -value, 1.0)],
        };
        for value in [f64::MAX, f64::NAN, f64::INFINITY, 5e-324] {
            draws(|path| compare_curves(&[odd(value), odd(value), odd(0.5)], path));
        }
        let many: Vec<Curve> = (0..300).map(|i| run(&"name ".repeat(i), 2)).collect();
        draws(|path| compare_curves(&many, path));
    }
}

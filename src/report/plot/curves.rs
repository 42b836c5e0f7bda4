//! Curves of one run, and of several against each other.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Drawn, Figure, GRID, INK, LABEL, PALETTE, PlotError, TICK, TITLE, bold, save, span, text};
use crate::train::EpochRecord;

/// Draws loss, accuracy, learning rate and speed of one run over its epochs.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub fn results(history: &[EpochRecord], path: &Path) -> Result<(), PlotError> {
    save(&Results(history), path)
}

/// One run's way.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its model; runs of one model share a colour.
    pub model: String,
    /// Epoch, seconds of training, validation top-1 as a fraction.
    pub points: Vec<(usize, f64, f64)>,
}

/// Draws validation accuracy of several runs over epochs and over time; runs of the same model are
/// drawn as their mean with the range between the worst and the best.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub fn compare_curves(curves: &[Curve], path: &Path) -> Result<(), PlotError> {
    save(&Compare(curves), path)
}

/// A named line of a panel.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    /// Lower and upper edge of a band around it, if there is one.
    band: Option<Vec<(f64, f64, f64)>>,
}

impl Line {
    fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        let points = points.into_iter().filter(|p| p.1.is_finite()).collect();
        Self {
            name: name.to_owned(),
            points,
            band: None,
        }
    }
}

struct Panel<'a> {
    title: &'a str,
    x: &'a str,
    lines: Vec<Line>,
    format: &'a dyn Fn(&f64) -> String,
    legend: SeriesLabelPosition,
}

/// Up to this many points each gets a marker; more of them would only blot the line.
const MARKED: usize = 40;

fn panel<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panel: &Panel<'_>) -> Drawn
where
    B::ErrorType: 'static,
{
    let points = || panel.lines.iter().flat_map(|l| &l.points);
    let bands = panel.lines.iter().flat_map(|l| l.band.iter().flatten());
    let (x0, x1) = span(points().map(|p| p.0));
    let (y0, y1) = span(points().map(|p| p.1).chain(bands.flat_map(|b| [b.1, b.2])));
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, bold(TITLE))
        .margin(18)
        .x_label_area_size(84)
        .y_label_area_size(118)
        .build_cartesian_2d(x0..x1, y0..y1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_desc(panel.x)
        .axis_desc_style(text(LABEL))
        .label_style(text(TICK))
        .x_labels(7)
        .y_labels(7)
        .x_label_formatter(&|v| plain(*v))
        .y_label_formatter(panel.format)
        .draw()?;
    for (i, line) in panel.lines.iter().enumerate() {
        let colour = PALETTE[i % PALETTE.len()];
        if let Some(band) = &line.band {
            let mut outline: Vec<(f64, f64)> = band.iter().map(|b| (b.0, b.1)).collect();
            outline.extend(band.iter().rev().map(|b| (b.0, b.2)));
            chart.draw_series(std::iter::once(Polygon::new(outline, colour.mix(0.18))))?;
        }
        let style = colour.stroke_width(4);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 44, y)], style));
        if line.points.len() <= MARKED {
            // Marks differ by line, so that colour is not the only difference.
            let marks = line.points.iter().map(|&p| match i % 3 {
                0 => Circle::new(p, 7, colour.filled()).into_dyn(),
                1 => TriangleMarker::new(p, 10, colour.filled()).into_dyn(),
                _ => Cross::new(p, 8, colour.stroke_width(4)).into_dyn(),
            });
            chart.draw_series(marks)?;
        }
    }
    if panel.lines.len() > 1 {
        chart
            .configure_series_labels()
            .position(panel.legend.clone())
            .margin(16)
            .legend_area_size(52)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font(text(LABEL))
            .draw()?;
    }
    Ok(())
}

/// A number without digits it does not need.
fn plain(value: f64) -> String {
    if value.abs() < 1e-9 {
        return "0".to_owned();
    }
    if (value - value.round()).abs() < 1e-9 {
        return format!("{value:.0}");
    }
    let digits = if value.abs() < 1.0 { 2 } else { 1 };
    format!("{value:.digits$}")
}

fn percent(value: &f64) -> String {
    format!("{} %", plain(100.0 * value))
}

fn scientific(value: &f64) -> String {
    if value.abs() < 1e-12 { "0".to_owned() } else { format!("{value:.1e}") }
}

struct Results<'a>(&'a [EpochRecord]);

impl Figure for Results<'_> {
    fn size(&self) -> (u32, u32) {
        (1800, 1200)
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let over = |value: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
            self.0
                .iter()
                .filter_map(|r| Some((r.epoch as f64, value(r)?)))
                .collect()
        };
        let mut accuracy = vec![Line::new("top-1", over(&|r| r.val_top1))];
        let top5 = over(&|r| r.val_top5);
        if !top5.is_empty() {
            accuracy.push(Line::new("top-5", top5));
        }
        let panels = [
            Panel {
                title: "Loss",
                x: "epoch",
                lines: vec![
                    Line::new("training", over(&|r| Some(r.train_loss))),
                    Line::new("validation", over(&|r| r.val_loss)),
                ],
                format: &|v| plain(*v),
                legend: SeriesLabelPosition::UpperRight,
            },
            Panel {
                title: "Accuracy on validation",
                x: "epoch",
                lines: accuracy,
                format: &percent,
                legend: SeriesLabelPosition::LowerRight,
            },
            Panel {
                title: "Learning rate at the end of the epoch",
                x: "epoch",
                lines: vec![Line::new("learning rate", over(&|r| Some(r.lr)))],
                format: &scientific,
                legend: SeriesLabelPosition::UpperRight,
            },
            Panel {
                title: "Training images a second",
                x: "epoch",
                lines: vec![Line::new("images/s", over(&|r| Some(r.images_per_s)))],
                format: &|v| plain(*v),
                legend: SeriesLabelPosition::LowerRight,
            },
        ];
        for (area, one) in root.split_evenly((2, 2)).iter().zip(&panels) {
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
                let shortest = runs.iter().map(|r| r.points.len()).min().unwrap_or(0);
                let mut line = Line::new(model, Vec::new());
                let mut band = Vec::new();
                for i in 0..shortest {
                    let here: Vec<_> = runs.iter().map(|r| &r.points[i]).collect();
                    let n = here.len() as f64;
                    let at = here.iter().map(|p| x(p)).sum::<f64>() / n;
                    let values = || here.iter().map(|p| p.2);
                    line.points.push((at, values().sum::<f64>() / n));
                    let low = values().fold(f64::INFINITY, f64::min);
                    let high = values().fold(f64::NEG_INFINITY, f64::max);
                    band.push((at, low, high));
                }
                line.band = (runs.len() > 1).then_some(band);
                line
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
        let longest = self.0.iter().flat_map(|c| &c.points).map(|p| p.1).fold(0.0, f64::max);
        let (unit, name) = match longest {
            t if t > 7200.0 => (3600.0, "hours of training"),
            t if t > 120.0 => (60.0, "minutes of training"),
            _ => (1.0, "seconds of training"),
        };
        let panels = [
            Panel {
                title: "Validation accuracy over epochs",
                x: "epoch",
                lines: self.lines(|p| p.0 as f64),
                format: &percent,
                legend: SeriesLabelPosition::LowerRight,
            },
            Panel {
                title: "Validation accuracy over time",
                x: name,
                lines: self.lines(|p| p.1 / unit),
                format: &percent,
                legend: SeriesLabelPosition::LowerRight,
            },
        ];
        for (area, one) in root.split_evenly((1, 2)).iter().zip(&panels) {
            panel(area, one)?;
        }
        Ok(())
    }
}

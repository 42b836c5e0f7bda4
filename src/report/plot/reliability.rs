//! The reliability diagram: confidence against accuracy (Guo et al. 2017).

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Drawn, Figure, PlotError, save};
use super::legend::{self, Key};
use super::style::{GRID, INK, LABEL, PALETTE, TICK, TITLE, bold, text};
use crate::metrics::{EvalReport, ReliabilityBin};
use crate::report::text as words;

/// Draws the accuracy of each bin of confidence, and the number of pictures in it.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub(crate) fn reliability(report: &EvalReport, path: &Path) -> Result<(), PlotError> {
    save(&Reliability(report), path)
}

/// Bins with fewer pictures say little and are drawn pale.
const FEW: u64 = 10;

/// Width of the sheet, around each plot, and from the upper edge to the legend.
const WIDTH: i32 = 1100;
const MARGIN: i32 = 18;
const HEAD: i32 = 84;

/// How a bin of few or of more pictures is filled.
fn bar(few: bool) -> ShapeStyle {
    PALETTE[0].mix(if few { 0.2 } else { 0.75 }).filled()
}

struct Reliability<'a>(&'a EvalReport);

impl Figure for Reliability<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, 1200)
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let (upper, lower) = root.split_vertically(840);
        self.accuracy(&upper)?;
        self.counts(&lower)
    }
}

impl Reliability<'_> {
    /// The bins that are not empty.
    fn filled(&self) -> impl Iterator<Item = &ReliabilityBin> {
        self.0.reliability.iter().filter(|b| b.count > 0)
    }

    /// Accuracy and mean confidence of each bin.
    fn accuracy<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let title = format!("Calibration: expected error {:.3}", self.0.ece);
        let few = format!("the same, of fewer than {FEW} pictures");
        let mut entries = vec![
            (Key::Bar(bar(false)), "how often it is right"),
            (Key::Stroke(PALETTE[1].stroke_width(5)), "how sure it is"),
        ];
        if self.filled().any(|bin| bin.count < FEW) {
            entries.push((Key::Bar(bar(true)), &few));
        }
        let names: Vec<&str> = entries.iter().map(|(_, name)| *name).collect();
        let room = WIDTH - 2 * MARGIN;
        let (above, below) = area.split_vertically(HEAD + legend::height(&names, room));
        let style = bold(TITLE).pos(Pos::new(HPos::Center, VPos::Center));
        above.draw(&Text::new(title, (WIDTH / 2, HEAD / 2 + 4), style))?;
        legend::draw(&above, entries, (MARGIN, HEAD), room)?;
        let mut chart = ChartBuilder::on(&below)
            .margin(MARGIN)
            .margin_right(40)
            .x_label_area_size(44)
            .y_label_area_size(130)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .y_desc("right")
            .axis_desc_style(text(LABEL))
            .label_style(text(TICK))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&percent)
            .y_label_formatter(&percent)
            .draw()?;
        chart.draw_series(
            self.filled()
                .map(|b| Rectangle::new([(b.lo, 0.0), (b.hi, b.accuracy)], bar(b.count < FEW))),
        )?;
        chart.draw_series(self.filled().map(|b| {
            PathElement::new(
                [(b.lo, b.confidence), (b.hi, b.confidence)],
                PALETTE[1].stroke_width(5),
            )
        }))?;
        chart.draw_series(DashedLineSeries::new(
            [(0.0, 0.0), (1.0, 1.0)],
            12,
            10,
            INK.stroke_width(2),
        ))?;
        Ok(())
    }

    /// Number of pictures in each bin.
    fn counts<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let most = self
            .0
            .reliability
            .iter()
            .map(|b| b.count)
            .max()
            .unwrap_or(0)
            .max(1);
        let mut chart = ChartBuilder::on(area)
            .margin(18)
            .margin_right(40)
            .x_label_area_size(84)
            .y_label_area_size(130)
            .build_cartesian_2d(0.0..1.0, 0.0..most as f64 * 1.05)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .x_desc("confidence")
            .y_desc("pictures")
            .axis_desc_style(text(LABEL))
            .label_style(text(TICK))
            .x_labels(6)
            .y_labels(4)
            .x_label_formatter(&percent)
            .y_label_formatter(&|v| match v.fract() {
                0.0 => words::count(*v as u64),
                _ => String::new(),
            })
            .draw()?;
        chart.draw_series(self.filled().map(|b| {
            Rectangle::new(
                [(b.lo, 0.0), (b.hi, b.count as f64)],
                PALETTE[6].mix(0.6).filled(),
            )
        }))?;
        Ok(())
    }
}

fn percent(value: &f64) -> String {
    format!("{:.0} %", 100.0 * value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::evaluate;
    use crate::report::plot::figure::tests::draws;

    #[test]
    fn any_report() {
        let classes = |n: usize| (0..n).map(|i| format!("class {i}")).collect::<Vec<_>>();
        let logits = [1.0, f32::NAN, 3.0, 0.0, 9.0, -9.0];
        let some = evaluate(&logits, &[0, 1, 1], &[], &classes(2));
        draws(|path| reliability(&some, path));
        draws(|path| reliability(&evaluate(&[], &[], &[], &classes(130)), path));
    }
}

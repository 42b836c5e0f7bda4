//! The reliability diagram: confidence against accuracy (Guo et al. 2017).

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::figure::{Drawn, Figure, PlotError, save};
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

struct Reliability<'a>(&'a EvalReport);

impl Figure for Reliability<'_> {
    fn size(&self) -> (u32, u32) {
        (1100, 1200)
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
        let mut chart = ChartBuilder::on(area)
            .caption(title, bold(TITLE))
            .margin(18)
            .margin_top(30)
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
        for (few, strength, label) in [
            (false, 0.75, "how often it is right".to_owned()),
            (true, 0.2, format!("the same, of fewer than {FEW} pictures")),
        ] {
            let fill = PALETTE[0].mix(strength).filled();
            let bins: Vec<_> = self.filled().filter(|b| (b.count < FEW) == few).collect();
            if bins.is_empty() {
                continue;
            }
            chart
                .draw_series(
                    bins.iter()
                        .map(|b| Rectangle::new([(b.lo, 0.0), (b.hi, b.accuracy)], fill)),
                )?
                .label(label)
                .legend(move |(x, y)| Rectangle::new([(x, y - 10), (x + 40, y + 10)], fill));
        }
        chart
            .draw_series(self.filled().map(|b| {
                PathElement::new(
                    [(b.lo, b.confidence), (b.hi, b.confidence)],
                    PALETTE[1].stroke_width(5),
                )
            }))?
            .label("how sure it is")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 40, y)], PALETTE[1].stroke_width(5)));
        chart.draw_series(DashedLineSeries::new(
            [(0.0, 0.0), (1.0, 1.0)],
            12,
            10,
            INK.stroke_width(2),
        ))?;
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .margin(16)
            .legend_area_size(52)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font(text(LABEL))
            .draw()?;
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

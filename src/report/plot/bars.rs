//! Bars: calibration, and the classes one by one.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{
    Drawn, Figure, GRID, INK, LABEL, PALETTE, PlotError, TICK, TITLE, bold, save, shorten, text,
};
use crate::metrics::EvalReport;
use crate::report::text as words;

/// Draws how often answers of each confidence are right, and how many there are.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub fn reliability(report: &EvalReport, path: &Path) -> Result<(), PlotError> {
    save(&Reliability(report), path)
}

/// Draws recall and precision of each class, best recall first.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub fn per_class(report: &EvalReport, path: &Path) -> Result<(), PlotError> {
    save(&PerClass(report), path)
}

fn percent(value: &f64) -> String {
    format!("{:.0} %", 100.0 * value)
}

/// A bin of fewer pictures says little, and is drawn pale.
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
        let title = format!("Calibration: expected error {:.3}", self.0.ece);
        let mut chart = ChartBuilder::on(&upper)
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
        let filled = || self.0.reliability.iter().filter(|b| b.count > 0);
        for (few, strength, label) in [
            (false, 0.75, "how often it is right".to_owned()),
            (true, 0.2, format!("the same, of fewer than {FEW} pictures")),
        ] {
            let fill = PALETTE[0].mix(strength).filled();
            let bins: Vec<_> = filled().filter(|b| (b.count < FEW) == few).collect();
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
            .draw_series(filled().map(|b| {
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

        let most = self
            .0
            .reliability
            .iter()
            .map(|b| b.count)
            .max()
            .unwrap_or(0)
            .max(1);
        let mut chart = ChartBuilder::on(&lower)
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
        chart.draw_series(filled().map(|b| {
            Rectangle::new(
                [(b.lo, 0.0), (b.hi, b.count as f64)],
                PALETTE[6].mix(0.6).filled(),
            )
        }))?;
        Ok(())
    }
}

/// Space of one class, of the names, of the figures beside the bars, of the title and of the axis.
const ROW: i32 = 46;
const NAMES: i32 = 330;
const FIGURES: i32 = 320;
const TOP: i32 = 130;
const BOTTOM: i32 = 70;
const WIDTH: i32 = 1400;

/// Right ends of the figures.
const RECALL: i32 = WIDTH - 170;
const PRECISION: i32 = WIDTH - 24;

struct PerClass<'a>(&'a EvalReport);

impl Figure for PerClass<'_> {
    fn size(&self) -> (u32, u32) {
        let rows = self.0.per_class.len() as i32;
        (WIDTH as u32, (TOP + rows * ROW + BOTTOM) as u32)
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let mut classes: Vec<_> = self.0.per_class.iter().collect();
        classes.sort_by(|a, b| b.recall.total_cmp(&a.recall).then(a.label.cmp(&b.label)));
        let bottom = TOP + classes.len() as i32 * ROW;
        let across = |share: f64| NAMES + (share * f64::from(WIDTH - NAMES - FIGURES)) as i32;
        let centred = Pos::new(HPos::Center, VPos::Center);
        let title = format!(
            "Recall and precision by class, macro F1 {:.3}",
            self.0.macro_f1
        );
        root.draw(&Text::new(title, (WIDTH / 2, 36), bold(TITLE).pos(centred)))?;
        let legend = text(LABEL).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Rectangle::new(
            [(NAMES, 82), (NAMES + 40, 106)],
            PALETTE[0].filled(),
        ))?;
        root.draw(&Text::new("recall", (NAMES + 52, 94), legend.clone()))?;
        root.draw(&diamond((NAMES + 250, 94)))?;
        root.draw(&Text::new("precision", (NAMES + 272, 94), legend))?;
        for tick in 0..=5 {
            let share = f64::from(tick) / 5.0;
            let x = across(share);
            root.draw(&PathElement::new(
                [(x, TOP), (x, bottom)],
                GRID.stroke_width(2),
            ))?;
            let style = text(TICK).pos(centred);
            root.draw(&Text::new(percent(&share), (x, bottom + 30), style))?;
        }
        let figures = text(TICK).pos(Pos::new(HPos::Right, VPos::Center));
        for (x, name) in [(RECALL, "recall"), (PRECISION, "precision")] {
            root.draw(&Text::new(name, (x, 94), figures.clone()))?;
        }
        for (row, class) in classes.iter().enumerate() {
            let y = TOP + row as i32 * ROW;
            let style = text(TICK).pos(Pos::new(HPos::Right, VPos::Center));
            let name = shorten(&class.label, NAMES - 30, &style);
            root.draw(&Text::new(name, (NAMES - 14, y + ROW / 2), style))?;
            let bar = [(NAMES, y + 7), (across(class.recall), y + ROW - 7)];
            root.draw(&Rectangle::new(bar, PALETTE[0].filled()))?;
            root.draw(&diamond((across(class.precision), y + ROW / 2)))?;
            for (x, share) in [(RECALL, class.recall), (PRECISION, class.precision)] {
                let figure = words::percent(share);
                root.draw(&Text::new(figure, (x, y + ROW / 2), figures.clone()))?;
            }
        }
        root.draw(&PathElement::new(
            [(NAMES, TOP), (NAMES, bottom)],
            INK.stroke_width(2),
        ))?;
        Ok(())
    }
}

fn diamond((x, y): (i32, i32)) -> Polygon<(i32, i32)> {
    Polygon::new(
        [(x, y - 13), (x + 13, y), (x, y + 13), (x - 13, y)],
        PALETTE[1].filled(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::evaluate;
    use crate::report::plot::tests::draws;

    #[test]
    fn any_report() {
        let classes = |n: usize| (0..n).map(|i| format!("class & <{i}>")).collect::<Vec<_>>();
        let some = evaluate(
            &[1.0, f32::NAN, 3.0, 0.0, 9.0, -9.0],
            &[0, 1, 1],
            &[],
            &classes(2),
        );
        draws(|path| reliability(&some, path));
        draws(|path| per_class(&some, path));
        let none = evaluate(&[], &[], &[], &classes(130));
        draws(|path| reliability(&none, path));
        draws(|path| per_class(&none, path));
    }
}

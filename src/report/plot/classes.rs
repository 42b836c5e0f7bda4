//! Recall and precision by class.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Drawn, Figure, PlotError, save};
use super::style::{GRID, INK, LABEL, PALETTE, TICK, TITLE, WORST, bold, shorten, text};
use crate::metrics::{ClassReport, EvalReport};
use crate::report::text as words;

/// Draws recall and precision of each class, highest recall first. Of too many classes
/// ([`Confusion::is_whole`]) those with pictures and the lowest recall are drawn.
///
/// [`Confusion::is_whole`]: crate::metrics::Confusion::is_whole
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub(crate) fn per_class(report: &EvalReport, path: &Path) -> Result<(), PlotError> {
    save(&PerClass::new(report), path)
}

/// Pixels for one class, the names, the numbers beside the bars, the title and the axis; total width.
const ROW: i32 = 46;
const NAMES: i32 = 330;
const FIGURES: i32 = 320;
const TOP: i32 = 130;
const BOTTOM: i32 = 70;
const WIDTH: i32 = 1400;

/// Right edges of the numbers.
const RECALL: i32 = WIDTH - 170;
const PRECISION: i32 = WIDTH - 24;

struct PerClass<'a> {
    report: &'a EvalReport,
    /// What is drawn, in order.
    classes: Vec<&'a ClassReport>,
}

impl<'a> PerClass<'a> {
    fn new(report: &'a EvalReport) -> Self {
        let mut classes: Vec<_> = report.per_class.iter().collect();
        let is_whole = report.confusion.is_whole();
        classes.retain(|class| is_whole || class.support > 0);
        classes.sort_by(|a, b| b.recall.total_cmp(&a.recall).then(a.label.cmp(&b.label)));
        if !is_whole {
            classes.drain(..classes.len().saturating_sub(WORST));
        }
        Self { report, classes }
    }

    fn title(&self) -> String {
        let f1 = self.report.macro_f1;
        match self.report.confusion.is_whole() {
            true => format!("Recall and precision by class, macro F1 {f1:.3}"),
            false => format!(
                "Recall and precision: the {} worst of {} classes, macro F1 {f1:.3}",
                self.classes.len(),
                words::count(self.report.per_class.len() as u64)
            ),
        }
    }
}

impl Figure for PerClass<'_> {
    fn size(&self) -> (u32, u32) {
        let rows = self.classes.len() as i32;
        (WIDTH as u32, (TOP + rows * ROW + BOTTOM) as u32)
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let classes = &self.classes;
        let bottom = TOP + classes.len() as i32 * ROW;
        let across = |share: f64| NAMES + (share * f64::from(WIDTH - NAMES - FIGURES)) as i32;
        let centred = Pos::new(HPos::Center, VPos::Center);
        root.draw(&Text::new(
            self.title(),
            (WIDTH / 2, 36),
            bold(TITLE).pos(centred),
        ))?;
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
            root.draw(&Text::new(
                format!("{:.0} %", 100.0 * share),
                (x, bottom + 30),
                style,
            ))?;
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
    use crate::report::plot::figure::tests::draws;

    #[test]
    fn any_report() {
        let classes = |n: usize| (0..n).map(|i| format!("class & <{i}>")).collect::<Vec<_>>();
        let logits = [1.0, f32::NAN, 3.0, 0.0, 9.0, -9.0];
        let some = evaluate(&logits, &[0, 1, 1], &[], &classes(2));
        draws(|path| per_class(&some, path));
        draws(|path| per_class(&evaluate(&[], &[], &[], &classes(130)), path));
        let many = evaluate(&[0.0; 60_000], &[7], &[], &classes(60_000));
        draws(|path| per_class(&many, path));
        let many = PerClass::new(&many);
        assert_eq!(
            many.title(),
            "Recall and precision: the 1 worst of 60,000 classes, macro F1 0.000"
        );
        assert_eq!(many.size().1 as i32, TOP + ROW + BOTTOM);
    }
}

//! The confusion matrix.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Drawn, Figure, PlotError, save};
use super::style::{INK, LABEL, TICK, TITLE, bold, register, shorten, text, width};
use crate::metrics::EvalReport;
use crate::report::text as words;

/// Draws the counts; each cell is shaded by its share of the true class.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub(crate) fn confusion_matrix(report: &EvalReport, path: &Path) -> Result<(), PlotError> {
    // Before anything is drawn: the size of the sheet follows the width of the names.
    register().map_err(|reason| PlotError::new(path, reason))?;
    save(&Matrix::new(report), path)
}

/// Up to this many classes, cells show their counts.
const COUNTED: usize = 25;

/// Space for the title and right of the matrix.
const TOP: i32 = 96;
const RIGHT: i32 = 60;
/// Space for an axis' title beside the class names.
const AXIS: i32 = 70;
/// The longest class name, in pixels.
const NAME: i32 = 280;

const ROWS: &str = "true class";
const COLUMNS: &str = "predicted class";
const KEY: &str = "Shade: share of the true class. Blue is right, orange is wrong.";

struct Matrix<'a> {
    report: &'a EvalReport,
    /// Side of a cell in pixels.
    cell: i32,
    /// Every `step`th class is labelled.
    step: usize,
    names: Vec<String>,
    style: TextStyle<'static>,
    /// Width of the longest name in pixels.
    longest: i32,
}

impl<'a> Matrix<'a> {
    fn new(report: &'a EvalReport) -> Self {
        let classes = report.confusion.len().max(1) as i32;
        // A name needs 24 pixels; past 150 classes the sheet would outgrow any screen.
        let least = if classes <= 150 {
            24
        } else {
            (3600 / classes).max(1)
        };
        let cell = (1200 / classes).clamp(least, 240.max(least));
        let step = (24 / cell).max(1) as usize;
        let size = (cell * step as i32 * 7 / 8).clamp(20, TICK as i32) as u32;
        let style = text(size);
        let names: Vec<String> = report
            .per_class
            .iter()
            .map(|class| shorten(&class.label, NAME, &style))
            .collect();
        let longest = names
            .iter()
            .map(|name| width(name, &style))
            .max()
            .unwrap_or(0);
        Self {
            report,
            cell,
            step,
            names,
            style,
            longest,
        }
    }

    fn side(&self) -> i32 {
        self.cell * self.report.confusion.len() as i32
    }

    /// Where the matrix begins: centred where the sheet is wider than it needs to be.
    fn left(&self) -> i32 {
        let needed = AXIS + self.longest + self.side() + RIGHT;
        AXIS + self.longest + 14 + (self.size().0 as i32 - needed) / 2
    }
}

impl Figure for Matrix<'_> {
    fn size(&self) -> (u32, u32) {
        let width = (AXIS + self.longest + 14 + self.side() + RIGHT).max(1000);
        let height = TOP + self.side() + 14 + self.longest + AXIS + 60;
        (width as u32, height as u32)
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let (report, cell, side, left) = (self.report, self.cell, self.side(), self.left());
        let (sheet, height) = (self.size().0 as i32, self.size().1 as i32);
        let title = format!(
            "Confusion: {} of {} pictures right ({})",
            words::count(report.confusion.iter().enumerate().map(|(i, r)| r[i]).sum()),
            words::count(report.n as u64),
            words::percent(report.top1)
        );
        let centred = |style: TextStyle<'static>| style.pos(Pos::new(HPos::Center, VPos::Center));
        root.draw(&Text::new(
            title,
            (sheet / 2, TOP / 2),
            centred(bold(TITLE)),
        ))?;

        for (row, counts) in report.confusion.iter().enumerate() {
            let total: u64 = counts.iter().sum();
            let y = TOP + row as i32 * cell;
            for (column, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
                let x = left + column as i32 * cell;
                let share = count as f64 / total.max(1) as f64;
                let fill = shade(share, row == column);
                root.draw(&Rectangle::new(
                    [(x, y), (x + cell, y + cell)],
                    fill.filled(),
                ))?;
                if counts.len() <= COUNTED {
                    let ink = if share > 0.5 { WHITE } else { INK };
                    let number = words::count(count);
                    let room = cell * 8 / 5 / number.len() as i32;
                    let size = room.min(cell * 2 / 5).clamp(10, 36) as u32;
                    let style = centred(text(size)).color(&ink);
                    root.draw(&Text::new(number, (x + cell / 2, y + cell / 2), style))?;
                }
            }
        }
        for (class, name) in self.names.iter().enumerate().step_by(self.step) {
            let middle = class as i32 * cell + cell / 2;
            let style = self.style.pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(
                name.clone(),
                (left - 14, TOP + middle),
                style.clone(),
            ))?;
            let style = style.transform(FontTransform::Rotate270);
            root.draw(&Text::new(
                name.clone(),
                (left + middle, TOP + side + 14),
                style,
            ))?;
        }
        root.draw(&Rectangle::new(
            [(left, TOP), (left + side, TOP + side)],
            INK,
        ))?;
        let style = centred(text(LABEL));
        let below = TOP + side + 14 + self.longest + AXIS / 2;
        root.draw(&Text::new(COLUMNS, (left + side / 2, below), style.clone()))?;
        let beside = left - 14 - self.longest - AXIS / 2;
        let turned = style.transform(FontTransform::Rotate270);
        root.draw(&Text::new(ROWS, (beside, TOP + side / 2), turned))?;
        root.draw(&Text::new(
            KEY,
            (sheet / 2, height - 36),
            centred(text(TICK)),
        ))?;
        Ok(())
    }
}

/// White to blue where it is right, white to orange where it is wrong.
fn shade(share: f64, right: bool) -> RGBColor {
    let (r, g, b) = if right { (0, 94, 158) } else { (200, 80, 0) };
    // The root makes a few mistakes visible.
    let t = if right { share } else { share.sqrt() };
    let mix = |end: i32| (255.0 + (f64::from(end) - 255.0) * t).round() as u8;
    RGBColor(mix(r), mix(g), mix(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::evaluate;
    use crate::report::plot::figure::tests::draws;

    #[test]
    fn two_classes_to_many_and_none_seen() {
        for count in [1, 2, 27, 160] {
            let classes: Vec<String> = (0..count)
                .map(|i| format!("a class of number {i}"))
                .collect();
            let mut logits = vec![0.0; 2 * count];
            logits[count - 1] = 1.0;
            let report = evaluate(&logits, &[0, count - 1], &[], &classes);
            draws(|path| confusion_matrix(&report, path));
        }
        let none = evaluate(&[], &[], &[], &["a".to_owned(), "b".to_owned()]);
        draws(|path| confusion_matrix(&none, path));
    }
}

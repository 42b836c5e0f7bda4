//! The confusion matrix.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Drawn, Figure, PlotError, save};
use super::style::{INK, LABEL, TICK, TITLE, WORST, bold, register, shorten, text, width};
use crate::metrics::EvalReport;
use crate::report::text as words;

/// Draws the counts; each cell is shaded by its share of the true class. Of too many classes
/// ([`Confusion::is_whole`]) those with most mistakes are drawn.
///
/// [`Confusion::is_whole`]: crate::metrics::Confusion::is_whole
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
    /// The classes that are drawn, in order.
    classes: Vec<usize>,
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
        let drawn = drawn(report);
        let classes = drawn.len().max(1) as i32;
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
        let names: Vec<String> = drawn
            .iter()
            .map(|&class| shorten(&report.per_class[class].label, NAME, &style))
            .collect();
        let longest = names
            .iter()
            .map(|name| width(name, &style))
            .max()
            .unwrap_or(0);
        Self {
            report,
            classes: drawn,
            cell,
            step,
            names,
            style,
            longest,
        }
    }

    fn side(&self) -> i32 {
        self.cell * self.classes.len() as i32
    }

    fn title(&self) -> String {
        let report = self.report;
        let right = words::percent(report.top1);
        if self.classes.len() < report.confusion.classes() {
            return format!(
                "Confusion: the {} worst of {} classes ({right} of all right)",
                self.classes.len(),
                words::count(report.confusion.classes() as u64),
            );
        }
        let cells = report.confusion.cells();
        let hits = cells.filter(|(label, predicted, _)| label == predicted);
        format!(
            "Confusion: {} of {} pictures right ({right})",
            words::count(hits.map(|(_, _, count)| count).sum()),
            words::count(report.n as u64),
        )
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
        let centred = |style: TextStyle<'static>| style.pos(Pos::new(HPos::Center, VPos::Center));
        root.draw(&Text::new(
            self.title(),
            (sheet / 2, TOP / 2),
            centred(bold(TITLE)),
        ))?;

        let support = report.confusion.support();
        let place = |class: usize| self.classes.binary_search(&class).ok();
        for (label, predicted, count) in report.confusion.cells() {
            let (Some(row), Some(column)) = (place(label), place(predicted)) else {
                continue;
            };
            let (x, y) = (left + column as i32 * cell, TOP + row as i32 * cell);
            let share = count as f64 / support[label].max(1) as f64;
            let fill = shade(share, row == column);
            root.draw(&Rectangle::new(
                [(x, y), (x + cell, y + cell)],
                fill.filled(),
            ))?;
            if self.classes.len() <= COUNTED {
                let ink = if share > 0.5 { WHITE } else { INK };
                let number = words::count(count);
                let room = cell * 8 / 5 / number.len() as i32;
                let size = room.min(cell * 2 / 5).clamp(10, 36) as u32;
                let style = centred(text(size)).color(&ink);
                root.draw(&Text::new(number, (x + cell / 2, y + cell / 2), style))?;
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

/// The classes to draw: all of them, or those that were most often taken for others, or others for them.
fn drawn(report: &EvalReport) -> Vec<usize> {
    let confusion = &report.confusion;
    let mut classes: Vec<usize> = (0..confusion.classes()).collect();
    if confusion.is_whole() {
        return classes;
    }
    let mut mistakes = vec![0; classes.len()];
    for (label, predicted, count) in confusion.cells() {
        if label != predicted {
            mistakes[label] += count;
            mistakes[predicted] += count;
        }
    }
    classes.sort_by_key(|&class| std::cmp::Reverse(mistakes[class]));
    classes.truncate(WORST);
    classes.sort_unstable();
    classes
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
        for count in [1, 2, 27, 160, 1001, 60_000] {
            let classes: Vec<String> = (0..count)
                .map(|i| format!("a class of number {i}"))
                .collect();
            let mut logits = vec![0.0; 2 * count];
            logits[count - 1] = 1.0;
            let report = evaluate(&logits, &[0, count - 1], &[], &classes);
            draws(|path| confusion_matrix(&report, path));
        }
        let long: Vec<String> = (0..300)
            .map(|i| format!("{i}{}", "long ".repeat(12_000)))
            .collect();
        draws(|path| confusion_matrix(&evaluate(&[], &[], &[], &long), path));
        let none = evaluate(&[], &[], &[], &["a".to_owned(), "b".to_owned()]);
        draws(|path| confusion_matrix(&none, path));
    }

    #[test]
    fn of_many_classes_the_worst_are_drawn_and_the_title_says_so() {
        let count = 2000;
        let classes: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
        let labels = [7, 1999, 1999, 5];
        let mut logits = vec![0.0; labels.len() * count];
        for (row, answer) in [1500, 1200, 1200, 5].into_iter().enumerate() {
            logits[row * count + answer] = 1.0;
        }
        let report = evaluate(&logits, &labels, &[], &classes);
        let matrix = Matrix::new(&report);
        assert_eq!(matrix.classes.len(), WORST);
        for class in [7, 1200, 1500, 1999] {
            assert!(matrix.classes.contains(&class), "{class}");
        }
        assert_eq!(
            matrix.title(),
            "Confusion: the 50 worst of 2,000 classes (25.0 % of all right)"
        );
        assert!(matrix.size().0 < 2000 && matrix.size().1 < 2000);
        let few = evaluate(&logits[..count], &labels[..1], &[], &classes);
        assert_eq!(Matrix::new(&few).classes.len(), WORST);
    }
}

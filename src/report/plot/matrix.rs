//! The confusion matrix.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Drawn, Figure, INK, LABEL, PlotError, TICK, TITLE, bold, save, shorten, text};
use crate::metrics::EvalReport;
use crate::report::text as words;

/// Draws counts, each row coloured by its share of the true class.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub fn confusion_matrix(report: &EvalReport, path: &Path) -> Result<(), PlotError> {
    save(&Matrix(report), path)
}

/// Above this many classes a cell has no room for its count.
const COUNTED: usize = 25;

/// Space for class names and titles.
const LEFT: i32 = 300;
const TOP: i32 = 96;
const BOTTOM: i32 = 290;
const RIGHT: i32 = 60;

struct Matrix<'a>(&'a EvalReport);

impl Matrix<'_> {
    fn cell(&self) -> i32 {
        let classes = self.0.confusion.len().max(1) as i32;
        (1200 / classes).clamp(10, 200)
    }
}

impl Figure for Matrix<'_> {
    fn size(&self) -> (u32, u32) {
        let side = self.cell() * self.0.confusion.len() as i32;
        let width = (LEFT + side + RIGHT).max(1100);
        (width as u32, (TOP + side + BOTTOM) as u32)
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let report = self.0;
        let (cell, classes) = (self.cell(), report.confusion.len() as i32);
        let (width, _) = self.size();
        let title = format!(
            "Confusion: {} of {} pictures right ({})",
            words::count(report.confusion.iter().enumerate().map(|(i, r)| r[i]).sum()),
            words::count(report.n as u64),
            words::percent(report.top1)
        );
        let centred = |style: TextStyle<'static>| style.pos(Pos::new(HPos::Center, VPos::Center));
        root.draw(&Text::new(title, (width as i32 / 2, TOP / 2), centred(bold(TITLE))))?;

        let label_size = (cell * 3 / 4).clamp(9, TICK as i32) as u32;
        for (row, counts) in report.confusion.iter().enumerate() {
            let total: u64 = counts.iter().sum();
            let y = TOP + row as i32 * cell;
            for (column, &count) in counts.iter().enumerate() {
                let x = LEFT + column as i32 * cell;
                let share = count as f64 / total.max(1) as f64;
                let fill = shade(share, row == column);
                root.draw(&Rectangle::new([(x, y), (x + cell, y + cell)], fill.filled()))?;
                if classes as usize <= COUNTED && count > 0 {
                    let ink = if share > 0.5 { WHITE } else { INK };
                    let digits = count.to_string().len() as i32;
                    let size = (cell * 2 / (digits + 1)).clamp(10, 34).min(cell * 2 / 5) as u32;
                    let style = centred(text(size)).color(&ink);
                    root.draw(&Text::new(count.to_string(), (x + cell / 2, y + cell / 2), style))?;
                }
            }
            let name = shorten(&report.per_class[row].label, 18);
            let style = text(label_size).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(name.clone(), (LEFT - 12, y + cell / 2), style))?;
            let style = text(label_size)
                .transform(FontTransform::Rotate270)
                .pos(Pos::new(HPos::Right, VPos::Center));
            let at = (LEFT + row as i32 * cell + cell / 2, TOP + classes * cell + 12);
            root.draw(&Text::new(name, at, style))?;
        }
        let side = classes * cell;
        root.draw(&Rectangle::new([(LEFT, TOP), (LEFT + side, TOP + side)], INK))?;
        let style = centred(text(LABEL));
        root.draw(&Text::new("taken for", (LEFT + side / 2, TOP + side + BOTTOM - 30), style))?;
        let style = centred(text(LABEL).transform(FontTransform::Rotate270));
        root.draw(&Text::new("is", (28, TOP + side / 2), style))?;
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

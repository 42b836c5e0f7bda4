//! Pictures side by side, each with a caption.

use std::path::Path;

use image::RgbImage;
use image::imageops::{self, FilterType};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Drawn, Figure, PlotError, save};
use super::style::{INK, PALETTE, TITLE, bold, shorten, text};

/// The frame of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// None.
    Plain,
    /// The prediction is right.
    Right,
    /// The prediction is wrong.
    Wrong,
}

/// One picture of a grid.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// The picture, of any size.
    pub picture: RgbImage,
    /// One or two lines.
    pub caption: [String; 2],
    /// Its frame.
    pub mark: Mark,
}

/// Draws the first 30 pictures, in rows.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub(crate) fn picture_grid(title: &str, cells: &[Cell], path: &Path) -> Result<(), PlotError> {
    save(
        &Grid {
            title,
            cells: &cells[..cells.len().min(30)],
        },
        path,
    )
}

const COLUMNS: usize = 6;
const SIDE: u32 = 220;
const WIDTH: i32 = 270;
const HEIGHT: i32 = 324;
const TOP: i32 = 90;

struct Grid<'a> {
    title: &'a str,
    cells: &'a [Cell],
}

impl Figure for Grid<'_> {
    fn size(&self) -> (u32, u32) {
        let rows = self.cells.len().div_ceil(COLUMNS).max(1) as i32;
        (
            (WIDTH * COLUMNS as i32) as u32,
            (TOP + rows * HEIGHT) as u32,
        )
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let (width, _) = self.size();
        let centre = Pos::new(HPos::Center, VPos::Center);
        root.draw(&Text::new(
            self.title.to_owned(),
            (width as i32 / 2, TOP / 2),
            bold(TITLE).pos(centre),
        ))?;
        for (i, cell) in self.cells.iter().enumerate() {
            let (x, y) = corner(i);
            let ink = match cell.mark {
                Mark::Plain => INK,
                Mark::Right => PALETTE[0],
                Mark::Wrong => PALETTE[1],
            };
            let below = y + SIDE as i32 + 28;
            let mut indent = 0;
            if cell.mark != Mark::Plain {
                // Two filled ones, because plotters' SVG rectangles ignore the stroke's width.
                let side = SIDE as i32;
                for (edge, fill) in [(6, ink), (0, WHITE)] {
                    let corners = [(x - edge, y - edge), (x + side + edge, y + side + edge)];
                    root.draw(&Rectangle::new(corners, fill.filled()))?;
                }
                for stroke in sign(cell.mark, (x, below)) {
                    root.draw(&PathElement::new(stroke, ink.stroke_width(5)))?;
                }
                indent = 30;
            }
            let style = text(26).color(&ink).pos(Pos::new(HPos::Left, VPos::Center));
            for (line, words) in cell.caption.iter().enumerate() {
                let words = shorten(words, SIDE as i32 + 6 - indent, &style);
                let at = (x + indent, below + 34 * line as i32);
                root.draw(&Text::new(words, at, style.clone()))?;
            }
        }
        Ok(())
    }

    fn pictures(&self) -> Vec<((u32, u32), RgbImage)> {
        let place = |(i, cell): (usize, &Cell)| {
            let scaled = fit(&cell.picture);
            let (x, y) = corner(i);
            let (dx, dy) = ((SIDE - scaled.width()) / 2, (SIDE - scaled.height()) / 2);
            ((x as u32 + dx, y as u32 + dy), scaled)
        };
        self.cells.iter().enumerate().map(place).collect()
    }
}

/// Where the picture of cell `i` begins.
fn corner(i: usize) -> (i32, i32) {
    let (column, row) = ((i % COLUMNS) as i32, (i / COLUMNS) as i32);
    (
        column * WIDTH + (WIDTH - SIDE as i32) / 2,
        TOP + row * HEIGHT + 8,
    )
}

/// Strokes of a tick or a cross: not every reader sees the colours, and the font lacks the signs.
fn sign(mark: Mark, (x, y): (i32, i32)) -> Vec<Vec<(i32, i32)>> {
    match mark {
        Mark::Plain => Vec::new(),
        Mark::Right => vec![vec![(x, y), (x + 7, y + 8), (x + 20, y - 9)]],
        Mark::Wrong => vec![
            vec![(x + 1, y - 8), (x + 18, y + 9)],
            vec![(x + 1, y + 9), (x + 18, y - 8)],
        ],
    }
}

/// Scales a picture to the cell; the pixels of small pictures stay visible.
fn fit(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = width.max(height).max(1);
    let scale = |side: u32| {
        (u64::from(side) * u64::from(SIDE) / u64::from(longer)).clamp(1, SIDE.into()) as u32
    };
    let filter = if longer * 2 <= SIDE {
        FilterType::Nearest
    } else {
        FilterType::Triangle
    };
    imageops::resize(picture, scale(width), scale(height), filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::figure::tests::draws;

    #[test]
    fn pictures_of_any_size_and_none() {
        let cell = |width, height, mark| Cell {
            picture: RgbImage::new(width, height),
            caption: ["a < b & \"c\" 92 %".to_owned(), "is d".to_owned()],
            mark,
        };
        let cells = [
            cell(1, 1, Mark::Plain),
            cell(28, 28, Mark::Right),
            cell(900, 3, Mark::Wrong),
            cell(3, 900, Mark::Wrong),
        ];
        draws(|path| picture_grid("title", &cells, path));
        draws(|path| picture_grid("nothing", &[], path));
    }
}

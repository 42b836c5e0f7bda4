//! Pictures side by side, each with a caption.

use std::path::Path;

use image::RgbImage;
use image::imageops::{self, FilterType};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Drawn, Figure, INK, PALETTE, PlotError, TITLE, bold, save, shorten, text};

/// What a picture's frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    Plain,
    /// The answer is right.
    Right,
    /// The answer is wrong.
    Wrong,
}

/// One picture of a grid.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Of any size.
    pub picture: RgbImage,
    /// One or two lines.
    pub caption: [String; 2],
    /// Frame.
    pub mark: Mark,
}

/// Draws pictures in rows, at most 30 of them.
///
/// # Errors
///
/// [`PlotError`], which names the file.
pub fn picture_grid(title: &str, cells: &[Cell], path: &Path) -> Result<(), PlotError> {
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
const HEIGHT: i32 = 314;
const TOP: i32 = 90;

struct Grid<'a> {
    title: &'a str,
    cells: &'a [Cell],
}

impl Figure for Grid<'_> {
    fn size(&self) -> (u32, u32) {
        let rows = self.cells.len().div_ceil(COLUMNS).max(1) as i32;
        ((WIDTH * COLUMNS as i32) as u32, (TOP + rows * HEIGHT) as u32)
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
            let x = (i % COLUMNS) as i32 * WIDTH + (WIDTH - SIDE as i32) / 2;
            let y = TOP + (i / COLUMNS) as i32 * HEIGHT + 8;
            let scaled = fit(&cell.picture);
            let (w, h) = scaled.dimensions();
            let at = (x + (SIDE - w) as i32 / 2, y + (SIDE - h) as i32 / 2);
            let element: BitMapElement<'_, (i32, i32)> =
                BitMapElement::with_owned_buffer(at, (w, h), scaled.into_raw())
                    .ok_or("a picture's bytes do not fit its size")?;
            root.draw(&element)?;
            let corners = [(x - 3, y - 3), (x + SIDE as i32 + 2, y + SIDE as i32 + 2)];
            let (ink, sign) = match cell.mark {
                Mark::Plain => (INK, ""),
                Mark::Right => (PALETTE[0], "✓ "),
                Mark::Wrong => (PALETTE[1], "✗ "),
            };
            if cell.mark != Mark::Plain {
                root.draw(&Rectangle::new(corners, ink.stroke_width(6)))?;
            }
            for (line, words) in cell.caption.iter().enumerate() {
                let sign = if line == 0 { sign } else { "" };
                let words = format!("{sign}{}", shorten(words, 19));
                let at = (x + SIDE as i32 / 2, y + SIDE as i32 + 24 + 30 * line as i32);
                root.draw(&Text::new(words, at, text(25).pos(centre).color(&ink)))?;
            }
        }
        Ok(())
    }
}

/// As large as the cell allows; small pictures keep their pixels visible.
fn fit(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = width.max(height).max(1);
    let scale = |side: u32| (side * SIDE / longer).clamp(1, SIDE);
    let filter = if longer * 2 <= SIDE {
        FilterType::Nearest
    } else {
        FilterType::Triangle
    };
    imageops::resize(picture, scale(width), scale(height), filter)
}

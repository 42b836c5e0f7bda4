//! Plots, as PNG or SVG by the file's ending, with a font of our own.

mod bars;
mod curves;
mod grid;
mod matrix;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::checkpoint::write_atomically;

pub use bars::{per_class, reliability};
pub use curves::{Curve, compare_curves, results};
pub use grid::{Cell, Mark, picture_grid};
pub use matrix::confusion_matrix;

/// A plot that could not be drawn or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {path}: {reason}")]
pub struct PlotError {
    path: PathBuf,
    reason: String,
}

/// What is drawn.
trait Figure {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws onto a white ground.
    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static;
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Okabe and Ito's colours, which colour-blind readers tell apart, darkest first.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];

const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// Font sizes, for figures of about 1600 pixels that a README shows at about 900.
const TITLE: u32 = 38;
const LABEL: u32 = 30;
const TICK: u32 = 26;

/// The only family there is; in an SVG it also means "any sans" where ours is not installed.
const FONT: &str = "sans-serif";

fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

fn bold(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().style(FontStyle::Bold).color(&INK)
}

fn register() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| {
        let regular = include_bytes!("../../../assets/fonts/OpenSans-Regular.ttf");
        let bold = include_bytes!("../../../assets/fonts/OpenSans-Bold.ttf");
        register_font(FONT, FontStyle::Normal, regular).map_err(|_| "the font is damaged")?;
        register_font(FONT, FontStyle::Bold, bold).map_err(|_| "the font is damaged")?;
        Ok(())
    })
    .clone()
}

fn save(figure: &impl Figure, path: &Path) -> Result<(), PlotError> {
    let error = |reason: String| PlotError {
        path: path.to_owned(),
        reason,
    };
    register().map_err(error)?;
    let (width, height) = figure.size();
    let bytes = match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => {
            let mut svg = String::new();
            {
                let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
                paint(figure, &root).map_err(|e| error(e.to_string()))?;
            }
            svg.into_bytes()
        }
        Some("png") => {
            let mut pixels = vec![0; (width * height * 3) as usize];
            {
                let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
                paint(figure, &root).map_err(|e| error(e.to_string()))?;
            }
            let picture = image::RgbImage::from_raw(width, height, pixels)
                .ok_or_else(|| error("its size overflows".to_owned()))?;
            let mut png = std::io::Cursor::new(Vec::new());
            picture
                .write_to(&mut png, image::ImageFormat::Png)
                .map_err(|e| error(e.to_string()))?;
            png.into_inner()
        }
        _ => return Err(error("expected a name that ends in .png or .svg".to_owned())),
    };
    write_atomically(path, &bytes).map_err(|e| error(e.to_string()))
}

fn paint<B: DrawingBackend>(figure: &impl Figure, root: &DrawingArea<B, Shift>) -> Drawn
where
    B::ErrorType: 'static,
{
    root.fill(&WHITE)?;
    figure.draw(root)?;
    root.present()?;
    Ok(())
}

/// Ends of an axis around `values`, with a little air; a sensible one where there are none.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|v| v.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return (0.0, 1.0);
    }
    let air = ((high - low) * 0.06).max(high.abs() * 0.01).max(1e-9);
    (low - air, high + air)
}

/// A label of at most `length` characters.
fn shorten(label: &str, length: usize) -> String {
    if label.chars().count() <= length {
        return label.to_owned();
    }
    let kept: String = label.chars().take(length.saturating_sub(1)).collect();
    kept.trim_end().to_owned() + "…"
}

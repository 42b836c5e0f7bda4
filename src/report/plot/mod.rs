//! Plots, as PNG or SVG by the file's ending, with a font of our own.

mod bars;
mod curves;
mod grid;
mod matrix;
mod panel;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ab_glyph::Font;
use image::{ImageError, RgbImage, imageops};
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

    /// Photographs laid over the drawing, each with its upper left corner.
    fn pictures(&self) -> Vec<((u32, u32), RgbImage)> {
        Vec::new()
    }
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
    // `FontDesc::style` would keep the regular letters.
    FontDesc::new(FontFamily::SansSerif, f64::from(size), FontStyle::Bold).color(&INK)
}

const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/OpenSans-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../../../assets/fonts/OpenSans-Bold.ttf");

/// Classes as a plot of this format names them. An SVG's reader has fonts for every script; ours for PNG has Latin,
/// Greek and Cyrillic letters, and a name it lacks a letter of, which would be a row of boxes, becomes `class 3`.
pub fn class_names(classes: &[String], extension: &str) -> Vec<String> {
    let font = match extension {
        "png" => ab_glyph::FontRef::try_from_slice(REGULAR).ok(),
        _ => None,
    };
    let is_drawn = |name: &str| {
        let has = |font: &ab_glyph::FontRef<'_>| {
            name.chars()
                .all(|letter| letter.is_whitespace() || font.glyph_id(letter).0 != 0)
        };
        font.as_ref().is_none_or(has)
    };
    let named = |(class, name): (usize, &String)| match is_drawn(name) {
        true => name.clone(),
        false => format!("class {class}"),
    };
    classes.iter().enumerate().map(named).collect()
}

fn register() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| {
        register_font(FONT, FontStyle::Normal, REGULAR).map_err(|_| "the font is damaged")?;
        register_font(FONT, FontStyle::Bold, BOLD).map_err(|_| "the font is damaged")?;
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
            embed(&mut svg, &figure.pictures()).map_err(|e| error(e.to_string()))?;
            svg.into_bytes()
        }
        Some("png") => {
            let mut pixels = vec![0; (width * height * 3) as usize];
            {
                let root =
                    BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
                paint(figure, &root).map_err(|e| error(e.to_string()))?;
            }
            let mut drawing = RgbImage::from_raw(width, height, pixels)
                .ok_or_else(|| error("its size overflows".to_owned()))?;
            for ((x, y), picture) in figure.pictures() {
                imageops::replace(&mut drawing, &picture, x.into(), y.into());
            }
            png(&drawing).map_err(|e| error(e.to_string()))?
        }
        _ => {
            return Err(error(
                "expected a name that ends in .png or .svg".to_owned(),
            ));
        }
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

fn png(picture: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Puts pictures into an SVG as PNG; plotters itself would write a rectangle a pixel.
fn embed(svg: &mut String, pictures: &[((u32, u32), RgbImage)]) -> Result<(), ImageError> {
    const END: &str = "</svg>";
    if let Some(end) = svg.rfind(END) {
        svg.truncate(end);
    }
    for ((x, y), picture) in pictures {
        let (width, height) = picture.dimensions();
        let data = base64(&png(picture)?);
        *svg += &format!(
            "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" href=\"data:image/png;base64,{data}\"/>\n"
        );
    }
    *svg += END;
    svg.push('\n');
    Ok(())
}

/// Bytes as text (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let three = [0, 1, 2].map(|i| u32::from(chunk.get(i).copied().unwrap_or(0)));
        let bits = three[0] << 16 | three[1] << 8 | three[2];
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    out
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
    if low == high {
        let air = (high.abs() * 0.2).max(1e-9);
        return (low - air, high + air);
    }
    let air = (high - low) * 0.06;
    (low - air, high + air)
}

/// Pixels that `words` take.
fn width(words: &str, style: &TextStyle<'_>) -> i32 {
    // Without the font nothing is drawn at all: `save` has said so by then.
    style
        .font
        .layout_box(words)
        .map_or(0, |(_, (width, _))| width)
}

/// A label of at most `room` pixels, cut in its middle: names often differ in their ends.
fn shorten(label: &str, room: i32, style: &TextStyle<'_>) -> String {
    if width(label, style) <= room {
        return label.to_owned();
    }
    let letters: Vec<char> = label.chars().collect();
    for kept in (1..letters.len()).rev() {
        let tail = kept / 3;
        let head: String = letters[..kept - tail].iter().collect();
        let tail: String = letters[letters.len() - tail..].iter().collect();
        let short = format!("{}…{}", head.trim_end(), tail.trim_start());
        if width(&short, style) <= room {
            return short;
        }
    }
    "…".to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Both formats of a figure, each read back.
    pub(super) fn draws(draw: impl Fn(&Path) -> Result<(), PlotError>) {
        let folder = tempfile::tempdir().unwrap();
        let (png, svg) = (
            folder.path().join("plot.png"),
            folder.path().join("plot.svg"),
        );
        draw(&png).unwrap();
        draw(&svg).unwrap();
        let picture = image::open(&png).unwrap().to_rgb8();
        assert!(picture.width() >= 900, "too small for a README");
        assert!(picture.pixels().any(|p| p.0 != [255; 3]), "an empty sheet");
        let text = std::fs::read_to_string(&svg).unwrap();
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
    }

    #[test]
    fn a_class_that_the_font_cannot_name_goes_by_its_number() {
        let classes = ["chat noir", "猫", "Σκύλος", "dog 🐕", "Ёж"].map(str::to_owned);
        assert_eq!(
            class_names(&classes, "png"),
            ["chat noir", "class 1", "Σκύλος", "class 3", "Ёж"]
        );
        assert_eq!(class_names(&classes, "svg"), classes);
    }

    #[test]
    fn base64_as_in_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn long_labels_keep_both_ends() {
        register().unwrap();
        let style = text(26);
        let short = shorten("Ankle boot (men's, waterproof leather) 92 %", 220, &style);
        assert!(
            short.starts_with("Ank") && short.ends_with("92 %"),
            "{short}"
        );
        assert!(width(&short, &style) <= 220);
        assert_eq!(shorten("cat", 220, &style), "cat");
        assert_eq!(shorten("Trouser", 0, &style), "…");
    }

    #[test]
    fn axes_of_nothing_and_of_one_value() {
        assert_eq!(span(std::iter::empty()), (0.0, 1.0));
        assert_eq!(span([f64::NAN, f64::INFINITY].into_iter()), (0.0, 1.0));
        let (low, high) = span([2.0].into_iter());
        assert!(low < 2.0 && high > 2.0);
    }

    #[test]
    fn another_ending_is_refused() {
        let error = results(&[], Path::new("plot.gif")).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot draw plot.gif: expected a name that ends in .png or .svg"
        );
    }
}

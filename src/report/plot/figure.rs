//! A figure as a file: PNG or SVG by the name's ending.

use std::path::{Path, PathBuf};

use image::{ImageError, RgbImage, imageops};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::style;
use crate::names::{printable, shown, visible};
use crate::whole_file;

/// A plot that cannot be drawn or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {path}: {reason}", path = shown(path), reason = visible(reason))]
pub struct PlotError {
    path: PathBuf,
    reason: String,
}

impl PlotError {
    pub(super) fn new(path: &Path, reason: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// A figure that can be drawn.
pub(super) trait Figure {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws onto a white background.
    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static;

    /// Pictures placed over the drawing, each with the position of its upper left corner.
    fn pictures(&self) -> Vec<((u32, u32), RgbImage)> {
        Vec::new()
    }
}

pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

pub(super) fn save(figure: &impl Figure, path: &Path) -> Result<(), PlotError> {
    style::register().map_err(|reason| PlotError::new(path, reason))?;
    let (width, height) = figure.size();
    let bytes = match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => {
            let mut svg = String::new();
            {
                let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
                paint(figure, &root).map_err(|e| PlotError::new(path, e))?;
            }
            embed(&mut svg, &figure.pictures()).map_err(|e| PlotError::new(path, e))?;
            // Control characters are not XML, escaped or not.
            printable(&svg).into_owned().into_bytes()
        }
        Some("png") => {
            let count = (width as usize).checked_mul(height as usize);
            let count = count.and_then(|count| count.checked_mul(3));
            let mut pixels = Vec::new();
            let size = count.filter(|count| pixels.try_reserve_exact(*count).is_ok());
            let Some(size) = size else {
                let reason = format!("there is no memory for {width} × {height} pixels");
                return Err(PlotError::new(path, reason));
            };
            pixels.resize(size, 0);
            {
                let root =
                    BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
                paint(figure, &root).map_err(|e| PlotError::new(path, e))?;
            }
            let mut drawing = RgbImage::from_raw(width, height, pixels)
                .ok_or_else(|| PlotError::new(path, "its size overflows"))?;
            for ((x, y), picture) in figure.pictures() {
                imageops::replace(&mut drawing, &picture, x.into(), y.into());
            }
            png(&drawing).map_err(|e| PlotError::new(path, e))?
        }
        _ => {
            let reason = "expected a name that ends in .png or .svg";
            return Err(PlotError::new(path, reason));
        }
    };
    whole_file::write(path, &bytes).map_err(|e| PlotError::new(path, e))
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

/// Embeds pictures into an SVG as PNG; plotters itself would write one rectangle per pixel.
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

/// Base64 (RFC 4648, section 4).
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// Both formats of a figure, each read back.
    pub(in crate::report::plot) fn draws(draw: impl Fn(&Path) -> Result<(), PlotError>) {
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
    fn another_ending_is_refused() {
        let error = crate::report::plot::results(&[], Path::new("plot.gif"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "cannot draw plot.gif: expected a name that ends in .png or .svg"
        );
    }
}

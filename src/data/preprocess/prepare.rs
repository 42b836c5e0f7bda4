//! A picture's bytes → a model's input.

use image::imageops;
use image::{Rgb, RgbImage};

use super::pillow::{self, Area};
use super::resample::{all_of, resample};
use super::settings::{Centre, Preprocess, Resize};
use crate::data::decode::{DecodeError, DecodeLimits, Reduced, decode_exactly, decode_reduced};
use crate::data::sample::RawPicture;

/// The colour with which [`Resize::Pad`] fills: the mean of ImageNet's photographs. It is a constant, and not the data
/// set's own mean, because pictures are resized before that is measured.
pub(super) const PAD_COLOUR: [u8; 3] = [124, 116, 104];

impl Preprocess {
    /// Decodes a picture and resizes it: what [`resize`](Self::resize) makes of it, within about 1 of 255 in the mean where
    /// it is so large that not all of it is decoded, which is never so with [`exact`](Self::exact).
    ///
    /// # Errors
    ///
    /// As [`decode`](crate::data::decode()).
    pub fn decode(
        &self,
        raw: &RawPicture<'_>,
        limits: &DecodeLimits,
    ) -> Result<RgbImage, DecodeError> {
        if self.exact {
            return decode_exactly(raw, limits).map(|whole| self.square_exactly(&whole));
        }
        let picture = decode_reduced(raw, limits, &|width, height| self.scale(width, height))?;
        Ok(
            match self.side() == self.image_size && self.is_of_size(&picture.pixels) {
                true => picture.pixels,
                false => self.square(&picture.pixels, picture.size, picture.part),
            },
        )
    }

    /// Decodes a picture and shrinks it for the cache of a training with random crops: its shorter side becomes at most
    /// twice `image_size`, so that a crop of a quarter of its area still has the full resolution. A picture is never
    /// enlarged, and its proportions stay.
    ///
    /// # Errors
    ///
    /// As [`decode`](crate::data::decode()).
    pub fn decode_for_crops(
        &self,
        raw: &RawPicture<'_>,
        limits: &DecodeLimits,
    ) -> Result<RgbImage, DecodeError> {
        if self.exact {
            let whole = decode_exactly(raw, limits)?;
            return Ok(self.shrink_for_crops(Reduced::whole(whole)));
        }
        let shorter = 2.0 * self.image_size as f64;
        let scale = |width: u32, height: u32| shorter / f64::from(width.min(height));
        decode_reduced(raw, limits, &scale).map(|picture| self.shrink_for_crops(picture))
    }

    /// Side to which pictures are resized before the middle is cut out.
    fn side(&self) -> usize {
        self.resize_to.unwrap_or(self.image_size)
    }

    /// Pixels of the result of [`resize`](Self::resize) for one of the picture's own, each way.
    fn scale(&self, width: u32, height: u32) -> f64 {
        let side = match self.resize {
            Resize::Squash | Resize::Crop | Resize::ShorterEdge => width.min(height),
            Resize::Pad | Resize::LongerEdge => width.max(height),
        };
        self.side() as f64 / f64::from(side)
    }

    fn is_of_size(&self, picture: &RgbImage) -> bool {
        let size = self.image_size as u32;
        picture.dimensions() == (size, size)
    }

    /// Resizes a picture to `image_size`² pixels. A picture that already has that size is taken for one that was resized
    /// before, and is returned unchanged.
    pub fn resize(&self, picture: &RgbImage) -> RgbImage {
        if self.is_of_size(picture) {
            return picture.clone();
        }
        match self.exact {
            true => self.square_exactly(picture),
            false => self.square(picture, picture.dimensions(), all_of(picture)),
        }
    }

    /// The size to which a picture is scaled before the middle is cut out, rounded as torchvision, timm and transformers
    /// round it.
    fn scaled(&self, width: u32, height: u32) -> (usize, usize) {
        let side = self.side();
        let (w, h) = (f64::from(width), f64::from(height));
        match self.resize {
            Resize::ShorterEdge => {
                let longer = |long: f64, short: f64| (side as f64 * long / short) as usize;
                match width <= height {
                    true => (side, longer(h, w)),
                    false => (longer(w, h), side),
                }
            }
            Resize::LongerEdge => {
                let ratio = (w / side as f64).max(h / side as f64);
                let of = |length: f64| ((length / ratio).round_ties_even() as usize).max(1);
                (of(w), of(h))
            }
            Resize::Pad => {
                let (w, h) = fit(width, height, side as u32, u32::max);
                (w as usize, h as usize)
            }
            Resize::Squash | Resize::Crop => (side, side),
        }
    }

    /// The colour of what a picture does not fill.
    fn ground(&self) -> [u8; 3] {
        match self.resize {
            Resize::Pad => PAD_COLOUR,
            Resize::LongerEdge => self.mean_colour(),
            Resize::Squash | Resize::Crop | Resize::ShorterEdge => [0; 3],
        }
    }

    /// Resizes a whole picture with Pillow's numbers.
    fn square_exactly(&self, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let part = match self.resize {
            Resize::Crop => {
                let side = width.min(height);
                [(width - side) / 2, (height - side) / 2, side, side]
            }
            _ => [0, 0, width, height],
        };
        let [left, top, part_width, part_height] = part.map(|length| length as usize);
        let to = self.scaled(width, height);
        let (x, y) = (self.middle(to.0), self.middle(to.1));
        let pixels = pillow::resize(
            picture,
            width as usize,
            Area {
                left,
                top,
                width: part_width,
                height: part_height,
            },
            to,
            Area {
                left: x.cut,
                top: y.cut,
                width: x.length,
                height: y.length,
            },
            self.filter,
        );
        let pixels = RgbImage::from_raw(x.length as u32, y.length as u32, pixels);
        self.on_ground(pixels.expect("three bytes for each pixel"), &x, &y)
    }

    /// Which of so many pixels are in the middle, and where these go.
    fn middle(&self, scaled: usize) -> Span {
        let size = self.image_size;
        if scaled <= size {
            return Span {
                cut: 0,
                length: scaled,
                at: (size - scaled) / 2,
            };
        }
        let (half, is_odd) = ((scaled - size) / 2, (scaled - size) % 2 == 1);
        let cut = match self.centre {
            Centre::Even if is_odd => half.next_multiple_of(2),
            Centre::Even | Centre::Down => half,
        };
        Span {
            cut,
            length: size,
            at: 0,
        }
    }

    fn on_ground(&self, pixels: RgbImage, x: &Span, y: &Span) -> RgbImage {
        if self.is_of_size(&pixels) {
            return pixels;
        }
        let size = self.image_size as u32;
        let mut square = RgbImage::from_pixel(size, size, Rgb(self.ground()));
        imageops::replace(&mut square, &pixels, x.at as i64, y.at as i64);
        square
    }

    /// Resizes the picture that is a part of `pixels`, and whose own size is `width` × `height`.
    fn square(&self, pixels: &RgbImage, (width, height): (u32, u32), part: [f64; 4]) -> RgbImage {
        let size = self.image_size as u32;
        let [left, top, part_width, part_height] = part;
        // Of one pixel of a picture of such a size.
        let pixel =
            |width: usize, height: usize| (part_width / width as f64, part_height / height as f64);
        match self.resize {
            Resize::Squash if self.side() == self.image_size => {
                self.stretch(pixels, part, (size, size))
            }
            Resize::Pad => {
                let (w, h) = self.scaled(width, height);
                let small = resample(pixels, part, (w as u32, h as u32), self.filter);
                self.on_ground(small, &self.middle(w), &self.middle(h))
            }
            Resize::Crop => {
                let side = width.min(height);
                let (x, y) = ((width - side) / 2, (height - side) / 2);
                let (across, down) = pixel(width as usize, height as usize);
                let (x, y, side) = (f64::from(x), f64::from(y), f64::from(side));
                let middle = [
                    left + x * across,
                    top + y * down,
                    side * across,
                    side * down,
                ];
                resample(pixels, middle, (size, size), self.filter)
            }
            Resize::Squash | Resize::ShorterEdge | Resize::LongerEdge => {
                let (w, h) = self.scaled(width, height);
                let (x, y) = (self.middle(w), self.middle(h));
                let (across, down) = pixel(w, h);
                let middle = [
                    left + x.cut as f64 * across,
                    top + y.cut as f64 * down,
                    x.length as f64 * across,
                    y.length as f64 * down,
                ];
                let to = (x.length as u32, y.length as u32);
                self.on_ground(self.stretch(pixels, middle, to), &x, &y)
            }
        }
    }

    /// Resizes a part of a picture in two steps where one would need too much memory.
    fn stretch(&self, pixels: &RgbImage, part: [f64; 4], to: (u32, u32)) -> RgbImage {
        // The filter scales the height first: of a very wide strip, that intermediate picture would be huge.
        if u64::from(pixels.width()) * u64::from(to.1) <= LARGEST_STEP {
            return resample(pixels, part, to, self.filter);
        }
        let [left, top, width, height] = part;
        let rows = pixels.height();
        let columns = [left, 0.0, width, f64::from(rows)];
        let narrow = resample(pixels, columns, (to.0, rows), self.filter);
        let rows = [0.0, top, f64::from(to.0), height];
        resample(&narrow, rows, to, self.filter)
    }

    pub(super) fn shrink_for_crops(&self, picture: Reduced) -> RgbImage {
        let (width, height) = picture.size;
        let shorter = 2 * self.image_size as u32;
        if width.min(height) <= shorter {
            return picture.pixels;
        }
        let to = fit(width, height, shorter, u32::min);
        resample(&picture.pixels, picture.part, to, self.filter)
    }

    /// Normalises pixels: `(value / 255 − mean) / std` in each channel.
    ///
    /// # Shapes
    ///
    /// `hwc_u8` is `[H, W, 3]`, 0 to 255; `out` is `[3, H, W]`; both row-major.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn normalise_into(&self, hwc_u8: &[u8], out: &mut [f32]) {
        assert_eq!(hwc_u8.len(), out.len(), "as many values out as in");
        let plane = out.len() / 3;
        let [red, green, blue] = [0, 1, 2].map(|c| {
            let scale = 1.0 / (255.0 * self.std[c]);
            (scale, -self.mean[c] / self.std[c])
        });
        let (r, rest) = out.split_at_mut(plane);
        let (g, b) = rest.split_at_mut(plane);
        for (((pixel, r), g), b) in hwc_u8.chunks_exact(3).zip(r).zip(g).zip(b) {
            *r = f32::from(pixel[0]) * red.0 + red.1;
            *g = f32::from(pixel[1]) * green.0 + green.1;
            *b = f32::from(pixel[2]) * blue.0 + blue.1;
        }
    }
}

/// Pixels along one axis that are cut out of a picture: the first and how many, and where they go.
struct Span {
    cut: usize,
    length: usize,
    at: usize,
}

/// Size of the largest intermediate picture that a resize may make, in pixels of three bytes: 192 MiB.
const LARGEST_STEP: u64 = 1 << 26;

/// The size of a picture scaled in proportion, so that the side which `side` selects (the longer or the shorter one) is
/// `length`; at least 1 pixel each way.
fn fit(width: u32, height: u32, length: u32, side: fn(u32, u32) -> u32) -> (u32, u32) {
    let chosen = f64::from(side(width, height));
    let scaled = |own: u32| ((f64::from(own) * f64::from(length) / chosen).round() as u32).max(1);
    (scaled(width), scaled(height))
}

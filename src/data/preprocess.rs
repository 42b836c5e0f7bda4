//! Resizing and normalisation, the same in training and inference.
//!
//! The settings are saved with the weights, so that inference sees pictures as training did. Nothing here is random:
//! random changes are in [`augment`](super::augment).

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::setting::{self, Invalid};

/// The colour with which [`Resize::Pad`] fills: the mean of ImageNet's photographs. It is a constant, and not the data
/// set's own mean, because pictures are resized before that is measured.
pub(super) const PAD_COLOUR: [u8; 3] = [124, 116, 104];

/// The largest side of a model's input, in pixels.
pub(super) const MAX_IMAGE_SIZE: usize = 4096;

/// How a picture that is not square becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Stretched or squeezed, without regard to its proportions.
    Squash,
    /// Cropped to the largest square in the middle.
    #[default]
    Crop,
    /// Padded with `PAD_COLOUR` on both sides.
    Pad,
}

/// How a decoded picture becomes a model's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// How pictures that are not square become square.
    pub resize: Resize,
    /// Mean of each channel, 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, 0 to 1.
    pub std: [f32; 3],
}

impl Preprocess {
    /// Checks the range of every field.
    ///
    /// # Errors
    ///
    /// [`Invalid`], which names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        setting::within("preprocess.image_size", self.image_size, 1..=MAX_IMAGE_SIZE)?;
        let three = |key, found: [f32; 3], allowed: fn(f32) -> bool, expected: &str| match found
            .into_iter()
            .all(allowed)
        {
            true => Ok(()),
            false => Err(Invalid::new(key, format!("{found:?}"), expected)),
        };
        three(
            "preprocess.mean",
            self.mean,
            |mean| (0.0..=1.0).contains(&mean),
            "three numbers from 0 to 1",
        )?;
        three(
            "preprocess.std",
            self.std,
            |std| std > 0.0 && std <= 1.0,
            "three numbers above 0, at most 1",
        )
    }

    /// Resizes a picture to `image_size`² pixels with a triangle filter: bilinear interpolation, antialiased when the
    /// picture shrinks. A picture that already has that size is returned unchanged.
    pub fn resize(&self, picture: &RgbImage) -> RgbImage {
        let size = self.image_size as u32;
        let (width, height) = picture.dimensions();
        match self.resize {
            _ if (width, height) == (size, size) => picture.clone(),
            Resize::Squash => {
                let all = (0, 0, width, height);
                // The filter scales the height first: of a very wide strip, that intermediate picture would be huge.
                if u64::from(width) * u64::from(size) > LARGEST_STEP {
                    let narrow = resample(picture, all, (size, height));
                    return resample(&narrow, (0, 0, size, height), (size, size));
                }
                resample(picture, all, (size, size))
            }
            Resize::Crop => {
                let side = width.min(height);
                let (x, y) = ((width - side) / 2, (height - side) / 2);
                resample(picture, (x, y, side, side), (size, size))
            }
            Resize::Pad => {
                let (w, h) = fit(width, height, size, u32::max);
                let small = resample(picture, (0, 0, width, height), (w, h));
                let mut square = RgbImage::from_pixel(size, size, Rgb(PAD_COLOUR));
                let (x, y) = ((size - w) / 2, (size - h) / 2);
                imageops::replace(&mut square, &small, i64::from(x), i64::from(y));
                square
            }
        }
    }

    /// Shrinks a picture for the cache of a training with random crops: its shorter side becomes at most twice
    /// `image_size`, so that a crop of a quarter of its area still has the full resolution. A picture is never enlarged,
    /// and its proportions stay.
    pub fn shrink_for_crops(&self, picture: RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let shorter = 2 * self.image_size as u32;
        if width.min(height) <= shorter {
            return picture;
        }
        resample(
            &picture,
            (0, 0, width, height),
            fit(width, height, shorter, u32::min),
        )
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

    /// The mean colour, rounded to bytes: the colour that normalises to zero.
    pub fn mean_colour(&self) -> [u8; 3] {
        self.mean.map(|mean| (mean * 255.0).round() as u8)
    }
}

/// Size of the largest intermediate picture that a resize may make, in pixels of four f32 values: 1 GiB.
const LARGEST_STEP: u64 = 1 << 26;

/// Resizes the part `(x, y, width, height)` of a picture to `(width, height)` with a triangle filter.
pub(super) fn resample(
    picture: &RgbImage,
    (x, y, w, h): (u32, u32, u32, u32),
    to: (u32, u32),
) -> RgbImage {
    let part = imageops::crop_imm(picture, x, y, w, h);
    imageops::resize(&*part, to.0, to.1, FilterType::Triangle)
}

/// The size of a picture scaled in proportion, so that the side which `side` selects (the longer or the shorter one) is
/// `length`; at least 1 pixel each way.
fn fit(width: u32, height: u32, length: u32, side: fn(u32, u32) -> u32) -> (u32, u32) {
    let chosen = f64::from(side(width, height));
    let scaled = |own: u32| ((f64::from(own) * f64::from(length) / chosen).round() as u32).max(1);
    (scaled(width), scaled(height))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn preprocess(image_size: usize, resize: Resize) -> Preprocess {
        Preprocess {
            image_size,
            resize,
            mean: [0.25, 0.5, 0.75],
            std: [0.5, 0.25, 0.125],
        }
    }

    #[test]
    fn a_long_strip_is_squashed_in_two_steps() {
        let strip = halves(300_000, 2);
        let squashed = preprocess(256, Resize::Squash).resize(&strip);
        assert_eq!(squashed.dimensions(), (256, 256));
        for (x, colour) in [(0, [200, 0, 0]), (255, [0, 0, 200])] {
            assert_eq!(squashed.get_pixel(x, 128).0, colour);
        }
    }

    /// Left half red, right half blue.
    fn halves(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, _| {
            if x < width / 2 {
                Rgb([200, 0, 0])
            } else {
                Rgb([0, 0, 200])
            }
        })
    }

    #[test]
    fn every_policy_gives_the_square() {
        for resize in [Resize::Squash, Resize::Crop, Resize::Pad] {
            for (width, height) in [
                (13, 24),
                (24, 13),
                (7, 7),
                (1, 1),
                (1, 500),
                (500, 1),
                (32, 32),
            ] {
                let square = preprocess(13, resize).resize(&halves(width, height));
                assert_eq!(square.dimensions(), (13, 13), "{resize:?} {width}x{height}");
            }
        }
    }

    #[test]
    fn the_right_size_stays_as_it_is() {
        let picture = halves(13, 13);
        for resize in [Resize::Squash, Resize::Crop, Resize::Pad] {
            assert_eq!(preprocess(13, resize).resize(&picture), picture);
        }
    }

    #[test]
    fn one_colour_stays_one_colour() {
        let picture = RgbImage::from_pixel(31, 17, Rgb([3, 130, 255]));
        for resize in [Resize::Squash, Resize::Crop] {
            let square = preprocess(8, resize).resize(&picture);
            assert!(square.pixels().all(|p| p.0 == [3, 130, 255]));
        }
    }

    #[test]
    fn crop_takes_the_middle() {
        // Three squares beside each other: only the middle one, green, is left.
        let picture = RgbImage::from_fn(30, 10, |x, _| {
            if (10..20).contains(&x) {
                Rgb([0, 255, 0])
            } else {
                Rgb([255, 0, 0])
            }
        });
        let square = preprocess(5, Resize::Crop).resize(&picture);
        assert!(square.pixels().all(|p| p.0 == [0, 255, 0]));
    }

    #[test]
    fn pad_keeps_everything_between_bars() {
        let square = preprocess(8, Resize::Pad).resize(&halves(40, 20));
        assert_eq!(square.get_pixel(0, 0).0, PAD_COLOUR);
        assert_eq!(square.get_pixel(7, 1).0, PAD_COLOUR);
        assert_eq!(square.get_pixel(0, 2).0, [200, 0, 0]);
        assert_eq!(square.get_pixel(7, 5).0, [0, 0, 200]);
        assert_eq!(square.get_pixel(3, 6).0, PAD_COLOUR);
    }

    #[test]
    fn shrinking_averages_and_does_not_alias() {
        let board = RgbImage::from_fn(64, 64, |x, y| {
            Rgb([if (x + y) % 2 == 0 { 0 } else { 254 }; 3])
        });
        let square = preprocess(7, Resize::Squash).resize(&board);
        assert!(
            square.iter().all(|v| (117..=137).contains(v)),
            "{:?}",
            square.as_raw()
        );
    }

    #[test]
    fn pictures_for_crops_keep_their_shape() {
        let preprocess = preprocess(8, Resize::Crop);
        assert_eq!(
            preprocess.shrink_for_crops(halves(320, 160)).dimensions(),
            (32, 16)
        );
        assert_eq!(
            preprocess.shrink_for_crops(halves(15, 40)).dimensions(),
            (15, 40)
        );
        assert_eq!(
            preprocess.shrink_for_crops(halves(1, 9000)).dimensions(),
            (1, 9000)
        );
    }

    #[test]
    fn normalising_is_planar() {
        let preprocess = preprocess(2, Resize::Crop);
        let mut out = [0.0; 6];
        preprocess.normalise_into(&[0, 0, 0, 255, 255, 255], &mut out);
        let expected = [-0.5, 1.5, -2.0, 2.0, -6.0, 2.0];
        for (found, expected) in out.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{out:?}");
        }
        preprocess.normalise_into(
            &[preprocess.mean_colour(), preprocess.mean_colour()].concat(),
            &mut out,
        );
        assert!(out.iter().all(|v| v.abs() < 0.02), "{out:?}");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let good = preprocess(8, Resize::Pad);
        assert_eq!(good.validate(), Ok(()));
        let bad = |change: fn(&mut Preprocess)| {
            let mut preprocess = good.clone();
            change(&mut preprocess);
            preprocess.validate().unwrap_err().to_string()
        };
        assert_eq!(
            bad(|p| p.image_size = 0),
            "preprocess.image_size is 0: expected 1 to 4096"
        );
        assert!(
            bad(|p| p.mean[1] = f32::NAN)
                .starts_with("preprocess.mean is [0.25, NaN, 0.75]: expected ")
        );
        assert!(bad(|p| p.std[2] = 0.0).starts_with("preprocess.std is "));
    }
}

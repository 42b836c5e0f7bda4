//! Resizing and normalisation, the same in training and inference.
//!
//! The settings are saved with the weights, so that inference sees pictures as training did. Nothing here is random:
//! random changes are in [`augment`](super::augment).

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::imageops;
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use super::decode::{DecodeError, DecodeLimits, Reduced, decode_reduced};
use super::sample::RawPicture;
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

    /// Decodes a picture and resizes it: what [`resize`](Self::resize) makes of it, within about 1 of 255 in the mean where
    /// it is so large that not all of it is decoded.
    ///
    /// # Errors
    ///
    /// As [`decode`](super::decode()).
    pub fn decode(
        &self,
        raw: &RawPicture<'_>,
        limits: &DecodeLimits,
    ) -> Result<RgbImage, DecodeError> {
        let picture = decode_reduced(raw, limits, &|width, height| self.scale(width, height))?;
        Ok(match self.is_of_size(&picture.pixels) {
            true => picture.pixels,
            false => self.square(&picture.pixels, picture.size, picture.part),
        })
    }

    /// Decodes a picture and shrinks it for the cache of a training with random crops: its shorter side becomes at most
    /// twice `image_size`, so that a crop of a quarter of its area still has the full resolution. A picture is never
    /// enlarged, and its proportions stay.
    ///
    /// # Errors
    ///
    /// As [`decode`](super::decode()).
    pub fn decode_for_crops(
        &self,
        raw: &RawPicture<'_>,
        limits: &DecodeLimits,
    ) -> Result<RgbImage, DecodeError> {
        let shorter = 2.0 * self.image_size as f64;
        let scale = |width: u32, height: u32| shorter / f64::from(width.min(height));
        decode_reduced(raw, limits, &scale).map(|picture| self.shrink_for_crops(picture))
    }

    /// Pixels of the result of [`resize`](Self::resize) for one of the picture's own, each way.
    fn scale(&self, width: u32, height: u32) -> f64 {
        let side = match self.resize {
            Resize::Squash | Resize::Crop => width.min(height),
            Resize::Pad => width.max(height),
        };
        self.image_size as f64 / f64::from(side)
    }

    fn is_of_size(&self, picture: &RgbImage) -> bool {
        let size = self.image_size as u32;
        picture.dimensions() == (size, size)
    }

    /// Resizes a picture to `image_size`² pixels with a triangle filter: bilinear interpolation, antialiased when the
    /// picture shrinks, as Pillow's `BILINEAR`. A picture that already has that size is returned unchanged.
    pub fn resize(&self, picture: &RgbImage) -> RgbImage {
        if self.is_of_size(picture) {
            return picture.clone();
        }
        self.square(picture, picture.dimensions(), all_of(picture))
    }

    /// Resizes the picture that is a part of `pixels`, and whose own size is `width` × `height`.
    fn square(&self, pixels: &RgbImage, (width, height): (u32, u32), part: [f64; 4]) -> RgbImage {
        let size = self.image_size as u32;
        let [left, top, part_width, part_height] = part;
        match self.resize {
            Resize::Squash => {
                // The filter scales the height first: of a very wide strip, that intermediate picture would be huge.
                if u64::from(pixels.width()) * u64::from(size) > LARGEST_STEP {
                    let narrow = resample(
                        pixels,
                        [left, 0.0, part_width, f64::from(pixels.height())],
                        (size, pixels.height()),
                    );
                    return resample(
                        &narrow,
                        [0.0, top, f64::from(size), part_height],
                        (size, size),
                    );
                }
                resample(pixels, part, (size, size))
            }
            Resize::Crop => {
                let side = width.min(height);
                let (x, y) = ((width - side) / 2, (height - side) / 2);
                // Of one pixel of the picture.
                let (across, down) = (
                    part_width / f64::from(width),
                    part_height / f64::from(height),
                );
                let (x, y, side) = (f64::from(x), f64::from(y), f64::from(side));
                let middle = [
                    left + x * across,
                    top + y * down,
                    side * across,
                    side * down,
                ];
                resample(pixels, middle, (size, size))
            }
            Resize::Pad => {
                let (w, h) = fit(width, height, size, u32::max);
                let small = resample(pixels, part, (w, h));
                let mut square = RgbImage::from_pixel(size, size, Rgb(PAD_COLOUR));
                let (x, y) = ((size - w) / 2, (size - h) / 2);
                imageops::replace(&mut square, &small, i64::from(x), i64::from(y));
                square
            }
        }
    }

    fn shrink_for_crops(&self, picture: Reduced) -> RgbImage {
        let (width, height) = picture.size;
        let shorter = 2 * self.image_size as u32;
        if width.min(height) <= shorter {
            return picture.pixels;
        }
        let to = fit(width, height, shorter, u32::min);
        resample(&picture.pixels, picture.part, to)
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

/// Size of the largest intermediate picture that a resize may make, in pixels of three bytes: 192 MiB.
const LARGEST_STEP: u64 = 1 << 26;

/// Resizes a part of a picture (left, top, width, height) to `(width, height)` with a triangle filter.
pub(super) fn resample(
    picture: &RgbImage,
    [left, top, width, height]: [f64; 4],
    to: (u32, u32),
) -> RgbImage {
    // Pixels beside the part have no influence, but for those of which some is within.
    let within = |start: f64, length: f64, of: u32| {
        let first = (start as u32).min(of - 1);
        let end = ((start + length).ceil() as u32).clamp(first + 1, of);
        let start = start - f64::from(first);
        // A sum of rounded numbers may exceed the picture by their error.
        let length = length.min(f64::from(end - first) - start);
        (first, end - first, start, length)
    };
    let (x, columns, left, width) = within(left, width, picture.width());
    let (y, rows, top, height) = within(top, height, picture.height());
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left, top, width, height);
    let mut resized = RgbImage::new(to.0, to.1);
    let from = TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture);
    let from = from.expect("three bytes for each pixel");
    let from = TypedCroppedImage::new(from, x, y, columns, rows).expect("within the picture");
    let into = TypedImage::<U8x3>::from_buffer(to.0, to.1, &mut resized);
    let mut into = into.expect("three bytes for each pixel");
    Resizer::new()
        .resize_typed(&from, &mut into, &options)
        .expect("a part of the picture");
    resized
}

/// All of a picture, for [`resample`].
pub(super) fn all_of(picture: &RgbImage) -> [f64; 4] {
    [
        0.0,
        0.0,
        f64::from(picture.width()),
        f64::from(picture.height()),
    ]
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
    use std::fs;
    use std::path::Path;

    use super::super::decode::decode;
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
        let shrink =
            |width, height| preprocess.shrink_for_crops(Reduced::whole(halves(width, height)));
        assert_eq!(shrink(320, 160).dimensions(), (32, 16));
        assert_eq!(shrink(15, 40).dimensions(), (15, 40));
        assert_eq!(shrink(1, 9000).dimensions(), (1, 9000));
    }

    /// What Pillow's `crop` and `resize(…, BILINEAR)` make of a picture.
    #[test]
    #[rustfmt::skip]
    fn pictures_are_resized_as_by_pillow() {
        let picture = RgbImage::from_fn(11, 7, |x, y| {
            Rgb([0, 1, 2].map(|c| (x * 37 + y * 59 + c * 83 + x * y * 5) as u8))
        });
        type Case<'a> = ([f64; 4], (u32, u32), &'a [u8]);
        let cases: [Case<'_>; 6] = [
            ([0.0, 0.0, 11.0, 7.0], (4, 3), &[93, 153, 121, 130, 118, 114, 111, 118, 121, 124, 115, 136, 137, 116, 120, 112, 127, 127, 129, 114, 129, 130, 114, 142, 126, 162, 96, 127, 126, 112, 133, 125, 120, 115, 118, 143]),
            ([0.0, 0.0, 11.0, 7.0], (1, 1), &[123, 123, 124]),
            ([0.0, 0.0, 11.0, 7.0], (11, 3), &[51, 134, 162, 92, 175, 93, 133, 161, 135, 120, 93, 84, 161, 134, 126, 92, 84, 112, 134, 125, 153, 84, 112, 85, 125, 153, 126, 111, 85, 168, 153, 126, 117, 162, 79, 102, 154, 131, 124, 100, 123, 116, 92, 145, 168, 129, 137, 114, 106, 83, 91, 158, 135, 143, 104, 112, 120, 141, 104, 172, 133, 141, 118, 125, 87, 155, 102, 130, 122, 110, 193, 75, 173, 164, 83, 144, 117, 146, 97, 125, 117, 105, 97, 70, 168, 159, 133, 139, 112, 140, 92, 120, 112, 155, 91, 174, 71, 154, 127]),
            ([0.0, 0.0, 11.0, 7.0], (3, 7), &[61, 144, 161, 141, 106, 107, 75, 136, 167, 129, 146, 90, 107, 108, 135, 153, 112, 85, 130, 147, 106, 109, 136, 101, 130, 103, 164, 132, 90, 151, 137, 102, 135, 121, 131, 140, 126, 136, 109, 103, 123, 131, 148, 92, 131, 120, 159, 103, 124, 145, 97, 110, 149, 159, 143, 160, 97, 146, 98, 118, 116, 104, 121]),
            ([0.0, 0.0, 11.0, 7.0], (7, 9), &[15, 98, 181, 70, 153, 193, 125, 208, 51, 185, 66, 95, 101, 72, 155, 44, 127, 210, 99, 182, 112, 56, 139, 153, 115, 170, 96, 176, 99, 91, 106, 86, 151, 88, 133, 120, 111, 146, 106, 170, 83, 115, 103, 186, 98, 150, 146, 79, 128, 71, 145, 80, 133, 127, 122, 141, 94, 156, 118, 98, 140, 81, 164, 151, 177, 61, 148, 104, 132, 50, 121, 179, 116, 154, 68, 162, 108, 104, 153, 92, 159, 81, 130, 190, 198, 25, 108, 90, 102, 185, 97, 180, 151, 181, 62, 91, 122, 93, 176, 87, 170, 182, 164, 94, 74, 165, 72, 155, 88, 156, 95, 155, 151, 97, 89, 85, 156, 106, 152, 136, 164, 81, 115, 128, 97, 157, 105, 120, 146, 126, 185, 67, 152, 114, 124, 80, 139, 109, 144, 149, 113, 123, 88, 152, 120, 157, 155, 84, 167, 96, 165, 172, 89, 119, 111, 146, 121, 137, 67, 166, 126, 129, 92, 122, 158, 107, 155, 136, 125, 208, 35, 182, 123, 135, 84, 151, 122, 177, 58, 87, 142, 113, 180, 129, 141, 82, 76, 56, 139]),
            ([2.0, 1.0, 7.0, 5.0], (3, 2), &[115, 106, 138, 109, 122, 117, 140, 125, 116, 130, 151, 110, 111, 121, 118, 126, 115, 133]),
        ];
        for (part, size, expected) in cases {
            let resized = resample(&picture, part, size);
            assert_eq!(resized.dimensions(), size);
            for (found, expected) in resized.iter().zip(expected) {
                assert!(found.abs_diff(*expected) <= 1, "{size:?}: {:?}", resized.as_raw());
            }
        }
    }

    /// The pictures of `tests/fixtures/photographs`, which `tests/support/pictures/photographs.py` wrote: 301x203.
    fn photographs() -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/photographs");
        let files = fs::read_dir(folder).unwrap();
        files
            .map(|file| file.unwrap().path())
            .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
            .collect()
    }

    /// The mean and the largest difference.
    fn differences(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
        assert_eq!(a.dimensions(), b.dimensions());
        let each = || a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b));
        let sum: u64 = each().map(u64::from).sum();
        (sum as f64 / a.len() as f64, each().max().unwrap())
    }

    fn whole(bytes: &[u8]) -> RgbImage {
        let raw = RawPicture::Encoded(bytes.into());
        decode(&raw, &DecodeLimits::default()).unwrap()
    }

    fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
        [
            &jpeg[..2],
            exif,
            &[orientation, 0, 0, 0, 0, 0, 0],
            &jpeg[2..],
        ]
        .concat()
    }

    /// At every scale: where the next one would be used if the size were a pixel larger, and the difference is largest, and
    /// far from there.
    #[test]
    fn photographs_are_resized_as_if_all_of_them_were_decoded() {
        let limits = DecodeLimits::default();
        let mut furthest = (0.0_f64, 0);
        for (name, bytes) in photographs() {
            // All eight ways to turn a picture are one picture's.
            let (orientations, sizes) = match name.ends_with("420.jpg") {
                true => (1..=8, &[16, 50][..]),
                false => (1..=1, &[5, 8, 12, 16, 25, 33, 50, 60, 67][..]),
            };
            for orientation in orientations {
                let bytes = turned(&bytes, orientation);
                let (raw, whole) = (RawPicture::Encoded(bytes[..].into()), whole(&bytes));
                for policy in [Resize::Squash, Resize::Crop, Resize::Pad] {
                    for &size in sizes {
                        let preprocess = preprocess(size, policy);
                        let decoded = preprocess.decode(&raw, &limits).unwrap();
                        let (mean, most) = differences(&decoded, &preprocess.resize(&whole));
                        assert!(
                            mean <= 1.25 && most <= 16,
                            "{name}, {orientation}, {policy:?}, {size}: {mean:.2} and {most}"
                        );
                        furthest = (furthest.0.max(mean), furthest.1.max(most));
                    }
                }
                let larger = preprocess(68, Resize::Crop);
                assert_eq!(larger.decode(&raw, &limits).unwrap(), larger.resize(&whole));
                let crops = preprocess(12, Resize::Crop);
                let decoded = crops.decode_for_crops(&raw, &limits).unwrap();
                let shrunk = crops.shrink_for_crops(Reduced::whole(whole));
                let (mean, most) = differences(&decoded, &shrunk);
                assert!(mean <= 1.25 && most <= 16, "{name}: {mean:.2} and {most}");
            }
        }
        // Not all of every picture was decoded.
        assert!(furthest.0 > 0.3, "{furthest:?}");
    }

    #[test]
    fn of_a_large_photograph_only_a_part_is_decoded() {
        let (_, bytes) = &photographs()[0];
        let raw = RawPicture::Encoded(bytes[..].into());
        let of = |scale: f64| {
            let reduced = decode_reduced(&raw, &DecodeLimits::default(), &|_, _| scale).unwrap();
            assert_eq!(reduced.size, (301, 203));
            reduced.pixels.dimensions()
        };
        assert_eq!(of(1.0 / 12.0), (38, 26));
        assert_eq!(of(1.0 / 11.9), (76, 51));
        assert_eq!(of(1.0 / 3.0), (151, 102));
        assert_eq!(of(1.0 / 2.9), (301, 203));
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

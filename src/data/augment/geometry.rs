//! Crops, flips and random erasing.

use image::{Rgb, RgbImage, imageops};
use rand::{Rng, RngExt};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::seeded::uniform;
use crate::data::preprocess::{Filter, resample};

/// A random crop of the picture padded by `padding` pixels of colour `fill` (He et al. 2016, § 4.2): the picture shifted
/// by up to `padding` pixels in each direction.
pub(super) fn padded_crop(
    picture: &RgbImage,
    padding: usize,
    fill: [u8; 3],
    rng: &mut Xoshiro256PlusPlus,
) -> RgbImage {
    let padding = i32::try_from(padding).unwrap_or(i32::MAX / 2);
    let (dx, dy) = (
        rng.random_range(-padding..=padding),
        rng.random_range(-padding..=padding),
    );
    let (width, height) = picture.dimensions();
    let mut shifted = RgbImage::from_pixel(width, height, Rgb(fill));
    // The length of each row that remains, and where it starts in the source and in the result.
    let left = width.saturating_sub(dx.unsigned_abs());
    let (from, to) = (dx.min(0).unsigned_abs(), dx.max(0).unsigned_abs());
    let bytes = |row: u32, column: u32| {
        let start = 3 * (row as usize * width as usize + column as usize);
        start..start + 3 * left as usize
    };
    for row in 0..height {
        let source = row
            .checked_add_signed(-dy)
            .filter(|&source| source < height);
        if let (Some(source), true) = (source, left > 0) {
            (*shifted)[bytes(row, to)].copy_from_slice(&(**picture)[bytes(source, from)]);
        }
    }
    shifted
}

/// Mirrors a picture left to right.
pub(super) fn flip(picture: &mut RgbImage) {
    imageops::flip_horizontal_in_place(picture);
}

/// A crop of random area, place and aspect ratio, resized to `size`² pixels (Szegedy et al. 2015, § 6). Its area is a
/// fraction of the picture's, uniform in `scale`; its aspect ratio is between 3:4 and 4:3, uniform in the logarithm. When
/// ten draws do not fit, it is the largest centred crop within those ratios, as in torchvision.
pub(super) fn random_resized_crop(
    picture: &RgbImage,
    size: usize,
    scale: [f32; 2],
    filter: Filter,
    rng: &mut Xoshiro256PlusPlus,
) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (x, y, w, h) = crop_box(width, height, scale, rng);
    resample(
        picture,
        [x, y, w, h].map(f64::from),
        (size as u32, size as u32),
        filter,
    )
}

const ASPECTS: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

fn crop_box(
    width: u32,
    height: u32,
    scale: [f32; 2],
    rng: &mut Xoshiro256PlusPlus,
) -> (u32, u32, u32, u32) {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * uniform(rng, f64::from(scale[0]), f64::from(scale[1]));
        let aspect = uniform(rng, ASPECTS.0.ln(), ASPECTS.1.ln()).exp();
        let w = (target * aspect).sqrt().round() as u32;
        let h = (target / aspect).sqrt().round() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return (
                rng.random_range(0..=width - w),
                rng.random_range(0..=height - h),
                w,
                h,
            );
        }
    }
    let aspect = (f64::from(width) / f64::from(height)).clamp(ASPECTS.0, ASPECTS.1);
    let w = ((f64::from(height) * aspect).round() as u32).clamp(1, width);
    let h = ((f64::from(width) / aspect).round() as u32).clamp(1, height);
    ((width - w) / 2, (height - h) / 2, w, h)
}

/// Range of the erased area, as a fraction of the picture's, and of its aspect ratio (Zhong et al. 2020, § 5.1).
const ERASED_AREA: (f64, f64) = (0.02, 0.4);
const ERASED_ASPECT: (f64, f64) = (0.3, 1.0 / 0.3);

/// With `probability`, fills a random rectangle with random bytes (Zhong et al. 2020, Algorithm 1). When ten draws do not
/// fit, the picture stays whole; the paper draws until one fits. The aspect ratio is uniform in its logarithm, so that
/// tall and wide rectangles are equally frequent, as in torchvision.
pub(super) fn erase(picture: &mut RgbImage, probability: f32, rng: &mut Xoshiro256PlusPlus) {
    if rng.random::<f32>() >= probability {
        return;
    }
    let (width, height) = picture.dimensions();
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * uniform(rng, ERASED_AREA.0, ERASED_AREA.1);
        let aspect = uniform(rng, ERASED_ASPECT.0.ln(), ERASED_ASPECT.1.ln()).exp();
        let w = (target * aspect).sqrt().round() as u32;
        let h = (target / aspect).sqrt().round() as u32;
        if !(1..width).contains(&w) || !(1..height).contains(&h) {
            continue;
        }
        let (x, y) = (
            rng.random_range(0..=width - w),
            rng.random_range(0..=height - h),
        );
        let stride = 3 * width as usize;
        for row in picture
            .chunks_exact_mut(stride)
            .skip(y as usize)
            .take(h as usize)
        {
            rng.fill_bytes(&mut row[3 * x as usize..3 * (x + w) as usize]);
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::super::seeded::{Purpose, generator};
    use super::*;

    fn rng(index: usize) -> Xoshiro256PlusPlus {
        generator(11, Purpose::Picture, 0, index)
    }

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8 + 1, y as u8 + 1, 1]))
    }

    #[test]
    fn padded_crops_shift_within_the_padding() {
        let mut shifts = std::collections::BTreeSet::new();
        for index in 0..200 {
            let shifted = padded_crop(&picture(9, 7), 2, [0, 0, 0], &mut rng(index));
            assert_eq!(shifted.dimensions(), (9, 7));
            // The middle is always from inside, and says by how much it moved.
            let [x, y, _] = shifted.get_pixel(4, 3).0;
            let (dx, dy) = (5 - i32::from(x), 4 - i32::from(y));
            assert!(dx.abs() <= 2 && dy.abs() <= 2);
            shifts.insert((dx, dy));
            for (px, py, pixel) in shifted.enumerate_pixels() {
                let (sx, sy) = (px as i32 - dx, py as i32 - dy);
                let inside = (0..9).contains(&sx) && (0..7).contains(&sy);
                let expected = if inside {
                    [sx as u8 + 1, sy as u8 + 1, 1]
                } else {
                    [0, 0, 0]
                };
                assert_eq!(pixel.0, expected);
            }
        }
        assert_eq!(shifts.len(), 25, "every shift occurs");
    }

    #[test]
    fn flipping_twice_is_nothing() {
        let mut flipped = picture(5, 3);
        flip(&mut flipped);
        assert_eq!(flipped.get_pixel(0, 0).0, [5, 1, 1]);
        flip(&mut flipped);
        assert_eq!(flipped, picture(5, 3));
    }

    #[test]
    fn resized_crops_keep_to_scale_and_shape() {
        for index in 0..300 {
            let (x, y, w, h) = crop_box(200, 150, [0.3, 0.6], &mut rng(index));
            assert!(x + w <= 200 && y + h <= 150);
            let area = f64::from(w * h) / 30_000.0;
            assert!((0.29..=0.61).contains(&area), "{area}");
            assert!((0.74..=1.35).contains(&(f64::from(w) / f64::from(h))));
        }
        for (width, height) in [(1, 1), (1, 400), (400, 1), (13, 24)] {
            for index in 0..50 {
                let (x, y, w, h) = crop_box(width, height, [0.9, 1.0], &mut rng(index));
                assert!(w >= 1 && h >= 1 && x + w <= width && y + h <= height);
            }
        }
        assert_eq!(
            random_resized_crop(
                &picture(40, 20),
                7,
                [0.1, 1.0],
                Filter::Bilinear,
                &mut rng(0)
            )
            .dimensions(),
            (7, 7)
        );
    }

    #[test]
    fn erasing_takes_one_rectangle() {
        let blank = RgbImage::new(20, 16);
        let mut erased = 0;
        for index in 0..200 {
            let mut picture = blank.clone();
            erase(&mut picture, 0.5, &mut rng(index));
            let hit: Vec<(u32, u32)> = picture
                .enumerate_pixels()
                .filter(|(_, _, p)| p.0 != [0; 3])
                .map(|(x, y, _)| (x, y))
                .collect();
            if hit.is_empty() {
                continue;
            }
            erased += 1;
            let span = |values: &dyn Fn(&(u32, u32)) -> u32| {
                let min = hit.iter().map(values).min().unwrap_or(0);
                let max = hit.iter().map(values).max().unwrap_or(0);
                max - min + 1
            };
            let rectangle = span(&|p| p.0) * span(&|p| p.1);
            assert_eq!(
                hit.len() as u32,
                rectangle,
                "nothing outside, nothing left inside"
            );
            assert!((4..=140).contains(&rectangle), "{rectangle} of 320");
        }
        assert!((70..=130).contains(&erased), "{erased} of 200");
        let mut tiny = RgbImage::new(1, 1);
        erase(&mut tiny, 1.0, &mut rng(0));
        assert_eq!(tiny, RgbImage::new(1, 1));
    }
}

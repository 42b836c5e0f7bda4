//! TrivialAugment and RandAugment: the fourteen operations, and how they are drawn.
//!
//! The operations are AutoAugment's (Cubuk et al. 2019, Table 6), as Pillow computes them: shears are about the top left
//! corner, rotations about the centre, with nearest-neighbour sampling. Two differences: pixels from outside the picture
//! have the mean colour, which normalises to zero, where the papers' code has black or grey; and solarize at strength 0
//! changes nothing, where torchvision's turns pure white black.

use image::{Rgb, RgbImage};
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::seeded::coin;

/// The operations, in the order of both papers' tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

const OPS: [Op; 14] = [
    Op::Identity,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
    Op::Rotate,
    Op::Brightness,
    Op::Color,
    Op::Contrast,
    Op::Sharpness,
    Op::Posterize,
    Op::Solarize,
    Op::AutoContrast,
    Op::Equalize,
];

/// The strength of each kind of operation at the top of the scale.
struct Space {
    /// Shift per pixel of distance from the axis.
    shear: f32,
    /// Pixels.
    translate: f32,
    /// Degrees.
    rotate: f32,
    /// Largest difference of the factor of brightness, colour, contrast and sharpness from 1.
    enhance: f32,
    /// Number of bits that posterize removes.
    posterize: f32,
}

/// Applies one random operation, at a strength uniform over 31 levels (Müller & Hutter 2021, Algorithm 1, the "wide"
/// space of Table 4).
pub(super) fn trivial_augment(picture: &mut RgbImage, fill: [u8; 3], rng: &mut Xoshiro256PlusPlus) {
    let wide = Space {
        shear: 0.99,
        translate: 32.0,
        rotate: 135.0,
        enhance: 0.99,
        posterize: 6.0,
    };
    let op = draw(rng);
    let strength = f32::from(rng.random_range(0..=30u8)) / 30.0;
    apply(op, strength, &wide, picture, fill, rng);
}

/// Applies `ops` random operations, each at strength `magnitude`/30 (Cubuk et al. 2020, § 3); ranges as in torchvision.
pub(super) fn rand_augment(
    picture: &mut RgbImage,
    ops: usize,
    magnitude: u8,
    fill: [u8; 3],
    rng: &mut Xoshiro256PlusPlus,
) {
    let space = Space {
        shear: 0.3,
        translate: 150.0 / 331.0 * picture.width() as f32,
        rotate: 30.0,
        enhance: 0.9,
        posterize: 4.0,
    };
    for _ in 0..ops {
        let op = draw(rng);
        apply(op, f32::from(magnitude) / 30.0, &space, picture, fill, rng);
    }
}

fn draw(rng: &mut Xoshiro256PlusPlus) -> Op {
    OPS[rng.random_range(0..OPS.len())]
}

/// Applies one operation at `strength`, 0 to 1; the direction is random for those that have two.
fn apply(
    op: Op,
    strength: f32,
    space: &Space,
    picture: &mut RgbImage,
    fill: [u8; 3],
    rng: &mut Xoshiro256PlusPlus,
) {
    let sign = if coin(rng) { 1.0 } else { -1.0 };
    let signed = |top: f32| sign * strength * top;
    match op {
        Op::Identity => {}
        Op::ShearX => affine(
            picture,
            [1.0, signed(space.shear), 0.0, 0.0, 1.0, 0.0],
            fill,
        ),
        Op::ShearY => affine(
            picture,
            [1.0, 0.0, 0.0, signed(space.shear), 1.0, 0.0],
            fill,
        ),
        Op::TranslateX => affine(
            picture,
            [1.0, 0.0, signed(space.translate).round(), 0.0, 1.0, 0.0],
            fill,
        ),
        Op::TranslateY => affine(
            picture,
            [1.0, 0.0, 0.0, 0.0, 1.0, signed(space.translate).round()],
            fill,
        ),
        Op::Rotate => rotate(picture, signed(space.rotate), fill),
        Op::Brightness => per_value(picture, |value| mix(value, 0, 1.0 + signed(space.enhance))),
        Op::Color => desaturate(picture, 1.0 + signed(space.enhance)),
        Op::Contrast => {
            let mean = mean_luma(picture);
            per_value(picture, |value| {
                mix(value, mean, 1.0 + signed(space.enhance))
            });
        }
        Op::Sharpness => sharpen(picture, 1.0 + signed(space.enhance)),
        Op::Posterize => {
            let mask = 0xff_u8 << (strength * space.posterize).round() as u32;
            per_value(picture, |value| value & mask);
        }
        Op::Solarize => {
            let threshold = 256.0 * (1.0 - strength);
            let bright = |value: u8| f32::from(value) >= threshold;
            per_value(
                picture,
                |value| if bright(value) { 255 - value } else { value },
            );
        }
        Op::AutoContrast => per_channel(picture, stretch_table),
        Op::Equalize => per_channel(picture, equalize_table),
    }
}

/// Takes each pixel from where the matrix `[a, b, c, d, e, f]` maps its centre: `(a·x + b·y + c, d·x + e·y + f)`.
fn affine(picture: &mut RgbImage, [a, b, c, d, e, f]: [f32; 6], fill: [u8; 3]) {
    let source = picture.clone();
    let (width, height) = (source.width() as f32, source.height() as f32);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
        let (sx, sy) = ((a * x + b * y + c).floor(), (d * x + e * y + f).floor());
        let inside = sx >= 0.0 && sy >= 0.0 && sx < width && sy < height;
        *pixel = if inside {
            *source.get_pixel(sx as u32, sy as u32)
        } else {
            Rgb(fill)
        };
    }
}

fn rotate(picture: &mut RgbImage, degrees: f32, fill: [u8; 3]) {
    if degrees == 0.0 {
        return;
    }
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (cx, cy) = (picture.width() as f32 / 2.0, picture.height() as f32 / 2.0);
    let matrix = [
        cos,
        sin,
        cx - cos * cx - sin * cy,
        -sin,
        cos,
        cy + sin * cx - cos * cy,
    ];
    affine(picture, matrix, fill);
}

/// Applies `change` to each value.
fn per_value(picture: &mut RgbImage, change: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|value| change(value as u8));
    for value in picture.iter_mut() {
        *value = table[usize::from(*value)];
    }
}

/// Blends each pixel with its luma: factor 0 is grey, 1 the picture itself.
fn desaturate(picture: &mut RgbImage, factor: f32) {
    for pixel in picture.pixels_mut() {
        let grey = luma(pixel.0);
        pixel.0 = pixel.0.map(|value| mix(value, grey, factor));
    }
}

/// `other + factor · (value − other)`, rounded and clamped to a byte.
fn mix(value: u8, other: u8, factor: f32) -> u8 {
    let (value, other) = (f32::from(value), f32::from(other));
    // A conversion to u8 saturates.
    (other + factor * (value - other)).round() as u8
}

/// Luma by ITU-R BT.601.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}

fn mean_luma(picture: &RgbImage) -> u8 {
    let sum: u64 = picture.pixels().map(|pixel| u64::from(luma(pixel.0))).sum();
    let count = picture.pixels().len().max(1) as u64;
    ((sum + count / 2) / count) as u8
}

/// Blends with the picture smoothed by `[1 1 1; 1 5 1; 1 1 1] / 13`; the border stays.
fn sharpen(picture: &mut RgbImage, factor: f32) {
    let source = picture.clone();
    let (width, height) = source.dimensions();
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let pixel = picture.get_pixel_mut(x, y);
            for channel in 0..3 {
                let at = |x, y| u32::from(source.get_pixel(x, y).0[channel]);
                let around: u32 = (y - 1..=y + 1)
                    .flat_map(|y| (x - 1..=x + 1).map(move |x| (x, y)))
                    .map(|(x, y)| at(x, y))
                    .sum();
                let smooth = (around + 4 * at(x, y) + 6) / 13;
                pixel.0[channel] = mix(pixel.0[channel], smooth as u8, factor);
            }
        }
    }
}

/// Maps each channel through a table made from its histogram.
fn per_channel(picture: &mut RgbImage, table: fn(&[u32; 256]) -> [u8; 256]) {
    let mut histograms = [[0u32; 256]; 3];
    for pixel in picture.pixels() {
        for (histogram, value) in histograms.iter_mut().zip(pixel.0) {
            histogram[usize::from(value)] += 1;
        }
    }
    let tables = histograms.each_ref().map(table);
    for pixel in picture.pixels_mut() {
        for (table, value) in tables.iter().zip(pixel.0.iter_mut()) {
            *value = table[usize::from(*value)];
        }
    }
}

const SAME: fn(usize) -> u8 = |value| value as u8;

/// Maps the darkest value to 0, the brightest to 255, linearly between.
fn stretch_table(histogram: &[u32; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|&count| count > 0).unwrap_or(0);
    let high = histogram
        .iter()
        .rposition(|&count| count > 0)
        .unwrap_or(255);
    if low >= high {
        return std::array::from_fn(SAME);
    }
    std::array::from_fn(|value| {
        let above = value.saturating_sub(low).min(high - low);
        ((above * 255 + (high - low) / 2) / (high - low)) as u8
    })
}

/// Histogram equalisation, in Pillow's integer arithmetic.
fn equalize_table(histogram: &[u32; 256]) -> [u8; 256] {
    let total: u32 = histogram.iter().sum();
    let brightest = histogram
        .iter()
        .rev()
        .find(|&&count| count > 0)
        .copied()
        .unwrap_or(0);
    let step = (total - brightest) / 255;
    if step == 0 {
        return std::array::from_fn(SAME);
    }
    let mut before = step / 2;
    std::array::from_fn(|value| {
        let level = (before / step).min(255) as u8;
        before += histogram[value];
        level
    })
}

#[cfg(test)]
mod tests {
    use super::super::seeded::{Purpose, generator};
    use super::*;

    const FILL: [u8; 3] = [9, 99, 199];
    const SPACE: Space = Space {
        shear: 0.5,
        translate: 3.0,
        rotate: 90.0,
        enhance: 1.0,
        posterize: 4.0,
    };

    fn picture() -> RgbImage {
        RgbImage::from_fn(13, 9, |x, y| {
            Rgb([
                (x * 17 + 20) as u8,
                (y * 23 + 10) as u8,
                (x * x * y % 200) as u8,
            ])
        })
    }

    fn rng(index: usize) -> Xoshiro256PlusPlus {
        generator(3, Purpose::Picture, 1, index)
    }

    fn after(op: Op, strength: f32, sign: f32, picture: &RgbImage) -> RgbImage {
        let index = (0..)
            .find(|&i| coin(&mut rng(i)) == (sign > 0.0))
            .unwrap_or(0);
        let mut changed = picture.clone();
        apply(op, strength, &SPACE, &mut changed, FILL, &mut rng(index));
        changed
    }

    #[test]
    fn no_strength_changes_nothing() {
        for op in OPS {
            if !matches!(op, Op::AutoContrast | Op::Equalize) {
                assert_eq!(after(op, 0.0, 1.0, &picture()), picture(), "{op:?}");
                assert_eq!(after(op, 0.0, -1.0, &picture()), picture(), "{op:?}");
            }
        }
    }

    #[test]
    fn full_strength_changes_something_and_keeps_the_size() {
        for op in OPS {
            let changed = after(op, 1.0, 1.0, &picture());
            assert_eq!(changed.dimensions(), (13, 9));
            // Equalising needs more pixels than levels.
            let still = matches!(op, Op::Identity | Op::Equalize);
            assert_eq!(changed == picture(), still, "{op:?}");
        }
    }

    #[test]
    fn translation_moves_and_fills() {
        let moved = after(Op::TranslateX, 1.0, 1.0, &picture());
        for (x, y, pixel) in moved.enumerate_pixels() {
            let expected = if x + 3 < 13 {
                picture().get_pixel(x + 3, y).0
            } else {
                FILL
            };
            assert_eq!(pixel.0, expected);
        }
        let moved = after(Op::TranslateY, 1.0, -1.0, &picture());
        assert_eq!(moved.get_pixel(4, 2).0, FILL);
        assert_eq!(moved.get_pixel(4, 3), picture().get_pixel(4, 0));
    }

    #[test]
    fn shear_leaves_its_axis_and_slides_the_rest() {
        let sheared = after(Op::ShearX, 1.0, 1.0, &picture());
        assert_eq!(sheared.get_pixel(2, 0), picture().get_pixel(2, 0));
        // Row 8 takes from 0.5 · 8.5 = 4.25 pixels further.
        assert_eq!(sheared.get_pixel(2, 8), picture().get_pixel(6, 8));
        assert_eq!(sheared.get_pixel(12, 8).0, FILL);
    }

    #[test]
    fn four_quarter_turns_are_nothing() {
        let square = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, 0]));
        let mut turned = square.clone();
        for turn in 0..4 {
            turned = after(Op::Rotate, 1.0, 1.0, &turned);
            assert_eq!(turned == square, turn == 3);
            assert!(
                turned.pixels().all(|p| p.0 != FILL),
                "a quarter turn of a square leaves no gap"
            );
        }
    }

    #[test]
    fn enhancements_go_to_their_ends() {
        let grey_of = |pixel: &Rgb<u8>| [luma(pixel.0); 3];
        assert!(
            after(Op::Brightness, 1.0, -1.0, &picture())
                .iter()
                .all(|v| *v == 0)
        );
        for (before, after) in picture()
            .pixels()
            .zip(after(Op::Color, 1.0, -1.0, &picture()).pixels())
        {
            assert_eq!(after.0, grey_of(before));
        }
        let flat = after(Op::Contrast, 1.0, -1.0, &picture());
        assert!(flat.iter().all(|v| *v == mean_luma(&picture())));
        let bright = after(Op::Brightness, 1.0, 1.0, &picture());
        assert!(
            bright
                .iter()
                .zip(picture().iter())
                .all(|(b, p)| *b == p.saturating_mul(2))
        );
        // A picture of one colour has nothing to sharpen, and a dot gets higher.
        let plain = RgbImage::from_pixel(5, 5, Rgb([77, 7, 177]));
        assert_eq!(after(Op::Sharpness, 1.0, 1.0, &plain), plain);
        let mut dot = plain.clone();
        dot.put_pixel(2, 2, Rgb([130, 60, 200]));
        assert_eq!(
            after(Op::Sharpness, 1.0, 1.0, &dot).get_pixel(2, 2).0,
            [163, 93, 214]
        );
    }

    #[test]
    fn posterize_and_solarize_follow_their_definitions() {
        let posterized = after(Op::Posterize, 1.0, 1.0, &picture());
        assert!(
            posterized
                .iter()
                .zip(picture().iter())
                .all(|(after, before)| *after == before & 0xf0)
        );
        let inverted = after(Op::Solarize, 1.0, 1.0, &picture());
        assert!(
            inverted
                .iter()
                .zip(picture().iter())
                .all(|(after, before)| *after == 255 - before)
        );
        let half = after(Op::Solarize, 0.5, 1.0, &picture());
        assert!(half.iter().all(|v| *v < 128));
    }

    #[test]
    fn autocontrast_spans_the_range_and_is_done_once() {
        let stretched = after(Op::AutoContrast, 1.0, 1.0, &picture());
        for channel in 0..3 {
            let values: Vec<u8> = stretched.pixels().map(|p| p.0[channel]).collect();
            assert_eq!(
                (values.iter().min(), values.iter().max()),
                (Some(&0), Some(&255))
            );
        }
        assert_eq!(after(Op::AutoContrast, 1.0, 1.0, &stretched), stretched);
        let plain = RgbImage::from_pixel(4, 4, Rgb([77, 0, 255]));
        assert_eq!(after(Op::AutoContrast, 1.0, 1.0, &plain), plain);
    }

    #[test]
    fn equalize_evens_the_histogram() {
        // Dark squares become spread: quadratic values have even frequencies afterwards.
        let dark = RgbImage::from_fn(64, 64, |x, y| {
            Rgb([((x + 64 * y) as f32 / 4096.0).powi(2).mul_add(255.0, 0.0) as u8; 3])
        });
        let even = after(Op::Equalize, 1.0, 1.0, &dark);
        let mean = even.iter().map(|v| f64::from(*v)).sum::<f64>() / even.len() as f64;
        assert!((mean - 127.5).abs() < 8.0, "{mean}");
        for (a, b) in dark
            .iter()
            .zip(dark.iter().skip(1))
            .zip(even.iter().zip(even.iter().skip(1)))
            .map(|(d, e)| ((d.0 <= d.1), (e.0 <= e.1)))
        {
            assert!(!a || b, "order is kept");
        }
        let plain = RgbImage::from_pixel(20, 20, Rgb([77, 0, 255]));
        assert_eq!(after(Op::Equalize, 1.0, 1.0, &plain), plain);
    }

    #[test]
    fn every_operation_is_drawn() {
        let mut drawn = Vec::new();
        for index in 0..300 {
            let op = draw(&mut rng(index));
            if !drawn.contains(&op) {
                drawn.push(op);
            }
        }
        assert_eq!(drawn.len(), 14, "{drawn:?}");
    }

    #[test]
    fn randaugment_counts_and_measures_its_operations() {
        let changed = |ops, magnitude| {
            let shown = |index: &usize| {
                let mut shown = picture();
                rand_augment(&mut shown, ops, magnitude, FILL, &mut rng(*index));
                shown != picture()
            };
            (0..300).filter(shown).count()
        };
        assert_eq!(changed(0, 30), 0);
        // At no strength only what has none changes a picture; twice as many operations change more.
        let (still, one, two) = (changed(1, 0), changed(1, 30), changed(2, 30));
        assert!(2 * still < one && one < two, "{still}, {one}, {two}");
    }

    #[test]
    fn policies_bear_one_pixel() {
        let mut results = std::collections::HashSet::new();
        for index in 0..300 {
            let mut changed = picture();
            trivial_augment(&mut changed, FILL, &mut rng(index));
            results.insert(changed.into_raw());
            for policy in 0..2 {
                let mut tiny = RgbImage::from_pixel(1, 1, Rgb([50; 3]));
                match policy {
                    0 => trivial_augment(&mut tiny, FILL, &mut rng(index)),
                    _ => rand_augment(&mut tiny, 14, 30, FILL, &mut rng(index)),
                }
                assert_eq!(tiny.dimensions(), (1, 1));
            }
        }
        assert!(
            results.len() > 100,
            "{} different pictures of 300",
            results.len()
        );
    }
}

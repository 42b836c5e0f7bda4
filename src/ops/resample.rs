//! Pictures and feature maps at another size.

use burn::tensor::{Tensor, TensorData};

/// Pictures whose sides become `side`, by the triangle filter that preprocessing uses; as they are
/// where that is their size.
///
/// # Shapes
///
/// `[B, C, H, W]` → `[B, C, side, side]`.
pub(crate) fn pictures(x: Tensor<4>, side: usize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    if (height, width) == (side, side) {
        return x;
    }
    let device = x.device();
    let matrix = |from: usize| TensorData::new(triangle(from, side), [1, 1, side, from]);
    let rows = Tensor::<4>::from_data(matrix(height), &device);
    let columns = Tensor::<4>::from_data(matrix(width), &device);
    rows.matmul(x).matmul(columns.swap_dims(2, 3))
}

/// Square maps, row by row, at `side` by the same filter.
///
/// # Shapes
///
/// `[B, P, D]` → `[B, side², D]`, where P is a square.
pub(crate) fn maps(x: Tensor<3>, side: usize) -> Tensor<3> {
    let [_, pixels, _] = x.dims();
    let from = pixels.isqrt();
    if from == side {
        return x;
    }
    let line = triangle(from, side);
    let mut weights = vec![0.0; side * side * pixels];
    for (to, row) in weights.chunks_exact_mut(pixels).enumerate() {
        for (at, weight) in row.iter_mut().enumerate() {
            let vertical = line[to / side * from + at / from];
            let horizontal = line[to % side * from + at % from];
            *weight = vertical * horizontal;
        }
    }
    let weights = TensorData::new(weights, [1, side * side, pixels]);
    Tensor::<3>::from_data(weights, &x.device()).matmul(x)
}

/// What each of `to` samples takes of each of `from`: bilinear, widened where it shrinks, so that
/// nothing is skipped.
///
/// # Shapes
///
/// Row-major `[to, from]`; rows sum to one.
fn triangle(from: usize, to: usize) -> Vec<f32> {
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let mut weights = Vec::with_capacity(to * from);
    for sample in 0..to {
        let centre = (sample as f64 + 0.5) * scale - 0.5;
        let weight = |i: usize| (1.0 - (i as f64 - centre).abs() / reach).max(0.0);
        let sum: f64 = (0..from).map(weight).sum();
        weights.extend((0..from).map(|i| (weight(i) / sum) as f32));
    }
    weights
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::{Device, Tolerance};

    use super::*;

    #[test]
    fn weights_are_those_of_the_triangle() {
        // Halving: centres at 0.5 and 2.5, reach 2; the border takes what is there.
        let halved = triangle(4, 2);
        let want = [3.0, 3.0, 1.0, 0.0, 0.0, 1.0, 3.0, 3.0].map(|w: f32| w / 7.0);
        for (got, want) in halved.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{halved:?}");
        }
        // Doubling: bilinear.
        assert_eq!(triangle(2, 4), [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
        assert_eq!(
            triangle(3, 3),
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        );
    }

    #[test]
    fn pictures_equal_what_preprocessing_makes_of_them() {
        for (from, to) in [(12_u32, 7_usize), (5, 13)] {
            let picture = image::RgbImage::from_fn(from, from, |x, y| {
                image::Rgb([x * 20 % 256, y * 19 % 256, (x * y * 7) % 256].map(|v| v as u8))
            });
            let floats = |picture: &image::RgbImage, side: usize| {
                let values = picture.as_raw().iter().map(|byte| f32::from(*byte));
                let data = TensorData::new(values.collect(), [1, side, side, 3]);
                Tensor::<4>::from_data(data, &Device::flex()).permute([0, 3, 1, 2])
            };
            let got = pictures(floats(&picture, from as usize), to);
            let size = to as u32;
            let want = image::imageops::resize(
                &picture,
                size,
                size,
                image::imageops::FilterType::Triangle,
            );
            // Bytes are rounded there.
            let worst = (got - floats(&want, to)).abs().max().into_scalar::<f32>();
            assert!(worst < 1.1, "{from} to {to}: {worst}");
        }
    }

    #[test]
    fn a_map_is_resampled_like_a_picture() {
        let values: Vec<f32> = (0..2 * 3 * 25).map(|i| (i * 37 % 23) as f32).collect();
        let x = Tensor::<4>::from_data(TensorData::new(values, [2, 3, 5, 5]), &Device::flex());
        let flat = x.clone().reshape([2, 3, 25]).swap_dims(1, 2);
        for side in [2, 5, 7] {
            let got = maps(flat.clone(), side).swap_dims(1, 2);
            let want = pictures(x.clone(), side).reshape([2, 3, side * side]);
            got.into_data()
                .assert_approx_eq::<f32>(&want.into_data(), Tolerance::default());
        }
    }
}

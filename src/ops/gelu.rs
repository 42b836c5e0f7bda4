//! The Gaussian error linear unit (Hendrycks & Gimpel 2016), exact in both directions, and its
//! approximation by a tanh.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

/// x·Φ(x), with Φ the normal distribution function, to within 5·10⁻⁷.
///
/// Burn has one of its own. On the CPU it evaluates erf number by number, forward and backward,
/// which took a third of a training step; on GPUs it pairs this forward pass with the gradient of
/// the tanh approximation. Here Φ(−|x|) comes from Abramowitz & Stegun 26.2.17, an exponential and
/// a polynomial, which vectorise; and the gradient Φ(x) + x·φ(x) comes from the same two, on every
/// device.
///
/// # Shapes
///
/// Any → the same.
pub(crate) fn gelu<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    let v = x.clone().inner();
    let size = v.clone().abs();
    let rectified = relu(v.clone());
    let t = (size.clone() * 0.231_641_9 + 1.0).recip();
    let exponential = (v.clone().square() * -0.5).exp();
    // Φ(−|x|): the published polynomial times 1/√(2π).
    let mut tail = t.clone() * 0.530_702_7;
    for coefficient in [-0.726_576, 0.710_706_9, -0.142_248_37, 0.127_414_8] {
        tail = (tail + coefficient) * t.clone();
    }
    let tail = tail * exponential.clone();
    // x·Φ(x) is x − x·Φ(−x) above zero and x·Φ(x) below.
    let value = rectified.clone() - size.clone() * tail.clone();
    with_slope(x, value, || {
        distribution(rectified, size, tail) + v * (exponential * FRAC_1_SQRT_TAU)
    })
}

/// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), which is within 5·10⁻⁴ of [`gelu`], with its own
/// gradient.
///
/// With u = 2·√(2/π)·(x + 0.044715·x³) and σ the logistic function it is x·σ(u), of slope
/// σ(u) + x·σ(u)·σ(−u)·u′: no tanh, which GPUs may take of large numbers by way of an infinity.
///
/// # Shapes
///
/// Any → the same.
pub(crate) fn gelu_tanh<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    let v = x.clone().inner();
    let size = v.clone().abs();
    let rectified = relu(v.clone());
    // Past 20 the exponential is 0, and the cube keeps to its range.
    let square = size.clone().clamp_max(20.0).square();
    let rise = square.clone() * (FRAC_2_SQRT_TAU * CUBIC * 2.0) + FRAC_2_SQRT_TAU * 2.0;
    let exponential = (size.clone() * rise * -1.0).exp();
    let tail = exponential.clone() * (exponential + 1.0).recip();
    let value = rectified.clone() - size.clone() * tail.clone();
    with_slope(x, value, || {
        let steep = square * (FRAC_2_SQRT_TAU * CUBIC * 6.0) + FRAC_2_SQRT_TAU * 2.0;
        let both = tail.clone() * (tail.clone() * -1.0 + 1.0);
        distribution(rectified, size, tail) + v * both * steep
    })
}

/// The distribution at x from that at −|x|.
fn distribution<const R: usize>(
    rectified: Tensor<R>,
    size: Tensor<R>,
    tail: Tensor<R>,
) -> Tensor<R> {
    // 1 above zero and 0 below; at zero it is ½ whatever this is.
    let step = rectified / (size + 1e-30);
    step * (tail.clone() * -2.0 + 1.0) + tail
}

/// A function of x's values, with the gradient that its slope gives.
fn with_slope<const R: usize>(
    x: Tensor<R>,
    value: Tensor<R>,
    slope: impl FnOnce() -> Tensor<R>,
) -> Tensor<R> {
    if !x.is_autodiff() {
        return value;
    }
    let slope = slope();
    #[cfg(gpu)]
    if super::by_hand::on_gpu(&x) {
        return super::by_hand::record::<burn::backend::Cube, 1, R>([(&x).into()], value, |dy| {
            [(dy * slope).into()]
        });
    }
    // The difference is zero, and its gradient one: the value stays, `slope` becomes its gradient.
    (x.clone() - x.detach()) * slope.autodiff() + value.autodiff()
}

/// √(2/π).
const FRAC_2_SQRT_TAU: f64 = 0.797_884_560_802_865_4;

/// Of the cube in [`gelu_tanh`].
const CUBIC: f64 = 0.044_715;

/// 1/√(2π).
const FRAC_1_SQRT_TAU: f64 = 0.398_942_280_401_432_7;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Values and gradients.
    fn both(f: fn(Tensor<1>) -> Tensor<1>, points: &[f32]) -> [Vec<f32>; 2] {
        let x = Tensor::<1>::from_floats(points, &Device::flex().autodiff()).require_grad();
        let y = f(x.clone());
        let gradient = x.grad(&y.clone().sum().backward()).unwrap();
        [y.inner(), gradient].map(|of| of.try_into_vec_as::<f32>().unwrap())
    }

    fn points() -> Vec<f32> {
        (-1200..=1200).map(|i| i as f32 / 100.0).collect()
    }

    #[test]
    fn equals_burns_own_in_value_and_gradient() {
        let points = points();
        let [value, gradient] = both(gelu, &points);
        let [expected, expected_gradient] = both(burn::tensor::activation::gelu, &points);
        for i in 0..points.len() {
            let x = points[i];
            assert!(
                (value[i] - expected[i]).abs() <= 6e-7 * x.abs().max(1.0),
                "at {x}"
            );
            assert!((gradient[i] - expected_gradient[i]).abs() <= 2e-6, "at {x}");
        }
        let untracked = Tensor::<1>::from_floats(points.as_slice(), &Device::flex());
        assert_eq!(gelu(untracked).try_into_vec_as::<f32>().unwrap(), value);
    }

    #[test]
    fn with_a_tanh_it_is_the_formula_and_its_slope() {
        let formula = |x: f64| 0.5 * x * (1.0 + (FRAC_2_SQRT_TAU * (x + CUBIC * x * x * x)).tanh());
        let points = points();
        let [value, gradient] = both(gelu_tanh, &points);
        for (i, &point) in points.iter().enumerate() {
            let x = f64::from(point);
            let size = x.abs().max(1.0);
            assert!(
                (f64::from(value[i]) - formula(x)).abs() <= 6e-7 * size,
                "at {x}"
            );
            let slope = (formula(x + 1e-5) - formula(x - 1e-5)) / 2e-5;
            assert!((f64::from(gradient[i]) - slope).abs() <= 2e-6, "at {x}");
        }
        let untracked = Tensor::<1>::from_floats(points.as_slice(), &Device::flex());
        assert_eq!(
            gelu_tanh(untracked).try_into_vec_as::<f32>().unwrap(),
            value
        );
    }

    #[test]
    fn they_stay_finite_far_out() {
        for f in [gelu, gelu_tanh] {
            let [value, gradient] = both(f, &[-1e15, -0.0, 0.0, 1e15]);
            assert_eq!(value, [0.0, 0.0, 0.0, 1e15]);
            assert!((gradient[1] - 0.5).abs() < 1e-6 && (gradient[2] - 0.5).abs() < 1e-6);
            assert_eq!((gradient[0], gradient[3]), (0.0, 1.0));
        }
    }
}

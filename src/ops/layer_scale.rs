//! Layer scale: a learned factor for each channel of a residual branch.

use burn::tensor::Tensor;

use super::Affine;
use super::prepared::Prepared;

/// γ∘(x·W + b), the end of a branch with layer scale (Touvron et al. 2021, "Going deeper with Image
/// Transformers", eq. 4), as one linear map: x·(W·diag γ) + γ∘b.
///
/// Folding γ in costs a pass over a weight instead of one over all tokens, and gradients of W, b
/// and γ follow by the chain rule. Without γ the map stays as it is.
///
/// # Shapes
///
/// `scale` `[outputs]`.
pub(crate) fn scaled(map: Affine, scale: Option<Tensor<1>>, prepared: Option<&Prepared>) -> Affine {
    let Some(scale) = scale else { return map };
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&map.weight) && !map.weight.is_autodiff() {
        use super::cpu::tape::values;
        let of = [&values(&map.weight), &values(&map.bias), &values(&scale)];
        // Kept, so that what the kernels pack of it is found again.
        return (*Prepared::packed(prepared, of, |_| fold(&map, &scale))).clone();
    }
    let _ = prepared;
    fold(&map, &scale)
}

fn fold(map: &Affine, scale: &Tensor<1>) -> Affine {
    Affine {
        weight: map.weight.clone() * scale.clone().unsqueeze::<2>(),
        bias: map.bias.clone() * scale.clone(),
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;
    use crate::ops::linear::linear;
    use crate::ops::precision::Precision;
    use crate::ops::product::affine;

    fn random<const R: usize>(shape: [usize; R], device: &Device) -> Tensor<R> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
    }

    #[test]
    fn gives_values_and_gradients_of_a_factor_a_channel() {
        let device = Device::flex().autodiff();
        let (rows, inputs, outputs) = (5, 7, 3);
        let x = random([rows, inputs], &device);
        let weight = random([inputs, outputs], &device);
        let [bias, scale] = [(); 2].map(|()| random([outputs], &device));
        let target = random([rows, outputs], &device);
        let of = |folded: bool| {
            let weight = weight.clone().detach().require_grad();
            let [bias, scale] = [&bias, &scale].map(|x| x.clone().detach().require_grad());
            let map = Affine {
                weight: weight.clone(),
                bias: bias.clone(),
            };
            let y = if folded {
                linear(
                    x.clone(),
                    &scaled(map, Some(scale.clone()), None),
                    Precision::F32,
                    None,
                )
            } else {
                affine(x.clone(), &map, Precision::F32) * scale.clone().unsqueeze::<2>()
            };
            let gradients = (y.clone() * target.clone()).sum().backward();
            [
                y.inner().into_data(),
                weight.grad(&gradients).unwrap().into_data(),
                bias.grad(&gradients).unwrap().into_data(),
                scale.grad(&gradients).unwrap().into_data(),
            ]
        };
        for (found, expected) in of(true).iter().zip(&of(false)) {
            found.assert_approx_eq(expected, Tolerance::<f32>::absolute(1e-5));
        }
    }

    #[test]
    fn what_is_prepared_is_found_again_and_never_that_of_others() {
        let device = Device::flex();
        let map = |seed: f32| Affine {
            weight: Tensor::full([2, 3], seed, &device),
            bias: Tensor::zeros([3], &device),
        };
        let scale = Tensor::<1>::from_floats([1.0, 2.0, -3.0], &device);
        let prepared = Prepared::default();
        let (one, two) = (map(1.0), map(2.0));
        let place = |map: &Affine| {
            let folded = scaled(map.clone(), Some(scale.clone()), Some(&prepared));
            let values = crate::ops::cpu::tape::values(&folded.weight);
            (values.get::<f32>().as_ptr(), values.get::<f32>().to_vec())
        };
        // Kept from the second time on.
        place(&one);
        assert_eq!(place(&one), place(&one));
        assert_eq!(place(&two).1, [2.0, 4.0, -6.0, 2.0, 4.0, -6.0]);
        assert_eq!(place(&one).1, [1.0, 2.0, -3.0, 1.0, 2.0, -3.0]);
    }
}

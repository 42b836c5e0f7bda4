//! Matrix products of Burn's own operations, for the composed forms.

use burn::tensor::{FloatDType, Tensor};

use super::Affine;
use super::precision::Precision;

/// x·w + b with operands of the given precision, composed.
pub(super) fn affine(x: Tensor<2>, map: &Affine, precision: Precision) -> Tensor<2> {
    product(x, map.weight.clone(), precision) + map.bias.clone().unsqueeze::<2>()
}

/// a·b with operands of the given precision, composed.
pub(super) fn product<const R: usize>(
    a: Tensor<R>,
    b: Tensor<R>,
    precision: Precision,
) -> Tensor<R> {
    match precision {
        // Eight bits have no composed form.
        Precision::F32 | Precision::Int8 => a.matmul(b),
        Precision::Bf16 => {
            let narrow = |x: Tensor<R>| x.cast(FloatDType::BF16);
            narrow(a).matmul(narrow(b)).cast(FloatDType::F32)
        }
    }
}

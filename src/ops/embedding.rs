//! From pixels to tokens (Dosovitskiy et al. 2021, eq. 1).

use burn::tensor::Tensor;

use super::Affine;
use super::precision::Precision;
use super::prepared::Prepared;
#[cfg(feature = "cpu")]
use super::profile;

/// Cuts pictures into patches, maps each to a token, adds its position, and puts the prefix (class
/// token and registers) before the tokens of every picture.
///
/// A patch of P×Q pixels is flattened in the order (C, P, Q), channel slowest, which is the order of a
/// convolution's weight `[D, C, P, Q]` seen as `[D, C·P·Q]`: the map equals a convolution whose kernel
/// and stride are the patch.
///
/// # Shapes
///
/// `images` `[B, C, H, W]`, `positions` `[H/P·W/Q, D]`, `prefix` `[prefix, D]` → `[B·N, D]`.
pub fn embed(
    images: Tensor<4>,
    patch: [usize; 2],
    projection: &Affine,
    positions: Option<&Tensor<2>>,
    prefix: Option<&Tensor<2>>,
    precision: Precision,
    prepared: Option<&Prepared>,
) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&images) {
        return match precision {
            // The first layer sees pixels as they are.
            Precision::F32 | Precision::Int8 => {
                on_cpu::<f32>(images, patch, projection, positions, prefix, prepared)
            }
            Precision::Bf16 => {
                on_cpu::<half::bf16>(images, patch, projection, positions, prefix, prepared)
            }
        };
    }
    let _ = prepared;
    composed(images, patch, projection, positions, prefix, precision)
}

/// [`embed`] of Burn's own operations.
pub(super) fn composed(
    images: Tensor<4>,
    patch: [usize; 2],
    projection: &Affine,
    positions: Option<&Tensor<2>>,
    prefix: Option<&Tensor<2>>,
    precision: Precision,
) -> Tensor<2> {
    let [batch, ..] = images.dims();
    let patches = super::product::affine(self::patches(images, patch), projection, precision);
    let [rows, width] = patches.dims();
    let mut tokens = patches.reshape([batch, rows / batch, width]);
    if let Some(positions) = positions {
        tokens = tokens + positions.clone().unsqueeze::<3>();
    }
    if let Some(prefix) = prefix {
        let [count, _] = prefix.dims();
        let prefix = prefix.clone().unsqueeze::<3>();
        tokens = Tensor::cat(vec![prefix.expand([batch, count, width]), tokens], 1);
    }
    let [_, count, _] = tokens.dims();
    tokens.reshape([batch * count, width])
}

/// Patches, flattened.
///
/// # Shapes
///
/// `[B, C, H, W]` → `[B·N, C·P·Q]`.
pub fn patches(images: Tensor<4>, [high, wide]: [usize; 2]) -> Tensor<2> {
    let [batch, channels, height, width] = images.dims();
    let (rows, columns) = (height / high, width / wide);
    images
        .reshape([batch, channels, rows, high, columns, wide])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([batch * rows * columns, channels * high * wide])
}

#[cfg(feature = "cpu")]
fn on_cpu<E: vitrine_kernels::Operand>(
    images: Tensor<4>,
    patch: [usize; 2],
    projection: &Affine,
    positions: Option<&Tensor<2>>,
    prefix: Option<&Tensor<2>>,
    prepared: Option<&Prepared>,
) -> Tensor<2> {
    let _span = profile::span("embedding");
    use super::cpu::tape;
    use vitrine_kernels::{embedding, linear};
    let [batch, channels, height, width] = images.dims();
    let [_, embed_dim] = projection.weight.dims();
    let shape = embedding::Shape {
        batch,
        channels,
        height,
        width,
        patch,
        prefix: prefix.map_or(0, |prefix| prefix.dims()[0]),
        embed_dim,
    };
    let pixels = tape::values(&images);
    let [weight, bias] = [
        tape::values(&projection.weight),
        tape::values(&projection.bias),
    ];
    let packed = Prepared::packed(prepared, [&weight, &bias], |[weight, bias]| {
        linear::Packed::<E>::new(weight, bias)
    });
    let places = positions.map(tape::values);
    let before = prefix.map(tape::values);
    let y = embedding::forward::<E>(
        pixels.get(),
        shape,
        &packed,
        places.as_ref().map(tape::Values::get),
        before.as_ref().map_or(&[], |values| values.get()),
    );
    let dims = [y.len() / embed_dim, embed_dim];
    if !images.is_autodiff() {
        return tape::tensor(y, dims);
    }
    let none = Tensor::zeros([1, embed_dim], &images.device());
    let inputs: [tape::Input; 5] = [
        (&images).into(),
        (&projection.weight).into(),
        (&projection.bias).into(),
        positions.unwrap_or(&none).into(),
        prefix.unwrap_or(&none).into(),
    ];
    let [pictures, _, _, positions, prefix] = inputs.each_ref().map(tape::Input::is_tracked);
    let with = [pictures, positions || prefix];
    tape::record(inputs, y, dims, move |dy| {
        let _span = profile::span("embedding, backward");
        embedding::backward::<E>(pixels.get(), shape, weight.get(), dy, with)
    })
}

//! The two types that products multiply.

use bytemuck::Pod;
use half::bf16;

use crate::dispatch::vectorised;
use crate::kernel::{self, BF16_ROWS, BF16_STEP};
use crate::scalar;

/// What a product multiplies; it always sums in f32.
pub trait Operand: Pod + Send + Sync {
    /// Values along k that lie side by side in a panel.
    const INTERLEAVE: usize;
    /// k is padded with zeros to a multiple of this.
    const K_STEP: usize;
    /// Rows are padded to a multiple of this.
    const ROW_STEP: usize;

    /// The nearest value of this type.
    fn narrow(x: f32) -> Self;

    /// The same value in f32.
    fn widen(self) -> f32;

    /// x·Φ(x), to within 1.4·10⁻⁴ where it will be rounded to eight bits.
    fn gelu(x: f32) -> f32;

    /// The same with tanh's approximation of Φ, as near.
    fn gelu_tanh(x: f32) -> f32;

    /// Converts as many values as both slices hold.
    fn from_f32(source: &[f32], target: &mut [Self]) {
        vectorised(
            #[inline(always)]
            || {
                for (target, &x) in target.iter_mut().zip(source) {
                    *target = Self::narrow(x);
                }
            },
        );
    }

    /// Converts as many values as both slices hold.
    fn to_f32(source: &[Self], target: &mut [f32]) {
        vectorised(
            #[inline(always)]
            || {
                for (target, x) in target.iter_mut().zip(source) {
                    *target = x.widen();
                }
            },
        );
    }

    /// One panel's product: C (+)= A·B, for `rows` rows of A and 32 columns of B.
    #[allow(clippy::too_many_arguments)]
    fn panel(
        a: &[Self],
        lda: usize,
        rows: usize,
        panel: &[Self],
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    );
}

impl Operand for f32 {
    const INTERLEAVE: usize = 1;
    const K_STEP: usize = 1;
    const ROW_STEP: usize = 1;

    #[inline(always)]
    fn narrow(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn gelu(x: f32) -> f32 {
        scalar::gelu_of(x)
    }

    #[inline(always)]
    fn gelu_tanh(x: f32) -> f32 {
        scalar::gelu_tanh_of(x)
    }

    fn panel(
        a: &[f32],
        lda: usize,
        rows: usize,
        panel: &[f32],
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    ) {
        let kernel = kernel::f32_kernel();
        kernel::f32_panel(kernel, a, lda, rows, panel, c, ldc, accumulate);
    }
}

impl Operand for bf16 {
    const INTERLEAVE: usize = 2;
    const K_STEP: usize = BF16_STEP;
    const ROW_STEP: usize = BF16_ROWS;

    #[inline(always)]
    fn narrow(x: f32) -> bf16 {
        scalar::round_bf16(x)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn gelu(x: f32) -> f32 {
        scalar::gelu_short(x)
    }

    #[inline(always)]
    fn gelu_tanh(x: f32) -> f32 {
        scalar::gelu_tanh_short(x)
    }

    fn panel(
        a: &[bf16],
        lda: usize,
        rows: usize,
        panel: &[bf16],
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    ) {
        let kernel = kernel::bf16_kernel();
        kernel::bf16_panel(kernel, a, lda, rows, panel, c, ldc, accumulate);
    }
}

//! The innermost loops of a matrix product: one per instruction set, chosen when the program runs.
//!
//! All of them do the same: C += A·B for a few rows of A and one panel of B, whose [`PANEL`]
//! columns lie side by side. The left operand is row by row; the right one is packed as
//! [`Panels`](crate::matrix::Panels) says. Sums run over k in the same order however many rows
//! there are, so that results do not depend on how work is split.

// A kernel is its operands and their strides; and loops over registers are loops over numbers, for
// the compiler has to unroll them.
#![allow(clippy::too_many_arguments, clippy::needless_range_loop)]

use std::sync::OnceLock;

use half::bf16;

use crate::processor::Instructions;
#[cfg(target_arch = "x86_64")]
use crate::processor::{has_avx2, has_avx512, may_use};

/// Columns of one panel of the right operand: two registers of AVX-512, two tiles of AMX.
pub(crate) const PANEL: usize = 32;

/// k is padded to a multiple of this in bf16: the depth of one AMX tile.
pub(crate) const BF16_STEP: usize = 32;

/// Rows of the left operand come in multiples of this in bf16, padded where there are fewer: one
/// AMX tile.
pub(crate) const BF16_ROWS: usize = 16;

/// What multiplies bf16 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bf16Kernel {
    /// Intel AMX: 16×16×32 at a time.
    Amx,
    /// AVX-512's `vdpbf16ps`: 16×2 at a time.
    Avx512,
    /// Widened to f32: correct anywhere, and no faster than f32.
    Portable,
}

/// What multiplies f32 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum F32Kernel {
    /// 512-bit fused multiply-add.
    Avx512,
    /// 256-bit fused multiply-add.
    Avx2,
    /// 128-bit fused multiply-add of AArch64, which all of them have.
    Neon,
    /// Whatever the compiler makes of it.
    Portable,
}

/// The best bf16 kernel of this processor.
pub(crate) fn bf16_kernel() -> Bf16Kernel {
    static KERNEL: OnceLock<Bf16Kernel> = OnceLock::new();
    *KERNEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if may_use(Instructions::Amx) && amx::available() {
                return Bf16Kernel::Amx;
            }
            if has_avx512() && has_avx512_bf16() {
                return Bf16Kernel::Avx512;
            }
        }
        Bf16Kernel::Portable
    })
}

/// Whether AVX-512 has products of bf16.
#[cfg(target_arch = "x86_64")]
fn has_avx512_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw")
}

/// The instruction set that products use here.
pub fn instructions() -> Instructions {
    match (bf16_kernel(), f32_kernel()) {
        (Bf16Kernel::Amx, _) => Instructions::Amx,
        (_, F32Kernel::Avx512) => Instructions::Avx512,
        (_, F32Kernel::Avx2) => Instructions::Avx2,
        (_, F32Kernel::Neon | F32Kernel::Portable) => Instructions::Portable,
    }
}

/// Whether the processor multiplies bf16 by itself.
pub fn has_bf16() -> bool {
    bf16_kernel() != Bf16Kernel::Portable
}

/// The best f32 kernel of this processor.
pub(crate) fn f32_kernel() -> F32Kernel {
    static KERNEL: OnceLock<F32Kernel> = OnceLock::new();
    *KERNEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return F32Kernel::Avx512;
            }
            if has_avx2() {
                return F32Kernel::Avx2;
            }
        }
        match cfg!(target_arch = "aarch64") {
            true => F32Kernel::Neon,
            false => F32Kernel::Portable,
        }
    })
}

/// C (+)= A·B in f32: `rows` rows of A with stride `lda`, one panel `[k][PANEL]` of B, and C with
/// stride `ldc`.
///
/// # Panics
///
/// Where a slice is shorter than its strides say.
pub(crate) fn f32_panel(
    kernel: F32Kernel,
    a: &[f32],
    lda: usize,
    rows: usize,
    panel: &[f32],
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    if rows == 0 {
        return;
    }
    let k = panel.len() / PANEL;
    assert!(lda >= k && a.len() >= (rows - 1) * lda + k, "left operand");
    assert!(
        ldc >= PANEL && c.len() >= (rows - 1) * ldc + PANEL,
        "product"
    );
    let product: unsafe fn(*const f32, usize, usize, *const f32, usize, *mut f32, usize, bool) =
        match kernel {
            #[cfg(target_arch = "x86_64")]
            F32Kernel::Avx512 => tile::avx512,
            #[cfg(target_arch = "x86_64")]
            F32Kernel::Avx2 => tile::avx2,
            #[cfg(target_arch = "aarch64")]
            F32Kernel::Neon => tile::neon,
            _ => return portable(a, lda, rows, panel, c, ldc, accumulate),
        };
    // SAFETY: it was chosen because the processor has its instructions, and the asserts above keep
    // every row within its slice.
    #[allow(unsafe_code)]
    unsafe {
        product(
            a.as_ptr(),
            lda,
            rows,
            panel.as_ptr(),
            k,
            c.as_mut_ptr(),
            ldc,
            accumulate,
        );
    }
}

/// C (+)= A·B with bf16 operands and f32 sums: `rows` rows of A with stride `lda`, one panel
/// `[k/2][PANEL][2]` of B, and C with stride `ldc`.
///
/// A and C hold [`BF16_ROWS`] rows at a time, whatever `rows` says; rows past it are garbage in C.
///
/// # Panics
///
/// Where a slice is shorter than its strides say, or k is not a multiple of [`BF16_STEP`].
pub(crate) fn bf16_panel(
    kernel: Bf16Kernel,
    a: &[bf16],
    lda: usize,
    rows: usize,
    panel: &[bf16],
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    if rows == 0 {
        return;
    }
    let k = panel.len() / PANEL;
    let padded = rows.next_multiple_of(BF16_ROWS);
    assert!(k.is_multiple_of(BF16_STEP), "k in whole tiles");
    assert!(
        lda >= k && a.len() >= (padded - 1) * lda + k,
        "left operand"
    );
    assert!(
        ldc >= PANEL && c.len() >= (padded - 1) * ldc + PANEL,
        "product"
    );
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Bf16Kernel::Amx => {
            // SAFETY: the kernel was chosen because the processor has AMX and the system lets this
            // process use it; the asserts above keep every tile within its slice.
            #[allow(unsafe_code)]
            unsafe {
                amx::panel(
                    a.as_ptr(),
                    lda,
                    padded,
                    panel.as_ptr(),
                    k / BF16_STEP,
                    c.as_mut_ptr(),
                    ldc,
                    accumulate,
                );
            }
        }
        #[cfg(target_arch = "x86_64")]
        Bf16Kernel::Avx512 => {
            let blocks = rows.div_ceil(avx512::ROWS);
            let mut done = 0;
            for block in 0..blocks {
                let height = (rows - done).div_ceil(blocks - block);
                // SAFETY: the kernel was chosen because the processor has AVX-512 with BF16, and
                // the asserts above keep every row within its slice.
                #[allow(unsafe_code)]
                unsafe {
                    avx512::bf16_rows(
                        height,
                        a.as_ptr().add(done * lda),
                        lda,
                        panel.as_ptr(),
                        k / 2,
                        c.as_mut_ptr().add(done * ldc),
                        ldc,
                        accumulate,
                    );
                }
                done += height;
            }
        }
        _ => bf16_portable(a, lda, rows, panel, c, ldc, accumulate),
    }
}

/// f32 in plain Rust, a row at a time: sums of one row are few enough for registers of any width.
fn portable(
    a: &[f32],
    lda: usize,
    rows: usize,
    panel: &[f32],
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    let k = panel.len() / PANEL;
    for row in 0..rows {
        let target = &mut c[row * ldc..][..PANEL];
        let mut sums = [0.0_f32; PANEL];
        if accumulate {
            sums.copy_from_slice(target);
        }
        for (x, b) in a[row * lda..][..k].iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += x * b;
            }
        }
        target.copy_from_slice(&sums);
    }
}

fn bf16_portable(
    a: &[bf16],
    lda: usize,
    rows: usize,
    panel: &[bf16],
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    let k = panel.len() / PANEL;
    for row in 0..rows {
        let mut sums = [0.0_f32; PANEL];
        if accumulate {
            sums.copy_from_slice(&c[row * ldc..][..PANEL]);
        }
        let line = &a[row * lda..][..k];
        for (x, b) in line.chunks_exact(2).zip(panel.chunks_exact(2 * PANEL)) {
            let (x0, x1) = (x[0].to_f32(), x[1].to_f32());
            for (sum, b) in sums.iter_mut().zip(b.chunks_exact(2)) {
                *sum += x0 * b[0].to_f32() + x1 * b[1].to_f32();
            }
        }
        c[row * ldc..][..PANEL].copy_from_slice(&sums);
    }
}

mod tile;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) mod amx;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn no_better_instructions_are_used_than_were_asked_for() {
        assert!(instructions() <= Instructions::asked().expect("a name"));
    }

    /// Every kernel of this processor, on heights and depths around its own block sizes.
    #[test]
    fn every_kernel_equals_the_sum() {
        let mut f32_kernels = vec![F32Kernel::Portable];
        let mut bf16_kernels = vec![Bf16Kernel::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                f32_kernels.push(F32Kernel::Avx2);
            }
            if has_avx512() {
                f32_kernels.push(F32Kernel::Avx512);
                if has_avx512_bf16() {
                    bf16_kernels.push(Bf16Kernel::Avx512);
                }
            }
            if bf16_kernel() == Bf16Kernel::Amx {
                bf16_kernels.push(Bf16Kernel::Amx);
            }
        }
        f32_kernels.push(f32_kernel());
        for rows in [1_usize, 2, 13, 14, 15, 16, 17, 31, 32, 33, 50] {
            for k in [32_usize, 64, 160] {
                let padded = rows.next_multiple_of(BF16_ROWS);
                let (lda, ldc) = (k + 7, PANEL + 5);
                let a = numbers(padded * lda, 1);
                let b = numbers(k * PANEL, 2);
                let start = numbers(padded * ldc, 3);
                let narrow = |x: &f32| bf16::from_f32(*x);
                let a16: Vec<bf16> = a.iter().map(narrow).collect();
                // Pairs along k lie side by side.
                let b16: Vec<bf16> = (0..k * PANEL)
                    .map(|i| {
                        let (pair, rest) = (i / (2 * PANEL), i % (2 * PANEL));
                        narrow(&b[(2 * pair + rest % 2) * PANEL + rest / 2])
                    })
                    .collect();
                let check = |c: &[f32], accumulate: bool, rounded: bool, what: &str| {
                    for r in 0..rows {
                        for j in 0..PANEL {
                            let value =
                                |x: f32| f64::from(if rounded { narrow(&x).to_f32() } else { x });
                            let sum: f64 = (0..k)
                                .map(|i| value(a[r * lda + i]) * value(b[i * PANEL + j]))
                                .sum();
                            let old = if accumulate { start[r * ldc + j] } else { 0.0 };
                            let (found, want) = (c[r * ldc + j], sum + f64::from(old));
                            assert!(
                                (f64::from(found) - want).abs() < 1e-4,
                                "{what}, {rows} rows, k {k}, at {r}, {j}: {found}, not {want}"
                            );
                        }
                    }
                };
                for accumulate in [false, true] {
                    for &kernel in &f32_kernels {
                        let mut c = start.clone();
                        f32_panel(kernel, &a, lda, rows, &b, &mut c, ldc, accumulate);
                        check(&c, accumulate, false, &format!("{kernel:?}"));
                        // What lies between the rows stays.
                        assert_eq!(c[PANEL..ldc], start[PANEL..ldc]);
                    }
                    for &kernel in &bf16_kernels {
                        let mut c = start.clone();
                        bf16_panel(kernel, &a16, lda, rows, &b16, &mut c, ldc, accumulate);
                        check(&c, accumulate, true, &format!("{kernel:?}"));
                        assert_eq!(c[PANEL..ldc], start[PANEL..ldc]);
                    }
                }
            }
        }
    }
}

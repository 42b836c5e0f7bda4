//! Products of bf16 with the 512-bit registers of AVX-512, 14 rows at a time.

use std::arch::x86_64::*;

use super::PANEL;

/// Most rows at a time: 2·14 sums, 2 registers of B and 1 of A fill the 32 registers.
pub(super) const ROWS: usize = 14;

macro_rules! by_height {
    ($height:expr, $kernel:ident, $($argument:expr),*) => {
        match $height {
            1 => $kernel::<1>($($argument),*),
            2 => $kernel::<2>($($argument),*),
            3 => $kernel::<3>($($argument),*),
            4 => $kernel::<4>($($argument),*),
            5 => $kernel::<5>($($argument),*),
            6 => $kernel::<6>($($argument),*),
            7 => $kernel::<7>($($argument),*),
            8 => $kernel::<8>($($argument),*),
            9 => $kernel::<9>($($argument),*),
            10 => $kernel::<10>($($argument),*),
            11 => $kernel::<11>($($argument),*),
            12 => $kernel::<12>($($argument),*),
            13 => $kernel::<13>($($argument),*),
            _ => $kernel::<14>($($argument),*),
        }
    };
}

/// # Safety
///
/// AVX-512F and BF16; `height` ≤ [`ROWS`]; `a` holds `height` rows of `pairs` pairs with stride `lda`, `b` holds
/// as many rows of [`PANEL`] pairs, `c` holds `height` rows of [`PANEL`] with stride `ldc`.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn bf16_rows(
    height: usize,
    a: *const half::bf16,
    lda: usize,
    b: *const half::bf16,
    pairs: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    // SAFETY: as above.
    unsafe { by_height!(height, bf16_kernel, a, lda, b, pairs, c, ldc, accumulate) }
}

/// # Safety
///
/// As [`bf16_rows`], for exactly R rows.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_kernel<const R: usize>(
    a: *const half::bf16,
    lda: usize,
    b: *const half::bf16,
    pairs: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    // SAFETY: every address is within the rows that the caller vouches for; a register of
    // pairs is a register of bf16.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        if accumulate {
            for r in 0..R {
                sums[r][0] = _mm512_loadu_ps(c.add(r * ldc));
                sums[r][1] = _mm512_loadu_ps(c.add(r * ldc + 16));
            }
        }
        let b = b.cast::<i32>();
        for i in 0..pairs {
            let b0: __m512bh = core::mem::transmute(_mm512_loadu_epi32(b.add(i * PANEL)));
            let b1: __m512bh = core::mem::transmute(_mm512_loadu_epi32(b.add(i * PANEL + 16)));
            for r in 0..R {
                let pair = a.add(r * lda + 2 * i).cast::<i32>().read_unaligned();
                let x: __m512bh = core::mem::transmute(_mm512_set1_epi32(pair));
                sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, b0);
                sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, b1);
            }
        }
        for r in 0..R {
            _mm512_storeu_ps(c.add(r * ldc), sums[r][0]);
            _mm512_storeu_ps(c.add(r * ldc + 16), sums[r][1]);
        }
    }
}

//! Products of f32 for vectors of any width: one loop, and a tile for each instruction set.
//!
//! A tile is some rows of C by some vectors of its columns, whose sums stay in registers while k runs. It fits where
//! its sums, one row of B and one value of A leave no register over.

use super::PANEL;

/// A register of f32.
///
/// # Safety
///
/// Every function wants a processor with the instructions that the type is for; addresses are of
/// [`LANES`](Self::LANES) values.
#[allow(unsafe_code)]
trait Vector: Copy {
    /// Values in one.
    const LANES: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(x: f32) -> Self;
    /// a·b + self.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Values of k in one turn of the loop: their addresses are one another's, so that fewer instructions reckon with
/// addresses (88 in four turns of AVX2's, 116 one by one, for 48 products).
const UNROLLED: usize = 4;

/// Adds the products of one value of k.
///
/// # Safety
///
/// As [`tile`], for `a` and `b` at that k.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn step<V: Vector, const VECTORS: usize, const ROWS: usize>(
    a: *const f32,
    lda: usize,
    b: *const f32,
    sums: &mut [[V; VECTORS]; ROWS],
) {
    // SAFETY: every address is within the rows that the caller vouches for.
    unsafe {
        let mut line = [V::zero(); VECTORS];
        for v in 0..VECTORS {
            line[v] = V::load(b.add(v * V::LANES));
        }
        for r in 0..ROWS {
            let x = V::splat(*a.add(r * lda));
            for v in 0..VECTORS {
                sums[r][v] = sums[r][v].add_product(x, line[v]);
            }
        }
    }
}

/// # Safety
///
/// The instructions of `V`; `a` holds `ROWS` rows of `k` with stride `lda`, `b` holds `k` rows of [`PANEL`], `c` holds
/// `ROWS` rows with stride `ldc`; of b and c the first `VECTORS` vectors of each row are used.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn tile<V: Vector, const VECTORS: usize, const ROWS: usize>(
    a: *const f32,
    lda: usize,
    b: *const f32,
    k: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    // SAFETY: every address is within the rows that the caller vouches for.
    unsafe {
        let mut sums = [[V::zero(); VECTORS]; ROWS];
        if accumulate {
            for r in 0..ROWS {
                for v in 0..VECTORS {
                    sums[r][v] = V::load(c.add(r * ldc + v * V::LANES));
                }
            }
        }
        let (mut a, mut b, mut left) = (a, b, k);
        while left >= UNROLLED {
            for i in 0..UNROLLED {
                step(a.add(i), lda, b.add(i * PANEL), &mut sums);
            }
            a = a.add(UNROLLED);
            b = b.add(UNROLLED * PANEL);
            left -= UNROLLED;
        }
        for i in 0..left {
            step(a.add(i), lda, b.add(i * PANEL), &mut sums);
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                sums[r][v].store(c.add(r * ldc + v * V::LANES));
            }
        }
    }
}

/// Defines `$panel`: C (+)= A·B for any number of rows and one panel, in tiles of `$vectors` vectors by the tallest of
/// `$height` rows, and what is left in lower ones.
macro_rules! panel {
    ($(#[$attribute:meta])* $panel:ident, $vector:ty, $vectors:literal, [$($height:literal)* ; $tallest:literal]) => {
        /// # Safety
        ///
        /// The instructions of the vector; `a` holds `rows` rows of `k` with stride `lda`, `b` holds `k` rows of
        /// [`PANEL`], `c` holds `rows` rows of [`PANEL`] with stride `ldc`.
        $(#[$attribute])*
        #[allow(unsafe_code)]
        pub(in crate::kernel) unsafe fn $panel(
            a: *const f32,
            lda: usize,
            rows: usize,
            b: *const f32,
            k: usize,
            c: *mut f32,
            ldc: usize,
            accumulate: bool,
        ) {
            const WIDTH: usize = $vectors * <$vector>::LANES;
            const { assert!(PANEL.is_multiple_of(WIDTH)) };
            // A strip of the panel stays in the nearest cache while all rows pass it.
            for column in (0..PANEL).step_by(WIDTH) {
                // Tiles of as equal a height as can be: a low last one would wait for its own sums.
                let tiles = rows.div_ceil($tallest);
                let mut row = 0;
                for tile_index in 0..tiles {
                    let height = (rows - row).div_ceil(tiles - tile_index);
                    // SAFETY: every address is within the rows that the caller vouches for.
                    unsafe {
                        let a = a.add(row * lda);
                        let b = b.add(column);
                        let c = c.add(row * ldc + column);
                        match height {
                            $($height => tile::<$vector, $vectors, $height>(a, lda, b, k, c, ldc, accumulate),)*
                            _ => tile::<$vector, $vectors, $tallest>(a, lda, b, k, c, ldc, accumulate),
                        }
                    }
                    row += height;
                }
            }
        }
    };
}

/// [`Vector`] for a type, by its intrinsics.
macro_rules! vector {
    ($vector:ty, $lanes:literal, $zero:expr, $load:ident, $store:ident, $splat:ident, $add:expr) => {
        #[allow(unsafe_code)]
        impl Vector for $vector {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: as the trait says; so below.
                unsafe { $zero }
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                unsafe { $load(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                unsafe { $store(to, self) }
            }

            #[inline(always)]
            unsafe fn splat(x: f32) -> Self {
                unsafe { $splat(x) }
            }

            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                unsafe { ($add)(self, a, b) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{avx2, avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{PANEL, Vector, tile};

    panel! {
        /// 2·14 sums, 2 of B and 1 of A: 31 of 32 registers.
        #[target_feature(enable = "avx512f")]
        avx512, __m512, 2, [1 2 3 4 5 6 7 8 9 10 11 12 13; 14]
    }
    panel! {
        /// 2·6 sums, 2 of B and 1 of A: 15 of 16 registers.
        #[target_feature(enable = "avx2,fma")]
        avx2, __m256, 2, [1 2 3 4 5; 6]
    }
    vector!(
        __m512,
        16,
        _mm512_setzero_ps(),
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        |sum, a, b| _mm512_fmadd_ps(a, b, sum)
    );
    vector!(
        __m256,
        8,
        _mm256_setzero_ps(),
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        |sum, a, b| _mm256_fmadd_ps(a, b, sum)
    );
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::neon;

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::{PANEL, Vector, tile};

    panel! {
        /// 4·5 sums, 4 of B and 1 of A, and room to load the next values of A: 32 registers.
        #[target_feature(enable = "neon")]
        neon, float32x4_t, 4, [1 2 3 4; 5]
    }
    vector!(
        float32x4_t,
        4,
        vdupq_n_f32(0.0),
        vld1q_f32,
        vst1q_f32,
        vdupq_n_f32,
        |sum, a, b| vfmaq_f32(sum, a, b)
    );
}

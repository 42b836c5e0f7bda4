//! Products of codes with the 256-bit registers of AVX2, sixteen columns at a time.

use std::arch::x86_64::*;

use super::PANEL;

/// Most rows at a time: 2·4 sums, 4 registers of B, 2 of A, 1 of ones and 1 to work in fill the 16
/// registers.
pub(super) const ROWS: usize = 4;

/// Most rows at a time with `vpdpbusd`: 2·6 sums, 2 registers of B and 1 of A.
pub(super) const VNNI_ROWS: usize = 6;

/// # Safety
///
/// AVX2; `height` ≤ [`ROWS`]; `a` holds `height` rows of 8·`steps` codes with stride `lda`, from 0 to
/// 127; `b` holds 16 columns of a panel as deep, its codes from −64 to 64; `c` holds `height` rows
/// with stride [`PANEL`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn rows(
    height: usize,
    a: *const u8,
    lda: usize,
    b: *const i8,
    steps: usize,
    c: *mut i32,
) {
    // SAFETY: as above.
    unsafe { by_height!(height, multiply (a, lda, b, steps, c), 1 2 3; 4) }
}

/// # Safety
///
/// As [`rows`], for exactly R rows.
#[target_feature(enable = "avx2")]
unsafe fn multiply<const R: usize>(
    a: *const u8,
    lda: usize,
    b: *const i8,
    steps: usize,
    c: *mut i32,
) {
    // SAFETY: every address is within the rows that the caller vouches for.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        for i in 0..steps {
            let b = b.add(i * 8 * PANEL);
            let (upper, lower) = (b.cast(), b.add(4 * PANEL).cast());
            let upper = [_mm256_loadu_si256(upper), _mm256_loadu_si256(upper.add(1))];
            let lower = [_mm256_loadu_si256(lower), _mm256_loadu_si256(lower.add(1))];
            for r in 0..R {
                let words = a.add(r * lda + 8 * i).cast::<i32>();
                let x = _mm256_set1_epi32(words.read_unaligned());
                let y = _mm256_set1_epi32(words.add(1).read_unaligned());
                for j in 0..2 {
                    // Sums of four, which sixteen bits hold, then of eight.
                    let fours = _mm256_add_epi16(
                        _mm256_maddubs_epi16(x, upper[j]),
                        _mm256_maddubs_epi16(y, lower[j]),
                    );
                    let eights = _mm256_madd_epi16(fours, ones);
                    sums[r][j] = _mm256_add_epi32(sums[r][j], eights);
                }
            }
        }
        for r in 0..R {
            let c = c.add(r * PANEL).cast();
            _mm256_storeu_si256(c, sums[r][0]);
            _mm256_storeu_si256(c.add(1), sums[r][1]);
        }
    }
}

/// # Safety
///
/// AVX-VNNI; otherwise as [`rows`], with `height` ≤ [`VNNI_ROWS`].
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn vnni_rows(
    height: usize,
    a: *const u8,
    lda: usize,
    b: *const i8,
    words: usize,
    c: *mut i32,
) {
    // SAFETY: as above.
    unsafe { by_height!(height, vnni_multiply (a, lda, b, words, c), 1 2 3 4 5; 6) }
}

/// # Safety
///
/// As [`vnni_rows`], for exactly R rows.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn vnni_multiply<const R: usize>(
    a: *const u8,
    lda: usize,
    b: *const i8,
    words: usize,
    c: *mut i32,
) {
    // SAFETY: every address is within the rows that the caller vouches for.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        for i in 0..words {
            let b = b.add(i * 4 * PANEL).cast();
            let (b0, b1) = (_mm256_loadu_si256(b), _mm256_loadu_si256(b.add(1)));
            for r in 0..R {
                let word = a.add(r * lda + 4 * i).cast::<i32>().read_unaligned();
                let x = _mm256_set1_epi32(word);
                sums[r][0] = _mm256_dpbusd_avx_epi32(sums[r][0], x, b0);
                sums[r][1] = _mm256_dpbusd_avx_epi32(sums[r][1], x, b1);
            }
        }
        for r in 0..R {
            let c = c.add(r * PANEL).cast();
            _mm256_storeu_si256(c, sums[r][0]);
            _mm256_storeu_si256(c.add(1), sums[r][1]);
        }
    }
}

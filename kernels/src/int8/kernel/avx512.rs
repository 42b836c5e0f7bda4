//! Products of codes with `vpdpbusd` in the 512-bit registers of AVX-512.

use std::arch::x86_64::*;

use super::PANEL;

/// Most rows at a time: 2·14 sums, 2 registers of B and 1 of A fill the 32 registers.
pub(super) const ROWS: usize = 14;

/// # Safety
///
/// AVX-512F and VNNI; `height` ≤ [`ROWS`]; `a` holds `height` rows of 4·`words` codes with stride
/// `lda`; `b` holds a panel as deep; `c` holds `height` rows of [`PANEL`].
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn rows(
    height: usize,
    a: *const u8,
    lda: usize,
    b: *const i8,
    words: usize,
    c: *mut i32,
) {
    // SAFETY: as above.
    unsafe {
        by_height!(height, multiply (a, lda, b, words, c), 1 2 3 4 5 6 7 8 9 10 11 12 13; 14);
    }
}

/// # Safety
///
/// As [`rows`], for exactly R rows.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn multiply<const R: usize>(
    a: *const u8,
    lda: usize,
    b: *const i8,
    words: usize,
    c: *mut i32,
) {
    // SAFETY: every address is within the rows that the caller vouches for.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); 2]; R];
        for i in 0..words {
            let b = b.add(i * 4 * PANEL).cast::<i32>();
            let (b0, b1) = (_mm512_loadu_epi32(b), _mm512_loadu_epi32(b.add(16)));
            for r in 0..R {
                let word = a.add(r * lda + 4 * i).cast::<i32>().read_unaligned();
                let x = _mm512_set1_epi32(word);
                sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], x, b0);
                sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], x, b1);
            }
        }
        for r in 0..R {
            let c = c.add(r * PANEL);
            _mm512_storeu_epi32(c, sums[r][0]);
            _mm512_storeu_epi32(c.add(16), sums[r][1]);
        }
    }
}

//! Numbers from one layout to another.

use crate::dispatch::vectorised;
use crate::operand::Operand;
#[cfg(target_arch = "x86_64")]
use crate::processor::{has_avx2, has_avx512};

/// Copies a row that is too short for a call of `memmove` to pay.
#[inline(always)]
pub(crate) fn copy<E: Operand>(source: &[E], target: &mut [E]) {
    let (from, from_rest) = source.as_chunks::<16>();
    let (to, to_rest) = target.as_chunks_mut::<16>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = *from;
    }
}

/// Two rows of halves as one row of words, the first in the lower halves.
pub(crate) fn pairs(low: &[u16], high: &[u16], words: &mut [u32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((word, &low), &high) in words.iter_mut().zip(low).zip(high) {
                *word = u32::from(low) | u32::from(high) << 16;
            }
        },
    );
}

/// target[c][r] = source[r][c], for `rows` by `columns` words.
pub(crate) fn transpose(
    source: &[u32],
    source_stride: usize,
    rows: usize,
    columns: usize,
    target: &mut [u32],
    target_stride: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(source.len() >= (rows - 1) * source_stride + columns);
    assert!(target.len() >= (columns - 1) * target_stride + rows);
    // Rows and columns of the blocks that vectors have done, from the first on.
    let (mut whole_rows, mut whole_columns) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if let Some((side, block)) = block() {
        (whole_rows, whole_columns) = (rows / side * side, columns / side * side);
        for row in (0..whole_rows).step_by(side) {
            for column in (0..whole_columns).step_by(side) {
                // SAFETY: the processor has the block's instructions; it lies within both matrices.
                #[allow(unsafe_code)]
                unsafe {
                    block(
                        source.as_ptr().add(row * source_stride + column),
                        source_stride,
                        target.as_mut_ptr().add(column * target_stride + row),
                        target_stride,
                    );
                }
            }
        }
    }
    for (row, line) in source.chunks(source_stride).take(rows).enumerate() {
        let from = if row < whole_rows { whole_columns } else { 0 };
        for column in from..columns {
            target[column * target_stride + row] = line[column];
        }
    }
}

/// Transposes a square of words, from one place and its stride to another.
#[cfg(target_arch = "x86_64")]
type Block = unsafe fn(*const u32, usize, *mut u32, usize);

/// The side of the widest [`Block`] that may be used, and it.
#[cfg(target_arch = "x86_64")]
fn block() -> Option<(usize, Block)> {
    if has_avx512() {
        return Some((16, transpose_16));
    }
    has_avx2().then_some((8, transpose_8 as Block))
}

/// # Safety
///
/// AVX2; 8 rows of 8 words from `source` and from `target`.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, clippy::needless_range_loop)]
#[target_feature(enable = "avx2")]
unsafe fn transpose_8(source: *const u32, source_stride: usize, target: *mut u32, stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: as above.
    unsafe {
        let mut r = [_mm256_setzero_si256(); 8];
        for i in 0..8 {
            r[i] = _mm256_loadu_si256(source.add(i * source_stride).cast());
        }
        // Words, then pairs of words within each half of a register; then the halves.
        let mut t = r;
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..2 {
            r[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
        }
        // r[4g + j] holds, in half h, column 4h + j of rows 4g to 4g + 3.
        for j in 0..4 {
            t[j] = _mm256_permute2x128_si256::<0x20>(r[j], r[4 + j]);
            t[4 + j] = _mm256_permute2x128_si256::<0x31>(r[j], r[4 + j]);
        }
        for i in 0..8 {
            _mm256_storeu_si256(target.add(i * stride).cast(), t[i]);
        }
    }
}

/// # Safety
///
/// AVX-512F; 16 rows of 16 words from `source` and from `target`.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, clippy::needless_range_loop)]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_16(source: *const u32, source_stride: usize, target: *mut u32, stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: as above.
    unsafe {
        let mut r: [__m512i; 16] = [_mm512_setzero_si512(); 16];
        for i in 0..16 {
            r[i] = _mm512_loadu_epi32(source.add(i * source_stride).cast());
        }
        // Words, then pairs of words within each quarter of a register; then the quarters.
        let mut t = r;
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..4 {
            r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
        }
        // r[4g + j] holds, in quarter q, column 4q + j of rows 4g to 4g + 3.
        for j in 0..4 {
            let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(r[j], r[4 + j]);
            let high = _mm512_shuffle_i32x4::<0b10_00_10_00>(r[8 + j], r[12 + j]);
            let low_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(r[j], r[4 + j]);
            let high_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(r[8 + j], r[12 + j]);
            t[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
            t[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
            t[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_odd, high_odd);
            t[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_odd, high_odd);
        }
        for i in 0..16 {
            _mm512_storeu_epi32(target.add(i * stride).cast(), t[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_any_shape() {
        for (rows, columns) in [(1, 1), (16, 16), (17, 33), (5, 40), (48, 3)] {
            let (source_stride, target_stride) = (columns + 3, rows + 2);
            let source: Vec<u32> = (0..(rows * source_stride) as u32).collect();
            let mut target = vec![u32::MAX; columns * target_stride];
            transpose(
                &source,
                source_stride,
                rows,
                columns,
                &mut target,
                target_stride,
            );
            for r in 0..rows {
                for c in 0..columns {
                    let found = target[c * target_stride + r];
                    assert_eq!(found, source[r * source_stride + c], "{rows} by {columns}");
                }
            }
            assert_eq!(
                target[rows],
                u32::MAX,
                "what lies between the columns stays"
            );
        }
    }

    #[test]
    fn short_copies_copy_everything() {
        for len in [0, 1, 15, 16, 17, 64, 70] {
            let source: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let mut target = vec![-1.0; len];
            copy(&source, &mut target);
            assert_eq!(source, target);
        }
    }
}

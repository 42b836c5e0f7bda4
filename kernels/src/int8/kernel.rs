//! The innermost loops of a product of codes: one per instruction set, chosen when the program runs.
//!
//! All of them do the same and give the same whole numbers: C = A·B for a few rows of A and one
//! panel of B. A holds codes of activations, 0 to 127, row by row; B codes of weights, −64 to 64,
//! packed in panels of [`PANEL`] columns, four values along k side by side: `[k/4][PANEL][4]`.

// A kernel is its operands and their strides; and loops over registers are loops over numbers, for
// the compiler has to unroll them.
#![allow(clippy::too_many_arguments, clippy::needless_range_loop)]

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::processor::{Instructions, has_avx2, has_avx512, may_use};

/// Columns of one panel.
pub(super) const PANEL: usize = 32;

/// Values along k that lie side by side.
pub(super) const INTERLEAVE: usize = 4;

/// What multiplies codes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Intel AMX: 16×16×64 at a time.
    Amx,
    /// AVX-512's `vpdpbusd`: 16×4 at a time.
    Avx512,
    /// The same in 256 bits, which processors without AVX-512 have: 8×4 at a time.
    AvxVnni,
    /// `vpmaddubsw` and `vpmaddwd`.
    Avx2,
    /// Whatever the compiler makes of it.
    Portable,
}

impl Kernel {
    /// k is padded with zeros to a multiple of this.
    pub(super) fn k_step(self) -> usize {
        match self {
            Self::Amx => 64,
            Self::Avx2 => 2 * INTERLEAVE,
            _ => INTERLEAVE,
        }
    }

    /// Rows of A and C are padded to a multiple of this; what is in them is no matter.
    pub(super) fn row_step(self) -> usize {
        match self {
            Self::Amx => 16,
            _ => 1,
        }
    }

    /// Those that may be used here, the best first. What AVX-VNNI adds to AVX2 counts as AVX-512.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if may_use(Instructions::Amx) && amx::available() {
                all.push(Self::Amx);
            }
            if has_avx512() && is_x86_feature_detected!("avx512vnni") {
                all.push(Self::Avx512);
            }
            let has_vnni = is_x86_feature_detected!("avxvnni");
            if has_avx2() && has_vnni && may_use(Instructions::Avx512) {
                all.push(Self::AvxVnni);
            }
            if has_avx2() {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Portable);
        all
    }
}

/// The best kernel of this processor.
pub(super) fn kernel() -> Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    *KERNEL.get_or_init(|| Kernel::all()[0])
}

/// Whether products of eight bits are faster than others here.
pub fn is_accelerated() -> bool {
    kernel() != Kernel::Portable
}

/// C = A·B: `rows` rows of A with stride `lda`, one panel of B, and C with rows of [`PANEL`].
///
/// # Panics
///
/// Where a slice is shorter than its strides say, or k is not a multiple of the kernel's step.
pub(super) fn panel(
    kernel: Kernel,
    a: &[u8],
    lda: usize,
    rows: usize,
    panel: &[i8],
    c: &mut [i32],
) {
    if rows == 0 {
        return;
    }
    let k = panel.len() / PANEL;
    let padded = rows.next_multiple_of(kernel.row_step());
    assert!(
        panel.len().is_multiple_of(PANEL) && k.is_multiple_of(kernel.k_step()),
        "k in whole steps"
    );
    assert!(
        lda >= k && a.len() >= (padded - 1) * lda + k,
        "left operand"
    );
    assert!(c.len() >= padded * PANEL, "product");
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Amx => {
            // SAFETY: the kernel was chosen because the processor has AMX for eight bits and the
            // system lets this process use it; the asserts above keep every tile within its slice.
            #[allow(unsafe_code)]
            unsafe {
                amx::panel(
                    a.as_ptr(),
                    lda,
                    padded,
                    panel.as_ptr(),
                    k / 64,
                    c.as_mut_ptr(),
                );
            }
        }
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 | Kernel::AvxVnni | Kernel::Avx2 => {
            let (most, columns) = match kernel {
                Kernel::Avx512 => (avx512::ROWS, PANEL),
                Kernel::AvxVnni => (avx2::VNNI_ROWS, PANEL / 2),
                _ => (avx2::ROWS, PANEL / 2),
            };
            // Blocks of as equal a height as can be: a short last one would waste the pipeline.
            let blocks = rows.div_ceil(most);
            for column in (0..PANEL).step_by(columns) {
                let mut done = 0;
                for block in 0..blocks {
                    let height = (rows - done).div_ceil(blocks - block);
                    // SAFETY: the kernel was chosen because the processor has its instructions,
                    // and the asserts above keep every row within its slice.
                    #[allow(unsafe_code)]
                    unsafe {
                        let a = a.as_ptr().add(done * lda);
                        let b = panel.as_ptr().add(column * INTERLEAVE);
                        let c = c.as_mut_ptr().add(done * PANEL + column);
                        match kernel {
                            Kernel::Avx512 => avx512::rows(height, a, lda, b, k / 4, c),
                            Kernel::AvxVnni => avx2::vnni_rows(height, a, lda, b, k / 4, c),
                            _ => avx2::rows(height, a, lda, b, k / 8, c),
                        }
                    }
                    done += height;
                }
            }
        }
        _ => portable(a, lda, rows, panel, c),
    }
}

fn portable(a: &[u8], lda: usize, rows: usize, panel: &[i8], c: &mut [i32]) {
    let k = panel.len() / PANEL;
    for (row, c) in c.chunks_exact_mut(PANEL).take(rows).enumerate() {
        let mut sums = [0_i32; PANEL];
        let (line, _) = a[row * lda..][..k].as_chunks::<INTERLEAVE>();
        let (words, _) = panel.as_chunks::<{ INTERLEAVE * PANEL }>();
        for (x, b) in line.iter().zip(words) {
            let (b, _) = b.as_chunks::<INTERLEAVE>();
            for (sum, b) in sums.iter_mut().zip(b) {
                for i in 0..INTERLEAVE {
                    *sum += i32::from(x[i]) * i32::from(b[i]);
                }
            }
        }
        c.copy_from_slice(&sums);
    }
}

/// Calls a kernel of a constant number of rows.
#[cfg(target_arch = "x86_64")]
macro_rules! by_height {
    ($height:expr, $kernel:ident $arguments:tt, $($rows:literal)*; $last:literal) => {
        match $height {
            $($rows => $kernel::<$rows> $arguments,)*
            _ => $kernel::<$last> $arguments,
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod amx;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int8::quantise::{ACTIVATION_MAX, WEIGHT_MAX};

    /// Every kernel of this processor, on heights and depths around its own block sizes, and on codes
    /// that are all extreme.
    #[test]
    fn every_kernel_gives_the_sum_itself() {
        let mut seed = 1_u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as i32
        };
        for kernel in Kernel::all() {
            for rows in [1_usize, 2, 4, 5, 6, 7, 11, 15, 16, 17, 31, 33, 50] {
                for k in [1_usize, 4, 12, 64, 76, 200] {
                    let k = k.next_multiple_of(kernel.k_step());
                    let padded = rows.next_multiple_of(kernel.row_step());
                    let lda = k + 4;
                    for extreme in [0, 1, 2] {
                        let mut a: Vec<u8> = (0..padded * lda)
                            .map(|_| (random() % (ACTIVATION_MAX + 1)) as u8)
                            .collect();
                        let most = i32::from(WEIGHT_MAX);
                        let mut b: Vec<i8> = (0..k * PANEL)
                            .map(|_| (random() % (2 * most + 1) - most) as i8)
                            .collect();
                        if extreme > 0 {
                            a.fill(ACTIVATION_MAX as u8);
                            b.fill(if extreme == 1 {
                                WEIGHT_MAX
                            } else {
                                -WEIGHT_MAX
                            });
                        }
                        let mut c = vec![-7; padded * PANEL];
                        panel(kernel, &a, lda, rows, &b, &mut c);
                        for r in 0..rows {
                            for j in 0..PANEL {
                                let sum: i64 = (0..k)
                                    .map(|i| {
                                        let b = b[(i / 4 * PANEL + j) * 4 + i % 4];
                                        i64::from(a[r * lda + i]) * i64::from(b)
                                    })
                                    .sum();
                                assert_eq!(
                                    i64::from(c[r * PANEL + j]),
                                    sum,
                                    "{kernel:?}, {rows} rows, k {k}, at {r}, {j}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

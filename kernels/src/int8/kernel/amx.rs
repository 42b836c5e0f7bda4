//! Products of codes with the tiles of Intel AMX.

use std::arch::asm;

use super::PANEL;
use crate::kernel::amx::{self, FULL_TILES};

/// Whether the processor has AMX for eight bits and the system grants it to this process.
pub(super) fn available() -> bool {
    amx::granted(25)
}

/// # Safety
///
/// AMX as [`available`] says; `rows` is a multiple of 16; `a` holds as many rows of 64·`steps` codes
/// with stride `lda`, `b` a panel as deep, `c` as many rows of [`PANEL`].
pub(super) unsafe fn panel(
    a: *const u8,
    lda: usize,
    rows: usize,
    b: *const i8,
    steps: usize,
    c: *mut i32,
) {
    // SAFETY: loads the tile configuration of this thread, and empties the tiles at the end, so that
    // none is alive outside this function.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const FULL_TILES, options(nostack, preserves_flags));
        for row in (0..rows).step_by(32) {
            // Two tiles of rows by two of columns; the last sixteen rows may be alone.
            let (a, c) = (a.add(row * lda), c.add(row * PANEL));
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack, nomem, preserves_flags),
            );
            if row + 32 <= rows {
                multiply(a, lda, b, steps);
                asm!(
                    "tilestored [{c} + {stride}], tmm2",
                    "tilestored [{c} + {stride} + 64], tmm3",
                    c = in(reg) c.add(16 * PANEL),
                    stride = in(reg) PANEL * 4,
                    options(nostack, preserves_flags),
                );
            } else {
                multiply_single(a, lda, b, steps);
            }
            asm!(
                "tilestored [{c} + {stride}], tmm0",
                "tilestored [{c} + {stride} + 64], tmm1",
                c = in(reg) c,
                stride = in(reg) PANEL * 4,
                options(nostack, preserves_flags),
            );
        }
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
    }
}

/// # Safety: see [`panel`].
#[inline(always)]
unsafe fn multiply(a: *const u8, lda: usize, b: *const i8, steps: usize) {
    if steps == 0 {
        return;
    }
    // SAFETY: `steps` tiles along 32 rows of `a` and down the panel `b`; four values of each column
    // of a panel are 128 bytes, a step of it 16 such rows.
    unsafe {
        asm!(
            "2:",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm4, [{top} + {lda}]",
            "tileloadd tmm7, [{b} + {row} + 64]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{bottom} + {lda}]",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {top}, 64",
            "add {bottom}, 64",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            top = inout(reg) a => _,
            bottom = inout(reg) a.add(16 * lda) => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            lda = in(reg) lda,
            row = in(reg) 128_usize,
            options(nostack, readonly),
        );
    }
}

/// # Safety: see [`panel`].
#[inline(always)]
unsafe fn multiply_single(a: *const u8, lda: usize, b: *const i8, steps: usize) {
    if steps == 0 {
        return;
    }
    // SAFETY: as [`multiply`], along 16 rows of `a`.
    unsafe {
        asm!(
            "2:",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm4, [{a} + {lda}]",
            "tileloadd tmm7, [{b} + {row} + 64]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "add {a}, 64",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            lda = in(reg) lda,
            row = in(reg) 128_usize,
            options(nostack, readonly),
        );
    }
}

//! Products of bf16 with the tiles of Intel AMX.

use std::arch::asm;

use half::bf16;

/// The layout `ldtilecfg` reads: palette 1, eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
pub(crate) struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

pub(crate) static FULL_TILES: TileConfig = {
    let mut config = TileConfig {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes: [0; 16],
        rows: [0; 16],
    };
    let mut i = 0;
    while i < 8 {
        config.bytes[i] = 64;
        config.rows[i] = 16;
        i += 1;
    }
    config
};

/// Whether the processor has AMX for bf16 and the system grants it to this process.
pub(super) fn available() -> bool {
    granted(22)
}

/// Whether the processor has AMX for the type of this bit (of `cpuid` 7, `edx`) and the system grants
/// it to this process.
#[cfg(target_os = "linux")]
pub(crate) fn granted(bit: u32) -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const REQUEST_PERMISSION: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    if __cpuid(0).eax < 7 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    let (products, tiles) = (features >> bit & 1, features >> 24 & 1);
    // SAFETY: asks the kernel for permission to use the tile registers; it answers with an error
    // where it knows no such request, and touches no memory of ours.
    products == 1
        && tiles == 1
        && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) } == 0
}

/// Other systems have other ways to grant it, which nobody has tried.
#[cfg(not(target_os = "linux"))]
pub(crate) fn granted(_bit: u32) -> bool {
    false
}

/// # Safety
///
/// AMX as [`available`] says; `rows` is a multiple of 16; `a` holds as many rows of 32·`steps`
/// with stride `lda`, `b` holds a panel of 32·`steps`, `c` holds as many rows of 32 with stride
/// `ldc`.
pub(super) unsafe fn panel(
    a: *const bf16,
    lda: usize,
    rows: usize,
    b: *const bf16,
    steps: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    // SAFETY: loads the tile configuration of this thread, and empties the tiles at the end,
    // so that none is alive outside this function.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const FULL_TILES, options(nostack, preserves_flags));
        for row in (0..rows).step_by(32) {
            let (a, c) = (a.add(row * lda), c.add(row * ldc));
            // Two tiles of rows by two of columns; the last sixteen rows may be alone.
            let pair = row + 32 <= rows;
            if accumulate {
                load(c, c.add(if pair { 16 * ldc } else { 0 }), ldc);
            } else {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, nomem, preserves_flags),
                );
            }
            if pair {
                multiply(a, lda, b, steps);
                store_below(c.add(16 * ldc), ldc);
            } else {
                multiply_single(a, lda, b, steps);
            }
            store(c, ldc);
        }
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
    }
}

/// The four tiles of C. # Safety: see [`panel`].
#[inline(always)]
unsafe fn load(c: *const f32, below: *const f32, ldc: usize) {
    // SAFETY: 16 rows of 32 from `c`, and from `below`.
    unsafe {
        asm!(
            "tileloadd tmm0, [{top} + {stride}]",
            "tileloadd tmm1, [{top} + {stride} + 64]",
            "tileloadd tmm2, [{bottom} + {stride}]",
            "tileloadd tmm3, [{bottom} + {stride} + 64]",
            top = in(reg) c,
            bottom = in(reg) below,
            stride = in(reg) ldc * 4,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// # Safety: see [`panel`].
#[inline(always)]
unsafe fn store(c: *mut f32, ldc: usize) {
    // SAFETY: 16 rows of 32 from `c`.
    unsafe {
        asm!(
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 64], tmm1",
            c = in(reg) c,
            stride = in(reg) ldc * 4,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety: see [`panel`].
#[inline(always)]
unsafe fn store_below(c: *mut f32, ldc: usize) {
    // SAFETY: 16 rows of 32 from `c`.
    unsafe {
        asm!(
            "tilestored [{c} + {stride}], tmm2",
            "tilestored [{c} + {stride} + 64], tmm3",
            c = in(reg) c,
            stride = in(reg) ldc * 4,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety: see [`panel`].
#[inline(always)]
unsafe fn multiply_single(a: *const bf16, lda: usize, b: *const bf16, steps: usize) {
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
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 64",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            lda = in(reg) lda * 2,
            row = in(reg) 128_usize,
            options(nostack, readonly),
        );
    }
}

/// # Safety: see [`panel`].
#[inline(always)]
unsafe fn multiply(a: *const bf16, lda: usize, b: *const bf16, steps: usize) {
    if steps == 0 {
        return;
    }
    // SAFETY: `steps` tiles along 32 rows of `a` and down the panel `b`; a row of a panel's
    // pairs is 128 bytes, a step of it 16 rows.
    unsafe {
        asm!(
            "2:",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm4, [{top} + {lda}]",
            "tileloadd tmm7, [{b} + {row} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{bottom} + {lda}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {top}, 64",
            "add {bottom}, 64",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            top = inout(reg) a => _,
            bottom = inout(reg) a.add(16 * lda) => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            lda = in(reg) lda * 2,
            row = in(reg) 128_usize,
            options(nostack, readonly),
        );
    }
}

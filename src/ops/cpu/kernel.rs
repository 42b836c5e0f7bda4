//! The innermost loops of a matrix product: one per instruction set, chosen when the program runs.
//!
//! All of them do the same: C += A·B for a few rows of A and one panel of B, whose [`PANEL`]
//! columns lie side by side. The left operand is row by row; the right one is packed as
//! [`Panels`](super::matrix::Panels) says. Sums run over k in the same order however many rows
//! there are, so that results do not depend on how work is split.

// A kernel is its operands and their strides; and loops over registers are loops over numbers, for
// the compiler has to unroll them.
#![allow(clippy::too_many_arguments, clippy::needless_range_loop)]

use std::sync::OnceLock;

use half::bf16;

/// Columns of one panel of the right operand: two registers of AVX-512, two tiles of AMX.
pub const PANEL: usize = 32;

/// k is padded to a multiple of this in bf16: the depth of one AMX tile.
pub const BF16_STEP: usize = 32;

/// Rows of the left operand come in multiples of this in bf16, padded where there are fewer: one
/// AMX tile.
pub const BF16_ROWS: usize = 16;

/// What multiplies bf16 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bf16Kernel {
    /// Intel AMX: 16×16×32 at a time.
    Amx,
    /// AVX-512's `vdpbf16ps`: 16×2 at a time.
    Avx512,
    /// Widened to f32: correct anywhere, and no faster than f32.
    Portable,
}

/// What multiplies f32 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum F32Kernel {
    /// 512-bit fused multiply-add.
    Avx512,
    /// 256-bit fused multiply-add.
    Avx2,
    /// Whatever the compiler makes of it.
    Portable,
}

/// The best bf16 kernel of this processor.
pub fn bf16_kernel() -> Bf16Kernel {
    static KERNEL: OnceLock<Bf16Kernel> = OnceLock::new();
    *KERNEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if amx::available() {
                return Bf16Kernel::Amx;
            }
            if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") {
                return Bf16Kernel::Avx512;
            }
        }
        Bf16Kernel::Portable
    })
}

/// The best f32 kernel of this processor.
pub fn f32_kernel() -> F32Kernel {
    static KERNEL: OnceLock<F32Kernel> = OnceLock::new();
    *KERNEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return F32Kernel::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return F32Kernel::Avx2;
            }
        }
        F32Kernel::Portable
    })
}

/// C (+)= A·B in f32: `rows` rows of A with stride `lda`, one panel `[k][PANEL]` of B, and C with
/// stride `ldc`.
///
/// # Panics
///
/// Where a slice is shorter than its strides say.
pub(super) fn f32_panel(
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
    match kernel {
        #[cfg(target_arch = "x86_64")]
        F32Kernel::Avx512 => {
            // Blocks of as equal a height as can be: a short last one would waste the pipeline.
            let blocks = rows.div_ceil(avx512::ROWS);
            let mut done = 0;
            for block in 0..blocks {
                let height = (rows - done).div_ceil(blocks - block);
                // SAFETY: the kernel was chosen because the processor has AVX-512F, and the
                // asserts above keep every row within its slice.
                #[allow(unsafe_code)]
                unsafe {
                    avx512::f32_rows(
                        height,
                        a.as_ptr().add(done * lda),
                        lda,
                        panel.as_ptr(),
                        k,
                        c.as_mut_ptr().add(done * ldc),
                        ldc,
                        accumulate,
                    );
                }
                done += height;
            }
        }
        #[cfg(target_arch = "x86_64")]
        F32Kernel::Avx2 => {
            // SAFETY: the kernel was chosen because the processor has AVX2 and FMA.
            #[allow(unsafe_code)]
            unsafe {
                avx2::f32_panel(a, lda, rows, panel, c, ldc, accumulate);
            }
        }
        _ => portable::<false>(a, lda, rows, panel, c, ldc, accumulate),
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
pub(super) fn bf16_panel(
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

/// f32 in plain Rust; `FUSED` asks for fused multiply-add, which is slow where there is none.
#[inline(always)]
fn portable<const FUSED: bool>(
    a: &[f32],
    lda: usize,
    rows: usize,
    panel: &[f32],
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    const ROWS: usize = 4;
    let k = panel.len() / PANEL;
    let mut row = 0;
    while row < rows {
        let height = ROWS.min(rows - row);
        let mut sums = [[0.0_f32; PANEL]; ROWS];
        if accumulate {
            for (r, sums) in sums.iter_mut().enumerate().take(height) {
                sums.copy_from_slice(&c[(row + r) * ldc..][..PANEL]);
            }
        }
        // Rows past the end repeat the last one and are not stored.
        let lines: [&[f32]; ROWS] =
            std::array::from_fn(|r| &a[(row + r.min(height - 1)) * lda..][..k]);
        for (i, b) in panel.chunks_exact(PANEL).enumerate() {
            for (sums, line) in sums.iter_mut().zip(&lines) {
                let x = line[i];
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum = if FUSED {
                        x.mul_add(b, *sum)
                    } else {
                        *sum + x * b
                    };
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(height) {
            c[(row + r) * ldc..][..PANEL].copy_from_slice(sums);
        }
        row += height;
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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    /// [`portable`](super::portable) with the compiler free to use AVX2 and FMA.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx2,fma")]
    pub fn f32_panel(
        a: &[f32],
        lda: usize,
        rows: usize,
        panel: &[f32],
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    ) {
        super::portable::<true>(a, lda, rows, panel, c, ldc, accumulate);
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512 {
    use std::arch::x86_64::*;

    use super::PANEL;

    /// Most rows at a time: 2·14 sums, 2 registers of B and 1 of A fill the 32 registers.
    pub const ROWS: usize = 14;

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
    /// AVX-512F; `height` ≤ [`ROWS`]; `a` holds `height` rows of `k` with stride `lda`, `b` holds
    /// `k` rows of [`PANEL`], `c` holds `height` rows of [`PANEL`] with stride `ldc`.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn f32_rows(
        height: usize,
        a: *const f32,
        lda: usize,
        b: *const f32,
        k: usize,
        c: *mut f32,
        ldc: usize,
        accumulate: bool,
    ) {
        // SAFETY: as above.
        unsafe { by_height!(height, f32_kernel, a, lda, b, k, c, ldc, accumulate) }
    }

    /// # Safety
    ///
    /// As [`f32_rows`], for exactly R rows.
    #[target_feature(enable = "avx512f")]
    unsafe fn f32_kernel<const R: usize>(
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
            let mut sums = [[_mm512_setzero_ps(); 2]; R];
            if accumulate {
                for r in 0..R {
                    sums[r][0] = _mm512_loadu_ps(c.add(r * ldc));
                    sums[r][1] = _mm512_loadu_ps(c.add(r * ldc + 16));
                }
            }
            for i in 0..k {
                let b0 = _mm512_loadu_ps(b.add(i * PANEL));
                let b1 = _mm512_loadu_ps(b.add(i * PANEL + 16));
                for r in 0..R {
                    let x = _mm512_set1_ps(*a.add(r * lda + i));
                    sums[r][0] = _mm512_fmadd_ps(x, b0, sums[r][0]);
                    sums[r][1] = _mm512_fmadd_ps(x, b1, sums[r][1]);
                }
            }
            for r in 0..R {
                _mm512_storeu_ps(c.add(r * ldc), sums[r][0]);
                _mm512_storeu_ps(c.add(r * ldc + 16), sums[r][1]);
            }
        }
    }

    /// # Safety
    ///
    /// AVX-512F and BF16; otherwise as [`f32_rows`], with `k` pairs in place of `k`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn bf16_rows(
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
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod amx {
    use std::arch::asm;

    use half::bf16;

    /// The layout `ldtilecfg` reads: palette 1, eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct TileConfig {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    static FULL_TILES: TileConfig = {
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
    #[cfg(target_os = "linux")]
    pub fn available() -> bool {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const REQUEST_PERMISSION: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        if __cpuid(0).eax < 7 {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        let (bf16, tiles) = (features >> 22 & 1, features >> 24 & 1);
        // SAFETY: asks the kernel for leave to use the tile registers; it answers with an error
        // where it knows no such request, and touches no memory of ours.
        bf16 == 1
            && tiles == 1
            && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) } == 0
    }

    /// Other systems have other ways to grant it, which nobody has tried.
    #[cfg(not(target_os = "linux"))]
    pub fn available() -> bool {
        false
    }

    /// # Safety
    ///
    /// AMX as [`available`] says; `rows` is a multiple of 16; `a` holds as many rows of 32·`steps`
    /// with stride `lda`, `b` holds a panel of 32·`steps`, `c` holds as many rows of 32 with stride
    /// `ldc`.
    pub unsafe fn panel(
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
}

#[cfg(test)]
mod tests {
    use super::super::matrix::{Buffer, Operand, Panels, Rows, product, product_into};
    use super::*;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Every kernel of this processor, on heights and depths around its own block sizes.
    #[test]
    fn every_kernel_equals_the_sum() {
        let mut f32_kernels = vec![F32Kernel::Portable];
        let mut bf16_kernels = vec![Bf16Kernel::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                f32_kernels.push(F32Kernel::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                f32_kernels.push(F32Kernel::Avx512);
            }
            if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") {
                bf16_kernels.push(Bf16Kernel::Avx512);
            }
            if amx::available() {
                bf16_kernels.push(Bf16Kernel::Amx);
            }
        }
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

    fn products<E: Operand>(tolerance: f64) {
        for (m, k, n) in [
            (1, 1, 1),
            (3, 5, 7),
            (16, 31, 33),
            (33, 47, 65),
            (70, 130, 31),
        ] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let mut want = vec![0.0; m * n];
            for (i, want) in want.iter_mut().enumerate() {
                *want = (0..k)
                    .map(|l| f64::from(a[i / n * k + l]) * f64::from(b[l * n + i % n]))
                    .sum();
            }
            let column = |x: &[f32], width: usize, i: usize| -> Vec<f32> {
                x.iter().skip(i).step_by(width).copied().collect()
            };
            // Filled again and again, so that what an earlier fill left behind would show.
            let (mut rows, mut panels) = (Rows::default(), Panels::default());
            for (transpose_a, transpose_b) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                if transpose_a {
                    rows.fill_transposed::<E>(m, k, |i, t| E::from_f32(&column(&a, k, i), t));
                } else {
                    rows.fill::<E>(m, k, |r, t| E::from_f32(&a[r * k..][..k], t));
                }
                if transpose_b {
                    panels.fill_transposed::<E>(k, n, |j, t| E::from_f32(&column(&b, n, j), t));
                } else {
                    panels.fill::<E>(k, n, |r, t| E::from_f32(&b[r * n..][..n], t));
                }
                let mut found = vec![0.0; m * n];
                product::<E>(&rows, &panels, &mut Buffer::default(), |columns, c| {
                    for r in 0..m {
                        for (i, j) in columns.clone().enumerate() {
                            found[r * n + j] = c[r * PANEL + i];
                        }
                    }
                });
                let stride = n.next_multiple_of(PANEL);
                let mut whole = vec![0.0; m.next_multiple_of(E::ROW_STEP) * stride];
                product_into::<E>(&rows, &panels, &mut whole, stride, false);
                for i in 0..m * n {
                    let error = (f64::from(found[i]) - want[i]).abs();
                    assert!(
                        error < tolerance,
                        "{m} {k} {n} at {i}: {}, not {}",
                        found[i],
                        want[i]
                    );
                    assert_eq!(whole[i / n * stride + i % n], found[i]);
                }
            }
        }
    }

    #[test]
    fn products_of_any_shape_either_way_round() {
        products::<f32>(1e-4);
        products::<bf16>(0.15);
    }
}

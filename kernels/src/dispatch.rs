//! The choice of instruction set for loops that the compiler vectorises.

use std::sync::OnceLock;

use pulp::Arch;

#[cfg(target_arch = "x86_64")]
use crate::processor::{has_avx2, has_avx512};

/// Runs `f` compiled for this processor's vectors, if it is inlined (`#[inline(always)]`).
///
/// `f` is called by reference: a closure that is consumed may be called through a shim of the
/// compiler's own, which knows of no instruction set and keeps the closure's body to itself.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnMut() -> R) -> R {
    struct Call<F>(F);
    impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Call<F> {
        type Output = R;

        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }
    best().dispatch(Call(f))
}

/// The widest vectors that may be used.
#[inline]
fn best() -> Arch {
    static BEST: OnceLock<Arch> = OnceLock::new();
    *BEST.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        return match Arch::new() {
            Arch::V4(simd) if !has_avx512() && has_avx2() => Arch::V3(*simd),
            Arch::V3(_) | Arch::V4(_) if !has_avx2() => Arch::Scalar,
            arch => arch,
        };
        #[cfg(not(target_arch = "x86_64"))]
        Arch::new()
    })
}

//! The choice of instruction set for loops that the compiler vectorises.

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
    pulp::Arch::new().dispatch(Call(f))
}

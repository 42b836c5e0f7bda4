//! How many rows a task takes at a time, and the memory that it works in.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crate::matrix::{Buffer, Panels, Rows};
use crate::operand::Operand;

/// Most rows that one task takes at a time: enough to reuse each panel, few enough for the cache.
pub(crate) const BLOCK: usize = 128;

/// Rows that one task takes at a time, where each row's result is its own: shares as equal as can
/// be, so that every thread gets as much where there are few.
pub(crate) fn block<E: Operand>(rows: usize) -> usize {
    let threads = rayon::current_num_threads();
    let tasks = rows.div_ceil(BLOCK).max(1).next_multiple_of(threads);
    rows.div_ceil(tasks).next_multiple_of(E::ROW_STEP).max(1)
}

/// What a task works in; each thread has its own and uses it again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Left operands.
    pub(crate) rows: [Rows; 3],
    /// Right operands that change from block to block.
    pub(crate) panels: [Panels; 4],
    /// Products.
    pub(crate) products: [Buffer; 6],
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl Scratch {
    /// This thread's own until the result is dropped; a second call before that gets a fresh one.
    pub(crate) fn lent() -> Lent {
        Lent(SCRATCH.take())
    }
}

/// A [`Scratch`] that goes back to its thread when dropped.
#[derive(Debug)]
pub(crate) struct Lent(Scratch);

impl Deref for Lent {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.0
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A thread that is ending has no place for it any more.
        let _ = SCRATCH.try_with(|place| place.set(std::mem::take(&mut self.0)));
    }
}

/// A vector whose every value that is read will be written before; what is padding need not be.
///
/// Clearing it first would cost a pass over memory as long as many of the kernels take. In tests it is full of
/// what is not a number, so that a value that nobody wrote is found (`tests.rs`).
pub(crate) fn output<E: Operand>(len: usize) -> Vec<E> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: E is plain old data, for which every bit pattern is a value; the kernels that
    // take an output write all of it that anyone reads, block by block.
    #[allow(unsafe_code, clippy::uninit_vec)]
    unsafe {
        values.set_len(len);
    }
    #[cfg(test)]
    bytemuck::cast_slice_mut(&mut values).fill(u8::MAX);
    values
}

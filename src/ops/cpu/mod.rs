//! The operations on the processor: plain slices in, plain slices out.
//!
//! Read [`kernel`] (the innermost loops, one per instruction set), [`matrix`] (how operands reach
//! them), [`vector`] (everything element by element), then the operations. What is summed over
//! rows is split by the sizes alone and added up in a fixed order; rows whose results are their own
//! are shared out among the threads. So results do not depend on threads.

pub mod attention;
pub mod batch_norm;
pub mod conv;
pub mod convert;
pub mod embedding;
pub mod flat;
pub mod gather;
pub mod kernel;
pub mod linear;
pub mod map;
pub mod matrix;
pub mod mlp;
pub mod muon;
pub mod norm;
pub mod pool;
pub mod query_key;
pub mod tape;
pub mod vector;

/// How much of each picture's branch is kept: drop path.
#[derive(Debug, Clone, Copy)]
pub struct Keep<'a> {
    pictures: Option<&'a [f32]>,
    rows_per_picture: usize,
}

impl<'a> Keep<'a> {
    /// One number a picture, or all of everything.
    pub fn new(pictures: Option<&'a [f32]>, rows_per_picture: usize) -> Self {
        Self {
            pictures,
            rows_per_picture,
        }
    }

    /// The number of one picture.
    fn picture(&self, i: usize) -> Option<&'a [f32]> {
        self.pictures.map(|keep| &keep[i..=i])
    }

    fn of(&self, row: usize) -> f32 {
        self.pictures
            .map_or(1.0, |keep| keep[row / self.rows_per_picture])
    }
}

/// Whether the processor multiplies bf16 by itself.
pub fn has_bf16() -> bool {
    kernel::bf16_kernel() != kernel::Bf16Kernel::Portable
}

//! What vitrine computes on a processor: slices in, slices out, and no tensor library.
//!
//! Read `kernel` (the innermost loops, one per instruction set), `matrix` (how operands reach
//! them), `scalar` and `vector` (everything element by element), `gradient` (sums over many rows),
//! then the operations, one file each. What is summed over rows is split by the sizes alone and
//! added up in a fixed order; rows whose results are their own are shared out among the threads. So
//! results do not depend on threads.
//!
//! Shapes of slices are row-major, and lengths that disagree are the caller's bug: the operations
//! panic on them, or on what they index. Of no rows they make no rows, and gradients of zero.

mod activation;
pub mod adamw;
pub mod attention;
pub mod batch_norm;
mod compiled;
pub mod conv;
mod convert;
mod dispatch;
pub mod embedding;
pub mod flat;
pub mod gather;
mod gradient;
pub mod int8;
mod keep;
mod kernel;
pub mod linear;
mod map;
mod matrix;
pub mod mlp;
pub mod muon;
pub mod norm;
mod operand;
pub mod pool;
mod processor;
mod query_key;
mod scalar;
mod scratch;
mod tail;
#[cfg(test)]
mod tests;
mod vector;

pub use activation::Activation;
pub use compiled::compiled;
pub use keep::Keep;
pub use kernel::{has_bf16, instructions};
pub use map::{Map, Window};
pub use operand::Operand;
pub use processor::Instructions;
pub use query_key::{QueryKey, RowNorm};
pub use tail::Tail;

//! The generic operations, compiled in this crate for both operands.
//!
//! A generic function is compiled by each crate that calls it, save one that is marked
//! `#[inline(never)]` and that a crate below has compiled for the same types already. So a change
//! above this crate compiles no kernel again.

use half::bf16;

use crate::operand::Operand;
use crate::{attention, batch_norm, conv, embedding, linear, mlp, muon, pool};

/// Names each operation for each operand, so that the compiler has them here; not to be called.
#[doc(hidden)]
#[inline(never)]
pub fn compiled() -> [Operations; 2] {
    [operations::<f32>(), operations::<bf16>()]
}

type Operations = [*const (); 26];

fn operations<E: Operand>() -> Operations {
    [
        attention::Weights::packed::<E> as *const (),
        attention::backward::<E> as *const (),
        attention::forward::<E> as *const (),
        attention::infer::<E> as *const (),
        batch_norm::Statistics::of::<E> as *const (),
        batch_norm::backward::<E> as *const (),
        batch_norm::forward::<E> as *const (),
        batch_norm::shifted_gelu::<E> as *const (),
        batch_norm::shifted_gelu_gradient::<E> as *const (),
        conv::Packed::<E>::folded as *const (),
        conv::Packed::<E>::new as *const (),
        conv::forward::<E> as *const (),
        conv::input_gradient::<E> as *const (),
        conv::weight_gradient::<E> as *const (),
        embedding::backward::<E> as *const (),
        embedding::forward::<E> as *const (),
        linear::Packed::<E>::new as *const (),
        linear::backward::<E> as *const (),
        linear::forward::<E> as *const (),
        linear::limit::<E> as *const (),
        mlp::Weights::packed::<E> as *const (),
        mlp::backward::<E> as *const (),
        mlp::forward::<E> as *const (),
        muon::direction::<E> as *const (),
        pool::backward::<E> as *const (),
        pool::forward::<E> as *const (),
    ]
}

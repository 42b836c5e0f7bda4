//! What queries and keys go through before they meet: a norm and a rotation, row by row.
//!
//! A row is normed and turned where it becomes an operand of a product, in the nearest cache; what
//! is kept for the gradient is the row as the layer gave it.

use crate::dispatch::vectorised;
use crate::operand::Operand;
use crate::vector;

/// What queries and keys go through; nothing by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryKey<'a> {
    /// γ of the queries' norm and of the keys', `[d]` each.
    pub norm: Option<[&'a [f32]; 2]>,
    /// Of each token d/2 cosines, then d/2 sines, `[N, d]`.
    pub rotation: Option<&'a [f32]>,
}

impl QueryKey<'_> {
    /// Whether rows of this part, queries (0), keys (1) or values (2), change at all.
    pub(crate) fn changes(&self, part: usize) -> bool {
        part < 2 && (self.norm.is_some() || self.rotation.is_some())
    }

    /// One row; `scratch` has room for two.
    pub(crate) fn forward<E: Operand>(
        &self,
        part: usize,
        token: usize,
        x: &[E],
        scratch: &mut [f32],
        target: &mut [E],
    ) {
        let (row, normed) = scratch.split_at_mut(x.len());
        E::to_f32(x, row);
        if let Some(gamma) = self.norm {
            vector::standardise(row, normed);
            product(normed, gamma[part], row);
        }
        if let Some(table) = self.rotation {
            rotate(row, &table[token * x.len()..][..x.len()], 1.0);
        }
        E::from_f32(row, target);
    }

    /// The gradient of [`forward`](Self::forward)'s `x` from that of its result, in place; that of
    /// γ is added to `dgamma`. `scratch` has room for four rows.
    pub(crate) fn backward<E: Operand>(
        &self,
        part: usize,
        token: usize,
        x: &[E],
        scratch: &mut [f32],
        gradient: &mut [E],
        dgamma: &mut [f32],
    ) {
        let (g, rest) = scratch.split_at_mut(x.len());
        let (row, rest) = rest.split_at_mut(x.len());
        let (normed, zeros) = rest.split_at_mut(x.len());
        E::to_f32(gradient, g);
        if let Some(table) = self.rotation {
            rotate(g, &table[token * x.len()..][..x.len()], -1.0);
        }
        if let Some(gamma) = self.norm {
            E::to_f32(x, row);
            vector::standardise(row, normed);
            vector::add_product(dgamma, normed, g);
            product(g, gamma[part], normed);
            zeros.fill(0.0);
            vector::standardise_gradient(row, normed, zeros, g);
        }
        E::from_f32(g, gradient);
    }
}

/// target = a·b, value by value.
fn product(a: &[f32], b: &[f32], target: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((target, &a), &b) in target.iter_mut().zip(a).zip(b) {
                *target = a * b;
            }
        },
    );
}

/// Turns the pairs (xᵢ, xᵢ₊d/₂) by the angles whose cosines and sines are in `table`; by their
/// opposites where `sign` is −1.
fn rotate(x: &mut [f32], table: &[f32], sign: f32) {
    let half = x.len() / 2;
    let (first, second) = x.split_at_mut(half);
    let (cosines, sines) = table.split_at(half);
    vectorised(
        #[inline(always)]
        || {
            let pairs = first.iter_mut().zip(second.iter_mut());
            for (((a, b), &cosine), &sine) in pairs.zip(cosines).zip(sines) {
                let (x, y) = (*a, *b);
                *a = x * cosine - y * sine * sign;
                *b = y * cosine + x * sine * sign;
            }
        },
    );
}

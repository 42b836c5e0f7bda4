//! What queries and keys go through before they meet: a norm and a rotation, row by row.
//!
//! A row is normed and turned where it becomes an operand of a product, in the nearest cache; what
//! is kept for the gradient is the row as the layer gave it.

use crate::dispatch::vectorised;
use crate::operand::Operand;
use crate::vector;

/// A layer norm of each row of a head.
#[derive(Debug, Clone, Copy)]
pub struct RowNorm<'a> {
    /// γ, `[d]`.
    pub gamma: &'a [f32],
    /// β, `[d]`, where it has one.
    pub beta: Option<&'a [f32]>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// What queries and keys go through; nothing by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryKey<'a> {
    /// The queries' norm and the keys'.
    pub norm: Option<[RowNorm<'a>; 2]>,
    /// Of each token d/2 cosines, then d/2 sines, `[N, d]`.
    pub rotation: Option<&'a [f32]>,
}

impl QueryKey<'_> {
    /// Whether rows of this part, queries (0), keys (1) or values (2), change at all.
    pub(crate) fn changes(&self, part: usize) -> bool {
        part < 2 && (self.norm.is_some() || self.rotation.is_some())
    }

    /// How many values γ and β of the queries' norm have, and those of the keys', of heads of width
    /// `head_dim`.
    pub(crate) fn lengths(&self, head_dim: usize) -> [usize; 4] {
        let Some([query, key]) = self.norm else {
            return [0; 4];
        };
        let beta = |norm: RowNorm| norm.beta.map_or(0, |_| head_dim);
        [head_dim, beta(query), head_dim, beta(key)]
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
        if let Some(norms) = self.norm {
            let norm = norms[part];
            vector::standardise(row, norm.epsilon, normed);
            match norm.beta {
                None => product(normed, norm.gamma, row),
                Some(beta) => {
                    row.copy_from_slice(normed);
                    vector::scale_shift(row, norm.gamma, beta);
                }
            }
        }
        if let Some(table) = self.rotation {
            rotate(row, &table[token * x.len()..][..x.len()], 1.0);
        }
        E::from_f32(row, target);
    }

    /// The gradient of [`forward`](Self::forward)'s `x` from that of its result, in place; those of
    /// γ and, where there is one, β are added to `dnorm`. `scratch` has room for four rows.
    pub(crate) fn backward<E: Operand>(
        &self,
        part: usize,
        token: usize,
        x: &[E],
        scratch: &mut [f32],
        gradient: &mut [E],
        dnorm: &mut [f32],
    ) {
        let (g, rest) = scratch.split_at_mut(x.len());
        let (row, rest) = rest.split_at_mut(x.len());
        let (normed, zeros) = rest.split_at_mut(x.len());
        E::to_f32(gradient, g);
        if let Some(table) = self.rotation {
            rotate(g, &table[token * x.len()..][..x.len()], -1.0);
        }
        if let Some(norms) = self.norm {
            let norm = norms[part];
            let (dgamma, dbeta) = dnorm.split_at_mut(x.len());
            E::to_f32(x, row);
            vector::standardise(row, norm.epsilon, normed);
            vector::add_product(dgamma, normed, g);
            vector::add_scaled(dbeta, g, 1.0);
            product(g, norm.gamma, normed);
            zeros.fill(0.0);
            vector::standardise_gradient(row, norm.epsilon, normed, zeros, g);
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

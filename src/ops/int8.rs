//! Weights of eight bits.

use vitrine_kernels::int8::{Codes, WEIGHT_MAX};

/// Which dimension of a weight is that of its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// Of a convolution, `[outputs, …]`.
    First,
    /// Of a matrix, `[inputs, outputs]`.
    Last,
}

/// A weight as whole numbers from −64 to 64 with a scale for each output.
///
/// Numbers that were read from codes give the same codes again, so that [`Precision::Int8`] of
/// weights that were saved in eight bits loses nothing a second time.
///
/// [`Precision::Int8`]: super::Precision::Int8
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Weight {
    /// In the weight's own order.
    pub codes: Vec<i8>,
    /// One for each output; above 0 unless a weight is infinite or NaN.
    pub scales: Vec<f32>,
}

impl Int8Weight {
    /// The largest code.
    pub const MAX: i8 = WEIGHT_MAX;

    /// The nearest codes of a weight with so many outputs.
    pub fn new(weight: &[f32], outputs: usize, lie: Outputs) -> Self {
        let Codes { codes, scales } = match lie {
            Outputs::First => Codes::of_rows(weight, outputs),
            Outputs::Last => Codes::of_columns(weight, outputs),
        };
        Self { codes, scales }
    }

    /// The numbers that the codes stand for.
    pub fn values(&self, lie: Outputs) -> Vec<f32> {
        let inputs = self.codes.len().checked_div(self.scales.len());
        let inputs = inputs.unwrap_or(0).max(1);
        let scale = |i: usize| match lie {
            Outputs::First => self.scales[i / inputs],
            Outputs::Last => self.scales[i % self.scales.len()],
        };
        let codes = self.codes.iter().enumerate();
        codes.map(|(i, &code)| f32::from(code) * scale(i)).collect()
    }
}

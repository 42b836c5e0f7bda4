//! Parameters and arithmetic, by formula.

/// Parameters, and multiply-adds of one picture.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    /// Trainable numbers.
    pub parameters: u64,
    /// Multiply-adds of the forward pass.
    pub multiply_adds: u64,
}

impl Count {
    /// A linear layer with bias, applied to `rows` vectors.
    pub(crate) fn linear(&mut self, rows: usize, inputs: usize, outputs: usize) {
        self.parameters += product([inputs, outputs]) + outputs as u64;
        self.multiply_adds += product([rows, inputs, outputs]);
    }

    /// A k×k convolution and its batch norm, giving `side`² pixels.
    pub(crate) fn conv(&mut self, kernel: usize, inputs: usize, outputs: usize, side: usize) {
        let weights = product([kernel, kernel, inputs, outputs]);
        self.parameters += weights + 2 * outputs as u64;
        self.multiply_adds = self
            .multiply_adds
            .saturating_add(weights.saturating_mul(product([side, side])));
    }
}

/// The product of sizes, at most the largest number there is.
pub(crate) fn product<const N: usize>(factors: [usize; N]) -> u64 {
    factors.into_iter().fold(1_u64, |product, factor| {
        product.saturating_mul(factor as u64)
    })
}

//! What stands between the two layers of an MLP.

/// A function of each value of an MLP's hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x), Φ being the normal distribution function (Hendrycks & Gimpel 2016).
    Gelu,
    /// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), their approximation of it.
    GeluTanh,
}

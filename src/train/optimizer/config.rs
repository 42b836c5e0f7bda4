//! Settings of the optimizer.

use serde::{Deserialize, Serialize};

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).
    AdamW,
    /// Stochastic gradient descent with Nesterov momentum (Sutskever et al. 2013), as PyTorch
    /// writes it, weight decay coupled to the gradient.
    Sgd,
    /// Muon (Jordan et al. 2024) for the matrices of the encoder and the convolutions after the
    /// first; AdamW for embeddings, tokens, norms, biases, the first convolution and the head.
    Muon,
}

/// Settings of the optimizer; weight decay spares norms, biases, positions and extra tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The update rule.
    pub kind: OptimizerKind,
    /// Peak learning rate.
    pub lr: f64,
    /// Weight decay of the parameters that decay.
    pub weight_decay: f64,
    /// AdamW: decay of the first moment.
    pub beta1: f64,
    /// AdamW: decay of the second moment.
    pub beta2: f64,
    /// AdamW: added to the root of the second moment.
    pub epsilon: f64,
    /// SGD: momentum.
    pub momentum: f64,
    /// Muon: peak learning rate of the matrices it moves; it follows the schedule as `lr` does,
    /// and weight decay is scaled by it.
    pub muon_lr: f64,
    /// Muon: momentum, Nesterov's.
    pub muon_momentum: f64,
    /// Clip the gradient's global norm to this; 0 turns clipping off.
    pub clip_grad: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            lr: 1e-3,
            weight_decay: 0.05,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            momentum: 0.9,
            muon_lr: 0.02,
            muon_momentum: 0.95,
            clip_grad: 1.0,
        }
    }
}

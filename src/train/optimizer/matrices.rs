//! What Muon makes of a tensor: one matrix, or several side by side.

use crate::model::Role;
use crate::model::parameters::Parameter;
use crate::ops::muon::Matrices;

/// A parameter that Muon moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hidden {
    pub matrices: Matrices,
    /// Factor of the learning rate, √max(1, outputs/inputs): a layer that widens may move further
    /// (Jordan et al. 2024).
    pub gain: f64,
}

impl Hidden {
    /// The matrices of a parameter; `None` for what AdamW moves.
    pub(super) fn of(parameter: &Parameter) -> Option<Self> {
        let parts = parameter.declared.split;
        let (matrices, outputs, inputs) = match (parameter.declared.role, &parameter.shape[..]) {
            (Role::Matrix, &[inputs, outputs]) => {
                let matrices = Matrices {
                    rows: inputs,
                    columns: outputs / parts,
                    parts,
                };
                (matrices, matrices.columns, inputs)
            }
            (Role::Convolution, [outputs, window @ ..]) => {
                let (outputs, inputs) = (*outputs, window.iter().product());
                let matrices = Matrices {
                    rows: outputs,
                    columns: inputs,
                    parts: 1,
                };
                (matrices, outputs, inputs)
            }
            _ => return None,
        };
        let gain = (outputs as f64 / inputs as f64).max(1.0).sqrt();
        Some(Self { matrices, gain })
    }
}

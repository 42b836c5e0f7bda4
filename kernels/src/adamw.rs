//! One step of AdamW.

use rayon::prelude::*;

use crate::dispatch::vectorised;
use crate::flat::BLOCK;

/// What a step goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Learning rate η.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// 1 − β₁ᵗ.
    pub correction1: f64,
    /// 1 − β₂ᵗ.
    pub correction2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay λ of this parameter.
    pub decay: f64,
}

/// Moves the parameter and both moments one step of AdamW on.
pub fn step(
    value: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: &Step,
) {
    value
        .par_chunks_mut(BLOCK)
        .zip(gradient.par_chunks(BLOCK))
        .zip(first.par_chunks_mut(BLOCK))
        .zip(second.par_chunks_mut(BLOCK))
        .for_each(|(((value, gradient), first), second)| {
            one_block(value, gradient, first, second, step);
        });
}

/// The same for one block.
fn one_block(
    value: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: &Step,
) {
    let [beta1, beta2, epsilon] = [step.beta1, step.beta2, step.epsilon].map(|x| x as f32);
    let [fresh1, fresh2] = [1.0 - step.beta1, 1.0 - step.beta2].map(|x| x as f32);
    let root_scale = (1.0 / step.correction2.sqrt()) as f32;
    let rate = (step.lr / step.correction1) as f32;
    let kept = (1.0 - step.lr * step.decay) as f32;
    vectorised(
        #[inline(always)]
        || {
            let moments = first.iter_mut().zip(second.iter_mut());
            for ((value, &g), (m, v)) in value.iter_mut().zip(gradient).zip(moments) {
                *m = *m * beta1 + g * fresh1;
                *v = *v * beta2 + g * g * fresh2;
                *value = *value * kept - *m / (v.sqrt() * root_scale + epsilon) * rate;
            }
        },
    );
}

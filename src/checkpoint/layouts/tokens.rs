//! Learned tokens and positions, from any layout to ours.

use std::collections::HashMap;

use super::error::LayoutError;
use super::plan::Tokens;
use super::positions::resampled;
use super::source::Source;
use crate::model::role::Role;
use crate::model::{ModelConfig, Pooling, VitConfig};

/// A tensor of ours that is made of several.
pub(super) struct Made {
    pub role: Role,
    pub values: Vec<f32>,
    /// Names in the source.
    pub from: Vec<String>,
}

impl Tokens {
    /// Names in the source.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        let tokens = [&self.class, &self.distillation, &self.registers];
        tokens.into_iter().flatten().chain([&self.positions])
    }

    /// Checks that they are there: one class and one distillation token, or lists of vectors, of the
    /// model's width.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Tensors`].
    pub(super) fn check(&self, source: &Source, width: usize) -> Result<(), LayoutError> {
        for name in self.names() {
            let Some(stored) = source.tensors().find(|stored| stored.name == *name) else {
                let reason = format!("it has no tensor {name}");
                return Err(LayoutError::tensors(&source.path, reason));
            };
            // Any leading ones of a shape are the same vectors.
            let is_list = *name == self.positions || Some(name) == self.registers.as_ref();
            let rows = match is_list {
                true => stored.shape.iter().rev().nth(1).copied().unwrap_or(1),
                false => 1,
            };
            let expected: &[usize] = match stored.shape.len() {
                2 => &[rows, width],
                _ => &[1, rows, width],
            };
            source.check(stored, expected)?;
        }
        Ok(())
    }
}

/// The tokens and positions of a Vision Transformer of ours.
///
/// # Errors
///
/// [`LayoutError::Tensors`] where there are positions for another number of tokens, or tokens that
/// the model has no place for.
pub(super) fn assemble(
    source: &Source,
    tokens: &Tokens,
    model: &ModelConfig,
    kept: &HashMap<String, Vec<f32>>,
) -> Result<Vec<Made>, LayoutError> {
    let ModelConfig::Vit(config) = model else {
        return Ok(Vec::new());
    };
    let width = config.embed_dim;
    // Each vector before the patches: where it is to go, its values, and its name.
    let mut prefix: Vec<(Role, Vec<f32>, String)> = Vec::new();
    for (name, role) in [
        (&tokens.class, Role::ClassToken),
        (&tokens.distillation, Role::DistillationToken),
        (&tokens.registers, Role::RegisterToken),
    ] {
        let Some(name) = name else { continue };
        let is_ours = match role {
            Role::ClassToken => has_class_token(config),
            Role::DistillationToken => config.distillation_token,
            _ => true,
        };
        // A token that no head reads is one to think with.
        let role = if is_ours { role } else { Role::RegisterToken };
        let vectors = kept[name].chunks(width);
        prefix.extend(vectors.map(|vector| (role, vector.to_vec(), name.clone())));
    }
    let count = prefix.iter().filter(|t| t.0 == Role::RegisterToken).count();
    if count != config.registers {
        let reason = format!(
            "it has {count} tokens that no classifier reads, expected {}",
            config.registers
        );
        return Err(LayoutError::tensors(&source.path, reason));
    }
    let patches = tokens.grid * tokens.grid;
    let positions = &kept[&tokens.positions];
    let found = positions.len() / width;
    let positioned = found.checked_sub(patches).unwrap_or(usize::MAX);
    let is_known = positioned == 0
        || positioned == prefix.len()
        || (positioned == 1 && tokens.class.is_some());
    if !is_known {
        let reason = format!(
            "its tensor {} holds {found} positions, expected {patches} for the patches of its pictures, and at most one for each of the {} tokens before them",
            tokens.positions,
            prefix.len()
        );
        return Err(LayoutError::tensors(&source.path, reason));
    }
    let mut of_class = vec![0.0; width];
    for (i, (role, vector, _)) in prefix.iter_mut().enumerate().take(positioned) {
        let position = &positions[i * width..][..width];
        if *role == Role::ClassToken {
            of_class = position.to_vec();
        } else {
            for (value, position) in vector.iter_mut().zip(position) {
                *value += position;
            }
        }
    }
    let grids = [tokens.grid, config.grid()];
    let of_patches = &positions[positioned * width..];
    let of_patches = match grids[0] == grids[1] {
        true => of_patches.to_vec(),
        false => resampled(of_patches, grids, width, tokens.resampling),
    };
    let of_tokens = |role: Role| {
        let alike = || prefix.iter().filter(move |token| token.0 == role);
        let mut from: Vec<String> = alike().map(|token| token.2.clone()).collect();
        from.dedup();
        Made {
            role,
            values: alike().flat_map(|token| token.1.clone()).collect(),
            from,
        }
    };
    let positions = match has_class_token(config) {
        true => [of_class, of_patches].concat(),
        false => of_patches,
    };
    Ok(vec![
        of_tokens(Role::ClassToken),
        of_tokens(Role::DistillationToken),
        of_tokens(Role::RegisterToken),
        Made {
            role: Role::Position,
            values: positions,
            from: vec![tokens.positions.clone()],
        },
    ])
}

/// Whether a head reads the class token.
pub(super) fn has_class_token(config: &VitConfig) -> bool {
    config.pooling != Pooling::Mean
}

//! What another project's layout makes of a model of ours.

use serde_json::Value;

use super::names::Names;
use crate::model::{Position, Stem, VitConfig};

/// What a layout makes of a model of ours.
pub(super) struct Written {
    /// Files of settings, by name.
    pub settings: Vec<(&'static str, Value)>,
    pub names: Names,
    /// What stands before the names of the encoder's tensors.
    pub prefix: String,
    /// Names to write in place of those of the table, by what they begin with.
    pub instead: Vec<(&'static str, &'static str)>,
    /// Names of the learned tokens; `None` for a model without.
    pub tokens: Option<WrittenTokens>,
    /// Tensors of zeros that the layout has and ours has not.
    pub zeros: Vec<(String, Vec<usize>)>,
    /// What is not the same there, one sentence each.
    pub notes: Vec<String>,
}

/// Names of the learned tokens, prefix included, and the shape of the positions.
pub(super) struct WrittenTokens {
    pub class: String,
    pub distillation: String,
    pub registers: String,
    pub positions: String,
    /// How many tokens before the patches have a position there; the class token's is ours, the
    /// others' is zero.
    pub positioned: usize,
}

impl Written {
    /// The full name of a tensor of the table.
    pub(super) fn name(&self, name: &str) -> String {
        let name = match self
            .instead
            .iter()
            .find(|(begins, _)| name.starts_with(begins))
        {
            Some((begins, other)) => format!("{other}{}", &name[begins.len()..]),
            None => name.to_owned(),
        };
        match name.strip_prefix('/') {
            Some(name) => name.to_owned(),
            None => format!("{}{name}", self.prefix),
        }
    }
}

/// What no other project's plain Vision Transformer has.
///
/// # Errors
///
/// The first such thing.
pub(super) fn writable(config: &VitConfig) -> Result<(), String> {
    if config.stem == Stem::Convolutional {
        return Err("its patches are embedded by one linear map, not by convolutions".to_owned());
    }
    if config.position == Position::Rope2d {
        return Err("its positions are learned, not rotary as these".to_owned());
    }
    Ok(())
}

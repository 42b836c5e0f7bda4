//! What the tensors themselves tell of a Vision Transformer: its sizes, whatever its settings say.

use std::collections::BTreeMap;

use super::error::LayoutError;
use super::source::{Settings, Source};

/// Sizes that are read off tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub embed_dim: usize,
    pub patch_size: usize,
    pub depth: usize,
    pub mlp_dim: usize,
}

/// The names of the tensors that tell them; `#` stands for the number of a block.
pub(super) struct Telling<'a> {
    pub patch_embedding: &'a str,
    /// Spellings of the first map of a block's MLP.
    pub mlp: &'a [&'a str],
}

impl Shape {
    /// Reads them off.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Tensors`] where a tensor is missing or of another kind.
    pub(super) fn of(
        source: &Source,
        prefix: &str,
        telling: &Telling<'_>,
    ) -> Result<Self, LayoutError> {
        let wrong = |reason: String| LayoutError::tensors(&source.path, reason);
        let shapes = source.shapes();
        let name = format!("{prefix}{}", telling.patch_embedding);
        let (embed_dim, patch_size) = match shapes.get(name.as_str()) {
            Some(&&[width, 3, height, across]) if height == across => (width, height),
            Some(other) => {
                return Err(wrong(format!(
                    "its tensor {name} is {other:?}, expected [width, 3, side, side]"
                )));
            }
            None => return Err(wrong(format!("it has no tensor {name}"))),
        };
        let blocks = telling.mlp.iter().find_map(|mlp| {
            let blocks = blocks(&shapes, &format!("{prefix}{mlp}"));
            (blocks > 0).then_some((mlp, blocks))
        });
        let Some((mlp, depth)) = blocks else {
            let first = format!("{prefix}{}", telling.mlp[0].replace('#', "0"));
            return Err(wrong(format!("it has no tensor {first}")));
        };
        let first = format!("{prefix}{}", mlp.replace('#', "0"));
        let mlp_dim = match shapes.get(first.as_str()) {
            Some(&&[mlp_dim, _]) => mlp_dim,
            Some(other) => {
                return Err(wrong(format!(
                    "its tensor {first} is {other:?}, expected [inner width, width]"
                )));
            }
            None => return Err(wrong(format!("it has no tensor {first}"))),
        };
        Ok(Self {
            embed_dim,
            patch_size,
            depth,
            mlp_dim,
        })
    }
}

/// How many blocks there are of `pattern`: one more than the largest number.
fn blocks(shapes: &BTreeMap<&str, &[usize]>, pattern: &str) -> usize {
    let (before, after) = pattern.split_once('#').expect("a pattern with a block");
    let number = |name: &&str| -> Option<usize> {
        let number = name.strip_prefix(before)?.strip_suffix(after)?;
        number.parse().ok()
    };
    let last = shapes.keys().filter_map(number).max();
    last.map_or(0, |last| last.saturating_add(1))
}

/// Outputs of the classifier whose matrix is called `name`; 0 where there is none.
pub(super) fn classes(source: &Source, name: &str) -> Result<usize, LayoutError> {
    match source.tensors().find(|stored| stored.name == name) {
        None => Ok(0),
        Some(stored) => match stored.shape[..] {
            [outputs, _] => Ok(outputs),
            _ => {
                let reason = format!(
                    "its tensor {name} is {:?}, expected [classes, width]",
                    stored.shape
                );
                Err(LayoutError::tensors(&source.path, reason))
            }
        },
    }
}

/// The patches along a side of a square grid of `patches`, or the error that they are none.
pub(super) fn side(source: &Source, name: &str, patches: usize) -> Result<usize, LayoutError> {
    let side = patches.isqrt();
    if side > 0 && side * side == patches {
        return Ok(side);
    }
    let reason = format!(
        "its tensor {name} holds positions for {patches} patches, which are no square of them: expected square pictures"
    );
    Err(LayoutError::tensors(&source.path, reason))
}

/// Checks what settings say against what tensors tell.
pub(super) fn agree(
    settings: &Settings,
    key: &str,
    told: Option<usize>,
    found: usize,
) -> Result<(), LayoutError> {
    match told {
        Some(told) if told != found => {
            Err(settings.wrong(key, told, format!("{found}, as the tensors have it")))
        }
        _ => Ok(()),
    }
}

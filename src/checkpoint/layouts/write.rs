//! Our weights as another project saves its own: `config.json`, `model.safetensors` and, for
//! transformers, `preprocessor_config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::error::LayoutError;
use super::tokens::has_class_token;
use super::written::{Written, WrittenTokens};
use super::{timm, transformers};
use crate::checkpoint::host::host_tensors;
use crate::checkpoint::weights::Checkpoint;
use crate::model::parameters::declared;
use crate::model::role::Role;
use crate::model::vit::position;
use crate::model::{ModelConfig, Position, VitConfig};
use crate::whole_file;

/// What is said where statistics of features have no place in a format.
pub const WITHOUT_FAMILIARITY: &str =
    "what recognises pictures unlike anything it learned is not in it";

/// Whose layout to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// timm's, for `timm.create_model("local-dir:FOLDER", pretrained=True)`.
    Timm,
    /// transformers', for `AutoModelForImageClassification.from_pretrained("FOLDER")`.
    Transformers,
}

/// Writes weights as `layout` has them into `folder`, which exists. Logits are divided by the
/// temperature there: it is part of the classifier. Returns what is not the same there, one sentence
/// each.
///
/// # Errors
///
/// [`LayoutError::Unwritable`] where the project has no such model, or `Write`.
pub fn write_layout(
    checkpoint: &Checkpoint,
    layout: Layout,
    folder: &Path,
) -> Result<Vec<String>, LayoutError> {
    let written = match layout {
        Layout::Timm => timm::written(&checkpoint.meta),
        Layout::Transformers => transformers::written(&checkpoint.meta),
    }
    .map_err(|reason| LayoutError::Unwritable {
        layout: layout.name(),
        reason,
    })?;
    let tensors = tensors(checkpoint, &written);
    let bytes = tensors.iter().map(|(name, (shape, values))| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (name, shape.clone(), bytes)
    });
    let bytes: Vec<_> = bytes.collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (*name, view.expect("the shape counts the values"))
    });
    // transformers refuses a file that does not say so.
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    let failed = |path: &Path, source| LayoutError::Write {
        path: path.to_owned(),
        source,
    };
    let path = folder.join(super::source::SINGLE);
    let serialized = safetensors::serialize(views, metadata)
        .map_err(|e| failed(&path, std::io::Error::other(e.to_string())))?;
    whole_file::write(&path, &serialized).map_err(|e| failed(&path, e))?;
    for (name, json) in &written.settings {
        let path = folder.join(name);
        let mut text = serde_json::to_vec_pretty(json).expect("settings are plain data");
        text.push(b'\n');
        whole_file::write(&path, &text).map_err(|e| failed(&path, e))?;
    }
    let mut notes = written.notes;
    if checkpoint.familiarity.is_some() {
        notes.push(WITHOUT_FAMILIARITY.to_owned());
    }
    Ok(notes)
}

impl Layout {
    /// The project.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timm => "timm",
            Self::Transformers => "transformers",
        }
    }
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Their tensors.
fn tensors(checkpoint: &Checkpoint, written: &Written) -> Tensors {
    let mut theirs = Tensors::new();
    let mut tokens: Vec<(Role, Vec<f32>)> = Vec::new();
    let declared = declared(&checkpoint.model);
    for (declared, (path, shape, mut values)) in
        declared.iter().zip(host_tensors(&checkpoint.model))
    {
        if declared.role.is_head() {
            if checkpoint.meta.classes.is_empty() {
                continue;
            }
            for value in &mut values {
                *value /= checkpoint.meta.temperature;
            }
        }
        let is_token = matches!(
            declared.role,
            Role::Position | Role::ClassToken | Role::DistillationToken | Role::RegisterToken
        );
        if is_token {
            tokens.push((declared.role, values));
            continue;
        }
        let (_network, path) = path.split_once('.').expect("a network and a field");
        let spellings = written
            .names
            .of(path)
            .expect("a layout that can be written has a name");
        let names = &spellings[0];
        for (i, name) in names.iter().enumerate() {
            let (shape, values) = part(declared.role, &shape, &values, i, names.len());
            theirs.insert(written.name(name), (shape, values));
        }
    }
    for (name, shape) in &written.zeros {
        let values = vec![0.0; shape.iter().product()];
        theirs.insert(name.clone(), (shape.clone(), values));
    }
    if let (Some(names), ModelConfig::Vit(config)) = (&written.tokens, &checkpoint.meta.model) {
        write_tokens(&mut theirs, names, config, &tokens);
    }
    theirs
}

/// Part `i` of `parts` of a tensor of ours, as theirs is laid out.
fn part(
    role: Role,
    shape: &[usize],
    values: &[f32],
    i: usize,
    parts: usize,
) -> (Vec<usize>, Vec<f32>) {
    match (role, shape) {
        (Role::Embedding | Role::Matrix | Role::Head | Role::DistillationHead, &[inputs, all]) => {
            let outputs = all / parts;
            let columns = i * outputs..(i + 1) * outputs;
            let rows = columns.map(|column| (0..inputs).map(move |row| values[row * all + column]));
            let shape = match role {
                Role::Embedding => {
                    let side = (inputs / 3).isqrt();
                    vec![outputs, 3, side, side]
                }
                _ => vec![outputs, inputs],
            };
            (shape, rows.flatten().collect())
        }
        _ => {
            let count = values.len() / parts;
            let mut shape = shape.to_vec();
            shape[0] /= parts;
            (shape, values[i * count..][..count].to_vec())
        }
    }
}

/// Their tokens and positions.
fn write_tokens(
    theirs: &mut Tensors,
    names: &WrittenTokens,
    config: &VitConfig,
    tokens: &[(Role, Vec<f32>)],
) {
    let width = config.embed_dim;
    let of = |role: Role| {
        let found = tokens.iter().find(|token| token.0 == role);
        found.map(|token| token.1.clone())
    };
    let grid = config.grid();
    let learned = of(Role::Position);
    let has_class = has_class_token(config);
    let (of_class, of_patches) = match (learned, config.position) {
        (Some(learned), _) if has_class => {
            let (of_class, of_patches) = learned.split_at(width);
            (of_class.to_vec(), of_patches.to_vec())
        }
        (Some(learned), _) => (vec![0.0; width], learned),
        (None, Position::Sinusoidal1d) => {
            (vec![0.0; width], position::sinusoidal_1d(grid, grid, width))
        }
        (None, Position::Sinusoidal2d) => {
            (vec![0.0; width], position::sinusoidal_2d(grid, grid, width))
        }
        (None, _) => (vec![0.0; width], vec![0.0; grid * grid * width]),
    };
    let mut class = of(Role::ClassToken);
    let mut positions = Vec::new();
    if names.positioned > 0 && has_class {
        positions.extend(of_class);
        positions.resize(names.positioned * width, 0.0);
    } else {
        positions.resize(names.positioned * width, 0.0);
        // A class token without a position has it added.
        for (value, position) in class.iter_mut().flatten().zip(of_class) {
            *value += position;
        }
    }
    positions.extend(of_patches);
    for (name, values) in [
        (&names.class, class),
        (&names.distillation, of(Role::DistillationToken)),
        (&names.registers, of(Role::RegisterToken)),
        (&names.positions, Some(positions)),
    ] {
        if let Some(values) = values {
            let rows = values.len() / width;
            let shape = match name.ends_with("embedding.weight") {
                true => vec![rows, width],
                false => vec![1, rows, width],
            };
            theirs.insert(name.clone(), (shape, values));
        }
    }
}

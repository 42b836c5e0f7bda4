//! Tensors of another project, written in memory as a file of ours.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};

use super::error::LayoutError;
use super::plan::Plan;
use super::source::{Shard, Source, Stored};
use super::tokens;
use crate::checkpoint::file::{TensorFile, WIDE, header_of, put};
use crate::checkpoint::meta::WeightsMeta;
use crate::checkpoint::origin::{Origin, Taken};
use crate::checkpoint::widen::floats;
use crate::device;
use crate::model::role::{Declared, Role};
use crate::model::{ModelConfig, parameters};

/// What becomes of a tensor of theirs.
enum Target {
    /// Its values in their order, from this one of ours on.
    Copy { first: usize },
    /// The transpose of its rows: columns `column` and on of a matrix that is `stride` wide.
    Transpose {
        first: usize,
        stride: usize,
        column: usize,
    },
    /// Read by [`tokens`].
    Token,
    /// Not taken.
    LeftOut,
}

/// Our weights file of a source, in memory.
///
/// Each tensor is read once and written to its place, so that the largest one is all that is in
/// memory beside the result.
///
/// # Errors
///
/// [`LayoutError`]: a tensor is missing, unknown, of another shape or type, or not finite; the model
/// cannot be built.
pub(super) fn convert(source: &Source, plan: Plan) -> Result<TensorFile, LayoutError> {
    plan.model.validate().map_err(|reason| LayoutError::Model {
        path: source.path.clone(),
        source: reason,
    })?;
    let model = plan.model.init_constant(&device::to_describe());
    let mut ours: Vec<(Declared, Vec<usize>)> = parameters::declared(&model)
        .into_iter()
        .zip(parameters::shapes(&model))
        .map(|(declared, (_, shape))| (declared, shape))
        .filter(|(declared, _)| !plan.classes.is_empty() || !declared.role.is_head())
        .collect();
    ours.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    let shapes = ours
        .iter()
        .map(|(declared, shape)| (&*declared.path, &**shape));
    let (header, places, length) = header_of(&meta_of(&plan), shapes);

    let mut targets = HashMap::new();
    let mut origin = Origin {
        layout: plan.layout,
        name: plan.name.clone(),
        files: source.shards.iter().map(|s| s.path.clone()).collect(),
        bytes: 0,
        sha256: String::new(),
        taken: Vec::new(),
        made: Vec::new(),
        left_out: Vec::new(),
        notes: plan.notes.clone(),
    };
    let there: HashMap<&str, &Stored> = source.tensors().map(|t| (t.name.as_str(), t)).collect();
    for ((declared, shape), &first) in ours.iter().zip(&places) {
        if is_token(declared.role) {
            continue;
        }
        let found = find(source, &plan, &there, declared)?;
        let Some(theirs) = found else {
            let why = "zeros: its queries, keys and values have no bias";
            origin.made.push((declared.path.clone(), why));
            continue;
        };
        place(
            source,
            &there,
            &theirs,
            declared,
            shape,
            first,
            &mut targets,
        )?;
        origin.taken.push(Taken {
            ours: declared.path.clone(),
            theirs,
            shape: shape.clone(),
        });
    }
    if let (Some(tokens), ModelConfig::Vit(config)) = (&plan.tokens, &plan.model) {
        tokens.check(source, config.embed_dim)?;
        let (old, new) = (tokens.grid, config.grid());
        if old != new {
            let note = format!(
                "its positions are of {old}×{old} patches, and interpolated to the {new}×{new} of pictures of {} pixels",
                config.image_size
            );
            origin.notes.push(note);
        }
        for name in tokens.names() {
            targets.insert(name.clone(), Target::Token);
        }
    }
    leave_out(source, &plan, &mut targets, &mut origin)?;

    // Only now is it known that what the model is made of is there.
    let mut bytes = vec![0; length];
    bytes[..header.len()].copy_from_slice(&header);
    let mut kept = HashMap::new();
    let mut hashes = Vec::new();
    for shard in &source.shards {
        let values = |stored: &Stored, values: Vec<f32>| match targets.get(&stored.name) {
            Some(Target::Copy { first }) => put(&mut bytes[*first..], &values),
            Some(&Target::Transpose {
                first,
                stride,
                column,
            }) => {
                let outputs = stored.shape[0];
                transpose(&mut bytes[first..], &values, outputs, stride, column);
            }
            Some(Target::Token) => {
                kept.insert(stored.name.clone(), values);
            }
            Some(Target::LeftOut) | None => {}
        };
        let is_taken = |name: &str| !matches!(targets.get(name), Some(Target::LeftOut) | None);
        hashes.push((shard, read(shard, is_taken, values)?));
    }
    if let Some(tokens) = &plan.tokens {
        let made = tokens::assemble(source, tokens, &plan.model, &kept)?;
        for ((declared, shape), &first) in ours.iter().zip(&places) {
            let Some(made) = made.iter().find(|made| made.role == declared.role) else {
                continue;
            };
            put(&mut bytes[first..], &made.values);
            origin.taken.push(Taken {
                ours: declared.path.clone(),
                theirs: made.from.clone(),
                shape: shape.clone(),
            });
        }
    }
    origin.taken.sort_by(|a, b| a.ours.cmp(&b.ours));
    origin.bytes = hashes.iter().map(|(_, (length, _))| length).sum();
    origin.sha256 = match &hashes[..] {
        [(_, (_, hash))] => hash.clone(),
        _ => hash_of_hashes(&hashes),
    };
    Ok(TensorFile::converted(&source.path, bytes, origin))
}

/// Whether [`tokens`] makes it.
fn is_token(role: Role) -> bool {
    matches!(
        role,
        Role::Position | Role::ClassToken | Role::DistillationToken | Role::RegisterToken
    )
}

/// What our file says of itself.
fn meta_of(plan: &Plan) -> WeightsMeta {
    WeightsMeta {
        name: nearest_preset(&plan.model).to_owned(),
        model: plan.model.clone(),
        classes: plan.classes.clone(),
        preprocess: plan.preprocess.clone(),
        temperature: 1.0,
        epoch: 0,
        val_top1: None,
        calibration: None,
    }
}

/// The preset that a recipe which starts from the weights takes as its own: all that differs from it
/// is stated there.
fn nearest_preset(model: &ModelConfig) -> &'static str {
    match model {
        ModelConfig::Vit(vit) => match vit.embed_dim {
            0..=192 => "vit-tiny",
            193..=384 => "vit-small",
            _ => "vit-base",
        },
        ModelConfig::Resnet(_) | ModelConfig::Airbench(_) => "resnet18",
    }
}

/// The tensors that one of ours is made of; `None` for a bias that this source is without.
fn find(
    source: &Source,
    plan: &Plan,
    there: &HashMap<&str, &Stored>,
    declared: &Declared,
) -> Result<Option<Vec<String>>, LayoutError> {
    let (_network, path) = declared
        .path
        .split_once('.')
        .expect("a network and a field");
    let spellings = plan.names.of(path).unwrap_or_else(|| {
        panic!(
            "the layout {} has no name for {}",
            plan.layout, declared.path
        )
    });
    let full = |parts: &Vec<String>| -> Vec<String> {
        let full = |name: &String| match name.strip_prefix('/') {
            Some(name) => name.to_owned(),
            None => format!("{}{name}", plan.prefix),
        };
        parts.iter().map(full).collect()
    };
    let spellings: Vec<Vec<String>> = spellings.iter().map(full).collect();
    let is_there =
        |parts: &&Vec<String>| parts.iter().all(|name| there.contains_key(name.as_str()));
    if let Some(found) = spellings.iter().find(is_there) {
        return Ok(Some(found.clone()));
    }
    if !plan.has_qkv_bias && path.ends_with("attention.qkv.bias") {
        return Ok(None);
    }
    let missing = spellings
        .iter()
        .flatten()
        .find(|n| !there.contains_key(n.as_str()));
    let missing = missing.map_or(String::new(), |name| format!("it has no tensor {name}"));
    Err(LayoutError::tensors(&source.path, missing))
}

/// Where the tensors that one of ours is made of go.
fn place(
    source: &Source,
    there: &HashMap<&str, &Stored>,
    theirs: &[String],
    declared: &Declared,
    shape: &[usize],
    first: usize,
    targets: &mut HashMap<String, Target>,
) -> Result<(), LayoutError> {
    let parts = theirs.len();
    for (i, name) in theirs.iter().enumerate() {
        let stored = there[name.as_str()];
        let (expected, target) = match (declared.role, shape) {
            (Role::Embedding, &[inputs, outputs]) => {
                // The patch's side follows from the inputs.
                let side = ((inputs / 3) as f64).sqrt().round() as usize;
                let target = Target::Transpose {
                    first,
                    stride: outputs,
                    column: 0,
                };
                (vec![outputs, 3, side, side], target)
            }
            (Role::Matrix | Role::Head | Role::DistillationHead, &[inputs, outputs]) => {
                let target = Target::Transpose {
                    first,
                    stride: outputs,
                    column: i * (outputs / parts),
                };
                (vec![outputs / parts, inputs], target)
            }
            _ => {
                let mut expected = shape.to_vec();
                expected[0] /= parts;
                let size = expected.iter().product::<usize>();
                let first = first + i * size * WIDE;
                (expected, Target::Copy { first })
            }
        };
        source.check(stored, &expected)?;
        targets.insert(name.clone(), target);
    }
    Ok(())
}

/// Names what is not taken; what no layout knows is an error.
fn leave_out(
    source: &Source,
    plan: &Plan,
    targets: &mut HashMap<String, Target>,
    origin: &mut Origin,
) -> Result<(), LayoutError> {
    let mut unknown = Vec::new();
    for Stored { name, .. } in source.tensors() {
        if targets.contains_key(name) {
            continue;
        }
        let reasons = plan.left_out.iter();
        let mut reasons = reasons.filter(|(begins, _)| name.starts_with(begins.as_str()));
        let why = match reasons.next() {
            Some((_, why)) => why,
            None if name.ends_with("num_batches_tracked") => "a count of training steps",
            None => {
                unknown.push(name.as_str());
                continue;
            }
        };
        origin.left_out.push((name.clone(), why));
        targets.insert(name.clone(), Target::LeftOut);
    }
    unknown.sort_unstable();
    let reason = match unknown[..] {
        [] => return Ok(()),
        [only] => format!("its tensor {only} has no place here"),
        [first, .., last] => format!(
            "{} of its tensors have no place here, {first} to {last}",
            unknown.len()
        ),
    };
    Err(LayoutError::tensors(&source.path, reason))
}

/// Reads a file from beginning to end, hands on the tensors that are taken, and returns its length
/// and its SHA-256.
fn read(
    shard: &Shard,
    is_taken: impl Fn(&str) -> bool,
    mut values: impl FnMut(&Stored, Vec<f32>),
) -> Result<(u64, String), LayoutError> {
    let failed = |source| LayoutError::Read {
        path: shard.path.clone(),
        source,
    };
    let mut file = File::open(&shard.path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; shard.start as usize];
    file.read_exact(&mut buffer).map_err(failed)?;
    hash.update(&buffer);
    let mut length = shard.start;
    for stored in &shard.tensors {
        buffer.resize(stored.bytes, 0);
        file.read_exact(&mut buffer).map_err(failed)?;
        hash.update(&buffer);
        length += stored.bytes as u64;
        if !is_taken(&stored.name) {
            continue;
        }
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &buffer);
        let view = view.expect("the header was checked");
        let wide = floats(&view).expect("the type was checked");
        if wide.iter().any(|value| !value.is_finite()) {
            let reason = format!(
                "its tensor {} holds values that are not numbers",
                stored.name
            );
            return Err(LayoutError::tensors(&shard.path, reason));
        }
        values(stored, wide);
    }
    Ok((length, hex(hash)))
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// One hash for several files, in the order of their names.
fn hash_of_hashes(files: &[(&Shard, (u64, String))]) -> String {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = files
        .iter()
        .map(|(shard, (_, hash))| format!("{hash}  {}\n", name(&shard.path).display()))
        .collect();
    lines.sort();
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(line);
    }
    hex(hash)
}

/// Writes rows of `values`, one an output, as columns of a matrix that is `stride` wide.
fn transpose(target: &mut [u8], values: &[f32], outputs: usize, stride: usize, column: usize) {
    /// Rows and columns at a time, so that both sides stay in the processor's first cache.
    const TILE: usize = 32;
    let inputs = values.len() / outputs.max(1);
    let (targets, _) = target.as_chunks_mut::<WIDE>();
    for first in (0..inputs).step_by(TILE) {
        for output in (0..outputs).step_by(TILE) {
            for input in first..(first + TILE).min(inputs) {
                for output in output..(output + TILE).min(outputs) {
                    let value = values[output * inputs + input];
                    targets[input * stride + column + output] = value.to_le_bytes();
                }
            }
        }
    }
}

//! `vitrine weights show`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::fetching::megabytes;
use crate::checkpoint::{self, Lora, Origin, TensorFile, WeightsMeta};
use crate::cli::done::Done;
use crate::cli::lists;
use crate::cli::named::unambiguous;
use crate::cli::output::{columns, say, tell};
use crate::data::{Preprocess, Resize};
use crate::model::{ModelConfig, Pooling};
use crate::names::{self, shown};
use crate::report::text::{self, Table};
use crate::run::open_weights;

/// Classes that are named; more are counted.
const CLASSES: usize = 8;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[arg(
        value_name = "WEIGHTS",
        help = lists::fill(lists::WEIGHTS)
    )]
    weights: PathBuf,
    /// List every tensor, and what it is made of.
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: ShowArgs) -> anyhow::Result<Done> {
    unambiguous(&args.weights)?;
    let file = open_weights(&args.weights)?;
    let meta = checkpoint::meta(&file)?;
    if args.json {
        say(&to_json(&file, &meta)?.to_string())?;
        return Ok(Done::Success);
    }
    let mut lines = vec![
        format!("{}: {}", shown(file.path()), of_whom(&file, &meta)),
        format!("model:    {}", model(&meta.model)),
        format!("          {}", cost(&meta.model)),
        format!("input:    {}", input(&meta.preprocess)),
        format!("classes:  {}", classes(&meta.classes)),
        format!("file:     {}", on_disk(&file)),
    ];
    lines.extend(
        file.merged_of()
            .map(|lora| format!("adapters: {}", adapters(lora))),
    );
    match file.origin() {
        Some(origin) => lines.extend(origin_lines(origin)),
        None => lines.push(format!("trained:  {}", trained(&meta))),
    }
    tell(&lines.join("\n"))?;
    if args.tensors {
        say(&tensors(&file)?.text(columns()))?;
    }
    Ok(Done::Success)
}

/// What low-rank adapters are, and what they change.
fn adapters(lora: &Lora) -> String {
    format!(
        "low-rank (LoRA), rank {}, alpha {}, of the weights {}, SHA-256 {}",
        lora.rank,
        lora.alpha,
        names::visible(&lora.base.weights),
        lora.base.sha256
    )
}

/// Who made it.
fn of_whom(file: &TensorFile, meta: &WeightsMeta) -> String {
    match file.origin() {
        Some(origin) => {
            let of = if origin.layout.ends_with('s') {
                "'"
            } else {
                "'s"
            };
            format!("{}{of} {}", origin.layout, names::visible(&origin.name))
        }
        None => format!("vitrine's {}", names::visible(&meta.name)),
    }
}

fn model(model: &ModelConfig) -> String {
    let ModelConfig::Vit(vit) = model else {
        return format!(
            "{}, pictures of {} pixels",
            model.name(),
            model.image_size()
        );
    };
    let tokens = match vit.pooling {
        Pooling::ClassToken => "class token",
        Pooling::Mean if vit.norm_after_pooling => "mean of the patches, then norm",
        Pooling::Mean => "mean of the patches",
        Pooling::ClassTokenAndMean => "class token and mean of the patches",
    };
    let mut parts = vec![
        format!("Vision Transformer, pictures of {} pixels", vit.image_size),
        format!("patches of {}", vit.patch_size),
        format!("width {}", vit.embed_dim),
        format!("depth {}", vit.depth),
        format!("{} heads", vit.num_heads),
        tokens.to_owned(),
    ];
    if vit.registers > 0 {
        parts.push(format!("{} register tokens", vit.registers));
    }
    for (has, what) in [
        (vit.distillation_token, "distillation token"),
        (vit.layer_scale > 0.0, "layer scale"),
        (vit.qk_norm, "norms of queries and keys"),
    ] {
        if has {
            parts.push(what.to_owned());
        }
    }
    parts.join(", ")
}

fn cost(model: &ModelConfig) -> String {
    format!(
        "{} parameters, {:.2} GFLOP a picture",
        text::count(model.parameters()),
        model.flops() as f64 / 1e9
    )
}

fn input(preprocess: &Preprocess) -> String {
    let size = preprocess.image_size;
    let to = preprocess.resize_to.unwrap_or(size);
    let resized = match preprocess.resize {
        Resize::Squash if to == size => format!("squeezed to {size} by {size} pixels"),
        Resize::Squash => format!("squeezed to {to} by {to} pixels, the middle {size} cut out"),
        Resize::Crop => format!("the largest square in the middle, resized to {size} pixels"),
        Resize::Pad => format!("padded to a square, resized to {size} pixels"),
        Resize::ShorterEdge => {
            format!("shorter side resized to {to} pixels, the middle {size} cut out")
        }
        Resize::LongerEdge => {
            format!("longer side resized to {to} pixels, the middle {size} cut out")
        }
    };
    let filter = serde_json::to_value(preprocess.filter).unwrap_or_default();
    let three = |values: [f32; 3]| values.map(|v| v.to_string()).join(" ");
    format!(
        "{resized}, {}; mean {}, deviation {}",
        filter.as_str().unwrap_or_default(),
        three(preprocess.mean),
        three(preprocess.std)
    )
}

fn classes(classes: &[String]) -> String {
    // A name may hold commas.
    let listed = |classes: &[String]| -> String {
        let names: Vec<_> = classes.iter().map(|name| names::visible(name)).collect();
        names.join("; ")
    };
    match classes {
        [] => "none: it makes features, and has no classifier".to_owned(),
        _ if classes.len() <= CLASSES => format!("{}: {}", classes.len(), listed(classes)),
        _ => format!(
            "{}: {}; …",
            text::count(classes.len() as u64),
            listed(&classes[..CLASSES])
        ),
    }
}

fn on_disk(file: &TensorFile) -> String {
    format!("{}, SHA-256 {}", megabytes(file.size()), file.sha256())
}

fn trained(meta: &WeightsMeta) -> String {
    let mut out = format!("{} epochs", meta.epoch);
    if let Some(top1) = meta.val_top1 {
        out += &format!(", {} of its validation pictures right", text::percent(top1));
    }
    out += match &meta.calibration {
        Some(calibration) if calibration.familiarity.is_some() => {
            ", calibrated, recognises pictures unlike anything it learned"
        }
        Some(_) => ", calibrated",
        None => ", not calibrated",
    };
    out
}

/// What became of the tensors.
fn origin_lines(origin: &Origin) -> Vec<String> {
    let mut lines = vec![format!(
        "tensors:  {} taken, {} of ours made without one of theirs, {} left out",
        origin.taken.len(),
        origin.made.len(),
        origin.left_out.len()
    )];
    // One line a reason, not one a tensor.
    for list in [&origin.made, &origin.left_out] {
        let mut reasons: Vec<&str> = list.iter().map(|(_, why)| *why).collect();
        reasons.dedup();
        for why in reasons {
            let of: Vec<&String> = list
                .iter()
                .filter(|(_, w)| *w == why)
                .map(|(n, _)| n)
                .collect();
            let (first, rest) = (names::visible(of[0]), of.len() - 1);
            lines.push(match rest {
                0 => format!("          {first}: {why}"),
                _ => format!("          {first} and {rest} more: {why}"),
            });
        }
    }
    lines.extend(origin.notes.iter().map(|note| format!("note:     {note}")));
    lines
}

fn tensors(file: &TensorFile) -> anyhow::Result<Table> {
    let mut table = Table::new(&["tensor", "shape", "made of"]);
    let shape = |shape: &[usize]| {
        let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
        sides.join(" × ")
    };
    let Some(origin) = file.origin() else {
        for (name, values) in file.sizes()? {
            table.row(vec![name, text::count(values as u64)]);
        }
        return Ok(table);
    };
    for taken in &origin.taken {
        let of = taken.theirs.join(", ");
        table.row(vec![taken.ours.clone(), shape(&taken.shape), of]);
    }
    for (name, why) in &origin.made {
        table.row(vec![name.clone(), String::new(), (*why).to_owned()]);
    }
    for (name, why) in &origin.left_out {
        table.row(vec![
            "–".to_owned(),
            String::new(),
            format!("{name}: left out, {why}"),
        ]);
    }
    Ok(table)
}

fn to_json(file: &TensorFile, meta: &WeightsMeta) -> anyhow::Result<Value> {
    let origin = file.origin().map(|origin| {
        let taken = origin.taken.iter();
        let pairs = |list: &[(String, &str)]| -> Vec<Value> {
            list.iter()
                .map(|(name, why)| json!({ "name": name, "why": why }))
                .collect()
        };
        json!({
            "layout": origin.layout,
            "architecture": origin.name,
            "files": origin.files.iter().map(names::text).collect::<Vec<_>>(),
            "taken": taken
                .map(|t| json!({ "name": t.ours, "of": t.theirs, "shape": t.shape }))
                .collect::<Vec<_>>(),
            "made": pairs(&origin.made),
            "left_out": pairs(&origin.left_out),
            "notes": origin.notes,
        })
    });
    Ok(json!({
        "weights": names::text(file.path()),
        "name": meta.name,
        "model": meta.model,
        "parameters": meta.model.parameters(),
        "flops": meta.model.flops(),
        "preprocess": meta.preprocess,
        "classes": meta.classes,
        "bytes": file.size(),
        "sha256": file.sha256(),
        "epoch": meta.epoch,
        "val_top1": meta.val_top1,
        "lora": file.merged_of(),
        "familiarity": meta.calibration.as_ref().and_then(|c| c.familiarity),
        "origin": origin,
    }))
}

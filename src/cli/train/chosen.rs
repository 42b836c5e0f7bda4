//! What a recipe came to, in words: it may choose by model and start.

use crate::names::all_same;
use crate::recipe::NewHead;
use crate::report::text;
use crate::run::Plan;
use crate::train::{Budget, Freeze, OptimizerKind};

/// What the recipe `name` came to for this plan: where it starts, what learns and how fast, for how long, and what is
/// done to the pictures.
pub(super) fn chosen(name: &str, plan: &Plan) -> String {
    let size = plan.preprocess.image_size;
    let model = &plan.recipe.model.name;
    format!(
        "{name}: {model} {} at {size}x{size}; {}; {}",
        start(plan),
        learning(plan),
        augmentation(plan)
    )
}

fn start(plan: &Plan) -> String {
    let Some(start) = &plan.start else {
        return "from scratch".to_owned();
    };
    let init = &plan.recipe.init;
    let head = match init.head {
        _ if all_same(&start.meta.classes, &plan.splits.classes) => "their head is kept",
        NewHead::Fresh => "a new head is drawn",
        NewHead::Probe => "a new head is fitted on frozen features first",
    };
    let rank = init.finetune.lora_rank;
    let rest = match init.finetune.freeze {
        Freeze::None if rank > 0 => format!("then it and adapters of rank {rank} learn"),
        Freeze::None => "then all layers learn".to_owned(),
        Freeze::Blocks(blocks) => format!("then all above block {blocks} learns"),
        Freeze::Backbone => "then only the head learns".to_owned(),
    };
    format!("from weights ({head}, {rest})")
}

fn learning(plan: &Plan) -> String {
    let optimizer = &plan.recipe.optimizer;
    let mut words = match optimizer.kind {
        OptimizerKind::AdamW => format!("AdamW at {:e}", optimizer.lr),
        OptimizerKind::Sgd => format!("SGD at {:e}", optimizer.lr),
        OptimizerKind::Muon => format!(
            "Muon at {:e}, AdamW beside it at {:e}",
            optimizer.muon_lr, optimizer.lr
        ),
    };
    let decay = plan.recipe.init.finetune.layer_decay;
    if decay < 1.0 {
        words += &format!(", each layer at {decay} of the rate of the one above");
    }
    words += &format!(", batches of {}", plan.recipe.train.batch_size);
    words += &match plan.recipe.budget() {
        Ok(Budget::Epochs(epochs)) => format!(", {epochs} epochs"),
        Ok(Budget::Steps(steps)) => format!(", {} updates", text::count(steps)),
        Ok(Budget::Time(time)) => format!(", {}", text::seconds(time.as_secs_f64())),
        // A recipe whose time cannot be read was refused.
        Err(_) => String::new(),
    };
    words
}

fn augmentation(plan: &Plan) -> String {
    let augment = &plan.recipe.augment;
    let settings = plan.recipe.settings();
    let mut words = Vec::new();
    if let Some([least, most]) = augment.random_resized_crop {
        words.push(format!(
            "crops of {:.0} to {:.0} % of a picture",
            100.0 * least,
            100.0 * most
        ));
    }
    if augment.crop_padding > 0 {
        words.push(format!("shifts of up to {} pixels", augment.crop_padding));
    }
    for (key, what) in [("augment.flip", " flips"), ("augment.policy", "")] {
        let value = settings
            .get(key)
            .map_or("none", |value| value.trim_matches('"'));
        if value != "none" {
            words.push(format!("{value}{what}"));
        }
    }
    for (strength, what) in [
        (augment.erasing, "erasing"),
        (augment.mixup, "mixup"),
        (augment.cutmix, "CutMix"),
    ] {
        if strength > 0.0 {
            words.push(what.to_owned());
        }
    }
    match words.is_empty() {
        true => "pictures as they are".to_owned(),
        false => words.join(", "),
    }
}

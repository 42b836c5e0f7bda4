//! `train --dry-run`: what would be trained, and what it would cost.

use std::time::Instant;

use super::args::TrainArgs;
use crate::cli::done::Done;
use crate::cli::output::{note, say};
use crate::device::Selected;
use crate::names::visible;
use crate::recipe::Recipe;
use crate::report::text;
use crate::run::{self, Devices, Estimate, Plan, RunDir};

/// Prints the resolved recipe, the model's size, and a cost measured on one update.
pub(super) fn dry_run(
    args: &TrainArgs,
    recipe: &Recipe,
    resumed: Option<&RunDir>,
) -> anyhow::Result<Done> {
    let plan = match resumed {
        Some(dir) => Plan::resumed(recipe.clone(), dir)?,
        None => Plan::new(recipe.clone())?,
    };
    let [device, teacher_device] = args.devices(recipe)?;
    plan.check(&device)?;
    let devices = Devices {
        student: &device,
        teacher: &teacher_device,
    };
    let start = Instant::now();
    let estimate = run::estimate(&plan, devices)?;
    if args.json {
        say(&serde_json::json!({
            "recipe": recipe,
            "model": plan.model,
            "parameters": plan.model.parameters(),
            "flops_per_update": estimate.flops_per_update,
            "updates": estimate.updates,
            "training_s": estimate.training_s,
            "memory_bytes": estimate.memory_bytes(),
            "device": device.name,
        })
        .to_string())?;
        return Ok(Done::Success);
    }
    say(&(recipe.to_toml() + "\n" + &about(&plan, &estimate, &device) + &cost(&estimate)))?;
    note(&format!(
        "nothing was written; measured for {}",
        text::seconds(start.elapsed().as_secs_f64())
    ));
    Ok(Done::Success)
}

/// What a dry run says of the data, the device and the models, as comments of a recipe.
fn about(plan: &Plan, estimate: &Estimate, device: &Selected) -> String {
    let mut out = format!(
        "# data: {}, {} classes, {} train, {} val, {} test pictures\n",
        visible(&plan.dataset.origin),
        plan.dataset.classes.len(),
        text::count(plan.splits.train.len() as u64),
        text::count(plan.splits.val.len() as u64),
        text::count(plan.splits.test.len() as u64),
    );
    out += &format!("# device: {} ({})\n", device.name, device.reason);
    if let Some(teacher) = &plan.teacher {
        out += &format!(
            "# teacher: {}, {} parameters, {} per update\n",
            teacher.meta.name,
            text::count(teacher.meta.model.parameters()),
            text::flops(plan.teacher_flops() * plan.pictures_per_update() as u64)
        );
    }
    out + &format!(
        "# model: {} parameters, {} per update\n",
        text::count(plan.model.parameters()),
        text::flops(estimate.flops_per_update)
    )
}

/// What a dry run says of time and memory.
fn cost(estimate: &Estimate) -> String {
    let share = match estimate.work {
        work if work < 1.0 => format!(
            ", {:.0} % of it on average with the curriculum",
            100.0 * work
        ),
        _ => String::new(),
    };
    let mut out = format!(
        "# time: about {} for {} updates, from one update timed here ({:.2} s{share}), validation not counted\n",
        text::seconds(estimate.training_s),
        text::count(estimate.updates as u64),
        estimate.update_s,
    );
    if let (Some(memory), Some(peak)) = (estimate.memory_bytes(), estimate.peak_memory_bytes) {
        out += &format!(
            "# memory: about {} MiB ({} MiB at the peak of that update, {} MiB of decoded pictures)\n",
            memory >> 20,
            peak >> 20,
            estimate.pictures_bytes >> 20
        );
    }
    out
}

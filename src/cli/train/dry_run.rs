//! `train --dry-run`: what would be trained, and what it would cost.

use std::time::{Duration, Instant};

use super::args::TrainArgs;
use crate::cli::done::Done;
use crate::cli::output::{note, say, tell};
use crate::device::Selected;
use crate::names::visible;
use crate::recipe::Recipe;
use crate::report::text;
use crate::run::{self, Devices, Estimate, Plan, ProbeEstimate, RunDir};
use crate::train::Budget;

/// Time to measure in: with what comes before and after, a dry run is over in 20 seconds.
const LIMIT: Duration = Duration::from_secs(12);

/// A size of the weights to start from is worth a word where it takes at most this share of the work.
const MUCH_SMALLER: f64 = 0.5;

/// Seconds of training from which on the dry run says how to shorten it.
const LONG_S: f64 = 12.0 * 3600.0;

/// Prints the resolved recipe, the model's size, and a cost measured on one update, or on a few pictures of a probe.
pub(super) fn dry_run(
    args: &TrainArgs,
    recipe: &Recipe,
    resumed: Option<&RunDir>,
) -> anyhow::Result<Done> {
    let [device, teacher_device] = args.devices(recipe)?;
    note(&format!(
        "reading the data, then measuring for at most {} s",
        LIMIT.as_secs()
    ));
    let plan = match resumed {
        Some(dir) => Plan::resumed(recipe.clone(), dir)?,
        None => Plan::new(recipe.clone())?,
    };
    plan.check(&device)?;
    if recipe.init.probe.is_some() {
        return dry_probe(args, &plan, &device);
    }
    let devices = Devices {
        student: &device,
        teacher: &teacher_device,
    };
    let start = Instant::now();
    let estimate = run::estimate(&plan, devices, LIMIT)?;
    if args.json {
        say(&serde_json::json!({
            "recipe": recipe,
            "model": plan.model,
            "parameters": plan.model.parameters(),
            "flops_per_update": estimate.flops_per_update,
            "updates": estimate.updates,
            "training_s": estimate.training_s,
            "update_s": estimate.update_s,
            "update_pictures": estimate.update_pictures,
            "measured_pictures": estimate.measured_pictures,
            "memory_bytes": estimate.memory_bytes(),
            "device": device.name,
        })
        .to_string())?;
        return Ok(Done::Success);
    }
    let text = recipe.to_toml() + "\n" + &about(&plan, &device);
    let text =
        text + &format!(
            "# model: {} parameters, {} per update\n",
            text::count(plan.model.parameters()),
            text::flops(estimate.flops_per_update)
        ) + &cost(&estimate);
    tell(&(text + &hint(&plan, &estimate)?))?;
    note(&format!(
        "nothing was written; measured for {}",
        text::seconds(start.elapsed().as_secs_f64())
    ));
    Ok(Done::Success)
}

/// The dry run of a probe, which takes no update: each picture passes the model once.
fn dry_probe(args: &TrainArgs, plan: &Plan, device: &Selected) -> anyhow::Result<Done> {
    let start = Instant::now();
    let estimate = run::estimate_probe(plan, device, LIMIT)?;
    if args.json {
        say(&serde_json::json!({
            "recipe": plan.recipe,
            "model": plan.model,
            "parameters": plan.model.parameters(),
            "features": estimate.width,
            "views": estimate.views,
            "pictures": estimate.pictures,
            "decoded_pictures": estimate.decoded,
            "decoding_s": estimate.decoding_s,
            "measured_pictures": estimate.measured_pictures,
            "features_s": estimate.features_s,
            "memory_bytes": estimate.memory_bytes(),
            "device": device.name,
        })
        .to_string())?;
        return Ok(Done::Success);
    }
    tell(&(plan.recipe.to_toml() + "\n" + &about(plan, device) + &probe_cost(plan, &estimate)))?;
    note(&format!(
        "nothing was written; measured for {}",
        text::seconds(start.elapsed().as_secs_f64())
    ));
    Ok(Done::Success)
}

/// What the dry run of a probe says of the model, time and memory.
fn probe_cost(plan: &Plan, estimate: &ProbeEstimate) -> String {
    let mirrored = match estimate.views {
        1 => "",
        _ => " and of the mirror images of train",
    };
    let measured = match estimate.measured_pictures {
        0 => {
            "from the speed of matrix products here, as a picture takes too long to try".to_owned()
        }
        pictures => format!("from {pictures} at once, timed here"),
    };
    let mut out = format!(
        "# model: {} parameters, {} per picture\n",
        text::count(plan.model.parameters()),
        text::flops(plan.model.flops()),
    );
    out += &format!(
        "# probe: one pass over the pictures of train and val{mirrored}; a linear classifier of {} features is fitted\n",
        text::count(estimate.width as u64)
    );
    out += &format!(
        "# time: about {}: decoding {} (from {} pictures), features {} ({measured}); fit and evaluation not counted\n",
        text::seconds(estimate.seconds()),
        text::seconds(estimate.decoding_s),
        estimate.decoded,
        text::seconds(estimate.features_s),
    );
    if let (Some(memory), Some(peak)) = (estimate.memory_bytes(), estimate.peak_memory_bytes) {
        out += &format!(
            "# memory: about {} MiB ({} MiB at the peak of a batch, {} MiB of decoded pictures and features)\n",
            memory >> 20,
            peak >> 20,
            estimate.kept_bytes >> 20
        );
    }
    out
}

/// What a dry run says of the data, the device and the teacher, as comments of a recipe.
fn about(plan: &Plan, device: &Selected) -> String {
    let mut out = format!(
        "# data: {}, {} classes, {} train, {} val, {} test pictures\n",
        visible(&plan.dataset.origin),
        plan.splits.classes.len(),
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
    out
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
        "# time: about {} for {} updates, {} ({:.2} s{share}), validation not counted\n",
        text::seconds(estimate.training_s),
        text::count(estimate.updates as u64),
        source(estimate),
        estimate.update_s,
    );
    if let (Some(memory), Some(peak)) = (estimate.memory_bytes(), estimate.peak_memory_bytes) {
        out += &format!(
            "# memory: about {} MiB ({} MiB at the peak of an update, {} MiB of decoded pictures)\n",
            memory >> 20,
            peak >> 20,
            estimate.pictures_bytes >> 20
        );
    }
    out
}

/// Where the estimate is from.
fn source(estimate: &Estimate) -> String {
    match (estimate.measured_pictures, estimate.update_pictures) {
        (measured, whole) if measured >= whole => "from one update timed here".to_owned(),
        (0, _) => {
            "roughly, from the speed of matrix products here, as an update takes too long to try"
                .to_owned()
        }
        (measured, whole) => format!(
            "extrapolated from smaller updates timed here, of up to {measured} of its {whole} pictures"
        ),
    }
}

/// What would make a long training shorter.
fn hint(plan: &Plan, estimate: &Estimate) -> anyhow::Result<String> {
    let is_timed = matches!(plan.recipe.budget()?, Budget::Time(_));
    if let Some((size, share)) = smaller_size(plan) {
        let saves = match is_timed {
            true => format!("see about {:.0} times as many pictures", 1.0 / share),
            false => format!("take about {}", text::seconds(share * estimate.training_s)),
        };
        return Ok(format!(
            "# hint: the weights to start from saw pictures of {size}x{size}; --image-size {size} would {saves}\n"
        ));
    }
    if is_timed || estimate.training_s < LONG_S {
        return Ok(String::new());
    }
    Ok(
        "# hint: smaller pictures (--image-size) or a smaller --model take less; --time ends it when you wish\n"
            .to_owned(),
    )
}

/// The smaller size of the weights to start from, and the share of the work it takes, where that is much less.
pub(super) fn smaller_size(plan: &Plan) -> Option<(usize, f64)> {
    plan.smaller_size_of_start()
        .filter(|(_, share)| *share <= MUCH_SMALLER)
}

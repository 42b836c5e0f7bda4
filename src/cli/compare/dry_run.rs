//! `compare --dry-run`: what would be trained, and how long all of it would take.

use std::time::Duration;

use super::args::CompareArgs;
use super::training::Training;
use crate::cli::done::Done;
use crate::cli::output::{columns, note, say, tell};
use crate::device;
use crate::report::text::{self, Table};
use crate::run::{self, Estimate, OpenData, Plan};

/// Time to measure all models in: with what comes before and after, a dry run is over in 20 seconds.
const LIMIT: Duration = Duration::from_secs(12);

/// Said before the data is read.
pub(super) const STARTS: &str = "reading the data, then measuring each model, at most 12 s in all";

/// Prints a table of the trainings, and the time of all.
pub(super) fn dry_run(args: &CompareArgs, trainings: &[Training]) -> anyhow::Result<Done> {
    let device = device::select(args.device)?;
    let mut data = OpenData::default();
    let mut estimates: Vec<(Plan, Estimate)> = Vec::new();
    for training in trainings {
        let plan = Plan::with(training.recipe(args, 0)?, &mut data)?;
        plan.check(&device)?;
        let limit = LIMIT / trainings.len() as u32;
        let estimate = run::estimate(&plan, &device, limit)?;
        estimates.push((plan, estimate));
    }
    let runs = trainings.len() * args.seeds as usize;
    let each_s: f64 = estimates
        .iter()
        .map(|(_, estimate)| estimate.training_s)
        .sum();
    let total_s = each_s * f64::from(args.seeds);
    if args.json {
        let models = trainings.iter().zip(&estimates);
        let models = models.map(|(training, (plan, estimate))| {
            serde_json::json!({
                "model": training.model,
                "parameters": plan.model.parameters(),
                "updates": estimate.updates,
                "update_s": estimate.update_s,
                "update_pictures": estimate.update_pictures,
                "measured_pictures": estimate.measured_pictures,
                "training_s": estimate.training_s,
            })
        });
        say(&serde_json::json!({
            "models": models.collect::<Vec<_>>(),
            "seeds": args.seeds,
            "runs": runs,
            "total_s": total_s,
            "device": device.name,
        })
        .to_string())?;
        return Ok(Done::Success);
    }
    let headings = [
        "model",
        "parameters",
        "updates",
        "one update",
        "passes",
        "one training",
    ];
    let mut table = Table::new(&headings);
    for (training, (plan, estimate)) in trainings.iter().zip(&estimates) {
        let pictures = estimate.updates * estimate.update_pictures as f64;
        table.row(vec![
            training.model.clone(),
            text::count(plan.model.parameters()),
            text::count(estimate.updates as u64),
            format!(
                "{:.2} s{}",
                estimate.update_s,
                match estimate.measured_pictures < estimate.update_pictures {
                    true => ", extrapolated",
                    false => "",
                }
            ),
            format!("{:.2}", pictures / plan.splits.train.len().max(1) as f64),
            text::seconds(estimate.training_s),
        ]);
    }
    tell(&format!(
        "{}{runs} trainings ({} models, {}), about {} in all; validation and evaluation not counted",
        table.text(columns()),
        trainings.len(),
        match args.seeds {
            1 => "1 seed".to_owned(),
            n => format!("{n} seeds"),
        },
        text::seconds(total_s)
    ))?;
    note("nothing was trained or written");
    Ok(Done::Success)
}

//! `compare --dry-run`: what would be trained, and how long all of it would take.

use std::time::Duration;

use super::args::CompareArgs;
use super::training::Training;
use crate::cli::done::Done;
use crate::cli::output::{columns, note, say, tell};
use crate::device;
use crate::report::text::{self, Table};
use crate::run::{self, Estimate, OpenData, Plan, ProbeEstimate};

/// Time to measure all models in: with what comes before and after, a dry run is over in 20 seconds.
const LIMIT: Duration = Duration::from_secs(12);

/// Said before the data is read.
pub(super) const STARTS: &str = "reading the data, then measuring each model, at most 12 s in all";

/// Prints a table of the trainings, and the time of all.
pub(super) fn dry_run(args: &CompareArgs, trainings: &[Training]) -> anyhow::Result<Done> {
    let device = device::select(args.device)?;
    let mut data = OpenData::default();
    let mut estimates: Vec<(Plan, Measured)> = Vec::new();
    for training in trainings {
        let plan = Plan::with(training.recipe(args, 0)?, &mut data)?;
        plan.check(&device)?;
        let limit = LIMIT / trainings.len() as u32;
        let measured = match training.is_probe() {
            true => Measured::Probe(run::estimate_probe(&plan, &device, limit)?),
            false => Measured::Training(run::estimate(&plan, &device, limit)?),
        };
        estimates.push((plan, measured));
    }
    let runs: u32 = trainings.iter().map(|training| training.seeds(args)).sum();
    let total_s: f64 = trainings
        .iter()
        .zip(&estimates)
        .map(|(training, (_, measured))| f64::from(training.seeds(args)) * measured.seconds())
        .sum();
    if args.json {
        let models = trainings.iter().zip(&estimates);
        let models =
            models.map(|(training, (plan, measured))| measured.json(&training.model, plan));
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
    for (training, (plan, measured)) in trainings.iter().zip(&estimates) {
        let model = [training.model.clone(), text::count(plan.model.parameters())];
        table.row([&model[..], &measured.cells(plan)].concat());
    }
    tell(&format!(
        "{}{runs} trainings ({} {}, {}), about {} in all; validation and evaluation not counted",
        table.text(columns()),
        trainings.len(),
        match args.init {
            Some(_) => "ways",
            None => "models",
        },
        match args.seeds {
            1 => "1 seed".to_owned(),
            n => format!("{n} seeds"),
        },
        text::seconds(total_s)
    ))?;
    note("nothing was trained or written");
    Ok(Done::Success)
}

/// What was measured of a row.
enum Measured {
    Training(Estimate),
    Probe(ProbeEstimate),
}

impl Measured {
    /// Seconds of one training.
    fn seconds(&self) -> f64 {
        match self {
            Self::Training(estimate) => estimate.training_s,
            Self::Probe(estimate) => estimate.seconds(),
        }
    }

    /// Updates, the time of one, passes over the training pictures, and the time of all.
    fn cells(&self, plan: &Plan) -> [String; 4] {
        let none = || "–".to_owned();
        match self {
            Self::Probe(estimate) => [
                none(),
                none(),
                "1.00".to_owned(),
                text::seconds(estimate.seconds()),
            ],
            Self::Training(estimate) => {
                let pictures = estimate.updates * estimate.update_pictures as f64;
                let extrapolated = match estimate.measured_pictures < estimate.update_pictures {
                    true => ", extrapolated",
                    false => "",
                };
                [
                    text::count(estimate.updates as u64),
                    format!("{:.2} s{extrapolated}", estimate.update_s),
                    format!("{:.2}", pictures / plan.splits.train.len().max(1) as f64),
                    text::seconds(estimate.training_s),
                ]
            }
        }
    }

    fn json(&self, model: &str, plan: &Plan) -> serde_json::Value {
        let parameters = plan.model.parameters();
        match self {
            Self::Training(estimate) => serde_json::json!({
                "model": model,
                "parameters": parameters,
                "updates": estimate.updates,
                "update_s": estimate.update_s,
                "update_pictures": estimate.update_pictures,
                "measured_pictures": estimate.measured_pictures,
                "training_s": estimate.training_s,
            }),
            Self::Probe(estimate) => serde_json::json!({
                "model": model,
                "parameters": parameters,
                "measured_pictures": estimate.measured_pictures,
                "training_s": estimate.seconds(),
            }),
        }
    }
}

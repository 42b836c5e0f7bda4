//! Trains by a recipe into a run directory, and evaluates the best weights on the test pictures.
//!
//! `cargo run --release --example train_and_evaluate -- FOLDER [KEY=VALUE …]`, as in `runs/first
//! train.epochs=2`, with a folder that does not exist yet or is empty.
#![allow(clippy::print_stdout)]

use std::path::Path;

use anyhow::Context;
use vitrine::device::{DeviceChoice, select};
use vitrine::recipe::Sources;
use vitrine::run::{self, EvaluateOptions, Plan, RunDir, RunEvent};
use vitrine::stop::Stop;
use vitrine::train::TrainEvent;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("expected a folder for the run")?;
    // Any recipe and any of its keys; `data.path` is your own pictures.
    let recipe = run::resolve(&Sources {
        recipe: Some("default".to_owned()),
        set: arguments.collect(),
        ..Sources::default()
    })?;
    let device = select(DeviceChoice::Auto)?;

    // A plan opens the data and settles the architecture; nothing is written yet.
    let plan = Plan::new(recipe)?;
    plan.check(&device)?;
    let (data, model) = (plan.dataset.name.clone(), plan.recipe.model.name.clone());
    let dir = RunDir::create(Some(Path::new(&folder)), &data, &model)?;
    let stop = Stop::default();
    run::train(plan, &dir, &device, &stop, &mut |event| {
        if let RunEvent::Train(TrainEvent::Epoch { record, .. }) = event {
            println!("epoch {}: loss {:.4}", record.epoch, record.train_loss);
        }
    })?;

    let options = EvaluateOptions::default();
    let evaluated = run::evaluate(dir.root(), &options, &device)?;
    let report = evaluated.report;
    println!(
        "{}: top-1 {:.1} % of {} pictures",
        evaluated.split,
        100.0 * report.top1,
        report.n
    );
    Ok(())
}

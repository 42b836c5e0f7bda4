//! The trainings of a comparison, planned before the first begins.

use anyhow::{Context, bail};
use toml::Value;

use super::args::CompareArgs;
use super::training::{Cost, Training};
use crate::recipe::{Recipe, parse_duration};
use crate::run::{OpenData, Plan};
use crate::train::Budget;

/// Each model with its budget.
///
/// # Errors
///
/// Also where the models would see different pictures.
pub(super) fn plan_all(args: &CompareArgs) -> anyhow::Result<Vec<Training>> {
    if args.models.len() < 2 {
        bail!("--models names one model only: expected two or more, such as vit-w1,resnet9");
    }
    let mut plans = Vec::new();
    let mut data = OpenData::default();
    let mut first: Option<Recipe> = None;
    for (n, model) in args.models.iter().enumerate() {
        if args.models[..n].contains(model) {
            bail!("--models names {model} twice: expected different models");
        }
        let mut training = Training {
            model: model.clone(),
            budget: None,
            cost: Cost::Seconds(0.0),
        };
        let recipe = training.recipe(args, 0)?;
        if let Some(first) = &first {
            if first.augment != recipe.augment
                || first.preprocess != recipe.preprocess
                || first.data != recipe.data
                || first.train.batch_size != recipe.train.batch_size
            {
                bail!(
                    "{} and {model} would see different pictures: give both the same [augment], [preprocess], [data] and train.batch_size through --recipe or --set",
                    args.models[0]
                );
            }
            if args.budget.is_none() && first.budget()? != recipe.budget()? {
                bail!(
                    "{} and {model} would train for different times: give both one with --budget",
                    args.models[0]
                );
            }
        }
        // A wrong model or data set is refused before the first training begins.
        let plan = Plan::with(recipe.clone(), &mut data)?;
        let budget = args.budget.as_ref();
        training.budget = budget.map(|text| self::budget(text, &plan)).transpose()?;
        training.cost = cost(&Plan::with(training.recipe(args, 0)?, &mut data)?)?;
        plans.push(training);
        first.get_or_insert(recipe);
    }
    Ok(plans)
}

/// What one training costs, as far as it is known before it begins.
fn cost(plan: &Plan) -> anyhow::Result<Cost> {
    Ok(match (plan.recipe.budget()?, plan.updates()) {
        (Budget::Time(time), _) => Cost::Seconds(time.as_secs_f64()),
        (_, updates) => {
            let work = plan.curriculum.mean_work(false);
            Cost::Operations(updates.unwrap_or(0.0) * plan.flops_per_update(work))
        }
    })
}

/// The budget as a key and its value; FLOPs become updates of this model.
fn budget(text: &str, plan: &Plan) -> anyhow::Result<(&'static str, Value)> {
    let wrong = || format!("--budget {text:?}: expected epochs=N, time=30m or flops=1e15");
    let (kind, value) = text.split_once('=').with_context(wrong)?;
    match kind {
        "epochs" => match value.parse::<u32>() {
            Ok(epochs @ 1..) => Ok(("train.epochs", Value::Integer(epochs.into()))),
            _ => bail!(wrong()),
        },
        "time" => {
            parse_duration("--budget time", value)?;
            Ok(("train.time", Value::String(value.to_owned())))
        }
        "flops" => {
            let flops: f64 = value.parse().ok().with_context(wrong)?;
            let steps = plan.updates_within(flops);
            if !(1.0..1e9).contains(&steps) {
                bail!(
                    "--budget {text}: that is {steps:.1} updates of {}; expected one to a billion",
                    plan.recipe.model.name
                );
            }
            Ok((
                "train.steps",
                Value::Integer(steps.round_ties_even() as i64),
            ))
        }
        _ => bail!(wrong()),
    }
}

//! The trainings of a comparison, planned before the first begins.

use std::path::Path;

use anyhow::{Context, bail};
use toml::Value;

use super::args::CompareArgs;
use super::training::{Cost, Training};
use crate::cli::named::unambiguous;
use crate::names;
use crate::recipe::{ProbeViews, Recipe, Sources, parse_duration};
use crate::run::{self, OpenData, Plan};
use crate::train::Budget;

/// Each model with its budget.
///
/// # Errors
///
/// Also where the models would see different pictures.
pub(super) fn plan_all(args: &CompareArgs) -> anyhow::Result<Vec<Training>> {
    match &args.init {
        Some(init) => plan_ways(args, init),
        None => plan_models(args),
    }
}

/// A probe on the features of weights, their fine-tuning, and the training of their model from scratch.
fn plan_ways(args: &CompareArgs, init: &Path) -> anyhow::Result<Vec<Training>> {
    if !args.models.is_empty() {
        bail!(
            "--init trains the model of its weights in three ways, --models names models to train from scratch: leave one of them out"
        );
    }
    unambiguous(init)?;
    let text = |path| Value::String(names::text(path));
    let data = args.data.as_deref().map(|path| ("data.path", text(path)));
    let values = [Some(("init.weights", text(init))), data];
    let recipe = run::resolve(&Sources {
        recipe: args.recipe.as_ref().map(names::text),
        set: args.set.clone(),
        values: values.into_iter().flatten().collect(),
    })?;
    // Wrong weights or a wrong data set are refused before the first training begins. Its recipe has their hash.
    let mut plan = Plan::new(recipe.fine_tuning())?;
    let budget = args.budget.as_ref();
    let budget = budget.map(|text| self::budget(text, &plan)).transpose()?;
    plan.recipe = plan.recipe.changed(budget.as_slice())?;
    let of_training = cost(&plan)?;
    let of_probe = match of_training {
        // Beside the budgets it is nothing.
        Cost::Seconds(_) => Cost::Seconds(0.0),
        Cost::Operations(_) => {
            let pictures = plan.splits.train.len() + plan.splits.val.len();
            Cost::Operations(plan.model.flops() as f64 * pictures as f64)
        }
    };
    let views = recipe.init.probe.unwrap_or(ProbeViews::Plain);
    let way = |name: &str, way, budget, cost| Training {
        model: name.to_owned(),
        way: Some(way),
        budget,
        cost,
    };
    Ok(vec![
        way("probe", plan.recipe.probing(views), None, of_probe),
        way(
            "fine-tuned",
            plan.recipe.clone(),
            budget.clone(),
            of_training,
        ),
        way("scratch", scratch(args, &plan.recipe), budget, of_training),
    ])
}

/// The training from scratch of the same model on the same pictures: a recipe may settle how it learns otherwise than
/// from weights. Its budget is that of the fine-tuning.
fn scratch(args: &CompareArgs, tuned: &Recipe) -> Recipe {
    let is_of_init = |set: &&String| set.trim_start().starts_with("init");
    let found = run::resolve(&Sources {
        recipe: args.recipe.as_ref().map(names::text),
        set: args
            .set
            .iter()
            .filter(|set| !is_of_init(set))
            .cloned()
            .collect(),
        values: vec![("model.name", Value::String(tuned.model.name.clone()))],
    });
    match found {
        Ok(mut found) if found.init.weights.is_none() => {
            found.data = tuned.data.clone();
            found.model = tuned.model.clone();
            found.preprocess = tuned.preprocess.clone();
            found.train.epochs = tuned.train.epochs;
            found.train.steps = tuned.train.steps;
            found.train.time.clone_from(&tuned.train.time);
            found.without_init()
        }
        // One that holds for weights alone.
        _ => tuned.without_init(),
    }
}

/// Each model with its budget.
fn plan_models(args: &CompareArgs) -> anyhow::Result<Vec<Training>> {
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
            way: None,
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

//! One row to train: its settings, as a recipe and as the command line of its process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use toml::Value;

use super::args::CompareArgs;
use crate::cli::flags::Settings;
use crate::names;
use crate::recipe::{Recipe, Sources};
use crate::run::{self, RunDir};

/// A model to train, under every seed.
#[derive(Debug)]
pub(super) struct Training {
    /// The model's name, or that of the way to train it.
    pub model: String,
    /// The recipe of a way to train the model of some weights; without one, it is that of the model.
    pub way: Option<Recipe>,
    /// The key of its budget and the value; without one, the recipe's own counts.
    pub budget: Option<(&'static str, Value)>,
    /// What it costs under one seed.
    pub cost: Cost,
}

/// What a training costs, as far as it is known before it begins: all of a comparison are known by the same measure.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cost {
    /// Its time budget.
    Seconds(f64),
    /// Floating-point operations.
    Operations(f64),
}

impl Cost {
    fn amount(self) -> f64 {
        match self {
            Cost::Seconds(amount) | Cost::Operations(amount) => amount,
        }
    }
}

/// Seconds that the trainings ahead take, when those `done` took so many seconds; a budget of time is known without.
pub(super) fn to_go(ahead: &[Cost], done: &[(Cost, f64)]) -> Option<f64> {
    let ahead_amount: f64 = ahead.iter().map(|cost| cost.amount()).sum();
    let done_amount: f64 = done.iter().map(|(cost, _)| cost.amount()).sum();
    let took_s: f64 = done.iter().map(|(_, seconds)| seconds).sum();
    match ahead.first()? {
        _ if done_amount > 0.0 => Some(ahead_amount * took_s / done_amount),
        Cost::Seconds(_) => Some(ahead_amount),
        Cost::Operations(_) => None,
    }
}

impl Training {
    /// Whether no seed changes it.
    pub(super) fn is_probe(&self) -> bool {
        let recipe = self.way.as_ref();
        recipe.is_some_and(|recipe| recipe.init.probe.is_some())
    }

    /// The seeds that it is trained under.
    pub(super) fn seeds(&self, args: &CompareArgs) -> u32 {
        if self.is_probe() { 1 } else { args.seeds }
    }

    /// The settings from the flags of `compare`, which win over its recipe and `--set`.
    fn settings(&self, args: &CompareArgs, seed: u32, precision: Option<&str>) -> Settings {
        let text = |value: &str| Value::String(value.to_owned());
        let data = args.data.as_ref().map(names::text);
        let model = self.way.is_none().then(|| text(&self.model));
        let given = [
            model.map(|name| ("model.name", name)),
            Some(("train.seed", Value::Integer(seed.into()))),
            self.budget.clone(),
            data.map(|path| ("data.path", Value::String(path))),
            precision.map(|precision| ("train.precision", text(precision))),
        ];
        Settings::of(given.into_iter().flatten()).only(|flag| flag.in_compare)
    }

    /// The recipe that the process of [`command`](Self::command) resolves.
    pub(super) fn recipe(&self, args: &CompareArgs, seed: u32) -> anyhow::Result<Recipe> {
        let values = self.settings(args, seed, None).values()?;
        if let Some(way) = &self.way {
            let mut recipe = way.changed(&values)?;
            recipe.make_paths_absolute();
            return Ok(recipe);
        }
        Ok(run::resolve(&Sources {
            recipe: args.recipe.as_ref().map(names::text),
            set: args.set.clone(),
            values,
        })?)
    }

    /// Writes the recipe of a way to train for the processes of [`command`](Self::command), which read it.
    pub(super) fn write_recipe(&self, args: &CompareArgs, out: &Path) -> anyhow::Result<()> {
        if self.way.is_some() {
            let text = self.recipe(args, 0)?.to_toml();
            run::write(&self.recipe_file(out), text.as_bytes())?;
        }
        Ok(())
    }

    /// The recipe of a way to train, beside its runs.
    fn recipe_file(&self, out: &Path) -> PathBuf {
        out.with_file_name(format!("{}.toml", self.model))
    }

    /// The command that trains, continues, or merely confirms the run in `out`.
    pub(super) fn command(
        &self,
        args: &CompareArgs,
        seed: u32,
        out: &Path,
        threads: Option<u32>,
        precision: Option<&str>,
    ) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("train").stdout(Stdio::null());
        command.args(["--device", &args.device.to_string()]);
        if let Some(threads) = threads {
            command.args(["--threads", &threads.to_string()]);
        }
        let mut settings = self.settings(args, seed, precision);
        if begun(out).is_some() {
            command.arg("--resume").arg(out);
            settings = settings.only(|flag| flag.on_resume);
        } else {
            command.arg("--out").arg(out);
            if self.way.is_some() {
                command.arg("--recipe").arg(self.recipe_file(out));
            } else {
                if let Some(recipe) = &args.recipe {
                    command.arg("--recipe").arg(recipe);
                }
                for set in &args.set {
                    command.args(["--set", set]);
                }
            }
        }
        command.args(settings.arguments());
        Ok(command)
    }
}

/// The run in `out` that saved a state, if there is one.
pub(super) fn begun(out: &Path) -> Option<RunDir> {
    let dir = RunDir::open(out).ok()?;
    let saved = dir.state_folder().join("state.safetensors").is_file();
    saved.then_some(dir)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::flags::FLAGS;
    use crate::recipe::ProbeViews;

    #[test]
    fn the_time_to_go_is_that_of_the_budgets_or_of_what_went_before() {
        let time = [Cost::Seconds(60.0); 4];
        assert_eq!(to_go(&time, &[]), Some(240.0));
        // Decoding and the final evaluation come on top.
        assert_eq!(to_go(&time[1..], &[(time[0], 70.0)]), Some(210.0));
        let work = [Cost::Operations(2e12), Cost::Operations(6e12)];
        assert_eq!(to_go(&work, &[]), None);
        assert_eq!(to_go(&work[1..], &[(work[0], 30.0)]), Some(90.0));
        assert_eq!(to_go(&[], &[]), None);
    }

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: CompareArgs,
    }

    #[test]
    fn a_way_is_trained_by_its_own_recipe_and_a_probe_once_without_a_budget() {
        let args =
            Typed::parse_from(["compare", "--init=w", "--set=optimizer.lr=1", "--seeds=3"]).args;
        let mut recipe = Recipe::default();
        recipe.init.weights = Some("w".into());
        recipe.init.finetune.layer_decay = 0.5;
        let training = |way: Recipe, budget| Training {
            model: "way".to_owned(),
            way: Some(way),
            budget,
            cost: Cost::Seconds(0.0),
        };
        let time = Some(("train.time", Value::String("3m".to_owned())));
        let tuned = training(recipe.fine_tuning(), time.clone());
        let scratch = training(recipe.without_init(), time);
        let probe = training(recipe.probing(ProbeViews::Plain), None);
        assert_eq!(
            [&tuned, &scratch, &probe].map(|t| t.seeds(&args)),
            [3, 3, 1]
        );
        let init = scratch.recipe(&args, 1).unwrap().init;
        assert_eq!((init.weights, init.finetune.layer_decay), (None, 1.0));
        assert_eq!(
            tuned.recipe(&args, 1).unwrap().init.finetune.layer_decay,
            0.5
        );
        let out = Path::new("both/way-seed1");
        let said = |training: &Training| -> Vec<String> {
            let child = training.command(&args, 1, out, None, None).unwrap();
            child
                .get_args()
                .map(|a| a.to_string_lossy().into_owned())
                .collect()
        };
        let expected = [
            "train",
            "--device",
            "auto",
            "--out",
            "both/way-seed1",
            "--recipe",
            "both/way.toml",
            "--seed",
            "1",
        ];
        assert_eq!(said(&probe), expected);
        let with_budget: Vec<&str> = [&expected[..], &["--time", "3m"]].concat();
        assert_eq!(said(&scratch), with_budget);
    }

    #[test]
    fn a_training_inherits_threads_precision_and_what_the_table_of_flags_says() {
        let typed = [
            "compare",
            "--models=vit-micro,resnet9",
            "--device=cpu",
            "--data=pictures",
            "--recipe=photos",
            "--set=optimizer.lr=1e-3",
        ];
        let args = Typed::parse_from(typed).args;
        let training = Training {
            model: "resnet9".to_owned(),
            way: None,
            budget: Some(("train.time", Value::String("3m".to_owned()))),
            cost: Cost::Seconds(180.0),
        };
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("resnet9-seed2");
        let child = training
            .command(&args, 2, &out, Some(1), Some("bf16"))
            .unwrap();
        let said: Vec<_> = child.get_args().map(|a| a.to_str().unwrap()).collect();
        let out = out.to_str().unwrap();
        for pair in [
            ["--device", "cpu"],
            ["--threads", "1"],
            ["--precision", "bf16"],
            ["--out", out],
            ["--model", "resnet9"],
            ["--seed", "2"],
            ["--time", "3m"],
            ["--data", "pictures"],
            ["--recipe", "photos"],
            ["--set", "optimizer.lr=1e-3"],
        ] {
            assert!(said.windows(2).any(|two| two == pair), "{pair:?}: {said:?}");
        }
        // Exactly the flags that the table marks; of the budgets, one.
        for flag in FLAGS {
            let is_other_budget = ["train.epochs", "train.steps"].contains(&flag.key);
            let expected = flag.in_compare && !is_other_budget;
            let found = said.contains(&flag.typed().as_str());
            assert_eq!(found, expected, "{flag:?}: {said:?}");
        }
        // A run that has saved a state keeps its own recipe.
        std::fs::create_dir_all(Path::new(out).join("checkpoint")).unwrap();
        for file in ["recipe.toml", "checkpoint/state.safetensors"] {
            std::fs::write(Path::new(out).join(file), "").unwrap();
        }
        let child = training
            .command(&args, 2, Path::new(out), None, Some("bf16"))
            .unwrap();
        let said: Vec<_> = child.get_args().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(
            said[1..],
            [
                "--device", "cpu", "--resume", out, "--time", "3m", "--data", "pictures",
            ]
        );
    }
}

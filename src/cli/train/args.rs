//! The arguments of `train`, and the recipe and devices that they choose.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::cli::flags::{FLAGS, Flag, Settings};
use crate::cli::lists;
use crate::device::{self, DeviceChoice, Selected};
use crate::names::{self, shown};
use crate::recipe::{Recipe, Sources};
use crate::run::{self, RunDir};

/// Train a model on a data set into a run directory.
///
/// Without an argument it trains a small Vision Transformer on the bundled Fashion-MNIST sample.
#[derive(Debug, Args)]
pub(in crate::cli) struct TrainArgs {
    // First, so that help begins with --data and --model.
    #[command(flatten)]
    pub settings: Settings,
    #[arg(
        long,
        value_name = "FILE",
        help = lists::fill("Recipe: a file, or the name of an embedded one: {recipes}")
    )]
    pub recipe: Option<PathBuf>,
    /// Set any recipe key, as in optimizer.lr=0.001; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[arg(
        long,
        default_value = "auto",
        value_name = "DEVICE",
        help = lists::fill("Device to train on: {devices}; auto uses a GPU if present")
    )]
    pub device: DeviceChoice,
    /// Device of the teacher; default: that of the student.
    #[arg(long, value_name = "DEVICE", hide_short_help = true)]
    pub teacher_device: Option<DeviceChoice>,
    /// Folder of the run; default: runs/<data>-<model>-<n>.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue a run as if it had never stopped; a larger --epochs stretches its schedule.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "recipe", "set"])]
    pub resume: Option<PathBuf>,
    /// Print what would be trained, its size and an estimate of its cost.
    #[arg(long)]
    pub dry_run: bool,
    /// Print where the time of a step went: data, teacher, forward, backward, optimizer, and by
    /// operation; of a probe: decoding, features, fit.
    #[arg(long, hide_short_help = true)]
    pub profile: bool,
    /// Print the results as one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl TrainArgs {
    /// The recipe of a new run.
    pub(super) fn recipe(&self) -> anyhow::Result<Recipe> {
        if self.settings.flag("init.probe").is_some() {
            self.check_probe()?;
        }
        Ok(run::resolve(&Sources {
            recipe: self.recipe.as_ref().map(names::text),
            set: self.set.clone(),
            values: self.settings.values()?,
        })?)
    }

    /// Refuses what means nothing to a probe.
    fn check_probe(&self) -> anyhow::Result<()> {
        let is_for_probe = |key: &str| {
            let flag = FLAGS.iter().find(|flag| flag.key == key);
            key.starts_with("data.")
                || key.starts_with("preprocess.")
                || flag.is_some_and(Flag::is_of_probe)
        };
        let typed = self.settings.flags().find(|flag| !flag.is_of_probe());
        let set = self.set.iter().find(|set| {
            let key = set.split('=').next().unwrap_or_default().trim();
            !is_for_probe(key)
        });
        let found = typed.map(Flag::typed);
        let found = found.or_else(|| set.map(|set| format!("--set {set}")));
        if let Some(found) = found {
            let free = FLAGS
                .iter()
                .filter(|flag| flag.is_of_probe())
                .map(Flag::typed);
            bail!(
                "--probe fits one linear layer to its optimum, without a budget, a learning rate or augmentation: {found} does not go with it; {} do",
                free.collect::<Vec<_>>().join(", ")
            );
        }
        Ok(())
    }

    /// The recipe of a run to continue, with what may change of it.
    pub(super) fn resumed(&self, dir: &RunDir) -> anyhow::Result<Recipe> {
        let recipe = Recipe::load(&dir.recipe())?;
        let root = shown(dir.root());
        if let Some(fixed) = self.settings.flags().find(|flag| !flag.on_resume) {
            let free = FLAGS.iter().filter(|flag| flag.on_resume).map(Flag::typed);
            bail!(
                "--resume continues {root} with its own recipe: {} cannot change; only {}, --device and --teacher-device may",
                fixed.typed(),
                free.collect::<Vec<_>>().join(", ")
            );
        }
        if recipe.init.probe.is_some()
            && let Some(budget) = self.settings.flags().find(|flag| !flag.is_of_probe())
        {
            bail!(
                "{root} is a probe, which has found its optimum: {} does not go with it",
                budget.typed()
            );
        }
        let teacher = self.settings.flag("distillation.teacher");
        if teacher.is_some() && recipe.distillation.teacher.is_none() {
            bail!("--teacher: {root} is trained without one; begin a new run with it");
        }
        let mut recipe = recipe.changed(&self.settings.values()?)?;
        recipe.make_paths_absolute();
        Ok(recipe)
    }

    /// The student's device and its teacher's.
    pub(super) fn devices(&self, recipe: &Recipe) -> anyhow::Result<[Selected; 2]> {
        let student = device::select(self.device)?;
        let teacher = match (self.teacher_device, &recipe.distillation.teacher) {
            (None, _) => student.clone(),
            (Some(device), Some(_)) => device::select(device)?,
            (Some(device), None) => {
                bail!("--teacher-device {device}: there is no teacher; name one with --teacher")
            }
        };
        Ok([student, teacher])
    }
}

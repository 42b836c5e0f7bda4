//! Finished runs to compare: whether they can be, and which of them are one model.

use std::path::PathBuf;

use anyhow::bail;

use super::difference::difference;
use crate::cli::shell::quoted;
use crate::compare::Entry;
use crate::names::{self, shown};
use crate::recipe::Recipe;
use crate::run::{self, RunDir};

/// Finished runs, each with the name of its model. Runs of one recipe and the same pictures that differ
/// only in their seed are one model. If a preset was trained in several ways, each is named after the
/// folder of its first run; if one seed was trained twice, each run after its own folder.
pub(super) fn finished(runs: &[PathBuf]) -> anyhow::Result<Vec<Entry>> {
    if runs.len() < 2 {
        bail!("one run only: expected two or more runs, or --models with two or more names");
    }
    let mut places = Vec::new();
    let mut found: Vec<(Recipe, RunDir)> = Vec::new();
    for path in runs {
        let dir = RunDir::open(path)?;
        let place = path.canonicalize()?;
        if places.contains(&place) {
            bail!("{} is named twice: expected different runs", shown(path));
        }
        places.push(place);
        if run::recorded(&dir, "ended").is_none() {
            bail!(
                "{} was never finished: continue it with `vitrine train --resume {}`, or leave it out",
                shown(path),
                quoted(path)
            );
        }
        found.push((Recipe::load(&dir.recipe())?, dir));
    }
    // The pictures that a run learned from; they stay the same if the data merely moved.
    let learned = |dir: &RunDir| std::fs::read(dir.splits().join("train.txt")).ok();
    let pool = |recipe: &Recipe, dir: &RunDir| -> Vec<&(Recipe, RunDir)> {
        let pictures = learned(dir);
        let alike = |(other, place): &&(Recipe, RunDir)| {
            let mut other = other.clone();
            other.train.seed = recipe.train.seed;
            difference(recipe, &other).is_none() && learned(place) == pictures
        };
        found.iter().filter(alike).collect()
    };
    let entry = |(recipe, dir): &(Recipe, RunDir)| {
        let pool = pool(recipe, dir);
        let mut seeds: Vec<u64> = pool.iter().map(|(other, _)| other.train.seed).collect();
        seeds.sort_unstable();
        let same_model = |(other, _): &&(Recipe, RunDir)| other.model.name == recipe.model.name;
        let model = if seeds.windows(2).any(|pair| pair[0] == pair[1]) {
            names::text(dir.root())
        } else if found.iter().filter(same_model).count() > pool.len() {
            names::text(pool[0].1.root())
        } else {
            recipe.model.name.clone()
        };
        Entry {
            model,
            seed: recipe.train.seed,
            is_seedless: recipe.init.probe.is_some(),
            dir: dir.clone(),
        }
    };
    Ok(found.iter().map(entry).collect())
}

//! Sources of settings, put over each other: embedded recipes, files, assignments and values.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::embedded::Embedded;
use super::error::{Origin, RecipeError};
use super::keys::{check_keys, known_keys};
use super::resolved::Recipe;
use super::sections::ModelRecipe;
use super::start;
use super::table::{insert, merge, parse, parse_assignment};
use super::when::{Beginning, Conditional};
use crate::checkpoint::WeightsMeta;
use crate::model::ModelConfig;
use crate::names;

/// Where the settings of a recipe come from; later ones win.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// An embedded recipe's name, or a file.
    pub recipe: Option<String>,
    /// `key=value`, as typed.
    pub set: Vec<String>,
    /// Dotted keys and their values.
    pub values: Vec<(&'static str, Value)>,
}

impl Sources {
    /// Puts the sources over each other and checks the result.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], which names the recipe, the assignment or the key.
    pub fn resolve(&self) -> Result<Recipe, RecipeError> {
        self.resolve_from(None)
    }

    /// [`resolve`](Self::resolve) with the architecture and the preprocessing of weights to start
    /// from, whose path is for messages: an architecture that is stated must be theirs.
    ///
    /// # Errors
    ///
    /// As for [`resolve`](Self::resolve).
    pub(crate) fn resolve_from(
        &self,
        weights: Option<(&Path, &WeightsMeta)>,
    ) -> Result<Recipe, RecipeError> {
        let Layers { recipe, over, when } = self.layers()?;
        let chosen = recipe.is_some();
        let mut layers: Vec<Table> = recipe.into_iter().chain(over).collect();
        let beginning = Beginning::of(&layers);
        let at = usize::from(chosen);
        layers.insert(at, when.of_beginning(beginning));
        let name = layers
            .iter()
            .rev()
            .find_map(|t| t.get("model")?.get("name")?.as_str())
            .or(weights.map(|(_, meta)| meta.name.as_str()))
            .map(str::to_owned);
        let has_data = |t: &Table| t.get("data").is_some_and(|d| d.get("path").is_some());
        let nothing_chosen = name.is_none() && !chosen && !layers.iter().any(has_data);
        let name = name.unwrap_or_else(|| ModelRecipe::default().name);
        let family = family_defaults(&name);
        layers.insert(at + 1, when.of_model(beginning, family, &name));
        if let Some((path, meta)) = weights {
            start::check(path, meta, &layers)?;
            layers.insert(0, start::layer(meta, &layers));
        }
        let mut merged = read(match nothing_chosen {
            true => "default",
            false => family,
        })?;
        for table in layers {
            merge(&mut merged, table);
        }
        Recipe::from_table(merged)
    }

    /// The weights to start from, if any source names some.
    ///
    /// # Errors
    ///
    /// As for [`resolve`](Self::resolve).
    pub(crate) fn init_weights(&self) -> Result<Option<PathBuf>, RecipeError> {
        let weights =
            |table: &Table| Some(names::path(table.get("init")?.get("weights")?.as_str()?));
        let Layers { recipe, over, .. } = self.layers()?;
        Ok(over.iter().rev().chain(&recipe).find_map(weights))
    }

    /// Each layer, once all of its keys are known.
    fn layers(&self) -> Result<Layers, RecipeError> {
        let known = known_keys();
        let mut layers = Layers::default();
        if let Some(name) = &self.recipe {
            let origin = Origin::Recipe(name.clone());
            let mut recipe = read(name)?;
            layers.when = Conditional::take(&origin, &mut recipe, &known)?;
            check_keys(&origin, &recipe, "", &known)?;
            layers.recipe = Some(recipe);
        }
        for text in &self.set {
            let table = parse_assignment(text)?;
            check_keys(&Origin::Assignment(text.clone()), &table, "", &known)?;
            layers.over.push(table);
        }
        let values = table(&self.values);
        check_keys(&Origin::Program, &values, "", &known)?;
        layers.over.push(values);
        Ok(layers)
    }
}

/// What the sources state.
#[derive(Debug, Default)]
struct Layers {
    /// The recipe, without what it states under conditions.
    recipe: Option<Table>,
    /// That.
    when: Conditional,
    /// What stands over it, the last one highest.
    over: Vec<Table>,
}

/// The embedded recipe with the defaults of a model's family.
fn family_defaults(model: &str) -> &'static str {
    match ModelConfig::preset(model, 32, None, 10) {
        Ok(model) if model.grid().is_none() => "cnn",
        // A model that does not exist is refused when it is built.
        _ => "vit",
    }
}

fn read(name: &str) -> Result<Table, RecipeError> {
    let origin = Origin::Recipe(name.to_owned());
    if let Some(recipe) = Embedded::find(name) {
        return parse(&origin, recipe.text);
    }
    let path = names::path(name);
    let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => RecipeError::NotFound {
            name: name.to_owned(),
            hint: Embedded::near(name)
                .map(|near| format!(", did you mean {near:?}?"))
                .unwrap_or_default(),
            known: Embedded::names(),
        },
        _ => RecipeError::Read { path, source },
    })?;
    parse(&origin, &text)
}

fn table(values: &[(&'static str, Value)]) -> Table {
    let mut table = Table::new();
    for (key, value) in values {
        insert(&mut table, key, value.clone());
    }
    table
}

impl Recipe {
    /// Reads the resolved recipe of a run directory.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], which names the file.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&names::text(path), &text)
    }

    /// Reads a recipe from its text; `name` is for messages.
    ///
    /// # Errors
    ///
    /// [`RecipeError`].
    pub fn parse(name: &str, text: &str) -> Result<Self, RecipeError> {
        let origin = Origin::Recipe(name.to_owned());
        let table = parse(&origin, text)?;
        check_keys(&origin, &table, "", &known_keys())?;
        Self::from_table(table)
    }

    /// The recipe with other values of some keys, checked again. Hashes of weights stay: another path
    /// has to lead to the same file.
    ///
    /// # Errors
    ///
    /// As for [`Sources::resolve`].
    pub fn changed(&self, values: &[(&'static str, Value)]) -> Result<Self, RecipeError> {
        let mut table = Table::try_from(self).expect("a recipe is plain data");
        merge(&mut table, self::table(values));
        let mut changed = Self::from_table(table)?;
        changed
            .distillation
            .sha256
            .clone_from(&self.distillation.sha256);
        changed.init.sha256.clone_from(&self.init.sha256);
        Ok(changed)
    }
}

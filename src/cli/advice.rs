//! What a user can do about an error. The floors below say what is wrong, by path, key and value;
//! here the flag or command that mends it is added.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;

use super::flags::{Flag, Settings};
use super::shell::quoted;
use crate::checkpoint::{CheckpointError, Shipped};
use crate::data::DataError;
use crate::device::DeviceError;
use crate::hub::{HubError, Repo};
use crate::model::ModelError;
use crate::names::shown;
use crate::recipe::{Origin, RecipeError};
use crate::run::RunError;
use crate::setting::Invalid;
use crate::train::TrainError;

/// What to do about a file that cannot be written.
const CANNOT_WRITE: &str =
    "check that its folder exists, may be written to and has space, or choose another place";

/// An error and its causes in one line, with what to do next; a cause that is already quoted is not
/// repeated.
///
/// `settings` are the flags that were typed: an error about the key of one names the flag.
pub(super) fn message(error: &anyhow::Error, settings: &Settings) -> String {
    let advised = |cause| advised(cause, settings).unwrap_or_else(|| cause.to_string());
    let mut text = String::new();
    for cause in error.chain() {
        if text.is_empty() {
            text = advised(cause);
        } else if !text.contains(&cause.to_string()) {
            text += &format!(": {}", advised(cause));
        }
    }
    text
}

/// One cause with its advice, if there is any for it.
fn advised(cause: &(dyn Error + 'static), settings: &Settings) -> Option<String> {
    if let Some(error) = cause.downcast_ref() {
        of_run(error, settings)
    } else if let Some(error) = cause.downcast_ref() {
        of_recipe(error, settings)
    } else if let Some(error) = cause.downcast_ref() {
        of_setting(error, settings)
    } else if let Some(error) = cause.downcast_ref() {
        of_data(error, settings)
    } else if let Some(error) = cause.downcast_ref() {
        of_checkpoint(error)
    } else if let Some(error) = cause.downcast_ref() {
        of_hub(error)
    } else if let Some(error) = cause.downcast_ref() {
        of_device(error)
    } else {
        None
    }
}

/// The flag that sets `key`, or the key where none does.
fn flag(key: &str) -> String {
    Flag::of_key(key).map_or_else(|| key.to_owned(), Flag::typed)
}

/// `key`, or its flag where that was typed.
fn setting(key: &str, settings: &Settings) -> String {
    settings
        .flag(key)
        .map_or_else(|| key.to_owned(), Flag::typed)
}

/// What is wrong, then what to do: "found: next step", or "found: expected; next step".
fn then(error: &dyn Display, advice: &str) -> Option<String> {
    let text = error.to_string();
    let has_reason = text.contains(": ") || text.contains("; ");
    let joint = if has_reason { ";" } else { ":" };
    Some(format!("{text}{joint} {advice}"))
}

/// What to do about a file that the system refused to write; another reason says that itself.
fn cannot_write(error: &dyn Display, reason: &std::io::Error) -> Option<String> {
    (reason.kind() != std::io::ErrorKind::Other).then(|| then(error, CANNOT_WRITE))?
}

fn of_run(error: &RunError, settings: &Settings) -> Option<String> {
    let then = |advice: &str| then(error, advice);
    match error {
        RunError::NotADirectory { .. } => then("--out names the folder of a run"),
        RunError::Taken { path, is_run: true } => then(&format!(
            "name another folder with --out, or continue that run with --resume {}",
            quoted(path)
        )),
        RunError::Taken { .. } => then("name another folder with --out"),
        RunError::NoRun {
            path,
            found,
            newest,
            or_shipped,
        } => {
            let run = match newest {
                Some(newest) => format!("the newest run here is {}", shown(newest)),
                None => "there is no run here yet: `vitrine train` makes one".to_owned(),
            };
            let wrong = match settings.flag_naming(path) {
                Some(flag) => format!(
                    "{} {}: {found}; expected a run or a weights file",
                    flag.typed(),
                    shown(path)
                ),
                None => error.to_string(),
            };
            let names = Shipped::names();
            let mut shipped = format!("; weights that ship with vitrine: {names}");
            if is_repository(path) {
                shipped += &format!("; a repository on the hub: hf:{}", shown(path));
            }
            Some(format!(
                "{wrong}; {run}{}",
                if *or_shipped { &shipped } else { "" }
            ))
        }
        RunError::NoWeights { path } => then(&format!(
            "continue it with `vitrine train --resume {}`",
            quoted(path)
        )),
        RunError::NoState { path } => then(&format!(
            "start again with `vitrine train --recipe {}`",
            quoted(&path.join("recipe.toml"))
        )),
        RunError::LessThanDone { .. } => {
            then("ask for more --epochs, --steps or --time, or use its weights as they are")
        }
        RunError::DataGone { .. } => then("if it was moved, name its place with --data"),
        RunError::Write { source, .. } => cannot_write(error, source),
        RunError::Outdated { .. } => then("evaluate again, or name a folder for them with --out"),
        RunError::NotOurs { .. } => then("move it away, or name another folder with --out"),
        RunError::OtherRecipe { run, .. } => then(&format!(
            "set it back, or begin a new run with `vitrine train --recipe {}`",
            quoted(&run.join("recipe.toml"))
        )),
        RunError::TeacherClasses { .. } => {
            then("train a teacher on this data, or name another with --teacher")
        }
        RunError::OtherTeacher { path, .. } => then(&format!(
            "{}, or begin a new run",
            other_weights(
                path,
                "name the original file with --teacher (`vitrine calibrate` also changes a file)"
            )
        )),
        RunError::OtherStart { path, .. } => then(other_weights(
            path,
            "name the original file, or another one, with --init",
        )),
        RunError::NoBase { path, .. } => then(&format!(
            "put them there again, or merge both where they are, with `vitrine export {} OUT.safetensors`",
            quoted(path)
        )),
        RunError::OtherBase { base, .. } => then(other_weights(
            base,
            "put the original file there (`vitrine calibrate` and more training also change one), or train the adapters again",
        )),
        RunError::NoSplit { .. } => Some(format!("{error}; name one with --split")),
        RunError::NoValidation { .. } => then(
            "name its run directory, which keeps its validation split, or use --data with a data set that has one",
        ),
        RunError::ShippedIsCalibrated { name } => then(&format!(
            "`vitrine export {name} OUT.safetensors` makes a copy that can be calibrated again"
        )),
        RunError::NotFinite { .. } => then("train it again with a lower --lr"),
        RunError::NoFamiliarity { path } => then(&calibrate_with_training_pictures(path)),
        RunError::Differs { .. } => then("export without --half or --int8"),
        RunError::DifferentPictures { .. } => {
            then("name one data set for both with --data and --split")
        }
        RunError::Broken { .. } => {
            then("`vitrine train --resume` on the finished run writes it again")
        }
        RunError::Precision { precision, .. } if precision == "int8" => {
            then("use --device cpu, or --precision f32 or auto")
        }
        RunError::Precision { .. } => then(
            "use --precision f32 or auto, or another device with --device; a run that began in bf16 needs another device",
        ),
        RunError::Unreadable { .. } => then("`vitrine data verify` names the reasons"),
        RunError::OfHub { path } => then(&copy_to_calibrate(path)),
        RunError::Hub(error) => of_hub(error),
        RunError::Data(error) => of_data(error, settings),
        RunError::Recipe(error) => of_recipe(error, settings),
        RunError::Train(error) => of_train(error, settings),
        RunError::Checkpoint(error) => of_checkpoint(error),
        _ => None,
    }
}

/// How weights get statistics of the features of their training pictures.
fn calibrate_with_training_pictures(weights: &Path) -> String {
    let named = quoted(weights);
    if weights.is_dir() {
        return format!("`vitrine calibrate {named}` makes them");
    }
    let of_data = "makes them, where DATA has a train and a val split";
    match Shipped::find(weights).is_some() || Repo::is_named(weights) {
        true => format!(
            "`vitrine export {named} OUT.safetensors` makes a copy, and `vitrine calibrate OUT.safetensors --data DATA` {of_data}"
        ),
        false => format!("`vitrine calibrate {named} --data DATA` {of_data}"),
    }
}

/// How weights that are not vitrine's to change can be calibrated.
fn copy_to_calibrate(weights: &Path) -> String {
    format!(
        "`vitrine export {} OUT.safetensors` makes a copy of vitrine's own, which `vitrine calibrate OUT.safetensors --data DATA` takes",
        quoted(weights)
    )
}

/// Whether a path to nothing is OWNER/NAME, as a hub has repositories, and not a folder here.
fn is_repository(path: &Path) -> bool {
    let name = path.to_str().unwrap_or_default();
    let owner = name.split_once('/').map(|(owner, _)| owner);
    owner.is_some_and(|owner| !Path::new(owner).exists())
        && !path.exists()
        && Repo::parse(&format!("hf:{name}")).is_ok()
}

/// What to do about weights whose hash is not that of the recipe: `file`, unless they ship.
fn other_weights(weights: &Path, file: &'static str) -> &'static str {
    match Shipped::find(weights) {
        Some(_) => {
            "another version of vitrine ships these weights; use the version that began the run"
        }
        None => file,
    }
}

fn of_recipe(error: &RecipeError, settings: &Settings) -> Option<String> {
    match error {
        RecipeError::UnknownKey {
            origin: Origin::Assignment(_),
            ..
        } => Some(format!("--set {error}")),
        RecipeError::Assignment { text } => Some(format!(
            "--set {text:?}: expected key=value, such as --set optimizer.lr=0.001"
        )),
        RecipeError::NotFound { .. } => Some(format!("--recipe {error}")),
        RecipeError::Architecture { .. } => then(
            &by_flag(error, settings),
            "leave it out, or train without --init",
        ),
        RecipeError::NothingToFreeze { .. } => {
            then(&by_flag(error, settings), "name some with --init")
        }
        RecipeError::NothingToAdapt { .. } => {
            then(&by_flag(error, settings), "name some with --init")
        }
        RecipeError::NothingToFit | RecipeError::NothingToProbe => {
            then(&by_flag(error, settings), "name some with --init")
        }
        RecipeError::NoTeacher => then(error, "name one with --teacher, or leave them out"),
        RecipeError::Invalid(error) => of_setting(error, settings),
        RecipeError::Model(error) => of_model(error, settings),
        RecipeError::Value { .. } | RecipeError::NotOfModel { .. } => {
            Some(by_flag(error, settings))
        }
        _ => None,
    }
}

fn of_setting(error: &Invalid, settings: &Settings) -> Option<String> {
    let text = by_flag(error, settings);
    Some(match error.key.as_str() {
        "the number of tokens" => format!(
            "{text}; choose a smaller {} or a larger {}",
            flag("preprocess.image_size"),
            flag("model.patch_size")
        ),
        _ => text,
    })
}

/// What is wrong with settings, each by its flag where that was typed, else by its key.
fn by_flag(error: &dyn Error, settings: &Settings) -> String {
    let mut text = error.to_string();
    for flag in settings.flags() {
        // The same key with more behind it is another one.
        let part_of_key = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let mut named = String::new();
        let mut rest = &*text;
        while let Some((before, after)) = rest.split_once(flag.key) {
            let whole = !before.ends_with(part_of_key) && !after.starts_with(part_of_key);
            named += before;
            named += &match whole {
                true => flag.typed(),
                false => flag.key.to_owned(),
            };
            rest = after;
        }
        text = named + rest;
    }
    text
}

fn of_model(error: &ModelError, settings: &Settings) -> Option<String> {
    let patch_size = || setting("model.patch_size", settings);
    match error {
        ModelError::UnknownPreset { .. } => {
            let flag = settings.flag("model.name")?;
            Some(format!("{} {error}", flag.typed()))
        }
        ModelError::PatchSize {
            patch_size: patch,
            image_size,
            expected,
        } => Some(format!(
            "{} {patch} does not divide {} {image_size}: expected {expected}",
            patch_size(),
            setting("preprocess.image_size", settings)
        )),
        ModelError::NoPatches { name } => Some(format!(
            "{} does not apply to {name}, which has no patches: leave it out",
            patch_size()
        )),
        ModelError::Stem {
            patch_size: patch, ..
        } => {
            let flag = settings.flag("model.patch_size")?;
            Some(format!("{} {patch}: model.{error}", flag.typed()))
        }
        _ => None,
    }
}

fn of_train(error: &TrainError, settings: &Settings) -> Option<String> {
    match error {
        TrainError::NotFinite { .. } => Some(format!(
            "{error}: lower {}, lengthen {} or set {}, then train again",
            flag("optimizer.lr"),
            flag("schedule.warmup_epochs"),
            flag("optimizer.clip_grad")
        )),
        TrainError::Curriculum(error) => of_setting(error, settings),
        TrainError::Data(error) => of_data(error, settings),
        TrainError::Checkpoint(error) => of_checkpoint(error),
        _ => None,
    }
}

fn of_data(error: &DataError, settings: &Settings) -> Option<String> {
    match error {
        DataError::Missing { path } => match settings.flag_naming(path) {
            Some(flag) => Some(format!(
                "{} {error}; expected a data set's path; `vitrine data download` fetches one",
                flag.typed()
            )),
            None => then(
                error,
                "give a data set's path, or fetch one with `vitrine data download`",
            ),
        },
        DataError::TooFew { .. } => Some(format!(
            "{error}, or hold nothing out with {} 0 {} 0",
            flag("data.val_fraction"),
            flag("data.test_fraction")
        )),
        DataError::MissingSamples { .. } => Some(format!("{error}, with --data if it was moved")),
        DataError::Strict { others, .. } => Some(format!(
            "{error}; {} {} skipped",
            match settings.flag("data.strict") {
                Some(flag) => format!("without {}", flag.typed()),
                None => "with data.strict = false".to_owned(),
            },
            if *others == 0 { "it is" } else { "they are" }
        )),
        _ => None,
    }
}

fn of_checkpoint(error: &CheckpointError) -> Option<String> {
    match error {
        CheckpointError::NoClassifier { .. } => {
            then(error, "train one on top of it with `vitrine train --init`")
        }
        CheckpointError::NeedsBase { path, .. } => then(
            error,
            &format!(
                "`vitrine export {} OUT.safetensors` merges both",
                quoted(path)
            ),
        ),
        CheckpointError::NotOurs { path } => then(error, &copy_to_calibrate(path)),
        CheckpointError::Write { source, .. } => cannot_write(error, source),
        CheckpointError::Mismatch { .. } => then(error, "copy it again, or train it again"),
        CheckpointError::Start { .. } => then(
            error,
            "leave the architecture to the weights, or train without --init",
        ),
        _ => None,
    }
}

fn of_hub(error: &HubError) -> Option<String> {
    match error {
        HubError::Offline { repo, variable, .. } => then(
            error,
            &format!("fetch it once with `{variable}=0 vitrine weights fetch {repo}`, {BY_HAND}"),
        ),
        HubError::Unreachable { cache: None, .. } => then(
            error,
            "check the connection; without it the weights in the cache are used as they are",
        ),
        HubError::Unreachable { .. } => then(
            error,
            &format!("check the connection, name a mirror in HF_ENDPOINT, {BY_HAND}"),
        ),
        HubError::Gated { token, .. } => then(
            error,
            match token {
                Some(_) => "accept it there with the account of the token",
                None => {
                    "accept it there, make a token in the settings of your account, and set HF_TOKEN to it"
                }
            },
        ),
        HubError::Token { .. } => then(error, "make a new one, or leave it out"),
        HubError::NoRepository { token: None, .. } => then(
            error,
            "check the name, or set HF_TOKEN to a token that may read it",
        ),
        HubError::NoRepository { .. } => then(error, "check the name"),
        HubError::NoRevision { .. } => then(error, "leave @REVISION out for the main branch"),
        HubError::OnlyPickles { files, .. } => then(
            error,
            &format!(
                "convert it where you trust it, and name the folder: python -c \"import torch, safetensors.torch as s; \
                 s.save_file({{k: v.clone() for k, v in torch.load('{}', weights_only=True).items()}}, \
                 'model.safetensors')\"",
                files.first().map_or("pytorch_model.bin", |file| file)
            ),
        ),
        HubError::Refused { .. } | HubError::NoHub { .. } => {
            then(error, "try again later, or check HF_ENDPOINT")
        }
        HubError::BrokeOff { .. } => then(error, "the same command continues from there"),
        HubError::Checksum { .. } | HubError::TooLong { .. } => then(
            error,
            "try again; if it stays so, the mirror or the proxy changes files",
        ),
        HubError::Index { .. } => then(error, "report it to the repository's owner"),
        HubError::Cache { source, .. } => then(
            error,
            match source.kind() {
                std::io::ErrorKind::StorageFull => {
                    "make room, or set HF_HOME to a folder on another disk; the same command continues"
                }
                _ => "set HF_HOME to a folder that you may write to",
            },
        ),
        _ => None,
    }
}

/// How a repository gets into a machine without a connection.
const BY_HAND: &str =
    "copy its folder into the cache from another machine, or name a folder with its files";

fn of_device(error: &DeviceError) -> Option<String> {
    match error {
        DeviceError::Absent { .. } => then(error, "`vitrine devices` lists them all"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;

    fn said(error: impl Into<anyhow::Error>, typed: &[(&'static str, Value)]) -> String {
        message(&error.into(), &Settings::of(typed.iter().cloned()))
    }

    #[test]
    fn an_error_about_a_key_names_the_flag_that_was_typed_for_it() {
        let error = || {
            let invalid = Invalid::new("train.epochs", 0, "1 to 1000000");
            RunError::Recipe(invalid.into())
        };
        let typed = [("train.epochs", Value::Integer(0))];
        assert_eq!(
            said(error(), &typed),
            "--epochs is 0: expected 1 to 1000000"
        );
        assert_eq!(
            said(error(), &[]),
            "train.epochs is 0: expected 1 to 1000000"
        );
        let patches = ModelError::PatchSize {
            patch_size: 5,
            image_size: 16,
            expected: "2, 4 or 8".to_owned(),
        };
        let patches = || RunError::Recipe(RecipeError::Model(patches.clone()));
        assert_eq!(
            said(patches(), &[]),
            "model.patch_size 5 does not divide preprocess.image_size 16: expected 2, 4 or 8"
        );
        let typed = [("model.patch_size", Value::Integer(5))];
        assert_eq!(
            said(patches(), &typed),
            "--patch-size 5 does not divide preprocess.image_size 16: expected 2, 4 or 8"
        );
    }

    #[test]
    fn the_next_step_follows_what_is_wrong() {
        let taken = || RunError::Taken {
            path: "full".into(),
            is_run: true,
        };
        let step = "name another folder with --out, or continue that run with --resume full";
        assert_eq!(said(taken(), &[]), format!("full is not empty: {step}"));
        let inside = anyhow::Error::from(taken()).context("run full");
        assert_eq!(
            message(&inside, &Settings::default()),
            format!("run full: full is not empty: {step}")
        );
        let missing = DataError::Missing {
            path: "pets".into(),
        };
        assert_eq!(
            said(missing, &[]),
            "pets: no such file or folder; give a data set's path, or fetch one with `vitrine data download`"
        );
        // What has no advice is shown as it is, and a cause that is quoted is not repeated.
        let read = || std::io::Error::other("gone");
        let error = CheckpointError::Read {
            path: "w".into(),
            source: read(),
        };
        assert_eq!(said(error, &[]), "cannot read w: gone");
        let error = anyhow::Error::from(read()).context("reading");
        assert_eq!(message(&error, &Settings::default()), "reading: gone");
    }
}

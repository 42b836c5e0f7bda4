//! What a user may have meant by a command line that clap refuses.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::flags::Flag;
use super::output::{error_columns, note};
use super::shell::quoted;
use super::wrap::wrap;
use crate::checkpoint::Shipped;
use crate::data;
use crate::hub::Repo;
use crate::names::{printable, shown};
use crate::{model, recipe};

/// Names of commands in other tools, and ours.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &["test", "val", "validate", "evaluate", "benchmark", "score"],
        "eval",
    ),
    (&["fit", "finetune", "fine-tune", "tune"], "train"),
    (&["infer", "inference", "label", "detect"], "classify"),
    (&["check", "checks", "device", "gpu", "gpus"], "devices"),
    (&["dataset", "datasets"], "data"),
    (&["verify"], "data verify"),
    (&["info"], "data info"),
    (&["download"], "data download"),
    (&["fetch", "pull"], "weights fetch"),
];

/// Names of flags in other tools, and ours.
const NAMES: &[(&[&str], &str)] = &[
    (
        &["dataset", "data-dir", "data-path", "root", "source"],
        "data",
    ),
    (&["learning-rate", "lr0", "base-lr"], "lr"),
    (
        &[
            "img",
            "imgsz",
            "img-size",
            "input-size",
            "size",
            "resolution",
        ],
        "image-size",
    ),
    (&["batch", "bs"], "batch-size"),
    (&["wd"], "weight-decay"),
    (
        &["output", "output-dir", "project", "name", "save-dir"],
        "out",
    ),
    (&["weights", "pretrained", "checkpoint", "from"], "init"),
    (&["arch", "architecture", "backbone"], "model"),
    (&["models"], "model"),
    (&["num-epochs", "max-epochs", "epoch"], "epochs"),
    (&["max-steps", "iterations", "iters"], "steps"),
    (&["max-time", "duration", "budget", "minutes"], "time"),
    (&["num-workers"], "workers"),
    (&["gpu", "gpus", "cuda"], "device"),
    (&["warmup"], "warmup-epochs"),
    (&["smoothing"], "label-smoothing"),
    (&["amp", "fp16", "bf16", "half", "dtype"], "precision"),
    (&["config", "cfg"], "recipe"),
    (&["continue"], "resume"),
    (&["top-k", "k"], "topk"),
    (&["threshold", "conf"], "abstain"),
];

/// What each command needs, as an example.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "compare",
        "name finished runs, as in `vitrine compare runs/a runs/b`, models to train, as in `vitrine compare --models vit-w1,resnet9`, or weights to start from, as in `vitrine compare --init cifar10-vit`",
    ),
    ("eval", "name a run, as in `vitrine eval runs/pets`"),
    (
        "calibrate",
        "name a run, as in `vitrine calibrate runs/pets`",
    ),
    (
        "classify",
        "name pictures, as in `vitrine classify photo.jpg`, after your own model if you have one, as in `vitrine classify runs/pets photo.jpg`",
    ),
    (
        "embed",
        "name weights, pictures and the file to write, as in `vitrine embed runs/pets photo.jpg --out photo.csv`",
    ),
    (
        "export",
        "name a run and the file to write, as in `vitrine export runs/pets pets.safetensors`",
    ),
    ("plot", "name runs, as in `vitrine plot runs/pets`"),
    ("download", "`vitrine data list` names the data sets"),
    ("fetch", "`vitrine weights list` names some to start from"),
];

/// Prints an error of clap's, or the help or version that was requested, and returns the exit code.
pub(super) fn refuse(mut error: clap::Error, program: &Command, words: &[OsString]) -> u8 {
    if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        add_tips(&mut error, program, words);
        let text = error.to_string();
        if wrap(&printable(&text), error_columns()) != text {
            note(text.trim_end());
            return code(&error);
        }
    }
    // With colours, and help on stdout. A reader that went away is no failure.
    let _ = error.print();
    code(&error)
}

/// Of clap: 0 for help, 2 for wrong usage.
fn code(error: &clap::Error) -> u8 {
    error.exit_code() as u8
}

/// Adds to an error what was probably meant.
fn add_tips(error: &mut clap::Error, program: &Command, words: &[OsString]) {
    let told = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let command = named(program, words);
    let name = command.get_name();
    let tip = match error.kind() {
        ErrorKind::InvalidUtf8 => Some(not_text(words)),
        ErrorKind::InvalidSubcommand => {
            told(ContextKind::InvalidSubcommand).and_then(|word| command_meant(&word, name))
        }
        ErrorKind::UnknownArgument => taken_for_flag(words).or_else(|| {
            let word = told(ContextKind::InvalidArg)?;
            match word.strip_prefix("--") {
                Some(flag) => flag_meant(flag, command),
                None if word.starts_with('-') => None,
                None => (name == "train").then(|| value_meant(&word)),
            }
        }),
        ErrorKind::MissingRequiredArgument => {
            let example = EXAMPLES.iter().find(|(command, _)| *command == name);
            example.map(|(_, example)| (*example).to_owned())
        }
        _ => None,
    };
    let Some(tip) = tip else {
        return;
    };
    // What only looks alike would mislead, and so would a line of usage that shows it.
    for kind in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg] {
        if error.remove(kind).is_some() {
            error.remove(ContextKind::Usage);
        }
    }
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.into()]),
    );
}

/// What is said of words that are not text in a place for text.
fn not_text(words: &[OsString]) -> String {
    let odd = words.iter().filter(|word| word.to_str().is_none());
    let odd: Vec<String> = odd.map(shown).collect();
    format!(
        "only paths may hold bytes that are not UTF-8; found {}",
        odd.join(", ")
    )
}

/// What is said of a file whose name begins with a dash.
fn taken_for_flag(words: &[OsString]) -> Option<String> {
    let is_file =
        |word: &&OsString| word.as_encoded_bytes().starts_with(b"-") && Path::new(word).exists();
    let path = words.iter().skip(1).find(is_file)?;
    Some(format!(
        "for the file or folder of that name write {}",
        quoted(Path::new(path))
    ))
}

/// The command that a command line names, or the program.
fn named<'a>(program: &'a Command, words: &[OsString]) -> &'a Command {
    let mut command = program;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner;
        }
    }
    command
}

/// What is meant by a word in the place of a command.
fn command_meant(word: &str, within: &str) -> Option<String> {
    let path = Path::new(word);
    let meant = |ours: &str| format!("`vitrine {ours}` does that; see `vitrine {ours} --help`");
    if within != "vitrine" {
        return None;
    }
    if let Some((_, ours)) = COMMANDS.iter().find(|(theirs, _)| theirs.contains(&word)) {
        return Some(meant(ours));
    }
    if path.is_dir() {
        return Some(format!(
            "to train on this folder, `vitrine train --data {word}`; to classify what is in it, `vitrine classify {word}`"
        ));
    }
    let is_picture = path.is_file() || data::is_picture_name(path);
    is_picture.then(|| format!("to classify a picture, `vitrine classify {word}`"))
}

/// What is meant by an unknown flag: one of ours, or a key of the recipe.
fn flag_meant(flag: &str, command: &Command) -> Option<String> {
    let flag = flag.split('=').next().unwrap_or(flag);
    let has = |name: &str| {
        command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(name))
    };
    let mut ours = NAMES.iter().filter(|(theirs, _)| theirs.contains(&flag));
    if let Some((_, ours)) = ours.find(|(_, ours)| has(ours)) {
        return Some(format!("the flag is --{ours}"));
    }
    if !has("set") {
        return None;
    }
    let key = flag.replace('-', "_");
    let known = recipe::known_keys();
    let key = known.iter().find(|known| {
        **known == key || known.rsplit_once('.').is_some_and(|(_, last)| last == key)
    })?;
    Some(match Flag::of_key(key) {
        Some(flag) if has(flag.typed().trim_start_matches('-')) => {
            format!("the flag is {}", flag.typed())
        }
        _ => format!("it is a key of the recipe: --set {key}=VALUE"),
    })
}

/// What is meant by a word after `train`, which takes only flags.
fn value_meant(word: &str) -> String {
    let is_model = model::presets().iter().any(|preset| preset.name == word);
    let is_recipe = recipe::EMBEDDED.iter().any(|recipe| recipe.name == word);
    let is_weights = Shipped::find(Path::new(word)).is_some() || Repo::is_named(Path::new(word));
    let named = [
        (is_model, "a model", "--model"),
        (is_recipe, "a recipe", "--recipe"),
        (is_weights, "weights to start from", "--init"),
    ];
    let mut meant: Vec<_> = named.iter().filter(|(is, ..)| *is).collect();
    if meant.is_empty() {
        meant.push(&(true, "a data set", "--data"));
    }
    let meant = meant
        .iter()
        .map(|(_, what, flag)| format!("{flag} {word} names {what}"));
    meant.collect::<Vec<_>>().join(", ")
}

//! The flags of `train` that set a key of the recipe, each declared once: the command line, its
//! help, the recipe, what a resume may change, what `compare` hands on to its trainings, and the
//! flag that an error is about all follow from [`FLAGS`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches};
use toml::Value;

use super::lists;
use crate::names;
use crate::ops::PrecisionChoice;
use crate::setting::Invalid;

/// A flag that sets a key of the recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Flag {
    /// Its name, without dashes.
    name: &'static str,
    short: Option<char>,
    /// The recipe's key, dotted.
    pub key: &'static str,
    kind: Kind,
    value_name: &'static str,
    /// Help; `{models}` and the other names of [`lists::fill`] stand for what there is.
    help: &'static str,
    /// Whether `-h` shows it; `--help` shows all.
    in_short_help: bool,
    /// Whether a resume may change it.
    pub on_resume: bool,
    /// Whether `compare` hands it on to its trainings.
    pub in_compare: bool,
}

/// How the value of a flag is read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// A whole number, whose range the recipe checks.
    Integer,
    /// A whole number of at most 32 bits.
    Count,
    /// A number, whose range the recipe checks.
    Number,
    /// Any text: a path, a name, a duration.
    Text,
    /// A run, a weights file, or the name of weights that ship.
    Weights,
    /// A precision of matrix products.
    Precision,
    /// A word, or a number of blocks.
    Freeze,
    /// What a probe sees; `plain` without a value.
    Views,
    /// No value: named, it is on.
    Switch,
}

use Kind::{Count, Freeze, Integer, Number, Precision, Switch, Text, Views, Weights};

const fn flag(
    name: &'static str,
    key: &'static str,
    kind: Kind,
    value_name: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        short: None,
        key,
        kind,
        value_name,
        help,
        in_short_help: false,
        on_resume: false,
        in_compare: false,
    }
}

/// Every flag of `train` that sets a key, in the order of its help.
#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    flag("data", "data.path", Text, "PATH", "Data set: a folder of class folders, .tar, .tar.gz, .zip, CIFAR, IDX or Parquet").in_short_help().on_resume().in_compare(),
    flag("model", "model.name", Text, "NAME", "Model: {models}").in_short_help().in_compare(),
    flag("init", "init.weights", Weights, "RUN|WEIGHTS", "Start from the best weights of a run, a weights file, a repository on the hub (hf:OWNER/NAME), or weights that ship with vitrine ({weights}); other classes get a new head").in_short_help(),
    flag("freeze", "init.freeze", Freeze, "WHAT", "Freeze: none, backbone, or a number N: the embedding and the first N blocks; needs --init"),
    flag("lora-rank", "init.lora_rank", Integer, "RANK", "Train low-rank adapters (LoRA) of attention and MLP instead of their weights; the weights file is small and needs that of --init"),
    flag("probe", "init.probe", Views, "VIEWS", "Fit a linear classifier on the features of --init instead of training, in seconds; --probe=mirror also takes mirror images").in_short_help(),
    flag("epochs", "train.epochs", Integer, "N", "Passes over the training split").in_short_help().on_resume().in_compare(),
    flag("time", "train.time", Text, "DURATION", "Train for this long instead of --epochs, such as 90s, 30m or 1h30m; a number without a unit counts seconds").in_short_help().on_resume().in_compare(),
    flag("steps", "train.steps", Integer, "N", "Train for this many optimizer updates instead of --epochs").on_resume().in_compare(),
    flag("batch-size", "train.batch_size", Integer, "N", "Batch size").short('b').in_short_help(),
    flag("accumulate", "train.accumulate", Integer, "N", "Batches per optimizer update"),
    flag("image-size", "preprocess.image_size", Integer, "PIXELS", "Side of the model's input in pixels").in_short_help(),
    flag("patch-size", "model.patch_size", Integer, "PIXELS", "Side of a patch in pixels"),
    flag("resize", "preprocess.resize", Text, "POLICY", "How a picture becomes square: squash, crop, pad, shorter-edge or longer-edge"),
    flag("lr", "optimizer.lr", Number, "X", "Peak learning rate").in_short_help(),
    flag("weight-decay", "optimizer.weight_decay", Number, "X", "Weight decay"),
    flag("warmup-epochs", "schedule.warmup_epochs", Number, "X", "Length of the warm-up in epochs"),
    flag("precision", "train.precision", Precision, "PRECISION", "Precision of matrix products: auto, f32 or bf16; sums are in f32").in_short_help().in_compare(),
    flag("label-smoothing", "train.label_smoothing", Number, "X", "Label smoothing"),
    flag("mixup", "augment.mixup", Number, "X", "Alpha of mixup; 0 turns it off"),
    flag("cutmix", "augment.cutmix", Number, "X", "Alpha of CutMix; 0 turns it off"),
    flag("drop-path", "model.drop_path", Number, "X", "Drop path rate of the last block"),
    flag("ema", "train.ema", Number, "X", "Decay of the moving average of the weights; 0 turns it off"),
    flag("clip-grad", "optimizer.clip_grad", Number, "X", "Clip the gradient's global norm to this; 0 turns clipping off"),
    flag("patience", "train.patience", Integer, "N", "Stop after this many epochs without a better validation result").on_resume(),
    flag("fraction", "data.fraction", Number, "X", "Fraction of the training split to use"),
    flag("val-fraction", "data.val_fraction", Number, "X", "Fraction of train to hold out for validation if the data has no validation split"),
    flag("test-fraction", "data.test_fraction", Number, "X", "Fraction of train to hold out for testing if the data has no test split; 0 holds out none"),
    flag("seed", "train.seed", Count, "N", "Seed of weights, data order and augmentation; data.split_seed chooses the splits").in_short_help().in_compare(),
    flag("workers", "data.workers", Integer, "N", "Threads that make batches; 0 uses the threads of the computation").short('j').on_resume(),
    flag("cache-mb", "data.cache_mb", Integer, "MIB", "Memory for decoded pictures in MiB").on_resume(),
    flag("checkpoint-minutes", "train.checkpoint_minutes", Number, "X", "Minutes between two saved states within an epoch"),
    flag("strict", "data.strict", Switch, "", "Refuse unreadable pictures and files outside the data set's layout instead of skipping them"),
    flag("teacher", "distillation.teacher", Weights, "RUN|WEIGHTS", "Also learn from a teacher: the best weights of a run, a weights file, a repository on the hub (hf:OWNER/NAME), or weights that ship with vitrine ({weights}); see [distillation] in recipes").in_short_help().on_resume(),
];

/// Flags that mean something to a probe; all others say how to learn, which its optimum does not depend on.
const OF_PROBE: [&str; 15] = [
    "data",
    "model",
    "init",
    "probe",
    "batch-size",
    "image-size",
    "resize",
    "precision",
    "fraction",
    "val-fraction",
    "test-fraction",
    "seed",
    "workers",
    "cache-mb",
    "strict",
];

/// Flags of which one excludes the others.
const BUDGET: [&str; 3] = ["epochs", "steps", "time"];

impl Flag {
    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn in_short_help(mut self) -> Self {
        self.in_short_help = true;
        self
    }

    const fn on_resume(mut self) -> Self {
        self.on_resume = true;
        self
    }

    const fn in_compare(mut self) -> Self {
        self.in_compare = true;
        self
    }

    /// The flag that sets `key`, if one does.
    pub(super) fn of_key(key: &str) -> Option<&'static Self> {
        FLAGS.iter().find(|flag| flag.key == key)
    }

    /// Whether it means something to a probe.
    pub(super) fn is_of_probe(&self) -> bool {
        OF_PROBE.contains(&self.name)
    }

    /// As it is typed.
    pub(super) fn typed(&self) -> String {
        format!("--{}", self.name)
    }

    /// The flag as clap takes it.
    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .help(lists::fill(self.help))
            .hide_short_help(!self.in_short_help);
        let arg = match self.short {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        let kind = self.kind;
        match kind {
            Switch => arg.action(ArgAction::SetTrue),
            Views => arg
                .value_name(self.value_name)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("plain")
                .value_parser(
                    PathBufValueParser::new().try_map(move |typed| kind.read(&names::text(typed))),
                ),
            // The parser of paths takes any bytes, and no empty value.
            _ => arg
                .value_name(self.value_name)
                .allow_negative_numbers(true)
                .value_parser(
                    PathBufValueParser::new().try_map(move |typed| kind.read(&names::text(typed))),
                ),
        }
    }

    /// Its value on a command line, if it is there.
    fn given(&self, matches: &ArgMatches) -> Option<Value> {
        match self.kind {
            Switch => matches.get_flag(self.name).then_some(Value::Boolean(true)),
            _ => matches.get_one::<Value>(self.name).cloned(),
        }
    }
}

impl Kind {
    fn read(self, text: &str) -> Result<Value, String> {
        let integer = || {
            let number = text.parse::<i64>();
            number.map_err(|_| "expected a whole number".to_owned())
        };
        match self {
            Integer => Ok(Value::Integer(integer()?)),
            Count => match integer()? {
                n if u32::try_from(n).is_ok() => Ok(Value::Integer(n)),
                _ => Err(format!("expected 0 to {}", u32::MAX)),
            },
            Number => {
                let number = text.parse().map_err(|_| "expected a number")?;
                Ok(Value::Float(number))
            }
            Precision => {
                let precision = text.parse::<PrecisionChoice>().map_err(|e| e.to_string())?;
                Ok(Value::String(precision.to_string()))
            }
            Freeze => Ok(integer().map_or_else(|_| Value::String(text.into()), Value::Integer)),
            Views => match text {
                "plain" | "mirror" => Ok(Value::String(text.into())),
                _ => Err("expected plain or mirror".to_owned()),
            },
            Text | Weights | Switch => Ok(Value::String(text.into())),
        }
    }
}

/// The flags of [`FLAGS`] that a command line gives, with their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Settings(Vec<(&'static Flag, Value)>);

impl Settings {
    /// These keys and values, each of which has a flag.
    pub(super) fn of(values: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let flag = |key| Flag::of_key(key).expect("the key has a flag");
        Self(
            values
                .into_iter()
                .map(|(key, value)| (flag(key), value))
                .collect(),
        )
    }

    /// The flags about data that other commands have too.
    pub(super) fn of_data(path: Option<&Path>, strict: bool) -> Self {
        let path = path.map(|path| ("data.path", Value::String(names::text(path))));
        Self::of(
            path.into_iter()
                .chain(strict.then_some(("data.strict", true.into()))),
        )
    }

    /// Keys and values for a recipe.
    ///
    /// # Errors
    ///
    /// A whole number below 0.
    pub(super) fn values(&self) -> Result<Vec<(&'static str, Value)>, Invalid> {
        let value = |(flag, value): &(&'static Flag, Value)| match value {
            Value::Integer(n @ ..0) => Err(Invalid::new(flag.key, n, "no negative number")),
            value => Ok((flag.key, value.clone())),
        };
        self.0.iter().map(value).collect()
    }

    /// Its flags.
    pub(super) fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.0.iter().map(|(flag, _)| *flag)
    }

    /// The flag that gave `key` its value, if one did.
    pub(super) fn flag(&self, key: &str) -> Option<&'static Flag> {
        self.flags().find(|flag| flag.key == key)
    }

    /// The weights that it names.
    pub(super) fn weights(&self) -> impl Iterator<Item = PathBuf> {
        let is_weights = |(flag, _): &&(&Flag, Value)| flag.kind == Weights;
        let named = self.0.iter().filter(is_weights);
        named.filter_map(|(_, value)| value.as_str().map(names::path))
    }

    /// The flag whose value is `path`, as it was typed or made absolute.
    pub(super) fn flag_naming(&self, path: &Path) -> Option<&'static Flag> {
        let absolute = |path: &Path| std::path::absolute(path).ok();
        let is_named = |value: &Value| {
            let typed = value.as_str().map(names::path);
            typed.is_some_and(|typed| typed == path || absolute(&typed) == absolute(path))
        };
        let found = self.0.iter().find(|(_, value)| is_named(value));
        found.map(|(flag, _)| *flag)
    }

    /// Only the settings whose flags are `wanted`.
    pub(super) fn only(mut self, wanted: impl Fn(&Flag) -> bool) -> Self {
        self.0.retain(|(flag, _)| wanted(flag));
        self
    }

    /// The settings as a command line.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let words = |(flag, value): &(&Flag, Value)| {
            let value = match value {
                Value::Boolean(_) => None,
                Value::String(text) if flag.kind == Views => {
                    return [Some(format!("{}={text}", flag.typed()).into()), None]
                        .into_iter()
                        .flatten();
                }
                Value::String(text) => Some(names::path(text).into()),
                other => Some(other.to_string().into()),
            };
            [Some(flag.typed().into()), value].into_iter().flatten()
        };
        self.0.iter().flat_map(words).collect()
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS
            .iter()
            .filter_map(|flag| Some((flag, flag.given(matches)?)));
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        command
            .args(FLAGS.iter().map(Flag::arg))
            .group(ArgGroup::new("budget").args(BUDGET))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ffi::OsStr;

    use clap::Parser;

    use super::*;
    use crate::cli::{advice, train};
    use crate::recipe;

    #[derive(Debug, Parser)]
    #[command(args_override_self = true)]
    struct Typed {
        #[command(flatten)]
        settings: Settings,
    }

    fn typed(line: &str) -> Result<Settings, clap::Error> {
        let words = ["train"].into_iter().chain(line.split_whitespace());
        Typed::try_parse_from(words).map(|typed| typed.settings)
    }

    #[test]
    fn every_flag_sets_a_key_that_recipes_have_and_no_two_the_same() {
        let known = recipe::known_keys();
        for (n, flag) in FLAGS.iter().enumerate() {
            assert!(known.iter().any(|key| key == flag.key), "{}", flag.key);
            for other in &FLAGS[..n] {
                assert!(flag.key != other.key && flag.name != other.name, "{flag:?}");
            }
            assert!(
                !flag.help.ends_with('.')
                    && !flag.arg().get_help().unwrap().to_string().contains('{')
            );
        }
        for flag in FLAGS.iter().filter(|flag| flag.on_resume) {
            assert!(recipe::MAY_CHANGE.contains(&flag.key), "{}", flag.key);
        }
        for name in BUDGET.into_iter().chain(OF_PROBE) {
            assert!(FLAGS.iter().any(|flag| flag.name == name), "{name}");
        }
    }

    #[test]
    fn values_are_read_by_kind_and_written_back() {
        let line = "--data pets --freeze 3 --epochs -2 --lr 0.5 --precision bf16 --seed 7 --strict";
        let settings = typed(line).unwrap();
        assert_eq!(settings.arguments().join(OsStr::new(" ")), line);
        let value = |key: &str| {
            let found = settings.0.iter().find(|(flag, _)| flag.key == key);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(value("init.freeze"), Some(Value::Integer(3)));
        assert_eq!(value("data.strict"), Some(Value::Boolean(true)));
        assert_eq!(value("optimizer.lr"), Some(Value::Float(0.5)));
        assert_eq!(
            settings.values().unwrap_err().to_string(),
            "train.epochs is -2: expected no negative number"
        );
        let backbone = typed("--freeze backbone").unwrap();
        assert_eq!(
            backbone.values().unwrap(),
            [("init.freeze", Value::String("backbone".into()))]
        );
        assert_eq!(typed("").unwrap().values().unwrap(), []);
        for wrong in [
            "--seed -1",
            "--epochs many",
            "--precision f64",
            "--lr much",
            "--data=",
            "--init=",
        ] {
            assert!(typed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_repeated_flag_takes_the_last_value() {
        for flag in FLAGS {
            let name = flag.typed();
            let (line, last) = match flag.kind {
                Switch => (format!("{name} {name}"), Value::Boolean(true)),
                Integer | Count | Freeze => (format!("{name} 2 {name} 1"), Value::Integer(1)),
                Number => (format!("{name} 2 {name} 1"), Value::Float(1.0)),
                Precision => (
                    format!("{name} f32 {name} bf16"),
                    Value::String("bf16".into()),
                ),
                Text | Weights => (format!("{name} b {name} a"), Value::String("a".into())),
                Views => (
                    format!("{name} {name}=mirror"),
                    Value::String("mirror".into()),
                ),
            };
            assert_eq!(
                typed(&line).unwrap(),
                Settings::of([(flag.key, last)]),
                "{line}"
            );
        }
    }

    #[test]
    fn one_budget_excludes_the_others() {
        for line in [
            "--epochs 1 --steps 1",
            "--steps 1 --time 1m",
            "--time 1m --epochs 1",
        ] {
            let error = typed(line).unwrap_err().to_string();
            assert!(error.contains("cannot be used with"), "{error}");
        }
    }

    #[derive(Debug, Parser)]
    #[command(args_override_self = true)]
    struct Trained {
        #[command(flatten)]
        train: train::TrainArgs,
    }

    /// What `train` answers to a command line.
    fn answer(line: &str) -> String {
        let words = ["train"].into_iter().chain(line.split_whitespace());
        match Trained::try_parse_from(words) {
            Err(error) => error.to_string(),
            Ok(Trained { train }) => match train::run(&train) {
                Err(error) => advice::message(&error, &train.settings),
                Ok(_) => panic!("{line} trained"),
            },
        }
    }

    #[test]
    fn a_wrong_value_is_answered_with_its_flag_the_value_and_what_is_expected() {
        // Each flag with a value of the wrong kind and one out of its range, and what is told.
        let whole = "expected a whole number";
        let wrong: &[(&str, &str, &str)] = &[
            ("data", "no-such-data", "expected a data set's path"),
            ("model", "vit-huge", "known models are vit-micro"),
            ("init", "no-such-run", "expected a run or a weights file"),
            (
                "freeze",
                "half",
                "expected none, backbone or a number of blocks",
            ),
            ("freeze", "-1", "expected no negative number"),
            ("lora-rank", "-1", "expected no negative number"),
            ("epochs", "many", whole),
            ("epochs", "0", "expected 1 to 1000000"),
            ("epochs", "-1", "expected no negative number"),
            (
                "time",
                "soon",
                "expected a duration such as 90s, 30m or 1h30m",
            ),
            (
                "time",
                "-3",
                "expected a duration such as 90s, 30m or 1h30m",
            ),
            ("steps", "1.5", whole),
            ("steps", "0", "expected 1 to 1000000000"),
            ("batch-size", "big", whole),
            ("batch-size", "0", "expected 1 to 65536"),
            ("accumulate", "x", whole),
            ("accumulate", "0", "expected 1 to 65536"),
            ("image-size", "large", whole),
            ("image-size", "7", "expected 8 to 2048"),
            (
                "image-size",
                "97",
                "expected an image size that is a multiple of 16, such as 96 or 112",
            ),
            ("patch-size", "x", whole),
            (
                "patch-size",
                "5",
                "expected an image size that is a multiple of 5, such as 25 or 30; or a patch size of 2, 4, 7 or 14",
            ),
            ("patch-size", "0", "expected 1 to 28"),
            (
                "resize",
                "foo",
                "expected one of squash, crop, pad, shorter-edge, longer-edge",
            ),
            ("lr", "fast", "expected a number"),
            ("lr", "0", "expected more than 0, at most 100"),
            ("weight-decay", "x", "expected a number"),
            ("weight-decay", "-1", "expected 0 to 10"),
            ("warmup-epochs", "x", "expected a number"),
            ("warmup-epochs", "-1", "expected 0 to 10000"),
            ("precision", "f64", "expected auto, f32 or bf16"),
            ("label-smoothing", "x", "expected a number"),
            ("label-smoothing", "1", "expected 0 to below 1"),
            ("mixup", "x", "expected a number"),
            ("mixup", "-1", "expected an alpha, 0 to 100"),
            ("cutmix", "x", "expected a number"),
            ("cutmix", "NaN", "expected an alpha, 0 to 100"),
            ("drop-path", "x", "expected a number"),
            ("drop-path", "2", "expected from 0 to below 1"),
            ("ema", "x", "expected a number"),
            ("ema", "1", "expected 0 to below 1"),
            ("clip-grad", "x", "expected a number"),
            ("clip-grad", "inf", "expected 0 to 1000000"),
            ("patience", "x", whole),
            ("patience", "-1", "expected no negative number"),
            ("fraction", "x", "expected a number"),
            ("fraction", "0", "expected more than 0, at most 1"),
            ("val-fraction", "x", "expected a number"),
            ("val-fraction", "1", "expected 0 to 0.9"),
            ("test-fraction", "x", "expected a number"),
            ("test-fraction", "-0.5", "expected 0 to 0.9"),
            ("seed", "x", whole),
            ("seed", "-1", "expected 0 to 4294967295"),
            ("workers", "x", whole),
            ("workers", "2000", "expected 0 to 1024"),
            ("cache-mb", "x", whole),
            ("cache-mb", "99999999999999999999", whole),
            ("checkpoint-minutes", "x", "expected a number"),
            ("checkpoint-minutes", "-1", "expected 0 to 100000"),
            ("teacher", "no-such-run", "expected a run or a weights file"),
            ("probe", "x", "expected plain or mirror"),
        ];
        let mut bad = Vec::new();
        for (name, value, told) in wrong {
            let flag = FLAGS.iter().find(|flag| flag.name == *name).unwrap();
            // A value that may be left out stands behind a sign of equality.
            let sign = if flag.kind == Views { '=' } else { ' ' };
            let answer = answer(&format!("--device cpu --dry-run --{name}{sign}{value}"));
            let first = answer.lines().next().unwrap();
            let parts = [&flag.typed(), *value, told];
            if !parts.iter().all(|part| first.contains(*part)) || answer.contains(flag.key) {
                bad.push(format!("--{name} {value}: {answer}"));
            }
        }
        assert_eq!(bad, [""; 0]);
        for flag in FLAGS.iter().filter(|flag| flag.kind != Switch) {
            assert!(
                wrong.iter().any(|(name, ..)| *name == flag.name),
                "{flag:?}"
            );
        }
    }

    #[test]
    fn a_key_that_was_set_by_name_is_named_by_its_key() {
        for (line, told) in [
            (
                "--set preprocess.resize=foo",
                "preprocess.resize is foo: expected one of squash, crop, pad, shorter-edge, longer-edge",
            ),
            (
                "--set init.freeze=half",
                "init.freeze is half: expected none, backbone or a number of blocks",
            ),
            (
                "--set train.epochs=many",
                "train.epochs is many: expected a whole number from 0",
            ),
            (
                "--set data.strict=maybe",
                "data.strict is maybe: expected true or false",
            ),
            (
                "--set preprocess.mean=[0.5]",
                "preprocess.mean is [0.5]: expected three numbers, such as [0.5, 0.5, 0.5]",
            ),
            (
                "--set model.depth=deep",
                "model.depth is deep: expected a whole number from 0",
            ),
            (
                "--set model.pooling=max",
                "model.pooling is max: expected one of class-token, mean, class-token-and-mean",
            ),
            (
                "--set distillation.through=head",
                "distillation.through is head: expected token or pooled",
            ),
            (
                "--set schedule.warmup_epochs=[1]",
                "schedule.warmup_epochs is [1]: expected a number",
            ),
            // A flag of another key changes nothing about it.
            (
                "--lr 0.1 --set optimizer.lr2=1",
                "--set optimizer.lr2=1: unknown key `optimizer.lr2`; did you mean `optimizer.lr`?",
            ),
            (
                "--val-fraction 0.9 --test-fraction 0.9",
                "--val-fraction + --test-fraction is 1.8: expected at most 0.95",
            ),
            (
                "--ema 0.9 --set train.ema_epochs=2",
                "train.ema_epochs is 2 beside --ema = 0.9: expected one of the two, the other 0",
            ),
            (
                "--model resnet9 --drop-path 0.1",
                "--drop-path does not apply to resnet9: leave it out, or choose another model",
            ),
        ] {
            assert_eq!(answer(&format!("--device cpu --dry-run {line}")), told);
        }
    }
}

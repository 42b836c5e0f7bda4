//! The names that people give to the folders and archives of a split: `train`, `training_set`, `val2017`.

use std::collections::{BTreeMap, BTreeSet};

use super::sample::SplitName;

/// Words for a split that prove nothing alone, since a class may be called so too.
const WORDS: [(&str, SplitName); 18] = [
    ("train", SplitName::Train),
    ("training", SplitName::Train),
    ("trainval", SplitName::Train),
    ("trn", SplitName::Train),
    ("val", SplitName::Val),
    ("valid", SplitName::Val),
    ("validation", SplitName::Val),
    ("validate", SplitName::Val),
    ("vld", SplitName::Val),
    ("dev", SplitName::Val),
    ("devel", SplitName::Val),
    ("test", SplitName::Test),
    ("testing", SplitName::Test),
    ("tst", SplitName::Test),
    ("eval", SplitName::Test),
    ("evaluation", SplitName::Test),
    ("heldout", SplitName::Test),
    ("holdout", SplitName::Test),
];

/// What may follow such a word without a separator, as in `trainset`.
const ENDINGS: [&str; 7] = ["set", "data", "images", "imgs", "dir", "folder", "split"];

/// Words that mean a test split, or a validation split where there is a test split too.
const EVALUATION: [&str; 2] = ["eval", "evaluation"];

/// A name that has a word for a split in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelled {
    /// The split.
    pub split: SplitName,
    /// Whether it is the usual name, which means the split wherever it stands.
    pub is_usual: bool,
    /// The other words: `set` of `training_set`. Two splits of one data set usually have the same ones.
    rest: Vec<String>,
    is_evaluation: bool,
}

impl Spelled {
    /// Reads a name; `None` where it has no word for a split, or words for several.
    pub(super) fn of(name: &str) -> Option<Spelled> {
        let mut splits: Vec<SplitName> = Vec::new();
        let mut rest = Vec::new();
        let mut is_evaluation = false;
        for word in words(name) {
            let ends = ENDINGS
                .iter()
                .filter_map(|ending| Some((word.strip_suffix(ending)?, Some(*ending))));
            let found =
                [(word.as_str(), None)]
                    .into_iter()
                    .chain(ends)
                    .find_map(|(stem, ending)| {
                        let (_, split) = WORDS.iter().find(|(known, _)| *known == stem)?;
                        Some((*split, EVALUATION.contains(&stem), ending))
                    });
            match found {
                Some((split, evaluation, ending)) => {
                    splits.push(split);
                    is_evaluation |= evaluation;
                    rest.extend(ending.map(str::to_owned));
                }
                None => rest.push(word),
            }
        }
        let split = match splits.as_slice() {
            [split] => *split,
            // What a published test set leaves: train_val.
            [SplitName::Train, SplitName::Val] => SplitName::Train,
            _ => return None,
        };
        Some(Spelled {
            split,
            is_usual: SplitName::from_folder(name).is_some(),
            rest,
            is_evaluation,
        })
    }
}

/// The words of a name, in lower case: `seg_train`, `TrainImages` and `train2017` have two.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = ' ';
    for c in name.chars() {
        let begins = !last.is_alphanumeric()
            || (last.is_lowercase() && c.is_uppercase())
            || last.is_numeric() != c.is_numeric();
        if c.is_alphanumeric() {
            if begins {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        last = c;
    }
    words
}

/// The split of each name, where the names say so together: a usual name always means its split, any other one only
/// beside a name of another split that is of its kind, or holds something of the same name. `inside` says what one holds.
pub(super) fn assign<'a>(
    names: &[&str],
    inside: impl Fn(usize) -> Vec<&'a str>,
) -> Vec<Option<SplitName>> {
    let spelled: Vec<Option<Spelled>> = names.iter().map(|name| Spelled::of(name)).collect();
    let known = || {
        let all = spelled.iter().enumerate();
        all.filter_map(|(index, own)| Some((index, own.as_ref()?)))
    };
    // The splits of each kind of name, and those that hold each name.
    let mut of_kind: BTreeMap<&[String], BTreeSet<SplitName>> = BTreeMap::new();
    let mut holding: BTreeMap<&str, BTreeSet<SplitName>> = BTreeMap::new();
    for (index, own) in known() {
        of_kind.entry(&own.rest).or_default().insert(own.split);
        for name in inside(index) {
            holding.entry(name).or_default().insert(own.split);
        }
    }
    let mut splits = vec![None; names.len()];
    for (index, own) in known() {
        let has_pair = of_kind[own.rest.as_slice()].len() > 1
            || inside(index).iter().any(|name| holding[name].len() > 1);
        splits[index] = (own.is_usual || has_pair).then_some(own.split);
    }
    let is_evaluation = |index: usize| spelled[index].as_ref().is_some_and(|s| s.is_evaluation);
    let has = |splits: &[Option<SplitName>], wanted: SplitName, evaluation: bool| {
        (0..splits.len()).any(|i| splits[i] == Some(wanted) && (evaluation || !is_evaluation(i)))
    };
    if has(&splits, SplitName::Test, false) && !has(&splits, SplitName::Val, true) {
        for (index, split) in splits.iter_mut().enumerate() {
            if split.is_some() && is_evaluation(index) {
                *split = Some(SplitName::Val);
            }
        }
    }
    splits
}

#[cfg(test)]
mod tests {
    use super::*;
    use SplitName::{Test, Train, Val};

    #[test]
    fn names_come_apart_into_words() {
        assert_eq!(words("seg_train"), ["seg", "train"]);
        assert_eq!(words("TrainImages"), ["train", "images"]);
        assert_eq!(words("val2017"), ["val", "2017"]);
        assert_eq!(words("  Test-Set (1)"), ["test", "set", "1"]);
        assert!(words("__").is_empty());
    }

    #[test]
    fn splits_are_known_in_many_spellings() {
        let split = |name: &str| Spelled::of(name).map(|spelled| spelled.split);
        for name in [
            "train",
            "Training_Set",
            "seg_train",
            "train2017",
            "trainset",
            "TrainImages",
            "trn",
            "VOC_train_val",
        ] {
            assert_eq!(split(name), Some(Train), "{name}");
        }
        for name in [
            "val",
            "Valid",
            "validation-images",
            "dev",
            "val2017",
            "PETS_VAL",
        ] {
            assert_eq!(split(name), Some(Val), "{name}");
        }
        for name in [
            "test",
            "Testing",
            "test_set",
            "eval",
            "testdata",
            "hold.test",
        ] {
            assert_eq!(split(name), Some(Test), "{name}");
        }
        for name in ["cat", "contest", "trainer", "train-test", "attestation", ""] {
            assert_eq!(split(name), None, "{name}");
        }
    }

    #[test]
    fn an_unusual_name_needs_a_counterpart() {
        let by_name = |names: &[&str]| assign(names, |_| Vec::new());
        assert_eq!(
            by_name(&["test_set", "training_set"]),
            [Some(Test), Some(Train)]
        );
        assert_eq!(by_name(&["freight_train", "test_tube"]), [None, None]);
        assert_eq!(by_name(&["training_set", "dog"]), [None, None]);
        assert_eq!(
            by_name(&["train", "boat", "dev"]),
            [Some(Train), None, Some(Val)]
        );
        assert_eq!(by_name(&["train", "test_images"]), [Some(Train), None]);
        assert_eq!(
            assign(&["train", "test_images"], |_| vec!["cat"]),
            [Some(Train), Some(Test)]
        );
    }

    #[test]
    fn eval_is_test_or_else_validation() {
        let by_name = |names: &[&str]| assign(names, |_| Vec::new());
        assert_eq!(by_name(&["train", "eval"]), [Some(Train), Some(Test)]);
        assert_eq!(
            by_name(&["train", "eval", "test"]),
            [Some(Train), Some(Val), Some(Test)]
        );
        assert_eq!(
            by_name(&["train", "eval", "dev"]),
            [Some(Train), Some(Test), Some(Val)]
        );
    }
}

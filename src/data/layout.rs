//! What the folders around the pictures mean: classes, splits, or folders around everything.
//!
//! One folder is decided by what the whole tree says: by the names of all folders beside it, and by where the pictures
//! lie. What has two readings is refused, with what to do about either.

use std::collections::BTreeMap;

use super::sample::SplitName;
use super::split_names::{self, words};

/// How the folders are arranged.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The folders around everything, with a final `/`: `flowers/` where all is in `flowers/rose/` and `flowers/tulip/`.
    wrapper: String,
    /// The folders in the wrapper that are splits, with the class folders in them; without any, the folders in the
    /// wrapper are the classes.
    splits: Vec<SplitFolder>,
    /// What was understood, where it is not plain, a sentence each.
    pub notes: Vec<String>,
}

#[derive(Debug)]
struct SplitFolder {
    /// With a final `/`.
    name: String,
    split: SplitName,
    /// The folders around its classes, with a final `/`: `train/` in `train/train/cat/`.
    wrapper: String,
}

/// A file's place in a [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceOf<'a> {
    /// The split, where split folders say so.
    pub split: Option<SplitName>,
    /// The class.
    pub class: &'a str,
}

impl Layout {
    /// Whether the class folders lie in split folders.
    pub(super) fn has_splits(&self) -> bool {
        !self.splits.is_empty()
    }

    /// The place of a file; `None` when it lies in no class folder.
    pub(super) fn place_of<'a>(&self, name: &'a str) -> Option<PlaceOf<'a>> {
        let inside = name.strip_prefix(&self.wrapper)?;
        if self.splits.is_empty() {
            let (class, _) = inside.split_once('/')?;
            return Some(PlaceOf { split: None, class });
        }
        let folder = self
            .splits
            .iter()
            .find(|folder| inside.starts_with(&folder.name))?;
        let inside = inside[folder.name.len()..].strip_prefix(&folder.wrapper)?;
        let (class, _) = inside.split_once('/')?;
        Some(PlaceOf {
            split: Some(folder.split),
            class,
        })
    }

    /// Reads the arrangement of pictures with these names.
    ///
    /// # Errors
    ///
    /// A sentence about what was found and what was expected, where there are two readings.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Layout, String> {
        let tree = Tree::of(names);
        let mut at = ROOT;
        loop {
            match tree.decide(at)? {
                Decision::Splits(splits) => return Ok(tree.with_splits(at, splits)),
                Decision::Classes(note) => match tree.inner_wrapper(at) {
                    Some(inner) => at = inner,
                    None => return tree.with_classes(at, note),
                },
            }
        }
    }
}

/// What the folders of one folder are.
enum Decision {
    /// Some are splits; the others are none of the data set.
    Splits(Vec<(usize, SplitName)>),
    /// Classes, with what to say about them, or one more folder around everything.
    Classes(Option<String>),
}

/// A folder with pictures in or below it.
struct Folder<'a> {
    name: &'a str,
    parent: usize,
    folders: BTreeMap<&'a str, usize>,
    has_pictures: bool,
    /// Where one gets by entering the only folder without pictures, again and again; the folder itself where there is
    /// none.
    innermost: usize,
}

/// All folders, in one list: an archive may nest them deeper than calls may nest.
struct Tree<'a>(Vec<Folder<'a>>);

const ROOT: usize = 0;

impl<'a> Tree<'a> {
    fn of(names: impl Iterator<Item = &'a str>) -> Tree<'a> {
        let new = |name, parent| Folder {
            name,
            parent,
            folders: BTreeMap::new(),
            has_pictures: false,
            innermost: 0,
        };
        let mut tree = vec![new("", ROOT)];
        for name in names {
            let mut at = ROOT;
            let mut rest = name;
            while let Some((part, inside)) = rest.split_once('/') {
                let next = tree.len();
                let found = *tree[at].folders.entry(part).or_insert(next);
                if found == next {
                    tree.push(new(part, at));
                }
                (at, rest) = (found, inside);
            }
            tree[at].has_pictures = true;
        }
        let mut tree = Tree(tree);
        // What is inside a folder comes behind it.
        for at in (0..tree.0.len()).rev() {
            let inner = tree.only_folder(at);
            tree.0[at].innermost = inner.map_or(at, |inner| tree.0[inner].innermost);
        }
        tree
    }

    /// The only folder in `at`, where it has no pictures itself.
    fn only_folder(&self, at: usize) -> Option<usize> {
        let mut folders = self.0[at].folders.values();
        let only = folders.next().filter(|_| folders.next().is_none())?;
        (!self.0[*only].has_pictures).then_some(*only)
    }

    fn folders(&self, at: usize) -> Vec<usize> {
        self.0[at].folders.values().copied().collect()
    }

    fn names(&self, folders: &[usize]) -> String {
        const SHOWN: usize = 5;
        let mut names: Vec<&str> = folders
            .iter()
            .take(SHOWN)
            .map(|&folder| self.0[folder].name)
            .collect();
        let more = format!("{} more", folders.len().saturating_sub(SHOWN));
        if folders.len() > SHOWN {
            names.push(&more);
        }
        match names.as_slice() {
            [] => String::new(),
            [name] => (*name).to_owned(),
            [first @ .., last] => format!("{} and {last}", first.join(", ")),
        }
    }

    /// The path of a folder below `from`, with a final `/`; empty for `from` itself.
    fn path(&self, from: usize, mut at: usize) -> String {
        let mut parts = Vec::new();
        while at != from {
            parts.push(self.0[at].name);
            at = self.0[at].parent;
        }
        parts.iter().rev().map(|part| format!("{part}/")).collect()
    }

    /// The only folder in `at`, where it holds two folders or more and no picture, or another folder that does: then
    /// it is around the classes, and none itself.
    fn inner_wrapper(&self, at: usize) -> Option<usize> {
        let inner = self.only_folder(at)?;
        let innermost = &self.0[self.0[at].innermost];
        (!innermost.has_pictures && innermost.folders.len() > 1).then_some(inner)
    }

    /// The folder in or below `at` in which the class folders lie.
    fn core(&self, at: usize) -> usize {
        match self.inner_wrapper(at) {
            Some(_) => self.0[at].innermost,
            None => at,
        }
    }

    fn has_folders(&self, at: usize) -> bool {
        !self.0[at].folders.is_empty()
    }

    fn decide(&self, at: usize) -> Result<Decision, String> {
        let folders = self.folders(at);
        let names: Vec<&str> = folders.iter().map(|&folder| self.0[folder].name).collect();
        let classes = |index: usize| self.0[self.core(folders[index])].folders.keys();
        let assigned = split_names::assign(&names, |index| classes(index).copied().collect());
        let splits: Vec<(usize, SplitName)> = folders
            .iter()
            .zip(&assigned)
            .filter_map(|(&folder, split)| Some((folder, (*split)?)))
            .collect();
        let Some(&(first, split)) = splits.first() else {
            return Ok(Decision::Classes(None));
        };
        let others: Vec<usize> = folders
            .iter()
            .zip(&assigned)
            .filter(|(_, split)| split.is_none())
            .map(|(&folder, _)| folder)
            .collect();
        let is_usual = |folder: usize| SplitName::from_folder(self.0[folder].name).is_some();
        let all_usual = splits.iter().all(|&(folder, _)| is_usual(folder));
        if others.is_empty() && all_usual {
            // `train/train/` and `train/val/`: the archive of the whole set was called train.
            if let [only] = folders[..]
                && self.splits_within(only).is_some()
            {
                return Ok(Decision::Classes(None));
            }
            return Ok(Decision::Splits(splits));
        }
        let split_folders: Vec<usize> = splits.iter().map(|(folder, _)| *folder).collect();
        let (named, beside) = (self.names(&split_folders), self.names(&others));
        let some_hold_classes = split_folders.iter().any(|&folder| self.has_folders(folder));
        if splits.iter().any(|&(_, other)| other != split) {
            return match some_hold_classes {
                true => self.one_folder_each(splits, is_usual).map(Decision::Splits),
                false if others.is_empty() => Err(format!(
                    "{named} look like splits, and hold their pictures in no class folders; expected class folders such as train/cat/ and test/cat/; if they are classes, put them into a folder called train"
                )),
                false => Err(format!(
                    "found {named}, which look like splits, beside {beside}, and in none of them a class folder; expected class folders alone, or all of them in train, val and test; if all are classes, put them into a folder called train"
                )),
            };
        }
        let kind = self.0[first].name;
        match split {
            SplitName::Train if !some_hold_classes => Ok(Decision::Classes(Some(format!(
                "{named} is a class beside {beside}, and no split: it holds no class folders"
            )))),
            SplitName::Train if others.iter().all(|&folder| is_aside(self.0[folder].name)) => {
                Ok(Decision::Splits(splits))
            }
            SplitName::Train => {
                let inside = self.names(&self.folders(self.core(first)));
                Err(format!(
                    "found {named} beside {beside}, which has two readings: if {named} is the training split, whose classes are {inside}, move {beside} elsewhere, or rename what is a split to val or test; if {named} is a class too, put all of them into a folder called train ({kind}/{kind}/, {kind}/{}/)",
                    self.0[others[0]].name
                ))
            }
            // Of the names of splits, only this one is an adjective: valid and invalid.
            _ if !some_hold_classes && named.eq_ignore_ascii_case("valid") => {
                Ok(Decision::Classes(Some(format!(
                    "{named} is a class beside {beside}, and no split: it holds no class folders"
                ))))
            }
            _ => Err(format!(
                "found {named} beside {beside} and no train; expected class folders alone, or all of them in train, val and test; if {named} is a class too, put all of them into a folder called train"
            )),
        }
    }

    /// The splits with one folder each, unless all are called by the usual names, as `val` and `Validation` are.
    fn one_folder_each(
        &self,
        splits: Vec<(usize, SplitName)>,
        is_usual: impl Fn(usize) -> bool,
    ) -> Result<Vec<(usize, SplitName)>, String> {
        let mut chosen = Vec::new();
        for split in SplitName::ALL {
            let all = || splits.iter().filter(|(_, own)| *own == split);
            let usual: Vec<_> = all()
                .filter(|(folder, _)| is_usual(*folder))
                .copied()
                .collect();
            let unusual: Vec<_> = all().copied().collect();
            match (usual.is_empty(), unusual.len()) {
                (false, _) => chosen.extend(usual),
                (true, 0 | 1) => chosen.extend(unusual),
                (true, _) => {
                    let folders: Vec<usize> = unusual.iter().map(|(folder, _)| *folder).collect();
                    return Err(format!(
                        "found {} for one {split} split; call the one that is meant {split}, and move the others elsewhere, or put what is in them together",
                        self.names(&folders)
                    ));
                }
            }
        }
        Ok(chosen)
    }

    /// The folder in or below `at` that holds two or more split folders with class folders in them.
    fn splits_within(&self, at: usize) -> Option<usize> {
        // A folder around it holds one folder only.
        let at = self.core(at);
        let Ok(Decision::Splits(splits)) = self.decide(at) else {
            return None;
        };
        let are_two = splits.iter().any(|(_, split)| *split != splits[0].1);
        let hold_classes = splits.iter().any(|(folder, _)| self.has_folders(*folder));
        (are_two && hold_classes).then_some(at)
    }

    fn with_splits(&self, at: usize, mut splits: Vec<(usize, SplitName)>) -> Layout {
        splits.sort_by_key(|(_, split)| *split);
        let cores: Vec<usize> = splits
            .iter()
            .map(|&(folder, _)| self.core_of_split(folder, &splits))
            .collect();
        let is_plain = splits.iter().zip(&cores).all(|(&(folder, _), core)| {
            *core == folder && SplitName::from_folder(self.0[folder].name).is_some()
        });
        let mut notes = self.note_of_wrapper(at);
        if !is_plain {
            let read: Vec<String> = splits
                .iter()
                .zip(&cores)
                .map(|((_, split), core)| format!("{} is the {split} split", self.path(at, *core)))
                .collect();
            notes.push(read.join(", "));
        }
        Layout {
            wrapper: self.path(ROOT, at),
            splits: splits
                .iter()
                .zip(&cores)
                .map(|(&(folder, split), core)| SplitFolder {
                    name: self.path(at, folder),
                    split,
                    wrapper: self.path(folder, *core),
                })
                .collect(),
            notes,
        }
    }

    /// [`core`](Self::core) of a split folder, which does not enter what is a class in another one.
    fn core_of_split(&self, folder: usize, splits: &[(usize, SplitName)]) -> usize {
        let mut at = folder;
        while let Some(inner) = self.inner_wrapper(at) {
            let is_class = splits.iter().any(|(other, _)| {
                let folders = &self.0[self.core(*other)].folders;
                folders.len() > 1 && folders.contains_key(self.0[inner].name)
            });
            if is_class {
                break;
            }
            at = inner;
        }
        at
    }

    fn with_classes(&self, at: usize, note: Option<String>) -> Result<Layout, String> {
        let folders = self.folders(at);
        let sets: Vec<usize> = folders
            .iter()
            .filter_map(|&folder| self.splits_within(folder))
            .collect();
        match sets[..] {
            [] => {}
            [set] => {
                let Decision::Splits(splits) = self.decide(set)? else {
                    return Ok(Layout::default());
                };
                let mut layout = self.with_splits(set, splits);
                layout.notes.insert(
                    0,
                    format!(
                        "the data set is {}, which has split folders",
                        self.path(ROOT, set)
                    ),
                );
                return Ok(layout);
            }
            [first, ..] => {
                return Err(format!(
                    "holds {} data sets with split folders of their own, the first {}; name one of them",
                    sets.len(),
                    self.path(ROOT, first)
                ));
            }
        }
        let hold_splits = || {
            let mut folders = folders.iter();
            folders.all(|&folder| self.holds_splits_only(folder))
        };
        if folders.len() > 1 && hold_splits() {
            let (class, inside) = (folders[0], self.folders(folders[0]));
            return Err(format!(
                "the split folders lie inside the class folders ({}); expected them around the class folders, as in {}/{}/",
                self.path(ROOT, inside[0]),
                self.0[inside[0]].name,
                self.0[class].name,
            ));
        }
        let mut notes = self.note_of_wrapper(at);
        notes.extend(note);
        let is_deep = |folder: usize| {
            !self.0[folder].has_pictures && self.0[self.core(folder)].folders.len() > 1
        };
        if let (true, Some(&deep)) = (
            folders.len() > 1,
            folders.iter().find(|&&folder| is_deep(folder)),
        ) {
            notes.push(format!(
                "the classes are {}; the folders in them, such as {}, are no classes",
                self.names(&folders),
                self.path(at, self.folders(self.core(deep))[0]),
            ));
        }
        Ok(Layout {
            wrapper: self.path(ROOT, at),
            splits: Vec::new(),
            notes,
        })
    }

    /// Whether all that lies in `at` are folders with the usual names of splits, and at least two.
    fn holds_splits_only(&self, at: usize) -> bool {
        let Folder {
            folders,
            has_pictures,
            ..
        } = &self.0[at];
        let are_splits = folders
            .keys()
            .all(|name| SplitName::from_folder(name).is_some());
        !has_pictures && folders.len() > 1 && are_splits
    }

    fn note_of_wrapper(&self, at: usize) -> Vec<String> {
        let wrapper = self.path(ROOT, at);
        match wrapper.matches('/').count() {
            0 | 1 => Vec::new(),
            _ => vec![format!("the data set is {wrapper}")],
        }
    }
}

/// Whether a folder of this name beside split folders is known to hold what is neither class nor split.
fn is_aside(name: &str) -> bool {
    const ASIDE: [&str; 15] = [
        "assets",
        "doc",
        "docs",
        "example",
        "examples",
        "extra",
        "figures",
        "pred",
        "predict",
        "prediction",
        "predictions",
        "sample",
        "samples",
        "unlabeled",
        "unlabelled",
    ];
    words(name)
        .iter()
        .any(|word| ASIDE.contains(&word.as_str()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The classes of each split in order, such as `train: cat, dog; test: cat`, then the notes, or the refusal.
    fn read(names: &[&str]) -> String {
        let layout = match Layout::of(names.iter().copied()) {
            Ok(layout) => layout,
            Err(reason) => return reason,
        };
        let mut places: Vec<PlaceOf<'_>> = names
            .iter()
            .filter_map(|name| layout.place_of(name))
            .collect();
        places.sort();
        places.dedup();
        let mut splits: Vec<(Option<SplitName>, Vec<&str>)> = Vec::new();
        for place in places {
            match splits.last_mut() {
                Some((split, classes)) if *split == place.split => classes.push(place.class),
                _ => splits.push((place.split, vec![place.class])),
            }
        }
        let mut read: Vec<String> = splits
            .iter()
            .map(|(split, classes)| match split {
                Some(split) => format!("{split}: {}", classes.join(", ")),
                None => classes.join(", "),
            })
            .collect();
        read.extend(layout.notes.iter().map(|note| format!("({note})")));
        read.join("; ")
    }

    /// One picture in each of these folders.
    fn folders(folders: &[&str]) -> String {
        let names: Vec<String> = folders
            .iter()
            .map(|folder| format!("{folder}/1.jpg"))
            .collect();
        read(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn plain_layouts_need_no_word() {
        assert_eq!(folders(&["cat", "dog", "dog/x/y"]), "cat, dog");
        assert_eq!(folders(&["set/cat", "set/dog"]), "cat, dog");
        assert_eq!(
            folders(&["train/cat", "train/dog", "Valid/cat", "testing/dog"]),
            "train: cat, dog; val: cat; test: dog"
        );
        assert_eq!(folders(&["set/test/cat", "set/test/dog"]), "test: cat, dog");
        assert_eq!(
            folders(&["train/cat/2019", "test/cat/2020"]),
            "train: cat; test: cat"
        );
        assert_eq!(
            folders(&["train/cat", "train/dog", "test/cat/in", "test/cat/out"]),
            "train: cat, dog; test: cat"
        );
        // Names that only sound like splits.
        assert_eq!(
            folders(&["freight_train", "test_tube", "valley"]),
            "freight_train, test_tube, valley"
        );
        assert_eq!(
            folders(&["training_set/cat", "training_set/dog"]),
            "cat, dog"
        );
    }

    #[test]
    fn folders_around_everything_may_be_deep() {
        assert_eq!(
            folders(&["a/b/c/cat", "a/b/c/dog"]),
            "cat, dog; (the data set is a/b/c/)"
        );
        assert_eq!(
            folders(&["a/b/train/cat", "a/b/train/dog", "a/b/val/cat"]),
            "train: cat, dog; val: cat; (the data set is a/b/)"
        );
        assert_eq!(
            read(&["cover.jpg", "set/cat/1.jpg", "set/dog/1.jpg"]),
            "cat, dog"
        );
        assert_eq!(
            folders(&["train/train/cat", "train/train/dog"]),
            "train: cat, dog; (train/train/ is the train split)"
        );
        assert_eq!(
            folders(&[
                "train/train/cat",
                "train/train/dog",
                "train/val/cat",
                "train/val/dog"
            ]),
            "train: cat, dog; val: cat, dog"
        );
        // One class, with folders in it.
        assert_eq!(folders(&["cat", "cat/x"]), "cat");
        assert_eq!(folders(&["a/cat", "a/cat/x"]), "a");
    }

    #[test]
    fn splits_are_read_in_other_spellings() {
        assert_eq!(
            folders(&[
                "set/training_set/training_set/cats",
                "set/training_set/training_set/dogs",
                "set/test_set/test_set/cats",
                "set/test_set/test_set/dogs"
            ]),
            "train: cats, dogs; test: cats, dogs; (training_set/training_set/ is the train split, test_set/test_set/ is the test split)"
        );
        assert_eq!(
            folders(&[
                "seg_train/seg_train/sea",
                "seg_train/seg_train/ice",
                "seg_test/seg_test/sea",
                "seg_test/seg_test/ice",
                "seg_pred/seg_pred"
            ]),
            "train: ice, sea; test: ice, sea; (seg_train/seg_train/ is the train split, seg_test/seg_test/ is the test split)"
        );
        assert_eq!(
            folders(&["train2017/cat", "train2017/dog", "val2017/cat"]),
            "train: cat, dog; val: cat; (train2017/ is the train split, val2017/ is the val split)"
        );
        assert_eq!(
            folders(&["train/cat", "train/dog", "dev/cat", "eval/dog"]),
            "train: cat, dog; val: cat; test: dog; (train/ is the train split, dev/ is the val split, eval/ is the test split)"
        );
        // What another spelling leaves beside the usual ones is not read.
        assert_eq!(
            folders(&[
                "Training/fig",
                "Training/plum",
                "Test/fig",
                "test-multiple_fruits"
            ]),
            "train: fig, plum; test: fig"
        );
        assert_eq!(
            folders(&["letters_train/a", "letters_train/b", "letters_test"]),
            "train: a, b; (letters_train/ is the train split, letters_test/ is the test split)"
        );
    }

    #[test]
    fn a_class_may_be_called_as_a_split() {
        assert_eq!(
            folders(&["bus", "car", "train"]),
            "bus, car, train; (train is a class beside bus and car, and no split: it holds no class folders)"
        );
        assert_eq!(
            folders(&["valid", "invalid"]),
            "invalid, valid; (valid is a class beside invalid, and no split: it holds no class folders)"
        );
        assert_eq!(
            folders(&["train/train", "train/bus", "test/train"]),
            "train: bus, train; test: train"
        );
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        assert_eq!(
            folders(&["bus", "car", "train/steam", "train/diesel"]),
            "found train beside bus and car, which has two readings: if train is the training split, whose classes are diesel and steam, move bus and car elsewhere, or rename what is a split to val or test; if train is a class too, put all of them into a folder called train (train/train/, train/bus/)"
        );
        assert_eq!(
            folders(&["pass", "fail", "test"]),
            "found test beside fail and pass and no train; expected class folders alone, or all of them in train, val and test; if test is a class too, put all of them into a folder called train"
        );
        assert_eq!(
            folders(&["train_images", "test_images"]),
            "test_images and train_images look like splits, and hold their pictures in no class folders; expected class folders such as train/cat/ and test/cat/; if they are classes, put them into a folder called train"
        );
        assert_eq!(
            folders(&["train_1/a", "train_1/b", "train_2/a", "test/a", "test/b"]),
            "found train_1 and train_2 for one train split; call the one that is meant train, and move the others elsewhere, or put what is in them together"
        );
        assert_eq!(
            folders(&[
                "mnist/train/0",
                "mnist/train/1",
                "mnist/test/0",
                "letters/train/a",
                "letters/train/b",
                "letters/test/a"
            ]),
            "holds 2 data sets with split folders of their own, the first letters/; name one of them"
        );
        assert_eq!(
            folders(&["cat/train", "cat/test", "dog/train", "dog/test"]),
            "the split folders lie inside the class folders (cat/test/); expected them around the class folders, as in test/cat/"
        );
    }

    #[test]
    fn what_lies_beside_the_splits_is_no_class() {
        assert_eq!(
            folders(&["train/a", "train/b", "test/a", "more/c"]),
            "train: a, b; test: a"
        );
        assert_eq!(
            folders(&["train/a", "train/b", "unlabelled"]),
            "train: a, b"
        );
        assert_eq!(
            folders(&[
                "pictures/train/a",
                "pictures/train/b",
                "pictures/test/a",
                "logos"
            ]),
            "train: a, b; test: a; (the data set is pictures/, which has split folders)"
        );
    }

    #[test]
    fn classes_with_folders_in_them_are_named() {
        assert_eq!(
            folders(&["docs", "images/cat", "images/dog"]),
            "docs, images; (the classes are docs and images; the folders in them, such as images/cat/, are no classes)"
        );
        assert_eq!(
            folders(&["plum/ripe", "plum/raw", "fig/ripe", "fig/raw"]),
            "fig, plum; (the classes are fig and plum; the folders in them, such as fig/raw/, are no classes)"
        );
    }
}

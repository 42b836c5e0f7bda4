//! Pictures and their segmentation masks, which are no classes.

use std::collections::{BTreeMap, BTreeSet};

use super::split_names::words;
use crate::names::base_name;

/// Words of folders that hold pictures of every kind.
const PICTURES: [&str; 14] = [
    "image",
    "images",
    "img",
    "imgs",
    "photo",
    "photos",
    "picture",
    "pictures",
    "frame",
    "frames",
    "input",
    "inputs",
    "jpegimages",
    "rgb",
];

/// Words of folders and files that hold a mask for each picture.
const MASKS: [&str; 16] = [
    "mask",
    "masks",
    "label",
    "labels",
    "annotation",
    "annotations",
    "segmentation",
    "segmentations",
    "segmented",
    "seg",
    "gt",
    "truth",
    "groundtruth",
    "target",
    "targets",
    "matte",
];

/// So many classes of each kind are compared; every pair of them is.
const MOST_COMPARED: usize = 100;

fn has_word(name: &str, known: &[&str]) -> bool {
    words(name)
        .iter()
        .any(|word| known.contains(&word.as_str()))
}

/// The name of a file without folder, extension and, at its end, a word for a mask.
fn stem(name: &str) -> (&str, bool) {
    let base = base_name(name);
    let base = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
    match base.rsplit_once(['_', '-', ' ', '.']) {
        Some((stem, word)) if MASKS.contains(&word.to_lowercase().as_str()) => (stem, true),
        _ => (base, false),
    }
}

/// The class of pictures and the class of their masks, where two classes are that: they are called so, and at least
/// half the masks have the name of a picture.
pub(super) fn pictures_and_masks<'a>(
    pictures: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<(&'a str, &'a str)> {
    let mut stems: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (class, name) in pictures {
        if has_word(class, &PICTURES) || has_word(class, &MASKS) {
            stems.entry(class).or_default().insert(stem(name).0);
        }
    }
    let of = |known: &[&str]| -> Vec<(&str, &BTreeSet<&str>)> {
        let called_so = stems.iter().filter(|(class, _)| has_word(class, known));
        let called_so = called_so.map(|(class, stems)| (*class, stems));
        called_so.take(MOST_COMPARED).collect()
    };
    let pictures = of(&PICTURES);
    of(&MASKS).into_iter().find_map(|(masks, theirs)| {
        pictures
            .iter()
            .find(|(class, own)| {
                *class != masks && 2 * own.intersection(theirs).count() >= theirs.len()
            })
            .map(|(class, _)| (*class, masks))
    })
}

/// Pictures that have the name of another one of their folder with a word for a mask: `1_mask.png` beside `1.png`.
pub(super) fn masks_beside<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
    let folder = |name: &'a str| &name[..name.len() - base_name(name).len()];
    let mut masks: Vec<(&str, &str, &str)> = names
        .clone()
        .filter_map(|name| match stem(name) {
            (stem, true) => Some((folder(name), stem, name)),
            _ => None,
        })
        .collect();
    if masks.is_empty() {
        return Vec::new();
    }
    let plain: BTreeSet<(&str, &str)> = names
        .filter(|name| !stem(name).1)
        .map(|name| (folder(name), stem(name).0))
        .collect();
    masks.retain(|(folder, stem, _)| plain.contains(&(folder, stem)));
    masks.into_iter().map(|(_, _, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_known_by_their_folders_and_names() {
        let found = |pictures: &[(&'static str, &'static str)]| {
            pictures_and_masks(pictures.iter().copied())
        };
        assert_eq!(
            found(&[
                ("images", "images/1.jpg"),
                ("images", "images/2.jpg"),
                ("masks", "masks/1_mask.png")
            ]),
            Some(("images", "masks"))
        );
        assert_eq!(
            found(&[("JPEGImages", "a/x.jpg"), ("SegmentationClass", "b/x.png")]),
            Some(("JPEGImages", "SegmentationClass"))
        );
        // Faces with and without a mask, and files that are only numbered.
        assert_eq!(
            found(&[("with_mask", "a/1.jpg"), ("without_mask", "b/1.jpg")]),
            None
        );
        assert_eq!(found(&[("cat", "cat/1.jpg"), ("mask", "mask/1.jpg")]), None);
        assert_eq!(
            found(&[("photo", "photo/1.jpg"), ("label", "label/9.jpg")]),
            None
        );
    }

    #[test]
    fn masks_beside_their_pictures_are_found() {
        let names = [
            "a/1.png",
            "a/1_mask.png",
            "a/2_mask.png",
            "b/2.png",
            "b/face mask.png",
        ];
        assert_eq!(masks_beside(names.into_iter()), ["a/1_mask.png"]);
    }
}

//! Finds the faults of a data set: unreadable pictures, leaks between splits, contradicting labels, duplicates.

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::budget;
use super::decode::{DecodeLimits, Reduced, decode, decode_reduced};
use super::pictures::read_with;
use super::sample::{Sample, Skipped, SplitName};
use super::source::Dataset;

/// Largest ratio of two classes' numbers of pictures without a warning.
pub(crate) const IMBALANCE_WARNING: f64 = 10.0;

/// Number of pictures of each class in one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitCounts {
    /// A split that the source has.
    pub split: SplitName,
    /// Number of all its pictures.
    pub pictures: usize,
    /// Number of pictures of each class, in the order of [`Dataset::classes`].
    pub per_class: Vec<usize>,
}

/// One of several samples with the same pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copy {
    /// The sample's name.
    pub name: String,
    /// The split it is in.
    pub split: SplitName,
    /// The class it is labelled with.
    pub label: String,
}

/// The faults of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VerifyReport {
    /// The data set's path.
    pub origin: String,
    /// Its classes.
    pub classes: Vec<String>,
    /// Number of pictures in each split that the source has.
    pub counts: Vec<SplitCounts>,
    /// Error: samples that cannot be read or decoded.
    pub unreadable: Vec<Skipped>,
    /// Error: the same pixels in two splits, so that a result looks better than it is.
    pub leaks: Vec<Vec<Copy>>,
    /// Error: the same pixels with two labels.
    pub conflicting_labels: Vec<Vec<Copy>>,
    /// Warning: the same pixels more than once in one split.
    pub duplicates: Vec<Vec<Copy>>,
    /// Warning: files and folders that were found and cannot be used.
    pub skipped: Vec<Skipped>,
    /// What was understood where it is not plain, and what is not read on purpose.
    pub notes: Vec<String>,
    /// Ratio of the largest class to the smallest, in train, or else in the first split that there is.
    pub imbalance: f64,
}

impl VerifyReport {
    /// Whether there is a fault that spoils a training or its result.
    pub(crate) fn has_errors(&self) -> bool {
        !(self.unreadable.is_empty() && self.leaks.is_empty() && self.conflicting_labels.is_empty())
    }

    /// Whether the classes differ in size by more than [`IMBALANCE_WARNING`].
    pub(crate) fn is_imbalanced(&self) -> bool {
        self.imbalance > IMBALANCE_WARNING
    }
}

/// Decodes every picture, in parallel, and reports the faults. `progress` is called once per picture.
///
/// Of large photographs a part is decoded; all of one only where that part does not tell it from every other picture.
pub(crate) fn verify(
    dataset: &Dataset,
    limits: &DecodeLimits,
    progress: &(dyn Fn() + Sync),
) -> VerifyReport {
    let samples: Vec<(SplitName, &Sample)> = dataset.samples().collect();
    let looks: Vec<Result<Look, String>> = samples
        .par_iter()
        .map(|(_, sample)| {
            let look = budget::one_picture(|| look_at(dataset, sample, limits));
            progress();
            look
        })
        .collect();

    let (mut alike, mut sizes_of_whole) = (HashMap::<&Look, usize>::new(), HashSet::new());
    for look in looks.iter().flatten() {
        *alike.entry(look).or_default() += 1;
        if look.is_whole {
            sizes_of_whole.insert(look.size);
        }
    }
    let hashes: Vec<Result<Option<[u8; 32]>, String>> = samples
        .par_iter()
        .zip(&looks)
        .map(|((_, sample), look)| {
            let look = look.as_ref().map_err(String::clone)?;
            let is_alone = alike[look] == 1 && !sizes_of_whole.contains(&look.size);
            Ok(match look.is_whole {
                true => Some(look.hash),
                false if is_alone => None,
                false => Some(budget::one_picture(|| {
                    let whole = read_with(dataset, sample, |raw| decode(raw, limits))?;
                    Ok::<_, String>(Look::of(&Reduced::whole(whole)).hash)
                })?),
            })
        })
        .collect();

    let mut unreadable = Vec::new();
    let mut same: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (index, outcome) in hashes.into_iter().enumerate() {
        match outcome {
            Ok(Some(hash)) => same.entry(hash).or_default().push(index),
            Ok(None) => {}
            Err(reason) => unreadable.push(Skipped {
                name: samples[index].1.name.clone(),
                reason,
            }),
        }
    }
    let mut groups: Vec<Vec<usize>> = same.into_values().filter(|group| group.len() > 1).collect();
    // Sorted as in the data set, not by the hashes.
    groups.sort();
    let with = |wanted: &dyn Fn(&[usize]) -> bool| -> Vec<Vec<Copy>> {
        let copy = |&index: &usize| {
            let (split, sample) = samples[index];
            let label = dataset.classes[sample.label].clone();
            Copy {
                name: sample.name.clone(),
                split,
                label,
            }
        };
        groups
            .iter()
            .filter(|group| wanted(group))
            .map(|group| group.iter().map(copy).collect())
            .collect()
    };
    let split_of = |index: &usize| samples[*index].0;
    let counts = counts_of(dataset);
    VerifyReport {
        origin: dataset.origin.clone(),
        classes: dataset.classes.clone(),
        unreadable,
        leaks: with(&|group| {
            group
                .iter()
                .any(|index| split_of(index) != split_of(&group[0]))
        }),
        conflicting_labels: with(&|group| {
            group
                .iter()
                .any(|&index| samples[index].1.label != samples[group[0]].1.label)
        }),
        // Samples come split by split, so two of one split are neighbours.
        duplicates: with(&|group| {
            group
                .windows(2)
                .any(|pair| split_of(&pair[0]) == split_of(&pair[1]))
        }),
        skipped: dataset.skipped.clone(),
        notes: dataset.notes.clone(),
        imbalance: counts.first().map_or(1.0, imbalance_of),
        counts,
    }
}

/// What tells one picture from others: a hash of all its pixels, or of a part of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Look {
    size: (u32, u32),
    is_whole: bool,
    /// SHA-256 of size and pixels.
    hash: [u8; 32],
}

impl Look {
    fn of(picture: &Reduced) -> Look {
        let mut hasher = Sha256::new();
        hasher.update(picture.size.0.to_le_bytes());
        hasher.update(picture.size.1.to_le_bytes());
        hasher.update(picture.pixels.as_raw());
        Look {
            size: picture.size,
            is_whole: picture.pixels.dimensions() == picture.size,
            hash: hasher.finalize().into(),
        }
    }
}

/// Smaller pictures are decoded as a whole: that is fast, and they would be alike more often.
const LARGE: u64 = 1 << 20;

/// # Errors
///
/// Why it cannot be read or decoded.
fn look_at(dataset: &Dataset, sample: &Sample, limits: &DecodeLimits) -> Result<Look, String> {
    // As if it were resized to nothing, or kept as it is.
    let scale = |width: u32, height: u32| match u64::from(width) * u64::from(height) >= LARGE {
        true => 0.0,
        false => 1.0,
    };
    let picture = read_with(dataset, sample, |raw| decode_reduced(raw, limits, &scale))?;
    Ok(Look::of(&picture))
}

/// Number of pictures of each class, in each split that the source has.
pub(super) fn counts_of(dataset: &Dataset) -> Vec<SplitCounts> {
    let given = SplitName::ALL
        .into_iter()
        .filter(|split| !dataset.given(*split).is_empty());
    given
        .map(|split| {
            let mut per_class = vec![0; dataset.classes.len()];
            dataset
                .given(split)
                .iter()
                .for_each(|sample| per_class[sample.label] += 1);
            SplitCounts {
                split,
                pictures: dataset.given(split).len(),
                per_class,
            }
        })
        .collect()
}

/// Ratio of the largest class to the smallest one that has any picture; a list of class names may have classes without.
fn imbalance_of(counts: &SplitCounts) -> f64 {
    let filled = || counts.per_class.iter().copied().filter(|count| *count > 0);
    match (filled().max(), filled().min()) {
        (Some(most), Some(least)) => most as f64 / least as f64,
        _ => 1.0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn save(folder: &Path, name: &str, width: u32, height: u32, colour: [u8; 3]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(width, height, image::Rgb(colour))
            .save(path)
            .unwrap();
    }

    /// Two classes with one fault of every kind.
    fn faulty() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        save(at, "train/cat/1.png", 3, 5, [10, 20, 30]);
        save(at, "train/cat/1-again.bmp", 3, 5, [10, 20, 30]);
        save(at, "train/cat/2.png", 3, 5, [1, 1, 1]);
        save(at, "train/dog/2.png", 3, 5, [1, 1, 1]);
        save(at, "train/dog/3.png", 3, 5, [3, 3, 3]);
        save(at, "train/dog/turned.png", 5, 3, [3, 3, 3]);
        save(at, "test/dog/3.png", 3, 5, [3, 3, 3]);
        fs::write(at.join("train/cat/text.jpg"), "not a picture").unwrap();
        fs::write(at.join("train/cat/none.jpg"), "").unwrap();
        folder
    }

    fn names(groups: &[Vec<Copy>]) -> Vec<Vec<&str>> {
        groups
            .iter()
            .map(|group| group.iter().map(|copy| copy.name.as_str()).collect())
            .collect()
    }

    #[test]
    fn every_fault_is_found() {
        let folder = faulty();
        let dataset = Dataset::open(folder.path()).unwrap();
        let seen = AtomicUsize::new(0);
        let report = verify(&dataset, &DecodeLimits::default(), &|| {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(seen.into_inner(), 9);
        assert!(report.has_errors() && !report.is_imbalanced());
        let unreadable: Vec<&str> = report
            .unreadable
            .iter()
            .map(|bad| bad.name.as_str())
            .collect();
        assert_eq!(unreadable, ["train/cat/none.jpg", "train/cat/text.jpg"]);
        assert_eq!(report.unreadable[0].reason, "empty file (0 bytes)");
        assert_eq!(
            names(&report.leaks),
            [["train/dog/3.png", "test/dog/3.png"]]
        );
        assert_eq!(
            names(&report.conflicting_labels),
            [["train/cat/2.png", "train/dog/2.png"]]
        );
        assert_eq!(
            names(&report.duplicates),
            [
                ["train/cat/1-again.bmp", "train/cat/1.png"],
                ["train/cat/2.png", "train/dog/2.png"]
            ]
        );
        assert_eq!(report.counts[0].per_class, [5, 3]);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<VerifyReport>(&json).unwrap(), report);
    }

    /// Copies of one large photograph, one of them with a comment and one as PNG; one that differs in what
    /// is not decoded at first; and one that is cut.
    #[test]
    fn large_photographs_are_told_apart_by_all_of_their_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let cat = folder.path().join("cat");
        fs::create_dir_all(&cat).unwrap();
        // Two pixels differ, and the mean of their block does not.
        let photograph = |detail: u8| {
            image::RgbImage::from_fn(1100, 1000, |x, y| {
                let shade = 70 + ((x / 8 * 7 + y / 8 * 3) % 100) as u8;
                image::Rgb(match (x, y) {
                    (500, 500) => [shade + detail; 3],
                    (501, 500) => [shade - detail; 3],
                    _ => [shade; 3],
                })
            })
        };
        let write = |name: &str, bytes: &[u8]| fs::write(cat.join(name), bytes).unwrap();
        let jpeg = |detail: u8| {
            let path = cat.join("x.jpg");
            photograph(detail).save(&path).unwrap();
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            bytes
        };
        let first = jpeg(0);
        write("1.jpg", &first);
        let comment = [&first[..2], b"\xff\xfe\0\x04hi", &first[2..]].concat();
        write("2.jpg", &comment);
        write("3.jpg", &jpeg(60));
        write("cut.jpg", &first[..first.len() / 2]);
        let dataset = Dataset::open(folder.path()).unwrap();
        let report = verify(&dataset, &DecodeLimits::default(), &|| {});
        assert_eq!(names(&report.duplicates), [["cat/1.jpg", "cat/2.jpg"]]);
        assert_eq!(report.unreadable.len(), 1);
        let whole = decode(
            &crate::data::RawPicture::Encoded(first.into()),
            &DecodeLimits::default(),
        );
        whole.unwrap().save(cat.join("4.png")).unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let report = verify(&dataset, &DecodeLimits::default(), &|| {});
        let three = ["cat/1.jpg", "cat/2.jpg", "cat/4.png"];
        assert_eq!(names(&report.duplicates), [three]);
    }

    #[test]
    fn imbalance_is_a_ratio() {
        let counts = |per_class: &[usize]| SplitCounts {
            split: SplitName::Train,
            pictures: 0,
            per_class: per_class.to_vec(),
        };
        assert_eq!(imbalance_of(&counts(&[22, 2, 0])), 11.0);
        assert_eq!(imbalance_of(&counts(&[])), 1.0);
    }
}

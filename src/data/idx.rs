//! IDX, the format of MNIST (LeCun et al. 1998), Fashion-MNIST, EMNIST and KMNIST, gzipped or not.
//!
//! A file of pictures is the magic number 0x00000803, three big-endian sizes (count, height, width) and greyscale bytes;
//! a file of labels is 0x00000801, one size (count) and a byte for each label.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use super::bytes::Bytes;
use super::error::DataError;
use super::files::{Files, lines_of};
use super::listing::{Container, Entry, Listing, SourceKind};
use super::packed::Packing;
use super::sample::{RawPicture, SplitName};
use crate::names::{self, base_name, folder_of};

const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// The classes of Fashion-MNIST (Xiao et al. 2017), in the order of their labels.
const FASHION: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// A file of pictures and the file of their labels, as indices.
pub(super) struct Pair {
    split: SplitName,
    /// The index of the file of pictures.
    pub images: usize,
    labels: usize,
}

/// Whether these bytes begin with either magic number.
pub(super) fn is_idx(bytes: &[u8]) -> bool {
    bytes.starts_with(&IMAGES.to_be_bytes()) || bytes.starts_with(&LABELS.to_be_bytes())
}

/// Finds pairs by their usual names, such as `train-images-idx3-ubyte.gz` and `train-labels-idx1-ubyte.gz`; `None` where
/// there are none.
pub(super) fn find_pairs(names: &[String]) -> Option<Vec<Pair>> {
    let plain = |name: &str| name.strip_suffix(".gz").unwrap_or(name).to_string();
    let is_images =
        |name: &str| base_name(name).contains("images") && base_name(name).contains("idx3");
    let folder = folder_of(names.iter().find(|name| is_images(name))?);
    // The first of two of one name, packed and not.
    let mut beside: HashMap<String, usize> = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        if folder_of(name) == folder {
            beside.entry(plain(name)).or_insert(index);
        }
    }
    let mut pairs: Vec<Pair> = (0..names.len())
        .filter(|&index| folder_of(&names[index]) == folder && is_images(&names[index]))
        .filter_map(|images| {
            let base = base_name(&names[images]);
            let label_name = plain(base)
                .replace("images", "labels")
                .replace("idx3", "idx1");
            let label_name = format!("{folder}{label_name}");
            let labels = *beside.get(&label_name)?;
            let split = if base.contains("t10k") || base.contains("test") {
                SplitName::Test
            } else if base.contains("val") {
                SplitName::Val
            } else {
                SplitName::Train
            };
            Some(Pair {
                split,
                images,
                labels,
            })
        })
        .collect();
    // The same file, unpacked and gzipped, is one set of pictures.
    pairs.sort_by_key(|pair| (pair.split, names[pair.images].len()));
    pairs.dedup_by(|a, b| plain(&names[a.images]) == plain(&names[b.images]));
    (!pairs.is_empty()).then_some(pairs)
}

/// The name of a file of pictures without its split: `emnist-letters` of `emnist-letters-train-images-idx3-ubyte.gz`.
fn stem(name: &str) -> String {
    let rest = name.split("images").next().unwrap_or_default();
    let words = rest.split(['-', '_', '.']).filter(|word| {
        !word.is_empty() && *word != "t10k" && SplitName::from_folder(word).is_none()
    });
    let stem = words.collect::<Vec<_>>().join("-");
    if stem.is_empty() {
        "images".into()
    } else {
        stem
    }
}

/// The pictures of one file.
struct Images {
    bytes: Bytes,
    count: usize,
    width: usize,
    height: usize,
}

impl Images {
    fn parse(path: &Path, bytes: Bytes) -> Result<Images, DataError> {
        let ([count, height, width], payload) = header(path, &bytes, IMAGES, "pictures")?;
        if width == 0 || height == 0 {
            let reason = format!("pictures of {width}×{height}, expected at least 1×1");
            return Err(DataError::corrupt(path, reason));
        }
        let bytes = bytes
            .slice(payload)
            .expect("the header was checked against the length");
        Ok(Images {
            bytes,
            count,
            width,
            height,
        })
    }
}

/// Reads the magic number and the `N` sizes, and checks that as many bytes follow as they say. Returns the sizes and the
/// range of those bytes.
///
/// # Errors
///
/// [`DataError::Corrupt`].
fn header<const N: usize>(
    path: &Path,
    bytes: &[u8],
    magic: u32,
    what: &str,
) -> Result<([usize; N], Range<usize>), DataError> {
    let start = 4 + 4 * N;
    let Some(head) = bytes.get(..start) else {
        let reason = format!(
            "truncated IDX file: {} bytes, expected a header of {start}",
            bytes.len()
        );
        return Err(DataError::corrupt(path, reason));
    };
    let number = |place: usize| {
        u32::from_be_bytes([
            head[place],
            head[place + 1],
            head[place + 2],
            head[place + 3],
        ])
    };
    if number(0) != magic {
        let reason = format!(
            "not IDX {what}: magic number 0x{:08x}, expected 0x{magic:08x}",
            number(0)
        );
        return Err(DataError::corrupt(path, reason));
    }
    let sizes: [usize; N] = std::array::from_fn(|axis| number(4 + 4 * axis) as usize);
    let payload = sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size));
    let there = bytes.len() - start;
    if payload != Some(there) {
        let sizes = sizes.map(|size| size.to_string()).join("×");
        let state = if payload.is_none_or(|expected| there < expected) {
            "truncated"
        } else {
            "overlong"
        };
        let reason = format!(
            "{state} IDX file: {there} bytes after its header, expected {sizes}; fetch it again"
        );
        return Err(DataError::corrupt(path, reason));
    }
    Ok((sizes, start..bytes.len()))
}

struct Idx {
    /// For each file, the index of its first picture among all, and its pictures.
    parts: Vec<(usize, Images)>,
}

impl Container for Idx {
    fn read(&self, entry: usize) -> Result<RawPicture<'_>, DataError> {
        let part = self.parts.partition_point(|(first, _)| *first <= entry) - 1;
        let (first, images) = &self.parts[part];
        let size = images.width * images.height;
        let start = (entry - first) * size;
        Ok(RawPicture::Pixels {
            width: images.width as u32,
            height: images.height as u32,
            channels: 1,
            data: Cow::Borrowed(&images.bytes[start..start + size]),
        })
    }
}

/// Lists the pictures of every pair.
///
/// # Errors
///
/// [`DataError::Layout`] where the files are of several data sets, [`DataError::Corrupt`] where one is damaged.
pub(super) fn list_images(files: &dyn Files, pairs: &[Pair]) -> Result<Listing, DataError> {
    let unpacked = |index: usize| {
        let bytes = files.bytes(index)?;
        match Packing::of(&bytes) {
            Some(packing) => packing.unpack(&files.path(index), &bytes),
            None => Ok(bytes),
        }
    };
    let stems: BTreeSet<String> = pairs
        .iter()
        .map(|pair| stem(base_name(&files.names()[pair.images])))
        .collect();
    if stems.len() > 1 {
        let stems: Vec<String> = stems.into_iter().collect();
        let reason = format!(
            "its IDX files are of {} data sets: {}; expected one, so move each into a folder of its own",
            stems.len(),
            stems.join(", ")
        );
        return Err(DataError::Layout {
            path: files.root().into(),
            reason,
        });
    }
    let mut read = Vec::new();
    for pair in pairs {
        let images = Images::parse(&files.path(pair.images), unpacked(pair.images)?)?;
        let path = files.path(pair.labels);
        let bytes = unpacked(pair.labels)?;
        let ([count], payload) = header(&path, &bytes, LABELS, "labels")?;
        if count != images.count {
            let reason = format!(
                "{count} labels for {} pictures in {}",
                images.count,
                files.names()[pair.images]
            );
            return Err(DataError::corrupt(path, reason));
        }
        read.push((
            pair.split,
            files.names()[pair.images].as_str(),
            images,
            bytes[payload].to_vec(),
        ));
    }
    let highest = read
        .iter()
        .flat_map(|(_, _, _, labels)| labels)
        .max()
        .copied()
        .unwrap_or(0);
    let classes = class_names(files, pairs, usize::from(highest) + 1)?;
    Ok(listing(SourceKind::Idx, classes, read))
}

/// Lists Fashion-MNIST from the contents of its files: split, name, pictures and labels of each part.
///
/// # Errors
///
/// [`DataError::Corrupt`].
pub(super) fn fashion_mnist(
    parts: [(SplitName, &str, Bytes, Bytes); 2],
) -> Result<Listing, DataError> {
    let mut read = Vec::new();
    for (split, name, images, labels) in parts {
        let images = Images::parse(Path::new(name), images)?;
        let ([_count], payload) = header::<1>(Path::new(name), &labels, LABELS, "labels")?;
        read.push((split, name, images, labels[payload].to_vec()));
    }
    Ok(listing(
        SourceKind::Embedded,
        FASHION.map(String::from).to_vec(),
        read,
    ))
}

fn listing(
    kind: SourceKind,
    classes: Vec<String>,
    read: Vec<(SplitName, &str, Images, Vec<u8>)>,
) -> Listing {
    let mut entries = Vec::new();
    let mut parts = Vec::new();
    for (split, name, images, labels) in read {
        let first = entries.len();
        let base = base_name(name).trim_end_matches(".gz");
        entries.extend(labels.iter().enumerate().map(|(index, &label)| Entry {
            name: format!("{base}#{index}"),
            split,
            label: usize::from(label),
            entry: first + index,
        }));
        parts.push((first, images));
    }
    Listing {
        kind,
        container: Box::new(Idx { parts }),
        classes,
        entries,
        skipped: Vec::new(),
        notes: Vec::new(),
    }
}

/// The class names: from `classes.txt` beside the files, one name per line; else those of Fashion-MNIST where the path
/// contains "fashion"; else numbers.
fn class_names(files: &dyn Files, pairs: &[Pair], needed: usize) -> Result<Vec<String>, DataError> {
    let folder = folder_of(&files.names()[pairs[0].images]);
    let list = format!("{folder}classes.txt");
    if let Some(index) = files.names().iter().position(|name| *name == list) {
        let names = lines_of(files, index)?;
        if names.len() < needed {
            let reason = format!(
                "{} class names, expected at least {needed}, the highest label and one",
                names.len()
            );
            return Err(DataError::corrupt(files.path(index), reason));
        }
        return Ok(names);
    }
    let root = std::fs::canonicalize(files.root()).unwrap_or_else(|_| files.root().into());
    let parts = root
        .file_name()
        .map(|name| names::text(name).to_lowercase())
        .unwrap_or_default();
    if needed <= FASHION.len()
        && (parts.contains("fashion") || folder.to_lowercase().contains("fashion"))
    {
        return Ok(FASHION.map(String::from).to_vec());
    }
    Ok((0..needed).map(|label| label.to_string()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::data::source::Dataset;

    fn idx(magic: u32, sizes: &[u32], payload: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(payload);
        bytes
    }

    fn write_set(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let pixels: Vec<u8> = (0..3 * 5 * 7).collect();
        fs::write(
            folder.join("train-images-idx3-ubyte"),
            idx(IMAGES, &[3, 5, 7], &pixels),
        )
        .unwrap();
        fs::write(
            folder.join("train-labels-idx1-ubyte"),
            idx(LABELS, &[3], &[1, 0, 2]),
        )
        .unwrap();
        for (name, bytes) in [
            (
                "t10k-images-idx3-ubyte.gz",
                idx(IMAGES, &[1, 5, 7], &pixels[..35]),
            ),
            ("t10k-labels-idx1-ubyte.gz", idx(LABELS, &[1], &[2])),
        ] {
            let file = fs::File::create(folder.join(name)).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap();
        }
    }

    #[test]
    fn plain_and_gzipped_files_open_together() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("digits");
        write_set(&set);
        let dataset = Dataset::open(&set).unwrap();
        assert_eq!(
            (dataset.name.as_str(), dataset.kind),
            ("digits", SourceKind::Idx)
        );
        assert_eq!(dataset.classes, ["0", "1", "2"]);
        let train = dataset.given(SplitName::Train);
        assert_eq!(
            (train[1].name.as_str(), train[1].label),
            ("train-images-idx3-ubyte#1", 0)
        );
        assert_eq!(dataset.given(SplitName::Test)[0].label, 2);
        let RawPicture::Pixels {
            width,
            height,
            channels,
            data,
        } = dataset.read(&train[1]).unwrap()
        else {
            panic!("IDX holds pixels")
        };
        assert_eq!((width, height, channels), (7, 5, 1));
        assert_eq!(&*data, (35..70).collect::<Vec<u8>>());

        fs::write(set.join("classes.txt"), "zero\none\ntwo\n").unwrap();
        assert_eq!(Dataset::open(&set).unwrap().classes, ["zero", "one", "two"]);
    }

    #[test]
    fn a_folder_called_fashion_has_fashion_classes() {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("Fashion-MNIST");
        write_set(&set);
        assert_eq!(Dataset::open(&set).unwrap().classes, FASHION);
    }

    #[test]
    fn two_sets_in_one_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let letters = |split: &str, payload| {
            let named = |what: &str| folder.path().join(format!("emnist-letters-{split}-{what}"));
            fs::write(
                named("images-idx3-ubyte"),
                idx(IMAGES, &[2, 5, 7], &[payload; 70]),
            )
            .unwrap();
            fs::write(named("labels-idx1-ubyte"), idx(LABELS, &[2], &[0, 1])).unwrap();
        };
        letters("train", 1);
        letters("test", 2);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.given(SplitName::Test).len(), 2);
        write_set(folder.path());
        let error = Dataset::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.ends_with(
                ": its IDX files are of 2 data sets: emnist-letters, images; expected one, so move each into a folder of its own"
            ),
            "{error}"
        );
    }

    fn message(name: &str, bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        write_set(folder.path());
        fs::write(folder.path().join(name), bytes).unwrap();
        let error = Dataset::open(folder.path()).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "DIR")
    }

    #[test]
    fn bad_files_are_named() {
        let images = "train-images-idx3-ubyte";
        let labels = "train-labels-idx1-ubyte";
        assert_eq!(
            message(images, &idx(IMAGES, &[3, 5, 7], &[0; 104])),
            "DIR/train-images-idx3-ubyte: truncated IDX file: 104 bytes after its header, expected 3×5×7; fetch it again"
        );
        assert_eq!(
            message(images, &idx(IMAGES, &[u32::MAX; 3], &[0; 9])),
            "DIR/train-images-idx3-ubyte: truncated IDX file: 9 bytes after its header, expected 4294967295×4294967295×4294967295; fetch it again"
        );
        assert_eq!(
            message(labels, &idx(LABELS, &[3], &[0; 4])),
            "DIR/train-labels-idx1-ubyte: overlong IDX file: 4 bytes after its header, expected 3; fetch it again"
        );
        assert_eq!(
            message(labels, &[0, 0, 8]),
            "DIR/train-labels-idx1-ubyte: truncated IDX file: 3 bytes, expected a header of 8"
        );
        assert_eq!(
            message(labels, &idx(0x0802, &[3], &[0; 3])),
            "DIR/train-labels-idx1-ubyte: not IDX labels: magic number 0x00000802, expected 0x00000801"
        );
        assert_eq!(
            message(labels, &idx(LABELS, &[2], &[0; 2])),
            "DIR/train-labels-idx1-ubyte: 2 labels for 3 pictures in train-images-idx3-ubyte"
        );
        assert_eq!(
            message(images, &idx(IMAGES, &[3, 0, 7], &[])),
            "DIR/train-images-idx3-ubyte: pictures of 7×0, expected at least 1×1"
        );
        assert_eq!(
            message("classes.txt", b"zero\n"),
            "DIR/classes.txt: 1 class names, expected at least 3, the highest label and one"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_bytes_parse_or_fail(mut bytes in prop::collection::vec(any::<u8>(), 0..64), sound: bool) {
            if sound && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&IMAGES.to_be_bytes());
            }
            if let Ok(images) = Images::parse(Path::new("x"), bytes.into()) {
                prop_assert_eq!(images.bytes.len(), images.count * images.width * images.height);
            }
        }
    }
}

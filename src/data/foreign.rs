//! What people have instead of a data set that is read here: called by its name, with the way out.

use std::path::Path;

use super::error::DataError;
use super::extensions::archive_stem;
use super::packed::Packing;
use crate::names::{base_name, folder_of};

/// Something that is not read here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    /// What it is.
    pub found: String,
    /// What to do.
    pub next: &'static str,
}

impl Foreign {
    fn new(found: impl Into<String>, next: &'static str) -> Foreign {
        Foreign {
            found: found.into(),
            next,
        }
    }

    pub(super) fn error(self, path: &Path) -> DataError {
        DataError::Foreign {
            path: path.into(),
            found: self.found,
            next: self.next,
        }
    }
}

const UNPACK: &str = "unpack it into a folder and name that";
const EXPORT: &str = "write each picture as PNG or JPEG into a folder of its class, and name the folder around these";
const PARQUET: &str = "write the set as Parquet (`Dataset.to_parquet` in the Python package datasets), or each picture into a folder of its class";
const PULL: &str = "fetch the files it stands for with `git lfs pull`";
const FETCH: &str = "the server answered with a page, perhaps to log in: fetch the file again";
const JOIN: &str = "join its parts (`cat` them in order, or unpack the first with 7z) and unpack them into a folder";
const CLASSES: &str = "expected class folders such as cat/ and dog/: to classify, put each picture into the folder of its class";
const CIFAR: &str = "the binary version is read, which `vitrine data download` fetches";

const LFS: &str = "a Git LFS pointer in the place of a file";
const PICKLE: &str = "a Python pickle";

/// First bytes, what has them, and the way out.
const BEGINNINGS: [(&[u8], &str, &str); 27] = [
    (b"version https://", LFS, PULL),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"LZIP\x01", "an lzip file", UNPACK),
    (b"\x04\x22\x4d\x18", "an LZ4 file", UNPACK),
    (b"\x1f\x9d", "a file of compress (.Z)", UNPACK),
    (b"\x89LZO\0\r\n\x1a\n", "an lzop file", UNPACK),
    (b"\x5d\0\0", "an LZMA file", UNPACK),
    (b"MSCF\0\0\0\0", "a cabinet archive", UNPACK),
    (b"xar!", "a xar archive", UNPACK),
    (b"ARROW1", "an Arrow file", PARQUET),
    (
        b"\xff\xff\xff\xff",
        "an Arrow stream, as `save_to_disk` writes it",
        PARQUET,
    ),
    (b"FEA1", "a Feather file", PARQUET),
    (b"\x93NUMPY", "a NumPy array", EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    (b"MATLAB 5.0 MAT-f", "a MATLAB file", EXPORT),
    (b"MATLAB 7.3 MAT-f", "a MATLAB file", EXPORT),
    (b"SQLite format 3\0", "an SQLite database", EXPORT),
    (b"\x0a\x23\xd7\xce", "an MXNet RecordIO file", EXPORT),
    (b"ORC", "an ORC file", PARQUET),
    (b"Obj\x01", "an Avro file", PARQUET),
    (b"\x80\x02}", PICKLE, EXPORT),
    (b"\x80\x02]", PICKLE, EXPORT),
    (b"\x80\x03}", PICKLE, EXPORT),
    (b"\x80\x03]", PICKLE, EXPORT),
    (b"\x80\x04\x95", PICKLE, EXPORT),
    (b"\x80\x05\x95", PICKLE, EXPORT),
];

/// Ends of names, what has them, and the way out; for files that have no beginning of their own, and for listings.
const ENDINGS: [(&str, &str, &str); 28] = [
    (".tfrecord", "TFRecord files", EXPORT),
    (".tfrecords", "TFRecord files", EXPORT),
    (".tfrec", "TFRecord files", EXPORT),
    (
        ".arrow",
        "Arrow files, as `save_to_disk` writes them",
        PARQUET,
    ),
    (".feather", "Feather files", PARQUET),
    (".npy", "NumPy arrays", EXPORT),
    (".npz", "NumPy arrays", EXPORT),
    (".h5", "HDF5 files", EXPORT),
    (".hdf5", "HDF5 files", EXPORT),
    (".mat", "MATLAB files", EXPORT),
    (".mdb", "an LMDB database", EXPORT),
    (".lmdb", "an LMDB database", EXPORT),
    (".sqlite", "an SQLite database", EXPORT),
    (".rec", "MXNet RecordIO files", EXPORT),
    (".beton", "FFCV files", EXPORT),
    (".pkl", "Python pickles", EXPORT),
    (".pickle", "Python pickles", EXPORT),
    (".pt", "PyTorch tensors", EXPORT),
    (".pth", "PyTorch tensors", EXPORT),
    (".orc", "ORC files", PARQUET),
    (".avro", "Avro files", PARQUET),
    (".7z", "7z archives", UNPACK),
    (".rar", "RAR archives", UNPACK),
    (".lz4", "LZ4 files", UNPACK),
    (".lz", "lzip files", UNPACK),
    (".lzma", "LZMA files", UNPACK),
    (".z", "files of compress", UNPACK),
    (".z01", "one part of a split archive", JOIN),
];

/// What a file is by its first bytes; `None` for what is read here, and for what is not known.
pub(super) fn by_bytes(bytes: &[u8]) -> Option<Foreign> {
    let known = BEGINNINGS
        .iter()
        .find(|(beginning, ..)| bytes.starts_with(beginning))
        .map(|(_, found, next)| Foreign::new(*found, next));
    known.or_else(|| {
        let head = bytes[..bytes.len().min(64)].trim_ascii_start();
        let begins = |tag: &[u8]| {
            head.get(..tag.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(tag))
        };
        (begins(b"<!doctype html") || begins(b"<html"))
            .then(|| Foreign::new("a web page (HTML)", FETCH))
    })
}

/// What a file is, where it is read here but holds pictures, rather than being one.
pub(super) fn collection(bytes: &[u8]) -> Option<Foreign> {
    let pictures = "unpack it and name its pictures";
    if bytes.starts_with(b"PK\x03\x04") {
        Some(Foreign::new("a zip archive", pictures))
    } else if let Some(packing) = Packing::of(bytes) {
        Some(Foreign::new(format!("a {} file", packing.name()), pictures))
    } else if bytes.starts_with(b"PAR1") {
        let next = "write its pictures into files and name those";
        Some(Foreign::new("a Parquet file", next))
    } else if bytes.get(257..262) == Some(b"ustar") {
        Some(Foreign::new("a tar archive", pictures))
    } else {
        None
    }
}

/// What a file is by its name.
pub(super) fn by_name(name: &str) -> Option<Foreign> {
    let base = base_name(name).to_ascii_lowercase();
    if is_part(&base) {
        return Some(Foreign::new("one part of a split archive", JOIN));
    }
    if base.contains(".tfrecord-") || base.contains("-tfrecord-") {
        return Some(Foreign::new("TFRecord files", EXPORT));
    }
    ENDINGS
        .iter()
        .find(|(ending, ..)| base.ends_with(ending))
        .map(|(_, found, next)| Foreign::new(*found, next))
}

/// Whether a name is that of a part, as in `pets.zip.001`, `pets.7z.002`, `pets.tar.gz.aa` and `pets.z01`.
fn is_part(base: &str) -> bool {
    let Some((whole, part)) = base.rsplit_once('.') else {
        return false;
    };
    let archives = [
        ".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst",
    ];
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_numbered = digits(part)
        || matches!(part.as_bytes(), [b'a', b'a'..=b'z'])
        || part.strip_prefix("part").is_some_and(digits);
    (archives.iter().any(|end| whole.ends_with(end)) && is_numbered)
        || part
            .strip_prefix('z')
            .is_some_and(|n| n.len() == 2 && digits(n))
}

/// What the names in a folder or an archive tell about it.
pub(super) struct Hints {
    /// A set of pictures whose labels lie elsewhere than in the names of folders.
    task: Option<Foreign>,
    /// Files of kinds that are not read, or an archive.
    files: Option<Foreign>,
    /// A table that may hold labels.
    table: Option<String>,
}

/// Folders of sets for other tasks, which are no classes.
const TASK_FOLDERS: [&str; 8] = [
    "images",
    "labels",
    "masks",
    "annotations",
    "jpegimages",
    "segmentationclass",
    "segmentationobject",
    "imagesets",
];

impl Hints {
    pub(super) fn of(names: &[String]) -> Hints {
        let ends = |end: &str| names.iter().find(|name| name.ends_with(end));
        let shards = ends(".cls").map(|name| {
            let found = format!("WebDataset shards, which keep classes in files such as {name}");
            Foreign::new(found, CLASSES)
        });
        Hints {
            task: shards.or_else(|| boxes(names)),
            files: among(names),
            table: ends(".csv").or_else(|| ends(".tsv")).cloned(),
        }
    }

    /// The other task, where classes of these names are only its folders; or the table that has the classes.
    pub(super) fn other_task(self, classes: &[String]) -> Option<Foreign> {
        let is_no_class = |class: &String| TASK_FOLDERS.contains(&class.to_lowercase().as_str());
        let all = classes.iter().all(is_no_class);
        let table = self.table.filter(|_| all && classes.len() < 2);
        self.task.filter(|_| all || classes.len() < 2).or_else(|| {
            Some(Foreign::new(
                format!(
                    "no classes but {}; {} may hold them",
                    classes.join(", "),
                    table?
                ),
                CLASSES,
            ))
        })
    }

    /// Gives an error about the pictures and folders of a set its reason.
    pub(super) fn explain(self, error: DataError) -> DataError {
        let found = match &error {
            DataError::NoPictures { .. } => self.task.or(self.files),
            _ => self.task,
        };
        match (error, found) {
            (
                DataError::NoPictures { path, .. } | DataError::Layout { path, .. },
                Some(foreign),
            ) => foreign.error(&path),
            (DataError::Layout { path, reason }, None) => DataError::Layout {
                path,
                reason: match self.table {
                    Some(table) if reason.contains("in no class folder") => format!(
                        "{reason}; {table} may hold their classes, which are read from the names of folders only"
                    ),
                    _ => reason,
                },
            },
            (error, _) => error,
        }
    }
}

/// Files of a kind that is not read, by the names; the first is named.
fn among(names: &[String]) -> Option<Foreign> {
    let has = |wanted: &str| names.iter().any(|name| base_name(name) == wanted);
    if has("data_batch_1") && has("batches.meta") {
        let found = "the Python version of CIFAR-10 (pickles)";
        return Some(Foreign::new(found, CIFAR));
    }
    if has("train") && has("meta") && has("file.txt~") {
        let found = "the Python version of CIFAR-100 (pickles)";
        return Some(Foreign::new(found, CIFAR));
    }
    let such_as = |foreign: Foreign, name: &str| Foreign {
        found: format!("{} such as {name}", foreign.found),
        ..foreign
    };
    let known = names
        .iter()
        .find_map(|name| Some(such_as(by_name(name)?, name)));
    known.or_else(|| {
        let archive = names.iter().find(|name| archive_stem(name).is_some())?;
        let next = "name the one that is meant, or unpack them into a folder and name that";
        Some(such_as(Foreign::new("archives", next), archive))
    })
}

/// Whether the names are those of a set for detection: boxes beside pictures, as COCO, VOC and YOLO lay them out.
fn boxes(names: &[String]) -> Option<Foreign> {
    let parent = |name: &str| base_name(folder_of(name).trim_end_matches('/')).to_string();
    for name in names {
        let base = base_name(name);
        let found = if base.ends_with(".xml") && parent(name) == "Annotations" {
            "Annotations (Pascal VOC)"
        } else if base == "_annotations.coco.json"
            || (base.starts_with("instances_") && base.ends_with(".json"))
        {
            "annotations (COCO)"
        } else if base.ends_with(".txt") && name.split('/').any(|part| part == "labels") {
            "labels (YOLO)"
        } else {
            continue;
        };
        let found = format!("a set for object detection, with boxes in {found} such as {name}");
        return Some(Foreign::new(found, CLASSES));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_archives_are_told_from_files_with_numbers() {
        for name in [
            "a.zip.001",
            "a.7z.002",
            "a.tar.gz.aa",
            "A.TAR.ab",
            "a.z01",
            "a.tar.gz.part2",
        ] {
            assert_eq!(by_name(name).map(|part| part.next), Some(JOIN), "{name}");
        }
        for name in ["a.001", "a.zip", "photo.aa", "a.z", "1.2.3"] {
            assert_ne!(by_name(name).map(|part| part.next), Some(JOIN), "{name}");
        }
    }

    #[test]
    fn files_are_known_by_their_beginning() {
        let found = |bytes: &[u8]| by_bytes(bytes).map(|foreign| foreign.found);
        assert_eq!(
            found(b"version https://git-lfs.github.com/spec/v1\n"),
            Some(LFS.into())
        );
        assert_eq!(
            found(b"\n <!DOCTYPE HTML><p>"),
            Some("a web page (HTML)".into())
        );
        assert_eq!(found(b"\x93NUMPY\x01\0v\0"), Some("a NumPy array".into()));
        assert_eq!(found(b"version 2 of a list"), None);
        assert_eq!(found(b""), None);
    }
}

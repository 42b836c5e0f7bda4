//! Nothing that a data set holds makes it slow out of proportion: four times as much takes about four times as long.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tar::{EntryType, Header};
use vitrine::data::{Dataset, RawPicture};

/// The name of one of many files.
type Name = fn(usize) -> String;

/// One pixel.
const PICTURE: &[u8] = b"P5 1 1 255\n\x07";

fn open(path: &Path) -> Duration {
    let begin = processor_time();
    // Refused or not, it is answered soon.
    let _ = Dataset::open(path).and_then(|dataset| dataset.check_classes());
    processor_time() - begin
}

/// What this thread has computed: whatever else the machine does, this is not counted.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it writes the time into what it is given.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(status, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Checks that a data set that is made of `few` things, and one of four times as many, take time in proportion. What is
/// quadratic takes sixteen times as long.
fn takes_time_in_proportion(what: &str, few: usize, make: impl Fn(usize, &Path)) {
    let time = |count: usize| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set");
        make(count, &path);
        open(&path)
    };
    let (short, long) = (time(few), time(4 * few));
    assert!(
        long < 8 * short + Duration::from_secs(1),
        "{what}: {short:?} for {few}, {long:?} for four times as many"
    );
}

struct Tar(tar::Builder<File>);

impl Tar {
    fn new(path: &Path) -> Tar {
        let mut tar = Tar(tar::Builder::new(File::create(path).unwrap()));
        tar.file("a/0.pgm").file("b/0.pgm");
        tar
    }

    fn file(&mut self, name: &str) -> &mut Tar {
        let mut header = Header::new_gnu();
        header.set_size(PICTURE.len() as u64);
        self.0.append_data(&mut header, name, PICTURE).unwrap();
        self
    }

    fn link(&mut self, kind: EntryType, name: &str, target: &str) {
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(kind);
        self.0.append_link(&mut header, name, target).unwrap();
    }
}

#[test]
fn links_to_links() {
    for (kind, folder) in [(EntryType::Symlink, ""), (EntryType::Link, "a/")] {
        takes_time_in_proportion("chained links", 5_000, |count, path| {
            let mut tar = Tar::new(path);
            for index in 0..count {
                let target = match index + 1 {
                    last if last == count => format!("{folder}0.pgm"),
                    next => format!("{folder}l{next}.pgm"),
                };
                tar.link(kind, &format!("a/l{index}.pgm"), &target);
            }
        });
    }
}

#[test]
fn links_lead_to_their_files_whatever_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.tar");
    let mut tar = Tar::new(&path);
    for (name, target) in [
        ("a/2.pgm", "3.pgm"),
        ("a/1.pgm", "2.pgm"),
        ("a/3.pgm", "../b/0.pgm"),
    ] {
        tar.link(EntryType::Symlink, name, target);
    }
    drop(tar);
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!(dataset.samples().count(), 5);
    let mut tar = Tar::new(&path);
    tar.link(EntryType::Symlink, "a/1.pgm", "2.pgm");
    tar.link(EntryType::Symlink, "a/2.pgm", "1.pgm");
    drop(tar);
    let error = Dataset::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("a/1.pgm is a link to a/2.pgm, which is no file of the archive"),
        "{error}"
    );
}

#[test]
fn folders_within_folders() {
    for name in ["a/", "train/"] {
        takes_time_in_proportion("folders within folders", 5_000, |depth, path| {
            let mut tar = tar::Builder::new(File::create(path).unwrap());
            for class in ["x", "y"] {
                let mut header = Header::new_gnu();
                header.set_size(PICTURE.len() as u64);
                let name = format!("{}{class}/0.pgm", name.repeat(depth));
                // The name is too long for a header, and stands in an entry of its own before it.
                let mut long = Header::new_gnu();
                long.set_path("././@LongLink").unwrap();
                long.set_entry_type(EntryType::GNULongName);
                long.set_size(name.len() as u64 + 1);
                long.set_cksum();
                tar.append(&long, [name.as_bytes(), &[0]].concat().as_slice())
                    .unwrap();
                header.set_path("long").unwrap();
                header.set_cksum();
                tar.append(&header, PICTURE).unwrap();
            }
            tar.finish().unwrap();
        });
    }
}

#[test]
fn folders_side_by_side() {
    let named: [(&str, Name); 4] = [
        ("classes", |index| format!("class {index}/0.pgm")),
        ("folders called like a split", |index| {
            format!("train_{index}/0.pgm")
        }),
        ("folders called like pictures and masks", |index| {
            let kind = if index % 2 == 0 { "image" } else { "mask" };
            format!("{kind} {index}/{index}.pgm")
        }),
        ("folders like those of CIFAR-100", |index| {
            format!("{index}/train.bin")
        }),
    ];
    for (what, name) in named {
        takes_time_in_proportion(what, 5_000, |count, path| {
            let mut tar = Tar::new(path);
            for index in 0..count {
                tar.file(&name(index));
            }
        });
    }
}

#[test]
fn files_of_idx() {
    for with_labels in [true, false] {
        takes_time_in_proportion("files of IDX", 2_500, |count, path| {
            let mut tar = Tar::new(path);
            for index in 0..count {
                tar.file(&format!("images-idx3-{index}"));
                if with_labels {
                    tar.file(&format!("labels-idx1-{index}"));
                }
            }
        });
    }
}

#[test]
fn archives_side_by_side() {
    takes_time_in_proportion("archives", 1_000, |count, path| {
        fs::create_dir(path).unwrap();
        Tar::new(&path.join("train.tar"));
        Tar::new(&path.join("test.tar"));
        for index in 0..count {
            fs::write(path.join(format!("train-{index}.tar")), "").unwrap();
        }
    });
}

#[test]
fn class_names_of_a_table() {
    takes_time_in_proportion("class names", 5_000, |count, path| {
        let schema = "message schema { required binary image; required binary label (UTF8); }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let names: Vec<String> = (0..count).map(|index| format!("class {index}")).collect();
        let features = serde_json::json!({ "info": { "features": { "label": { "_type": "ClassLabel", "names": names } } } });
        let pair = KeyValue::new("huggingface".into(), features.to_string());
        let properties = WriterProperties::builder()
            .set_key_value_metadata(Some(vec![pair]))
            .build();
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, properties.into()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let pictures = vec![ByteArray::from(PICTURE.to_vec()); count];
        let labels: Vec<ByteArray> = names
            .iter()
            .rev()
            .map(|name| name.as_str().into())
            .collect();
        for values in [pictures, labels] {
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&values, None, None)
                .unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    });
}

/// A zip archive of two pictures, the second of so many MiB of zeros behind what a picture begins with.
fn zip(path: &Path, beginning: &[u8], mib: usize) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    let packed = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .large_file(true);
    zip.start_file("a/0.pgm", packed).unwrap();
    zip.write_all(PICTURE).unwrap();
    zip.start_file("b/0.png", packed).unwrap();
    zip.write_all(beginning).unwrap();
    for _ in 0..mib {
        zip.write_all(&[0; 1 << 20]).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn of_what_is_no_picture_only_the_beginning_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.zip");
    let read = |beginning: &[u8], mib: usize| {
        zip(&path, beginning, mib);
        let dataset = Dataset::open(&path).unwrap();
        let (_, last) = dataset.samples().last().unwrap();
        match dataset.read(last) {
            Ok(RawPicture::Encoded(bytes)) => Ok(bytes.len()),
            Ok(RawPicture::Pixels { .. }) => Err("pixels".into()),
            Err(error) => Err(error.to_string()),
        }
    };
    assert_eq!(read(b"", 70), Ok(4096));
    assert_eq!(read(b"\x89PNG\r\n\x1a\n", 70), Ok((70 << 20) + 8));
    let error = read(b"\x89PNG\r\n\x1a\n", 300).unwrap_err();
    let expected =
        " MiB, the most that is held in memory of so many; unpack it into a folder and name that";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_packed_archive_unpacks_to_no_more_than_its_size_justifies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.tar.gz");
    let tar = folder.path().join("set.tar");
    Tar::new(&tar);
    let mut packed = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
    packed.write_all(&fs::read(&tar).unwrap()).unwrap();
    for _ in 0..700 {
        packed.write_all(&[0; 1 << 20]).unwrap();
    }
    packed.finish().unwrap();
    let error = Dataset::open(&path).unwrap_err().to_string();
    assert!(error.contains(" bytes unpack to more than "), "{error}");
}

#[test]
fn a_list_of_class_names_is_no_larger_than_lists_are() {
    let folder = tempfile::tempdir().unwrap();
    let header = |magic: u32, sizes: &[u32]| -> Vec<u8> {
        let numbers = [&[magic], sizes].concat();
        numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect()
    };
    let file = |name: &str| folder.path().join(name);
    let images = [header(0x803, &[2, 1, 1]), vec![1, 2]].concat();
    fs::write(file("train-images-idx3-ubyte"), images).unwrap();
    let labels = [header(0x801, &[2]), vec![0, 1]].concat();
    fs::write(file("train-labels-idx1-ubyte"), labels).unwrap();
    File::create(file("classes.txt"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let error = Dataset::open(folder.path()).unwrap_err().to_string();
    let expected = "classes.txt: a list of 1099511627776 bytes, expected at most 16777216";
    assert!(error.ends_with(expected), "{error}");
}

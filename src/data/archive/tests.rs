use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use proptest::prelude::*;
use tar::EntryType;
use zip::CompressionMethod;

use super::*;
use crate::data::error::DataError;
use crate::data::files::Files;
use crate::data::listing::SourceKind;
use crate::data::sample::{RawPicture, SplitName};
use crate::data::source::Dataset;

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip_of(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A file of a zip archive as some other system stores it.
struct Foreign<'a> {
    name: &'a [u8],
    /// The upper byte of "version made by": 0 is Windows, 3 Unix.
    system: u8,
    /// Whether the name is stated to be UTF-8.
    utf8: bool,
    extra: Vec<u8>,
}

fn foreign(name: &[u8], system: u8) -> Foreign<'_> {
    Foreign {
        name,
        system,
        utf8: false,
        extra: Vec::new(),
    }
}

/// An archive of these files, each with its place as its bytes.
fn foreign_zip(files: &[Foreign<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (place, file) in files.iter().enumerate() {
        let bytes = [place as u8];
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        let flags: u16 = if file.utf8 { 0x800 } else { 0 };
        let mut common = Vec::new();
        for word in [20, flags, 0, 0, 0x21] {
            common.extend(u16::to_le_bytes(word));
        }
        for long in [crc.sum(), 1, 1] {
            common.extend(u32::to_le_bytes(long));
        }
        common.extend((file.name.len() as u16).to_le_bytes());
        common.extend((file.extra.len() as u16).to_le_bytes());
        directory.extend([b'P', b'K', 1, 2, 20, file.system]);
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(file.name);
        directory.extend(&file.extra);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(file.name);
        out.extend(&file.extra);
        out.extend(bytes);
    }
    let start = out.len() as u32;
    let number = (files.len() as u16).to_le_bytes();
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([number, number].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

#[track_caller]
fn names_of(files: &[Foreign<'_>]) -> Vec<String> {
    let files = ZipFiles::open(Path::new("a.zip"), foreign_zip(files).into()).unwrap();
    files.names().to_vec()
}

#[test]
fn backslashes_separate_folders_where_they_can_only_mean_that() {
    // By Windows, beside what another program packed properly; folders, and what macOS adds.
    let windows = [
        foreign(br"pets\", 0),
        foreign(br"pets\cat\1.png", 0),
        foreign(b"pets/dog/1.png", 0),
        foreign(br"__MACOSX\cat\._1.png", 0),
    ];
    assert_eq!(names_of(&windows), ["pets/cat/1.png", "pets/dog/1.png"]);
    // On Unix it is a letter, unless there would be no folder at all.
    let unix = [foreign(br"a\b/1.png", 3), foreign(b"c/1.png", 3)];
    assert_eq!(names_of(&unix), [r"a\b/1.png", "c/1.png"]);
    let flat = [foreign(br"cat\1.png", 3), foreign(br"dog\1.png", 3)];
    assert_eq!(names_of(&flat), ["cat/1.png", "dog/1.png"]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.tar");
    fs::write(&path, tar_of(&[(r"cat\1.jpg", b"a"), (r"dog\1.jpg", b"b")])).unwrap();
    assert_eq!(Dataset::open(&path).unwrap().classes, ["cat", "dog"]);
}

#[test]
fn names_in_a_code_page_are_read_as_the_standard_says() {
    let german = b"K\x84tzchen/1.png";
    // What an archive states to be UTF-8 is, whatever is in a code page beside it.
    let mixed = [
        foreign(german, 0),
        // Valid UTF-8 by chance: the page is that of the archive.
        foreign(b"\xc3\xa8/1.png", 0),
        Foreign {
            utf8: true,
            ..foreign("猫/1.png".as_bytes(), 0)
        },
    ];
    assert_eq!(names_of(&mixed), ["Kätzchen/1.png", "├¿/1.png", "猫/1.png"]);
    let opened = ZipFiles::open(Path::new("a.zip"), foreign_zip(&mixed).into()).unwrap();
    let note = &opened.aside().notes[0];
    assert!(
        note.contains("code page 437") && note.contains("such as Kätzchen/1.png;"),
        "{note}"
    );
    // Unstated, but all of it UTF-8; and bytes of a Unix, which are no code page.
    let unstated = [
        foreign("é/1.png".as_bytes(), 0),
        foreign("猫/1.png".as_bytes(), 0),
    ];
    assert_eq!(names_of(&unstated), ["é/1.png", "猫/1.png"]);
    let latin = [foreign(b"caf\xe8/1.png", 3), foreign(b"caf\xe9/1.png", 3)];
    assert_eq!(names_of(&latin), [r"caf\xE8/1.png", r"caf\xE9/1.png"]);
    // The field of Info-ZIP has the name in UTF-8.
    let ascii = b"K?tzchen/1.png";
    let mut crc = flate2::Crc::new();
    crc.update(ascii);
    let name = "Kätzchen/1.png".as_bytes();
    let mut extra = vec![0x75, 0x70, (5 + name.len()) as u8, 0, 1];
    extra.extend(crc.sum().to_le_bytes());
    extra.extend(name);
    let field = Foreign {
        extra,
        ..foreign(ascii, 0)
    };
    assert_eq!(names_of(&[field]), ["Kätzchen/1.png"]);
}

#[test]
fn names_in_another_code_page_are_shown_by_their_bytes_and_read() {
    // Cat and dog in GBK, Big5, Shift-JIS with half-width letters, EUC-KR and code page 866.
    for (name, text) in [
        (&b"\xc3\xa8/1.png"[..], r"\xC3\xA8/1.png"),
        (b"\xd0\xa1\xb9\xb7/1.png", r"\xD0\xA1\xB9\xB7/1.png"),
        (b"\xa5\\\xa4\xd2/1.png", r"\xA5\\\xA4\xD2/1.png"),
        (b"\xc8\xba/1.png", r"\xC8\xBA/1.png"),
        (b"\xb0\xb3/1.png", r"\xB0\xB3/1.png"),
        (b"\xaa\xae\xe2/1.png", r"\xAA\xAE\xE2/1.png"),
    ] {
        // Beside a name that is no UTF-8 by itself.
        let files = [foreign(name, 0), foreign(b"\xb9\xb7/2.png", 0)];
        let opened = ZipFiles::open(Path::new("a.zip"), foreign_zip(&files).into()).unwrap();
        assert!(
            opened.names().contains(&text.to_owned()),
            "{:?}",
            opened.names()
        );
        let note = &opened.aside().notes[0];
        assert!(
            note.contains("so that their bytes are shown, such as "),
            "{note}"
        );
        for index in 0..2 {
            opened.read(index).unwrap();
        }
    }
}

#[test]
fn names_that_lead_out_of_an_archive_stay_in_it_and_no_two_are_one() {
    let out = [
        foreign(b"/data/cat/1.png", 3),
        foreign(b"../data/./dog/1.png", 3),
    ];
    assert_eq!(names_of(&out), ["data/cat/1.png", "data/dog/1.png"]);
    let twice = foreign_zip(&[foreign(b"cat/1.png", 3), foreign(b"./cat/1.png", 3)]);
    assert_eq!(
        message("a.zip", &twice),
        "DIR/a.zip: two of its files have the name cat/1.png; unpack it into a folder and name that"
    );
}

#[cfg(unix)]
#[test]
fn names_in_a_tar_that_are_not_utf8_stay_apart() {
    use std::os::unix::ffi::OsStrExt;
    let mut builder = tar::Builder::new(Vec::new());
    for name in [&b"pi\xf0a/1.png"[..], b"pi\xf1a/1.png", b"plum/1.png"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        let name = std::ffi::OsStr::from_bytes(name);
        builder.append_data(&mut header, name, &b"a"[..]).unwrap();
    }
    let files = TarFiles::open(Path::new("a.tar"), builder.into_inner().unwrap().into()).unwrap();
    assert_eq!(
        files.names(),
        [r"pi\xF0a/1.png", r"pi\xF1a/1.png", "plum/1.png"]
    );
    assert!(
        files
            .path(1)
            .as_os_str()
            .as_bytes()
            .ends_with(b"pi\xf1a/1.png")
    );
}

const LONG: &str = "train/dog/a-name-that-is-longer-than-the-hundred-bytes-which-the-header-of-a-tar-archive-has-room-for-0001.jpg";
const FILES: [(&str, &[u8]); 4] = [
    ("train/cat/1.jpg", b"cat one"),
    (LONG, b"dog one"),
    ("test/cat/2.jpg", b""),
    ("train/.DS_Store", b"hidden"),
];

fn check(dataset: &Dataset) {
    assert_eq!(dataset.kind, SourceKind::Archive);
    assert_eq!(dataset.classes, ["cat", "dog"]);
    let [cat, dog] = dataset.given(SplitName::Train) else {
        panic!("two training pictures")
    };
    assert_eq!(
        (cat.name.as_str(), dog.name.as_str()),
        ("train/cat/1.jpg", LONG)
    );
    assert!(
        matches!(dataset.read(dog).unwrap(), RawPicture::Encoded(bytes) if &*bytes == b"dog one")
    );
    let error = dataset
        .read(&dataset.given(SplitName::Test)[0])
        .unwrap_err();
    assert_eq!(error.to_string(), "test/cat/2.jpg: empty file (0 bytes)");
}

#[test]
fn tar_targz_and_zip_read_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let tar = tar_of(&FILES);
    for (name, bytes) in [
        ("pets.tar", tar.clone()),
        ("pets.tar.gz", gzip(&tar)),
        ("pets.zip", zip_of(&FILES, CompressionMethod::Deflated)),
        ("stored.zip", zip_of(&FILES, CompressionMethod::Stored)),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        check(&Dataset::open(&path).unwrap());
    }
    assert_eq!(
        Dataset::open(&folder.path().join("pets.tar.gz"))
            .unwrap()
            .name,
        "pets"
    );
}

#[test]
fn links_in_a_tar_are_the_files_they_lead_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.tar");
    let write = |links: &[(EntryType, &str, &str)]| {
        let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
        for (name, bytes) in [("./all/1.jpg", b"one"), ("./train/dog/2.jpg", b"two")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        for (kind, name, target) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        }
        builder.finish().unwrap();
    };
    write(&[
        (EntryType::Symlink, "./train/cat/b.jpg", "a.jpg"),
        (EntryType::Symlink, "./train/cat/a.jpg", "../../all/1.jpg"),
        (EntryType::Link, "./test/dog/2.jpg", "./train/dog/2.jpg"),
        (EntryType::Symlink, "./notes.md", "elsewhere"),
    ]);
    let dataset = Dataset::open(&path).unwrap();
    let read = |split, index: usize| {
        let sample = &dataset.given(split)[index];
        let RawPicture::Encoded(bytes) = dataset.read(sample).unwrap() else {
            panic!("an archive holds encoded pictures")
        };
        (
            sample.name.clone(),
            String::from_utf8_lossy(&bytes).into_owned(),
        )
    };
    assert_eq!(
        read(SplitName::Train, 0),
        ("train/cat/a.jpg".into(), "one".into())
    );
    assert_eq!(
        read(SplitName::Train, 1),
        ("train/cat/b.jpg".into(), "one".into())
    );
    assert_eq!(
        read(SplitName::Test, 0),
        ("test/dog/2.jpg".into(), "two".into())
    );

    write(&[(EntryType::Symlink, "./train/cat", "/data/cats")]);
    let error = Dataset::open(&path).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "pets.tar: train/cat is a link to train//data/cats, which is no file of the archive; pack what links lead to (tar --dereference)"
        ),
        "{error}"
    );
}

#[test]
fn a_folder_of_split_archives_opens_all() {
    let folder = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 2] = [("cat/1.jpg", b"c"), ("dog/1.jpg", b"d")];
    fs::write(folder.path().join("train.tar"), tar_of(&files)).unwrap();
    fs::write(
        folder.path().join("test.zip"),
        zip_of(&files[..1], CompressionMethod::Stored),
    )
    .unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.given(SplitName::Train)[1].name, "train/dog/1.jpg");
    assert_eq!(dataset.given(SplitName::Test)[0].name, "test/cat/1.jpg");
    assert!(
        matches!(dataset.read(&dataset.given(SplitName::Test)[0]).unwrap(), RawPicture::Encoded(b) if &*b == b"c")
    );
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// `cat/1.jpg` with the bytes `one` and `dog/1.jpg` with `two`, by `tar cJ`: the crate's encoder is not compiled in.
const TAR_XZ: &[u8] = b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\xe0'\xff\x00m]\x001\x98J\xeb!\xa9\xab\xbajnu1\x1c\x15\xddl\x1d\x0d9$E\xf2\x99\x1a\x00\xa2\xf3\x03\x9c\x8a\xe1\x94O\xb1w\xd9\xdc\xf1K\x87\x14\x97U\x1cI\xf3\x17\xb0Qo\xea\xfe\x93L\xca\xe9M\x1c;sD\xa1^\xe9\xf2\xd6\x01\xfai\xcc\xe76\xd9~\xaeso \x8fnX,v\x0e\x8c\xdc;\xf9\xc2\xb0\x8b\xa4\x97A\xe9\x08\xb1\x81\x8b5\x0c\x82\x05GTH\xf5\x83\x00\x00\x00\x00\x00B\xa4\x1d\x7f\x0e?\xd3\x01\x00\x01\x89\x01\x80P\x00\x00\xf6 oF\xb1\xc4g\xfb\x02\x00\x00\x00\x00\x04YZ";

const ONE_TWO: [(&str, &[u8]); 2] = [("cat/1.jpg", b"one"), ("dog/1.jpg", b"two")];

/// The names and bytes of the training pictures of an archive.
fn contents(name: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let dataset = Dataset::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let samples = dataset.given(SplitName::Train).iter();
    samples
        .map(|sample| match dataset.read(sample).unwrap() {
            RawPicture::Encoded(bytes) => (
                sample.name.clone(),
                String::from_utf8_lossy(&bytes).into_owned(),
            ),
            RawPicture::Pixels { .. } => panic!("an archive holds encoded pictures"),
        })
        .collect()
}

fn one_two() -> Vec<(String, String)> {
    let pair =
        |(name, bytes): (&str, &[u8])| (name.into(), String::from_utf8(bytes.into()).unwrap());
    ONE_TWO.map(pair).to_vec()
}

#[test]
fn a_packed_tar_is_known_by_its_bytes() {
    let tar = tar_of(&ONE_TWO);
    let padded = |packed: Vec<u8>| [packed, vec![0; 10_240]].concat();
    for (name, bytes) in [
        ("pets.tar.xz", TAR_XZ.to_vec()),
        ("PETS.TXZ", TAR_XZ.to_vec()),
        ("pets.tar.bz2", bzip2(&tar)),
        ("pets.tar.zst", zstandard(&tar)),
        ("wrong.tar.gz", bzip2(&tar)),
        ("no-extension", zstandard(&tar)),
        ("padded.tar.gz", padded(gzip(&tar))),
        ("padded.tar.xz", padded(TAR_XZ.to_vec())),
        ("padded.tar.bz2", padded(bzip2(&tar))),
        ("padded.tar.zst", padded(zstandard(&tar))),
        ("two.tar.gz", [gzip(&tar[..99]), gzip(&tar[99..])].concat()),
        (
            "two.tar.zst",
            [zstandard(&tar[..600]), zstandard(&tar[600..])].concat(),
        ),
        (
            "followed.tar.gz",
            [gzip(&tar), b"signature".to_vec()].concat(),
        ),
        ("followed.tar", [&tar[..], b"signature"].concat()),
    ] {
        assert_eq!(contents(name, &bytes), one_two(), "{name}");
    }
}

#[test]
fn tars_one_behind_the_other_are_one() {
    let (first, second) = (tar_of(&ONE_TWO[..1]), tar_of(&ONE_TWO[1..]));
    assert_eq!(
        contents("a.tar", &[&first[..], &second].concat()),
        one_two()
    );
    let far = [&first[..], &[0; 20 * 512], &second].concat();
    assert_eq!(contents("a.tar.gz", &gzip(&far)), one_two());
}

#[test]
fn a_sparse_file_is_refused_however_it_says_so() {
    let mut builder = tar::Builder::new(Vec::new());
    let extensions = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.name", b"cat/1.jpg"),
    ];
    builder.append_pax_extensions(extensions).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    builder
        .append_data(&mut header, "cat/1.jpg", &b"abc"[..])
        .unwrap();
    assert_eq!(
        message("a.tar", &builder.into_inner().unwrap()),
        "DIR/a.tar: cat/1.jpg is stored sparse; pack it without --sparse"
    );
}

/// A zip archive of files that are packed already, each with its contents.
fn zip_by_hand(method: u16, flags: u16, files: &[(&str, &[u8], &[u8])]) -> Vec<u8> {
    let (mut zipped, mut directory) = (Vec::new(), Vec::new());
    for (name, packed, contents) in files {
        let mut crc = flate2::Crc::new();
        crc.update(contents);
        let mut about = Vec::new();
        about.extend(20u16.to_le_bytes());
        about.extend(flags.to_le_bytes());
        about.extend(method.to_le_bytes());
        about.extend([0; 4]);
        about.extend(crc.sum().to_le_bytes());
        about.extend((packed.len() as u32).to_le_bytes());
        about.extend((contents.len() as u32).to_le_bytes());
        about.extend((name.len() as u16).to_le_bytes());
        about.extend([0; 2]);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&about);
        directory.extend([0; 10]);
        directory.extend((zipped.len() as u32).to_le_bytes());
        directory.extend(name.bytes());
        zipped.extend(b"PK\x03\x04");
        zipped.extend(&about);
        zipped.extend(name.bytes());
        zipped.extend(*packed);
    }
    let (start, count) = (zipped.len() as u32, files.len() as u16);
    zipped.extend(&directory);
    zipped.extend(b"PK\x05\x06\0\0\0\0");
    zipped.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    zipped.extend((directory.len() as u32).to_le_bytes());
    zipped.extend(start.to_le_bytes());
    zipped.extend([0; 2]);
    zipped
}

#[test]
fn entries_of_a_zip_may_be_packed_by_any_method_that_is_read() {
    let text: &[u8] = b"one one one one";
    // As Python's zipfile and lzma write them.
    let lzma: &[u8] =
        b"\x09\x04\x05\x00]\x00\x00\x80\x00\x007\x9b\x88\xce~\x0eu\xc0s\xff\xff\xdf8\x00\x00";
    let xz: &[u8] = b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\xe0\x00\x0e\x00\x0a]\x007\x9b\x88\xce~\x0e0\x08\x00\x00\x00\x00\x00\xe4\x1b+\x07\x15\x07&\xa4\x00\x01&\x0f\x9e+\xe7s\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ";
    // A block that is stored is the same in deflate64 as in deflate.
    let stored = [b"\x01\x0f\0\xf0\xff", text].concat();
    for (method, packed) in [
        (0, text.to_vec()),
        (8, stored.clone()),
        (9, stored),
        (12, bzip2(text)),
        (14, lzma.to_vec()),
        (93, zstandard(text)),
        (95, xz.to_vec()),
    ] {
        let files = [
            ("cat/1.jpg", &packed[..], text),
            ("dog/1.jpg", &packed, text),
        ];
        let zipped = zip_by_hand(method, 0, &files);
        let expected = ["cat/1.jpg", "dog/1.jpg"]
            .map(|name| (name.to_string(), String::from_utf8(text.into()).unwrap()));
        assert_eq!(contents("a.zip", &zipped), expected, "method {method}");
        let behind_a_program = [b"#!/bin/sh\n", &zipped[..]].concat();
        assert_eq!(
            contents("a.run", &behind_a_program),
            expected,
            "method {method}"
        );
        let short = [("cat/1.jpg", &packed[..packed.len() / 2], text)];
        let files = ZipFiles::open(Path::new("a"), zip_by_hand(method, 0, &short).into()).unwrap();
        assert!(files.read(0).is_err(), "method {method}");
    }
    let files: [(&str, &[u8], &[u8]); 1] = [("cat/1.jpg", text, text)];
    assert_eq!(
        message("a.zip", &zip_by_hand(98, 0, &files)),
        "DIR/a.zip/cat/1.jpg: its compression Unsupported(98) is not read; unpack the archive into a folder and name that"
    );
    assert_eq!(
        message("a.zip", &zip_by_hand(0, 1, &files)),
        "DIR/a.zip/cat/1.jpg: it is encrypted; unpack the archive with its password into a folder and name that"
    );
}

#[test]
fn a_part_of_a_split_zip_says_so() {
    let mut last = zip_by_hand(0, 0, &[("cat/1.jpg", b"a", b"a")]);
    let place = last.len() - 22 + 4;
    last[place] = 2;
    let first = [b"PK\x07\x08", &last[..30]].concat();
    for (name, bytes) in [("a.zip", last[5..].to_vec()), ("a.z01", first)] {
        let said = message(name, &bytes);
        let expected =
            format!("DIR/{name}: one part of a split archive; join the parts (zip -s 0 ");
        assert!(said.starts_with(&expected), "{said}");
    }
}

fn message(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let error = Dataset::open(&path).unwrap_err().to_string();
    error.replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn truncated_archives_are_named() {
    let tar = tar_of(&[("cat/1.jpg", &[1; 700]), ("dog/1.jpg", &[2; 700])]);
    assert_eq!(
        message("a.tar", &tar[..512 + 1024 + 512 + 99]),
        "DIR/a.tar: truncated tar archive: dog/1.jpg has 99 of its 700 bytes; fetch it again"
    );
    assert_eq!(
        message("a.tar", &tar[..512 + 1024]),
        "DIR/a.tar: truncated tar archive: it ends after cat/1.jpg, without its end mark; fetch it again"
    );
    assert_eq!(
        message("a.tar", &tar[..100]),
        "DIR/a.tar: not a data set: found a damaged or truncated archive (its first bytes are 63 61 74 2f 31 2e 6a 70); known are a folder of class folders, a .zip, .tar, .tar.gz, .tar.xz, .tar.bz2 or .tar.zst of one, CIFAR-10 and CIFAR-100 binary files, IDX files and Parquet files"
    );
    for (name, packed) in [
        ("bzip2", bzip2(&tar)),
        ("Zstandard", zstandard(&tar)),
        ("xz", TAR_XZ.to_vec()),
    ] {
        let said = message("a.tar.xz", &packed[..packed.len() - 9]);
        assert!(
            said.starts_with(&format!("DIR/a.tar.xz: truncated {name}: it ends after ")),
            "{said}"
        );
    }
    let packed = gzip(&tar);
    assert_eq!(
        message("a.tgz", &packed[..packed.len() - 9]),
        "DIR/a.tgz: truncated gzip: it ends after 4096 unpacked bytes; fetch it again"
    );
    let zipped = zip_of(&FILES, CompressionMethod::Deflated);
    let truncated = message("a.zip", &zipped[..zipped.len() - 30]);
    assert!(
        truncated.starts_with("DIR/a.zip: damaged zip archive: "),
        "{truncated}"
    );
    assert!(truncated.ends_with("; fetch it again"), "{truncated}");
}

#[test]
fn a_damaged_header_and_a_damaged_entry_are_named() {
    let mut tar = tar_of(&[("cat/1.jpg", &[1; 700]), ("dog/1.jpg", &[2; 700])]);
    tar[512 + 1024 + 3] ^= 1;
    assert!(message("a.tar", &tar).starts_with("DIR/a.tar: damaged tar archive after cat/1.jpg: "));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zip");
    let mut zipped = zip_of(
        &[("cat/1.jpg", b"one"), ("dog/1.jpg", b"two")],
        CompressionMethod::Stored,
    );
    let place = zipped
        .windows(3)
        .position(|window| window == b"two")
        .unwrap();
    zipped[place] = b'x';
    fs::write(&path, zipped).unwrap();
    let dataset = Dataset::open(&path).unwrap();
    let error = dataset
        .read(&dataset.given(SplitName::Train)[1])
        .unwrap_err()
        .to_string();
    assert!(error.contains("a.zip/dog/1.jpg: checksum "), "{error}");
    assert!(error.ends_with("; fetch the archive again"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_archives_never_panic(place in 0usize..4096, byte: u8, cut in 0usize..4096, zipped: bool) {
        let files: [(&str, &[u8]); 2] = [("cat/1.jpg", &[1; 700]), ("dog/1.jpg", &[2; 700])];
        let mut bytes = if zipped { zip_of(&files, CompressionMethod::Deflated) } else { tar_of(&files) };
        let place = place % bytes.len();
        bytes[place] = byte;
        bytes.truncate(cut.max(1));
        let path = Path::new("a");
        let opened: Result<Box<dyn Files>, DataError> = if zipped {
            ZipFiles::open(path, bytes.into()).map(|files| Box::new(files) as Box<dyn Files>)
        } else {
            TarFiles::open(path, bytes.into()).map(|files| Box::new(files) as Box<dyn Files>)
        };
        if let Ok(files) = opened {
            for index in 0..files.names().len() {
                let _ = files.read(index);
            }
        }
    }
}

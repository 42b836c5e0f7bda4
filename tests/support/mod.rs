//! A place to run the real binary in, and the files it is given there.

// Each test file uses its own part of what is offered here.
#![allow(dead_code, unreachable_pub)]

use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Crc;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;
use vitrine::checkpoint::Shipped;

/// What a process left behind. The folder it ran in is taken out of both texts.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Fails the test where the process failed.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Standard output as one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// The variables by which a hub, its cache and a token are found.
const HUB: [&str; 10] = [
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_SYMLINKS",
];

/// A folder in which `vitrine` is run.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
    _dir: Option<TempDir>,
}

impl Place {
    /// An empty folder that goes away with the value.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            // As the process will see it, so that it can be taken out of what the process says.
            root: dir.path().canonicalize().unwrap(),
            _dir: Some(dir),
        }
    }

    /// An empty folder of this name below the target folder, for a value that is never dropped.
    pub fn lasting(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        fs::create_dir_all(&root).unwrap();
        Self {
            root: root.canonicalize().unwrap(),
            _dir: None,
        }
    }

    /// A copy of all files here in a place of its own.
    pub fn copied(&self) -> Self {
        let copy = Self::new();
        for name in self.listing(".") {
            let path = self.path(&name);
            if path.is_file() {
                copy.write(&name, fs::read(path).unwrap());
            }
        }
        copy
    }

    /// The path of a file in this folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a file and the folders it lies in.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Makes an empty folder.
    pub fn folder(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
    }

    /// Reads a file as text.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Every file and folder here, sorted, by its path below `name`.
    pub fn listing(&self, name: &str) -> Vec<String> {
        fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                names.push(path.strip_prefix(root).unwrap().display().to_string());
                if path.is_dir() {
                    collect(root, &path, names);
                }
            }
        }
        let mut names = Vec::new();
        collect(&self.path(name), &self.path(name), &mut names);
        names.sort();
        names
    }

    /// `copies` pictures for each class of `folder`, all different.
    pub fn pictures(&self, folder: &str, classes: &[&str], copies: u32) {
        for (c, class) in classes.iter().enumerate() {
            for i in 0..copies {
                let picture = picture(16, 16, 1 + 50 * c as u32 + i);
                self.write(&format!("{folder}/{class}/{i:02}.png"), png(&picture));
            }
        }
    }

    /// Runs `vitrine` with arguments that hold no blanks, split at blanks.
    pub fn run(&self, line: &str) -> Said {
        self.run_with(&line.split_whitespace().collect::<Vec<_>>(), &[])
    }

    /// Runs `vitrine`.
    pub fn run_with(&self, args: &[impl AsRef<OsStr>], stdin: &[u8]) -> Said {
        self.run_where(args, stdin, &[])
    }

    /// Runs `vitrine` with variables of its environment.
    pub fn run_where(
        &self,
        args: &[impl AsRef<OsStr>],
        stdin: &[u8],
        variables: &[(&str, String)],
    ) -> Said {
        let output = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("vitrine"))
            .current_dir(&self.root)
            .args(args)
            // What the test runner sets must not show in messages.
            .env_remove("CARGO")
            .env_remove("COLUMNS")
            // Nor may a cache or a token of whoever runs the tests be used.
            .envs(HUB.map(|name| (name, "")))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .write_stdin(stdin)
            .timeout(Duration::from_secs(120))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(&format!("{}/", self.root.display()), "")
        };
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// What is said where weights are expected and there is nothing of their name.
pub fn nothing_named(name: &str) -> String {
    nothing(&format!(
        "{name} is not a run directory (there is nothing of that name)"
    ))
}

/// The same where a flag of `train` names them.
pub fn flag_names_nothing(flag: &str, name: &str) -> String {
    nothing(&format!(
        "{flag} {name}: there is nothing of that name; expected a run or a weights file"
    ))
}

fn nothing(wrong: &str) -> String {
    format!(
        "{wrong}; there is no run here yet: `vitrine train` makes one; weights that ship with \
         vitrine: {}",
        Shipped::names()
    )
}

/// A failure, exit code 1, with exactly this message at the end of stderr.
#[track_caller]
pub fn fails(said: &Said, message: &str) {
    let told = said.err.split_once("error: ").map(|(_, told)| told.trim());
    assert_eq!(told, Some(message), "{said:#?}");
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:#?}");
}

/// Stripes and a colour that depend on `seed`.
pub fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let value = |k: u32| ((x * (3 + seed % 5) + y * 2 + seed * 4 * k) % 256) as u8;
        Rgb([value(1), value(2), value(3)])
    })
}

/// A picture as a file of `format`.
pub fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A picture as PNG.
pub fn png(picture: &RgbImage) -> Vec<u8> {
    encode(&picture.clone().into(), ImageFormat::Png)
}

/// A picture as JPEG.
pub fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode_image(picture)
        .unwrap();
    bytes
}

/// A JPEG whose EXIF says that it was taken with the camera on its side (orientation 6).
pub fn rotated_jpeg(picture: &RgbImage) -> Vec<u8> {
    let plain = jpeg(picture);
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0".to_vec();
    exif.extend([1, 0]);
    exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]);
    exif.extend([0, 0, 0, 0]);
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend((exif.len() as u16 + 2).to_be_bytes());
    bytes.extend(exif);
    bytes.extend(&plain[2..]);
    bytes
}

/// A few bytes of PNG that claim to be `side` × `side` pixels.
pub fn giant_png(side: u32) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(data);
        let mut bytes = (data.len() as u32).to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.extend(data);
        bytes.extend(crc.sum().to_be_bytes());
        bytes
    };
    let mut header = side.to_be_bytes().to_vec();
    header.extend(side.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&vec![0; 1 << 20]).unwrap();
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(chunk(b"IHDR", &header));
    bytes.extend(chunk(b"IDAT", &zlib.finish().unwrap()));
    bytes.extend(chunk(b"IEND", b""));
    bytes
}

/// A tar of these files.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// A zip of these files.
pub fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer
            .start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Bytes, gzipped.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// IDX files of `count` grey pictures of 8×8 and their labels, 0 to 9 in turn.
pub fn idx(count: u32) -> (Vec<u8>, Vec<u8>) {
    let mut pictures = vec![0, 0, 8, 3];
    let mut labels = vec![0, 0, 8, 1];
    labels.extend(count.to_be_bytes());
    for size in [count, 8, 8] {
        pictures.extend(size.to_be_bytes());
    }
    pictures.extend((0..count * 64).map(|i| (i * 7 + i / 64) as u8));
    labels.extend((0..count).map(|i| (i % 10) as u8));
    (pictures, labels)
}

//! The fuzz targets: one function for each parser of foreign bytes, and the limits that every one of them keeps.
//!
//! They go through the public interface and real files (in memory where the system's folder for temporary files is), so
//! that they run what a person's file runs: recognition, the parser, and the decoder of each picture in it. libFuzzer
//! calls them from `fuzz_targets/`; the program's own tests include this file and call them on the seeds and on
//! mutations of these, so that it needs nothing but `vitrine` and `tempfile`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vitrine::checkpoint::{Layout as Library, TensorFile, begin_to_load_backbone, write_layout};
use vitrine::classify::Classifier;
use vitrine::data::{
    Dataset, DecodeLimits, Filter, Preprocess, RawPicture, Resize, Splits, decode,
};
use vitrine::device::{Backend, DeviceChoice, Selected, select};
use vitrine::recipe::Sources;
use vitrine::report::csv::read_results;
use vitrine::run::{RunDir, open_weights, redraw};
use vitrine::train::Saved;

/// A target: it takes any bytes, and returns. An error inside is an answer; a panic, a hang or too much memory is what is
/// looked for.
pub type Target = fn(&[u8]);

/// Every target, by the name of its seeds' folder and of its file in `fuzz_targets/`.
pub const TARGETS: [(&str, Target); 14] = [
    ("picture", picture),
    ("tar", tar),
    ("tar_gz", tar_gz),
    ("zip", zip),
    ("parquet", parquet),
    ("idx", idx),
    ("cifar", cifar),
    ("weights", weights),
    ("foreign", foreign),
    ("state", state),
    ("recipe", recipe),
    ("lists", lists),
    ("results", results),
    ("plot", plot),
];

/// The longest that one input may take, in seconds: no input is longer than a few hundred kilobytes.
pub const MAX_SECONDS: u64 = 20;

/// The most bytes that may be allocated at a time.
pub const MAX_BYTES: usize = 2 << 30;

/// Pictures that are read and decoded of one data set: enough to reach the decoder, few enough to be fast.
const READ: usize = 4;

/// Limits of a decoder, so low that a picture that is decoded within them never takes the fuzzer's memory.
const LIMITS: DecodeLimits = DecodeLimits {
    max_pixels: 1 << 20,
    max_bytes: 16 << 20,
};

/// What stands between the files of an input that holds several.
const BETWEEN: &[u8] = b"\n=====\n";

/// Calls `target`, and aborts the process when it takes longer than [`MAX_SECONDS`] or more than [`MAX_BYTES`].
///
/// # Panics
///
/// Where the target does.
pub fn run(target: Target, bytes: &[u8]) {
    watch();
    STARTED.store(now(), Ordering::Relaxed);
    target(bytes);
    STARTED.store(IDLE, Ordering::Relaxed);
}

/// As a whole, and as for sizes so small that only a part of a JPEG is decoded.
pub fn picture(bytes: &[u8]) {
    let raw = RawPicture::Encoded(bytes.into());
    let whole = decode(&raw, &LIMITS);
    if let Ok(picture) = &whole {
        assert!(u64::from(picture.width()) * u64::from(picture.height()) <= LIMITS.max_pixels);
    }
    for image_size in [1, 2, 5] {
        let preprocess = Preprocess {
            image_size,
            resize: Resize::Crop,
            mean: [0.5; 3],
            std: [0.5; 3],
            ..Preprocess::default()
        };
        let exact = Preprocess {
            exact: true,
            filter: Filter::Lanczos,
            resize: Resize::ShorterEdge,
            ..preprocess.clone()
        };
        for preprocess in [preprocess, exact] {
            let small = preprocess.decode(&raw, &LIMITS);
            assert_eq!(small.is_ok(), whole.is_ok());
        }
    }
}

pub fn tar(bytes: &[u8]) {
    open(&file("pets.tar", bytes));
}

pub fn tar_gz(bytes: &[u8]) {
    open(&file("pets.tar.gz", bytes));
}

pub fn zip(bytes: &[u8]) {
    open(&file("pets.zip", bytes));
}

pub fn parquet(bytes: &[u8]) {
    open(&file("train.parquet", bytes));
}

/// MNIST's two files: pictures, then labels.
pub fn idx(bytes: &[u8]) {
    let [pictures, labels] = parts(bytes);
    let pictures = file("idx/train-images-idx3-ubyte", pictures);
    file("idx/train-labels-idx1-ubyte", labels);
    open(parent(&pictures));
}

pub fn cifar(bytes: &[u8]) {
    open(parent(&file("cifar/data_batch_1.bin", bytes)));
}

/// A weights file, up to the classifier that is made of it.
pub fn weights(bytes: &[u8]) {
    if let Ok(file) = TensorFile::open(&file("weights.safetensors", bytes)) {
        let _ = Classifier::of(&file, &cpu().device);
    }
}

/// The folder of another project's weights: `config.json`, `preprocessor_config.json` and `model.safetensors`, up to the
/// model that is made of them and to what is written of that. A file of no bytes is absent.
pub fn foreign(bytes: &[u8]) {
    let names = [
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    ];
    let [config, preprocessor, tensors] = parts(bytes);
    let mut last = PathBuf::new();
    for (name, part) in names.into_iter().zip([config, preprocessor, tensors]) {
        last = file(&format!("foreign/{name}"), part);
        if part.is_empty() {
            fs::remove_file(&last).expect("a file of this call");
        }
    }
    let Ok(weights) = open_weights(parent(&last)) else {
        return;
    };
    if let Ok((checkpoint, _)) = begin_to_load_backbone(&weights, &cpu().device) {
        for layout in [Library::Timm, Library::Transformers] {
            let out = folder().join("foreign-written");
            fs::create_dir_all(&out).expect("a folder for what is written");
            let _ = write_layout(&checkpoint, layout, &out);
        }
    }
}

pub fn state(bytes: &[u8]) {
    let state = file("checkpoint/state.safetensors", bytes);
    let _ = Saved::open(parent(&state));
}

/// A recipe, up to the configuration of its model.
pub fn recipe(bytes: &[u8]) {
    let read = |path: PathBuf| {
        let sources = Sources {
            recipe: Some(path.display().to_string()),
            ..Sources::default()
        };
        sources.resolve()
    };
    if let Ok(recipe) = read(file("recipe.toml", bytes)) {
        // What was accepted is written as something that is accepted.
        let again = read(file("again.toml", recipe.to_toml().as_bytes()));
        assert_eq!(again.expect("a recipe reads what it wrote"), recipe);
    }
}

/// The lists of a run's splits: train, val, test.
pub fn lists(bytes: &[u8]) {
    static DATASET: OnceLock<Dataset> = OnceLock::new();
    let dataset = DATASET.get_or_init(|| {
        for name in ["cat/a", "cat/b", "dog/a", "dog/\u{e9}", "owl/a\nb"] {
            // Two grey points: no picture is decoded here.
            file(&format!("lists-of/{name}.ppm"), b"P5 2 1 255\n\x10\x20");
        }
        Dataset::open(&folder().join("lists-of")).expect("the folder is a data set")
    });
    let [train, val, test] = parts(bytes);
    let path = file("splits/train.txt", train);
    file("splits/val.txt", val);
    file("splits/test.txt", test);
    let _ = Splits::read(parent(&path), dataset);
}

/// The table of a run's epochs, which a resumed training and `compare` read.
pub fn results(bytes: &[u8]) {
    let _ = read_results(&file("results.csv", bytes));
}

/// The plots of a run, drawn again from its table of epochs and its figures.
pub fn plot(bytes: &[u8]) {
    let [table, metrics] = parts(bytes);
    file("run/results.csv", table);
    file("run/metrics.json", metrics);
    let run = file("run/recipe.toml", b"");
    if let Ok(run) = RunDir::open(parent(&run)) {
        let _ = redraw(&run, "svg", cpu());
    }
}

/// Opens a data set, reads and decodes its first pictures, and cuts its splits.
fn open(path: &Path) {
    let Ok(dataset) = Dataset::open(path) else {
        return;
    };
    for (_, sample) in dataset.samples().take(READ) {
        if let Ok(raw) = dataset.read(sample) {
            let _ = decode(&raw, &LIMITS);
        }
    }
    let _ = dataset.split(0, 0.25, 0.25);
}

/// The files of an input that holds `N`; those that are missing are empty.
fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(bytes);
    std::array::from_fn(|index| {
        let here = rest.take().unwrap_or_default();
        let places = here.windows(BETWEEN.len()).position(|w| w == BETWEEN);
        match places {
            Some(place) if index + 1 < N => {
                rest = Some(&here[place + BETWEEN.len()..]);
                &here[..place]
            }
            _ => here,
        }
    })
}

/// The folder of this process.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| TempDir::new().expect("a folder for the fuzzer's files"));
    made.path()
}

/// Writes `bytes` as a file called `name`, with folders where it has some; replaces the file of the last call.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::create_dir_all(parent(&path)).expect("a folder for the file");
    fs::write(&path, bytes).expect("the fuzzer's file is written");
    path
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("a file in a folder")
}

fn cpu() -> &'static Selected {
    static CPU: OnceLock<Selected> = OnceLock::new();
    CPU.get_or_init(|| select(DeviceChoice::Named(Backend::Cpu, None)).expect("the CPU"))
}

/// When the call under way began, in milliseconds since [`now`] was first asked.
static STARTED: AtomicU64 = AtomicU64::new(IDLE);
const IDLE: u64 = u64::MAX;

fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// Starts the thread that ends a process whose call takes too long.
fn watch() {
    static WATCH: OnceLock<()> = OnceLock::new();
    WATCH.get_or_init(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let started = STARTED.load(Ordering::Relaxed);
                if started != IDLE && now().saturating_sub(started) > MAX_SECONDS * 1000 {
                    eprintln!("one input takes longer than {MAX_SECONDS} s");
                    std::process::abort();
                }
            }
        });
    });
}

/// The system's allocator, which ends the process at [`MAX_BYTES`].
struct Limited;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

impl Limited {
    fn take(bytes: usize) {
        let before = ALLOCATED.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MAX_BYTES {
            // Nothing that allocates may be called here.
            ALLOCATED.store(0, Ordering::Relaxed);
            eprintln!("an input asks for {bytes} bytes where {before} are in use");
            std::process::abort();
        }
    }
}

// SAFETY: the system's allocator, unchanged.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Limited::take(layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    // Zeroed memory of the system costs nothing until it is touched, so that it must not be filled by hand.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Limited::take(layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Limited::take(size);
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static LIMITED: Limited = Limited;

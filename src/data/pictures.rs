//! The decoded pictures of one split, cached in memory. Those that do not fit are decoded again at each use.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;
use rayon::prelude::*;

use super::budget;
use super::decode::{DecodeError, DecodeLimits};
use super::error::DataError;
use super::preprocess::Preprocess;
use super::sample::{RawPicture, Sample, Skipped};
use super::source::Dataset;
use crate::stop::Stop;

/// How pictures are loaded and cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PicturesOptions {
    /// Size of the cache of decoded pictures, in MiB; pictures that do not fit are decoded at each use.
    pub cache_mb: usize,
    /// Whether a picture that cannot be read is an error; otherwise it is skipped and listed.
    pub strict: bool,
    /// Whether pictures are kept larger than the model's input, in their own shape, for random resized crops
    /// ([`Preprocess::decode_for_crops`]).
    pub keep_larger: bool,
}

impl Default for PicturesOptions {
    fn default() -> Self {
        PicturesOptions {
            cache_mb: 4096,
            strict: false,
            keep_larger: false,
        }
    }
}

/// The pictures of one split that can be read: square, at the model's size, or larger with
/// [`keep_larger`](PicturesOptions::keep_larger).
///
/// Cheap to clone: clones share the pictures.
#[derive(Clone)]
pub struct Pictures {
    shared: Arc<Shared>,
}

struct Shared {
    dataset: Arc<Dataset>,
    samples: Vec<Sample>,
    /// In the order of `samples`; `None` where it is not cached.
    kept: Vec<Option<RgbImage>>,
    labels: Vec<usize>,
    names: Vec<String>,
    skipped: Vec<Skipped>,
    preprocess: Preprocess,
    keep_larger: bool,
    bytes_cached: usize,
    stop: Stop,
}

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pictures")
            .field("len", &self.len())
            .field("skipped", &self.shared.skipped.len())
            .field("bytes_cached", &self.shared.bytes_cached)
            .finish_non_exhaustive()
    }
}

/// Progress is reported after this many pictures, and at the end.
const PROGRESS_EVERY: usize = 64;

impl Pictures {
    /// Reads and decodes `samples` on all cores. Every picture is decoded, also those that do not fit into the cache, so
    /// that unreadable ones are known before training begins. `progress` is called with the number of pictures done.
    ///
    /// Once `stop` is requested nothing more is decoded, now or later: whoever needs another picture, or another batch of
    /// a loader, gets [`DataError::Stopped`].
    ///
    /// # Errors
    ///
    /// [`DataError::Stopped`]; with `strict`, where a picture cannot be read, [`DataError::Strict`] for the first of them.
    pub fn load(
        dataset: &Arc<Dataset>,
        samples: &[Sample],
        preprocess: &Preprocess,
        options: &PicturesOptions,
        stop: &Stop,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Pictures, DataError> {
        let budget = options.cache_mb.saturating_mul(1 << 20);
        let (used, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let tried = samples
            .par_iter()
            .map(|sample| {
                if stop.is_requested() {
                    return Err(DataError::Stopped);
                }
                let read = read(dataset, sample, preprocess, options.keep_larger).map(|picture| {
                    let bytes = picture.as_raw().len();
                    let fits = used.fetch_add(bytes, Ordering::Relaxed) + bytes <= budget;
                    if !fits {
                        used.fetch_sub(bytes, Ordering::Relaxed);
                    }
                    fits.then_some(picture)
                });
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                if done.is_multiple_of(PROGRESS_EVERY) || done == samples.len() {
                    progress(done);
                }
                Ok(read)
            })
            .collect::<Result<Vec<Result<Option<RgbImage>, String>>, DataError>>()?;

        let mut shared = Shared {
            dataset: Arc::clone(dataset),
            samples: Vec::with_capacity(samples.len()),
            kept: Vec::with_capacity(samples.len()),
            labels: Vec::with_capacity(samples.len()),
            names: Vec::with_capacity(samples.len()),
            skipped: Vec::new(),
            preprocess: preprocess.clone(),
            keep_larger: options.keep_larger,
            bytes_cached: used.into_inner(),
            stop: stop.clone(),
        };
        for (sample, tried) in samples.iter().zip(tried) {
            let name = sample.name.clone();
            match tried {
                Ok(kept) => {
                    shared.labels.push(sample.label);
                    shared.names.push(name);
                    shared.samples.push(sample.clone());
                    shared.kept.push(kept);
                }
                Err(reason) => shared.skipped.push(Skipped { name, reason }),
            }
        }
        match shared.skipped.as_slice() {
            [first, others @ ..] if options.strict => Err(DataError::Strict {
                name: first.name.clone(),
                reason: first.reason.clone(),
                others: others.len(),
            }),
            _ => Ok(Pictures {
                shared: Arc::new(shared),
            }),
        }
    }

    /// Number of pictures that can be read.
    pub fn len(&self) -> usize {
        self.shared.samples.len()
    }

    /// Whether none can be read.
    pub fn is_empty(&self) -> bool {
        self.shared.samples.is_empty()
    }

    /// The class of each, as an index into [`Dataset::classes`].
    pub fn labels(&self) -> &[usize] {
        &self.shared.labels
    }

    /// The name of each.
    pub fn names(&self) -> &[String] {
        &self.shared.names
    }

    /// The sample of each.
    pub fn samples(&self) -> &[Sample] {
        &self.shared.samples
    }

    /// The samples that cannot be read, with the reasons.
    pub fn skipped(&self) -> &[Skipped] {
        &self.shared.skipped
    }

    /// Memory that the cache takes, in bytes.
    pub fn bytes_cached(&self) -> usize {
        self.shared.bytes_cached
    }

    /// One picture, from the cache or decoded again: the same pixels either way.
    ///
    /// # Errors
    ///
    /// [`DataError::Unreadable`] where a picture that is not cached can no longer be read, [`DataError::Stopped`] where it
    /// is to be decoded and nothing more may be.
    ///
    /// # Panics
    ///
    /// When `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> Result<Cow<'_, RgbImage>, DataError> {
        let shared = &*self.shared;
        if let Some(picture) = &shared.kept[index] {
            return Ok(Cow::Borrowed(picture));
        }
        self.go_on()?;
        let sample = &shared.samples[index];
        read(
            &shared.dataset,
            sample,
            &shared.preprocess,
            shared.keep_larger,
        )
        .map(Cow::Owned)
        .map_err(|reason| DataError::Unreadable {
            name: sample.name.clone(),
            reason: format!("{reason}; it could be read before"),
        })
    }
}

impl Pictures {
    /// The request to stop that they were loaded with.
    pub(super) fn stop(&self) -> &Stop {
        &self.shared.stop
    }

    /// An error once someone asked to stop.
    ///
    /// # Errors
    ///
    /// [`DataError::Stopped`].
    pub(crate) fn go_on(&self) -> Result<(), DataError> {
        match self.stop().is_requested() {
            true => Err(DataError::Stopped),
            false => Ok(()),
        }
    }
}

/// Reads one picture and brings it to the size at which it is kept.
///
/// # Errors
///
/// The reason, without the sample's name.
fn read(
    dataset: &Dataset,
    sample: &Sample,
    preprocess: &Preprocess,
    keep_larger: bool,
) -> Result<RgbImage, String> {
    budget::one_picture(|| read_one(dataset, sample, preprocess, keep_larger))
}

fn read_one(
    dataset: &Dataset,
    sample: &Sample,
    preprocess: &Preprocess,
    keep_larger: bool,
) -> Result<RgbImage, String> {
    read_with(dataset, sample, |raw| match keep_larger {
        true => preprocess.decode_for_crops(raw, &DecodeLimits::default()),
        false => preprocess.decode(raw, &DecodeLimits::default()),
    })
}

/// Reads one picture and decodes it.
///
/// # Errors
///
/// The reason, without the sample's name, which the caller knows.
pub(super) fn read_with<T>(
    dataset: &Dataset,
    sample: &Sample,
    decode: impl FnOnce(&RawPicture<'_>) -> Result<T, DecodeError>,
) -> Result<T, String> {
    let raw = dataset.read(sample).map_err(|error| match error {
        DataError::Unreadable { reason, .. } => reason,
        other => other.to_string(),
    })?;
    decode(&raw).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::path::Path;

    use image::{DynamicImage, ImageFormat, Rgb, Rgba, RgbaImage};

    use super::super::preprocess::Resize;
    use super::super::sample::SplitName;
    use super::*;

    pub(crate) fn preprocess(image_size: usize) -> Preprocess {
        Preprocess {
            image_size,
            resize: Resize::Crop,
            mean: [0.5, 0.4, 0.3],
            std: [0.25, 0.5, 0.125],
            ..Preprocess::default()
        }
    }

    fn photo(width: u32, height: u32, shade: u8) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8 * 5, y as u8 * 5, shade]))
    }

    /// A data set of two classes with `count` pictures each, all different.
    pub(crate) fn small_set(folder: &Path, count: u32) -> Arc<Dataset> {
        for class in ["cat", "dog"] {
            fs::create_dir_all(folder.join(class)).unwrap();
            for number in 0..count {
                let shade = (number * 2 + u32::from(class == "dog")) as u8;
                let file = folder.join(class).join(format!("{number:03}.png"));
                photo(15 + number % 3, 14, shade).save(file).unwrap();
            }
        }
        Arc::new(Dataset::open(folder).unwrap())
    }

    pub(crate) fn load(
        dataset: &Arc<Dataset>,
        image_size: usize,
        options: PicturesOptions,
    ) -> Pictures {
        let samples = dataset.given(SplitName::Train);
        Pictures::load(
            dataset,
            samples,
            &preprocess(image_size),
            &options,
            &Stop::default(),
            &|_| {},
        )
        .unwrap()
    }

    fn encoded(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture
            .write_to(&mut Cursor::new(&mut bytes), format)
            .unwrap();
        bytes
    }

    #[test]
    fn a_folder_of_mixed_pictures_gives_the_good_and_names_the_bad() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: Vec<u8>| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let whole = photo(40, 30, 7);
        let jpeg = encoded(whole.clone().into(), ImageFormat::Jpeg);
        write("cat/a.jpg", jpeg.clone());
        write("cat/b.png", encoded(whole.clone().into(), ImageFormat::Png));
        write(
            "cat/c.gif",
            encoded(
                DynamicImage::from(whole.clone()).into_rgba8().into(),
                ImageFormat::Gif,
            ),
        );
        write("cat/d.bmp", encoded(whole.clone().into(), ImageFormat::Bmp));
        write(
            "cat/e.webp",
            encoded(whole.clone().into(), ImageFormat::WebP),
        );
        write(
            "dog/grey.png",
            encoded(
                DynamicImage::from(whole.clone()).into_luma8().into(),
                ImageFormat::Png,
            ),
        );
        write(
            "dog/deep.png",
            encoded(
                DynamicImage::from(whole.clone()).into_rgb16().into(),
                ImageFormat::Png,
            ),
        );
        write(
            "dog/alpha.png",
            encoded(
                RgbaImage::from_pixel(9, 9, Rgba([0, 0, 0, 0])).into(),
                ImageFormat::Png,
            ),
        );
        write(
            "dog/dot.png",
            encoded(photo(1, 1, 9).into(), ImageFormat::Png),
        );
        write(
            "dog/png-inside.jpg",
            encoded(whole.into(), ImageFormat::Png),
        );
        write("dog/cut.jpg", jpeg[..jpeg.len() / 2].to_vec());
        write("dog/note.jpg", b"a text file, not a picture\n".to_vec());
        let dataset = Arc::new(Dataset::open(folder.path()).unwrap());
        let pictures = load(&dataset, 13, PicturesOptions::default());
        assert_eq!(pictures.len(), 10);
        assert_eq!(
            pictures
                .labels()
                .iter()
                .filter(|label| **label == 0)
                .count(),
            5
        );
        for index in 0..pictures.len() {
            assert_eq!(
                pictures.get(index).unwrap().dimensions(),
                (13, 13),
                "{}",
                pictures.names()[index]
            );
        }
        let of = |name: &str| {
            let index = pictures
                .names()
                .iter()
                .position(|known| known.ends_with(name))
                .unwrap();
            pictures.get(index).unwrap().into_owned()
        };
        assert!(of("alpha.png").iter().all(|value| *value == 255));
        assert_eq!(of("b.png"), of("d.bmp"));
        assert_eq!(of("b.png"), of("e.webp"));
        assert_eq!(of("b.png"), of("png-inside.jpg"));
        let bad: Vec<String> = pictures
            .skipped()
            .iter()
            .map(|s| format!("{}: {}", s.name, s.reason))
            .collect();
        assert_eq!(
            bad,
            [
                "dog/cut.jpg: truncated JPEG: the file ends before the picture does",
                "dog/note.jpg: not a picture: found text, expected JPEG, PNG, GIF, BMP, WebP, TIFF or another known format",
            ]
        );

        let strict = PicturesOptions {
            strict: true,
            ..PicturesOptions::default()
        };
        let samples = dataset.given(SplitName::Train);
        let error = Pictures::load(
            &dataset,
            samples,
            &preprocess(13),
            &strict,
            &Stop::default(),
            &|_| {},
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "dog/cut.jpg: truncated JPEG: the file ends before the picture does (1 more cannot be read either)"
        );
    }

    #[test]
    fn streamed_pictures_equal_cached_ones() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = small_set(folder.path(), 5);
        for keep_larger in [false, true] {
            let cached = load(
                &dataset,
                6,
                PicturesOptions {
                    keep_larger,
                    ..PicturesOptions::default()
                },
            );
            let streamed = load(
                &dataset,
                6,
                PicturesOptions {
                    keep_larger,
                    cache_mb: 0,
                    ..PicturesOptions::default()
                },
            );
            assert!(cached.bytes_cached() >= 10 * 3 * 36);
            assert_eq!(streamed.bytes_cached(), 0);
            assert_eq!(cached.names(), streamed.names());
            for index in 0..cached.len() {
                assert!(matches!(cached.get(index).unwrap(), Cow::Borrowed(_)));
                assert!(matches!(streamed.get(index).unwrap(), Cow::Owned(_)));
                assert_eq!(cached.get(index).unwrap(), streamed.get(index).unwrap());
            }
        }
    }

    #[test]
    fn the_cache_keeps_within_its_budget() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = small_set(folder.path(), 3);
        // 600² pixels take 1.03 MiB each: two of six fit into 3 MiB.
        let pictures = load(
            &dataset,
            600,
            PicturesOptions {
                cache_mb: 3,
                ..PicturesOptions::default()
            },
        );
        assert_eq!(pictures.bytes_cached(), 2 * 600 * 600 * 3);
        let kept = (0..6)
            .filter(|&index| matches!(pictures.get(index).unwrap(), Cow::Borrowed(_)))
            .count();
        assert_eq!(kept, 2);
    }

    #[test]
    fn progress_ends_at_the_number_of_samples() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = small_set(folder.path(), 40);
        let last = AtomicUsize::new(0);
        let samples = dataset.given(SplitName::Train);
        let progress = |done: usize| {
            last.fetch_max(done, Ordering::Relaxed);
        };
        Pictures::load(
            &dataset,
            samples,
            &preprocess(5),
            &PicturesOptions::default(),
            &Stop::default(),
            &progress,
        )
        .unwrap();
        assert_eq!(last.into_inner(), 80);
    }

    #[test]
    fn nothing_more_is_decoded_after_a_request_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = small_set(folder.path(), 100);
        let samples = dataset.given(SplitName::Train);
        let (stop, last) = (Stop::default(), AtomicUsize::new(0));
        let progress = |done: usize| {
            last.fetch_max(done, Ordering::Relaxed);
            stop.request();
        };
        let options = PicturesOptions::default();
        let size = preprocess(5);
        let load = |stop, progress: &(dyn Fn(usize) + Sync)| {
            Pictures::load(&dataset, samples, &size, &options, stop, progress)
        };
        assert!(matches!(load(&stop, &progress), Err(DataError::Stopped)));
        assert!(last.into_inner() < 200, "it stops before the end");

        let stop = Stop::default();
        let none = PicturesOptions {
            cache_mb: 0,
            ..options
        };
        let streamed = Pictures::load(&dataset, samples, &size, &none, &stop, &|_| {}).unwrap();
        let kept = load(&stop, &|_| {}).unwrap();
        stop.request();
        assert!(matches!(streamed.get(0), Err(DataError::Stopped)));
        assert!(kept.get(0).is_ok(), "what is decoded is there");
        assert!(kept.go_on().is_err());
    }

    #[test]
    fn a_picture_that_vanishes_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = small_set(folder.path(), 2);
        let pictures = load(
            &dataset,
            5,
            PicturesOptions {
                cache_mb: 0,
                ..PicturesOptions::default()
            },
        );
        fs::write(folder.path().join("cat/001.png"), b"gone").unwrap();
        let index = pictures
            .names()
            .iter()
            .position(|name| name == "cat/001.png")
            .unwrap();
        let error = pictures.get(index).unwrap_err().to_string();
        assert!(
            error.starts_with("cat/001.png: not a picture")
                && error.ends_with("it could be read before"),
            "{error}"
        );
    }
}

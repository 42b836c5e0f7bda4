//! Summarises the pictures of a data set: sizes, formats, channel means.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::budget;
use super::decode::{DecodeLimits, decode, guess_format};
use super::sample::{RawPicture, Sample, Skipped, SplitName};
use super::source::Dataset;
use super::verify::{SplitCounts, counts_of};

/// Minimum, median and maximum of a number of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// The smallest value.
    pub min: u32,
    /// The median; the upper of the two middle values where there are two.
    pub median: u32,
    /// The largest value.
    pub max: u32,
}

impl Spread {
    fn of(mut values: Vec<u32>) -> Spread {
        values.sort_unstable();
        match values.as_slice() {
            [] => Spread::default(),
            [min, ..] => Spread {
                min: *min,
                median: values[values.len() / 2],
                max: values[values.len() - 1],
            },
        }
    }
}

/// Summary of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InfoReport {
    /// Its short name.
    pub name: String,
    /// Its path.
    pub origin: String,
    /// What it is stored as, in words.
    pub kind: String,
    /// Its classes.
    pub classes: Vec<String>,
    /// Number of pictures in each split that the source has.
    pub counts: Vec<SplitCounts>,
    /// Widths, in pixels.
    pub widths: Spread,
    /// Heights, in pixels.
    pub heights: Spread,
    /// Number of pictures in each format.
    pub formats: BTreeMap<String, usize>,
    /// Mean of red, green and blue, 0 to 1, over the first split that the source has, which is train where there is one.
    /// Each picture has the same weight, whatever its size.
    pub channel_means: [f64; 3],
    /// Standard deviation of the same pixels.
    pub channel_stds: [f64; 3],
    /// Number of pictures that cannot be read; [`verify`](fn@super::verify::verify) names them.
    pub unreadable: usize,
    /// Files and folders that the source leaves out.
    pub skipped: Vec<Skipped>,
    /// What was understood where it is not plain, and what is not read on purpose.
    pub notes: Vec<String>,
}

/// What one picture contributes to the report.
struct Look {
    width: u32,
    height: u32,
    format: String,
    /// For each channel, the mean of the values and of their squares, 0 to 1.
    moments: [[f64; 2]; 3],
}

/// Decodes every picture, in parallel, and summarises them. `progress` is called once per picture.
pub(crate) fn info(
    dataset: &Dataset,
    limits: &DecodeLimits,
    progress: &(dyn Fn() + Sync),
) -> InfoReport {
    let samples: Vec<(SplitName, &Sample)> = dataset.samples().collect();
    let looks: Vec<Option<Look>> = samples
        .par_iter()
        .map(|(_, sample)| {
            let look = budget::one_picture(|| look_at(dataset, sample, limits));
            progress();
            look
        })
        .collect();
    let counts = counts_of(dataset);
    let measured = counts.first().map(|counts| counts.split);
    let (mut sums, mut number) = ([[0.0; 2]; 3], 0usize);
    let mut formats = BTreeMap::new();
    for (look, (split, _)) in looks
        .iter()
        .zip(&samples)
        .filter_map(|(look, sample)| Some((look.as_ref()?, sample)))
    {
        *formats.entry(look.format.clone()).or_default() += 1;
        if Some(*split) == measured {
            number += 1;
            sums.iter_mut()
                .flatten()
                .zip(look.moments.iter().flatten())
                .for_each(|(sum, moment)| *sum += moment);
        }
    }
    let moments = sums.map(|channel| channel.map(|sum: f64| sum / number.max(1) as f64));
    let seen = || looks.iter().flatten();
    InfoReport {
        name: dataset.name.clone(),
        origin: dataset.origin.clone(),
        kind: dataset.kind.to_string(),
        classes: dataset.classes.clone(),
        counts,
        widths: Spread::of(seen().map(|look| look.width).collect()),
        heights: Spread::of(seen().map(|look| look.height).collect()),
        formats,
        channel_means: moments.map(|[mean, _]| mean),
        channel_stds: moments.map(|[mean, square]| (square - mean * mean).max(0.0).sqrt()),
        unreadable: looks.iter().filter(|look| look.is_none()).count(),
        skipped: dataset.skipped.clone(),
        notes: dataset.notes.clone(),
    }
}

fn look_at(dataset: &Dataset, sample: &Sample, limits: &DecodeLimits) -> Option<Look> {
    let raw = dataset.read(sample).ok()?;
    let picture = decode(&raw, limits).ok()?;
    let format = match &raw {
        RawPicture::Pixels { channels: 1, .. } => "grey pixels".into(),
        RawPicture::Pixels { .. } => "RGB pixels".into(),
        RawPicture::Encoded(bytes) => guess_format(bytes).map_or("unknown".into(), |format| {
            format!("{format:?}").to_uppercase()
        }),
    };
    let mut sums = [[0u64; 2]; 3];
    let add = |sum: &mut [u64; 2], value: u8| {
        sum[0] += u64::from(value);
        sum[1] += u64::from(value) * u64::from(value);
    };
    for &[red, green, blue] in picture.as_raw().as_chunks().0 {
        add(&mut sums[0], red);
        add(&mut sums[1], green);
        add(&mut sums[2], blue);
    }
    let pixels = f64::from(picture.width()) * f64::from(picture.height());
    let moments = sums.map(|[sum, squares]| {
        [
            sum as f64 / 255.0 / pixels,
            squares as f64 / 255.0 / 255.0 / pixels,
        ]
    });
    Some(Look {
        width: picture.width(),
        height: picture.height(),
        format,
        moments,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn save(folder: &Path, name: &str, width: u32, height: u32, colour: [u8; 3]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(width, height, image::Rgb(colour))
            .save(path)
            .unwrap();
    }

    #[test]
    fn info_sums_up() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "train/a/1.png", 2, 9, [255, 0, 51]);
        save(folder.path(), "train/b/1.bmp", 40, 3, [0, 0, 51]);
        save(folder.path(), "val/b/2.png", 7, 7, [9, 9, 9]);
        fs::write(folder.path().join("train/b/3.png"), "").unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let report = info(&dataset, &DecodeLimits::default(), &|| ());
        assert_eq!(
            report.widths,
            Spread {
                min: 2,
                median: 7,
                max: 40
            }
        );
        assert_eq!(
            report.heights,
            Spread {
                min: 3,
                median: 7,
                max: 9
            }
        );
        assert_eq!(
            report.formats,
            BTreeMap::from([("BMP".into(), 1), ("PNG".into(), 2)])
        );
        assert_eq!(report.unreadable, 1);
        for (found, expected) in report.channel_means.iter().zip([0.5, 0.0, 0.2]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        for (found, expected) in report.channel_stds.iter().zip([0.5, 0.0, 0.0]) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
    }
}

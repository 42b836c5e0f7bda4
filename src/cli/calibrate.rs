//! `vitrine calibrate`.

use std::path::PathBuf;

use clap::Args;

use super::done::Done;
use super::output::{columns, note, say, tell};
use super::{interrupt, lists};
use crate::device::{self, DeviceChoice};
use crate::metrics::{Calibration, Figures};
use crate::names::{self, shown};
use crate::report::text::{self, Table};
use crate::run::{self, Calibrated};

/// Fit a model's confidence to the validation split, and keep it with the weights.
///
/// Fits a temperature on the validation split, so that about 80 % of the answers
/// given with 80 % confidence are right, and stores it in the weights with what `classify
/// --abstain` needs. A fit that does not help with pictures it was not fitted on is not kept.
///
/// It also keeps where the features of training pictures lie, by which `classify` says that a picture is unlike
/// anything it learned, and `eval --unknown` how well it does.
#[derive(Debug, Args)]
pub(super) struct CalibrateArgs {
    /// Run directory or .safetensors file.
    #[arg(value_name = "RUN|WEIGHTS")]
    weights: PathBuf,
    /// Data set with a validation split; default: that of the run.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Batch size.
    #[arg(short, long, default_value_t = 128, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch_size: u32,
    #[arg(
        long,
        default_value = "auto",
        value_name = "DEVICE",
        help = lists::fill("Device: {devices}; auto uses a GPU if present")
    )]
    device: DeviceChoice,
    /// Print an array with one JSON object per weights file.
    #[arg(long)]
    json: bool,
}

/// Error rates whose thresholds are shown.
const RATES: [f64; 4] = [0.01, 0.02, 0.05, 0.1];

/// Runs the command.
pub(super) fn run(args: CalibrateArgs) -> anyhow::Result<Done> {
    interrupt::nothing_to_save(
        "stopped; each weights file is calibrated or as it was; the same command begins again",
    );
    let device = device::select(args.device)?;
    note(&format!("device: {} ({})", device.name, device.reason));
    let calibrated = run::calibrate(&args.weights, args.data, args.batch_size as usize, &device)?;
    for bad in calibrated.first().map_or(&[][..], |c| &c.skipped) {
        note(&format!("skipped {bad}"));
    }
    if args.json {
        say(&json(&calibrated).to_string())?;
    } else {
        let texts: Vec<String> = calibrated.iter().map(plain).collect();
        tell(&texts.join("\n"))?;
    }
    Ok(Done::Success)
}

fn json(calibrated: &[Calibrated]) -> serde_json::Value {
    let one = |c: &Calibrated| {
        serde_json::json!({
            "weights": names::text(&c.path),
            "temperature": c.temperature,
            "calibration": c.calibration,
            "without_familiarity": c.without_familiarity,
        })
    };
    calibrated.iter().map(one).collect()
}

fn plain(calibrated: &Calibrated) -> String {
    let Calibrated {
        path,
        temperature,
        calibration,
        without_familiarity,
        familiarity_s,
        skipped: _,
    } = calibrated;
    let pictures = text::count(calibration.pictures as u64);
    let path = shown(path);
    let mut out = match calibration.is_kept() {
        true => {
            format!(
                "{path}: temperature {temperature:.4}, fitted on {pictures} validation pictures\n"
            )
        }
        false => format!(
            "{path}: temperature 1, which changes nothing: a fitted one would not help with pictures it was not \
             fitted on (five folds of {pictures} validation pictures)\n"
        ),
    };
    let Calibration {
        before,
        after,
        on_folds,
        ..
    } = calibration;
    let mut figures = Table::new(&["", "before", "fitted, on folds", "kept"]);
    let figure = |name: &str, of: fn(&Figures) -> f64| {
        let folds = on_folds.as_ref().map(of);
        let cells = [Some(of(before)), folds, Some(of(after))];
        let cells = cells.map(|cell| cell.map_or("–".to_owned(), |cell| format!("{cell:.4}")));
        [vec![name.to_owned()], cells.to_vec()].concat()
    };
    figures.row(figure("NLL", |figures| figures.nll));
    figures.row(figure("ECE", |figures| figures.ece));
    out += &figures.text(columns());
    let mut abstain = Table::new(&["--abstain", "threshold", "validation pictures answered"]);
    let (mut too_few, mut too_wrong) = (Vec::new(), Vec::new());
    for rate in RATES {
        let name = format!("{:.0}%", 100.0 * rate);
        let cells = match calibration.threshold(rate) {
            Some(row) => [
                text::percent(f64::from(row.confidence)),
                text::percent(calibration.share(&row)),
            ],
            None => {
                let needed = calibration.fewest_pictures(rate);
                match needed > calibration.pictures as u64 {
                    true => too_few.push(format!("{} for {name}", text::count(needed))),
                    false => too_wrong.push(name.clone()),
                }
                ["–".to_owned(), "–".to_owned()]
            }
        };
        abstain.row([vec![name], cells.to_vec()].concat());
    }
    out += &abstain.text(columns());
    if !too_few.is_empty() {
        out += &format!(
            "–: {pictures} pictures cannot support it; without a single wrong answer it would take {}\n",
            too_few.join(", ")
        );
    }
    if !too_wrong.is_empty() {
        out += &format!(
            "–: for {}, even the most confident answers are wrong too often\n",
            too_wrong.join(", ")
        );
    }
    if let Some(limit) = calibration.familiarity {
        out += &format!(
            "unlike anything it learned: beyond a distance of {:.2}, within which {} of the validation pictures are; from {} training pictures in {familiarity_s:.1} s\n",
            limit.threshold,
            text::percent(limit.share),
            text::count(limit.pictures as u64),
        );
    }
    if let Some(reason) = without_familiarity {
        out += &format!("it cannot recognise pictures unlike anything it learned: {reason}\n");
    }
    out
}

//! The arguments of `classify`.

use std::path::PathBuf;

use clap::Args;

use super::abstain::error_rate;
use super::inputs::weights_come_first;
use crate::cli::lists;
use crate::device::DeviceChoice;
use crate::ops::InferencePrecision;

/// Up to this many inputs the work ends before large pages of memory pay off.
const FEW: usize = 16;

/// Name what pictures show.
///
/// Prints the most probable labels of each picture with their probabilities. With weights that `vitrine calibrate`
/// has prepared for it, it also says which pictures are unlike anything they learned.
#[derive(Debug, Args)]
#[command(override_usage = "vitrine classify [OPTIONS] [RUN|WEIGHTS] <INPUT>...")]
pub(in crate::cli) struct ClassifyArgs {
    /// Picture files, folders, globs, named pipes, or - for a picture on standard input. To use your own model,
    /// name its run directory or weights file before them, or a model of another project: its folder, or
    /// hf:OWNER/NAME; default: weights that ship with vitrine.
    #[arg(required_unless_present = "files_from", value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Also classify the pictures named in this file, one a line; - reads the names from standard
    /// input. Answers come as names do.
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,
    /// Names in --files-from end with a NUL byte, as `find -print0` writes them.
    #[arg(short = '0', long, requires = "files_from")]
    pub null: bool,
    /// Run directory, weights file or model of another project, instead of naming it before the inputs.
    #[arg(long, value_name = "RUN|WEIGHTS")]
    pub weights: Option<PathBuf>,
    /// Labels per picture.
    #[arg(long, default_value_t = 5, value_name = "K", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub topk: u32,
    /// Say "not sure" where needed to keep wrong answers below this share, such as 5% or 0.05; the
    /// threshold comes from the validation pictures.
    #[arg(long, value_name = "P", value_parser = error_rate, allow_negative_numbers = true)]
    pub abstain: Option<f64>,
    /// Precision of matrix products: auto, f32, bf16 or int8 (on the CPU). auto is bf16 on a processor that multiplies
    /// it, int8 for weights that were exported with --int8, else f32.
    #[arg(long, default_value = "auto", value_name = "PRECISION")]
    pub precision: InferencePrecision,
    /// Also name the K training pictures that each picture is most like, and the label that they vote for; needs
    /// --neighbours-of.
    #[arg(long, value_name = "K", requires = "neighbours_of", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub neighbours: Option<u32>,
    /// Features of the pictures to look for neighbours in, as `vitrine embed RUN --out FILE.safetensors` writes them;
    /// default of --neighbours: 20.
    #[arg(long, value_name = "FILE")]
    pub neighbours_of: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV: filename,index,label,prob,error; unknown,distance for weights that recognise unknown pictures.
    #[arg(long)]
    pub csv: bool,
    #[arg(
        long,
        default_value = "cpu",
        value_name = "DEVICE",
        help = lists::fill("Device: {devices}; auto uses a GPU if present")
    )]
    pub device: DeviceChoice,
}

impl ClassifyArgs {
    /// Whether there are only a few files, so that the command ends soon.
    pub(in crate::cli) fn are_few(&self) -> bool {
        if self.files_from.is_some() {
            return false;
        }
        let first_are_weights = self.weights.is_none() && weights_come_first(&self.inputs, false);
        let pictures = self
            .inputs
            .get(usize::from(first_are_weights)..)
            .unwrap_or_default();
        pictures.len() <= FEW && pictures.iter().all(|input| !input.is_dir())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn few_are_known_by_their_number_and_no_folder_is_few() {
        let weights = Some(PathBuf::from("weights"));
        let kept = tempfile::tempdir().unwrap();
        let folder = kept.path().to_owned();
        let file = |n: usize| PathBuf::from(format!("{n}.png"));
        let are_few = |weights: &Option<PathBuf>, inputs: Vec<PathBuf>| {
            ClassifyArgs {
                inputs,
                files_from: None,
                null: false,
                weights: weights.clone(),
                topk: 5,
                abstain: None,
                neighbours: None,
                neighbours_of: None,
                precision: InferencePrecision::Auto,
                json: false,
                csv: false,
                device: DeviceChoice::Auto,
            }
            .are_few()
        };
        assert!(are_few(&weights, (0..FEW).map(file).collect()));
        assert!(!are_few(&weights, (0..=FEW).map(file).collect()));
        // The first is the weights where no flag names them, and may be a folder.
        let first = |inputs| [vec![folder.clone()], inputs].concat();
        assert!(are_few(&None, first((0..FEW).map(file).collect())));
        assert!(!are_few(&None, first((0..=FEW).map(file).collect())));
        assert!(!are_few(&None, first(vec![folder.clone()])));
        // Nothing names weights: those that ship answer.
        assert!(are_few(&None, (0..FEW).map(file).collect()));
        assert!(!are_few(&None, (0..=FEW).map(file).collect()));
        assert!(!are_few(&weights, vec![folder.clone()]));
    }
}

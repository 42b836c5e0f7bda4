//! One recipe, one run directory: data, model and trainer together.
//!
//! A [`Plan`] opens the data, once, and holds everything that follows from recipe and data, before
//! anything is written. [`train`] takes a plan to the final results in a [`RunDir`]; [`resume`]
//! continues a run. [`evaluate`], [`calibrate`], [`export`], [`export_onnx`] and [`redraw`] use a finished run.
//! Nothing here prints; progress is reported as [`RunEvent`]s.

mod answer;
mod calibrate;
mod data;
mod devices;
mod dir;
mod embed;
mod error;
mod estimate;
mod evaluate;
mod event;
mod export;
mod export_layout;
mod export_onnx;
mod files;
mod findings;
mod finish;
mod head;
mod hub_weights;
mod info;
mod pictures;
mod plan;
mod probe;
mod redraw;
mod results;
mod start;
mod teacher;
mod train;
mod unknown;

pub use answer::{EvaluateOptions, TtaReport, inference_precision};
pub use calibrate::{Calibrated, calibrate};
pub use devices::Devices;
pub use dir::{RunDir, open_weights};
pub use embed::{
    EmbedEvent, EmbedOptions, EmbedSource, Embedded, embed, feature_files, save_features,
};
pub use error::RunError;
pub use estimate::{Estimate, ProbeEstimate, estimate, estimate_probe};
pub use evaluate::{Evaluated, evaluate};
pub use event::RunEvent;
pub use export::{ExportFormat, Exported, Storage, export};
pub use export_layout::{LayoutExported, export_layout};
pub use export_onnx::{OnnxExported, export_onnx};
pub use findings::{Finding, findings};
pub use finish::Finished;
pub use hub_weights::tell_of_fetches;
pub use pictures::kept_bytes;
pub use plan::Plan;
pub use redraw::{Redrawn, redraw};
pub use start::resolve;
pub use teacher::PlannedTeacher;
pub use train::{resume, train};
pub use unknown::UnknownReport;

pub(crate) use answer::{Answers, answer};
pub(crate) use data::OpenData;
pub(crate) use devices::precision;
pub(crate) use dir::{is_free, next_free};
pub(crate) use export::PICTURES as EXPORT_PICTURES;
pub(crate) use files::write;
pub(crate) use findings::at_chance;
pub(crate) use info::{read as read_info, recorded};
pub(crate) use results::history;

//! vitrine: a Vision Transformer image classifier on Burn.
//!
//! Data moves one way: **files → samples → batch → logits → report**. Read in this order:
//!
//! 1. [`data`]: recognises a data set, decodes its pictures, augments them, makes batches.
//! 2. [`model`]: the Vision Transformer and the CNN baselines, as mathematics; [`ops`]: the
//!    operations they are made of, whose kernels for the processor are a crate of their own.
//! 3. [`train`]: the one training loop, its optimizers and schedule.
//! 4. [`eval`] and [`classify`]: what a trained model says, and how often it is right.
//! 5. [`recipe`], [`run`] and [`report`]: settings in, one run directory out.
//!
//! # Floors
//!
//! Imports go down only (`tests/floors.rs` holds this; the kernel crate is below all of them, and the
//! compiler keeps it from importing anything here):
//!
//! ```text
//! 5  main → cli
//! 4  compare → run → recipe, report
//! 3  train → eval;  classify
//! 2  checkpoint
//! 1  model → ops;  data, hub, metrics, device
//! 0  transfer → stop, whole_file;  setting, random, names, panics
//! ```

pub mod checkpoint;
pub mod classify;
// Help texts write placeholders as <split>.
#[allow(rustdoc::invalid_html_tags)]
#[doc(hidden)]
pub mod cli;
pub(crate) mod compare;
pub mod data;
pub mod device;
pub mod eval;
pub mod hub;
pub mod metrics;
pub mod model;
pub(crate) mod names;
pub mod ops;
pub(crate) mod panics;
pub(crate) mod random;
pub mod recipe;
pub mod report;
pub mod run;
pub mod setting;
pub mod stop;
pub mod train;
pub(crate) mod transfer;
pub mod whole_file;

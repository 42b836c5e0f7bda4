//! Plots, as PNG or SVG by the file's extension, with an embedded font.
//!
//! `figure` writes a drawing to a file and `style` has the colours and the text; each other file is a
//! plot or a part of one.

mod classes;
mod curves;
mod figure;
mod grid;
mod legend;
mod matrix;
mod panel;
mod reliability;
mod style;

pub(crate) use classes::per_class;
pub(crate) use curves::{Curve, compare_curves, results};
pub use figure::PlotError;
pub(crate) use grid::{Cell, Mark, picture_grid};
pub(crate) use matrix::confusion_matrix;
pub(crate) use reliability::reliability;
pub(crate) use style::class_names;

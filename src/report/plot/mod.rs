//! Plots, as PNG or SVG by the file's ending, with a font of our own.
//!
//! `figure` turns what is drawn into a file, `style` has the colours and letters; every other file is
//! one plot or a part of one.

mod classes;
mod curves;
mod figure;
mod grid;
mod matrix;
mod panel;
mod reliability;
mod style;

pub use classes::per_class;
pub use curves::{Curve, compare_curves, results};
pub use figure::PlotError;
pub use grid::{Cell, Mark, picture_grid};
pub use matrix::confusion_matrix;
pub use reliability::reliability;
pub use style::class_names;

//! Results as bytes: text, tables, plots, `results.csv`.

pub mod csv;
pub mod features;
pub(crate) mod plot;
pub(crate) mod text;

pub use csv::CsvError;
pub use plot::PlotError;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A plot.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A table.
    #[error(transparent)]
    Csv(#[from] CsvError),
}

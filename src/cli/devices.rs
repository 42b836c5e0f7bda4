//! `vitrine devices`.

use std::process::ExitCode;

use clap::Args;

use super::say;
use crate::device::{self, DeviceChoice};
use crate::report::text::Table;

/// Tries every device with a small matrix product against the processor's.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Tries one device here.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    device: DeviceChoice,
}

/// Runs the command.
pub fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    let reports = device::survey();
    let auto = device::select(DeviceChoice::Auto)?;
    let missing: Vec<&str> = device::Backend::ALL
        .into_iter()
        .filter(|b| !b.is_compiled())
        .map(device::Backend::name)
        .collect();
    if args.json {
        say(&serde_json::json!({
            "devices": reports,
            "auto": { "name": auto.name, "reason": auto.reason },
            "not_compiled": missing,
        })
        .to_string())?;
        return Ok(());
    }
    let mut table = Table::new(&["device", "adapter", "kind", "check"]);
    for report in &reports {
        table.row(vec![
            report.choice(),
            report.name.clone(),
            report.kind.to_string(),
            match &report.check {
                Ok(check) => format!("ok, {} ms, error {:.1e}", check.elapsed_ms, check.max_abs_error),
                Err(reason) => format!("failed: {reason}"),
            },
        ]);
    }
    say(&table.text())?;
    say(&format!("--device auto takes {} ({})", auto.name, auto.reason))?;
    if !missing.is_empty() {
        say(&format!("not built into this binary: {}", missing.join(", ")))?;
    }
    Ok(())
}

/// The child's side of a check: one line of JSON, whatever happens.
pub fn probe(args: &ProbeArgs) -> ExitCode {
    let result = device::try_here(args.device);
    let failed = result.is_err();
    match serde_json::to_string(&result) {
        Ok(json) if say(&json).is_ok() && !failed => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

//! `vitrine devices`.

use std::ffi::OsStr;

use clap::Args;

use super::output::{columns, say, tell};
use crate::device::{self, AdapterReport, Backend, DeviceChoice};
use crate::ops::precision::instructions;
use crate::report::text::Table;

/// List the devices of this machine and test each.
///
/// Tries each with a small matrix product in a process of its own.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    let reports = device::survey();
    let missing: Vec<&str> = Backend::ALL
        .into_iter()
        .filter(|b| !b.is_compiled())
        .map(Backend::name)
        .collect();
    let auto = automatic(&reports);
    if args.json {
        let devices: Vec<_> = reports.iter().map(json).collect();
        let report = serde_json::json!({
            "devices": devices,
            "auto": auto.map(|report| &report.device),
            "not_compiled": missing,
            "cpu_instructions": instructions(),
        });
        say(&report.to_string())?;
        return Ok(());
    }
    let mut table = Table::new(&["device", "adapter", "kind", "driver", "check"]);
    for report in &reports {
        table.row(vec![
            report.device.clone(),
            report.name.clone(),
            report.kind.to_string(),
            report.driver.clone(),
            match &report.check {
                Ok(check) => format!(
                    "ok, error {:.0e}, {} ms",
                    check.max_abs_error, check.elapsed_ms
                ),
                Err(reason) => format!("failed: {reason}"),
            },
        ]);
    }
    say(&table.text(columns()))?;
    if let Some(report) = auto {
        tell(&format!("--device auto uses {}", report.device))?;
    }
    if let Some(instructions) = instructions() {
        tell(&format!("cpu computes with {instructions}"))?;
    }
    if !missing.is_empty() {
        tell(&format!("not in this build: {}", missing.join(", ")))?;
    }
    Ok(())
}

/// What `auto` uses: the best kind of hardware GPU that passed, with the best backend, which is
/// listed first; else the processor.
fn automatic(reports: &[AdapterReport]) -> Option<&AdapterReport> {
    let passed = || reports.iter().filter(|report| report.check.is_ok());
    passed()
        .filter(|report| report.automatic)
        .min_by_key(|report| report.kind)
        .or_else(|| passed().find(|report| report.kind == device::Kind::Processor))
}

fn json(report: &AdapterReport) -> serde_json::Value {
    let check = report.check.as_ref();
    serde_json::json!({
        "device": report.device,
        "adapter": report.name,
        "kind": report.kind,
        "driver": report.driver,
        "ok": check.is_ok(),
        "max_abs_error": check.ok().map(|c| c.max_abs_error),
        "elapsed_ms": check.ok().map(|c| c.elapsed_ms),
        "reason": check.err(),
    })
}

/// The child's side of a check: one line of JSON, whatever happens.
pub(super) fn probe(device: &OsStr) -> u8 {
    let choice = device.to_string_lossy().parse::<DeviceChoice>();
    let result = choice.map_err(|e| e.to_string()).and_then(device::try_here);
    let failed = result.is_err();
    match serde_json::to_string(&result) {
        Ok(json) if say(&json).is_ok() && !failed => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Check, Kind};

    fn report(device: &str, kind: Kind, automatic: bool, passes: bool) -> AdapterReport {
        AdapterReport {
            device: device.to_owned(),
            kind,
            name: "made up".to_owned(),
            driver: "none".to_owned(),
            automatic,
            check: if passes {
                Ok(Check {
                    name: "made up".to_owned(),
                    max_abs_error: 0.0,
                    elapsed_ms: 1,
                })
            } else {
                Err("it crashed".to_owned())
            },
        }
    }

    #[test]
    fn auto_is_the_best_real_gpu_that_passed() {
        let reports = [
            report("cuda:0", Kind::Discrete, true, false),
            report("vulkan:0", Kind::Integrated, true, true),
            report("wgpu:0", Kind::Discrete, true, true),
            report("wgpu:1", Kind::Software, false, true),
            report("cpu", Kind::Processor, false, true),
        ];
        let device = |reports| automatic(reports).map(|r| r.device.as_str());
        assert_eq!(device(&reports), Some("wgpu:0"));
        assert_eq!(device(&reports[3..]), Some("cpu"));
        assert_eq!(device(&reports[..1]), None);
    }
}

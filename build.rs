//! Records the commit the binary was built from, so that a run directory can name it; sets `gpu`
//! where a feature brings GPUs.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A worktree's lie elsewhere than in .git; a path that is not there would mean building anew every time.
    for part in ["HEAD", "refs/heads"] {
        if let Some(path) = git(&["rev-parse", "--git-path", part])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // Sources that were unpacked inside another repository are none of its commit.
    let is_ours = git(&["rev-parse", "--show-prefix"]).is_some_and(|prefix| prefix.is_empty());
    let commit = is_ours
        .then(|| git(&["rev-parse", "--short=12", "HEAD"]))
        .flatten()
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=VITRINE_COMMIT={commit}");
    println!("cargo::rustc-check-cfg=cfg(gpu)");
    let has = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if ["WGPU", "CUDA", "ROCM"].into_iter().any(has) {
        println!("cargo::rustc-cfg=gpu");
    }
}

/// What git says in the package's folder, if it can.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

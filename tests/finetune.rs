//! Fine-tuning takes the updates that timm takes: the same start, the same batches, the same losses.
//! `tests/support/foreign/finetune.py` wrote the fixture.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use burn::tensor::Device;

#[path = "../examples/updates.rs"]
mod updates;

#[test]
fn every_update_is_as_timms() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/finetune");
    let updates::Runs { optimizer, runs } = updates::settings(&folder).unwrap();
    let decays: Vec<f64> = runs.iter().map(|run| run.layer_decay).collect();
    assert_eq!(decays, [1.0, 0.75]);
    for run in &runs {
        let found = updates::losses(&folder, &optimizer, run, &Device::flex()).unwrap();
        assert_eq!(found.len(), 20);
        for (update, (ours, theirs)) in found.iter().zip(&run.losses).enumerate() {
            assert!(
                (ours - theirs).abs() <= 1e-4 * theirs,
                "layer decay {}, update {update}: {ours}, timm {theirs}",
                run.layer_decay
            );
        }
        // It has learned, so that an update that differs shows.
        assert!(run.losses[19] < 0.7 * run.losses[1], "{:?}", run.losses);
    }
    // So does layer-wise decay.
    let pairs = runs[0].losses.iter().zip(&runs[1].losses);
    let apart = pairs.map(|(flat, decayed)| (flat - decayed).abs() / flat);
    assert!(apart.fold(0.0, f64::max) > 0.02);
}

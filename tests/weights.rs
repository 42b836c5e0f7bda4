//! What the real binary does with finished weights: calibrate them, abstain by them.
#![allow(clippy::unwrap_used)]

// Each test file uses its own part of what the support offers.
#[allow(dead_code)]
mod support;

use std::fs;
use std::sync::OnceLock;

use support::{Place, Said, picture, png};

/// A model that trains in milliseconds.
const TINY: &str = "--image-size 16 --steps 2 -b 8 --device cpu --set model.depth=2 \
    --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16";

/// `pets`, two classes of 20 pictures, and `run`, trained on half of it; nothing that a test does
/// may change them.
fn trained() -> &'static Place {
    static TRAINED: OnceLock<Place> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let place = Place::lasting("weights");
        place.pictures("pets", &["cat", "dog"], 20);
        place
            .run(&format!(
                "train --data pets --out run --val-fraction 0.4 {TINY}"
            ))
            .ok();
        place
    })
}

/// A copy of the trained run, and of its data, in a place of its own.
fn copy() -> Place {
    let from = trained();
    let place = Place::new();
    for name in from.listing(".") {
        let path = from.path(&name);
        if path.is_file() {
            place.write(&name, fs::read(path).unwrap());
        }
    }
    place
}

/// A failure, exit code 1, with exactly this message at the end of stderr.
#[track_caller]
fn fails(said: &Said, message: &str) {
    let told = said.err.split_once("error: ").map(|(_, told)| told.trim());
    assert_eq!(told, Some(message), "{said:#?}");
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:#?}");
}

const FILES: [&str; 2] = [
    "run/weights/best.safetensors",
    "run/weights/last.safetensors",
];

#[test]
fn a_calibration_is_kept_with_the_weights() {
    let place = copy();
    let read = || FILES.map(|file| fs::read(place.path(file)).unwrap());
    let raw = read();
    let classify = |flags: &str| place.run(&format!("classify run pets/cat/00.png {flags}"));
    fails(
        &classify("--abstain 5%"),
        "--abstain needs calibrated weights, and run is not: run `vitrine calibrate run` first",
    );
    let said = place.run("calibrate run --device cpu --json").ok();
    let told = said.json();
    let calibrated = read();
    for (i, file) in FILES.into_iter().enumerate() {
        assert_eq!(told[i]["weights"], file);
        assert_eq!(told[i]["calibration"]["pictures"], 16);
        assert_ne!(raw[i], calibrated[i]);
        let before = &told[i]["calibration"]["before"]["nll"];
        let after = &told[i]["calibration"]["after"]["nll"];
        assert!(after.as_f64() <= before.as_f64(), "{told}");
    }
    // It starts from the logits, not from the last temperature.
    place.run("calibrate run --device cpu").ok();
    assert_eq!(read(), calibrated);

    // What eval says of validation is what was measured when the temperature was fitted.
    let eval = place.run("eval run --split val --json --device cpu").ok();
    assert_eq!(eval.json()["temperature"], told[0]["temperature"]);
    assert_eq!(eval.json()["loss"], told[0]["calibration"]["after"]["nll"]);
    assert_eq!(eval.json()["ece"], told[0]["calibration"]["after"]["ece"]);
    assert!(
        eval.err.contains(", fitted on 16 validation pictures\n"),
        "{eval:#?}"
    );
    // Neither calibration nor evaluation opens the test split.
    assert!(!place.path("run/eval-test").exists());

    fails(
        &classify("--abstain 0.1%"),
        "--abstain 0.1%: no confidence keeps so few answers wrong for certain, judged by 16 validation pictures; accept more errors, or calibrate on more pictures",
    );
}

#[test]
fn below_its_threshold_a_model_is_not_sure() {
    let place = copy();
    let told = place.run("calibrate run --device cpu --json").ok().json();
    let rows = told[0]["calibration"]["coverage"]
        .as_array()
        .unwrap()
        .clone();
    let json = place.run("classify run pets --abstain 0.9 --json").ok();
    assert!(
        json.err
            .contains("at most 90% of the answers wrong, with 95% confidence; "),
        "{json:#?}"
    );
    let json = json.json();
    let pictures = json.as_array().unwrap();
    assert_eq!(pictures.len(), 40);
    let threshold = pictures[0]["threshold"].clone();
    assert!(rows.iter().any(|row| row[0] == threshold), "{threshold}");
    for one in pictures {
        let score = one["predictions"][0]["score"].as_f64();
        assert_eq!(one["not_sure"], score < threshold.as_f64(), "{one}");
    }
    let unsure = pictures.iter().filter(|one| one["not_sure"] == true);
    let unsure = unsure.count();
    let plain = place.run("classify run pets --abstain 90%").ok();
    assert_eq!(plain.out.matches("\n  not sure\n").count(), unsure);
    let csv = place.run("classify run pets --abstain 90% --csv").ok();
    assert_eq!(csv.out.matches(",,not sure,0.").count(), unsure);
    assert_eq!(csv.out.lines().count(), 1 + 2 * (40 - unsure) + unsure);
    // Without the flag nothing changes.
    let without = place.run("classify run pets --json").ok().json();
    assert!(without[0].get("not_sure").is_none() && without[0].get("threshold").is_none());
}

#[test]
fn a_calibration_without_held_out_pictures_is_refused() {
    let place = copy();
    place.write("best.safetensors", fs::read(place.path(FILES[0])).unwrap());
    for i in 0..3 {
        for split in ["train", "val"] {
            for class in ["cat", "dog"] {
                let name = format!("split/{split}/{class}/{i}.png");
                place.write(&name, png(&picture(16, 16, i + split.len() as u32)));
            }
        }
    }
    fails(
        &place.run("calibrate best.safetensors --device cpu"),
        "best.safetensors is a bare weights file: name its run directory, which knows its validation split, or a data set with one with --data",
    );
    fails(
        &place.run("calibrate best.safetensors --data pets --device cpu"),
        "pets has no validation split, and a temperature is fitted on nothing else; name the run directory, which keeps the one it was trained with, or data that has a val folder",
    );
    let before = fs::read(place.path("best.safetensors")).unwrap();
    let said = place
        .run("calibrate best.safetensors --data split --device cpu")
        .ok();
    assert!(
        said.out.starts_with("best.safetensors: temperature "),
        "{said:#?}"
    );
    assert_ne!(fs::read(place.path("best.safetensors")).unwrap(), before);
    for rate in ["0", "100%", "-0.05", "few"] {
        let said = place.run(&format!("classify run pets --abstain {rate}"));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:#?}");
        let start = format!("error: invalid value '{rate}' for '--abstain <P>': expected a share");
        assert!(said.err.starts_with(&start), "{said:#?}");
    }
}

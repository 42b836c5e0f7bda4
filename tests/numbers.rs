//! Numbers that files claim, and numbers that come out of weights: too large, too many, or none at all.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::OnceLock;

use serde_json::Value;
use support::{Place, Said, picture, png};
use vitrine::checkpoint::{HostTensor, WeightsMeta, host_tensors, load_weights, write_tensors};
use vitrine::metrics::{Calibration, Figures, Threshold, WHOLE};

/// A model that trains in milliseconds.
const TINY: &str = "--image-size 16 --steps 2 -b 8 --device cpu --set model.depth=1 \
    --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16";

const BEST: &str = "run/weights/best.safetensors";

/// `pets`, two classes of 20 pictures, and `run`, trained on most of it.
fn trained() -> Place {
    static TRAINED: OnceLock<Place> = OnceLock::new();
    let from = TRAINED.get_or_init(|| {
        let place = Place::lasting("numbers");
        place.pictures("pets", &["cat", "dog"], 20);
        place
            .run(&format!("train --data pets --out run {TINY}"))
            .ok();
        place
    });
    from.copied()
}

/// Writes `name`, the best weights with a change, whole and with the hash of what they hold.
fn change(place: &Place, name: &str, change: impl FnOnce(&mut WeightsMeta, &mut Vec<HostTensor>)) {
    let device = vitrine::device::select("cpu".parse().unwrap())
        .unwrap()
        .device;
    let weights = load_weights(&place.path(BEST), &device).unwrap();
    let (mut meta, mut tensors) = (weights.meta, host_tensors(&weights.model));
    change(&mut meta, &mut tensors);
    write_tensors(&place.path(name), &tensors, &meta).unwrap();
}

/// Finite weights whose logits are not.
fn overflow(_: &mut WeightsMeta, tensors: &mut Vec<HostTensor>) {
    for (name, _, values) in tensors {
        if name.contains("head") {
            for (i, value) in values.iter_mut().enumerate() {
                *value = if i % 2 == 0 { 3e38 } else { -3e38 };
            }
        }
    }
}

/// Nobody is told what is not a number.
fn says_no_number(said: &Said) {
    let text = said.out.clone() + &said.err;
    assert_ne!(said.code, 0, "{said:#?}");
    assert!(!text.contains("NaN") && !text.contains("null"), "{said:#?}");
    assert!(text.contains("logits that are not numbers"), "{said:#?}");
}

#[test]
fn weights_whose_logits_are_not_numbers_give_no_answer() {
    let place = trained();
    place.write("a.png", png(&picture(16, 16, 3)));
    let whole = fs::read(place.path(BEST)).unwrap();
    change(&place, "overflow.safetensors", overflow);
    // Pictures become infinite before the first layer sees them.
    change(&place, "std.safetensors", |meta, _| {
        meta.preprocess.std = [1e-42; 3];
    });
    for weights in ["overflow.safetensors", "std.safetensors"] {
        for format in ["", "--json", "--csv"] {
            let said = place.run(&format!("classify {weights} a.png {format}"));
            says_no_number(&said);
            assert!(said.err.contains("1 of 1 could not be classified"));
        }
        for flags in ["", "--half"] {
            says_no_number(&place.run(&format!("export {weights} out.safetensors {flags}")));
            assert!(!place.path("out.safetensors").exists());
        }
        fs::copy(place.path(weights), place.path(BEST)).unwrap();
        for name in place.listing("run") {
            let path = place.path(&format!("run/{name}"));
            if path.is_file() {
                place.write(&format!("other/{name}"), fs::read(path).unwrap());
            }
        }
        for line in [
            "eval run --json",
            "eval run --tta",
            "eval run",
            "calibrate run",
            "calibrate run --json",
            "compare run other --out both",
        ] {
            says_no_number(&place.run(line));
        }
        fs::write(place.path(BEST), &whole).unwrap();
    }
}

#[test]
fn weights_that_claim_what_cannot_be_are_refused_by_key() {
    let place = trained();
    let figures = Figures { nll: 0.5, ece: 0.1 };
    let claim = |pictures, (confidence, answered, wrong): (f32, u64, u64)| Calibration {
        data: "pets".into(),
        pictures,
        before: figures,
        after: figures,
        on_folds: None,
        coverage: vec![Threshold {
            confidence,
            answered,
            wrong,
        }],
        familiarity: None,
    };
    type Claim<'a> = Box<dyn Fn(&mut WeightsMeta) + 'a>;
    let calibrated = |calibration: Calibration| -> Claim {
        Box::new(move |meta| meta.calibration = Some(calibration.clone()))
    };
    let claims: [(Claim, &str); 5] = [
        (
            calibrated(claim(10, (0.9, 1 << 61, 1 << 59))),
            "more answers than pictures",
        ),
        (
            calibrated(claim(1 << 61, (0.9, 1 << 61, 1 << 59))),
            "calibration.pictures is 2305843009213693952, expected at most 1000000000",
        ),
        (
            calibrated(claim(10, (7.0, 9, 1))),
            "expected a confidence from 0 to 1",
        ),
        (
            Box::new(|meta| meta.val_top1 = Some(1e300)),
            "a val_top1 of 1e300",
        ),
        (
            Box::new(|meta| meta.preprocess.image_size = 1 << 40),
            "preprocess.image_size is 1099511627776: expected 1 to 4096",
        ),
    ];
    for (claim, reason) in claims {
        change(&place, "claim.safetensors", |meta, _| claim(meta));
        for line in [
            "classify claim.safetensors pets/cat/00.png --abstain 30%",
            "export claim.safetensors out.safetensors",
        ] {
            let said = place.run(line);
            assert!(said.code == 1 && said.err.contains(reason), "{said:#?}");
            assert!(said.err.contains("error: claim.safetensors"), "{said:#?}");
        }
    }
    // What can be is answered at once, however many pictures it is of.
    let most = 1_000_000_000;
    change(&place, "most.safetensors", |meta, _| {
        meta.calibration = Some(claim(most as usize, (0.25, most, most / 4)));
    });
    let said = place.run("classify most.safetensors pets/cat/00.png --abstain 30%");
    assert!(said.ok().err.contains("of 1000000000 validation pictures"));
}

/// The table with other values in a column.
fn with_column(table: &str, column: &str, values: &[&str]) -> String {
    let mut lines = table.lines();
    let head = lines.next().unwrap();
    let at = head.split(',').position(|name| name == column).unwrap();
    let row = lines.next().unwrap();
    let rows = values.iter().map(|value| {
        let mut cells: Vec<&str> = row.split(',').collect();
        cells[at] = value;
        cells.join(",") + "\n"
    });
    format!("{head}\n{}", rows.collect::<String>())
}

#[test]
fn any_numbers_of_a_table_are_drawn_or_refused_by_row() {
    let place = trained();
    let table = place.read("run/results.csv");
    let drawn = [
        ("train/loss", ["1e308", "-1e308"]),
        ("val/loss", ["-1.7976931348623157e308", "5e-324"]),
        ("metrics/accuracy_top1", ["NaN", "inf"]),
        ("lr/pg0", ["1000000000000000", "1000000000000000.125"]),
        ("train/images_per_s", ["1e308", "0"]),
    ];
    for (column, values) in drawn {
        place.write("run/results.csv", with_column(&table, column, &values));
        place.run("plot run run --format svg").ok();
    }
    for (column, value) in [
        ("epoch", "1e308"),
        ("time", "-inf"),
        ("train/share", "1e308"),
    ] {
        place.write(
            "run/results.csv",
            with_column(&table, column, &["1", value]),
        );
        let said = place.run("plot run");
        let reason =
            format!("run/results.csv: row 2 has {column} {value}, expected a number from 0");
        assert!(said.code == 1 && said.err.contains(&reason), "{said:#?}");
    }
}

#[test]
fn metrics_that_contradict_themselves_are_refused_before_anything_of_them_is_drawn() {
    let place = trained();
    let metrics: Value = serde_json::from_str(&place.read("run/metrics.json")).unwrap();
    let before = fs::read(place.path("run/confusion_matrix.png")).unwrap();
    type Edit = fn(&mut Value);
    let edits: [(Edit, &str); 6] = [
        (
            |m| m["confusion"] = serde_json::json!([[1], [1, 1]]),
            "row 1 of confusion has 1 counts",
        ),
        (
            |m| m["confusion"] = serde_json::json!([]),
            "confusion is of 0 classes, expected the 2",
        ),
        (
            |m| m["confusion"][0][0] = u64::MAX.into(),
            "confusion does not count",
        ),
        (
            |m| m["reliability"][0]["lo"] = (-1e308).into(),
            "reliability.lo is -1e308",
        ),
        (
            |m| m["per_class"][1]["recall"] = 1e308.into(),
            "per_class.recall is 1e308",
        ),
        (
            |m| m["reliability"][0]["count"] = u64::MAX.into(),
            "a count is 18446744073709551615",
        ),
    ];
    for (edit, reason) in edits {
        let mut changed = metrics.clone();
        for split in ["val", "test"] {
            if changed[split].is_object() {
                edit(&mut changed[split]);
            }
        }
        place.write("run/metrics.json", changed.to_string());
        let said = place.run("plot run");
        assert!(said.code == 1 && said.err.contains(reason), "{said:#?}");
        assert!(said.err.contains("error: run/metrics.json: "), "{said:#?}");
        assert_eq!(
            fs::read(place.path("run/confusion_matrix.png")).unwrap(),
            before
        );
    }
}

#[test]
fn past_a_thousand_classes_only_what_was_counted_is_written_and_the_worst_is_drawn() {
    let place = trained();
    let count = WHOLE + 500;
    change(&place, BEST, |meta, tensors| {
        let (cat, dog) = (meta.classes[0].clone(), meta.classes[1].clone());
        // A name that a spreadsheet would compute, and one that no plot has room for.
        meta.classes = (0..count).map(|i| format!("c{i:04}")).collect();
        meta.classes[0] = cat;
        meta.classes[1] = dog;
        meta.classes[2] = "=1+1".into();
        meta.classes[3] = "long ".repeat(12_000);
        let json = serde_json::to_value(&meta.model).unwrap().to_string();
        let json = json.replace(r#""num_classes":2"#, &format!(r#""num_classes":{count}"#));
        meta.model = serde_json::from_str(&json).unwrap();
        for (name, shape, values) in tensors {
            if name.contains("head") {
                *shape.last_mut().unwrap() = count;
                let rows = shape.iter().product::<usize>() / count;
                *values = vec![0.0; rows * count];
                if rows == 1 {
                    (values[2], values[3]) = (1.0, 0.5);
                }
            }
        }
    });
    fs::copy(place.path(BEST), place.path("many.safetensors")).unwrap();
    let start = std::time::Instant::now();
    place
        .run("eval many.safetensors --data pets --split train --out out")
        .ok();
    assert!(start.elapsed().as_secs_f64() < 100.0);
    let size = |name: &str| fs::metadata(place.path(name)).unwrap().len();
    // Whole, these would be of 2.25 million cells.
    assert!(size("out/metrics.json") < 1 << 20 && size("out/confusion_matrix.csv") < 1000);
    let metrics: Value = serde_json::from_str(&place.read("out/metrics.json")).unwrap();
    assert!(metrics["train"].get("confusion").is_none());
    assert_eq!(
        metrics["train"]["confusion_cells"],
        serde_json::json!({ "classes": count, "cells": [[0, 2, 20], [1, 2, 20]] })
    );
    assert_eq!(
        place.read("out/confusion_matrix.csv"),
        "true,predicted,pictures\ncat,'=1+1,20\ndog,'=1+1,20\n"
    );
    let plot = image::open(place.path("out/confusion_matrix.png")).unwrap();
    assert!(plot.width() < 2200 && plot.height() < 2200);
    // It reads back, and its plots are drawn again.
    fs::copy(place.path("out/metrics.json"), place.path("metrics.json")).unwrap();
    let test = place
        .read("metrics.json")
        .replacen(r#""train""#, r#""test""#, 1);
    place.write("run/metrics.json", test);
    place.run("plot run --format svg");
    let svg = place.read("run/confusion_matrix.svg");
    assert!(
        svg.contains("the 50 worst of 1,500 classes"),
        "{}",
        &svg[..500]
    );
    assert!(
        place
            .read("run/per_class.svg")
            .contains("worst of 1,500 classes")
    );
}

#[test]
fn a_table_of_answers_is_no_formula() {
    let place = trained();
    change(&place, "named.safetensors", |meta, _| {
        meta.classes = ["=cmd|'/C calc'!A0", "@SUM(1)"].map(str::to_owned).to_vec();
    });
    for name in ["-x.png", "+y.png", "=z.png"] {
        place.write(name, png(&picture(16, 16, 5)));
    }
    let said = place.run("classify named.safetensors ./-x.png ./+y.png ./=z.png --csv");
    for line in said.ok().out.lines().skip(1) {
        for cell in line.split(',').filter(|cell| !cell.is_empty()) {
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{line}");
        }
    }
    place.write("list", "-x.png\n+y.png\n");
    let said = place.run("classify named.safetensors --files-from list --csv --topk 1");
    let out = said.ok().out;
    assert!(
        out.contains("\n'-x.png,") && out.contains("\n'+y.png,"),
        "{out}"
    );
    let said = place.run("classify named.safetensors --files-from list --json --topk 1");
    assert_eq!(said.ok().json()[0]["filename"], "-x.png");
}

#[test]
fn a_run_without_weights_that_answer_says_so_and_keeps_the_plots_it_has() {
    let place = trained();
    change(&place, BEST, overflow);
    let said = place.run("plot run");
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.err.contains("run: no predictions: "), "{said:#?}");
    assert!(
        said.err.contains("logits that are not numbers"),
        "{said:#?}"
    );
}

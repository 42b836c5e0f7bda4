//! Pictures unlike anything that was learned: recognised by `classify`, measured by `eval --unknown`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::OnceLock;

use support::{Place, fails, picture, png, tar};
use vitrine::checkpoint::Features;

/// Pictures of one colour with stripes, of which `seed` makes different ones.
fn striped(red: u8, seed: u32) -> Vec<u8> {
    let mut one = picture(16, 16, 7 * seed + u32::from(red));
    one.pixels_mut().for_each(|p| p.0[0] = red);
    png(&one)
}

/// Pictures of random pixels.
fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    png(&image::RgbImage::from_fn(16, 16, |_, _| {
        image::Rgb([next(), next(), next()])
    }))
}

/// `data`, two classes that a colour tells apart, `noise`, and `run`, a probe on the features of weights that ship.
fn trained() -> &'static Place {
    static TRAINED: OnceLock<Place> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let place = Place::lasting("unknown");
        for (split, count) in [("train", 30), ("val", 20), ("test", 20)] {
            for (class, red) in [("cold", 30), ("warm", 220)] {
                for i in 0..count {
                    let seed = i + 100 * split.len() as u32;
                    let name = format!("data/{split}/{class}/{i}.png");
                    place.write(&name, striped(red, seed));
                }
            }
        }
        for i in 0..12 {
            place.write(&format!("noise/{}/{i}.png", i % 3), noise(i));
        }
        place
            .run("train --probe --init cifar10-vit --data data --device cpu --out run")
            .ok();
        place
    })
}

/// A copy of all of it in a place of its own.
fn copy() -> Place {
    trained().copied()
}

const BEST: &str = "run/weights/best.safetensors";

#[test]
fn a_calibrated_model_recognises_what_it_never_saw() {
    let place = copy();
    let classify = |flags: &str| {
        place
            .run(&format!("classify run noise data/test {flags}"))
            .ok()
    };
    // Weights without statistics say nothing of it.
    let before = classify("--json").json();
    assert!(before[0].get("unknown").is_none() && before[0].get("distance").is_none());
    let table = classify("--csv").out;
    assert!(table.starts_with("filename,index,label,prob,error\n"));
    fails(
        &place.run("eval run --unknown noise --device cpu"),
        "run has no statistics of the features of its training pictures: `vitrine calibrate run` makes them",
    );

    let told = place.run("calibrate run --device cpu").ok();
    assert!(
        told.out
            .contains("\nunlike anything it learned: beyond a distance of "),
        "{told:#?}"
    );
    assert!(told.out.contains("; from 60 training pictures in "));
    // Twice gives the same bytes, on any number of threads.
    let calibrated = fs::read(place.path(BEST)).unwrap();
    let again = place.run("calibrate run --device cpu --threads 1 --json");
    assert!(fs::read(place.path(BEST)).unwrap() == calibrated);
    let limit = &again.ok().json()[0]["calibration"]["familiarity"];
    assert_eq!(limit["pictures"], 60);
    assert!(limit["share"].as_f64().unwrap() >= 0.95, "{limit}");

    let json = classify("--json").json();
    let all = json.as_array().unwrap();
    assert_eq!(all.len(), 12 + 40);
    let unknown = |one: &serde_json::Value| one["unknown"] == true;
    for one in all {
        let distance = one["distance"].as_f64().unwrap();
        assert_eq!(unknown(one), distance > 1.0, "{one}");
    }
    assert!(all[..12].iter().all(unknown), "{json}");
    let flagged = all[12..].iter().filter(|one| unknown(one)).count();
    assert!(flagged <= 8, "{flagged} of 40");
    // The answers themselves are what they were.
    for (one, before) in all.iter().zip(before.as_array().unwrap()) {
        let labels = [one, before].map(|one| one["predictions"][0]["label"].clone());
        assert_eq!(labels[0], labels[1]);
    }
    let text = classify("--topk 1").out;
    let lines = text
        .matches("\n  unlike anything it learned (distance ")
        .count();
    assert_eq!(lines, 12 + flagged);
    let table = place
        .run("classify run noise nowhere.png --csv --topk 1")
        .out;
    let mut rows = table.lines();
    assert_eq!(
        rows.next().unwrap(),
        "filename,index,label,prob,error,unknown,distance"
    );
    let distance = format!(",,true,{:.6}", all[0]["distance"].as_f64().unwrap());
    assert!(rows.next().unwrap().ends_with(&distance), "{table}");
    assert!(rows.last().unwrap().ends_with("no such file or folder,,"));
    let told = place.run("weights show run").ok().out;
    assert!(told.contains(", calibrated, recognises pictures unlike anything it learned"));
    let told = place.run("classify run noise/0/0.png --abstain 50%").ok();
    assert!(
        told.err
            .contains("not covered, and only some of them are called"),
        "{told:#?}"
    );
}

/// Features that `vitrine embed` wrote.
fn features(place: &Place, line: &str) -> Features {
    let name = format!("{}.safetensors", line.len());
    place
        .run(&format!("embed run {line} --device cpu --out {name}"))
        .ok();
    Features::open(&place.path(&name)).unwrap()
}

/// Distances of rows from the nearest class mean, and that within which 95 % of validation are, worked out
/// anew from features: the covariance is inverted by Gauss and Jordan.
fn distances(place: &Place, of: &[&Features]) -> (Vec<Vec<f64>>, f64) {
    let train = features(place, "--data data --split train");
    let val = features(place, "--data data --split val");
    let width = train.about.width;
    let labels = train.labels.as_ref().unwrap();
    let wide = |row: &[f32]| -> Vec<f64> { row.iter().copied().map(f64::from).collect() };
    let means: Vec<Vec<f64>> = (0..2)
        .map(|class| {
            let rows = train.rows().zip(labels).filter(|(_, l)| **l == class);
            let rows: Vec<Vec<f64>> = rows.map(|(row, _)| wide(row)).collect();
            (0..width)
                .map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64)
                .collect()
        })
        .collect();
    let less = |row: &[f64], mean: &[f64]| -> Vec<f64> {
        row.iter().zip(mean).map(|(x, m)| x - m).collect()
    };
    // [Σ | 1], then [1 | Σ⁻¹].
    let mut matrix = vec![vec![0.0; 2 * width]; width];
    for (row, &label) in train.rows().zip(labels) {
        let centred = less(&wide(row), &means[label]);
        for (sums, x) in matrix.iter_mut().zip(&centred) {
            for (sum, y) in sums.iter_mut().zip(&centred) {
                *sum += x * y / labels.len() as f64;
            }
        }
    }
    let ridge = 1e-3 * (0..width).map(|i| matrix[i][i]).sum::<f64>() / width as f64;
    for (i, row) in matrix.iter_mut().enumerate() {
        row[i] += ridge;
        row[width + i] = 1.0;
    }
    for i in 0..width {
        let pivot = matrix[i][i];
        matrix[i].iter_mut().for_each(|x| *x /= pivot);
        let row = matrix[i].clone();
        for (j, other) in matrix.iter_mut().enumerate() {
            if j != i {
                let factor = other[i];
                other
                    .iter_mut()
                    .zip(&row)
                    .for_each(|(x, y)| *x -= factor * y);
            }
        }
    }
    let distance = |row: &[f32]| {
        let of_means = means.iter().map(|mean| {
            let centred = less(&wide(row), mean);
            let square = |i: usize| -> f64 {
                let inverse = &matrix[i][width..];
                let products = inverse.iter().zip(&centred).map(|(a, b)| a * b);
                centred[i] * products.sum::<f64>()
            };
            (0..width).map(square).sum::<f64>().sqrt()
        });
        of_means.fold(f64::INFINITY, f64::min)
    };
    let mut of_val: Vec<f64> = val.rows().map(distance).collect();
    of_val.sort_by(f64::total_cmp);
    let limit = of_val[(of_val.len() * 95).div_ceil(100) - 1];
    let all = of.iter().map(|of| of.rows().map(distance).collect());
    (all.collect(), limit)
}

#[test]
fn the_figures_of_eval_are_those_worked_out_from_features() {
    let place = copy();
    place.run("calibrate run --device cpu").ok();
    // Pictures near the known ones too, so that some are mistaken for them.
    for i in 0..8 {
        place.write(&format!("mixed/{i}.png"), striped(60 + 15 * i as u8, i));
        place.write(&format!("mixed/{}.png", 100 + i), noise(i));
    }
    let known = features(&place, "--data data --split test");
    let unknown = features(&place, "mixed");
    let (found, limit) = distances(&place, &[&known, &unknown]);
    let (known, unknown) = (&found[0], &found[1]);
    let pairs = unknown
        .iter()
        .flat_map(|u| known.iter().map(move |k| (u, k)));
    let farther = pairs.filter(|(u, k)| u > k).count();
    let auroc = farther as f64 / (known.len() * unknown.len()) as f64;
    let mut sorted = known.clone();
    sorted.sort_by(f64::total_cmp);
    let share = |of: &[f64], beyond: f64| {
        of.iter().filter(|d| **d > beyond).count() as f64 / of.len() as f64
    };
    let fpr95 = 1.0 - share(unknown, sorted[37]);

    let said = place
        .run("eval run --unknown mixed --json --device cpu")
        .ok();
    let told = &said.json()["unknown"];
    assert_eq!((&told["known"], &told["unknown"]), (&40.into(), &16.into()));
    assert_eq!(told["data"], "mixed");
    let close = |key: &str, expected: f64| {
        let found = told[key].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-9, "{key} {expected}: {told}");
    };
    assert!(auroc > 0.5 && auroc < 1.0, "{auroc}");
    close("auroc", auroc);
    close("fpr95", fpr95);
    close("flagged_known", share(known, limit));
    close("flagged_unknown", share(unknown, limit));
    // The file has the same, and the plots are drawn again beside it.
    let file: serde_json::Value =
        serde_json::from_str(&place.read("run/eval-test/metrics.json")).unwrap();
    assert_eq!(&file["unknown"], told);
    assert!(file["test"]["top1"].is_number());
    // An archive of them, the folders of which are no classes here.
    let files = (0..16).map(|i| {
        let name = if i < 8 { i } else { 92 + i };
        let bytes = fs::read(place.path(&format!("mixed/{name}.png"))).unwrap();
        (format!("{}/{name}.png", ["a", "b"][i % 2]), bytes)
    });
    place.write("mixed.tar", tar(&files.collect::<Vec<_>>()));
    let said = place.run("eval run --unknown mixed.tar --device cpu").ok();
    let line =
        format!("16 pictures of mixed.tar against those of the test split: AUROC {auroc:.4}; ");
    assert!(said.out.contains(&line), "{}", said.out);
    // What cannot be read is named, and none of it is no figure.
    place.write("bad/a.png", "not a picture");
    let said = place.run("eval run --unknown bad --device cpu");
    let told = "error: bad: none of its 1 pictures can be read; the first: bad/a.png: ";
    assert!(said.code == 1 && said.err.contains(told), "{said:#?}");
    place.write("mixed/broken.png", "not a picture");
    let said = place.run("eval run --unknown mixed --device cpu").ok();
    assert!(said.err.contains("skipped mixed/broken.png: "), "{said:#?}");
    let said = place.run("eval run --unknown mixed --strict --device cpu");
    assert!(said.code == 1 && said.err.contains("mixed/broken.png"));
}

#[test]
fn without_training_pictures_there_is_a_temperature_alone() {
    let place = copy();
    fs::copy(place.path(BEST), place.path("bare.safetensors")).unwrap();
    for class in ["cold", "warm"] {
        for i in 0..10 {
            let from = place.path(&format!("data/val/{class}/{i}.png"));
            place.write(
                &format!("held/val/{class}/{i}.png"),
                fs::read(from).unwrap(),
            );
        }
    }
    let said = place.run("calibrate bare.safetensors --data held --device cpu");
    let told = "\nit cannot recognise pictures unlike anything it learned: held has no train split; it has val\n";
    assert!(said.clone().ok().out.contains(told), "{said:#?}");
    fails(
        &place.run("eval bare.safetensors --data held --unknown noise --device cpu"),
        "bare.safetensors has no statistics of the features of its training pictures: `vitrine calibrate bare.safetensors --data DATA` makes them, where DATA has a train and a val split",
    );
    fails(
        &place.run("eval cifar10-vit --data held --unknown noise --device cpu"),
        "cifar10-vit has no statistics of the features of its training pictures: `vitrine export cifar10-vit OUT.safetensors` makes a copy, and `vitrine calibrate OUT.safetensors --data DATA` makes them, where DATA has a train and a val split",
    );
    // With them it can, and without them once more it cannot.
    let with = "calibrate bare.safetensors --data data --device cpu";
    place.run(with).ok();
    let found = place
        .run("classify bare.safetensors noise/0/0.png --json")
        .ok();
    assert_eq!(found.json()[0]["unknown"], true);
    place
        .run("calibrate bare.safetensors --data held --device cpu")
        .ok();
    let found = place
        .run("classify bare.safetensors noise/0/0.png --json")
        .ok();
    assert!(found.json()[0].get("unknown").is_none());
}

#[test]
fn copies_recognise_the_same_pictures_and_other_formats_say_that_they_do_not() {
    let place = copy();
    place.run("calibrate run --device cpu").ok();
    let distances = |weights: &str| -> Vec<f64> {
        let said = place
            .run(&format!("classify {weights} noise data/test --json"))
            .ok();
        let said = said.json();
        let all = said.as_array().unwrap().iter();
        all.map(|one| one["distance"].as_f64().unwrap()).collect()
    };
    let whole = distances("run");
    for flag in ["", "--half", "--int8"] {
        let copy = format!("copy{flag}.safetensors");
        place.run(&format!("export run {copy} {flag}")).ok();
        let found = distances(&copy);
        // Statistics are copied whole; in eight bits the features themselves are others.
        let most = [0.0, 0.02][usize::from(flag == "--half")];
        let same = |(a, b): (&f64, &f64)| (a - b).abs() <= most * a;
        assert!(
            flag == "--int8" || whole.iter().zip(&found).all(same),
            "{flag}: {found:?}"
        );
        assert!(
            found[..12].iter().all(|distance| *distance > 1.0),
            "{flag}: {found:?}"
        );
    }
    let note = "note: what recognises pictures unlike anything it learned is not in it\n";
    // timm has no stem of convolutions.
    place
        .run("train --data data --image-size 16 --steps 1 -b 4 --device cpu --set model.stem=linear --out linear")
        .ok();
    place.run("calibrate linear --device cpu").ok();
    for line in ["export run run.onnx", "export linear folder --layout timm"] {
        let said = place.run(line).ok();
        assert!(said.err.contains(note), "{said:#?}");
    }
    // A training that starts from them leaves the statistics where they are.
    place
        .run("train --init linear --data data --steps 1 -b 4 --device cpu --out b")
        .ok();
    let found = place.run("classify b noise/0/0.png --json").ok().json();
    assert!(found[0].get("unknown").is_none());
}

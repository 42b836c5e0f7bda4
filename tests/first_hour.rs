//! What a new user is told: what a training came to, why its accuracy is low, what a comparison compares, and what it
//! all would cost.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use support::{Place, Said, picture, png};

/// A model of a few hundred weights.
const TINY: &str = "--image-size 16 -b 8 --device cpu --set model.depth=1 --set model.embed_dim=16 \
    --set model.num_heads=2 --set model.mlp_dim=16";

#[test]
fn a_time_budget_is_kept_or_its_overrun_is_said() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 20);
    let said = place
        .run(&format!(
            "train --data pets --out run --time 3s --json {TINY}"
        ))
        .ok();
    let told = said.json();
    let (used, budget) = (&told["training_s"], &told["budget_s"]);
    assert_eq!(budget, 3.0, "{told}");
    let is_late = used.as_f64().unwrap() > 1.05 * 3.0;
    assert_eq!(said.out.contains("\"kind\":\"overrun\""), is_late, "{told}");
    // What was used stands beside the budget in every file.
    let results = place.read("run/results.csv");
    let mut rows = results.lines();
    assert!(
        rows.next().unwrap().ends_with(",train/share,budget/spent"),
        "{results}"
    );
    let last = rows.last().unwrap();
    let spent: f64 = last.rsplit(',').next().unwrap().parse().unwrap();
    assert!(spent > 0.0 && (is_late || spent <= 1.05), "{results}");
    let info: serde_json::Value = serde_json::from_str(&place.read("run/run.json")).unwrap();
    assert_eq!(info["budget"]["time_s"], 3.0);
    assert_eq!(info["epochs_seen"], told["epochs_seen"]);
    // A finished training has no time left, and is not trained further.
    let updates = |place: &Place| place.read("run/results.csv").lines().count();
    let before = updates(&place);
    let plain = place.run("train --resume run --device cpu").ok();
    assert_eq!(updates(&place), before);
    assert!(plain.out.contains(" of the 3.0 s budget"), "{plain:#?}");
}

#[test]
fn part_of_an_epoch_is_called_that() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 20);
    let said = place
        .run(&format!("train --data pets --out run --steps 1 {TINY}"))
        .ok();
    assert!(
        said.out
            .starts_with("trained 0.25 epochs (8 of 32 pictures) in "),
        "{said:#?}"
    );
    assert!(
        said.err.contains("epoch 1 (the first 25 % of it), loss "),
        "{said:#?}"
    );
    let said = place.run("train --resume run --steps 4 --device cpu").ok();
    assert!(said.out.starts_with("trained 1 epoch in "), "{said:#?}");
}

/// So many pictures of one colour for each class.
fn colours(place: &Place, folder: &str, classes: &[(&str, [u8; 3], u32)]) {
    for (class, colour, copies) in classes {
        let picture = image::RgbImage::from_pixel(16, 16, image::Rgb(*colour));
        for i in 0..*copies {
            place.write(&format!("{folder}/{class}/{i:02}.png"), png(&picture));
        }
    }
}

/// The hints that a training or an evaluation ends with.
fn hints(said: &Said) -> Vec<&str> {
    let lines = said.out.lines();
    lines
        .filter_map(|line| line.strip_prefix("hint:     "))
        .collect()
}

fn kinds(said: &Said) -> Vec<String> {
    let json = said.json();
    let all = json["findings"].as_array().unwrap().iter();
    all.map(|one| one["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_low_accuracy_has_its_reasons_beside_it() {
    let place = Place::new();
    const RED: [u8; 3] = [200, 30, 30];
    // All look the same: nothing can be learned but which class is the most frequent.
    colours(
        &place,
        "same",
        &[("shirt", RED, 60), ("hat", RED, 20), ("shoe", RED, 20)],
    );
    let said = place
        .run(&format!(
            "train --data same --out same-run --epochs 4 {TINY}"
        ))
        .ok();
    assert!(said.out.contains("(always \"shirt\": 60.0 %)"), "{said:#?}");
    let [chance, never] = hints(&said)[..] else {
        panic!("{said:#?}")
    };
    assert!(
        chance.starts_with("no better than answering \"shirt\" every time (60.0 %); validation stood at exactly that for the last ")
            && chance.ends_with(" epochs: try a lower --lr, or start from weights that have learned (--init cifar10-vit)"),
        "{chance}"
    );
    let only = "every answer is \"shirt\": none of the other classes is ever predicted";
    assert_eq!(never, only);
    let eval = place.run("eval same-run --device cpu").ok();
    assert!(
        eval.out.contains("baseline  60.0 %, always \"shirt\"\n"),
        "{eval:#?}"
    );
    assert_eq!(hints(&eval).len(), 2, "{eval:#?}");
    let json = place.run("eval same-run --device cpu --json").ok();
    assert_eq!(json.json()["majority"]["label"], "shirt");
    assert_eq!(kinds(&json), ["at_chance", "never_predicted"]);

    // After one pass, time is what is missing, and nothing else is named.
    let said = place
        .run(&format!(
            "train --data same --out short-run --epochs 1 {TINY}"
        ))
        .ok();
    let short = "it saw each training picture once on average, which is little: try more time (--time, --epochs), or start from weights that have learned (--init cifar10-vit)";
    assert_eq!(
        hints(&said),
        [
            "no better than answering \"shirt\" every time (60.0 %)",
            only,
            short
        ],
        "{said:#?}"
    );

    // Two that can be told apart, and a rare one that looks like one of them.
    colours(
        &place,
        "rare",
        &[
            ("shirt", RED, 60),
            ("hat", [30, 30, 200], 60),
            ("shoe", RED, 10),
        ],
    );
    let said = place
        .run(&format!(
            "train --data rare --out rare-run --epochs 6 {TINY}"
        ))
        .ok();
    let never =
        "never predicted: \"shoe\" (1 of 3 classes); more epochs or more pictures of them may help";
    assert!(hints(&said).contains(&never), "{said:#?}");
    let eval = place.run("eval rare-run --split train --device cpu").ok();
    let told: Vec<&str> = hints(&eval);
    assert!(
        told.first() == Some(&never) && !eval.out.contains("no better than"),
        "{eval:#?}"
    );
}

#[test]
fn runs_that_differ_in_more_than_the_model_are_not_compared_without_a_word() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 20);
    let train = |out: &str, more: &str| {
        let line = format!("train --data pets --out {out} --steps 2 {TINY} {more}");
        place.run(&line).ok()
    };
    train("first", "");
    train("second", "--init first");
    place
        .run("train --data pets --out third --steps 3 -b 4 --model resnet9 --set model.width=4 --image-size 20 --device cpu")
        .ok();
    let said = place
        .run("compare first second third --out both --device cpu")
        .ok();
    for line in [
        "picture size  ",
        "start  ",
        "budget  ",
        "train.batch_size  ",
        "passes over the pictures  ",
    ] {
        assert!(
            said.out.lines().any(|l| l.starts_with(line)),
            "{line}: {said:#?}"
        );
    }
    let start = said.out.lines().find(|l| l.starts_with("start  ")).unwrap();
    assert!(
        start.contains("from scratch") && start.contains("first"),
        "{start}"
    );
    assert!(
        said.out
            .contains("note: first and second also differ in start: "),
        "{said:#?}"
    );
    assert_eq!(
        said.out
            .matches("(of these runs, which differ in more than the model)")
            .count(),
        3
    );
    assert!(said.out.contains("\nalways \"cat\""), "{said:#?}");
    assert!(
        said.err.contains("evaluating run 2 of 3: second\n"),
        "{said:#?}"
    );
    let written = place.read("both/compare.md");
    assert!(written.contains("| start | from scratch | "), "{written}");
    let json: serde_json::Value = serde_json::from_str(&place.read("both/compare.json")).unwrap();
    assert_eq!(
        json["pairs"][0]["confounded_by"],
        serde_json::json!(["start"])
    );
    assert_eq!(json["majority"]["top1"], 0.5);
    assert_eq!(json["rows"][0]["epochs_seen"], 0.5);

    // Alike but for the seed of the weights, nothing is to be said of it.
    train("fourth", "--set optimizer.lr=0.002");
    let said = place
        .run("compare first fourth --out two --device cpu")
        .ok();
    assert!(
        !said.out.contains("also differ") && said.out.contains("optimizer.lr  "),
        "{said:#?}"
    );
}

#[test]
fn a_comparison_says_where_it_stands_and_what_it_would_take() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    let compare = "compare --models resnet9,vit-micro --data pets --device cpu \
        --set preprocess.image_size=16 --set train.batch_size=8 --budget epochs=1 --seeds 2";
    let said = place.run(&format!("{compare} --dry-run")).ok();
    assert!(
        said.out
            .contains("\n4 trainings (2 models, 2 seeds), about "),
        "{said:#?}"
    );
    let told = place
        .run(&format!("{compare} --dry-run --json"))
        .ok()
        .json();
    assert_eq!(told["runs"], 4);
    let each: f64 = (0..2)
        .map(|i| told["models"][i]["training_s"].as_f64().unwrap())
        .sum();
    assert!(
        (told["total_s"].as_f64().unwrap() - 2.0 * each).abs() < 1e-9,
        "{told}"
    );
    assert!(!place.path("runs").exists() && !place.path("both").exists());

    let said = place.run(&format!("{compare} --out both")).ok();
    for line in [
        "run 1 of 4: resnet9, seed 0, in both/resnet9-seed0\n",
        "run 4 of 4: vit-micro, seed 1, in both/vit-micro-seed1; about ",
    ] {
        assert!(said.err.contains(line), "{line}: {said:#?}");
    }
    let said = place.run("compare both/resnet9-seed0 both/vit-micro-seed0 --dry-run --device cpu");
    assert_eq!(said.code, 2, "{said:#?}");
}

#[test]
fn a_dry_run_is_short_and_knows_the_size_of_the_weights_to_start_from() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 20);
    place
        .run(&format!("train --data pets --out run --steps 1 {TINY}"))
        .ok();
    let start = Instant::now();
    let said = place
        .run("train --data pets --init run --image-size 64 --epochs 1 -b 8 --device cpu --dry-run")
        .ok();
    assert!(start.elapsed() < Duration::from_secs(60), "{said:#?}");
    assert!(
        said.out.contains(
            "# hint: the weights to start from saw pictures of 16x16; --image-size 16 would take about "
        ),
        "{said:#?}"
    );
    let said = place
        .run("train --data pets --init run --epochs 1 -b 8 --device cpu --dry-run")
        .ok();
    assert!(!said.out.contains("# hint"), "{said:#?}");
    assert!(
        said.out.contains(", from one update timed here ("),
        "{said:#?}"
    );
}

/// What a shell's `line` writes to a terminal of 60 columns.
#[cfg(target_os = "linux")]
fn on_a_terminal(place: &Place, line: &str) -> String {
    let output = std::process::Command::new("script")
        .args([
            "-qec",
            &format!("stty cols 60 rows 24; {line}"),
            "/dev/null",
        ])
        .current_dir(place.path(""))
        .env("VITRINE", env!("CARGO_BIN_EXE_vitrine"))
        .env_remove("COLUMNS")
        .stdin(std::process::Stdio::null())
        .output();
    let output = output.expect("`script` of util-linux makes a terminal");
    String::from_utf8(output.stdout).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn answers_fit_the_terminal_and_their_bar_is_cleared() {
    let place = Place::new();
    let long = "a long name of a photograph that was taken on a holiday in the mountains.png";
    place.write(long, png(&picture(16, 16, 1)));
    place.write("b.png", png(&picture(16, 16, 2)));
    // The second name comes when a bar is worth its line.
    let names = format!("(echo {long:?}; sleep 2; echo b.png)");
    let line = format!("{names} | $VITRINE classify cifar10-vit --topk 2 --files-from -");
    let written = on_a_terminal(&place, &line);
    let wrapped =
        "a long name of a photograph that was taken on a holiday in\r\n  the mountains.png\r\n";
    assert!(written.contains(wrapped), "{written:?}");
    let drawn = written.find("1 pictures, ").unwrap();
    let cleared = written.rfind("\u{1b}[2K").unwrap();
    let last = written.rfind("b.png\r\n").unwrap();
    assert!(drawn < last && last < cleared, "{written:?}");
    assert!(!written[cleared..].contains("pictures, "), "{written:?}");
}

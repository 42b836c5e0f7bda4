//! The command line itself: tips for what it refuses, completions, manual pages, and lines that fit
//! the terminal.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use support::Place;

/// What is meant by a command line that clap refuses.
#[test]
fn a_refused_command_line_says_what_was_probably_meant() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 1);
    for (line, tip) in [
        // Commands: near names, those of other tools, and what is none.
        ("trian", "a similar subcommand exists: 'train'"),
        ("clasify a.png", "a similar subcommand exists: 'classify'"),
        ("data verfy", "a similar subcommand exists: 'verify'"),
        (
            "validate run",
            "`vitrine eval` does that; see `vitrine eval --help`",
        ),
        (
            "fit",
            "`vitrine train` does that; see `vitrine train --help`",
        ),
        (
            "verify pets",
            "`vitrine data verify` does that; see `vitrine data verify --help`",
        ),
        (
            "nowhere.jpg",
            "to classify a picture, `vitrine classify nowhere.jpg`",
        ),
        (
            "pets",
            "to train on this folder, `vitrine train --data pets`; to classify what is in it, `vitrine classify pets`",
        ),
        // Flags: near names, those of other tools, keys of the recipe.
        ("train --ephocs 3", "a similar argument exists: '--epochs'"),
        ("train --learning-rate 0.1", "the flag is --lr"),
        ("train --imgsz=64", "the flag is --image-size"),
        ("train --pretrained x", "the flag is --init"),
        ("classify --top-k 3 a.png", "the flag is --topk"),
        ("compare --gpu a b", "the flag is --device"),
        (
            "train --layer-decay 0.7",
            "it is a key of the recipe: --set init.layer_decay=VALUE",
        ),
        (
            "compare --models a,b --weight-decay 0.1",
            "it is a key of the recipe: --set optimizer.weight_decay=VALUE",
        ),
        (
            "train --num-heads 4",
            "it is a key of the recipe: --set model.num_heads=VALUE",
        ),
        // Words after `train`, which takes only flags.
        ("train clothing", "--data clothing names a data set"),
        ("train pets --epochs 3", "--data pets names a data set"),
        ("train photos", "--recipe photos names a recipe"),
        ("train vit-w1", "--model vit-w1 names a model"),
        (
            "train cifar10-cnn",
            "--recipe cifar10-cnn names a recipe, --init cifar10-cnn names weights to start from",
        ),
        // What is missing.
        (
            "compare",
            "name finished runs, as in `vitrine compare runs/a runs/b`, models to train, as in `vitrine compare --models vit-w1,resnet9`, or weights to start from, as in `vitrine compare --init cifar10-vit`",
        ),
        ("eval", "name a run, as in `vitrine eval runs/pets`"),
        (
            "export run",
            "name a run and the file to write, as in `vitrine export runs/pets pets.safetensors`",
        ),
        ("data download", "`vitrine data list` names the data sets"),
        (
            "weights fetch",
            "`vitrine weights list` names some to start from",
        ),
        ("train hf:a/b", "--init hf:a/b names weights to start from"),
    ] {
        let said = place.run(line);
        assert_eq!(said.code, 2, "{said:#?}");
        assert!(
            said.err.contains(&format!("  tip: {tip}\n")),
            "{line}: {said:#?}"
        );
        // The line of usage shows no flag that only looks alike.
        if tip.starts_with("it is a key") {
            assert!(
                !said.err.contains("Usage: vitrine train --weight"),
                "{said:#?}"
            );
        }
        assert_eq!(said.err.matches("tip:").count(), 1, "{said:#?}");
    }
}

#[test]
fn a_time_without_a_unit_and_data_that_moved_are_named() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    let tiny = "--image-size 16 -b 8 --device cpu --set model.depth=1 --set model.embed_dim=16 \
        --set model.num_heads=2 --set model.mlp_dim=16";
    let said = place
        .run(&format!("train --data pets --time 1 --out run {tiny}"))
        .ok();
    let told = "time 1: a number without a unit counts seconds; for minutes write 1m\n";
    assert!(said.err.starts_with(told), "{said:#?}");
    let said = place
        .run(&format!("train --data pets --time 1h --dry-run {tiny}"))
        .ok();
    assert!(!said.err.contains("without a unit"), "{said:#?}");

    std::fs::rename(place.path("pets"), place.path("moved")).unwrap();
    let moved = "pets: no such file or folder, where the data set of run is expected; if it was moved, name its place with --data\n";
    for line in ["eval run", "train --resume run --time 2s", "calibrate run"] {
        let said = place.run(&format!("{line} --device cpu"));
        assert!(said.code == 1 && said.err.ends_with(moved), "{said:#?}");
    }
    place.run("eval run --data moved --device cpu").ok();
    // Whoever names a place that is not there has mistyped it.
    support::fails(
        &place.run("eval run --data mvoed --device cpu"),
        "--data mvoed: no such file or folder; expected a data set's path; `vitrine data download` fetches one",
    );
}

/// `VITRINE_CPU` takes the kernels of a lesser processor, whose answers are the same to some digits.
#[test]
fn a_lesser_instruction_set_can_be_asked_for() {
    let place = Place::new();
    place.pictures("pets", &["cat"], 1);
    let command = |instructions: &str, line: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_vitrine"))
            .current_dir(place.path(""))
            .args(line.split(' '))
            .env("VITRINE_CPU", instructions)
            .output()
            .unwrap();
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, err)
    };
    let (code, out, err) = command("pentium", "devices");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.contains("VITRINE_CPU is \"pentium\": expected one of portable, avx2, avx512, amx"),
        "{err}"
    );
    let answers = |instructions| {
        let (code, out, err) = command(instructions, "classify pets --topk 10 --json");
        assert_eq!(code, Some(0), "{err}");
        let pictures: serde_json::Value = serde_json::from_str(&out).unwrap();
        let probability = |answer: &serde_json::Value| answer["prob"].as_f64().unwrap();
        let mut all: Vec<f64> = pictures[0]["predictions"]
            .as_array()
            .unwrap()
            .iter()
            .map(probability)
            .collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let best = answers("amx");
    for lesser in ["portable", "avx2", "avx512"] {
        for (found, best) in answers(lesser).iter().zip(&best) {
            assert!((found - best).abs() < 1e-4, "{lesser}: {found}, {best}");
        }
    }
}

#[test]
fn completions_know_every_command_and_a_shell_reads_them() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run(&format!("completions {shell}")).ok().out;
        for word in [
            "train",
            "classify",
            "completions",
            "verify",
            "image-size",
            "abstain",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("__probe"), "{shell}");
        place.write(shell, script);
        // Whichever of these shells there are must be able to read it.
        let mut check = Command::new(shell);
        match shell {
            "bash" | "zsh" => check.arg("-n"),
            "fish" => check.arg("--no-execute"),
            _ => continue,
        };
        match check.arg(place.path(shell)).output() {
            Ok(read) => assert!(read.status.success() && read.stderr.is_empty(), "{read:?}"),
            Err(_) => continue,
        }
    }
    let said = place.run("completions tcsh");
    assert_eq!(said.code, 2);
    assert!(
        said.err
            .contains("[possible values: bash, elvish, fish, powershell, zsh]")
    );
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let place = Place::new();
    let page = place.run("man").ok().out;
    assert!(
        page.contains(".TH vitrine 1") && page.contains("vitrine\\-classify(1)"),
        "{page}"
    );
    let said = place.run("man --out pages/man1").ok();
    let pages = place.listing("pages/man1");
    for name in [
        "vitrine.1",
        "vitrine-train.1",
        "vitrine-data-verify.1",
        "vitrine-man.1",
    ] {
        assert!(pages.iter().any(|page| page == name), "{pages:?}");
        assert!(
            said.out.contains(&format!("pages/man1/{name}\n")),
            "{said:#?}"
        );
    }
    assert!(
        pages
            .iter()
            .all(|page| !page.contains("help") && !page.contains("probe"))
    );
    assert_eq!(
        place.read("pages/man1/vitrine.1").trim_end(),
        page.trim_end()
    );
    for name in &pages {
        let page = place.path("pages/man1").join(name);
        // Where there is one, a formatter has nothing to say against it.
        let formatted = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(&page)
            .output();
        if let Ok(formatted) = formatted {
            assert!(
                formatted.status.success() && formatted.stderr.is_empty(),
                "{formatted:?}"
            );
        }
    }
}

#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::process::{Command, Stdio};

    use unicode_width::UnicodeWidthStr;

    use super::support::Place;

    /// What `vitrine` shows on a terminal of so many columns, line by line, without escape codes; a
    /// line that a progress bar redraws counts as several.
    fn shown(place: &Place, line: &str, columns: u16) -> Vec<String> {
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize {
            ws_row: 40,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: both descriptors are written before they are read, and the size outlives the call.
        #[allow(unsafe_code)]
        let (mut master, slave) = unsafe {
            let opened = libc::openpty(
                &mut master,
                &mut slave,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::from_ref(&size).cast_mut(),
            );
            assert_eq!(opened, 0, "a terminal");
            (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("vitrine"))
            .current_dir(place.path("."))
            .args(line.split_whitespace())
            .env_remove("CARGO")
            .env_remove("COLUMNS")
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .unwrap();
        let mut bytes = Vec::new();
        // Linux ends a terminal whose other side was closed with an error.
        let _ = master.read_to_end(&mut bytes);
        child.wait().unwrap();
        let text = String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
        let mut plain = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '\u{1b}' {
                plain.push(letter);
                continue;
            }
            // ESC [ parameters letter; what moves the cursor begins another line.
            let end = letters.by_ref().skip(1).find(char::is_ascii_alphabetic);
            if end.is_some_and(|end| end != 'm') {
                plain.push('\n');
            }
        }
        let lines = plain.split(['\n', '\r']);
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    /// Fails the test where a line is wider than the terminal, unless it is a single word.
    #[track_caller]
    fn fits(lines: &[String], columns: usize) {
        for line in lines {
            let is_a_word = !line.trim().contains(' ');
            assert!(line.width() <= columns || is_a_word, "{line}\n{lines:#?}");
        }
    }

    #[test]
    fn what_a_person_reads_fits_sixty_columns() {
        let place = Place::new();
        let classes = ["cat", "golden retriever of the neighbours", "a shoe, left"];
        place.pictures("pets", &classes, 12);
        place.write("pets/cat/broken.png", "no picture");
        let tiny = "--image-size 16 -b 8 --device cpu --set model.depth=1 --set model.embed_dim=16 \
            --set model.num_heads=2 --set model.mlp_dim=16";
        let train = |out: &str, seed: u32| {
            format!("train --data pets --epochs 2 --out {out} --seed {seed} {tiny}")
        };
        let told = shown(&place, &train("run", 0), 60);
        fits(&told, 60);
        let all = told.join("\n");
        for words in [
            "epoch 1/2, loss ",
            "waiting for data,",
            "ETA",
            "vitrine classify run run/example.png",
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
        // Without a terminal nothing is broken.
        let said = place.run(&train("other", 1)).ok();
        let epoch = said.err.lines().find(|line| line.starts_with("epoch 1/2"));
        assert!(
            epoch.unwrap().contains(" waiting for data, ETA "),
            "{said:#?}"
        );

        for (line, last) in [
            ("eval run --device cpu", "images/s"),
            ("compare run other --device cpu", "peak memory"),
            ("calibrate run --device cpu", "answered"),
            ("data verify pets", "smallest"),
            ("data info pets", "deviations"),
            ("data list", "MB"),
            (
                "train --data pets --dry-run --device cpu",
                "nothing was written",
            ),
            ("classify run pets/cat/00.png", "%"),
            ("train --recipe photo", "photos"),
            ("compare", "resnet9`"),
            ("train --resize foo", "pad"),
        ] {
            let told = shown(&place, line, 60);
            fits(&told, 60);
            assert!(
                told.iter().any(|told| told.contains(last)),
                "{line}: {told:#?}"
            );
        }
        for command in [
            "",
            "train",
            "eval",
            "calibrate",
            "classify",
            "embed",
            "export",
            "compare",
            "devices",
            "data",
            "plot",
            "completions",
            "man",
        ] {
            for help in ["-h", "--help"] {
                fits(&shown(&place, &format!("{command} {help}"), 60), 60);
            }
        }
        // A terminal that is wide enough breaks nothing either.
        let wide = shown(&place, "eval run --device cpu", 200).join("\n");
        let piped = place.run("eval run --device cpu").ok().out;
        let table = |text: &str| {
            let rows = text.lines().skip_while(|line| !line.starts_with("class "));
            rows.take(4).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(table(&wide), table(&piped));
    }
}

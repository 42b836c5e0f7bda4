//! What was computed is not lost, and nothing is said that is not so: interrupts, places that cannot be
//! written, nothing held out, and data that changed after the training.
#![allow(clippy::unwrap_used)]

#[allow(unreachable_pub, dead_code)]
mod support;

use std::fs;

use support::{Place, fails, jpeg, picture};

/// A model that trains in milliseconds.
const TINY: &str = "--image-size 16 --steps 2 -b 8 --device cpu --set model.depth=1 \
    --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16";

/// `pets`, two classes of 20 pictures, and `run`, trained on it.
fn trained() -> Place {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 20);
    place
        .run(&format!("train --data pets --out run {TINY}"))
        .ok();
    place
}

#[test]
fn a_summary_names_what_is_there() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 4);
    let train = format!("train --data pets --out run {TINY} --val-fraction 0 --test-fraction 0");
    let said = place.run(&train).ok();
    let line = |start: &str| {
        let lines = said.out.lines().find_map(|line| line.strip_prefix(start));
        lines.unwrap_or_else(|| panic!("{start} in {said:#?}"))
    };
    assert_eq!(line("plots:    "), "run/results.png");
    assert!(place.path("run/results.png").is_file());
    let classify = line("classify: vitrine ");
    assert_eq!(classify, "classify run run/example.png");
    place.run(classify).ok();

    place.pictures("one", &["cat", "dog"], 1);
    fails(
        &place.run(&format!("train --data one --out other {TINY}")),
        "one: 2 training pictures are too few to cut a test split of 0.1 from; add pictures, or add a test folder, or hold nothing out with --val-fraction 0 --test-fraction 0",
    );
}

#[test]
fn what_was_measured_is_said_where_it_cannot_be_written() {
    let place = trained();
    let whole = place.run("eval run --json --device cpu").ok();
    // Root may write anywhere: a folder in a file's place stands for every other reason.
    fs::remove_dir_all(place.path("run/eval-test")).unwrap();
    place.write("run/eval-test", "a file");
    let said = place.run("eval run --json --device cpu");
    assert_eq!(said.code, 1, "{said:#?}");
    assert_eq!(said.json()["loss"], whole.json()["loss"]);
    assert!(
        said.err.contains("error: cannot write run/eval-test"),
        "{said:#?}"
    );

    // So it is at the end of a training, whichever file it is.
    for name in ["predictions.png", "results.png", "metrics.json"] {
        let _ = fs::remove_file(place.path(&format!("run/{name}")));
        place.write(&format!("run/{name}/inside"), "");
        let more = match name {
            "results.png" => "--steps 4",
            _ => "",
        };
        let said = place.run(&format!("train --resume run --device cpu {more}"));
        assert_eq!(said.code, 1, "{said:#?}");
        assert!(said.out.contains("test top-1: "), "{said:#?}");
        let last = said.err.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("error: run run: ") && last.contains(name),
            "{said:#?}"
        );
        fs::remove_dir_all(place.path(&format!("run/{name}"))).unwrap();
    }
    let said = place.run("train --resume run --steps 6 --device cpu").ok();
    assert!(
        said.out
            .contains("plots:    run/results.png, confusion_matrix.png, predictions.png")
    );
}

#[test]
fn calibrate_measures_nothing_that_it_cannot_keep() {
    let place = trained();
    let before = fs::read(place.path("run/weights/best.safetensors")).unwrap();
    place.run("calibrate run --device cpu").ok();
    let after = fs::read(place.path("run/weights/best.safetensors")).unwrap();
    assert_ne!(before, after);
    assert!(
        place
            .listing("run")
            .iter()
            .all(|name| !name.contains(".vitrine-"))
    );
}

#[test]
fn one_class_is_a_fair_test_set() {
    let place = trained();
    place.pictures("one", &["dog"], 3);
    let said = place
        .run("eval run --data one --split train --json --device cpu")
        .ok();
    let json = said.json();
    assert_eq!(
        (json["n"].as_u64(), json["per_class"][1]["support"].as_u64()),
        (Some(3), Some(3))
    );
    assert_eq!(json["top1"], json["per_class"][1]["recall"]);
    let said = place
        .run("eval run --data one --split train --device cpu")
        .ok();
    let cat = said
        .out
        .lines()
        .find(|line| line.starts_with("cat "))
        .unwrap();
    assert!(
        cat.contains('–') && said.out.contains("–: undefined"),
        "{said:#?}"
    );
    // To learn from, it is not enough, and neither is a class that the weights do not know.
    fails(
        &place.run(&format!("train --data one --out other {TINY}")),
        "one: one class only (dog); expected two or more, each in a folder of its own",
    );
    place.pictures("other", &["emu"], 3);
    let said = place.run("eval run --data other --split train --device cpu");
    assert!(said.err.contains("the classes differ: "), "{said:#?}");
}

#[test]
fn a_run_stands_by_its_lists_whatever_is_added() {
    let place = trained();
    let eval = |place: &Place| place.run("eval run --json --device cpu").ok().json();
    let before = eval(&place);
    let same = |now: &serde_json::Value| {
        ["n", "top1", "loss"]
            .iter()
            .all(|key| now[*key] == before[*key])
    };
    // A class that sorts first, so that the data's labels change.
    place.pictures("pets", &["bird"], 5);
    place.folder("pets/empty");
    let now = eval(&place);
    assert!(same(&now), "{now}");
    let skipped = now["skipped"].as_array().unwrap();
    assert!(
        skipped.iter().any(|left| left["name"] == "class bird"),
        "{now}"
    );
    let more = place
        .run("train --resume run --steps 4 --json --device cpu")
        .ok();
    assert!(
        more.err
            .contains("skipped class bird: its pictures (5) are new"),
        "{more:#?}"
    );
    let answers = place.run("classify run pets/cat/00.png --json").ok().json();
    assert_eq!(answers[0]["predictions"].as_array().map(Vec::len), Some(2));

    // One list is enough to evaluate it.
    let before = eval(&place);
    let train = place.read("run/splits/train.txt");
    let gone = train.lines().next().unwrap().split_once('\t').unwrap().1;
    fs::remove_file(place.path(&format!("pets/{gone}"))).unwrap();
    assert_eq!(eval(&place)["loss"], before["loss"]);
    let said = place.run("train --resume run --steps 6 --device cpu");
    assert!(said.code == 1 && said.err.contains(gone), "{said:#?}");
    assert!(
        said.err.contains("with --data if it was moved"),
        "{said:#?}"
    );
}

#[test]
fn a_class_that_only_the_test_folder_has_does_not_stop_an_evaluation() {
    let place = Place::new();
    place.pictures("set/train", &["cat", "dog"], 8);
    place.pictures("set/test", &["cat", "dog"], 3);
    place
        .run(&format!("train --data set --out run {TINY}"))
        .ok();
    let before = place.run("eval run --json --device cpu").ok().json();
    place.pictures("set/test", &["unknown"], 3);
    let after = place.run("eval run --json --device cpu").ok().json();
    assert_eq!(
        (&after["n"], &after["loss"]),
        (&before["n"], &before["loss"])
    );
    let said = place.run(&format!("train --data set --out other {TINY}"));
    assert!(
        said.err.contains("rename their folders, or move them out"),
        "{said:#?}"
    );
}

#[test]
fn a_set_that_moved_is_named() {
    let place = trained();
    fs::rename(place.path("pets"), place.path("moved")).unwrap();
    let message = "pets: no such file or folder, where the data set of run is expected; if it was moved, name its place with --data";
    fails(&place.run("eval run --device cpu"), message);
    fails(&place.run("calibrate run --device cpu"), message);
    fails(
        &place.run("train --resume run --steps 4 --device cpu"),
        &format!("run run: {message}"),
    );
    place.run("eval run --data moved --device cpu").ok();
    place
        .run("train --resume run --data moved --steps 4 --device cpu")
        .ok();
    place.run("eval run --device cpu").ok();
}

#[test]
fn a_budget_below_what_is_done_is_refused_and_a_finished_run_says_so() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    place
        .run(&format!("train --data pets --out run {TINY} --steps 5"))
        .ok();
    let state = || fs::read(place.path("run/checkpoint/state.safetensors")).unwrap();
    let before = state();
    for budget in ["--steps 3", "--epochs 1"] {
        let said = place.run(&format!("train --resume run {budget} --device cpu"));
        assert_eq!(said.code, 1, "{budget}: {said:#?}");
        assert!(
            said.err
                .contains("run has already trained for 5 updates (3 epochs, ")
                && said.err.contains(
                    "expected a budget of no less; ask for more --epochs, --steps or --time"
                ),
            "{budget}: {said:#?}"
        );
        assert_eq!(state(), before);
    }
    let said = place.run("train --resume run --device cpu").ok();
    assert!(
        said.err.contains("this run is finished (5 updates, 3 epochs) and is only evaluated again; to train on, ask for more --epochs, --steps, --time or --patience"),
        "{said:#?}"
    );
    let said = place.run("train --resume run --steps 7 --device cpu").ok();
    assert!(!said.err.contains("is finished"), "{said:#?}");
}

#[test]
fn what_a_training_leaves_that_was_killed_at_once_is_free() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    place.folder("run/weights");
    place.write("run/checkpoint/lock", "");
    place
        .run(&format!("train --data pets --out run {TINY}"))
        .ok();
    fails(
        &place.run(&format!("train --data pets --out run {TINY}")),
        "run is not empty: name another folder with --out, or continue that run with --resume run",
    );
}

#[cfg(unix)]
mod interrupts {
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// Within this time an interrupted command is over; twice what is promised, for a machine under load.
    const SOON: Duration = Duration::from_secs(4);

    /// Class folders of photographs that take seconds to decode.
    fn photographs(place: &Place, folder: &str) {
        place.write("photograph.jpg", jpeg(&picture(3000, 2000, 5)));
        for class in ["cat", "dog"] {
            place.folder(&format!("{folder}/{class}"));
            for i in 0..80 {
                let link = place.path(&format!("{folder}/{class}/{i:02}.jpg"));
                fs::hard_link(place.path("photograph.jpg"), link).unwrap();
            }
        }
    }

    /// From now on they take no time.
    fn shrink(place: &Place) {
        // Every link leads to this one file.
        place.write("photograph.jpg", jpeg(&picture(16, 16, 5)));
    }

    /// Starts a command and waits until its standard error, which goes to `log`, holds `word`.
    fn start(place: &Place, line: &str, word: &str) -> Child {
        let log = fs::File::create(place.path("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vitrine"))
            .current_dir(place.path(""))
            .args(line.split_whitespace())
            .env_remove("CARGO")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while !place.read("log").contains(word) {
            assert_eq!(child.try_wait().unwrap(), None, "{}", place.read("log"));
            assert!(begin.elapsed() < Duration::from_secs(60), "it never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    fn press(child: &Child) {
        let id = child.id().to_string();
        let kill = Command::new("kill").args(["-INT", &id]).status();
        assert!(kill.unwrap().success());
    }

    fn ends_soon(child: &mut Child) -> ExitStatus {
        let begin = Instant::now();
        let status = child.wait().unwrap();
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        status
    }

    #[test]
    fn while_pictures_are_decoded_it_stops_and_can_be_continued() {
        let place = Place::new();
        photographs(&place, "photos");
        let train = format!("train --data photos --out run {TINY}");
        let mut child = start(&place, &train, "run: run");
        press(&child);
        assert_eq!(ends_soon(&mut child).code(), Some(130));
        let log = place.read("log");
        assert!(!log.contains("saving the state"), "{log}");
        assert!(
            log.ends_with(
                "stopped before the first update; continue with: vitrine train --resume run\n"
            ),
            "{log}"
        );
        shrink(&place);
        place.run("train --resume run --device cpu").ok();
    }

    #[test]
    fn while_it_is_evaluated_it_stops_and_can_be_continued() {
        let place = Place::new();
        place.pictures("late/train", &["cat", "dog"], 8);
        place.pictures("late/val", &["cat", "dog"], 3);
        photographs(&place, "late/test");
        let train = format!("train --data late --out run {TINY}");
        let mut child = start(&place, &train, "epoch 1, ");
        // The state is saved after this line.
        while !place.path("run/checkpoint/state.safetensors").is_file() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(200));
        press(&child);
        assert_eq!(ends_soon(&mut child).code(), Some(130));
        assert!(place.path("run/weights/best.safetensors").is_file());
        let log = place.read("log");
        assert!(
            log.contains("were evaluated; continue with: vitrine train --resume run"),
            "{log}"
        );
        shrink(&place);
        let said = place.run("train --resume run --device cpu").ok();
        assert!(said.out.contains("test top-1: "), "{said:#?}");
    }

    #[test]
    fn pressed_twice_it_leaves_what_can_be_continued() {
        let place = Place::new();
        photographs(&place, "photos");
        let mut child = start(
            &place,
            &format!("train --data photos --out run {TINY}"),
            "run: run",
        );
        while !place.path("run/splits/test.txt").is_file() {
            std::thread::sleep(Duration::from_millis(5));
        }
        press(&child);
        press(&child);
        assert_eq!(ends_soon(&mut child).code(), Some(130));
        shrink(&place);
        place.run("train --resume run --device cpu").ok();
    }

    #[test]
    fn an_evaluation_dies_of_the_signal_and_leaves_nothing() {
        use std::os::unix::process::ExitStatusExt;
        let place = trained();
        photographs(&place, "photos");
        let before = place.listing("run");
        for command in [
            "eval run --data photos --split train --device cpu",
            "calibrate run --data photos --device cpu",
        ] {
            // A validation split, for the second.
            if command.starts_with("calibrate") {
                fs::create_dir(place.path("split")).unwrap();
                fs::rename(place.path("photos"), place.path("split/val")).unwrap();
                fs::rename(place.path("split"), place.path("photos")).unwrap();
            }
            let mut child = start(&place, command, "device: ");
            std::thread::sleep(Duration::from_millis(200));
            press(&child);
            assert_eq!(ends_soon(&mut child).signal(), Some(2), "{command}");
            assert_eq!(place.listing("run"), before, "{command}");
        }
    }
}

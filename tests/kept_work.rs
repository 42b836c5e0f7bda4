//! What was computed is not lost, and nothing is said that is not so: interrupts, places that cannot be
//! written, nothing held out, and data that changed after the training.
#![allow(clippy::unwrap_used)]

mod support;

#[cfg(unix)]
#[path = "support/hub.rs"]
mod hub;
#[path = "support/signals.rs"]
mod signals;

use std::fs;

use support::{Place, fails, jpeg, picture};
use vitrine::run::RunDir;

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
fn while_a_training_holds_its_run_nothing_older_is_put_there() {
    let place = trained();
    let weights =
        || ["best", "last"].map(|name| place.path(&format!("run/weights/{name}.safetensors")));
    let bytes = || weights().map(|path| fs::read(path).unwrap());
    let before = bytes();
    let plot = fs::read(place.path("run/results.png")).unwrap();
    let held = RunDir::open(&place.path("run")).unwrap().lock().unwrap();
    for command in [
        "calibrate run --device cpu",
        "calibrate run/weights/last.safetensors --data pets --device cpu",
        "plot run",
    ] {
        let said = place.run(command);
        let wait = "error: another process trains or changes run: wait for it, or stop it\n";
        assert!(said.code == 1 && said.err.ends_with(wait), "{said:#?}");
    }
    assert!(bytes() == before && fs::read(place.path("run/results.png")).unwrap() == plot);
    // What only reads is not held up, and neither is a folder that no training writes into.
    place.run("eval run --device cpu").ok();
    place.run("classify run pets/cat/00.png").ok();
    place.run("export run copy.safetensors").ok();
    let said = place.run("eval run --out run --device cpu");
    assert!(said.code == 1 && said.out.contains("top-1"), "{said:#?}");
    assert!(
        said.err.contains("another process trains or changes run"),
        "{said:#?}"
    );
    drop(held);
    place.run("calibrate run --device cpu").ok();
    place.run("plot run").ok();
}

#[test]
#[cfg(unix)]
fn a_link_in_place_of_the_lock_is_named_and_left_alone() {
    let place = trained();
    place.write("other", "precious");
    fs::remove_file(place.path("run/checkpoint/lock")).unwrap();
    std::os::unix::fs::symlink(place.path("other"), place.path("run/checkpoint/lock")).unwrap();
    let wrong = "cannot write run/checkpoint/lock: it is a link, which vitrine never makes there; remove it";
    fails(
        &place.run("train --resume run --steps 4 --device cpu"),
        &format!("run run: {wrong}"),
    );
    fails(&place.run("calibrate run --device cpu"), wrong);
    assert_eq!(place.read("other"), "precious");
}

#[test]
fn a_recipe_that_was_edited_does_not_continue_a_training() {
    let place = trained();
    let recipe = place.read("run/recipe.toml");
    let state = fs::read(place.path("run/checkpoint/state.safetensors")).unwrap();
    let more = "train --resume run --steps 4 --device cpu";
    for (key, was, now) in [
        ("optimizer.kind", "\"adamw\"", "\"sgd\""),
        ("optimizer.lr", "0.001", "0.5"),
        ("train.batch_size", "8", "4"),
        ("train.seed", "0", "7"),
        ("train.ema", "0.0", "0.5"),
        ("augment.flip", "\"random\"", "\"none\""),
    ] {
        let name = key.split_once('.').unwrap().1;
        let edited = recipe.replace(
            &format!("\n{name} = {was}\n"),
            &format!("\n{name} = {now}\n"),
        );
        assert_ne!(edited, recipe, "{key}");
        place.write("run/recipe.toml", &edited);
        fails(
            &place.run(more),
            &format!(
                "run run: run/recipe.toml has {key} = {now}: expected {was}, with which the saved state of run was trained; set it back, or begin a new run with `vitrine train --recipe run/recipe.toml`"
            ),
        );
        assert_eq!(place.read("run/recipe.toml"), edited, "nothing was written");
    }
    // A budget may grow, not shrink, by whatever hand.
    place.write(
        "run/recipe.toml",
        recipe.replace("\nsteps = 2\n", "\nsteps = 1\n"),
    );
    let said = place.run("train --resume run --device cpu");
    assert!(
        said.err.contains("run has already trained for 2 updates"),
        "{said:#?}"
    );
    assert_eq!(
        fs::read(place.path("run/checkpoint/state.safetensors")).unwrap(),
        state
    );
    // What a flag may change, an edit may too.
    let free = recipe
        .replace("\nsteps = 2\n", "\nsteps = 3\n")
        .replace("\ncache_mb = 4096\n", "\ncache_mb = 1\n")
        .replace("\nworkers = 0\n", "\nworkers = 1\n");
    place.write("run/recipe.toml", free);
    place.run("train --resume run --device cpu").ok();
    fs::rename(place.path("pets"), place.path("moved")).unwrap();
    place
        .run("train --resume run --steps 4 --patience 3 --data moved --device cpu")
        .ok();
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

    use super::hub::{Fault, Hub, sha256};
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
        start_where(place, line, word, &[])
    }

    fn start_where(place: &Place, line: &str, word: &str, variables: &[(&str, &str)]) -> Child {
        signals::answer();
        let log = fs::File::create(place.path("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vitrine"))
            .current_dir(place.path(""))
            .args(line.split_whitespace())
            .env_remove("CARGO")
            .envs(variables.iter().copied())
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
        tell(child, "INT");
    }

    fn tell(child: &Child, signal: &str) {
        let id = child.id().to_string();
        let kill = Command::new("kill")
            .args([&format!("-{signal}"), &id])
            .status();
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
    fn figures_of_weights_that_were_replaced_meanwhile_are_said_and_not_kept() {
        let place = trained();
        photographs(&place, "photos");
        let newer = place.run("export run newer.safetensors --half");
        newer.ok();
        let eval = "eval run --data photos --split train --device cpu";
        let mut child = start(&place, eval, "device: ");
        std::thread::sleep(Duration::from_millis(200));
        let best = place.path("run/weights/best.safetensors");
        fs::rename(place.path("newer.safetensors"), best).unwrap();
        shrink(&place);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let log = place.read("log");
        let said = "run/weights/best.safetensors has been written again since it was read: these figures are of the weights before, and no file of them is kept; evaluate again, or name a folder for them with --out\n";
        assert!(log.ends_with(said), "{log}");
        assert!(!place.path("run/eval-train").exists());
        place.run(eval).ok();
        assert!(place.path("run/eval-train/metrics.json").is_file());
    }

    /// What a command leaves that is told to stop by `signal`, some time after it has said `word`: it is over soon, by
    /// that signal or, where it can be continued, with its exit code, and its last line begins with these words.
    fn stops(place: &Place, signal: Signal, line: &str, word: &str, last: &str) {
        use std::os::unix::process::ExitStatusExt;
        let (name, number) = signal;
        let mut child = start(place, line, word);
        std::thread::sleep(Duration::from_millis(200));
        tell(&child, name);
        let status = ends_soon(&mut child);
        let is_continued = line.starts_with("train --data") || line.starts_with("compare --models");
        let ended = match is_continued && !line.contains("--dry-run") {
            true => (Some(128 + number), None),
            false => (None, Some(number)),
        };
        assert_eq!((status.code(), status.signal()), ended, "{name}: {line}");
        let log = place.read("log");
        let said = log.lines().last().unwrap_or_default();
        assert!(said.starts_with(last), "{name}: {line}: {log}");
        let unfinished = |name: &String| name.contains(".vitrine-");
        assert!(!place.listing("").iter().any(unfinished), "{name}: {line}");
    }

    type Signal = (&'static str, i32);
    const SIGNALS: [Signal; 2] = [("INT", 2), ("TERM", 15)];

    #[test]
    fn what_holds_nothing_dies_of_either_signal_with_one_line() {
        let place = trained();
        place
            .run(&format!("train --data pets --out second --seed 1 {TINY}"))
            .ok();
        photographs(&place, "photos");
        photographs(&place, "split/val");
        let before = place.listing("run");
        let again = "stopped; the weights are as they were; the same command measures again";
        let each =
            "stopped; each weights file is calibrated or as it was; the same command begins again";
        let nothing = "stopped; nothing was written";
        for signal in SIGNALS {
            for (line, word, last) in [
                (
                    "eval run --data photos --split train --device cpu",
                    "device: ",
                    again,
                ),
                ("calibrate run --data split --device cpu", "device: ", each),
                (
                    "compare run second --data photos --split train --device cpu",
                    "evaluating",
                    nothing,
                ),
                ("data verify photos", "", nothing),
                ("data info photos", "", nothing),
                ("classify run photos --json", "", "stopped after "),
                (
                    "train --data pets --dry-run --device cpu --image-size 224 --patch-size 16 --set model.embed_dim=768 --set model.depth=12 --set model.num_heads=12",
                    "measuring for at most",
                    nothing,
                ),
                (
                    "compare --models vit-w1,resnet18 --data pets --dry-run --device cpu",
                    "measuring each model",
                    nothing,
                ),
            ] {
                stops(&place, signal, line, word, last);
            }
        }
        assert_eq!(place.listing("run"), before);
        assert!(!place.path("runs").exists(), "no empty folder");
    }

    #[test]
    fn what_can_be_continued_ends_with_the_code_of_either_signal() {
        let place = Place::new();
        photographs(&place, "photos");
        let large = "--image-size 224 --patch-size 16 --device cpu -b 64 --set model.embed_dim=768 --set model.depth=12 --set model.num_heads=12";
        place.pictures("pets", &["cat", "dog"], 40);
        for signal in SIGNALS {
            let (name, _) = signal;
            let go_on = |run: &str| {
                format!(
                    "stopped before the first update; continue with: vitrine train --resume {run}"
                )
            };
            let run = format!("decoding-{name}");
            let train = format!("train --data photos --out {run} {TINY}");
            stops(&place, signal, &train, "run: ", &go_on(&run));
            // Its first weights, drawn so that queries and keys agree, take seconds; so does an update.
            let run = format!("large-{name}");
            let train = format!("train --data pets --out {run} {large}");
            stops(&place, signal, &train, "parameters", &go_on(&run));
            let out = format!("compared-{name}");
            let compare = format!(
                "compare --models vit-micro,resnet9 --data photos --device cpu --out {out}"
            );
            let again = format!("continue with the same command and --out {out}");
            stops(&place, signal, &compare, "run: ", &again);
        }
    }

    #[test]
    fn an_archive_is_unpacked_until_it_is_told_to_stop() {
        let place = Place::new();
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
            fs::File::create(place.path("pets.tar.gz")).unwrap(),
            flate2::Compression::fast(),
        ));
        // Gigabytes for whoever unpacks them, a few megabytes here.
        let picture = vec![0; 1 << 22];
        for i in 0..400 {
            let mut header = tar::Header::new_gnu();
            header.set_size(picture.len() as u64);
            let name = format!("{}/{i:03}.png", ["cat", "dog"][i % 2]);
            builder
                .append_data(&mut header, name, &picture[..])
                .unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
        let before = place.listing("");
        for signal in SIGNALS {
            let nothing = "stopped; nothing was written";
            let train = format!("train --data pets.tar.gz --out run {TINY}");
            stops(
                &place,
                signal,
                &train,
                "",
                &format!("{nothing}: the same command begins again"),
            );
            stops(&place, signal, "data info pets.tar.gz", "", nothing);
        }
        fs::remove_file(place.path("log")).unwrap();
        assert_eq!(place.listing(""), before);
    }

    #[test]
    fn a_download_keeps_what_has_arrived() {
        use std::io::{Read, Write};
        let place = Place::new();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 170052171\r\n\r\n";
                let _ = stream.write_all(head.as_bytes());
                // As slow as a connection may be.
                while stream.write_all(&[7; 1000]).is_ok() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        for signal in SIGNALS {
            let line = format!("data download cifar10 --mirror http://{address} --out sets");
            let part = place.path("sets/cifar10/cifar-10-binary.tar.gz.part");
            let _ = fs::remove_file(&part);
            let mut child = start(&place, &line, "");
            while fs::metadata(&part).map_or(0, |part| part.len()) == 0 {
                assert_eq!(child.try_wait().unwrap(), None, "{}", place.read("log"));
                std::thread::sleep(Duration::from_millis(5));
            }
            tell(&child, signal.0);
            ends_soon(&mut child);
            let log = place.read("log");
            assert!(
                log.starts_with("stopped; what has arrived (")
                    && log.ends_with(
                        " MB) stays in sets/cifar10: the same command continues from there\n"
                    ),
                "{log}"
            );
            assert!(part.is_file());
        }
    }

    #[test]
    fn weights_that_are_fetched_keep_what_has_arrived() {
        let place = Place::new();
        let hub = Hub::start();
        let bytes = vec![7; 100_000];
        let part = place.path(&format!(
            "hub/models--a--b/blobs/{}.incomplete",
            sha256(&bytes)
        ));
        hub.add("a/b", "model.safetensors", bytes)
            .fault("model.safetensors", Fault::Slow);
        let home = place.path("").display().to_string();
        for signal in SIGNALS {
            let variables = [("HF_ENDPOINT", &*hub.url), ("HF_HOME", &home)];
            let _ = fs::remove_file(&part);
            let mut child = start_where(&place, "weights fetch hf:a/b", "", &variables);
            while fs::metadata(&part).map_or(0, |part| part.len()) == 0 {
                assert_eq!(child.try_wait().unwrap(), None, "{}", place.read("log"));
                std::thread::sleep(Duration::from_millis(5));
            }
            tell(&child, signal.0);
            ends_soon(&mut child);
            assert_eq!(
                place.read("log"),
                "fetching model.safetensors of hf:a/b, 0.1 MB\nstopped; what has arrived stays in the cache: the same command continues from there\n"
            );
            assert!(part.is_file());
        }
    }
}

//! Commands that are killed at random moments: whatever they leave is whole, and what is continued ends as if nothing
//! had happened.
//!
//! `VITRINE_KILLS=300` kills that often instead of ten times, `VITRINE_SEED=1` at other moments, and
//! `VITRINE_BINARY=PATH` kills that program instead of the one that was built with the tests. With `--nocapture` it
//! says what it killed.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[allow(unreachable_pub)]
#[path = "support/runs.rs"]
mod runs;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use runs::{all_whole, assert_same, hash, left, progress, temporary_files};
use support::Place;
use vitrine::checkpoint::load_weights;
use vitrine::device::select;
use vitrine::report::csv::read_results;
use vitrine::run::{RunDir, RunError};
use vitrine::train::task::classification::TOP1;

/// A model that trains in milliseconds, with an average and random changes to the pictures.
const TINY: &str = "--device cpu --set preprocess.image_size=16 --set train.batch_size=8 --set model.depth=1 \
    --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16 --set train.ema=0.9 \
    --set augment.mixup=0.4 --set train.checkpoint_minutes=0 --threads 2";

/// Two such models under one budget.
const COMPARE: &str = "compare --models vit-micro,vit-w1 --data pets --budget epochs=2 --out";

/// How long the children of a killed process may go on.
const SOON: Duration = Duration::from_secs(10);

struct Campaign {
    place: Place,
    program: PathBuf,
    seed: usize,
    drawn: usize,
    /// By what was killed.
    kills: BTreeMap<&'static str, usize>,
    /// Runs of which nothing had been saved, and which said so.
    begun_anew: usize,
}

impl Campaign {
    fn new() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let program = variable("VITRINE_BINARY").unwrap_or(env!("CARGO_BIN_EXE_vitrine").into());
        let place = Place::new();
        place.pictures("pets", &["cat", "dog"], 20);
        Self {
            place,
            program: program.into(),
            seed: variable("VITRINE_SEED").map_or(0, |seed| seed.parse().unwrap()),
            drawn: 0,
            kills: BTreeMap::new(),
            begun_anew: 0,
        }
    }

    fn total(&self) -> usize {
        self.kills.values().sum()
    }

    /// A number from 0 to below 1.
    fn draw(&mut self) -> f64 {
        self.drawn += 1;
        (hash(self.seed * 1_000_003 + self.drawn) % 10_000) as f64 / 10_000.0
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(self.place.path(""))
            .args(line.split_whitespace())
            .stdin(Stdio::null());
        command
    }

    fn said(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs a command to its end, and returns how long it took.
    #[track_caller]
    fn succeeds(&self, line: &str) -> Duration {
        let begin = Instant::now();
        let output = self.said(line);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {told}");
        begin.elapsed()
    }

    /// Runs a command and kills it at a random moment of the time that it takes undisturbed; every other time right
    /// after the next change of a file below `folder`, as between two files that belong together.
    fn kill(&mut self, what: &'static str, line: &str, folder: &str, undisturbed: Duration) {
        let moment = undisturbed.mul_f64(self.draw());
        let at_a_change = self.draw() < 0.5;
        let mut child = self
            .command(line)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(moment);
        if at_a_change {
            let before = changes(&self.path(folder));
            while changes(&self.path(folder)) == before && child.try_wait().unwrap().is_none() {
                std::hint::spin_loop();
            }
        }
        // One that is over already is not counted.
        let is_over = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        *self.kills.entry(what).or_default() += usize::from(!is_over);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// Continues a run that was killed, or begins it anew where it says that there is nothing to continue; kills that
    /// too, at most twice.
    fn go_on(&mut self, run: &str, begin: &str, undisturbed: Duration) {
        let resume = format!("train --resume {run} --device cpu --threads 2");
        for again in [self.draw() < 0.9, self.draw() < 0.7] {
            all_whole(&self.path(run));
            if again && self.can_go_on(run) {
                self.kill("resume", &resume, run, undisturbed);
            }
        }
        all_whole(&self.path(run));
        match self.can_go_on(run) {
            true => self.succeeds(&resume),
            false => {
                self.begun_anew += 1;
                self.succeeds(begin)
            }
        };
        all_whole(&self.path(run));
        assert_eq!(temporary_files(&self.path(run)), 0, "leftovers are swept");
    }

    /// Whether a run can be continued; if not, a command that continues it says so, and it is removed.
    fn can_go_on(&self, run: &str) -> bool {
        let is_there = |file: &str| self.path(run).join(file).is_file();
        // The last list of pictures that a training writes before it begins.
        if is_there("checkpoint/state.safetensors") || is_there("splits/test.txt") {
            return true;
        }
        let said = self.said(&format!("train --resume {run} --device cpu"));
        let told = String::from_utf8_lossy(&said.stderr);
        assert!(
            told.contains(
                "holds no saved state to continue from: start again with `vitrine train --recipe "
            ) || told.contains("is not a run directory ("),
            "{told}"
        );
        let _ = fs::remove_dir_all(self.path(run));
        false
    }
}

/// When each file below a folder that has its name was last written.
fn changes(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(about) if about.is_dir() => found.extend(changes(&path)),
            Ok(about) if !entry.file_name().to_string_lossy().starts_with('.') => {
                found.insert(path, about.modified().unwrap());
            }
            _ => {}
        }
    }
    found
}

/// Kills commands until there were `kills`, then says how many of each.
fn campaign(kills: usize) {
    let mut c = Campaign::new();
    let begin = Instant::now();
    let epochs = ByEpochs::new(&mut c);
    let both = Both::new(&mut c);
    let finished = Finished::new(&mut c);
    let mut round = 0;
    while c.total() < kills {
        match round % 5 {
            0 => epochs.round(&mut c),
            1 => by_time(&mut c),
            2 => both.round(&mut c),
            _ => finished.round(&mut c),
        }
        round += 1;
    }
    println!(
        "{} kills in {:.0} s: {:?}; {} runs had saved nothing yet, said so and began anew",
        c.total(),
        begin.elapsed().as_secs_f64(),
        c.kills,
        c.begun_anew
    );
}

/// A training by a number of epochs ends in the same bits.
struct ByEpochs {
    took: Duration,
}

impl ByEpochs {
    const TRAIN: &str = "train --data pets --epochs 4 --out";

    fn new(c: &mut Campaign) -> Self {
        let took = c.succeeds(&format!("{} whole {TINY}", Self::TRAIN));
        Self { took }
    }

    fn round(&self, c: &mut Campaign) {
        let begin = format!("{} run {TINY}", Self::TRAIN);
        c.kill("train", &begin, "run", self.took);
        c.go_on("run", &begin, self.took);
        let [run, whole] = ["run", "whole"].map(|name| c.path(name));
        assert_same(&left(&run), &left(&whole), "killed");
        let rows = |run: &Path| read_results(&run.join("results.csv")).unwrap().len();
        assert_eq!(rows(&run), rows(&whole));
        for file in ["confusion_matrix.csv", "metrics.json", "splits/train.txt"] {
            let [run, whole] = [&run, &whole].map(|run| fs::read(run.join(file)).unwrap());
            assert!(run == whole, "{file} differs");
        }
        fs::remove_dir_all(run).unwrap();
    }
}

/// A training by time ends otherwise each time, and what it leaves is what it counted.
fn by_time(c: &mut Campaign) {
    let begin = format!("train --data pets --time 1s --out run {TINY}");
    let took = Duration::from_millis(1500);
    c.kill("train by time", &begin, "run", took);
    c.go_on("run", &begin, took);
    let run = c.path("run");
    let progress = progress(&run);
    assert!(progress.finished && progress.batch == 0);
    let rows = read_results(&run.join("results.csv")).unwrap();
    let epochs: Vec<usize> = rows.iter().map(|row| row.epoch).collect();
    assert_eq!(epochs, (1..=progress.epoch).collect::<Vec<_>>());
    let device = select("cpu".parse().unwrap()).unwrap().device;
    let meta = |name: &str| {
        load_weights(&run.join("weights").join(name), &device)
            .unwrap()
            .meta
    };
    let best = progress.best.unwrap();
    assert_eq!(meta("last.safetensors").epoch, progress.epoch);
    let kept = meta("best.safetensors");
    assert_eq!((kept.epoch, kept.val_top1), (best.epoch, Some(best.score)));
    let counted = progress
        .history
        .iter()
        .find(|record| record.epoch == best.epoch)
        .unwrap();
    assert_eq!(counted.figure(TOP1), Some(best.score));
    let highest = progress
        .history
        .iter()
        .filter_map(|record| record.figure(TOP1));
    assert_eq!(highest.fold(0.0, f64::max), best.score);
    fs::remove_dir_all(run).unwrap();
}

/// A comparison trains as it would have, and leaves no process behind.
struct Both {
    took: Duration,
    told: serde_json::Value,
}

impl Both {
    const RUNS: [&str; 2] = ["vit-micro-seed0", "vit-w1-seed0"];

    fn new(c: &mut Campaign) -> Self {
        let took = c.succeeds(&format!("{COMPARE} both-whole {TINY}"));
        Self {
            took,
            told: Self::told(&c.path("both-whole")),
        }
    }

    /// What it found, but for times.
    fn told(folder: &Path) -> serde_json::Value {
        let json = fs::read(folder.join("compare.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let accuracies = json["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["top1"].clone());
        serde_json::json!([accuracies.collect::<Vec<_>>(), json["pairs"]])
    }

    fn round(&self, c: &mut Campaign) {
        let compare = format!("{COMPARE} both {TINY}");
        for again in [true, c.draw() < 0.7] {
            if again {
                c.kill("compare", &compare, "both", self.took);
                self.wait_for_children(c);
            }
        }
        c.succeeds(&compare);
        assert_eq!(Self::told(&c.path("both")), self.told);
        for run in Self::RUNS {
            let [run, whole] = ["both", "both-whole"].map(|folder| c.path(folder).join(run));
            all_whole(&run);
            assert_same(&left(&run), &left(&whole), "compared");
        }
        fs::remove_dir_all(c.path("both")).unwrap();
    }

    /// The training of a comparison that was killed ends too.
    fn wait_for_children(&self, c: &Campaign) {
        let begin = Instant::now();
        // One that had just begun may not hold its run yet.
        std::thread::sleep(Duration::from_millis(150));
        for run in Self::RUNS {
            let run = c.path("both").join(run);
            let is_held = || {
                let held = RunDir::open(&run).map(|run| run.lock());
                matches!(held, Ok(Err(RunError::Busy { .. })))
            };
            while is_held() {
                assert!(begin.elapsed() < SOON, "{} goes on", run.display());
                std::thread::sleep(Duration::from_millis(10));
            }
            all_whole(&run);
        }
    }
}

/// What is done with a finished run is done, or not.
struct Finished {
    took: BTreeMap<&'static str, Duration>,
    /// Files by name, before and after everything below was done once.
    before: BTreeMap<String, Vec<u8>>,
    after: BTreeMap<String, Vec<u8>>,
}

impl Finished {
    const COMMANDS: [(&str, &str); 4] = [
        ("eval", "eval done --device cpu --threads 2"),
        ("plot", "plot done --threads 2"),
        ("export", "export done done/copy.safetensors --half"),
        ("calibrate", "calibrate done --device cpu --threads 2"),
    ];

    fn new(c: &mut Campaign) -> Self {
        c.succeeds(&format!("train --data pets --epochs 2 --out done {TINY}"));
        let before = Self::files(c);
        let took = Self::COMMANDS.map(|(name, line)| (name, c.succeeds(line)));
        Self {
            took: took.into_iter().collect(),
            before,
            after: Self::files(c),
        }
    }

    fn files(c: &Campaign) -> BTreeMap<String, Vec<u8>> {
        let names = c.place.listing("done").into_iter();
        let files = names.filter(|name| c.path("done").join(name).is_file());
        files
            .map(|name| (name.clone(), fs::read(c.path("done").join(name)).unwrap()))
            .collect()
    }

    fn round(&self, c: &mut Campaign) {
        fs::remove_dir_all(c.path("done")).unwrap();
        for (name, bytes) in &self.before {
            c.place.write(&format!("done/{name}"), bytes);
        }
        for (name, line) in Self::COMMANDS {
            c.kill(name, line, "done", self.took[name]);
            all_whole(&c.path("done"));
            for (file, bytes) in Self::files(c) {
                let is_known = [&self.before, &self.after]
                    .iter()
                    .any(|known| known.get(&file) == Some(&bytes));
                let is_unfinished = file.contains(".vitrine-");
                assert!(is_known || is_unfinished, "{file} after {name}");
            }
            // It never replaces a file.
            if name == "export" && c.path("done/copy.safetensors").exists() {
                continue;
            }
            c.succeeds(line);
        }
        let mut now = Self::files(c);
        now.retain(|name, _| !name.contains(".vitrine-"));
        assert!(now.keys().eq(self.after.keys()), "{:?}", now.keys());
        for (name, bytes) in &now {
            assert!(self.after[name] == *bytes, "{name} differs");
        }
        c.succeeds("train --resume done --device cpu");
        assert_eq!(temporary_files(&c.path("done")), 0, "leftovers are swept");
    }
}

#[test]
fn whatever_is_killed_loses_nothing() {
    campaign(std::env::var("VITRINE_KILLS").map_or(10, |n| n.parse().unwrap()));
}

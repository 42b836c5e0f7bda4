//! Where `classify` takes its pictures from, and how its answers come: pipes, lists of names, one answer
//! at a time.
#![allow(clippy::unwrap_used)]

mod support;

#[path = "support/signals.rs"]
mod signals;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{Place, Said, fails, picture, png};

const WEIGHTS: &str = "--weights cifar10-vit --topk 1";

/// `a.png` to `e.png`, all different.
fn place() -> Place {
    let place = Place::new();
    for (i, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        place.write(&format!("{name}.png"), png(&picture(16, 16, i as u32)));
    }
    place
}

fn run(place: &Place, inputs: &str, stdin: &[u8]) -> Said {
    let line = format!("classify {WEIGHTS} {inputs}");
    place.run_with(&line.split_whitespace().collect::<Vec<_>>(), stdin)
}

/// The file names of an answer in JSON, with what is wrong with those that failed.
fn named(said: &Said) -> Vec<String> {
    let json = said.json();
    let answers = json.as_array().unwrap().iter();
    answers
        .map(|one| {
            let name = one["filename"].as_str().unwrap();
            assert_eq!(one["file"], one["filename"], "the former name stays");
            match one["error"].as_str() {
                Some(error) => format!("{name}: {error}"),
                None => name.to_owned(),
            }
        })
        .collect()
}

fn start(place: &Place, inputs: &str) -> Child {
    signals::answer();
    Command::new(assert_cmd::cargo::cargo_bin!("vitrine"))
        .current_dir(place.path(""))
        .arg("classify")
        .args(WEIGHTS.split(' '))
        .args(inputs.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn one_set_of_names_in_json_and_csv() {
    let place = place();
    place.write("broken.png", "not a picture");
    let inputs = "a.png broken.png b.png nowhere.png";
    let json = run(&place, &format!("{inputs} --json"), &[]);
    let csv = run(&place, &format!("{inputs} --csv"), &[]);
    assert_eq!((json.code, csv.code), (1, 1));
    let mut rows = csv::Reader::from_reader(csv.out.as_bytes());
    assert_eq!(
        rows.headers().unwrap(),
        ["filename", "index", "label", "prob", "error"].as_slice()
    );
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    let json = json.json();
    let json = json.as_array().unwrap();
    assert_eq!((rows.len(), json.len()), (4, 4));
    let mut failed = 0;
    for (row, one) in rows.iter().zip(json) {
        assert_eq!(&row[0], one["filename"].as_str().unwrap());
        if let Some(error) = one["error"].as_str() {
            assert_eq!([&row[1], &row[2], &row[3], &row[4]], ["", "", "", error]);
            failed += 1;
            continue;
        }
        let best = &one["predictions"][0];
        assert_eq!(row[1], best["index"].to_string());
        assert_eq!(&row[2], best["label"].as_str().unwrap());
        assert_eq!(row[3], format!("{:.6}", best["prob"].as_f64().unwrap()));
        assert_eq!((&best["score"], &row[4]), (&best["prob"], ""));
    }
    assert_eq!(failed, 2);
    // No picture, no answer: both are still whole documents.
    assert_eq!(run(&place, "nowhere.png --csv", &[]).out.lines().count(), 2);
}

#[cfg(unix)]
#[test]
fn a_pipe_by_any_name_is_a_picture() {
    let place = place();
    let bytes = fs::read(place.path("a.png")).unwrap();
    let predictions = |said: &Said| said.json()[0]["predictions"].clone();
    let file = predictions(&run(&place, "a.png --json", &[]).ok());
    for name in ["-", "/dev/stdin", "/dev/fd/0"] {
        let said = run(&place, &format!("{name} --json"), &bytes).ok();
        assert_eq!(
            (named(&said), predictions(&said)),
            (vec![name.to_owned()], file.clone())
        );
    }
    let pipe = place.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let written = bytes.clone();
    let writer = std::thread::spawn(move || fs::write(pipe, written).unwrap());
    // It is read once; a second time there is nobody who writes.
    let said = run(&place, "b.png pipe pipe --json", &[]);
    writer.join().unwrap();
    let once = "pipe: a pipe that was read already, and gives its picture once";
    assert_eq!(named(&said), ["b.png", "pipe", once]);
    assert_eq!(said.json()[1]["predictions"], file);
    let said = run(&place, "- /dev/stdin --json", &bytes);
    let once = "/dev/stdin: it was read already, and gives its picture once";
    assert_eq!(named(&said), ["-", once]);

    // Neither has an end that is worth waiting for.
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    std::os::unix::fs::symlink("gone.png", place.path("link.png")).unwrap();
    let said = run(&place, "/dev/zero socket link.png a.png/b.png --json", &[]);
    assert_eq!(
        named(&said),
        [
            "/dev/zero: a device, expected a picture",
            "socket: a socket, expected a picture",
            "link.png: a link to a file that is not there",
            "a.png/b.png: cannot read it: Not a directory (os error 20)",
        ]
    );
}

#[test]
fn a_list_names_pictures_one_a_line_or_between_nul_bytes() {
    let place = place();
    place.write("in/f.png", png(&picture(16, 16, 9)));
    place.write("list", "a.png\n\nb.png\r\nnowhere.png\nin\n");
    let all = [
        "a.png",
        "b.png",
        "nowhere.png: no such file or folder",
        "in/f.png",
    ];
    let said = run(&place, "--files-from list --json", &[]);
    assert_eq!(
        (named(&said), said.code),
        (all.map(str::to_owned).to_vec(), 1)
    );
    let list = fs::read(place.path("list")).unwrap();
    let said = run(&place, "--files-from - --json", &list);
    assert_eq!(named(&said), all);
    // Inputs come first, and the only one may be the weights.
    let said = run(&place, "c.png --files-from - --json", b"a.png\n").ok();
    assert_eq!(named(&said), ["c.png", "a.png"]);
    let said = place
        .run_with(
            &["classify", "cifar10-cnn", "--files-from", "-", "--json"],
            b"b.png\n",
        )
        .ok();
    assert_eq!(named(&said), ["b.png"]);
    // Names are names here: no glob, no standard input, and any byte but the one that ends them.
    let said = run(&place, "--files-from - --json", b"*.png\n-\n");
    let none = ["*.png: no such file or folder", "-: no such file or folder"];
    assert_eq!(named(&said), none);
    #[cfg(unix)]
    {
        place.write("two\nlines.png", png(&picture(16, 16, 3)));
        let said = run(
            &place,
            "--files-from - --null --json",
            b"a.png\0two\nlines.png\0",
        )
        .ok();
        assert_eq!(named(&said), ["a.png", "two\nlines.png"]);
    }
    let said = run(&place, "--files-from - --json", b"a.png\0b.png\0");
    assert!(
        named(&said)[0].contains("--null reads names that end with NUL"),
        "{said:#?}"
    );
    let said = run(&place, "--files-from - --json", b"");
    assert_eq!(named(&said), ["standard input: a list without a name"]);
    fails(
        &run(&place, "- --files-from -", b""),
        "--files-from - and the input - both read standard input; write the list to a file",
    );
    let said = run(&place, "--files-from nowhere", b"");
    assert!(
        said.code == 1 && said.err.starts_with("error: cannot read nowhere: "),
        "{said:#?}"
    );
    assert_eq!(run(&place, "a.png --null", b"").code, 2);
}

#[test]
fn a_quoted_glob_means_what_the_shell_makes_of_it() {
    let place = place();
    place.write("in/x/f.png", png(&picture(16, 16, 9)));
    place.write("in/y/g.png", png(&picture(16, 16, 8)));
    let said = run(&place, "in/* [ab].png --json", &[]).ok();
    assert_eq!(named(&said), ["in/x/f.png", "in/y/g.png", "a.png", "b.png"]);
    // Each picture once, however many folders around it match.
    let said = run(&place, "in/** --json", &[]).ok();
    assert_eq!(named(&said), ["in/x/f.png", "in/y/g.png"]);
}

#[test]
fn each_answer_comes_before_the_next_picture_is_named() {
    let place = place();
    let mut child = start(&place, "--csv --files-from -");
    let mut names = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for (i, name) in ["a.png", "b.png", "c.png"].into_iter().enumerate() {
        writeln!(names, "{name}").unwrap();
        names.flush().unwrap();
        if i == 0 {
            let head = lines.next().unwrap().unwrap();
            assert_eq!(head, "filename,index,label,prob,error");
        }
        // This would wait for ever if the answer waited for the end of the list.
        let row = lines.next().unwrap().unwrap();
        assert!(row.starts_with(&format!("{name},")), "{row}");
    }
    drop(names);
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_a_whole_document() {
    use std::os::unix::process::ExitStatusExt;
    let place = place();
    for (format, answered) in [("--json", 2), ("--csv", 1)] {
        let mut child = start(&place, &format!("{format} --files-from -"));
        let mut names = child.stdin.take().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut text = Vec::new();
        for name in ["a.png", "b.png"].into_iter().take(answered) {
            writeln!(names, "{name}").unwrap();
            names.flush().unwrap();
            let mut part = [0; 1000];
            let count = out.read(&mut part).unwrap();
            text.extend(&part[..count]);
        }
        let interrupt = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(interrupt.unwrap().success());
        out.read_to_end(&mut text).unwrap();
        // As a shell sees it: 130.
        assert_eq!(child.wait().unwrap().signal(), Some(2));
        let text = String::from_utf8(text).unwrap();
        match format {
            "--json" => {
                let value: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(value.as_array().unwrap().len(), answered, "{text}");
            }
            _ => assert_eq!(text.lines().count(), 1 + answered, "{text}"),
        }
    }
}

#[test]
fn weights_of_another_program_never_leave_the_answer_to_those_that_ship() {
    let place = place();
    place.write("theirs/pytorch_model.bin", "weights");
    place.write("theirs/chart.png", png(&picture(16, 16, 1)));
    place.write("model.pth", "weights");
    place.write("kept/flowers.safetensors", "weights");
    fails(
        &place.run("classify theirs a.png"),
        "theirs: a folder with weights of another program (pytorch_model.bin), which are not read here; if its pictures are meant, name the weights that answer, as in `vitrine classify --weights cifar10-vit theirs`",
    );
    fails(
        &place.run("classify a.png theirs"),
        "theirs: a folder with weights of another program (pytorch_model.bin), which are not read here; if its pictures are meant, name the weights that answer, as in `vitrine classify --weights cifar10-vit theirs`",
    );
    fails(
        &place.run("classify model.pth a.png"),
        "model.pth: weights of another program, which are not read here; expected a run directory or a .safetensors file of vitrine before the pictures",
    );
    fails(
        &place.run("classify kept a.png"),
        "kept: a folder with weights in it; name their file, as in `vitrine classify kept/flowers.safetensors PICTURE`; if its pictures are meant, name the weights that answer, as in `vitrine classify --weights cifar10-vit kept`",
    );
    // The way out works.
    let said = place
        .run("classify --weights cifar10-vit theirs --json")
        .ok();
    assert_eq!(named(&said), ["theirs/chart.png"]);

    // Who names no weights learns what those that ship can say, before the first answer.
    let said = place.run("classify a.png b.png").ok();
    let told = "know airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck; a picture of anything else is called one of these too";
    assert_eq!(said.err.matches(told).count(), 1, "{said:#?}");
}

//! Names that are no plain words, from the command line to the files of a run: other bytes, escape codes, line breaks,
//! dashes, and none at all.
#![allow(clippy::unwrap_used)]
// Linux takes any bytes for a name.
#![cfg(target_os = "linux")]

mod support;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use support::{Place, Said, picture, png};

/// A model that trains in milliseconds.
const TINY: &str = "--image-size 16 --steps 2 -b 8 --device cpu --set model.depth=1 \
    --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16";

fn of(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// A path in a place, by its bytes.
fn at(place: &Place, name: &[u8]) -> PathBuf {
    place.path(".").join(of(name))
}

/// Writes a file of a name that is not UTF-8, and the folders it lies in.
fn write(place: &Place, name: &[u8], bytes: impl AsRef<[u8]>) {
    let path = at(place, name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Runs `vitrine` with the words of `line`, `{}` standing for each of `names` in turn.
fn run(place: &Place, line: &str, names: &[&[u8]]) -> Said {
    let mut names = names.iter();
    let words: Vec<OsString> = line
        .split_whitespace()
        .map(|word| match word.split_once("{}") {
            Some((before, after)) => {
                let name = names.next().unwrap();
                of(&[before.as_bytes(), name, after.as_bytes()].concat()).to_owned()
            }
            None => word.into(),
        })
        .collect();
    place.run_with(&words, &[])
}

/// Folders of these classes, each with pictures of these names.
fn pictures(place: &Place, folder: &[u8], classes: &[&[u8]], names: &[&[u8]]) {
    for (c, class) in classes.iter().enumerate() {
        for (i, name) in names.iter().enumerate() {
            let path = [folder, class, name].join(&b'/');
            let picture = picture(16, 16, 1 + 50 * c as u32 + i as u32);
            write(place, &path, png(&picture));
        }
    }
}

const NUMBERS: [&[u8]; 8] = [
    b"0.png", b"1.png", b"2.png", b"3.png", b"4.png", b"5.png", b"6.png", b"7.png",
];

/// Whether a terminal would obey a part of this.
fn commands_a_terminal(text: &str) -> bool {
    let is_command = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.contains(|c| is_command(c) || ('\u{202a}'..='\u{202e}').contains(&c))
}

#[test]
fn a_name_that_is_not_utf8_is_taken_wherever_a_path_is() {
    let place = Place::new();
    let (data, dir): (&[u8], &[u8]) = (b"b\xeates", b"r\xe9sultat");
    pictures(&place, data, &[b"ch\xe2t", b"chien"], &NUMBERS);
    let trained = run(
        &place,
        &format!("train --data {{}} --out {{}} --json {TINY}"),
        &[data, dir],
    )
    .ok();
    assert_eq!(trained.json()["run"], r"r\xE9sultat");
    let recipe = fs::read_to_string(at(&place, dir).join("recipe.toml")).unwrap();
    assert!(
        recipe.contains(r"b\\xEAtes") || recipe.contains(r"b\xEAtes'"),
        "{recipe}"
    );
    // The run finds its data, and is found.
    let measured = run(&place, "eval {} --json --device cpu", &[dir]).ok();
    assert_eq!(measured.json()["n"], 2);
    assert_eq!(measured.json()["per_class"][0]["label"], r"ch\xE2t");
    run(&place, "train --resume {} --steps 3 --device cpu", &[dir]).ok();
    run(&place, "calibrate {} --device cpu", &[dir]).ok();
    let copy: &[u8] = b"co\xf1.safetensors";
    let told = run(&place, "export {} {} --json", &[dir, copy]).ok();
    assert_eq!(told.json()["out"], r"co\xF1.safetensors");
    run(
        &place,
        "train --init {} --data {} --out second --dry-run --device cpu",
        &[copy, data],
    )
    .ok();
    run(&place, "plot {} {} --together {}", &[dir, dir, b"t\xf4t"]).ok();
    assert!(at(&place, b"t\xf4t.png").is_file());
    run(&place, "data verify {}", &[data]).ok();
    // Beside other pictures, alone, and as a folder.
    place.write("ok.png", png(&picture(16, 16, 1)));
    write(&place, b"caf\xe9.png", png(&picture(16, 16, 2)));
    let said = run(
        &place,
        "classify {} ok.png {} {} --csv --topk 1",
        &[copy, b"caf\xe9.png", data],
    )
    .ok();
    let names: Vec<&str> = said
        .out
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap())
        .collect();
    assert_eq!(names[..2], ["ok.png", r"caf\xE9.png"]);
    assert_eq!((names.len(), names[2]), (18, r"b\xEAtes/ch\xE2t/0.png"));
}

#[test]
fn a_missing_path_is_named_as_it_can_be_typed_again() {
    let place = Place::new();
    pictures(&place, b"pets", &[b"cat", b"dog"], &NUMBERS);
    let said = run(&place, "classify {}", &[b"f\xeate.png"]);
    assert_eq!(
        said.err.lines().next().unwrap(),
        r"error: f\xEAte.png: no such file or folder"
    );
    write(&place, b"-r\xe9/recipe.toml", "");
    let said = run(
        &place,
        &format!("train --data pets --out={{}} {TINY}"),
        &[b"-r\xe9"],
    );
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(
        said.err.ends_with("with --resume $'./-r\\xe9'\n"),
        "{said:#?}"
    );
    let said = run(&place, "classify pets --topk {}", &[b"\xe9"]);
    assert_eq!(said.code, 2, "{said:#?}");
    assert!(said.err.contains(r"not UTF-8; found \xE9"), "{said:#?}");
}

#[test]
fn names_that_differ_in_one_byte_stay_apart() {
    let place = Place::new();
    let names: Vec<[u8; 7]> = (0..12)
        .map(|i| [b'a', 0xe0 + i, b'b', b'.', b'p', b'n', b'g'])
        .collect();
    let names: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
    pictures(&place, b"twins", &[b"cat", b"pi\xf0a", b"pi\xf1a"], &names);
    let info = place.run("data info twins --json").ok().json();
    assert_eq!(
        info["classes"],
        serde_json::json!(["cat", r"pi\xF0a", r"pi\xF1a"])
    );
    place
        .run(&format!("train --data twins --out run {TINY}"))
        .ok();
    let mut listed: Vec<String> = ["train", "val", "test"]
        .iter()
        .flat_map(|split| {
            place
                .read(&format!("run/splits/{split}.txt"))
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), 36);
    place.run("eval run --split train --device cpu").ok();
}

/// Everything that a name on disk may hold, as names of classes.
const ODD: [&[u8]; 9] = [
    b"re\x1b[31md\x07",
    "\u{202e}tac\u{9b}".as_bytes(),
    b"new\nline",
    b"tab\there",
    b"a,b",
    b"say \"hi\"",
    b"=1+1",
    b"R&D <b>",
    b"-dash",
];

#[test]
fn no_name_reaches_a_terminal_as_a_command_and_every_file_reads_back() {
    let place = Place::new();
    pictures(&place, b"odd\x1b[1m\n", &ODD, &NUMBERS);
    let odd: &[u8] = b"odd\x1b[1m\n";
    let info = run(&place, "data info {}", &[odd]).ok();
    // The heading, a line a class, the sum, three figures.
    assert_eq!(info.out.lines().count(), 2 + ODD.len() + 4, "{info:#?}");
    assert!(
        info.out.contains(r"re\u001B[31md\u0007 ") && info.out.contains(r"new\nline "),
        "{info:#?}"
    );
    let wanted: Vec<&str> = ODD
        .iter()
        .map(|name| std::str::from_utf8(name).unwrap())
        .collect();
    let mut classes: Vec<String> = serde_json::from_value(
        run(&place, "data info {} --json", &[odd]).ok().json()["classes"].clone(),
    )
    .unwrap();
    classes.sort();
    let mut sorted = wanted.clone();
    sorted.sort_unstable();
    assert_eq!(classes, sorted);

    write(&place, &[odd, b"/a,b/bad\x1b[2J\n.png"].concat(), "");
    let mut said = vec![info];
    said.push(
        run(
            &place,
            &format!("train --data {{}} --out run {TINY}"),
            &[odd],
        )
        .ok(),
    );
    said.push(place.run("eval run --device cpu").ok());
    said.push(place.run("plot run --format svg").ok());
    said.push(run(&place, "data verify {}", &[odd]));
    said.push(run(&place, "classify run {}", &[odd]));
    said.push(run(&place, "classify run {} --json", &[odd]));
    said.push(run(&place, "train --epochs {}", &[b"\x1b[31m"]));
    said.push(run(&place, "train --recipe {}", &[b"no\x1b[31m"]));
    said.push(run(&place, "train --set {}=1", &[b"mo\x1b[31mdel"]));
    said.push(run(&place, "data info {}", &[b"no\x1b[31m"]));
    said.push(run(&place, "classify {}", &[b"no\x1b[31m*"]));
    said.push(run(&place, "{}", &[b"tr\x1b[31main"]));
    for said in &said {
        assert!(
            !commands_a_terminal(&said.out) && !commands_a_terminal(&said.err),
            "{said:#?}"
        );
    }
    assert!(
        said[1]
            .err
            .contains(r"skipped a,b/bad\u001B[2J\n.png: empty file"),
        "{:#?}",
        said[1]
    );

    // A table is exact where a program reads it.
    let table = run(&place, "classify run {} --csv --topk 1", &[odd]);
    let mut rows = csv::Reader::from_reader(table.out.as_bytes());
    for row in rows.records() {
        let row = row.unwrap();
        // What a spreadsheet would compute follows an apostrophe.
        let label = row[2].strip_prefix('\'').unwrap_or(&row[2]);
        assert!(
            place.path(&row[0]).is_file() && (wanted.contains(&label) || label.is_empty()),
            "{row:?}"
        );
    }
    let confusion = fs::read(place.path("run/confusion_matrix.csv")).unwrap();
    let mut columns: Vec<String> = csv::Reader::from_reader(&confusion[..])
        .headers()
        .unwrap()
        .iter()
        .skip(1)
        .map(str::to_owned)
        .collect();
    columns.sort();
    // What a spreadsheet would compute follows an apostrophe here too.
    for column in &mut columns {
        if let Some(plain) = column.strip_prefix('\'') {
            *column = plain.to_owned();
        }
    }
    columns.sort();
    assert_eq!(columns, sorted);
    let lists = ["train", "val", "test"]
        .map(|split| place.read(&format!("run/splits/{split}.txt")))
        .concat();
    assert_eq!(lists.lines().count(), 8 * ODD.len() + 1);
    assert!(!commands_a_terminal(&lists), "{lists}");
    let mut drawings = 0;
    for file in place
        .listing("run")
        .iter()
        .filter(|file| file.ends_with(".svg"))
    {
        let drawing = place.read(&format!("run/{file}"));
        assert!(
            !commands_a_terminal(&drawing) && drawing.ends_with("</svg>\n"),
            "{file}"
        );
        drawings += 1;
    }
    assert_eq!(drawings, 5);
    let names = place.read("run/per_class.svg");
    assert!(
        names.contains("R&amp;D &lt;b&gt;") && names.contains(r"re\u001B[31md"),
        "{names}"
    );
}

#[test]
fn nothing_a_dash_and_a_slash_are_answered_in_words() {
    let place = Place::new();
    pictures(&place, b"-pets", &[b"-cat", b"dog"], &NUMBERS);
    for (line, missing) in [
        ("train --data {}", "--data <PATH>"),
        ("train --out {}", "--out <DIR>"),
        ("train --resume {}", "--resume <RUN>"),
        ("train --recipe {}", "--recipe <FILE>"),
        ("classify {}", "[INPUT]..."),
        ("classify a.png {}", "[INPUT]..."),
        ("eval {}", "<RUN|WEIGHTS>"),
        ("data info {}", "[PATH]"),
        ("data download mnist --mirror {}", "--mirror <URL>"),
        ("plot {}", "<RUN>..."),
    ] {
        let said = run(&place, line, &[b""]);
        let message = format!("error: a value is required for '{missing}' but none was supplied");
        assert_eq!(
            (said.code, said.err.lines().next().unwrap()),
            (2, message.as_str()),
            "{said:#?}"
        );
    }
    let said = place.run("train --data -pets");
    assert_eq!(said.code, 2, "{said:#?}");
    assert!(
        said.err
            .contains("tip: for the file or folder of that name write ./-pets\n"),
        "{said:#?}"
    );
    let said = place
        .run(&format!("train --data ./-pets/ --out=-run/ {TINY}"))
        .ok();
    assert!(said.out.contains("plots:    -run/results.png"), "{said:#?}");
    assert!(
        said.out.ends_with("classify ./-run/ ./-run/example.png\n"),
        "{said:#?}"
    );
    place.run("classify ./-run/ ./-pets/-cat/").ok();
    let said = place.run("classify [a");
    assert!(
        said.err
            .starts_with("error: [a: no such file, and not a glob either: "),
        "{said:#?}"
    );
}

#[test]
fn names_may_be_as_long_as_the_file_system_takes_them() {
    let place = Place::new();
    let long = |letter: u8| vec![letter; 255];
    let picture = [&[b'p'; 251][..], b".png"].concat();
    let names: Vec<&[u8]> = NUMBERS.into_iter().chain([&picture[..]]).collect();
    pictures(&place, &long(b'd'), &[&long(b'a'), &long(b'b')], &names);
    run(&place, &format!("train --data {{}} {TINY}"), &[&long(b'd')]).ok();
    let dirs = place.listing("runs");
    assert!(
        dirs[0].starts_with("dddd") && dirs[0].ends_with("d-vit-micro-1"),
        "{dirs:?}"
    );
    run(&place, "plot runs/{}", &[dirs[0].as_bytes()]).ok();
    run(
        &place,
        "train --data {} --out {} --dry-run --device cpu",
        &[&long(b'd'), &long(b'o')],
    )
    .ok();
}

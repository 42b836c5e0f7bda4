//! The floors that `src/lib.rs` draws hold: imports go down only, and what belongs in one place stays there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a module stands: its floor, its group there, and its place in the group's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    floor: usize,
    group: usize,
    step: usize,
}

impl Place {
    /// Down a floor, or along the arrows of one group.
    fn may_import(self, other: Place) -> bool {
        other.floor < self.floor
            || (other.floor == self.floor && other.group == self.group && other.step > self.step)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Reads a drawing such as `2  train → eval;  classify`, floor by floor.
fn parse(drawing: &str) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for line in drawing.lines() {
        let (floor, modules) = line.trim().split_once("  ").unwrap();
        let floor = floor.parse().unwrap();
        // Modules between commas at the end of a chain stand side by side; so do groups.
        for (group, chain) in modules.split(';').enumerate() {
            for (step, names) in chain.split('→').enumerate() {
                for name in names.split(',') {
                    places.insert(name.trim().to_owned(), Place { floor, group, step });
                }
            }
        }
    }
    places
}

/// The floors as the crate's documentation draws them: the one place where they are written.
fn floors() -> BTreeMap<String, Place> {
    let lib = fs::read_to_string(root().join("lib.rs")).unwrap();
    let docs: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let docs = docs.join("\n");
    let drawing = docs.split("```text\n").nth(1).unwrap();
    parse(drawing.split("\n```").next().unwrap())
}

/// Every source file with its path below `src` and its text without comments.
fn sources() -> Vec<(String, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    collect(&root(), &mut files);
    files.sort();
    files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap();
            let name = name.to_str().unwrap().replace('\\', "/");
            (name, without_comments(&fs::read_to_string(path).unwrap()))
        })
        .collect()
}

fn without_comments(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `src/train/ema.rs` → `train`, `src/eval.rs` → `eval`.
fn module(file: &str) -> &str {
    let first = file.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

fn identifier(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

/// The modules that follow `prefix`, as in `crate::data::…` and `crate::{data, model}`.
fn imports<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        // `mycrate::` and `$crate::` are other names.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if fresh && !c.is_whitespace() => {
                    found.push(identifier(&list[i..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// What a file imports against the floors.
fn wrong(file: &str, text: &str, floors: &BTreeMap<String, Place>) -> Vec<String> {
    let own = module(file);
    let prefix = if own == "main" {
        "vitrine::"
    } else {
        "crate::"
    };
    let mut imported = imports(text, prefix);
    if !file.contains('/') {
        // Directly below the crate's root, `super` is another spelling of `crate`; indented, it
        // is the test module's.
        imported.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("use super::"))
                .map(identifier),
        );
    }
    imported
        .into_iter()
        .filter(|other| *other != own)
        .filter_map(|other| match (floors.get(own), floors.get(other)) {
            (Some(from), Some(to)) if from.may_import(*to) => None,
            (Some(from), Some(to)) => Some(format!(
                "src/{file}: {own} (floor {}) imports {other} (floor {})",
                from.floor, to.floor
            )),
            _ => Some(format!(
                "src/{file}: {own} imports {other}, and src/lib.rs gives one of them no floor"
            )),
        })
        .collect()
}

#[test]
fn imports_go_down_only() {
    let floors = floors();
    let found: Vec<String> = sources()
        .iter()
        .filter(|(file, _)| file != "lib.rs")
        .flat_map(|(file, text)| wrong(file, text, &floors))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// `src/train/ema.rs` → `[train, ema]`, `src/train/mod.rs` → `[train]`.
fn module_path(file: &str) -> Vec<&str> {
    let mut path: Vec<&str> = file.strip_suffix(".rs").unwrap().split('/').collect();
    path.pop_if(|last| *last == "mod");
    path
}

/// The paths that the tree of a `use` names: `a::{b, c::d}` → `[a, b]`, `[a, c, d]`.
fn named(tree: &str) -> Vec<Vec<&str>> {
    let tree = tree.trim();
    if let Some(list) = tree.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        let (mut depth, mut start, mut found) = (0, 0, Vec::new());
        for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.extend(named(&list[start..at]));
                    start = at + 1;
                }
                _ => {}
            }
        }
        return found;
    }
    match tree.split_once("::") {
        Some((first, rest)) => {
            let mut rest = named(rest);
            rest.iter_mut().for_each(|path| path.insert(0, first));
            rest
        }
        None if tree.is_empty() => Vec::new(),
        None => vec![vec![tree.split_whitespace().next().unwrap()]],
    }
}

/// What the files of each room import from their own room: the file that imports, the one that is
/// imported, and the name. A path leads to the file of its longest part that is a module. Paths
/// within the code are not looked at.
fn inside(files: &[(String, String)]) -> Vec<(&str, &str, &str)> {
    let file_of: BTreeMap<Vec<&str>, &str> = files
        .iter()
        .map(|(file, _)| (module_path(file), file.as_str()))
        .collect();
    let mut found = Vec::new();
    for (file, text) in files {
        let own = module_path(file);
        let uses = text.split_inclusive(';').filter_map(|statement| {
            let at = statement.rfind("\nuse ").map(|at| at + 5);
            let at = at.or_else(|| statement.strip_prefix("use ").map(|_| 4));
            let at = at.or_else(|| statement.rfind(" use ").map(|at| at + 5))?;
            statement[at..].strip_suffix(';')
        });
        for path in uses.flat_map(named) {
            let above = path.iter().take_while(|name| **name == "super").count();
            let absolute: Vec<&str> = match path[0] {
                "crate" => path[1..].to_vec(),
                "super" => {
                    let base = &own[..own.len().saturating_sub(above)];
                    [base, &path[above..]].concat()
                }
                "self" => [&own, &path[1..]].concat(),
                _ => [&own, &path[..]].concat(),
            };
            let longest = (1..=absolute.len())
                .rev()
                .find_map(|n| Some((n, *file_of.get(&absolute[..n])?)));
            if let Some((n, target)) = longest
                && absolute[0] == own[0]
                && target != file
            {
                found.push((file.as_str(), target, *absolute.get(n).unwrap_or(&"")));
            }
        }
    }
    found
}

/// Imports of a contents page by what stands below it, for more than a type that is defined there.
fn up(files: &[(String, String)]) -> Vec<String> {
    let text = |file: &str| &files.iter().find(|(known, _)| known == file).unwrap().1;
    let defines = |file: &str, name: &str| {
        let kinds = ["struct", "enum", "trait", "type", "const"];
        let words: Vec<&str> = text(file)
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .collect();
        words
            .windows(2)
            .any(|pair| kinds.contains(&pair[0]) && pair[1] == name)
    };
    inside(files)
        .into_iter()
        .filter(|(file, target, name)| {
            let (own, above) = (module_path(file), module_path(target));
            own.starts_with(&above) && !defines(target, name)
        })
        .map(|(file, target, name)| format!("src/{file} imports {name} of src/{target}"))
        .collect()
}

/// Files that import each other in a circle; a contents page, which names all that lie below it, is
/// none of them.
fn circles(files: &[(String, String)]) -> Vec<String> {
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, target, _) in inside(files) {
        // Only what a file takes from a page above it is left out.
        if !module_path(file).starts_with(&module_path(target)) {
            below.entry(file).or_default().push(target);
        }
    }
    let reaches_itself = |start: &str| {
        let (mut seen, mut left) = (Vec::new(), vec![start]);
        while let Some(file) = left.pop() {
            for &next in below.get(file).into_iter().flatten() {
                if next == start {
                    return true;
                }
                if !seen.contains(&next) {
                    seen.push(next);
                    left.push(next);
                }
            }
        }
        false
    };
    let circular = below.keys().filter(|file| reaches_itself(file));
    circular
        .map(|file| format!("src/{file} imports itself, by others"))
        .collect()
}

#[test]
fn inside_a_room_imports_go_down_too() {
    let files = code();
    assert!(inside(&files).len() > 300, "the imports are found");
    let nothing: Vec<String> = Vec::new();
    assert_eq!(up(&files), nothing);
    assert_eq!(circles(&files), nothing);
}

#[test]
fn an_import_up_and_a_circle_are_seen() {
    let files = |texts: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = |(file, text): &(&str, &str)| ((*file).to_owned(), (*text).to_owned());
        texts.iter().map(owned).collect()
    };
    let page = "mod low;\nmod high;\npub use high::High;\npub struct Shared;\npub fn work() {}\n";
    let room = |low: &str, high: &str| {
        files(&[
            ("room/mod.rs", page),
            ("room/low.rs", low),
            ("room/high.rs", high),
        ])
    };
    let good = room(
        "use super::Shared;\n",
        "use super::low::{Low, more::Than};\nuse super::Shared;\n",
    );
    assert_eq!((up(&good).len(), circles(&good).len()), (0, 0));
    // What is only handed on, what works, and a circle by each way to write it.
    assert_eq!(up(&room("use super::High;\n", "")).len(), 1);
    assert_eq!(up(&room("use crate::room::{Shared, work};\n", "")).len(), 1);
    let bad = room(
        "use crate::room::high::High;\n",
        "pub(crate) use super::low::Low;\n",
    );
    assert_eq!((up(&bad).len(), circles(&bad).len()), (0, 2));
}

#[test]
fn every_module_has_a_floor() {
    let floors = floors();
    for (file, _) in sources() {
        let module = module(&file);
        assert!(
            module == "lib" || floors.contains_key(module),
            "src/{file}: {module} stands on no floor in src/lib.rs"
        );
    }
}

#[test]
fn a_wrong_import_is_seen() {
    let floors = parse("1  high → low, lower;  aside\n0  ground, cellar");
    let wrong = |file: &str, text: &str| wrong(file, text, &floors).len();
    assert_eq!(
        wrong("high.rs", "use crate::low::A;\nuse crate::ground;"),
        0
    );
    assert_eq!(wrong("high/part.rs", "use crate::high::A;"), 0);
    // Up, sideways, and against the arrow.
    assert_eq!(wrong("ground.rs", "use crate::high::A;"), 1);
    assert_eq!(wrong("ground/part.rs", "let a = crate::cellar::A;"), 1);
    assert_eq!(wrong("low.rs", "use crate::high::A;"), 1);
    assert_eq!(wrong("low.rs", "use crate::lower::A;"), 1);
    assert_eq!(wrong("aside.rs", "use crate::low::A;"), 1);
    assert_eq!(wrong("cellar.rs", "use super::ground;"), 1);
    assert_eq!(
        wrong(
            "ground.rs",
            "use crate::{\n  ground::{A, B},\n  low::{C, D}, cellar};"
        ),
        2
    );
    assert_eq!(wrong("high.rs", "use crate::unheard_of::A;"), 1);
}

/// The files below `src`, outside `places`, whose code holds one of `words`.
fn strays(words: &[&str], places: &[&str]) -> Vec<String> {
    strays_of(&sources(), words, places)
}

/// Files and their texts without the tests.
fn code() -> Vec<(String, String)> {
    let mut files = sources();
    files.retain(|(file, _)| !file.ends_with("tests.rs") && !file.contains("tests/"));
    for (_, text) in &mut files {
        let tests = [
            "\nmod tests {",
            "\npub(super) mod tests {",
            "\npub(crate) mod tests {",
        ];
        if let Some(at) = tests.iter().filter_map(|start| text.find(start)).min() {
            text.truncate(at);
        }
    }
    files
}

fn strays_of(files: &[(String, String)], words: &[&str], places: &[&str]) -> Vec<String> {
    let is_word = |text: &str, at: usize, word: &str| {
        let letter = |c: char| c.is_alphanumeric() || c == '_';
        !text[..at].ends_with(letter) && !text[at + word.len()..].starts_with(letter)
    };
    files
        .iter()
        .filter(|(file, _)| !places.iter().any(|place| file.starts_with(place)))
        .flat_map(|(file, text)| {
            words
                .iter()
                .filter(|word| {
                    text.match_indices(**word)
                        .any(|(at, _)| is_word(text, at, word))
                })
                .map(move |word| format!("src/{file}: {word}"))
        })
        .collect()
}

#[test]
fn each_tool_stays_in_its_place() {
    let nothing: Vec<String> = Vec::new();
    assert_eq!(strays(&["clap", "indicatif", "ctrlc"], &["cli/"]), nothing);
    assert_eq!(strays(&["plotters"], &["report/plot/"]), nothing);
    assert_eq!(strays(&["ureq"], &["transfer.rs"]), nothing);
    assert_eq!(
        strays(
            &["println", "eprintln", "process::exit", "stdout", "stderr"],
            &["cli/", "device"]
        ),
        nothing
    );
}

#[test]
fn only_cli_names_flags() {
    // Flags of tar and cargo, in advice about archives and builds.
    let foreign = ["--dereference", "--sparse", "--release", "--features"];
    let mut found = Vec::new();
    for (file, text) in code() {
        if file.starts_with("cli/") {
            continue;
        }
        for (at, _) in text.match_indices("--") {
            let flag = &text[at..];
            let is_flag = flag[2..].starts_with(|c: char| c.is_ascii_lowercase());
            if is_flag && !foreign.iter().any(|known| flag.starts_with(known)) {
                found.push(format!("src/{file}: --{}", identifier(&flag[2..])));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn only_device_and_the_operations_name_a_backend() {
    let names = [
        "burn::backend",
        "burn_wgpu",
        "Flex",
        "NdArray",
        "LibTorch",
        "Wgpu",
        "WebGpu",
        "Vulkan",
        "Metal",
        "Cuda",
        "Rocm",
        "Hip",
        "feature = \"cpu\"",
        "feature = \"wgpu\"",
        "feature = \"cuda\"",
    ];
    assert_eq!(strays(&names, &["device", "ops/"]), Vec::<String>::new());
    // Tests choose a device of their own.
    let names = [
        "Device::flex",
        "Device::wgpu",
        "Device::vulkan",
        "Device::metal",
        "Device::cuda",
        "Device::rocm",
        "Device::default",
        "DeviceKind",
        "DeviceType",
    ];
    let found = strays_of(&code(), &names, &["device", "ops/"]);
    assert_eq!(found, Vec::<String>::new());
    let inner = strays_of(&code(), &["Device::flex"], &["device"]);
    assert!(!inner.is_empty(), "where it is allowed it is found");
}

#[test]
fn the_kernels_know_slices_only_and_the_operations_alone_know_the_kernels() {
    let manifest = fs::read_to_string(root().join("../kernels/Cargo.toml")).unwrap();
    let code: Vec<&str> = manifest
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert!(code.iter().any(|line| line.starts_with("rayon")));
    let above = |line: &&&str| line.starts_with("burn") || line.starts_with("vitrine");
    assert_eq!(code.iter().find(above), None);
    let found = strays(&["vitrine_kernels"], &["ops/"]);
    assert_eq!(found, Vec::<String>::new());
    assert!(!strays(&["vitrine_kernels"], &[]).is_empty());
}

#[test]
fn main_is_short() {
    let main = fs::read_to_string(root().join("main.rs")).unwrap();
    let lines = main.lines().count();
    assert!(
        lines <= 60,
        "src/main.rs has {lines} lines: expected at most 60"
    );
}

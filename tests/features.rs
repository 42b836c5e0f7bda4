//! Features: written, probed, searched for neighbours, and compared with what was learned.
#![allow(clippy::unwrap_used)]

// Each test file uses its own part of what the support offers.
#[allow(dead_code, unreachable_pub)]
mod support;

use support::{Place, fails, picture, png};

/// `a.png` to `c.png` and a file that is none.
fn place() -> Place {
    let place = Place::new();
    for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
        place.write(&format!("{name}.png"), png(&picture(16, 16, i as u32)));
    }
    place.write("broken.png", "not a picture");
    place
}

#[test]
fn features_of_files_have_a_row_each_in_every_format_and_what_is_broken_has_none() {
    let place = place();
    let line = "embed cifar10-vit a.png broken.png b.png --device cpu --json --out";
    let said = place.run(&format!("{line} f.csv"));
    assert_eq!(said.code, 1, "{said:?}");
    let json = said.json();
    assert_eq!(
        (&json["pictures"], &json["width"]),
        (&2.into(), &192.into())
    );
    assert_eq!(json["skipped"][0]["name"], "broken.png");
    assert!(
        said.err
            .ends_with("1 of 3 could not be read and have no row\n")
    );
    let table = place.read("f.csv");
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.len() == 194));
    assert_eq!(rows[0][..3], ["filename", "label", "f0"]);
    assert_eq!((rows[1][0], rows[2][0], rows[2][1]), ("a.png", "b.png", ""));
    // The same numbers in all formats.
    let numbers: Vec<f32> = rows[1..]
        .iter()
        .flat_map(|row| row[2..].iter().map(|v| v.parse::<f32>().unwrap()))
        .collect();
    // The table of names lies where the table of features lies.
    fails(
        &place.run(&format!("{line} f.npy")),
        "--out: f.csv exists: name another file, or remove it first",
    );
    std::fs::rename(place.path("f.csv"), place.path("old.csv")).unwrap();
    place.run(&format!("{line} f.npy"));
    fails(
        &place.run(&format!("{line} f.npy")),
        "--out: f.npy exists: name another file, or remove it first",
    );
    assert_eq!(place.read("f.csv"), "filename,label\na.png,\nb.png,\n");
    let npy = std::fs::read(place.path("f.npy")).unwrap();
    let (values, _) = npy[npy.len() - 4 * numbers.len()..].as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(values, numbers);
    place.run(&format!("{line} f.safetensors"));
    let read = vitrine::checkpoint::Features::open(&place.path("f.safetensors")).unwrap();
    assert_eq!((read.values, read.labels), (numbers, None));
    fails(
        &place.run("embed cifar10-vit a.png --out f.txt"),
        "--out: f.txt: expected a name that ends in .safetensors, .npy or .csv",
    );
    let said = place.run("embed cifar10-vit broken.png --device cpu --out g.npy");
    let last = "\nerror: none of 1 pictures could be read: there is nothing to write\n";
    assert!(said.code == 1 && said.err.ends_with(last), "{said:?}");
    assert!(!place.path("g.npy").exists() && !place.path("g.csv").exists());
}

#[test]
fn features_of_a_data_set_know_its_labels() {
    let place = Place::new();
    place.pictures("data/train", &["cat", "dog"], 3);
    place.pictures("data/test", &["cat", "dog"], 2);
    let said = place
        .run("embed cifar10-vit --data data --out all.safetensors --device cpu")
        .ok();
    assert!(
        said.out
            .contains("6 pictures, 192 features each, labels of 2 classes")
    );
    let features = |name: &str| vitrine::checkpoint::Features::open(&place.path(name)).unwrap();
    let train = features("all.safetensors");
    assert_eq!(train.labels, Some(vec![0, 0, 0, 1, 1, 1]));
    assert_eq!(train.about.classes, ["cat", "dog"]);
    assert_eq!(train.about.split.as_deref(), Some("train"));
    place
        .run("embed cifar10-vit --data data --split test --out test.csv --device cpu")
        .ok();
    assert_eq!(place.read("test.csv").lines().count(), 5);
    assert!(
        place
            .read("test.csv")
            .lines()
            .nth(4)
            .unwrap()
            .contains(",dog,")
    );
    // A file and the same picture of the data set have the same features.
    let name = &train.about.names[0];
    place
        .run(&format!(
            "embed cifar10-vit data/{name} --out one.safetensors --device cpu"
        ))
        .ok();
    assert_eq!(features("one.safetensors").values, train.values[..192]);
    fails(
        &place.run("embed cifar10-vit --data data --split val --out v.csv"),
        "data has no val split; it has train, test; name one with --split",
    );
    fails(
        &place.run("embed cifar10-vit --out v.csv"),
        "cifar10-vit: no pictures to embed; name some, as in `vitrine embed cifar10-vit PICTURE --out v.csv`, or a data set with --data",
    );
}

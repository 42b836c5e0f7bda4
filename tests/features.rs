//! Features: written, probed, searched for neighbours, and compared with what was learned.
#![allow(clippy::unwrap_used)]

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

/// Two classes of pictures that a colour tells apart.
fn colours(place: &Place, folder: &str, copies: u32) {
    for (class, red) in [("cold", 30), ("warm", 220)] {
        for i in 0..copies {
            let mut one = picture(16, 16, 7 * i + u32::from(red));
            one.pixels_mut().for_each(|p| p.0[0] = red);
            place.write(&format!("{folder}/{class}/{i}.png"), png(&one));
        }
    }
}

const PROBE: &str = "train --probe --init cifar10-vit --device cpu --data data";

#[test]
fn a_probe_is_a_run_like_any_other_and_changes_the_head_alone() {
    let place = Place::new();
    colours(&place, "data/train", 8);
    colours(&place, "data/val", 4);
    colours(&place, "data/test", 4);
    let said = place.run(&format!("{PROBE} --out a")).ok();
    let first = said.out.lines().next().unwrap();
    assert!(
        first.starts_with("fitted a probe on 16 pictures in "),
        "{first}"
    );
    assert!(first.ends_with(" on validation"), "{first}");
    assert!(said.out.contains("test top-1: 100.0 %"), "{}", said.out);
    // What it starts from, under another head.
    let tensors = |run: &str| {
        let file = std::fs::read(place.path(&format!("{run}/weights/best.safetensors"))).unwrap();
        let read = safetensors::SafeTensors::deserialize(&file).unwrap();
        let all = read
            .iter()
            .map(|(name, view)| (name.to_owned(), view.data().to_vec()));
        all.collect::<std::collections::BTreeMap<_, _>>()
    };
    place.folder("c/weights");
    place
        .run("export cifar10-vit c/weights/best.safetensors")
        .ok();
    let (mut fitted, mut start) = (tensors("a"), tensors("c"));
    for head in ["Vit.head.weight", "Vit.head.bias"] {
        assert_ne!(fitted.remove(head), start.remove(head));
    }
    // The weights that ship are in 16 bits; widened, they are the same in both.
    assert!(fitted == start);
    // The same once more, and with mirror images not quite.
    place.run(&format!("{PROBE} --out b")).ok();
    assert!(tensors("a") == tensors("b"));
    let mirrored = PROBE.replace("--probe", "--probe=mirror");
    place.run(&format!("{mirrored} --out m")).ok();
    assert!(tensors("a") != tensors("m"));
    let table = place.read("a/results.csv");
    assert!(table.starts_with(
        "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,probe/l2,lr/pg0,"
    ));
    assert!(place.path("a/results.png").exists() && place.path("a/predictions.png").exists());
    assert!(place.read("a/recipe.toml").contains("probe = \"plain\""));
    // What is done with any run.
    let named = place
        .run("classify a data/test/warm/0.png --topk 1 --csv")
        .ok();
    assert!(
        named.out.contains("data/test/warm/0.png,1,warm,"),
        "{}",
        named.out
    );
    place.run("eval a --device cpu").ok();
    place.run("calibrate a --device cpu").ok();
    place.run("export a small.safetensors --int8").ok();
    place.run("plot a").ok();
    place.run("data info data").ok();
    let again = place.run("train --resume a --device cpu").ok();
    assert!(
        again
            .err
            .contains("this probe is fitted and is only evaluated again")
    );
    // A kill after the state and before the weights leaves them to a resume.
    std::fs::remove_file(place.path("b/weights/best.safetensors")).unwrap();
    place.run("train --resume b --device cpu").ok();
    assert!(tensors("b").contains_key("Vit.head.weight"));
    place
        .run("train --model resnet9 --image-size 8 --device cpu --data data --steps 1 -b 4 --out t")
        .ok();
    let compared = place
        .run("compare b t --device cpu --out both --json")
        .ok()
        .json();
    assert_eq!(compared["rows"].as_array().unwrap().len(), 2);
    fails(
        &place.run("train --resume a --epochs 3"),
        "a is a probe, which has found its optimum: --epochs does not go with it",
    );
}

#[test]
fn photos_says_what_it_chose() {
    let place = Place::new();
    colours(&place, "data/train", 8);
    colours(&place, "data/val", 4);
    colours(&place, "other", 8);
    std::fs::rename(place.path("other/cold"), place.path("other/icy")).unwrap();
    place
        .run("train --model vit-micro --image-size 16 --device cpu --data other --steps 1 -b 4 --out w")
        .ok();
    let chosen = |more: &str| {
        let train = "train --recipe photos --device cpu --data data --steps 2 -b 4";
        let said = place.run(&format!("{train} {more}")).ok().err;
        let line = said.lines().find(|line| line.starts_with("photos: "));
        (line.unwrap().to_owned(), said)
    };
    let fitted = "head fitted on features of the weights in ";
    let (line, said) = chosen("--init w --out a");
    let start = "photos: vit-micro from weights (a new head is fitted on frozen features first, then all layers learn) at 16x16; AdamW at ";
    assert!(line.starts_with(start), "{line}");
    let course =
        ", each layer at 0.75 of the rate of the one above, batches of 4, 2 updates; crops of ";
    assert!(line.contains(course), "{line}");
    let fit = said.lines().find(|line| line.starts_with(fitted));
    let told = " % top-1 on validation; now all that is not frozen learns";
    assert!(fit.unwrap().ends_with(told), "{said}");
    // Their classes: the head stays. What is stated wins.
    let (line, said) = chosen("--init a --freeze 2 --lr 0.25 --out b");
    let start = "photos: vit-micro from weights (their head is kept, then all above block 2 learns) at 16x16; AdamW at 2.5e-1, ";
    assert!(line.starts_with(start), "{line}");
    assert!(!said.contains(fitted), "{said}");
    let scratch = "--model vit-micro --image-size 16 --set augment.policy=randaugment";
    let (line, said) = chosen(&format!("{scratch} --out c"));
    let start = "photos: vit-micro from scratch at 16x16; Muon at 2e-2, AdamW beside it at 2e-3, batches of 4, 2 updates; ";
    assert!(line.starts_with(start), "{line}");
    let end = " % of a picture, random flips, randaugment";
    assert!(line.ends_with(end), "{line}");
    assert!(!said.contains(fitted), "{said}");
    // A probe takes of it what it takes of any recipe.
    let probe = "train --probe --recipe photos --init w --device cpu --data data --out p";
    place.run(probe).ok();
}

#[test]
fn a_probe_without_validation_uses_folds_and_what_means_nothing_to_it_is_refused() {
    let place = Place::new();
    colours(&place, "data", 5);
    let line = format!("{PROBE} --val-fraction 0 --test-fraction 0 --out a --json");
    let json = place.run(&line).ok().json();
    assert_eq!((&json["val"], &json["test"]), (&().into(), &().into()));
    assert!(json["probe"]["l2"].as_f64().unwrap() < 100.0, "{json}");
    let info = place.run("classify a data/cold/0.png --json").ok().json();
    assert_eq!(info[0]["predictions"][0]["label"], "cold");
    let file = vitrine::checkpoint::TensorFile::open(&place.path("a/weights/best.safetensors"));
    let meta = vitrine::checkpoint::meta(&file.unwrap()).unwrap();
    assert_eq!(meta.val_top1, None);
    for (more, found) in [
        ("--epochs 3", "--epochs"),
        ("--lr 0.1", "--lr"),
        ("--freeze 2", "--freeze"),
        ("--set augment.flip=false", "--set augment.flip=false"),
    ] {
        let said = place.run(&format!("{PROBE} {more}"));
        let told = format!(
            "without a budget, a learning rate or augmentation: {found} does not go with it; --data, "
        );
        assert!(said.code == 1 && said.err.contains(&told), "{said:?}");
    }
    fails(
        &place.run("train --set init.head=probe --data data"),
        "init.head is probe: expected fresh without weights to start from, since random features are worth no fit; name some with --init",
    );
    fails(
        &place.run("train --probe --data data"),
        "--probe needs weights whose features it is fitted on: name some with --init",
    );
    assert!(!place.path("runs").exists());
}

#[test]
fn a_probe_says_what_it_would_take_and_where_its_time_went() {
    let place = Place::new();
    colours(&place, "data/train", 8);
    colours(&place, "data/val", 4);
    let mirrored = PROBE.replace("--probe", "--probe=mirror");
    let said = place.run(&format!("{mirrored} --dry-run")).ok();
    for line in [
        "probe = \"mirror\"\n",
        "# probe: one pass over the pictures of train and val and of the mirror images of train; a linear classifier of 192 features is fitted\n",
        "(from 14 pictures)",
        "; fit and evaluation not counted\n",
    ] {
        assert!(said.out.contains(line), "{line}: {said:#?}");
    }
    assert!(
        said.err.contains("nothing was written; measured for "),
        "{said:#?}"
    );
    assert!(!place.path("runs").exists());
    let json = place.run(&format!("{PROBE} --dry-run --json")).ok().json();
    assert_eq!(
        (&json["pictures"], &json["features"]),
        (&22.into(), &192.into())
    );
    for seconds in ["decoding_s", "features_s"] {
        assert!(json[seconds].as_f64().unwrap() > 0.0, "{json}");
    }

    let said = place.run(&format!("{PROBE} --profile --out a")).ok();
    let begin = said.err.find("of the probe went:\n").unwrap();
    let parts: Vec<&str> = said.err[begin..]
        .lines()
        .skip(1)
        .map_while(|line| line.strip_prefix("  "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(parts, ["decoding", "features", "fit"], "{said:#?}");
    assert!(said.err[begin..].contains("by operation:\n  "), "{said:#?}");
    // Pictures a second are those of the pass, not of the fit.
    let info: serde_json::Value = serde_json::from_str(&place.read("a/run.json")).unwrap();
    let rate = info["training_images_per_s"].as_f64().unwrap();
    let whole = 14.0 / info["training_s"].as_f64().unwrap();
    assert!(rate > whole && rate < 1e5, "{info}");
}

/// Trains the model of small weights in three ways.
const WAYS: &str = "compare --init w --data data --device cpu --budget epochs=1 \
    --set train.batch_size=4 --set init.layer_decay=0.5";

#[test]
fn a_probe_fine_tuning_and_scratch_are_set_side_by_side() {
    let place = Place::new();
    colours(&place, "data/train", 8);
    colours(&place, "data/val", 4);
    colours(&place, "data/test", 4);
    place
        .run(
            "train --data data --out w --steps 1 -b 4 --image-size 16 --device cpu --set model.depth=1 \
             --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16",
        )
        .ok();
    let said = place.run(&format!("{WAYS} --seeds 2 --dry-run")).ok();
    assert!(
        said.out.contains("\n5 trainings (3 ways, 2 seeds), about "),
        "{said:#?}"
    );
    let dry = place
        .run(&format!("{WAYS} --seeds 2 --dry-run --json"))
        .ok()
        .json();
    let total: f64 = [1.0, 2.0, 2.0]
        .iter()
        .zip(dry["models"].as_array().unwrap())
        .map(|(seeds, way)| seeds * way["training_s"].as_f64().unwrap())
        .sum();
    assert!(
        (dry["total_s"].as_f64().unwrap() - total).abs() < 1e-9,
        "{dry}"
    );
    assert!(!place.path("three").exists() && !place.path("runs").exists());

    let said = place.run(&format!("{WAYS} --seeds 2 --out three")).ok();
    assert!(
        said.err
            .contains("run 5 of 5: scratch, seed 1, in three/scratch-seed1"),
        "{said:#?}"
    );
    // The start is what is compared: it is said, and is no reason to doubt the test.
    let line = |begin: &str| said.out.lines().find(|l| l.starts_with(begin));
    assert!(
        line("start  ").unwrap().contains("from scratch"),
        "{said:#?}"
    );
    assert!(
        line("what learns  ")
            .unwrap()
            .contains("a linear classifier"),
        "{said:#?}"
    );
    for absent in [
        "budget  ",
        "optimizer.lr  ",
        "augment.",
        "train.batch_size  ",
    ] {
        assert_eq!(line(absent), None, "{said:#?}");
    }
    assert!(
        !said.out.contains("also differ") && !said.out.contains("differ in more than the model"),
        "{said:#?}"
    );
    let json: serde_json::Value = serde_json::from_str(&place.read("three/compare.json")).unwrap();
    let names: Vec<&str> = json["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["model"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["probe", "fine-tuned", "scratch"]);
    // One probe against both seeds of the others.
    assert_eq!(json["rows"][0]["top1"].as_array().unwrap().len(), 1);
    assert_eq!(
        json["pairs"][1]["seeds"],
        serde_json::json!([[0, 0], [0, 1]])
    );
    assert_eq!(
        json["pairs"][2]["seeds"],
        serde_json::json!([[0, 0], [1, 1]])
    );
    // What each was: the same model on the same pictures, from the weights or not.
    let recipe = |run: &str| {
        let path = place.path(&format!("three/{run}/recipe.toml"));
        vitrine::recipe::Recipe::load(&path).unwrap()
    };
    let [probe, tuned, scratch] = ["probe-seed0", "fine-tuned-seed1", "scratch-seed1"].map(recipe);
    assert!(probe.init.probe.is_some() && probe.init.sha256 == tuned.init.sha256);
    assert_eq!(tuned.init.finetune.layer_decay, 0.5);
    assert_eq!(scratch.init, vitrine::recipe::Recipe::default().init);
    for other in [&tuned, &probe] {
        assert_eq!(scratch.model, other.model);
        assert_eq!(scratch.preprocess, other.preprocess);
        assert_eq!(scratch.data, other.data);
    }
    assert_eq!(scratch.optimizer, tuned.optimizer);
    // Asked again it trains nothing; finished runs are compared in the same words.
    let weights = "three/scratch-seed1/weights/best.safetensors";
    let before = std::fs::read(place.path(weights)).unwrap();
    std::fs::remove_dir_all(place.path("three/probe-seed0/checkpoint")).unwrap();
    std::fs::remove_dir_all(place.path("three/probe-seed0/weights")).unwrap();
    place.run(&format!("{WAYS} --seeds 2 --out three")).ok();
    assert_eq!(std::fs::read(place.path(weights)).unwrap(), before);
    assert!(
        place
            .path("three/probe-seed0/weights/best.safetensors")
            .exists()
    );
    let said = place
        .run("compare three/probe-seed0 three/fine-tuned-seed0 three/scratch-seed0 --device cpu")
        .ok();
    assert!(!said.out.contains("also differ"), "{said:#?}");
    fails(
        &place.run(&format!(
            "{WAYS} --seeds 2 --out three --set optimizer.lr=0.5"
        )),
        "three/fine-tuned-seed0 was trained with optimizer.lr = 0.001, now it is 0.5: name another folder with --out, or use the same setting",
    );
    fails(
        &place.run("compare --init w --models vit-micro,resnet9 --data data"),
        "--init trains the model of its weights in three ways, --models names models to train from scratch: leave one of them out",
    );
}

#[test]
fn neighbours_are_training_pictures_and_vote() {
    let place = Place::new();
    colours(&place, "data/train", 4);
    place
        .run("embed cifar10-vit --data data --out train.safetensors --device cpu")
        .ok();
    let line = "classify --weights cifar10-vit data/train/warm/2.png --topk 1 --neighbours-of train.safetensors";
    let json = place
        .run(&format!("{line} --neighbours 3 --json"))
        .ok()
        .json();
    let one = &json[0];
    let nearest = one["neighbours"].as_array().unwrap();
    assert_eq!(nearest.len(), 3);
    assert_eq!(nearest[0]["name"], "train/warm/2.png");
    assert!(nearest[0]["similarity"].as_f64().unwrap() > 0.9999);
    assert_eq!(
        (&one["vote"], &nearest[0]["label"]),
        (&"warm".into(), &"warm".into())
    );
    let table = place.run(&format!("{line} nowhere.png --csv")).out;
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(
        rows[0],
        "filename,index,label,prob,error,vote,vote_share,nearest,similarity"
    );
    assert!(
        rows[1].contains(",,warm,0.") && rows[1].contains(",train/warm/2.png,1.0000"),
        "{table}"
    );
    assert!(rows[2].ends_with("no such file or folder,,,,"), "{table}");
    let text = place.run(line).ok().out;
    // No more than there are.
    assert_eq!(text.lines().count(), 3 + 8, "{text}");
    assert!(
        text.contains("its neighbours: warm (") && text.contains("1.000  warm  train/warm/2.png")
    );
    fails(
        &place.run("classify --weights cifar10-cnn data/train/warm/2.png --neighbours-of train.safetensors"),
        "--neighbours-of train.safetensors: make them with `vitrine embed cifar10-cnn --data DATA --out FILE.safetensors`: these are features of other weights (vit-w1), or of pictures prepared in another way",
    );
}

/// Weights of another project: their features without a classifier, and a training from them.
#[test]
fn weights_of_another_project_without_a_classifier_serve_wherever_features_do() {
    let place = place();
    place.pictures("data", &["ant", "bee"], 12);
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/foreign");
    for (folder, fixture) in [
        ("dino", "timm-vit_small_patch14_dinov2"),
        ("deit", "timm-deit3_small_patch16_224"),
    ] {
        for name in ["config.json", "model.safetensors"] {
            let file = fixtures.join(fixture).join(name);
            place.write(&format!("{folder}/{name}"), std::fs::read(file).unwrap());
        }
    }
    place
        .run("embed dino --data data --split train --out f.safetensors --device cpu")
        .ok();
    let said = place
        .run("classify dino a.png --neighbours-of f.safetensors --csv --device cpu")
        .ok();
    let rows: Vec<&str> = said.out.lines().collect();
    assert!(
        rows.len() == 2 && rows[1].starts_with("a.png,,,,,"),
        "{rows:?}"
    );
    let none = "dino holds weights without a classifier, which answer nothing by themselves: \
                train one on top of it with `vitrine train --init`";
    for line in ["classify dino a.png", "eval dino --data data"] {
        fails(&place.run(&format!("{line} --device cpu")), none);
    }
    for weights in ["dino", "dino/model.safetensors"] {
        let line = format!("calibrate {weights} --data data --device cpu");
        fails(&place.run(&line), &none.replacen("dino", weights, 1));
    }
    fails(
        &place.run("calibrate deit --data data --device cpu"),
        "deit is another project's, and vitrine does not write into it: `vitrine export deit OUT.safetensors` makes a copy of vitrine's own, which `vitrine calibrate OUT.safetensors --data DATA` takes",
    );
    for how in ["--probe", "--steps 1 -b 4"] {
        place
            .run(&format!(
                "train --init dino --data data --device cpu --out run {how}"
            ))
            .ok();
        assert!(
            place
                .read("run/recipe.toml")
                .contains("name = \"vit-tiny\"")
        );
        place.run("classify run a.png --device cpu").ok();
        std::fs::remove_dir_all(place.path("run")).unwrap();
    }
}

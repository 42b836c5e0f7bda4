//! The real binary: what it prints, what it writes, and how it refuses.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::OnceLock;

use image::{DynamicImage, ImageFormat, RgbaImage};
use support::{
    Place, Said, encode, fails, flag_names_nothing, giant_png, gzip, idx, jpeg, nothing_named,
    picture, png, rotated_jpeg, tar, zip,
};

/// A model that trains in milliseconds.
const TINY: &str = "--image-size 16 --steps 2 -b 8 --device cpu --set model.depth=1 \
    --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16";

/// A finished run and what its training said; nothing that a test does may change it.
struct Trained {
    place: Place,
    said: Said,
}

/// `pets`, two classes of 20 pictures, and `run`, trained on it.
fn trained() -> &'static Trained {
    static TRAINED: OnceLock<Trained> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let place = Place::lasting("cli");
        place.pictures("pets", &["cat", "dog"], 20);
        let said = place
            .run(&format!("train --data pets --out run --json {TINY}"))
            .ok();
        Trained { place, said }
    })
}

/// A copy of the trained run's weights in a place of its own.
fn weights(place: &Place) -> Vec<u8> {
    let bytes = fs::read(trained().place.path("run/weights/best.safetensors")).unwrap();
    place.write("best.safetensors", &bytes);
    bytes
}

/// A usage error, exit code 2, whose first line is this message.
#[track_caller]
fn misused(said: &Said, message: &str) {
    let told = said.err.lines().next().unwrap_or_default();
    assert_eq!(told, format!("error: {message}"), "{said:#?}");
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:#?}");
}

#[test]
fn help_is_one_screen_and_more_on_request() {
    let place = Place::new();
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
        "data info",
        "data verify",
        "data list",
        "data download",
        "weights",
        "weights list",
        "weights fetch",
        "plot",
    ] {
        let short = place.run(&format!("{command} -h")).ok();
        let long = place.run(&format!("{command} --help")).ok();
        let (short, long) = (short.out.lines().count(), long.out.lines().count());
        assert!((5..=60).contains(&short), "{command} -h: {short} lines");
        assert!(long >= short, "{command}: {short} and {long} lines");
        assert!(command != "train" || long > 2 * short, "{short}, {long}");
    }
    insta::assert_snapshot!(place.run("--help").ok().out, @r"
    Vision Transformer image classifier: train on your own pictures, classify, compare with a CNN

    Usage: vitrine [OPTIONS] <COMMAND>

    Commands:
      train        Train a model on a data set into a run directory
      eval         Measure a model on a split: accuracy, confusion, calibration
      calibrate    Fit a model's confidence to the validation split, and keep it with the weights
      classify     Name what pictures show [alias: predict]
      embed        Write what a model sees of pictures as numbers: one row of features a picture
      export       Write weights as one file to hand on, and check that it answers the same
      compare      Train models under one budget and compare them, or compare finished runs
      devices      List the devices of this machine and test each
      data         List, inspect, check or download data sets
      weights      List, show and fetch pretrained weights
      plot         Redraw the plots of runs
      completions  Print completions of commands and flags for a shell
      man          Print the manual page, or write the pages of all commands
      help         Print this message or the help of the given subcommand(s)

    Options:
          --threads <N>  Threads to compute on, and as many to decode on; default: one per core
      -h, --help         Print help
      -V, --version      Print version
    ");
    let nothing = place.run("");
    assert_eq!((nothing.code, nothing.out.as_str()), (2, ""));
    misused(
        &place.run("--threads 0 devices"),
        "invalid value '0' for '--threads <N>': 0 is not in 1..=4096",
    );
    misused(
        &place.run("frobnicate"),
        "unrecognized subcommand 'frobnicate'",
    );
    assert!(place.run("--version").ok().out.starts_with("vitrine "));
}

#[test]
fn data_that_cannot_be_trained_on_is_refused_before_a_folder_is_made() {
    let place = Place::new();
    place.folder("empty");
    place.pictures("one", &["cat"], 3);
    place.pictures("unknown/train", &["cat", "dog"], 3);
    place.pictures("unknown/val", &["cat", "wolf"], 3);
    place.write("dot.png", png(&picture(1, 1, 1)));
    place.write("text.bin", "hello");
    let files: Vec<(String, Vec<u8>)> = (0..12)
        .map(|i| {
            let class = if i < 6 { "cat" } else { "dog" };
            (format!("{class}/{i:02}.png"), png(&picture(16, 16, i)))
        })
        .collect();
    let tar = tar(&files);
    place.write("cut.tar", &tar[..tar.len() / 2]);
    let zip = zip(&files);
    place.write("cut.zip", &zip[..zip.len() / 2]);
    place.write("cut.parquet", [&b"PAR1"[..], &[7; 500]].concat());
    let (pictures, labels) = idx(20);
    place.write(
        "idx/train-images-idx3-ubyte",
        &pictures[..pictures.len() - 100],
    );
    place.write("idx/train-labels-idx1-ubyte", &labels);
    place.write("short/train-images-idx3-ubyte", &pictures);
    place.write("short/train-labels-idx1-ubyte", &labels[..labels.len() - 5]);

    let known = "known are a folder of class folders, a .zip, .tar, .tar.gz, .tar.xz, .tar.bz2 or .tar.zst of one, CIFAR-10 and CIFAR-100 binary files, IDX files and Parquet files";
    for (data, message) in [
        ("nowhere", "nowhere: no such file or folder; give a data set's path, or fetch one with `vitrine data download`".to_owned()),
        ("empty", "empty: no pictures found in 0 files; expected class folders such as cat/ and dog/ with files that end in bmp, dds, exr, ff, gif, hdr, ico, jfif, jpeg, jpg, pam, pbm, pgm, png, pnm, ppm, qoi, tga, tif, tiff, webp".to_owned()),
        ("one", "one: one class only (cat); expected two or more, each in a folder of its own".to_owned()),
        ("unknown", "unknown: val has classes that train does not have: wolf; train has cat, dog; rename their folders, or move them out (pictures without labels are for `vitrine classify`)".to_owned()),
        ("dot.png", format!("dot.png: not a data set: found a single picture, which `vitrine classify` takes; {known}")),
        ("text.bin", format!("text.bin: not a data set: found a file whose first bytes are 68 65 6c 6c 6f; {known}")),
        ("cut.tar", "cut.tar: truncated tar archive: dog/06.png has 0 of its 519 bytes; fetch it again".to_owned()),
        ("cut.zip", "cut.zip: damaged zip archive: invalid Zip archive: Could not find EOCD; fetch it again".to_owned()),
        ("cut.parquet", "cut.parquet: truncated or damaged Parquet file: Parquet error: Invalid Parquet file. Corrupt footer; fetch it again".to_owned()),
        ("idx", "idx/train-images-idx3-ubyte: truncated IDX file: 1180 bytes after its header, expected 20×8×8; fetch it again".to_owned()),
        ("short", "short/train-labels-idx1-ubyte: truncated IDX file: 15 bytes after its header, expected 20; fetch it again".to_owned()),
    ] {
        let told = match data {
            "nowhere" => "--data nowhere: no such file or folder; expected a data set's path; `vitrine data download` fetches one",
            _ => &message,
        };
        fails(&place.run(&format!("train --data {data} --out run {TINY}")), told);
        assert!(!place.path("run").exists(), "{data}");
        // Whatever looks at the data says the same.
        fails(&place.run(&format!("data info {data}")), &message);
    }

    let packed = gzip(&tar);
    place.write("cut.tar.gz", &packed[..packed.len() / 2]);
    let said = place.run("data info cut.tar.gz");
    assert!(
        said.err
            .starts_with("error: cut.tar.gz: truncated gzip: it ends after "),
        "{said:#?}"
    );
    assert!(
        said.err.ends_with(" unpacked bytes; fetch it again\n"),
        "{said:#?}"
    );

    #[cfg(unix)]
    fails(
        &place.run("data info /dev/null"),
        &format!("/dev/null: not a data set: found neither a file nor a folder; {known}"),
    );
}

#[test]
fn an_untruncated_archive_and_idx_train() {
    let place = Place::new();
    let (pictures, labels) = idx(60);
    place.write("idx/train-images-idx3-ubyte", pictures);
    place.write("idx/train-labels-idx1-ubyte.gz", gzip(&labels));
    place.run(&format!("train --data idx --out a {TINY}")).ok();
    let files: Vec<(String, Vec<u8>)> = (0..12)
        .map(|i| (format!("{}/{i}.png", i % 2), png(&picture(16, 16, i))))
        .collect();
    place.write("set.tar.gz", gzip(&tar(&files)));
    place.write("set.zip", zip(&files));
    for (out, data) in [("b", "set.tar.gz"), ("c", "set.zip")] {
        place
            .run(&format!("train --data {data} --out {out} {TINY}"))
            .ok();
    }
    // The same pictures under the same names train to the same weights.
    let weights = |run: &str| fs::read(place.path(&format!("{run}/weights/last.safetensors")));
    assert_eq!(weights("b").unwrap(), weights("c").unwrap());
}

#[test]
fn weights_that_are_not_whole_are_refused() {
    let place = Place::new();
    let whole = weights(&place);
    place.write("dot.png", png(&picture(1, 1, 1)));
    place.write("half.safetensors", &whole[..whole.len() / 2]);
    place.write("empty.safetensors", "");
    place.write("text.safetensors", "these are not weights");
    let mut tampered = whole;
    let at = tampered.len() - 5;
    tampered[at] ^= 0x40;
    place.write("tampered.safetensors", tampered);
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let size = (header.len() as u64).to_le_bytes();
    place.write("foreign.safetensors", [&size[..], header, &[0; 4]].concat());
    place.folder("folder");
    place.write("untrained/recipe.toml", "");
    for (weights, message) in [
        (
            "half.safetensors",
            "half.safetensors is not a whole safetensors file (incomplete metadata, file not fully covered); copy or train it again",
        ),
        (
            "empty.safetensors",
            "empty.safetensors is not a whole safetensors file (header too small); copy or train it again",
        ),
        (
            "text.safetensors",
            "text.safetensors is not a whole safetensors file (header too large); copy or train it again",
        ),
        (
            "tampered.safetensors",
            "tampered.safetensors was changed after it was written: its bytes do not match their SHA-256; copy or train it again",
        ),
        (
            "foreign.safetensors",
            "foreign.safetensors has no vitrine metadata, and there is no config.json beside it: expected a file that vitrine wrote, such as RUN/weights/best.safetensors, or a folder as timm or transformers saves one, with config.json and model.safetensors",
        ),
        (
            "folder",
            "folder is not a run directory (no recipe.toml in it); there is no run here yet: `vitrine train` makes one",
        ),
        ("nowhere", &nothing_named("nowhere")),
        (
            "untrained",
            "untrained holds no weights/best.safetensors: its first epoch was never finished; continue it with `vitrine train --resume untrained`",
        ),
    ] {
        fails(&place.run(&format!("classify {weights} dot.png")), message);
        fails(&place.run(&format!("eval {weights} --device cpu")), message);
    }
    // The hash is known last, and yet nothing else is said before.
    for rest in [
        "nowhere.png empty.safetensors dot.png",
        "dot.png --abstain 5%",
    ] {
        fails(
            &place.run(&format!("classify tampered.safetensors {rest}")),
            "tampered.safetensors was changed after it was written: its bytes do not match their SHA-256; copy or train it again",
        );
    }
}

#[test]
fn weights_of_other_classes_are_refused() {
    let place = Place::new();
    weights(&place);
    place.pictures("birds", &["hen", "owl", "tit"], 4);
    place.pictures("more", &["cat", "cow", "dog"], 4);
    fails(
        &place.run("eval best.safetensors --data birds --device cpu"),
        "the classes differ: the weights know 2 (cat, dog), birds has 3 (hen, owl, tit); use data with the classes of the weights, or train on this data",
    );
    fails(
        &place.run("eval best.safetensors --data more --device cpu"),
        "the classes differ: the weights know 2 (cat, dog), more has 3 (cat, cow, dog); use data with the classes of the weights, or train on this data",
    );
}

#[test]
fn recipes_are_read_with_care() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 3);
    place.write("misspelt.toml", "[optimizer]\nlearning_rte = 0.1\n");
    place.write("section.toml", "[trian]\nepochs = 3\n");
    place.write("type.toml", "[train]\nepochs = \"many\"\n");
    place.folder("folder");
    let known = "known recipes are default, vit, cnn, cifar10-vit-w1, cifar10-resnet9, cifar10-cnn, cifar10-vit, cifar10-vit-distilled, fashion-mnist-vit, photos";
    for (line, message) in [
        ("--recipe misspelt.toml", "recipe misspelt.toml: unknown key `optimizer.learning_rte`; did you mean `optimizer.lr`?".to_owned()),
        ("--recipe section.toml", "recipe section.toml: unknown key `trian.epochs`; did you mean `train.epochs`?".to_owned()),
        ("--recipe type.toml", "train.epochs is many: expected a whole number from 0".to_owned()),
        ("--recipe nowhere.toml", format!("--recipe \"nowhere.toml\" is neither a recipe nor a file; {known}")),
        ("--recipe photo", format!("--recipe \"photo\" is neither a recipe nor a file, did you mean \"photos\"?; {known}")),
        ("--recipe folder", "cannot read recipe folder: Is a directory (os error 21)".to_owned()),
        ("--set optimizer", "--set \"optimizer\": expected key=value, such as --set optimizer.lr=0.001".to_owned()),
        ("--set trian.epochs=3", "--set trian.epochs=3: unknown key `trian.epochs`; did you mean `train.epochs`?".to_owned()),
        ("--set optimizer.lr=high", "optimizer.lr is high: expected a number".to_owned()),
        ("--set model.image_size=9", "--set model.image_size=9: unknown key `model.image_size`; did you mean `preprocess.image_size`?".to_owned()),
        ("--set model.width=9", "model.width does not apply to vit-micro: leave it out, or choose another model".to_owned()),
        ("--resize stretch", "--resize is stretch: expected one of squash, crop, pad, shorter-edge, longer-edge".to_owned()),
        ("--model vit-w2", "--model \"vit-w2\" is not a model, did you mean \"vit-w1\"?; known models are vit-micro, vit-w1, vit-tiny, vit-small, vit-base, resnet9, resnet18, airbench".to_owned()),
    ] {
        fails(&place.run(&format!("train --data pets --device cpu --out run {line}")), &message);
        assert!(!place.path("run").exists(), "{line}");
    }
}

#[test]
fn numbers_outside_their_range_are_refused() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 3);
    let before = place.listing(".");
    for (flags, message) in [
        ("--epochs 0", "--epochs is 0: expected 1 to 1000000"),
        ("--epochs -3", "--epochs is -3: expected no negative number"),
        (
            "--workers -1",
            "--workers is -1: expected no negative number",
        ),
        ("--workers 99999", "--workers is 99999: expected 0 to 1024"),
        (
            "--epochs 99999999999",
            "--epochs is 99999999999: expected 1 to 1000000",
        ),
        ("--steps 0", "--steps is 0: expected 1 to 1000000000"),
        (
            "--time 0s",
            "--time is \"0s\": expected a duration such as 90s, 30m or 1h30m",
        ),
        (
            "--time tomorrow",
            "--time is \"tomorrow\": expected a duration such as 90s, 30m or 1h30m",
        ),
        ("--batch-size 0", "--batch-size is 0: expected 1 to 65536"),
        (
            "-b 1000000000",
            "--batch-size is 1000000000: expected 1 to 65536",
        ),
        ("--accumulate 0", "--accumulate is 0: expected 1 to 65536"),
        ("--lr 0", "--lr is 0: expected more than 0, at most 100"),
        ("--lr -1", "--lr is -1: expected more than 0, at most 100"),
        ("--lr nan", "--lr is NaN: expected more than 0, at most 100"),
        (
            "--lr 1e9",
            "--lr is 1000000000: expected more than 0, at most 100",
        ),
        (
            "--weight-decay -1",
            "--weight-decay is -1: expected 0 to 10",
        ),
        (
            "--clip-grad inf",
            "--clip-grad is inf: expected 0 to 1000000",
        ),
        (
            "--warmup-epochs -1",
            "--warmup-epochs is -1: expected 0 to 10000",
        ),
        (
            "--label-smoothing 1",
            "--label-smoothing is 1: expected 0 to below 1",
        ),
        ("--ema 1", "--ema is 1: expected 0 to below 1"),
        ("--mixup -1", "--mixup is -1: expected an alpha, 0 to 100"),
        (
            "--drop-path 1.5",
            "--drop-path is 1.5: expected from 0 to below 1",
        ),
        (
            "--fraction 0",
            "--fraction is 0: expected more than 0, at most 1",
        ),
        ("--val-fraction 1", "--val-fraction is 1: expected 0 to 0.9"),
        (
            "--checkpoint-minutes -1",
            "--checkpoint-minutes is -1: expected 0 to 100000",
        ),
        ("--image-size 0", "--image-size is 0: expected 8 to 2048"),
        (
            "--image-size 100000",
            "--image-size is 100000: expected 8 to 2048",
        ),
        ("--patch-size 0", "--patch-size is 0: expected 1 to 16"),
        (
            "--patch-size 5",
            "--patch-size 5 does not divide preprocess.image_size 16: expected an image size that is a multiple of 5, such as 15 or 20; or a patch size of 2, 4 or 8",
        ),
        (
            "--model resnet9 --patch-size 4",
            "--patch-size does not apply to resnet9, which has no patches: leave it out",
        ),
        (
            "--image-size 2048 --patch-size 1",
            "the number of tokens is 4194304: expected 1 to 16384; choose a smaller --image-size or a larger --patch-size",
        ),
        ("--set model.depth=0", "model.depth is 0: expected 1 to 256"),
        (
            "--set model.embed_dim=1000000000",
            "model.embed_dim is 1000000000: expected 2 to 16384",
        ),
        (
            "--set model.num_heads=3",
            "num_heads 3 does not divide embed_dim 64: expected a divisor",
        ),
        (
            "--set model.depth=1.5",
            "model.depth is 1.5: expected a whole number from 0",
        ),
    ] {
        fails(
            &place.run(&format!("train --data pets --device cpu --dry-run {flags}")),
            message,
        );
    }
    for (line, message) in [
        (
            "train --epochs many",
            "invalid value 'many' for '--epochs <N>': expected a whole number",
        ),
        (
            "train --seed -1",
            "invalid value '-1' for '--seed <N>': expected 0 to 4294967295",
        ),
        (
            "train --data=",
            "a value is required for '--data <PATH>' but none was supplied",
        ),
        (
            "eval run -j 99999",
            "invalid value '99999' for '--workers <N>': 99999 is not in 0..=1024",
        ),
        (
            "train --epochs 2 --steps 3",
            "the argument '--epochs <N>' cannot be used with '--steps <N>'",
        ),
        ("train --bogus", "unexpected argument '--bogus' found"),
        ("train extra", "unexpected argument 'extra' found"),
        (
            "eval run --batch-size 0",
            "invalid value '0' for '--batch-size <N>': 0 is not in 1..=65536",
        ),
        (
            "eval run --split foo",
            "invalid value 'foo' for '--split <SPLIT>': found split \"foo\", expected train, val or test",
        ),
        (
            "classify run a.png --topk 0",
            "invalid value '0' for '--topk <K>': 0 is not in 1..=4294967295",
        ),
        (
            "classify run a.png --topk -1",
            "invalid value '-1' for '--topk <K>': -1 is not in 1..=4294967295",
        ),
        (
            "classify run a.png --json --csv",
            "the argument '--json' cannot be used with '--csv'",
        ),
        (
            "compare a b --seeds 2",
            "the argument '[RUN]...' cannot be used with '--seeds <N>'",
        ),
        (
            "compare --models vit-w1,resnet9 --seeds 0",
            "invalid value '0' for '--seeds <N>': 0 is not in 1..=100",
        ),
        (
            "plot run --format pdf",
            "invalid value 'pdf' for '--format <FORMAT>'",
        ),
    ] {
        misused(&place.run(line), message);
    }
    assert_eq!(place.listing("."), before);
}

#[test]
fn places_that_cannot_be_written_or_continued_are_refused() {
    let Trained { place: shared, .. } = trained();
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 4);
    weights(&place);
    place.write("file", "a file, so nothing can lie below it");
    place.write("full/notes.txt", "kept");
    let train = format!("train --data pets {TINY} --out");
    fails(
        &place.run(&format!("{train} file/run")),
        "cannot write file/run: Not a directory (os error 20); check that its folder exists, may be written to and has space, or choose another place",
    );
    fails(
        &place.run(&format!("{train} file")),
        "file is a file: --out names the folder of a run",
    );
    fails(
        &place.run(&format!("{train} full")),
        "full is not empty: name another folder with --out",
    );
    assert_eq!(place.listing("full"), ["notes.txt"]);
    // What was measured is said all the same.
    let mut eval = place
        .run("eval best.safetensors --data pets --split train --device cpu --out file/figures");
    assert!(
        eval.out
            .starts_with("8 pictures of the train split of pets\ntop-1 "),
        "{eval:#?}"
    );
    eval.out.clear();
    fails(
        &eval,
        "cannot write file/figures: Not a directory (os error 20); check that its folder exists, may be written to and has space, or choose another place",
    );
    let [run, pets] = ["run", "pets"].map(|n| shared.path(n).display().to_string());
    fails(
        &place.run(&format!("compare {run} {pets}")),
        &format!(
            "{pets} is not a run directory (no recipe.toml in it); there is no run here yet: `vitrine train` makes one"
        ),
    );
    fails(
        &place.run("train --resume nowhere"),
        "nowhere is not a run directory (there is nothing of that name); there is no run here yet: `vitrine train` makes one",
    );
    place.write("runs/pets-vit-micro-1/recipe.toml", "");
    fails(
        &place.run("train --resume file"),
        "file is not a run directory (it is a file); the newest run here is runs/pets-vit-micro-1",
    );
    fails(
        &place.run("train --resume runs/pets-vit-micro-1 --device cpu"),
        "run runs/pets-vit-micro-1: runs/pets-vit-micro-1 holds no saved state to continue from: start again with `vitrine train --recipe runs/pets-vit-micro-1/recipe.toml`",
    );
    misused(
        &place.run("train --resume run --out elsewhere"),
        "the argument '--resume <RUN>' cannot be used with '--out <DIR>'",
    );
}

#[test]
fn an_absent_device_is_an_error_that_says_what_there_is() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 3);
    let dry = |device: &str| place.run(&format!("train --data pets --dry-run --device {device}"));
    for wrong in ["gpu", "cpu:1", "wgpu:-1", "wgpu:x"] {
        misused(
            &dry(wrong),
            &format!(
                "invalid value '{wrong}' for '--device <DEVICE>': {wrong:?} is not a device: expected auto, cpu, wgpu[:i], vulkan[:i], metal[:i], rocm[:i] or cuda[:i]"
            ),
        );
    }
    for (device, compiled) in [
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
        ("rocm", cfg!(feature = "rocm")),
    ] {
        let said = dry(&format!("{device}:99"));
        if compiled {
            assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:#?}");
            let start = format!("error: no device {device}:99 here ({device} finds ");
            assert!(said.err.starts_with(&start), "{said:#?}");
            assert!(
                said.err.contains("`vitrine devices` lists them all"),
                "{said:#?}"
            );
        } else if cfg!(feature = "wgpu") {
            let start = format!(
                "error: this vitrine was built without {device}: build it with `cargo build --release --features {device}`, or choose "
            );
            assert!(said.code == 1 && said.err.starts_with(&start), "{said:#?}");
        } else {
            fails(
                &said,
                &format!(
                    "this vitrine was built without {device}: build it with `cargo build --release --features {device}`, or choose cpu"
                ),
            );
        }
    }
    let devices = place.run("devices --json").ok().json();
    let cpu = devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["device"] == "cpu");
    assert_eq!(cpu.unwrap()["ok"], true);
    assert!(place.run("devices").ok().out.starts_with("device "));
}

/// One picture of every kind in two classes, and three files that are no pictures.
fn mixed(place: &Place) {
    let wide = picture(24, 11, 3);
    let dynamic = |p: &image::RgbImage| DynamicImage::from(p.clone());
    let alpha = RgbaImage::from_fn(13, 17, |x, y| image::Rgba([200, 30, 90, (x * y) as u8]));
    for class in ["cat", "dog"] {
        let seed = class.len() as u32 + u32::from(class.as_bytes()[0]);
        let at = |name: &str| format!("mixed/{class}/{name}");
        place.write(&at("photo.jpg"), jpeg(&picture(40, 30, seed)));
        place.write(&at("drawing.png"), png(&picture(21, 33, seed + 1)));
        place.write(
            &at("small.gif"),
            encode(&dynamic(&picture(9, 9, seed + 2)), ImageFormat::Gif),
        );
        place.write(
            &at("old.bmp"),
            encode(&dynamic(&picture(18, 7, seed + 3)), ImageFormat::Bmp),
        );
        place.write(
            &at("new.webp"),
            encode(&dynamic(&picture(31, 19, seed + 4)), ImageFormat::WebP),
        );
        let grey = DynamicImage::from(dynamic(&picture(15, 15, seed + 5)).to_luma8());
        place.write(&at("grey.png"), encode(&grey, ImageFormat::Png));
        let deep = DynamicImage::from(dynamic(&picture(14, 12, seed + 6)).to_rgb16());
        place.write(&at("deep.png"), encode(&deep, ImageFormat::Png));
        place.write(
            &at("alpha.png"),
            encode(&alpha.clone().into(), ImageFormat::Png),
        );
        place.write(&at("sideways.jpg"), rotated_jpeg(&wide));
        // Content decides, not the name.
        place.write(&at("really-a-png.jpeg"), png(&picture(16, 16, seed + 7)));
    }
    let whole = jpeg(&picture(64, 64, 9));
    place.write("mixed/cat/truncated.jpg", &whole[..whole.len() / 2]);
    place.write("mixed/dog/text.jpg", "this is not a picture\n");
    place.write("mixed/dog/empty.png", "");
}

const UNREADABLE: [&str; 3] = [
    "cat/truncated.jpg: truncated JPEG: the file ends before the picture does",
    "dog/empty.png: empty file (0 bytes)",
    "dog/text.jpg: not a picture: found text, expected JPEG, PNG, GIF, BMP, WebP, TIFF or another known format",
];

#[test]
fn a_mixed_folder_trains_and_its_bad_files_are_named() {
    let place = Place::new();
    mixed(&place);
    let mut named = String::new();
    for (out, seed) in [("a", 0), ("b", 1), ("c", 2)] {
        // Whichever split they fall into, test included.
        let said = place
            .run(&format!(
                "train --data mixed --out {out} --set data.split_seed={seed} {TINY}"
            ))
            .ok();
        let mut skipped: Vec<&str> = said
            .err
            .lines()
            .filter_map(|line| line.strip_prefix("skipped "))
            .collect();
        skipped.sort_unstable();
        assert_eq!(skipped, UNREADABLE, "{said:#?}");
        assert!(!said.out.contains("skipped"), "{said:#?}");
        named += &place.read(&format!("{out}/splits/test.txt"));
    }
    assert!(named.contains("cat/"), "{named}");

    let said = place.run(&format!("train --data mixed --out strict --strict {TINY}"));
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:#?}");
    assert!(said.err.contains("without --strict"), "{said:#?}");
    // A bad test picture too, before the first epoch.
    place.pictures("given/train", &["cat", "dog"], 10);
    place.pictures("given/test", &["cat", "dog"], 2);
    place.write("given/test/cat/text.jpg", "this is not a picture\n");
    let said = place.run(&format!("train --data given --out late --strict {TINY}"));
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.err.contains("text.jpg: not a picture"), "{said:#?}");
    assert!(!place.path("late/results.csv").exists(), "{said:#?}");

    // What the folders leave out is said, and refused, as well.
    place.write("given/train/notes/a.txt", "no picture");
    fs::remove_file(place.path("given/test/cat/text.jpg")).unwrap();
    let left_out = "train/notes/: no picture among its 1 file";
    let said = place
        .run(&format!("train --data given --out told {TINY}"))
        .ok();
    assert!(
        said.err.contains(&format!("skipped {left_out}")),
        "{said:#?}"
    );
    let said = place.run("eval told --device cpu").ok();
    assert!(
        said.err.contains(&format!("skipped {left_out}")),
        "{said:#?}"
    );
    for line in [
        format!("train --data given --out refused --strict {TINY}"),
        "eval told --strict --device cpu".to_owned(),
    ] {
        fails(
            &place.run(&line),
            &format!("{left_out}; without --strict it is skipped"),
        );
    }
    assert!(!place.path("refused").exists());
    // Test pictures of which none can be read cost neither the training nor validation's figures.
    for name in ["cat/00.png", "cat/01.png", "dog/00.png", "dog/01.png"] {
        place.write(&format!("given/test/{name}"), "a pointer to a picture\n");
    }
    let said = place
        .run(&format!("train --data given --out bare {TINY}"))
        .ok();
    assert!(said.err.contains("skipped test: "), "{said:#?}");
    let metrics: serde_json::Value =
        serde_json::from_str(&place.read("bare/metrics.json")).unwrap();
    assert!(
        metrics["val"]["top1"].is_number() && metrics["test"].is_null(),
        "{metrics}"
    );
    let ended: serde_json::Value = serde_json::from_str(&place.read("bare/run.json")).unwrap();
    assert!(ended["ended"].is_number(), "{ended}");

    // 24×11 on its side is 11×24, or no picture were this narrow and high.
    let info = place.run("data info mixed --json").ok().json();
    assert_eq!(info["unreadable"], 3);
    assert_eq!(info["formats"]["GIF"], 2);
    let only = Place::new();
    for class in ["cat", "dog"] {
        only.write(
            &format!("set/{class}/a.jpg"),
            rotated_jpeg(&picture(24, 11, 3)),
        );
    }
    let info = only.run("data info set --json").ok().json();
    assert_eq!(
        (&info["widths"]["max"], &info["heights"]["max"]),
        (&11.into(), &24.into())
    );
}

#[test]
fn one_picture_of_one_pixel_has_an_answer_and_a_giant_is_refused() {
    let place = Place::new();
    weights(&place);
    place.write("dot.png", png(&picture(1, 1, 1)));
    place.write("giant.png", giant_png(20_000));
    let dot = place.run("classify best.safetensors dot.png --json").ok();
    assert_eq!(dot.json()[0]["predictions"].as_array().unwrap().len(), 2);
    fails(
        &place.run("classify best.safetensors giant.png"),
        "giant.png: 20000x20000 pixels are more than the 100 megapixels that are decoded; make it smaller\n1 of 1 could not be classified",
    );
    // A data set of them trains on what can be read.
    place.pictures("pets", &["cat", "dog"], 6);
    place.write("pets/cat/giant.png", giant_png(20_000));
    place.write("pets/dog/dot.png", png(&picture(1, 1, 2)));
    let said = place
        .run(&format!("train --data pets --out run {TINY}"))
        .ok();
    assert!(
        said.err
            .contains("skipped cat/giant.png: 20000x20000 pixels are more than the 100 megapixels"),
        "{said:#?}"
    );
}

#[test]
fn classify_takes_files_folders_globs_and_standard_input() {
    let Trained { place: shared, .. } = trained();
    let place = Place::new();
    weights(&place);
    place.pictures("some", &["cat", "dog"], 2);
    place.write("some/notes.txt", "no picture");
    let files = |said: &Said| -> Vec<String> {
        let json = said.json();
        let files = json.as_array().unwrap().iter();
        files
            .map(|p| p["file"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = [
        "some/cat/00.png",
        "some/cat/01.png",
        "some/dog/00.png",
        "some/dog/01.png",
    ];
    let run = |line: &str| place.run(&format!("classify best.safetensors {line}"));
    assert_eq!(files(&run("some --json").ok()), all);
    assert_eq!(files(&run("some/*/01.png --json").ok()), [all[1], all[3]]);
    assert_eq!(
        files(&run("some/dog/01.png some/cat --json").ok()),
        [all[3], all[0], all[1]]
    );

    // A run directory and its weights file are the same model; so are a file and its bytes.
    let path = place.path("some/cat/00.png");
    let by_run = shared
        .run_with(&["predict", "run", path.to_str().unwrap(), "--json"], &[])
        .ok()
        .json();
    let bytes = fs::read(&path).unwrap();
    let by_stdin = place
        .run_with(&["classify", "best.safetensors", "-", "--json"], &bytes)
        .ok()
        .json();
    let by_file = run("some/cat/00.png --json").ok().json();
    assert_eq!(by_stdin[0]["file"], "-");
    assert_eq!(by_run[0]["predictions"], by_file[0]["predictions"]);
    assert_eq!(by_stdin[0]["predictions"], by_file[0]["predictions"]);

    let predictions = by_file[0]["predictions"].as_array().unwrap();
    let scores: Vec<f64> = predictions
        .iter()
        .map(|p| p["prob"].as_f64().unwrap())
        .collect();
    assert!(scores[0] >= scores[1] && (scores.iter().sum::<f64>() - 1.0).abs() < 1e-5);

    let csv = run("some --csv --topk 1").ok().out;
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(
        (rows.len(), rows[0]),
        (5, "filename,index,label,prob,error")
    );
    let label = predictions[0]["label"].as_str().unwrap();
    let index = usize::from(label == "dog");
    assert_eq!(
        rows[1],
        format!("some/cat/00.png,{index},{label},{:.6},", scores[0] as f32)
    );

    let plain = run("some/cat/00.png --topk 1").ok();
    assert_eq!(
        (plain.err.as_str(), plain.out.lines().count()),
        ("", 2),
        "{plain:#?}"
    );
    assert!(plain.out.starts_with("some/cat/00.png\n") && plain.out.trim_end().ends_with(label));
}

#[test]
fn one_unreadable_picture_does_not_stop_the_others() {
    let place = Place::new();
    weights(&place);
    place.pictures("some", &["cat", "dog"], 1);
    place.write("some/cat/empty.png", "");
    place.folder("bare");
    for (inputs, classified, message) in [
        (
            "some",
            2,
            "some/cat/empty.png: empty file (0 bytes)\n1 of 3 could not be classified",
        ),
        (
            "some/cat/00.png nowhere.png",
            1,
            "nowhere.png: no such file or folder\n1 of 2 could not be classified",
        ),
        (
            "bare some/dog",
            1,
            "bare: no pictures in this folder\n1 of 2 could not be classified",
        ),
        (
            "*.xyz some/dog",
            1,
            "*.xyz: no file matches\n1 of 2 could not be classified",
        ),
        (
            "-",
            0,
            "standard input: empty file (0 bytes)\n1 of 1 could not be classified",
        ),
    ] {
        let said = place.run(&format!("classify best.safetensors {inputs} --json"));
        assert_eq!(said.code, 1, "{said:#?}");
        // What failed takes its place among the answers.
        let json = said.json();
        let (good, bad): (Vec<_>, Vec<_>) = json
            .as_array()
            .unwrap()
            .iter()
            .partition(|one| one["error"].is_null());
        assert_eq!((good.len(), bad.len()), (classified, 1), "{said:#?}");
        assert!(
            message.contains(bad[0]["error"].as_str().unwrap())
                && bad[0]["predictions"].as_array().unwrap().is_empty(),
            "{said:#?}"
        );
        assert_eq!(
            said.err.trim_end(),
            format!("error: {message}"),
            "{said:#?}"
        );
    }
}

#[test]
fn a_training_prints_its_results_and_nothing_else() {
    let Trained { place, said } = trained();
    let summary = said.json();
    assert_eq!(said.out.lines().count(), 1, "{said:#?}");
    let keys: Vec<&String> = summary.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "run",
            "weights",
            "epochs",
            "epochs_seen",
            "images_seen",
            "train_pictures",
            "best_epoch",
            "training_s",
            "budget_s",
            "findings",
            "val",
            "test",
            "example"
        ]
    );
    assert_eq!(
        (&summary["val"]["n"], &summary["test"]["n"]),
        (&4.into(), &4.into())
    );
    assert!(place.path("run/weights/best.safetensors").is_file());
    assert!(
        said.err.starts_with(
            "device: cpu (as requested)\nrun: run\npets: 2 classes; 32 train, 4 val, 4 test pictures\n"
        ),
        "{said:#?}"
    );

    let other = Place::new();
    other.pictures("pets", &["cat", "dog"], 20);
    let plain = other
        .run(&format!("train --data pets --out run {TINY}"))
        .ok();
    let starts: Vec<&str> = plain
        .out
        .lines()
        .filter(|l| !l.starts_with("hint: "))
        .map(|l| l.split(['0', ':']).next().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "trained ",
            "val top-1",
            "test top-1",
            "plots",
            "weights",
            "classify"
        ],
        "{plain:#?}"
    );
    // The command it ends with works as it stands.
    let command = plain
        .out
        .lines()
        .last()
        .unwrap()
        .strip_prefix("classify: vitrine ")
        .unwrap();
    assert!(other.run(command).ok().out.starts_with("run/example.png\n"));
    // The same command, the same seed: the same weights.
    let weights = |place: &Place| fs::read(place.path("run/weights/last.safetensors")).unwrap();
    assert_eq!(weights(&other), weights(place));
}

#[test]
fn a_run_directory_holds_everything() {
    let files = trained().place.listing("run");
    for name in [
        "recipe.toml",
        "run.json",
        "results.csv",
        "metrics.json",
        "results.png",
        "confusion_matrix.png",
        "confusion_matrix.csv",
        "reliability.png",
        "per_class.png",
        "train_batch.png",
        "predictions.png",
        "example.png",
        "weights/best.safetensors",
        "weights/last.safetensors",
        "checkpoint/state.safetensors",
        "splits/train.txt",
        "splits/val.txt",
        "splits/test.txt",
    ] {
        assert!(
            files.iter().any(|file| file == name),
            "{name} is missing of {files:#?}"
        );
    }
    assert!(
        !files
            .iter()
            .any(|file| file.contains("/.") || file.starts_with('.')),
        "{files:#?}"
    );
    let results = trained().place.read("run/results.csv");
    assert!(
        results.starts_with(
            "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,lr/pg0"
        ),
        "{results}"
    );
    let info: serde_json::Value =
        serde_json::from_str(&trained().place.read("run/run.json")).unwrap();
    for key in ["commit", "seed", "hardware"] {
        assert!(!info[key].is_null(), "{key} is missing of {info:#}");
    }
}

#[test]
fn a_student_learns_from_a_finished_run() {
    let place = Place::new();
    place.write(
        "teacher/recipe.toml",
        trained().place.read("run/recipe.toml"),
    );
    place.write("teacher/weights/best.safetensors", weights(&place));
    place.pictures("pets", &["cat", "dog"], 20);
    let student = "--model resnet9 --set model.width=4 --image-size 16 --steps 2 -b 8 --device cpu";
    let train = format!("train --data pets {student}");
    let said = place
        .run(&format!(
            "{train} --teacher teacher --teacher-device cpu --profile --out student"
        ))
        .ok();
    assert!(said.err.contains("teacher's device: cpu"), "{}", said.err);
    let parts: Vec<&str> = said
        .err
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split("   ").next())
        .collect();
    assert_eq!(
        parts[..5],
        [
            "waiting for data",
            "teacher",
            "forward",
            "backward",
            "optimizer"
        ]
    );
    let info: serde_json::Value = serde_json::from_str(&place.read("student/run.json")).unwrap();
    let hash = info["teacher"]["sha256"].as_str().unwrap();
    assert!(place.read("student/recipe.toml").contains(hash));
    assert_eq!(info["teacher"]["model"], "vit-micro");

    let said = place
        .run(&format!("{train} --teacher teacher --dry-run"))
        .ok();
    assert!(said.out.contains("# teacher: vit-micro, "), "{}", said.out);
    let alone = place.run(&format!("{train} --profile --out alone")).ok();
    assert!(!alone.err.contains("teacher"), "{}", alone.err);

    // With another teacher than the recipe's, the old hash is not asked for.
    let again = "train --recipe student/recipe.toml --device cpu --out again";
    place.run(&format!("{again} --teacher student")).ok();
    // The same file may move; another is refused.
    place.write("moved.safetensors", weights(&place));
    place
        .run("train --resume student --device cpu --steps 3 --teacher moved.safetensors")
        .ok();
    let said = place.run("train --resume student --device cpu --steps 4 --teacher again");
    let found = said.err.split("SHA-256 ").nth(1).unwrap_or_default();
    let found = found.split(':').next().unwrap();
    fails(
        &said,
        &format!(
            "run student: the teacher again/weights/best.safetensors has SHA-256 {found}: expected {hash}, as \
             distillation.sha256 has it; name the original file with --teacher (`vitrine calibrate` also changes a file), or begin a new run"
        ),
    );
}

#[test]
fn a_teacher_that_cannot_teach_is_refused_before_a_folder_is_made() {
    let place = Place::new();
    weights(&place);
    place.pictures("pets", &["cat", "dog"], 20);
    place.pictures("birds", &["cat", "emu", "gull"], 5);
    let teacher = "--teacher best.safetensors";
    let run = |more: &str| {
        let said = place.run(&format!("train {TINY} --out run {more}"));
        assert!(!place.path("run").exists());
        said
    };
    fails(
        &run("--data pets --teacher gone"),
        &flag_names_nothing("--teacher", "gone"),
    );
    fails(
        &run(&format!("--data birds {teacher}")),
        "the teacher best.safetensors knows 2 classes (cat, dog), birds has 3 (cat, emu, gull), \
         and class 1 is \"dog\" there and \"emu\" here: expected the same classes in the same \
         order; train a teacher on this data, or name another with --teacher",
    );
    fails(
        &run("--data pets --teacher-device cpu"),
        "--teacher-device cpu: there is no teacher; name one with --teacher",
    );
    let through = "--set distillation.through=token";
    fails(
        &run(&format!(
            "--data pets {teacher} {through} --set distillation.weight=1.0"
        )),
        "distillation.weight is 1: expected more than 0 and less than 1 with \
         distillation.through = \"token\", where one head learns from the teacher and one from \
         the labels",
    );
    fails(
        &run(&format!(
            "--data pets {teacher} --set distillation.weight=0.0"
        )),
        "distillation.weight is 0: expected more than 0, or a distillation.guidance above 0: as it \
         is, the teacher teaches nothing",
    );
    fails(
        &run(&format!(
            "--data pets {teacher} --set model.distillation_token=true"
        )),
        "model.distillation_token is true, and the teacher does not speak through it: set \
         distillation.through = \"token\"",
    );
    let cnn = "train --model resnet9 --image-size 16 --data pets --out run";
    fails(
        &place.run(&format!("{cnn} {teacher} {through}")),
        "distillation.through is \"token\", and resnet9 has no tokens: expected \
         \"pooled\", or a Vision Transformer",
    );
}

#[test]
fn a_dry_run_writes_nothing() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 6);
    let before = place.listing(".");
    let said = place
        .run(&format!("train --data pets --out run --dry-run {TINY}"))
        .ok();
    assert_eq!(place.listing("."), before);
    for line in ["[train]", "steps = 2", "depth = 1"] {
        assert!(said.out.lines().any(|l| l == line), "{line}: {said:#?}");
    }
    // What it prints is a recipe that trains.
    place.write("printed.toml", &said.out);
    place
        .run("train --recipe printed.toml --device cpu --out run")
        .ok();
}

#[test]
fn a_run_is_continued_with_a_larger_budget() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    place
        .run(&format!("train --data pets --out run {TINY}"))
        .ok();
    fails(
        &place.run("train --resume run --lr 0.1 --device cpu"),
        "--resume continues run with its own recipe: --lr cannot change; only --data, --epochs, --time, --steps, --patience, --workers, --cache-mb, --teacher, --device and --teacher-device may",
    );
    let info = || serde_json::from_str::<serde_json::Value>(&place.read("run/run.json")).unwrap();
    let mut altered = place.read("run/run.json");
    for (key, value) in [
        ("commit", "\"another\""),
        ("started", "1"),
        ("threads", "99"),
        ("peak_memory_bytes", "1000000000000"),
    ] {
        let there = format!("\"{key}\": {}", info()[key]);
        assert!(altered.contains(&there), "{altered}");
        altered = altered.replace(&there, &format!("\"{key}\": {value}"));
    }
    place.write("run/run.json", &altered);
    let first = info();
    let more = place
        .run("train --resume run --steps 6 --json --device cpu")
        .ok();
    let second = info();
    for key in [
        "command",
        "started",
        "commit",
        "threads",
        "peak_memory_bytes",
    ] {
        assert_eq!(second[key], first[key], "{key}");
    }
    assert_ne!(second["resumed"][0]["commit"], "another");
    let words = second["resumed"][0]["command"].as_array().unwrap();
    assert!(words.contains(&"--resume".into()), "{words:?}");
    assert_eq!(more.json()["epochs"], 3, "{more:#?}");
    assert_eq!(place.read("run/results.csv").lines().count(), 4);

    let state = fs::read(place.path("run/checkpoint/state.safetensors")).unwrap();
    place.write(
        "run/checkpoint/state.safetensors",
        &state[..state.len() / 2],
    );
    let said = place.run("train --resume run --steps 9 --device cpu");
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:#?}");
    assert!(
        said.err
            .contains("run/checkpoint/state.safetensors is not a whole safetensors file"),
        "{said:#?}"
    );
}

#[test]
fn eval_finds_the_same_split_again() {
    let Trained { place, said } = trained();
    let told = said.json();
    for split in ["val", "test"] {
        let eval = place
            .run(&format!("eval run --split {split} --json --device cpu"))
            .ok();
        let eval = eval.json();
        for key in ["n", "top1", "loss", "ece", "macro_f1"] {
            assert_eq!(eval[key], told[split][key], "{split} {key}");
        }
        assert!(
            place
                .path(&format!("run/eval-{split}/metrics.json"))
                .is_file()
        );
    }
    let text = place.run("eval run --device cpu").ok();
    let begins = "4 pictures of the test split of pets\ntop-1 ";
    assert!(text.out.starts_with(begins), "{text:#?}");

    // Bare weights know no split: the data's own is taken, and nothing is written.
    let bare = Place::new();
    weights(&bare);
    bare.pictures("pets", &["cat", "dog"], 3);
    let before = bare.listing(".");
    let eval = bare
        .run("eval best.safetensors --data pets --json --device cpu")
        .ok();
    assert_eq!(eval.json()["n"], 6);
    assert_eq!(bare.listing("."), before);
    fails(
        &bare.run("eval best.safetensors --data pets --split test --device cpu"),
        "pets has no test split; it has train; name one with --split",
    );
}

#[test]
fn eval_never_takes_what_a_run_learned_from_unasked() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    place
        .run(&format!(
            "train --data pets --out run --test-fraction 0 {TINY}"
        ))
        .ok();
    let eval = place.run("eval run --json --device cpu").ok().json();
    assert_eq!(
        (eval["split"].as_str(), eval["n"].as_u64()),
        (Some("val"), Some(2))
    );
    fails(
        &place.run("eval run --split test --device cpu"),
        "pets has no test split; it has train, val; name one with --split",
    );
    fs::remove_file(place.path("run/splits/val.txt")).unwrap();
    fails(
        &place.run("eval run --device cpu"),
        "run/splits/val.txt: cannot read: No such file or directory (os error 2)",
    );
    // Data whose names the lists do not know might be the same pictures.
    place.pictures("more", &["cat", "dog"], 3);
    fails(
        &place.run("eval run --data more --device cpu"),
        "more has no test split; it has train; name one with --split",
    );
    let eval = place
        .run("eval run --data more --split train --json --device cpu")
        .ok()
        .json();
    assert_eq!(
        (eval["split"].as_str(), eval["n"].as_u64()),
        (Some("train"), Some(6))
    );
}

#[test]
fn plots_are_redrawn() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    place
        .run(&format!("train --data pets --out run {TINY}"))
        .ok();
    let stems = [
        "results",
        "confusion_matrix",
        "reliability",
        "per_class",
        "predictions",
    ];
    for (format, start) in [("png", &b"\x89PNG"[..]), ("svg", b"<svg")] {
        for stem in stems {
            let _ = fs::remove_file(place.path(&format!("run/{stem}.{format}")));
        }
        let said = place.run(&format!("plot run --format {format}")).ok();
        let mut written: Vec<&str> = said.out.lines().collect();
        written.sort_unstable();
        let mut expected = stems.map(|stem| format!("run/{stem}.{format}"));
        expected.sort();
        assert_eq!(written, expected);
        for file in expected {
            assert!(
                fs::read(place.path(&file)).unwrap().starts_with(start),
                "{file}"
            );
        }
    }
    fails(
        &place.run("plot pets"),
        "pets is not a run directory (no recipe.toml in it); there is no run here yet: `vitrine train` makes one",
    );
}

#[test]
fn finished_runs_are_compared() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    place
        .run(&format!("train --data pets --out vit {TINY}"))
        .ok();
    place
        .run("train --data pets --out cnn --model resnet9 --set model.width=4 --image-size 16 --steps 2 -b 8 --device cpu")
        .ok();
    let said = place
        .run("compare vit cnn --out both --json --device cpu")
        .ok();
    let told = said.json();
    assert_eq!(told["pictures"], 2, "{said:#?}");
    let models: Vec<&str> = told["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["model"].as_str().unwrap())
        .collect();
    assert_eq!(models, ["vit-micro", "resnet9"]);
    assert_eq!(
        place.listing("both"),
        ["compare.json", "compare.md", "compare.png"]
    );
    assert!(place.read("both/compare.md").contains("| resnet9 |"));
    // Other pictures under the same names are other pictures.
    place.pictures("others", &["cat", "dog"], 10);
    for class in ["cat", "dog"] {
        for i in 0..10 {
            place.write(
                &format!("others/{class}/{i:02}.png"),
                png(&picture(20, 20, 90 + i)),
            );
        }
    }
    place
        .run("train --data others --out other --model vit-w1 --image-size 8 --steps 1 -b 8 --device cpu")
        .ok();
    fails(
        &place.run("compare vit other --device cpu"),
        "vit and other were measured on different pictures or classes: name one data set for both with --data and --split",
    );
    let text = place.run("compare vit cnn --out both --device cpu").ok();
    assert!(
        text.out.starts_with("2 pictures of the test split\nmodel "),
        "{text:#?}"
    );
}

#[test]
fn compare_trains_each_model_under_one_budget() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    let said = place
        .run(&format!("{COMPARE} --budget epochs=1 --seeds 2 --json"))
        .ok();
    // Both seeds hold out the same pictures, though the data brings no test split.
    for row in said.json()["rows"].as_array().unwrap() {
        assert_eq!(row["top1"].as_array().unwrap().len(), 2, "{said:#?}");
    }
    let weights = "both/vit-micro-seed1/weights/best.safetensors";
    let before = fs::read(place.path(weights)).unwrap();
    // Asked again it trains nothing, asked for something else it refuses.
    place
        .run(&format!("{COMPARE} --budget epochs=1 --seeds 2"))
        .ok();
    fails(
        &place.run(&format!("{COMPARE} --budget epochs=2 --seeds 2")),
        "both/resnet9-seed0 was trained with train.epochs = 1, now it is 2: name another folder with --out, or use the same setting",
    );
    fails(
        &place.run(&format!("{COMPARE} --budget epochs=1").replace("--data pets", "")),
        "both/resnet9-seed0 was trained with data.path = \"pets\", now it is unset: name another folder with --out, or use the same setting",
    );
    // What was killed before its first checkpoint begins anew.
    fs::remove_dir_all(place.path("both/resnet9-seed1/checkpoint")).unwrap();
    fs::remove_dir_all(place.path("both/resnet9-seed1/weights")).unwrap();
    let again = place
        .run(&format!(
            "{COMPARE} --budget epochs=1 --seeds 2 --threads 1"
        ))
        .ok();
    assert!(
        place
            .path("both/resnet9-seed1/weights/best.safetensors")
            .is_file()
    );
    let info = place.read("both/resnet9-seed1/run.json");
    assert!(info.contains("\"threads\": 1,"), "{info}\n{again:#?}");
    // It is emptied of what a training wrote, and of nothing else.
    let begun = "both/resnet9-seed1";
    fs::remove_dir_all(place.path(&format!("{begun}/checkpoint"))).unwrap();
    fs::remove_dir_all(place.path(&format!("{begun}/weights"))).unwrap();
    for mine in [
        "notes.txt",
        "splits/notes.txt",
        "weights/notes.txt",
        ".vitrine-backup",
    ] {
        let listing = place.listing(begun);
        place.write(&format!("{begun}/{mine}"), "mine");
        fails(
            &place.run(&format!("{COMPARE} --budget epochs=1 --seeds 2")),
            &format!(
                "{begun}/{mine} was not written by a training, and {begun} is not emptied for a new one: move it away, or name another folder with --out"
            ),
        );
        assert_eq!(place.read(&format!("{begun}/{mine}")), "mine");
        fs::remove_file(place.path(&format!("{begun}/{mine}"))).unwrap();
        let _ = fs::remove_dir(place.path(&format!("{begun}/weights")));
        let _ = fs::remove_dir_all(place.path(&format!("{begun}/checkpoint")));
        assert_eq!(place.listing(begun), listing);
    }
    let recipe = place.read(&format!("{begun}/recipe.toml"));
    place.write(&format!("{begun}/recipe.toml"), "[train]\nseed = 1\n");
    fails(
        &place.run(&format!("{COMPARE} --budget epochs=1 --seeds 2")),
        &format!(
            "{begun}/recipe.toml was not written by a training, and {begun} is not emptied for a new one: move it away, or name another folder with --out"
        ),
    );
    assert_eq!(
        place.read(&format!("{begun}/recipe.toml")),
        "[train]\nseed = 1\n"
    );
    place.write(&format!("{begun}/recipe.toml"), recipe);
    place
        .run(&format!("{COMPARE} --budget epochs=1 --seeds 2"))
        .ok();
    // Weights whose state is gone are not thrown away.
    fs::remove_dir_all(place.path("both/vit-micro-seed1/checkpoint")).unwrap();
    fails(
        &place.run(&format!("{COMPARE} --budget epochs=1 --seeds 2")),
        "both/vit-micro-seed1 holds no run that can be continued: name another folder with --out, or move it away",
    );
    assert_eq!(fs::read(place.path(weights)).unwrap(), before);
}

/// Trains two small models on `pets` into `both`.
const COMPARE: &str = "compare --models resnet9,vit-micro --data pets --out both --device cpu \
    --set preprocess.image_size=16 --set train.batch_size=8";

#[test]
fn runs_are_pooled_where_only_the_seed_differs() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    for (out, flags) in [
        ("a0", "--seed 0"),
        ("a1", "--seed 1"),
        ("b0", "--seed 0 --lr 0.5"),
        ("b1", "--seed 1 --lr 0.5"),
    ] {
        place
            .run(&format!("train --data pets --out {out} {flags} {TINY}"))
            .ok();
    }
    let models = |runs: &str| -> Vec<(String, usize)> {
        let said = place
            .run(&format!("compare {runs} --out both --json --device cpu"))
            .ok();
        let told = said.json();
        let rows = told["rows"].as_array().unwrap().iter();
        rows.map(|row| {
            let seeds = row["top1"].as_array().unwrap().len();
            (row["model"].as_str().unwrap().to_owned(), seeds)
        })
        .collect()
    };
    assert_eq!(models("a0 a1"), [("vit-micro".into(), 2)]);
    // Learned from other pictures, it is another model.
    place.pictures("less", &["cat", "dog"], 7);
    place
        .run(&format!("train --data less --out c2 --seed 2 {TINY}"))
        .ok();
    place.pictures("few", &["cat", "dog"], 2);
    let said = place.run("compare a0 c2 --data few --split train --out both --json --device cpu");
    assert_eq!(said.ok().json()["rows"].as_array().unwrap().len(), 2);
    assert_eq!(models("a0 b1 b0 a1"), [("a0".into(), 2), ("b1".into(), 2)]);
    let said = place.run("compare a0 a1 b1 --out both --device cpu").ok();
    assert_eq!(said.out.matches("McNemar").count(), 1, "{said:#?}");
    assert!(said.out.contains("against b1, seed 1: "), "{said:#?}");
    fails(
        &place.run("compare a0 ./a0 --device cpu"),
        "./a0 is named twice: expected different runs",
    );

    let info = place.read("a0/run.json");
    place.write(
        "a0/run.json",
        info.replace("\"ended\": ", "\"other\": ").as_bytes(),
    );
    fails(
        &place.run("compare a0 a1 --device cpu"),
        "a0 was never finished: continue it with `vitrine train --resume a0`, or leave it out",
    );
}

#[test]
fn a_comparison_that_cannot_be_made_leaves_nothing() {
    let Trained { place: shared, .. } = trained();
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 4);
    let before = place.listing(".");
    let run = shared.path("run").display().to_string();
    let budget = "expected epochs=N, time=30m or flops=1e15";
    for (line, message) in [
        ("--models vit-w1", "--models names one model only: expected two or more, such as vit-w1,resnet9".to_owned()),
        ("--models vit-w1,resnet9 --models vit-w1", "--models names one model only: expected two or more, such as vit-w1,resnet9".to_owned()),
        ("--models vit-w1,resnet9,vit-w1 --data pets", "--models names vit-w1 twice: expected different models".to_owned()),
        ("--models vit-w1,vit-w2 --data pets", "\"vit-w2\" is not a model, did you mean \"vit-w1\"?; known models are vit-micro, vit-w1, vit-tiny, vit-small, vit-base, resnet9, resnet18, airbench".to_owned()),
        ("--models vit-w1,resnet9 --budget epochs=0", format!("--budget \"epochs=0\": {budget}")),
        ("--models vit-w1,resnet9 --budget epochs=-1", format!("--budget \"epochs=-1\": {budget}")),
        ("--models vit-w1,resnet9 --budget lots", format!("--budget \"lots\": {budget}")),
        ("--models vit-w1,resnet9 --budget flops=x", format!("--budget \"flops=x\": {budget}")),
        ("--models vit-w1,resnet9 --budget time=x", "--budget time is \"x\": expected a duration such as 90s, 30m or 1h30m".to_owned()),
        ("--models vit-w1,resnet9 --data nowhere", "--data nowhere: no such file or folder; expected a data set's path; `vitrine data download` fetches one".to_owned()),
        ("vit", "one run only: expected two or more runs, or --models with two or more names".to_owned()),
    ] {
        fails(&place.run(&format!("compare {line} --device cpu")), &message);
    }
    let twice = place.run(&format!("compare {run} {run} --device cpu"));
    fails(
        &twice,
        &format!("{run} is named twice: expected different runs"),
    );
    assert_eq!(place.listing("."), before);
}

/// Kinds of pictures that are not read right are refused by name, with what to do, and never trained on as something else.
#[test]
fn kinds_of_pictures_that_are_not_read_are_named() {
    let place = Place::new();
    place.pictures("set", &["a", "b"], 2);
    let fixture = |name: &str| fs::read(format!("tests/fixtures/pictures/{name}")).unwrap();
    place.write("set/a/float.tif", fixture("tiff-rgb-float-0-to-255"));
    place.write("set/a/raw.nef", fixture("tiff-nef-like"));
    place.write("set/b/raw.raf", b"FUJIFILMCCD-RAW 0201");
    place.write("set/b/scans.jpg", fixture("jpeg-420-baseline-apart"));
    place.write("set/b/big.tif", fixture("tiff-rgb-bigtiff"));
    place.write("set/b/coded.jpg", fixture("jpeg-arithmetic"));
    place.write("page.pdf", b"%PDF-1.7");
    let verify = place.run("data verify set");
    for line in [
        "a/float.tif  TIFF of a kind that is not read here: floating-point values of 10 to 248, expected 0 to 1; convert it to PNG or JPEG",
        "a/raw.nef    camera raw is not read here; convert it to JPEG or PNG",
        "b/coded.jpg  JPEG of a kind that is not read here: arithmetic coding; convert it to PNG or JPEG",
        "b/raw.raf    camera raw (RAF) is not read here; convert it to JPEG or PNG",
        "set: 10 pictures, 2 classes; 4 unreadable",
    ] {
        assert!(verify.out.contains(line), "{line}: {verify:#?}");
    }
    let info = place.run("data info set").ok().out;
    assert!(info.contains("PNG 4") && info.contains("TIFF 1"), "{info}");
    let page = place.run("classify page.pdf");
    fails(
        &page,
        "page.pdf: PDF is not read here; save its pictures as JPEG or PNG\n1 of 1 could not be classified",
    );
}

#[test]
fn data_is_described_and_checked() {
    let place = Place::new();
    place.pictures("pets/train", &["cat", "dog"], 3);
    place.pictures("pets/test", &["cat"], 0);
    insta::assert_snapshot!(place.run("data info pets").ok().out, @r"
    pets: class folders, 2 classes
    class  train
    cat        3
    dog        3
    all        6
    width 16 to 16, median 16; height 16 to 16, median 16 pixels
    formats: PNG 6
    channel means 0.3542 0.5092 0.4725, deviations 0.3264 0.3013 0.2082 (of 1)
    ");
    insta::assert_snapshot!(place.run("data verify pets").ok().out, @"pets: 6 pictures, 2 classes; 0 unreadable, 0 leaks, 0 conflicting labels, 0 duplicates; largest class 1.0 times the smallest");

    // One cat is also in test, and once more in train; one file is empty.
    let cat = fs::read(place.path("pets/train/cat/00.png")).unwrap();
    place.write("pets/test/cat/leak.png", &cat);
    place.write("pets/train/cat/again.png", &cat);
    place.write("pets/test/dog/fine.png", png(&picture(16, 16, 99)));
    place.write("pets/test/dog/empty.png", "");
    let verify = place.run("data verify pets");
    assert_eq!(verify.code, 1, "{verify:#?}");
    insta::assert_snapshot!(verify.out, @r"
    grade    finding        picture             detail
    error    unreadable     test/dog/empty.png  empty file (0 bytes)
    error    in two splits  train/cat/00.png    (train, cat) = train/cat/again.png (train, cat), test/cat/leak.png (test, cat)
    warning  duplicate      train/cat/00.png    (train, cat) = train/cat/again.png (train, cat), test/cat/leak.png (test, cat)
    pets: 10 pictures, 2 classes; 1 unreadable, 1 leaks, 0 conflicting labels, 1 duplicates; largest class 1.3 times the smallest
    ");
    let json = place.run("data verify pets --json");
    assert_eq!(json.code, 1);
    let found = json.json();
    assert_eq!(found["unreadable"].as_array().unwrap().len(), 1);
    assert_eq!(found["leaks"].as_array().unwrap().len(), 1);

    let list = place.run("data list").ok().out;
    for name in ["cifar10 ", "cifar100 ", "mnist ", "fashion-mnist "] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{list}");
    }
    fails(
        &place.run("data download imagenet"),
        "unknown data set \"imagenet\"; known are cifar10, cifar100, mnist, fashion-mnist",
    );
    let sample = place.run("data info --json").ok().json();
    assert_eq!(sample["counts"][0]["pictures"], 10_000);
}

/// How often `path` is opened while `act` works.
#[cfg(target_os = "linux")]
fn openings(path: &std::path::Path, act: impl FnOnce()) -> usize {
    use std::io::Read;
    use std::os::fd::FromRawFd;
    use std::os::unix::ffi::OsStrExt;

    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // A closing between two openings keeps the kernel from telling of both as one.
    let events = libc::IN_OPEN | libc::IN_CLOSE;
    // SAFETY: `name` is a C string, and the descriptor is owned by nobody else.
    let mut watch = unsafe {
        let watch = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
        assert!(watch >= 0 && libc::inotify_add_watch(watch, name.as_ptr(), events) >= 0);
        fs::File::from_raw_fd(watch)
    };
    act();
    let mut told = [0; 1 << 14];
    let length = match watch.read(&mut told) {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => 0,
        length => length.unwrap(),
    };
    // A watched file is not named, so all events are of one size: watch, kind, cookie, length.
    let kind = |event: &&[u8]| u32::from_ne_bytes(event[4..8].try_into().unwrap());
    let events = told[..length].chunks(size_of::<libc::inotify_event>());
    events
        .filter(|event| kind(event) & libc::IN_OPEN != 0)
        .count()
}

#[test]
#[cfg(target_os = "linux")]
fn an_archive_is_unpacked_once() {
    let place = Place::new();
    let files: Vec<(String, Vec<u8>)> = (0..40)
        .map(|i| (format!("{}/{i}.png", i % 2), png(&picture(16, 16, i))))
        .collect();
    place.write("set.tar.gz", gzip(&tar(&files)));
    let opened = |line: &str| {
        openings(&place.path("set.tar.gz"), || {
            place.run(line).ok();
        })
    };
    let train = format!("train --data set.tar.gz {TINY}");
    assert_eq!(opened(&format!("{train} --dry-run")), 1);
    assert_eq!(opened(&format!("{train} --out run")), 1);
    assert_eq!(opened(&format!("{train} --out other --seed 1")), 1);
    assert_eq!(opened("train --resume run --steps 3 --device cpu"), 1);
    assert_eq!(opened("eval run --device cpu"), 1);
    assert_eq!(opened("calibrate run --device cpu"), 1);
    assert_eq!(opened("compare run other --out both --device cpu"), 1);
    // Two trainings, a process each, and once to plan and once to measure both.
    let compare = "compare --models resnet9,vit-micro --data set.tar.gz --out trained --device cpu \
        --set preprocess.image_size=16 --set train.batch_size=8 --budget epochs=1";
    assert_eq!(opened(compare), 4);
}

#[test]
fn what_is_not_read_is_called_by_its_name_by_every_command() {
    let place = Place::new();
    weights(&place);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for number in 0..6 {
        place.write(&format!("pets/cat/{number}.png"), pointer);
        place.write(&format!("pets/dog/{number}.png"), pointer);
    }
    place.write("pets.7z", b"7z\xbc\xaf\x27\x1c..........");
    place.write(
        "pets.tar.gz",
        gzip(&tar(&[("cat/1.png".into(), b"a".to_vec())])),
    );
    for (command, found) in [
        (
            "data info pets.7z",
            "a 7z archive; unpack it into a folder and name that",
        ),
        (
            "train --data pets.7z",
            "a 7z archive; unpack it into a folder and name that",
        ),
        (
            "classify best.safetensors pets.7z",
            "a 7z archive (unpack it into a folder and name that)",
        ),
        (
            "classify best.safetensors pets.tar.gz",
            "a gzip file (unpack it and name its pictures)",
        ),
        (
            "classify best.safetensors pets/cat/1.png",
            "a Git LFS pointer in the place of a file (fetch the files it stands for with `git lfs pull`)",
        ),
        (
            &format!("train --data pets {TINY}"),
            "a Git LFS pointer in the place of a file (fetch the files it stands for with `git lfs pull`)",
        ),
    ] {
        let said = place.run(command);
        assert_eq!(said.code, 1, "{said:#?}");
        assert!(said.err.contains(&format!("found {found}")), "{said:#?}");
    }
}

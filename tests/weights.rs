//! What the real binary does with finished weights: calibrate them, abstain by them, start from
//! them, hand them on.
#![allow(clippy::unwrap_used)]

#[path = "support/hub.rs"]
mod hub;
mod support;

use std::fs;
use std::sync::OnceLock;

use hub::{COMMIT, Hub};
use sha2::{Digest, Sha256};
use support::{Place, Said, fails, flag_names_nothing, picture, png};
use vitrine::checkpoint::SHIPPED;

/// A model that trains in milliseconds.
const TINY: &str = "--image-size 16 --steps 2 -b 8 --device cpu --set model.depth=2 \
    --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16";

/// `pets`, two classes of 20 pictures, and `run`, trained on half of it; nothing that a test does
/// may change them.
fn trained() -> &'static Place {
    static TRAINED: OnceLock<Place> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let place = Place::lasting("weights");
        place.pictures("pets", &["cat", "dog"], 20);
        place
            .run(&format!(
                "train --data pets --out run --val-fraction 0.4 {TINY}"
            ))
            .ok();
        place
    })
}

/// A copy of the trained run, and of its data, in a place of its own.
fn copy() -> Place {
    trained().copied()
}

const FILES: [&str; 2] = [
    "run/weights/best.safetensors",
    "run/weights/last.safetensors",
];

#[test]
fn a_calibration_is_kept_with_the_weights() {
    let place = copy();
    let read = || FILES.map(|file| fs::read(place.path(file)).unwrap());
    let raw = read();
    let classify = |flags: &str| place.run(&format!("classify run pets/cat/00.png {flags}"));
    fails(
        &classify("--abstain 5%"),
        "--abstain needs calibrated weights, and run is not: run `vitrine calibrate run` first",
    );
    let said = place.run("calibrate run --device cpu --json").ok();
    let told = said.json();
    let calibrated = read();
    for (i, file) in FILES.into_iter().enumerate() {
        assert_eq!(told[i]["weights"], file);
        assert_eq!(told[i]["calibration"]["pictures"], 16);
        assert_ne!(raw[i], calibrated[i]);
        let before = &told[i]["calibration"]["before"]["nll"];
        let after = &told[i]["calibration"]["after"]["nll"];
        assert!(after.as_f64() <= before.as_f64(), "{told}");
    }
    // It starts from the logits, not from the last temperature.
    place.run("calibrate run --device cpu").ok();
    assert_eq!(read(), calibrated);

    // What eval says of validation is what was measured when the temperature was fitted.
    let eval = place.run("eval run --split val --json --device cpu").ok();
    assert_eq!(eval.json()["temperature"], told[0]["temperature"]);
    assert_eq!(eval.json()["loss"], told[0]["calibration"]["after"]["nll"]);
    assert_eq!(eval.json()["ece"], told[0]["calibration"]["after"]["ece"]);
    // A fit that does not help on held-out folds is not kept, and that is said.
    let fit = match eval.json()["temperature"] == 1.0 {
        true => "temperature 1: on 16 validation pictures a fitted one did not help\n",
        false => ", fitted on 16 validation pictures\n",
    };
    assert!(eval.err.contains(fit), "{eval:#?}");
    // Neither calibration nor evaluation opens the test split.
    assert!(!place.path("run/eval-test").exists());

    fails(
        &classify("--abstain 0.1%"),
        "--abstain 0.1%: 16 validation pictures are too few to guarantee so few wrong answers at any confidence; accept more errors, or calibrate on more pictures",
    );
}

#[test]
fn below_its_threshold_a_model_is_not_sure() {
    let place = copy();
    let told = place.run("calibrate run --device cpu --json").ok().json();
    let rows = told[0]["calibration"]["coverage"]
        .as_array()
        .unwrap()
        .clone();
    let json = place.run("classify run pets --abstain 0.9 --json").ok();
    assert!(
        json.err
            .contains("at most 90% of the answers wrong, with 95% confidence; "),
        "{json:#?}"
    );
    let json = json.json();
    let pictures = json.as_array().unwrap();
    assert_eq!(pictures.len(), 40);
    let threshold = pictures[0]["threshold"].clone();
    assert!(rows.iter().any(|row| row[0] == threshold), "{threshold}");
    for one in pictures {
        let score = one["predictions"][0]["score"].as_f64();
        assert_eq!(one["not_sure"], score < threshold.as_f64(), "{one}");
    }
    let unsure = pictures.iter().filter(|one| one["not_sure"] == true);
    let unsure = unsure.count();
    let plain = place.run("classify run pets --abstain 90%").ok();
    assert_eq!(plain.out.matches("\n  not sure\n").count(), unsure);
    let csv = place.run("classify run pets --abstain 90% --csv").ok();
    assert_eq!(csv.out.matches(",,not sure,0.").count(), unsure);
    assert_eq!(csv.out.lines().count(), 1 + 2 * (40 - unsure) + unsure);
    // Without the flag nothing changes.
    let without = place.run("classify run pets --json").ok().json();
    assert!(without[0].get("not_sure").is_none() && without[0].get("threshold").is_none());
}

#[test]
fn a_calibration_without_held_out_pictures_is_refused() {
    let place = copy();
    place.write("best.safetensors", fs::read(place.path(FILES[0])).unwrap());
    for i in 0..3 {
        for split in ["train", "val"] {
            for class in ["cat", "dog"] {
                let name = format!("split/{split}/{class}/{i}.png");
                place.write(&name, png(&picture(16, 16, i + split.len() as u32)));
            }
        }
    }
    fails(
        &place.run("calibrate best.safetensors --device cpu"),
        "best.safetensors is a bare weights file: name its run directory, which keeps its validation split, or use --data with a data set that has one",
    );
    fails(
        &place.run("calibrate best.safetensors --data pets --device cpu"),
        "pets has no validation split to fit a temperature on; name the run directory, which keeps its validation split, or data with a val folder",
    );
    let before = fs::read(place.path("best.safetensors")).unwrap();
    let said = place
        .run("calibrate best.safetensors --data split --device cpu")
        .ok();
    assert!(
        said.out.starts_with("best.safetensors: temperature "),
        "{said:#?}"
    );
    assert_ne!(fs::read(place.path("best.safetensors")).unwrap(), before);
    for rate in ["0", "100%", "-0.05", "few"] {
        let said = place.run(&format!("classify run pets --abstain {rate}"));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:#?}");
        let start = format!("error: invalid value '{rate}' for '--abstain <P>': expected a share");
        assert!(said.err.starts_with(&start), "{said:#?}");
    }
}

#[test]
fn a_training_starts_from_weights_of_other_classes() {
    let place = copy();
    place.pictures("birds", &["hen", "owl", "tit"], 12);
    let said = place
        .run("train --data birds --init run --freeze backbone --epochs 1 -b 8 --image-size 24 --out b --device cpu --json")
        .ok();
    assert_eq!(said.json()["epochs"], 1);
    let recipe = place.read("b/recipe.toml");
    for line in [
        "depth = 2",
        "embed_dim = 16",
        "image_size = 24",
        "freeze = \"backbone\"",
    ] {
        assert!(recipe.lines().any(|l| l == line), "{line}: {recipe}");
    }
    let info: serde_json::Value = serde_json::from_str(&place.read("b/run.json")).unwrap();
    let weights = info["init"]["weights"].as_str().unwrap();
    assert!(weights.ends_with("/run"), "{info}");
    assert_eq!(info["init"]["sha256"].as_str().map(str::len), Some(64));
    let classify = place.run("classify b birds/hen/00.png --csv").ok();
    assert!(classify.out.contains(",owl,0."), "{classify:#?}");

    // A resume needs the weights no more, and still says which they were.
    place.run("train --resume b --epochs 2 --device cpu").ok();
    let resumed: serde_json::Value = serde_json::from_str(&place.read("b/run.json")).unwrap();
    assert_eq!(resumed["init"], info["init"]);

    // The run's own recipe names the file by its hash.
    let again = "train --recipe b/recipe.toml --device cpu --out c";
    place.run("calibrate run --device cpu").ok();
    let changed = place.run(again);
    assert_eq!(
        (changed.code, changed.out.as_str()),
        (1, ""),
        "{changed:#?}"
    );
    let told = changed.err.lines().last().unwrap();
    assert!(
        told.contains("run/weights/best.safetensors has SHA-256 ")
            && told.ends_with(
                "as init.sha256 has it; name the original file, or another one, with --init"
            ),
        "{told}"
    );
}

const BIRDS: &str = "--data birds --epochs 2 -b 8 --image-size 24 --val-fraction 0.3 --device cpu";

#[test]
fn adapters_are_a_small_file_that_answers_with_its_base_and_is_exported_without() {
    let place = copy();
    place.pictures("birds", &["hen", "owl", "tit"], 12);
    let said = place
        .run(&format!(
            "train {BIRDS} --init run --lora-rank 2 --lr 0.02 --out b"
        ))
        .ok();
    // 2·(16 + 16)·3 of queries, keys and values, and of projection and both of the MLP, in two blocks.
    assert!(
        said.err
            .contains("adapters: 768 parameters learn, and the heads\n"),
        "{said:#?}"
    );
    let size = |file: &str| fs::metadata(place.path(file)).unwrap().len();
    let (best, last) = ("b/weights/best.safetensors", "b/weights/last.safetensors");
    let line = format!(
        "weights:  {best} (adapters, {} bytes; they need run)\n",
        said_count(size(best))
    );
    assert!(said.out.contains(&line), "{line}{said:#?}");
    assert!(
        size(best) < size(FILES[0]) / 2,
        "{} {}",
        size(best),
        size(FILES[0])
    );
    let shown = place.run("weights show b --json").ok().json();
    let lora = &shown["lora"];
    assert_eq!((&lora["rank"], &lora["alpha"]), (&2.into(), &8.0.into()));
    let hash = Sha256::digest(fs::read(place.path(FILES[0])).unwrap());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(lora["base"]["sha256"], hash.as_str());
    assert_eq!(shown["bytes"], size(best));
    let shown = place.run("weights show b").ok();
    let adapters =
        format!("adapters: low-rank (LoRA), rank 2, alpha 8, of the weights run, SHA-256 {hash}\n");
    assert!(shown.out.contains(&adapters), "{shown:#?}");

    // A temperature is written into the small file, which stays small; all else reads it.
    let answers = |weights: &str| {
        let said = place.run(&format!("classify {weights} birds --json --device cpu"));
        said.ok().json()
    };
    let tensors = |file: &str| {
        let file = vitrine::checkpoint::TensorFile::open(&place.path(file)).unwrap();
        let mut sizes = file.sizes().unwrap();
        // What `calibrate` adds is no weight.
        sizes.retain(|name, _| !name.starts_with("familiarity."));
        sizes
    };
    let before = (tensors(best), tensors(last));
    place.run("calibrate b --device cpu").ok();
    assert_eq!((tensors(best), tensors(last)), before);
    assert!(
        place
            .run("weights show b")
            .ok()
            .out
            .contains(", calibrated")
    );
    place.run("eval b --device cpu").ok();
    place.run("plot b").ok();
    place
        .run("embed b birds/hen/00.png --out f.npy --device cpu")
        .ok();
    let calibrated = answers("b");
    for line in ["export b whole.safetensors", "export b whole.onnx"] {
        place.run(&format!("{line} --device cpu")).ok();
    }
    // Another training starts from them, and one of adapters once more.
    place
        .run(&format!("train {BIRDS} --init b --freeze backbone --out c"))
        .ok();
    place
        .run(&format!("train {BIRDS} --init b --lora-rank 1 --out d"))
        .ok();
    place.run("classify d birds/hen/00.png --device cpu").ok();

    // Without their base adapters answer nothing; what was exported answers the same.
    fs::rename(place.path("run"), place.path("gone")).unwrap();
    let begin = format!("{best} holds low-rank adapters of the weights ");
    let expected = format!(
        "expected those with SHA-256 {hash}; put them there again, or merge both where they are, with `vitrine export {best} OUT.safetensors`"
    );
    for line in [
        "classify b birds/hen/00.png",
        "eval b",
        "calibrate b",
        "weights show b",
        "export b other.safetensors",
        "embed b birds/hen/00.png --out g.npy",
        "train --data birds --init b",
        "train --data birds --teacher b",
    ] {
        let said =
            place.run(&format!("{line} --device cpu").replace("show b --device cpu", "show b"));
        let last = said.err.lines().last().unwrap();
        assert!(
            said.code == 1 && last.contains(&begin) && last.ends_with(&expected),
            "{line}: {said:#?}"
        );
    }
    assert_eq!(answers("whole.safetensors"), calibrated);
    let names = |file: &str| tensors(file).into_keys().collect::<Vec<_>>();
    assert_eq!(
        names("whole.safetensors"),
        names("gone/weights/best.safetensors")
    );

    // Another file in its place is told from it.
    place.run("calibrate gone --device cpu").ok();
    fs::rename(place.path("gone"), place.path("run")).unwrap();
    let said = place.run("classify b birds/hen/00.png --device cpu");
    let last = said.err.lines().last().unwrap();
    assert!(
        said.code == 1
            && last.contains("run has SHA-256 ")
            && last.contains(&format!(": expected {hash}, those that the low-rank adapters {best} change; "))
            && last.ends_with("put the original file there (`vitrine calibrate` and more training also change one), or train the adapters again"),
        "{said:#?}"
    );
}

/// A number as it is printed.
fn said_count(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}

#[test]
fn weights_that_cannot_be_a_start_are_refused() {
    let place = copy();
    let whole = fs::read(place.path(FILES[0])).unwrap();
    place.write("half.safetensors", &whole[..whole.len() / 2]);
    let end = "leave it out, or train without --init";
    for (flags, message) in [
        ("--init nowhere", flag_names_nothing("--init", "nowhere")),
        ("--init half.safetensors", "half.safetensors is not a whole safetensors file (incomplete metadata, file not fully covered); copy or train it again".to_owned()),
        ("--init run --model vit-w1", format!("--model is \"vit-w1\", and the weights run have \"vit-micro\": {end}")),
        ("--init run --set model.depth=5", format!("model.depth is 5, and the weights run have 2: {end}")),
        ("--init run --patch-size 8", format!("--patch-size is 8, and the weights run have 4: {end}")),
        ("--freeze backbone", "--freeze is backbone: expected none without weights to start from, since a random layer has to learn; name some with --init".to_owned()),
        ("--init run --freeze 40", "--freeze is 40: expected at most the 2 blocks of the model, or backbone".to_owned()),
        ("--init run --image-size 24 --patch-size 8", format!("--patch-size is 8, and the weights run have 4: {end}")),
        ("--set distillation.guidance=1", "[distillation] has settings and no teacher: name one with --teacher, or leave them out".to_owned()),
        ("--init run --set init.layer_decay=1.5", "init.layer_decay is 1.5: expected more than 0, at most 1".to_owned()),
        ("--init run --freeze backbone --teacher run --set distillation.through=token", "--freeze is backbone, and the weights run/weights/best.safetensors have no distillation token: a new one would stay random; set distillation.through=pooled, or freeze nothing".to_owned()),
        ("--lora-rank 4", "--lora-rank is 4: expected 0 without weights to start from, which the adapters change; name some with --init".to_owned()),
        ("--init run --lora-rank 17", "--lora-rank is 17: expected at most 16, the smaller side of Vit.blocks.0.attention.qkv.weight".to_owned()),
        ("--init cifar10-cnn --lora-rank 4", "--lora-rank is 4: adapters are of attention and MLP, and airbench has none; leave it out, or start from a Vision Transformer".to_owned()),
        ("--init run --lora-rank 4 --freeze backbone", "--lora-rank is 4 and --freeze is backbone: adapters leave all but themselves and the heads as it is, so leave --freeze out".to_owned()),
        ("--init run --lora-rank 4 --teacher run --set distillation.through=token", "--lora-rank is 4, and the weights run/weights/best.safetensors have no distillation token: a new one would stay random; set distillation.through=pooled, or train without adapters".to_owned()),
        ("--init run --set init.lora_alpha=4", "init.lora_alpha is 4, and without init.lora_rank there are no adapters: set both, or leave it out".to_owned()),
        ("--init run --freeze half", "--freeze is half: expected none, backbone or a number of blocks".to_owned()),
    ] {
        fails(&place.run(&format!("train --data pets --out new --device cpu {flags}")), &message);
        assert!(!place.path("new").exists(), "{flags}");
    }
    fails(
        &place.run("train --resume run --init run --device cpu"),
        "--resume continues run with its own recipe: --init cannot change; only --data, --epochs, --time, --steps, --patience, --workers, --cache-mb, --teacher, --device and --teacher-device may",
    );
}

#[test]
fn weights_are_handed_on_whole_or_halved() {
    let place = copy();
    let size = |file: &str| fs::metadata(place.path(file)).unwrap().len();
    place.run("export run whole.safetensors").ok();
    assert_eq!(
        fs::read(place.path("whole.safetensors")).unwrap(),
        fs::read(place.path(FILES[0])).unwrap()
    );
    let said = place.run("export run half.safetensors --half --json").ok();
    let told = said.json();
    assert_eq!(told["bytes"], size("half.safetensors"));
    assert_eq!(told["bytes_before"], size(FILES[0]));
    assert!(size("half.safetensors") < size(FILES[0]) * 3 / 4, "{told}");
    let differs = told["largest_probability_difference"].as_f64().unwrap();
    assert!(differs > 0.0 && differs <= 0.01, "{told}");

    // Whatever takes weights takes these.
    let score = |weights: &str| {
        let said = place.run(&format!("classify {weights} pets/cat/03.png --json"));
        said.ok().json()[0]["predictions"][0]["score"]
            .as_f64()
            .unwrap()
    };
    assert!((score("half.safetensors") - score("run")).abs() < 0.01);
    place
        .run("train --data pets --init half.safetensors --epochs 1 --out b --device cpu")
        .ok();

    fails(
        &place.run("export run half.safetensors"),
        "half.safetensors exists: name another file, or remove it first",
    );
    fails(
        &place.run("export run weights.bin"),
        "weights.bin: expected a name that ends in .safetensors or .onnx",
    );
    let said = place.run("export run nowhere/half.safetensors");
    let start = "error: cannot write nowhere/half.safetensors: No such file or directory";
    assert!(said.code == 1 && said.err.starts_with(start), "{said:#?}");
}

#[test]
fn weights_become_a_model_for_other_programs() {
    let place = copy();
    let size = |file: &str| fs::metadata(place.path(file)).unwrap().len();
    let said = place.run("export run pets.onnx").ok();
    assert!(said.out.starts_with("pets.onnx: "), "{said:#?}");
    let shapes = "in: pixel_values [batch, 3, 16, 16]; out: logits and probabilities [batch, 2]";
    assert!(said.err.contains(shapes), "{said:#?}");
    let line = "export run half.onnx --half --include-preprocessing --json";
    let told = place.run(line).ok().json();
    assert_eq!(told["bytes"], size("half.onnx"));
    assert_eq!(told["bytes_before"], size(FILES[0]));
    assert_eq!(told["data"], serde_json::Value::Null);
    assert!(size("half.onnx") < size("pets.onnx"));
    // A name of the class and the hash of the weights are readable in the file.
    let bytes = fs::read(place.path("pets.onnx")).unwrap();
    let hash = Sha256::digest(fs::read(place.path(FILES[0])).unwrap());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    for text in ["[\"cat\",\"dog\"]", &hash] {
        assert!(
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes()),
            "{text}"
        );
    }

    fails(
        &place.run("export run pets.onnx"),
        "pets.onnx exists: name another file, or remove it first",
    );
    assert_eq!(fs::read(place.path("pets.onnx")).unwrap(), bytes);
    place.write("other.onnx.data", "weights of a model that is gone");
    fails(
        &place.run("export run other.onnx"),
        "other.onnx.data exists: name another file, or remove it first",
    );
    fails(
        &place.run("export run eight.onnx --int8"),
        "--int8 is for .safetensors: an .onnx file has f32, or f16 with --half; ONNX Runtime's `quantize_dynamic` makes eight bits of it",
    );
    fails(
        &place.run("export run out.safetensors --include-preprocessing"),
        "--include-preprocessing is for .onnx, and out.safetensors is for vitrine, which prepares pictures itself",
    );
    let said = place.run("export run nowhere/pets.onnx");
    let start = "error: cannot write nowhere/pets.onnx: No such file or directory";
    assert!(said.code == 1 && said.err.starts_with(start), "{said:#?}");
    let said = place.run("export pets.onnx again.onnx");
    assert!(
        said.code == 1 && !place.path("again.onnx").exists(),
        "{said:#?}"
    );
}

#[test]
fn weights_of_eight_bits_are_a_quarter_and_compute_so() {
    let place = copy();
    let size = |file: &str| fs::metadata(place.path(file)).unwrap().len();
    let said = place.run("export run small.safetensors --int8 --json").ok();
    let differs = said.json()["largest_probability_difference"]
        .as_f64()
        .unwrap();
    assert!(differs > 0.0 && differs <= 0.1, "{differs}");
    place.run("export run half.safetensors --half").ok();
    assert!(size("small.safetensors") < size("half.safetensors"));
    // Written again it is the same file.
    place
        .run("export small.safetensors again.safetensors --int8")
        .ok();
    assert_eq!(
        fs::read(place.path("small.safetensors")).unwrap(),
        fs::read(place.path("again.safetensors")).unwrap()
    );

    let scores = |line: &str| -> Vec<f64> {
        let said = place
            .run(&format!("classify {line} pets/cat/03.png --json"))
            .ok();
        let json = said.json();
        let all = json[0]["predictions"].as_array().unwrap().iter();
        let mut all: Vec<_> = all
            .map(|one| (one["index"].as_u64(), one["score"].as_f64().unwrap()))
            .collect();
        all.sort_by_key(|one| one.0);
        all.into_iter().map(|one| one.1).collect()
    };
    let near =
        |a: &[f64], b: &[f64], most: f64| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= most);
    let [whole, narrow] = ["run", "small.safetensors"].map(scores);
    assert!(near(&whole, &narrow, 0.1) && whole != narrow);
    assert_eq!(scores("small.safetensors --precision int8"), narrow);
    // The codes are those that eight bits make of the whole weights; the head is in f16.
    assert!(near(&scores("run --precision int8"), &narrow, 2e-3));
    let widened = scores("small.safetensors --precision f32");
    assert!(near(&widened, &whole, 0.1) && widened != narrow);
    for precision in ["auto", "f32", "bf16", "int8"] {
        let line = format!(
            "eval small.safetensors --data pets --split train --precision {precision} --json"
        );
        let json = place.run(&line).ok().json();
        assert!(json["top1"].as_f64().is_some(), "{json}");
    }
    // A training starts from the numbers that the codes stand for.
    place
        .run("train --data pets --init small.safetensors --epochs 1 --out c --device cpu")
        .ok();
    place.run("calibrate run").ok();

    let said = place.run("train --data pets --precision int8 --out d --device cpu");
    let reason = "int8 is for classify, eval and export: expected auto, f32 or bf16";
    assert!(said.code == 2 && said.err.contains(reason), "{said:#?}");
    assert!(!place.path("d").exists());
    for command in ["classify run pets/cat/03.png", "eval run"] {
        let said = place.run(&format!("{command} --precision int4"));
        assert!(
            said.code == 2 && said.err.contains("expected auto, f32, bf16 or int8"),
            "{said:#?}"
        );
    }
    let said = place.run("export run both.safetensors --half --int8");
    assert!(
        said.code == 2 && !place.path("both.safetensors").exists(),
        "{said:#?}"
    );
}

#[test]
fn classify_tells_weights_from_pictures() {
    let place = copy();
    let files = |line: &str| -> Vec<String> {
        let json = place.run(&format!("classify {line} --json")).ok().json();
        let files = json.as_array().unwrap().iter();
        files
            .map(|one| one["file"].as_str().unwrap().to_owned())
            .collect()
    };
    let one = ["pets/cat/00.png"];
    assert_eq!(files("run pets/cat/00.png"), one);
    assert_eq!(files("run/weights/last.safetensors pets/cat/00.png"), one);
    assert_eq!(files("--weights run pets/cat/00.png"), one);
    assert_eq!(files("pets/cat/00.png --weights run"), one);
    // A run holds pictures too, and is still one.
    assert_eq!(files("run run/example.png"), ["run/example.png"]);
    // Without any, those that ship with vitrine answer, and say so.
    assert_eq!(files("pets/cat/00.png"), one);
    assert_eq!(files("cifar10-vit pets/cat/00.png"), one);
    assert_eq!(
        files("pets/*/00.png"),
        ["pets/cat/00.png", "pets/dog/00.png"]
    );
    assert_eq!(files("pets").len(), 40);
    let said = place.run("classify pets/cat/00.png").ok();
    let start = "weights: cifar10-vit, which ship with vitrine and know ";
    assert!(said.err.starts_with(start), "{said:#?}");
    fs::copy(
        place.path("run/weights/best.safetensors"),
        place.path("best.bin"),
    )
    .unwrap();
    assert_eq!(files("best.bin pets/cat/00.png"), one);
    fs::copy(place.path("pets/cat/00.png"), place.path("picture")).unwrap();
    assert_eq!(files("picture"), ["picture"]);
    place.write("photo.heic", "not read here");
    place.folder("empty");
    for (input, what) in [
        ("nowhere.jpg", "no such file or folder"),
        ("nowhere", "no such file or folder"),
        ("empty", "no pictures in this folder"),
        (
            "photo.heic",
            "not a picture: found text, expected JPEG, PNG, GIF, BMP, WebP, TIFF or another known format",
        ),
    ] {
        fails(
            &place.run(&format!("classify {input}")),
            &format!("{input}: {what}\n1 of 1 could not be classified"),
        );
    }
    for line in [
        "pets/cat/00.png run",
        "pets/cat/00.png run/weights/best.safetensors",
        "pets/cat/00.png cifar10-vit",
    ] {
        let run = line.split(' ').next_back().unwrap();
        fails(
            &place.run(&format!("classify {line}")),
            &format!(
                "{run}: no pictures to classify; weights come before the pictures, as in `vitrine classify RUN pets/cat/00.png`"
            ),
        );
    }
    // A folder of runs holds their plots, and nobody means those.
    fails(
        &place.run("classify . pets/cat/00.png"),
        ". is not a run directory (no recipe.toml in it); there is no run here yet: `vitrine train` makes one",
    );
    for first in ["run", "run/weights/best.safetensors", "cifar10-vit"] {
        fails(
            &place.run(&format!("classify {first}")),
            &format!(
                "{first}: weights, but no picture to classify; name some, as in `vitrine classify {first} PICTURE`"
            ),
        );
    }
}

#[test]
fn what_ships_goes_by_its_name_wherever_weights_are_read() {
    let place = copy();
    let classes = "airplane automobile bird cat deer dog frog horse ship truck";
    place.pictures("ten", &classes.split(' ').collect::<Vec<_>>(), 3);
    place.run("export cifar10-vit copy.safetensors").ok();
    for weights in ["cifar10-vit", "copy.safetensors"] {
        let eval = place.run(&format!("eval {weights} --data ten --json --device cpu"));
        assert_eq!(eval.ok().json()["n"], 30);
    }
    for command in ["eval", "export", "train"] {
        let help = place.run(&format!("{command} --help")).ok().out;
        let unnamed = SHIPPED.iter().find(|shipped| !help.contains(shipped.name));
        assert!(unnamed.is_none(), "{command}: {unnamed:?}");
    }
    let said = place.run("classify pets/cat/00.png --abstain 10%").ok();
    assert!(said.err.contains("not sure below "), "{said:#?}");
    fails(
        &place.run("calibrate cifar10-vit --data ten --device cpu"),
        "cifar10-vit ships inside vitrine, calibrated: `vitrine export cifar10-vit OUT.safetensors` makes a copy that can be calibrated again",
    );
    let names: Vec<_> = SHIPPED.iter().map(|shipped| shipped.name).collect();
    let said = place.run("eval cifar10-vitt --data ten --device cpu");
    let ends = format!("; weights that ship with vitrine: {}\n", names.join(", "));
    assert!(said.code == 1 && said.err.ends_with(&ends), "{said:#?}");

    // A run of the same name is not in its way, and a recipe means what ships from anywhere.
    place
        .run("train --data pets --init cifar10-vit --steps 1 --out cifar10-vit --device cpu")
        .ok();
    // Measured was the run, with its two classes, and not what ships.
    let metrics: serde_json::Value =
        serde_json::from_str(&place.read("cifar10-vit/metrics.json")).unwrap();
    let measured = metrics["test"]["confusion"].as_array().unwrap();
    assert_eq!(measured.len(), 2, "{metrics}");
    place.write("taught.toml", "[distillation]\nteacher = \"cifar10-vit\"\n");
    let train = "train --data ten --recipe taught.toml --device cpu --out";
    place.run(&format!("{train} taught --steps 1")).ok();
    place
        .run("train --resume taught --steps 2 --device cpu")
        .ok();
    place
        .run("train --resume taught --dry-run --device cpu")
        .ok();
    assert_eq!(place.run("classify pets/cat/00.png").ok().code, 0);
    for line in [
        "eval cifar10-vit",
        "export cifar10-vit out.safetensors",
        "classify cifar10-vit pets/cat/00.png",
        "train --init cifar10-vit",
        "train --teacher cifar10-vit",
    ] {
        fails(
            &place.run(line),
            "cifar10-vit is both the name of weights that ship with vitrine and a file or folder here; write ./cifar10-vit for the latter, or rename it",
        );
    }
    place.run("calibrate cifar10-vit --device cpu").ok();
    place.run("classify ./cifar10-vit pets/cat/00.png").ok();

    // Another vitrine shipped others when it began a run, whose recipe and state say so.
    let (ours, theirs) = (SHIPPED[0].file().sha256(), "0".repeat(64));
    let recipe = place.read("taught/recipe.toml").replace(&ours, &theirs);
    place.write("taught/recipe.toml", recipe);
    let path = "taught/checkpoint/state.safetensors";
    let mut state = fs::read(place.path(path)).unwrap();
    let find = |state: &[u8], text: &str| {
        let mut windows = state.windows(text.len());
        windows.position(|window| window == text.as_bytes())
    };
    while let Some(at) = find(&state, &ours) {
        state[at..at + theirs.len()].copy_from_slice(theirs.as_bytes());
    }
    // A file's own hash is that of the file with zeros in its place.
    let key = r#"\"sha256\":\""#;
    let at = find(&state, key).unwrap() + key.len();
    state[at..at + 64].fill(b'0');
    let hash: String = Sha256::digest(&state)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    state[at..at + 64].copy_from_slice(hash.as_bytes());
    place.write(path, state);
    let said = place.run("train --resume taught --steps 3 --device cpu");
    let advice = "; another version of vitrine ships these weights; use the version that began the run, or begin a new run";
    assert!(said.code == 1 && said.err.contains(advice), "{said:#?}");
}

#[test]
fn augmentation_at_test_time_is_reported_apart_and_changes_nothing_else() {
    let place = copy();
    let eval = |flags: &str, out: &str| -> serde_json::Value {
        place
            .run(&format!(
                "eval run --data pets --split train --device cpu --out {out} {flags}"
            ))
            .ok();
        serde_json::from_str(&place.read(&format!("{out}/metrics.json"))).unwrap()
    };
    let plain = eval("", "plain");
    assert!(plain["tta"].is_null(), "{plain:#}");
    let mut losses = vec![plain["train"]["loss"].as_f64().unwrap()];
    for (flag, name) in [("--tta", "mirror"), ("--tta=mirror-shift", "mirror-shift")] {
        let with = eval(flag, name);
        assert_eq!(with["train"], plain["train"], "{flag}");
        assert_eq!(with["tta"]["augmentation"], name);
        assert_eq!(with["tta"]["n"], with["train"]["n"]);
        losses.push(with["tta"]["loss"].as_f64().unwrap());
    }
    losses.sort_by(f64::total_cmp);
    losses.dedup();
    assert_eq!(losses.len(), 3, "{losses:?}");
    let said = place
        .run("eval run --data pets --split train --device cpu --tta --json")
        .ok();
    assert_eq!(said.json()["tta"]["augmentation"], "mirror");
}

/// `vitrine` with a hub on loopback and a cache of its own, and what `line` makes of them.
fn with_hub(place: &Place, hub: &Hub, line: &str) -> Said {
    let variables = [
        ("HF_ENDPOINT", hub.url.clone()),
        ("HF_HOME", place.path("home").display().to_string()),
    ];
    place.run_where(
        &line.split_whitespace().collect::<Vec<_>>(),
        &[],
        &variables,
    )
}

/// A hub that has the trained run's weights as `me/pets`.
fn hub_with_pets() -> Hub {
    let hub = Hub::start();
    let weights = fs::read(trained().path("run/weights/best.safetensors")).unwrap();
    hub.add("me/pets", "model.safetensors", weights).add(
        "me/pets",
        "README.md",
        "---\nlicense: mit\n---\n",
    );
    hub
}

#[test]
fn weights_on_a_hub_are_fetched_once_and_used_by_every_command() {
    let (place, hub) = (copy(), hub_with_pets());
    let run = |line: &str| with_hub(&place, &hub, line);
    let said = run("classify hf:me/pets pets/cat/00.png --csv").ok();
    assert!(
        said.err
            .contains("fetching model.safetensors of hf:me/pets, "),
        "{said:#?}"
    );
    let fetched = format!(" of hf:me/pets@{COMMIT}, licence mit\n");
    assert!(said.err.contains(&fetched), "{said:#?}");
    hub.asked();
    let own = place.run("classify run pets/cat/00.png --csv").ok();
    assert_eq!(own.out, said.out);
    let quiet = run("classify hf:me/pets pets/cat/00.png --csv").ok();
    assert_eq!((quiet.out, quiet.err.contains("fetch")), (own.out, false));
    run("eval hf:me/pets --data pets --device cpu").ok();
    run("export hf:me/pets copy.safetensors --device cpu").ok();
    assert_eq!(hub.asked().len(), 0, "all of it is in the cache");
    let refused = run("calibrate hf:me/pets --data pets");
    fails(
        &refused,
        "hf:me/pets lies in a cache that other programs read, too, and is not written to: `vitrine export hf:me/pets OUT.safetensors` makes a copy of vitrine's own, which `vitrine calibrate OUT.safetensors --data DATA` takes",
    );
    let listed = run("weights list --cached --json").ok().json();
    assert_eq!(listed[0]["name"], "hf:me/pets");
    assert_eq!(listed[0]["revisions"][0], "main");
    let known = run("weights list --json").ok().json();
    assert_eq!(known[0]["cached"], false);
    assert_eq!(hub.asked().len(), 0);
}

#[test]
fn a_run_records_the_commit_that_it_started_from() {
    let (place, hub) = (copy(), hub_with_pets());
    let run = |line: &str| with_hub(&place, &hub, line);
    let train = "train --data pets --steps 1 -b 8 --device cpu";
    run(&format!(
        "{train} --out a --init hf:me/pets --teacher hf-hub:me/pets@main"
    ))
    .ok();
    let recipe = place.read("a/recipe.toml");
    for key in ["weights", "teacher"] {
        let line = format!("{key} = \"hf:me/pets@{COMMIT}\"\n");
        assert!(recipe.contains(&line), "{recipe}");
    }
    let file = fs::read(place.path("run/weights/best.safetensors")).unwrap();
    let sum = Sha256::digest(&file)
        .iter()
        .fold(String::new(), |sum, b| sum + &format!("{b:02x}"));
    assert_eq!(recipe.matches(&format!("sha256 = \"{sum}\"")).count(), 2);
    // A new run of it is the same, wherever the branch is now.
    hub.asked();
    run("train --recipe a/recipe.toml --out b").ok();
    assert_eq!(hub.asked().len(), 0);
    assert_eq!(place.read("b/recipe.toml"), recipe);
    run("train --resume a --steps 2").ok();
}

#[test]
fn fetching_says_where_it_lies_and_what_is_wrong() {
    let (place, hub) = (Place::new(), hub_with_pets());
    let run = |line: &str| with_hub(&place, &hub, line);
    let said = run("weights fetch https://huggingface.co/me/pets --json")
        .ok()
        .json();
    assert_eq!(said["name"], format!("hf:me/pets@{COMMIT}"));
    assert_eq!(said["licence"], "mit");
    assert_eq!(said["files"][1]["name"], "model.safetensors");
    let folder = said["folder"].as_str().unwrap().to_owned();
    assert!(place.path(&folder).join("model.safetensors").is_file());
    let again = run("weights fetch hf:me/pets").ok();
    assert!(
        again
            .out
            .contains(&format!("hf:me/pets@{COMMIT}, licence mit\n")),
        "{again:#?}"
    );
    hub.add("me/old", "pytorch_model.bin", "x")
        .gate("me/pets", "hf_secret");
    for (line, said) in [
        (
            "weights fetch pets",
            "pets is no repository: expected hf:OWNER/NAME, or hf:OWNER/NAME@REVISION for a branch, tag or commit",
        ),
        (
            "weights fetch hf:me/../x",
            "hf:me/../x is no repository: expected OWNER/NAME behind hf:",
        ),
        (
            "weights fetch hf:me/pets",
            "and no token was sent: accept it there, make a token in the settings of your account, and set HF_TOKEN to it",
        ),
        (
            "classify hf:me/old x.png",
            "can run code when they are read and are not opened: expected model.safetensors; convert it where you trust it, and name the folder: python -c ",
        ),
        (
            "train --init hf:no/body --data x",
            "knows no repository no/body, or it is private and no token was sent: check the name, or set HF_TOKEN to a token that may read it",
        ),
        ("weights fetch hf:me/pets@v2", "and no token was sent"),
    ] {
        let refused = run(line);
        assert_eq!(refused.code, 1, "{refused:#?}");
        assert!(refused.err.contains(said), "{line}: {refused:#?}");
        assert!(!refused.err.contains("secret"), "{refused:#?}");
    }
}

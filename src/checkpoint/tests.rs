//! Weights written, read, changed and damaged.

use std::fs;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};

use super::widen::floats;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};

use super::*;
use crate::data::Preprocess;
use crate::data::Resize;
use crate::metrics::Calibration;
use crate::model::{Init, Model, ModelConfig, Pooling, Position, Stem, VitConfig, parameters};
use crate::ops::Activation;

/// The smallest ViT with every kind of token and head.
pub(crate) fn tiny() -> ModelConfig {
    ModelConfig::Vit(VitConfig {
        image_size: 8,
        patch_size: 4,
        embed_dim: 6,
        depth: 1,
        num_heads: 2,
        mlp_dim: 5,
        num_classes: 3,
        pooling: Pooling::ClassToken,
        position: Position::Learned,
        stem: Stem::Linear,
        stem_depth: 0,
        registers: 1,
        drop_path: 0.0,
        distillation_token: true,
        init: Init::Xavier,
        layer_scale: 0.0,
        qk_norm: false,
        qk_norm_bias: false,
        norm_epsilon: 1e-6,
        norm_after_pooling: false,
        activation: Activation::Gelu,
    })
}

pub(crate) fn meta() -> WeightsMeta {
    WeightsMeta {
        name: "tiny".to_owned(),
        model: tiny(),
        // A name that looks like the place of the hash.
        classes: ["ant", r#"","sha256":"00"#, "bee \u{1f41d}"]
            .map(str::to_owned)
            .to_vec(),
        preprocess: Preprocess {
            image_size: 8,
            resize: Resize::Pad,
            mean: [0.1, 0.2, 0.3],
            std: [0.4, 0.5, 0.6],
            ..Preprocess::default()
        },
        temperature: 1.25,
        epoch: 7,
        val_top1: Some(1.0 / 3.0),
        calibration: None,
    }
}

pub(crate) fn saved() -> (tempfile::TempDir, PathBuf, Model) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    // A new model's head is all zeros, which any other new model has too.
    let model = parameters::replace(tiny().init(3, &Device::flex()), |path, shape| {
        let count: usize = shape.iter().product();
        // No two parameters alike, not even those of neighbouring blocks.
        let place: usize = path.bytes().map(usize::from).sum();
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * 7 + place) as f32).sin() * 0.3)
            .collect();
        Some(Tensor::from_floats(values.as_slice(), &Device::flex()))
    });
    save_weights(&path, &model, &meta()).unwrap();
    (folder, path, model)
}

pub(crate) fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    load_weights(path, &Device::flex())
}

pub(crate) fn message(path: &Path) -> String {
    let error = load(path).unwrap_err().to_string();
    error.replace(&path.display().to_string(), "FILE")
}

#[test]
fn weights_read_back_bit_for_bit() {
    let (folder, path, model) = saved();
    let read = load(&path).unwrap();
    assert_eq!(read.meta, meta());
    assert_eq!(host_tensors(&read.model), host_tensors(&model));
    let again = folder.path().join("again.safetensors");
    save_weights(&again, &read.model, &read.meta).unwrap();
    assert_eq!(fs::read(&again).unwrap(), fs::read(&path).unwrap());
}

#[test]
fn metadata_is_replaced_and_the_tensors_stay() {
    let (_folder, path, model) = saved();
    let before = fs::read(&path).unwrap();
    let classes = meta().classes;
    let logits = [2.0, 0.5, 0.1, 0.3, 0.7, -1.0];
    let (temperature, calibration) = Calibration::fit(&logits, &[0, 0], &classes, "set");
    let changed = WeightsMeta {
        temperature,
        calibration: Some(calibration),
        ..meta()
    };
    let measured = TensorFile::open(&path).unwrap();
    save_meta(&measured, &changed, None).unwrap();
    // What was measured has gone.
    let late = save_meta(&measured, &meta(), None);
    assert!(matches!(late, Err(CheckpointError::Replaced { .. })));
    let read = load(&path).unwrap();
    assert_eq!(read.meta, changed);
    assert_eq!(host_tensors(&read.model), host_tensors(&model));
    // Without a calibration the bytes are those of before there was such a thing.
    save_meta(&TensorFile::open(&path).unwrap(), &meta(), None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    let mut cut = before;
    cut.pop();
    fs::write(&path, &cut).unwrap();
    let broken = TensorFile::open(&path).unwrap();
    assert!(save_meta(&broken, &meta(), None).is_err());
    assert_eq!(fs::read(&path).unwrap(), cut);
}

#[test]
fn other_tensors_of_the_same_description_are_not_replaced() {
    let (_folder, path, model) = saved();
    let measured = TensorFile::open(&path).unwrap();
    // Trained once more, with the same figures.
    let newer = tiny().init(7, &Device::flex());
    assert_ne!(host_tensors(&newer), host_tensors(&model));
    save_weights(&path, &newer, &meta()).unwrap();
    let late = save_meta(&measured, &meta(), None);
    assert!(matches!(late, Err(CheckpointError::Replaced { .. })));
    assert_eq!(
        host_tensors(&load(&path).unwrap().model),
        host_tensors(&newer)
    );
}

#[test]
fn a_file_within_the_program_loads_like_one_on_disk() {
    let (_folder, path, model) = saved();
    let whole = fs::read(&path).unwrap();
    let embed = |bytes: &[u8]| {
        let bytes: &'static [u8] = Box::leak(bytes.to_vec().into_boxed_slice());
        let file = TensorFile::embedded("tiny", bytes);
        let (checkpoint, check) = begin_to_load(&file, &Device::flex())?;
        check.wait()?;
        Ok::<_, CheckpointError>(checkpoint)
    };
    // Wherever the linker puts it.
    for shift in 0..4 {
        let shifted = [&[0; 4][..shift], &whole].concat();
        let bytes: &'static [u8] = Box::leak(shifted.into_boxed_slice());
        let file = TensorFile::embedded("tiny", &bytes[shift..]);
        let (checkpoint, check) = begin_to_load(&file, &Device::flex()).unwrap();
        check.wait().unwrap();
        assert_eq!(host_tensors(&checkpoint.model), host_tensors(&model));
    }
    let mut changed = whole;
    *changed.last_mut().unwrap() ^= 1;
    let error = embed(&changed).unwrap_err().to_string();
    assert!(
        error.starts_with("tiny was changed after it was written"),
        "{error}"
    );
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let (_folder, path, _) = saved();
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for end in [
        0,
        1,
        7,
        8,
        9,
        header / 2,
        header - 1,
        header,
        header + 1,
        (header + whole.len()) / 2,
        whole.len() - 4,
        whole.len() - 1,
    ] {
        fs::write(&path, &whole[..end]).unwrap();
        let message = message(&path);
        assert!(
            message.starts_with("FILE is not a whole safetensors file (")
                && message.ends_with("); copy or train it again"),
            "{end} bytes: {message}"
        );
    }
    let mut longer = whole.clone();
    longer.push(0);
    fs::write(&path, &longer).unwrap();
    assert!(matches!(load(&path), Err(CheckpointError::Corrupt { .. })));
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let (_folder, path, _) = saved();
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut bytes = whole.clone();
    for at in (0..whole.len()).step_by(3) {
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let result = load(&path);
        bytes[at] ^= 1;
        if at < header {
            assert!(result.is_err(), "byte {at}");
        } else {
            assert!(
                matches!(result, Err(CheckpointError::Tampered { .. })),
                "byte {at}"
            );
        }
    }
}

#[test]
fn changed_metadata_is_noticed() {
    let (_folder, path, _) = saved();
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|w| w == b"ant").unwrap();
    let mut changed = bytes.clone();
    changed[at..at + 3].copy_from_slice(b"cow");
    fs::write(&path, &changed).unwrap();
    assert_eq!(
        message(&path),
        "FILE was changed after it was written: its bytes do not match their SHA-256; copy or train it again"
    );
}

#[test]
fn a_temperature_that_would_turn_the_answers_round_is_refused() {
    let (_folder, path, model) = saved();
    for temperature in [-1.0, 0.0] {
        let meta = WeightsMeta {
            temperature,
            ..meta()
        };
        save_weights(&path, &model, &meta).unwrap();
        let said = message(&path);
        assert!(
            said.contains(&format!(
                "a temperature of {temperature}, expected one above 0"
            )),
            "{said}"
        );
    }
}

#[test]
fn a_change_that_leaves_nothing_to_load_is_called_a_change() {
    let (_folder, path, _) = saved();
    let mut bytes = fs::read(&path).unwrap();
    let key = br#""mlp_dim\":5"#;
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
    bytes[at + key.len() - 1] = b'6';
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(load(&path), Err(CheckpointError::Tampered { .. })));
}

#[test]
fn values_lie_in_the_files_memory_and_changing_a_tensor_leaves_the_file_alone() {
    let (_folder, path, _) = saved();
    let whole = fs::read(&path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let tensors = file.tensors().unwrap();
    let view = tensors.tensor("Vit.head.weight").unwrap();
    let data = file.data(&tensors, "Vit.head.weight", &view).unwrap();
    assert_eq!(data.as_bytes().as_ptr(), view.data().as_ptr());

    // The only owner of a tensor may change it in place.
    let tensor = Tensor::<1>::from_data(data, &Device::flex());
    let changed = host(tensor.add_scalar(1.0));
    let expected: Vec<f32> = floats(&view).unwrap().iter().map(|x| x + 1.0).collect();
    assert_eq!(changed, expected);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn values_that_are_not_aligned_are_copied() {
    let (_folder, path, model) = saved();
    let whole = fs::read(&path).unwrap();
    let (size, rest) = whole.split_at(8);
    let size = u64::from_le_bytes(size.try_into().unwrap());
    let (header, data) = rest.split_at(size as usize);
    let shifted = [&(size + 1).to_le_bytes()[..], header, b" ", data].concat();
    fs::write(&path, shifted).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let device = Device::flex();
    let read = file
        .fill(tiny().init_constant(&device), true, &device)
        .unwrap();
    assert_eq!(host_tensors(&read), host_tensors(&model));
}

/// A file as `write_tensors` makes it, after `change`.
fn with_tensors(change: impl FnOnce(&mut Vec<HostTensor>)) -> String {
    let (_folder, path, model) = saved();
    let mut tensors = host_tensors(&model);
    change(&mut tensors);
    write_tensors(&path, &tensors, &meta()).unwrap();
    message(&path)
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let start = "FILE does not fit its own model configuration: tensor ";
    assert_eq!(
        with_tensors(|t| t.retain(|(name, ..)| name != "Vit.class_token")),
        format!("{start}Vit.class_token is missing")
    );
    assert_eq!(
        with_tensors(|t| t.push(("Vit.tail".to_owned(), vec![1], vec![0.0]))),
        format!("{start}Vit.tail is not one of the model's")
    );
    assert_eq!(
        with_tensors(|t| {
            let (_, shape, _) = t.iter_mut().find(|t| t.0 == "Vit.head.weight").unwrap();
            shape.reverse();
        }),
        format!("{start}Vit.head.weight is F32 [3, 6], expected F32 [6, 3]")
    );
}

#[test]
fn metadata_that_does_not_fit_is_refused() {
    let (_folder, path, model) = saved();
    let refused = |meta: &WeightsMeta| {
        save_weights(&path, &model, meta).unwrap();
        message(&path)
    };
    let mut two = meta();
    two.classes.pop();
    assert_eq!(
        refused(&two),
        "FILE does not fit its own model configuration: 2 class names for a head of 3 classes"
    );
    let mut larger = meta();
    larger.preprocess.image_size = 9;
    assert_eq!(
        refused(&larger),
        "FILE does not fit its own model configuration: pictures of 9 pixels a side for a model of 8"
    );
    let mut flat = meta();
    flat.preprocess.std[1] = 0.0;
    assert!(refused(&flat).contains("preprocess.std"));
}

#[test]
fn a_foreign_file_is_refused() {
    let (_folder, path, _) = saved();
    let bytes = 1f32.to_le_bytes();
    let view = TensorView::new(Dtype::F32, vec![1], &bytes).unwrap();
    fs::write(
        &path,
        safetensors::serialize([("weight", view)], None).unwrap(),
    )
    .unwrap();
    assert_eq!(
        message(&path),
        "FILE has no vitrine metadata: expected a file that `vitrine train` wrote, such as RUN/weights/best.safetensors"
    );
    fs::remove_file(&path).unwrap();
    assert!(message(&path).starts_with("cannot read FILE: "));
    fs::create_dir(&path).unwrap();
    assert_eq!(
        message(&path),
        "cannot read FILE: it is a directory; expected a .safetensors file"
    );
}

#[test]
fn another_format_is_refused() {
    let (_folder, path, _) = saved();
    let mut bytes = fs::read(&path).unwrap();
    let key = br#""format\":2"#;
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
    for format in ['1', '3'] {
        bytes[at + key.len() - 1] = format as u8;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(
            message(&path),
            format!(
                "FILE is not a whole safetensors file (format {format}, this vitrine reads format 2); copy or train it again"
            )
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        header in 0u64..300,
        honest in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut file = bytes;
        if honest {
            // Past the first check, the length of the header.
            let mut longer = header.min(file.len() as u64).to_le_bytes().to_vec();
            longer.append(&mut file);
            file = longer;
        }
        fs::write(&path, &file).unwrap();
        prop_assert!(load(&path).is_err());
    }

    #[test]
    fn any_damage_is_noticed(
        at in any::<prop::sample::Index>(),
        damage in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let (_folder, path, _) = saved();
        let whole = fs::read(&path).unwrap();
        let at = at.index(whole.len());
        let mut bytes = whole.clone();
        for (byte, new) in bytes[at..].iter_mut().zip(damage) {
            *byte = new;
        }
        fs::write(&path, &bytes).unwrap();
        prop_assert_eq!(load(&path).is_ok(), bytes == whole);
    }
}

#[test]
fn weights_that_are_not_numbers_are_refused_by_the_name_of_their_tensor() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let said = with_tensors(|tensors| {
            let (_, _, values) = &mut tensors[2];
            *values.last_mut().unwrap() = bad;
        });
        let (_folder, _, model) = saved();
        let named = format!("(tensor {})", host_tensors(&model)[2].0);
        assert!(
            said.starts_with("FILE holds values that are not numbers") && said.contains(&named),
            "{said}"
        );
    }
}

#[test]
fn a_file_that_another_program_writes_over_changes_nothing_that_was_read() {
    let (_folder, path, _) = saved();
    let whole = fs::read(&path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let hash = file.sha256();
    for other in [vec![0; whole.len()], Vec::new()] {
        fs::write(&path, &other).unwrap();
        assert_eq!(file.sha256(), hash);
    }
    super::load(&file, &Device::flex()).unwrap();
}

#[test]
#[cfg(unix)]
fn a_written_file_is_as_private_as_the_user_wants_files_to_be() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        let found = fs::metadata(folder.path().join(name)).unwrap();
        found.permissions().mode() & 0o777
    };
    fs::File::create(folder.path().join("plain")).unwrap();
    crate::whole_file::write(&folder.path().join("ours"), b"x").unwrap();
    assert_eq!(mode("ours"), mode("plain"));
}

//! What any weights say of pictures that are tensors already: their logits, or the features of
//! weights without a classifier.
//!
//! ```sh
//! cargo run --release --example logits -- WEIGHTS pictures.safetensors answers.safetensors
//! ```
//!
//! WEIGHTS is whatever `classify` takes: a run, a file, or a folder that timm or transformers wrote.
//! The pictures are a tensor `images`, `[B, 3, H, W]` in f32, normalised. It is how vitrine is compared
//! with other programs; `tests/support/foreign` does.

use std::error::Error;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use vitrine::checkpoint;
use vitrine::device::{DeviceChoice, select};
use vitrine::model::Pass;
use vitrine::ops::Precision;
use vitrine::run::open_weights;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [weights, pictures, answers] = &arguments[..] else {
        return Err("expected WEIGHTS PICTURES ANSWERS".into());
    };
    let device = select("cpu".parse::<DeviceChoice>()?)?.device;
    let (checkpoint, check) = checkpoint::begin_to_load_backbone(&open_weights(weights)?, &device)?;
    check.wait()?;
    let (values, shape) = images(pictures)?;
    let images = Tensor::<4>::from_data(TensorData::new(values, shape), &device);
    let mut pass = Pass::inference(Precision::F32);
    let out = match checkpoint.meta.classes.is_empty() {
        true => checkpoint.model.features(images, &mut pass),
        false => checkpoint.model.forward(images, &mut pass),
    };
    let shape = out.dims();
    let values = out.into_data().iter::<f32>().collect::<Vec<f32>>();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes)?;
    std::fs::write(answers, safetensors::serialize([("answer", view)], None)?)?;
    Ok(())
}

fn images(path: &Path) -> Result<(Vec<f32>, [usize; 4]), Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let images = file.tensor("images")?;
    let &[batch, channels, height, width] = images.shape() else {
        return Err(format!("images are {:?}, expected [B, 3, H, W]", images.shape()).into());
    };
    let numbers = images.data().chunks_exact(4);
    let numbers = numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok((numbers.collect(), [batch, channels, height, width]))
}

//! What says how pictures are prepared: fields of weights files and recipes.

use serde::{Deserialize, Serialize};

use crate::setting::{self, Invalid};

/// The largest side of a model's input, in pixels.
pub(in crate::data) const MAX_IMAGE_SIZE: usize = 4096;

/// How a picture that is not square becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Stretched or squeezed, without regard to its proportions.
    Squash,
    /// Cropped to the largest square in the middle.
    #[default]
    Crop,
    /// Padded on both sides with the mean colour of ImageNet's photographs.
    Pad,
    /// Scaled until its shorter side is `resize_to`; then the middle is cut out. What is missing there is black.
    ShorterEdge,
    /// Scaled until its longer side is `resize_to`; then the middle is cut out. What is missing there has the mean
    /// colour.
    LongerEdge,
}

/// What a pixel of a resized picture is made of. All but `nearest` are widened where a picture shrinks, so that no pixel
/// is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The one pixel under its middle.
    Nearest,
    /// The mean of those that it covers.
    Box,
    /// A triangle.
    #[default]
    Bilinear,
    /// A narrow, smooth hill; about as sharp as `bicubic`, and as fast as `bilinear`.
    Hamming,
    /// Cubics (Keys 1981, with a = −1/2): sharper.
    Bicubic,
    /// Lanczos' window of three lobes: sharper still.
    Lanczos,
}

/// Where the middle is when half a pixel would be left on either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Centre {
    /// The start is rounded to the even number, as by torchvision and timm.
    #[default]
    Even,
    /// It is rounded down, as by transformers.
    Down,
}

/// How a decoded picture becomes a model's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// How pictures that are not square become square.
    pub resize: Resize,
    /// Side to which pictures are resized before the middle `image_size` × `image_size` is cut out, with `squash`,
    /// `shorter-edge` and `longer-edge`. `None`: `image_size`.
    #[serde(default, skip_serializing_if = "setting::is_default")]
    pub resize_to: Option<usize>,
    /// Where that middle is.
    #[serde(default, skip_serializing_if = "setting::is_default")]
    pub centre: Centre,
    /// What a pixel of the resized picture is made of.
    #[serde(default, skip_serializing_if = "setting::is_default")]
    pub filter: Filter,
    /// Whether every pixel is decoded and takes part, with Pillow's numbers: slower for large photographs. Else those are
    /// decoded at a reduced scale.
    #[serde(default, skip_serializing_if = "setting::is_default")]
    pub exact: bool,
    /// Mean of each channel, 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, 0 to 1.
    pub std: [f32; 3],
}

impl Default for Preprocess {
    /// 224 pixels, of the largest square in the middle, with the mean and deviation of ImageNet's photographs.
    fn default() -> Self {
        Self {
            image_size: 224,
            resize: Resize::Crop,
            resize_to: None,
            centre: Centre::Even,
            filter: Filter::Bilinear,
            exact: false,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

impl Preprocess {
    /// Checks the range of every field.
    ///
    /// # Errors
    ///
    /// [`Invalid`], which names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        setting::within("preprocess.image_size", self.image_size, 1..=MAX_IMAGE_SIZE)?;
        check_resize_to(self.resize, self.resize_to)?;
        let three = |key, found: [f32; 3], allowed: fn(f32) -> bool, expected: &str| match found
            .into_iter()
            .all(allowed)
        {
            true => Ok(()),
            false => Err(Invalid::new(key, format!("{found:?}"), expected)),
        };
        three(
            "preprocess.mean",
            self.mean,
            |mean| (0.0..=1.0).contains(&mean),
            "three numbers from 0 to 1",
        )?;
        three(
            "preprocess.std",
            self.std,
            |std| std > 0.0 && std <= 1.0,
            "three numbers above 0, at most 1",
        )
    }

    /// The same at another size: the side before the middle is cut out stays in proportion.
    pub fn at(&self, image_size: usize) -> Self {
        Self {
            image_size,
            resize_to: self
                .resize_to
                .map(|side| (side * image_size / self.image_size.max(1)).max(1)),
            ..self.clone()
        }
    }

    /// The mean colour, rounded to bytes: the colour that normalises to zero.
    pub fn mean_colour(&self) -> [u8; 3] {
        self.mean.map(|mean| (mean * 255.0).round() as u8)
    }
}

/// Checks the side before the middle is cut out.
///
/// # Errors
///
/// [`Invalid`], which names `preprocess.resize_to`.
pub(crate) fn check_resize_to(resize: Resize, resize_to: Option<usize>) -> Result<(), Invalid> {
    const KEY: &str = "preprocess.resize_to";
    let Some(side) = resize_to else {
        return Ok(());
    };
    setting::within(KEY, side, 1..=MAX_IMAGE_SIZE)?;
    match resize {
        Resize::Squash | Resize::ShorterEdge | Resize::LongerEdge => Ok(()),
        Resize::Crop | Resize::Pad => Err(Invalid::new(
            KEY,
            side,
            "no such key, or resize = squash, shorter-edge or longer-edge",
        )),
    }
}

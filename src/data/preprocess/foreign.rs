//! How other projects say what their pictures look like, read into ours.
//!
//! Each reader follows what the project's own code does with its file, defaults included; what cannot be said with
//! [`Preprocess`] is refused by the name of its key.

use serde_json::Value;

use super::settings::{Centre, Filter, MAX_IMAGE_SIZE, Preprocess, Resize};
use crate::setting::Invalid;

impl Preprocess {
    /// What torchvision's `vit_b_16`, `resnet18` and most of its weights of ImageNet-1k are evaluated with
    /// (`ImageClassification(crop_size=224)`).
    pub const TORCHVISION: Preprocess = Preprocess {
        image_size: 224,
        resize: Resize::ShorterEdge,
        resize_to: Some(256),
        centre: Centre::Even,
        filter: Filter::Bilinear,
        exact: true,
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
    };

    /// What timm evaluates with (`resolve_data_config`, `create_transform`), from the `pretrained_cfg` of a model's
    /// `config.json`. As there, the sizes for tests (`test_input_size`, `test_crop_pct`) are left alone, and what is
    /// absent or null has its default.
    ///
    /// # Errors
    ///
    /// [`Invalid`], which names the key as `pretrained_cfg.KEY`, for what is not of the expected kind or range and for
    /// inputs that are not square or not of three channels.
    pub fn from_timm(pretrained_cfg: &Value) -> Result<Self, Invalid> {
        let file = File::new("pretrained_cfg", pretrained_cfg)?;
        let image_size = match file.get("input_size") {
            None => 224,
            Some(found) => {
                let sides = found.as_array().map(Vec::as_slice);
                match sides {
                    Some([channels, height, width])
                        if channels.as_u64() == Some(3) && height == width =>
                    {
                        side(height)
                    }
                    _ => None,
                }
                .ok_or_else(|| {
                    let expected = format!(
                        "[3, S, S], for pictures of three channels and the same height and width, 1 to {MAX_IMAGE_SIZE}"
                    );
                    file.wrong("input_size", found, &expected)
                })?
            }
        };
        let crop_pct = match file.get("crop_pct") {
            None => 0.875,
            Some(found) => match found.as_f64() {
                Some(0.0) => 0.875,
                Some(share) if (0.05..=4.0).contains(&share) => share,
                _ => return Err(file.wrong("crop_pct", found, "a number from 0.05 to 4")),
            },
        };
        let resize = match file.text("crop_mode", "center, squash or border")? {
            None | Some("center") => Resize::ShorterEdge,
            Some("squash") => Resize::Squash,
            Some("border") => Resize::LongerEdge,
            Some(_) => return Err(file.refuse("crop_mode", "center, squash or border")),
        };
        const FILTERS: &str = "nearest, bilinear, bicubic, box, hamming or lanczos";
        let filter = match file.text("interpolation", FILTERS)? {
            None | Some("bicubic") => Filter::Bicubic,
            Some("nearest") => Filter::Nearest,
            Some("bilinear") => Filter::Bilinear,
            Some("box") => Filter::Box,
            Some("hamming") => Filter::Hamming,
            Some("lanczos") => Filter::Lanczos,
            Some(_) => return Err(file.refuse("interpolation", FILTERS)),
        };
        // As Python's math.floor of the quotient.
        let resize_to = (image_size as f64 / crop_pct).floor() as usize;
        if !(1..=MAX_IMAGE_SIZE).contains(&resize_to) {
            let expected = format!(
                "a share that resizes {image_size} pixels to 1 to {MAX_IMAGE_SIZE}, not to {resize_to}"
            );
            return Err(file.refuse("crop_pct", &expected));
        }
        Ok(Self {
            image_size,
            resize,
            resize_to: Some(resize_to).filter(|&side| side != image_size),
            centre: Centre::Even,
            filter,
            exact: true,
            mean: file.colours("mean", MEAN)?.unwrap_or(IMAGENET_MEAN),
            std: file.colours("std", STD)?.unwrap_or(IMAGENET_STD),
        })
    }

    /// What a processor of transformers prepares (those of ViT, DeiT, BiT, SigLIP, CLIP and ConvNeXT), from
    /// `preprocessor_config.json`. `model_type` is that of `config.json`: it tells the processor where the file names
    /// none. An empty object stands for a file that is absent.
    ///
    /// # Errors
    ///
    /// [`Invalid`], which names the key, for what is not of the expected kind or range, for a processor that is not known
    /// here, and for whatever gives no square picture of three channels from 0 to 1, less a mean, over a deviation.
    pub fn from_transformers(
        preprocessor_config: &Value,
        model_type: &str,
    ) -> Result<Self, Invalid> {
        let file = File::new("preprocessor_config.json", preprocessor_config)?;
        let own = Processor::of(&file, model_type)?;
        file.demand("do_resize", true, true)?;
        file.demand("do_rescale", true, true)?;
        file.demand("rescale_offset", false, false)?;
        for key in file.keys().filter(|key| key.starts_with("do_")) {
            let known = [
                "do_resize",
                "do_rescale",
                "do_normalize",
                "do_center_crop",
                "do_convert_rgb",
            ];
            if !known.contains(&key) {
                file.demand(key, false, false)?;
            }
        }
        if let Some(found) = file.get("rescale_factor") {
            let is_usual = |factor: f64| (factor * 255.0 - 1.0).abs() < 1e-4;
            if !found.as_f64().is_some_and(is_usual) {
                return Err(file.wrong("rescale_factor", found, "1/255 (0.00392156862745098)"));
            }
        }
        const FILTERS: &str =
            "0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (hamming)";
        let filter = match file.get("resample") {
            None => own.filter,
            Some(found) => match found.as_u64() {
                Some(0) => Filter::Nearest,
                Some(1) => Filter::Lanczos,
                Some(2) => Filter::Bilinear,
                Some(3) => Filter::Bicubic,
                Some(4) => Filter::Box,
                Some(5) => Filter::Hamming,
                _ => return Err(file.wrong("resample", found, FILTERS)),
            },
        };
        let size = match file.get("size") {
            None => own.size,
            Some(found) => file.size("size", found, own.is_number_shorter)?,
        };
        let cut = match file.flag("do_center_crop")?.unwrap_or(own.crop.is_some()) {
            false => None,
            true => Some(match file.get("crop_size") {
                None => own.crop.unwrap_or(224),
                Some(found) => match file.size("crop_size", found, false)? {
                    Size::Square(side) => side,
                    Size::Shorter(_) => {
                        return Err(file.wrong("crop_size", found, SQUARE));
                    }
                },
            }),
        };
        let (resize, resize_to, image_size) = match (size, cut) {
            _ if own.is_convnext => file.convnext(size, cut)?,
            (Size::Square(side), cut) => (Resize::Squash, side, cut.unwrap_or(side)),
            (Size::Shorter(side), Some(cut)) => (Resize::ShorterEdge, side, cut),
            (Size::Shorter(_), None) => {
                let expected = "true with size.shortest_edge, for square pictures";
                return Err(Invalid::new(
                    "preprocessor_config.json: do_center_crop",
                    false,
                    expected,
                ));
            }
        };
        let (mean, std) = match file.flag("do_normalize")?.unwrap_or(true) {
            true => (
                file.colours("image_mean", MEAN)?.unwrap_or(own.mean),
                file.colours("image_std", STD)?.unwrap_or(own.std),
            ),
            false => ([0.0; 3], [1.0; 3]),
        };
        Ok(Self {
            image_size,
            resize,
            resize_to: Some(resize_to).filter(|&side| side != image_size),
            centre: Centre::Down,
            filter,
            exact: true,
            mean,
            std,
        })
    }
}

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
const HALF: [f32; 3] = [0.5; 3];
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

const SQUARE: &str = "a number from 1 to 4096, or the same height and width";
/// What each of three numbers may be, and in words.
type Colours = (fn(f64) -> bool, &'static str);
const MEAN: Colours = (
    |mean| (0.0..=1.0).contains(&mean),
    "three numbers from 0 to 1",
);
const STD: Colours = (
    // What a number of 32 bits takes for 0 is none.
    |std| (1e-6..=1.0).contains(&std),
    "three numbers above 0, at most 1",
);

/// The size to which a processor resizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Height and width, without regard to proportions.
    Square(usize),
    /// The shorter side.
    Shorter(usize),
}

/// What a processor of transformers does where its file says nothing.
struct Processor {
    size: Size,
    /// Whether a size that is one number is that of the shorter side.
    is_number_shorter: bool,
    crop: Option<usize>,
    filter: Filter,
    mean: [f32; 3],
    std: [f32; 3],
    is_convnext: bool,
}

impl Processor {
    /// The defaults of the class that the file names, or else of the one for such a model.
    fn of(file: &File<'_>, model_type: &str) -> Result<Self, Invalid> {
        const CLASSES: &str = "ViTImageProcessor, DeiTImageProcessor, BitImageProcessor, SiglipImageProcessor, \
                               CLIPImageProcessor or ConvNextImageProcessor";
        // Older files call it a feature extractor; faster and slower variants prepare the same.
        let mut named = None;
        for key in ["image_processor_type", "feature_extractor_type"] {
            if let Some(class) = file.text(key, CLASSES)? {
                let stem = [
                    "ImageProcessorFast",
                    "ImageProcessorPil",
                    "ImageProcessor",
                    "FeatureExtractor",
                ]
                .iter()
                .find_map(|end| class.strip_suffix(end));
                named = Some((key, stem.unwrap_or(class).to_owned()));
                break;
            }
        }
        let (key, stem) = match &named {
            Some((key, stem)) => (*key, stem.as_str()),
            None => (
                "model_type",
                match model_type {
                    "vit" | "vit_mae" | "vit_msn" | "ijepa" => "ViT",
                    "deit" => "DeiT",
                    "dinov2" | "dinov2_with_registers" | "bit" => "Bit",
                    "siglip" | "siglip_vision_model" => "Siglip",
                    "clip" | "clip_vision_model" => "CLIP",
                    "resnet" | "convnext" | "convnextv2" => "ConvNext",
                    other => other,
                },
            ),
        };
        let plain = Processor {
            size: Size::Square(224),
            is_number_shorter: false,
            crop: None,
            filter: Filter::Bicubic,
            mean: HALF,
            std: HALF,
            is_convnext: false,
        };
        Ok(match stem {
            "ViT" => Processor {
                filter: Filter::Bilinear,
                ..plain
            },
            "DeiT" => Processor {
                size: Size::Square(256),
                crop: Some(224),
                ..plain
            },
            "Bit" | "CLIP" => Processor {
                size: Size::Shorter(224),
                is_number_shorter: true,
                crop: Some(224),
                mean: CLIP_MEAN,
                std: CLIP_STD,
                ..plain
            },
            "Siglip" => plain,
            "ConvNext" | "ConvNeXT" => Processor {
                size: Size::Shorter(384),
                is_number_shorter: true,
                is_convnext: true,
                ..plain
            },
            _ if named.is_some() => return Err(file.refuse(key, CLASSES)),
            _ => {
                let expected = "a type with a processor of this list, or a file that names it \
                                (`image_processor_type`): vit, deit, dinov2, siglip, clip or resnet";
                return Err(Invalid::new("model_type", model_type, expected));
            }
        })
    }
}

/// A file of settings: its name, for messages, and its object.
struct File<'a> {
    name: &'static str,
    object: &'a serde_json::Map<String, Value>,
}

impl<'a> File<'a> {
    fn new(name: &'static str, value: &'a Value) -> Result<Self, Invalid> {
        match value.as_object() {
            Some(object) => Ok(Self { name, object }),
            None => Err(Invalid::new(name, shown(value), "an object")),
        }
    }

    /// The value of a key; `null` stands for none.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.object.keys().map(String::as_str)
    }

    fn wrong(&self, key: &str, found: &Value, expected: &str) -> Invalid {
        let key = match self.name {
            "pretrained_cfg" => format!("pretrained_cfg.{key}"),
            file => format!("{file}: {key}"),
        };
        Invalid::new(&key, shown(found), expected)
    }

    /// [`wrong`](Self::wrong) with the key's own value.
    fn refuse(&self, key: &str, expected: &str) -> Invalid {
        self.wrong(key, self.object.get(key).unwrap_or(&Value::Null), expected)
    }

    fn text(&self, key: &str, expected: &str) -> Result<Option<&'a str>, Invalid> {
        let Some(found) = self.get(key) else {
            return Ok(None);
        };
        let text = found.as_str();
        text.map(Some)
            .ok_or_else(|| self.wrong(key, found, expected))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Invalid> {
        let Some(found) = self.get(key) else {
            return Ok(None);
        };
        let flag = found.as_bool();
        flag.map(Some)
            .ok_or_else(|| self.wrong(key, found, "true or false"))
    }

    /// Refuses a flag, `default` where it is absent, that is not as it must be.
    fn demand(&self, key: &str, default: bool, expected: bool) -> Result<(), Invalid> {
        match self.flag(key)?.unwrap_or(default) == expected {
            true => Ok(()),
            false => Err(self.refuse(key, &expected.to_string())),
        }
    }

    /// A number for each of red, green and blue; one number is that of all three.
    fn colours(
        &self,
        key: &str,
        (is_allowed, expected): Colours,
    ) -> Result<Option<[f32; 3]>, Invalid> {
        let Some(found) = self.get(key) else {
            return Ok(None);
        };
        let number = |value: &Value| value.as_f64().filter(|&number| is_allowed(number));
        let three = match found.as_array().map(Vec::as_slice) {
            Some([red, green, blue]) => [red, green, blue].map(number),
            Some(_) => [None; 3],
            None => [number(found); 3],
        };
        match three {
            [Some(red), Some(green), Some(blue)] => {
                Ok(Some([red, green, blue].map(|number| number as f32)))
            }
            _ => Err(self.wrong(key, found, expected)),
        }
    }

    /// `224`, `[224, 224]`, `{"height": 224, "width": 224}` or `{"shortest_edge": 224}`.
    fn size(&self, key: &str, found: &Value, is_number_shorter: bool) -> Result<Size, Invalid> {
        let wrong = || {
            let or = match key {
                "size" => ", or shortest_edge alone",
                _ => "",
            };
            self.wrong(key, found, &format!("{SQUARE}{or}"))
        };
        let of = |value: &Value| side(value).ok_or_else(wrong);
        match found {
            Value::Number(_) if is_number_shorter => of(found).map(Size::Shorter),
            Value::Number(_) => of(found).map(Size::Square),
            Value::Array(sides) => match sides.as_slice() {
                [height, width] if height == width => of(height).map(Size::Square),
                _ => Err(wrong()),
            },
            Value::Object(fields) => {
                let fields: Vec<(&str, &Value)> = fields
                    .iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(name, value)| (name.as_str(), value))
                    .collect();
                match fields.as_slice() {
                    [("shortest_edge", shorter)] => of(shorter).map(Size::Shorter),
                    [("height", a), ("width", b)] | [("width", a), ("height", b)] if a == b => {
                        of(a).map(Size::Square)
                    }
                    _ => Err(wrong()),
                }
            }
            _ => Err(wrong()),
        }
    }

    /// Below 384 pixels, ConvNeXT's processor resizes the shorter side to the size over `crop_pct` and cuts the middle
    /// out; from there on it squashes.
    fn convnext(&self, size: Size, cut: Option<usize>) -> Result<(Resize, usize, usize), Invalid> {
        let Size::Shorter(side) = size else {
            return Err(self.refuse("size", "shortest_edge alone"));
        };
        if cut.is_some_and(|cut| cut != side) {
            return Err(self.refuse("crop_size", &format!("the size, {side}")));
        }
        if side >= 384 {
            return Ok((Resize::Squash, side, side));
        }
        let crop_pct = match self.get("crop_pct") {
            None => 0.875,
            Some(found) => found
                .as_f64()
                .filter(|share| (0.1..=1.0).contains(share))
                .ok_or_else(|| self.wrong("crop_pct", found, "a number from 0.1 to 1"))?,
        };
        Ok((Resize::ShorterEdge, (side as f64 / crop_pct) as usize, side))
    }
}

/// A side in pixels; `None` unless it is a whole number in range.
fn side(value: &Value) -> Option<usize> {
    // Python's files may say 224.0.
    let whole = |number: f64| (number.fract() == 0.0 && number >= 0.0).then_some(number as u64);
    let number = value.as_u64().or_else(|| value.as_f64().and_then(whole))?;
    let side = usize::try_from(number).ok()?;
    (1..=MAX_IMAGE_SIZE).contains(&side).then_some(side)
}

/// A value for a message, in one line of bearable length.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

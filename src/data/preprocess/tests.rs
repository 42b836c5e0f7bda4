//! What becomes of pictures.

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use super::pillow::{self, Area};
use super::prepare::PAD_COLOUR;
use super::resample::resample;
use super::settings::{Centre, Filter, Preprocess, Resize};
use crate::data::decode::{DecodeLimits, Reduced, decode, decode_reduced};
use crate::data::sample::RawPicture;

fn preprocess(image_size: usize, resize: Resize) -> Preprocess {
    Preprocess {
        image_size,
        resize,
        mean: [0.25, 0.5, 0.75],
        std: [0.5, 0.25, 0.125],
        ..Preprocess::default()
    }
}

#[test]
fn a_long_strip_is_squashed_in_two_steps() {
    let strip = halves(300_000, 2);
    let squashed = preprocess(256, Resize::Squash).resize(&strip);
    assert_eq!(squashed.dimensions(), (256, 256));
    for (x, colour) in [(0, [200, 0, 0]), (255, [0, 0, 200])] {
        assert_eq!(squashed.get_pixel(x, 128).0, colour);
    }
}

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| {
        if x < width / 2 {
            Rgb([200, 0, 0])
        } else {
            Rgb([0, 0, 200])
        }
    })
}

#[test]
fn every_policy_gives_the_square() {
    for resize in [Resize::Squash, Resize::Crop, Resize::Pad] {
        for (width, height) in [
            (13, 24),
            (24, 13),
            (7, 7),
            (1, 1),
            (1, 500),
            (500, 1),
            (32, 32),
        ] {
            let square = preprocess(13, resize).resize(&halves(width, height));
            assert_eq!(square.dimensions(), (13, 13), "{resize:?} {width}x{height}");
        }
    }
}

#[test]
fn the_right_size_stays_as_it_is() {
    let picture = halves(13, 13);
    for resize in [Resize::Squash, Resize::Crop, Resize::Pad] {
        assert_eq!(preprocess(13, resize).resize(&picture), picture);
    }
}

#[test]
fn one_colour_stays_one_colour() {
    let picture = RgbImage::from_pixel(31, 17, Rgb([3, 130, 255]));
    for resize in [Resize::Squash, Resize::Crop] {
        let square = preprocess(8, resize).resize(&picture);
        assert!(square.pixels().all(|p| p.0 == [3, 130, 255]));
    }
}

#[test]
fn crop_takes_the_middle() {
    // Three squares beside each other: only the middle one, green, is left.
    let picture = RgbImage::from_fn(30, 10, |x, _| {
        if (10..20).contains(&x) {
            Rgb([0, 255, 0])
        } else {
            Rgb([255, 0, 0])
        }
    });
    let square = preprocess(5, Resize::Crop).resize(&picture);
    assert!(square.pixels().all(|p| p.0 == [0, 255, 0]));
}

#[test]
fn pad_keeps_everything_between_bars() {
    let square = preprocess(8, Resize::Pad).resize(&halves(40, 20));
    assert_eq!(square.get_pixel(0, 0).0, PAD_COLOUR);
    assert_eq!(square.get_pixel(7, 1).0, PAD_COLOUR);
    assert_eq!(square.get_pixel(0, 2).0, [200, 0, 0]);
    assert_eq!(square.get_pixel(7, 5).0, [0, 0, 200]);
    assert_eq!(square.get_pixel(3, 6).0, PAD_COLOUR);
}

#[test]
fn shrinking_averages_and_does_not_alias() {
    let board = RgbImage::from_fn(64, 64, |x, y| {
        Rgb([if (x + y) % 2 == 0 { 0 } else { 254 }; 3])
    });
    let square = preprocess(7, Resize::Squash).resize(&board);
    assert!(
        square.iter().all(|v| (117..=137).contains(v)),
        "{:?}",
        square.as_raw()
    );
}

#[test]
fn pictures_for_crops_keep_their_shape() {
    let preprocess = preprocess(8, Resize::Crop);
    let shrink = |width, height| preprocess.shrink_for_crops(Reduced::whole(halves(width, height)));
    assert_eq!(shrink(320, 160).dimensions(), (32, 16));
    assert_eq!(shrink(15, 40).dimensions(), (15, 40));
    assert_eq!(shrink(1, 9000).dimensions(), (1, 9000));
}

/// What Pillow's `crop` and `resize(…, BILINEAR)` make of a picture.
#[test]
#[rustfmt::skip]
fn pictures_are_resized_as_by_pillow() {
    let picture = RgbImage::from_fn(11, 7, |x, y| {
        Rgb([0, 1, 2].map(|c| (x * 37 + y * 59 + c * 83 + x * y * 5) as u8))
    });
    type Case<'a> = ([f64; 4], (u32, u32), &'a [u8]);
    let cases: [Case<'_>; 6] = [
        ([0.0, 0.0, 11.0, 7.0], (4, 3), &[93, 153, 121, 130, 118, 114, 111, 118, 121, 124, 115, 136, 137, 116, 120, 112, 127, 127, 129, 114, 129, 130, 114, 142, 126, 162, 96, 127, 126, 112, 133, 125, 120, 115, 118, 143]),
        ([0.0, 0.0, 11.0, 7.0], (1, 1), &[123, 123, 124]),
        ([0.0, 0.0, 11.0, 7.0], (11, 3), &[51, 134, 162, 92, 175, 93, 133, 161, 135, 120, 93, 84, 161, 134, 126, 92, 84, 112, 134, 125, 153, 84, 112, 85, 125, 153, 126, 111, 85, 168, 153, 126, 117, 162, 79, 102, 154, 131, 124, 100, 123, 116, 92, 145, 168, 129, 137, 114, 106, 83, 91, 158, 135, 143, 104, 112, 120, 141, 104, 172, 133, 141, 118, 125, 87, 155, 102, 130, 122, 110, 193, 75, 173, 164, 83, 144, 117, 146, 97, 125, 117, 105, 97, 70, 168, 159, 133, 139, 112, 140, 92, 120, 112, 155, 91, 174, 71, 154, 127]),
        ([0.0, 0.0, 11.0, 7.0], (3, 7), &[61, 144, 161, 141, 106, 107, 75, 136, 167, 129, 146, 90, 107, 108, 135, 153, 112, 85, 130, 147, 106, 109, 136, 101, 130, 103, 164, 132, 90, 151, 137, 102, 135, 121, 131, 140, 126, 136, 109, 103, 123, 131, 148, 92, 131, 120, 159, 103, 124, 145, 97, 110, 149, 159, 143, 160, 97, 146, 98, 118, 116, 104, 121]),
        ([0.0, 0.0, 11.0, 7.0], (7, 9), &[15, 98, 181, 70, 153, 193, 125, 208, 51, 185, 66, 95, 101, 72, 155, 44, 127, 210, 99, 182, 112, 56, 139, 153, 115, 170, 96, 176, 99, 91, 106, 86, 151, 88, 133, 120, 111, 146, 106, 170, 83, 115, 103, 186, 98, 150, 146, 79, 128, 71, 145, 80, 133, 127, 122, 141, 94, 156, 118, 98, 140, 81, 164, 151, 177, 61, 148, 104, 132, 50, 121, 179, 116, 154, 68, 162, 108, 104, 153, 92, 159, 81, 130, 190, 198, 25, 108, 90, 102, 185, 97, 180, 151, 181, 62, 91, 122, 93, 176, 87, 170, 182, 164, 94, 74, 165, 72, 155, 88, 156, 95, 155, 151, 97, 89, 85, 156, 106, 152, 136, 164, 81, 115, 128, 97, 157, 105, 120, 146, 126, 185, 67, 152, 114, 124, 80, 139, 109, 144, 149, 113, 123, 88, 152, 120, 157, 155, 84, 167, 96, 165, 172, 89, 119, 111, 146, 121, 137, 67, 166, 126, 129, 92, 122, 158, 107, 155, 136, 125, 208, 35, 182, 123, 135, 84, 151, 122, 177, 58, 87, 142, 113, 180, 129, 141, 82, 76, 56, 139]),
        ([2.0, 1.0, 7.0, 5.0], (3, 2), &[115, 106, 138, 109, 122, 117, 140, 125, 116, 130, 151, 110, 111, 121, 118, 126, 115, 133]),
    ];
    for (part, size, expected) in cases {
        let resized = resample(&picture, part, size, Filter::Bilinear);
        assert_eq!(resized.dimensions(), size);
        for (found, expected) in resized.iter().zip(expected) {
            assert!(found.abs_diff(*expected) <= 1, "{size:?}: {:?}", resized.as_raw());
        }
    }
}

/// The pictures of `tests/fixtures/photographs`, which `tests/support/pictures/photographs.py` wrote: 301x203.
fn photographs() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/photographs");
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect()
}

/// The mean and the largest difference.
fn differences(a: &RgbImage, b: &RgbImage) -> (f64, u8) {
    assert_eq!(a.dimensions(), b.dimensions());
    let each = || a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = each().map(u64::from).sum();
    (sum as f64 / a.len() as f64, each().max().unwrap())
}

fn whole(bytes: &[u8]) -> RgbImage {
    let raw = RawPicture::Encoded(bytes.into());
    decode(&raw, &DecodeLimits::default()).unwrap()
}

fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
    [
        &jpeg[..2],
        exif,
        &[orientation, 0, 0, 0, 0, 0, 0],
        &jpeg[2..],
    ]
    .concat()
}

/// At every scale: where the next one would be used if the size were a pixel larger, and the difference is largest, and
/// far from there.
#[test]
fn photographs_are_resized_as_if_all_of_them_were_decoded() {
    let limits = DecodeLimits::default();
    let mut furthest = (0.0_f64, 0);
    for (name, bytes) in photographs() {
        // All eight ways to turn a picture are one picture's.
        let (orientations, sizes) = match name.ends_with("420.jpg") {
            true => (1..=8, &[16, 50][..]),
            false => (1..=1, &[5, 8, 12, 16, 25, 33, 50, 60, 67][..]),
        };
        for orientation in orientations {
            let bytes = turned(&bytes, orientation);
            let (raw, whole) = (RawPicture::Encoded(bytes[..].into()), whole(&bytes));
            for policy in [Resize::Squash, Resize::Crop, Resize::Pad] {
                for &size in sizes {
                    let preprocess = preprocess(size, policy);
                    let decoded = preprocess.decode(&raw, &limits).unwrap();
                    let (mean, most) = differences(&decoded, &preprocess.resize(&whole));
                    assert!(
                        mean <= 1.25 && most <= 16,
                        "{name}, {orientation}, {policy:?}, {size}: {mean:.2} and {most}"
                    );
                    furthest = (furthest.0.max(mean), furthest.1.max(most));
                }
            }
            let larger = preprocess(68, Resize::Crop);
            assert_eq!(larger.decode(&raw, &limits).unwrap(), larger.resize(&whole));
            let crops = preprocess(12, Resize::Crop);
            let decoded = crops.decode_for_crops(&raw, &limits).unwrap();
            let shrunk = crops.shrink_for_crops(Reduced::whole(whole));
            let (mean, most) = differences(&decoded, &shrunk);
            assert!(mean <= 1.25 && most <= 16, "{name}: {mean:.2} and {most}");
        }
    }
    // Not all of every picture was decoded.
    assert!(furthest.0 > 0.3, "{furthest:?}");
}

#[test]
fn of_a_large_photograph_only_a_part_is_decoded() {
    let (_, bytes) = &photographs()[0];
    let raw = RawPicture::Encoded(bytes[..].into());
    let of = |scale: f64| {
        let reduced = decode_reduced(&raw, &DecodeLimits::default(), &|_, _| scale).unwrap();
        assert_eq!(reduced.size, (301, 203));
        reduced.pixels.dimensions()
    };
    assert_eq!(of(1.0 / 12.0), (38, 26));
    assert_eq!(of(1.0 / 11.9), (76, 51));
    assert_eq!(of(1.0 / 3.0), (151, 102));
    assert_eq!(of(1.0 / 2.9), (301, 203));
}

#[test]
fn normalising_is_planar() {
    let preprocess = preprocess(2, Resize::Crop);
    let mut out = [0.0; 6];
    preprocess.normalise_into(&[0, 0, 0, 255, 255, 255], &mut out);
    let expected = [-0.5, 1.5, -2.0, 2.0, -6.0, 2.0];
    for (found, expected) in out.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{out:?}");
    }
    preprocess.normalise_into(
        &[preprocess.mean_colour(), preprocess.mean_colour()].concat(),
        &mut out,
    );
    assert!(out.iter().all(|v| v.abs() < 0.02), "{out:?}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let good = preprocess(8, Resize::Pad);
    assert_eq!(good.validate(), Ok(()));
    let bad = |change: fn(&mut Preprocess)| {
        let mut preprocess = good.clone();
        change(&mut preprocess);
        preprocess.validate().unwrap_err().to_string()
    };
    assert_eq!(
        bad(|p| p.image_size = 0),
        "preprocess.image_size is 0: expected 1 to 4096"
    );
    assert!(
        bad(|p| p.mean[1] = f32::NAN)
            .starts_with("preprocess.mean is [0.25, NaN, 0.75]: expected ")
    );
    assert!(bad(|p| p.std[2] = 0.0).starts_with("preprocess.std is "));
}

/// The picture of `tests/support/pictures/prepared.py`.
fn formula([width, height]: [u32; 2]) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c| (x * 37 + y * 59 + c * 83 + x * y * 5) as u8))
    })
}

#[derive(serde::Deserialize)]
struct Others {
    resized: Vec<Resized>,
    prepared: Vec<Prepared>,
}

#[derive(serde::Deserialize)]
struct Resized {
    size: [u32; 2],
    to: [usize; 2],
    filter: Filter,
    pixels: String,
}

#[derive(serde::Deserialize)]
struct Prepared {
    project: String,
    config: Value,
    size: [u32; 2],
    pixels: String,
}

/// What other projects made of pictures: `tests/support/pictures/prepared.py` wrote it.
fn others() -> Others {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prepared.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn every_filter_gives_pillows_numbers() {
    let cases = others().resized;
    assert_eq!(cases.len(), 30);
    for case in cases {
        let picture = formula(case.size);
        let [width, height] = case.size.map(|side| side as usize);
        let whole = |width, height| Area {
            left: 0,
            top: 0,
            width,
            height,
        };
        let to = (case.to[0], case.to[1]);
        let all = pillow::resize(
            &picture,
            width,
            whole(width, height),
            to,
            whole(to.0, to.1),
            case.filter,
        );
        assert_eq!(
            all,
            bytes(&case.pixels),
            "{:?} {:?}",
            case.size,
            case.filter
        );
        // A part of the result is the same part, and a picture within another is the same picture.
        let framed = RgbImage::from_fn(case.size[0] + 3, case.size[1] + 2, |x, y| {
            let inside = x.checked_sub(2).zip(y.checked_sub(1));
            let inside = inside.filter(|&(x, y)| x < case.size[0] && y < case.size[1]);
            inside.map_or(Rgb([255; 3]), |(x, y)| *picture.get_pixel(x, y))
        });
        let part = Area {
            left: 2,
            top: 1,
            width,
            height,
        };
        let window = Area {
            left: to.0 / 3,
            top: to.1 / 2,
            width: to.0 - to.0 / 2,
            height: to.1 - to.1 / 2,
        };
        let some = pillow::resize(&framed, width + 3, part, to, window, case.filter);
        let rows = all.chunks_exact(3 * to.0).skip(window.top);
        let of_row = |row: &[u8]| row[3 * window.left..][..3 * window.width].to_vec();
        assert_eq!(some, rows.flat_map(of_row).collect::<Vec<u8>>());
    }
}

#[test]
fn a_very_long_picture_is_gone_over_column_by_column_to_the_same_numbers() {
    let strip = formula([70_001, 2]);
    let square = Preprocess {
        exact: true,
        filter: Filter::Bicubic,
        ..preprocess(5, Resize::Squash)
    };
    let wide = square.resize(&strip);
    let parts = [0usize, 2, 4].map(|at| wide.get_pixel(at as u32, 2).0);
    // The mean of many pixels is the formula's, and a turned picture is the same one.
    for colour in parts.into_iter().flatten() {
        assert!((125..=130).contains(&colour), "{parts:?}");
    }
    let turned = square.resize(&image::imageops::rotate90(&strip));
    let back = image::imageops::rotate270(&turned);
    assert!(differences(&wide, &back).1 <= 1);
}

#[test]
fn pictures_are_prepared_as_by_timm_and_transformers() {
    let cases = others().prepared;
    assert_eq!(cases.len(), 72);
    for case in cases {
        let read = match case.project.as_str() {
            "timm" => Preprocess::from_timm(&case.config),
            _ => Preprocess::from_transformers(&case.config, ""),
        };
        let preprocess = read.unwrap();
        assert_eq!(preprocess.validate(), Ok(()));
        let raw = RawPicture::Pixels {
            width: case.size[0],
            height: case.size[1],
            channels: 3,
            data: formula(case.size).into_raw().into(),
        };
        let found = preprocess.decode(&raw, &DecodeLimits::default()).unwrap();
        let size = preprocess.image_size as u32;
        let theirs = RgbImage::from_raw(size, size, bytes(&case.pixels)).unwrap();
        let (_, most) = differences(&found, &theirs);
        assert!(most <= 1, "{most}: {:?} {}", case.size, case.config);
        // Without `exact`, the borders of what is cut out differ; where nothing is, nothing does.
        let ours = Preprocess {
            exact: false,
            ..preprocess
        };
        let (mean, most) = differences(
            &ours.decode(&raw, &DecodeLimits::default()).unwrap(),
            &theirs,
        );
        assert!(
            mean <= 12.0,
            "{mean} {most}: {:?} {}",
            case.size,
            case.config
        );
    }
}

#[test]
fn the_size_before_the_crop_stays_in_proportion() {
    let timm = Preprocess {
        resize_to: Some(256),
        ..preprocess(224, Resize::ShorterEdge)
    };
    assert_eq!(
        (timm.at(160).image_size, timm.at(160).resize_to),
        (160, Some(182))
    );
    assert_eq!(timm.at(224), timm);
    assert_eq!(
        preprocess(8, Resize::Crop).at(9),
        preprocess(9, Resize::Crop)
    );
}

#[test]
fn files_stay_as_they_were() {
    let json = |preprocess: &Preprocess| serde_json::to_string(preprocess).unwrap();
    let plain = preprocess(8, Resize::Pad);
    let before = r#"{"image_size":8,"resize":"pad","mean":[0.25,0.5,0.75],"std":[0.5,0.25,0.125]}"#;
    assert_eq!(json(&plain), before);
    assert_eq!(serde_json::from_str::<Preprocess>(before).unwrap(), plain);
    let all = Preprocess {
        resize_to: Some(9),
        centre: Centre::Down,
        filter: Filter::Bicubic,
        exact: true,
        ..preprocess(8, Resize::ShorterEdge)
    };
    assert_eq!(
        json(&all),
        r#"{"image_size":8,"resize":"shorter-edge","resize_to":9,"centre":"down","filter":"bicubic","exact":true,"mean":[0.25,0.5,0.75],"std":[0.5,0.25,0.125]}"#
    );
    assert_eq!(
        serde_json::from_str::<Preprocess>(&json(&all)).unwrap(),
        all
    );
}

#[test]
fn files_of_timm_are_read() {
    let timm = |config: Value| Preprocess::from_timm(&config);
    // What is absent or null has timm's defaults.
    let plain = timm(json!({"input_size": null, "url": "somewhere", "license": 7})).unwrap();
    assert_eq!(
        plain,
        Preprocess {
            resize: Resize::ShorterEdge,
            resize_to: Some(256),
            filter: Filter::Bicubic,
            exact: true,
            ..Preprocess::default()
        }
    );
    let augreg = json!({"input_size": [3, 224, 224], "crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "test_input_size": [3, 288, 288]});
    let augreg = timm(augreg).unwrap();
    assert_eq!(
        (augreg.image_size, augreg.resize_to, augreg.mean),
        (224, Some(248), [0.5; 3])
    );
    let squash = timm(json!({"input_size": [3, 256, 256], "crop_pct": 1.0, "crop_mode": "squash"}));
    let squash = squash.unwrap();
    assert_eq!((squash.resize, squash.resize_to), (Resize::Squash, None));

    let wrong = |config: Value| timm(config).unwrap_err().to_string();
    for (config, expected) in [
        (json!([]), "pretrained_cfg is []: expected an object"),
        (
            json!({"input_size": 224}),
            "pretrained_cfg.input_size is 224: expected [3, S, S], for pictures of three channels and the same height and width, 1 to 4096",
        ),
        (
            json!({"input_size": [1, 28, 28]}),
            "pretrained_cfg.input_size is [1,28,28]: expected ",
        ),
        (
            json!({"input_size": [3, 224, 256]}),
            "pretrained_cfg.input_size is [3,224,256]: expected ",
        ),
        (
            json!({"input_size": [3, -1, -1]}),
            "pretrained_cfg.input_size is [3,-1,-1]: expected ",
        ),
        (
            json!({"input_size": [3, 9999999, 9999999]}),
            "pretrained_cfg.input_size is [3,9999999,9999999]: expected ",
        ),
        (
            json!({"crop_pct": "0.9"}),
            "pretrained_cfg.crop_pct is \"0.9\": expected a number from 0.05 to 4",
        ),
        (
            json!({"crop_pct": 1e-9}),
            "pretrained_cfg.crop_pct is 1e-9: expected a number from 0.05 to 4",
        ),
        (
            json!({"input_size": [3, 2048, 2048], "crop_pct": 0.1}),
            "pretrained_cfg.crop_pct is 0.1: expected a share that resizes 2048 pixels to 1 to 4096, not to 20480",
        ),
        (
            json!({"crop_mode": "corner"}),
            "pretrained_cfg.crop_mode is \"corner\": expected center, squash or border",
        ),
        (
            json!({"crop_mode": 3}),
            "pretrained_cfg.crop_mode is 3: expected center, squash or border",
        ),
        (
            json!({"interpolation": "random"}),
            "pretrained_cfg.interpolation is \"random\": expected nearest, bilinear, bicubic, box, hamming or lanczos",
        ),
        (
            json!({"mean": [0.5, 0.5]}),
            "pretrained_cfg.mean is [0.5,0.5]: expected three numbers from 0 to 1",
        ),
        (
            json!({"mean": [127.5, 127.5, 127.5]}),
            "pretrained_cfg.mean is [127.5,127.5,127.5]: expected ",
        ),
        (
            json!({"std": [0.5, 0.0, 0.5]}),
            "pretrained_cfg.std is [0.5,0.0,0.5]: expected three numbers above 0, at most 1",
        ),
        (
            json!({"std": [1e-60, 0.5, 0.5]}),
            "pretrained_cfg.std is [1e-60,0.5,0.5]: expected ",
        ),
    ] {
        let found = wrong(config);
        assert!(found.starts_with(expected), "{found}");
    }
    let long = wrong(json!({"mean": vec![0.5; 1000]}));
    assert!(long.len() < 200 && long.contains('…'), "{long}");
}

#[test]
fn files_of_transformers_are_read() {
    let read = |config: Value, model: &str| Preprocess::from_transformers(&config, model);
    // As google/vit-base-patch16-224 has it, and with nothing at all.
    let old = json!({"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "size": 224});
    let vit = Preprocess {
        resize: Resize::Squash,
        centre: Centre::Down,
        exact: true,
        mean: [0.5; 3],
        std: [0.5; 3],
        ..Preprocess::default()
    };
    assert_eq!(read(old, "vit").unwrap(), vit);
    assert_eq!(read(json!({}), "vit_mae").unwrap(), vit);
    let fast = json!({"image_processor_type": "ViTImageProcessorFast", "resample": null});
    assert_eq!(read(fast, "deit").unwrap(), vit);
    // As facebook/deit-tiny-patch16-224 and facebook/dinov2-small have it.
    let deit = json!({"crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "DeiTFeatureExtractor", "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": 256});
    let bicubic = Preprocess {
        resize: Resize::Squash,
        resize_to: Some(256),
        centre: Centre::Down,
        filter: Filter::Bicubic,
        exact: true,
        ..Preprocess::default()
    };
    assert_eq!(read(deit, "").unwrap(), bicubic);
    let dinov2 = json!({"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true,
        "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "BitImageProcessor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}});
    let shorter = Preprocess {
        resize: Resize::ShorterEdge,
        ..bicubic.clone()
    };
    assert_eq!(read(dinov2, "dinov2").unwrap(), shorter);
    let resnet = json!({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]});
    assert_eq!(read(resnet, "resnet").unwrap(), shorter);
    let raw = read(json!({"do_normalize": false}), "siglip").unwrap();
    assert_eq!((raw.mean, raw.std), ([0.0; 3], [1.0; 3]));

    let wrong = |config: Value| read(config, "vit").unwrap_err().to_string();
    let file = "preprocessor_config.json";
    for (config, expected) in [
        (
            json!({"do_resize": false}),
            "do_resize is false: expected true",
        ),
        (
            json!({"do_resize": "true"}),
            "do_resize is \"true\": expected true or false",
        ),
        (
            json!({"do_rescale": false}),
            "do_rescale is false: expected true",
        ),
        (json!({"do_pad": true}), "do_pad is true: expected false"),
        (
            json!({"rescale_offset": true}),
            "rescale_offset is true: expected false",
        ),
        (
            json!({"rescale_factor": 1}),
            "rescale_factor is 1: expected 1/255 (0.00392156862745098)",
        ),
        (
            json!({"resample": 7}),
            "resample is 7: expected 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (hamming)",
        ),
        (
            json!({"resample": "bicubic"}),
            "resample is \"bicubic\": expected 0 (nearest)",
        ),
        (
            json!({"size": "224"}),
            "size is \"224\": expected a number from 1 to 4096, or the same height and width, or shortest_edge alone",
        ),
        (json!({"size": -3}), "size is -3: expected "),
        (json!({"size": 224.5}), "size is 224.5: expected "),
        (json!({"size": 1e300}), "size is 1e+300: expected "),
        (
            json!({"size": {"height": 224, "width": 192}}),
            "size is {\"height\":224,\"width\":192}: expected ",
        ),
        (
            json!({"size": {"longest_edge": 224}}),
            "size is {\"longest_edge\":224}: expected ",
        ),
        (
            json!({"size": {"shortest_edge": 224, "longest_edge": 300}}),
            "size is {\"shortest_edge\":224,\"longest_edge\":300}: expected ",
        ),
        (
            json!({"size": {"shortest_edge": 224}}),
            "do_center_crop is false: expected true with size.shortest_edge, for square pictures",
        ),
        (
            json!({"do_center_crop": true, "crop_size": {"height": 2, "width": 3}}),
            "crop_size is {\"height\":2,\"width\":3}: expected a number from 1 to 4096, or the same height and width",
        ),
        (
            json!({"image_mean": [0.5]}),
            "image_mean is [0.5]: expected three numbers from 0 to 1",
        ),
        (
            json!({"image_std": 0}),
            "image_std is 0: expected three numbers above 0, at most 1",
        ),
        (
            json!({"image_processor_type": "FlavaImageProcessor"}),
            "image_processor_type is \"FlavaImageProcessor\": expected ViTImageProcessor, ",
        ),
    ] {
        let found = wrong(config);
        assert!(found.starts_with(&format!("{file}: {expected}")), "{found}");
    }
    let unknown = read(json!({}), "swin").unwrap_err().to_string();
    assert!(
        unknown.starts_with("model_type is swin: expected "),
        "{unknown}"
    );
}

#[test]
fn a_size_before_the_crop_needs_a_policy_that_crops() {
    let mut preprocess = preprocess(8, Resize::Pad);
    preprocess.resize_to = Some(9);
    assert_eq!(
        preprocess.validate().unwrap_err().to_string(),
        "preprocess.resize_to is 9: expected no such key, or resize = squash, shorter-edge or longer-edge"
    );
    preprocess.resize = Resize::ShorterEdge;
    assert_eq!(preprocess.validate(), Ok(()));
    preprocess.resize_to = Some(1_000_000);
    assert_eq!(
        preprocess.validate().unwrap_err().to_string(),
        "preprocess.resize_to is 1000000: expected 1 to 4096"
    );
}

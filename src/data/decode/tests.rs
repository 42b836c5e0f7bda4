use std::borrow::Cow;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{ColorType, DynamicImage, ImageBuffer, ImageFormat, Rgb, RgbImage, Rgba};
use proptest::prelude::*;

use super::format::guess_format;
use super::*;
use crate::data::sample::RawPicture;

mod reduced;
mod whole;

fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7) as u8, (y * 5) as u8, ((x + y) * 3) as u8])
    })
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture
        .write_to(&mut Cursor::new(&mut bytes), format)
        .unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    decode(
        &RawPicture::Encoded(Cow::Borrowed(bytes)),
        &DecodeLimits::default(),
    )
}

fn furthest(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.iter()
        .zip(b.iter())
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap()
}

/// EXIF with nothing but an orientation, as a JPEG segment.
fn exif_segment(orientation: u8) -> Vec<u8> {
    let mut tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let mut segment = vec![0xff, 0xe1];
    segment.extend((tiff.len() as u16 + 2).to_be_bytes());
    segment.extend(tiff);
    segment
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut png = encode(&photo(1, 1).into(), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    png
}

#[test]
fn lossless_formats_give_the_pixels_back() {
    let picture = photo(13, 7);
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
        ImageFormat::Qoi,
        ImageFormat::Ico,
        ImageFormat::Gif,
    ] {
        // Their encoders take alpha only; 91 colours fit into GIF's palette.
        let source = match format {
            ImageFormat::Ico | ImageFormat::Gif => {
                DynamicImage::from(picture.clone()).into_rgba8().into()
            }
            _ => DynamicImage::from(picture.clone()),
        };
        assert_eq!(
            read(&encode(&source, format)).unwrap(),
            picture,
            "{format:?}"
        );
    }
}

#[test]
fn jpeg_comes_close() {
    let picture = RgbImage::from_fn(24, 13, |x, y| {
        Rgb([(x * 2 + 90) as u8, (y * 2 + 90) as u8, 120])
    });
    let jpeg = encode(&picture.clone().into(), ImageFormat::Jpeg);
    assert!(furthest(&read(&jpeg).unwrap(), &picture) < 16);
}

#[test]
fn grey_becomes_three_equal_channels() {
    let grey = image::GrayImage::from_fn(5, 3, |x, y| image::Luma([(x * 40 + y) as u8]));
    let rgb = read(&encode(&grey.clone().into(), ImageFormat::Png)).unwrap();
    for (grey, rgb) in grey.pixels().zip(rgb.pixels()) {
        assert_eq!(rgb.0, [grey.0[0]; 3]);
    }
    let jpeg = read(&encode(&grey.into(), ImageFormat::Jpeg)).unwrap();
    assert!(jpeg.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]));
}

#[test]
fn alpha_lies_over_white() {
    let rgba = ImageBuffer::from_fn(3, 1, |x, _| match x {
        0 => Rgba([10u8, 20, 30, 255]),
        1 => Rgba([10, 20, 30, 0]),
        _ => Rgba([0, 255, 100, 51]),
    });
    let rgb = read(&encode(&rgba.into(), ImageFormat::Png)).unwrap();
    let pixels: Vec<[u8; 3]> = rgb.pixels().map(|p| p.0).collect();
    assert_eq!(pixels, [[10, 20, 30], [255, 255, 255], [204, 255, 224]]);
    let grey = ImageBuffer::from_fn(2, 1, |x, _| {
        image::LumaA([0u8, if x == 0 { 0 } else { 255 }])
    });
    let rgb = read(&encode(&grey.into(), ImageFormat::Png)).unwrap();
    assert_eq!(rgb.as_raw(), &[255, 255, 255, 0, 0, 0]);
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    let deep = ImageBuffer::from_fn(4, 1, |x, _| {
        Rgb([[0u16, 257, 32_768, 65_535][x as usize]; 3])
    });
    let rgb = read(&encode(&deep.into(), ImageFormat::Png)).unwrap();
    let red: Vec<u8> = rgb.pixels().map(|p| p.0[0]).collect();
    assert_eq!(red, [0, 1, 128, 255]);
}

#[test]
fn palette_is_looked_up() {
    // A two-colour PNG, written by hand: bit depth 1, colour type 3.
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(kind);
        png.extend(data);
        png.extend(crc.sum().to_be_bytes());
    };
    chunk(b"IHDR", &[0, 0, 0, 3, 0, 0, 0, 1, 1, 3, 0, 0, 0]);
    chunk(b"PLTE", &[1, 2, 3, 200, 100, 50]);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zlib, &[0, 0b0100_0000]).unwrap();
    chunk(b"IDAT", &zlib.finish().unwrap());
    chunk(b"IEND", &[]);
    assert_eq!(
        read(&png).unwrap().as_raw(),
        &[1, 2, 3, 200, 100, 50, 1, 2, 3]
    );
}

#[test]
fn exif_orientation_is_applied() {
    let mut picture = RgbImage::from_pixel(16, 8, Rgb([20, 20, 20]));
    for y in 0..8 {
        for x in 0..8 {
            picture.put_pixel(x, y, Rgb([230, 230, 230]));
        }
    }
    let plain = encode(&picture.into(), ImageFormat::Jpeg);
    for (orientation, size, bright) in [
        (1, (16, 8), (2, 2)),
        (3, (16, 8), (13, 5)),
        (6, (8, 16), (2, 2)),
        (8, (8, 16), (2, 13)),
    ] {
        let mut turned = plain[..2].to_vec();
        turned.extend(exif_segment(orientation));
        turned.extend(&plain[2..]);
        let picture = read(&turned).unwrap();
        assert_eq!(picture.dimensions(), size, "orientation {orientation}");
        assert!(
            picture.get_pixel(bright.0, bright.1).0[0] > 200,
            "orientation {orientation}"
        );
    }
    // EXIF that makes no sense is not obeyed, and not an error.
    let mut nonsense = plain[..2].to_vec();
    nonsense.extend(exif_segment(99));
    nonsense.extend(&plain[2..]);
    assert_eq!(read(&nonsense).unwrap().dimensions(), (16, 8));
}

#[test]
fn truncated_files_are_refused() {
    let picture = photo(40, 32);
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Tiff,
        ImageFormat::Qoi,
    ] {
        let source = DynamicImage::from(picture.clone());
        let whole = encode(&source, format);
        assert!(read(&whole).is_ok());
        for part in [whole.len() / 2, whole.len() * 9 / 10] {
            let error = read(&whole[..part]).unwrap_err();
            assert!(
                matches!(
                    error,
                    DecodeError::Truncated { .. } | DecodeError::Damaged { .. }
                ),
                "{format:?}: {error}"
            );
        }
    }
    let jpeg = encode(&picture.into(), ImageFormat::Jpeg);
    assert_eq!(
        read(&jpeg[..jpeg.len() / 2]).unwrap_err().to_string(),
        "truncated JPEG: the file ends before the picture does"
    );
}

#[test]
fn a_whole_thumbnail_does_not_make_a_whole_jpeg() {
    let jpeg = encode(&photo(40, 32).into(), ImageFormat::Jpeg);
    let thumbnail = encode(&photo(8, 8).into(), ImageFormat::Jpeg);
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend((thumbnail.len() as u16 + 2).to_be_bytes());
    bytes.extend(&thumbnail);
    bytes.extend(&jpeg[2..]);
    assert!(read(&bytes).is_ok());
    bytes.truncate(bytes.len() - 40);
    assert_eq!(
        read(&bytes).unwrap_err(),
        DecodeError::Truncated { format: "JPEG" }
    );
}

#[test]
fn what_is_no_picture_is_named() {
    assert_eq!(read(b"").unwrap_err().to_string(), "empty file (0 bytes)");
    assert_eq!(
        read("hello, I am a té".as_bytes()).unwrap_err().to_string(),
        "not a picture: found text, expected JPEG, PNG, GIF, BMP, WebP, TIFF or another known format"
    );
    let error = read(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0]).unwrap_err();
    assert!(
        error.to_string().contains("bytes 7f 45 4c 46 02 01 01 00"),
        "{error}"
    );
}

#[test]
fn what_is_read_nowhere_says_what_to_do() {
    for (brand, format) in [(b"heic", "HEIC"), (b"mif1", "HEIC"), (b"avif", "AVIF")] {
        let bytes = [&b"\0\0\0\x18ftyp"[..], brand, b"\0\0\0\0"].concat();
        assert_eq!(
            read(&bytes).unwrap_err().to_string(),
            format!("{format} is not read here; convert it to JPEG or PNG")
        );
    }
}

/// Pictures that `tests/support/pictures/compare.py --fixtures` wrote, with what Pillow shows: the size, and the mean red,
/// green and blue of each quarter, which tell a picture that is turned, shifted or of other colours.
#[test]
fn many_kinds_are_decoded_as_by_pillow() {
    let mut wrong = Vec::new();
    for (name, bytes, size, means) in fixtures() {
        let found = match read(&bytes) {
            Ok(picture) => {
                let found = quarters(&picture);
                let furthest = means.iter().zip(&found).map(|(a, b)| (a - b).abs());
                let size_found = format!("{}x{}", picture.width(), picture.height());
                if size_found == size && furthest.fold(0.0, f64::max) < 1.5 {
                    continue;
                }
                format!("{size_found} {found:.1?}")
            }
            Err(DecodeError::Unsupported { .. } | DecodeError::Foreign { .. })
                if size == "refused" =>
            {
                continue;
            }
            Err(error) => error.to_string(),
        };
        wrong.push(format!("{name}: {found}, expected {size} {means:.1?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Name, bytes, size or `refused`, and means of each fixture.
fn fixtures() -> Vec<(String, Vec<u8>, String, Vec<f64>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    let table = fs::read_to_string(folder.join("means.tsv")).unwrap();
    table
        .lines()
        .map(|line| {
            let mut fields = line.split('\t');
            let mut next = || fields.next().unwrap();
            let name = next().to_owned();
            let bytes = fs::read(folder.join(&name)).unwrap();
            let size = next().to_owned();
            let means = next().split(' ').filter(|field| !field.is_empty());
            let means = means.map(|field| field.parse().unwrap()).collect();
            (name, bytes, size, means)
        })
        .collect()
}

fn quarters(picture: &RgbImage) -> Vec<f64> {
    let (width, height) = picture.dimensions();
    let (left, top) = (width / 2, height / 2);
    let parts = [
        (0, 0, left, top),
        (left, 0, width - left, top),
        (0, top, left, height - top),
        (left, top, width - left, height - top),
    ];
    let means = parts.map(|(x, y, width, height)| {
        let part = image::imageops::crop_imm(picture, x, y, width, height).to_image();
        let pixels = f64::from(width) * f64::from(height);
        [0, 1, 2].map(|c| part.pixels().map(|p| f64::from(p.0[c])).sum::<f64>() / pixels)
    });
    means.concat()
}

#[test]
fn other_kinds_of_files_are_named() {
    let expect = |bytes: &[u8], expected: &str| {
        assert_eq!(read(bytes).unwrap_err().to_string(), expected);
    };
    let convert = "is not read here; convert it to JPEG or PNG";
    for (bytes, name) in [
        (&b"\xff\x0a\xfa\x7f"[..], "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\x01", "a Photoshop file (PSD)"),
        (
            b"II*\0\x10\0\0\0CR\x02\0\0\0\0\0\0\0\0\0\0\0",
            "camera raw (CR2)",
        ),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "camera raw (CR3)"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw (RAF)"),
        (b"IIRO\x08\0\0\0", "camera raw (ORF)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (
            b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- <html> -->\n<svg>",
            "SVG",
        ),
    ] {
        expect(bytes, &format!("{name} {convert}"));
    }
    expect(
        b"%PDF-1.7",
        "PDF is not read here; save its pictures as JPEG or PNG",
    );
    expect(
        b"\0\0\0\x20ftypisom\0\0\x02\0",
        "a video (MP4) is not read here; save frames of it as JPEG or PNG",
    );
    expect(
        b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif",
        "AVIF is not read here; convert it to JPEG or PNG",
    );
    // HTML that shows an SVG.
    expect(
        b"<!DOCTYPE html><html><svg></svg></html>",
        "not a picture: found a web page (HTML), expected JPEG, PNG, GIF, BMP, WebP, TIFF or another known format",
    );
}

/// A grey TIFF of one row of floating-point samples.
fn float_tiff(values: &[f32]) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    let tags: [(u16, u32); 10] = [
        (256, values.len() as u32),
        (257, 1),
        (258, 32),
        (259, 1),
        (262, 1),
        (273, 8 + 2 + 10 * 12 + 4),
        (277, 1),
        (278, 1),
        (279, values.len() as u32 * 4),
        (339, 3),
    ];
    bytes.extend((tags.len() as u16).to_le_bytes());
    for (tag, value) in tags {
        bytes.extend(tag.to_le_bytes());
        bytes.extend([4, 0, 1, 0, 0, 0]);
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// A TIFF of tiles of 16 by 16 of one channel each, of `bits` 8 or 16: channel `c` of tile `t` is all `value(c, t)`.
fn planar_tiles(size: [u16; 2], channels: u16, bits: u16, value: fn(u16, u16) -> u8) -> Vec<u8> {
    let [across, down] = size.map(|side| side.div_ceil(16));
    let (tiles, bytes) = (across * down, 256 * bits / 8);
    let mut out = b"MM\0*\0\0\0\x08".to_vec();
    let entries = 12;
    let lists_at = 8 + 2 + entries * 12 + 4;
    let mut lists: Vec<u8> = Vec::new();
    let first = lists_at + 2 * 2 * u32::from(channels) + 2 * 4 * u32::from(tiles * channels);
    let places = (0..u32::from(tiles * channels)).map(|i| first + i * u32::from(bytes));
    let sizes = (0..tiles * channels).map(|_| u32::from(bytes));
    out.extend((entries as u16).to_be_bytes());
    let mut tag = |number: u16, kind: u16, values: Vec<u32>| {
        let values: Vec<Vec<u8>> = values
            .into_iter()
            .map(|value| match kind {
                3 => (value as u16).to_be_bytes().to_vec(),
                _ => value.to_be_bytes().to_vec(),
            })
            .collect();
        let count = values.len() as u32;
        let mut packed = values.concat();
        if packed.len() > 4 {
            let at = lists_at + lists.len() as u32;
            lists.extend(packed);
            packed = at.to_be_bytes().to_vec();
        }
        packed.resize(4, 0);
        out.extend(number.to_be_bytes());
        out.extend(kind.to_be_bytes());
        out.extend(count.to_be_bytes());
        out.extend(packed);
    };
    let of_channels = |value: u32| vec![value; usize::from(channels)];
    tag(256, 3, vec![size[0].into()]);
    tag(257, 3, vec![size[1].into()]);
    tag(258, 3, of_channels(bits.into()));
    tag(259, 3, vec![1]);
    tag(262, 3, vec![2]);
    tag(277, 3, vec![channels.into()]);
    tag(284, 3, vec![2]);
    tag(322, 3, vec![16]);
    tag(323, 3, vec![16]);
    tag(324, 4, places.collect());
    tag(325, 4, sizes.collect());
    // Alpha, where there is a fourth channel.
    tag(338, 3, vec![2; usize::from(channels) - 3]);
    out.extend([0; 4]);
    lists.resize((first - lists_at) as usize, 0);
    out.extend(lists);
    for channel in 0..channels {
        for tile in 0..tiles {
            out.extend(vec![value(channel, tile); usize::from(bytes)]);
        }
    }
    out
}

#[test]
fn tiles_of_one_channel_each_are_put_together() {
    let value = |channel, tile| match channel {
        3 => 255,
        _ => (100 * channel + 10 * tile) as u8,
    };
    for (size, channels, bits) in [
        ([20, 18], 3, 8),
        ([20, 18], 4, 8),
        ([20, 18], 3, 16),
        // One tile: its place stands in the directory itself.
        ([9, 7], 3, 8),
    ] {
        let picture = read(&planar_tiles(size, channels, bits, value)).unwrap();
        assert_eq!(picture.dimensions(), (size[0].into(), size[1].into()));
        for (x, y, pixel) in picture.enumerate_pixels() {
            let across = u32::from(size[0]).div_ceil(16);
            let tile = (y / 16 * across + x / 16) as u16;
            assert_eq!(
                pixel.0,
                [0, 1, 2].map(|c| value(c, tile)),
                "{size:?} {x} {y}"
            );
        }
    }
    // Cut off, and of two channels that the list of tiles does not divide into.
    let whole = planar_tiles([20, 18], 3, 8, value);
    assert!(read(&whole[..whole.len() - 300]).is_err());
}

#[test]
fn a_decoders_message_does_not_act_on_a_terminal() {
    use super::error::in_one_line;
    assert_eq!(
        in_one_line("tuple type \x1b[31mRGB.\nnext line"),
        "tuple type \u{fffd}[31mRGB"
    );
    assert_eq!(in_one_line(""), "");
}

#[test]
fn floating_point_values_are_of_0_to_1() {
    let row = |values: &[f32]| read(&float_tiff(values)).map(RgbImage::into_raw);
    assert_eq!(
        row(&[0.0, 0.5, 1.0, 1.2, -0.1, f32::NAN]).unwrap(),
        [0, 128, 255, 255, 0, 0].map(|grey| [grey; 3]).concat()
    );
    assert_eq!(
        row(&[0.0, 40.0, 255.0]).unwrap_err().to_string(),
        "TIFF of a kind that is not read here: floating-point values of 0 to 255, expected 0 to 1; convert it to PNG or JPEG"
    );
    assert!(row(&[-1.0, 0.0, 1.0]).is_err());
    assert!(row(&[0.0, f32::INFINITY]).is_err());
}

#[test]
fn an_openexr_is_refused_by_what_it_stores() {
    let attribute = |name: &str, kind: &str, value: &[u8]| {
        let size = (value.len() as u32).to_le_bytes();
        [name.as_bytes(), b"\0", kind.as_bytes(), b"\0", &size, value].concat()
    };
    let window = |last: i32| [0, 0, last, 0].map(i32::to_le_bytes).concat();
    let bytes = [
        &b"v/1\x01\x02\0\0\0"[..],
        &attribute("dataWindow", "box2i", &window((1 << 28) - 1)),
        &attribute("displayWindow", "box2i", &window(0)),
        b"\0",
    ]
    .concat();
    assert_eq!(
        read(&bytes).unwrap_err().to_string(),
        "268435456x1 pixels are more than the 100 megapixels that are decoded; make it smaller"
    );
}

#[test]
fn an_openexr_that_is_cut_off_within_a_name_is_refused() {
    // Once read on and on: no zero ends the name.
    assert!(read(b"v/1\x01\x02\0\0\0channels").is_err());
    assert!(read(b"v/1\x01\x02\0\0\0channels\0chlist").is_err());
}

#[test]
fn a_targa_is_known_by_its_header() {
    let picture = photo(9, 5);
    let mut bytes = encode(&picture.clone().into(), ImageFormat::Tga);
    assert_eq!(guess_format(&bytes), Some(ImageFormat::Tga));
    assert_eq!(read(&bytes).unwrap(), picture);
    // No such kind of picture.
    bytes[2] = 7;
    assert!(matches!(
        read(&bytes),
        Err(DecodeError::Unrecognised { .. })
    ));
}

#[test]
fn one_pixel_is_a_picture() {
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Bmp,
        ImageFormat::WebP,
    ] {
        let bytes = encode(&photo(1, 1).into(), format);
        assert_eq!(read(&bytes).unwrap().dimensions(), (1, 1), "{format:?}");
    }
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let expected =
        "20000x20000 pixels are more than the 100 megapixels that are decoded; make it smaller";
    let begin = std::time::Instant::now();
    assert_eq!(
        read(&png_header(20_000, 20_000)).unwrap_err().to_string(),
        expected
    );

    let mut bmp = encode(&photo(1, 1).into(), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&20_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&20_000u32.to_le_bytes());
    assert_eq!(read(&bmp).unwrap_err().to_string(), expected);

    let mut gif = encode(&photo(1, 1).into(), ImageFormat::Gif);
    let canvas = 6..10;
    gif[canvas.clone()].copy_from_slice(&[0x20, 0x4e, 0x20, 0x4e]);
    assert_eq!(read(&gif).unwrap_err().to_string(), expected);
    // A frame may be larger than its canvas.
    gif[canvas].copy_from_slice(&[1, 0, 1, 0]);
    let frame = gif
        .windows(9)
        .position(|block| block == [0x2c, 0, 0, 0, 0, 1, 0, 1, 0])
        .unwrap();
    gif[frame + 5..frame + 9].copy_from_slice(&[0x20, 0x4e, 0x20, 0x4e]);
    assert_eq!(read(&gif).unwrap_err().to_string(), expected);

    let mut jpeg = encode(&photo(8, 8).into(), ImageFormat::Jpeg);
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);
    assert_eq!(read(&jpeg).unwrap_err().to_string(), expected);

    // None of them was decoded: 400 megapixels take seconds.
    assert!(begin.elapsed().as_secs_f64() < 1.0);
    // The PNG decoder itself refuses one that no memory holds.
    assert!(matches!(
        read(&png_header(u32::MAX >> 1, u32::MAX >> 1)),
        Err(DecodeError::TooManyPixels { .. } | DecodeError::TooMuchMemory { .. })
    ));
}

#[test]
fn memory_is_limited() {
    let limits = DecodeLimits {
        max_pixels: 1_000_000,
        max_bytes: 1 << 20,
    };
    let png = encode(
        &DynamicImage::new(700, 700, ColorType::Rgb8),
        ImageFormat::Png,
    );
    let error = decode(&RawPicture::Encoded(png.into()), &limits).unwrap_err();
    assert_eq!(
        error.to_string(),
        "decoding needs more than 1 MiB of memory, the most that is allowed; make it smaller"
    );
}

#[test]
fn raw_pixels_are_checked() {
    let raw = |width, height, channels, data: &[u8]| {
        let data = Cow::Owned(data.to_vec());
        decode(
            &RawPicture::Pixels {
                width,
                height,
                channels,
                data,
            },
            &DecodeLimits::default(),
        )
    };
    assert_eq!(raw(2, 1, 1, &[3, 9]).unwrap().as_raw(), &[3, 3, 3, 9, 9, 9]);
    assert_eq!(raw(1, 1, 3, &[1, 2, 3]).unwrap().as_raw(), &[1, 2, 3]);
    assert_eq!(
        raw(2, 2, 3, &[1, 2, 3]).unwrap_err().to_string(),
        "found 3 bytes of pixels, expected 2x2x3"
    );
    assert!(raw(0, 0, 3, &[]).is_err());
    assert!(raw(1, 1, 2, &[1, 2]).is_err());
    assert!(matches!(
        raw(20_000, 20_000, 3, &[]),
        Err(DecodeError::TooManyPixels { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done to a file's bytes, decoding returns.
    #[test]
    fn damaged_bytes_never_panic(
        kind in 0usize..6,
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
    ) {
        let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Tiff][kind];
        let mut bytes = encode(&photo(11, 9).into(), format);
        for (index, value) in &hits {
            let at = index.index(bytes.len());
            bytes[at] = *value;
        }
        let limits = DecodeLimits { max_pixels: 1 << 20, max_bytes: 1 << 24 };
        let _ = decode(&RawPicture::Encoded(bytes.clone().into()), &limits);
        let _ = decode_reduced(&RawPicture::Encoded(bytes.clone().into()), &limits, &|_, _| 0.1);
        bytes.truncate(keep.index(bytes.len()));
        let _ = decode(&RawPicture::Encoded(bytes.into()), &limits);
    }

    /// The same, for kinds that those encoders do not write.
    #[test]
    fn damaged_fixtures_never_panic(
        which in any::<prop::sample::Index>(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let all = fixtures();
        let mut bytes = all[which.index(all.len())].1.clone();
        for (index, value) in &hits {
            let at = index.index(bytes.len());
            bytes[at] = *value;
        }
        let limits = DecodeLimits { max_pixels: 1 << 20, max_bytes: 1 << 24 };
        let raw = RawPicture::Encoded(bytes.into());
        let _ = decode(&raw, &limits);
        let _ = decode_reduced(&raw, &limits, &|_, _| 0.1);
    }
}

#[test]
fn a_tiff_of_too_many_jpegs_is_refused_at_once() {
    let count: u32 = 100_000;
    let list: u32 = 8 + 2 + 8 * 12 + 4;
    let entries = [
        (256, 1, 8),
        (257, 1, count),
        (258, 1, 8),
        (259, 1, 7),
        (262, 1, 1),
        (273, count, list),
        (277, 1, 1),
        (278, 1, 1),
    ];
    let mut tiff = b"II*\0\x08\0\0\0\x08\0".to_vec();
    for (tag, count, value) in entries {
        tiff.extend(u16::to_le_bytes(tag));
        tiff.extend(4u16.to_le_bytes());
        tiff.extend(u32::to_le_bytes(count));
        tiff.extend(u32::to_le_bytes(value));
    }
    tiff.extend([0; 4]);
    // All begin at the same bytes, in which no header of a JPEG ends.
    tiff.extend((0..count).flat_map(|_| (list + 4 * count).to_le_bytes()));
    tiff.extend(b"\xff\xd8");
    tiff.extend(vec![0; 1 << 20]);
    let error = read(&tiff).unwrap_err().to_string();
    assert!(error.contains("100000 JPEGs in one"), "{error}");
}

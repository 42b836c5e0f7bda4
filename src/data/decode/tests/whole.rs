//! JPEGs with the pixels of libjpeg-turbo.

use super::super::rgb::decode_exactly;
use super::super::{jpeg, whole};
use super::*;

/// A JPEG and what Pillow makes of it: `tests/support/pictures/prepared.py` wrote them.
#[derive(serde::Deserialize)]
struct Decoded {
    name: String,
    jpeg: String,
    size: [u32; 2],
    pixels: String,
}

impl Decoded {
    fn all() -> Vec<Decoded> {
        #[derive(serde::Deserialize)]
        struct File {
            decoded: Vec<Decoded>,
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prepared.json");
        let file: File = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        file.decoded
    }

    fn jpeg(&self) -> Vec<u8> {
        hexadecimal(&self.jpeg)
    }
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).unwrap() as u8;
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|two| digit(&two[0]) << 4 | digit(&two[1]))
        .collect()
}

fn exactly(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let raw = RawPicture::Encoded(Cow::Borrowed(bytes));
    decode_exactly(&raw, &DecodeLimits::default())
}

#[test]
fn jpegs_have_the_pixels_that_others_see() {
    let all = Decoded::all();
    assert_eq!(all.len(), 16);
    for picture in all {
        let bytes = picture.jpeg();
        let colours = jpeg::Header::read(&bytes).unwrap().colours();
        let found = whole::decode(&bytes, colours).expect(&picture.name);
        assert_eq!(found.dimensions(), picture.size.into(), "{}", picture.name);
        assert!(
            found.as_raw() == &hexadecimal(&picture.pixels),
            "{}",
            picture.name
        );
        assert_eq!(exactly(&bytes).unwrap(), found);
        // The usual decoder's are close, and mostly others.
        let usual = read(&bytes).unwrap();
        let apart = usual.iter().zip(found.iter()).map(|(a, b)| a.abs_diff(*b));
        assert!(apart.max().unwrap() <= 60, "{}", picture.name);
    }
}

#[test]
fn what_is_no_ordinary_jpeg_is_read_as_always() {
    for (name, bytes, ..) in fixtures() {
        match (read(&bytes), exactly(&bytes)) {
            (Ok(usual), Ok(exact)) => {
                assert_eq!(usual.dimensions(), exact.dimensions(), "{name}");
                let means = quarters(&usual).into_iter().zip(quarters(&exact));
                let furthest = means.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(furthest < 3.0, "{name}: {furthest}");
            }
            (usual, exact) => assert_eq!(
                usual.err().map(|error| error.to_string()),
                exact.err().map(|error| error.to_string()),
                "{name}"
            ),
        }
    }
}

#[test]
fn damage_is_told_in_the_same_words_and_never_panics() {
    for picture in Decoded::all() {
        let bytes = picture.jpeg();
        let colours = jpeg::Header::read(&bytes).unwrap().colours();
        for length in (0..bytes.len()).step_by(3) {
            assert_eq!(
                whole::decode(&bytes[..length], colours),
                None,
                "{}",
                picture.name
            );
        }
        for at in 2..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            // A frame that says it is larger takes memory, which is limited elsewhere.
            if jpeg::Header::read(&damaged)
                .is_some_and(|header| header.width < 300 && header.height < 300)
            {
                let _ = whole::decode(&damaged, colours);
            }
        }
        let cut = &bytes[..bytes.len() - 9];
        assert_eq!(
            exactly(cut).unwrap_err().to_string(),
            read(cut).unwrap_err().to_string()
        );
    }
}

//! Pictures that are decoded smaller than they are.

use super::*;

/// Decodes as for a picture that is much smaller: by so many eighths.
fn read_reduced(bytes: &[u8], eighths: u8) -> Result<Reduced, DecodeError> {
    let raw = RawPicture::Encoded(Cow::Borrowed(bytes));
    let scale = f64::from(eighths) / 12.0;
    decode_reduced(&raw, &DecodeLimits::default(), &|_, _| scale)
}

#[test]
fn what_is_refused_is_refused_in_the_same_words_when_it_would_be_reduced() {
    let large = {
        let mut jpeg = encode(&photo(40, 30).into(), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
        jpeg
    };
    let mut all: Vec<(String, Vec<u8>)> = vec![("too large".to_owned(), large)];
    all.extend(fixtures().into_iter().map(|fixture| (fixture.0, fixture.1)));
    for (name, bytes) in all {
        let whole = read(&bytes);
        for eighths in [1, 2, 4] {
            match (&whole, read_reduced(&bytes, eighths)) {
                (Ok(whole), Ok(reduced)) => {
                    assert_eq!(reduced.size, whole.dimensions(), "{name}");
                    let means = quarters(&reduced.pixels);
                    let furthest = quarters(whole).into_iter().zip(means);
                    let furthest = furthest.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    // A column in the middle of few may belong to either quarter.
                    assert!(furthest < 30.0, "{name}, {eighths}: {furthest}");
                }
                (whole, reduced) => {
                    let (whole, reduced) = (whole.as_ref().err(), reduced.err());
                    assert_eq!(
                        whole.map(ToString::to_string),
                        reduced.map(|error| error.to_string()),
                        "{name}, {eighths}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_cut_or_damaged_jpeg_is_refused_in_the_same_words_when_it_would_be_reduced() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/photographs");
    let said = |error: Option<DecodeError>| error.map(|error| error.to_string());
    let mut wrong = Vec::new();
    for name in ["420.jpg", "420-restarts.jpg", "grey.jpg"] {
        let bytes = fs::read(folder.join(name)).unwrap();
        for length in (0..bytes.len()).step_by(211) {
            let cut = &bytes[..length];
            assert_eq!(
                said(read(cut).err()),
                said(read_reduced(cut, 1).err()),
                "{length}"
            );
        }
        // Every part of the header, and some of the data.
        for at in (2..700).step_by(3).chain((700..bytes.len()).step_by(307)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            let whole = read(&damaged);
            let reduced = read_reduced(&damaged, 1);
            let (whole, reduced) = (said(whole.err()), said(reduced.err()));
            if whole != reduced {
                wrong.push(format!(
                    "{name}, byte {at}: {reduced:?}, expected {whole:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

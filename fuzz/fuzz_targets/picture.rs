//! A picture file of any kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitrine::data::{RawPicture, decode};
use vitrine_fuzz::LIMITS;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(picture) = decode(&RawPicture::Encoded(bytes.into()), &LIMITS) {
        assert!(u64::from(picture.width()) * u64::from(picture.height()) <= LIMITS.max_pixels);
    }
});

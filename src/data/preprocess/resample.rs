//! Resizing with `fast_image_resize`.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use super::settings::Filter;

/// Resizes a part of a picture (left, top, width, height) to `(width, height)`.
pub(in crate::data) fn resample(
    picture: &RgbImage,
    [left, top, width, height]: [f64; 4],
    to: (u32, u32),
    filter: Filter,
) -> RgbImage {
    // Pixels beside the part have no influence, but for those of which some is within.
    let within = |start: f64, length: f64, of: u32| {
        let first = (start as u32).min(of - 1);
        let end = ((start + length).ceil() as u32).clamp(first + 1, of);
        let start = start - f64::from(first);
        // A sum of rounded numbers may exceed the picture by their error.
        let length = length.min(f64::from(end - first) - start);
        (first, end - first, start, length)
    };
    let (x, columns, left, width) = within(left, width, picture.width());
    let (y, rows, top, height) = within(top, height, picture.height());
    let algorithm = match filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Box => ResizeAlg::Convolution(FilterType::Box),
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Filter::Hamming => ResizeAlg::Convolution(FilterType::Hamming),
        Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Filter::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
    };
    let options = ResizeOptions::new()
        .resize_alg(algorithm)
        .crop(left, top, width, height);
    let mut resized = RgbImage::new(to.0, to.1);
    let from = TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture);
    let from = from.expect("three bytes for each pixel");
    let from = TypedCroppedImage::new(from, x, y, columns, rows).expect("within the picture");
    let into = TypedImage::<U8x3>::from_buffer(to.0, to.1, &mut resized);
    let mut into = into.expect("three bytes for each pixel");
    Resizer::new()
        .resize_typed(&from, &mut into, &options)
        .expect("a part of the picture");
    resized
}

/// All of a picture, for [`resample`].
pub(in crate::data) fn all_of(picture: &RgbImage) -> [f64; 4] {
    [
        0.0,
        0.0,
        f64::from(picture.width()),
        f64::from(picture.height()),
    ]
}

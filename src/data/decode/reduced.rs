//! How much of a picture is decoded when it is to be resized, and what comes of it.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::scaled::Detail;

/// So many pixels each way are left for every one that a picture is resized to. For photographs, the resized pixels differ
/// from those of the whole picture by up to 1 of 255 in the mean at 1.5, by 1.9 at 1, by 0.4 at 3.
const GAP: f64 = 1.5;

/// How much of a picture is decoded that is resized by `scale`: the pixels of the result for one of its own, each way.
/// `None` where all of it is.
///
/// This is the only rule for it. It depends on nothing but that scale, so that training and whatever comes after see the
/// same pixels.
pub(super) fn detail(scale: f64) -> Option<Detail> {
    let enough = |sixteenths: usize| sixteenths as f64 / 16.0 >= GAP * scale;
    [1, 2, 4]
        .into_iter()
        .find(|eighths| enough(2 * eighths))
        .map(|eighths| Detail {
            eighths,
            is_chroma_coarse: enough(eighths),
        })
}

/// A decoded picture, upright, which may be smaller than it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::data) struct Reduced {
    pub(in crate::data) pixels: RgbImage,
    /// Width and height of the whole picture.
    pub(in crate::data) size: (u32, u32),
    /// The part of `pixels` that is the picture: left, top, width, height. Of the last pixels each way, some or all of
    /// what they are the mean of may lie outside.
    pub(in crate::data) part: [f64; 4],
}

impl Reduced {
    /// A picture that was decoded as a whole.
    pub(in crate::data) fn whole(pixels: RgbImage) -> Self {
        let size = pixels.dimensions();
        Reduced {
            part: [0.0, 0.0, f64::from(size.0), f64::from(size.1)],
            size,
            pixels,
        }
    }

    /// A picture of `size` of which so many eighths were decoded, turned upright.
    pub(super) fn upright(
        pixels: RgbImage,
        size: (u32, u32),
        eighths: usize,
        orientation: Orientation,
    ) -> Self {
        // Whether width and height are exchanged, and whether right and bottom are then where left and top were.
        let (turned, from_right, from_bottom) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (false, true, false),
            Orientation::FlipVertical => (false, false, true),
            Orientation::Rotate180 => (false, true, true),
            Orientation::Rotate90 => (true, true, false),
            Orientation::Rotate270 => (true, false, true),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate270FlipH => (true, true, true),
        };
        let mut picture = DynamicImage::from(pixels);
        picture.apply_orientation(orientation);
        let pixels = picture.into_rgb8();
        let size = if turned { (size.1, size.0) } else { size };
        let length = |own: u32| f64::from(own) * eighths as f64 / 8.0;
        let start = |from_end: bool, of: u32, own: u32| match from_end {
            true => f64::from(of) - length(own),
            false => 0.0,
        };
        Reduced {
            part: [
                start(from_right, pixels.width(), size.0),
                start(from_bottom, pixels.height(), size.1),
                length(size.0),
                length(size.1),
            ],
            size,
            pixels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_little_is_decoded_as_leaves_one_and_a_half_pixels_for_one() {
        let of = |own: u32, target: u32| {
            detail(f64::from(target) / f64::from(own))
                .map(|detail| (detail.eighths, detail.is_chroma_coarse))
        };
        // Photographs of 12 megapixels: at 32, at 224, and for crops of 224.
        assert_eq!(of(3000, 32), Some((1, true)));
        assert_eq!(of(3000, 224), Some((1, false)));
        assert_eq!(of(3000, 448), Some((2, false)));
        // At the thresholds.
        assert_eq!(of(768, 32), Some((1, true)));
        assert_eq!(of(767, 32), Some((1, false)));
        assert_eq!(of(384, 32), Some((1, false)));
        assert_eq!(of(383, 32), Some((2, false)));
        assert_eq!(of(192, 32), Some((2, false)));
        assert_eq!(of(191, 32), Some((4, false)));
        assert_eq!(of(96, 32), Some((4, false)));
        assert_eq!(of(95, 32), None);
        assert_eq!(of(32, 32), None);
        assert_eq!(of(7, 32), None);
    }
}

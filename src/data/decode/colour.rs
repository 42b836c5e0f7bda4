//! Colours of other kinds → red, green and blue.

/// Luma and chroma (ITU-R BT.601, all of 0 to 255: JFIF).
pub(super) fn ycc_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ]
    .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

/// Amounts of ink, 255 for all of it, without a profile: each ink takes its own colour away.
pub(super) fn cmyk_to_rgb([cyan, magenta, yellow, key]: [u8; 4]) -> [u8; 3] {
    let left = f32::from(255 - key) / 255.0;
    [cyan, magenta, yellow].map(|ink| (f32::from(255 - ink) * left) as u8)
}

/// A colour laid over white.
pub(super) fn over_white(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

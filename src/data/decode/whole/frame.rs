//! The components of a picture as they are stored, and their pixels.

use super::inverse::inverse;

/// A picture whose scans are read.
pub(super) struct Frame {
    pub(super) is_progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    /// The largest sampling factors.
    pub(super) across: usize,
    pub(super) down: usize,
    /// MCUs of a scan of all components.
    pub(super) mcus: (usize, usize),
    pub(super) planes: Vec<Plane>,
}

/// One component.
pub(super) struct Plane {
    pub(super) name: u8,
    /// Sampling factors.
    pub(super) across: usize,
    pub(super) down: usize,
    /// The number of its quantization table, and that table once a scan of it has begun.
    pub(super) table: usize,
    pub(super) quantization: Option<[i32; 64]>,
    /// Its size in samples, without what fills up blocks.
    pub(super) width: usize,
    pub(super) height: usize,
    /// The length of a row of samples in `pixels`, which has whole MCUs.
    pub(super) stride: usize,
    pub(super) pixels: Vec<u8>,
    /// Of a progressive picture, 64 frequencies of each block, row by row of blocks.
    pub(super) frequencies: Vec<i16>,
}

impl Frame {
    /// From the body of the frame's segment (T.81, B.2.2).
    pub(super) fn new(marker: u8, body: &[u8]) -> Option<Self> {
        let [8, h1, h0, w1, w0, count, components @ ..] = body else {
            return None;
        };
        let width = usize::from(u16::from_be_bytes([*w1, *w0]));
        let height = usize::from(u16::from_be_bytes([*h1, *h0]));
        if components.len() != 3 * usize::from(*count) || width == 0 || height == 0 {
            return None;
        }
        let factors = |one: &[u8]| (usize::from(one[1] >> 4), usize::from(one[1] & 15));
        let all = || components.chunks_exact(3);
        let (across, down) = (
            all().map(|one| factors(one).0).max()?,
            all().map(|one| factors(one).1).max()?,
        );
        if all().any(|one| !matches!(factors(one), (1..=4, 1..=4))) {
            return None;
        }
        let mcus = (width.div_ceil(8 * across), height.div_ceil(8 * down));
        let is_progressive = marker == 0xc2;
        let plane = |one: &[u8]| {
            let (own_across, own_down) = factors(one);
            let stride = 8 * mcus.0 * own_across;
            let samples = stride * 8 * mcus.1 * own_down;
            Plane {
                name: one[0],
                across: own_across,
                down: own_down,
                table: usize::from(one[2]),
                quantization: None,
                width: (width * own_across).div_ceil(across),
                height: (height * own_down).div_ceil(down),
                stride,
                pixels: vec![0; samples],
                frequencies: vec![0; if is_progressive { samples } else { 0 }],
            }
        };
        Some(Self {
            is_progressive,
            width,
            height,
            across,
            down,
            mcus,
            planes: all().map(plane).collect(),
        })
    }

    /// Makes pixels of a progressive picture's frequencies.
    pub(super) fn finish(&mut self) {
        for plane in &mut self.planes {
            let frequencies = std::mem::take(&mut plane.frequencies);
            for (at, block) in frequencies.as_chunks::<64>().0.iter().enumerate() {
                plane.set(at % (plane.stride / 8), at / (plane.stride / 8), block);
            }
        }
    }

    /// Whether every component came.
    pub(super) fn is_whole(&self) -> bool {
        self.planes.iter().all(|plane| plane.quantization.is_some())
    }
}

impl Plane {
    /// Makes pixels of a block's frequencies.
    #[inline(always)]
    pub(super) fn set(&mut self, x: usize, y: usize, block: &[i16; 64]) {
        if let Some(quantization) = &self.quantization {
            let at = 8 * (y * self.stride + x);
            inverse(block, quantization, &mut self.pixels[at..], self.stride);
        }
    }
}

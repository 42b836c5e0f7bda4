//! Feature maps as the convolutions of this processor keep them: `[B, H, W, C]`, a pixel's channels
//! side by side.

/// A square window that moves over a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its side.
    pub kernel: usize,
    /// Pixels between two of its places.
    pub stride: usize,
    /// Pixels of nothing around the map.
    pub padding: usize,
}

impl Window {
    /// Places along `length` pixels.
    pub fn places(self, length: usize) -> usize {
        (length + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

/// The shape of a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// B.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
}

impl Map {
    /// From `[B, H, W, C]`.
    pub fn new([batch, height, width, channels]: [usize; 4]) -> Self {
        Self {
            batch,
            height,
            width,
            channels,
        }
    }

    /// `[B, H, W, C]`.
    pub fn dims(self) -> [usize; 4] {
        [self.batch, self.height, self.width, self.channels]
    }

    /// The map with one pixel for each place of a window.
    pub fn windows(self, window: Window, channels: usize) -> Self {
        Self {
            height: window.places(self.height),
            width: window.places(self.width),
            channels,
            ..self
        }
    }

    /// B·H·W.
    pub fn pixels(self) -> usize {
        self.batch * self.height * self.width
    }

    /// B·H·W·C.
    pub fn values(self) -> usize {
        self.pixels() * self.channels
    }

    /// Where a pixel's channels start.
    pub(crate) fn at(self, pixel: Pixel) -> usize {
        ((pixel.image * self.height + pixel.y) * self.width + pixel.x) * self.channels
    }

    /// The pixels from the `first` one on, in the order in which they lie.
    pub(crate) fn pixels_from(self, first: usize) -> impl Iterator<Item = Pixel> {
        let mut pixel = Pixel {
            image: first / (self.height * self.width),
            y: first / self.width % self.height,
            x: first % self.width,
        };
        std::iter::repeat_with(move || {
            let here = pixel;
            pixel.x += 1;
            if pixel.x == self.width {
                pixel.x = 0;
                pixel.y += 1;
                if pixel.y == self.height {
                    pixel.y = 0;
                    pixel.image += 1;
                }
            }
            here
        })
    }
}

/// One pixel of a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pixel {
    /// Which image.
    pub(crate) image: usize,
    /// Line.
    pub(crate) y: usize,
    /// Column.
    pub(crate) x: usize,
}

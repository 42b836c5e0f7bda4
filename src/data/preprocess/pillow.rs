//! Resizing as Pillow does it, to the bit: what other projects' weights have seen in their own training.
//!
//! Pillow (`Image.resize`, Resample.c) goes over the width first and then over the height, and rounds to bytes between
//! the two. Each pixel is a sum of pixels times weights of 22 bits; where a picture shrinks, the filter is widened by as
//! much, so that nothing is skipped. Here both ways are gone over at once, row by row: what remains in memory is a few
//! rows of the result.

use std::collections::VecDeque;
use std::f64::consts::PI;

use super::settings::Filter;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Bits behind the point of a weight.
const BITS: u32 = 22;

/// Wider pictures are gone over column by column: the weights of all columns together would be many times the picture.
const WIDE: usize = 1 << 16;

/// Resizes the `part` of a picture to `to` (width and height) and gives the `window` of the result. What lies outside of
/// the part has no influence: it is as if the part had been cut out first. What lies outside of the window costs nothing.
///
/// # Shapes
///
/// `pixels` is `[H, width, 3]`; returns `[window.height, window.width, 3]`; both row-major.
pub(super) fn resize(
    pixels: &[u8],
    width: usize,
    part: Area,
    to: (usize, usize),
    window: Area,
    filter: Filter,
) -> Vec<u8> {
    if filter == Filter::Nearest {
        return nearest(pixels, width, part, to, window);
    }
    let across = Axis::new(part.width, to.0, filter);
    let down = Axis::new(part.height, to.1, filter);
    let row = |y: usize| {
        let start = 3 * ((part.top + y) * width + part.left);
        &pixels[start..start + 3 * part.width]
    };
    let columns = window.left..window.left + window.width;
    let mut vertical = Vertical::new(down, window);
    if part.width > WIDE {
        let mut narrow = vec![0; 3 * window.width * part.height];
        for (at, column) in columns.map(|x| Column::new(&across, x)).enumerate() {
            for y in 0..part.height {
                let reach =
                    3 * column.first..(3 * column.first + column.reach()).min(3 * part.width);
                let mut bytes = row(y)[reach].to_vec();
                bytes.resize(column.reach(), 0);
                narrow[3 * (y * window.width + at)..][..3].copy_from_slice(&column.pixel(&bytes));
            }
        }
        narrow
            .chunks_exact(3 * window.width)
            .enumerate()
            .for_each(|(y, row)| vertical.row(y, row));
        return vertical.done;
    }
    let columns: Vec<Column> = columns.map(|x| Column::new(&across, x)).collect();
    // A pair of pixels is read as eight bytes, two more than it has.
    let mut padded = vec![0; 3 * part.width + 8];
    let mut narrow = vec![0; 3 * window.width];
    for y in vertical.rows() {
        padded[..3 * part.width].copy_from_slice(row(y));
        horizontal(&padded, &columns, &mut narrow);
        vertical.row(y, &narrow);
    }
    vertical.done
}

/// The pixel under the middle of each.
fn nearest(pixels: &[u8], width: usize, part: Area, to: (usize, usize), window: Area) -> Vec<u8> {
    // Pillow adds up the steps, with their errors of rounding.
    let places = |from: usize, to: usize, window: std::ops::Range<usize>| {
        let step = from as f64 / to as f64;
        let sums = std::iter::successors(Some(step * 0.5), move |at| Some(at + step));
        sums.skip(window.start)
            .take(window.len())
            .map(move |at| (at as usize).min(from - 1))
    };
    let rows = window.top..window.top + window.height;
    let columns = window.left..window.left + window.width;
    let columns: Vec<usize> = places(part.width, to.0, columns).collect();
    let mut picked = Vec::with_capacity(3 * window.width * window.height);
    for y in places(part.height, to.1, rows) {
        for x in &columns {
            let at = 3 * ((part.top + y) * width + part.left + x);
            picked.extend_from_slice(&pixels[at..at + 3]);
        }
    }
    picked
}

impl Filter {
    /// How far it reaches from its middle, in pixels of the larger of the two pictures.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// Its height at `x` from its middle.
    fn at(self, x: f64) -> f64 {
        let sinc = |x: f64| match x {
            0.0 => 1.0,
            x => (x * PI).sin() / (x * PI),
        };
        let side = x.abs();
        match self {
            Filter::Nearest | Filter::Box => f64::from(x > -0.5 && x <= 0.5),
            Filter::Bilinear => (1.0 - side).max(0.0),
            Filter::Hamming if side >= 1.0 => 0.0,
            Filter::Hamming if side == 0.0 => 1.0,
            Filter::Hamming => sinc(side) * (0.54 + 0.46 * (side * PI).cos()),
            // Keys 1981, with a = -1/2.
            Filter::Bicubic if side < 1.0 => (1.5 * side - 2.5) * side * side + 1.0,
            Filter::Bicubic if side < 2.0 => (((side - 5.0) * side + 8.0) * side - 4.0) * -0.5,
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Bicubic | Filter::Lanczos => 0.0,
        }
    }
}

/// One way of a resize.
#[derive(Clone, Copy, Debug)]
struct Axis {
    from: usize,
    filter: Filter,
    /// Pixels of the source for one of the result.
    scale: f64,
}

impl Axis {
    fn new(from: usize, to: usize, filter: Filter) -> Self {
        let scale = from as f64 / to as f64;
        Self {
            from,
            filter,
            scale,
        }
    }

    /// The first pixel of the source that one of the result takes of, and the weights of that and those behind it.
    fn weights(&self, at: usize) -> (usize, Vec<i32>) {
        let widened = self.scale.max(1.0);
        let support = self.filter.support() * widened;
        let middle = (at as f64 + 0.5) * self.scale;
        // The casts round towards zero and take what is below for 0.
        let first = (middle - support + 0.5) as usize;
        let end = ((middle + support + 0.5) as usize).min(self.from);
        let of_pixel = |x: usize| {
            let x = x as f64 - middle + 0.5;
            self.filter.at(x * (1.0 / widened))
        };
        let heights: Vec<f64> = (first..end).map(of_pixel).collect();
        let sum: f64 = heights.iter().sum();
        let in_bits = |height: f64| {
            let share = if sum == 0.0 { height } else { height / sum };
            let weight = share * f64::from(1 << BITS);
            (weight + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        (first, heights.into_iter().map(in_bits).collect())
    }
}

/// Half of a byte's step, which rounds to the nearest.
const HALF: i32 = 1 << (BITS - 1);

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// What a column of the result takes of a row.
struct Column {
    first: usize,
    /// Weights for two pixels, as they lie in memory, and twice zero.
    pairs: Vec<[i32; 8]>,
}

impl Column {
    fn new(axis: &Axis, at: usize) -> Self {
        let (first, weights) = axis.weights(at);
        let pair = |two: &[i32]| {
            let (a, b) = (two[0], two.get(1).copied().unwrap_or(0));
            [a, a, a, b, b, b, 0, 0]
        };
        Self {
            first,
            pairs: weights.chunks(2).map(pair).collect(),
        }
    }

    /// How many bytes are looked at.
    fn reach(&self) -> usize {
        6 * self.pairs.len() + 2
    }

    /// The pixel of the column, from a row's bytes from the first on.
    #[inline(always)]
    fn pixel(&self, bytes: &[u8]) -> [u8; 3] {
        let mut sums = [0i32; 8];
        for (at, weights) in self.pairs.iter().enumerate() {
            let two = &bytes[6 * at..6 * at + 8];
            for lane in 0..8 {
                let product = i32::from(two[lane]).wrapping_mul(weights[lane]);
                sums[lane] = sums[lane].wrapping_add(product);
            }
        }
        [0, 1, 2].map(|c| byte(HALF.wrapping_add(sums[c]).wrapping_add(sums[c + 3])))
    }
}

/// The pixels of all columns, from a row with eight bytes more.
fn horizontal(row: &[u8], columns: &[Column], narrow: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { horizontal_avx2(row, columns, narrow) };
    }
    horizontal_on_any(row, columns, narrow);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn horizontal_avx2(row: &[u8], columns: &[Column], narrow: &mut [u8]) {
    horizontal_on_any(row, columns, narrow);
}

#[inline(always)]
fn horizontal_on_any(row: &[u8], columns: &[Column], narrow: &mut [u8]) {
    for (pixel, column) in narrow.chunks_exact_mut(3).zip(columns) {
        pixel.copy_from_slice(&column.pixel(&row[3 * column.first..]));
    }
}

/// Adds so much of a row to sums.
fn add(row: &[u8], weight: i32, sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { add_avx2(row, weight, sums) };
    }
    add_on_any(row, weight, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_avx2(row: &[u8], weight: i32, sums: &mut [i32]) {
    add_on_any(row, weight, sums);
}

#[inline(always)]
fn add_on_any(row: &[u8], weight: i32, sums: &mut [i32]) {
    for (sum, &byte) in sums.iter_mut().zip(row) {
        *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(weight));
    }
}

/// Rows of the result, as those that they are made of come.
struct Vertical {
    axis: Axis,
    /// Bytes of a row.
    length: usize,
    /// The next row that takes of one that has not come, and the one after the last.
    next: usize,
    end: usize,
    /// The first row of those that take of what comes next.
    waiting: Option<(usize, Vec<i32>)>,
    open: VecDeque<Open>,
    done: Vec<u8>,
}

/// A row of which not all has come.
struct Open {
    first: usize,
    weights: Vec<i32>,
    sums: Vec<i32>,
}

impl Vertical {
    fn new(axis: Axis, window: Area) -> Self {
        let mut vertical = Self {
            axis,
            length: 3 * window.width,
            next: window.top,
            end: window.top + window.height,
            waiting: None,
            open: VecDeque::new(),
            done: Vec::with_capacity(3 * window.width * window.height),
        };
        vertical.wait();
        vertical
    }

    fn wait(&mut self) {
        self.waiting = (self.next < self.end).then(|| self.axis.weights(self.next));
        self.next += 1;
    }

    /// The rows that are needed.
    fn rows(&self) -> std::ops::Range<usize> {
        let first = self.waiting.as_ref().map_or(0, |(first, _)| *first);
        let (last, weights) = self.axis.weights(self.end - 1);
        first..last + weights.len()
    }

    /// Takes the row `y`.
    fn row(&mut self, y: usize, row: &[u8]) {
        while let Some((first, weights)) = self.waiting.take_if(|(first, _)| *first <= y) {
            self.open.push_back(Open {
                first,
                weights,
                sums: vec![HALF; self.length],
            });
            self.wait();
        }
        for open in &mut self.open {
            if let Some(&weight) = open.weights.get(y - open.first) {
                add(row, weight, &mut open.sums);
            }
        }
        let is_done = |open: &mut Open| y + 1 >= open.first + open.weights.len();
        while let Some(open) = self.open.pop_front_if(is_done) {
            self.done.extend(open.sums.into_iter().map(byte));
        }
    }
}

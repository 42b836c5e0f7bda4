//! Chroma at the size of luma, row by row, as libjpeg's "fancy" enlarging has it (jdsample.c): of a triangle where a side
//! doubles, with the halves rounded up and down by turns; repeated otherwise.

use super::frame::{Frame, Plane};

/// The rows of a component at the size of the picture.
pub(super) struct Enlarged<'a> {
    plane: &'a Plane,
    /// Pixels for one sample.
    across: usize,
    down: usize,
    /// Sums of two rows of samples, before they are enlarged across.
    sums: Vec<i32>,
    /// The last row that was asked for, or more of it.
    pub(super) row: Vec<u8>,
}

impl<'a> Enlarged<'a> {
    /// `None` where a sample is no whole number of pixels.
    pub(super) fn new(plane: &'a Plane, frame: &Frame) -> Option<Self> {
        let is_whole = |most: usize, own: usize| most.is_multiple_of(own).then(|| most / own);
        let across = is_whole(frame.across, plane.across)?;
        let down = is_whole(frame.down, plane.down)?;
        Some(Self {
            plane,
            across,
            down,
            sums: vec![0; plane.width],
            row: vec![0; (plane.width * across).max(plane.stride)],
        })
    }

    /// Makes the row `y`.
    pub(super) fn row(&mut self, y: usize) {
        let plane = self.plane;
        let samples = |row: usize| &plane.pixels[row * plane.stride..][..plane.width];
        let own = samples(y / self.down);
        // The nearest of the rows that are not its own; beyond the last, there is that one again.
        let other = match y % 2 {
            0 => samples((y / 2).saturating_sub(1)),
            _ => samples((y / 2 + 1).min(plane.height - 1)),
        };
        let row = &mut self.row;
        // Of a picture so narrow, samples are repeated.
        let is_wide = plane.width > 2;
        match (self.across, self.down) {
            (1, 1) => row[..plane.width].copy_from_slice(own),
            (1, 2) => {
                let bias = 1 + (y % 2) as i32;
                for ((to, &own), &other) in row.iter_mut().zip(own).zip(other) {
                    *to = ((3 * i32::from(own) + i32::from(other) + bias) >> 2) as u8;
                }
            }
            (2, 1) if is_wide => {
                for (sum, &own) in self.sums.iter_mut().zip(own) {
                    *sum = i32::from(own);
                }
                doubled::<2>(&self.sums, [1, 2], row);
                // The outermost samples are their own neighbours, and rounding leaves them as they are.
            }
            (2, 2) if is_wide => {
                for ((sum, &own), &other) in self.sums.iter_mut().zip(own).zip(other) {
                    *sum = 3 * i32::from(own) + i32::from(other);
                }
                doubled::<4>(&self.sums, [8, 7], row);
            }
            (across, _) => {
                for (to, &own) in row.chunks_exact_mut(across).zip(own) {
                    to.fill(own);
                }
            }
        }
    }
}

/// Two pixels of each sample: three quarters of it and one of the neighbour, with so many bits rounded off.
fn doubled<const OFF: u32>(samples: &[i32], [left, right]: [i32; 2], row: &mut [u8]) {
    let last = samples.len() - 1;
    let pixel = |own: i32, neighbour: i32, bias: i32| ((3 * own + neighbour + bias) >> OFF) as u8;
    for (to, three) in row[2..2 * last]
        .as_chunks_mut::<2>()
        .0
        .iter_mut()
        .zip(samples.windows(3))
    {
        *to = [
            pixel(three[1], three[0], left),
            pixel(three[1], three[2], right),
        ];
    }
    row[0] = pixel(samples[0], samples[0], left);
    row[1] = pixel(samples[0], samples[1], right);
    row[2 * last] = pixel(samples[last], samples[last - 1], left);
    row[2 * last + 1] = pixel(samples[last], samples[last], right);
}

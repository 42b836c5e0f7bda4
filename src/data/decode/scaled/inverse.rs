//! Inverse transforms of a block into fewer pixels than its 8×8.

/// Writes the pixels of a block from its frequencies; the last argument is the length of a row.
pub(super) type Inverse = fn(&[i32; 64], &mut [u8], usize);

/// The inverse transform for blocks of so many pixels, of which one way has twice as many as the other at most.
pub(super) fn inverse(width: usize, height: usize) -> Option<Inverse> {
    Some(match (width, height) {
        // Never called: it is the mean.
        (1, 1) => inverse_of::<1, 1>,
        (1, 2) => inverse_of::<1, 2>,
        (2, 1) => inverse_of::<2, 1>,
        (2, 2) => inverse_of_four,
        (2, 4) => inverse_of::<2, 4>,
        (4, 2) => inverse_of::<4, 2>,
        (4, 4) => inverse_of::<4, 4>,
        (4, 8) => inverse_of::<4, 8>,
        (8, 4) => inverse_of::<8, 4>,
        (8, 8) => inverse_of::<8, 8>,
        _ => return None,
    })
}

/// [`inverse_of`] for blocks of 2×2 pixels, whose waves are 1 and -1.
fn inverse_of_four(from: &[i32; 64], to: &mut [u8], stride: usize) {
    let [a, b, c, d] = [0, 1, 8, 9].map(|place| from[place]);
    to[..2].copy_from_slice(&[pixel(a + b + c + d), pixel(a - b + c - d)]);
    to[stride..][..2].copy_from_slice(&[pixel(a + b - c - d), pixel(a - b - c + d)]);
}

/// T.81, A.3.3, with the lowest W × H frequencies, and as many pixels.
fn inverse_of<const W: usize, const H: usize>(from: &[i32; 64], to: &mut [u8], stride: usize) {
    let (across, down) = (waves::<W>(), waves::<H>());
    let mut rows = [[0f32; W]; H];
    for (y, row) in rows.iter_mut().enumerate() {
        for u in 0..W {
            let value = from[8 * y + u] as f32;
            for x in 0..W {
                row[x] += value * across[u][x];
            }
        }
    }
    for y in 0..H {
        let mut sum = [0f32; W];
        for v in 0..H {
            for x in 0..W {
                sum[x] += rows[v][x] * down[v][y];
            }
        }
        for (to, value) in to[y * stride..][..W].iter_mut().zip(sum) {
            // The cast keeps to 0 to 255.
            *to = (value / 8.0 + 128.5) as u8;
        }
    }
}

/// By frequency, then by pixel: √2 · cos((2x + 1) u π / 2n), and 1 for the mean.
#[inline(always)]
const fn waves<const N: usize>() -> [[f32; N]; N] {
    // √2 · cos(i π / 16), for i from 0 to 8.
    #[allow(clippy::approx_constant)]
    const COSINES: [f32; 9] = [
        1.414_213_6,
        1.387_039_8,
        1.306_563,
        1.175_875_6,
        1.0,
        0.785_695,
        0.541_196_1,
        0.275_899_4,
        0.0,
    ];
    let mut waves = [[1.0; N]; N];
    let mut u = 1;
    while u < N {
        let mut x = 0;
        while x < N {
            // In sixteenths of π, of which a turn has 32.
            let turn = (2 * x + 1) * u * (8 / N) % 32;
            let turn = if turn > 16 { 32 - turn } else { turn };
            waves[u][x] = if turn > 8 {
                -COSINES[16 - turn]
            } else {
                COSINES[turn]
            };
            x += 1;
        }
        u += 1;
    }
    waves
}

/// A pixel from eight times what it is above the middle.
#[inline(always)]
pub(super) fn pixel(eightfold: i32) -> u8 {
    ((eightfold + 4 + 8 * 128) >> 3).clamp(0, 255) as u8
}

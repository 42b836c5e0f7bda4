//! Maxima over windows of a feature map.

use rayon::prelude::*;

use crate::dispatch::vectorised;
use crate::map::{Map, Pixel, Window};
use crate::operand::Operand;
use crate::scratch::output;

/// The largest value of each window and channel; padding is smaller than anything.
#[inline(never)]
pub fn forward<E: Operand>(window: Window, (x, input): (&[E], Map)) -> Vec<E> {
    let out = input.windows(window, input.channels);
    let mut y = output::<E>(out.values());
    if x.is_empty() {
        return y;
    }
    let line = out.width * out.channels;
    y.par_chunks_mut(line).enumerate().for_each(|(i, y)| {
        for (column, y) in y.chunks_exact_mut(out.channels).enumerate() {
            let place = Pixel {
                image: i / out.height,
                y: i % out.height,
                x: column,
            };
            let mut first = true;
            for pixel in pixels(window, input, place) {
                let x = &x[input.at(pixel)..][..out.channels];
                if first {
                    y.copy_from_slice(x);
                    first = false;
                } else {
                    larger(y, x);
                }
            }
        }
    });
    y
}

fn larger<E: Operand>(y: &mut [E], x: &[E]) {
    vectorised(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                // A NaN stays, wherever in the window it stands.
                if x.widen() > y.widen() || x.widen().is_nan() {
                    *y = x;
                }
            }
        },
    );
}

/// The gradient of [`forward`]'s input: a window's goes to the first of its largest values.
#[inline(never)]
pub fn backward<E: Operand>(window: Window, (x, input): (&[E], Map), y: &[E], dy: &[E]) -> Vec<E> {
    if x.is_empty() {
        return Vec::new();
    }
    if window.padding == 0 && window.stride == window.kernel {
        return backward_apart(window, (x, input), y, dy);
    }
    let out = input.windows(window, input.channels);
    let channels = input.channels;
    let image = input.height * input.width * channels;
    let mut dx = output::<E>(input.values());
    dx.par_chunks_mut(image)
        .enumerate()
        .for_each_init(Vec::new, |scratch, (i, dx)| {
            let (sums, taken) = {
                let scratch: &mut Vec<f32> = scratch;
                scratch.clear();
                scratch.resize(image + channels, 0.0);
                scratch.split_at_mut(image)
            };
            for place in out
                .pixels_from(i * out.height * out.width)
                .take(out.height * out.width)
            {
                let at = out.at(place);
                let (y, dy) = (&y[at..][..channels], &dy[at..][..channels]);
                taken.fill(0.0);
                for pixel in pixels(window, input, place) {
                    let at = input.at(pixel);
                    let x = &x[at..][..channels];
                    let sums = &mut sums[at - i * image..][..channels];
                    give(x, y, dy, sums, taken);
                }
            }
            E::from_f32(sums, dx);
        });
    dx
}

/// [`backward`] where windows do not overlap: each pixel's gradient is written once.
fn backward_apart<E: Operand>(
    window: Window,
    (x, input): (&[E], Map),
    y: &[E],
    dy: &[E],
) -> Vec<E> {
    let out = input.windows(window, input.channels);
    let channels = input.channels;
    let image = input.height * input.width * channels;
    let mut dx = output::<E>(input.values());
    dx.par_chunks_mut(image).enumerate().for_each_init(
        Vec::new,
        |taken: &mut Vec<u16>, (i, dx)| {
            // Lines and columns that fill no window get none.
            dx.fill(E::zeroed());
            let x = &x[i * image..][..image];
            let places = out.height * out.width;
            vectorised(
                #[inline(always)]
                || {
                    for place in out.pixels_from(i * places).take(places) {
                        let at = out.at(place);
                        let (y, dy) = (&y[at..][..channels], &dy[at..][..channels]);
                        taken.clear();
                        taken.resize(channels, 0);
                        for line in 0..window.kernel {
                            for column in 0..window.kernel {
                                let row = place.y * window.kernel + line;
                                let column = place.x * window.kernel + column;
                                let at = (row * input.width + column) * channels;
                                let (x, dx) = (&x[at..][..channels], &mut dx[at..][..channels]);
                                let taken = &mut taken[..channels];
                                for c in 0..channels {
                                    let here = x[c].widen() == y[c].widen() && taken[c] == 0;
                                    dx[c] = if here { dy[c] } else { E::zeroed() };
                                    taken[c] |= u16::from(here);
                                }
                            }
                        }
                    }
                },
            );
        },
    );
    dx
}

/// Gives the gradient to `x` where it is the largest and none before it was.
fn give<E: Operand>(x: &[E], y: &[E], dy: &[E], sums: &mut [f32], taken: &mut [f32]) {
    let channels = taken.len();
    let (x, y, dy, sums) = (
        &x[..channels],
        &y[..channels],
        &dy[..channels],
        &mut sums[..channels],
    );
    vectorised(
        #[inline(always)]
        || {
            for c in 0..channels {
                let here = x[c].widen() == y[c].widen() && taken[c] == 0.0;
                sums[c] += if here { dy[c].widen() } else { 0.0 };
                taken[c] = if here { 1.0 } else { taken[c] };
            }
        },
    );
}

/// The pixels of one window that lie within the map.
fn pixels(window: Window, input: Map, place: Pixel) -> impl Iterator<Item = Pixel> {
    let side = move |at: usize, length: usize| {
        let first = at * window.stride;
        let end = (first + window.kernel - window.padding).min(length);
        first.saturating_sub(window.padding)..end
    };
    side(place.y, input.height).flat_map(move |y| {
        side(place.x, input.width).map(move |x| Pixel {
            image: place.image,
            y,
            x,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_stays_wherever_it_stands() {
        let window = Window {
            kernel: 2,
            stride: 2,
            padding: 0,
        };
        for place in 0..4 {
            let mut x = [1.0, -2.0, 3.0, 0.0];
            x[place] = f32::NAN;
            assert!(forward(window, (&x, Map::new([1, 2, 2, 1])))[0].is_nan());
        }
    }

    #[test]
    fn the_first_of_the_largest_takes_the_gradient() {
        for (window, dims) in [
            (
                Window {
                    kernel: 2,
                    stride: 2,
                    padding: 0,
                },
                [2, 4, 6, 3],
            ),
            (
                Window {
                    kernel: 2,
                    stride: 2,
                    padding: 0,
                },
                [2, 5, 5, 2],
            ),
            (
                Window {
                    kernel: 3,
                    stride: 2,
                    padding: 1,
                },
                [2, 7, 8, 5],
            ),
        ] {
            let map = Map::new(dims);
            let out = map.windows(window, map.channels);
            // Few different values, so that many are equal.
            let x: Vec<f32> = (0..map.values())
                .map(|i| ((i * 7919) % 11) as f32 - 9.0)
                .collect();
            let y = forward(window, (&x, map));
            let dy: Vec<f32> = (0..y.len()).map(|i| i as f32 + 1.0).collect();
            let dx = backward(window, (&x, map), &y, &dy);
            let mut expected = vec![0.0; x.len()];
            for place in out.pixels_from(0).take(out.pixels()) {
                for c in 0..map.channels {
                    let at = |pixel| map.at(pixel) + c;
                    let mut largest: Option<usize> = None;
                    for pixel in pixels(window, map, place) {
                        if largest.is_none_or(|i| x[at(pixel)] > x[i]) {
                            largest = Some(at(pixel));
                        }
                    }
                    let largest = largest.expect("no window is empty");
                    assert_eq!(y[out.at(place) + c], x[largest]);
                    expected[largest] += dy[out.at(place) + c];
                }
            }
            assert_eq!(dx, expected);
        }
    }
}

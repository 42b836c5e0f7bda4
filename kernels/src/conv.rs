//! Convolutions as matrix products.
//!
//! No im2col matrix is ever stored whole: a block of output pixels gathers its rows of it in the
//! nearest cache, as the left operand of a product (`Rows::fill`). A pixel's channels lie side by
//! side, and so do those of its neighbours on a line, so that a row is a few long copies. The order
//! along k is (tap, channel).
//!
//! The gradient of the input is the same loop over the gradient of the output. Where the stride is
//! 2 the input's pixels fall into four classes by the parity of their place, and each class sees a
//! kernel of its own: together these have as many taps as the whole, so that nothing is multiplied
//! by the zeros that a stride would put between pixels.
//!
//! Work is cut by shape alone, never by the number of threads: results are the same bits on any.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use crate::dispatch::vectorised;
use crate::kernel::PANEL;
use crate::map::{Map, Pixel, Window};
use crate::matrix::{Buffer, Panels, Rows, product, product_into};
use crate::operand::Operand;
use crate::scalar::{gelu_of, relu};
use crate::scratch::output;
use crate::tail::Tail;
use crate::vector;

/// Taps of the kernel.
fn area(window: Window) -> usize {
    window.kernel * window.kernel
}

/// Output pixels of one product: enough to reuse the weight, few enough for the nearest caches.
const BLOCK: usize = 128;

/// A convolution's weight as the products read it, and its bias.
pub struct Packed<E> {
    window: Window,
    channels: usize,
    filters: usize,
    class: Class,
    bias: Option<Vec<f32>>,
    types: PhantomData<E>,
}

/// A batch norm with statistics from elsewhere, to be folded into a convolution before it.
pub struct Norm<'a> {
    /// γ.
    pub gamma: &'a [f32],
    /// β.
    pub beta: &'a [f32],
    /// Means.
    pub mean: &'a [f32],
    /// Variances.
    pub variance: &'a [f32],
    /// Added to the variance.
    pub epsilon: f64,
}

impl Norm<'_> {
    /// What the norm makes of one filter's sums: a factor and a shift.
    pub(crate) fn folded(&self, filter: usize) -> [f32; 2] {
        let deviation = (f64::from(self.variance[filter]) + self.epsilon).sqrt();
        let scale = f64::from(self.gamma[filter]) / deviation;
        let shift = f64::from(self.beta[filter]) - f64::from(self.mean[filter]) * scale;
        [scale as f32, shift as f32]
    }
}

impl<E: Operand> Packed<E> {
    /// Of a weight `[Cout, channels, k, k]`.
    #[inline(never)]
    pub fn new(window: Window, channels: usize, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let filters = weight.len() / (channels * area(window));
        let weight = tap_major::<E>(weight, channels, area(window));
        let gather = Gather::of(window);
        let k = area(window) * channels;
        let panels = pack(filters, |part, panels| {
            panels.fill_transposed::<E>(k, part.len(), |column, target| {
                target.copy_from_slice(&weight[(part.start + column) * k..][..k]);
            });
        });
        Self {
            window,
            channels,
            filters,
            class: Class {
                phase: [0, 0],
                gather,
                panels,
            },
            bias: bias.map(<[f32]>::to_vec),
            types: PhantomData,
        }
    }

    /// The same with a norm folded in: its scale into the weight, the rest into the bias.
    #[inline(never)]
    pub fn folded(window: Window, channels: usize, weight: &[f32], norm: &Norm) -> Self {
        let mut weight = weight.to_vec();
        let mut bias = Vec::with_capacity(norm.gamma.len());
        let filters = weight.chunks_exact_mut(channels * area(window));
        for (filter, weight) in filters.enumerate() {
            let [scale, shift] = norm.folded(filter);
            bias.push(shift);
            vector::scale(weight, scale);
        }
        Self::new(window, channels, &weight, Some(&bias))
    }
}

/// tail(`input` ∗ weight + bias).
#[inline(never)]
pub fn forward<E: Operand>(packed: &Packed<E>, input: (&[E], Map), tail: Tail<&[E]>) -> Vec<E> {
    assert_eq!(input.1.channels, packed.channels, "channels");
    let finish = Finish {
        bias: packed.bias.as_deref(),
        tail,
    };
    let output = input.1.windows(packed.window, packed.filters);
    let classes = std::slice::from_ref(&packed.class);
    correlate(input, classes, 1, finish, output)
}

/// The gradient of [`forward`]'s input from that of its output.
#[inline(never)]
pub fn input_gradient<E: Operand>(
    window: Window,
    gradient: (&[E], Map),
    weight: &[f32],
    input: Map,
) -> Vec<E> {
    let (channels, filters) = (input.channels, gradient.1.channels);
    assert_eq!(input.windows(window, filters), gradient.1, "output");
    let weight = tap_major::<E>(weight, channels, area(window));
    // The taps that reach pixels of phase p, and how far off their output pixels lie; from last to
    // first, so that these come in order.
    let taps = |phase: usize| -> Vec<(usize, isize)> {
        (0..window.kernel)
            .rev()
            // One kernel of strides more, so that the difference is not negative.
            .filter(|tap| {
                (phase + window.padding + window.kernel * window.stride - tap)
                    .is_multiple_of(window.stride)
            })
            .map(|tap| {
                let distance = (phase + window.padding) as isize - tap as isize;
                (tap, distance / window.stride as isize)
            })
            .collect()
    };
    let mut classes = Vec::new();
    for phase in (0..window.stride).flat_map(|y| (0..window.stride).map(move |x| [y, x])) {
        let [lines, columns] = phase.map(taps);
        let runs = match columns.first() {
            None => Vec::new(),
            Some(&(_, x)) => lines
                .iter()
                .map(|&(_, y)| Run {
                    y,
                    x,
                    taps: columns.len(),
                })
                .collect(),
        };
        let taps: Vec<usize> = lines
            .iter()
            .flat_map(|&(ky, _)| columns.iter().map(move |&(kx, _)| ky * window.kernel + kx))
            .collect();
        let columns = if taps.is_empty() { 0 } else { channels };
        let panels = pack(columns, |part, panels| {
            panels.fill::<E>(taps.len() * filters, part.len(), |k, target| {
                let (tap, filter) = (taps[k / filters], k % filters);
                let at = (filter * area(window) + tap) * channels + part.start;
                target.copy_from_slice(&weight[at..][..part.len()]);
            });
        });
        classes.push(Class {
            phase,
            gather: Gather { step: 1, runs },
            panels,
        });
    }
    let finish = Finish {
        bias: None,
        tail: Tail::Plain,
    };
    correlate(gradient, &classes, window.stride, finish, input)
}

/// The gradient of [`forward`]'s weight, `[Cout, Cin, k, k]`.
///
/// Each task sums over some of the pixels, for as many taps as keep its sums in the second-nearest
/// cache; then the pixels' parts are added up.
#[inline(never)]
pub fn weight_gradient<E: Operand>(
    window: Window,
    input: (&[E], Map),
    gradient: (&[E], Map),
) -> Vec<f32> {
    let (channels, filters) = (input.1.channels, gradient.1.channels);
    assert_eq!(input.1.windows(window, filters), gradient.1, "output");
    if input.0.is_empty() || gradient.0.is_empty() {
        return vec![0.0; filters * channels * area(window)];
    }
    let groups = tap_groups(window, filters * channels);
    Sums::over_pixels(input, gradient, &groups).weight(filters, channels)
}

/// The taps that a task of [`weight_gradient`] takes, with `sums` sums each: all at once, or those
/// of one line, or one.
fn tap_groups(window: Window, sums: usize) -> Vec<Gather> {
    // Sums of one task.
    const MOST: usize = 1 << 17;
    let offset = -(window.padding as isize);
    let run = |tap: usize, taps: usize| Run {
        y: (tap / window.kernel) as isize + offset,
        x: (tap % window.kernel) as isize + offset,
        taps,
    };
    let (area, side) = (area(window), window.kernel);
    let runs: Vec<Vec<Run>> = if sums * area <= MOST {
        vec![(0..side).map(|y| run(y * side, side)).collect()]
    } else if sums * side <= MOST {
        (0..side).map(|y| vec![run(y * side, side)]).collect()
    } else {
        (0..area).map(|tap| vec![run(tap, 1)]).collect()
    };
    runs.into_iter()
        .map(|runs| Gather {
            step: window.stride,
            runs,
        })
        .collect()
}

/// Sums over pixels of gradient times input, in parts.
struct Sums {
    /// Of each chunk of the pixels and, within it, of each group of taps: for each filter, its taps
    /// and their channels in `stride` values.
    parts: Vec<Vec<f32>>,
    groups: usize,
    columns: usize,
    stride: usize,
}

impl Sums {
    fn over_pixels<E: Operand>(
        input: (&[E], Map),
        gradient: (&[E], Map),
        groups: &[Gather],
    ) -> Self {
        // Pixels of one product: deep enough that its sums are not read and written too often.
        const DEPTH: usize = 512;
        // Tasks wanted: enough for as many threads.
        const TASKS: usize = 16;
        let filters = gradient.1.channels;
        let pixels = gradient.1.pixels();
        let blocks = pixels.div_ceil(DEPTH);
        let depth = |block: usize| DEPTH.min(pixels - block * DEPTH);
        let pack = |block: usize, left: &mut Rows| {
            left.fill_transposed::<E>(filters, depth(block), |i, target| {
                target.copy_from_slice(&gradient.0[(block * DEPTH + i) * filters..][..filters]);
            });
        };
        // Packed once for all, unless it is for one group only.
        let packed: Option<Vec<Rows>> = (groups.len() > 1).then(|| {
            let pack = |block| {
                let mut left = Rows::default();
                pack(block, &mut left);
                left
            };
            (0..blocks).into_par_iter().map(pack).collect()
        });
        let rows = filters.next_multiple_of(E::ROW_STEP);
        let columns = groups[0].taps() * input.1.channels;
        let stride = columns.next_multiple_of(PANEL);
        let chunks = blocks.min(TASKS.div_ceil(groups.len()));
        let parts = (0..chunks * groups.len())
            .into_par_iter()
            .map_init(Scratch::default, |scratch, task| {
                let (chunk, group) = (task / groups.len(), &groups[task % groups.len()]);
                let here = chunk * blocks / chunks..(chunk + 1) * blocks / chunks;
                let mut sums = output::<f32>(rows * stride);
                for block in here.clone() {
                    let left = match &packed {
                        Some(packed) => &packed[block],
                        None => {
                            pack(block, &mut scratch.rows);
                            &scratch.rows
                        }
                    };
                    let pixels = &mut scratch.pixels;
                    pixels.clear();
                    pixels.extend(gradient.1.pixels_from(block * DEPTH).take(depth(block)));
                    scratch
                        .panels
                        .fill::<E>(pixels.len(), columns, |i, target| {
                            group.row(input, pixels[i], target);
                        });
                    let add = block != here.start;
                    product_into::<E>(left, &scratch.panels, &mut sums, stride, add);
                }
                sums
            })
            .collect();
        Self {
            parts,
            groups: groups.len(),
            columns,
            stride,
        }
    }

    /// The parts added up, as `[filters, channels, taps]`.
    fn weight(&self, filters: usize, channels: usize) -> Vec<f32> {
        let (groups, columns) = (self.groups, self.columns);
        let taps = columns / channels;
        let area = groups * taps;
        let mut weight = output::<f32>(filters * channels * area);
        weight
            .par_chunks_exact_mut(channels * area)
            .enumerate()
            .with_min_len(8)
            .for_each_init(Vec::new, |sum, (filter, weight)| {
                for group in 0..groups {
                    let of = |chunk: usize| {
                        let sums = &self.parts[chunk * groups + group];
                        &sums[filter * self.stride..][..columns]
                    };
                    sum.clear();
                    sum.extend_from_slice(of(0));
                    for chunk in 1..self.parts.len() / groups {
                        for (sum, &x) in sum.iter_mut().zip(of(chunk)) {
                            *sum += x;
                        }
                    }
                    for (tap, sums) in sum.chunks_exact(channels).enumerate() {
                        let tap = group * taps + tap;
                        for (channel, &sum) in sums.iter().enumerate() {
                            weight[channel * area + tap] = sum;
                        }
                    }
                }
            });
        weight
    }
}

/// Weights `[Cout, Cin, taps]` as `[Cout, taps, Cin]`.
fn tap_major<E: Operand>(weight: &[f32], channels: usize, taps: usize) -> Vec<E> {
    let mut target = output::<E>(weight.len());
    target
        .par_chunks_exact_mut(channels * taps)
        .zip(weight.par_chunks_exact(channels * taps))
        .with_min_len(16)
        .for_each(|(target, weight)| {
            for (tap, line) in target.chunks_exact_mut(channels).enumerate() {
                for (channel, value) in line.iter_mut().enumerate() {
                    *value = E::narrow(weight[channel * taps + tap]);
                }
            }
        });
    target
}

/// Packs the right operand in parts of columns, each by itself.
fn pack(
    columns: usize,
    fill: impl Fn(Range<usize>, &mut Panels) + Sync,
) -> Vec<(Range<usize>, Panels)> {
    const PART: usize = 64;
    (0..columns.div_ceil(PART))
        .into_par_iter()
        .map(|part| {
            let part = part * PART..((part + 1) * PART).min(columns);
            let mut panels = Panels::default();
            fill(part.clone(), &mut panels);
            (part, panels)
        })
        .collect()
}

/// Taps side by side on a line of the source.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Line and column of the first, from where the window is.
    y: isize,
    x: isize,
    taps: usize,
}

/// Which pixels of the source an output pixel sees.
#[derive(Debug, Clone)]
pub(crate) struct Gather {
    /// Source pixels between the windows of two output pixels.
    step: usize,
    runs: Vec<Run>,
}

impl Gather {
    /// All taps of a convolution's window.
    pub(crate) fn of(window: Window) -> Self {
        let offset = -(window.padding as isize);
        Self {
            step: window.stride,
            runs: (0..window.kernel)
                .map(|ky| Run {
                    y: ky as isize + offset,
                    x: offset,
                    taps: window.kernel,
                })
                .collect(),
        }
    }

    fn taps(&self) -> usize {
        self.runs.iter().map(|run| run.taps).sum()
    }

    /// One row of the im2col matrix.
    pub(crate) fn row<E: Operand>(
        &self,
        (source, map): (&[E], Map),
        pixel: Pixel,
        mut target: &mut [E],
    ) {
        let channels = map.channels;
        let image = map.height * map.width * channels;
        let source = &source[pixel.image * image..][..image];
        let (top, left) = (pixel.y * self.step, pixel.x * self.step);
        for run in &self.runs {
            let (line, rest) = target.split_at_mut(run.taps * channels);
            target = rest;
            let y = top.wrapping_add_signed(run.y);
            let x = left as isize + run.x;
            // Taps before the line begins and from where it ends on.
            let before = (-x).max(0) as usize;
            let end = (map.width as isize - x).max(0) as usize;
            if y < map.height && before == 0 && end >= run.taps {
                let at = (y * map.width + x as usize) * channels;
                line.copy_from_slice(&source[at..][..line.len()]);
            } else if y < map.height && before < end.min(run.taps) {
                let taps = before..end.min(run.taps);
                let at = (y * map.width + (x + before as isize) as usize) * channels;
                line[..taps.start * channels].fill(E::zeroed());
                line[taps.end * channels..].fill(E::zeroed());
                let line = &mut line[taps.start * channels..taps.end * channels];
                line.copy_from_slice(&source[at..][..line.len()]);
            } else {
                line.fill(E::zeroed());
            }
        }
    }
}

/// Output pixels that see the source alike.
struct Class {
    /// Line and column of the first of them.
    phase: [usize; 2],
    gather: Gather,
    panels: Vec<(Range<usize>, Panels)>,
}

/// What a thread keeps from block to block.
#[derive(Default)]
struct Scratch {
    rows: Rows,
    panels: Panels,
    product: Buffer,
    pixels: Vec<Pixel>,
}

/// Every output pixel's sum over its taps; pixels of one class are `stride` apart.
fn correlate<E: Operand>(
    source: (&[E], Map),
    classes: &[Class],
    stride: usize,
    finish: Finish<E>,
    map: Map,
) -> Vec<E> {
    assert_eq!(source.0.len(), source.1.values(), "source");
    let mut target = output::<E>(map.values());
    if target.is_empty() {
        return target;
    }
    // The unit of work: `stride` lines of an image, fewer at its end.
    let units = map.height.div_ceil(stride);
    let units_per_block = BLOCK.div_ceil(map.width.div_ceil(stride));
    let mut blocks = Vec::new();
    let mut rest = target.as_mut_slice();
    let total = map.batch * units;
    for first in (0..total).step_by(units_per_block) {
        let block = first..(first + units_per_block).min(total);
        let line = |unit: usize| unit / units * map.height + (unit % units * stride);
        let lines = line(block.end) - line(block.start);
        let (here, after) = rest.split_at_mut(lines * map.width * map.channels);
        rest = after;
        blocks.push((block, line(first) * map.width * map.channels, here));
    }
    blocks
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, (block, start, target)| {
            for class in classes {
                let pixels = &mut scratch.pixels;
                pixels.clear();
                for unit in block.clone() {
                    let y = unit % units * stride + class.phase[0];
                    if y < map.height {
                        pixels.extend((class.phase[1]..map.width).step_by(stride).map(|x| Pixel {
                            image: unit / units,
                            y,
                            x,
                        }));
                    }
                }
                let k = class.gather.taps() * source.1.channels;
                if k == 0 {
                    // No window reaches these pixels.
                    for first in (0..map.channels).step_by(PANEL) {
                        let sums = scratch.product.get::<f32>(pixels.len() * PANEL);
                        sums.fill(0.0);
                        let columns = first..(first + PANEL).min(map.channels);
                        store(sums, columns, finish, pixels, map, start, target);
                    }
                    continue;
                }
                scratch.rows.fill::<E>(pixels.len(), k, |row, target| {
                    let Pixel { image, y, x } = pixels[row];
                    let (y, x) = (y / stride, x / stride);
                    class.gather.row(source, Pixel { image, y, x }, target);
                });
                for (part, panels) in &class.panels {
                    product::<E>(
                        &scratch.rows,
                        panels,
                        &mut scratch.product,
                        |columns, sums| {
                            let columns = part.start + columns.start..part.start + columns.end;
                            store(sums, columns, finish, pixels, map, start, target);
                        },
                    );
                }
            }
        });
    target
}

/// What becomes of sums before they are stored.
#[derive(Clone, Copy)]
struct Finish<'a, E> {
    bias: Option<&'a [f32]>,
    tail: Tail<&'a [E]>,
}

/// Writes the sums of some columns where their pixels lie; `target` starts at `start`.
fn store<E: Operand>(
    sums: &mut [f32],
    columns: Range<usize>,
    Finish { bias, tail }: Finish<E>,
    pixels: &[Pixel],
    map: Map,
    start: usize,
    target: &mut [E],
) {
    vectorised(
        #[inline(always)]
        || {
            let width = columns.len();
            for (pixel, sums) in pixels.iter().zip(sums.chunks_exact_mut(PANEL)) {
                let at = map.at(*pixel) + columns.start;
                let sums = &mut sums[..width];
                let target = &mut target[at - start..][..width];
                if let Some(bias) = bias {
                    for (sum, bias) in sums.iter_mut().zip(&bias[columns.clone()]) {
                        *sum += bias;
                    }
                }
                match tail {
                    Tail::Plain => {
                        for (target, sum) in target.iter_mut().zip(sums) {
                            *target = E::narrow(*sum);
                        }
                    }
                    Tail::Relu => {
                        for (target, sum) in target.iter_mut().zip(sums) {
                            *target = E::narrow(relu(*sum));
                        }
                    }
                    Tail::Gelu => {
                        for (target, sum) in target.iter_mut().zip(sums) {
                            *target = E::narrow(gelu_of(*sum));
                        }
                    }
                    Tail::AddGelu(map) => {
                        for ((target, sum), &x) in target.iter_mut().zip(sums).zip(&map[at..]) {
                            *target = E::narrow(gelu_of(*sum + x.widen()));
                        }
                    }
                    Tail::AddRelu(map) => {
                        for ((target, sum), &x) in target.iter_mut().zip(sums).zip(&map[at..]) {
                            *target = E::narrow(relu(*sum + x.widen()));
                        }
                    }
                    Tail::ReluAdd(map) => {
                        for ((target, sum), &x) in target.iter_mut().zip(sums).zip(&map[at..]) {
                            *target = E::narrow(relu(*sum) + x.widen());
                        }
                    }
                }
            }
        },
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use half::bf16;

    use super::*;

    /// Numbers between −½ and ½ that bf16 holds exactly.
    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut bits = seed;
        let next = || {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((bits >> 25) as u8) / 128.0 - 0.5
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    fn typed<E: Operand>(x: &[f32]) -> Vec<E> {
        x.iter().map(|&x| E::narrow(x)).collect()
    }

    /// Calls `visit` with the place in the output, in the input, and in the weight of each product.
    fn products(
        window: Window,
        input: Map,
        output: Map,
        mut visit: impl FnMut(usize, usize, usize),
    ) {
        for Pixel { image, y, x } in output.pixels_from(0).take(output.pixels()) {
            for (ky, kx) in (0..window.kernel).flat_map(|y| (0..window.kernel).map(move |x| (y, x)))
            {
                let row = (y * window.stride + ky).wrapping_sub(window.padding);
                let column = (x * window.stride + kx).wrapping_sub(window.padding);
                if row >= input.height || column >= input.width {
                    continue;
                }
                let at = |map: Map, y, x, c| map.at(Pixel { image, y, x }) + c;
                for filter in 0..output.channels {
                    for channel in 0..input.channels {
                        let weight = (filter * input.channels + channel) * area(window);
                        visit(
                            at(output, y, x, filter),
                            at(input, row, column, channel),
                            weight + ky * window.kernel + kx,
                        );
                    }
                }
            }
        }
    }

    fn near<E: Operand>(got: &[E], expected: &[f64], tolerance: f64, what: &str) {
        assert_eq!(got.len(), expected.len());
        for (i, (got, &expected)) in got.iter().zip(expected).enumerate() {
            let off = (f64::from(got.widen()) - expected).abs();
            assert!(
                off <= tolerance * (1.0 + expected.abs()),
                "{what} {i}: {} {expected}",
                got.widen()
            );
        }
    }

    fn compare<E: Operand>(window: Window, input: Map, filters: usize, tolerance: f64) {
        let output = input.windows(window, filters);
        let x = numbers(input.values(), 1);
        let w = numbers(filters * input.channels * area(window), 2);
        let g = numbers(output.values(), 3);
        let mut y = vec![0.0_f64; output.values()];
        let mut dx = vec![0.0_f64; input.values()];
        let mut dw = vec![0.0_f64; w.len()];
        products(window, input, output, |o, i, k| {
            y[o] += f64::from(x[i]) * f64::from(w[k]);
            dx[i] += f64::from(g[o]) * f64::from(w[k]);
            dw[k] += f64::from(g[o]) * f64::from(x[i]);
        });
        let (x, g) = (typed::<E>(&x), typed::<E>(&g));
        let mut results = Vec::new();
        for threads in 1..=3 {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            results.push(pool.install(|| {
                (
                    forward(
                        &Packed::new(window, input.channels, &w, None),
                        (&x, input),
                        Tail::Plain,
                    ),
                    input_gradient(window, (&g, output), &w, input),
                    weight_gradient(window, (&x, input), (&g, output)),
                )
            }));
        }
        let what = format!("{window:?} {input:?} {filters}");
        let (got_y, got_dx, got_dw) = &results[0];
        near(got_y, &y, tolerance, &format!("y {what}"));
        near(got_dx, &dx, tolerance, &format!("dx {what}"));
        near(got_dw, &dw, 1e-5, &format!("dw {what}"));
        for other in &results[1..] {
            let bits = |x: &[E]| x.iter().map(|x| x.widen().to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&other.0), bits(got_y), "{what}");
            assert_eq!(bits(&other.1), bits(got_dx), "{what}");
            assert_eq!(&other.2, got_dw, "{what}");
        }
    }

    #[test]
    fn equals_the_sum_over_taps() {
        let window = |kernel, stride| Window {
            kernel,
            stride,
            padding: kernel / 2,
        };
        for (window, dims, filters) in [
            (window(3, 1), [2, 7, 5, 3], 5),
            (window(3, 1), [3, 4, 4, 32], 64),
            (window(3, 1), [1, 17, 13, 64], 33),
            (window(3, 2), [2, 8, 8, 5], 32),
            (window(3, 2), [2, 7, 9, 3], 5),
            (window(3, 2), [3, 1, 2, 5], 3),
            (window(1, 1), [2, 6, 5, 32], 5),
            (window(1, 2), [2, 6, 5, 5], 3),
            (window(7, 2), [2, 16, 16, 3], 32),
            (window(7, 2), [1, 9, 11, 5], 3),
            (window(3, 1), [40, 4, 4, 130], 7),
            (
                Window {
                    padding: 0,
                    ..window(3, 1)
                },
                [1, 6, 7, 5],
                3,
            ),
            (
                Window {
                    padding: 0,
                    ..window(3, 3)
                },
                [1, 7, 8, 3],
                5,
            ),
        ] {
            compare::<f32>(window, Map::new(dims), filters, 1e-5);
            compare::<bf16>(window, Map::new(dims), filters, 4e-3);
        }
    }

    #[test]
    fn tails() {
        let window = Window {
            kernel: 1,
            stride: 1,
            padding: 0,
        };
        let map = Map::new([1, 2, 2, 1]);
        let other = [10.0, -1.0, 0.5, -3.0];
        let x = [1.0, -2.0, 3.0, -4.0];
        for (tail, expected) in [
            (Tail::Plain, [3.0, -3.0, 7.0, -7.0]),
            (Tail::Relu, [3.0, 0.0, 7.0, 0.0]),
            (Tail::Gelu, [3.0, -3.0, 7.0, -7.0].map(gelu_of)),
            (
                Tail::AddGelu(&other[..]),
                [13.0, -4.0, 7.5, -10.0].map(gelu_of),
            ),
            (Tail::AddRelu(&other[..]), [13.0, 0.0, 7.5, 0.0]),
            (Tail::ReluAdd(&other[..]), [13.0, -1.0, 7.5, -3.0]),
        ] {
            let packed = Packed::new(window, 1, &[2.0], Some(&[1.0]));
            let y = forward(&packed, (&x, map), tail);
            assert_eq!(y, expected, "{tail:?}");
        }
    }
}

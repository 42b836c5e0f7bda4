//! From pixels to tokens on the processor: each patch is gathered where it is multiplied.

use rayon::prelude::*;

use crate::gradient::gradients;
use crate::kernel::PANEL;
use crate::linear::{self, Packed};
use crate::matrix::product;
use crate::operand::Operand;
use crate::scratch::{Scratch, block, output};
use crate::vector;

/// How pictures, patches and tokens lie.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// B.
    pub batch: usize,
    /// C.
    pub channels: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// P and Q: a patch's height and width.
    pub patch: [usize; 2],
    /// Tokens before the patches.
    pub prefix: usize,
    /// D.
    pub embed_dim: usize,
}

impl Shape {
    fn columns(&self) -> usize {
        self.width / self.patch[1]
    }

    fn patches(&self) -> usize {
        self.height / self.patch[0] * self.columns()
    }

    fn patch_len(&self) -> usize {
        self.channels * self.patch[0] * self.patch[1]
    }

    /// Where the pixels of a patch lie: each run of Q with its place in the patch.
    fn runs(&self, picture: usize, patch: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Shape {
            channels,
            height,
            width,
            patch: [high, wide],
            ..
        } = *self;
        let (row, column) = (patch / self.columns(), patch % self.columns());
        (0..channels).flat_map(move |c| {
            (0..high).map(move |y| {
                let line = (picture * channels + c) * height + row * high + y;
                (line * width + column * wide, (c * high + y) * wide)
            })
        })
    }

    /// A patch's pixels, channel slowest.
    fn gather<E: Operand>(&self, images: &[f32], picture: usize, patch: usize, target: &mut [E]) {
        for (from, to) in self.runs(picture, patch) {
            let wide = self.patch[1];
            E::from_f32(&images[from..from + wide], &mut target[to..to + wide]);
        }
    }
}

/// Tokens `[B, prefix + patches, D]`: the prefix as it is, and each patch times the projection,
/// plus its position.
#[inline(never)]
pub fn forward<E: Operand>(
    images: &[f32],
    shape: Shape,
    projection: &Packed<E>,
    positions: Option<&[f32]>,
    prefix: &[f32],
) -> Vec<f32> {
    let width = shape.embed_dim;
    let tokens = shape.prefix + shape.patches();
    let mut y = output::<f32>(shape.batch * tokens * width);
    let step = block::<E>(shape.batch * shape.patches());
    let blocks: Vec<(usize, usize, &mut [f32])> = y
        .chunks_mut(tokens * width)
        .enumerate()
        .flat_map(|(picture, y)| {
            let (first, rest) = y.split_at_mut(prefix.len());
            first.copy_from_slice(prefix);
            rest.chunks_mut(step * width)
                .enumerate()
                .map(move |(i, y)| (picture, i * step, y))
        })
        .collect();
    blocks
        .into_par_iter()
        .for_each_init(Scratch::lent, |scratch, (picture, first, y)| {
            let scratch = &mut **scratch;
            let count = y.len() / width;
            scratch.rows[0].fill::<E>(count, shape.patch_len(), |r, t| {
                shape.gather(images, picture, first + r, t);
            });
            let c = &mut scratch.products[0];
            product::<E>(&scratch.rows[0], &projection.panels, c, |columns, c| {
                let bias = &projection.bias[columns.clone()];
                let y = &mut y[columns.start..];
                match positions {
                    None => vector::store(c, count, bias, y, width),
                    Some(positions) => {
                        let at = &positions[first * width + columns.start..];
                        vector::store_residual(c, count, bias, at, y, width, |_| 1.0);
                    }
                }
            });
        });
    y
}

/// Gradients of the images, the projection's weight and bias, the positions and the prefix of
/// [`forward`]. `with` says whether that of the images, and whether those of positions and prefix,
/// are computed; otherwise they are empty.
#[inline(never)]
pub fn backward<E: Operand>(
    images: &[f32],
    shape: Shape,
    weight: &[f32],
    dy: &[f32],
    with: [bool; 2],
) -> [Vec<f32>; 5] {
    let [with_images, with_places] = with;
    let width = shape.embed_dim;
    let patches = shape.patches();
    let tokens = shape.prefix + patches;
    let row = |r: usize| {
        let token = r / patches * tokens + shape.prefix + r % patches;
        &dy[token * width..][..width]
    };
    let [(dweight, dbias)] = gradients::<(), 1>(
        shape.batch * patches,
        1,
        [[shape.patch_len(), width]],
        &mut [],
        |range, _, [projection], scratch| {
            let (left, right) = (&mut scratch.rows[0], &mut scratch.panels[0]);
            let patch = |r: usize, t: &mut [E]| {
                let r = range.start + r;
                shape.gather(images, r / patches, r % patches, t);
            };
            projection.add::<E>(left, right, range.len(), patch, |r, t: &mut [E]| {
                E::from_f32(row(range.start + r), t);
            });
        },
    );
    let mut sums = vec![0.0; if with_places { tokens * width } else { 0 }];
    sums.par_chunks_mut(width)
        .enumerate()
        .for_each(|(token, sum)| {
            for picture in 0..shape.batch {
                let at = (picture * tokens + token) * width;
                vector::add_scaled(sum, &dy[at..at + width], 1.0);
            }
        });
    let dpositions = sums.split_off(sums.len().min(shape.prefix * width));
    let mut dimages = Vec::new();
    if with_images && !images.is_empty() {
        let panels = linear::panels_transposed::<E>(weight, width);
        dimages = output::<f32>(images.len());
        dimages
            .par_chunks_mut(images.len() / shape.batch)
            .enumerate()
            .for_each_init(Scratch::lent, |scratch, (picture, dimage)| {
                let scratch = &mut **scratch;
                scratch.rows[0].fill::<E>(patches, width, |p, t| {
                    E::from_f32(row(picture * patches + p), t);
                });
                let c = &mut scratch.products[0];
                product::<E>(&scratch.rows[0], &panels, c, |columns, c| {
                    for (patch, c) in c.chunks_exact(PANEL).take(patches).enumerate() {
                        for (to, from) in shape.runs(0, patch) {
                            // A run may begin or end in another panel.
                            let start = from.max(columns.start);
                            let end = (from + shape.patch[1]).min(columns.end);
                            if start < end {
                                let part = &c[start - columns.start..end - columns.start];
                                dimage[to + start - from..to + end - from].copy_from_slice(part);
                            }
                        }
                    }
                });
            });
    }
    [dimages, dweight, dbias, dpositions, sums]
}

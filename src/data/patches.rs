//! The covariance of patches of the training pictures, for a first layer that whitens them.

use rayon::prelude::*;

use super::error::DataError;
use super::pictures::Pictures;
use super::preprocess::Preprocess;

/// At most this many pictures are used: two million patches at CIFAR's size.
const PICTURES: usize = 2_000;

/// At most this many patches along a side of a picture.
const ALONG: usize = 32;

/// Pictures that are summed together.
const CHUNK: usize = 64;

/// The covariance of normalised patches of `side`² pixels, over pictures evenly spread over the split. It depends on the
/// pictures alone.
///
/// # Shapes
///
/// `[n, n]`, row-major, with n = 3·`side`² in the order of a convolution's weights: channel, row, column.
///
/// # Errors
///
/// [`DataError`] where a picture can no longer be read.
pub(crate) fn patch_covariance(
    pictures: &Pictures,
    preprocess: &Preprocess,
    side: usize,
) -> Result<Vec<f64>, DataError> {
    let n = 3 * side * side;
    let stride = pictures.len().div_ceil(PICTURES).max(1);
    let chosen: Vec<usize> = (0..pictures.len()).step_by(stride).collect();
    // Each chunk is summed by itself, and the sums are added in order: the same bits on any number of threads.
    let partial = chosen
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut sums = Sums::new(n);
            for &index in chunk {
                sums.picture(&*pictures.get(index)?, preprocess, side);
            }
            Ok(sums)
        })
        .collect::<Result<Vec<_>, DataError>>()?;
    let mut all = Sums::new(n);
    for sums in partial {
        all.add(&sums);
    }
    Ok(all.covariance())
}

struct Sums {
    count: usize,
    values: Vec<f64>,
    products: Vec<f64>,
}

impl Sums {
    fn new(n: usize) -> Self {
        Self {
            count: 0,
            values: vec![0.0; n],
            products: vec![0.0; n * n],
        }
    }

    fn picture(&mut self, picture: &image::RgbImage, preprocess: &Preprocess, side: usize) {
        let size = preprocess.image_size;
        let mut pixels = vec![0.0_f32; 3 * size * size];
        preprocess.normalise_into(preprocess.resize(picture).as_raw(), &mut pixels);
        let step = size.div_ceil(ALONG).max(1);
        let places = || (0..=size - side).step_by(step);
        let mut patch = Vec::with_capacity(self.values.len());
        for (top, left) in places().flat_map(|y| places().map(move |x| (y, x))) {
            patch.clear();
            for line in 0..3 * side {
                let (channel, y) = (line / side, top + line % side);
                let at = (channel * size + y) * size + left;
                patch.extend(pixels[at..][..side].iter().map(|&x| f64::from(x)));
            }
            self.count += 1;
            for (i, &x) in patch.iter().enumerate() {
                self.values[i] += x;
                let row = &mut self.products[i * patch.len()..][..patch.len()];
                for (sum, &y) in row.iter_mut().zip(&patch) {
                    *sum += x * y;
                }
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        for (sum, x) in self.values.iter_mut().zip(&other.values) {
            *sum += x;
        }
        for (sum, x) in self.products.iter_mut().zip(&other.products) {
            *sum += x;
        }
    }

    fn covariance(&self) -> Vec<f64> {
        let n = self.values.len();
        let count = self.count.max(1) as f64;
        let mean: Vec<f64> = self.values.iter().map(|sum| sum / count).collect();
        let products = self.products.iter().enumerate();
        products
            .map(|(i, product)| product / count - mean[i / n] * mean[i % n])
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::pictures::PicturesOptions;
    use super::super::pictures::tests::{load, preprocess, small_set};
    use super::*;

    #[test]
    fn it_is_the_covariance_of_every_patch() {
        let folder = tempfile::tempdir().unwrap();
        let (size, side) = (13, 2);
        let dataset = small_set(folder.path(), 30);
        let pictures = load(&dataset, size, PicturesOptions::default());
        let preprocess = preprocess(size);
        let found = patch_covariance(&pictures, &preprocess, side).unwrap();
        let n = 3 * side * side;
        assert_eq!(found.len(), n * n);

        let mut patches: Vec<Vec<f64>> = Vec::new();
        for index in 0..pictures.len() {
            let mut pixels = vec![0.0; 3 * size * size];
            preprocess.normalise_into(pictures.get(index).unwrap().as_raw(), &mut pixels);
            for (y, x) in (0..12).flat_map(|y| (0..12).map(move |x| (y, x))) {
                let value = |i: usize| {
                    let (c, dy, dx) = (i / 4, i / 2 % 2, i % 2);
                    f64::from(pixels[(c * size + y + dy) * size + x + dx])
                };
                patches.push((0..n).map(value).collect());
            }
        }
        let mean = |f: &dyn Fn(&[f64]) -> f64| {
            patches.iter().map(|p| f(p)).sum::<f64>() / patches.len() as f64
        };
        for i in 0..n {
            for j in 0..n {
                let (a, b) = (mean(&|p| p[i]), mean(&|p| p[j]));
                let expected = mean(&|p| (p[i] - a) * (p[j] - b));
                assert!((found[i * n + j] - expected).abs() < 1e-9, "{i} {j}");
            }
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        let again = pool.install(|| patch_covariance(&pictures, &preprocess, side));
        assert_eq!(again.unwrap(), found);
    }
}

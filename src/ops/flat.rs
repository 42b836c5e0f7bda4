//! Passes over flat parameters and gradients, without autodiff.

use burn::tensor::Tensor;

/// Σ g² over all of them together.
pub(crate) fn square_sum<'a>(gradients: impl Iterator<Item = &'a Tensor<1>>) -> f64 {
    let mut sum = 0.0;
    let mut elsewhere = Vec::new();
    for gradient in gradients {
        #[cfg(feature = "cpu")]
        if super::cpu::on_cpu(gradient) {
            sum += vitrine_kernels::flat::square_sum(super::cpu::tape::values(gradient).get());
            continue;
        }
        elsewhere.push(gradient);
    }
    // Read at once: each reading waits until a GPU has done all that it was given.
    let sums = composed_square_sum(elsewhere).map(|sum| sum.into_scalar::<f32>());
    sum + sums.map_or(0.0, f64::from)
}

/// [`square_sum`] of Burn's own operations, in few kernels: what has one shape is added up before
/// the sum is taken, one shape after another.
pub(super) fn composed_square_sum(mut gradients: Vec<&Tensor<1>>) -> Option<Tensor<1>> {
    gradients.sort_by_key(|gradient| gradient.dims());
    let squares = added(
        gradients
            .into_iter()
            .map(|gradient| gradient.clone().square()),
    );
    // Sums of rows first, for one sum of everything would leave most of a GPU idle.
    let mut rows: Vec<Tensor<1>> = squares.into_iter().map(row_sums).collect();
    rows.sort_by_key(|rows| rows.dims());
    let sums = added(rows.into_iter()).into_iter().map(Tensor::sum);
    sums.reduce(|a, b| a + b)
}

/// The sums of neighbours of one length.
fn added(values: impl Iterator<Item = Tensor<1>>) -> Vec<Tensor<1>> {
    let mut sums: Vec<Tensor<1>> = Vec::new();
    for value in values {
        match sums.pop_if(|sum| sum.dims() == value.dims()) {
            Some(sum) => sums.push(sum + value),
            None => sums.push(value),
        }
    }
    sums
}

/// The sums of up to 64 rows of equal length.
fn row_sums(values: Tensor<1>) -> Tensor<1> {
    let [len] = values.dims();
    let rows = 1 << len.trailing_zeros().min(6);
    values
        .reshape([rows, len / rows])
        .sum_dim(1)
        .reshape([rows])
}

/// average·decay + value·(1 − decay): one step of an exponential moving average.
pub(crate) fn blend(average: Tensor<1>, value: &Tensor<1>, decay: f64) -> Tensor<1> {
    combine(average, decay, value, 1.0 - decay)
}

/// x·a + y·b.
pub(crate) fn combine(x: Tensor<1>, a: f64, y: &Tensor<1>, b: f64) -> Tensor<1> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        use super::cpu::tape;
        use vitrine_kernels::flat;
        let mut x = tape::Owned::new(x);
        flat::combine(x.get(), a, tape::values(y).get(), b);
        return x.tensor();
    }
    x * a + y.clone() * b
}

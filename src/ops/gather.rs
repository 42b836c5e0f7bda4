//! Some rows of a matrix.

use burn::tensor::{Int, Tensor, TensorData};

/// The rows of `x` that `rows` names, in its order; no row twice.
///
/// # Shapes
///
/// `[R, D]` → `[rows.len(), D]`.
///
/// # Panics
///
/// Where a row is not in `x`: our own bug.
pub(crate) fn gather_rows(x: Tensor<2>, rows: Vec<usize>) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if super::cpu::on_cpu(&x) {
        return on_cpu(x, rows);
    }
    composed(x, &rows)
}

/// [`gather_rows`] of Burn's own operations.
pub(super) fn composed(x: Tensor<2>, rows: &[usize]) -> Tensor<2> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let count = rows.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &x.device());
    x.select(0, rows)
}

#[cfg(feature = "cpu")]
fn on_cpu(x: Tensor<2>, rows: Vec<usize>) -> Tensor<2> {
    use super::cpu::tape;
    use super::profile;
    use vitrine_kernels::gather;
    let _span = profile::span("gather");
    let [of, width] = x.dims();
    let y = gather::forward(tape::values(&x).get(), width, &rows);
    let shape = [rows.len(), width];
    if !x.is_autodiff() {
        return tape::tensor(y, shape);
    }
    tape::record([(&x).into()], y, shape, move |dy| {
        let _span = profile::span("gather, backward");
        [gather::backward(dy, of, width, &rows)]
    })
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn equals_its_composed_form_with_its_gradient() {
        let (of, width) = (300, 3);
        let numbers = |len: usize| (0..len).map(|i| (i * 37 % 101) as f32).collect::<Vec<_>>();
        // More rows than one task takes, in no order.
        let rows: Vec<usize> = (0..of).map(|i| i * 7 % of).filter(|i| i % 3 > 0).collect();
        let run = |gather: &dyn Fn(Tensor<2>) -> Tensor<2>| {
            let device = Device::flex().autodiff();
            let x = TensorData::new(numbers(of * width), [of, width]);
            let x = Tensor::<2>::from_data(x, &device).require_grad();
            let y = gather(x.clone());
            let weight = TensorData::new(numbers(rows.len() * width), y.dims());
            let gradients = (y.clone() * Tensor::from_data(weight, &device))
                .sum()
                .backward();
            [y.inner(), x.grad(&gradients).unwrap()].map(|x| x.try_into_vec_as::<f32>().unwrap())
        };
        let found = run(&|x| gather_rows(x, rows.clone()));
        assert_eq!(found, run(&|x| composed(x, &rows)));
        for (y, &row) in found[0].chunks(width).zip(&rows) {
            assert_eq!(y, &numbers(of * width)[row * width..][..width]);
        }
        // Rows that were left out have no gradient, the others their own.
        assert!(found[1][..width].iter().all(|&g| g == 0.0));
        assert_eq!(found[1].iter().filter(|&&g| g != 0.0).count(), {
            numbers(rows.len() * width)
                .iter()
                .filter(|&&g| g != 0.0)
                .count()
        });
    }
}

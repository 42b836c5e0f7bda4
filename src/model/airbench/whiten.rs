//! Filters that whiten patches: their outputs are uncorrelated and of variance one.

use crate::model::jacobi::eigen;

/// Added to each variance, so that what hardly varies is not blown up (Jordan 2024, § 3.2).
const EPSILON: f64 = 5e-4;

/// For each principal component v of variance λ, largest first, v/√(λ + ε); then all of them again
/// with the other sign: what follows is a GELU, which lets through one sign of each (arXiv
/// 2404.00498, § 3.2).
///
/// # Shapes
///
/// `covariance` `[n, n]` → `[2n, n]`, both row by row.
///
/// # Panics
///
/// Where the covariance is not square.
pub(super) fn filters(covariance: &[f64]) -> Vec<f32> {
    let n = covariance.len().isqrt();
    assert_eq!(n * n, covariance.len(), "a square matrix");
    let (values, vectors) = eigen(covariance.to_vec(), n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let component = |&i: &usize| {
        // A variance is not negative, whatever rounding has made of it.
        let scale = 1.0 / (values[i].max(0.0) + EPSILON).sqrt();
        let column = vectors.iter().skip(i).step_by(n);
        column.map(move |x| (x * scale) as f32).collect::<Vec<_>>()
    };
    let mut filters: Vec<f32> = order.iter().flat_map(component).collect();
    filters.extend_from_within(..);
    for x in &mut filters[n * n..] {
        *x = -*x;
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M·Mᵀ of a matrix without any order in it.
    fn covariance(n: usize) -> Vec<f64> {
        let m: Vec<f64> = (0..n * n)
            .map(|i| ((i * 7919 + 13) % 101) as f64 / 50.0 - 1.0)
            .collect();
        let dot = |i: usize, j: usize| (0..n).map(|k| m[i * n + k] * m[j * n + k]).sum::<f64>();
        (0..n * n).map(|i| dot(i / n, i % n)).collect()
    }

    #[test]
    fn outputs_are_uncorrelated_and_of_variance_one() {
        for n in [1, 5, 12, 27] {
            let covariance = covariance(n);
            let filters = filters(&covariance);
            assert_eq!(filters.len(), 2 * n * n);
            let row = |i: usize| &filters[i * n..][..n];
            let mut variances = Vec::new();
            for i in 0..n {
                for j in 0..n {
                    let mut found = 0.0;
                    for (k, &a) in row(i).iter().enumerate() {
                        for (l, &b) in row(j).iter().enumerate() {
                            found += f64::from(a) * covariance[k * n + l] * f64::from(b);
                        }
                    }
                    if i == j {
                        // λ/(λ + ε), from which λ follows.
                        assert!(found > 0.0 && found < 1.0 + 1e-5, "{i}: {found}");
                        variances.push(row(i).iter().map(|x| x * x).sum::<f32>().recip());
                    } else {
                        assert!(found.abs() < 1e-5, "{i} {j}: {found}");
                    }
                }
                let negated: Vec<f32> = row(n + i).iter().map(|x| -x).collect();
                assert_eq!(negated, row(i));
            }
            // Within f32's rounding of those that are alike.
            let sorted = variances.is_sorted_by(|&a, &b| a * (1.0 + 1e-4) >= b);
            assert!(sorted, "largest first: {variances:?}");
            // The eigenvalues add up to the trace.
            let trace: f64 = (0..n).map(|i| covariance[i * n + i] + EPSILON).sum();
            let sum: f64 = variances.iter().map(|&x| f64::from(x)).sum();
            assert!((sum / trace - 1.0).abs() < 1e-4, "{sum} {trace}");
        }
    }

    #[test]
    fn a_constant_patch_gives_finite_filters() {
        let filters = filters(&[0.0; 9]);
        assert!(filters.iter().all(|x| x.is_finite()));
        assert!(filters.iter().any(|&x| x != 0.0));
    }
}

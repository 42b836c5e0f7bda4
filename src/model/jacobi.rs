//! Jacobi's rotations: eigenvectors of symmetric matrices, and singular vectors.
//!
//! Nothing but sums, products, quotients and square roots in a fixed order: the same bits on every
//! processor.

/// Eigenvalues of a symmetric matrix, and its eigenvectors as the columns of another, by Jacobi's
/// rotations (Golub & Van Loan 2013, § 8.5).
pub(crate) fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    // Each sweep squares what is left off the diagonal: ten are more than enough for n below 50.
    const SWEEPS: usize = 30;
    let mut vectors = vec![0.0; n * n];
    for i in 0..n {
        vectors[i * n + i] = 1.0;
    }
    for _ in 0..SWEEPS {
        let off: f64 = (0..n * n)
            .filter(|i| i / n != i % n)
            .map(|i| a[i] * a[i])
            .sum();
        let all: f64 = a.iter().map(|x| x * x).sum();
        if off <= all * 1e-30 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

/// The rotation that makes a[p][q] zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let off = a[p * n + q];
    if off == 0.0 {
        return;
    }
    let tau = (a[q * n + q] - a[p * n + p]) / (2.0 * off);
    let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = t * c;
    let turn = |m: &mut [f64], i: usize, j: usize| {
        let (x, y) = (m[i], m[j]);
        (m[i], m[j]) = (c * x - s * y, s * x + c * y);
    };
    for k in 0..n {
        turn(a, k * n + p, k * n + q);
    }
    for k in 0..n {
        turn(a, p * n + k, q * n + k);
        turn(vectors, k * n + p, k * n + q);
    }
}

/// Σ over i of leftᵢ·rightᵢᵀ, the largest first: √σ of each singular value on either side.
#[derive(Debug)]
pub(crate) struct Factors {
    /// √σ·u of each.
    pub left: Vec<Vec<f32>>,
    /// √σ·v of each.
    pub right: Vec<Vec<f32>>,
}

/// The nearest matrix of rank `rank`, factorised.
///
/// One-sided Jacobi (Hestenes 1958): pairs of columns are turned until all are orthogonal, which
/// makes them U·Σ. Slower than the textbooks' first choice, but a page shorter.
pub(crate) fn factorise(matrix: &[Vec<f32>], rank: usize) -> Factors {
    /// Cosine between two columns that passes for 0.
    const ORTHOGONAL: f32 = 1e-4;
    /// More sweeps than any matrix needs: they converge quadratically.
    const SWEEPS: usize = 30;
    let width = matrix.len();
    let mut columns: Vec<Vec<f32>> = (0..width)
        .map(|column| matrix.iter().map(|row| row[column]).collect())
        .collect();
    for _ in 0..SWEEPS {
        let mut turned = false;
        let mut squares: Vec<f32> = columns.iter().map(|x| dot(x, x)).collect();
        for p in 0..width {
            for q in p + 1..width {
                let (upper, lower) = columns.split_at_mut(q);
                let (x, y) = (&mut upper[p], &mut lower[0]);
                let product = dot(x, y);
                if product.abs() <= ORTHOGONAL * (squares[p] * squares[q]).sqrt() {
                    continue;
                }
                turned = true;
                let zeta = (squares[q] - squares[p]) / (2.0 * product);
                let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                let sine = cosine * tangent;
                for (x, y) in x.iter_mut().zip(y.iter_mut()) {
                    (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
                }
                squares[p] -= tangent * product;
                squares[q] += tangent * product;
            }
        }
        if !turned {
            break;
        }
    }
    let mut all: Vec<(f32, Vec<f32>)> = columns
        .into_iter()
        .map(|column| (dot(&column, &column).sqrt(), column))
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut factors = Factors {
        left: Vec::new(),
        right: Vec::new(),
    };
    for (value, mut left) in all.into_iter().take(rank) {
        // A random matrix has no singular value of 0; one of nearly 0 must not become a NaN.
        let value = value.max(f32::MIN_POSITIVE);
        let root = value.sqrt();
        left.iter_mut().for_each(|x| *x /= root);
        // Mᵀ·u = σ·v.
        let mut right = vec![0.0; width];
        for (row, &x) in matrix.iter().zip(&left) {
            for (right, &value) in right.iter_mut().zip(row) {
                *right += value * x;
            }
        }
        right.iter_mut().for_each(|x| *x /= value);
        factors.left.push(left);
        factors.right.push(right);
    }
    factors
}

/// Σ a·b in sixteen lanes, so that it is fast, in one order on every processor.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest_a.iter().zip(rest_b)) {
        *lane += a * b;
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_the_singular_vectors_in_order() {
        // Around the identity, and without any order beside it.
        let value = |i: usize, j: usize| {
            let noise = ((23 * i + j) * 7919 % 101) as f32 / 101.0 - 0.5;
            0.5 * noise + if i == j { 0.7 } else { 0.0 }
        };
        let matrix: Vec<Vec<f32>> = (0..23)
            .map(|i| (0..23).map(|j| value(i, j)).collect())
            .collect();
        let Factors { left, right } = factorise(&matrix, 23);
        let mut previous = f32::INFINITY;
        for i in 0..23 {
            let value = dot(&left[i], &left[i]);
            assert!(value <= previous * 1.0001);
            previous = value;
            // Both sides carry √σ, and are orthogonal to all others of theirs.
            assert!((dot(&right[i], &right[i]) / value - 1.0).abs() < 1e-2);
            for j in 0..i {
                let scale = (value * dot(&left[j], &left[j])).sqrt();
                assert!(dot(&left[i], &left[j]).abs() < 1e-3 * scale);
                assert!(dot(&right[i], &right[j]).abs() < 1e-2 * scale);
            }
        }
    }
}

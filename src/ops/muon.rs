//! Muon's direction: the momentum of a matrix, made orthogonal (Jordan et al. 2024).

use burn::tensor::Tensor;

use vitrine_kernels::muon::{COEFFICIENTS, STEPS, TINY};

pub(crate) use vitrine_kernels::muon::Matrices;

use super::precision::Precision;
use super::product::product;

/// What one parameter brings to a step.
#[derive(Debug, Clone)]
pub(crate) struct Moving {
    /// Its gradient, `[rows·parts·columns]`.
    pub gradient: Tensor<1>,
    /// Its momentum, of the same shape.
    pub momentum: Tensor<1>,
    /// How it lies.
    pub matrices: Matrices,
}

/// The direction and the new momentum of each parameter: with m ← μm + g, the matrices of g + μm
/// (Nesterov) are each replaced by about UVᵀ of their singular value decomposition USVᵀ.
///
/// The singular values of the result lie between 0.7 and 1.2, which trains as well as 1 does
/// (Jordan et al. 2024); its scale does not depend on that of the gradients.
pub(crate) fn directions(all: Vec<Moving>, mu: f64, precision: Precision) -> Vec<[Tensor<1>; 2]> {
    #[cfg(feature = "cpu")]
    if all
        .first()
        .is_some_and(|moving| super::cpu::on_cpu(&moving.gradient))
    {
        return match precision {
            Precision::F32 | Precision::Int8 => on_cpu::<f32>(all, mu),
            Precision::Bf16 => on_cpu::<half::bf16>(all, mu),
        };
    }
    all.into_iter()
        .map(|moving| composed(moving, mu, precision))
        .collect()
}

/// One parameter's direction and momentum of Burn's own operations.
pub(super) fn composed(moving: Moving, mu: f64, precision: Precision) -> [Tensor<1>; 2] {
    let Matrices {
        rows,
        columns,
        parts,
    } = moving.matrices;
    let momentum = moving.momentum * mu + moving.gradient.clone();
    let ahead = (moving.gradient + momentum.clone() * mu).reshape([rows, parts * columns]);
    let parts = (0..parts)
        .map(|part| orthogonal(ahead.clone().narrow(1, part * columns, columns), precision))
        .collect();
    let len = momentum.dims()[0];
    [Tensor::cat(parts, 1).reshape([len]), momentum]
}

/// The Newton–Schulz iteration on one matrix, whichever of its sides is the shorter.
fn orthogonal(x: Tensor<2>, precision: Precision) -> Tensor<2> {
    let [rows, columns] = x.dims();
    if rows > columns {
        return orthogonal(x.transpose(), precision).transpose();
    }
    let [a, b, c] = COEFFICIENTS;
    let norm = x.clone().square().sum().sqrt() + TINY;
    let mut x = x / norm.reshape([1, 1]);
    for _ in 0..STEPS {
        let gram = product(x.clone(), x.clone().transpose(), precision);
        let square = product(gram.clone(), gram.clone(), precision);
        x = x.clone() * a + product(gram * b + square * c, x, precision);
    }
    x
}

#[cfg(feature = "cpu")]
fn on_cpu<E: vitrine_kernels::Operand>(all: Vec<Moving>, mu: f64) -> Vec<[Tensor<1>; 2]> {
    use rayon::prelude::*;

    use super::cpu::tape;
    use vitrine_kernels::muon;
    let _span = super::profile::span("muon");
    all.into_par_iter()
        .map(|moving| {
            let mut momentum = tape::Owned::new(moving.momentum);
            let gradient = tape::values(&moving.gradient);
            let direction =
                muon::direction::<E>(gradient.get(), momentum.get(), moving.matrices, mu);
            let len = direction.len();
            [tape::tensor(direction, [len]), momentum.tensor()]
        })
        .collect()
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::tensor::{Device, Tolerance};

    use super::*;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        // The last steps of SplitMix64: numbers in a row have nothing to do with each other.
        let one = |i: usize| {
            let z = ((seed << 32 | i) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((z ^ (z >> 27)) % 2001) as f32 / 1000.0 - 1.0
        };
        (0..len).map(one).collect()
    }

    fn moving(matrices: Matrices) -> Moving {
        let len = matrices.rows * matrices.columns * matrices.parts;
        let tensor = |seed| Tensor::from_floats(numbers(len, seed).as_slice(), &Device::flex());
        Moving {
            gradient: tensor(1),
            momentum: tensor(2),
            matrices,
        }
    }

    fn host(x: Tensor<1>) -> Vec<f32> {
        x.try_into_vec_as::<f32>().unwrap()
    }

    /// One part of what lies side by side, by columns.
    fn part(values: &[f32], matrices: Matrices, part: usize) -> Vec<Vec<f64>> {
        let Matrices {
            rows,
            columns,
            parts,
        } = matrices;
        let at = |row, column| values[row * parts * columns + part * columns + column];
        (0..columns)
            .map(|column| (0..rows).map(|row| f64::from(at(row, column))).collect())
            .collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// Singular values, the largest first: one-sided Jacobi turns pairs of vectors until all are
    /// orthogonal.
    fn singular_values(mut vectors: Vec<Vec<f64>>) -> Vec<f64> {
        for _ in 0..60 {
            for i in 0..vectors.len() {
                for j in i + 1..vectors.len() {
                    let (a, b) = (&vectors[i], &vectors[j]);
                    let angle = 0.5 * (2.0 * dot(a, b)).atan2(dot(a, a) - dot(b, b));
                    let (sin, cos) = angle.sin_cos();
                    let turned = |x: f64, y: f64| {
                        let pairs = a.iter().zip(b);
                        pairs.map(|(a, b)| x * a + y * b).collect::<Vec<f64>>()
                    };
                    let (first, second) = (turned(cos, sin), turned(-sin, cos));
                    vectors[i] = first;
                    vectors[j] = second;
                }
            }
        }
        let mut values: Vec<f64> = vectors.iter().map(|v| dot(v, v).sqrt()).collect();
        values.sort_by(|a, b| b.total_cmp(a));
        values
    }

    const SHAPES: [Matrices; 4] = [
        Matrices {
            rows: 5,
            columns: 13,
            parts: 1,
        },
        Matrices {
            rows: 17,
            columns: 6,
            parts: 3,
        },
        Matrices {
            rows: 1,
            columns: 3,
            parts: 2,
        },
        Matrices {
            rows: 70,
            columns: 41,
            parts: 1,
        },
    ];

    #[test]
    fn singular_values_come_near_one_and_vectors_stay() {
        for matrices in SHAPES {
            for precision in [Precision::F32, Precision::Bf16] {
                let Moving {
                    gradient, momentum, ..
                } = moving(matrices);
                let (g, m) = (host(gradient), host(momentum));
                let [direction, moved] = directions(vec![moving(matrices)], 0.9, precision)
                    .remove(0)
                    .map(host);
                let mut ahead = Vec::new();
                for (i, moved) in moved.iter().enumerate() {
                    let expected = 0.9 * m[i] + g[i];
                    assert!((moved - expected).abs() < 1e-6);
                    ahead.push(g[i] + 0.9 * expected);
                }
                for p in 0..matrices.parts {
                    let short = matrices.rows.min(matrices.columns);
                    let (found, of) = (part(&direction, matrices, p), part(&ahead, matrices, p));
                    let along: f64 = found.iter().zip(&of).map(|(a, b)| dot(a, b)).sum();
                    let before = &singular_values(of)[..short];
                    let after = &singular_values(found)[..short];
                    for (before, after) in before.iter().zip(after) {
                        assert!(
                            (0.6..1.3).contains(after),
                            "{matrices:?} {precision:?}: {before} became {after}"
                        );
                    }
                    // ⟨U·f(S)·Vᵀ, U·S·Vᵀ⟩ = Σ f(s)·s: nothing but S has changed.
                    let sum: f64 = before.iter().sum();
                    assert!(
                        (0.65..1.25).contains(&(along / sum)),
                        "{matrices:?} {precision:?}: {along} of {sum}"
                    );
                }
            }
        }
    }

    #[test]
    fn equals_its_composed_form() {
        for matrices in SHAPES {
            let found = directions(vec![moving(matrices)], 0.9, Precision::F32).remove(0);
            let expected = composed(moving(matrices), 0.9, Precision::F32);
            for (a, b) in found.into_iter().zip(expected) {
                a.into_data()
                    .assert_approx_eq(&b.into_data(), Tolerance::<f32>::absolute(1e-3));
            }
        }
    }

    #[test]
    fn three_steps_go_where_burns_muon_goes() {
        use burn_optim::{MuonConfig, Optimizer};

        for [rows, columns] in [[24, 24], [30, 18], [18, 30]] {
            let burn = MuonConfig::new().build();
            let mut state = None;
            let mut weights = Tensor::<2>::zeros([rows, columns], &Device::flex());
            let mut momentum = Tensor::<1>::zeros([rows * columns], &Device::flex());
            for seed in 0..3 {
                let gradient = numbers(rows * columns, seed);
                let gradient = Tensor::<1>::from_floats(gradient.as_slice(), &Device::flex());
                let whole = gradient.clone().reshape([rows, columns]);
                let before = weights.clone();
                (weights, state) = burn.step(1.0, weights, whole, state);
                // Burn's rate of a matrix with more rows than columns is larger.
                let rate = (rows as f64 / columns as f64).max(1.0).sqrt();
                let expected = (before - weights.clone()) / rate;
                let parts = 1;
                let moving = Moving {
                    gradient,
                    momentum,
                    matrices: Matrices {
                        rows,
                        columns,
                        parts,
                    },
                };
                let [direction, moved] = directions(vec![moving], 0.95, Precision::F32).remove(0);
                momentum = moved;
                direction.into_data().assert_approx_eq(
                    &expected.flatten::<1>(0, 1).into_data(),
                    Tolerance::<f32>::absolute(1e-3),
                );
            }
        }
    }

    #[test]
    fn a_gradient_of_zeros_goes_nowhere() {
        let matrices = SHAPES[0];
        let zeros = Tensor::zeros([5 * 13], &Device::flex());
        let moving = Moving {
            gradient: zeros.clone(),
            momentum: zeros,
            matrices,
        };
        let [direction, _] = directions(vec![moving], 0.9, Precision::F32).remove(0);
        assert!(host(direction).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        for precision in [Precision::F32, Precision::Bf16] {
            let on = |threads| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap()
                    .install(|| {
                        let all = SHAPES.map(moving).to_vec();
                        let moved = directions(all, 0.9, precision).into_iter();
                        moved.flatten().map(host).collect::<Vec<_>>()
                    })
            };
            let one = on(1);
            assert!(one == on(2) && one == on(3));
        }
    }
}

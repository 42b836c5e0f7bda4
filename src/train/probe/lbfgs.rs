//! L-BFGS with a line search for the strong Wolfe conditions (Nocedal & Wright 2006, Algorithms 7.4, 7.5, 3.5 and
//! 3.6).

use std::collections::VecDeque;

/// Pairs of steps and changes of the gradient that are kept.
const MEMORY: usize = 10;

/// The constants of the Wolfe conditions, as Nocedal & Wright recommend them for quasi-Newton directions.
const ARMIJO: f64 = 1e-4;
const CURVATURE: f64 = 0.9;

/// Evaluations of one line search.
const TRIALS: usize = 25;

/// When a minimisation ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The largest absolute component of the gradient that is small enough.
    pub gradient: f64,
    /// Iterations.
    pub iterations: usize,
}

/// Where a minimisation ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Minimum {
    /// The function's value.
    pub value: f64,
    /// The largest absolute component of its gradient.
    pub gradient: f64,
    /// Iterations taken.
    pub iterations: usize,
}

/// Moves `x` to a minimum of a smooth function. `f` returns its value at a point and writes its gradient there.
///
/// It ends at the limit, or where the line search finds no lower value: within the rounding of `f`, that is a minimum.
///
/// # Errors
///
/// That of `f`; `x` is then the last point that was accepted.
pub(super) fn minimise<E>(
    x: &mut [f64],
    limit: Limit,
    mut f: impl FnMut(&[f64], &mut [f64]) -> Result<f64, E>,
) -> Result<Minimum, E> {
    let mut gradient = vec![0.0; x.len()];
    let mut value = f(x, &mut gradient)?;
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    let mut iterations = 0;
    while largest(&gradient) > limit.gradient && iterations < limit.iterations {
        let mut direction = descent(&gradient, &memory);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            memory.clear();
            direction = descent(&gradient, &memory);
            slope = dot(&direction, &gradient);
        }
        // A direction that knows no curvature has no length that means something.
        let first = match memory.is_empty() {
            true => (1.0 / norm(&gradient)).min(1.0),
            false => 1.0,
        };
        let start = Point { value, slope };
        let found = search(&mut f, x, &direction, start, first)?;
        let Some(found) = found else {
            if memory.is_empty() {
                break;
            }
            memory.clear();
            continue;
        };
        let step: Vec<f64> = direction.iter().map(|d| found.length * d).collect();
        let pairs = found.gradient.iter().zip(&gradient);
        let change: Vec<f64> = pairs.map(|(new, old)| new - old).collect();
        x.iter_mut().zip(&step).for_each(|(x, step)| *x += step);
        let fell = value - found.value;
        (value, gradient) = (found.value, found.gradient);
        iterations += 1;
        let curvature = dot(&step, &change);
        if curvature > 1e-12 * dot(&change, &change) {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Pair {
                step,
                change,
                curvature,
            });
        }
        // Below this a fall is rounding.
        if fell <= 1e-14 * value.abs() {
            break;
        }
    }
    Ok(Minimum {
        value,
        gradient: largest(&gradient),
        iterations,
    })
}

/// A step, what it changed of the gradient, and their product.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

/// −H·g by the two-loop recursion (Algorithm 7.4), with H₀ = sᵀy/yᵀy (7.20).
fn descent(gradient: &[f64], memory: &VecDeque<Pair>) -> Vec<f64> {
    let mut q = gradient.to_vec();
    let mut alphas = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let alpha = dot(&pair.step, &q) / pair.curvature;
        add(&mut q, -alpha, &pair.change);
        alphas.push(alpha);
    }
    if let Some(last) = memory.back() {
        let scale = last.curvature / dot(&last.change, &last.change);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (pair, alpha) in memory.iter().zip(alphas.iter().rev()) {
        let beta = dot(&pair.change, &q) / pair.curvature;
        add(&mut q, alpha - beta, &pair.step);
    }
    q.iter_mut().for_each(|q| *q = -*q);
    q
}

/// Value and slope along a line.
#[derive(Debug, Clone, Copy)]
struct Point {
    value: f64,
    slope: f64,
}

/// A step that was accepted.
struct Found {
    length: f64,
    value: f64,
    gradient: Vec<f64>,
}

/// A step along `direction` that meets the strong Wolfe conditions (Algorithms 3.5 and 3.6), or the lowest found that
/// meets the first; `None` where no step lowers the value.
fn search<E>(
    f: &mut impl FnMut(&[f64], &mut [f64]) -> Result<f64, E>,
    x: &[f64],
    direction: &[f64],
    start: Point,
    first: f64,
) -> Result<Option<Found>, E> {
    let mut best: Option<Found> = None;
    let mut at = |length: f64| -> Result<(Point, Vec<f64>), E> {
        let place: Vec<f64> = x
            .iter()
            .zip(direction)
            .map(|(x, d)| x + length * d)
            .collect();
        let mut gradient = vec![0.0; x.len()];
        let value = f(&place, &mut gradient)?;
        let slope = dot(&gradient, direction);
        Ok((Point { value, slope }, gradient))
    };
    let low_enough = |length: f64, value: f64| value <= start.value + ARMIJO * length * start.slope;
    // The bracket: its first end is the lowest point so far, with a slope towards the second.
    let (mut low, mut low_at) = (start, 0.0);
    let mut high: Option<(f64, Point)> = None;
    let mut length = first;
    for _ in 0..TRIALS {
        let (point, gradient) = at(length)?;
        let is_low = low_enough(length, point.value) && point.value < low.value;
        if is_low && best.as_ref().is_none_or(|best| point.value < best.value) {
            best = Some(Found {
                length,
                value: point.value,
                gradient,
            });
        }
        if !is_low {
            high = Some((length, point));
        } else {
            if point.slope.abs() <= -CURVATURE * start.slope {
                break;
            }
            let towards_high = high.map_or(1.0, |(end, _)| end - low_at);
            if point.slope * towards_high >= 0.0 {
                high = Some((low_at, low));
            }
            (low, low_at) = (point, length);
        }
        length = match high {
            None => 2.0 * length,
            Some((end, point)) => between(low_at, low, end, point),
        };
        if (length - low_at).abs() <= 1e-16 * low_at.abs() || length <= 0.0 {
            break;
        }
    }
    Ok(best)
}

/// The minimum of the cubic through two points (3.59), kept away from both; their middle where it has none.
fn between(a: f64, at_a: Point, b: f64, at_b: Point) -> f64 {
    let middle = 0.5 * (a + b);
    let d1 = at_a.slope + at_b.slope - 3.0 * (at_a.value - at_b.value) / (a - b);
    let square = d1 * d1 - at_a.slope * at_b.slope;
    let d2 = (b - a).signum() * square.max(0.0).sqrt();
    let found = b - (b - a) * (at_b.slope + d2 - d1) / (at_b.slope - at_a.slope + 2.0 * d2);
    let margin = 0.1 * (b - a).abs();
    match found.is_finite() && square >= 0.0 {
        true => found.clamp(a.min(b) + margin, a.max(b) - margin),
        false => middle,
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn largest(a: &[f64]) -> f64 {
    a.iter().fold(0.0, |most, a| most.max(a.abs()))
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    to.iter_mut()
        .zip(what)
        .for_each(|(to, x)| *to += factor * x);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const LIMIT: Limit = Limit {
        gradient: 1e-9,
        iterations: 500,
    };

    #[test]
    fn it_finds_the_bottom_of_a_bent_valley() {
        // Rosenbrock's function in ten dimensions, from its usual start.
        let mut calls = 0;
        let mut x = [-1.2, 1.0].repeat(5);
        let minimum = minimise::<Infallible>(&mut x, LIMIT, |x, gradient| {
            calls += 1;
            gradient.fill(0.0);
            let mut value = 0.0;
            for i in 0..x.len() - 1 {
                let (bend, off) = (x[i + 1] - x[i] * x[i], 1.0 - x[i]);
                value += 100.0 * bend * bend + off * off;
                gradient[i] += -400.0 * x[i] * bend - 2.0 * off;
                gradient[i + 1] += 200.0 * bend;
            }
            Ok(value)
        });
        let minimum = minimum.unwrap();
        assert!(
            minimum.value < 1e-15 && minimum.gradient <= 1e-9,
            "{minimum:?}"
        );
        assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-8), "{x:?}");
        assert!(calls < 150, "{calls}");
    }

    #[test]
    fn axes_of_a_million_to_one_take_about_a_hundred_steps() {
        let scales: Vec<f64> = (0..7).map(|i| 10f64.powi(i - 3)).collect();
        let mut x = vec![1.0; 7];
        let minimum = minimise::<Infallible>(&mut x, LIMIT, |x, gradient| {
            let terms = x.iter().zip(&scales).zip(gradient);
            Ok(terms
                .map(|((x, scale), gradient)| {
                    *gradient = scale * x;
                    0.5 * scale * x * x
                })
                .sum())
        });
        let minimum = minimum.unwrap();
        assert!(
            minimum.gradient <= 1e-9 && minimum.iterations < 120,
            "{minimum:?}"
        );
    }

    #[test]
    fn steps_meet_the_wolfe_conditions() {
        // The slope is that of a function with a flat end, on which a step that is only lower may be far too short.
        let f = |x: &[f64], gradient: &mut [f64]| -> Result<f64, Infallible> {
            gradient[0] = x[0] / (1.0 + x[0] * x[0]).sqrt();
            Ok((1.0 + x[0] * x[0]).sqrt())
        };
        for (x, first) in [(-50.0, 1e-3), (-50.0, 1e3), (3.0, 1.0), (1e-3, 100.0)] {
            let mut gradient = [0.0];
            let value = f(&[x], &mut gradient).unwrap();
            let direction = [-gradient[0]];
            let slope = dot(&direction, &gradient);
            let start = Point { value, slope };
            let found = search(&mut { f }, &[x], &direction, start, first).unwrap();
            let found = found.unwrap();
            assert!(found.value <= value + ARMIJO * found.length * slope);
            let there = dot(&found.gradient, &direction);
            assert!(there.abs() <= -CURVATURE * slope, "{x} {first}: {there}");
        }
    }

    #[test]
    fn an_error_of_the_function_ends_it() {
        let mut left = 5;
        let mut x = [4.0, -3.0];
        let ended = minimise(&mut x, LIMIT, |x, gradient| {
            left -= 1;
            gradient.copy_from_slice(&[4.0 * x[0].powi(3), x[1]]);
            (left > 0)
                .then_some(x[0].powi(4) + 0.5 * x[1] * x[1])
                .ok_or("stopped")
        });
        assert_eq!(ended, Err("stopped"));
    }
}

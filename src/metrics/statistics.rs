//! Intervals of shares and means, and whether two classifiers differ.

use serde::Serialize;

/// 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// 95 % interval of the share `hits / n` (Wilson 1927); (0, 1) for `n` = 0.
pub fn wilson(hits: u64, n: u64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let z2 = Z * Z;
    let centre = p + z2 / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // Exactly 0 and 1 where rounding would give 0.9999999999999999.
    let low = if hits == 0 {
        0.0
    } else {
        (centre - half) / scale
    };
    let high = if p == 1.0 {
        1.0
    } else {
        (centre + half) / scale
    };
    (low, high)
}

/// A comparison of two classifiers on the same pictures (McNemar 1947).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Number of pictures that only the first classifies correctly.
    pub only_a: u64,
    /// Number of pictures that only the second classifies correctly.
    pub only_b: u64,
    /// χ² with continuity correction (Edwards 1948); `None` where the exact test is used.
    pub statistic: Option<f64>,
    /// Two-sided probability of a difference at least this large if both were equally good.
    pub p_value: f64,
}

/// McNemar's test: exact below 25 discordant pictures, χ² with one degree of freedom from there on.
///
/// # Shapes
///
/// `a`, `b`: `[n]`, whether each classifier is right on each picture ([`correct`](super::correct)).
pub fn mcnemar(a: &[bool], b: &[bool]) -> McNemar {
    let count =
        |x: bool, y: bool| a.iter().zip(b).filter(|&(&p, &q)| p == x && q == y).count() as u64;
    let (only_a, only_b) = (count(true, false), count(false, true));
    let n = only_a + only_b;
    if n < 25 {
        return McNemar {
            only_a,
            only_b,
            statistic: None,
            p_value: exact(only_a.min(only_b), n),
        };
    }
    let distance = (only_a.abs_diff(only_b) as f64 - 1.0).max(0.0);
    let statistic = distance * distance / n as f64;
    McNemar {
        only_a,
        only_b,
        statistic: Some(statistic),
        // χ² with one degree of freedom is the square of a standard normal variable.
        p_value: libm::erfc((statistic / 2.0).sqrt()),
    }
}

/// Two-sided binomial test: probability of at most `low` or at least `n − low` of `n`, at probability 1/2.
fn exact(low: u64, n: u64) -> f64 {
    let mut term = 0.5f64.powi(n as i32);
    let mut sum = 0.0;
    for i in 0..=low {
        sum += term;
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    (2.0 * sum).min(1.0)
}

/// Mean of a figure over several seeds, and its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeanInterval {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation; 0 for one value.
    pub std: f64,
    /// 95 % interval of the mean (Student 1908); the value itself for one value.
    pub interval: (f64, f64),
}

/// Mean, sample standard deviation and Student's 95 % interval.
pub fn mean_std_interval(values: &[f64]) -> MeanInterval {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    if n < 2 {
        return MeanInterval {
            mean,
            std: 0.0,
            interval: (mean, mean),
        };
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let std = variance.sqrt();
    let half = student_975(n - 1) * std / (n as f64).sqrt();
    MeanInterval {
        mean,
        std,
        interval: (mean - half, mean + half),
    }
}

/// 97.5 % point of Student's t distribution.
fn student_975(degrees: usize) -> f64 {
    const TABLE: [f64; 10] = [
        12.706_2, 4.302_65, 3.182_45, 2.776_45, 2.570_58, 2.446_91, 2.364_62, 2.306_00, 2.262_16,
        2.228_14,
    ];
    if let Some(value) = degrees.checked_sub(1).and_then(|i| TABLE.get(i)) {
        return *value;
    }
    // Cornish-Fisher expansion: four digits from eleven degrees of freedom on.
    let (v, z) = (degrees as f64, Z);
    z + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_as_in_the_tables() {
        let (lo, hi) = wilson(8, 10);
        assert!(
            (lo - 0.490_16).abs() < 1e-5 && (hi - 0.943_32).abs() < 1e-5,
            "{lo} {hi}"
        );
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        assert_eq!(wilson(10, 10).1, 1.0);
    }

    #[test]
    fn mcnemar_as_in_the_tables() {
        let make = |only_a: usize, only_b: usize, both: usize| {
            let mut a = vec![true; only_a];
            a.extend(vec![false; only_b]);
            a.extend(vec![true; both]);
            let mut b = vec![false; only_a];
            b.extend(vec![true; only_b]);
            b.extend(vec![true; both]);
            mcnemar(&a, &b)
        };
        // χ² = (|59 − 16| − 1)² / 75 = 23.52.
        let large = make(59, 16, 3);
        assert!((large.statistic.unwrap_or_default() - 23.52).abs() < 1e-9);
        assert!(
            (large.p_value / 1.236e-6 - 1.0).abs() < 5e-3,
            "{}",
            large.p_value
        );
        // Two of ten, both sides: 2·(1 + 10 + 45)/1024.
        let small = make(2, 8, 0);
        assert!((small.p_value - 0.109_375).abs() < 1e-12);
        assert_eq!(make(0, 0, 5).p_value, 1.0);
    }

    #[test]
    fn erfc_as_in_the_tables() {
        use libm::erfc;
        for (x, want) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122),
            (1.0, 0.157_299_207),
            (2.0, 0.004_677_735),
            (3.5, 7.430_983_7e-7),
        ] {
            assert!((erfc(x) / want - 1.0).abs() < 1e-7, "{x}: {}", erfc(x));
        }
    }

    #[test]
    fn student_as_in_the_tables() {
        let three = mean_std_interval(&[1.0, 2.0, 3.0]);
        assert_eq!((three.mean, three.std), (2.0, 1.0));
        assert!((three.interval.1 - (2.0 + 4.302_65 / 3f64.sqrt())).abs() < 1e-6);
        for (degrees, value) in [(11, 2.200_99), (20, 2.085_96), (60, 2.000_30)] {
            assert!((student_975(degrees) - value).abs() < 2e-4, "{degrees}");
        }
        assert_eq!(mean_std_interval(&[0.7]).interval, (0.7, 0.7));
    }
}

//! The strength of the penalty, chosen along a path from strong to weak.

use burn::tensor::Device;

use super::lbfgs::{Limit, minimise};
use super::regression::{Judged, Rows, Scale};
use crate::stop::Stop;

/// How many strengths are tried at most: two a decade, from 100 to 10⁻⁶.
pub const TRIED: usize = 17;

/// The strongest, as a power of ten.
const STRONGEST: f64 = 2.0;
const PER_DECADE: f64 = 2.0;

/// The path ends where validation has not improved for two decades.
const PATIENCE: usize = 4;

/// Folds of a cross-validation.
const FOLDS: usize = 5;

/// What is enough on the path, and for what is kept.
const ON_THE_PATH: Limit = Limit {
    gradient: 1e-5,
    iterations: 300,
};
const FINAL: Limit = Limit {
    gradient: 1e-6,
    iterations: 1000,
};

/// Features with the classes of their pictures.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// `[n, D]`, row by row.
    pub features: &'a [f32],
    /// `[n]`.
    pub labels: &'a [usize],
}

/// How a probe is fitted.
#[derive(Debug, Clone, Copy)]
pub struct ProbeOptions<'a> {
    /// D.
    pub width: usize,
    /// K.
    pub classes: usize,
    /// Consecutive rows that are views of one picture, which stay together.
    pub views: usize,
    /// Computes the products.
    pub device: &'a Device,
}

/// One strength, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// Strength of the penalty: mean cross-entropy + l2/2·‖weights of standardised features‖² is minimised.
    pub l2: f64,
    /// Mean cross-entropy of the training rows, in nats, without the penalty.
    pub train_loss: f64,
    /// On validation: mean cross-entropy in nats; shares of right answers.
    pub val_loss: f64,
    /// Top-1.
    pub top1: f64,
    /// Top-5; `None` below six classes.
    pub top5: Option<f64>,
}

/// What the strength was chosen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// The validation pictures.
    Validation,
    /// Folds of the training pictures, each held out in turn.
    Folds,
}

/// A fitted probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// For features as they are, `[D, K]`, row by row.
    pub weight: Vec<f32>,
    /// `[K]`.
    pub bias: Vec<f32>,
    /// Every strength that was tried, strongest first.
    pub tried: Vec<Tried>,
    /// The one that was kept, an index.
    pub best: usize,
    /// What it was chosen on.
    pub chosen_on: Chosen,
    /// Iterations of the last minimisation, and its value and largest component of the gradient.
    pub iterations: usize,
    /// Mean cross-entropy with the penalty.
    pub objective: f64,
}

/// Fits multinomial logistic regression on standardised features. The strength of its L2 penalty is the one with the
/// lowest cross-entropy on `val`, and without that, on folds of `train`; biases are not penalised.
///
/// `each` is called with every strength that was tried, and whether it is the best so far.
///
/// Returns `None` where it was stopped.
///
/// # Panics
///
/// Without a training row.
pub fn fit(
    train: Labelled<'_>,
    val: Option<Labelled<'_>>,
    options: ProbeOptions<'_>,
    stop: &Stop,
    each: &mut dyn FnMut(usize, &Tried, bool),
) -> Option<Probe> {
    let ProbeOptions { classes, width, .. } = options;
    let all: Vec<usize> = (0..train.labels.len()).collect();
    assert!(!all.is_empty(), "a probe needs rows");
    let scale = Scale::of(train.features.chunks(width), width);
    let rows = |of: Labelled<'_>, indices: &[usize], scale: &Scale| {
        let Labelled { features, labels } = of;
        Rows::new(features, labels, indices, scale, classes, options.device)
    };
    let whole = rows(train, &all, &scale);
    let mut paths: Vec<Path> = Vec::new();
    let chosen_on = match val {
        Some(val) => {
            let indices: Vec<usize> = (0..val.labels.len()).collect();
            let judges = rows(val, &indices, &scale);
            paths.push(Path::new(None, judges));
            Chosen::Validation
        }
        None => {
            for fold in folds(train.labels, classes, options.views) {
                let held: Vec<usize> = fold.iter().step_by(options.views).copied().collect();
                let mut is_held = vec![false; all.len()];
                fold.iter().for_each(|&i| is_held[i] = true);
                let rest: Vec<usize> = all.iter().copied().filter(|&i| !is_held[i]).collect();
                let of_rest = rest.iter().map(|&i| &train.features[i * width..][..width]);
                let scale = Scale::of(of_rest, width);
                let learns = rows(train, &rest, &scale);
                paths.push(Path::new(Some(learns), rows(train, &held, &scale)));
            }
            Chosen::Folds
        }
    };
    // Of what is kept in the end; without validation it follows the folds.
    let mut parameters = vec![0.0; whole.parameters()];
    let mut tried: Vec<Tried> = Vec::new();
    let (mut best, mut kept) = (0, Vec::new());
    for step in 0..TRIED {
        let l2 = 10f64.powf(STRONGEST - step as f64 / PER_DECADE);
        descend(&whole, &mut parameters, l2, ON_THE_PATH, stop)?;
        let mut judged: Vec<(Judged, f64)> = Vec::new();
        for path in &mut paths {
            judged.push((path.step(l2, &parameters, stop)?, path.judges.len() as f64));
        }
        let pictures: f64 = judged.iter().map(|(_, pictures)| pictures).sum();
        let mean = |of: fn(&Judged) -> f64| {
            let sums = judged.iter().map(|(judged, n)| of(judged) * n);
            sums.sum::<f64>() / pictures.max(1.0)
        };
        let one = Tried {
            l2,
            train_loss: whole.judge(&parameters).loss,
            val_loss: mean(|judged| judged.loss),
            top1: mean(|judged| judged.top1),
            top5: (classes > 5).then(|| mean(|judged| judged.top5)),
        };
        let is_best = tried.is_empty() || one.val_loss < tried[best].val_loss;
        if is_best {
            (best, kept) = (step, parameters.clone());
        }
        each(step, &one, is_best);
        tried.push(one);
        if step - best >= PATIENCE {
            break;
        }
    }
    let last = descend(&whole, &mut kept, tried[best].l2, FINAL, stop)?;
    let (weight, bias) = scale.fold(&kept, classes);
    Some(Probe {
        weight,
        bias,
        best,
        chosen_on,
        iterations: last.0,
        objective: last.1,
        tried,
    })
}

/// One course of parameters along the path, and the rows that judge it.
struct Path {
    /// Its own rows and parameters, in a fold.
    own: Option<(Rows, Vec<f64>)>,
    judges: Rows,
}

impl Path {
    fn new(learns: Option<Rows>, judges: Rows) -> Self {
        let own = learns.map(|rows| {
            let parameters = vec![0.0; rows.parameters()];
            (rows, parameters)
        });
        Self { own, judges }
    }

    /// How good the next strength is, where `whole` are the parameters of all rows; `None` where it was stopped.
    fn step(&mut self, l2: f64, whole: &[f64], stop: &Stop) -> Option<Judged> {
        let parameters = match &mut self.own {
            None => whole,
            Some((rows, parameters)) => {
                descend(rows, parameters, l2, ON_THE_PATH, stop)?;
                parameters
            }
        };
        Some(self.judges.judge(parameters))
    }
}

/// Minimises from where `parameters` are; iterations and value, or `None` where it was stopped.
fn descend(
    rows: &Rows,
    parameters: &mut [f64],
    l2: f64,
    limit: Limit,
    stop: &Stop,
) -> Option<(usize, f64)> {
    let ended = minimise(parameters, limit, |at, gradient| {
        match stop.is_requested() {
            true => Err(()),
            false => Ok(rows.loss(at, l2, gradient)),
        }
    });
    ended.ok().map(|end| (end.iterations, end.value))
}

/// Rows of each fold: the pictures of every class go round the folds in turn, so that each fold has its share of them.
fn folds(labels: &[usize], classes: usize, views: usize) -> Vec<Vec<usize>> {
    let mut folds = vec![Vec::new(); FOLDS];
    let mut next = 0;
    for class in 0..classes {
        for picture in (0..labels.len() / views).filter(|p| labels[p * views] == class) {
            folds[next % FOLDS].extend(picture * views..(picture + 1) * views);
            next += 1;
        }
    }
    // One picture alone is in every fold's rest but its own, which would be empty.
    folds.retain(|fold| !fold.is_empty() && fold.len() < labels.len());
    folds
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::regression::tests::noise;
    use super::*;

    const WIDTH: usize = 7;
    const CLASSES: usize = 3;

    /// Clouds around a mean for each class, and some noise.
    fn clouds(n: usize, seed: u64) -> (Vec<f32>, Vec<usize>) {
        let means = noise(CLASSES * WIDTH, 99);
        let mut features = noise(n * WIDTH, seed);
        let labels: Vec<usize> = (0..n).map(|i| (i * 7 + i / 3) % CLASSES).collect();
        for (row, label) in features.chunks_mut(WIDTH).zip(&labels) {
            let mean = &means[label * WIDTH..][..WIDTH];
            row.iter_mut()
                .zip(mean)
                .for_each(|(x, m)| *x = 3.0 * *x + m);
        }
        (features, labels)
    }

    fn fitted(n: usize, val: Option<usize>, stop: &Stop) -> Option<Probe> {
        let device = Device::flex();
        let options = ProbeOptions {
            width: WIDTH,
            classes: CLASSES,
            views: 1,
            device: &device,
        };
        let (train, val) = (clouds(n, 1), val.map(|n| clouds(n, 2)));
        let labelled = |of: &'_ (Vec<f32>, Vec<usize>)| -> Labelled<'static> {
            let (features, labels) = of.clone();
            Labelled {
                features: features.leak(),
                labels: labels.leak(),
            }
        };
        let mut seen = 0;
        let mut each = |step: usize, tried: &Tried, _| {
            assert_eq!(step, seen);
            assert!(tried.train_loss.is_finite() && tried.val_loss.is_finite());
            seen += 1;
        };
        fit(
            labelled(&train),
            val.as_ref().map(labelled),
            options,
            stop,
            &mut each,
        )
    }

    #[test]
    fn the_strength_with_the_lowest_loss_on_validation_is_kept() {
        let probe = fitted(61, Some(200), &Stop::default()).unwrap();
        assert_eq!(probe.chosen_on, Chosen::Validation);
        let losses: Vec<f64> = probe.tried.iter().map(|tried| tried.val_loss).collect();
        let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!(losses[probe.best], lowest);
        // Neither end of the path: too strong says nothing, too weak knows by heart.
        assert!(
            probe.best > 0 && probe.best + 1 < probe.tried.len(),
            "{losses:?}"
        );
        assert!(probe.tried.len() < TRIED);
        let train = probe.tried.iter().map(|tried| tried.train_loss);
        assert!(train.clone().zip(train.skip(1)).all(|(a, b)| a >= b));
        assert_eq!((probe.weight.len(), probe.bias.len()), (21, 3));
    }

    #[test]
    fn without_validation_folds_choose_and_all_rows_are_fitted() {
        let probe = fitted(61, None, &Stop::default()).unwrap();
        assert_eq!(probe.chosen_on, Chosen::Folds);
        let with = fitted(61, Some(200), &Stop::default()).unwrap();
        // The same rows at the same strength give the same parameters.
        let (a, b) = (probe.tried[4], with.tried[4]);
        assert_eq!((a.l2, a.train_loss), (b.l2, b.train_loss));
        assert!(
            probe.best.abs_diff(with.best) <= 3,
            "{} {}",
            probe.best,
            with.best
        );
        // So few that some folds are empty, and one picture alone.
        assert!(fitted(3, None, &Stop::default()).is_some());
        assert!(fitted(1, None, &Stop::default()).is_some());
    }

    #[test]
    fn folds_share_every_class_and_keep_views_together() {
        let labels: Vec<usize> = (0..23).flat_map(|i| [i % 2; 2]).collect();
        let folds = folds(&labels, 2, 2);
        let mut all: Vec<usize> = folds.concat();
        all.sort_unstable();
        assert_eq!(all, (0..46).collect::<Vec<_>>());
        for fold in &folds {
            assert!(
                fold.chunks(2)
                    .all(|two| two[0] % 2 == 0 && two[1] == two[0] + 1)
            );
            let ones = fold.iter().filter(|&&i| labels[i] == 1).count();
            assert!((4..=6).contains(&ones), "{folds:?}");
        }
    }

    #[test]
    fn a_request_to_stop_is_heeded() {
        let stop = Stop::default();
        stop.request();
        assert_eq!(fitted(20, None, &stop), None);
    }
}

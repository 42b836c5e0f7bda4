//! What a low accuracy comes from, in words, and what to try.

use std::path::Path;

use super::shell::{program, quoted};
use crate::report::text;
use crate::run::Finding;

/// Names of classes that are listed, at most.
const NAMES: usize = 8;

/// What can be tried depends on where the figures are from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tried<'a> {
    /// The run or weights file, where `calibrate` can be told of it.
    pub weights: Option<&'a Path>,
    /// Whether they end a training, whose settings can be changed.
    pub trained: bool,
    /// Whether it started from trained weights.
    pub started: bool,
}

/// One line per finding.
pub(super) fn lines(findings: &[Finding], tried: Tried<'_>) -> String {
    let short = findings
        .iter()
        .any(|finding| matches!(finding, Finding::FewPasses { .. }));
    findings
        .iter()
        .map(|finding| format!("hint:     {}\n", words(finding, tried, short)))
        .collect()
}

/// A finding and what to try; where the training was short, nothing else is worth trying first.
fn words(finding: &Finding, tried: Tried<'_>, short: bool) -> String {
    let start = match tried.started {
        true => "",
        false => ", or start from weights that have learned (--init cifar10-vit)",
    };
    match finding {
        Finding::AtChance {
            class,
            share,
            pictures,
            above,
            epochs,
        } => {
            let mut said = match above {
                false => format!(
                    "no better than answering {class:?} every time ({:.1} %)",
                    100.0 * share
                ),
                true => format!(
                    "not clearly better than answering {class:?} every time ({:.1} %), as far as {pictures} \
                     pictures can tell",
                    100.0 * share
                ),
            };
            if *epochs > 1 {
                said += &format!("; validation stood at exactly that for the last {epochs} epochs");
            }
            if tried.trained && !short {
                said += &format!(": try a lower --lr{start}");
            }
            said
        }
        Finding::NeverPredicted { classes, of, only } => match only {
            Some(only) => {
                format!("every answer is {only:?}: none of the other classes is ever predicted")
            }
            None => {
                let mut names: Vec<String> = classes
                    .iter()
                    .take(NAMES)
                    .map(|c| format!("{c:?}"))
                    .collect();
                if classes.len() > NAMES {
                    names.push(format!("{} more", classes.len() - NAMES));
                }
                format!(
                    "never predicted: {} ({} of {of} classes); more epochs or more pictures of them may help",
                    names.join(", "),
                    classes.len()
                )
            }
        },
        Finding::FewPasses { epochs_seen } => format!(
            "it saw each training picture {} on average, which is little: try more time (--time, --epochs){start}",
            times(*epochs_seen)
        ),
        Finding::StillFalling {
            epochs,
            from,
            to,
            until,
        } => format!(
            "validation loss was still falling {} ({from:.3} to {to:.3} within {}): try a larger budget (--time, \
             --epochs)",
            match until {
                None => "at the end".to_owned(),
                Some(epoch) => format!("when the learning rate had come to half, at epoch {epoch}"),
            },
            match epochs {
                1 => "an epoch".to_owned(),
                n => format!("{n} epochs"),
            }
        ),
        Finding::Overfitting {
            epoch,
            lowest,
            last,
        } => format!(
            "validation loss rose from {lowest:.3} (epoch {epoch}) to {last:.3}, so it learns its own pictures by \
             heart: try more pictures, stronger augmentation{start}"
        ),
        Finding::NotAboveStart { score, reached } => format!(
            "no epoch did better on validation than the fitted head that the training started from ({} against {}), so \
             that is what is kept: try more time, or --probe, which gives the same in seconds",
            text::percent(*reached),
            text::percent(*score)
        ),
        Finding::Overrun {
            used_s,
            budget_s,
            update_s,
        } => format!(
            "it took {} of a budget of {}, as one update takes {}: try a smaller batch (-b), smaller pictures \
             (--image-size) or more time",
            text::seconds(*used_s),
            text::seconds(*budget_s),
            text::seconds(*update_s)
        ),
        Finding::Miscalibrated { ece, on_folds } => {
            let what = match tried.weights {
                Some(path) => format!("`{} calibrate {}`", program(), quoted(path)),
                None => "`vitrine calibrate`".to_owned(),
            };
            format!(
                "its probabilities are off (calibration error {ece:.3}): {what} would make that about {on_folds:.3}"
            )
        }
    }
}

/// `0.28 times`, `once`, `twice`, `2.5 times`.
fn times(passes: f64) -> String {
    match passes {
        p if (p - 1.0).abs() < 0.005 => "once".to_owned(),
        p if (p - 2.0).abs() < 0.005 => "twice".to_owned(),
        p => format!("{p:.2} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_one_line_that_says_what_to_try() {
        let class = || "hat".to_owned();
        let all = [
            Finding::AtChance {
                class: class(),
                share: 0.238,
                pictures: 460,
                above: false,
                epochs: 4,
            },
            Finding::NeverPredicted {
                classes: (0..10).map(|i| format!("c{i}")).collect(),
                of: 12,
                only: None,
            },
            Finding::StillFalling {
                epochs: 2,
                from: 1.9,
                to: 1.6,
                until: Some(8),
            },
            Finding::Miscalibrated {
                ece: 0.227,
                on_folds: 0.085,
            },
            Finding::NotAboveStart {
                score: 0.84,
                reached: 0.787,
            },
        ];
        let tried = Tried {
            weights: Some(Path::new("my run")),
            trained: true,
            started: false,
        };
        let said = lines(&all, tried);
        let said: Vec<&str> = said.lines().collect();
        assert_eq!(
            said[0],
            "hint:     no better than answering \"hat\" every time (23.8 %); validation stood at exactly that for the \
             last 4 epochs: try a lower --lr, or start from weights that have learned (--init cifar10-vit)"
        );
        assert!(
            said[1].contains("\"c7\", 2 more (10 of 12 classes)"),
            "{}",
            said[1]
        );
        assert!(
            said[2].contains(
                "had come to half, at epoch 8 (1.900 to 1.600 within 2 epochs): try a larger budget"
            ),
            "{}",
            said[2]
        );
        assert!(
            said[3].contains("calibrate 'my run'` would make that about 0.085"),
            "{}",
            said[3]
        );
        assert!(
            said[4].contains("(78.7 % against 84.0 %), so that is what is kept: try more time"),
            "{}",
            said[4]
        );
        assert_eq!(said.len(), all.len());
        // After a short training, time comes first, and trained weights are not named twice.
        let short = [all[0].clone(), Finding::FewPasses { epochs_seen: 0.28 }];
        let started = Tried {
            started: true,
            ..Tried::default()
        };
        let said = lines(&short, started);
        assert!(!said.contains("--lr") && !said.contains("--init"), "{said}");
        assert!(said.contains("0.28 times on average"), "{said}");
        assert_eq!([times(1.0), times(2.0)], ["once", "twice"]);
    }
}

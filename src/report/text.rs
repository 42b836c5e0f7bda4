//! Results as text: numbers, aligned tables, Markdown.

use crate::metrics::EvalReport;
use crate::names::visible;

/// A fraction as a percentage with one decimal: `84.3 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A fraction with its interval, in percent: `84.3 % [82.6, 85.8]`.
pub(crate) fn percent_interval(share: f64, (low, high): (f64, f64)) -> String {
    format!(
        "{:.1} % [{:.1}, {:.1}]",
        100.0 * share,
        100.0 * low,
        100.0 * high
    )
}

/// A whole number with separated thousands: `1,806,154`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration in readable units: `0.4 s`, `12 m 31 s`, `1 h 05 m`.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} m {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} m"),
    }
}

/// A profile: the parts of a step, then every operation, each with its share of the step's time.
///
/// `parts` are (name, seconds), `operations` (name, seconds, calls). `rate` is the floating-point
/// operations per second of the steps, and of matrix products alone.
pub(crate) fn profile<'a>(
    parts: &[(&'a str, f64)],
    operations: &[(&'a str, f64, u64)],
    rate: Option<(f64, f64)>,
) -> String {
    let whole: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    let share = |seconds: f64| percent(seconds / whole.max(1e-12));
    let mut out = format!("where {} of steps went:\n", seconds(whole));
    for (name, seconds) in parts {
        out += &format!("  {name:28} {:>8}\n", share(*seconds));
    }
    out += "by operation:\n";
    let mut operations = operations.to_vec();
    operations.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (name, seconds, count) in operations {
        let each = 1e3 * seconds / count.max(1) as f64;
        out += &format!("  {name:28} {:>8}  {each:8.2} ms each\n", share(seconds));
    }
    if let Some((reached, limit)) = rate {
        out += &format!(
            "{:.0} GFLOP/s, {} of the {:.0} that products in the cache reach here\n",
            reached / 1e9,
            percent(reached / limit),
            limit / 1e9
        );
    }
    out
}

/// Floating-point operations with a prefix: `246.6 MFLOP`.
pub(crate) fn flops(flops: u64) -> String {
    let mut value = flops as f64;
    for prefix in ["", "k", "M", "G", "T", "P"] {
        if value < 999.95 {
            return match prefix {
                "" => format!("{value:.0} FLOP"),
                _ => format!("{value:.1} {prefix}FLOP"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} EFLOP")
}

/// A table, printed as aligned text or as Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            headings: headings.iter().map(|h| (*h).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, whatever its cells hold on one line; missing cells are empty.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let mut cells: Vec<String> = cells.iter().map(|cell| visible(cell).into()).collect();
        cells.resize(self.headings.len(), String::new());
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Columns aligned with spaces, numbers to the right and words to the left; empty without rows.
    pub(crate) fn text(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let columns = self.headings.len();
        let right: Vec<bool> = (0..columns).map(|c| self.is_numeric(c)).collect();
        let width: Vec<usize> = (0..columns)
            .map(|c| {
                self.cells(c)
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let line = |cells: &[String]| {
            let mut out = String::new();
            for (c, cell) in cells.iter().enumerate() {
                let gap = " ".repeat(width[c] - cell.chars().count());
                out += if c > 0 { "  " } else { "" };
                out += &if right[c] {
                    gap + cell
                } else {
                    cell.clone() + &gap
                };
            }
            out.trim_end().to_owned() + "\n"
        };
        let mut out = line(&self.headings);
        for row in &self.rows {
            out += &line(row);
        }
        out
    }

    /// A Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = String>| {
            let cells: Vec<String> = cells.collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let escape = |cell: &String| cell.replace('|', "\\|");
        let mut out = line(&mut self.headings.iter().map(escape));
        out += &line(
            &mut (0..self.headings.len())
                .map(|c| if self.is_numeric(c) { "---:" } else { "---" }.to_owned()),
        );
        for row in &self.rows {
            out += &line(&mut row.iter().map(escape));
        }
        out
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &String> {
        std::iter::once(&self.headings[column]).chain(self.rows.iter().map(move |r| &r[column]))
    }

    fn is_numeric(&self, column: usize) -> bool {
        let starts = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || c == '–');
        !self.rows.is_empty() && self.rows.iter().all(|r| starts(&r[column]))
    }
}

/// The figures of one split on one line: `val top-1: 84.3 % [82.6, 85.8] on 2,000 pictures, …`.
pub(crate) fn accuracy_line(split: &str, report: &EvalReport) -> String {
    format!(
        "{split} top-1: {} on {} pictures{}, loss {:.4}, calibration error {:.3}",
        percent_interval(report.top1, report.top1_interval),
        count(report.n as u64),
        report
            .majority()
            .map_or(String::new(), |(class, share)| format!(
                " (always {class:?}: {})",
                percent(share)
            )),
        report.loss,
        report.ece,
    )
}

/// The results of an evaluation: metrics, classes, confusions and mistakes.
pub(crate) fn evaluation(report: &EvalReport) -> String {
    let mut out = format!(
        "top-1     {}\n",
        percent_interval(report.top1, report.top1_interval)
    );
    if let (Some(top5), Some(interval)) = (report.top5, report.top5_interval) {
        out += &format!("top-5     {}\n", percent_interval(top5, interval));
    }
    if let Some((class, share)) = report.majority() {
        out += &format!("baseline  {}, always {class:?}\n", percent(share));
    }
    out += &format!("loss      {:.4}\n", report.loss);
    out += &format!("macro F1  {:.4}\n", report.macro_f1);
    out += &format!("ECE       {:.4}\n\n", report.ece);
    let mut classes = Table::new(&["class", "pictures", "precision", "recall", "F1"]);
    let mut has_undefined = false;
    let mut defined = |is_defined: bool, text: String| match is_defined {
        true => text,
        false => {
            has_undefined = true;
            "–".to_owned()
        }
    };
    for (i, c) in report.per_class.iter().enumerate() {
        let has_pictures = c.support > 0;
        let is_answered = report.confusion.iter().any(|row| row[i] > 0);
        classes.row(vec![
            c.label.clone(),
            count(c.support),
            defined(is_answered, percent(c.precision)),
            defined(has_pictures, percent(c.recall)),
            defined(has_pictures || is_answered, format!("{:.3}", c.f1)),
        ]);
    }
    out += &classes.text();
    if has_undefined {
        out += "–: undefined, as no picture here is of the class (recall) or none was taken for it (precision)\n";
    }
    if !report.most_confused.is_empty() {
        let mut pairs = Table::new(&["most confused", "taken for", "times"]);
        for p in &report.most_confused {
            pairs.row(vec![p.label.clone(), p.predicted.clone(), count(p.count)]);
        }
        out += &format!("\n{}", pairs.text());
    }
    if !report.mistakes.is_empty() {
        let mut worst = Table::new(&["worst mistakes", "is", "taken for", "with"]);
        for m in report.mistakes.iter().take(10) {
            worst.row(vec![
                m.name.clone(),
                m.label.clone(),
                m.predicted.clone(),
                percent(m.prob),
            ]);
        }
        out += &format!("\n{}", worst.text());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::evaluate;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1_806_154), "1,806,154");
        assert_eq!(count(154), "154");
        assert_eq!(percent(0.8431), "84.3 %");
        assert_eq!(percent_interval(0.5, (0.25, 1.0)), "50.0 % [25.0, 100.0]");
        assert_eq!(flops(246_550_272), "246.6 MFLOP");
        assert_eq!(flops(999), "999 FLOP");
        for (s, want) in [
            (0.44, "0.4 s"),
            (59.6, "1 m 00 s"),
            (751.0, "12 m 31 s"),
            (3900.0, "1 h 05 m"),
        ] {
            assert_eq!(seconds(s), want);
        }
    }

    #[test]
    fn what_is_undefined_is_a_dash_with_its_reason() {
        let classes = ["cat", "dog", "emu"].map(str::to_owned);
        let names = ["0", "1"].map(str::to_owned);
        // Two dogs, one taken for a cat; no emu anywhere.
        let logits = [0.0, 2.0, 0.0, 2.0, 0.0, 0.0];
        let text = evaluation(&evaluate(&logits, &[1, 1], &names, &classes));
        let of = |class: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(class))
                .unwrap_or("");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("cat"), "cat 0 0.0 % – 0.000");
        assert_eq!(of("dog"), "dog 2 100.0 % 50.0 % 0.667");
        assert_eq!(of("emu"), "emu 0 – – –");
        assert!(text.contains("–: undefined"), "{text}");
        let all = evaluation(&evaluate(&logits[..3], &[1], &names[..1], &classes[..]));
        assert!(all.contains("–: undefined"));
        let two = evaluation(&evaluate(
            &[1.0, 0.0, 0.0, 1.0],
            &[0, 1],
            &names,
            &classes[..2],
        ));
        assert!(!two.contains('–'), "{two}");
    }

    #[test]
    fn tables_align() {
        let mut table = Table::new(&["model", "images/s"]);
        table.row(vec!["vit".into(), "1,000".into()]);
        table.row(vec!["resnet9".into(), "90".into()]);
        assert_eq!(
            table.text(),
            "model    images/s\nvit         1,000\nresnet9        90\n"
        );
        assert_eq!(
            table.markdown(),
            "| model | images/s |\n| --- | ---: |\n| vit | 1,000 |\n| resnet9 | 90 |\n"
        );
    }
}

//! Results as text: numbers, aligned tables, Markdown.

use unicode_width::UnicodeWidthStr;

use crate::metrics::EvalReport;
use crate::names::{marked_up, visible};

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

/// How many pictures: `1 picture`, `2,000 pictures`.
pub(crate) fn pictures(number: usize) -> String {
    let noun = if number == 1 { "picture" } else { "pictures" };
    format!("{} {noun}", count(number as u64))
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
    what: &str,
    parts: &[(&'a str, f64)],
    operations: &[(&'a str, f64, u64)],
    rate: Option<(f64, f64)>,
) -> String {
    let whole: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    let share = |seconds: f64| percent(seconds / whole.max(1e-12));
    let mut out = format!("where {} of {what} went:\n", seconds(whole));
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

/// Between two columns.
const GAP: &str = "  ";

/// `text` in lines of at most `width` columns, broken between words; a longer word stays whole.
fn broken(text: &str, width: usize) -> Vec<String> {
    if text.width() <= width {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
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

    /// The table as text in lines of at most `limit` columns where its longest words allow it; empty
    /// without rows.
    ///
    /// Columns are aligned with spaces, numbers to the right and words to the left. Where they do not
    /// fit, headings and words are broken into several lines; where that is not enough, each row
    /// becomes a list.
    pub(crate) fn text(&self, limit: usize) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        match self.widths(limit) {
            Some(widths) => self.aligned(&widths),
            None => self.listed(limit),
        }
    }

    /// Widths of the columns that fit into `limit`, if any do.
    fn widths(&self, limit: usize) -> Option<Vec<usize>> {
        let columns = 0..self.headings.len();
        let gaps = GAP.len() * (self.headings.len() - 1);
        let widest = |c: usize| self.cells(c).map(|cell| cell.width()).max().unwrap_or(0);
        let mut widths: Vec<usize> = columns.clone().map(widest).collect();
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + gaps;
        if total(&widths) <= limit {
            return Some(widths);
        }
        let word = |text: &String| text.split(' ').map(UnicodeWidthStr::width).max();
        let least = |c: usize| {
            let heading = word(&self.headings[c]).unwrap_or(0);
            let of_cell = |row: &Vec<String>| match self.is_numeric(c) {
                true => row[c].width(),
                false => word(&row[c]).unwrap_or(0),
            };
            self.rows.iter().map(of_cell).fold(heading, usize::max)
        };
        let least: Vec<usize> = columns.map(least).collect();
        while total(&widths) > limit {
            let shrinks = |&c: &usize| widths[c] > least[c];
            let widest = (0..widths.len())
                .filter(shrinks)
                .max_by_key(|&c| widths[c])?;
            widths[widest] -= 1;
        }
        Some(widths)
    }

    fn aligned(&self, widths: &[usize]) -> String {
        let right: Vec<bool> = (0..widths.len()).map(|c| self.is_numeric(c)).collect();
        let mut out = String::new();
        for row in std::iter::once(&self.headings).chain(&self.rows) {
            let cells: Vec<Vec<String>> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| broken(cell, *width))
                .collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(0);
            for n in 0..height {
                let mut line = String::new();
                for (c, cell) in cells.iter().enumerate() {
                    let cell = cell.get(n).map_or("", String::as_str);
                    let gap = " ".repeat(widths[c].saturating_sub(cell.width()));
                    line += if c > 0 { GAP } else { "" };
                    line += &match right[c] {
                        true => gap + cell,
                        false => cell.to_owned() + &gap,
                    };
                }
                out += line.trim_end();
                out.push('\n');
            }
        }
        out
    }

    /// Each row as a list of its cells, a heading before each.
    fn listed(&self, limit: usize) -> String {
        let heading = self.headings.iter().map(|h| h.width()).max().unwrap_or(0);
        let mut rows = Vec::new();
        for row in &self.rows {
            let mut out = String::new();
            for (c, (name, cell)) in self.headings.iter().zip(row).enumerate() {
                if cell.is_empty() {
                    continue;
                }
                let room = match self.is_numeric(c) && cell.split(' ').count() == 2 {
                    // A number stays beside its unit.
                    true => cell.width(),
                    false => limit.saturating_sub(heading + GAP.len()),
                };
                let gap = " ".repeat(heading - name.width());
                for (n, line) in broken(cell, room).iter().enumerate() {
                    out += &match n {
                        0 => format!("{name}{gap}{GAP}{line}\n"),
                        _ => format!("{}{GAP}{line}\n", " ".repeat(heading)),
                    };
                }
            }
            rows.push(out);
        }
        rows.join("\n")
    }

    /// A Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = String>| {
            let cells: Vec<String> = cells.collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let escape = |cell: &String| marked_up(cell);
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

/// The results of an evaluation, in lines of at most `limit` columns: metrics, classes, confusions and
/// mistakes.
pub(crate) fn evaluation(report: &EvalReport, limit: usize) -> String {
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
    for (c, answers) in report.per_class.iter().zip(report.confusion.answered()) {
        let (has_pictures, is_answered) = (c.support > 0, answers > 0);
        classes.row(vec![
            c.label.clone(),
            count(c.support),
            defined(is_answered, percent(c.precision)),
            defined(has_pictures, percent(c.recall)),
            defined(has_pictures || is_answered, format!("{:.3}", c.f1)),
        ]);
    }
    out += &classes.text(limit);
    if has_undefined {
        out += "–: undefined, as no picture here is of the class (recall) or none was taken for it (precision)\n";
    }
    if !report.most_confused.is_empty() {
        let mut pairs = Table::new(&["most confused", "taken for", "times"]);
        for p in &report.most_confused {
            pairs.row(vec![p.label.clone(), p.predicted.clone(), count(p.count)]);
        }
        out += &format!("\n{}", pairs.text(limit));
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
        out += &format!("\n{}", worst.text(limit));
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
        assert_eq!(
            [pictures(1), pictures(2_000)],
            ["1 picture", "2,000 pictures"]
        );
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
        let text = evaluation(&evaluate(&logits, &[1, 1], &names, &classes), usize::MAX);
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
        let all = evaluation(
            &evaluate(&logits[..3], &[1], &names[..1], &classes[..]),
            usize::MAX,
        );
        assert!(all.contains("–: undefined"));
        let two = evaluation(
            &evaluate(&[1.0, 0.0, 0.0, 1.0], &[0, 1], &names, &classes[..2]),
            usize::MAX,
        );
        assert!(!two.contains('–'), "{two}");
    }

    #[test]
    fn tables_align() {
        let mut table = Table::new(&["model", "images/s"]);
        table.row(vec!["vit".into(), "1,000".into()]);
        table.row(vec!["resnet9".into(), "90".into()]);
        assert_eq!(
            table.text(usize::MAX),
            "model    images/s\nvit         1,000\nresnet9        90\n"
        );
        assert_eq!(
            table.markdown(),
            "| model | images/s |\n| --- | ---: |\n| vit | 1,000 |\n| resnet9 | 90 |\n"
        );
    }

    #[test]
    fn a_table_that_is_too_wide_breaks_words_apart_or_becomes_a_list() {
        let mut table = Table::new(&["class", "pictures", "top-1, mean ± std"]);
        let row =
            |class: &str, pictures: &str, top1: &str| [class, pictures, top1].map(str::to_owned);
        table.row(row("Ankle boot of leather", "1,200", "84.3 %").to_vec());
        table.row(row("猫", "90", "7.0 %").to_vec());
        assert_eq!(
            table.text(usize::MAX),
            "class                  pictures  top-1, mean ± std\n\
             Ankle boot of leather     1,200             84.3 %\n\
             猫                           90              7.0 %\n"
        );
        assert_eq!(
            table.text(33),
            "class        pictures      top-1,\n\
             \x20                      mean ± std\n\
             Ankle boot      1,200      84.3 %\n\
             of leather\n\
             猫                 90       7.0 %\n"
        );
        assert_eq!(
            table.text(20),
            "class              Ankle\n\
             \x20                  boot\n\
             \x20                  of\n\
             \x20                  leather\n\
             pictures           1,200\n\
             top-1, mean ± std  84.3 %\n\
             \n\
             class              猫\n\
             pictures           90\n\
             top-1, mean ± std  7.0 %\n"
        );
        for limit in 28..60 {
            for line in table.text(limit).lines() {
                assert!(line.width() <= limit, "{limit}: {line}");
            }
        }
        // What is one word has to stay one.
        let mut files = Table::new(&["file", "is"]);
        files.row(vec![
            "a/long/name/of/a/file.png".to_owned(),
            "cat".to_owned(),
        ]);
        assert_eq!(
            files.text(20),
            "file  a/long/name/of/a/file.png\nis    cat\n"
        );
    }
}

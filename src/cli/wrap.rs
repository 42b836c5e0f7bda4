//! Lines broken between words, so that they fit a terminal.

use unicode_width::UnicodeWidthStr;

use super::shell::program;

/// `text` in lines of at most `columns`, broken between words, if possible after a comma; what
/// continues a line is indented.
///
/// A command stays on one line, so that it can be copied; one that is longer than a line continues
/// after a backslash, as shells read it. A word that is longer than a line stays whole.
pub(super) fn wrap(text: &str, columns: usize) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| wrap_line(line, columns))
        .collect();
    lines.join("\n")
}

fn wrap_line(line: &str, columns: usize) -> String {
    if line.width() <= columns {
        return line.to_owned();
    }
    // What follows a comment of a recipe has to be one.
    let comment = if line.starts_with("# ") { "# " } else { "" };
    let inside = &line[comment.len()..];
    let depth = inside.len() - inside.trim_start_matches(' ').len();
    let indent = format!("{comment}{}", " ".repeat(depth + 2));
    let mut out = format!("{comment}{}", " ".repeat(depth));
    let mut used = out.width();
    let mut empty = true;
    let room = columns.saturating_sub(indent.width());
    for phrase in phrases(inside.trim_start_matches(' ')) {
        let whole: usize = phrase.iter().map(|word| word.width()).sum::<usize>();
        // A phrase that fits into a line of its own is not broken for the sake of a few columns.
        let next = used + usize::from(!empty) + whole + phrase.len() - 1 > columns
            && whole + phrase.len() - 1 <= room
            && 3 * used >= columns;
        if next {
            out += &format!("\n{indent}");
            (used, empty) = (indent.width(), true);
        }
        for word in phrase {
            let width = word.width();
            if !empty && used + 1 + width > columns {
                out += &format!("\n{indent}");
                (used, empty) = (indent.width(), true);
            }
            if !empty {
                out.push(' ');
                used += 1;
            }
            if width <= room || !word.contains(' ') {
                out += word;
            } else {
                out += &continued(word, room).join(&format!("\n{indent}"));
            }
            used += width;
            empty = false;
        }
    }
    out
}

/// A command in lines of at most `room` columns, each but the last with a backslash at its end; a quoted
/// word is not broken.
fn continued(command: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut is_quoted = false;
    let mut word = String::new();
    for part in command.split_inclusive(' ') {
        is_quoted ^= part.matches('\'').count() % 2 == 1;
        word += part;
        if is_quoted {
            continue;
        }
        let line = lines.last_mut().expect("there is a line");
        // The word ends with a space, and a backslash follows it.
        if !line.is_empty() && line.width() + word.trim_end().width() + 2 > room {
            line.push('\\');
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("there is a line");
        line.push_str(&word);
        word.clear();
    }
    lines.last_mut().expect("there is a line").push_str(&word);
    lines
}

/// The words of a line by phrases, which end with a comma, semicolon or colon. A command in backticks
/// and one that ends the line count as one word.
fn phrases(line: &str) -> Vec<Vec<&str>> {
    let start = format!("{} ", program());
    let mut phrases = Vec::new();
    let mut phrase = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let ends = |text: &str| text.find(' ').unwrap_or(text.len());
        let end = if rest.starts_with(&start) {
            rest.len()
        } else if let Some(quoted) = rest.trim_start_matches('(').strip_prefix('`') {
            let before = rest.len() - quoted.len();
            match quoted.find('`') {
                Some(close) => before + close + ends(&quoted[close..]),
                None => ends(rest),
            }
        } else {
            ends(rest)
        };
        let (word, after) = rest.split_at(end);
        phrase.push(word);
        if word.ends_with([',', ';', ':']) {
            phrases.push(std::mem::take(&mut phrase));
        }
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    if !phrase.is_empty() {
        phrases.push(phrase);
    }
    phrases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_breaks_between_words_rather_after_a_comma() {
        let line = "epoch 1/20, loss 1.2345, val loss 1.1234, val top-1 71.2 % (best), lr 1.0e-3";
        assert_eq!(
            wrap(line, 40),
            "epoch 1/20, loss 1.2345,\n  val loss 1.1234,\n  val top-1 71.2 % (best), lr 1.0e-3"
        );
        assert_eq!(wrap(line, usize::MAX), line);
        assert_eq!(wrap(line, 80), line);
        // A phrase that is longer than a line is broken where it must be.
        assert_eq!(
            wrap("the longest phrase of all has no comma", 20),
            "the longest phrase\n  of all has no\n  comma"
        );
        // No word is broken, and spaces that align what fits stay.
        assert_eq!(
            wrap("a/very/long/path/of/one/word is", 20),
            "a/very/long/path/of/one/word\n  is"
        );
        assert_eq!(wrap("plots:    a.png\n  b", 20), "plots:    a.png\n  b");
        assert_eq!(
            wrap("# time: about 3 h for 20 updates", 20),
            "# time: about 3 h\n#   for 20 updates"
        );
        for width in 20..90 {
            for line in wrap(line, width).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        // A letter of two columns counts as two.
        assert_eq!(
            wrap("猫猫猫猫猫 犬犬犬犬犬", 20),
            "猫猫猫猫猫\n  犬犬犬犬犬"
        );
    }

    #[test]
    fn a_command_is_not_broken() {
        assert_eq!(
            wrap(
                "no such run; `vitrine train --resume runs/a` continues it",
                40
            ),
            "no such run;\n  `vitrine train --resume runs/a`\n  continues it"
        );
        let command = format!("{} train --resume 'runs/my pets'", program());
        assert_eq!(
            wrap(&format!("continue with: {command}"), command.width() + 2),
            format!("continue with:\n  {command}")
        );
        // One that is longer than a line can be copied too.
        assert_eq!(
            wrap(
                "then `vitrine train --resume 'runs/my pets' --epochs 100` goes on",
                36
            ),
            "then\n  `vitrine train --resume \\\n  'runs/my pets' --epochs 100`\n  goes on"
        );
    }
}

//! The licence in the front matter of a repository's `README.md`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most of a card that is read, in bytes.
const MOST: u64 = 1 << 20;

/// The licence that the card at `path` states; `None` where there is no card or no word of it.
pub(super) fn licence_of(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    licence(&String::from_utf8_lossy(&bytes))
}

/// The licence in a card's front matter: `license`, or `license_name` where that is `other`.
fn licence(card: &str) -> Option<String> {
    let card = card.strip_prefix('\u{feff}').unwrap_or(card);
    let mut lines = card.lines().map(str::trim_end);
    if lines.next()? != "---" {
        return None;
    }
    let front: Vec<&str> = lines.take_while(|line| *line != "---").collect();
    let value = |key: &str| {
        let at = |line: &&str| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(':'))
        };
        let found = front.iter().position(at)?;
        let inline = plain(&front[found][key.len() + 1..]);
        if !inline.is_empty() {
            return Some(inline);
        }
        // A list, one a line.
        let items = front[found + 1..]
            .iter()
            .map_while(|line| line.trim_start().strip_prefix("- "))
            .map(plain)
            .filter(|item| !item.is_empty());
        let items: Vec<String> = items.collect();
        (!items.is_empty()).then(|| items.join(", "))
    };
    match value("license") {
        Some(licence) if licence == "other" => value("license_name").or(Some(licence)),
        licence => licence,
    }
}

/// A YAML value on one line: without quotes, brackets of a list and a comment.
fn plain(value: &str) -> String {
    let value = value.split(" #").next().unwrap_or_default().trim();
    let value = value.strip_prefix('[').unwrap_or(value);
    let value = value.strip_suffix(']').unwrap_or(value);
    value
        .split(',')
        .map(|item| item.trim().trim_matches(['"', '\'']))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_read_as_people_write_it() {
        for (card, expected) in [
            ("---\nlicense: apache-2.0\n---\n# Model", Some("apache-2.0")),
            (
                "\u{feff}---\r\nlicense: \"mit\" # ours\r\n---\r\n",
                Some("mit"),
            ),
            (
                "---\ntags:\n- x\nlicense:\n- mit\n- cc-by-4.0\nlanguage: en\n---",
                Some("mit, cc-by-4.0"),
            ),
            (
                "---\nlicense: [mit, 'apache-2.0']\n---",
                Some("mit, apache-2.0"),
            ),
            (
                "---\nlicense: other\nlicense_name: dinov3-license\n---",
                Some("dinov3-license"),
            ),
            ("---\nlicense: other\n---", Some("other")),
            ("---\nlicense_name: x\n---", None),
            ("---\nlicense:\n---", None),
            ("# license: mit", None),
            ("---\ntitle: x\n---\nlicense: mit", None),
            ("", None),
        ] {
            assert_eq!(licence(card).as_deref(), expected, "{card:?}");
        }
    }
}

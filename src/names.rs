//! Names of files, folders and classes as text.
//!
//! A name on disk is bytes, and may hold anything but `/` and zero: letters of another encoding, line
//! breaks, the escape codes of terminals. Three questions are answered here and nowhere else:
//!
//! - How is it written down so that the same file is found again? [`text`] and [`path`].
//! - How is it shown to a person, on a terminal or in a plot? [`shown`], [`visible`] and [`printable`];
//!   in Markdown [`marked_up`], in a table that a spreadsheet opens [`cell`].
//! - Is it the same name as another? [`same`]: Unicode writes `é` in two ways.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::PathBuf;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// A name or path as text, without loss: what is UTF-8 stays as it is, and each byte that is not
/// becomes `\xE9` with its two hexadecimal digits. In a name that has such an escape, `\` is doubled.
/// Two names never become one, and [`path`] reads the text back.
pub(crate) fn text(name: impl AsRef<OsStr>) -> String {
    let name = name.as_ref();
    // On Windows a backslash separates folders, and what is no Unicode cannot be typed anyway.
    #[cfg(not(unix))]
    return name.to_string_lossy().into_owned();
    #[cfg(unix)]
    text_of_bytes(name.as_encoded_bytes())
}

/// [`text`] for a name that an archive holds as bytes.
pub(crate) fn text_of_bytes(name: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(name)
        && !has_escape(text)
    {
        return text.to_owned();
    }
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text += &chunk.valid().replace('\\', "\\\\");
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

/// The path whose [`text`] this is.
pub(crate) fn path(text: &str) -> PathBuf {
    #[cfg(unix)]
    if has_escape(text) {
        use std::os::unix::ffi::OsStringExt;
        return std::ffi::OsString::from_vec(unescaped(text.as_bytes())).into();
    }
    PathBuf::from(text)
}

/// The byte that the escape at the beginning of `text` stands for.
fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [b'\\', b'x', digits @ ..] = text else {
        return None;
    };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let byte = digit(*digits.first()?)? << 4 | digit(*digits.get(1)?)?;
    // All others are UTF-8 by themselves.
    (byte >= 0x80).then_some(byte)
}

/// Whether there is an escaped byte in this [`text`].
pub(crate) fn has_escape(text: &str) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len()).any(|at| escaped_byte(&bytes[at..]).is_some())
}

#[cfg(unix)]
fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        text = if let Some(byte) = escaped_byte(text) {
            bytes.push(byte);
            &text[4..]
        } else {
            bytes.push(*first);
            // A doubled backslash is one.
            match (first, rest) {
                (b'\\', [b'\\', after @ ..]) => after,
                _ => rest,
            }
        };
    }
    bytes
}

/// Whether a terminal obeys this character or readers are misled by it: control characters, and those
/// that change the direction of what follows (as in "Trojan Source", CVE-2021-42574). None of them is
/// XML, or none that an SVG needs.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FFFE}' | '\u{FFFF}')
}

fn escape_where(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            _ if !is_escaped(c) => out.push(c),
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            _ => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
        }
    }
    out.into()
}

/// A name as a person is shown it, on one line: a line break is `\n`, an escape code `\u001B`.
pub(crate) fn visible(name: &str) -> Cow<'_, str> {
    escape_where(name, is_control)
}

/// A path as a person is shown it: its [`text`], [`visible`].
pub(crate) fn shown(path: impl AsRef<OsStr>) -> String {
    visible(&text(path)).into_owned()
}

/// Names as a person is shown them, with commas between them.
pub(crate) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<_> = names.iter().map(|name| visible(name.as_ref())).collect();
    names.join(", ")
}

/// Lines of text without the characters that a terminal obeys. What is escaped is escaped as in JSON:
/// JSON stays what it is.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escape_where(text, |c| is_control(c) && c != '\n' && c != '\t')
}

/// A name in a cell of a CSV table. A spreadsheet computes what begins as a formula, and so may send the
/// table elsewhere: such a name follows an apostrophe, which makes it text, and so does one that begins with
/// apostrophes before such a beginning: two names never become one. A number computes nothing and stays.
pub(crate) fn cell(name: &str) -> Cow<'_, str> {
    // The wide forms too: a Japanese spreadsheet takes them for the others.
    const FORMULA: [char; 11] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r', '\n'];
    let is_number = |text: &str| {
        text.parse::<f64>().is_ok() && !text.contains(|c: char| c.is_alphabetic() && c != 'e')
    };
    match name.trim_start_matches('\'').starts_with(FORMULA) && !is_number(name) {
        true => format!("'{name}").into(),
        false => name.into(),
    }
}

/// A name within Markdown, on one line: what it holds is text there, and no table, link, picture or HTML.
pub(crate) fn marked_up(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in visible(name).chars() {
        match c {
            '<' => out += "&lt;",
            '&' => out += "&amp;",
            '\\' | '|' | '`' | '[' | ']' | '*' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

/// The last part of a name within a data set, whose parts are split by `/` everywhere.
pub(crate) fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The folder part of a name, with a final `/`; empty where there is none.
pub(crate) fn folder_of(name: &str) -> &str {
    &name[..name.len() - base_name(name).len()]
}

/// A name on one line of a file, to be read back with [`from_line`]: without tabs, line breaks and
/// other control characters.
pub(crate) fn to_line(name: &str) -> String {
    visible(&name.replace('\\', "\\\\")).into_owned()
}

/// The name that [`to_line`] wrote.
pub(crate) fn from_line(line: &str) -> String {
    let mut name = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            name.push(c);
            continue;
        }
        name.push(match rest.next() {
            Some('t') => '\t',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('u') => {
                let digits = rest.as_str().get(..4);
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                match code.and_then(char::from_u32) {
                    Some(c) => {
                        rest = rest.as_str()[4..].chars();
                        c
                    }
                    None => 'u',
                }
            }
            Some(other) => other,
            None => '\\',
        });
    }
    name
}

/// Whether two names are one to whoever reads them: `é` is one character or `e` and an accent, and
/// macOS writes the second where others write the first.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a == b || composed(a) == composed(b)
}

/// Whether two lists hold the [`same`] names in the same order.
pub(crate) fn all_same(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// A name in Unicode's composed form (NFC), by which names that are the [`same`] are equal.
pub(crate) fn composed(name: &str) -> Cow<'_, str> {
    match is_nfc(name) {
        true => name.into(),
        false => name.nfc().collect::<String>().into(),
    }
}

/// For `#[serde(with = "crate::names::optional_path")]`: a path as its [`text`], so that what is not
/// UTF-8 is written down too.
pub(crate) mod optional_path {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().map(super::text).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.as_deref().map(super::path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[cfg(unix)]
    fn of(bytes: &[u8]) -> &OsStr {
        use std::os::unix::ffi::OsStrExt;
        OsStr::from_bytes(bytes)
    }

    #[test]
    fn what_is_utf8_stays_and_what_is_not_is_escaped() {
        for name in ["cat", "ünï/猫", r"a\b", r"C:\xyz", r"\x41", "new\nline", ""] {
            assert_eq!(text(name), name);
            assert_eq!(path(name), Path::new(name));
        }
        assert_eq!(text_of_bytes(b"caf\xe9.png"), r"caf\xE9.png");
        assert_eq!(text_of_bytes(b"\xe9\\\xff"), r"\xE9\\\xFF");
        // Spelt like an escape, and another name than the one that is escaped so.
        assert_eq!(text_of_bytes(br"caf\xE9.png"), r"caf\\xE9.png");
    }

    #[cfg(unix)]
    proptest! {
        #[test]
        fn every_name_reads_back_and_is_another_text_than_any_other(
            a in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\\'), Just(b'x'), Just(b'E'), Just(b'9')], 0..9),
            b in proptest::collection::vec(prop_oneof![Just(0xE9u8), Just(b'\\'), Just(b'x'), Just(b'E'), Just(b'9')], 0..9),
        ) {
            for name in [&a, &b] {
                prop_assert_eq!(path(&text_of_bytes(name)), Path::new(of(name)));
            }
            prop_assert_eq!(text_of_bytes(&a) == text_of_bytes(&b), a == b);
        }

        #[test]
        fn every_name_survives_its_line(name in "[\\\\\t\n\r\u{1b}\u{85}\u{202e}u0aé-]{0,12}") {
            let line = to_line(&name);
            prop_assert!(!line.contains(is_control), "{:?}", line);
            prop_assert_eq!(from_line(&line), name);
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        assert_eq!(
            visible("re\u{1b}[31md\u{7}\u{9b}"),
            r"re\u001B[31md\u0007\u009B"
        );
        assert_eq!(visible("a\nb\tc\r"), r"a\nb\tc\r");
        assert_eq!(visible("gnp\u{202e}.jpg"), r"gnp\u202E.jpg");
        // Letters that join, and marks of right-to-left scripts, belong to words.
        assert_eq!(visible("👩\u{200d}🔬 قط"), "👩\u{200d}🔬 قط");
        assert_eq!(printable("a\nb\tc\u{1b}"), "a\nb\tc\\u001B");
        assert_eq!(listed(&["a\nb", "c"]), r"a\nb, c");
        #[cfg(unix)]
        assert_eq!(shown(of(b"\xe9\x1b")), r"\xE9\u001B");
    }

    #[test]
    fn names_come_apart() {
        assert_eq!(
            (folder_of("a/b/c.bin"), base_name("a/b/c.bin")),
            ("a/b/", "c.bin")
        );
        assert_eq!((folder_of("c.bin"), base_name("c.bin")), ("", "c.bin"));
    }

    #[test]
    fn a_cell_is_no_formula_and_no_two_names_are_one_cell() {
        for name in [
            "=1+1", "+1-1", "-a", "-inf", "@a", "＝1", "\t=1", "\r", "\n", "'=1", "''-1",
        ] {
            assert_eq!(cell(name), format!("'{name}"));
        }
        for name in ["cat", "a=b", "'tis", "", "''", "1-2", "-1", "+0.5", "-2e-3"] {
            assert_eq!(cell(name), name);
        }
    }

    #[test]
    fn markdown_shows_a_name_and_obeys_nothing_in_it() {
        assert_eq!(
            marked_up("a|b <img src=x>\n[c](d)`*"),
            r"a\|b &lt;img src=x>\\n\[c\](d)\`\*"
        );
        assert_eq!(
            marked_up("vit-w1 (3 runs), 84.3 % ± 0.1"),
            "vit-w1 (3 runs), 84.3 % ± 0.1"
        );
    }

    #[test]
    fn json_stays_json_and_means_the_same() {
        let value = serde_json::json!({ "a\u{7f}": "\u{1b}\u{9b}\u{202e}é\n" });
        let json = value.to_string();
        let printed = printable(&json);
        assert!(!printed.contains(is_control));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&printed).unwrap(),
            value
        );
    }

    #[test]
    fn two_unicode_forms_are_one_name() {
        assert!(same("caf\u{e9}", "cafe\u{301}") && same("cat", "cat"));
        assert!(!same("cafe", "caf\u{e9}") && !same("Cat", "cat"));
        assert_eq!(composed("cafe\u{301}"), "caf\u{e9}");
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        assert!(all_same(&list(&["a", "\u{e9}"]), &list(&["a", "e\u{301}"])));
        assert!(!all_same(&list(&["a", "b"]), &list(&["a"])));
        assert!(!all_same(&list(&["a", "b"]), &list(&["b", "a"])));
    }
}

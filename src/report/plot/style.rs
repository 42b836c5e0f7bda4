//! Colours and text of every plot.

use std::sync::OnceLock;

use ab_glyph::Font;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::names::{composed, visible};

/// The colours of Okabe and Ito, which colour-blind readers can tell apart, darkest first.
pub(super) const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];

pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const GRID: RGBColor = RGBColor(225, 225, 225);

/// How many classes are drawn where they are too many to draw all: the worst.
pub(super) const WORST: usize = 50;

/// Font sizes, for figures of about 1600 pixels that a README shows at about 900.
pub(super) const TITLE: u32 = 38;
pub(super) const LABEL: u32 = 30;
pub(super) const TICK: u32 = 26;

/// The only family there is; in an SVG it also means "any sans" where ours is not installed.
const FONT: &str = "sans-serif";

pub(super) fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

pub(super) fn bold(size: u32) -> TextStyle<'static> {
    // `FontDesc::style` would keep the regular letters.
    FontDesc::new(FontFamily::SansSerif, f64::from(size), FontStyle::Bold).color(&INK)
}

const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/OpenSans-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../../../assets/fonts/OpenSans-Bold.ttf");

/// Class names as a plot of this format shows them. Viewers of SVG have fonts for every script; our font
/// for PNG has Latin, Greek and Cyrillic letters. A name with other letters becomes `class 3`; control
/// characters are escaped, and accents are one with their letters.
pub(crate) fn class_names(classes: &[String], extension: &str) -> Vec<String> {
    let font = match extension {
        "png" => ab_glyph::FontRef::try_from_slice(REGULAR).ok(),
        _ => None,
    };
    let is_drawn = |name: &str| {
        let has = |font: &ab_glyph::FontRef<'_>| {
            name.chars()
                .all(|letter| letter.is_whitespace() || font.glyph_id(letter).0 != 0)
        };
        font.as_ref().is_none_or(has)
    };
    let named = |(class, name): (usize, &String)| {
        let name = composed(&visible(name)).into_owned();
        match is_drawn(&name) {
            true => name,
            false => format!("class {class}"),
        }
    };
    classes.iter().enumerate().map(named).collect()
}

/// Makes the font known to plotters.
pub(super) fn register() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| {
        register_font(FONT, FontStyle::Normal, REGULAR).map_err(|_| "the font is damaged")?;
        register_font(FONT, FontStyle::Bold, BOLD).map_err(|_| "the font is damaged")?;
        Ok(())
    })
    .clone()
}

/// Width of `words` in pixels.
pub(super) fn width(words: &str, style: &TextStyle<'_>) -> i32 {
    // Without the font, `save` has failed before anything is drawn.
    style
        .font
        .layout_box(words)
        .map_or(0, |(_, (width, _))| width)
}

/// `label` in at most `room` pixels; it is cut in the middle, because names often differ at the end.
pub(super) fn shorten(label: &str, room: i32, style: &TextStyle<'_>) -> String {
    // A name may have any number of letters, and no plot has room for so many.
    const MOST: usize = 512;
    let is_long = label.chars().nth(MOST).is_some();
    if !is_long && width(label, style) <= room {
        return label.to_owned();
    }
    let letters: Vec<char> = match is_long {
        true => {
            let mut tail: Vec<char> = label.chars().rev().take(MOST / 3).collect();
            tail.reverse();
            label.chars().take(MOST - MOST / 3).chain(tail).collect()
        }
        false => label.chars().collect(),
    };
    let short = |kept: usize| {
        let tail = kept / 3;
        let head: String = letters[..kept - tail].iter().collect();
        let tail: String = letters[letters.len() - tail..].iter().collect();
        format!("{}…{}", head.trim_end(), tail.trim_start())
    };
    let fits = |kept: &usize| width(&short(*kept), style) <= room;
    let (mut low, mut high) = (0, letters.len());
    while high - low > 1 {
        let middle = low.midpoint(high);
        match fits(&middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    // Kerning may take from a longer text what a letter has added.
    let mut longest = low..letters.len().min(low + 4);
    longest.rfind(fits).map_or_else(|| "…".to_owned(), short)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_the_font_cannot_name_goes_by_its_number() {
        let classes = ["chat noir", "猫", "Σκύλος", "dog 🐕", "Ёж"].map(str::to_owned);
        assert_eq!(
            class_names(&classes, "png"),
            ["chat noir", "class 1", "Σκύλος", "class 3", "Ёж"]
        );
        assert_eq!(class_names(&classes, "svg"), classes);
        let odd = ["re\u{1b}[31md\n", "cafe\u{301}"].map(str::to_owned);
        assert_eq!(class_names(&odd, "png"), [r"re\u001B[31md\n", "caf\u{e9}"]);
    }

    #[test]
    fn long_labels_keep_both_ends() {
        register().unwrap();
        let style = text(26);
        let short = shorten("Ankle boot (men's, waterproof leather) 92 %", 220, &style);
        assert!(
            short.starts_with("Ank") && short.ends_with("92 %"),
            "{short}"
        );
        assert!(width(&short, &style) <= 220);
        assert_eq!(shorten("cat", 220, &style), "cat");
        assert_eq!(shorten("Trouser", 0, &style), "…");
    }

    /// [`shorten`] by trying every length.
    fn shortened_one_by_one(label: &str, room: i32, style: &TextStyle<'_>) -> String {
        if width(label, style) <= room {
            return label.to_owned();
        }
        let letters: Vec<char> = label.chars().collect();
        let short = |kept: usize| {
            let (head, tail) = (kept - kept / 3, letters.len() - kept / 3);
            let [head, tail] = [&letters[..head], &letters[tail..]].map(String::from_iter);
            format!("{}…{}", head.trim_end(), tail.trim_start())
        };
        let all = (1..letters.len()).rev().map(short);
        all.into_iter()
            .find(|short| width(short, style) <= room)
            .unwrap_or_else(|| "…".to_owned())
    }

    proptest::proptest! {
        #[test]
        fn the_longest_that_fits_is_kept(label in "[ -~éТWAVo.\u{301}]{0,40}", room in 0..400_i32) {
            register().unwrap();
            let style = text(26);
            proptest::prop_assert_eq!(
                shorten(&label, room, &style),
                shortened_one_by_one(&label, room, &style)
            );
        }
    }

    #[test]
    fn a_name_of_any_length_costs_little() {
        register().unwrap();
        let style = text(26);
        let name = format!("begins {} ends", "x y".repeat(2_000_000));
        let start = std::time::Instant::now();
        for _ in 0..20 {
            let short = shorten(&name, 220, &style);
            assert!(
                short.starts_with("begins") && short.ends_with("ends"),
                "{short}"
            );
        }
        let took = start.elapsed().as_secs_f64();
        assert!(took < 20.0, "{took} s");
    }
}

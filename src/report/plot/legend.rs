//! Legends: beside a plot's points, never over them.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::Drawn;
use super::style::{LABEL, shorten, text, width};

/// What stands before a name.
pub(super) enum Key {
    /// A line with a mark.
    Line(ShapeStyle, Polygon<(i32, i32)>),
    /// A line.
    Stroke(ShapeStyle),
    /// A bar.
    Bar(ShapeStyle),
}

/// Width of a key, from a key to its name, and from a name to the next key.
const KEY: i32 = 48;
const NEAR: i32 = 12;
const FAR: i32 = 36;
/// Height of a row.
pub(super) const ROW: i32 = 40;
/// Most rows: where the names need more, the last says how many are left out.
const ROWS: usize = 8;

/// Where each entry begins, by row and pixel, so that none leaves `room` pixels; rows are centred.
fn places(widths: &[i32], room: i32) -> Vec<(usize, i32)> {
    let mut rows: Vec<Vec<i32>> = Vec::new();
    let total = |row: &[i32]| row.iter().sum::<i32>() + FAR * (row.len() as i32 - 1).max(0);
    for &width in widths {
        match rows.last_mut() {
            Some(row) if total(row) + FAR + width <= room => row.push(width),
            _ => rows.push(vec![width]),
        }
    }
    let mut places = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let mut x = (room - total(row)) / 2;
        for width in row {
            places.push((n, x));
            x += width + FAR;
        }
    }
    places
}

/// The names that a legend shows.
struct LaidOut {
    /// Each as it fits, its row and where it begins.
    entries: Vec<(String, usize, i32)>,
    /// Number of names for which there is no room.
    more: usize,
}

/// Names that fit into `room` pixels, and the place of each entry.
fn laid_out(names: &[&str], room: i32) -> LaidOut {
    let style = text(LABEL);
    let named = |name: &&str| shorten(name, room - KEY - NEAR, &style);
    let names: Vec<String> = names.iter().map(named).collect();
    let entry = |name: &String| KEY + NEAR + width(name, &style);
    let widths: Vec<i32> = names.iter().map(entry).collect();
    let placed = names.into_iter().zip(places(&widths, room));
    let mut entries: Vec<_> = placed.map(|(name, (row, x))| (name, row, x)).collect();
    let all = entries.len();
    if entries.last().is_some_and(|(_, row, _)| *row >= ROWS) {
        entries.retain(|(_, row, _)| row + 1 < ROWS);
    }
    let more = all - entries.len();
    LaidOut { entries, more }
}

/// Pixels that a legend of these names takes in a plot of this width.
pub(super) fn height(names: &[&str], room: i32) -> i32 {
    let laid = laid_out(names, room);
    let rows = laid.entries.last().map_or(0, |(_, row, _)| row + 1);
    (rows + usize::from(laid.more > 0)) as i32 * ROW
}

/// Draws a legend from `top` down, between `left` and `left + room`.
pub(super) fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    entries: Vec<(Key, &str)>,
    (left, top): (i32, i32),
    room: i32,
) -> Drawn
where
    B::ErrorType: 'static,
{
    let names: Vec<&str> = entries.iter().map(|(_, name)| *name).collect();
    let style = text(LABEL).pos(Pos::new(HPos::Left, VPos::Center));
    let laid = laid_out(&names, room);
    if laid.more > 0 {
        let style = style.pos(Pos::new(HPos::Center, VPos::Center));
        let at = (left + room / 2, top + ROWS as i32 * ROW - ROW / 2);
        area.draw(&Text::new(format!("and {} more", laid.more), at, style))?;
    }
    for ((key, _), (name, row, x)) in entries.into_iter().zip(laid.entries) {
        let (x, y) = (left + x, top + row as i32 * ROW + ROW / 2);
        // The middle of small letters lies above the middle of their box.
        let middle = y - 4;
        let across = |style| PathElement::new([(x, middle), (x + KEY, middle)], style);
        match key {
            Key::Line(style, mark) => {
                area.draw(&across(style))?;
                area.draw(&(EmptyElement::at((x + KEY / 2, middle)) + mark))?;
            }
            Key::Stroke(style) => area.draw(&across(style))?,
            Key::Bar(style) => {
                area.draw(&Rectangle::new(
                    [(x, middle - 11), (x + KEY, middle + 11)],
                    style,
                ))?;
            }
        }
        area.draw(&Text::new(name, (x + KEY + NEAR, y), style.clone()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_within_the_plot_and_apart() {
        for (widths, room) in [
            (vec![200, 300, 250], 1000),
            (vec![200, 300, 250], 560),
            (vec![400; 9], 900),
            (vec![900], 900),
            (vec![], 900),
        ] {
            let places = places(&widths, room);
            assert_eq!(places.len(), widths.len());
            for (n, ((row, x), width)) in places.iter().zip(&widths).enumerate() {
                assert!(
                    *x >= 0 && x + width <= room,
                    "{widths:?} in {room}: {places:?}"
                );
                if let Some((next_row, next)) = places.get(n + 1) {
                    assert!(row < next_row || x + width + FAR <= *next, "{places:?}");
                }
            }
        }
        // Two rows where one is too narrow, each centred.
        assert_eq!(places(&[200, 300, 250], 560), [(0, 12), (0, 248), (1, 155)]);
    }

    #[test]
    fn a_long_name_is_shortened_and_nothing_takes_no_room() {
        crate::report::plot::style::register().expect("the font is whole");
        let long = "runs/".repeat(60);
        let laid = laid_out(&[&long, "b"], 800).entries;
        assert!(laid[0].0.len() < long.len() && laid[0].0.contains('…'));
        assert_eq!(height(&[&long, "b"], 800), 2 * ROW);
        assert_eq!(height(&[], 800), 0);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        crate::report::plot::style::register().expect("the font is whole");
        for count in [1, 7, 8, 9, 4000] {
            let names = vec!["a name that takes a row of its own"; count];
            let laid = laid_out(&names, 700);
            assert_eq!(laid.entries.len() + laid.more, count);
            assert_eq!(laid.more == 0, count <= ROWS, "{count}");
            assert_eq!(height(&names, 700), count.min(ROWS) as i32 * ROW);
        }
    }
}

//! One panel of curves: axes, lines, bands, legend.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::Drawn;
use super::legend::{self, Key};
use super::style::{GRID, INK, LABEL, PALETTE, TICK, TITLE, bold, text};
use crate::names::visible;

/// A named line of a panel.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Lower and upper edge of a band around it, if there is one.
    pub(super) band: Option<Vec<(f64, f64, f64)>>,
}

impl Line {
    pub(super) fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        let points = points
            .into_iter()
            .filter_map(|(x, y)| Some((drawn(x)?, drawn(y)?)));
        Self {
            name: visible(name).into(),
            points: points.collect(),
            band: None,
        }
    }

    /// The same with a band around it: x, lower and upper edge.
    pub(super) fn with_band(self, band: Vec<(f64, f64, f64)>) -> Self {
        let edges = |(x, low, high)| Some((drawn(x)?, drawn(low)?, drawn(high)?));
        Self {
            band: Some(band.into_iter().filter_map(edges).collect()),
            ..self
        }
    }
}

/// A coordinate as it is drawn: one that is no finite number has no place, and one that is too large for
/// differences to be computed lies at the edge.
fn drawn(value: f64) -> Option<f64> {
    value.is_finite().then_some(value.clamp(-LARGEST, LARGEST))
}

/// The largest number that an axis shows, and the shortest axis, as a length and as a share of its numbers:
/// plotters' search for ticks would end in rounding errors, or not at all.
const LARGEST: f64 = 1e300;
const SHORTEST: f64 = 1e-14;
const SHORTEST_SHARE: f64 = 1e-9;

pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    /// Whether `x` counts something: no ticks between whole numbers.
    pub(super) whole: bool,
    pub(super) lines: Vec<Line>,
    pub(super) unit: Unit,
}

/// How the values of a panel are written.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Plain,
    Percent,
    Scientific,
}

/// Around a panel, and from its upper edge to its legend.
const MARGIN: i32 = 18;
const HEAD: i32 = 72;

/// A line carries about this many marks: more would only blot it.
const MARKS: usize = 12;

pub(super) fn panel<B: DrawingBackend>(area: &DrawingArea<B, Shift>, panel: &Panel<'_>) -> Drawn
where
    B::ErrorType: 'static,
{
    let lines = || {
        panel
            .lines
            .iter()
            .enumerate()
            .filter(|(_, l)| !l.points.is_empty())
    };
    let points = || lines().flat_map(|(_, l)| &l.points);
    let bands = lines().flat_map(|(_, l)| l.band.iter().flatten());
    let (mut x0, mut x1) = span(points().map(|p| p.0));
    if panel.whole && x1 - x0 < 2.0 {
        (x0, x1) = (x0.round() - 0.5, x1.round() + 0.5);
    }
    let (y0, y1) = span(points().map(|p| p.1).chain(bands.flat_map(|b| [b.1, b.2])));
    let names: Vec<&str> = match lines().count() {
        0 | 1 => Vec::new(),
        _ => lines().map(|(_, line)| line.name.as_str()).collect(),
    };
    let (room, _) = area.dim_in_pixel();
    let room = room as i32 - 2 * MARGIN;
    let head = HEAD + legend::height(&names, room);
    let (above, below) = area.split_vertically(head);
    let style = bold(TITLE).pos(Pos::new(HPos::Center, VPos::Center));
    let at = (MARGIN + room / 2, HEAD / 2 + 4);
    above.draw(&Text::new(panel.title.to_owned(), at, style))?;
    if !names.is_empty() {
        let entry = |(i, line): (usize, _)| {
            let line: &Line = line;
            let colour = PALETTE[i % PALETTE.len()];
            let key = Key::Line(colour.stroke_width(4), mark(i, (0, 0), colour));
            (key, line.name.as_str())
        };
        legend::draw(&above, lines().map(entry).collect(), (MARGIN, HEAD), room)?;
    }
    let mut chart = ChartBuilder::on(&below)
        .margin(MARGIN)
        .x_label_area_size(84)
        .y_label_area_size(118)
        .build_cartesian_2d(x0..x1, y0..y1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_desc(panel.x)
        .axis_desc_style(text(LABEL))
        .label_style(text(TICK))
        .x_labels(7)
        .y_labels(7)
        .x_label_formatter(&|x| match panel.whole {
            true if x.fract().abs() > 1e-6 => String::new(),
            true => format!("{:.0}", x.abs()),
            false => number(*x, x1 - x0),
        })
        .y_label_formatter(&|y| match panel.unit {
            Unit::Plain => number(*y, y1 - y0),
            Unit::Percent => format!("{} %", number(100.0 * y, 100.0 * (y1 - y0))),
            Unit::Scientific => scientific(*y, y1 - y0),
        })
        .draw()?;
    if points().next().is_none() {
        let middle = ((x0 + x1) / 2.0, (y0 + y1) / 2.0);
        let style = text(LABEL).pos(Pos::new(HPos::Center, VPos::Center));
        chart.draw_series([Text::new("not measured", middle, style)])?;
        return Ok(());
    }
    for (i, line) in lines() {
        draw_line(&mut chart, i, line)?;
    }
    Ok(())
}

/// A panel's axes.
type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// Draws line `i` of a panel: its band, itself and its marks.
fn draw_line<'a, B: DrawingBackend + 'a>(
    chart: &mut ChartContext<'a, B, Plane>,
    i: usize,
    line: &Line,
) -> Drawn
where
    B::ErrorType: 'static,
{
    let colour = PALETTE[i % PALETTE.len()];
    if let Some(band) = &line.band {
        let mut outline: Vec<(f64, f64)> = band.iter().map(|b| (b.0, b.1)).collect();
        outline.extend(band.iter().rev().map(|b| (b.0, b.2)));
        chart.draw_series(std::iter::once(Polygon::new(outline, colour.mix(0.22))))?;
    }
    let style = colour.stroke_width(4);
    chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
    // The marks of two lines do not fall on the same epochs.
    let every = line.points.len().div_ceil(MARKS).max(1);
    let marked = line
        .points
        .iter()
        .skip(i * every / 3 % every)
        .step_by(every);
    chart.draw_series(marked.map(|&at| EmptyElement::at(at) + mark(i, (0, 0), colour)))?;
    Ok(())
}

/// The mark of line `i`: another form for each, so that colour is not the only difference.
fn mark(i: usize, (x, y): (i32, i32), colour: RGBColor) -> Polygon<(i32, i32)> {
    let form: &[(i32, i32)] = match i % 4 {
        0 => &[
            (-3, -8),
            (3, -8),
            (8, -3),
            (8, 3),
            (3, 8),
            (-3, 8),
            (-8, 3),
            (-8, -3),
        ],
        1 => &[(-10, 8), (0, -11), (10, 8)],
        2 => &[(-8, -8), (8, -8), (8, 8), (-8, 8)],
        _ => &[(0, -12), (12, 0), (0, 12), (-12, 0)],
    };
    let corners: Vec<_> = form.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
    Polygon::new(corners, colour.filled())
}

/// Ends of an axis around `values`, with a little air; a sensible one where there are none.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|v| v.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return (0.0, 1.0);
    }
    if low == high {
        let air = (high.abs() * 0.2).max(1e-9);
        return (low - air, high + air);
    }
    let shortest = SHORTEST.max(SHORTEST_SHARE * low.abs().max(high.abs()));
    let air = ((high - low) * 0.06).max(shortest);
    (low - air, high + air)
}

/// A value with the digits that tell ticks `range` / 6 apart.
fn number(value: f64, range: f64) -> String {
    if value.abs() < range * 1e-6 {
        return "0".to_owned();
    }
    if value.abs() >= 1e6 {
        return format!("{value:.1e}");
    }
    let digits = (-(range / 6.0).log10()).ceil().clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

fn scientific(value: f64, range: f64) -> String {
    if value.abs() < range * 1e-6 {
        "0".to_owned()
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use plotters::coord::ranged1d::{BoldPoints, LightPoints, Ranged};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ticks_of_any_numbers_are_few(
            values in proptest::collection::vec(
                prop_oneof![
                    any::<f64>(),
                    any::<u64>().prop_map(f64::from_bits),
                    (any::<f64>(), 0..3_u64).prop_map(|(v, ulps)| f64::from_bits(v.to_bits() + ulps)),
                    Just(f64::MAX),
                    Just(f64::MIN),
                    Just(5e-324),
                    Just(1.0),
                    Just(1.0 + f64::EPSILON),
                    Just(1e15),
                    Just(1e15 + 0.125),
                ],
                0..5,
            ),
        ) {
            let line = Line::new("line", values.iter().map(|&v| (v, v)).collect());
            let (low, high) = span(line.points.iter().map(|p| p.1));
            prop_assert!(low < high && (high - low).is_finite(), "{} {}", low, high);
            let axis: RangedCoordf64 = (low..high).into();
            let bold = axis.key_points(BoldPoints(7));
            let light = axis.key_points(LightPoints::new(7, 70));
            prop_assert!(bold.len() <= 8 && light.len() <= 80, "{} {}", bold.len(), light.len());
        }
    }

    #[test]
    fn ticks_have_the_digits_they_need() {
        assert_eq!(number(0.5, 3.0), "0.5");
        assert_eq!(number(20.0, 60.0), "20");
        assert_eq!(number(0.02, 0.1), "0.02");
        assert_eq!(number(1e-17, 1.0), "0");
        assert_eq!(number(2.5e12, 1e13), "2.5e12");
        assert_eq!(scientific(0.0008, 0.001), "8.0e-4");
    }

    #[test]
    fn axes_of_nothing_and_of_one_value() {
        assert_eq!(span(std::iter::empty()), (0.0, 1.0));
        assert_eq!(span([f64::NAN, f64::INFINITY].into_iter()), (0.0, 1.0));
        let (low, high) = span([2.0].into_iter());
        assert!(low < 2.0 && high > 2.0);
    }
}

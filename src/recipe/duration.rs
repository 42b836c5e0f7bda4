//! Durations as a recipe writes them.

use std::time::Duration;

use crate::setting::Invalid;

/// Reads `30m`, `1h30m`, `90s` or `45` (seconds).
///
/// # Errors
///
/// [`Invalid`], which names `key`.
pub(crate) fn parse_duration(key: &str, text: &str) -> Result<Duration, Invalid> {
    let wrong = || {
        let expected = "a duration such as 90s, 30m or 1h30m";
        Invalid::new(key, format!("{text:?}"), expected)
    };
    let mut seconds = 0.0;
    let mut number = String::new();
    let mut last = f64::INFINITY;
    for c in text.trim().chars() {
        let unit = match c {
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            '0'..='9' | '.' => {
                number.push(c);
                continue;
            }
            _ => return Err(wrong()),
        };
        // 1m1h, or 5s5s, is more likely a slip than a duration.
        if unit >= last {
            return Err(wrong());
        }
        last = unit;
        seconds += unit * number.parse::<f64>().map_err(|_| wrong())?;
        number.clear();
    }
    if !number.is_empty() {
        seconds += number.parse::<f64>().map_err(|_| wrong())?;
    }
    if !(1.0..=1e8).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

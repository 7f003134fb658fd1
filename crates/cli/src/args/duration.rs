//! Times as people write them: `30s`, `500ms`, `2m`, `1h`, or plain seconds.

use std::time::Duration;

/// Longest time that is accepted: a week. Beyond, somebody mistook the unit.
const SECONDS_MAX: f64 = 7.0 * 24.0 * 3600.0;

const EXPECTED: &str = "expected a time as 500ms, 30s, 5m or 1h; a number alone is seconds";

/// Parses a time; the error says what is expected.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(EXPECTED.into()),
    };
    let number: f64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    let seconds = number * scale;
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("expected at most 168h".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let check = |text: &str, ms: u64| assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
        check("30", 30_000);
        check("30s", 30_000);
        check("1.5s", 1500);
        check("500ms", 500);
        check("2m", 120_000);
        check("1h", 3_600_000);
        for bad in ["", "s", "-1s", "1 day", "1e3", "1.2.3s", "200h", "1µs"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}

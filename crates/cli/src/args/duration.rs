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

/// What a directory may be told: its protocol knows no other (limits `LEASE_MIN`, `LEASE_MAX`).
const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Parses the time a registration lives.
pub(super) fn parse_lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text)?;
    if LEASE.contains(&lease) { Ok(lease) } else { Err("expected a time from 1s to 24h".into()) }
}

/// A time as it is typed.
pub(crate) fn duration_text(time: Duration) -> String {
    if time.is_zero() { "0s".to_owned() } else { format!("{time:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_lives_a_second_to_a_day() {
        for good in ["1s", "10m", "24h"] {
            assert!(parse_lease(good).is_ok(), "{good}");
        }
        for bad in ["0s", "999ms", "25h", "x"] {
            assert!(parse_lease(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_time_is_zero_seconds() {
        assert_eq!(duration_text(Duration::ZERO), "0s");
        assert_eq!(duration_text(Duration::from_millis(1500)), "1.5s");
    }

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

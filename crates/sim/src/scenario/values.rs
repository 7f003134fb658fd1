//! The values of a scenario file, valid by construction.
//!
//! Each type refuses what is out of its range while the file is read, so that the error shows the
//! line, the key and the value, and says what would be right.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// A part of a whole, 0 to 1: `0.3` is 30 %.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub(crate) struct Share(f64);

/// A duration, written as a number and a unit: `"250ms"`, `"30s"`, `"10min"`, `"2h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span(Duration);

/// A whole number in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Whole<const MIN: u64, const MAX: u64>(u64);

/// How often something happens, per second: 0 to 100 000.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub(crate) struct Rate(f64);

/// The longest time a scenario may name: a day. A typo ends here rather than in a run without end.
pub(crate) const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);
/// The highest rate a scenario may name, per second: beyond any mesh's capacity.
pub(crate) const RATE_MAX: f64 = 100_000.0;

const SPAN_HELP: &str = "a duration such as \"250ms\", \"30s\", \"10min\" or \"2h\", at most \"24h\"";

impl Share {
    pub(crate) fn get(self) -> f64 {
        self.0
    }
}

impl Rate {
    pub(crate) fn get(self) -> f64 {
        self.0
    }
}

impl Span {
    pub(crate) fn get(self) -> Duration {
        self.0
    }

    /// Reads a duration as people write it.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')?;
        let number: f64 = text[..digits].replace('_', "").parse().ok()?;
        let unit = match text[digits..].trim_start() {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let duration = Duration::try_from_secs_f64(number * unit).ok()?;
        (duration <= SPAN_MAX).then_some(Self(duration))
    }
}

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// For tables and counts of this machine. Lossless where `MAX` fits, which is checked here.
    pub(crate) fn size(self) -> usize {
        const { assert!(MAX <= u32::MAX as u64) };
        self.0 as usize
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        number(from, "a share from 0 to 1, for example 0.3 for 30 %", |n| (0.0..=1.0).contains(&n)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        number(from, "a rate per second from 0 to 100 000", |n| (0.0..=RATE_MAX).contains(&n)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SPAN_HELP)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Text)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> Visitor<'_> for Number<MIN, MAX> {
            type Value = Whole<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_i64<E: Error>(self, n: i64) -> Result<Self::Value, E> {
                let whole = u64::try_from(n).ok().filter(|n| (MIN..=MAX).contains(n));
                whole.map(Whole).ok_or_else(|| E::invalid_value(Unexpected::Signed(n), &self))
            }

            fn visit_u64<E: Error>(self, n: u64) -> Result<Self::Value, E> {
                if (MIN..=MAX).contains(&n) {
                    Ok(Whole(n))
                } else {
                    Err(E::invalid_value(Unexpected::Unsigned(n), &self))
                }
            }
        }
        from.deserialize_any(Number)
    }
}

/// A number, whole or not, that passes the check.
fn number<'de, D: Deserializer<'de>>(
    from: D,
    help: &'static str,
    is_valid: impl Fn(f64) -> bool,
) -> Result<f64, D::Error> {
    struct Number<F>(&'static str, F);
    impl<F: Fn(f64) -> bool> Visitor<'_> for Number<F> {
        type Value = f64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_f64<E: Error>(self, n: f64) -> Result<f64, E> {
            if (self.1)(n) { Ok(n) } else { Err(E::invalid_value(Unexpected::Float(n), &self)) }
        }

        fn visit_i64<E: Error>(self, n: i64) -> Result<f64, E> {
            let float = n as f64;
            if (self.1)(float) { Ok(float) } else { Err(E::invalid_value(Unexpected::Signed(n), &self)) }
        }
    }
    from.deserialize_any(Number(help, is_valid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct All {
        share: Option<Share>,
        rate: Option<Rate>,
        span: Option<Span>,
        whole: Option<Whole<2, 1000>>,
    }

    #[test]
    fn good_values_are_read() {
        let all: All = toml::from_str("share = 0.3\nrate = 2\nspan = \"1.5min\"\nwhole = 1_000").unwrap();
        assert_eq!(all.share.unwrap().get(), 0.3);
        assert_eq!(all.rate.unwrap().get(), 2.0);
        assert_eq!(all.span.unwrap().get(), Duration::from_secs(90));
        assert_eq!((all.whole.unwrap().get(), all.whole.unwrap().size()), (1000, 1000));
    }

    #[test]
    fn bad_values_show_the_line_the_value_and_what_is_allowed() {
        let check = |line: &str, value: &str, allowed: &str| {
            let error = toml::from_str::<All>(line).unwrap_err().to_string();
            assert!(error.contains(line), "the line with the key: {error}");
            assert!(error.contains(value) && error.contains(allowed), "{error}");
        };
        check("share = 1.5", "1.5", "a share from 0 to 1");
        check("share = -1", "-1", "a share from 0 to 1");
        check("share = nan", "NaN", "a share from 0 to 1");
        check("share = \"30 %\"", "30 %", "for example 0.3 for 30 %");
        check("rate = 1e9", "1000000000", "a rate per second");
        check("span = 30", "30", "such as \"250ms\"");
        check("span = \"30\"", "30", "such as \"250ms\"");
        check("span = \"3 days\"", "3 days", "such as \"250ms\"");
        check("span = \"25h\"", "25h", "at most \"24h\"");
        check("span = \"-1s\"", "-1s", "such as \"250ms\"");
        check("whole = 1", "1", "a whole number from 2 to 1000");
        check("whole = 1001", "1001", "from 2 to 1000");
        check("whole = -5", "-5", "from 2 to 1000");
        check("whole = 2.5", "2.5", "a whole number");
        check("hole = 2", "hole", "expected one of");
    }
}

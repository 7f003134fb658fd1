//! Where an axis has its numbers: round values, few enough to read.

use super::Scale;

/// The horizontal axis: virtual time.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeAxis {
    until_s: f64,
    step_s: f64,
}

/// Steps people count time in, in seconds.
const TIME_STEPS: [f64; 17] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
];
/// Numbers on the time axis at most.
const TIME_TICKS_MAX: f64 = 12.0;
/// From here on the axis counts minutes.
const MINUTES_FROM_S: f64 = 180.0;

impl TimeAxis {
    pub(super) fn new(until_s: f64) -> Self {
        let fits = |step: &f64| until_s / step <= TIME_TICKS_MAX;
        let step_s = TIME_STEPS.into_iter().find(fits).unwrap_or((until_s / TIME_TICKS_MAX).max(1.0));
        Self { until_s, step_s }
    }

    pub(super) fn title(self) -> &'static str {
        if self.counts_minutes() { "virtual time (minutes:seconds)" } else { "virtual time (s)" }
    }

    pub(super) fn ticks(self) -> Vec<(f64, String)> {
        // Multiples rather than sums: a sum of tenths drifts.
        (0..=TIME_TICKS_MAX as u32)
            .map(|index| f64::from(index) * self.step_s)
            .take_while(|at| *at <= self.until_s * (1.0 + 1e-9))
            .map(|at| (at, self.label(at)))
            .collect()
    }

    fn counts_minutes(self) -> bool {
        self.until_s >= MINUTES_FROM_S
    }

    fn label(self, at: f64) -> String {
        if self.counts_minutes() {
            let seconds = at.round() as u64;
            format!("{}:{:02}", seconds / 60, seconds % 60)
        } else {
            number(at)
        }
    }
}

/// The vertical axis of a panel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ValueAxis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
    log: bool,
}

/// Numbers on a linear value axis, about.
const VALUE_TICKS: f64 = 5.0;

impl ValueAxis {
    /// The axis for these values; `None` if there is nothing to draw.
    pub(super) fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let log = scale == Scale::Log;
        let drawn = values.filter(|value| value.is_finite() && (!log || *value > 0.0));
        let (low, high) = drawn.fold(None, |range: Option<(f64, f64)>, value| {
            Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        })?;
        Some(match scale {
            Scale::Log => Self::log(low, high),
            Scale::Linear => Self::linear(low.min(0.0), high),
            Scale::Zoomed => Self::linear(low, high),
        })
    }

    /// How far up a value is, 0 to 1.
    pub(super) fn height(&self, value: f64) -> f64 {
        let place = |value: f64| if self.log { value.log10() } else { value };
        let (low, high) = (place(self.low), place(self.high));
        ((place(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    pub(super) fn is_log(&self) -> bool {
        self.log
    }

    fn linear(low: f64, high: f64) -> Self {
        // A flat line at 0 or elsewhere still needs some height.
        let high = if high > low { high } else { low + low.abs().max(1.0) * 0.1 };
        let step = round_step((high - low) / VALUE_TICKS);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let ticks = (0..=(last - first) as u32).map(|index| (first + f64::from(index)) * step).collect();
        Self { low: first * step, high: last * step, ticks, log: false }
    }

    fn log(low: f64, high: f64) -> Self {
        let first = low.log10().floor() as i32;
        let last = (high.log10().ceil() as i32).max(first + 1);
        let ticks = (first..=last).map(|exponent| 10f64.powi(exponent)).collect();
        Self { low: 10f64.powi(first), high: 10f64.powi(last), ticks, log: true }
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// A number of an axis: as many decimals as it needs, thousands apart.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, rest) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut shown = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len() > 4 && (digits.len() - index).is_multiple_of(3) {
            shown.push(' ');
        }
        shown.push(digit);
    }
    if let Some(rest) = rest {
        shown += &format!(".{rest}");
    }
    if shown == "-0" { "0".into() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_in_round_steps() {
        let labels = |until| TimeAxis::new(until).ticks().into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(
            labels(60.0),
            ["0", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50", "55", "60"]
        );
        assert_eq!(labels(1.0).last().map(String::as_str), Some("1"));
        assert_eq!(
            labels(600.0),
            ["0:00", "1:00", "2:00", "3:00", "4:00", "5:00", "6:00", "7:00", "8:00", "9:00", "10:00"]
        );
        assert!(labels(1e6).len() <= 13);
    }

    #[test]
    fn values_are_between_round_numbers() {
        let axis = ValueAxis::new(Scale::Linear, [3.0, 11.2].into_iter()).unwrap();
        assert_eq!(axis.ticks, [0.0, 5.0, 10.0, 15.0]);
        assert!((axis.height(7.5) - 0.5).abs() < 1e-9);
        let axis = ValueAxis::new(Scale::Zoomed, [0.991, 1.0].into_iter()).unwrap();
        assert!((axis.low - 0.99).abs() < 1e-9 && (axis.high - 1.0).abs() < 1e-9, "{axis:?}");
        let axis = ValueAxis::new(Scale::Log, [0.0, 0.04, 30.0, f64::NAN].into_iter()).unwrap();
        assert_eq!(axis.ticks, [0.01, 0.1, 1.0, 10.0, 100.0]);
    }

    #[test]
    fn flat_and_empty_curves_have_an_axis_or_none() {
        for scale in [Scale::Linear, Scale::Zoomed, Scale::Log] {
            assert_eq!(ValueAxis::new(scale, std::iter::empty()), None);
            let axis = ValueAxis::new(scale, [2.0, 2.0].into_iter()).unwrap();
            assert!(axis.high > axis.low, "{axis:?}");
        }
        assert!(ValueAxis::new(Scale::Linear, [0.0].into_iter()).is_some());
    }

    #[test]
    fn numbers_are_short_and_grouped() {
        let check = |value, text: &str| assert_eq!(number(value), text);
        check(0.0, "0");
        check(-0.0, "0");
        check(0.30000000000000004, "0.3");
        check(1000.0, "1000");
        check(10_000.0, "10 000");
        check(1_234_567.5, "1 234 567.5");
    }
}

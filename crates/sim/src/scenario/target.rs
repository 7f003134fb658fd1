//! What is expected of a scenario: a metric, a bound, and over which seeds.

use serde::{Deserialize, Serialize};

use crate::report::{Metric, Part, Summary};

use super::values::Span;

/// A number to be reached, or only to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What it is about, in the words of the table. Default: the metric's own.
    pub what: String,
    /// The number.
    pub metric: &'static Metric,
    /// Where in the run.
    pub part: Part,
    /// What it must keep to. `None`: it is shown and not judged.
    pub bound: Option<Bound>,
    /// Which value over the seeds must keep to it.
    pub over: Over,
}

/// A limit, itself allowed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
}

/// Which value over the seeds is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Every seed keeps to the bound.
    #[default]
    Worst,
    /// 99 % of the seeds do.
    P99,
    /// The mean does.
    Mean,
}

impl Bound {
    /// Whether a value keeps to it.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    /// As the table shows it.
    #[must_use]
    pub fn show(self, metric: &Metric) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {}", metric.unit.show(limit)),
            Self::AtLeast(limit) => format!("≥ {}", metric.unit.show(limit)),
        }
    }
}

impl Over {
    /// The value to judge.
    #[must_use]
    pub fn of(self, summary: &Summary) -> f64 {
        match self {
            Self::Worst => summary.worst,
            Self::P99 => summary.p99,
            Self::Mean => summary.mean,
        }
    }
}

/// A target as a file writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetText {
    metric: MetricName,
    what: Option<String>,
    at_most: Option<f64>,
    at_least: Option<f64>,
    over: Option<Over>,
    from: Option<Span>,
    until: Option<Span>,
    mark: Option<String>,
}

impl TargetText {
    /// # Errors
    /// What is wrong, with the key.
    pub(super) fn target(self, judge: bool) -> Result<Target, String> {
        let metric = self.metric.0;
        let bound = match (self.at_most, self.at_least) {
            (Some(_), Some(_)) => {
                return Err(format!(
                    "target {}: has at_most and at_least: write two targets, one for each",
                    metric.name
                ));
            }
            (Some(limit), None) => Some(Bound::AtMost(limit)),
            (None, Some(limit)) => Some(Bound::AtLeast(limit)),
            (None, None) => None,
        };
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from >= until
        {
            return Err(format!(
                "target {}: from {:?} is not before until {:?}",
                metric.name,
                from.get(),
                until.get()
            ));
        }
        let part = Part { from: self.from.map(Span::get), until: self.until.map(Span::get), mark: self.mark };
        Ok(Target {
            what: self.what.unwrap_or_else(|| metric.about().to_owned()),
            metric,
            part,
            bound: bound.filter(|_| judge),
            over: self.over.unwrap_or_default(),
        })
    }
}

/// A metric by its name; unknown names are refused with all that exist.
#[derive(Debug, Clone, Copy)]
struct MetricName(&'static Metric);

impl<'de> Deserialize<'de> for MetricName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Metric::named(&name).map(Self).ok_or_else(|| {
            let known: Vec<&str> = crate::report::METRICS.iter().map(|metric| metric.name).collect();
            serde::de::Error::custom(format!("unknown metric `{name}`, expected one of {}", known.join(", ")))
        })
    }
}

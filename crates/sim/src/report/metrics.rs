//! The numbers a report knows by name, and how each is read from an outcome.
//!
//! One table, [`METRICS`]: a scenario's targets, the report's rows and the documentation take
//! names, units and meanings from it. A metric is `None` where a run did not measure it: nothing
//! was published, nothing crashed, or what was awaited never came. A target on such a metric is
//! missed, never met by default.

use std::time::Duration;

use crate::outcome::{Mark, Outcome, Sample};

use super::summary::Better;

/// A number with a name.
#[derive(Debug)]
pub struct Metric {
    /// As scenario files and reports write it. Ends in its unit where that is a time or a size.
    pub name: &'static str,
    /// How values are shown.
    pub unit: Unit,
    /// Which way it improves.
    pub better: Better,
    /// What it is, in one line, beginning with what it looks at: see [`METRICS`].
    about: &'static str,
    /// Reads it from an outcome.
    measure: fn(&Outcome, &Part) -> Option<f64>,
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// How a number is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// A part of a whole, shown in %.
    Share,
    /// Bytes per second.
    BytesPerSecond,
    /// Mebibytes.
    Mebibytes,
    /// Kibibytes.
    Kibibytes,
    /// A ratio or a count.
    Plain,
}

impl Unit {
    /// A value in words: enough digits to judge it by, and no more.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        if value.is_infinite() {
            return "never".into();
        }
        match self {
            Self::Share => format!("{} %", shortened(value * 100.0, 3)),
            Self::Seconds => format!("{} s", rounded(value)),
            Self::Millis => format!("{} ms", rounded(value)),
            Self::BytesPerSecond => format!("{} B/s", rounded(value)),
            Self::Mebibytes => format!("{} MiB", rounded(value)),
            Self::Kibibytes => format!("{} KiB", rounded(value)),
            Self::Plain => rounded(value),
        }
    }
}

/// About three digits.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => shortened(value, 1),
        size if size >= 0.1 => shortened(value, 2),
        _ => shortened(value, 4),
    }
}

/// At most so many decimals, without zeros at the end. Cut rather than rounded, so that 99.9996 %
/// is never shown as all.
fn shortened(value: f64, decimals: i32) -> String {
    let scale = 10f64.powi(decimals);
    // What is a rounding error of the machine away from the next digit is that digit.
    let cut = (value * scale + value.signum() * 1e-6).trunc() / scale;
    let text = format!("{cut:.0$}", decimals as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The part of a run that a metric looks at. Metrics of the whole run say so in their line of
/// [`METRICS`] and take no notice of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// Samples from here on. Default: the start.
    pub from: Option<Duration>,
    /// Samples up to here. Default: the end.
    pub until: Option<Duration>,
    /// Marks whose text contains this. Default: all that the metric applies to.
    pub mark: Option<String>,
}

impl Part {
    fn samples<'a>(&self, outcome: &'a Outcome) -> impl Iterator<Item = &'a Sample> {
        let from = self.from.map_or(f64::NEG_INFINITY, |at| at.as_secs_f64());
        let until = self.until.map_or(f64::INFINITY, |at| at.as_secs_f64());
        outcome.samples.iter().filter(move |sample| sample.at >= from && sample.at <= until)
    }

    fn begin(&self) -> f64 {
        self.from.map_or(0.0, |at| at.as_secs_f64())
    }

    /// The worst over the marks; `None` if there is none or one of them never came to it.
    fn worst_mark(
        &self,
        outcome: &Outcome,
        applies: impl Fn(&Mark) -> bool,
        value: impl Fn(&Mark) -> Option<f64>,
    ) -> Option<f64> {
        let named = |mark: &&Mark| self.mark.as_ref().is_none_or(|part| mark.what.contains(part.as_str()));
        let marks = outcome.marks.iter().filter(named).filter(|mark| applies(mark));
        marks.map(value).reduce(|a, b| Some(a?.max(b?))).flatten()
    }
}

impl Metric {
    /// The metric of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.about.split_once(": ").map_or(self.about, |(_, words)| words)
    }

    /// What a run measured; `None` if it did not.
    #[must_use]
    pub fn of(&self, outcome: &Outcome, part: &Part) -> Option<f64> {
        (self.measure)(outcome, part).filter(|value| value.is_finite())
    }
}

/// Rows of a report where a scenario names no other, if they were measured.
pub const USUAL: [&str; 12] = [
    "giant_of_members_min",
    "components_end",
    "degree_in_bounds_end",
    "isolation_max_s",
    "joining_p99_s",
    "latency_p99_ms",
    "last_arrival_p99_ms",
    "stretch_p99",
    "redundancy",
    "bytes_per_node_s",
    "gaps",
    "wall_s",
];

macro_rules! metrics {
    ($($name:literal $unit:ident $better:ident $about:literal $measure:expr;)*) => {
        &[$(Metric {
            name: $name,
            unit: Unit::$unit,
            better: Better::$better,
            about: $about,
            measure: $measure,
        }),*]
    };
}

/// Every metric. Those that say *part* look at the samples between a target's `from` and `until`,
/// those that say *mark* at its `mark`; the others look at the whole run.
pub const METRICS: &[Metric] = metrics! {
    "giant_share_min" Share More "part: smallest share of running nodes in the largest component"
        |o, p| least(p.samples(o).map(|s| s.giant_share));
    "giant_share_end" Share More "part: share of running nodes in the largest component at its end"
        |o, p| p.samples(o).last().map(|s| s.giant_share);
    "giant_of_members_min" Share More
        "part: smallest share of members (nodes that had a neighbor) in the largest component"
        |o, p| least(p.samples(o).filter_map(|s| {
            let members = s.online + s.isolated;
            // Before there are any, nobody is missing.
            ratio(s.giant_share * s.up as f64, members as f64).map(|share| share.min(1.0))
        }));
    "components_max" Plain Less "part: most components of the running nodes"
        |o, p| most(p.samples(o).map(|s| s.components as f64));
    "components_end" Plain Less "part: components of the running nodes at its end"
        |o, p| p.samples(o).last().map(|s| s.components as f64);
    "online_share_end" Share More "part: share of running nodes with a neighbor at its end"
        |o, p| p.samples(o).last().map(|s| ratio(s.online as f64, s.up as f64).unwrap_or(0.0));
    "degree_in_bounds_end" Share More "part: share of nodes with low to high neighbors at its end"
        |o, p| p.samples(o).last().map(|s| s.degree_in_bounds);
    "degree_in_bounds_min" Share More "part: smallest share of nodes with low to high neighbors"
        |o, p| least(p.samples(o).map(|s| s.degree_in_bounds));
    "degree_mean_end" Plain Less "part: mean neighbors of a node at its end"
        |o, p| p.samples(o).last().map(|s| s.degree_mean);
    "degree_max" Plain Less "part: most neighbors of any node"
        |o, p| most(p.samples(o).map(|s| s.degree_max as f64));
    "settled_after_s" Seconds Less
        "part: from its beginning until all are online, 99.9 % with low to high neighbors, in one component"
        |o, p| {
            let settled =
                |s: &&Sample| s.online == s.up && s.degree_in_bounds >= 0.999 && s.components == 1 && s.up > 0;
            p.samples(o).find(settled).map(|s| s.at - p.begin())
        };
    "one_component_after_start_s" Seconds Less "mark: from its beginning until all are in one component"
        |o, p| p.worst_mark(o, |_| true, |m| Some(m.one_component_at? - m.at));
    "one_component_after_end_s" Seconds Less "mark: from its end until all are in one component"
        |o, p| p.worst_mark(o, |m| m.until.is_some(), |m| Some((m.one_component_at? - m.until?).max(0.0)));
    "one_component_after_detection_s" Seconds Less
        "mark: from the last neighbor's notice of a crash until all are in one component"
        |o, p| p.worst_mark(o, |m| m.detected_at.is_some(), |m| Some((m.one_component_at? - m.detected_at?).max(0.0)));
    "detection_s" Seconds Less "mark: from a crash until the last neighbor noticed"
        |o, p| p.worst_mark(o, |m| m.detected_at.is_some(), |m| Some(m.detected_at? - m.at));
    "isolation_max_s" Seconds Less "longest a node that had a neighbor was without any"
        |o, _| if o.isolation_s.count == 0 { Some(0.0) } else { Some(o.isolation_s.max) };
    "isolated_longest_s" Seconds Less "part: longest a running node had been without a neighbor"
        |o, p| most(p.samples(o).map(|s| s.isolated_longest_s));
    "joining_p99_s" Seconds Less "from the start of a node to its first neighbor, p99"
        |o, _| o.joining_s.p99();
    "joining_max_s" Seconds Less "from the start of a node to its first neighbor, slowest"
        |o, _| o.joining_s.max();
    "links_per_departure" Plain Less "part: links made per node that went"
        |o, p| {
            let (made, gone) = p.samples(o).fold((0, 0), |(l, d), s| (l + s.links_made, d + s.departures));
            ratio(made as f64, gone as f64)
        };
    "departures_per_minute_share" Share Less "part: nodes that went per minute, as a share of those that ran"
        |o, p| {
            let gone: u64 = p.samples(o).map(|s| s.departures).sum();
            let (up, count) = p.samples(o).fold((0.0, 0u32), |(up, count), s| (up + s.up as f64, count + 1));
            let minutes = (p.samples(o).last()?.at - p.samples(o).next()?.at) / 60.0;
            ratio(gone as f64, ratio(up, f64::from(count))? * minutes)
        };
    "latency_p50_ms" Millis Less "from publication to delivery, median" |o, _| o.latency_ms.p50();
    "latency_p99_ms" Millis Less "from publication to delivery, p99" |o, _| o.latency_ms.p99();
    "latency_max_ms" Millis Less "from publication to delivery, slowest" |o, _| o.latency_ms.max();
    "last_arrival_p50_ms" Millis Less "from publication until all have a message, median"
        |o, _| o.last_arrival_ms.p50();
    "last_arrival_p99_ms" Millis Less "from publication until all have a message, p99"
        |o, _| o.last_arrival_ms.p99();
    "stretch_p50" Plain Less "a message's last delivery / direct packet to the farthest, median"
        |o, _| o.stretch.p50();
    "stretch_p99" Plain Less "a message's last delivery / direct packet to the farthest, p99"
        |o, _| o.stretch.p99();
    "stretch_mean" Plain Less "a message's last delivery / direct packet to the farthest, mean"
        |o, _| o.stretch.mean();
    "hops_mean" Plain Less "links travelled per delivery, mean" |o, _| o.hops.mean();
    "hops_max" Plain Less "links travelled per delivery, most" |o, _| o.hops.max();
    "redundancy" Plain Less "copies received per delivery; 1 is perfect"
        |o, _| (o.counts.delivered > 0).then_some(o.redundancy);
    "gaps" Plain Less "messages reported as gaps, once per member and message"
        |o, _| (o.counts.published > 0).then_some(o.counts.gaps as f64);
    "repairs_share" Share Less "share of deliveries that came by pull"
        |o, _| ratio(o.counts.repairs as f64, o.counts.delivered as f64);
    "bytes_per_node_s" BytesPerSecond Less "part: bytes sent per second and node, mean"
        |o, p| {
            let (sum, count) =
                p.samples(o).fold((0.0, 0u32), |(sum, count), s| (sum + s.bytes_per_node_s, count + 1));
            ratio(sum, f64::from(count))
        };
    "bytes_per_node_s_max" BytesPerSecond Less "bytes sent per second by the busiest node over its life"
        |o, _| o.bytes_per_node_s.max();
    "crash_seen_by_neighbor_p99_s" Seconds Less "from a crash to a neighbor's notice, p99"
        |o, _| o.crash_seen_by_neighbor_s.p99();
    "crash_seen_by_neighbor_max_s" Seconds Less "from a crash to a neighbor's notice, slowest"
        |o, _| o.crash_seen_by_neighbor_s.max();
    "crash_seen_p99_s" Seconds Less "from a crash to the member-failed event at a member, p99"
        |o, _| o.crash_seen_s.p99();
    "crash_seen_by_all_p99_s" Seconds Less "from a crash until every member told of it, p99 of crashes"
        |o, _| o.crash_seen_by_all_s.p99();
    "leave_seen_p99_s" Seconds Less "from a goodbye to the member-left event at a member, p99"
        |o, _| o.leave_seen_s.p99();
    "leave_seen_max_s" Seconds Less "from a goodbye to the member-left event at a member, slowest"
        |o, _| o.leave_seen_s.max();
    "false_failures_per_node_day" Plain Less "members declared failed somewhere that were not, per node-day"
        |o, _| (o.false_failures.node_days > 0.0).then_some(o.false_failures.per_node_day);
    "false_failures_heard_per_node_day" Plain Less "false member-failed events a node tells, per node-day"
        |o, _| (o.false_failures.node_days > 0.0).then_some(o.false_failures.heard_per_node_day);
    "departures_unseen" Plain Less "crashes and goodbyes that not every member told of"
        |o, _| o.departures_unseen.map(|unseen| unseen as f64);
    "members_wrong_end" Plain Less "wrong entries in all member tables together, at the end"
        |o, _| o.members_wrong_end.map(|wrong| wrong as f64);
    "members_share_end" Share More "part: members a node knows of, mean, as a share of those that run, at its end"
        |o, p| p.samples(o).last().and_then(|s| ratio(s.members_mean, s.up as f64));
    "resolves_per_node_minute" Plain Less "questions to the resolver per node and minute"
        |o, _| ratio(o.counts.resolves as f64, node_seconds(o)? / 60.0);
    "dials_per_node_minute" Plain Less "dials per node and minute"
        |o, _| ratio(o.counts.dials as f64, node_seconds(o)? / 60.0);
    "deadlines_per_node_s" Plain Less "deadlines a node handles per second"
        |o, _| ratio(o.counts.deadlines as f64, node_seconds(o)?);
    "violations" Plain Less "invariants that did not hold" |o, _| Some(o.violations_total as f64);
    "wall_s" Seconds Less "real time the run took" |o, _| (o.wall_s > 0.0).then_some(o.wall_s);
    "memory_mib" Mebibytes Less "most memory of the process"
        |o, _| o.peak_memory_bytes.map(|bytes| bytes as f64 / 1_048_576.0);
    "memory_per_node_kib" Kibibytes Less "most memory of the process per node that ran"
        |o, _| {
            let nodes = o.samples.iter().map(|s| s.up).max().unwrap_or(o.nodes);
            ratio(o.peak_memory_bytes? as f64 / 1024.0, nodes as f64)
        };
};

fn least(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::min)
}

fn most(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Time that all nodes ran, from the samples.
fn node_seconds(outcome: &Outcome) -> Option<f64> {
    let mut before = 0.0;
    let mut sum = 0.0;
    for sample in &outcome.samples {
        sum += sample.up as f64 * (sample.at - before);
        before = sample.at;
    }
    (sum > 0.0).then_some(sum)
}

/// A distribution's figures, `None` without values.
trait Figures {
    fn p50(&self) -> Option<f64>;
    fn p99(&self) -> Option<f64>;
    fn max(&self) -> Option<f64>;
    fn mean(&self) -> Option<f64>;
}

impl Figures for crate::outcome::Distribution {
    fn p50(&self) -> Option<f64> {
        (self.count > 0).then_some(self.p50)
    }

    fn p99(&self) -> Option<f64> {
        (self.count > 0).then_some(self.p99)
    }

    fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, components: usize) -> Sample {
        Sample {
            at,
            up: 10,
            online: 10,
            components,
            giant_share: 1.0,
            degree_in_bounds: 1.0,
            ..Sample::default()
        }
    }

    #[test]
    fn names_are_unique_and_the_usual_ones_exist() {
        for (index, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[..index].iter().all(|other| other.name != metric.name), "{}", metric.name);
        }
        assert!(USUAL.iter().all(|name| Metric::named(name).is_some()));
        assert!(Metric::named("nothing").is_none());
    }

    #[test]
    fn what_was_not_measured_is_not_zero() {
        let nothing = Outcome::default();
        for metric in METRICS {
            let value = metric.of(&nothing, &Part::default());
            let known = matches!(metric.name, "isolation_max_s" | "violations");
            assert_eq!(value.is_some(), known, "{}: {value:?}", metric.name);
        }
    }

    #[test]
    fn a_part_of_the_run_is_looked_at() {
        let samples = vec![sample(10.0, 3), sample(20.0, 2), sample(30.0, 1), sample(40.0, 5)];
        let outcome = Outcome { samples, ..Outcome::default() };
        let part = |from, until| Part {
            from: Some(Duration::from_secs(from)),
            until: Some(Duration::from_secs(until)),
            mark: None,
        };
        let value = |name: &str, part: &Part| Metric::named(name).unwrap().of(&outcome, part);
        assert_eq!(value("components_max", &part(20, 30)), Some(2.0));
        assert_eq!(value("components_end", &part(0, 20)), Some(2.0));
        assert_eq!(value("settled_after_s", &part(12, 100)), Some(18.0));
        assert_eq!(value("settled_after_s", &part(31, 100)), None);
    }

    #[test]
    fn who_has_not_joined_yet_is_not_missing_from_the_component() {
        // Of ten that run, one is still joining and one has lost its last neighbor.
        let sample =
            Sample { up: 10, online: 8, isolated: 1, components: 3, giant_share: 0.8, ..Sample::default() };
        let outcome = Outcome { samples: vec![sample], ..Outcome::default() };
        let value = |name: &str| Metric::named(name).unwrap().of(&outcome, &Part::default()).unwrap();
        assert!((value("giant_of_members_min") - 8.0 / 9.0).abs() < 1e-9);
        assert!((value("giant_share_min") - 0.8).abs() < 1e-9);
    }

    #[test]
    fn the_worst_mark_counts_and_one_that_never_healed_is_none() {
        let mark = |what: &str, at, one| Mark {
            at,
            what: what.into(),
            until: Some(at + 60.0),
            one_component_at: one,
            ..Mark::default()
        };
        let marks = vec![
            mark("split", 10.0, Some(75.0)),
            mark("split", 200.0, Some(290.0)),
            mark("cut", 400.0, None),
        ];
        let outcome = Outcome { marks, ..Outcome::default() };
        let metric = Metric::named("one_component_after_end_s").unwrap();
        let of =
            |name: Option<&str>| metric.of(&outcome, &Part { mark: name.map(Into::into), ..Part::default() });
        assert_eq!(of(Some("split")), Some(30.0));
        assert_eq!(of(Some("cut")), None);
        assert_eq!(of(None), None);
        assert_eq!(of(Some("region")), None);
    }

    #[test]
    fn numbers_are_shown_with_their_unit_and_never_as_more_than_they_are() {
        let check = |unit: Unit, value, text: &str| assert_eq!(unit.show(value), text);
        check(Unit::Share, 0.999_996, "99.999 %");
        check(Unit::Share, 0.999, "99.9 %");
        check(Unit::Share, 1.0, "100 %");
        check(Unit::Seconds, 4.816, "4.81 s");
        check(Unit::Seconds, 31.26, "31.2 s");
        check(Unit::Millis, 412.7, "413 ms");
        check(Unit::Plain, 1.0, "1");
        check(Unit::Plain, 0.0, "0");
        check(Unit::Plain, 0.0123, "0.0123");
        check(Unit::BytesPerSecond, 447.2, "447 B/s");
        check(Unit::Seconds, f64::INFINITY, "never");
    }
}

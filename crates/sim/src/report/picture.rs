//! A run as a picture: which of its samples become panels.

use crate::outcome::{Outcome, Sample};
use crate::plot::{Curve, Mark, Panel, Plot, Scale};

/// Kinds of traffic that have a curve of their own.
const KINDS_DRAWN: usize = 3;
/// Samples over which copies are compared with deliveries.
const COPIES_SAMPLES: usize = 10;
/// Messages further apart than this share of the run are not joined by a line.
const PAUSE_SHARE: f64 = 0.1;

/// Latency, neighbors, redundancy, components and traffic over virtual time. `neighbors` are the
/// fewest a node should have and the most it wants.
#[must_use]
pub fn picture(title: &str, outcome: &Outcome, neighbors: (usize, usize)) -> Plot {
    let (low, high) = neighbors;
    let level = |name: String, value: f64| (name, value);
    let panels = vec![
        Panel {
            curves: vec![
                delivered("median", outcome, |s| s.latency_p50_ms),
                delivered("p99", outcome, |s| s.latency_p99_ms),
                delivered("slowest", outcome, |s| s.latency_max_ms),
            ],
            ..panel("delivery latency", "ms", Scale::Log)
        },
        Panel {
            curves: vec![
                curve("mean", outcome, |s| s.degree_mean),
                curve("fewest", outcome, |s| s.degree_min as f64),
                curve("most", outcome, |s| s.degree_max as f64),
            ],
            levels: vec![level(format!("low {low}"), low as f64), level(format!("high {high}"), high as f64)],
            ..panel("neighbors of a node", "", Scale::Linear)
        },
        Panel {
            curves: vec![copies(outcome)],
            levels: vec![level("perfect".to_owned(), 1.0)],
            ..panel("copies received per delivery", "", Scale::Linear)
        },
        Panel {
            curves: vec![curve("share", outcome, |s| s.giant_share * 100.0)],
            ..panel("running nodes in the largest component", "%", Scale::Zoomed)
        },
        Panel {
            curves: vec![
                curve("running", outcome, |s| s.up as f64),
                curve("with a neighbor", outcome, |s| s.online as f64),
            ],
            ..panel("nodes", "", Scale::Linear)
        },
        Panel { curves: traffic(outcome), ..panel("sent per second and node", "B/s", Scale::Log) },
    ];
    let label = |mark: &crate::outcome::Mark| match mark.nodes {
        0 => mark.what.clone(),
        nodes => format!("{} ({nodes} nodes)", mark.what),
    };
    let mark =
        |mark: &crate::outcome::Mark| Mark { from_s: mark.at, until_s: mark.until, label: label(mark) };
    Plot {
        title: title.to_owned(),
        subtitle: format!("{} nodes, seed {}: {}", outcome.nodes, outcome.seed, outcome.replay),
        until_s: outcome.duration_s,
        panels,
        marks: outcome.marks.iter().map(mark).collect(),
    }
}

fn panel(title: &str, unit: &str, scale: Scale) -> Panel {
    Panel { title: title.to_owned(), unit: unit.to_owned(), scale, curves: Vec::new(), levels: Vec::new() }
}

fn curve(name: &str, outcome: &Outcome, value: impl Fn(&Sample) -> f64) -> Curve {
    let points = outcome.samples.iter().map(|sample| (sample.at, value(sample))).collect();
    Curve { name: name.to_owned(), points }
}

/// A curve through the samples in which something was delivered: nothing delivered is no latency
/// rather than none.
fn delivered(name: &str, outcome: &Outcome, value: impl Fn(&Sample) -> f64) -> Curve {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for sample in outcome.samples.iter().filter(|sample| sample.delivered > 0) {
        if let Some((before, _)) = points.last()
            && sample.at - before > outcome.duration_s * PAUSE_SHARE
        {
            points.push((sample.at, f64::NAN));
        }
        points.push((sample.at, value(sample)));
    }
    Curve { name: name.to_owned(), points }
}

/// Copies per delivery over a few samples at a time: the copies of one message are often counted in
/// the sample after its deliveries.
fn copies(outcome: &Outcome) -> Curve {
    let point = |recent: &[Sample]| {
        let delivered: f64 = recent.iter().map(|sample| sample.delivered as f64).sum();
        let received: f64 = recent.iter().map(|sample| sample.redundancy * sample.delivered as f64).sum();
        let at = recent.last().map_or(0.0, |sample| sample.at);
        (at, if delivered > 0.0 { received / delivered } else { f64::NAN })
    };
    let points = outcome.samples.windows(COPIES_SAMPLES).map(point).collect();
    Curve { name: "redundancy".to_owned(), points }
}

/// All that was sent, and what most of it was.
fn traffic(outcome: &Outcome) -> Vec<Curve> {
    let mut kinds: Vec<(&String, f64)> =
        outcome.bytes_by_kind.iter().map(|(kind, rate)| (kind, *rate)).collect();
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let of =
        |kind: &str| curve(kind, outcome, |sample| sample.bytes_by_kind.get(kind).copied().unwrap_or(0.0));
    let largest = kinds.iter().take(KINDS_DRAWN).map(|(kind, _)| of(kind));
    std::iter::once(curve("all", outcome, |sample| sample.bytes_per_node_s)).chain(largest).collect()
}

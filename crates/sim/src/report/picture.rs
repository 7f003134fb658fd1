//! A run as a picture: which of its samples become panels.

use crate::outcome::{Outcome, Sample};
use crate::plot::{Curve, Mark, Panel, Plot, Scale};

/// Latency, neighbors, redundancy, components and traffic over virtual time. `neighbors` are the
/// fewest a node should have and the most it may have.
#[must_use]
pub fn picture(title: &str, outcome: &Outcome, neighbors: (usize, usize)) -> Plot {
    let curve = |name: &str, value: &dyn Fn(&Sample) -> f64| Curve {
        name: name.to_owned(),
        points: outcome.samples.iter().map(|sample| (sample.at, value(sample))).collect(),
    };
    // Nothing delivered is no latency rather than none.
    let delivered = |sample: &Sample, value: f64| if sample.delivered > 0 { value } else { f64::NAN };
    let panel = |title: &str, unit: &str, scale, curves| Panel {
        title: title.to_owned(),
        unit: unit.to_owned(),
        scale,
        curves,
        levels: Vec::new(),
    };
    let mut degree = panel(
        "neighbors of a node",
        "",
        Scale::Linear,
        vec![
            curve("mean", &|s| s.degree_mean),
            curve("fewest", &|s| s.degree_min as f64),
            curve("most", &|s| s.degree_max as f64),
        ],
    );
    degree.levels = vec![
        (format!("low {}", neighbors.0), neighbors.0 as f64),
        (format!("high {}", neighbors.1), neighbors.1 as f64),
    ];
    let redundancy = vec![curve("redundancy", &|s| delivered(s, s.redundancy))];
    let mut copies = panel("copies received per delivery", "", Scale::Linear, redundancy);
    copies.levels = vec![("perfect".to_owned(), 1.0)];
    let panels = vec![
        panel(
            "delivery latency",
            "ms",
            Scale::Log,
            vec![
                curve("median", &|s| delivered(s, s.latency_p50_ms)),
                curve("p99", &|s| delivered(s, s.latency_p99_ms)),
                curve("slowest", &|s| delivered(s, s.latency_max_ms)),
            ],
        ),
        degree,
        copies,
        panel(
            "running nodes in the largest component",
            "%",
            Scale::Zoomed,
            vec![curve("share", &|s| s.giant_share * 100.0)],
        ),
        panel(
            "nodes",
            "",
            Scale::Linear,
            vec![curve("running", &|s| s.up as f64), curve("with a neighbor", &|s| s.online as f64)],
        ),
        panel("sent per second and node", "B/s", Scale::Linear, vec![curve("all", &|s| s.bytes_per_node_s)]),
    ];
    let marks = outcome.marks.iter().map(|mark| Mark {
        from_s: mark.at,
        until_s: mark.until,
        label: mark.what.clone(),
    });
    Plot {
        title: title.to_owned(),
        subtitle: format!("{} nodes, seed {}: {}", outcome.nodes, outcome.seed, outcome.replay),
        until_s: outcome.duration_s,
        panels,
        marks: marks.collect(),
    }
}

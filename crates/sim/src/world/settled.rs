//! What a settled mesh does not do: talk without need, and make and break links for ever.
//!
//! A mesh is settled some time after the last join, scripted fault and departure. From then on
//! every run is looked at, if at least a minute of it is left.

use std::time::Duration;

use super::{World, ns};
use crate::outcome::Sample;
use crate::plan::Join;
use crate::traffic::{Kind, NAMES};
use crate::watch::seconds;

/// Less than this is too short to judge.
const LOOKED_AT: Duration = Duration::from_secs(60);

/// What is sent because somebody publishes.
const OF_MESSAGES: [Kind; 6] =
    [Kind::Flood, Kind::Aside, Kind::Acknowledge, Kind::Repair, Kind::Positions, Kind::Baselines];

/// What happened in the settled part of a run.
#[derive(Debug, Default)]
struct Rest {
    span: f64,
    /// Bytes per node, those of messages left out.
    bytes: f64,
    /// Links made per node.
    links: f64,
}

impl World {
    /// An idle mesh is quiet, and links do not come and go.
    pub(super) fn check_rest(&mut self) {
        let rest = self.rest();
        if rest.span < LOOKED_AT.as_secs_f64() {
            return;
        }
        self.watch.reached("a settled mesh was looked at");
        let checks = &self.plan.checks;
        let bytes = rest.bytes / rest.span;
        if let Some(most) = checks.quiet_bytes.filter(|most| bytes > *most) {
            let text = format!("{bytes:.0} bytes per second and node, at most {most:.0} are allowed");
            self.watch.violated(self.now, None, "an idle mesh is quiet", text);
        }
        let links = rest.links / rest.span * 60.0;
        if let Some(most) = self.plan.checks.links_per_node_minute.filter(|most| links > *most) {
            let text = format!("{links:.2} links made per node and minute, at most {most} are allowed");
            self.watch.violated(self.now, None, "links do not come and go", text);
        }
    }

    fn rest(&self) -> Rest {
        let from = seconds(self.last_trouble() + ns(self.plan.checks.settles_in));
        // Who suspects a split dials members of the past for half an hour (section 3.11).
        let cores = || self.hosts.iter().filter_map(|host| host.core.as_ref());
        let split = cores().any(|core| core.stats().splits_suspected > 0);
        let mut rest = Rest::default();
        let mut before = 0.0;
        for sample in &self.watch.samples {
            let span = sample.at - before;
            if before >= from && sample.up > 0 {
                rest.span += span;
                rest.bytes += span * unasked(sample, split);
                rest.links += sample.links_made as f64 / sample.up as f64;
            }
            before = sample.at;
        }
        rest
    }

    /// When the last node joined or went, or the last fault was over.
    fn last_trouble(&self) -> u64 {
        let joined = match self.plan.join {
            Join::AtOnce => 0,
            Join::Over(span) => ns(span),
        };
        joined.max(self.faults_end)
    }
}

/// Bytes per second and node that no message asked for, nor the search for lost halves.
fn unasked(sample: &Sample, split: bool) -> f64 {
    let excused = |name: &str| {
        let of_messages = OF_MESSAGES.iter().any(|kind| NAMES[*kind as usize] == name);
        of_messages || (split && name == NAMES[Kind::Dial as usize])
    };
    sample.bytes_by_kind.iter().filter(|(name, _)| !excused(name)).map(|(_, bytes)| bytes).sum()
}

//! Looking at the whole mesh: samples over time, and what must hold.

use std::collections::BTreeMap;
use std::time::Duration;

use peerchannel_mesh::Node;
use peerchannel_wire::MemberStatus;

use super::{Event, NOBODY, World, ns};
use crate::host::Host;
use crate::outcome::Sample;
use crate::place::index_of;
use crate::traffic::{KINDS, Kind, NAMES};
use crate::transport::{ACK_PACKET, PING_PACKET};
use crate::watch::{Recent, seconds};

/// A pair's count of links is looked at, and forgotten, this often.
const MINUTE: u64 = 60_000_000_000;

/// Of what changed this late not every member has to know.
const SETTLED: Duration = Duration::from_secs(30);

/// Disjoint sets of nodes.
struct Sets(Vec<u32>);

impl Sets {
    fn new(count: usize) -> Self {
        Self((0..u32::try_from(count).unwrap_or(u32::MAX)).collect())
    }

    fn find(&mut self, node: u32) -> u32 {
        let mut root = node;
        while self.0[root as usize] != root {
            let above = self.0[self.0[root as usize] as usize];
            self.0[root as usize] = above;
            root = above;
        }
        root
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b) as usize] = a.min(b);
    }
}

/// Who is whose neighbor, as the nodes see it.
struct Graph {
    // By node: where its neighbors begin in `others`; one more for the end.
    starts: Vec<u32>,
    // Sorted within each node.
    others: Vec<u32>,
}

impl Graph {
    fn of(&self, node: u32) -> &[u32] {
        let (from, to) = (self.starts[node as usize], self.starts[node as usize + 1]);
        &self.others[from as usize..to as usize]
    }

    fn has(&self, node: u32, other: u32) -> bool {
        self.of(node).binary_search(&other).is_ok()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl World {
    pub(super) fn sample(&mut self) {
        self.queue.push(self.now + ns(self.plan.sample_every), NOBODY, Event::Sample);
        self.account_keep_alives();
        let graph = self.graph();
        let mut sample = self.topology(&graph);
        self.check_agreement(&graph);
        self.check_nodes();
        self.check_pairs();
        let recent = std::mem::take(&mut self.watch.recent);
        let span = seconds(self.now - recent.at).max(1e-9);
        let per_node = |bytes: u64| ratio(bytes, u64::from(self.up).max(1)) / span;
        let all: u64 = recent.sent.iter().sum();
        sample.published = recent.published;
        sample.delivered = recent.delivered;
        sample.redundancy = ratio(recent.copies, recent.delivered);
        sample.latency_p50_ms = recent.latency.quantile(0.5);
        sample.latency_p99_ms = recent.latency.quantile(0.99);
        sample.latency_max_ms = recent.latency.max();
        sample.bytes_per_node_s = per_node(all);
        sample.bytes_by_kind =
            by_kind(&recent.sent).into_iter().map(|(name, bytes)| (name, per_node(bytes))).collect();
        sample.links_made = recent.neighbors_up / 2;
        sample.links_lost = recent.neighbors_down / 2;
        sample.departures = recent.departures;
        sample.arrivals = recent.arrivals;
        sample.false_failures = recent.false_failures;
        self.watch.counts.links_made += recent.neighbors_up / 2;
        // The memory of the histogram is kept.
        let mut latency = recent.latency;
        latency.clear();
        // An odd half is counted with the next sample.
        let (neighbors_up, neighbors_down) = (recent.neighbors_up % 2, recent.neighbors_down % 2);
        self.watch.recent =
            Recent { at: self.now, latency, neighbors_up, neighbors_down, ..Recent::default() };
        if let Some(mark) = self.watch.marks.last_mut() {
            if sample.components != 1 {
                mark.one_component_at = None;
            } else if mark.one_component_at.is_none() {
                mark.one_component_at = Some(sample.at);
            }
        }
        let hash = (sample.giant_share.to_bits() ^ sample.degree_mean.to_bits()).rotate_left(7);
        self.watch.write(10, self.now, NOBODY, hash);
        self.watch.samples.push(sample);
    }

    /// Keep-alives of idle connections are computed, not simulated.
    fn account_keep_alives(&mut self) {
        for slot in self.links.slots() {
            let now = self.now;
            let Some(link) = self.links.in_slot(slot) else { continue };
            let [a, b] = &link.ends;
            let (here, there) = (a.host, b.host);
            let alive = a.open && b.open && !a.silent && !b.silent;
            let count = link.keep_alives(now);
            if alive && count > 0 {
                self.account(here, Kind::KeepAlive, count * PING_PACKET);
                self.account(there, Kind::KeepAlive, count * ACK_PACKET);
            }
        }
    }

    fn graph(&self) -> Graph {
        let mut starts = Vec::with_capacity(self.hosts.len() + 1);
        let mut others = Vec::with_capacity(self.hosts.len() * 8);
        for host in &self.hosts {
            let from = others.len();
            starts.push(u32::try_from(from).unwrap_or(u32::MAX));
            if let Some(core) = &host.core {
                others.extend(core.neighbors().filter_map(|neighbor| {
                    let other = index_of(&neighbor.node);
                    let present = self.hosts.get(other as usize).is_some_and(|h| h.id == neighbor.node);
                    present.then_some(other)
                }));
                others[from..].sort_unstable();
            }
        }
        starts.push(u32::try_from(others.len()).unwrap_or(u32::MAX));
        Graph { starts, others }
    }

    fn topology(&mut self, graph: &Graph) -> Sample {
        let mut sets = Sets::new(self.hosts.len());
        let mut sample = Sample { at: seconds(self.now), degree_min: usize::MAX, ..Sample::default() };
        let low = self.plan.config.neighbors_low.min(self.up.saturating_sub(1) as usize);
        let (mut links, mut within, mut members) = (0, 0, 0);
        for (node, host) in (0u32..).zip(&self.hosts) {
            if !host.up {
                continue;
            }
            let others = graph.of(node);
            for other in others.iter().filter(|other| graph.has(**other, node)) {
                sets.join(node, *other);
            }
            let degree = others.len();
            sample.up += 1;
            sample.online += usize::from(degree > 0);
            sample.degree_min = sample.degree_min.min(degree);
            sample.degree_max = sample.degree_max.max(degree);
            links += degree;
            // Stricter than what is allowed for a moment: what a settled mesh should have.
            within += usize::from(degree >= low && degree <= self.plan.config.neighbors_high);
            members += host.core.as_ref().map_or(0, |core| core.stats().members);
            if let Some(since) = host.life_story.alone {
                sample.isolated += 1;
                sample.isolated_longest_s = sample.isolated_longest_s.max(seconds(self.now - since));
            }
        }
        let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
        for (node, _) in (0u32..).zip(&self.hosts).filter(|(_, host)| host.up) {
            *sizes.entry(sets.find(node)).or_default() += 1;
        }
        let up = sample.up as u64;
        sample.degree_min = if up == 0 { 0 } else { sample.degree_min };
        sample.components = sizes.len();
        sample.giant_share = ratio(sizes.values().copied().max().unwrap_or(0), up);
        sample.degree_mean = ratio(links as u64, up);
        sample.degree_in_bounds = ratio(within as u64, up);
        sample.members_mean = ratio(members, up);
        sample
    }

    /// Most neighbors a node may have now.
    fn neighbors_max(&self, core: Option<&Node>) -> usize {
        let own = core.map_or(self.plan.config.neighbors_high, Node::neighbors_at_most);
        self.plan.checks.neighbors_max.unwrap_or(own)
    }

    /// Both ends of a settled link agree.
    fn check_agreement(&mut self, graph: &Graph) {
        let Some(within) = self.plan.checks.agree_within else { return };
        let mut disagreements = BTreeMap::new();
        for (node, host) in (0u32..).zip(&self.hosts) {
            for other in graph.of(node).iter().copied().filter(|other| !graph.has(*other, node)) {
                let there = &self.hosts[other as usize];
                let paused = host.standing.paused.is_some() || there.standing.paused.is_some();
                let slow = host.standing.handling > 0 || there.standing.handling > 0;
                if there.up && !paused && !slow && !self.walled(node, other) && !self.walled(other, node) {
                    let since = self.watch.disagreements.get(&(node, other)).copied();
                    disagreements.insert((node, other), since.unwrap_or(self.now));
                }
            }
        }
        for ((node, other), since) in &mut disagreements {
            if *since != u64::MAX && self.now - *since > ns(within) {
                let text = format!("node {other} is its neighbor, but not the other way round");
                self.watch.violated(self.now, Some(*node), "both ends of a link agree", text);
                *since = u64::MAX;
            }
        }
        self.watch.disagreements = disagreements;
    }

    /// What holds of every node at any time.
    fn check_nodes(&mut self) {
        let now = self.now;
        let span = seconds(now - self.watch.recent.at).max(0.001);
        let spins = f64::from(self.plan.checks.deadlines_per_second) * span.max(1.0);
        let config = self.config.clone();
        for node in 0..u32::try_from(self.hosts.len()).unwrap_or(u32::MAX) {
            let most = self.neighbors_max(self.hosts[node as usize].core.as_deref());
            let host = &mut self.hosts[node as usize];
            let deadlines = std::mem::take(&mut host.life_story.deadlines);
            let Some(core) = &host.core else { continue };
            let stats = core.stats();
            let faults = stats.bad_signatures;
            let faults_before = std::mem::replace(&mut host.life_story.faults, faults);
            let rules: [(bool, &str, &dyn Fn() -> String); 7] = [
                (stats.neighbors as usize <= most, "as many neighbors as allowed", &|| {
                    format!("{} of {most}", stats.neighbors)
                }),
                (f64::from(deadlines) <= spins, "no spinning", &|| {
                    format!("{deadlines} deadlines in {span:.1} s")
                }),
                (faults <= faults_before, "honest nodes sign well", &|| {
                    format!("{} signatures were bad", stats.bad_signatures)
                }),
                (
                    stats.retained_bytes as usize <= config.retention_bytes + config.max_message,
                    "retention within its limit",
                    &|| format!("{} bytes", stats.retained_bytes),
                ),
                (
                    stats.held_back_bytes as usize <= config.hold_back_bytes + config.max_message,
                    "held-back messages within their limit",
                    &|| format!("{} bytes", stats.held_back_bytes),
                ),
                (
                    stats.streams as usize <= config.streams_max + config.channels_per_origin_max,
                    "streams within their limit",
                    &|| stats.streams.to_string(),
                ),
                // Neighbors outside the sample and those that recently went count up to as much again.
                (stats.members as usize <= 2 * config.members_max + 1, "members within their limit", &|| {
                    stats.members.to_string()
                }),
            ];
            for (holds, rule, text) in rules {
                if !holds {
                    self.watch.violated(now, Some(node), rule, text());
                }
            }
        }
    }

    /// The same two nodes do not link and part again and again.
    fn check_pairs(&mut self) {
        if self.now / MINUTE == self.watch.recent.at / MINUTE {
            return;
        }
        let pairs = std::mem::take(&mut self.watch.pairs);
        let Some(most) = self.plan.checks.links_per_pair_minute else { return };
        for ((node, other), count) in pairs {
            if count > most {
                let text = format!("node {other} became its neighbor {count} times within a minute");
                self.watch.violated(self.now, Some(node), "no flapping links", text);
            }
        }
    }

    /// A message should have reached every member that was there all the while.
    pub(super) fn due(&mut self, number: u32) {
        let message = &self.ledger.messages[number as usize];
        let stream = &self.ledger.streams[message.stream as usize];
        let (at, settled) = (message.at, ns(self.plan.checks.settled));
        let origin = stream.origin;
        let lives = self.hosts[origin as usize].lives(stream.life);
        let committed = stream.committed >= message.sequence;
        let mut without = Vec::new();
        let mut with = 0u32;
        for (node, host) in (0u32..).zip(&self.hosts) {
            let member = host.life_story.online.is_some_and(|online| online + settled <= at);
            if host.up && !host.leaving && member && node != origin {
                if host.received.has(number) {
                    with += 1;
                } else if !host.received.misses(number) {
                    without.push(node);
                }
            }
        }
        if without.is_empty() {
            return;
        }
        // Nobody has it who could pass it on: it went with its origin.
        if with == 0 && !lives {
            self.watch.counts.lost_with_origin += 1;
            if committed {
                self.watch.reached("a committed message was lost with all that had it");
            }
            return;
        }
        let few: Vec<String> = without.iter().take(5).map(u32::to_string).collect();
        let text = format!(
            "message {number} of node {origin}, published at {:.3} s, did not reach {} of {} members: {}",
            seconds(at),
            without.len(),
            without.len() + with as usize,
            few.join(", "),
        );
        self.watch.violated(self.now, without.first().copied(), "everyone receives", text);
    }

    /// The last look.
    pub(super) fn finish(&mut self) {
        if self.watch.recent.at < self.now {
            self.sample();
        }
        let now = self.now;
        for host in &self.hosts {
            if !host.up {
                continue;
            }
            let story = &host.life_story;
            let lived = now - story.started;
            self.watch.uptime += u128::from(lived);
            if lived > 1_000_000_000 {
                self.watch.rate.add(ratio(story.sent, 1) / seconds(lived));
            }
            if let Some(since) = story.alone {
                self.watch.isolation.add(seconds(now - since));
            }
            if let Some(core) = &host.core {
                self.watch.note_stats(&core.stats());
            }
        }
        self.watch.members_wrong = self.tables_are_complete().then(|| self.wrong_members());
        self.check_rest();
    }

    /// Compares every member table with who runs.
    fn wrong_members(&self) -> u64 {
        // Of these not everybody has to know yet.
        let settled = |host: &Host| {
            let story = &host.life_story;
            let ended = story.departure.and_then(|d| self.watch.departures.get(d as usize));
            self.now - story.started >= ns(SETTLED) && ended.is_none_or(|d| self.now - d.at >= ns(SETTLED))
        };
        let judged: Vec<bool> = self.hosts.iter().map(settled).collect();
        let expected = self.hosts.iter().zip(&judged).filter(|(host, judged)| host.up && **judged).count();
        let mut wrong = 0;
        for host in
            self.hosts.iter().zip(&judged).filter(|(host, judged)| host.up && **judged).map(|(h, _)| h)
        {
            let Some(core) = &host.core else { continue };
            let (mut right, mut ghosts) = (1, 0); // it knows itself
            for member in core.members().filter(|m| m.status == MemberStatus::Alive && m.node != host.id) {
                let other = index_of(&member.node) as usize;
                match self.hosts.get(other).filter(|other| other.id == member.node) {
                    Some(there) if judged[other] && there.up => right += 1,
                    Some(_) if !judged[other] => {}
                    _ => ghosts += 1,
                }
            }
            wrong += (expected.saturating_sub(right) + ghosts) as u64;
        }
        wrong
    }
}

/// Bytes or frames by the name of their kind, those that are none left out.
pub(super) fn by_kind(sent: &[u64; KINDS]) -> BTreeMap<String, u64> {
    NAMES
        .iter()
        .zip(sent)
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

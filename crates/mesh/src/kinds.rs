//! Far and near links: how many of each, and whom to dial for which.
//!
//! Far links go to nodes drawn uniformly from all this node ever heard of; they hold the mesh
//! together. Near links go to the nodes with the shortest round trips; they make it fast. Half
//! of the target is far, and at least half of those are links that this node chose itself, so
//! that nobody who dials it can surround it (docs/protocol.md section 3.5). None of this matters
//! below ten members, where everyone is everyone's neighbor.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use peerchannel_wire::{LinkKind, NodeAddress, NodeId};

use crate::candidates::{Key, Source};
use crate::connect::HEALING_MAX;
use crate::input::{Candidate, DialId, LinkId};
use crate::link::Link;
use crate::node::Node;
use crate::sampler::Sampler;
use crate::swap::{Swap, Trials};
use crate::time::Time;

/// Members from which on far and near links are told apart: below, every member can be every
/// other's neighbor.
const LARGE: usize = 10;

/// A node that joined longer ago than this fills up its far links before its near ones. Before,
/// it waits for those that others open to it: as many as it has to open itself.
const SETTLED: Duration = Duration::from_secs(60);

/// Far links to one /24 (IPv4) or /48 (IPv6) network: two hosts of one owner must not become
/// most of a node's neighbors (Marcus et al. 2018, section 2.3 of the literature on eclipses).
const FAR_PER_PREFIX: usize = 2;

/// Anchors that survive a restart (Bitcoin Core keeps two).
const ANCHORS: usize = 2;

/// What a node remembers to choose its neighbors by.
#[derive(Debug)]
pub(crate) struct Neighborhood {
    pub(crate) sampler: Sampler,
    /// Somebody's dial brought a link in this join: nodes that cannot be dialed need this one.
    pub(crate) dialable: bool,
    /// When one of the links between the low limit and the target is dialed.
    pub(crate) top_up: Option<Time>,
    /// Those dialed since one of them became a neighbor.
    pub(crate) vain_top_ups: u32,
    /// Since when this node has fewer links than its low limit.
    pub(crate) below_low: Option<Time>,
    /// It has had for so long that those it dials are told.
    pub(crate) lacking: bool,
    pub(crate) swap: Swap,
    pub(crate) swap_pause: Duration,
    pub(crate) trials: Trials,
    /// The dial that is to replace a far link.
    pub(crate) rotation: Option<DialId>,
    /// When a neighbor last made room for a node that had none.
    pub(crate) evicted: Option<Time>,
    /// The link that is dropped if its peer still can do without it.
    pub(crate) pruning: Option<LinkId>,
}

impl Neighborhood {
    pub(crate) const fn new(sampler: Sampler, now: Time) -> Self {
        Self {
            sampler,
            dialable: false,
            top_up: None,
            vain_top_ups: 0,
            below_low: None,
            lacking: false,
            swap: Swap::Idle,
            swap_pause: crate::swap::PAUSE_FIRST,
            trials: Trials::new(now),
            rotation: None,
            evicted: None,
            pruning: None,
        }
    }
}

impl Node {
    /// The most neighbors this node has at the moment: `neighbors_high`, or `dialable_high`
    /// once it knows that it can be dialed and the mesh is larger than nine.
    ///
    /// More never last, but for those of [`neighbors_at_most`](Self::neighbors_at_most): a link
    /// beyond is dropped in the same call that brought it up.
    #[must_use]
    pub fn neighbors_max_now(&self) -> usize {
        if self.neighborhood.dialable && self.is_large() {
            self.config.dialable_high
        } else {
            self.config.neighbors_high
        }
    }

    /// The same with the links on top that were made to mend a split: up to four, each for half a
    /// minute.
    #[must_use]
    pub fn neighbors_at_most(&self) -> usize {
        let mending = self.links.flooding().filter(|link| link.debt.heals_until.is_some());
        self.neighbors_max_now() + mending.count().min(HEALING_MAX)
    }

    /// The two far neighbors this node has had for longest, with the addresses they can be
    /// dialed at. Kept over a restart and given to [`add_anchors`](Self::add_anchors), they
    /// lead back into the same mesh, whatever resolvers say.
    #[must_use]
    pub fn anchors(&self) -> Vec<Candidate> {
        let mut links: Vec<&Link> = self.links.flooding().collect();
        links.sort_by_key(|link| (link.kind != LinkKind::Far, link.since, link.id));
        let candidates = links.into_iter().filter_map(|link| {
            let address = self.address_of(link)?;
            Some(Candidate { node: Some(link.peer), addresses: address.addresses().to_vec() })
        });
        candidates.take(ANCHORS).collect()
    }

    /// Gives back what [`anchors`](Self::anchors) told in an earlier run. A node without
    /// neighbors tries them first.
    pub fn add_anchors(&mut self, now: Time, anchors: Vec<Candidate>) {
        let others = anchors.into_iter().filter(|anchor| anchor.node != Some(self.me.node));
        for anchor in others.take(ANCHORS) {
            self.candidates.add(anchor, Source::Anchor, now, &mut self.chance);
        }
        self.timers.set_by(crate::timers::Timer::Maintain, now);
    }

    /// Whether the mesh is so small that everyone links to everyone.
    pub(crate) fn is_small(&self) -> bool {
        self.members.alive() < self.config.full_mesh()
    }

    /// Whether far and near links are told apart.
    pub(crate) fn is_large(&self) -> bool {
        !self.is_small() && self.members.alive() + 1 >= LARGE
    }

    /// Links of the target that are far.
    pub(crate) fn far_share(&self) -> usize {
        self.config.neighbors_target / 2
    }

    /// Far links that this node must have chosen itself.
    pub(crate) fn own_far_min(&self) -> usize {
        (self.config.neighbors_target / 4).max(1).min(self.far_share())
    }

    pub(crate) fn far_links(&self) -> usize {
        self.links.flooding().filter(|link| link.kind == LinkKind::Far).count()
    }

    pub(crate) fn own_far_links(&self) -> usize {
        self.links.flooding().filter(|link| self.is_own_far(link)).count()
    }

    /// Whether a link is far, and of this node's own choice.
    pub(crate) fn is_own_far(&self, link: &Link) -> bool {
        link.kind == LinkKind::Far && link.opened_by_us()
    }

    /// Far links of its own choice that this node lacks, dials under way not counted.
    pub(crate) fn own_far_missing(&self) -> usize {
        if self.is_large() { self.own_far_min().saturating_sub(self.own_far_links()) } else { 0 }
    }

    /// Whether a link may make way for a nearer one: every near link, and far ones that others
    /// opened, while this node has more far links than it wants links at all. The opener misses
    /// its far link and dials another, so fewer would not do: a quarter of the target less is what
    /// chance brings to one node in three.
    pub(crate) fn is_replaceable(&self, link: &Link) -> bool {
        match link.kind {
            LinkKind::Near => true,
            LinkKind::Trial => false,
            LinkKind::Far => !link.opened_by_us() && self.far_links() > self.config.neighbors_target,
        }
    }

    /// What the next dial is for.
    pub(crate) fn kind_wanted(&self, now: Time) -> LinkKind {
        if !self.is_large() {
            return LinkKind::Near;
        }
        let dialing = self.dials.values().filter(|dial| dial.kind == LinkKind::Far).count();
        let connecting = self.links.iter().filter(|link| {
            link.opened_by_us() && link.kind == LinkKind::Far && link.counts() && !link.is_up()
        });
        let coming = dialing + connecting.count();
        let own = self.own_far_links() + coming < self.own_far_min();
        let settled = now.since(self.started) >= SETTLED;
        if own || (settled && self.far_links() + coming < self.far_share()) {
            LinkKind::Far
        } else {
            LinkKind::Near
        }
    }

    /// Whom to dial for a link of a kind, if there is anyone to try now.
    pub(crate) fn choose(&mut self, now: Time, kind: LinkKind) -> Option<Key> {
        let links = &self.links;
        let chosen = match kind {
            LinkKind::Far => self.choose_far(now),
            LinkKind::Near | LinkKind::Trial if self.is_large() => {
                let nearest = self.candidates.nearest(now, &self.place, |node| links.reaches(node));
                nearest.map(|(key, _)| key)
            }
            LinkKind::Near | LinkKind::Trial => None,
        };
        let links = &self.links;
        chosen.or_else(|| {
            let any = self.candidates.eligible(1, now, &mut self.chance, |node| links.reaches(node));
            any.first().copied()
        })
    }

    fn choose_far(&mut self, now: Time) -> Option<Key> {
        let me = self.me.node;
        let sample: Vec<NodeAddress> = self
            .neighborhood
            .sampler
            .sample()
            .filter(|address| address.node() != me && !self.links.reaches(address.node()))
            .filter(|address| self.candidates.may_dial(address.node(), now))
            .cloned()
            .collect();
        let roomy: Vec<NodeAddress> =
            sample.iter().filter(|address| !self.is_crowded(address.addresses())).cloned().collect();
        // Where there is nobody else, too many of one network are better than too few.
        let pool = if roomy.is_empty() { sample } else { roomy };
        let chosen = self.chance.sample(pool, 1).pop()?;
        let candidate = Candidate { node: Some(chosen.node()), addresses: chosen.addresses().to_vec() };
        self.candidates.add(candidate, Source::Hearsay, now, &mut self.chance);
        Some(Key::Node(chosen.node()))
    }

    /// Whether far links of ours go to this network already, or are about to.
    fn is_crowded(&self, addresses: &[SocketAddr]) -> bool {
        let Some(prefix) = addresses.first().and_then(|address| prefix(address.ip())) else { return false };
        let same = self.links.iter().filter(|link| {
            link.kind == LinkKind::Far
                && link.opened_by_us()
                && link.counts()
                && crate::kinds::prefix(link.address.ip()) == Some(prefix)
        });
        let dials = self.dials.values().filter(|dial| dial.kind == LinkKind::Far);
        let places = dials.filter_map(|dial| self.candidates.place_of(dial.candidate.as_ref()?));
        let coming = places.filter(|place| crate::kinds::prefix(place.ip()) == Some(prefix));
        same.count() + coming.count() >= FAR_PER_PREFIX
    }

    /// Where a neighbor can be dialed: where this node dialed it, and where it says.
    pub(crate) fn address_of(&self, link: &Link) -> Option<NodeAddress> {
        let said = self.members.get(link.peer).map(|member| member.record.facts().addresses.as_slice());
        let dialed = link.opened_by_us().then_some(link.address);
        NodeAddress::new(link.peer, dialed.into_iter().chain(said.unwrap_or_default().iter().copied()))
    }

    /// Somebody told of a node: perhaps a neighbor one day.
    pub(crate) fn hear_of(&mut self, now: Time, address: &NodeAddress, source: Source) {
        let node = address.node();
        if node == self.me.node {
            return;
        }
        self.neighborhood.sampler.feed(address);
        let candidate = Candidate { node: Some(node), addresses: address.addresses().to_vec() };
        self.candidates.add(candidate, source, now, &mut self.chance);
    }

    /// A member's record is new. What failed before may work now.
    pub(crate) fn hear_of_member(&mut self, now: Time, address: &NodeAddress) {
        if address.node() == self.me.node {
            return;
        }
        self.candidates.forgive(address.node());
        // In a large mesh records come by the thousand: they fill the table, but do not churn it.
        if self.candidates.is_full() {
            self.neighborhood.sampler.feed(address);
        } else {
            self.hear_of(now, address, Source::Hearsay);
        }
    }

    /// A node is gone.
    pub(crate) fn forget_candidate(&mut self, node: NodeId) {
        self.candidates.remove(node);
        self.neighborhood.sampler.forget(node);
    }
}

/// The network an address belongs to, if the address means something everywhere.
fn prefix(ip: IpAddr) -> Option<(u64, bool)> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let local = ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared || a == 0;
            (!local).then(|| (u64::from(u32::from_be_bytes([0, a, b, c])), false))
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            // 2000::/3 is all of the global unicast space.
            (a >> 13 == 1).then(|| (u64::from(a) << 32 | u64::from(b) << 16 | u64::from(c), true))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_networks_are_counted() {
        let check = |text: &str, public: bool| {
            assert_eq!(prefix(text.parse().unwrap()).is_some(), public, "{text}");
        };
        check("8.8.8.8", true);
        check("::ffff:8.8.8.8", true);
        check("2001:db8::1", true);
        for local in ["10.1.2.3", "192.168.1.1", "172.16.0.1", "127.0.0.1", "169.254.1.1", "100.64.0.1"] {
            check(local, false);
        }
        for local in ["::1", "fe80::1", "fd00::1"] {
            check(local, false);
        }
    }

    #[test]
    fn networks_are_told_apart_by_their_first_bits() {
        let of = |text: &str| prefix(text.parse().unwrap());
        assert_eq!(of("8.8.8.8"), of("8.8.8.200"));
        assert_ne!(of("8.8.8.8"), of("8.8.9.8"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:1:ffff::9"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
    }
}

//! Round-trip times, measured by this node's own pings, and what pongs tell beside them.
//!
//! A ping leaves in the same moment as a digest, so that both share a packet: every few seconds
//! on a new link, and every minute or two from each end of an old one. The least of the recent
//! times is the link's.

use std::time::Duration;

use peerchannel_wire::{Balance, Connect, ControlFrame, Coordinate, Features, Pong, Welcome};

use crate::input::LinkId;
use crate::node::Node;
use crate::time::Time;

/// A ping that was not answered for this long is not waited for.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// Once a link has enough measurements, one in this time will do, however often digests go: the
/// pings of a quiet mesh are a seventh of its traffic with 10 s.
const MEASURED_PAUSE: Duration = Duration::from_secs(60);

impl Node {
    /// Measures a link, unless that was done just now.
    pub(crate) fn measure(&mut self, now: Time, id: LinkId) {
        let nonce = self.chance.number();
        let Some(link) = self.links.get_mut(id).filter(|link| link.carries_floods()) else { return };
        let recently = link.measuring.is_some_and(|(_, sent)| now.since(sent) < PING_LIMIT)
            || (link.round_trips.is_full() && now.since(link.measured) < MEASURED_PAUSE);
        if recently {
            return;
        }
        link.measuring = Some((nonce, now));
        link.measured = now;
        self.control(id, ControlFrame::Ping(nonce));
    }

    /// Asks a neighbor, now, what links it can spare.
    pub(crate) fn ask_balance(&mut self, now: Time, id: LinkId) {
        let nonce = self.chance.number();
        let Some(link) = self.links.get_mut(id).filter(|link| link.carries_floods()) else { return };
        // A ping that is under way will be answered with the same.
        if link.measuring.is_none_or(|(_, sent)| now.since(sent) >= PING_LIMIT) {
            link.measuring = Some((nonce, now));
            link.measured = now;
            self.control(id, ControlFrame::Ping(nonce));
        }
    }

    pub(crate) fn on_ping(&mut self, id: LinkId, nonce: u64) {
        let pong = if self.speaks(id, Features::NEIGHBORHOOD) {
            Pong { nonce, coordinate: self.place.told(), balance: Some(self.balance()) }
        } else {
            Pong::plain(nonce)
        };
        self.control(id, ControlFrame::Pong(pong));
    }

    /// Takes what a pong tells; whether it answers a ping of another purpose is for others.
    pub(crate) fn on_measured(&mut self, now: Time, id: LinkId, pong: &Pong) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.coordinate = pong.coordinate.or(link.coordinate);
        link.balance = pong.balance.or(link.balance);
        let Some((_, sent)) = link.measuring.filter(|(nonce, _)| *nonce == pong.nonce) else { return };
        link.measuring = None;
        link.round_trips.add(now.since(sent));
        link.rtt = link.round_trips.least().unwrap_or(link.rtt);
        let measured = self.links.flooding().filter(|link| link.round_trips.count() > 0);
        let springs: Vec<(Coordinate, Duration)> =
            measured.filter_map(|link| Some((link.coordinate?, link.rtt))).collect();
        self.place.settle(&springs, &mut self.chance);
        self.prune_answered(now, id);
    }

    /// What this node tells of its place in a handshake, where the other side knows the word.
    pub(crate) fn place_for(&self, id: LinkId) -> Option<Coordinate> {
        self.place.told().filter(|_| self.speaks(id, Features::NEIGHBORHOOD))
    }

    pub(crate) fn learn_place_by_connect(&mut self, id: LinkId, connect: &Connect) {
        if let Some(link) = self.links.get_mut(id) {
            link.coordinate = connect.coordinate;
        }
    }

    pub(crate) fn learn_place_by_welcome(&mut self, id: LinkId, welcome: &Welcome) {
        if let Some(link) = self.links.get_mut(id) {
            link.coordinate = welcome.coordinate;
        }
    }

    /// Whether both ends of a link know a feature.
    pub(crate) fn speaks(&self, id: LinkId, feature: Features) -> bool {
        self.links.get(id).is_some_and(|link| link.features.contains(feature))
    }

    /// What links this node could lose.
    pub(crate) fn balance(&self) -> Balance {
        let links = self.links.flooding().count();
        let above = |limit: usize| u32::try_from(links.saturating_sub(limit)).unwrap_or(u32::MAX);
        Balance { spare: above(self.config.neighbors_low), surplus: above(self.wanted()) }
    }
}

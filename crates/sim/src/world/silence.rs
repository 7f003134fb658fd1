//! How links end without a word: the idle rule, stateless resets, walls that rise and fall.

use peerchannel_mesh::{Input, LinkLoss};

use super::{Event, World};
use crate::link::{EndRef, IDLE_NS, KEEP_ALIVE_NS};
use crate::transport::probe_timeout;

impl World {
    /// An end is closed; what the other end makes of it depends on whether it hears of it.
    pub(super) fn end_closes(&mut self, end: EndRef) {
        let Some(ours) = self.links.end_mut(end).filter(|ours| ours.open) else { return };
        ours.open = false;
        ours.codec = None;
        let (held, parked) = (std::mem::take(&mut ours.held), std::mem::take(&mut ours.parked));
        for packet in held.into_iter().chain(parked) {
            self.packets.take(packet);
        }
        let open = self.links.end_mut(end.other()).is_some_and(|theirs| theirs.open);
        if open {
            self.listen(end.other());
        } else if let Some(link) = self.links.remove(end) {
            for (side, gone) in (0u32..).zip(&link.ends) {
                let links = &mut self.hosts[gone.host as usize].links;
                if let Some(place) = links.iter().position(|entry| *entry == (end.slot << 1 | side)) {
                    links.swap_remove(place);
                }
            }
        }
    }

    /// Whether packets of the peer reach this end: its process runs and knows the connection,
    /// and nothing is between them.
    fn hears(&self, end: EndRef) -> bool {
        let Some(link) = self.links.get(end) else { return false };
        let (ours, theirs) = link.ends(end.side);
        let there = &self.hosts[theirs.host as usize];
        theirs.open
            && !link.severed
            && there.lives(theirs.life)
            && there.standing.paused.is_none()
            && !self.walled(theirs.host, ours.host)
    }

    /// Looks whether an end still hears its peer, after something changed.
    pub(super) fn listen(&mut self, end: EndRef) {
        let now = self.now;
        let hears = self.hears(end);
        let Some(link) = self.links.get_mut(end) else { return };
        let delay = link.delay;
        let ours = &mut link.ends[usize::from(end.side)];
        if !ours.open {
            return;
        }
        let host = ours.host;
        if hears {
            if ours.silent {
                let at = self.speaks_again(end);
                self.queue.push(at, host, Event::Hear(end));
            }
            return;
        }
        if !ours.silent {
            ours.fall_silent(now, delay);
            let look = ours.gives_up().min(now + IDLE_NS).max(now);
            self.queue.push(look, host, Event::Idle(end));
        }
        self.expect_reset(end);
    }

    /// When something can come again over a link that was silent: what went to a process that
    /// stood still waits for it, what went into a wall is sent again at QUIC's next probe. The
    /// peer speaks first if it is silent as well, else it answers.
    fn speaks_again(&self, end: EndRef) -> u64 {
        let now = self.now;
        let Some(link) = self.links.get(end) else { return now };
        let (ours, theirs) = link.ends(end.side);
        let stood = self.hosts[theirs.host as usize].standing.went_on == Some(now);
        let sent = |first: u64| if stood { first.max(now) } else { next_probe(first, 2 * link.delay, now) };
        let answered = sent(ours.asks()) + 2 * link.delay;
        if theirs.silent { answered.min(sent(theirs.asks()) + link.delay) } else { answered }
    }

    /// Something comes again, unless it is held up anew.
    pub(super) fn hear_again(&mut self, end: EndRef) {
        let now = self.now;
        if !self.hears(end) {
            return;
        }
        if let Some(ours) = self.links.end_mut(end).filter(|ours| ours.open && ours.silent) {
            ours.silent = false;
            ours.hear(now);
        }
    }

    /// Where the peer's process runs but knows nothing of the connection, it says so when the
    /// next packet reaches it: a keep-alive at the latest.
    fn expect_reset(&mut self, end: EndRef) {
        let now = self.now;
        let Some(link) = self.links.get(end) else { return };
        let (ours, theirs) = link.ends(end.side);
        let (host, there, delay) = (ours.host, theirs.host, link.delay);
        let unknown = !theirs.open && self.hosts[there as usize].up && !link.severed;
        if unknown && !self.walled(host, there) && !self.walled(there, host) {
            let ping = ours.said.max(ours.heard) + KEEP_ALIVE_NS;
            let at = ping.clamp(now, now + KEEP_ALIVE_NS) + 2 * delay;
            self.queue.push(at, host, Event::Reset(end));
        }
    }

    /// The idle timer may have run out.
    pub(super) fn idle(&mut self, end: EndRef) {
        let now = self.now;
        let Some(ours) = self.links.end_mut(end).filter(|end| end.open && end.silent) else { return };
        let (host, gives_up) = (ours.host, ours.gives_up());
        if now < gives_up {
            return self.queue.push(gives_up, host, Event::Idle(end));
        }
        self.lose(end, LinkLoss::TimedOut);
    }

    /// A stateless reset arrives, if it still can.
    pub(super) fn reset(&mut self, end: EndRef) {
        let Some(link) = self.links.get(end) else { return };
        let (ours, theirs) = link.ends(end.side);
        let unknown = !theirs.open && self.hosts[theirs.host as usize].up && !link.severed;
        let paused = self.hosts[theirs.host as usize].standing.paused.is_some();
        if ours.open && unknown && !paused && !self.walled(theirs.host, ours.host) {
            self.lose(end, LinkLoss::Reset);
        }
    }

    fn lose(&mut self, end: EndRef, loss: LinkLoss) {
        let Some(ours) = self.links.end_mut(end) else { return };
        let (host, life, known) = (ours.host, ours.life, ours.known);
        self.end_closes(end);
        if known && self.hosts[host as usize].lives(life) {
            self.watch.write(7, self.now, host, end.id().0);
            self.feed(host, Input::LinkClosed { link: end.id(), loss });
        }
    }

    /// Looks at both ends of all links of a node.
    pub(super) fn listen_around(&mut self, node: u32) {
        for (end, _) in self.links_of(node) {
            self.listen(end);
            self.listen(end.other());
        }
    }

    /// Links of a node, its end first, and whether that end is open.
    pub(super) fn links_of(&mut self, node: u32) -> Vec<(EndRef, bool)> {
        let entries = self.hosts[node as usize].links.clone();
        let mut ends = Vec::with_capacity(entries.len());
        for entry in entries {
            let (slot, side) = (entry >> 1, u8::try_from(entry & 1).unwrap_or(0));
            if let Some(link) = self.links.in_slot(slot) {
                let open = link.ends[usize::from(side)].open;
                ends.push((EndRef { slot, serial: link.serial, side }, open));
            }
        }
        ends
    }

    /// Looks at every link, after a wall rose or fell.
    pub(super) fn listen_everywhere(&mut self) {
        for end in self.links.all() {
            for end in [end, end.other()] {
                self.listen(end);
                self.send_held_again(end);
            }
        }
    }

    /// What a wall held back is sent again at QUIC's next probe, whose pauses have doubled.
    pub(super) fn send_held_again(&mut self, end: EndRef) {
        let now = self.now;
        let Some(link) = self.links.get(end) else { return };
        let (ours, theirs) = link.ends(end.side);
        let Some(first) = ours.held.first().and_then(|packet| self.packets.get(*packet)) else { return };
        if !self.walled(theirs.host, ours.host) {
            // No longer than until the idle timer would have ended it.
            let at = next_probe(first.sent, 2 * link.delay, now).min(now + IDLE_NS) + link.delay;
            self.queue.push(at, ours.host, Event::Release(end));
        }
    }

    /// Held packets arrive after all, unless the wall is up again.
    pub(super) fn release(&mut self, end: EndRef) {
        let now = self.now;
        let Some(link) = self.links.get(end) else { return };
        let (ours, theirs) = link.ends(end.side);
        let (host, there) = (ours.host, theirs.host);
        if !ours.open || self.walled(there, host) {
            return;
        }
        let Some(link) = self.links.get_mut(end) else { return };
        let held = std::mem::take(&mut link.ends[usize::from(end.side)].held);
        let sender = &mut link.ends[usize::from(1 - end.side)];
        let mut waits = Vec::new();
        for (lane, line) in (0u8..).zip(&mut sender.lanes) {
            line.freed(now);
            if line.waits() {
                waits.push(lane);
            }
        }
        for lane in waits {
            self.queue.push(now, there, Event::Drained(end.other(), lane));
        }
        for packet in held {
            self.queue.push(now, host, Event::Arrive(packet));
        }
    }
}

/// When QUIC sends next what it sent first at that time and nobody acknowledged: its probes come
/// after pauses that double (RFC 9002 section 6.2).
fn next_probe(first: u64, rtt: u64, now: u64) -> u64 {
    if first >= now {
        return first;
    }
    let mut pause = probe_timeout(rtt, rtt / 16);
    let mut probe = first + pause;
    while probe < now {
        pause *= 2;
        probe += pause;
    }
    probe
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_a_wall_swallowed_is_sent_again_after_pauses_that_double() {
        let rtt = 100 * MS;
        let pause = probe_timeout(rtt, rtt / 16);
        for (now, probe) in [(0, 0), (1, pause), (pause + 1, 3 * pause), (3 * pause + 1, 7 * pause)] {
            assert_eq!(next_probe(0, rtt, now), probe, "at {now}");
        }
        assert_eq!(next_probe(5 * MS, rtt, MS), 5 * MS, "a keep-alive that is not due yet");
    }
}

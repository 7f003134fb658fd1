//! Dials: from the first packet to two ends of an admitted link.
//!
//! ```text
//!  dialer   ──────┐        ┌──────┐        ┌──────┐        ┌─> LinkOpened
//!            first│ packet │ QUIC │ hello  │ reply│ proof  │admitted
//!  dialed         └────────┘      └────────┘      └────────┘
//!                 DialArrives                      DialAdmits: LinkOpened
//! ```
//! One round trip for QUIC's handshake; then one of admission in an open mesh, two under a
//! password. A lost packet costs a second at first, a probe time-out later.

use std::time::Duration;

use peerchannel_mesh::{Candidate, DialFailure, DialId, Input, LinkOpened};
use peerchannel_wire::{AdmissionRefusal, Features, LinkNumber};

use super::{Event, World, ns};
use crate::link::{End, EndRef};
use crate::place::{Leads, address, leads};
use crate::plan::Admission;
use crate::traffic::Kind;
use crate::transport::{
    ADMISSION_DEADLINE, ANSWER_BYTES, CROWDED_RETRY, DIAL_BYTES, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, STAGGER,
    VAIN_DIAL_BYTES, probe_timeout,
};

/// How long QUIC waits before it repeats its first packet (RFC 9002 section 6.2.2: three times
/// an initial round-trip time of 333 ms).
const FIRST_REPEAT: Duration = Duration::from_secs(1);

/// A process that stands still while it is being admitted is looked at again after this.
const STANDING_RETRY: Duration = Duration::from_millis(500);

/// A delay for places that are not on the map.
const ABROAD_DELAY: Duration = Duration::from_millis(60);

/// A dial under way, so that events can name it after it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DialRef {
    slot: u32,
    serial: u32,
}

/// A dial under way.
#[derive(Debug)]
pub(super) struct Dial {
    serial: u32,
    id: DialId,
    from: u32,
    life: u32,
    to: u32,
    wanted: Option<peerchannel_wire::NodeId>,
    started: u64,
    /// One-way delay.
    delay: u64,
    ended: Option<Ended>,
}

#[derive(Debug)]
enum Ended {
    Open(EndRef),
    Failed(DialFailure),
}

impl World {
    pub(super) fn dial(&mut self, index: u32, id: DialId, candidate: &Candidate) {
        self.watch.counts.dials += 1;
        let host = &self.hosts[index as usize];
        let (from, life, started) = (index, host.life, self.now);
        // The first address that leads to a node, each tried a little after the one before.
        let found = (0u32..).zip(&candidate.addresses).find_map(|(attempt, address)| match leads(address) {
            Leads::Nowhere => None,
            Leads::Abroad => Some((attempt, None)),
            Leads::ToNode(to, moves) => {
                let host = self.hosts.get(to as usize)?;
                (host.dialable && host.moves == moves).then_some((attempt, Some(to)))
            }
        });
        self.dial_serial += 1;
        let mut dial = Dial {
            serial: self.dial_serial,
            id,
            from,
            life,
            to: index,
            wanted: candidate.node,
            started,
            delay: 0,
            ended: None,
        };
        match found {
            Some((attempt, Some(to))) => {
                let there = &self.hosts[to as usize];
                dial.to = to;
                dial.delay = ns(host.place.delay_to(&there.place) + self.plan.map.handling);
                let lost = self.dial_losses(dial.delay);
                let at = started + dial.delay + ns(STAGGER) * u64::from(attempt) + lost;
                let dial = self.keep_dial(dial);
                self.queue.push(at, to, Event::DialArrives(dial));
            }
            Some((attempt, None)) => {
                let refused =
                    DialFailure::Refused { reason: AdmissionRefusal::UnknownMesh, retry_after: None };
                dial.ended = Some(Ended::Failed(refused));
                let at = started + 4 * ns(ABROAD_DELAY) + ns(STAGGER) * u64::from(attempt);
                let dial = self.keep_dial(dial);
                self.queue.push(at, index, Event::DialEnds(dial));
                self.account(index, Kind::Dial, DIAL_BYTES);
            }
            None => {
                let dial = self.keep_dial(dial);
                self.no_answer(dial, HANDSHAKE_TIMEOUT);
            }
        }
    }

    fn keep_dial(&mut self, dial: Dial) -> DialRef {
        let serial = dial.serial;
        DialRef { slot: self.dials.insert(dial), serial }
    }

    fn dial_mut(&mut self, dial: DialRef) -> Option<&mut Dial> {
        self.dials.get_mut(dial.slot).filter(|entry| entry.serial == dial.serial)
    }

    /// What losses cost a dial in all.
    fn dial_losses(&mut self, delay: u64) -> u64 {
        let loss = self.plan.packets.loss;
        if loss <= 0.0 {
            return 0;
        }
        let first = u64::from(self.net_dice.chance(loss)) + u64::from(self.net_dice.chance(loss));
        let later = u64::from(self.net_dice.chance(loss)) + u64::from(self.net_dice.chance(loss));
        first * ns(FIRST_REPEAT) + later * probe_timeout(2 * delay, delay)
    }

    /// Nothing will come back: the dialer notices by its time-out.
    fn no_answer(&mut self, dial: DialRef, after: Duration) {
        let text = format!("no answer within {} s", after.as_secs());
        if let Some(entry) = self.dial_mut(dial) {
            entry.ended = Some(Ended::Failed(DialFailure::Unreachable(text)));
            let (from, at) = (entry.from, entry.started + ns(after));
            self.queue.push(at.max(self.now), from, Event::DialEnds(dial));
            self.account(from, Kind::Dial, VAIN_DIAL_BYTES);
        }
    }

    fn answer_dial(&mut self, dial: DialRef, failure: DialFailure) {
        let now = self.now;
        if let Some(entry) = self.dial_mut(dial) {
            entry.ended = Some(Ended::Failed(failure));
            let (from, at) = (entry.from, now + entry.delay);
            self.queue.push(at, from, Event::DialEnds(dial));
            self.account(from, Kind::Dial, DIAL_BYTES);
        }
    }

    /// A step of a dial waits for a process that stands still: who dialed does not wait for ever.
    pub(super) fn dial_waits(&mut self, event: Event) {
        let (dial, after) = match event {
            Event::DialArrives(dial) => (dial, HANDSHAKE_TIMEOUT),
            Event::DialAdmits(dial) => (dial, ADMISSION_DEADLINE),
            _ => return,
        };
        if let Some(entry) = self.dial_mut(dial) {
            let (from, at) = (entry.from, entry.started + ns(after));
            self.queue.push(at.max(self.now), from, Event::DialLate(dial));
        }
    }

    pub(super) fn dial_is_late(&mut self, dial: DialRef) {
        if self.dial_mut(dial).is_some_and(|entry| entry.ended.is_none()) {
            self.no_answer(dial, Duration::ZERO);
        }
    }

    pub(super) fn dial_arrives(&mut self, dial: DialRef) {
        let Some(entry) = self.dial_mut(dial).filter(|entry| entry.ended.is_none()) else { return };
        let (from, to, delay, wanted) = (entry.from, entry.to, entry.delay, entry.wanted);
        let there = &self.hosts[to as usize];
        let late = self.now > self.dials.get(dial.slot).map_or(0, |d| d.started) + ns(HANDSHAKE_TIMEOUT);
        if !there.up || late || self.walled(from, to) || self.walled(to, from) {
            return self.no_answer(dial, HANDSHAKE_TIMEOUT);
        }
        if wanted.is_some_and(|wanted| wanted != there.id) {
            let actual = there.id;
            return self.answer_dial(dial, DialFailure::WrongNode(actual));
        }
        if from == to {
            return self.answer_dial(dial, DialFailure::Oneself);
        }
        if there.handshakes >= HANDSHAKES_MAX {
            self.watch.reached("a dial was told to come again: too many handshakes");
            let reason = AdmissionRefusal::Busy;
            return self.answer_dial(dial, DialFailure::Refused { reason, retry_after: Some(CROWDED_RETRY) });
        }
        self.hosts[to as usize].handshakes += 1;
        let legs = match self.plan.admission {
            Admission::Open => 2,
            Admission::Password => 4,
        };
        self.queue.push(self.now + legs * delay, to, Event::DialAdmits(dial));
    }

    pub(super) fn dial_admits(&mut self, dial: DialRef) {
        let now = self.now;
        let Some(Dial { id: _, from, life, to, started, delay, wanted, ended, .. }) = self.dial_mut(dial)
        else {
            return;
        };
        let given_up = ended.is_some();
        let (from, life, to, started, delay, wanted) = (*from, *life, *to, *started, *delay, *wanted);
        let standing = self.hosts[from as usize].standing.paused.is_some();
        if standing && self.hosts[from as usize].lives(life) && now < started + ns(ADMISSION_DEADLINE) {
            return self.queue.push(now + ns(STANDING_RETRY), to, Event::DialAdmits(dial));
        }
        let there = &mut self.hosts[to as usize];
        there.handshakes = there.handshakes.saturating_sub(1);
        let same = wanted.is_none_or(|wanted| wanted == there.id);
        if given_up {
            return;
        }
        let gone = !there.up || there.leaving || !same || !self.hosts[from as usize].lives(life);
        if gone || standing || self.walled(from, to) || self.walled(to, from) {
            return self.no_answer(dial, ADMISSION_DEADLINE);
        }
        let lives = (life, self.hosts[to as usize].life);
        let end = self.add_link(delay, (from, lives.0), (to, lives.1));
        if let Some(entry) = self.dial_mut(dial) {
            entry.ended = Some(Ended::Open(end));
        }
        self.account(from, Kind::Dial, DIAL_BYTES);
        self.account(to, Kind::Dial, ANSWER_BYTES);
        self.queue.push(now + delay, from, Event::DialEnds(dial));
        self.open_end(end.other(), None);
    }

    fn add_link(&mut self, delay: u64, dialer: (u32, u32), dialed: (u32, u32)) -> EndRef {
        let now = self.now;
        let mut ends = [End::new(dialer.0, dialer.1, now), End::new(dialed.0, dialed.1, now)];
        if self.plan.codec {
            for end in &mut ends {
                end.codec = Some(Box::default());
            }
        }
        let end = self.links.add(delay, ends, now);
        self.hosts[dialer.0 as usize].links.push(end.slot << 1);
        self.hosts[dialed.0 as usize].links.push(end.slot << 1 | 1);
        self.watch.write(4, now, dialer.0, u64::from(dialed.0));
        end
    }

    pub(super) fn dial_ends(&mut self, dial: DialRef) {
        if self.dials.get(dial.slot).is_none_or(|entry| entry.serial != dial.serial) {
            return;
        }
        let Some(Dial { id, from, life, to, ended, .. }) = self.dials.take(dial.slot) else { return };
        let Some(ended) = ended else { return };
        if !self.hosts[from as usize].lives(life) {
            return;
        }
        match ended {
            Ended::Open(end) => self.open_end(end, Some(id)),
            Ended::Failed(failure) => {
                self.watch.counts.dials_failed += 1;
                self.watch.reached(match &failure {
                    DialFailure::Unreachable(_) => "dial: no answer",
                    DialFailure::WrongNode(_) => "dial: another node answered",
                    DialFailure::Oneself => "dial: oneself",
                    DialFailure::Refused { reason: AdmissionRefusal::UnknownMesh, .. } => {
                        "dial: of another mesh"
                    }
                    _ => "dial: refused",
                });
                let there = &self.hosts[to as usize];
                let address = Some(address(to, there.place.region, there.moves));
                self.feed(from, Input::DialFailed { dial: id, address, failure });
            }
        }
    }

    /// An end of a new link is told to its node.
    fn open_end(&mut self, end: EndRef, dial: Option<DialId>) {
        let Some(link) = self.links.get(end) else { return };
        let (us, them) = link.ends(end.side);
        if !us.open || !self.hosts[us.host as usize].lives(us.life) {
            return;
        }
        let (us, there) = (us.host, &self.hosts[them.host as usize]);
        let older = there.older || self.hosts[us as usize].older;
        let opened = LinkOpened {
            link: end.id(),
            peer: there.id,
            dial,
            address: address(them.host, there.place.region, there.moves),
            number: LinkNumber(link.serial),
            rtt: Duration::from_nanos(2 * link.delay),
            features: if older { Features::NONE } else { Features::SUPPORTED },
        };
        if let Some(end) = self.links.end_mut(end) {
            end.known = true;
        }
        self.feed(us, Input::LinkOpened(opened));
    }
}

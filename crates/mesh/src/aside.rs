//! Hop-limited and volatile messages: outside the reliable sequence, never repaired.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use peerchannel_wire::{
    Aside, AsideKind, ChannelName, DataFrame, Epoch, Local, NodeId, Sequence, StreamId, Volatile,
};

use crate::filter::{FilterView, Origination};
use crate::input::LinkId;
use crate::jobs::Job;
use crate::link::Level;
use crate::node::Node;
use crate::output::{Delivery, DeliveryLane, Output};
use crate::time::Time;

/// Messages remembered so that they are not delivered again. At 1000 a second, for 16 s:
/// longer than any of them travels.
const SEEN_MAX: usize = 16_384;

/// Keys of which the latest volatile value is remembered.
const LATEST_MAX: usize = 4096;

type SeenKey = (AsideKind, StreamId, Sequence);
type LatestKey = (NodeId, ChannelName, Bytes);

/// What was seen lately.
#[derive(Debug, Default)]
pub(crate) struct Asides {
    // How many more links each may travel, as far as it was passed on.
    seen: BTreeMap<SeenKey, u32>,
    order: VecDeque<SeenKey>,
    latest: BTreeMap<LatestKey, (Epoch, Sequence)>,
    latest_order: VecDeque<LatestKey>,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Never seen.
    New,
    /// Seen, but this copy may travel further.
    Further,
    /// Nothing new.
    Old,
}

impl Asides {
    fn look(&self, key: &SeenKey, hops_left: u32) -> News {
        match self.seen.get(key) {
            None => News::New,
            Some(before) if hops_left > *before => News::Further,
            Some(_) => News::Old,
        }
    }

    fn note(&mut self, key: SeenKey, hops_left: u32) {
        if self.seen.insert(key.clone(), hops_left).is_none() {
            self.order.push_back(key);
            if self.order.len() > SEEN_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
    }

    /// Whether a value is newer than any of its key; notes it if so.
    fn is_latest(&mut self, key: LatestKey, at: (Epoch, Sequence)) -> bool {
        if let Some(before) = self.latest.get_mut(&key) {
            let newer = at > *before;
            *before = at.max(*before);
            return newer;
        }
        self.latest.insert(key.clone(), at);
        self.latest_order.push_back(key);
        if self.latest_order.len() > LATEST_MAX
            && let Some(oldest) = self.latest_order.pop_front()
        {
            self.latest.remove(&oldest);
        }
        true
    }
}

fn seen_key(message: &Aside) -> SeenKey {
    (message.kind(), message.content().stream.clone(), message.content().number)
}

impl Node {
    // ---- hop-limited -------------------------------------------------------

    /// Sends an own message to the neighbors. `hops` is at least 1.
    pub(crate) fn send_local(&mut self, _now: Time, message: Aside, hops: u32) {
        let local = Local { hops_left: hops.saturating_sub(1), hops: 0, message };
        self.asides.note(seen_key(&local.message), hops);
        self.pass_on_local(&local, None);
    }

    pub(crate) fn on_local(&mut self, now: Time, from: LinkId, local: Local) {
        let content = local.message.content();
        let own = content.stream.origin == self.me.node;
        if own || self.asides.look(&seen_key(&local.message), local.hops_left) == News::Old {
            self.stats.duplicates += 1;
            return;
        }
        if let Some(Verification { job, signer, transcript, signature }) =
            self.verification(now, from, &local.message, |from| Job::VerifyLocal {
                from,
                local: local.clone(),
            })
        {
            self.order(Output::Verify { job, signer, transcript, signature });
        } else if !self.config.origin_auth {
            self.on_local_verified(now, from, local, true);
        }
    }

    pub(crate) fn on_local_verified(&mut self, now: Time, from: LinkId, local: Local, valid: bool) {
        if !valid {
            return self.bad_aside(now, from);
        }
        let news = self.asides.look(&seen_key(&local.message), local.hops_left);
        if news == News::Old {
            self.stats.duplicates += 1;
            return;
        }
        self.asides.note(seen_key(&local.message), local.hops_left);
        let hops = local.hops.saturating_add(1);
        let propagates = if news == News::New {
            let lane = DeliveryLane::Local { hops_left: local.hops_left };
            self.judge_and_deliver(&local.message, lane, hops)
        } else {
            true
        };
        if propagates && local.hops_left > 0 {
            let onward = Local { hops_left: local.hops_left - 1, hops, message: local.message };
            self.pass_on_local(&onward, Some(from));
        }
    }

    fn pass_on_local(&mut self, local: &Local, except: Option<LinkId>) {
        for id in self.links.flooding_ids() {
            let low = self.links.get(id).is_some_and(|link| link.level == Level::Low);
            if Some(id) == except {
                continue;
            }
            if low {
                self.stats.forwarded += u64::from(except.is_some());
                self.order(Output::Data { link: id, frame: DataFrame::Local(local.clone()) });
            } else {
                self.overloaded("a hop-limited message to a slow neighbor");
            }
        }
    }

    // ---- volatile ----------------------------------------------------------

    pub(crate) fn send_volatile(&mut self, _now: Time, message: Aside, remaining_ms: u32) {
        self.asides.note(seen_key(&message), u32::MAX);
        self.pass_on_volatile(&Volatile { remaining_ms, hops: 0, message }, None);
    }

    pub(crate) fn on_volatile(&mut self, now: Time, from: LinkId, volatile: Volatile) {
        let own = volatile.message.content().stream.origin == self.me.node;
        if own || self.asides.look(&seen_key(&volatile.message), 0) != News::New {
            self.stats.duplicates += 1;
            return;
        }
        if let Some(Verification { job, signer, transcript, signature }) =
            self.verification(now, from, &volatile.message, |from| Job::VerifyVolatile {
                from,
                volatile: volatile.clone(),
            })
        {
            self.order(Output::Verify { job, signer, transcript, signature });
        } else if !self.config.origin_auth {
            self.on_volatile_verified(now, from, volatile, true);
        }
    }

    pub(crate) fn on_volatile_verified(&mut self, now: Time, from: LinkId, volatile: Volatile, valid: bool) {
        if !valid {
            return self.bad_aside(now, from);
        }
        let key = seen_key(&volatile.message);
        if self.asides.look(&key, 0) != News::New {
            self.stats.duplicates += 1;
            return;
        }
        self.asides.note(key, 0);
        let content = volatile.message.content();
        if !content.key.is_empty() {
            let key = (content.stream.origin, content.stream.channel.clone(), content.key.clone());
            if !self.asides.is_latest(key, (content.stream.epoch, content.number)) {
                return; // a later value of the key is on its way already
            }
        }
        let hops = volatile.hops.saturating_add(1);
        if !self.judge_and_deliver(&volatile.message, DeliveryLane::Volatile, hops) {
            return;
        }
        // Each hop takes what the link took, at least a millisecond: it cannot travel for ever.
        let link_ms = self.links.get(from).map_or(0, |link| link.rtt.as_millis() / 2);
        let used = u32::try_from(link_ms).unwrap_or(u32::MAX).max(1);
        if volatile.remaining_ms > used {
            let remaining_ms = volatile.remaining_ms - used;
            self.pass_on_volatile(&Volatile { remaining_ms, hops, message: volatile.message }, Some(from));
        }
    }

    fn pass_on_volatile(&mut self, volatile: &Volatile, except: Option<LinkId>) {
        for id in self.links.flooding_ids() {
            if Some(id) != except {
                self.stats.forwarded += u64::from(except.is_some());
                self.order(Output::Data { link: id, frame: DataFrame::Volatile(volatile.clone()) });
            }
        }
    }

    // ---- both --------------------------------------------------------------

    fn verification(
        &mut self,
        now: Time,
        from: LinkId,
        message: &Aside,
        job: impl FnOnce(LinkId) -> Job,
    ) -> Option<Verification> {
        if !self.config.origin_auth {
            return None;
        }
        let Some(signature) = message.signature().copied() else {
            self.violation(now, from, "an unsigned message in a mesh with origin authentication");
            return None;
        };
        if !self.jobs.has_room(message.content().payload.len()) {
            self.overloaded("verifications");
            return None;
        }
        let transcript = message.transcript(&self.me.mesh);
        let signer = message.content().stream.origin;
        let job = self.jobs.add(job(from));
        Some(Verification { job, signer, transcript, signature })
    }

    fn bad_aside(&mut self, now: Time, from: LinkId) {
        self.stats.bad_signatures += 1;
        self.violation(now, from, "a message with a bad signature");
    }

    /// Asks the filter once, delivers, and says whether to pass it on.
    fn judge_and_deliver(&mut self, message: &Aside, lane: DeliveryLane, hops: u32) -> bool {
        let content = message.content();
        let view = FilterView {
            channel: &content.stream.channel,
            origin: content.stream.origin,
            payload: &content.payload,
            origination: Origination::Remote,
        };
        let verdict = self.filter.judge(&view);
        self.stats.payload_bytes_in += content.payload.len() as u64;
        if verdict.delivers() {
            self.stats.delivered += 1;
            self.order(Output::Deliver(Delivery {
                stream: content.stream.clone(),
                sequence: content.number,
                lane,
                hops,
                published_ms: content.published_ms,
                key: content.key.clone(),
                payload: content.payload.clone(),
                own: false,
            }));
        }
        verdict.propagates()
    }
}

struct Verification {
    job: crate::input::JobId,
    signer: NodeId,
    transcript: peerchannel_wire::Transcript,
    signature: peerchannel_wire::Signature,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> SeenKey {
        let stream = StreamId {
            origin: NodeId::from_bytes([1; 32]),
            epoch: Epoch::new(1).unwrap(),
            channel: ChannelName::new("c").unwrap(),
        };
        (AsideKind::Local, stream, Sequence::new(n).unwrap())
    }

    #[test]
    fn a_copy_that_may_travel_further_is_news() {
        let mut asides = Asides::default();
        assert_eq!(asides.look(&key(1), 2), News::New);
        asides.note(key(1), 2);
        assert_eq!(asides.look(&key(1), 2), News::Old);
        assert_eq!(asides.look(&key(1), 3), News::Further);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut asides = Asides::default();
        for n in 1..=(SEEN_MAX as u64 + 10) {
            asides.note(key(n), 0);
        }
        assert_eq!((asides.seen.len(), asides.order.len()), (SEEN_MAX, SEEN_MAX));
        for n in 0..LATEST_MAX + 10 {
            let channel = ChannelName::new("c").unwrap();
            let latest = (NodeId::from_bytes([1; 32]), channel, Bytes::from(n.to_string()));
            assert!(asides.is_latest(latest.clone(), (Epoch::new(1).unwrap(), Sequence::ZERO.next())));
            assert!(!asides.is_latest(latest, (Epoch::new(1).unwrap(), Sequence::ZERO.next())));
        }
        assert_eq!(asides.latest.len(), LATEST_MAX);
    }
}

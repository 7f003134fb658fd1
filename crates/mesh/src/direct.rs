//! Direct messages: to one member, over an existing link or one made for it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::limits::DIRECT_PAYLOAD_MAX;
use peerchannel_wire::{ControlFrame, LinkPurpose, NodeId};

use crate::input::{Candidate, DialId, LinkId};
use crate::node::{Leaving, Node};
use crate::output::{DirectError, Event};
use crate::time::Time;
use crate::timers::Timer;

/// Direct messages that may wait for their acknowledgement: with 32 KiB each, 32 MiB.
const PENDING_MAX: usize = 1024;

/// How long a direct message may take in all.
const DIRECT_LIMIT: Duration = Duration::from_secs(10);

/// A link made for direct messages closes when unused for this long.
pub(crate) const DIRECT_IDLE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Pending {
    to: NodeId,
    payload: Bytes,
    /// The link it was sent on.
    sent: Option<LinkId>,
}

/// Direct messages on their way.
#[derive(Debug, Default)]
pub(crate) struct Directs {
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

impl Node {
    /// Sends a message to one member. [`Event::DirectDone`] with the returned token tells
    /// whether the member's node acknowledged it.
    ///
    /// # Errors
    /// [`DirectError`]; nothing was sent then.
    pub fn send_direct(&mut self, now: Time, to: NodeId, payload: Bytes) -> Result<u64, DirectError> {
        if self.leaving != Leaving::No {
            return Err(DirectError::Leaving);
        }
        if self.is_suspended() {
            return Err(DirectError::Suspended);
        }
        if payload.len() > DIRECT_PAYLOAD_MAX {
            return Err(DirectError::TooLarge { size: payload.len(), limit: DIRECT_PAYLOAD_MAX });
        }
        if self.directs.pending.len() >= PENDING_MAX {
            return Err(DirectError::TooMany(PENDING_MAX));
        }
        let link = self.links.up_to(to).map(|link| link.id);
        if link.is_none() && !self.directs.pending.values().any(|p| p.to == to && p.sent.is_none()) {
            let member = self.members.get(to).ok_or(DirectError::UnknownMember)?;
            if member.record.facts().suspended {
                return Err(DirectError::MemberSuspended);
            }
            let address = member.record.address().ok_or(DirectError::Unreachable)?;
            if !self.links.iter().any(|l| l.peer == to && l.counts()) {
                let addresses = address.addresses().to_vec();
                self.dial_for_direct(to, Candidate { node: Some(to), addresses });
            }
        }
        let token = self.directs.next;
        self.directs.next += 1;
        self.directs.pending.insert(token, Pending { to, payload, sent: None });
        self.timers.set(Timer::Direct(token), now + DIRECT_LIMIT);
        if let Some(link) = link {
            self.send_waiting_directs(now, to, link);
        }
        Ok(token)
    }

    pub(crate) fn send_waiting_directs(&mut self, now: Time, peer: NodeId, id: LinkId) {
        let waiting: Vec<(u64, Bytes)> = self
            .directs
            .pending
            .iter_mut()
            .filter(|(_, pending)| pending.to == peer && pending.sent.is_none())
            .map(|(token, pending)| {
                pending.sent = Some(id);
                (*token, pending.payload.clone())
            })
            .collect();
        for (nonce, payload) in waiting {
            self.control(id, ControlFrame::Direct { nonce, payload });
        }
        self.keep_direct_link(now, id);
    }

    /// A link for direct messages lives on while it is used.
    fn keep_direct_link(&mut self, now: Time, id: LinkId) {
        if self.links.get(id).is_some_and(|l| l.purpose == LinkPurpose::Direct && l.is_up()) {
            self.timers.set(Timer::Link(id), now + DIRECT_IDLE);
        }
    }

    pub(crate) fn on_direct(&mut self, now: Time, from: LinkId, nonce: u64, payload: Bytes) {
        let Some(link) = self.links.get(from) else { return };
        let peer = link.peer;
        self.tell(Event::Direct { from: peer, payload });
        self.control(from, ControlFrame::DirectAck { nonce });
        self.keep_direct_link(now, from);
    }

    pub(crate) fn on_direct_ack(&mut self, from: LinkId, nonce: u64) {
        if self.directs.pending.get(&nonce).is_some_and(|pending| pending.sent == Some(from)) {
            self.finish_direct(nonce, Ok(()));
        }
    }

    pub(crate) fn on_direct_deadline(&mut self, token: u64) {
        if let Some(pending) = self.directs.pending.get(&token) {
            let error = if pending.sent.is_some() { DirectError::Lost } else { DirectError::Unreachable };
            self.finish_direct(token, Err(error));
        }
    }

    /// The link broke: what was not acknowledged may or may not have arrived.
    pub(crate) fn fail_sent_directs(&mut self, id: LinkId) {
        self.fail_directs(|pending| pending.sent == Some(id), DirectError::Lost);
    }

    pub(crate) fn fail_waiting_directs(&mut self, node: NodeId) {
        self.fail_directs(|pending| pending.to == node && pending.sent.is_none(), DirectError::Unreachable);
    }

    /// The member refused the link that was dialed for direct messages.
    pub(crate) fn fail_directs_of(&mut self, peer: NodeId, _dial: DialId) {
        if self.links.up_to(peer).is_none() {
            self.fail_waiting_directs(peer);
        }
    }

    /// What waits for a link gets none.
    pub(crate) fn fail_directs_unsent(&mut self, error: DirectError) {
        self.fail_directs(|pending| pending.sent.is_none(), error);
    }

    /// A member suspended: what was not sent yet will not be.
    pub(crate) fn fail_directs_to_suspended(&mut self, node: NodeId) {
        let waits = |pending: &Pending| pending.to == node && pending.sent.is_none();
        self.fail_directs(waits, DirectError::MemberSuspended);
    }

    pub(crate) fn fail_all_directs(&mut self, error: DirectError) {
        self.fail_directs(|_| true, error);
    }

    fn fail_directs(&mut self, which: impl Fn(&Pending) -> bool, error: DirectError) {
        let failed: Vec<u64> =
            self.directs.pending.iter().filter(|(_, p)| which(p)).map(|(token, _)| *token).collect();
        for token in failed {
            self.finish_direct(token, Err(error));
        }
    }

    fn finish_direct(&mut self, token: u64, result: Result<(), DirectError>) {
        self.directs.pending.remove(&token);
        self.timers.cancel(&Timer::Direct(token));
        self.tell(Event::DirectDone { token, result });
    }
}

/// Whether a link for direct messages carries it (docs/protocol.md section 3.1). Frames of the
/// handshake are judged by the state of the link.
pub(crate) const fn is_direct(frame: &ControlFrame) -> bool {
    matches!(
        frame,
        ControlFrame::Direct { .. }
            | ControlFrame::DirectAck { .. }
            | ControlFrame::Disconnect(_)
            | ControlFrame::Ping(_)
            | ControlFrame::Pong(_)
            | ControlFrame::Connect(_)
            | ControlFrame::Welcome(_)
            | ControlFrame::Refuse(_)
    )
}

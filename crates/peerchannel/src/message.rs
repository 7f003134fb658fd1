//! What a subscription delivers: messages, and the honest news that some are missing.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use peerchannel_mesh::{Delivery, DeliveryLane, GapReason};
use peerchannel_wire::{ChannelName, Epoch, MemberName, NodeId, Sequence};

use crate::queue::Queued;

/// What a queued item costs beside its payload: the struct, its queue slot, shared names.
const ITEM_OVERHEAD: usize = 256;

/// By which way a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// In order, exactly once or reported as a gap.
    Reliable,
    /// Limited to a number of links ([`Channel::publish_within`](crate::Channel::publish_within)).
    Local,
    /// Best effort, the latest value of a key
    /// ([`Channel::publish_volatile`](crate::Channel::publish_volatile)).
    Volatile,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reliable => "reliable",
            Self::Local => "local",
            Self::Volatile => "volatile",
        })
    }
}

/// One message of a channel.
///
/// `Display` is for people: `ann: hello`, with control characters shown as escapes, so that
/// no member can paint on another's terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The channel it was published in.
    pub channel: ChannelName,
    /// The node that published it. Proven by its signature where the mesh has origin
    /// authentication on (the default).
    pub from: NodeId,
    /// The name that node shows; not unique; empty while it is not known here.
    pub name: MemberName,
    /// The author's join. A later join of the same node has a higher epoch.
    pub epoch: Epoch,
    /// Its number in (author, epoch, channel) and lane, from 1 without holes. Zero for an own
    /// message that the propagation filter kept on this node.
    pub sequence: Sequence,
    /// By which way it came.
    pub lane: Lane,
    /// Links it travelled; 0 for own messages.
    pub hops: u32,
    /// Links it could still have travelled, for [`Lane::Local`].
    pub hops_left: Option<u32>,
    /// The author's wall clock: advisory, never used for order.
    pub published: SystemTime,
    /// The key of a [`Lane::Volatile`] message; empty otherwise.
    pub key: Bytes,
    /// The body.
    pub payload: Bytes,
    /// Published by this node (only with echo on).
    pub own: bool,
}

impl Message {
    pub(crate) fn new(delivery: Delivery, name: MemberName) -> Self {
        let (lane, hops_left) = match delivery.lane {
            DeliveryLane::Reliable => (Lane::Reliable, None),
            DeliveryLane::Local { hops_left } => (Lane::Local, Some(hops_left)),
            DeliveryLane::Volatile => (Lane::Volatile, None),
        };
        Self {
            channel: delivery.stream.channel,
            from: delivery.stream.origin,
            name,
            epoch: delivery.stream.epoch,
            sequence: delivery.sequence,
            lane,
            hops: delivery.hops,
            hops_left,
            published: wall_time(delivery.published_ms),
            key: delivery.key,
            payload: delivery.payload,
            own: delivery.own,
        }
    }

    /// The body as text; bytes that are not UTF-8 become `U+FFFD`.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.payload)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Author { name: &self.name, node: self.from }, Printable(&self.text()))
    }
}

/// Messages of one author that will never be delivered here: exactly these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The channel.
    pub channel: ChannelName,
    /// The author.
    pub from: NodeId,
    /// The name that node shows; empty while it is not known here.
    pub name: MemberName,
    /// The author's join.
    pub epoch: Epoch,
    /// The first missing one.
    pub first: Sequence,
    /// The last missing one.
    pub last: Sequence,
    /// Why.
    pub reason: GapReason,
}

impl Gap {
    /// How many messages are missing.
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.last.get() + 1).saturating_sub(self.first.get())
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let author = Author { name: &self.name, node: self.from };
        let why = match self.reason {
            GapReason::Gone => "no neighbor has them any more",
            GapReason::Filtered => "filters of the neighbors bar them",
            GapReason::TimedOut => "nobody could send them in time",
        };
        write!(f, "[{} missing from {author}: {why}]", Count(self.count()))
    }
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// A message.
    Message(Message),
    /// Messages that will never come.
    Gap(Gap),
    /// This subscription was read too slowly: so many of its oldest items were dropped.
    Lagged(u64),
}

impl Incoming {
    /// The message, if it is one.
    #[must_use]
    pub fn message(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
            Self::Gap(_) | Self::Lagged(_) => None,
        }
    }
}

impl fmt::Display for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => message.fmt(f),
            Self::Gap(gap) => gap.fmt(f),
            Self::Lagged(missed) => write!(f, "[{} missed: read too slowly]", Count(*missed)),
        }
    }
}

impl Queued for Incoming {
    fn lagged(missed: u64) -> Self {
        Self::Lagged(missed)
    }

    fn size(&self) -> usize {
        ITEM_OVERHEAD
            + match self {
                Self::Message(message) => message.payload.len() + message.key.len(),
                Self::Gap(_) | Self::Lagged(_) => 0,
            }
    }
}

/// A message to this member alone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Direct {
    /// The member that sent it: the authenticated other end of the link it came by.
    pub from: NodeId,
    /// The name that node shows; empty while it is not known here.
    pub name: MemberName,
    /// The body.
    pub payload: Bytes,
}

/// What a subscription to direct messages yields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IncomingDirect {
    /// A direct message.
    Direct(Direct),
    /// This subscription was read too slowly: so many of its oldest items were dropped.
    Lagged(u64),
}

impl fmt::Display for IncomingDirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(direct) => {
                let author = Author { name: &direct.name, node: direct.from };
                write!(f, "{author} (to you): {}", Printable(&String::from_utf8_lossy(&direct.payload)))
            }
            Self::Lagged(missed) => write!(f, "[{} missed: read too slowly]", Count(*missed)),
        }
    }
}

impl Queued for IncomingDirect {
    fn lagged(missed: u64) -> Self {
        Self::Lagged(missed)
    }

    fn size(&self) -> usize {
        ITEM_OVERHEAD
            + match self {
                Self::Direct(direct) => direct.payload.len(),
                Self::Lagged(_) => 0,
            }
    }
}

fn wall_time(ms: u64) -> SystemTime {
    // The author chose the number: one that no clock can show becomes the epoch.
    UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH)
}

/// A member's name, or its short id if it shows none.
pub(crate) struct Author<'a> {
    pub(crate) name: &'a MemberName,
    pub(crate) node: NodeId,
}

impl fmt::Display for Author<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.as_str().is_empty() {
            f.write_str(&self.node.short())
        } else {
            Printable(self.name.as_str()).fmt(f)
        }
    }
}

/// Text of a stranger on a terminal: control characters and the characters that turn the
/// writing direction are shown as escapes.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for character in self.0.chars() {
            let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if turns || (character.is_control() && character != '\t') {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

struct Count(u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "message" } else { "messages" })
    }
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::StreamId;

    use super::*;

    fn message(name: &str, payload: &'static str) -> Message {
        let stream = StreamId {
            origin: NodeId::from_bytes([0xab; 32]),
            epoch: Epoch::new(7).unwrap(),
            channel: ChannelName::new("chat").unwrap(),
        };
        let delivery = Delivery {
            stream,
            sequence: Sequence::new(1).unwrap(),
            lane: DeliveryLane::Reliable,
            hops: 1,
            published_ms: 5,
            key: Bytes::new(),
            payload: Bytes::from_static(payload.as_bytes()),
            own: false,
        };
        Message::new(delivery, MemberName::new(name).unwrap())
    }

    #[test]
    fn a_message_reads_like_chat() {
        assert_eq!(message("ann", "hello").to_string(), "ann: hello");
        assert_eq!(message("", "hello").to_string(), "ababababab: hello");
    }

    #[test]
    fn a_message_cannot_paint_on_the_terminal_or_forge_a_line() {
        let text = message("ann", "\u{1b}[2Jhi\nbob: yes\u{202e}").to_string();
        assert_eq!(text, "ann: \\u{1b}[2Jhi\\nbob: yes\\u{202e}");
    }

    #[test]
    fn an_impossible_clock_does_no_harm() {
        assert_eq!(wall_time(5), UNIX_EPOCH + Duration::from_millis(5));
        let _ = wall_time(u64::MAX);
    }
}

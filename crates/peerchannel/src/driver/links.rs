//! The links of one mesh as the driver holds them: encoding, queues, and what readers report.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use peerchannel_mesh::{Farewell, Input, Lane as CoreLane, LinkId, LinkLoss};
use peerchannel_transport::{
    CloseReason, ConnectionLost, DatagramError, Lane, Link, LinkEvent, LinkLost, LinkReader, PushError,
    QueueLevel,
};
use peerchannel_wire::limits::CHANNEL_NAME_MAX;
use peerchannel_wire::{
    ControlFrame, DataFrame, EncodedFrame, LaneDecoder, LaneEncoder, LinkNumber, decode_volatile,
    encode_datagram,
};
use tokio::sync::mpsc;

use super::wake::{Arrival, Done, News, core_lane};
use crate::pool::Use;

/// What a flood's head may have beside its batch: lengths, tags, hops and the definition of a
/// stream.
const HEAD_MAX: usize = CHANNEL_NAME_MAX + 128;

/// A datagram that every path carries from the start: what QUIC's 1200-byte packets leave
/// (measured: 1162).
pub(super) const DATAGRAM_MIN: usize = 1162;

/// The links of one mesh.
#[derive(Default)]
pub(super) struct Links {
    entries: BTreeMap<LinkId, Entry>,
    // What closed links carried.
    bytes_in: u64,
    bytes_out: u64,
    pub(super) datagrams_dropped: u64,
}

struct Entry {
    link: Link,
    number: LinkNumber,
    interactive: LaneEncoder,
    bulk: LaneEncoder,
    // Lanes that the core was told of as high or full, by `Lane as usize`.
    high: [bool; Lane::ALL.len()],
    _usage: Use,
}

impl Links {
    pub(super) fn add(&mut self, id: LinkId, link: Link, usage: Use) {
        let entry = Entry {
            number: link.number(),
            link,
            interactive: LaneEncoder::new(),
            bulk: LaneEncoder::new(),
            high: [false; Lane::ALL.len()],
            _usage: usage,
        };
        self.entries.insert(id, entry);
    }

    /// The link's reader has ended.
    pub(super) fn remove(&mut self, id: LinkId) {
        if let Some(entry) = self.entries.remove(&id) {
            let traffic = entry.link.stats();
            self.bytes_in += traffic.bytes_received;
            self.bytes_out += traffic.bytes_sent;
        }
    }

    /// Opens the data lanes. A link that cannot have any is closed, which its reader reports.
    pub(super) fn establish(&mut self, id: LinkId, number: LinkNumber) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.number = number;
        if let Err(error) = entry.link.establish(number) {
            tracing::debug!(%error, "link not established");
            entry.link.close(CloseReason::ProtocolViolation);
        }
    }

    pub(super) fn control(&mut self, id: LinkId, frame: &ControlFrame, facts: &mut VecDeque<Input>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.push(id, Lane::Control, frame.encode().into(), facts);
        }
    }

    pub(super) fn data(&mut self, id: LinkId, frame: &DataFrame, facts: &mut VecDeque<Input>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match frame {
            DataFrame::Flood(flood) => {
                let lane = if flood.batch.is_bulk() { Lane::Bulk } else { Lane::Interactive };
                // Encoded only if it will be sent: the receiver's dictionary follows.
                if !entry.has_room(id, lane, flood.batch.encoded().len() + HEAD_MAX, facts) {
                    return;
                }
                let encoder = if lane == Lane::Bulk { &mut entry.bulk } else { &mut entry.interactive };
                let encoded = encoder.flood(flood);
                entry.push(id, lane, encoded, facts);
            }
            DataFrame::Local(local) => {
                let encoded = entry.interactive.local(local);
                entry.push(id, Lane::Interactive, encoded, facts);
            }
            DataFrame::Volatile(volatile) => {
                let datagram = encode_datagram(entry.number, volatile);
                match entry.link.send_datagram(datagram) {
                    Ok(()) | Err(DatagramError::Closed) => {}
                    Err(_) => self.datagrams_dropped += 1,
                }
            }
        }
    }

    pub(super) fn finish(&self, id: LinkId, farewell: Farewell) {
        if let Some(entry) = self.entries.get(&id) {
            // A link that is over already needs no farewell.
            let _ = entry.link.finish(ControlFrame::from(farewell).encode().into());
        }
    }

    pub(super) fn close(&self, id: LinkId, reason: CloseReason) {
        if let Some(entry) = self.entries.get(&id) {
            entry.link.close(reason);
        }
    }

    /// Closes the connections that send from an address the machine no longer has. Where the
    /// addresses cannot be read, none.
    pub(super) fn close_stranded(&self, present: &[IpAddr]) {
        for entry in self.entries.values() {
            let connection = entry.link.connection();
            if connection.local_ip().is_some_and(|ip| !present.is_empty() && !present.contains(&ip)) {
                tracing::debug!(peer = %connection.peer().short(), "connection closed: its address is gone");
                connection.close(CloseReason::Abandoned);
            }
        }
    }

    /// A lane's queue fell below a quarter.
    pub(super) fn drained(&mut self, id: LinkId, lane: Lane, facts: &mut VecDeque<Input>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let lane_of_core = core_lane(lane);
        let was_high = entry.is_high(lane_of_core);
        entry.high[lane as usize] = false;
        if was_high && !entry.is_high(lane_of_core) {
            facts.push_back(Input::QueueDrained { link: id, lane: lane_of_core });
        }
    }

    /// The longest datagram that every link carries now.
    pub(super) fn datagram_limit(&self) -> usize {
        self.entries.values().filter_map(|entry| entry.link.datagram_limit()).min().unwrap_or(DATAGRAM_MIN)
    }

    /// Bytes received and sent so far.
    pub(super) fn traffic(&self) -> (u64, u64) {
        self.entries.values().fold((self.bytes_in, self.bytes_out), |(received, sent), entry| {
            let traffic = entry.link.stats();
            (received + traffic.bytes_received, sent + traffic.bytes_sent)
        })
    }

    pub(super) fn queue_bytes(&self) -> u64 {
        let of = |entry: &Entry| Lane::ALL.iter().map(|lane| entry.link.queued_bytes(*lane)).sum::<usize>();
        self.entries.values().map(|entry| of(entry) as u64).sum()
    }
}

impl Entry {
    fn is_high(&self, lane: CoreLane) -> bool {
        Lane::ALL.iter().any(|other| core_lane(*other) == lane && self.high[*other as usize])
    }

    /// Whether a frame of this size can be queued; if not, the core is told.
    ///
    /// A drain notice is due then: no room for a frame means that the queue is above half.
    fn has_room(&mut self, id: LinkId, lane: Lane, size: usize, facts: &mut VecDeque<Input>) -> bool {
        if self.link.room(lane) >= size {
            return true;
        }
        // Of a link that is over the reader tells.
        if !self.link.is_over() {
            self.high[lane as usize] = true;
            facts.push_back(Input::QueueFull { link: id, lane: core_lane(lane) });
        }
        false
    }

    fn push(&mut self, id: LinkId, lane: Lane, frame: EncodedFrame, facts: &mut VecDeque<Input>) {
        match self.link.push(lane, frame) {
            Ok(QueueLevel::Low) => {}
            Ok(QueueLevel::High) => {
                let lane_of_core = core_lane(lane);
                if !self.is_high(lane_of_core) {
                    facts.push_back(Input::QueueHigh { link: id, lane: lane_of_core });
                }
                self.high[lane as usize] = true;
            }
            Err(PushError::Full(_)) => {
                self.high[lane as usize] = true;
                facts.push_back(Input::QueueFull { link: id, lane: core_lane(lane) });
            }
            // The reader reports the end.
            Err(PushError::Closed) => {}
            Err(error) => {
                // The core and the transport disagree about a limit or a state.
                tracing::error!(%error, ?lane, "frame not sent, link closed");
                self.link.close(CloseReason::Abandoned);
            }
        }
    }
}

/// Reads a link to its end: decodes what arrives and puts it into the driver's inbox, which is
/// where it waits while the driver is busy. The end comes the same way, so that it does not
/// overtake the goodbye.
pub(super) async fn read(
    id: LinkId,
    link: Link,
    mut reader: LinkReader,
    inbox: mpsc::Sender<Arrival>,
) -> Done {
    let (mut interactive, mut bulk) = (LaneDecoder::new(), LaneDecoder::new());
    loop {
        let news = match reader.recv().await {
            LinkEvent::Frames { lane: Lane::Control, frames, permit } => {
                let decoded: Result<_, _> = frames.into_iter().map(ControlFrame::decode).collect();
                decoded.map(|frames| News::Control { frames, permit })
            }
            LinkEvent::Frames { lane, frames, permit } => {
                let decoder = if lane == Lane::Bulk { &mut bulk } else { &mut interactive };
                let decoded: Result<_, _> = frames.into_iter().map(|frame| decoder.decode(frame)).collect();
                decoded.map(|frames| News::Data { frames, permit })
            }
            LinkEvent::Datagram(datagram) => decode_volatile(datagram)
                .map(|volatile| News::Volatile(Box::new(DataFrame::Volatile(volatile)))),
            LinkEvent::LaneFinished(_) => Ok(News::LaneFinished),
            LinkEvent::Drained(lane) => Ok(News::Drained(lane)),
            LinkEvent::Closed(lost) => Ok(News::Closed(loss(&lost))),
            _ => continue,
        };
        let news = news.unwrap_or_else(|error| {
            link.close(CloseReason::ProtocolViolation);
            News::Closed(LinkLoss::BadFrame(error.to_string()))
        });
        let over = matches!(news, News::Closed(_));
        // Without a driver this task has ended too.
        if inbox.send(Arrival::Link { link: id, news }).await.is_err() || over {
            return Done::Read;
        }
    }
}

fn loss(lost: &LinkLost) -> LinkLoss {
    match lost {
        LinkLost::Finished | LinkLost::FinishTimedOut | LinkLost::ClosedLocally(_) => LinkLoss::ClosedLocally,
        LinkLost::FinishedByPeer => LinkLoss::ClosedByPeer(String::new()),
        LinkLost::ClosedByPeer(reason) => LinkLoss::ClosedByPeer(reason.to_string()),
        LinkLost::Violation(violation) => LinkLoss::BadFrame(violation.to_string()),
        LinkLost::Connection(ConnectionLost::IdleTimeout) => LinkLoss::TimedOut,
        LinkLost::Connection(ConnectionLost::ClosedLocally(_)) => LinkLoss::ClosedLocally,
        LinkLost::Connection(ConnectionLost::Reset) => LinkLoss::Reset,
        LinkLost::Connection(ConnectionLost::ClosedByPeer(reason)) => {
            LinkLoss::ClosedByPeer(reason.to_string())
        }
        other => LinkLoss::ClosedByPeer(other.to_string()),
    }
}

//! Which link a data lane or datagram of one connection belongs to.
//!
//! A lane may arrive before this side knows its link: the peer's Welcome and its first lane
//! travel on different streams. Such lanes are parked, few and not for long, and only while a
//! control stream of the connection is still on its way to becoming a link. All others are
//! refused (docs/protocol.md section 1: unknown numbers are reset).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::{FrameDecoder, LaneHeader, LinkNumber, split_datagram};
use quinn::{RecvStream, VarInt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::EndpointConfig;
use crate::lane::Lane;
use crate::link::LinkShared;
use crate::reason::{CloseReason, LinkLost, Violation};
use crate::stats::Meter;

/// Most lanes of one connection that wait for their link: both lanes of two links.
pub(crate) const PARKED_MAX: u32 = 4;

/// How long a lane waits for its link: as long as admission may take (docs/protocol.md section 2).
const PARKED_FOR: Duration = Duration::from_secs(10);

/// How long a new stream may take to say whose lane it is.
const HEADER_WITHIN: Duration = Duration::from_secs(5);

/// Bytes read at once while looking for a lane's header; what follows it is kept.
const HEADER_READ_MAX: usize = 2 * 1024;

/// A data lane of the peer whose header was read.
#[derive(Debug)]
pub(crate) struct IncomingLane {
    pub(crate) header: LaneHeader,
    pub(crate) stream: RecvStream,
    // Holds what arrived after the header.
    pub(crate) decoder: FrameDecoder,
}

/// Where the lanes and datagrams of one link go.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) link: Arc<LinkShared>,
    pub(crate) lanes: mpsc::Sender<Box<IncomingLane>>,
    pub(crate) datagrams: mpsc::Sender<Bytes>,
}

#[derive(Debug)]
struct Entry {
    route: Route,
    // By lane: a stream was handed over.
    seen: [bool; Lane::ALL.len()],
}

#[derive(Debug, Default)]
struct Links {
    established: HashMap<LinkNumber, Entry>,
    // Control streams that may still become links.
    pending: usize,
    parked: u32,
}

/// The links of one connection.
#[derive(Debug)]
pub(crate) struct Registry {
    quic: quinn::Connection,
    config: Arc<EndpointConfig>,
    pub(crate) meter: Meter,
    links: Mutex<Links>,
    // Bumped whenever a parked lane should look again.
    changed: watch::Sender<u64>,
}

impl Registry {
    pub(crate) fn new(quic: quinn::Connection, config: Arc<EndpointConfig>, meter: Meter) -> Self {
        Self { quic, config, meter, links: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// Counts a control stream that may become a link, until the guard is dropped.
    pub(crate) fn pending(self: &Arc<Self>) -> Pending {
        self.lock().pending += 1;
        Pending(self.clone())
    }

    /// Routes a link's lanes from now on, until the guard is dropped. Gives the route back if
    /// the number is in use on this connection.
    pub(crate) fn register(
        self: &Arc<Self>,
        number: LinkNumber,
        route: Route,
    ) -> Result<Registration, Route> {
        let mut links = self.lock();
        if links.established.contains_key(&number) {
            return Err(route);
        }
        links.established.insert(number, Entry { route, seen: [false; Lane::ALL.len()] });
        self.grow_windows(links.established.len());
        drop(links);
        self.changed.send_modify(|version| *version += 1);
        Ok(Registration { registry: self.clone(), number })
    }

    /// Each link adds its streams and their windows, so that an unread lane of one link
    /// starves neither its control lane nor another link (docs/protocol.md section 1).
    fn grow_windows(&self, links: usize) {
        let lanes_max = u64::from(self.config.data_lanes_max);
        let links = u64::try_from(links).unwrap_or(lanes_max).min(lanes_max);
        let window = u64::from(self.config.base_window) + 3 * links * u64::from(self.config.stream_window);
        self.quic.set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
        self.quic.set_send_window(u64::from(self.config.base_window) + links * self.config.send_window);
        let lanes = (u64::from(PARKED_MAX) + 2 * links).min(lanes_max);
        self.quic.set_max_concurrent_uni_streams(VarInt::from_u64(lanes).unwrap_or(VarInt::MAX));
    }

    /// Reads whose lane a new stream is and hands it over, parks or refuses it.
    pub(crate) async fn place(self: Arc<Self>, stream: RecvStream) {
        let Some(lane) = self.read_header(stream).await else {
            return self.meter.count(|c| c.lanes_refused.add(1));
        };
        if let Err(mut lane) = self.hand_over_or_wait(lane).await {
            self.meter.count(|c| c.lanes_refused.add(1));
            let _ = lane.stream.stop(CloseReason::UnknownLink.varint());
        }
    }

    async fn read_header(&self, mut stream: RecvStream) -> Option<Box<IncomingLane>> {
        let mut decoder = FrameDecoder::new(LaneHeader::LIMIT);
        let reading = timeout(HEADER_WITHIN, async {
            loop {
                match decoder.next_frame() {
                    Ok(Some(body)) => {
                        return LaneHeader::decode(body).map_err(|_| CloseReason::ProtocolViolation);
                    }
                    Ok(None) => {}
                    Err(_) => return Err(CloseReason::ProtocolViolation),
                }
                match stream.read_chunk(HEADER_READ_MAX, true).await {
                    Ok(Some(chunk)) => decoder.push(&chunk.bytes),
                    Ok(None) | Err(_) => return Err(CloseReason::ProtocolViolation),
                }
            }
        });
        match reading.await.unwrap_or(Err(CloseReason::DeadlinePassed)) {
            Ok(header) => {
                decoder.set_limit(Lane::from(header.lane).frame_max());
                Some(Box::new(IncomingLane { header, stream, decoder }))
            }
            Err(reason) => {
                let _ = stream.stop(reason.varint());
                None
            }
        }
    }

    async fn hand_over_or_wait(&self, mut lane: Box<IncomingLane>) -> Result<(), Box<IncomingLane>> {
        // Subscribed before the first look, so that no change is missed.
        let mut changed = self.changed.subscribe();
        let mut parked: Option<Parked<'_>> = None;
        let deadline = Instant::now() + PARKED_FOR;
        loop {
            lane = match self.hand_over(lane) {
                Ok(()) => return Ok(()),
                Err(lane) => lane,
            };
            if parked.is_none() {
                parked = self.park();
            }
            // The guard also ends the wait when nothing is pending any longer.
            if parked.is_none() || self.lock().pending == 0 {
                return Err(lane);
            }
            if !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return Err(lane);
            }
        }
    }

    fn park(&self) -> Option<Parked<'_>> {
        let mut links = self.lock();
        if links.parked >= PARKED_MAX {
            return None;
        }
        links.parked += 1;
        Some(Parked(self))
    }

    /// `Ok` if the lane found its link, be it to be refused there.
    fn hand_over(&self, mut lane: Box<IncomingLane>) -> Result<(), Box<IncomingLane>> {
        let mut links = self.lock();
        let Some(entry) = links.established.get_mut(&lane.header.link) else { return Err(lane) };
        let kind = Lane::from(lane.header.lane);
        if entry.seen[kind.index()] {
            let link = entry.route.link.clone();
            drop(links);
            self.meter.count(|c| c.lanes_refused.add(1));
            let _ = lane.stream.stop(CloseReason::ProtocolViolation.varint());
            link.end(LinkLost::Violation(Violation::SecondLane(kind)));
            return Ok(());
        }
        entry.seen[kind.index()] = true;
        // Room for both lanes: fails only when the reader is gone, and then the link is over.
        entry.route.lanes.try_send(lane).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Hands a datagram to its link, or drops and counts it.
    pub(crate) fn deliver_datagram(&self, datagram: Bytes) {
        let meter = match split_datagram(datagram) {
            Ok((number, body)) => match self.lock().established.get(&number) {
                Some(Entry { route, .. }) if route.datagrams.try_send(body).is_ok() => return,
                Some(Entry { route, .. }) => route.link.meter.clone(),
                None => self.meter.clone(),
            },
            Err(_) => self.meter.clone(),
        };
        meter.count(|c| c.datagrams_dropped.add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A control stream that may still become a link.
#[derive(Debug)]
pub(crate) struct Pending(Arc<Registry>);

impl Drop for Pending {
    fn drop(&mut self) {
        let mut links = self.0.lock();
        links.pending = links.pending.saturating_sub(1);
        drop(links);
        self.0.changed.send_modify(|version| *version += 1);
    }
}

struct Parked<'a>(&'a Registry);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let mut links = self.0.lock();
        links.parked = links.parked.saturating_sub(1);
    }
}

/// A link whose lanes are routed.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    number: LinkNumber,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut links = self.registry.lock();
        links.established.remove(&self.number);
        self.registry.grow_windows(links.established.len());
    }
}

/// Accepts the peer's data lanes and datagrams of one connection until it is over.
///
/// At most as many headers are read at a time as the peer may open data lanes.
pub(crate) async fn serve(registry: Arc<Registry>) {
    let mut placing = tokio::task::JoinSet::new();
    let quic = registry.quic.clone();
    let mut datagrams_over = false;
    loop {
        tokio::select! {
            stream = quic.accept_uni() => match stream {
                Ok(stream) => { placing.spawn(registry.clone().place(stream)); }
                Err(_) => break,
            },
            datagram = quic.read_datagram(), if !datagrams_over => match datagram {
                Ok(datagram) => registry.deliver_datagram(datagram),
                // Lanes that arrived before the end are still accepted.
                Err(_) => datagrams_over = true,
            },
            Some(_) = placing.join_next() => {}
        }
    }
    // The connection is lost; what arrived on these lanes still finds its link.
    while placing.join_next().await.is_some() {}
}

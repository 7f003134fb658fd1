//! Frames: from a node's order to their arrival.
//!
//! A frame waits for the uplink (which all links of a node share, lanes before it first), for
//! the stream's window, and travels for the delay of the path and some jitter. A lost packet is
//! sent again by QUIC: it delays its frame and, on its lane, those behind it.

use peerchannel_mesh::{Farewell, Input, Lane as CoreLane, LinkLoss};
use peerchannel_wire::{
    ControlFrame, DataFrame, FrameDecoder, LinkNumber, decode_volatile, encode_datagram, limits,
    split_datagram,
};

use super::{Event, World, ns};
use crate::link::{BULK, CONTROL, Content, EndRef, INTERACTIVE, Packet, Pushed};
use crate::traffic::Kind;
use crate::transport::{
    ACK_DELAY, ACK_PACKET, FINISH_TIMEOUT, PACKET_OVERHEAD, PACKET_PAYLOAD, STREAM_WINDOW, probe_timeout,
};

/// A frame that leaves within this time never counts as queued.
const AT_ONCE_NS: u64 = 1_000_000;

/// The lanes in the core's terms.
const fn core_lane(lane: usize) -> CoreLane {
    if lane == CONTROL { CoreLane::Control } else { CoreLane::Data }
}

impl World {
    pub(super) fn send_control(&mut self, end: EndRef, frame: ControlFrame) {
        let kind = Kind::of_control(&frame);
        self.note_frame(&frame);
        let mut bytes = frame.encoded_len() as u64;
        let content = if self.plan.codec {
            let encoded = frame.encode();
            self.compare_length(end, bytes, encoded.len());
            bytes = encoded.len() as u64;
            Content::Encoded(CONTROL, encoded)
        } else {
            Content::Control(Box::new(frame))
        };
        self.watch.counts.control_frames += 1;
        self.send(end, CONTROL, bytes, kind, content);
    }

    pub(super) fn send_data(&mut self, end: EndRef, frame: DataFrame) {
        let kind = Kind::of_data(&frame);
        let lane = match &frame {
            DataFrame::Flood(flood) if flood.batch.is_bulk() => BULK,
            _ => INTERACTIVE,
        };
        self.watch.counts.data_frames += 1;
        let bytes = frame.encoded_len() as u64;
        if let DataFrame::Volatile(volatile) = &frame {
            let datagram =
                self.plan.codec.then(|| Content::Datagram(encode_datagram(LinkNumber(end.serial), volatile)));
            let content = datagram.unwrap_or_else(|| Content::Aside(Box::new(frame)));
            return self.send_datagram(end, bytes, content);
        }
        if !self.plan.codec {
            let content = match frame {
                DataFrame::Flood(flood) => Content::Flood(flood),
                aside => Content::Aside(Box::new(aside)),
            };
            return self.send(end, lane, bytes, kind, content);
        }
        // Encoded only if it will be sent: the receiver's dictionary follows.
        if !self.has_room(end, lane, bytes + 256) {
            return;
        }
        let Some(codec) = self.links.end_mut(end).and_then(|end| end.codec.as_mut()) else { return };
        let encoder = &mut codec.encoders[lane - 1];
        let encoded = match &frame {
            DataFrame::Flood(flood) => encoder.flood(flood),
            DataFrame::Local(local) => encoder.local(local),
            DataFrame::Volatile(_) => return,
        };
        let bytes = [encoded.head, encoded.body].concat();
        self.send(end, lane, bytes.len() as u64, kind, Content::Encoded(lane, bytes.into()));
    }

    /// In a small run, the computed length of every frame is compared with its real one.
    fn compare_length(&mut self, end: EndRef, computed: u64, real: usize) {
        if computed != real as u64 {
            let host = self.links.end_mut(end).map(|end| end.host);
            let text = format!("a frame of {real} bytes was computed to have {computed}");
            self.watch.violated(self.now, host, "computed lengths are real", text);
        }
    }

    /// Ends the link in good order.
    pub(super) fn send_farewell(&mut self, end: EndRef, farewell: Farewell) {
        let frame = ControlFrame::from(farewell);
        self.note_frame(&frame);
        let bytes = frame.encoded_len() as u64;
        // It is read after the end of the data lanes.
        if let Some(ours) = self.links.end_mut(end) {
            let last = ours.lanes.iter().map(|lane| lane.arrives).max().unwrap_or(0);
            ours.lanes[CONTROL].arrives = last;
        }
        self.send(end, CONTROL, bytes, Kind::Links, Content::Farewell(Box::new(frame)));
        let Some(link) = self.links.get_mut(end) else { return };
        let wait = (2 * link.delay).min(ns(FINISH_TIMEOUT));
        let ours = &mut link.ends[usize::from(end.side)];
        if ours.open && !ours.finishing {
            ours.finishing = true;
            // The last frame of the data lanes may still be on its way before it.
            let (host, last) = (ours.host, ours.lanes[CONTROL].arrives.max(self.now));
            self.queue.push((last + wait / 2).min(self.now + ns(FINISH_TIMEOUT)), host, Event::Closed(end));
        }
    }

    /// Ends the link at once.
    pub(super) fn send_close(&mut self, end: EndRef, cause: &'static str) {
        self.send(end, CONTROL, 4, Kind::Links, Content::Closed(cause));
        self.end_closes(end);
    }

    /// The goodbye was taken, or nobody took it in time.
    pub(super) fn closed(&mut self, end: EndRef) {
        let Some(ours) = self.links.end_mut(end).filter(|ours| ours.open) else { return };
        let (host, life) = (ours.host, ours.life);
        self.end_closes(end);
        if self.hosts[host as usize].lives(life) {
            self.feed(host, Input::LinkClosed { link: end.id(), loss: LinkLoss::ClosedLocally });
        }
    }

    /// Whether a frame can be queued; if not, the core is told.
    fn has_room(&mut self, end: EndRef, lane: usize, bytes: u64) -> bool {
        let now = self.now;
        let Some(ours) = self.links.end_mut(end).filter(|end| end.open && !end.finishing) else {
            return false;
        };
        let line = &mut ours.lanes[lane];
        if line.has_room(lane, bytes, now) {
            return true;
        }
        line.refuse();
        let (host, at) = (ours.host, line.drains(lane));
        if let Some(at) = at {
            self.queue.push(at.max(now), host, Event::Drained(end, lane as u8));
        }
        self.watch.counts.queue_full += 1;
        self.watch.reached("a queue was full");
        self.facts.push_back(Input::QueueFull { link: end.id(), lane: core_lane(lane) });
        false
    }

    fn send(&mut self, end: EndRef, lane: usize, bytes: u64, kind: Kind, content: Content) {
        if !self.has_room(end, lane, bytes) {
            return;
        }
        let now = self.now;
        let Some(link) = self.links.get_mut(end) else { return };
        let delay = link.delay;
        let (ours, theirs) = link.ends(end.side);
        let (host, there) = (ours.host, theirs.host);
        let held = !theirs.held.is_empty();
        let heard = theirs.acknowledged;
        // What is sent at one moment shares packets.
        let began = u64::from(ours.said != now || bytes >= PACKET_PAYLOAD);
        let packets = began + bytes / PACKET_PAYLOAD;
        let total = bytes + packets * PACKET_OVERHEAD;
        let walled = held || self.walled(host, there);
        let mut leaves = self.hosts[host as usize].occupy_uplink(lane, total, now);
        let window = u128::from(bytes) * u128::from(2 * delay) / u128::from(STREAM_WINDOW);
        leaves += u64::try_from(window).unwrap_or(0);
        let travels = delay + self.jitter(delay) + self.loss_delay(delay, packets);
        let Some(link) = self.links.get_mut(end) else { return };
        let theirs = &mut link.ends[usize::from(1 - end.side)];
        let acks = if now - heard > ns(ACK_DELAY) { 1.max(packets / 2) } else { packets / 2 };
        if acks > 0 {
            theirs.acknowledged = now;
        }
        let ours = &mut link.ends[usize::from(end.side)];
        ours.speak(now);
        let line = &mut ours.lanes[lane];
        let mut rose = false;
        if walled || leaves > now + AT_ONCE_NS {
            rose = line.push(lane, bytes, if walled { u64::MAX } else { leaves }) == Pushed::High;
        }
        line.arrives = line.arrives.max(leaves + travels);
        let (arrives, drains) = (line.arrives, if rose { line.drains(lane) } else { None });
        if rose {
            self.watch.reached("a queue was above half");
            self.facts.push_back(Input::QueueHigh { link: end.id(), lane: core_lane(lane) });
            if let Some(at) = drains {
                self.queue.push(at, host, Event::Drained(end, lane as u8));
            }
        }
        let packet = self.packets.insert(Packet { to: end.other(), sent: leaves, content });
        self.queue.push(arrives, there, Event::Arrive(packet));
        self.account(host, kind, total);
        self.watch.frames[kind as usize] += 1;
        self.account(there, Kind::Acknowledge, acks * ACK_PACKET);
        self.watch.write(5, now, host, bytes << 8 | kind as u64);
    }

    /// Datagrams are lost, not repeated, and never wait.
    fn send_datagram(&mut self, end: EndRef, bytes: u64, content: Content) {
        let now = self.now;
        let Some(link) = self.links.get_mut(end) else { return };
        let delay = link.delay;
        let ours = &mut link.ends[usize::from(end.side)];
        if !ours.open || ours.finishing {
            return;
        }
        ours.speak(now);
        let (host, there) = (ours.host, link.ends[usize::from(1 - end.side)].host);
        let total = bytes + PACKET_OVERHEAD;
        let leaves = self.hosts[host as usize].occupy_uplink(BULK, total, now);
        self.account(host, Kind::Aside, total);
        self.watch.write(6, now, host, bytes);
        let loss = self.plan.packets.loss;
        if self.net_dice.chance(loss) {
            return;
        }
        let arrives = leaves + delay + self.jitter(delay);
        let packet = self.packets.insert(Packet { to: end.other(), sent: leaves, content });
        self.queue.push(arrives, there, Event::Arrive(packet));
    }

    fn jitter(&mut self, delay: u64) -> u64 {
        let jitter = self.plan.packets.jitter;
        if jitter > 0.0 { (delay as f64 * jitter * self.net_dice.unit()) as u64 } else { 0 }
    }

    /// How much later a frame of so many packets arrives because some were lost.
    fn loss_delay(&mut self, delay: u64, packets: u64) -> u64 {
        let loss = self.plan.packets.loss;
        if loss <= 0.0 {
            return 0;
        }
        let survives = (1.0 - loss).powi(i32::try_from(packets.max(1)).unwrap_or(i32::MAX));
        if !self.net_dice.chance(1.0 - survives) {
            return 0;
        }
        let rtt = 2 * delay;
        // Packets behind it tell soon; the last one is missed by a probe.
        let last = self.net_dice.chance(1.0 / packets.max(1) as f64);
        let probe = probe_timeout(rtt, rtt / 16);
        let mut wait = if last { probe } else { rtt + rtt / 8 };
        let mut total = wait;
        while self.net_dice.chance(loss) && total < 30_000_000_000 {
            wait = wait.max(probe) * 2;
            total += wait;
        }
        self.watch.reached("a lost packet was sent again");
        total
    }

    pub(super) fn arrive(&mut self, packet: u32) {
        let now = self.now;
        let Some(Packet { to, sent, .. }) = self.packets.get(packet) else { return };
        let (to, sent) = (*to, *sent);
        let Some(link) = self.links.get(to) else {
            self.packets.take(packet);
            return;
        };
        let delay = link.delay;
        let (ours, theirs) = link.ends(to.side);
        let (host, there) = (ours.host, theirs.host);
        let unsent = link.severed || theirs.died.is_some_and(|died| sent > died);
        let (open, held, established) = (ours.open, !ours.held.is_empty(), ours.established);
        let walled = held || self.walled(there, host);
        if unsent {
            self.packets.take(packet);
        } else if walled {
            if let Some(end) = self.links.end_mut(to) {
                end.held.push(packet);
            }
        } else if !open {
            self.packets.take(packet);
            // A process that knows of no such connection says so.
            if self.hosts[host as usize].up {
                self.queue.push(now + delay, there, Event::Reset(to.other()));
            }
        } else if !established && self.packets.get(packet).is_some_and(|p| p.content.is_message()) {
            if let Some(end) = self.links.end_mut(to) {
                end.parked.push(packet);
            }
        } else if let Some(Packet { content, .. }) = self.packets.take(packet) {
            if let Some(end) = self.links.end_mut(to) {
                end.hear(now);
            }
            self.bring(host, to, content);
        }
    }

    /// Data lanes are open: what came on them before is read.
    pub(super) fn establish(&mut self, end: EndRef) {
        let Some(ours) = self.links.end_mut(end) else { return };
        ours.established = true;
        let host = ours.host;
        for packet in std::mem::take(&mut ours.parked) {
            self.queue.push(self.now, host, Event::Arrive(packet));
        }
    }

    /// Hands what arrived to the node.
    fn bring(&mut self, host: u32, to: EndRef, content: Content) {
        let link = to.id();
        match content {
            Content::Control(frame) => self.feed(host, Input::Control { link, frame: *frame }),
            Content::Flood(flood) => {
                let frame = DataFrame::Flood(flood);
                self.note_copies(&frame);
                self.feed(host, Input::Data { link, frame });
            }
            Content::Aside(frame) => self.feed(host, Input::Data { link, frame: *frame }),
            Content::Encoded(lane, bytes) => self.bring_bytes(host, to, lane, &bytes),
            Content::Datagram(bytes) => {
                if let Ok(volatile) = split_datagram(bytes).and_then(|(_, body)| decode_volatile(body)) {
                    self.feed(host, Input::Data { link, frame: DataFrame::Volatile(volatile) });
                }
            }
            Content::Farewell(frame) => {
                let established = self.links.end_mut(to).is_some_and(|end| end.established);
                for _ in 0..2 * usize::from(established) {
                    self.feed(host, Input::LaneFinished { link });
                }
                self.feed(host, Input::Control { link, frame: *frame });
                self.peer_closed(host, to, "");
            }
            Content::Closed(cause) => self.peer_closed(host, to, cause),
        }
    }

    fn peer_closed(&mut self, host: u32, end: EndRef, cause: &'static str) {
        if self.links.end_mut(end).is_some_and(|end| end.open) {
            self.end_closes(end);
            self.feed(
                host,
                Input::LinkClosed { link: end.id(), loss: LinkLoss::ClosedByPeer(cause.to_owned()) },
            );
        }
    }

    fn bring_bytes(&mut self, host: u32, to: EndRef, lane: usize, bytes: &[u8]) {
        let link = to.id();
        let mut frames = FrameDecoder::new(limits::BULK_FRAME_MAX);
        frames.push(bytes);
        let body = frames.next_frame().ok().flatten();
        let Some(end) = self.links.end_mut(to) else { return };
        let input = body.and_then(|body| {
            if lane == CONTROL {
                let frame = ControlFrame::decode(body).ok()?;
                return Some(Input::Control { link, frame });
            }
            let decoder = &mut end.codec.as_mut()?.decoders[lane - 1];
            Some(Input::Data { link, frame: decoder.decode(body).ok()? })
        });
        match input {
            Some(input) => {
                if let Input::Data { frame, .. } = &input {
                    self.note_copies(frame);
                }
                self.feed(host, input);
            }
            None => {
                let text = format!("{} bytes on lane {lane} could not be decoded", bytes.len());
                self.watch.violated(self.now, Some(host), "what is sent can be read", text);
            }
        }
    }

    fn note_copies(&mut self, frame: &DataFrame) {
        if let DataFrame::Flood(flood) = frame {
            self.watch.counts.copies += flood.batch.count() as u64;
            self.watch.recent.copies += flood.batch.count() as u64;
        }
    }

    /// Branches of interest that show in frames.
    fn note_frame(&mut self, frame: &ControlFrame) {
        let branch = match frame {
            ControlFrame::Pull(_) => "a node asked for what it missed",
            ControlFrame::Gone(_) => "a neighbor no longer had it",
            ControlFrame::Announce(_) => "announced instead of pushed",
            ControlFrame::Probe { .. } => "asked a neighbor about a suspect",
            ControlFrame::ProbeResult { answers: true, .. } => "a suspect was found alive",
            ControlFrame::ProbeResult { answers: false, .. } => "a suspect did not answer",
            ControlFrame::Connect(connect) if connect.urgent => "asked to be let in urgently",
            ControlFrame::Congestion { congested: true } => "told a neighbor that it is slow",
            _ => return,
        };
        self.watch.reached(branch);
    }

    /// Takes note of what was sent.
    pub(super) fn account(&mut self, host: u32, kind: Kind, bytes: u64) {
        self.watch.sent[kind as usize] += bytes;
        self.watch.recent.sent[kind as usize] += bytes;
        self.hosts[host as usize].life_story.sent += bytes;
    }

    pub(super) fn drained(&mut self, end: EndRef, lane: u8) {
        let (now, lane) = (self.now, usize::from(lane));
        let Some(ours) = self.links.end_mut(end).filter(|end| end.open) else { return };
        let host = ours.host;
        if ours.lanes[lane].drained(lane, now) {
            self.watch.reached("a queue drained");
            self.feed(host, Input::QueueDrained { link: end.id(), lane: core_lane(lane) });
        } else if ours.lanes[lane].waits()
            && let Some(at) = ours.lanes[lane].drains(lane)
        {
            self.queue.push(
                at.max(now + AT_ONCE_NS),
                host,
                Event::Drained(end, u8::try_from(lane).unwrap_or(0)),
            );
        }
    }
}

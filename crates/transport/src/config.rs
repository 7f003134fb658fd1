//! What an endpoint can be told: addresses, timers, windows, queue limits.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use peerchannel_wire::limits::{BULK_FRAME_MAX, CONTROL_FRAME_MAX, INTERACTIVE_FRAME_MAX};
use thiserror::Error;

use crate::lane::Lane;

/// The ALPN of this version of the protocol (docs/protocol.md section 1).
pub const ALPN: &[u8] = b"peerchannel/1";

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Settings of an [`Endpoint`](crate::Endpoint). Start from [`Default`], change fields;
/// [`Endpoint::bind`](crate::Endpoint::bind) validates them once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// Where to listen. Default `[::]:0`: any port, IPv4 and IPv6; where the machine has no
    /// IPv6, `0.0.0.0` with the same port instead.
    pub listen: SocketAddr,
    /// The protocol both sides must name in TLS. Default [`ALPN`] (docs/protocol.md section 1).
    pub alpn: Vec<u8>,
    /// An idle connection sends a packet this often, the side that dialed a tenth earlier, so
    /// that the other only has to answer. Default 3 s (docs/protocol.md section 1).
    pub keep_alive: Duration,
    /// A connection without an answer this long is lost. Default 6.3 s (docs/protocol.md
    /// section 1): QUIC re-arms this timer when it sends, and sends its keep-alive that long
    /// after an acknowledgement that may itself wait for 25 ms. A dead peer is therefore seen
    /// within `keep_alive + idle_timeout` and the way of a packet, 9.5 s in all up to a round
    /// trip of 350 ms. A process that is stopped for up to 6 s keeps its connections: when it
    /// goes on, it reads what came before any of them looks at this timer.
    pub idle_timeout: Duration,
    /// Longest QUIC and TLS handshake, ours or theirs. Default 5 s (a guess: three lost
    /// packets on a satellite link).
    pub handshake_timeout: Duration,
    /// Most handshakes of others at a time; further ones are refused. From half of it on, or
    /// from a quarter for one network (/24 of IPv4, /48 of IPv6), a sender must first prove its
    /// address (QUIC Retry); one network gets half of it. Default 64 (a guess: each costs
    /// about 0.5 ms of one core, so half a second of work is spread over a flood).
    pub handshakes_max: usize,
    /// Receive window of one stream, in bytes. Default 1 MiB: 80 Mbit/s at 100 ms.
    pub stream_window: u32,
    /// Receive window of a connection without links, in bytes: what an admitted or unknown
    /// peer can make us hold before a link is up. Each link that is up adds three stream
    /// windows, so that an unread lane cannot starve the others. Default 512 KiB (a guess).
    pub base_window: u32,
    /// Bytes sent and not yet acknowledged, or written and not yet sent: this much per link
    /// that is up, and `base_window` for what comes before. Default two stream windows and
    /// 256 KiB: with both data lanes full there is room for control.
    pub send_window: u64,
    /// Most control streams a peer may hold open at a time on one connection, which is the
    /// number of meshes shared with it. Default 32 (docs/protocol.md section 1: few streams).
    pub control_streams_max: u32,
    /// Most data lanes a peer may hold open at a time on one connection; two per link.
    /// Default 64, twice the control streams.
    pub data_lanes_max: u32,
    /// Bytes of datagrams that wait, each way. Default 64 KiB: volatile messages are worth
    /// nothing when old (docs/protocol.md section 1).
    pub datagram_buffer: usize,
    /// What we ask the system to buffer for the UDP socket, each way, in bytes; it may grant
    /// less. Default 2 MiB (a guess: 15 ms at 1 Gbit/s).
    pub socket_buffer: usize,
    /// Bytes a link's outgoing queues hold.
    pub queues: LaneLimits,
    /// Bytes of received frames per lane that the driver may hold through
    /// [`InFlight`](crate::InFlight) before the link stops reading that lane.
    pub in_flight: LaneLimits,
    /// How long [`Link::finish`](crate::Link::finish) may take, and how long the frame that
    /// ends a link waits for the end of its data lanes. Default 2 s (a guess).
    pub finish_timeout: Duration,
    /// How long [`Endpoint::close`](crate::Endpoint::close) waits until the goodbyes are
    /// sent. Default 1 s (a guess: three probe time-outs on a slow path).
    pub close_timeout: Duration,
}

/// One number of bytes per lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// The control lane.
    pub control: usize,
    /// The interactive lane.
    pub interactive: usize,
    /// The bulk lane.
    pub bulk: usize,
}

impl LaneLimits {
    /// Default of [`EndpointConfig::queues`]: 256 KiB control, 1 MiB interactive, 4 MiB bulk;
    /// at least three of the largest frames each (a guess).
    pub const QUEUES: Self = Self { control: 256 * KIB, interactive: MIB, bulk: 4 * MIB };

    /// Default of [`EndpointConfig::in_flight`]: 256 KiB control, 1 MiB interactive, 2 MiB
    /// bulk. Pools of their own, so that data cannot starve control (a guess).
    pub const IN_FLIGHT: Self = Self { control: 256 * KIB, interactive: MIB, bulk: 2 * MIB };

    /// The number of one lane.
    #[must_use]
    pub const fn of(&self, lane: Lane) -> usize {
        match lane {
            Lane::Control => self.control,
            Lane::Interactive => self.interactive,
            Lane::Bulk => self.bulk,
        }
    }
}

const _: () = assert!(LaneLimits::QUEUES.control >= 3 * CONTROL_FRAME_MAX);
const _: () = assert!(LaneLimits::QUEUES.interactive >= 3 * INTERACTIVE_FRAME_MAX);
const _: () = assert!(LaneLimits::QUEUES.bulk >= 3 * BULK_FRAME_MAX);

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            alpn: ALPN.to_vec(),
            keep_alive: Duration::from_secs(3),
            idle_timeout: Duration::from_millis(6300),
            handshake_timeout: Duration::from_secs(5),
            handshakes_max: 64,
            stream_window: 1024 * 1024,
            base_window: 512 * 1024,
            send_window: 2 * 1024 * 1024 + 256 * 1024,
            control_streams_max: 32,
            data_lanes_max: 64,
            datagram_buffer: 64 * KIB,
            socket_buffer: 2 * MIB,
            queues: LaneLimits::QUEUES,
            in_flight: LaneLimits::IN_FLIGHT,
            finish_timeout: Duration::from_secs(2),
            close_timeout: Duration::from_secs(1),
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field} {why}")]
pub struct InvalidConfig {
    /// The field of [`EndpointConfig`].
    pub field: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl EndpointConfig {
    /// Whether the settings can work together.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that cannot.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let rules = [
            (!self.alpn.is_empty() && self.alpn.len() <= 255, "alpn", "must have 1 to 255 bytes"),
            (!self.keep_alive.is_zero(), "keep_alive", "must not be zero"),
            (self.keep_alive < self.idle_timeout, "keep_alive", "must be shorter than idle_timeout"),
            (self.idle_timeout.as_secs() < 3600, "idle_timeout", "must be below an hour"),
            (!self.handshake_timeout.is_zero(), "handshake_timeout", "must not be zero"),
            (self.handshakes_max >= 1, "handshakes_max", "must be at least 1"),
            (self.stream_window as usize >= CONTROL_FRAME_MAX, "stream_window", "must be at least 64 KiB"),
            (self.base_window as usize >= CONTROL_FRAME_MAX, "base_window", "must be at least 64 KiB"),
            (self.send_window >= CONTROL_FRAME_MAX as u64, "send_window", "must be at least 64 KiB"),
            (self.control_streams_max >= 1, "control_streams_max", "must be at least 1"),
            (self.data_lanes_max >= 2, "data_lanes_max", "must be at least 2"),
            (self.datagram_buffer >= 1500, "datagram_buffer", "must hold at least one datagram"),
            (holds_frames(&self.queues), "queues", "must hold the largest frame of each lane"),
            (holds_frames(&self.in_flight), "in_flight", "must hold the largest frame of each lane"),
            (in_u32(&self.in_flight), "in_flight", "must be below 1 GiB"),
        ];
        rules
            .into_iter()
            .find(|(holds, ..)| !holds)
            .map_or(Ok(()), |(_, field, why)| Err(InvalidConfig { field, why }))
    }
}

fn holds_frames(limits: &LaneLimits) -> bool {
    Lane::ALL.iter().all(|lane| limits.of(*lane) >= lane.frame_max())
}

fn in_u32(limits: &LaneLimits) -> bool {
    Lane::ALL.iter().all(|lane| limits.of(*lane) < 1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(EndpointConfig::default().validate(), Ok(()));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let check = |change: fn(&mut EndpointConfig), field: &str| {
            let mut config = EndpointConfig::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        check(|c| c.alpn.clear(), "alpn");
        check(|c| c.keep_alive = c.idle_timeout, "keep_alive");
        check(|c| c.queues.bulk = 1000, "queues");
        check(|c| c.in_flight.control = 1000, "in_flight");
        check(|c| c.handshakes_max = 0, "handshakes_max");
    }
}

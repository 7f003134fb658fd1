//! What a node may be told about how to behave, with the source of every default.

use std::time::Duration;

use peerchannel_wire::limits;
use thiserror::Error;

/// How a node behaves in one mesh. `Config::default()` is right for most.
///
/// Every value is checked once, by [`Config::validate`], when a node is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Links below which repair starts at once. Default 6 (HyParView, protocol.md section 3).
    pub neighbors_low: usize,
    /// Links the node tries to have. Default 8: a random graph of degree 8 survives the loss
    /// of 30 % of its nodes in one piece (measured, 10^4 nodes).
    pub neighbors_target: usize,
    /// Links above which the least useful is dropped and strangers are refused. Default 12.
    pub neighbors_high: usize,
    /// The same for a node that was dialed by others in this join, in meshes of ten and more.
    /// Default 32: some nodes cannot be dialed, and need those that can (protocol.md section
    /// 3.4). Links above the target are given up again as soon as both ends can do without.
    pub dialable_high: usize,
    /// Up to this many members everyone links to everyone. Default 9: most meshes are small,
    /// and one hop is the best route. The mesh uses no more than `neighbors_high + 1`.
    pub full_mesh_members_max: usize,
    /// Largest payload of a reliable message in bytes that this node publishes. Default and
    /// maximum 1 MiB; at most a quarter of `retention_bytes`.
    pub max_message: usize,
    /// Whether batches are signed by their origin and checked by every receiver. Default on.
    /// Links are authenticated either way. All members of a mesh must agree.
    pub origin_auth: bool,
    /// Whether own messages are delivered back, as Peer Channel did. Default off.
    pub echo: bool,
    /// Bytes of messages kept to serve others, shared fairly by the origins. Default 64 MiB.
    pub retention_bytes: usize,
    /// Bytes of messages that may wait for an earlier one to arrive. Default 16 MiB, at least
    /// `max_message`; when full, the latest are dropped and pulled again.
    pub hold_back_bytes: usize,
    /// Bytes of own messages that may be unacknowledged by some neighbor before `publish`
    /// waits. Default 8 MiB (a guess: 80 MB/s at 100 ms); from `max_message` to half of
    /// `retention_bytes`.
    pub publish_window_bytes: usize,
    /// Bytes of own messages that may wait for a first neighbor. Default 4 MiB (a guess); from
    /// `max_message` to half of `retention_bytes`.
    pub held_alone_bytes: usize,
    /// Streams a node keeps positions of. Default 16 384; when full, new ones of strangers
    /// are refused and counted.
    pub streams_max: usize,
    /// Channels one origin may use in one epoch. Default 256 (a guess).
    pub channels_per_origin_max: usize,
    /// Members a node keeps records of. Default 10 000 (protocol.md section 5). In a larger
    /// mesh it keeps a uniform sample of about that size, and an estimate of the whole. All
    /// members should agree: a node passes on only what it keeps.
    pub members_max: usize,
    /// The passive view: nodes heard of from other members that might become neighbors.
    /// Default 64: at 90 % sudden loss one node in a thousand knows nobody alive (0.9^64).
    pub passive_max: usize,
    /// The same for nodes that resolvers named. Default 256 (a guess).
    pub candidates_max: usize,
    /// Time for Connect and Welcome after admission. Default 10 s (protocol.md section 2;
    /// Peer Channel: 60 s).
    pub connect_timeout: Duration,
    /// A neighbor without progress for this long no longer slows `publish` down: it is served
    /// by pull and may see gaps. Default 10 s (protocol.md section 4, flow control).
    pub slow_after: Duration,
    /// How often resolvers are asked again while the node has enough neighbors, jittered by a
    /// quarter. Default 5 min (Peer Channel's maintainer interval).
    pub resolve_interval: Duration,
    /// How often a node checks one random member to which it has no link, jittered by a
    /// quarter. Default 5 min: a dial costs about 6 KB, 20 B/s (a guess).
    pub audit_interval: Duration,
    /// A range nobody could serve is reported as a gap after this long. Default 30 s (a guess).
    pub repair_limit: Duration,
    /// How long `leave` waits for messages to be committed. Default 1 s: leaving takes 2 s.
    pub leave_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            neighbors_low: 6,
            neighbors_target: 8,
            neighbors_high: 12,
            dialable_high: 32,
            full_mesh_members_max: 9,
            max_message: limits::MESSAGE_MAX,
            origin_auth: true,
            echo: false,
            retention_bytes: 64 << 20,
            hold_back_bytes: 16 << 20,
            publish_window_bytes: 8 << 20,
            held_alone_bytes: 4 << 20,
            streams_max: 16_384,
            channels_per_origin_max: 256,
            members_max: 10_000,
            passive_max: 64,
            candidates_max: 256,
            connect_timeout: Duration::from_secs(10),
            slow_after: Duration::from_secs(10),
            resolve_interval: Duration::from_secs(300),
            audit_interval: Duration::from_secs(300),
            repair_limit: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(1),
        }
    }
}

/// A configuration that cannot work. The text names the field, its value and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `1 <= low <= target <= high <= 64` does not hold.
    #[error(
        "neighbor limits low {low}, target {target}, high {high}: need 1 <= low <= target <= high <= {NEIGHBORS_MAX}"
    )]
    Neighbors {
        /// `neighbors_low`.
        low: usize,
        /// `neighbors_target`.
        target: usize,
        /// `neighbors_high`.
        high: usize,
    },
    /// A size is outside its range.
    #[error("{field} is {value}, it must be {min} to {max}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The smallest it may be.
        min: usize,
        /// The largest it may be.
        max: usize,
    },
    /// A time is outside its range.
    #[error("{field} is {value:?}, it must be {min:?} to {TIME_MAX:?}")]
    Time {
        /// The field.
        field: &'static str,
        /// Its value.
        value: Duration,
        /// The shortest it may be; the longest is [`TIME_MAX`].
        min: Duration,
    },
    /// A value is over what another one leaves it.
    #[error(
        "{field} is {value}, it must be at most {share}{of}, which is {of_value}: lower it to {max} or raise {of}"
    )]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The largest it may be with the other as it is.
        max: usize,
        /// The part of the other that it may be, as `half of `; empty is all of it.
        share: &'static str,
        /// The other field.
        of: &'static str,
        /// The other's value.
        of_value: usize,
    },
    /// A value is under what another one asks for.
    #[error("{field} is {value}, it must be at least {of}, which is {of_value}: raise it or lower {of}")]
    TooSmall {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The other field.
        of: &'static str,
        /// The other's value.
        of_value: usize,
    },
}

/// Longest time that may be configured: whoever waits for a day need not wait at all.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Shortest time of what is done again and again, so that no node is busy with nothing else.
const TIME_MIN: Duration = Duration::from_millis(100);

/// Most neighbors that may be configured: beyond, connections cost more than they bring
/// (29 to 36 KB each, measured).
pub const NEIGHBORS_MAX: usize = 64;

impl Config {
    /// Peer Channel's own shape: min 2, ideal 3, max 7, own messages echoed, 64 KiB messages.
    #[must_use]
    pub fn peer_channel() -> Self {
        Self {
            neighbors_low: 2,
            neighbors_target: 3,
            neighbors_high: 7,
            dialable_high: 7,
            full_mesh_members_max: 3,
            max_message: 65_536,
            echo: true,
            ..Self::default()
        }
    }

    /// For meshes on one local network: everybody can be dialed, everybody is near, and looking
    /// around costs nothing.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            // Nobody depends on others' room: the ordinary limit and what a crowd may need.
            dialable_high: 16,
            // A local handshake takes milliseconds; a guess that forgives a busy machine.
            connect_timeout: Duration::from_secs(3),
            // A multicast question: six a minute for a mesh of six.
            resolve_interval: Duration::from_secs(60),
            ..Self::default()
        }
    }

    /// For meshes across the internet: the default, by its name.
    #[must_use]
    pub fn internet() -> Self {
        Self::default()
    }

    /// Checks every value against the others.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (low, target, high) = (self.neighbors_low, self.neighbors_target, self.neighbors_high);
        if low == 0 || low > target || target > high || high > NEIGHBORS_MAX {
            return Err(ConfigError::Neighbors { low, target, high });
        }
        let range = |field, value, min, max| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::Range { field, value, min, max })
            }
        };
        let at_most = |field, value, share, max, of, of_value| {
            if value <= max {
                Ok(())
            } else {
                Err(ConfigError::TooLarge { field, value, max, share, of, of_value })
            }
        };
        let at_least = |field, value, of, of_value| {
            if value >= of_value { Ok(()) } else { Err(ConfigError::TooSmall { field, value, of, of_value }) }
        };
        let (retained, message) = (self.retention_bytes, self.max_message);
        range("retention_bytes", retained, 1 << 16, 1 << 34)?;
        range("max_message", message, 1, limits::MESSAGE_MAX)?;
        at_most("max_message", message, "a quarter of ", retained / 4, "retention_bytes", retained)?;
        range("hold_back_bytes", self.hold_back_bytes, 1, 1 << 34)?;
        for (field, value) in [
            ("hold_back_bytes", self.hold_back_bytes),
            ("publish_window_bytes", self.publish_window_bytes),
            ("held_alone_bytes", self.held_alone_bytes),
        ] {
            at_least(field, value, "max_message", message)?;
        }
        for (field, value) in
            [("publish_window_bytes", self.publish_window_bytes), ("held_alone_bytes", self.held_alone_bytes)]
        {
            at_most(field, value, "half of ", retained / 2, "retention_bytes", retained)?;
        }
        range("streams_max", self.streams_max, 16, 1 << 20)?;
        let channels = self.channels_per_origin_max;
        range("channels_per_origin_max", channels, 1, 1 << 20)?;
        at_most("channels_per_origin_max", channels, "", self.streams_max, "streams_max", self.streams_max)?;
        range("members_max", self.members_max, 2, 1 << 20)?;
        at_least("dialable_high", self.dialable_high, "neighbors_high", high)?;
        range("dialable_high", self.dialable_high, 1, NEIGHBORS_MAX)?;
        range("passive_max", self.passive_max, 8, 1 << 12)?;
        range("candidates_max", self.candidates_max, 8, 1 << 16)?;
        range("full_mesh_members_max", self.full_mesh_members_max, 1, NEIGHBORS_MAX + 1)?;
        for (field, value, min) in [
            ("connect_timeout", self.connect_timeout, TIME_MIN),
            ("slow_after", self.slow_after, TIME_MIN),
            ("resolve_interval", self.resolve_interval, TIME_MIN),
            ("audit_interval", self.audit_interval, TIME_MIN),
            ("repair_limit", self.repair_limit, TIME_MIN),
            ("leave_timeout", self.leave_timeout, Duration::ZERO),
        ] {
            if !(min..=TIME_MAX).contains(&value) {
                return Err(ConfigError::Time { field, value, min });
            }
        }
        Ok(())
    }

    /// Members up to which everyone links to everyone.
    #[must_use]
    pub(crate) fn full_mesh(&self) -> usize {
        self.full_mesh_members_max.min(self.neighbors_high + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
        for preset in [Config::peer_channel(), Config::lan(), Config::internet()] {
            assert_eq!(preset.validate(), Ok(()));
        }
    }

    #[test]
    fn bad_values_are_named() {
        let check = |change: &dyn Fn(&mut Config), part: &str| {
            let mut config = Config::default();
            change(&mut config);
            let text = config.validate().unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        };
        check(&|c| c.neighbors_low = 0, "low 0");
        check(&|c| c.neighbors_target = 13, "target 13");
        check(&|c| c.neighbors_high = 65, "<= 64");
        check(&|c| c.audit_interval = Duration::ZERO, "audit_interval is 0ns, it must be 100ms to 86400s");
        check(&|c| c.resolve_interval = Duration::MAX, "resolve_interval is 18446744073709551615.999999999s");
        check(
            &|c| c.dialable_high = 11,
            "dialable_high is 11, it must be at least neighbors_high, which is 12",
        );
        check(&|c| c.dialable_high = 65, "dialable_high is 65, it must be 1 to 64");
        check(&|c| c.max_message = 2 << 20, "max_message is 2097152");
        check(&|c| c.publish_window_bytes = 1, "publish_window_bytes");
        check(&|c| c.held_alone_bytes = 1 << 30, "held_alone_bytes");
    }

    #[test]
    fn a_bound_set_by_another_value_names_that_value() {
        let check = |change: &dyn Fn(&mut Config), text: &str| {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), text);
        };
        check(
            &|c| c.retention_bytes = 100_000,
            "max_message is 1048576, it must be at most a quarter of retention_bytes, which is 100000: \
             lower it to 25000 or raise retention_bytes",
        );
        check(
            &|c| (c.retention_bytes, c.max_message) = (100_000, 25_000),
            "publish_window_bytes is 8388608, it must be at most half of retention_bytes, which is 100000: \
             lower it to 50000 or raise retention_bytes",
        );
        check(
            &|c| c.hold_back_bytes = 1000,
            "hold_back_bytes is 1000, it must be at least max_message, which is 1048576: \
             raise it or lower max_message",
        );
    }
}

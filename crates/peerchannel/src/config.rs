//! How a node behaves in one mesh and towards its application.

use peerchannel_mesh::ConfigError;

use crate::queue::QueueLimits;

/// How a node behaves in one mesh: the mesh's own settings, and what subscriptions may hold.
/// `Config::default()` is right for most.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Neighbors, sizes, retention, time limits.
    pub mesh: peerchannel_mesh::Config,
    /// Bytes that may wait in one subscription. Default 16 MiB: sixteen of the largest
    /// messages (a guess). A full subscription drops its oldest items and says how many.
    pub subscription_bytes: usize,
    /// Items that may wait in one subscription. Default 65 536 (a guess).
    pub subscription_items: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mesh: peerchannel_mesh::Config::default(),
            subscription_bytes: 16 << 20,
            subscription_items: 65_536,
        }
    }
}

impl Config {
    /// Peer Channel's own shape: min 2, ideal 3, max 7 neighbors, own messages echoed.
    #[must_use]
    pub fn peer_channel() -> Self {
        Self { mesh: peerchannel_mesh::Config::peer_channel(), ..Self::default() }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least_one = |field, value| {
            if value > 0 { Ok(()) } else { Err(ConfigError::Range { field, value, min: 1, max: usize::MAX }) }
        };
        at_least_one("subscription_bytes", self.subscription_bytes)?;
        at_least_one("subscription_items", self.subscription_items)?;
        self.mesh.validate()
    }

    pub(crate) const fn queue_limits(&self) -> QueueLimits {
        QueueLimits { entries: self.subscription_items, bytes: self.subscription_bytes }
    }
}

//! A simulated UDP network in virtual time: the whole stack, thousands of times faster than
//! waiting for it.
//!
//! A [`Network`] hands out [`Socket`]s that stand in for the system's: each pair of them has a
//! delay, datagrams get jittered, lost, queued behind a narrow uplink and dropped when they are
//! too large, and every byte is counted. Chance comes from one seed. Time is tokio's: on a
//! current-thread runtime with its clock paused nothing waits, and a minute of a mesh takes as
//! long as the work in it.
//!
//! Tokio's timers tick once a millisecond, and so does this network: a datagram arrives on the
//! tick that is nearest to its due time, which is off by a quarter of a millisecond on average
//! and by nothing in the mean.
//!
//! It knows nothing of QUIC or of meshes. Which delay two addresses have is for the test to say.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use peerchannel_security::Identity;
//! use peerchannel_simnet::{Conditions, Network};
//! use peerchannel_transport::{Endpoint, EndpointConfig};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let delay = |_, _| Duration::from_millis(40);
//! let network = Network::new(7, Conditions::default(), delay);
//! let (ann, bob) = (Identity::generate(), Identity::generate());
//! let at = |text: &str| network.socket(text.parse().expect("an address"));
//! let here = Endpoint::with_socket(&ann, EndpointConfig::default(), Arc::new(at("10.0.0.1:4000")))?;
//! let there = Endpoint::with_socket(&bob, EndpointConfig::default(), Arc::new(at("10.1.0.1:4000")))?;
//!
//! let begin = tokio::time::Instant::now();
//! here.connect(there.local_address(), Some(bob.node_id())).await?;
//! assert!(begin.elapsed() >= Duration::from_millis(80), "a round trip");
//! assert!(network.sent(here.local_address()).datagrams >= 2);
//! # Ok(())
//! # }
//! ```

mod network;
mod traffic;

pub use network::{Conditions, Network, Socket};
pub use traffic::{HEADERS, Traffic};

//! Reaching one of a directory's addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerchannel_transport::{ConnectError, Connection, Endpoint, EndpointConfig};
use peerchannel_wire::{NodeId, RESOLVER_ALPN};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::ended::without_result;
use crate::host::HOST_ADDRESSES_MAX;
use crate::resolver::ResolverError;
use crate::service::Setup;

/// Head start of each address over the next: two tries fit well into the 2 s after which a
/// fail-over should be done, and a directory on the same continent answers in half of it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Head start of all others over the address whose directory answered and then failed. One
/// that accepts connections and hangs would else win every race against one farther away and
/// make every call fail. A handshake around the world fits, even if a packet of it is lost,
/// which costs a second (RFC 9002 section 6.2.2); and of the 5 s of a call enough is left for
/// this address, should it be the only one that works.
const HEAD_START_OVER_BAD: Duration = Duration::from_secs(3);

/// How often a directory that says it is busy is dialed in one attempt. One network may have
/// half of its handshakes at a time, so a crowd that starts together is served in turns.
const BUSY_DIALS_MAX: u32 = 8;

/// Pause before the next of them, in ms, drawn anew each time so that a crowd spreads.
const BUSY_PAUSE_MS: std::ops::Range<u64> = 50..250;

/// Most addresses dialed for one connection; several hosts with several addresses each.
const CANDIDATES_MAX: usize = HOST_ADDRESSES_MAX;

/// Pause after a failure in which calls fail at once instead of dialing again: doubled with
/// each failure from the first to the second. Short, since callers have pauses of their own,
/// and a directory that comes back should be found.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A directory that is connected.
pub(super) struct Directory {
    pub(super) connection: Connection,
    /// Where it was dialed.
    pub(super) address: SocketAddr,
    /// It, for people.
    pub(super) what: String,
}

/// Dials, with the address that worked last first.
pub(super) struct Connector {
    setup: Arc<Setup>,
    endpoint: Option<Endpoint>,
    last_good: Option<SocketAddr>,
    /// Answered, then failed: tried last.
    last_bad: Option<SocketAddr>,
    failures: u32,
    /// Until when not to dial, and the failure to report meanwhile.
    pause: Option<(Instant, ResolverError)>,
}

struct Candidate {
    address: SocketAddr,
    node: Option<NodeId>,
    what: String,
}

impl Connector {
    pub(super) const fn new(setup: Arc<Setup>) -> Self {
        Self { setup, endpoint: None, last_good: None, last_bad: None, failures: 0, pause: None }
    }

    pub(super) async fn connect(&mut self) -> Result<Directory, ResolverError> {
        if let Some((until, error)) = &self.pause
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match self.race().await {
            Ok(directory) => {
                (self.failures, self.pause) = (0, None);
                self.last_good = Some(directory.address);
                Ok(directory)
            }
            Err(error) => {
                let pause = BACKOFF.0.saturating_mul(1 << self.failures.min(16)).min(BACKOFF.1);
                self.failures = self.failures.saturating_add(1);
                self.pause = Some((Instant::now() + pause, error.clone()));
                Err(error)
            }
        }
    }

    /// The directory at this address answered a request: what it did before is forgotten.
    pub(super) fn trust(&mut self, address: SocketAddr) {
        self.last_bad = self.last_bad.filter(|bad| *bad != address);
    }

    /// The directory at this address took a connection and then failed.
    pub(super) fn distrust(&mut self, address: SocketAddr) {
        self.last_good = self.last_good.filter(|good| *good != address);
        self.last_bad = Some(address);
    }

    /// Dials the addresses one after the other, each with a head start; the first that
    /// answers wins and the others are dropped with the set.
    async fn race(&mut self) -> Result<Directory, ResolverError> {
        let endpoint = self.endpoint()?;
        let mut candidates = self.candidates().await?.into_iter().peekable();
        let started = Instant::now();
        // Each due when the one before has had its head start, or when all before have failed.
        let mut due = started;
        let mut dials = JoinSet::new();
        let mut worst: Option<ResolverError> = None;
        loop {
            let dial = tokio::select! {
                Some(dial) = dials.join_next() => dial,
                () = sleep_until(due), if candidates.peek().is_some() => {
                    if let Some(candidate) = candidates.next() {
                        let endpoint = endpoint.clone();
                        dials.spawn(async move { (dial(&endpoint, &candidate).await, candidate) });
                    }
                    due += HEAD_START;
                    if candidates.peek().is_some_and(|next| Some(next.address) == self.last_bad) {
                        due = due.max(started + HEAD_START_OVER_BAD);
                    }
                    continue;
                }
                else => break,
            };
            match dial {
                Ok((Ok(connection), Candidate { address, what, .. })) => {
                    return Ok(Directory { connection, address, what });
                }
                Ok((Err(error), candidate)) => {
                    let error = blame(error, candidate);
                    // A wrong key is worth more attention than a closed port.
                    if worst.is_none() || matches!(error, ResolverError::WrongDirectory { .. }) {
                        worst = Some(error);
                    }
                }
                Err(error) => {
                    worst.get_or_insert(without_result("dial of a directory", &error));
                }
            }
            if dials.is_empty() {
                due = Instant::now();
            }
        }
        Err(worst.unwrap_or(ResolverError::BadRequest { reason: "no directory address is given".to_owned() }))
    }

    /// Looks up the hosts and orders what comes out; fails only if nothing does.
    async fn candidates(&self) -> Result<Vec<Candidate>, ResolverError> {
        let mut lookups = JoinSet::new();
        for (index, service) in self.setup.addresses.iter().cloned().enumerate() {
            lookups.spawn(async move { (index, service.host.lookup().await, service) });
        }
        let (mut found, mut failure) = (Vec::new(), None);
        while let Some(lookup) = lookups.join_next().await {
            let (index, looked_up, service) = match lookup {
                Ok(lookup) => lookup,
                Err(error) => {
                    failure = Some(without_result("look-up", &error));
                    continue;
                }
            };
            match looked_up {
                Ok(addresses) => found.extend(addresses.into_iter().map(|address| {
                    let what = format!("directory at {}", service.host);
                    (index, Candidate { address, node: service.node, what })
                })),
                Err(reason) => {
                    let what = format!("directory at {}", service.host);
                    failure = Some(ResolverError::Unreachable { what, reason });
                }
            }
        }
        // As they were written, but what worked last first and what failed last at the end.
        found.sort_by_key(|(index, candidate)| {
            let address = Some(candidate.address);
            (address == self.last_bad, address != self.last_good, *index)
        });
        let mut candidates: Vec<Candidate> = found.into_iter().map(|(_, candidate)| candidate).collect();
        candidates.truncate(CANDIDATES_MAX);
        match failure {
            Some(failure) if candidates.is_empty() => Err(failure),
            _ => Ok(candidates),
        }
    }

    /// One UDP port for all connections, taken at the first.
    fn endpoint(&mut self) -> Result<Endpoint, ResolverError> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        let mut config = EndpointConfig::default();
        config.alpn = RESOLVER_ALPN.to_vec();
        // Nobody dials us here.
        config.handshakes_max = 1;
        config.control_streams_max = 1;
        config.data_lanes_max = 2;
        config.stream_window = 64 * 1024;
        config.base_window = 64 * 1024;
        let endpoint = Endpoint::bind(&self.setup.identity, config)
            .map_err(|error| ResolverError::Machine { reason: error.to_string() })?;
        Ok(self.endpoint.insert(endpoint).clone())
    }
}

fn blame(error: ConnectError, candidate: Candidate) -> ResolverError {
    let what = candidate.what;
    match (error, candidate.node) {
        (ConnectError::WrongNode { .. }, Some(expected)) => ResolverError::WrongDirectory { what, expected },
        (ConnectError::Busy { .. }, _) => {
            ResolverError::Unavailable { what, reason: "it takes no more connections".to_owned() }
        }
        (ConnectError::ProtocolMismatch { .. }, _) => ResolverError::Misbehaved {
            what,
            reason: "it does not speak the directory protocol of this version".to_owned(),
        },
        (error, _) => ResolverError::Unreachable { what, reason: error.to_string() },
    }
}

/// Dials one address, again after a moment where the directory is busy. The caller's time
/// limit bounds it; other addresses are dialed meanwhile.
async fn dial(endpoint: &Endpoint, candidate: &Candidate) -> Result<Connection, ConnectError> {
    for _ in 1..BUSY_DIALS_MAX {
        match endpoint.connect(candidate.address, candidate.node).await {
            Err(ConnectError::Busy { .. }) => {
                sleep(Duration::from_millis(rand::random_range(BUSY_PAUSE_MS))).await;
            }
            dialed => return dialed,
        }
    }
    endpoint.connect(candidate.address, candidate.node).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use peerchannel_security::Identity;

    use super::*;
    use crate::ended::tests::outlive_the_runtime;
    use crate::uri::ServiceAddress;

    fn connector(places: &[&str]) -> Connector {
        let addresses =
            places.iter().map(|place| ServiceAddress { node: None, host: place.parse().unwrap() });
        Connector::new(Arc::new(Setup {
            identity: Identity::from_seed(&[1; 32]),
            addresses: addresses.collect(),
            can_share_referrals: AtomicBool::new(true),
        }))
    }

    #[test]
    fn a_runtime_that_ends_during_a_connect_is_no_fault() {
        // Ends during the look-up, the first thing that waits.
        let mut connector = connector(&["127.0.0.1:1", "127.0.0.1:2"]);
        let (ended, errors) = outlive_the_runtime(connector.connect());
        assert!(matches!(ended, Err(ResolverError::Machine { .. })));
        assert_eq!(errors, [""; 0]);
    }
}

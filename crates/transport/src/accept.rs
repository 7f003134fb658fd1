//! The task that accepts: handshakes side by side, bounded, addresses proved under load, and
//! half of the room left to other networks.

use std::sync::Arc;

use peerchannel_security::{NetworkShare, NetworkShares};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::endpoint::EndpointShared;

/// Accepts until the endpoint closes. At most `handshakes_max` handshakes and connections
/// that wait to be accepted are in progress.
pub(crate) async fn run(endpoint: Arc<EndpointShared>, ready: mpsc::Sender<Connection>) {
    let mut handshakes = JoinSet::new();
    let handshakes_max = endpoint.config.handshakes_max;
    // Handshakes that stall hold their place until the time-out. One network gets half of the
    // places, so that it cannot lock the others out, and half of that by addresses that may
    // not be its own.
    let networks = NetworkShares::default();
    let (proved_max, claimed_max) = ((handshakes_max / 2).max(1), (handshakes_max / 4).max(1));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.quic.accept() => incoming,
            Some(_) = handshakes.join_next() => continue,
        };
        let Some(incoming) = incoming else { return };
        // Those that have ended hold no place, whichever branch was taken.
        while handshakes.try_join_next().is_some() {}
        // From half load on, a sender proves that it receives at its address before we work
        // for it (RFC 9000 section 8.1).
        let proved = incoming.remote_address_validated();
        let ip = incoming.remote_address().ip();
        let share = networks.take(ip, if proved { proved_max } else { claimed_max });
        let crowded = handshakes.len() >= handshakes_max / 2 || share.is_none();
        if handshakes.len() >= handshakes_max {
            endpoint.counters.refused.add(1);
            incoming.refuse();
        } else if crowded && !proved {
            endpoint.counters.retried.add(1);
            // Cannot fail: an unvalidated address may always be retried.
            let _ = incoming.retry();
        } else if let Some(share) = share {
            handshakes.spawn(handshake(endpoint.clone(), incoming, share, ready.clone()));
        } else {
            endpoint.counters.refused.add(1);
            incoming.refuse();
        }
    }
}

async fn handshake(
    endpoint: Arc<EndpointShared>,
    incoming: quinn::Incoming,
    share: NetworkShare,
    ready: mpsc::Sender<Connection>,
) {
    let remote = incoming.remote_address();
    let accepting = async { incoming.accept()?.await };
    let connection = match timeout(endpoint.config.handshake_timeout, accepting).await {
        Ok(Ok(quic)) => Connection::new(quic, endpoint.config.clone(), &endpoint.meter),
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%remote, "handshake took too long");
            None
        }
    };
    drop(share);
    match connection {
        Some(connection) => {
            endpoint.counters.accepted.add(1);
            // Waits while the application accepts none; fails when the endpoint is gone.
            let _ = ready.send(connection).await;
        }
        None => endpoint.counters.failed.add(1),
    }
}

//! The task that accepts: handshakes side by side, bounded, addresses proved under load.

use std::sync::Arc;

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
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.quic.accept() => incoming,
            Some(_) = handshakes.join_next() => continue,
        };
        let Some(incoming) = incoming else { return };
        // From half load on, a sender proves that it receives at its address before we work
        // for it (RFC 9000 section 8.1).
        if handshakes.len() >= handshakes_max {
            endpoint.counters.refused.add(1);
            incoming.refuse();
        } else if handshakes.len() >= handshakes_max / 2 && !incoming.remote_address_validated() {
            endpoint.counters.retried.add(1);
            // Cannot fail: an unvalidated address may always be retried.
            let _ = incoming.retry();
        } else {
            handshakes.spawn(handshake(endpoint.clone(), incoming, ready.clone()));
        }
    }
}

async fn handshake(
    endpoint: Arc<EndpointShared>,
    incoming: quinn::Incoming,
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
    match connection {
        Some(connection) => {
            endpoint.counters.accepted.add(1);
            // Waits while the application accepts none; fails when the endpoint is gone.
            let _ = ready.send(connection).await;
        }
        None => endpoint.counters.failed.add(1),
    }
}

//! Letting others in: connections, their control streams, and the admission on each.
//!
//! One task accepts connections, one per connection accepts control streams, one per control
//! stream runs a `Responder`. How many there may be is bounded by the transport (connections
//! in handshake, control streams per connection) and by the gate (admissions at once). Until
//! a peer is admitted, nothing but admission frames is read from it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use peerchannel_security::{
    ADMISSION_DEADLINE, Admitted, Context, EXPORTER_LABEL, NetworkShares, Output, Reception, Refused,
    Responder,
};
use peerchannel_transport::{CloseReason, Connection, ControlStream, StreamError};
use peerchannel_wire::{AdmissionFrame, NodeId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::driver::{Arrival, Opened};
use crate::events::Refusal;
use crate::node::NodeState;
use crate::pool::{Use, Uses};

/// Most connections served at a time, whoever opened them: 64 neighbors in each of a few
/// meshes, and as many strangers. A connection costs about 36 KB (measured).
const CONNECTIONS_MAX: usize = 1024;

/// Of these, what the others of one network (/24 of IPv4, /48 of IPv6) may open: strangers that
/// knock again and again keep their connections, and must not lock everybody else out.
const CONNECTIONS_PER_NETWORK_MAX: usize = CONNECTIONS_MAX / 2;

/// Accepts connections for as long as the node lives.
pub(crate) async fn accept_connections(node: Arc<NodeState>) {
    let mut serving = JoinSet::new();
    let networks = NetworkShares::default();
    while let Some(connection) = node.endpoint.accept().await {
        while serving.try_join_next().is_some() {}
        if serving.len() >= CONNECTIONS_MAX {
            connection.close(CloseReason::Busy);
            continue;
        }
        let Some(share) = networks.take(connection.remote_address().ip(), CONNECTIONS_PER_NETWORK_MAX) else {
            connection.close(CloseReason::Busy);
            continue;
        };
        match node.pool.add(connection.clone()) {
            Some(usage) => {
                let served = serve(node.clone(), connection, usage.uses().clone());
                serving.spawn(async move {
                    served.await;
                    drop(share);
                });
            }
            None => connection.close(CloseReason::Busy),
        }
    }
}

/// Serves one connection until it is closed or unused for a while.
pub(crate) async fn serve(node: Arc<NodeState>, connection: Connection, uses: Arc<Uses>) {
    // End with this task. At most as many as the transport lets the peer open streams.
    let mut admissions = JoinSet::new();
    let lingered = uses.lingered();
    tokio::pin!(lingered);
    loop {
        tokio::select! {
            control = connection.accept_control() => match control {
                Ok(control) => {
                    admissions.spawn(admit(node.clone(), control, Use::new(&uses)));
                }
                Err(lost) => {
                    tracing::debug!(peer = %connection.peer().short(), %lost, "connection over");
                    break;
                }
            },
            Some(_) = admissions.join_next() => {}
            () = &mut lingered => {
                if node.pool.remove(&connection, false) {
                    break;
                }
                lingered.set(uses.lingered());
            }
        }
    }
    node.pool.remove(&connection, true);
    // A refusal that is still being sent, an admission in its last flight.
    while admissions.join_next().await.is_some() {}
}

/// One admission of a peer.
async fn admit(node: Arc<NodeState>, mut control: ControlStream, usage: Use) {
    let (peer, address) = (control.connection().peer(), control.connection().remote_address());
    let mut responder = Responder::new(node.now(), peer, address.ip(), &mut node.gate(), rand::random());
    // A peer whose flow control lets nothing through must not keep us either.
    let send_until = Instant::now() + ADMISSION_DEADLINE;
    loop {
        while let Some(output) = responder.poll_output() {
            match output {
                Output::Send(frame) => match timeout_at(send_until, control.send(frame.encode())).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return responder.close(node.now(), &mut node.gate()),
                    Err(_) => {
                        responder.close(node.now(), &mut node.gate());
                        return control.reject(CloseReason::DeadlinePassed);
                    }
                },
                Output::Admitted(admitted) => {
                    return hand_over(&node, &admitted, control, usage).await;
                }
                Output::Refused(refused) => {
                    tell(&node, &responder, peer, address, refused);
                    return control.finish(CloseReason::Refused).await;
                }
            }
        }
        let deadline = responder.poll_timeout().map(|at| Instant::now() + at.saturating_sub(node.now()));
        let received = tokio::select! {
            received = control.recv() => received,
            () = sleep_until(deadline.unwrap_or_else(Instant::now)) => {
                responder.handle_timeout(node.now(), &mut node.gate());
                continue;
            }
        };
        match received {
            Ok(Some(body)) => answer(&node, &control, &mut responder, body),
            Err(StreamError::Frame(_)) => responder.handle_malformed(node.now(), &mut node.gate()),
            Ok(None) | Err(_) => return responder.close(node.now(), &mut node.gate()),
        }
    }
}

fn answer(node: &NodeState, control: &ControlStream, responder: &mut Responder, body: Bytes) {
    let Ok(frame) = AdmissionFrame::decode(body) else {
        return responder.handle_malformed(node.now(), &mut node.gate());
    };
    let connection = control.connection();
    let exporter = |context: &[u8]| connection.export_keying_material(EXPORTER_LABEL, context).ok();
    let context = Context { me: node.id, peer: connection.peer(), offer: node.offer, exporter: &exporter };
    let meshes = node.meshes();
    let admissions: Vec<_> = meshes.iter().map(|mesh| &mesh.admission).collect();
    let mut reception = Reception { context, meshes: &admissions, gate: &mut node.gate() };
    responder.handle(node.now(), &frame, &mut reception);
}

async fn hand_over(node: &NodeState, admitted: &Admitted, control: ControlStream, usage: Use) {
    // Left in this very moment: the peer sees the stream end and looks elsewhere.
    let Some(entry) = node.mesh(&admitted.mesh) else { return control.reject(CloseReason::Abandoned) };
    let opened = Box::new(Opened::new(None, control, admitted.features, usage));
    // The driver takes what it is given; if it has ended, the link ends with the value.
    let _ = entry.inbox.send(Arrival::Opened(opened)).await;
}

/// Tells the mesh whose admission it was that a peer was turned away.
fn tell(node: &NodeState, responder: &Responder, peer: NodeId, address: SocketAddr, refused: Refused) {
    tracing::debug!(peer = %peer.short(), %address, reason = ?refused.reason, "not admitted");
    if let Some(mesh) = responder.mesh().and_then(|mesh| node.mesh(mesh)) {
        mesh.registry.turned_away(peer, address, Refusal::from(refused.reason));
    }
}

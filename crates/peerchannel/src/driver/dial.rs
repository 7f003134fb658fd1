//! Reaching a node: connect, or use a connection there is, and be admitted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerchannel_mesh::{Candidate, DialFailure, DialId};
use peerchannel_security::{ADMISSION_DEADLINE, Admission, Context, EXPORTER_LABEL, Opener, Output, Refused};
use peerchannel_transport::{CloseReason, ConnectError, Connection, ControlStream, StreamError};
use peerchannel_wire::{AdmissionFrame, AdmissionRefusal, CredentialKind, Features};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::wake::{Done, Opened};
use crate::admit;
use crate::node::{MeshEntry, NodeState};
use crate::pool::Use;

/// How long all addresses of a candidate together may take (the transport's own limit for one
/// handshake is the same).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before the next address is tried as well (RFC 8305 section 5: 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// How long admission on a connection there is may take at least before a new one is tried:
/// the node may have been restarted, and the loss not been noticed yet (a guess).
const REUSE_MIN: Duration = Duration::from_secs(1);

/// Why a dial failed, and where it was tried last.
struct Failed {
    address: Option<SocketAddr>,
    failure: DialFailure,
}

/// Carries out one order to dial.
pub(super) async fn dial(
    node: Arc<NodeState>,
    mesh: Arc<MeshEntry>,
    dial: DialId,
    candidate: Candidate,
) -> Done {
    match reach(&node, &mesh.admission, &candidate).await {
        Ok((control, features, usage)) => {
            let peer = control.connection().peer();
            // In an open mesh the peer has proved nothing that would make it known.
            if mesh.admission.kind() == CredentialKind::Password {
                node.gate().admitted(node.now(), peer, *mesh.admission.mesh());
            }
            Done::Dialed(Box::new(Opened::new(Some(dial), control, features, usage)))
        }
        Err(Failed { address, failure }) => Done::DialFailed { dial, address, failure },
    }
}

async fn reach(
    node: &Arc<NodeState>,
    admission: &Admission,
    candidate: &Candidate,
) -> Result<(ControlStream, Features, Use), Failed> {
    if candidate.node == Some(node.id) {
        let address = candidate.addresses.first().copied();
        return Err(Failed { address, failure: DialFailure::Oneself });
    }
    if let Some((connection, usage)) = candidate.node.and_then(|peer| node.pool.get(peer))
        && let Some(ended) = reuse(node, admission, &connection).await
    {
        return finish(ended, &connection, usage);
    }
    let connection = connect(node, candidate).await?;
    let address = Some(connection.remote_address());
    if connection.peer() == node.id {
        return Err(Failed { address, failure: DialFailure::Oneself });
    }
    // Dialed by address alone, it may turn out to be somebody we are connected to.
    // The new connection waits meanwhile: the known one may be of a process that is gone.
    if candidate.node.is_none()
        && let Some((known, usage)) = node.pool.get(connection.peer())
        && let Some(ended) = reuse(node, admission, &known).await
    {
        connection.close(CloseReason::Duplicate);
        return finish(ended, &known, usage);
    }
    let Some(usage) = node.pool.add(connection.clone()) else {
        connection.close(CloseReason::Busy);
        let failure = DialFailure::Unreachable("too many connections to that node".to_owned());
        return Err(Failed { address, failure });
    };
    node.spawn(admit::serve(node.clone(), connection.clone(), usage.uses().clone()));
    let ended = be_admitted(node, admission, &connection).await;
    finish(ended, &connection, usage)
}

/// Admission on a connection there is already; `None` if it is dead, or was closed under our
/// hands as unused, so that a new one is needed.
async fn reuse(
    node: &Arc<NodeState>,
    admission: &Admission,
    connection: &Connection,
) -> Option<Result<(ControlStream, Features), Ended>> {
    let patience = REUSE_MIN.max(connection.rtt() * 8);
    match timeout(patience, be_admitted(node, admission, connection)).await {
        Err(_) | Ok(Err(Ended::Lost(_))) => None,
        Ok(ended) => Some(ended),
    }
}

fn finish(
    ended: Result<(ControlStream, Features), Ended>,
    connection: &Connection,
    usage: Use,
) -> Result<(ControlStream, Features, Use), Failed> {
    let failure = match ended {
        Ok((control, features)) => return Ok((control, features, usage)),
        Err(Ended::Lost(why)) => DialFailure::Unreachable(why),
        Err(Ended::Refused(Refused { reason: AdmissionRefusal::Duplicate, .. })) => DialFailure::Oneself,
        Err(Ended::Refused(Refused { reason, retry_after, .. })) => {
            DialFailure::Refused { reason, retry_after }
        }
    };
    Err(Failed { address: Some(connection.remote_address()), failure })
}

/// Tries the addresses, each a little after the one before, and takes the first that answers.
async fn connect(node: &Arc<NodeState>, candidate: &Candidate) -> Result<Connection, Failed> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut addresses = candidate.addresses.iter().copied().peekable();
    // At most one per address of the candidate; those that still run end with the set.
    let mut attempts = JoinSet::new();
    // What is left to say if every attempt is still waiting when the time is over.
    let address = candidate.addresses.first().copied();
    let why = match address {
        Some(_) => no_answer(),
        None => "it has no address".to_owned(),
    };
    let mut failed = Failed { address, failure: DialFailure::Unreachable(why) };
    while addresses.peek().is_some() || !attempts.is_empty() {
        if let Some(address) = addresses.next() {
            let (node, expected) = (node.clone(), candidate.node);
            attempts.spawn(async move { (address, node.endpoint.connect(address, expected).await) });
        }
        // A failure makes the next address due at once.
        let due = if addresses.peek().is_some() { deadline.min(Instant::now() + STAGGER) } else { deadline };
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok((_, Ok(connection))) => return Ok(connection),
                Ok((address, Err(error))) => failed = graver(failed, address, error),
                Err(error) if error.is_panic() => {
                    tracing::error!(%error, "connecting panicked");
                    let why = "an internal error, see the log".to_owned();
                    failed.failure = DialFailure::Unreachable(why);
                }
                Err(_) => tracing::debug!("connecting was cancelled: the runtime is shut down"),
            },
            () = sleep_until(due) => {
                if Instant::now() >= deadline {
                    break;
                }
            }
        }
    }
    Err(failed)
}

fn no_answer() -> String {
    format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())
}

/// The failure to report of two: who answered wrongly says more than who did not answer.
fn graver(before: Failed, address: SocketAddr, error: ConnectError) -> Failed {
    if matches!(before.failure, DialFailure::WrongNode(_)) {
        return before;
    }
    let failure = match error {
        ConnectError::WrongNode { actual, .. } => DialFailure::WrongNode(actual),
        // The same thing, noticed by QUIC a moment before this node's own time is over.
        ConnectError::NoAnswer { .. } => DialFailure::Unreachable(no_answer()),
        other => DialFailure::Unreachable(other.to_string()),
    };
    Failed { address: Some(address), failure }
}

/// How an admission on a connection ended in vain.
enum Ended {
    Lost(String),
    Refused(Refused),
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Opens a control stream and proves the mesh's credential on it.
async fn be_admitted(
    node: &NodeState,
    admission: &Admission,
    connection: &Connection,
) -> Result<(ControlStream, Features), Ended> {
    // The peer's limit of streams may be reached: then it is busy.
    let opened = timeout(CONNECT_TIMEOUT, connection.open_control()).await;
    let mut control = opened
        .map_err(|_| Ended::Lost("it takes no more control streams".to_owned()))?
        .map_err(|lost| Ended::Lost(lost.to_string()))?;
    let mut opener = start(node, admission, &control);
    // A peer whose flow control lets nothing through must not keep the dial either.
    let send_until = Instant::now() + ADMISSION_DEADLINE;
    loop {
        while let Some(output) = opener.poll_output() {
            match output {
                Output::Send(frame) => timeout_at(send_until, control.send(frame.encode()))
                    .await
                    .map_err(|_| Ended::Lost("it takes nothing of the admission".to_owned()))??,
                Output::Admitted(admitted) => return Ok((control, admitted.features)),
                Output::Refused(refused) => {
                    // What we said last is still delivered, without anyone waiting for it.
                    node.spawn(control.finish(CloseReason::Refused));
                    return Err(Ended::Refused(refused));
                }
            }
        }
        let deadline = opener.poll_timeout().map(|at| Instant::now() + at.saturating_sub(node.now()));
        let received = tokio::select! {
            received = control.recv() => received,
            () = sleep_until(deadline.unwrap_or_else(Instant::now)) => {
                opener.handle_timeout(node.now());
                continue;
            }
        };
        match received.map(|body| body.map(AdmissionFrame::decode)) {
            Ok(Some(Ok(frame))) => opener.handle(&frame),
            Ok(Some(Err(_))) | Err(StreamError::Frame(_)) => opener.handle_malformed(),
            Ok(None) => return Err(Ended::Lost("it ended the admission without a word".to_owned())),
            Err(error) => return Err(error.into()),
        }
    }
}

fn start(node: &NodeState, admission: &Admission, control: &ControlStream) -> Opener {
    let connection = control.connection();
    let exporter = |context: &[u8]| connection.export_keying_material(EXPORTER_LABEL, context).ok();
    let context = Context { me: node.id, peer: connection.peer(), offer: node.offer, exporter: &exporter };
    // The number of a control stream is never used twice on a connection.
    Opener::new(node.now(), &context, admission, control.number().0, rand::random())
}

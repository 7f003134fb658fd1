//! One client: its requests, one after the other.
//!
//! Whatever a client does, only its own connection is closed, with a reason.

use std::sync::Arc;
use std::time::{Duration, Instant};

use peerchannel_transport::{CloseReason, Connection, ControlStream, StreamError};
use peerchannel_wire::limits::RESOLVER_FRAME_MAX;
use peerchannel_wire::{NodeId, ResolverRefusal, ResolverRefusalKind, ResolverReply, ResolverRequest};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::committer::Commit;
use crate::rate::TokenBucket;
use crate::registry::Answer;
use crate::server::Shared;

/// A client that connects and opens no stream is dropped after this (protocol.md section 2
/// has the same for admission).
const FIRST_STREAM: Duration = Duration::from_secs(10);

/// A client that does not take its reply is dropped after this: a reply is one packet or a
/// dozen.
const REPLY: Duration = Duration::from_secs(5);

/// Refusals for asking too often in a row after which a client is disconnected: one that
/// does not listen to them.
const THROTTLED_MAX: u32 = 200;

/// Serves a client until it or the server ends, and says why for the log.
pub(crate) async fn serve(shared: &Arc<Shared>, connection: &Connection, mut stop: watch::Receiver<bool>) {
    let client = connection.peer();
    let stream = tokio::select! {
        stream = timeout(FIRST_STREAM, connection.accept_control()) => stream,
        _ = stop.wait_for(|stop| *stop) => return connection.close(CloseReason::Shutdown),
    };
    let mut stream = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return,
        Err(_) => return connection.close(CloseReason::DeadlinePassed),
    };
    stream.set_frame_limit(RESOLVER_FRAME_MAX);
    let reason = requests(shared, &mut stream, client, &mut stop).await;
    if reason == CloseReason::ProtocolViolation {
        shared.counters.violations.add(1);
    }
    tracing::debug!(client = %client.short(), %reason, "a client goes");
    if matches!(reason, CloseReason::Shutdown | CloseReason::Unused) {
        // The last reply arrives before the connection closes.
        stream.finish(reason).await;
    }
    connection.close(reason);
}

async fn requests(
    shared: &Arc<Shared>,
    stream: &mut ControlStream,
    client: NodeId,
    stop: &mut watch::Receiver<bool>,
) -> CloseReason {
    let config = &shared.config;
    let mut bucket = TokenBucket::new(config.requests_per_second, config.requests_burst, Instant::now());
    let mut throttled = 0;
    loop {
        let frame = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return CloseReason::Shutdown,
            frame = timeout(config.idle_timeout, stream.recv()) => frame,
        };
        let frame = match frame {
            Ok(Ok(Some(frame))) => frame,
            // It ended the stream, or asked nothing for a while: it comes back when it needs us.
            Ok(Ok(None)) | Err(_) => return CloseReason::Unused,
            Ok(Err(StreamError::Frame(error))) => {
                tracing::debug!(client = %client.short(), %error, "a client sent an invalid frame");
                return CloseReason::ProtocolViolation;
            }
            Ok(Err(StreamError::Truncated)) => return CloseReason::ProtocolViolation,
            Ok(Err(_)) => return CloseReason::Abandoned,
        };
        let (number, request) = match ResolverRequest::decode(frame) {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(client = %client.short(), %error, "a client sent an invalid request");
                return CloseReason::ProtocolViolation;
            }
        };
        let reply = if bucket.take(Instant::now()) {
            throttled = 0;
            answer(shared, client, &request).await
        } else {
            throttled += 1;
            shared.counters.throttled.add(1);
            if throttled > THROTTLED_MAX {
                return CloseReason::Busy;
            }
            let per_second = config.requests_per_second;
            refused(
                ResolverRefusalKind::Quota,
                format!("more than {per_second} requests a second: ask less often"),
            )
        };
        match timeout(REPLY, stream.send(reply.encode(number))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return CloseReason::Abandoned,
            Err(_) => return CloseReason::TooSlow,
        }
    }
}

/// Judges a request and waits until what it changed is stored.
async fn answer(shared: &Arc<Shared>, client: NodeId, request: &ResolverRequest) -> ResolverReply {
    shared.counters.asked(request);
    let changes = match request {
        ResolverRequest::Register { .. }
        | ResolverRequest::Update { .. }
        | ResolverRequest::Unregister { .. } => true,
        ResolverRequest::Refresh { .. } | ResolverRequest::Resolve { .. } | ResolverRequest::Settings => {
            false
        }
    };
    // A place in the store's queue first: under the lock nobody waits, and changes are
    // queued in the order in which the registry made them.
    let place = if changes { shared.commits.reserve().await.ok() } else { None };
    if changes && place.is_none() {
        return unavailable("the store is closed");
    }
    let (reply, stored) = {
        let mut registry = shared.registry();
        match registry.handle(Instant::now(), client, request, &mut rand::rng()) {
            Answer::Reply(reply) => (reply, None),
            Answer::AfterCommit { change, reply } => {
                let (done, stored) = oneshot::channel();
                if let Some(place) = place {
                    place.send(Commit { changes: vec![change], done });
                }
                (reply, Some(stored))
            }
        }
    };
    if let ResolverReply::Refused(ResolverRefusal { kind: ResolverRefusalKind::Quota, .. }) = &reply {
        shared.counters.quota_refusals.add(1);
    }
    let Some(stored) = stored else { return reply };
    // The record is in memory even if storing failed: the client tries again, and until then
    // it is found all the same.
    if stored.await.unwrap_or(false) { reply } else { unavailable("the store failed, try again later") }
}

fn unavailable(detail: &str) -> ResolverReply {
    refused(ResolverRefusalKind::Unavailable, detail.to_owned())
}

fn refused(kind: ResolverRefusalKind, detail: String) -> ResolverReply {
    ResolverReply::Refused(ResolverRefusal { kind, detail })
}

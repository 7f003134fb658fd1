//! The task that talks to the directory: one request after the other, on a connection that
//! is opened when needed and closed when idle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use peerchannel_transport::{CloseReason, ControlStream, StreamError};
use peerchannel_wire::{ResolverReply, ResolverRequest};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::resolver::ResolverError;
use crate::service::connect::{Connector, Directory};
use crate::service::{Setup, worth_registering};

/// A connection nobody asked anything of for this long is closed: keeping it alive costs
/// packets, opening one again costs one round trip.
const IDLE: Duration = Duration::from_secs(15);

/// How long a reply may take on a connection that was idle before: it may be dead, and there
/// must be time left for a new one. Longer than an fsync on a busy disk.
const STALE_REPLY: Duration = Duration::from_secs(2);

/// The number of the question for the settings that begins each connection.
const SETTINGS: u64 = 0;

/// One call.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: ResolverRequest,
    /// After this nobody waits for the reply.
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<ResolverReply, ResolverError>>,
}

/// Works until the resolver is gone.
pub(super) async fn run(setup: Arc<Setup>, mut jobs: mpsc::Receiver<Job>) {
    let mut client =
        Client { connector: Connector::new(setup.clone()), setup, open: None, next: SETTINGS + 1 };
    loop {
        let job = match timeout(IDLE, jobs.recv()).await {
            Ok(Some(job)) => job,
            Ok(None) => break,
            Err(_) => {
                client.close(CloseReason::Unused);
                // Without a connection there is nothing to close: wait for work alone.
                match jobs.recv().await {
                    Some(job) => job,
                    None => break,
                }
            }
        };
        // A caller who no longer waits costs nothing more.
        if job.reply.is_closed() {
            continue;
        }
        let answer = timeout_at(job.deadline, client.ask(job.request)).await;
        match answer {
            Ok(answer) => drop(job.reply.send(answer)),
            // The caller has its time-out already. What state the stream is in, nobody knows.
            Err(_) => client.close(CloseReason::DeadlinePassed),
        }
    }
    client.close(CloseReason::Unused);
}

struct Client {
    setup: Arc<Setup>,
    connector: Connector,
    open: Option<Open>,
    /// The number of the next request.
    next: u64,
}

struct Open {
    directory: Directory,
    stream: ControlStream,
}

/// Why there is no reply on this connection.
enum Failed {
    /// The connection is over or silent: another one may do.
    Lost(String),
    /// The request or the other side is at fault: trying again would not help.
    Final(ResolverError),
}

impl Client {
    /// Asks on the open connection, and once more on a new one if that was lost: all requests
    /// may be repeated without harm.
    async fn ask(&mut self, request: ResolverRequest) -> Result<ResolverReply, ResolverError> {
        if self.open.is_some() {
            match timeout(STALE_REPLY, self.exchange(&request)).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(Failed::Final(error))) => return Err(error),
                Ok(Err(Failed::Lost(reason))) => {
                    tracing::debug!(reason, "the directory's connection was lost");
                }
                Err(_) => tracing::debug!("the directory's connection is silent"),
            }
            // Its connection was idle since the last request, and may have ended by whatever is
            // between: no reason to think worse of the directory.
            self.drop_connection(CloseReason::DeadlinePassed);
        }
        let directory = self.connector.connect().await?;
        let (what, address) = (directory.what.clone(), directory.address);
        let opened = async {
            let mut stream = directory.connection.open_control().await.map_err(|lost| lost.to_string())?;
            stream.set_frame_limit(peerchannel_wire::limits::RESOLVER_FRAME_MAX);
            let settings = ResolverRequest::Settings.encode(SETTINGS);
            stream.send(settings).await.map_err(|error| error.to_string())?;
            Ok(stream)
        };
        let unreachable = |reason| ResolverError::Unreachable { what: what.clone(), reason };
        let stream = opened.await.map_err(unreachable)?;
        self.open = Some(Open { directory, stream });
        match self.exchange(&request).await {
            Ok(reply) => {
                self.connector.trust(address);
                Ok(reply)
            }
            Err(Failed::Final(error @ ResolverError::BadRequest { .. })) => Err(error),
            Err(failed) => {
                self.close(CloseReason::Abandoned);
                Err(match failed {
                    Failed::Lost(reason) => unreachable(reason),
                    Failed::Final(error) => error,
                })
            }
        }
    }

    /// One request and its reply on the open connection.
    async fn exchange(&mut self, request: &ResolverRequest) -> Result<ResolverReply, Failed> {
        let Some(Open { directory, stream }) = &mut self.open else {
            return Err(Failed::Lost("not connected".to_owned()));
        };
        let misbehaved = |reason: String| {
            directory.connection.close(CloseReason::ProtocolViolation);
            Failed::Final(ResolverError::Misbehaved { what: directory.what.clone(), reason })
        };
        let number = self.next;
        self.next += 1;
        let frame = prepared(request, directory)?.encode(number);
        stream.send(frame).await.map_err(|error| Failed::Lost(error.to_string()))?;
        loop {
            let body = match stream.recv().await {
                Ok(Some(body)) => body,
                Ok(None) => return Err(Failed::Lost("it closed the stream".to_owned())),
                Err(StreamError::Frame(error)) => return Err(misbehaved(error.to_string())),
                Err(error) => return Err(Failed::Lost(error.to_string())),
            };
            match ResolverReply::decode(body) {
                Ok((SETTINGS, ResolverReply::Settings { control_mesh_shape, .. })) => {
                    self.setup.can_share_referrals.store(!control_mesh_shape, Ordering::Relaxed);
                }
                Ok((SETTINGS, ResolverReply::Refused(_))) => {}
                Ok((answered, reply)) if answered == number => return Ok(reply),
                Ok(_) => return Err(misbehaved("it answered a question that was not asked".to_owned())),
                Err(error) => return Err(misbehaved(error.to_string())),
            }
        }
    }

    /// Closes the connection, if there is one; with another reason than `Unused`, other
    /// addresses are preferred next time.
    fn close(&mut self, reason: CloseReason) {
        if let Some(address) = self.drop_connection(reason)
            && reason != CloseReason::Unused
        {
            self.connector.distrust(address);
        }
    }

    /// Closes the connection, if there is one, whose address this returns.
    fn drop_connection(&mut self, reason: CloseReason) -> Option<SocketAddr> {
        let open = self.open.take()?;
        open.directory.connection.close(reason);
        Some(open.directory.address)
    }
}

/// The request with the addresses that mean something where this directory is.
fn prepared(request: &ResolverRequest, directory: &Directory) -> Result<ResolverRequest, Failed> {
    let mut request = request.clone();
    if let ResolverRequest::Register { addresses, .. } | ResolverRequest::Update { addresses, .. } =
        &mut request
    {
        *addresses = worth_registering(addresses, directory.connection.remote_address());
        addresses.retain(peerchannel_wire::is_dialable);
        if addresses.is_empty() {
            let reason = format!("none of the addresses can be dialed from where {} is", directory.what);
            return Err(Failed::Final(ResolverError::BadRequest { reason }));
        }
    }
    Ok(request)
}

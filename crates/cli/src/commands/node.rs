//! `node --json`: a node driven by JSON lines on stdin, reporting on stdout.
//!
//! One task reads commands, events and messages and writes lines. Two things may take their
//! time and have tasks of their own: publishing, which waits while the neighbors are busy,
//! and direct messages, which wait for an acknowledgement. Every queue between them is
//! bounded, and nothing waits in a circle: publisher and direct messages write to stdout
//! directly, never to the task that feeds them.

mod command;
mod filter;
mod inbox;
mod publisher;
#[cfg(test)]
pub(crate) mod words;

use std::pin::pin;
use std::time::Duration;

use peerchannel::{Directs, Events, Mesh, MeshEvent, MetadataError, NodeId};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use self::command::{Command, Malformed, Request};
use self::filter::Rules;
use self::inbox::Inbox;
use self::publisher::PublishOrder;
use crate::args::{NodeArgs, Settings};
use crate::failure::Failure;
use crate::input::{self, InputLine};
use crate::json::{Line, direct_error_word};
use crate::output::{Closed, Lines};
use crate::session;
use crate::signals::Stop;
use crate::unsent::unsent;
use crate::watch::{ALONE_TIME, nobody_text, still_alone};

/// Longest command: the largest message, each byte as a six-character escape, and the rest.
const COMMAND_BYTES_MAX: usize = 6 * 1024 * 1024 + 64 * 1024;

/// Direct messages that may wait for their acknowledgement (a guess).
const DIRECTS_MAX: usize = 64;

/// How long `leave` waits for publishes that were asked for before: the neighbors are busy.
const PUBLISH_DRAIN: Duration = Duration::from_secs(1);

/// Runs the node until it is told to leave, by a command or a signal.
pub(super) async fn run(args: NodeArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    let Some(mesh) = session::join(&args.mesh, args.options, settings, &mut stop).await? else {
        return Ok(());
    };
    let (lines, written) = Lines::stdout();
    let (publish, publisher) = publisher::start(mesh.clone(), lines.clone());
    let mut node = Node {
        events: mesh.events(),
        inbox: Inbox::all(&mesh),
        directs: mesh.directs(),
        input: input::lines(COMMAND_BYTES_MAX),
        input_ended: false,
        publish,
        pending: None,
        sending: JoinSet::new(),
        rules: Rules::default(),
        farewell: None,
        lines: lines.clone(),
        mesh,
    };
    let ended = tokio::select! {
        ended = node.work() => ended,
        () = stop.requested() => Ok(()),
        () = lines.closed() => Err(Closed),
    };
    let result = node.end(ended, publisher).await;
    drop(lines);
    written.wait().await;
    result
}

struct Node {
    mesh: Mesh,
    events: Events,
    inbox: Inbox,
    directs: Directs,
    input: mpsc::Receiver<InputLine>,
    input_ended: bool,
    publish: mpsc::Sender<PublishOrder>,
    // A publish that waits for a place; no further command is read meanwhile.
    pending: Option<PublishOrder>,
    sending: JoinSet<()>,
    rules: Rules,
    // The `ref` of `leave`.
    farewell: Option<Value>,
    lines: Lines,
}

impl Node {
    /// Works until a command says to leave.
    async fn work(&mut self) -> Result<(), Closed> {
        let listening = Line::Listening {
            node: self.mesh.node_id().to_string(),
            addr: self.mesh.local_address(),
            mesh: self.mesh.mesh_name().as_str().to_owned(),
            epoch: self.mesh.epoch().get(),
        };
        self.say(listening).await?;
        let publish = self.publish.clone();
        let mesh = self.mesh.clone();
        // Once told it is not polled any more.
        let mut told_alone = false;
        let mut alone = pin!(still_alone(&mesh));
        loop {
            tokio::select! {
                Some(event) = self.events.next() => {
                    if let Some(line) = Line::from_event(event, self.mesh.epoch()) {
                        self.say(line).await?;
                    }
                }
                () = &mut alone, if !told_alone => {
                    told_alone = true;
                    self.tell_alone().await?;
                }
                Some(direct) = self.directs.next() => self.say(Line::from_direct(direct)).await?,
                Some(_) = self.sending.join_next() => {}
                permit = publish.reserve(), if self.pending.is_some() => {
                    if let (Ok(permit), Some(order)) = (permit, self.pending.take()) {
                        permit.send(order);
                    }
                }
                line = self.input.recv(), if !self.input_ended && self.pending.is_none() => match line {
                    Some(line) => {
                        if self.obey(line).await? {
                            return Ok(());
                        }
                    }
                    // Whoever closed stdin may still want to read what comes.
                    None => self.input_ended = true,
                },
                incoming = self.inbox.next() => self.say(Line::from_incoming(incoming)).await?,
            }
        }
    }

    /// Says that nobody was found.
    async fn tell_alone(&self) -> Result<(), Closed> {
        let lasted_ms = u64::try_from(ALONE_TIME.as_millis()).unwrap_or(u64::MAX);
        let detail = nobody_text(&self.mesh, ALONE_TIME).await;
        self.say(Line::Alone { lasted_ms, detail }).await
    }

    async fn say(&self, line: Line) -> Result<(), Closed> {
        self.lines.line(line.text()).await
    }

    /// Obeys a command. Whether it was the last.
    async fn obey(&mut self, line: InputLine) -> Result<bool, Closed> {
        let bytes = match line {
            InputLine::Bytes(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => return Ok(false),
            InputLine::Bytes(bytes) => bytes,
            InputLine::TooLong => {
                let detail = format!("a command has at most {COMMAND_BYTES_MAX} bytes");
                return self.fail(None, "malformed", &detail).await.map(|()| false);
            }
            InputLine::Failed(why) => {
                return self.fail(None, "stdin", &why).await.map(|()| false);
            }
        };
        let Request { reference, command } = match Request::parse(&bytes) {
            Ok(request) => request,
            Err(Malformed { reference, detail }) => {
                return self.fail(reference, "malformed", &detail).await.map(|()| false);
            }
        };
        match command {
            Command::Publish(message) => self.pending = Some(PublishOrder { message, reference }),
            Command::Subscribe(channel) => match self.inbox.subscribe(&channel) {
                Ok(()) => self.done(reference, "subscribe").await?,
                Err(why) => self.fail(reference, "subscribe", &why).await?,
            },
            Command::Unsubscribe(channel) => match self.inbox.unsubscribe(&channel) {
                Ok(()) => self.done(reference, "unsubscribe").await?,
                Err(why) => self.fail(reference, "unsubscribe", &why).await?,
            },
            Command::Direct { to, payload } => self.direct(reference, to, payload).await?,
            Command::Members => match (self.mesh.members().await, self.mesh.size().await) {
                (Ok(members), Ok(size)) => self.say(Line::members(reference, &members, size)).await?,
                (Err(left), _) | (_, Err(left)) => self.fail(reference, "left", &left).await?,
            },
            Command::Suspend => match self.mesh.suspend().await {
                Ok(()) => self.say(Line::Suspended { reference }).await?,
                Err(left) => self.fail(reference, "left", &left).await?,
            },
            Command::Resume => match self.mesh.resume().await {
                Ok(()) => self.say(Line::Resumed { reference }).await?,
                Err(left) => self.fail(reference, "left", &left).await?,
            },
            Command::Metadata(metadata) => match self.mesh.set_metadata(metadata).await {
                Ok(()) => self.say(Line::MetadataSet { reference }).await?,
                Err(MetadataError::TooLong(why)) => self.fail(reference, "too_large", &why).await?,
                Err(left) => self.fail(reference, "left", &left).await?,
            },
            Command::Stats => match self.mesh.stats().await {
                Ok(stats) => self.say(Line::stats(reference, &stats)).await?,
                Err(left) => self.fail(reference, "left", &left).await?,
            },
            Command::Filter(rule) => match self.rules.set(rule) {
                Err(why) => self.fail(reference, "filter", &why).await?,
                Ok(()) => {
                    let set = if self.rules.is_empty() {
                        self.mesh.clear_filter().await
                    } else {
                        self.mesh.set_filter(self.rules.clone()).await
                    };
                    // Whoever wants to know when it holds waits until the mesh has come to it.
                    let set = match (set, &reference) {
                        (Ok(()), Some(_)) => self.mesh.size().await.map(|_| ()),
                        (set, _) => set,
                    };
                    match set {
                        Ok(()) => self.done(reference, "filter").await?,
                        Err(left) => self.fail(reference, "left", &left).await?,
                    }
                }
            },
            Command::Refresh => match self.mesh.refresh().await {
                Ok(()) => self.done(reference, "refresh").await?,
                Err(left) => self.fail(reference, "left", &left).await?,
            },
            Command::Leave => {
                self.farewell = reference;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says that a command was carried out, to whoever wants to know.
    async fn done(&self, reference: Option<Value>, cmd: &'static str) -> Result<(), Closed> {
        match reference {
            Some(reference) => self.say(Line::Ok { reference, cmd }).await,
            None => Ok(()),
        }
    }

    async fn fail(
        &self,
        reference: Option<Value>,
        error: &'static str,
        detail: &(dyn std::fmt::Display + Sync),
    ) -> Result<(), Closed> {
        let line = Line::error(reference, error, detail);
        self.say(line).await
    }

    /// Sends a direct message and goes on; its outcome is a line of its own.
    async fn direct(&mut self, reference: Option<Value>, to: NodeId, payload: Vec<u8>) -> Result<(), Closed> {
        if self.sending.len() >= DIRECTS_MAX {
            let why = format!("{DIRECTS_MAX} direct messages wait for their acknowledgement: wait for those");
            return self.fail(reference, "busy", &why).await;
        }
        let (mesh, lines) = (self.mesh.clone(), self.lines.clone());
        self.sending.spawn(async move {
            let line = match mesh.send_direct(to, payload).await {
                Ok(()) => Line::DirectSent { reference, to: to.to_string() },
                Err(error) => {
                    let (reason, detail) = unsent(&mesh, to, &error).await;
                    Line::error_because(reference, direct_error_word(&error), reason, &detail)
                }
            };
            // Nobody reads: the whole node ends for that.
            let _ = lines.line(line.text()).await;
        });
        Ok(())
    }

    /// Says goodbye and the last lines.
    async fn end(self, ended: Result<(), Closed>, publisher: JoinHandle<()>) -> Result<(), Failure> {
        let Self { mesh, mut events, publish, pending, mut sending, farewell, lines, .. } = self;
        // What was asked for before `leave` is published before, unless it takes too long.
        let drain = async {
            if let Some(order) = pending {
                let _ = publish.send(order).await;
            }
            drop(publish);
            let _ = publisher.await;
        };
        if ended.is_ok() && timeout(PUBLISH_DRAIN, drain).await.is_err() {
            tracing::warn!("the neighbors are busy: not everything was published before leaving");
        }
        session::leave(&mesh).await;
        sending.shutdown().await;
        let (mut lost, mut writable) = (0u64, true);
        while let Some(event) = events.try_next() {
            if let MeshEvent::Uncommitted { first, last, .. } = &event {
                lost = lost.saturating_add(last.get().saturating_sub(first.get()).saturating_add(1));
            }
            let line = match event {
                MeshEvent::Left => Some(Line::Left { reference: farewell.clone() }),
                event => Line::from_event(event, mesh.epoch()),
            };
            if writable
                && let Some(line) = line
                && timeout(Duration::from_millis(50), lines.line(line.text())).await.is_err()
            {
                writable = false;
            }
        }
        ended.map_err(|Closed| Failure::runtime("nobody reads stdout any more: left the mesh"))?;
        match lost {
            0 => Ok(()),
            1 => Err(Failure::runtime("left before anybody acknowledged 1 message: it may be lost")),
            _ => Err(Failure::runtime(format!(
                "left before anybody acknowledged {lost} messages: they may be lost"
            ))),
        }
    }
}

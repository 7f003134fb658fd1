//! `publish`: stdin's lines, or a file, into a channel, until a neighbor has acknowledged
//! every one of them.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use peerchannel::{Channel, Mesh, PublishError, PublishRejection, Published};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::args::{PublishArgs, Settings};
use crate::failure::Failure;
use crate::input::{self, InputLine};
use crate::output::say;
use crate::session;
use crate::signals::Stop;
use crate::watch::{nobody, watch};

/// Longest line that is read: the mesh says more precisely what it takes.
const LINE_BYTES_MAX: usize = 2 << 20;

/// Messages whose acknowledgement may be awaited at a time; further ones wait for those.
const OUTSTANDING_MAX: usize = 4096;

/// Messages that a failure names one by one; the others are counted.
const NAMED_MAX: usize = 20;

/// Publishes.
pub(super) async fn run(args: PublishArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    if args.channel == "*" {
        return Err(Failure::usage(
            "--channel *: * means all channels, for `subscribe`: name the one to publish in",
        ));
    }
    let channel = session::channel_name(&args.channel)?;
    let source = match &args.file {
        Some(path) => Source::File(Some(std::fs::read(path).map_err(|error| {
            Failure::runtime(format!("--file {}: cannot read it: {error}", path.display()))
        })?)),
        None => Source::Lines(input::lines(LINE_BYTES_MAX)),
    };
    let Some(mesh) = session::join(&args.mesh, args.options, settings, &mut stop).await? else {
        return Err(Failure::runtime("stopped before anything was published"));
    };
    let channel = mesh.channel(channel.as_str());
    let lane = match (args.hops, args.volatile) {
        (Some(hops), _) => Lane::Local(hops),
        (None, true) => Lane::Volatile,
        (None, false) => Lane::Reliable,
    };
    let mut ledger = Ledger::default();
    let why = {
        let work = publish_all(&mesh, &channel, source, lane, args.timeout, &mut ledger);
        let alone = async {
            if timeout(args.timeout, mesh.wait_online()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            why = work => why,
            () = alone => Some(nobody(&mesh, args.timeout).await.to_string()),
            () = stop.requested() => Some("stopped".to_owned()),
            failure = watch(&mesh, mesh.events()) => Some(failure.to_string()),
        }
    };
    session::leave(&mesh).await;
    ledger.settle();
    ledger.report(why, lane)
}

/// By which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Reliable,
    Local(u32),
    Volatile,
}

/// Where messages come from.
enum Source {
    Lines(mpsc::Receiver<InputLine>),
    File(Option<Vec<u8>>),
}

impl Source {
    async fn next(&mut self) -> Option<InputLine> {
        match self {
            Self::Lines(lines) => lines.recv().await,
            Self::File(content) => content.take().map(InputLine::Bytes),
        }
    }
}

/// Publishes everything and waits until it is committed. What went wrong for all of them, if
/// anything did; what went wrong for single ones is in the ledger.
async fn publish_all(
    mesh: &Mesh,
    channel: &Channel,
    mut source: Source,
    lane: Lane,
    patience: Duration,
    ledger: &mut Ledger,
) -> Option<String> {
    if lane != Lane::Reliable && mesh.wait_online().await.is_err() {
        return Some("left the mesh".into());
    }
    while let Some(line) = source.next().await {
        ledger.read += 1;
        let payload = match line {
            InputLine::Bytes(bytes) => bytes,
            InputLine::TooLong => {
                ledger.refuse(format!("longer than {LINE_BYTES_MAX} bytes"));
                continue;
            }
            InputLine::Failed(why) => return Some(format!("stdin cannot be read: {why}")),
        };
        match publish(mesh, channel, payload, lane).await {
            Ok(None) => ledger.sent += 1,
            Ok(Some(published)) => {
                ledger.outstanding.push_back((ledger.read, published));
                ledger.settle();
                // The mesh has its own limit of what is unacknowledged; this is ours.
                if ledger.outstanding.len() >= OUTSTANDING_MAX
                    && let Some((_, oldest)) = ledger.outstanding.front()
                {
                    let oldest = oldest.clone();
                    if timeout(patience, oldest.committed()).await.is_err() {
                        return Some(format!("no neighbor acknowledged anything for {patience:?}"));
                    }
                    ledger.settle();
                }
            }
            Err(PublishError::Left(_)) => return Some("left the mesh".into()),
            Err(error) => ledger.refuse(error.to_string()),
        }
    }
    let last = ledger.outstanding.back().map(|(_, published)| published.clone());
    if let Some(last) = last
        && timeout(patience, last.committed()).await.is_err()
    {
        return Some(format!("no neighbor acknowledged them within {patience:?}"));
    }
    None
}

/// Publishes one message, waiting for a first link where nothing more can be held for it.
async fn publish(
    mesh: &Mesh,
    channel: &Channel,
    payload: Vec<u8>,
    lane: Lane,
) -> Result<Option<Published>, PublishError> {
    let payload = peerchannel::Bytes::from(payload);
    match lane {
        Lane::Local(hops) => channel.publish_within(hops, payload).await.map(|_| None),
        Lane::Volatile => channel.publish_volatile("", payload).await.map(|_| None),
        Lane::Reliable => loop {
            match channel.publish(payload.clone()).await {
                Err(PublishError::Rejected(PublishRejection::HeldFull { .. })) => mesh.wait_online().await?,
                published => return published.map(Some),
            }
        },
    }
}

/// What became of the messages.
#[derive(Default)]
struct Ledger {
    /// Lines read: the number of a message is its line.
    read: u64,
    committed: u64,
    /// Best effort: gone out, and no more is known.
    sent: u64,
    // Oldest first; at most `OUTSTANDING_MAX`.
    outstanding: VecDeque<(u64, Published)>,
    // At most `NAMED_MAX`.
    refused: Vec<(u64, String)>,
    refused_count: u64,
}

impl Ledger {
    fn refuse(&mut self, why: String) {
        self.refused_count += 1;
        if self.refused.len() < NAMED_MAX {
            self.refused.push((self.read, why));
        }
    }

    /// Takes note of what was committed meanwhile.
    fn settle(&mut self) {
        while self.outstanding.front().is_some_and(|(_, published)| is_committed(published)) {
            self.outstanding.pop_front();
            self.committed += 1;
        }
    }

    fn report(self, why: Option<String>, lane: Lane) -> Result<(), Failure> {
        let open = self.outstanding.len() as u64 + self.refused_count;
        if why.is_none() && open == 0 {
            return say(&match lane {
                Lane::Reliable => {
                    format!("published {}: all acknowledged by a neighbor", count(self.committed))
                }
                Lane::Local(_) | Lane::Volatile => format!("sent {}: best effort", count(self.sent)),
            });
        }
        let mut text = format!("{} of {} not published", open, count(self.read));
        if let Some(why) = why {
            text = format!("{why}\n  {text}");
        }
        let lost = self.outstanding.iter().map(|(line, _)| format!("\n  message {line}: not acknowledged"));
        let refused = self.refused.iter().map(|(line, why)| format!("\n  message {line}: {why}"));
        text.extend(refused.chain(lost).take(NAMED_MAX));
        let named = NAMED_MAX.min(self.refused.len() + self.outstanding.len()) as u64;
        if open > named {
            text += &format!("\n  and {} more", open - named);
        }
        Err(Failure::runtime(text))
    }
}

/// Whether a message is committed by now.
fn is_committed(published: &Published) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(pin!(published.committed()).poll(&mut context), Poll::Ready(Ok(())))
}

fn count(number: u64) -> String {
    format!("{number} {}", if number == 1 { "message" } else { "messages" })
}

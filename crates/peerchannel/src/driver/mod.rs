//! The driver: one task per mesh that owns the mesh's core and never awaits a neighbor.
//!
//! ```text
//!  handles ──commands──▶ ┌────────┐ ──orders──▶ links: byte-bounded queues
//!  readers ──inbox─────▶ │ driver │ ──orders──▶ tasks: dial, resolve
//!  tasks   ──results───▶ │  core  │ ──events──▶ subscriptions: byte-bounded queues
//!  clock   ──deadline──▶ └────────┘ ──orders──▶ signatures, done here
//! ```
//!
//! It wakes up, reads the clock once, takes what is there (so many at most), carries out the
//! core's orders, does the signature work that arose, and sleeps until the next deadline.
//! It decides nothing about the mesh: an `if` about neighbors or messages belongs in the core.

mod anchors;
mod clock;
mod commands;
mod crypto;
mod dial;
mod links;
mod moved;
mod outputs;
mod pause;
mod publish;
mod start;
mod unanswered;
mod wake;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peerchannel_mesh::{DialFailure, Input, LinkId, LinkLoss, LinkOpened, Time};
use peerchannel_resolver::{Announcement, CompositeResolver, MeshKey};
use peerchannel_transport::CloseReason;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::addresses;
use crate::command::Command;
use crate::error::DirectError;
use crate::events::MeshEvent;
use crate::mesh::Facts;
use crate::node::{MeshEntry, Node, Reservation};
use crate::registry::Registry;
use crate::resolvers::Health;

use self::anchors::Anchors;
use self::clock::Clock;
use self::crypto::Job;
use self::links::Links;
use self::pause::PauseWatch;
use self::publish::Publishing;
use self::unanswered::Unanswered;
use self::wake::{Done, News, Purpose, Wake};

pub(crate) use self::start::{Plan, start};
pub(crate) use self::wake::{Arrival, Opened};

/// Commands that wait for the driver; further callers wait for a place (a guess: a wake's
/// worth).
const COMMANDS_MAX: usize = 256;

/// News that wait for the driver; readers wait for a place. Their bytes are bounded by the
/// transport's permits, which travel with them.
const INBOX_MAX: usize = 1024;

/// What is taken in per wake before orders for signatures are carried out and the deadline is
/// looked at: bounds how late either can be (a guess: a millisecond's worth).
const TAKEN_PER_WAKE: usize = 256;

/// Signature orders carried out per wake: about 5 ms of work (a guess).
const JOBS_PER_WAKE: usize = 128;

/// How long leaving may take in all: a process that is told to end does so within 2 s. The core
/// waits up to one second of it for own messages to be committed.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// What of it is kept for closing the node's connections.
const LEAVE_CLOSING: Duration = Duration::from_millis(300);

/// How long leaving waits for registrations to be taken back. A directory that is down must
/// not hold anyone up: what is not taken back ends with its lease.
const UNREGISTER_MAX: Duration = Duration::from_secs(1);

/// One mesh in one process.
struct Driver {
    core: peerchannel_mesh::Node,
    clock: Clock,
    // What this wake's inputs are dated.
    now: Time,
    node: Node,
    // The node was made for this mesh alone and closes with it.
    private: bool,
    reservation: Reservation,
    entry: Arc<MeshEntry>,
    facts: Arc<Facts>,
    registry: Arc<Registry>,
    commands: mpsc::Receiver<Command>,
    // The last handle is gone.
    abandoned: bool,
    inbox: mpsc::Receiver<Arrival>,
    // Whose turn it is when both handles and links have something.
    links_first: bool,
    tasks: JoinSet<Done>,
    purposes: HashMap<tokio::task::Id, Purpose>,
    links: Links,
    next_link: u64,
    // Facts that arose while orders were carried out.
    pending: VecDeque<Input>,
    jobs: VecDeque<Job>,
    publishing: Publishing,
    publish_ready: bool,
    unanswered: Unanswered,
    // Direct messages on their way, by the core's token; the core limits them.
    directs: HashMap<u64, oneshot::Sender<Result<(), DirectError>>>,
    online: watch::Sender<bool>,
    addresses: Vec<SocketAddr>,
    // Registrations last as long as the sender.
    announced: Option<watch::Sender<Announcement>>,
    network: watch::Receiver<u64>,
    registrars: JoinSet<()>,
    resolver: Arc<CompositeResolver>,
    key: MeshKey,
    health: Arc<Health>,
    // Only where the identity has a file.
    anchors: Option<Anchors>,
    filter_panics: Arc<AtomicU64>,
    filter_panics_told: u64,
    // Since when.
    leaving: Option<Instant>,
    left: bool,
}

impl Driver {
    async fn run(mut self) {
        self.drain();
        self.carry_out_jobs();
        while !self.is_over() {
            let deadline = self.deadline();
            let pause = PauseWatch::begin(deadline);
            let wake = self.wait(deadline).await;
            self.now = self.clock.now();
            // Before anything that came of it: lost links, time-outs.
            if let Some(paused) = pause.end() {
                self.resumed(paused);
            }
            self.take(wake);
            for _ in 1..TAKEN_PER_WAKE {
                // Beyond what this wake will carry out, news wait where their bytes are
                // bounded, and their senders with them.
                if self.jobs.len() >= JOBS_PER_WAKE {
                    break;
                }
                let Some(wake) = self.ready() else { break };
                self.take(wake);
            }
            if self.core.poll_timeout().is_some_and(|at| at <= self.now) {
                self.feed(Input::Timeout);
            }
            self.carry_out_jobs();
            self.keep_anchors_if_due();
            self.tell_filter_panics();
        }
        self.end().await;
    }

    fn is_over(&self) -> bool {
        let Some(since) = self.leaving else { return self.abandoned || self.left };
        let registered = !self.registrars.is_empty() && since.elapsed() < UNREGISTER_MAX;
        (self.left && !registered) || since.elapsed() >= LEAVE_MAX - LEAVE_CLOSING
    }

    /// Waits until there is something to do. Cancel safe, as each of its parts is.
    async fn wait(&mut self, deadline: Instant) -> Wake {
        tokio::select! {
            command = self.commands.recv(), if !self.abandoned => {
                command.map_or(Wake::Abandoned, Wake::Command)
            }
            // The driver holds a sender through `entry`: there is always another side.
            Some(arrival) = self.inbox.recv() => Wake::Arrival(arrival),
            Some(done) = self.tasks.join_next_with_id() => Wake::Done(done),
            Some(_) = self.registrars.join_next() => Wake::RegistrarDone,
            // The node's state has the sender.
            Ok(()) = self.network.changed() => Wake::NetworkChanged,
            () = sleep_until(deadline) => Wake::Deadline,
        }
    }

    fn deadline(&self) -> Instant {
        if !self.jobs.is_empty() {
            return Instant::now();
        }
        let core = self.core.poll_timeout().map(|at| self.clock.instant(at));
        let leave = self
            .leaving
            .map(|since| since + if self.left { UNREGISTER_MAX } else { LEAVE_MAX - LEAVE_CLOSING });
        let far = || Instant::now() + Duration::from_secs(3600);
        let anchors = self.anchors.as_ref().map(|anchors| anchors.due);
        core.into_iter().chain(leave).chain(anchors).min().unwrap_or_else(far)
    }

    /// What is there without waiting. Handles and links take turns, so that neither can keep
    /// the other waiting.
    fn ready(&mut self) -> Option<Wake> {
        self.links_first = !self.links_first;
        let command = |driver: &mut Self| driver.commands.try_recv().ok().map(Wake::Command);
        let arrival = |driver: &mut Self| driver.inbox.try_recv().ok().map(Wake::Arrival);
        let wake = if self.links_first {
            arrival(self).or_else(|| command(self))
        } else {
            command(self).or_else(|| arrival(self))
        };
        wake.or_else(|| self.tasks.try_join_next_with_id().map(Wake::Done))
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Command(command) => self.obey(command),
            Wake::Abandoned => self.abandoned = true,
            Wake::Arrival(Arrival::Opened(opened)) => self.opened(*opened),
            Wake::Arrival(Arrival::Link { link, news }) => self.news(link, news),
            Wake::Done(Ok((id, done))) => {
                self.purposes.remove(&id);
                self.done(done);
            }
            Wake::Done(Err(error)) => {
                if let Some(purpose) = self.purposes.remove(&error.id()) {
                    if error.is_panic() {
                        tracing::error!(%error, ?purpose, "a task panicked");
                    } else {
                        // The driver cancels no single task: the runtime is shut down, as
                        // programs do that end without leaving, and the driver is next.
                        tracing::debug!(?purpose, "a task was cancelled: the runtime is shut down");
                    }
                    self.ended_without_result(purpose);
                }
            }
            Wake::NetworkChanged => self.network_changed(),
            Wake::RegistrarDone | Wake::Deadline => {}
        }
    }

    fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(Instant::now());
            // As long as there are neighbors.
            self.keep_anchors();
            self.anchors = None;
            // Ends the registrations, while the core says goodbye.
            self.announced = None;
            self.core.leave(self.now);
        }
    }

    fn opened(&mut self, opened: Opened) {
        let Opened { dial, link, reader, peer, address, rtt, features, usage } = opened;
        let id = LinkId(self.next_link);
        self.next_link += 1;
        let number = link.number();
        let read = links::read(id, link.clone(), reader, self.entry.inbox.clone());
        self.links.add(id, link, usage);
        self.spawn(Purpose::Read(id), read);
        self.feed(Input::LinkOpened(LinkOpened { link: id, peer, dial, address, number, rtt, features }));
    }

    fn news(&mut self, link: LinkId, news: News) {
        match news {
            News::Control { frames, permit } => {
                for frame in frames {
                    self.feed(Input::Control { link, frame });
                }
                drop(permit);
            }
            News::Data { frames, permit } => {
                for frame in frames {
                    self.feed(Input::Data { link, frame });
                }
                drop(permit);
            }
            News::Volatile(frame) => self.feed(Input::Data { link, frame: *frame }),
            News::LaneFinished => self.feed(Input::LaneFinished { link }),
            News::Drained(lane) => {
                self.links.drained(link, lane, &mut self.pending);
                self.drain();
            }
            News::Closed(loss) => self.closed(link, loss),
        }
    }

    fn closed(&mut self, link: LinkId, loss: LinkLoss) {
        self.links.remove(link);
        self.feed(Input::LinkClosed { link, loss });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Dialed(opened) => self.opened(*opened),
            Done::DialFailed { dial, address, failure } => {
                self.feed(Input::DialFailed { dial, address, failure });
            }
            Done::Resolved(candidates) => self.feed(Input::Resolved(candidates)),
            Done::Read | Done::AnchorsKept => {}
        }
    }

    /// The core gets an answer to every order, whatever became of the task.
    fn ended_without_result(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Dial(dial) => {
                let failure = DialFailure::Unreachable("an internal error, see the log".to_owned());
                self.done(Done::DialFailed { dial, address: None, failure });
            }
            Purpose::Resolve => self.done(Done::Resolved(Vec::new())),
            Purpose::Read(link) => {
                self.links.close(link, CloseReason::Abandoned);
                self.closed(link, LinkLoss::ClosedLocally);
            }
            Purpose::KeepAnchors => {}
        }
    }

    /// Runs a task of the driver's, which ends with it. At most: one per link, one per dial of
    /// the core (which limits both), one that resolves, one that
    /// keeps the anchors now and then.
    fn spawn(&mut self, purpose: Purpose, task: impl Future<Output = Done> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.purposes.insert(id, purpose);
    }

    /// Gives the core a fact and carries out what it orders.
    fn feed(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.drain();
    }

    /// Carries out orders, and feeds the facts that arise from them, until there are none.
    fn drain(&mut self) {
        loop {
            while let Some(output) = self.core.poll_output() {
                self.carry_out(output);
            }
            if let Some(input) = self.pending.pop_front() {
                self.core.handle(self.now, input);
            } else if std::mem::take(&mut self.publish_ready) {
                self.publishing.resume(&mut self.core, self.now);
            } else {
                return;
            }
        }
    }

    fn carry_out_jobs(&mut self) {
        let state = self.node.state().clone();
        for _ in 0..JOBS_PER_WAKE {
            let Some(job) = self.jobs.pop_front() else { return };
            self.feed(job.carry_out(&state.identity));
        }
    }

    fn tell_filter_panics(&mut self) {
        let panics = self.filter_panics.load(Ordering::Relaxed);
        if panics != self.filter_panics_told {
            self.filter_panics_told = panics;
            tracing::error!(panics, "the propagation filter panicked");
            self.registry.event(MeshEvent::FilterPanicked);
        }
    }

    /// Ends what the driver owns. The commands end last: who waits for them may join again,
    /// with the same identity and the same port.
    async fn end(mut self) {
        if let Some(anchors) = self.changed_anchors() {
            self.node.keep_anchors(self.facts.mesh, anchors).await;
        }
        self.anchors_kept().await;
        let Self { mut tasks, mut registrars, links, node, entry, reservation, leaving, .. } = self;
        tasks.shutdown().await;
        registrars.shutdown().await;
        drop((links, entry));
        // A neighbor that does not hear the goodbye must not keep the owner from hearing it.
        if self.left || leaving.is_some() {
            self.registry.event(MeshEvent::Left);
        }
        self.registry.close();
        drop(reservation);
        self.online.send_replace(false);
        let until = leaving.map_or_else(|| Instant::now() + LEAVE_CLOSING, |since| since + LEAVE_MAX);
        if self.private {
            let _ = timeout_at(until, node.close()).await;
        }
        let owns_port = node.state().owns_port;
        drop(node);
        if self.private && owns_port && leaving.is_some() {
            let _ = timeout_at(until, addresses::is_free(self.facts.local_address)).await;
        }
        drop(self.online);
        drop(self.commands);
    }
}

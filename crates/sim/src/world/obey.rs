//! A node is told what happened, and its orders are carried out.

use std::time::Duration;

use peerchannel_mesh::{
    CloseCause, Delivery, DeliveryLane, Event as Told, GapReason, Input, LinkLoss, MemberLoss, NeighborLoss,
    Node, Output, Published,
};
use peerchannel_wire::{DisconnectReason, NodeId, RefuseReason};

use super::{ALARM_PAUSE, Event, NOBODY, Question, World, ns};
use crate::ledger::{Message, Wrong};
use crate::link::EndRef;
use crate::place::index_of;
use crate::plan::Mood;
use crate::seal;
use crate::transport::RESOLVE_TIMEOUT;
use crate::watch::seconds;

/// Events about one member within this time of the first are one false failure.
const SAME_CASE: Duration = Duration::from_secs(60);

/// A member that started so recently may still be reported for what it was before.
const JUST_STARTED: Duration = Duration::from_secs(60);

impl World {
    /// Tells a node one fact.
    pub(super) fn feed(&mut self, index: u32, input: Input) {
        let Some(mut core) = self.hosts[index as usize].core.take() else { return };
        core.handle(self.time(), input);
        self.drain(index, core);
    }

    /// The node's deadline has come.
    pub(super) fn alarm(&mut self, index: u32) {
        self.hosts[index as usize].life_story.deadlines += 1;
        self.watch.counts.deadlines += 1;
        self.feed(index, Input::Timeout);
    }

    /// Carries out what the node wants done, and sets its alarm.
    pub(super) fn drain(&mut self, index: u32, mut core: Box<Node>) {
        loop {
            while let Some(output) = core.poll_output() {
                self.obey(index, &mut core, output);
            }
            let Some(fact) = self.facts.pop_front() else { break };
            core.handle(self.time(), fact);
        }
        let host = &mut self.hosts[index as usize];
        if host.done {
            return self.ended(index, core);
        }
        let alarm = core.poll_timeout().map(|at| at.as_nanos());
        host.core = Some(core);
        self.queue.set_alarm(index, alarm.map(|at| if at <= self.now { self.now + ALARM_PAUSE } else { at }));
    }

    fn obey(&mut self, index: u32, core: &mut Node, output: Output) {
        match output {
            Output::Sign { job, transcript } => {
                let signature = seal::sign(&self.hosts[index as usize].id, &transcript);
                core.handle(self.time(), Input::Signed { job, signature });
            }
            Output::Verify { job, signer, transcript, signature } => {
                let valid = seal::verify(&signer, &transcript, &signature);
                core.handle(self.time(), Input::Verified { job, valid });
            }
            Output::Resolve => self.ask(index),
            Output::Dial { dial, candidate } => {
                if let Some(other) = core.neighbors().find(|n| Some(n.node) == candidate.node) {
                    let text = format!("node {}", index_of(&other.node));
                    self.watch.violated(self.now, Some(index), "no neighbor is dialed", text);
                }
                self.dial(index, dial, &candidate);
            }
            Output::Establish { link, .. } => self.establish(EndRef::from_id(link)),
            Output::Control { link, frame } => self.send_control(EndRef::from_id(link), frame),
            Output::Data { link, frame } => self.send_data(EndRef::from_id(link), frame),
            Output::Finish { link, farewell } => self.send_farewell(EndRef::from_id(link), farewell),
            Output::Close { link, cause } => {
                self.send_close(EndRef::from_id(link), cause_text(cause));
                self.facts.push_back(Input::LinkClosed { link, loss: LinkLoss::ClosedLocally });
            }
            Output::Deliver(delivery) => self.deliver(index, &delivery),
            Output::Event(event) => self.told(index, event),
        }
    }

    /// A question to the resolver.
    fn ask(&mut self, index: u32) {
        let resolver = self.plan.resolver;
        let host = &self.hosts[index as usize];
        let (delay, answered) = match self.directory.mood {
            Mood::Down => (RESOLVE_TIMEOUT, false),
            Mood::Slow(delay) => (delay.min(RESOLVE_TIMEOUT), delay < RESOLVE_TIMEOUT),
            _ if self.off_directory(index) => (RESOLVE_TIMEOUT, false),
            _ => (resolver.delay, true),
        };
        let answer = if answered {
            self.directory.answer(resolver.answers, index, &self.hosts, &mut self.resolver_dice)
        } else {
            Vec::new()
        };
        self.watch.counts.resolves += 1;
        let story = &host.life_story;
        if story.alone.is_some() {
            self.watch.reached("an isolated node asked the resolver again");
        } else if story.neighbors > 0 {
            self.watch.reached("a node with neighbors asked the resolver again");
        }
        let question = self.questions.insert(Question { life: host.life, answer });
        self.queue.push(self.now + ns(delay), index, Event::Resolved(question));
    }

    pub(super) fn resolved(&mut self, index: u32, question: u32) {
        let Some(Question { life, answer }) = self.questions.take(question) else { return };
        if self.hosts[index as usize].lives(life) {
            self.feed(index, Input::Resolved(answer));
        }
    }

    pub(super) fn note_published(&mut self, index: u32, published: &Published) {
        let host = &self.hosts[index as usize];
        let running = self.hosts.iter().filter(|other| other.up && other.id != host.id);
        let farthest = running.map(|other| host.place.delay_to(&other.place)).max().unwrap_or_default();
        let message = Message {
            stream: 0,
            sequence: 0,
            at: self.now,
            others: self.up.saturating_sub(1),
            reached: 0,
            farthest: ns(farthest + self.plan.map.handling),
        };
        let origin = (index, host.life);
        let number = self.ledger.published(&published.stream, published.sequence, origin, message);
        self.watch.counts.published += 1;
        self.watch.recent.published += 1;
        self.watch.write(1, self.now, index, u64::from(number));
        if let Some(delta) = self.plan.checks.delta {
            let due = self.now.max(self.faults_end) + ns(delta);
            if due <= self.end {
                self.queue.push(due, NOBODY, Event::Due(number));
            }
        }
    }

    fn deliver(&mut self, index: u32, delivery: &Delivery) {
        if delivery.lane != DeliveryLane::Reliable || delivery.own {
            return;
        }
        let host = &mut self.hosts[index as usize];
        let number = match self.ledger.delivered(&mut host.received, delivery) {
            Ok(number) => number,
            Err(Wrong { rule, text }) => return self.watch.violated(self.now, Some(index), rule, text),
        };
        let message = &mut self.ledger.messages[number as usize];
        let took = seconds(self.now - message.at) * 1000.0;
        self.watch.counts.delivered += 1;
        self.watch.recent.delivered += 1;
        self.watch.latency.add(took);
        self.watch.recent.latency.add(took);
        self.watch.hops.add(f64::from(delivery.hops));
        self.watch.write(2, self.now, index, u64::from(number));
        if host.life_story.started <= message.at {
            message.reached += 1;
            if message.reached == message.others && message.farthest > 0 {
                self.watch.last_arrival.add(took);
                self.watch.stretch.add(took / (seconds(message.farthest) * 1000.0));
            }
        }
    }

    fn told(&mut self, index: u32, event: Told) {
        let now = self.now;
        match event {
            Told::NeighborUp { node, .. } => self.neighbor_up(index, &node),
            Told::NeighborDown { node, loss } => self.neighbor_down(index, &node, &loss),
            Told::MemberDown { node, loss, .. } => self.member_down(index, &node, loss),
            Told::Gap { stream, first, last, reason } => {
                let host = &mut self.hosts[index as usize];
                match self.ledger.gap(&mut host.received, &stream, first, last) {
                    Ok(count) => self.watch.counts.gaps += count,
                    Err(Wrong { rule, text }) => self.watch.violated(now, Some(index), rule, text),
                }
                self.watch.reached(match reason {
                    GapReason::Gone => "gap: gone from every retention",
                    GapReason::Filtered => "gap: filtered",
                    GapReason::TimedOut => "gap: nobody served it in time",
                });
            }
            Told::Committed { through, .. } => {
                self.ledger.committed(index, self.hosts[index as usize].epoch, through);
            }
            Told::Uncommitted { .. } => self.watch.reached("left with messages that nobody acknowledged"),
            Told::ConnectRefused { reason, .. } => self.watch.reached(match reason {
                RefuseReason::NodeBusy => "refused: as many neighbors as it may have",
                RefuseReason::DuplicateNeighbor => "refused: a second link to the same node",
                RefuseReason::DuplicateNodeId => "refused: the same node id",
                RefuseReason::StaleEpoch => "refused: an earlier epoch",
                RefuseReason::LeavingMesh => "refused: leaving",
            }),
            Told::Misbehaved { node, what } => {
                let text = format!("node {}: {what}", index_of(&node));
                self.watch.violated(now, Some(index), "honest nodes keep the protocol", text);
            }
            Told::Overloaded(what) => self.watch.reached(&format!("overload: {what}")),
            Told::Left => self.hosts[index as usize].done = true,
            _ => {}
        }
        self.watch.write(3, now, index, 0);
    }

    fn neighbor_up(&mut self, index: u32, node: &NodeId) {
        let now = self.now;
        let other = index_of(node);
        self.watch.recent.neighbors_up += 1;
        if other == index {
            self.watch.violated(now, Some(index), "never one's own neighbor", "it is".to_owned());
        }
        let story = &mut self.hosts[index as usize].life_story;
        story.neighbors += 1;
        if story.online.is_none() {
            story.online = Some(now);
            self.watch.joining.add(seconds(now - story.started));
        }
        if let Some(since) = story.alone.take() {
            self.watch.isolation.add(seconds(now - since));
        }
        if index < other {
            *self.watch.pairs.entry((index, other)).or_default() += 1;
        }
    }

    fn neighbor_down(&mut self, index: u32, node: &NodeId, loss: &NeighborLoss) {
        let now = self.now;
        self.watch.recent.neighbors_down += 1;
        self.watch.counts.neighbors_lost += 1;
        self.watch.reached(match loss {
            NeighborLoss::Disconnected(_) => "a neighbor said goodbye",
            NeighborLoss::Dropped(DisconnectReason::NotUsefulNeighbor) => "dropped one neighbor too many",
            NeighborLoss::Dropped(DisconnectReason::DuplicateNeighbor) => "dropped a second link",
            NeighborLoss::Dropped(DisconnectReason::NodeTooSlow) => "dropped a neighbor that is too slow",
            NeighborLoss::Dropped(DisconnectReason::LeavingMesh) => "said goodbye on leaving",
            NeighborLoss::Dropped(_) => "dropped a neighbor for another reason",
            NeighborLoss::Lost(LinkLoss::TimedOut) => "a link timed out",
            NeighborLoss::Lost(LinkLoss::Reset) => "a link was reset by a restarted process",
            NeighborLoss::Lost(_) => "a link was closed without a goodbye",
        });
        let story = &mut self.hosts[index as usize].life_story;
        story.neighbors = story.neighbors.saturating_sub(1);
        if story.neighbors == 0 && story.left.is_none() {
            story.alone = Some(now);
        }
        let Some(other) = self.hosts.get(index_of(node) as usize) else { return };
        if let Some(crash) = other.life_story.departure.and_then(|d| self.watch.departures.get(d as usize))
            && crash.crash
            && other.id == *node
            && matches!(loss, NeighborLoss::Lost(_))
        {
            self.watch.crash_seen_by_neighbor.add(seconds(now - crash.at));
            if let Some(mark) = crash.mark.and_then(|mark| self.watch.marks.get_mut(mark)) {
                mark.detected_at = Some(seconds(now));
            }
        }
    }

    fn member_down(&mut self, index: u32, node: &NodeId, loss: MemberLoss) {
        let now = self.now;
        let subject = index_of(node);
        let Some(other) = self.hosts.get(subject as usize).filter(|other| other.id == *node) else { return };
        let (story, up) = (&other.life_story, other.up);
        let ran = |at: u64| self.hosts[index as usize].life_story.started <= at;
        let of = |loss: MemberLoss, crash: bool| crash == (loss == MemberLoss::Failed);
        if let Some(departure) = story.departure.and_then(|d| self.watch.departures.get_mut(d as usize))
            && of(loss, departure.crash)
            && ran(departure.at)
        {
            departure.told.entry(index).or_insert(now);
        }
        match loss {
            MemberLoss::Left => {
                self.watch.reached("heard that a member left");
                if let Some(left) = story.left {
                    self.watch.leave_seen.add(seconds(now - left));
                }
            }
            MemberLoss::Failed if !up => {
                if let Some(crash) = story.departure.and_then(|d| self.watch.departures.get(d as usize)) {
                    self.watch.crash_seen.add(seconds(now - crash.at));
                }
            }
            MemberLoss::Failed => {
                let walled = self.walled(index, subject) || self.walled(subject, index);
                if walled || (story.started > 0 && now - story.started < ns(JUST_STARTED)) {
                    return;
                }
                self.watch.false_events += 1;
                self.watch.recent.false_failures += 1;
                let began = self.watch.false_began.entry(subject).or_insert(u64::MAX);
                if *began == u64::MAX || now - *began > ns(SAME_CASE) {
                    *began = now;
                    self.watch.false_cases += 1;
                }
            }
        }
    }
}

const fn cause_text(cause: CloseCause) -> &'static str {
    match cause {
        CloseCause::Done => "unused",
        CloseCause::Unwanted => "busy",
        CloseCause::Violation => "protocol violation",
        CloseCause::TooLate => "deadline passed",
    }
}

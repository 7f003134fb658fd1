//! The side that was asked and decides whom to let in.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use peerchannel_wire::{
    AdmissionFrame, AdmissionRefusal, Hello, HelloCredential, HelloReply, MeshId, NodeId, ReplyCredential,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::gate::{Ending, Gate, Permit};
use super::transcript::{Choice, transcript};
use super::{ADMISSION_DEADLINE, Admission, Admitted, Context, Credential, Outbox, Output, RefusedBy};
use crate::mesh_id::{mesh_tag, proof_context, tag_context};
use crate::pake::{Binding, Role, SharedKey, respond};

/// What a node brings to each step of letting someone in.
#[derive(Debug)]
pub struct Reception<'a> {
    /// The connection the stream belongs to; the same at each step.
    pub context: Context<'a>,
    /// The meshes this node is a member of.
    pub meshes: &'a [&'a Admission],
    /// The node's one gate.
    pub gate: &'a mut Gate,
}

/// One attempt of a peer to be admitted to one of our meshes.
///
/// Poll [`poll_output`](Self::poll_output) until `None` after [`new`](Self::new) and after
/// every other call. The end is an [`Output::Admitted`] or an [`Output::Refused`]; what
/// arrives afterwards is not looked at. If the connection is lost before the end, call
/// [`close`](Self::close), so that the gate learns of it.
pub struct Responder {
    state: State,
    // `None` once it was given back, that is in `Done`.
    permit: Option<Permit>,
    seed: Zeroizing<[u8; 32]>,
    deadline: Duration,
    // The mesh the peer asked for, once its hello named one of ours.
    mesh: Option<MeshId>,
    outbox: Outbox,
}

enum State {
    /// Nothing was heard yet.
    AwaitHello,
    /// Our share and confirmation are sent: the peer can check one guess with them.
    AwaitConfirm(Box<Exchange>),
    /// Over. Nothing is read any more.
    Done,
}

struct Exchange {
    key: SharedKey,
    transcript: Vec<u8>,
    admitted: Admitted,
}

/// A refusal that this node decides on.
struct No {
    reason: AdmissionRefusal,
    retry_after: Option<Duration>,
}

impl From<AdmissionRefusal> for No {
    fn from(reason: AdmissionRefusal) -> Self {
        Self { reason, retry_after: None }
    }
}

impl Responder {
    /// A peer opened a control stream. `now` counts from any fixed start, `ip` is where the
    /// peer's connection comes from, `seed` must be fresh from the operating system's
    /// randomness (in simulations, from theirs). Ends at once as busy if the gate says so.
    #[must_use]
    pub fn new(now: Duration, peer: NodeId, ip: IpAddr, gate: &mut Gate, seed: [u8; 32]) -> Self {
        let mut outbox = Outbox::default();
        let permit = match gate.enter(now, peer, ip) {
            Ok(permit) => Some(permit),
            Err(retry_after) => {
                outbox.refuse(AdmissionRefusal::Busy, Some(retry_after));
                None
            }
        };
        let state = if permit.is_some() { State::AwaitHello } else { State::Done };
        let (seed, deadline) = (Zeroizing::new(seed), now + ADMISSION_DEADLINE);
        Self { state, permit, seed, deadline, mesh: None, outbox }
    }

    /// Takes a frame from the opener. Costs three scalar multiplications in password mode
    /// (about 0.2 ms) once the gate let the guess through.
    pub fn handle(&mut self, now: Duration, frame: &AdmissionFrame, reception: &mut Reception<'_>) {
        match (&self.state, frame) {
            (State::Done, _) => {}
            (_, AdmissionFrame::Refused { reason, retry_after }) => {
                self.finish(now, reception.gate, self.ending());
                self.outbox.end(*reason, *retry_after, RefusedBy::Peer);
            }
            (State::AwaitHello, AdmissionFrame::Hello(hello)) => {
                if let Err(No { reason, retry_after }) = self.answer(now, hello, reception) {
                    self.refuse(now, reason, retry_after, reception.gate);
                }
            }
            (State::AwaitConfirm(exchange), AdmissionFrame::Confirm { confirmation }) => {
                if exchange.key.confirms(Role::Opener, &exchange.transcript, confirmation) {
                    let admitted = exchange.admitted;
                    self.admit(now, admitted, Ending::Proven(admitted.mesh), reception.gate);
                } else {
                    self.refuse(now, AdmissionRefusal::BadCredential, None, reception.gate);
                }
            }
            _ => self.refuse(now, AdmissionRefusal::Malformed, None, reception.gate),
        }
    }

    /// Takes note that what arrived is not an admission frame.
    pub fn handle_malformed(&mut self, now: Duration, gate: &mut Gate) {
        if !self.is_over() {
            self.refuse(now, AdmissionRefusal::Malformed, None, gate);
        }
    }

    /// Takes note of the time; ends the attempt at its deadline.
    pub fn handle_timeout(&mut self, now: Duration, gate: &mut Gate) {
        if !self.is_over() && now >= self.deadline {
            self.refuse(now, AdmissionRefusal::TimedOut, None, gate);
        }
    }

    /// The connection or its stream is lost. Does nothing if the attempt was over.
    pub fn close(mut self, now: Duration, gate: &mut Gate) {
        let ending = self.ending();
        self.finish(now, gate, ending);
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.poll()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` once it is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        (!self.is_over()).then_some(self.deadline)
    }

    /// The mesh the peer wants to join, once it named one of ours: whom to tell how it ended.
    #[must_use]
    pub const fn mesh(&self) -> Option<&MeshId> {
        self.mesh.as_ref()
    }

    /// Whether it has ended. Its last outputs may still wait to be polled.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn answer(&mut self, now: Duration, hello: &Hello, reception: &mut Reception<'_>) -> Result<(), No> {
        let Context { me, peer, offer, exporter } = reception.context;
        let busy = || No::from(AdmissionRefusal::Busy);
        if me == peer {
            return Err(AdmissionRefusal::Duplicate.into());
        }
        let version =
            offer.versions.highest_common(hello.versions).ok_or(No::from(AdmissionRefusal::Version))?;
        let features = offer.features & hello.features;
        let tag_exporter = exporter(&tag_context(hello.attempt, &peer)).ok_or_else(busy)?;
        let admission = find(&hello.mesh_tag, &tag_exporter, reception.meshes)
            .ok_or(No::from(AdmissionRefusal::UnknownMesh))?;
        let mesh = *admission.mesh();
        self.mesh = Some(mesh);
        let admitted = Admitted { mesh, version, features };

        match (admission.credential(), hello.credential) {
            (Credential::Open(_), HelloCredential::Open) => {
                let credential = ReplyCredential::Open;
                self.outbox.send(AdmissionFrame::HelloReply(HelloReply { version, features, credential }));
                // Nothing was proven that would make it a known node.
                self.admit(now, admitted, Ending::Innocent, reception.gate);
                Ok(())
            }
            (Credential::Password(password), HelloCredential::Password { share: peer_share }) => {
                // "Failures slow down their prefix": before any work is done for it.
                if let Some(permit) = &self.permit {
                    let wait = |after| No { reason: AdmissionRefusal::Busy, retry_after: Some(after) };
                    reception.gate.guess(now, permit, &mesh).map_err(wait)?;
                }
                let exporter = exporter(&proof_context(hello.attempt, &peer, &mesh)).ok_or_else(busy)?;
                let binding = Binding { mesh: &mesh, opener: &peer, responder: &me, exporter: &exporter };
                let mut rng = ChaCha20Rng::from_seed(*self.seed);
                let (share, key) = respond(&binding, password.key(), &peer_share, &mut rng)
                    .map_err(|_| No::from(AdmissionRefusal::Malformed))?;
                let choice = Choice { version, features, share };
                let transcript = transcript(&binding, hello, &peer_share, &choice);
                let confirmation = key.confirmation(Role::Responder, &transcript);
                let credential = ReplyCredential::Password { share, confirmation };
                self.outbox.send(AdmissionFrame::HelloReply(HelloReply { version, features, credential }));
                self.state = State::AwaitConfirm(Box::new(Exchange { key, transcript, admitted }));
                Ok(())
            }
            // The mesh id contains the kind: a tag that fits and a kind that does not is a lie.
            _ => Err(AdmissionRefusal::Malformed.into()),
        }
    }

    fn admit(&mut self, now: Duration, admitted: Admitted, ending: Ending, gate: &mut Gate) {
        self.finish(now, gate, ending);
        self.outbox.send(AdmissionFrame::Admitted);
        self.outbox.admit(admitted);
    }

    fn refuse(
        &mut self,
        now: Duration,
        reason: AdmissionRefusal,
        retry_after: Option<Duration>,
        gate: &mut Gate,
    ) {
        let ending = match reason {
            AdmissionRefusal::Malformed | AdmissionRefusal::TimedOut | AdmissionRefusal::BadCredential => {
                Ending::Failed
            }
            _ => self.ending(),
        };
        self.finish(now, gate, ending);
        self.outbox.refuse(reason, retry_after);
    }

    /// How it ended, if it ended now by no decision of ours: our confirmation in the hands of
    /// somebody who did not prove anything is a spent guess.
    fn ending(&self) -> Ending {
        match self.state {
            State::AwaitConfirm(_) => Ending::Failed,
            State::AwaitHello | State::Done => Ending::Innocent,
        }
    }

    fn finish(&mut self, now: Duration, gate: &mut Gate, ending: Ending) {
        self.state = State::Done;
        if let Some(permit) = self.permit.take() {
            gate.leave(now, permit, ending);
        }
    }
}

/// The mesh a tag stands for. Constant time per mesh: a peer that may try many tags on one
/// connection must not learn ours byte by byte, and have something to guess the name with.
fn find<'a>(tag: &[u8; 32], exporter: &[u8; 32], meshes: &[&'a Admission]) -> Option<&'a Admission> {
    meshes.iter().copied().find(|admission| mesh_tag(admission.mesh(), exporter).ct_eq(tag).into())
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, mesh): (_, Option<MeshId>) = match &self.state {
            State::AwaitHello => ("AwaitHello", None),
            State::AwaitConfirm(exchange) => ("AwaitConfirm", Some(exchange.admitted.mesh)),
            State::Done => ("Done", None),
        };
        f.debug_struct("Responder").field("state", &state).field("mesh", &mesh).finish_non_exhaustive()
    }
}

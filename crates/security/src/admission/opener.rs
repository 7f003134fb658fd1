//! The side that opened the control stream and asks to be let in.

use std::fmt;
use std::time::Duration;

use peerchannel_wire::{
    AdmissionFrame, AdmissionRefusal, Features, Hello, HelloCredential, HelloReply, MeshId, NodeId,
    ReplyCredential,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::transcript::{Choice, transcript};
use super::{ADMISSION_DEADLINE, Admission, Admitted, Context, Credential, Offer, Outbox, Output, RefusedBy};
use crate::mesh_id::{mesh_tag, proof_context, tag_context};
use crate::pake::{Binding, OpenerPake, Role};

/// One attempt to be admitted to one mesh.
///
/// Poll [`poll_output`](Self::poll_output) until `None` after [`new`](Self::new) and after
/// every other call. The end is an [`Output::Admitted`] or an [`Output::Refused`]; what
/// arrives afterwards is not looked at.
pub struct Opener {
    state: State,
    mesh: MeshId,
    offer: Offer,
    deadline: Duration,
    outbox: Outbox,
}

enum State {
    /// The hello is sent; no credential is shown in an open mesh.
    AwaitReplyOpen,
    /// The hello with our share is sent.
    AwaitReply(Box<Exchange>),
    /// Everything was checked; the responder has the last word.
    AwaitAdmitted { version: u32, features: Features },
    /// Over. Nothing is read any more.
    Done,
}

/// What the password proof needs when the responder's share comes.
struct Exchange {
    pake: OpenerPake,
    hello: Hello,
    share: [u8; 32],
    me: NodeId,
    peer: NodeId,
    exporter: [u8; 32],
}

impl Opener {
    /// Starts an attempt. `now` counts from any fixed start. `attempt` must be new among the
    /// control streams that we opened on this connection; `seed` must be fresh from the
    /// operating system's randomness (in simulations, from theirs).
    ///
    /// A connection to ourselves ends at once as [`AdmissionRefusal::Duplicate`]. Costs one
    /// scalar multiplication in password mode (about 0.1 ms).
    #[must_use]
    pub fn new(
        now: Duration,
        context: &Context<'_>,
        admission: &Admission,
        attempt: u32,
        seed: [u8; 32],
    ) -> Self {
        let mut opener = Self {
            state: State::Done,
            mesh: *admission.mesh(),
            offer: context.offer,
            deadline: now + ADMISSION_DEADLINE,
            outbox: Outbox::default(),
        };
        if let Err(reason) = opener.begin(context, admission, attempt, seed) {
            opener.outbox.end(reason, None, RefusedBy::Us);
        }
        opener
    }

    fn begin(
        &mut self,
        context: &Context<'_>,
        admission: &Admission,
        attempt: u32,
        seed: [u8; 32],
    ) -> Result<(), AdmissionRefusal> {
        if context.me == context.peer {
            return Err(AdmissionRefusal::Duplicate);
        }
        let export = |bytes: &[u8]| (context.exporter)(bytes).ok_or(AdmissionRefusal::Busy);
        let mut hello = Hello {
            versions: self.offer.versions,
            features: self.offer.features,
            mesh_tag: mesh_tag(&self.mesh, &export(&tag_context(attempt, &context.me))?),
            attempt,
            credential: HelloCredential::Open,
        };
        self.state = match admission.credential() {
            Credential::Open(_) => State::AwaitReplyOpen,
            Credential::Password(password) => {
                let exporter = export(&proof_context(attempt, &context.me, &self.mesh))?;
                let (me, peer) = (context.me, context.peer);
                let binding =
                    Binding { mesh: &self.mesh, opener: &me, responder: &peer, exporter: &exporter };
                let mut rng = ChaCha20Rng::from_seed(seed);
                // Fails only for a generator that is the identity, which nobody can find.
                let (share, pake) = OpenerPake::start(&binding, password.key(), &mut rng)
                    .map_err(|_| AdmissionRefusal::BadCredential)?;
                hello.credential = HelloCredential::Password { share };
                State::AwaitReply(Box::new(Exchange { pake, hello, share, me, peer, exporter }))
            }
        };
        self.outbox.send(AdmissionFrame::Hello(hello));
        Ok(())
    }

    /// Takes a frame from the responder.
    pub fn handle(&mut self, frame: &AdmissionFrame) {
        let state = std::mem::replace(&mut self.state, State::Done);
        match (state, frame) {
            (State::Done, _) => {}
            (_, AdmissionFrame::Refused { reason, retry_after }) => {
                self.outbox.end(*reason, *retry_after, RefusedBy::Peer);
            }
            (State::AwaitReplyOpen, AdmissionFrame::HelloReply(reply))
                if reply.credential == ReplyCredential::Open && self.offered(reply) =>
            {
                self.state = State::AwaitAdmitted { version: reply.version, features: reply.features };
            }
            (State::AwaitReply(exchange), AdmissionFrame::HelloReply(reply)) if self.offered(reply) => {
                self.prove(*exchange, reply);
            }
            (State::AwaitAdmitted { version, features }, AdmissionFrame::Admitted) => {
                self.outbox.admit(Admitted { mesh: self.mesh, version, features });
            }
            _ => self.outbox.refuse(AdmissionRefusal::Malformed, None),
        }
    }

    /// Takes note that what arrived is not an admission frame.
    pub fn handle_malformed(&mut self) {
        if !self.is_over() {
            self.refuse(AdmissionRefusal::Malformed);
        }
    }

    /// Takes note of the time; ends the attempt at its deadline.
    pub fn handle_timeout(&mut self, now: Duration) {
        if !self.is_over() && now >= self.deadline {
            self.refuse(AdmissionRefusal::TimedOut);
        }
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

    /// Whether it has ended. Its last outputs may still wait to be polled.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the responder chose among what was offered.
    fn offered(&self, reply: &HelloReply) -> bool {
        self.offer.versions.contains(reply.version) && self.offer.features.contains(reply.features)
    }

    /// Checks the responder's proof, then gives ours. In this order: a responder that does
    /// not know the password gets nothing to compare its guess with.
    fn prove(&mut self, exchange: Exchange, reply: &HelloReply) {
        let ReplyCredential::Password { share, confirmation } = reply.credential else {
            return self.outbox.refuse(AdmissionRefusal::Malformed, None);
        };
        let Exchange { pake, hello, share: own_share, me, peer, exporter } = exchange;
        let Ok(key) = pake.finish(&share) else {
            return self.outbox.refuse(AdmissionRefusal::Malformed, None);
        };
        let binding = Binding { mesh: &self.mesh, opener: &me, responder: &peer, exporter: &exporter };
        let choice = Choice { version: reply.version, features: reply.features, share };
        let transcript = transcript(&binding, &hello, &own_share, &choice);
        if !key.confirms(Role::Responder, &transcript, &confirmation) {
            return self.outbox.refuse(AdmissionRefusal::BadCredential, None);
        }
        self.outbox
            .send(AdmissionFrame::Confirm { confirmation: key.confirmation(Role::Opener, &transcript) });
        self.state = State::AwaitAdmitted { version: reply.version, features: reply.features };
    }

    fn refuse(&mut self, reason: AdmissionRefusal) {
        self.state = State::Done;
        self.outbox.refuse(reason, None);
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::AwaitReplyOpen | State::AwaitReply(_) => "AwaitReply",
            State::AwaitAdmitted { .. } => "AwaitAdmitted",
            State::Done => "Done",
        };
        f.debug_struct("Opener").field("mesh", &self.mesh).field("state", &state).finish_non_exhaustive()
    }
}

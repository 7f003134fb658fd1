//! Admission: deciding whether the node at the other end of a connection is a member.
//!
//! Two sans-IO state machines, one for each end of a control stream. They have no sockets, no
//! clock and no dice: time and seed are arguments, what they want is polled.
//!
//! ```text
//! Opener                                        Responder
//! AwaitReply ── Hello ─────────────────────▶ AwaitHello
//!            ◀──────────── HelloReply, Admitted ── Done        open mesh
//!            ◀──────────────────── HelloReply ── AwaitConfirm  password
//! AwaitAdmitted ── Confirm ────────────────▶
//! Done       ◀────────────────────── Admitted ── Done
//! ```
//!
//! Any state ends in `Done` by a refusal, given or received, and by the deadline. A frame
//! that does not belong there is answered with `Refused(Malformed)`, and nothing after it is
//! read. Every proof covers both node ids, both roles, the mesh and the connection.
//! docs/protocol.md section 2.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use peerchannel_wire::{
    AdmissionFrame, AdmissionRefusal, CredentialKind, Features, MeshId, MeshName, NodeId, VersionRange,
};

use crate::mesh_id::mesh_id;
use crate::password::StretchedPassword;

mod gate;
mod opener;
mod recent;
mod responder;
mod transcript;

pub use gate::Gate;
pub use opener::Opener;
pub use responder::{Reception, Responder};

/// The label of the TLS exporter (RFC 8446 section 7.5) that admission is bound to.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-peerchannel-admission-1";

/// An admission that is not complete after this is refused: three flights of a slow satellite
/// link take 2 s, the rest is patience with a busy machine (protocol.md section 2).
pub const ADMISSION_DEADLINE: Duration = Duration::from_secs(10);

/// The credential of one mesh, as a member uses it: to join, and to let others join.
///
/// Made by [`open`](Self::open) or [`password`](Self::password), so that the mesh id and the
/// kind of credential always belong together.
#[derive(Debug, Clone)]
pub struct Admission(Credential);

#[derive(Debug, Clone)]
pub(crate) enum Credential {
    Open(MeshId),
    Password(StretchedPassword),
}

impl Admission {
    /// Anyone who knows the name may join.
    ///
    /// The name is not proven either way: a node that answers as a member of an open mesh
    /// may know nothing but the tag it was shown.
    #[must_use]
    pub fn open(name: &MeshName) -> Self {
        Self(Credential::Open(mesh_id(name, CredentialKind::Open)))
    }

    /// Whoever knows the password may join the mesh that it was stretched for.
    #[must_use]
    pub fn password(password: StretchedPassword) -> Self {
        Self(Credential::Password(password))
    }

    /// The mesh.
    #[must_use]
    pub fn mesh(&self) -> &MeshId {
        match &self.0 {
            Credential::Open(mesh) => mesh,
            Credential::Password(password) => password.mesh(),
        }
    }

    /// The kind of credential.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match &self.0 {
            Credential::Open(_) => CredentialKind::Open,
            Credential::Password(_) => CredentialKind::Password,
        }
    }

    pub(crate) fn credential(&self) -> &Credential {
        &self.0
    }
}

/// The versions and features a node offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The protocol versions it speaks.
    pub versions: VersionRange,
    /// Its optional features, a bit each. Both sides use those that both offer.
    pub features: Features,
}

impl Default for Offer {
    /// What this release speaks, with every optional feature.
    fn default() -> Self {
        Self { versions: VersionRange::SUPPORTED, features: Features::SUPPORTED }
    }
}

/// What admission must know of the connection.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Our own id.
    pub me: NodeId,
    /// The id that the other end proved in the TLS handshake.
    pub peer: NodeId,
    /// What we offer.
    pub offer: Offer,
    /// The connection's TLS exporter with [`EXPORTER_LABEL`] and the context given. `None`
    /// if the connection cannot export, as when it is lost: admission ends as busy.
    pub exporter: &'a dyn Fn(&[u8]) -> Option<[u8; 32]>,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("me", &self.me)
            .field("peer", &self.peer)
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}

/// What an admission wants done or has to tell. Poll until there is none, after every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send this frame on the control stream.
    Send(AdmissionFrame),
    /// The end: both are members. Link frames follow on the same stream.
    Admitted(Admitted),
    /// The end, in vain. Finish sending, then end the stream; read nothing more from it.
    Refused(Refused),
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The mesh.
    pub mesh: MeshId,
    /// The protocol version.
    pub version: u32,
    /// The features both sides offered.
    pub features: Features,
}

/// Why an admission ended in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: AdmissionRefusal,
    /// When it makes sense to try again, if whoever refused knows. The word of a stranger
    /// when the peer refused: at most 49 days.
    pub retry_after: Option<Duration>,
    /// Whose decision it was.
    pub by: RefusedBy,
}

/// Who refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// This node.
    Us,
    /// The node at the other end.
    Peer,
}

/// Outputs that wait to be polled.
#[derive(Debug, Default)]
struct Outbox {
    // Invariant: at most 3; an end is queued once, and last.
    queue: VecDeque<Output>,
}

impl Outbox {
    fn send(&mut self, frame: AdmissionFrame) {
        self.queue.push_back(Output::Send(frame));
    }

    fn admit(&mut self, admitted: Admitted) {
        self.queue.push_back(Output::Admitted(admitted));
    }

    /// Refuses and tells the peer.
    fn refuse(&mut self, reason: AdmissionRefusal, retry_after: Option<Duration>) {
        self.send(AdmissionFrame::Refused { reason, retry_after });
        self.end(reason, retry_after, RefusedBy::Us);
    }

    /// Ends without a word to the peer: it refused itself, or never heard of the attempt.
    fn end(&mut self, reason: AdmissionRefusal, retry_after: Option<Duration>, by: RefusedBy) {
        self.queue.push_back(Output::Refused(Refused { reason, retry_after, by }));
    }

    fn poll(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }
}

#[cfg(test)]
mod tests;

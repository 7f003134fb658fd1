//! Who may join a Peer Channel mesh and who said it: identity, admission, signatures, TLS.
//!
//! A node *is* its Ed25519 key pair, an [`Identity`]; the public half is its node id, and TLS
//! proves at each end of a connection that the other end has it. That says who the peer is.
//! Whether it may be a member of a mesh is decided by *admission*, for each mesh apart, before
//! anything else is read from the peer in that mesh. Two state machines do it, one at each
//! end of a control stream: an [`Opener`] and a [`Responder`]. They have no sockets, no clock
//! and no dice. Here two of them meet in memory:
//!
//! ```
//! use std::time::Duration;
//!
//! use peerchannel_security::{
//!     Admission, Context, Gate, Identity, Offer, Opener, Output, Password, Reception, Responder,
//!     StretchedPassword,
//! };
//! use peerchannel_wire::MeshName;
//!
//! let (ann, bob) = (Identity::generate().node_id(), Identity::generate().node_id());
//! let words = Password::new("orbit velvet cactus thunder mango quill")?;
//! let mesh = Admission::password(StretchedPassword::stretch(&words, &MeshName::new("kitchen")?)?);
//!
//! let exporter = |context: &[u8]| Some(blake3::hash(context).into()); // TLS has the real one
//! let seen_by = |me, peer| Context { me, peer, offer: Offer::default(), exporter: &exporter };
//! let (now, mut gate) = (Duration::ZERO, Gate::new());
//! let mut opener = Opener::new(now, &seen_by(ann, bob), &mesh, 0, rand::random());
//! let mut responder = Responder::new(now, ann, [127, 0, 0, 1].into(), &mut gate, rand::random());
//! let mut members = 0;
//! for _ in 0..2 {
//!     while let Some(output) = opener.poll_output() {
//!         match output {
//!             Output::Send(frame) => {
//!                 let context = seen_by(bob, ann);
//!                 responder.handle(now, &frame, &mut Reception { context, meshes: &[&mesh], gate: &mut gate });
//!             }
//!             Output::Admitted(_) => members += 1,
//!             Output::Refused(refused) => println!("ann: {refused:?}"),
//!         }
//!     }
//!     while let Some(output) = responder.poll_output() {
//!         match output {
//!             Output::Send(frame) => opener.handle(&frame),
//!             Output::Admitted(_) => members += 1,
//!             Output::Refused(refused) => println!("bob: {refused:?}"),
//!         }
//!     }
//! }
//! # while let Some(output) = opener.poll_output() { members += u32::from(matches!(output, Output::Admitted(_))); }
//! assert_eq!(members, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Identity
//!
//! [`Identity::generate`] makes one for the life of the process; [`IdentityFile::open`] one
//! that lasts, locked while it is in use, with the last *epoch* of each mesh stored beside it.
//! An epoch is one join of one mesh. [`IdentityFile::next_epoch`] is on the disk before it
//! returns, so that a node that crashed, or whose clock went back, never speaks under an epoch
//! again that others remember. [`EpochSource`] is the same face for both kinds of identity.
//!
//! # Admission
//!
//! An [`Admission`] is the credential of one mesh, for joining and for letting join:
//!
//! - [`Admission::open`]: anyone who knows the name. Nothing is proven, not even that.
//! - [`Admission::password`]: CPace, a balanced PAKE. Each attempt is worth one guess, online,
//!   and nothing that crosses the network can be attacked offline. The password is stretched
//!   with Argon2id once per join ([`StretchedPassword::stretch`], which blocks for
//!   0.2 to 0.6 s), and [`Password::check_strength`] refuses what could be guessed.
//!
//! Every proof covers the mesh, both node ids, both roles and the TLS connection, so that it
//! cannot be relayed, reflected or replayed. The [`Gate`] slows down networks that guess and
//! keeps room for those that do not. Limits: 10 s per attempt ([`ADMISSION_DEADLINE`]), frames
//! of 1 KiB, 128 attempts at once.
//!
//! What it does not do: the *name* of a mesh is no secret. [`mesh_tag`] and [`resolver_key`]
//! keep it from being read in passing, but whoever sees one of them can try names offline, and
//! finds a common word at once. Members are trusted with the password: each can let others in.
//!
//! # Signatures
//!
//! [`Identity::sign`] signs and [`verify`] checks the transcripts that the wire crate builds.
//! Strict Ed25519 is the only acceptance rule, since members must never disagree about a batch.
//!
//! # Secrets
//!
//! Key, password and everything derived from them are wiped from memory on drop, and `Debug`
//! shows none of them. Comparisons of proofs take constant time. The arithmetic is that of
//! `ed25519-dalek`, `curve25519-dalek`, `pakery-cpace` (checked here against the vectors of
//! draft-irtf-cfrg-cpace-21), `argon2` and `blake3`; there is no `unsafe` in this crate.

mod admission;
mod durable;
mod epoch;
mod identity;
mod identity_file;
mod mesh_id;
mod network;
mod pake;
mod password;
mod tls;
mod verify;

pub use admission::{
    ADMISSION_DEADLINE, Admission, Admitted, Context, EXPORTER_LABEL, Gate, Offer, Opener, Output, Reception,
    Refused, RefusedBy, Responder,
};
pub use identity::{Identity, IdentityError};
pub use identity_file::{EphemeralEpochs, EpochSource, IdentityFile};
pub use mesh_id::{mesh_id, mesh_tag, resolver_key};
pub use network::{NetworkShare, NetworkShares};
pub use password::{
    PASSWORD_BITS_MIN, PASSWORD_BYTES_MAX, Password, PasswordError, StretchError, StretchedPassword,
};
pub use tls::{PresentedNode, Tls, TlsError, node_id_from_spki};
pub use verify::verify;

/// The README's program is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

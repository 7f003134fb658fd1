//! Who may try now: delays after failures, and a budget for admissions at once.
//!
//! One gate per node. It slows down guessing of passwords and keeps strangers from taking up
//! all of a node's attention; it never touches links that are up, and never our own dials
//! (an [`Opener`](super::Opener) does not ask it). docs/protocol.md section 2.
//!
//! What it counts as a failure, by the prefix of the address (/24 of IPv4, /48 of IPv6):
//! a wrong confirmation; an attempt that ends after our confirmation was sent and before
//! theirs proved right, however it ends (our confirmation is enough to check one guess); a
//! malformed frame; silence until the deadline. A node that proves itself afterwards, on
//! either side of an admission, takes its spent guesses of that mesh back: it mistyped, or
//! two nodes opened streams to each other at once and one stream was dropped half-way.
//!
//! Everything is bounded, and what is forgotten first is what happened longest ago.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use peerchannel_wire::{MeshId, NodeId};

use super::ADMISSION_DEADLINE;
use super::recent::Recent;
use crate::network::Prefix;

/// Failures of one prefix that cost nothing: a house full of people who mistype, or a room
/// full of nodes that all have the old password. Also the guesses that a prefix may have
/// open at once. Against 40 bits, 16 guesses are nothing.
pub(super) const FREE_FAILURES: u32 = 16;

/// The delay after the first failure that costs; it doubles with each further one.
const DELAY_MIN: Duration = Duration::from_secs(1);

/// The longest delay: 1,440 guesses a day and prefix. A longer one would not make guessing
/// 2^40 passwords any more hopeless, but would lock out honest neighbors of a fool.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// A prefix that behaves this long is as good as new.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// Most prefixes with failures, and nodes to blame, remembered (about 1 MB). An attacker with more prefixes than
/// that gains nothing by flushing them: each had its free failures anyway.
const PREFIXES_MAX: usize = 4096;

/// A node admitted to a mesh by its password is exempt from that mesh's delays for this long,
/// or until it fails: networks heal at once after an attack (protocol.md section 2).
const ADMITTED_REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Most (node, mesh) pairs remembered as admitted (about 2 MB): the member table's size.
const ADMITTED_MAX: usize = 10_000;

/// Most admissions of strangers at once. Each holds a stream, a few hundred bytes and at most
/// 0.3 ms of a core; 64 at once, done in a round trip each, is hundreds of joins a second.
pub(super) const STRANGERS_MAX: usize = 64;

/// Of these, what prefixes with failures may use together, and what one prefix may use: the
/// other half is reserved for prefixes without failures (protocol.md section 2).
const SUSPECTS_MAX: usize = STRANGERS_MAX / 2;

/// Most admissions at once of nodes admitted before, apart from the strangers'.
const KNOWN_MAX: usize = 64;

/// When to come back if it is a question of too many at once: a few round trips.
const CROWDED_RETRY: Duration = Duration::from_millis(500);

/// A permit that was not given back by then is taken back: its holder was dropped.
const PERMIT_EXPIRES_AFTER: Duration = Duration::from_secs(2 * ADMISSION_DEADLINE.as_secs());

const _: () = assert!(SUSPECTS_MAX >= FREE_FAILURES as usize);

/// The policy of a node towards those who knock: delays after failures, and a budget for
/// admissions at once. One per node, shared by all its [`Responder`](super::Responder)s.
///
/// - **Failures** are counted by the prefix of the address (/24 of IPv4, /48 of IPv6): a spent
///   guess, a malformed frame, silence until the deadline. The first 16 cost nothing; then
///   password proofs from there wait 1 s, 2 s, 4 s up to a minute between attempts, until an
///   hour passed without a failure. Guesses under way count too.
/// - **Exempt** is who proved the password of that mesh in the last 24 hours and did not fail
///   since. A node that proves itself takes back what it failed at before. Open meshes have
///   no delays, and our own dials do not pass here.
/// - **At once** there are at most 64 admissions of strangers, of which prefixes with failures
///   get 32 together and one prefix 32 alone, and 64 of nodes that proved themselves lately.
/// - **Memory** is bounded: 4,096 prefixes, 4,096 nodes to blame, 10,000 admitted. What
///   happened longest ago is forgotten first.
#[derive(Debug)]
pub struct Gate {
    failures: Recent<Prefix, Failures>,
    // What to forgive if the node proves itself.
    blamed: Recent<(NodeId, MeshId), Blame>,
    admitted: Recent<(NodeId, MeshId), ()>,
    // Invariant: at most STRANGERS_MAX + KNOWN_MAX.
    inside: BTreeMap<u64, Inside>,
    next_permit: u64,
}

/// The leave to try; given back when the attempt is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Permit {
    number: u64,
    peer: NodeId,
    prefix: Prefix,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It proved that it knows the password of this mesh.
    Proven(MeshId),
    /// A guess was spent, or the peer misbehaved.
    Failed,
    /// Nobody is to blame, and nobody proved anything.
    Innocent,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    blocked_until: Duration,
}

/// Guesses that one node spent, counted among the failures of a prefix.
#[derive(Debug, Clone, Copy)]
struct Blame {
    prefix: Prefix,
    guesses: u32,
}

#[derive(Debug)]
struct Inside {
    prefix: Prefix,
    known: bool,
    /// The mesh whose password it is proving.
    guess: Option<MeshId>,
    since: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A gate that remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            failures: Recent::new(PREFIXES_MAX, FAILURES_FORGOTTEN_AFTER),
            blamed: Recent::new(PREFIXES_MAX, FAILURES_FORGOTTEN_AFTER),
            admitted: Recent::new(ADMITTED_MAX, ADMITTED_REMEMBERED_FOR),
            inside: BTreeMap::new(),
            next_permit: 0,
        }
    }

    /// Takes note that `peer` proved itself in `mesh` to one of our openers: it is exempt from
    /// the delays of that mesh for 24 h, and what it failed at before is forgiven. Call it
    /// when an [`Opener`](super::Opener) of a *password* mesh was admitted; in an open mesh
    /// nothing was proven. ([`Responder`](super::Responder)s do so by themselves.)
    pub fn admitted(&mut self, now: Duration, peer: NodeId, mesh: MeshId) {
        self.admitted.put(now, (peer, mesh), ());
        let Some(blame) = self.blamed.remove(&(peer, mesh)) else { return };
        let Some(failures) = self.failures.get_mut(now, &blame.prefix) else { return };
        failures.count = failures.count.saturating_sub(blame.guesses);
        if failures.count <= FREE_FAILURES {
            failures.blocked_until = now;
        }
        if failures.count == 0 {
            self.failures.remove(&blame.prefix);
        }
    }

    /// How many admissions are under way.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.inside.len()
    }

    /// Lets a peer begin an attempt, or says when to come back.
    pub(super) fn enter(&mut self, now: Duration, peer: NodeId, ip: IpAddr) -> Result<Permit, Duration> {
        self.inside.retain(|_, inside| now.saturating_sub(inside.since) < PERMIT_EXPIRES_AFTER);
        let prefix = Prefix::of(ip);
        let known = self.is_known(now, peer);
        let count =
            |pick: &dyn Fn(&Inside) -> bool| self.inside.values().filter(|inside| pick(inside)).count();
        let room = if known {
            count(&|inside| inside.known) < KNOWN_MAX
        } else {
            let suspect = |prefix: &Prefix| self.failures.get(now, prefix).is_some();
            count(&|inside| !inside.known) < STRANGERS_MAX
                && count(&|inside| !inside.known && inside.prefix == prefix) < SUSPECTS_MAX
                && (!suspect(&prefix)
                    || count(&|inside| !inside.known && suspect(&inside.prefix)) < SUSPECTS_MAX)
        };
        if !room {
            return Err(CROWDED_RETRY);
        }
        let number = self.next_permit;
        self.next_permit += 1;
        self.inside.insert(number, Inside { prefix, known, guess: None, since: now });
        Ok(Permit { number, peer, prefix })
    }

    /// Lets the attempt go on to a password proof of `mesh`, or says when to come back.
    pub(super) fn guess(&mut self, now: Duration, permit: &Permit, mesh: &MeshId) -> Result<(), Duration> {
        if self.admitted.get(now, &(permit.peer, *mesh)).is_none() {
            self.check_delay(now, permit.prefix)?;
        }
        if let Some(inside) = self.inside.get_mut(&permit.number) {
            inside.guess = Some(*mesh);
        }
        Ok(())
    }

    fn check_delay(&self, now: Duration, prefix: Prefix) -> Result<(), Duration> {
        let (count, blocked_until) = self
            .failures
            .get(now, &prefix)
            .map_or((0, Duration::ZERO), |failures| (failures.count, failures.blocked_until));
        if now < blocked_until {
            return Err(blocked_until - now);
        }
        // Guesses under way may all turn out to be failures: they count as such, so that
        // nobody gets around the delays by guessing in parallel.
        let open =
            self.inside.values().filter(|inside| inside.guess.is_some() && inside.prefix == prefix).count();
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        if open > 0 && count.saturating_add(open) >= FREE_FAILURES {
            return Err(CROWDED_RETRY);
        }
        Ok(())
    }

    /// Takes a permit back and learns from how the attempt ended.
    #[allow(clippy::needless_pass_by_value)] // A permit is used up.
    pub(super) fn leave(&mut self, now: Duration, permit: Permit, ending: Ending) {
        let inside = self.inside.remove(&permit.number);
        match ending {
            Ending::Proven(mesh) => self.admitted(now, permit.peer, mesh),
            Ending::Failed => {
                // Who fails is no longer exempt: the password may have changed.
                if let Some(mesh) = inside.and_then(|inside| inside.guess) {
                    self.admitted.remove(&(permit.peer, mesh));
                    self.blame(now, &permit, mesh);
                }
                let before = self.failures.get(now, &permit.prefix).map_or(0, |failures| failures.count);
                let count = before.saturating_add(1);
                let blocked_until = now.saturating_add(delay_after(count));
                self.failures.put(now, permit.prefix, Failures { count, blocked_until });
            }
            Ending::Innocent => {}
        }
    }

    fn blame(&mut self, now: Duration, permit: &Permit, mesh: MeshId) {
        let (key, prefix) = ((permit.peer, mesh), permit.prefix);
        // A node that moved is forgiven only what it failed at where it is now.
        let before = self.blamed.get(now, &key).filter(|blame| blame.prefix == prefix);
        let guesses = before.map_or(0, |blame| blame.guesses).saturating_add(1);
        self.blamed.put(now, key, Blame { prefix, guesses });
    }

    /// Proved itself in any mesh of this node lately.
    fn is_known(&self, now: Duration, peer: NodeId) -> bool {
        let (first, last) = (MeshId::from_bytes([0; 32]), MeshId::from_bytes([0xff; 32]));
        self.admitted.any(now, (peer, first)..=(peer, last))
    }
}

/// How long a prefix must wait after its `count`th failure.
fn delay_after(count: u32) -> Duration {
    match count.checked_sub(FREE_FAILURES + 1) {
        None => Duration::ZERO,
        Some(doublings) => DELAY_MIN.saturating_mul(1 << doublings.min(16)).min(DELAY_MAX),
    }
}

#[cfg(test)]
mod tests;

//! Keeping a registration alive: when to register, refresh and try again.
//!
//! The original refreshed at the very moment of expiry and gave up for good at the first
//! time-out. Here a lease is refreshed before half of it has passed, failures are retried
//! with growing, jittered pauses for as long as the registrar lives, and a directory that has
//! forgotten us is simply told again.
//!
//! ```text
//!              poll                 completed(Ok)
//!   Due(step) ------> Running(step) -------------> Due(Refresh, at 40-50 % of the lease)
//!       ^                 |
//!       |                 | completed(Err)    NotFound: Due(Register, at once)
//!       +-----------------+                   else:     Due(same step, after the back-off)
//!
//!   set_addresses: Due(Update, at once), or after the running step
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::resolver::{Lease, Registration, ResolverError};

/// First pause after a failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// Longest pause after failures: half of the shortest usual lease (a guess), and rare enough
/// not to load a directory that is coming back.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Shortest time between two refreshes, whatever lease a directory grants.
const REFRESH_MIN: Duration = Duration::from_millis(400);

/// What to ask of the resolver next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrarStep {
    /// [`Resolver::register`](crate::Resolver::register).
    Register,
    /// [`Resolver::refresh`](crate::Resolver::refresh).
    Refresh,
    /// [`Resolver::update`](crate::Resolver::update).
    Update,
}

/// Decides when a registration is made, refreshed and repeated. No IO, no clock: time is an
/// argument, chance comes from a seed.
///
/// Ask [`poll`](Self::poll) what to do, do it with [`registration`](Self::registration),
/// report it to [`completed`](Self::completed), and sleep until
/// [`poll_timeout`](Self::poll_timeout). [`keep_registered`](crate::keep_registered) is that
/// loop.
///
/// ```
/// use std::time::{Duration, Instant};
/// use peerchannel_resolver::{Lease, MeshKey, NodeId, Registrar, RegistrarStep, Registration};
///
/// let registration = Registration {
///     mesh: MeshKey::from_bytes([1; 32]),
///     node: NodeId::from_bytes([2; 32]),
///     addresses: vec!["192.0.2.7:4000".parse()?],
/// };
/// let now = Instant::now();
/// let mut registrar = Registrar::new(registration, 7, now);
/// assert_eq!(registrar.poll(now), Some(RegistrarStep::Register));
/// registrar.completed(now, &Ok(Lease::of(Duration::from_secs(600))));
///
/// let next = registrar.poll_timeout().ok_or("a lease must be refreshed")?;
/// assert!(next - now <= Duration::from_secs(300), "before half of the lease has passed");
/// assert_eq!(registrar.poll(next), Some(RegistrarStep::Refresh));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Registrar {
    registration: Registration,
    rng: SmallRng,
    state: State,
    /// The resolver has accepted the registration at least once since it last said NotFound.
    registered: bool,
    /// The addresses changed after the running step took them.
    stale: bool,
    /// Consecutive failures.
    failures: u32,
    /// The last step failed because the resolver wants to be asked less often.
    asked_to_wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due(RegistrarStep, Instant),
    Running(RegistrarStep),
    /// Nothing to do until the addresses change: a permanent lease, or no address at all.
    Idle,
}

impl Registrar {
    /// Begins at once if the registration has addresses, else when it gets some.
    #[must_use]
    pub fn new(registration: Registration, seed: u64, now: Instant) -> Self {
        let state = if registration.addresses.is_empty() {
            State::Idle
        } else {
            State::Due(RegistrarStep::Register, now)
        };
        let rng = SmallRng::seed_from_u64(seed);
        Self { registration, rng, state, registered: false, stale: false, failures: 0, asked_to_wait: false }
    }

    /// What is to be registered now.
    #[must_use]
    pub const fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Whether the resolver has accepted the registration, as far as we know.
    #[must_use]
    pub const fn is_registered(&self) -> bool {
        self.registered
    }

    /// The step to take now, if any; it runs until [`completed`](Self::completed).
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Option<RegistrarStep> {
        match self.state {
            State::Due(step, at) if at <= now => {
                self.state = State::Running(step);
                self.stale = false;
                Some(step)
            }
            State::Due(..) | State::Running(_) | State::Idle => None,
        }
    }

    /// When [`poll`](Self::poll) will have something to do; `None` while a step runs and when
    /// there is nothing to refresh.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Due(_, at) => Some(at),
            State::Running(_) | State::Idle => None,
        }
    }

    /// Reports how the running step ended. Without a running step, does nothing.
    pub fn completed(&mut self, now: Instant, result: &Result<Lease, ResolverError>) {
        let State::Running(step) = self.state else { return };
        self.asked_to_wait = result.as_ref().is_err_and(asks_to_wait);
        match result {
            Ok(lease) => {
                self.failures = 0;
                self.registered = true;
                self.state = match lease.lifetime {
                    Some(lifetime) => {
                        let pause = lifetime.mul_f64(self.rng.random_range(0.4..=0.5));
                        State::Due(RegistrarStep::Refresh, now + pause.max(REFRESH_MIN))
                    }
                    None => State::Idle,
                };
            }
            // Once at once; a directory that forgets what it just accepted is backed off from.
            Err(ResolverError::NotFound) if self.registered && self.failures == 0 => {
                self.registered = false;
                self.failures = 1;
                self.state = State::Due(RegistrarStep::Register, now);
            }
            Err(error) => {
                let again = if *error == ResolverError::NotFound { RegistrarStep::Register } else { step };
                self.state = State::Due(again, now + self.pause(error));
                self.failures = self.failures.saturating_add(1);
            }
        }
        if self.registration.addresses.is_empty() {
            self.state = State::Idle;
        } else if self.stale {
            self.change(now);
        }
    }

    /// The node's addresses changed: the resolver is told at once. Without any (a pulled
    /// cable) the registrar rests until there are some again.
    pub fn set_addresses(&mut self, now: Instant, addresses: Vec<SocketAddr>) {
        if self.registration.addresses == addresses {
            return;
        }
        self.registration.addresses = addresses;
        self.stale = true;
        if matches!(self.state, State::Running(_)) {
            return;
        }
        if self.registration.addresses.is_empty() {
            self.state = State::Idle;
        } else {
            self.change(now);
        }
    }

    /// The network changed or the machine woke up: what is scheduled is due now, since the
    /// lease may have ended unnoticed.
    ///
    /// A pause that the resolver asked for (a quota is used up, the request was bad) goes on.
    pub fn wake(&mut self, now: Instant) {
        if self.asked_to_wait {
            return;
        }
        self.failures = 0;
        if let State::Due(step, _) = self.state {
            self.state = State::Due(step, now);
        }
    }

    fn change(&mut self, now: Instant) {
        let step = if self.registered { RegistrarStep::Update } else { RegistrarStep::Register };
        // After failures the pause that runs is kept: a change must not undo the back-off.
        let at = match self.state {
            State::Due(_, at) if self.failures > 0 => at,
            State::Due(..) | State::Running(_) | State::Idle => now,
        };
        self.state = State::Due(step, at);
    }

    /// 1 s doubled with each failure up to 60 s, of which a random half to whole.
    fn pause(&mut self, error: &ResolverError) -> Duration {
        let full = match error {
            error if asks_to_wait(error) => BACKOFF_MAX,
            _ => BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX),
        };
        full.mul_f64(self.rng.random_range(0.5..=1.0))
    }
}

/// Whether asking again soon is what the resolver complains about.
const fn asks_to_wait(error: &ResolverError) -> bool {
    matches!(error, ResolverError::Quota { .. } | ResolverError::BadRequest { .. })
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::{MeshKey, NodeId};

    use super::*;

    const LEASE: Duration = Duration::from_secs(600);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn start() -> (Registrar, Instant) {
        let registration = Registration {
            mesh: MeshKey::from_bytes([1; 32]),
            node: NodeId::from_bytes([2; 32]),
            addresses: vec![at(1)],
        };
        let now = Instant::now();
        (Registrar::new(registration, 1, now), now)
    }

    fn registered() -> (Registrar, Instant) {
        let (mut registrar, now) = start();
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Register));
        registrar.completed(now, &Ok(Lease::of(LEASE)));
        (registrar, now)
    }

    fn timed_out() -> Result<Lease, ResolverError> {
        Err(ResolverError::TimedOut { what: "it".into(), after: Duration::from_secs(5) })
    }

    #[test]
    fn a_lease_is_refreshed_before_half_of_it_has_passed() {
        let (mut registrar, mut now) = registered();
        for _ in 0..20 {
            let next = registrar.poll_timeout().unwrap();
            assert!((LEASE.mul_f64(0.4)..=LEASE / 2).contains(&(next - now)), "{:?}", next - now);
            assert_eq!(registrar.poll(next - Duration::from_millis(1)), None);
            assert_eq!(registrar.poll(next), Some(RegistrarStep::Refresh));
            assert_eq!(registrar.poll_timeout(), None, "it runs");
            registrar.completed(next, &Ok(Lease::of(LEASE)));
            now = next;
        }
    }

    #[test]
    fn failures_are_retried_forever_with_growing_pauses() {
        let (mut registrar, mut now) = start();
        let mut longest = Duration::ZERO;
        for attempt in 0..40 {
            assert_eq!(registrar.poll(now), Some(RegistrarStep::Register), "attempt {attempt}");
            registrar.completed(now, &timed_out());
            let next = registrar.poll_timeout().unwrap();
            longest = longest.max(next - now);
            assert!(next - now >= BACKOFF_MIN / 2 && next - now <= BACKOFF_MAX);
            now = next;
        }
        assert!(longest > BACKOFF_MAX / 2);
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Register));
        registrar.completed(now, &Ok(Lease::of(LEASE)));
        assert!(registrar.is_registered());
    }

    #[test]
    fn a_refresh_that_timed_out_is_tried_again_as_a_refresh() {
        let (mut registrar, _) = registered();
        let now = registrar.poll_timeout().unwrap();
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Refresh));
        registrar.completed(now, &timed_out());
        let next = registrar.poll_timeout().unwrap();
        assert!(next - now <= BACKOFF_MIN);
        assert_eq!(registrar.poll(next), Some(RegistrarStep::Refresh));
    }

    #[test]
    fn a_forgotten_registration_is_made_again_at_once_but_not_in_a_storm() {
        let (mut registrar, _) = registered();
        let now = registrar.poll_timeout().unwrap();
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Refresh));
        registrar.completed(now, &Err(ResolverError::NotFound));
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Register));
        registrar.completed(now, &Err(ResolverError::NotFound));
        assert_eq!(registrar.poll(now), None);
        assert!(registrar.poll_timeout().unwrap() > now);
    }

    #[test]
    fn changed_addresses_are_told_at_once() {
        let (mut registrar, now) = registered();
        registrar.set_addresses(now, vec![at(1)]);
        assert_eq!(registrar.poll(now), None, "nothing changed");
        registrar.set_addresses(now, vec![at(2)]);
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Update));
        assert_eq!(registrar.registration().addresses, [at(2)]);
        registrar.set_addresses(now, vec![at(3)]);
        assert_eq!(registrar.poll(now), None, "a step is running");
        registrar.completed(now, &Ok(Lease::of(LEASE)));
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Update), "the change during the step");
        registrar.completed(now, &Ok(Lease::of(LEASE)));
        assert_eq!(registrar.poll(now), None);
    }

    #[test]
    fn a_failed_update_is_repeated_as_an_update() {
        let (mut registrar, now) = registered();
        registrar.set_addresses(now, vec![at(2)]);
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Update));
        registrar.completed(now, &timed_out());
        let next = registrar.poll_timeout().unwrap();
        assert_eq!(registrar.poll(next), Some(RegistrarStep::Update));
    }

    #[test]
    fn flapping_addresses_do_not_undo_the_back_off() {
        let (mut registrar, mut now) = start();
        for _ in 0..5 {
            assert_eq!(registrar.poll(now), Some(RegistrarStep::Register));
            registrar.completed(now, &timed_out());
            now = registrar.poll_timeout().unwrap();
        }
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Register));
        registrar.completed(now, &timed_out());
        registrar.set_addresses(now, vec![at(2)]);
        assert_eq!(registrar.poll(now), None);
    }

    #[test]
    fn without_addresses_it_rests_and_with_new_ones_it_goes_on() {
        let (mut registrar, now) = registered();
        registrar.set_addresses(now, vec![]);
        assert_eq!(registrar.poll_timeout(), None);
        registrar.set_addresses(now, vec![at(4)]);
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Update));
        registrar.set_addresses(now, vec![]);
        registrar.completed(now, &timed_out());
        assert_eq!(registrar.poll_timeout(), None);
    }

    #[test]
    fn a_permanent_lease_needs_nothing_more() {
        let (mut registrar, now) = start();
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Register));
        registrar.completed(now, &Ok(Lease::PERMANENT));
        assert_eq!(registrar.poll_timeout(), None);
        registrar.set_addresses(now, vec![at(9)]);
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Update));
    }

    #[test]
    fn waking_up_refreshes_at_once() {
        let (mut registrar, now) = registered();
        registrar.wake(now);
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Refresh));
    }

    #[test]
    fn a_quota_is_not_hammered() {
        let (mut registrar, now) = start();
        assert_eq!(registrar.poll(now), Some(RegistrarStep::Register));
        registrar.completed(now, &Err(ResolverError::Quota { what: "it".into(), reason: "full".into() }));
        assert!(registrar.poll_timeout().unwrap() - now >= BACKOFF_MAX / 2);
        // Not even by a network that changes all the time.
        registrar.wake(now);
        assert!(registrar.poll_timeout().unwrap() - now >= BACKOFF_MAX / 2);
    }
}

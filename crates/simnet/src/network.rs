//! The network and its sockets: one queue of datagrams on their way, one task that delivers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use peerchannel_transport::DatagramSocket;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::traffic::Traffic;

/// Datagrams that wait at one socket to be received; further ones are lost, as with the 2 MiB
/// that the system grants.
const RECEIVED_MAX: usize = 1400;

/// What the network does to every datagram.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Added to the delay of each datagram, evenly from nothing to this share of it. Datagrams
    /// of one pair stay in order. Default none.
    pub jitter: f64,
    /// The share of datagrams that are lost, 0 to 1. Default none.
    pub loss: f64,
    /// Bits a second that one socket can send. Default unlimited.
    pub uplink: Option<u64>,
    /// The longest a datagram may wait for the uplink; what would wait longer is lost.
    /// Default 100 ms, a home router's buffer (a guess).
    pub uplink_queue: Duration,
    /// The largest datagram, headers left out. Default 1472: Ethernet's.
    pub datagram_max: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            jitter: 0.0,
            loss: 0.0,
            uplink: None,
            uplink_queue: Duration::from_millis(100),
            datagram_max: 1472,
        }
    }
}

/// A simulated UDP network. Cheap to clone; it carries datagrams while one handle is left.
#[derive(Debug, Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

/// One address on the network.
#[derive(Debug)]
pub struct Socket {
    address: SocketAddr,
    generation: u64,
    shared: Arc<Shared>,
}

type Delay = Box<dyn Fn(SocketAddr, SocketAddr) -> Duration + Send + Sync>;

struct Shared {
    conditions: Conditions,
    delay: Delay,
    // Ticks are counted from here.
    begin: Instant,
    state: Mutex<State>,
    // An earlier datagram than the one waited for is on its way.
    earlier: Notify,
}

struct State {
    chance: ChaCha8Rng,
    // By arrival, then by the order of sending.
    on_their_way: BTreeMap<(Instant, u64), Datagram>,
    next_number: u64,
    hosts: BTreeMap<SocketAddr, Host>,
    // The latest arrival by sender and receiver: jitter does not reorder.
    latest: BTreeMap<(SocketAddr, SocketAddr), Instant>,
    disturbed: BTreeMap<SocketAddr, Disturbance>,
    // What goes to or comes from an address that is held.
    held: Vec<Datagram>,
}

/// What becomes of datagrams from and to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Disturbance {
    Held,
    Lost,
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Host {
    // Of the latest socket at the address; zero when it is closed.
    open: u64,
    generation: u64,
    received: VecDeque<(SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
    sent: Traffic,
    // When the uplink has sent what was given to it.
    uplink_free: Option<Instant>,
}

impl Network {
    /// A network with a seed for its chance, and the one-way delay from one address to another.
    ///
    /// Must be called within a tokio runtime, at its first instant, so that ticks fall on those
    /// of its timers.
    pub fn new(
        seed: u64,
        conditions: Conditions,
        delay: impl Fn(SocketAddr, SocketAddr) -> Duration + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            chance: ChaCha8Rng::seed_from_u64(seed),
            on_their_way: BTreeMap::new(),
            next_number: 0,
            hosts: BTreeMap::new(),
            latest: BTreeMap::new(),
            disturbed: BTreeMap::new(),
            held: Vec::new(),
        };
        let shared = Arc::new(Shared {
            conditions,
            delay: Box::new(delay),
            begin: Instant::now(),
            state: Mutex::new(state),
            earlier: Notify::new(),
        });
        // Ends soon after the last handle: it wakes at least once a second to look.
        tokio::spawn(deliver(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// A socket at an address, in place of the one before at the same address, whose counts go
    /// on.
    #[must_use]
    pub fn socket(&self, address: SocketAddr) -> Socket {
        let mut state = self.shared.state();
        let host = state.hosts.entry(address).or_default();
        host.generation += 1;
        host.open = host.generation;
        host.received.clear();
        Socket { address, generation: host.generation, shared: self.shared.clone() }
    }

    /// What an address sent so far, silenced or lost datagrams included.
    #[must_use]
    pub fn sent(&self, address: SocketAddr) -> Traffic {
        self.shared.state().hosts.get(&address).map(|host| host.sent.clone()).unwrap_or_default()
    }

    /// From now on nothing that an address sends arrives, and nothing arrives at it: what a
    /// crashed machine or a pulled cable looks like. What is on its way is lost as well.
    pub fn silence(&self, address: SocketAddr) {
        self.shared.state().disturbed.insert(address, Disturbance::Lost);
    }

    /// From now on what an address sends, and what is sent to it, waits: what a stopped process
    /// looks like to the others. The node behind the address does not stand: its timers go on,
    /// and it finds that nobody answers.
    pub fn hold(&self, address: SocketAddr) {
        self.shared.state().disturbed.insert(address, Disturbance::Held);
    }

    /// Ends [`silence`](Self::silence) or [`hold`](Self::hold); what waited arrives now.
    pub fn restore(&self, address: SocketAddr) {
        let mut state = self.shared.state();
        let state = &mut *state;
        state.disturbed.remove(&address);
        let now = self.shared.tick(Instant::now());
        for datagram in state.held.extract_if(.., |held| held.from == address || held.to == address) {
            state.next_number += 1;
            state.on_their_way.insert((now, state.next_number), datagram);
        }
        self.shared.earlier.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tick nearest to an instant, but no earlier than now.
    fn tick(&self, at: Instant) -> Instant {
        let nanos = at.duration_since(self.begin).as_nanos() + 500_000;
        let tick = self.begin + Duration::from_millis(u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX));
        tick.max(Instant::now())
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now = Instant::now();
        let mut state = self.state();
        let state = &mut *state;
        let Some(host) = state.hosts.get_mut(&from) else { return };
        host.sent.add(bytes.len());
        if bytes.len() > self.conditions.datagram_max {
            return;
        }
        let Some(leaves) = self.leaves(host, bytes.len(), now) else { return };
        // Both are drawn for every datagram, so that a change of one condition alone leaves the
        // other's dice where they fell.
        let (lost, jitter) = (share(&mut state.chance), share(&mut state.chance));
        if lost < self.conditions.loss {
            return;
        }
        let due = leaves + (self.delay)(from, to).mul_f64(1.0 + self.conditions.jitter * jitter);
        let latest = state.latest.entry((from, to)).or_insert(due);
        *latest = due.max(*latest);
        let arrival = self.tick(*latest);
        let first = state.on_their_way.first_key_value().is_none_or(|((at, _), _)| arrival < *at);
        state.next_number += 1;
        let datagram = Datagram { from, to, bytes: bytes.to_vec() };
        state.on_their_way.insert((arrival, state.next_number), datagram);
        if first {
            self.earlier.notify_one();
        }
    }

    /// When the last bit of a datagram leaves its sender; `None` if the uplink's queue is full.
    fn leaves(&self, host: &mut Host, len: usize, now: Instant) -> Option<Instant> {
        let Some(uplink) = self.conditions.uplink else { return Some(now) };
        let begins = host.uplink_free.map_or(now, |free| free.max(now));
        if begins - now > self.conditions.uplink_queue {
            return None;
        }
        let bits = (len as u64 + crate::HEADERS) * 8;
        let leaves = begins + Duration::from_nanos(bits * 1_000_000_000 / uplink.max(1));
        host.uplink_free = Some(leaves);
        Some(leaves)
    }

    /// Hands over what has arrived; returns when the next datagram will.
    fn hand_over(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        let state = &mut *state;
        while let Some(entry) = state.on_their_way.first_entry() {
            let at = entry.key().0;
            if at > now {
                return Some(at);
            }
            let Datagram { from, to, bytes } = entry.remove();
            match state.disturbed.get(&from).max(state.disturbed.get(&to)) {
                Some(Disturbance::Lost) => continue,
                Some(Disturbance::Held) => {
                    state.held.push(Datagram { from, to, bytes });
                    continue;
                }
                None => {}
            }
            let Some(host) = state.hosts.get_mut(&to).filter(|host| host.open > 0) else { continue };
            if host.received.len() < RECEIVED_MAX {
                host.received.push_back((from, bytes));
            }
            if let Some(waker) = host.waker.take() {
                waker.wake();
            }
        }
        None
    }
}

async fn deliver(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let look_again = Instant::now() + Duration::from_secs(1);
        let next = shared.hand_over().map_or(look_again, |at| at.min(look_again));
        let earlier = shared.earlier.notified();
        // In this order, whatever is ready: the same seed gives the same run.
        tokio::select! {
            biased;
            () = sleep_until(next) => {}
            () = earlier => {}
        }
    }
}

/// An even number from 0 to 1.
fn share(chance: &mut ChaCha8Rng) -> f64 {
    f64::from(chance.next_u32()) / f64::from(u32::MAX)
}

impl DatagramSocket for Socket {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        self.shared.send(self.address, to, datagram);
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut state = self.shared.state();
        let of_this = |host: &&mut Host| host.open == self.generation;
        let Some(host) = state.hosts.get_mut(&self.address).filter(of_this) else { return Poll::Pending };
        let Some((from, bytes)) = host.received.pop_front() else {
            host.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Poll::Ready(Ok((len, from)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(host) = state.hosts.get_mut(&self.address).filter(|host| host.open == self.generation) {
            host.open = 0;
            host.received.clear();
            host.waker = None;
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("conditions", &self.conditions).finish_non_exhaustive()
    }
}

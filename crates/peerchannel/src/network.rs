//! Noticing that the machine's network changed: another Wi-Fi, a cable, a VPN.
//!
//! One task per node listens to the system's own events, and looks at the interfaces after
//! each burst of them; where there are none, it looks every ten seconds. An address that went
//! while none is left is given time to come back: connections survive that, and others need not
//! hear of it. What a change means for a mesh is its driver's to find out.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use if_watch::tokio::IfWatcher;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::addresses;

/// Changes come in bursts: an address goes, another comes, a third is assigned. This long
/// without one is their end (a guess: less than a round trip to a DHCP server takes).
const QUIET: Duration = Duration::from_millis(500);

/// Longest wait for the end of a burst.
const BURST_MAX: Duration = Duration::from_secs(3);

/// How long a machine has no address before that is told: connections survive a silence of 6 s
/// (docs/protocol.md section 1), and a cable that is plugged in again takes two.
const AWAY: Duration = Duration::from_secs(5);

/// Pause between two changes that are told: an interface that flaps costs each mesh a question
/// to its resolvers and a probe of its neighbors this often (a guess).
const PAUSE: Duration = Duration::from_secs(5);

/// How often the interfaces are looked at where the system tells nothing: a laptop that changed
/// networks is reachable again within that time, and looking costs about 0.1 ms.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Whether changes of the network can matter to a node that listens there.
pub(crate) fn matters(listening: SocketAddr) -> bool {
    !listening.ip().is_loopback()
}

/// Counts `changes` up with each change, for as long as the node lives.
pub(crate) async fn watch(changes: watch::Sender<u64>) {
    let mut interfaces = Interfaces::new(present, changes);
    let mut told = false;
    loop {
        let error = match IfWatcher::new() {
            Ok(mut watcher) => follow(&mut watcher, &mut interfaces).await,
            Err(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            let every = LOOK_INTERVAL.as_secs();
            tracing::info!(%error, "the system tells nothing of network changes: looking every {every} s");
        }
        sleep(LOOK_INTERVAL).await;
        interfaces.look();
    }
}

/// The addresses that count; `None` where they cannot be read.
fn present() -> Option<BTreeSet<IpAddr>> {
    let all = addresses::of_machine();
    let usable = all.iter().copied().filter(|ip| addresses::is_usable(*ip)).collect();
    (!all.is_empty()).then_some(usable)
}

/// Something that says when to look at the interfaces.
trait Source {
    /// Waits until an address came or went, as far as it knows. Cancel safe.
    async fn changed(&mut self) -> io::Result<()>;
}

impl Source for IfWatcher {
    /// Which address is not asked: on Linux the event of a tunnel names its other end. Those
    /// that are there at the beginning are told as well.
    async fn changed(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_if_event(context)).await.map(drop)
    }
}

/// Follows a source until it fails.
async fn follow<R>(source: &mut impl Source, interfaces: &mut Interfaces<R>) -> io::Error
where
    R: FnMut() -> Option<BTreeSet<IpAddr>>,
{
    loop {
        let ended = match interfaces.away_until() {
            Some(until) => match timeout_at(until, source.changed()).await {
                Ok(changed) => burst(changed, source).await,
                Err(_) => Ok(()),
            },
            None => burst(source.changed().await, source).await,
        };
        let told = interfaces.look();
        if let Err(error) = ended {
            return error;
        }
        if told == Told::Elsewhere {
            sleep(PAUSE).await;
        }
    }
}

/// Waits for the end of a burst of changes, the first of which is there.
async fn burst(first: io::Result<()>, source: &mut impl Source) -> io::Result<()> {
    first?;
    let latest = Instant::now() + BURST_MAX;
    while let Ok(next) = timeout(QUIET, source.changed()).await {
        next?;
        if Instant::now() >= latest {
            break;
        }
    }
    Ok(())
}

/// What a look at the interfaces led to.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// There are other addresses than before.
    Elsewhere,
    /// There is none any more, and has been none for a while.
    Nowhere,
}

/// The addresses of the machine, and those that the node's meshes know of.
struct Interfaces<R> {
    read: R,
    known: BTreeSet<IpAddr>,
    // When they were first seen to be gone, all of them.
    away_since: Option<Instant>,
    changes: watch::Sender<u64>,
}

impl<R: FnMut() -> Option<BTreeSet<IpAddr>>> Interfaces<R> {
    fn new(mut read: R, changes: watch::Sender<u64>) -> Self {
        let known = read().unwrap_or_default();
        Self { read, known, away_since: None, changes }
    }

    /// When to look again even if nothing happens.
    fn away_until(&self) -> Option<Instant> {
        self.away_since.map(|since| since + AWAY)
    }

    fn look(&mut self) -> Told {
        let Some(present) = (self.read)() else { return Told::Nothing };
        if present == self.known {
            self.away_since = None;
            return Told::Nothing;
        }
        let nowhere = present.is_empty();
        if nowhere {
            let now = Instant::now();
            if now < *self.away_since.get_or_insert(now) + AWAY {
                return Told::Nothing;
            }
        }
        self.away_since = None;
        self.known = present;
        self.changes.send_modify(|count| *count += 1);
        if nowhere { Told::Nowhere } else { Told::Elsewhere }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::mpsc::{Receiver, Sender, channel};
    use tokio::task::JoinHandle;

    use super::*;

    impl Source for Receiver<io::Result<()>> {
        async fn changed(&mut self) -> io::Result<()> {
            match self.recv().await {
                Some(event) => event,
                None => std::future::pending().await,
            }
        }
    }

    /// A machine whose addresses the test sets, and a task that watches them.
    struct Machine {
        addresses: Arc<Mutex<Option<BTreeSet<IpAddr>>>>,
        events: Sender<io::Result<()>>,
        told: watch::Receiver<u64>,
        watching: JoinHandle<io::Error>,
    }

    impl Machine {
        fn new(addresses: &[&str]) -> Self {
            let addresses = Arc::new(Mutex::new(Some(set(addresses))));
            let (events, mut source) = channel(16);
            let (changes, told) = watch::channel(0);
            let shared = addresses.clone();
            let watching = tokio::spawn(async move {
                let read = || shared.lock().unwrap().clone();
                follow(&mut source, &mut Interfaces::new(read, changes)).await
            });
            Self { addresses, events, told, watching }
        }

        /// The system says that something changed; waits for so many milliseconds.
        async fn has(&self, addresses: &[&str], then_ms: u64) -> u64 {
            *self.addresses.lock().unwrap() = Some(set(addresses));
            self.events.try_send(Ok(())).unwrap();
            self.after(then_ms).await
        }

        /// How many changes are told by then.
        async fn after(&self, ms: u64) -> u64 {
            sleep(Duration::from_millis(ms)).await;
            *self.told.borrow()
        }
    }

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_leave_the_addresses_as_they_were_are_silent() {
        let machine = Machine::new(&["192.0.2.7"]);
        // As at the beginning, when the system lists what is there.
        tokio::task::yield_now().await;
        for _ in 0..20 {
            assert_eq!(machine.has(&["192.0.2.7"], 1500).await, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_address_is_told_after_its_burst() {
        let machine = Machine::new(&["192.0.2.7"]);
        tokio::task::yield_now().await;
        assert_eq!(machine.has(&[], 100).await, 0);
        assert_eq!(machine.has(&["192.0.2.8"], 100).await, 0);
        assert_eq!(machine.after(500).await, 1);
        assert_eq!(machine.has(&["192.0.2.9"], 1000).await, 1, "at most every five seconds");
        assert_eq!(machine.after(5000).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_goes_and_comes_back_soon_is_no_change() {
        let machine = Machine::new(&["192.0.2.7"]);
        tokio::task::yield_now().await;
        for _ in 0..3 {
            assert_eq!(machine.has(&[], 4000).await, 0);
            assert_eq!(machine.has(&["192.0.2.7"], 10_000).await, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_stays_away_is_told_and_its_return_at_once() {
        let machine = Machine::new(&["192.0.2.7"]);
        tokio::task::yield_now().await;
        assert_eq!(machine.has(&[], 5000).await, 0);
        assert_eq!(machine.after(600).await, 1);
        assert_eq!(machine.has(&["192.0.2.7"], 600).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_of_two_is_told_at_once() {
        let machine = Machine::new(&["192.0.2.7", "198.51.100.1"]);
        tokio::task::yield_now().await;
        assert_eq!(machine.has(&["198.51.100.1"], 600).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_not_lost_when_the_source_fails_within_its_burst() {
        let machine = Machine::new(&["192.0.2.7"]);
        tokio::task::yield_now().await;
        assert_eq!(machine.has(&["192.0.2.8"], 100).await, 0);
        machine.events.try_send(Err(io::Error::other("no room"))).unwrap();
        assert_eq!(machine.after(1).await, 1);
        assert_eq!(machine.watching.await.unwrap().to_string(), "no room");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_cannot_be_read_are_no_change() {
        let machine = Machine::new(&["192.0.2.7"]);
        tokio::task::yield_now().await;
        *machine.addresses.lock().unwrap() = None;
        machine.events.try_send(Ok(())).unwrap();
        assert_eq!(machine.after(60_000).await, 0);
    }
}

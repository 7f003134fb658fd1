//! Noticing that the machine's network changed: another Wi-Fi, a cable, a VPN.
//!
//! One task per node listens to the system's own events. Where there are none, it looks at the
//! interfaces every ten seconds. What a change means for a mesh is its driver's to find out.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use if_watch::IfEvent;
use if_watch::tokio::IfWatcher;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::addresses;

/// Changes come in bursts: an address goes, another comes, a third is assigned. This long
/// without one is their end (a guess: less than a round trip to a DHCP server takes).
const QUIET: Duration = Duration::from_millis(500);

/// Longest wait for the end of a burst.
const BURST_MAX: Duration = Duration::from_secs(3);

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
    let mut known = present();
    let mut told = false;
    loop {
        let error = match IfWatcher::new() {
            Ok(watcher) => follow(watcher, &mut known, &changes).await,
            Err(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            let every = LOOK_INTERVAL.as_secs();
            tracing::info!(%error, "the system tells nothing of network changes: looking every {every} s");
        }
        sleep(LOOK_INTERVAL).await;
        let now = present();
        if now != known {
            known = now;
            changes.send_modify(|count| *count += 1);
        }
    }
}

/// Follows the system's events until they fail.
async fn follow(
    mut watcher: IfWatcher,
    known: &mut BTreeSet<IpAddr>,
    changes: &watch::Sender<u64>,
) -> io::Error {
    loop {
        if let Err(error) = change(&mut watcher, known).await {
            return error;
        }
        let latest = Instant::now() + BURST_MAX;
        while let Ok(next) = timeout(QUIET, change(&mut watcher, known)).await {
            if let Err(error) = next {
                return error;
            }
            if Instant::now() >= latest {
                break;
            }
        }
        changes.send_modify(|count| *count += 1);
        sleep(PAUSE).await;
    }
}

/// Waits for an address to come or go. Addresses that were there at the beginning are told by
/// the system too, and are no change. Cancel safe.
async fn change(watcher: &mut IfWatcher, known: &mut BTreeSet<IpAddr>) -> io::Result<()> {
    loop {
        let changed = match poll_fn(|context| watcher.poll_if_event(context)).await? {
            IfEvent::Up(net) => addresses::is_usable(net.addr()) && known.insert(net.addr()),
            IfEvent::Down(net) => known.remove(&net.addr()),
        };
        if changed {
            return Ok(());
        }
    }
}

/// The addresses that count. None where they cannot be read.
fn present() -> BTreeSet<IpAddr> {
    addresses::of_machine().into_iter().filter(|ip| addresses::is_usable(*ip)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_network_that_does_not_change_is_silent() {
        let (changes, mut changed) = watch::channel(0);
        let watching = tokio::spawn(watch(changes));
        assert!(timeout(Duration::from_millis(1500), changed.changed()).await.is_err());
        watching.abort();
    }
}

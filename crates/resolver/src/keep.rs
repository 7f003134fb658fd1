//! The loop around a [`Registrar`]: real time, a real resolver, one owner.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use crate::registrar::{Registrar, RegistrarStep};
use crate::resolver::{BoxFuture, Lease, Registration, Resolver, ResolverError};

/// How long one call may take: above a composite resolver's limit of 6 s, so that its
/// reasons are seen.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long taking the registration back may take: a node leaves within 2 s.
const UNREGISTER_TIMEOUT: Duration = Duration::from_millis(1500);

/// What a node tells its registrations from time to time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Announcement {
    /// Where the node can be dialed now.
    pub addresses: Vec<SocketAddr>,
    /// Counted up when the machine woke up or the network changed: leases may have ended
    /// unnoticed, so that every registration is refreshed at once.
    pub wakes: u64,
}

/// Keeps a node registered for as long as the sender of `announced` lives, then takes the
/// registration back (within 1.5 s) and returns.
///
/// Each change of the addresses is told to the resolver; those in `registration` count until
/// the first change. With each change of `wakes` what is scheduled is due at once. `report`
/// hears the outcome of every step, for events and logs.
///
/// # Cancellation
/// Dropping the future stops everything at once; the registration then ends with its lease.
pub async fn keep_registered(
    resolver: Arc<dyn Resolver>,
    registration: Registration,
    mut announced: watch::Receiver<Announcement>,
    mut report: impl FnMut(RegistrarStep, &Result<Lease, ResolverError>) + Send,
) {
    let mut registrar = Registrar::new(registration, rand::random(), now());
    // At most one call at a time. It owns its copies, so that addresses may change meanwhile.
    let mut running: Option<(RegistrarStep, BoxFuture<'static, Result<Lease, ResolverError>>)> = None;
    // Whether anything was ever asked: then there may be something to take back.
    let mut asked = false;
    let mut wakes = announced.borrow().wakes;
    loop {
        if running.is_none()
            && let Some(step) = registrar.poll(now())
        {
            asked = true;
            running = Some((step, call(resolver.clone(), step, registrar.registration().clone())));
        }
        let due = registrar.poll_timeout();
        tokio::select! {
            changed = announced.changed() => match changed {
                Ok(()) => {
                    let latest = announced.borrow_and_update().clone();
                    registrar.set_addresses(now(), latest.addresses);
                    if latest.wakes != wakes {
                        wakes = latest.wakes;
                        registrar.wake(now());
                    }
                }
                Err(_) => break,
            },
            (step, result) = finish(&mut running), if running.is_some() => {
                running = None;
                registrar.completed(now(), &result);
                report(step, &result);
            },
            () = sleep_until(due.unwrap_or_else(now_plus_a_day).into()), if due.is_some() => {},
        }
    }
    drop(running);
    if asked {
        let outcome = timeout(UNREGISTER_TIMEOUT, resolver.unregister(registrar.registration())).await;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the registration ends with its lease"),
            Err(_) => tracing::debug!("unregistering took too long, the registration ends with its lease"),
        }
    }
}

async fn finish(
    running: &mut Option<(RegistrarStep, BoxFuture<'static, Result<Lease, ResolverError>>)>,
) -> (RegistrarStep, Result<Lease, ResolverError>) {
    match running {
        Some((step, call)) => (*step, call.await),
        None => std::future::pending().await,
    }
}

fn call(
    resolver: Arc<dyn Resolver>,
    step: RegistrarStep,
    registration: Registration,
) -> BoxFuture<'static, Result<Lease, ResolverError>> {
    Box::pin(async move {
        let answer = async {
            match step {
                RegistrarStep::Register => resolver.register(&registration).await,
                RegistrarStep::Refresh => resolver.refresh(&registration).await,
                RegistrarStep::Update => resolver.update(&registration).await,
            }
        };
        timeout(CALL_TIMEOUT, answer).await.unwrap_or_else(|_| {
            Err(ResolverError::TimedOut { what: resolver.describe(), after: CALL_TIMEOUT })
        })
    })
}

/// Tokio's clock, which tests can stop.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

fn now_plus_a_day() -> std::time::Instant {
    now() + Duration::from_secs(86_400)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use peerchannel_wire::{MeshKey, NodeId};

    use super::*;
    use crate::resolver::Found;

    /// Writes down what it is asked, and hangs in the second call.
    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Recorder {
        async fn call(&self, name: &str, registration: &Registration) -> Result<Lease, ResolverError> {
            let count = {
                let mut calls = self.0.lock().unwrap();
                calls.push(format!("{name} {}", registration.addresses[0].port()));
                calls.len()
            };
            if count == 2 {
                std::future::pending::<()>().await;
            }
            Ok(Lease::of(Duration::from_secs(100)))
        }
    }

    impl Resolver for Recorder {
        fn resolve(&self, _: MeshKey, _: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
            Box::pin(std::future::ready(Ok(vec![])))
        }
        fn describe(&self) -> String {
            "recorder".into()
        }
        fn register<'a>(&'a self, r: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
            Box::pin(self.call("register", r))
        }
        fn refresh<'a>(&'a self, r: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
            Box::pin(self.call("refresh", r))
        }
        fn update<'a>(&'a self, r: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
            Box::pin(self.call("update", r))
        }
        fn unregister<'a>(&'a self, r: &'a Registration) -> BoxFuture<'a, Result<(), ResolverError>> {
            Box::pin(async { self.call("unregister", r).await.map(|_| ()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_time_out_does_not_end_the_registration_and_the_end_takes_it_back() {
        let recorder = Arc::new(Recorder::default());
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let registration = Registration {
            mesh: MeshKey::from_bytes([1; 32]),
            node: NodeId::from_bytes([2; 32]),
            addresses: vec![at(1)],
        };
        let announce = |port, wakes| Announcement { addresses: vec![at(port)], wakes };
        let (sender, receiver) = watch::channel(announce(1, 0));
        let task = tokio::spawn(keep_registered(recorder.clone(), registration, receiver, |_, _| {}));
        // Registered at 0 s, the refresh at 40 to 50 s hangs for 10 s and is tried again.
        tokio::time::sleep(Duration::from_secs(65)).await;
        assert_eq!(*recorder.0.lock().unwrap(), ["register 1", "refresh 1", "refresh 1"]);
        sender.send(announce(2, 0)).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Woken up, nothing waits for half of the lease.
        sender.send(announce(2, 1)).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(sender);
        task.await.unwrap();
        assert_eq!(recorder.0.lock().unwrap()[3..], ["update 2", "refresh 2", "unregister 2"]);
    }
}

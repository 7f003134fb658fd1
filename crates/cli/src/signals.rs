//! Being told to stop: Ctrl-C everywhere, SIGTERM and SIGHUP where they exist.

use std::io;

use crate::failure::INTERRUPTED;

/// Hears the wish to stop. The first one is answered by leaving gracefully, a second one ends
/// the process at once.
#[derive(Debug)]
pub(crate) struct Stop {
    receiver: tokio::sync::watch::Receiver<bool>,
}

impl Stop {
    /// Listens from here on. Must be called within a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            signals.next().await;
            sender.send_replace(true);
            signals.next().await;
            std::process::exit(INTERRUPTED.into());
        });
        Ok(Self { receiver })
    }

    /// Waits until somebody wants the process to stop. Cancel safe; once true, always true.
    pub(crate) async fn requested(&mut self) {
        if self.receiver.wait_for(|stop| *stop).await.is_err() {
            // The listening task cannot end before it said so; waiting is the safe answer.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

//! Reads before it judges: connections of a process that was stopped wait until what came
//! meanwhile is read.
//!
//! A process that is stopped and goes on finds its timers expired and its datagrams unread, and
//! nothing says which it deals with first. QUIC looks at the clock alone: an idle timer would
//! end a connection whose peer is there in the socket's buffer. So no connection runs unless the
//! socket was looked at recently. The task that drives a connection is held back here, the one
//! that reads the socket never is, and the clock is nobody's to change.
//!
//! In normal running the gate is open: datagrams come all the time, and after a silence one
//! system call shows that none waits. It closes only when one does. There is no timer: it opens
//! when the socket has no more, or after [`CLOSED_MAX`] of a stream that does not end.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use tokio::time::Instant;

/// A socket that was looked at this long ago or less holds nothing that matters: the idle timer
/// has a keep-alive every 3 s, and is twice as long. A longer stop closes the gate.
const RECENT: Duration = Duration::from_millis(500);

/// Longest time the gate is closed, as when datagrams come faster than they are read (a guess:
/// reading what 2 MiB of the system's buffer hold takes about 10 ms).
const CLOSED_MAX: Duration = Duration::from_millis(250);

/// Whether connections may run.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    // The system's socket once more, to ask it for what waits; none of a socket of the caller's.
    probe: Option<UdpSocket>,
    // When the socket was looked at.
    looked: Instant,
    closed_since: Option<Instant>,
    // Nobody will read the socket any more.
    ended: bool,
    // The task that reads the socket.
    reader: Option<Waker>,
    // The tasks held back: at most one per connection.
    waiting: BTreeMap<u64, Waker>,
}

impl Gate {
    pub(crate) fn new(probe: Option<UdpSocket>) -> Arc<Self> {
        let state = State {
            probe,
            looked: Instant::now(),
            closed_since: None,
            ended: false,
            reader: None,
            waiting: BTreeMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Opens for good: the socket is read no more, and the probe is let go of.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.probe = None;
        open(state);
    }

    /// Whether a connection may run now. If not, it is woken when it may.
    fn pass(&self, now: Instant, connection: u64, waker: &Waker) -> bool {
        let mut state = self.state();
        match state.closed_since {
            _ if state.ended => return true,
            Some(since) if now.saturating_duration_since(since) > CLOSED_MAX => {
                state.looked = now;
                open(state);
                return true;
            }
            Some(_) => {}
            None if now.saturating_duration_since(state.looked) <= RECENT => return true,
            None if state.holds_datagrams() == Some(false) => {
                state.looked = now;
                return true;
            }
            None => {
                state.closed_since = Some(now);
                if let Some(reader) = &state.reader {
                    reader.wake_by_ref();
                }
            }
        }
        state.waiting.insert(connection, waker.clone());
        false
    }

    /// The socket is about to be read. Whether the gate is closed meanwhile.
    fn reads(&self, now: Instant, reader: &Waker) -> bool {
        let mut state = self.state();
        if state.ended {
            return false;
        }
        if !state.reader.as_ref().is_some_and(|known| known.will_wake(reader)) {
            state.reader = Some(reader.clone());
        }
        let looked = std::mem::replace(&mut state.looked, now);
        match state.closed_since {
            None if now.saturating_duration_since(looked) > RECENT => state.closed_since = Some(now),
            Some(since) if now.saturating_duration_since(since) > CLOSED_MAX => {
                open(state);
                return false;
            }
            _ => {}
        }
        state.closed_since.is_some()
    }

    /// The socket said that it has no more. The system's may say so before its events were
    /// looked at, and then wakes the reader.
    fn read_all(&self) {
        let state = self.state();
        if state.holds_datagrams() != Some(true) {
            open(state);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets everybody go on who waits.
fn open(mut state: MutexGuard<'_, State>) {
    state.closed_since = None;
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    waiting.into_values().for_each(Waker::wake);
}

impl State {
    /// Whether the system holds datagrams for us; `None` where it cannot be asked.
    fn holds_datagrams(&self) -> Option<bool> {
        // Larger than any datagram of ours: one cut off is an error on some systems.
        let mut buffer = [0; 2048];
        match self.probe.as_ref()?.peek_from(&mut buffer) {
            Ok(_) => Some(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(false),
            Err(_) => None,
        }
    }
}

/// Tokio, with a gate before every connection's task.
#[derive(Debug)]
pub(crate) struct GatedRuntime {
    gate: Arc<Gate>,
    // How many tasks QUIC started: its endpoint's, then one for each connection.
    started: AtomicU64,
}

impl GatedRuntime {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, started: AtomicU64::new(0) }
    }
}

impl Runtime for GatedRuntime {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let gate = self.gate.clone();
        match self.started.fetch_add(1, Ordering::Relaxed) {
            0 => TokioRuntime.spawn(Box::pin(async move {
                // Connections go on when it ends, to find that out.
                let _ends = EndsGate(gate);
                future.await;
            })),
            connection => TokioRuntime.spawn(Box::pin(GatedConnection { connection, gate, future })),
        }
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> std::time::Instant {
        TokioRuntime.now()
    }
}

struct EndsGate(Arc<Gate>);

impl Drop for EndsGate {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The task of a connection, which runs while the gate is open.
struct GatedConnection {
    connection: u64,
    gate: Arc<Gate>,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for GatedConnection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.gate.pass(Instant::now(), self.connection, cx.waker()) {
            self.future.as_mut().poll(cx)
        } else {
            Poll::Pending
        }
    }
}

/// A socket that tells the gate when it is read.
pub(crate) struct GatedSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    gate: Arc<Gate>,
}

impl GatedSocket {
    pub(crate) fn new(socket: Arc<dyn AsyncUdpSocket>, gate: Arc<Gate>) -> Self {
        Self { socket, gate }
    }
}

impl AsyncUdpSocket for GatedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // What was read the last time is on its way to the connections by now.
        let closed = self.gate.reads(Instant::now(), cx.waker());
        let received = self.socket.poll_recv(cx, buffers, meta);
        if closed && received.is_pending() {
            self.gate.read_all();
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for GatedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GatedSocket").field(&self.socket).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Tasks {
        gate: Arc<Gate>,
        reader: Arc<Woken>,
        connection: Arc<Woken>,
        now: Instant,
    }

    impl Tasks {
        fn new(probe: Option<UdpSocket>) -> Self {
            let gate = Gate::new(probe);
            Self { gate, reader: Arc::default(), connection: Arc::default(), now: Instant::now() }
        }

        fn after(&mut self, time: Duration) -> &mut Self {
            self.now += time;
            self
        }

        fn passes(&self) -> bool {
            self.gate.pass(self.now, 1, &self.connection.clone().into())
        }

        fn reads(&self) -> bool {
            self.gate.reads(self.now, &self.reader.clone().into())
        }

        /// How often the reader and the connection were woken.
        fn woken(&self) -> [usize; 2] {
            [&self.reader, &self.connection].map(|woken| woken.0.load(Ordering::Relaxed))
        }
    }

    const STOP: Duration = Duration::from_secs(5);

    #[test]
    fn a_connection_waits_for_what_came_during_a_stop() {
        let mut tasks = Tasks::new(None);
        assert!(!tasks.reads() && tasks.passes());
        assert!(!tasks.after(STOP).passes());
        assert_eq!(tasks.woken(), [1, 0], "the reader is asked to look");
        assert!(tasks.reads(), "a first batch");
        assert!(!tasks.passes() && tasks.reads(), "there is more");
        tasks.gate.read_all();
        assert_eq!(tasks.woken(), [1, 1]);
        assert!(tasks.passes());
    }

    #[test]
    fn a_reader_that_runs_first_after_a_stop_closes_the_gate_itself() {
        let mut tasks = Tasks::new(None);
        assert!(tasks.after(STOP).reads());
        assert!(!tasks.passes());
        tasks.gate.read_all();
        assert!(tasks.passes() && !tasks.reads());
    }

    #[test]
    fn a_stream_of_datagrams_without_end_does_not_hold_connections_back_for_long() {
        let mut tasks = Tasks::new(None);
        assert!(!tasks.after(STOP).passes());
        for _ in 0..5 {
            assert!(tasks.after(CLOSED_MAX / 5).reads());
            assert!(!tasks.passes());
        }
        assert!(!tasks.after(CLOSED_MAX / 5).reads());
        assert_eq!(tasks.woken()[1], 1);
        assert!(tasks.passes());
    }

    #[test]
    fn a_gate_whose_socket_is_read_no_more_is_open() {
        let mut tasks = Tasks::new(None);
        assert!(!tasks.after(STOP).passes());
        tasks.gate.end();
        assert_eq!(tasks.woken(), [0, 1]);
        assert!(tasks.after(STOP).passes() && !tasks.reads());
    }

    #[test]
    fn the_systems_socket_is_asked_whether_anything_waits() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut tasks = Tasks::new(Some(socket.try_clone().unwrap()));
        assert!(tasks.after(STOP).passes(), "nothing came");

        let address = socket.local_addr().unwrap();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"here", address).unwrap();
        assert!(!tasks.after(STOP).passes());
        // As long as tokio knows nothing of it, its socket says that there is nothing.
        assert!(tasks.reads());
        tasks.gate.read_all();
        assert!(!tasks.passes());
        socket.recv_from(&mut [0; 16]).unwrap();
        tasks.gate.read_all();
        assert!(tasks.passes());
    }
}

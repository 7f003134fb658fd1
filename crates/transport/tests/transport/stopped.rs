//! A process that is stopped and goes on: its timers are due and its datagrams unread, and
//! nothing says which comes first.
//!
//! Each of two nodes has a runtime of its own, whose clock the test moves: a stopped one stands,
//! and then jumps while the system has not told it yet that something came.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use peerchannel_security::Identity;
use peerchannel_transport::{Connection, DatagramSocket, Endpoint, EndpointConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{advance, sleep};

const TICK: Duration = Duration::from_millis(10);

/// What came to a socket, and who waits for it.
#[derive(Debug, Default)]
struct Mailbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
    // The owner is not woken.
    stopped: bool,
}

/// One of two sockets that are each other's only peer.
#[derive(Debug)]
struct Wire {
    address: SocketAddr,
    own: Arc<Mutex<Mailbox>>,
    other: Arc<Mutex<Mailbox>>,
}

impl DatagramSocket for Wire {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn send(&self, _: SocketAddr, datagram: &[u8]) {
        let mut other = self.other.lock().unwrap();
        other.datagrams.push_back((self.address, datagram.to_vec()));
        if !other.stopped {
            other.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut own = self.own.lock().unwrap();
        let Some((from, bytes)) = own.datagrams.pop_front() else {
            own.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Poll::Ready(Ok((bytes.len(), from)))
    }
}

/// A node with a clock of its own.
struct Node {
    runtime: Runtime,
    mailbox: Arc<Mutex<Mailbox>>,
    endpoint: Endpoint,
}

/// Two connected nodes, the one that dialed first.
struct Pair {
    nodes: [Node; 2],
    connections: Vec<Connection>,
}

impl Pair {
    fn new() -> Self {
        let identities = [1, 2].map(|seed| Identity::from_seed(&[seed; 32]));
        let mailboxes = [(); 2].map(|()| Arc::<Mutex<Mailbox>>::default());
        let nodes = [0, 1].map(|index| {
            let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let address = SocketAddr::from(([10, 0, 0, 1 + u8::try_from(index).unwrap()], 4000));
            let [own, other] = [index, 1 - index].map(|of: usize| mailboxes[of].clone());
            let mailbox = own.clone();
            let socket = Arc::new(Wire { address, own, other });
            let entered = runtime.enter();
            let endpoint =
                Endpoint::with_socket(&identities[index], EndpointConfig::default(), socket).unwrap();
            drop(entered);
            Node { runtime, mailbox, endpoint }
        });
        let mut pair = Self { nodes, connections: Vec::new() };
        let (dialer, acceptor) = (pair.nodes[0].endpoint.clone(), pair.nodes[1].endpoint.clone());
        let address = acceptor.local_address();
        let dial = pair.nodes[0].runtime.spawn(async move { dialer.connect(address, None).await.unwrap() });
        let accept = pair.nodes[1].runtime.spawn(async move { acceptor.accept().await.unwrap() });
        pair.run(Duration::from_secs(1), &[0, 1]);
        for (node, task) in pair.nodes.iter().zip([dial, accept]) {
            pair.connections.push(node.runtime.block_on(task).unwrap());
        }
        pair
    }

    /// Lets time pass for these nodes.
    fn run(&self, time: Duration, who: &[usize]) {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            for index in who {
                self.nodes[*index].runtime.block_on(async { sleep(TICK).await });
            }
        }
    }

    /// One stands for a while; then its clock jumps before it hears of what came.
    fn stop(&self, who: usize, time: Duration) {
        let node = &self.nodes[who];
        node.mailbox.lock().unwrap().stopped = true;
        self.run(time, &[1 - who]);
        node.runtime.block_on(async {
            advance(time).await;
            sleep(Duration::from_millis(1)).await;
        });
        let mut mailbox = node.mailbox.lock().unwrap();
        mailbox.stopped = false;
        mailbox.waker.take().into_iter().for_each(Waker::wake);
    }
}

#[test]
fn a_stop_of_six_seconds_is_survived_at_both_ends_in_every_phase_of_the_keep_alive() {
    for who in [0, 1] {
        for phase in 0..9 {
            let pair = Pair::new();
            pair.run(Duration::from_secs(10) + phase * Duration::from_millis(300), &[0, 1]);
            pair.stop(who, Duration::from_secs(6));
            pair.run(Duration::from_secs(10), &[0, 1]);
            for (index, connection) in pair.connections.iter().enumerate() {
                assert!(!connection.is_closed(), "{who} stopped in phase {phase}, {index} gave up");
            }
        }
    }
}

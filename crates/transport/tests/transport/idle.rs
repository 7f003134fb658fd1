//! What an idle connection costs and how soon a dead peer is noticed, on a simulated network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerchannel_security::Identity;
use peerchannel_simnet::{Conditions, Network, Traffic};
use peerchannel_transport::{Connection, Endpoint, EndpointConfig};
use tokio::time::{Instant, sleep, timeout};

const DIALER: &str = "10.0.0.1:4000";
const ACCEPTOR: &str = "10.1.0.1:4000";

/// Two connected nodes, `rtt` apart.
struct Idle {
    network: Network,
    dialer: SocketAddr,
    acceptor: SocketAddr,
    at_dialer: Connection,
    at_acceptor: Connection,
    _endpoints: [Endpoint; 2],
}

impl Idle {
    async fn new(rtt: Duration, conditions: Conditions) -> Self {
        let network = Network::new(1, conditions, move |_, _| rtt / 2);
        let (dialer, acceptor) = (DIALER.parse().unwrap(), ACCEPTOR.parse().unwrap());
        let identities = [1, 2].map(|seed| Identity::from_seed(&[seed; 32]));
        let endpoint = |identity, address| {
            let socket = Arc::new(network.socket(address));
            Endpoint::with_socket(identity, EndpointConfig::default(), socket).unwrap()
        };
        let endpoints = [endpoint(&identities[0], dialer), endpoint(&identities[1], acceptor)];
        let dial = endpoints[0].connect(acceptor, Some(identities[1].node_id()));
        let (at_dialer, at_acceptor) = tokio::join!(dial, endpoints[1].accept());
        let (at_dialer, at_acceptor) = (at_dialer.unwrap(), at_acceptor.unwrap());
        // The path's MTU is found meanwhile.
        sleep(Duration::from_secs(30)).await;
        Self { network, dialer, acceptor, at_dialer, at_acceptor, _endpoints: endpoints }
    }

    /// What both ends send in five minutes, the dialing one first.
    async fn five_minutes(&self) -> [Traffic; 2] {
        let sent = || [self.dialer, self.acceptor].map(|address| self.network.sent(address));
        let [a, b] = sent();
        sleep(Duration::from_secs(300)).await;
        let [c, d] = sent();
        [c - a, d - b]
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_costs_a_packet_each_way_per_keep_alive() {
    for rtt in [2, 40, 100, 200] {
        let idle = Idle::new(Duration::from_millis(rtt), Conditions::default()).await;
        for sent in idle.five_minutes().await {
            // 300 s / 2.7 s; 41 B/s if both sides sent keep-alives.
            assert!(sent.datagrams <= 112, "rtt {rtt} ms: {sent:?}");
            assert!(sent.bytes / 300 <= 24, "rtt {rtt} ms: {sent:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_costs_ten_kilobytes_and_finds_the_path_mtu() {
    let ethernet = Idle::new(Duration::from_millis(80), Conditions::default()).await;
    let sent = [ethernet.dialer, ethernet.acceptor].map(|address| ethernet.network.sent(address));
    let bytes = sent.each_ref().map(|sent| sent.bytes);
    // Half a minute of keep-alives included.
    assert!(bytes[0] < 6500 && bytes[1] < 5200, "{sent:?}");
    assert_eq!(ethernet.at_dialer.stats().path_mtu, 1452);
    assert_eq!(ethernet.at_acceptor.stats().path_mtu, 1452);

    let tunnel = Conditions { datagram_max: 1392, ..Conditions::default() };
    let tunnel = Idle::new(Duration::from_millis(80), tunnel).await;
    assert_eq!(tunnel.at_dialer.stats().path_mtu, 1325, "WireGuard's 1420 less headers");
    let least = Conditions { datagram_max: 1200, ..Conditions::default() };
    let least = Idle::new(Duration::from_millis(80), least).await;
    assert_eq!(least.at_dialer.stats().path_mtu, 1200, "the least that QUIC needs");
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_noticed_at_either_end_within_nine_and_a_half_seconds() {
    for rtt in [2, 100, 350] {
        for dies in [DIALER, ACCEPTOR] {
            for after in 0..8 {
                let idle = Idle::new(Duration::from_millis(rtt), Conditions::default()).await;
                sleep(Duration::from_millis(after * 400)).await;
                let begin = Instant::now();
                idle.network.silence(dies.parse().unwrap());
                let other = if dies == DIALER { &idle.at_acceptor } else { &idle.at_dialer };
                timeout(Duration::from_secs(60), other.closed()).await.unwrap();
                let after = begin.elapsed();
                assert!(after <= Duration::from_millis(9500), "rtt {rtt} ms, {dies} dies: {after:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_other_end_of_a_peer_that_is_silent_for_five_seconds_keeps_the_connection() {
    for rtt in [2, 200] {
        for pauses in [DIALER, ACCEPTOR] {
            for after in 0..8 {
                let idle = Idle::new(Duration::from_millis(rtt), Conditions::default()).await;
                sleep(Duration::from_millis(after * 400)).await;
                idle.network.hold(pauses.parse().unwrap());
                sleep(Duration::from_secs(5)).await;
                idle.network.restore(pauses.parse().unwrap());
                sleep(Duration::from_secs(20)).await;
                assert!(
                    !idle.at_acceptor.is_closed() && !idle.at_dialer.is_closed(),
                    "rtt {rtt} ms, {pauses}"
                );
            }
        }
    }
}

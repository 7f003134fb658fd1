//! Tables of what the gate lets through.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const MESH: MeshId = MeshId::from_bytes([1; 32]);
const OTHER_MESH: MeshId = MeshId::from_bytes([2; 32]);
const SECOND: Duration = Duration::from_secs(1);

fn node(number: u32) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One guess from start to end.
fn attempt(gate: &mut Gate, now: Duration, peer: NodeId, from: &str, ending: Ending) -> Result<(), Duration> {
    let permit = gate.enter(now, peer, ip(from))?;
    let allowed = gate.guess(now, &permit, &MESH);
    gate.leave(now, permit, if allowed.is_ok() { ending } else { Ending::Innocent });
    allowed
}

fn fail(gate: &mut Gate, now: Duration, from: &str) -> Result<(), Duration> {
    attempt(gate, now, node(99), from, Ending::Failed)
}

/// A gate where the prefix of `from` has failed so often at time 0 that it must wait.
fn annoyed(from: &str) -> Gate {
    let mut gate = Gate::new();
    for _ in 0..=FREE_FAILURES {
        fail(&mut gate, Duration::ZERO, from).unwrap();
    }
    gate
}

#[test]
fn delays_double_up_to_a_minute() {
    let table =
        [(0, 0), (1, 0), (16, 0), (17, 1), (18, 2), (19, 4), (22, 32), (23, 60), (1000, 60), (u32::MAX, 60)];
    for (count, seconds) in table {
        assert_eq!(delay_after(count), Duration::from_secs(seconds), "after {count}");
    }
}

#[test]
fn after_its_free_failures_a_prefix_must_wait_as_long_as_it_is_told() {
    let mut gate = annoyed("192.0.2.1");
    let mut now = Duration::ZERO;
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        let wait = fail(&mut gate, now, "192.0.2.1").unwrap_err();
        assert_eq!(wait, Duration::from_secs(expected));
        assert!(fail(&mut gate, now + wait - Duration::from_nanos(1), "192.0.2.1").is_err());
        now += wait;
        assert_eq!(fail(&mut gate, now, "192.0.2.1"), Ok(()));
    }
}

#[test]
fn a_delay_is_for_the_whole_prefix_and_for_no_other() {
    let table = [
        ("192.0.2.1", "192.0.2.200", true),
        ("192.0.2.1", "192.0.3.1", false),
        ("192.0.2.1", "::ffff:192.0.2.77", true),
        ("2001:db8:1::1", "2001:db8:1:ffff::2", true),
        ("2001:db8:1::1", "2001:db8:2::1", false),
        ("127.0.0.1", "::1", false),
    ];
    for (bad, from, waits) in table {
        let mut gate = annoyed(bad);
        assert_eq!(fail(&mut gate, Duration::ZERO, from).is_err(), waits, "{bad} failed, {from} tries");
    }
}

#[test]
fn a_node_admitted_in_the_last_day_does_not_wait_in_that_mesh() {
    let day = Duration::from_secs(24 * 60 * 60);
    let mut gate = annoyed("192.0.2.1");
    gate.admitted(Duration::ZERO, node(1), MESH);
    gate.admitted(Duration::ZERO, node(2), OTHER_MESH);
    assert!(attempt(&mut gate, Duration::ZERO, node(2), "192.0.2.2", Ending::Innocent).is_err());
    assert!(attempt(&mut gate, Duration::ZERO, node(1), "192.0.2.2", Ending::Innocent).is_ok());
    // A day later it is one of many again.
    let mut now = day;
    for _ in 0..=FREE_FAILURES {
        fail(&mut gate, now, "192.0.2.1").unwrap();
        now += Duration::from_nanos(1);
    }
    assert!(attempt(&mut gate, now, node(1), "192.0.2.2", Ending::Innocent).is_err());
}

#[test]
fn a_node_that_fails_is_no_longer_exempt() {
    let mut gate = annoyed("192.0.2.1");
    gate.admitted(Duration::ZERO, node(1), MESH);
    assert!(attempt(&mut gate, Duration::ZERO, node(1), "192.0.2.1", Ending::Failed).is_ok());
    assert!(attempt(&mut gate, Duration::ZERO, node(1), "192.0.2.1", Ending::Failed).is_err());
}

#[test]
fn a_node_that_proves_itself_takes_its_failures_back_and_nobody_elses() {
    let try_it =
        |gate: &mut Gate, peer, ending| attempt(gate, Duration::ZERO, node(peer), "192.0.2.1", ending);
    let mut gate = Gate::new();
    for _ in 0..10 {
        try_it(&mut gate, 1, Ending::Failed).unwrap();
    }
    for _ in 0..7 {
        try_it(&mut gate, 2, Ending::Failed).unwrap();
    }
    assert!(try_it(&mut gate, 3, Ending::Failed).is_err());
    // The same node in another mesh has proven nothing in this one.
    gate.admitted(Duration::ZERO, node(1), OTHER_MESH);
    assert!(try_it(&mut gate, 3, Ending::Failed).is_err());
    gate.admitted(Duration::ZERO, node(1), MESH);
    // Seven are left.
    for _ in 7..=FREE_FAILURES {
        try_it(&mut gate, 3, Ending::Failed).unwrap();
    }
    assert!(try_it(&mut gate, 3, Ending::Failed).is_err());
}

#[test]
fn two_nodes_that_dial_each_other_at_once_do_not_slow_down_their_network() {
    let mut gate = Gate::new();
    for number in 0..100 {
        // The surplus stream is dropped half-way, the other one is admitted.
        attempt(&mut gate, Duration::ZERO, node(number), "192.0.2.1", Ending::Failed).unwrap();
        gate.admitted(Duration::ZERO, node(number), MESH);
    }
    assert_eq!(gate.failures.len(), 0);
}

#[test]
fn an_hour_of_peace_wipes_the_slate() {
    let mut gate = annoyed("192.0.2.1");
    let later = Duration::from_secs(60 * 60);
    for _ in 0..FREE_FAILURES {
        assert_eq!(fail(&mut gate, later, "192.0.2.1"), Ok(()));
    }
}

#[test]
fn innocent_endings_and_successes_cost_nothing() {
    let mut gate = Gate::new();
    for number in 0..100 {
        for ending in [Ending::Innocent, Ending::Proven(MESH)] {
            assert_eq!(attempt(&mut gate, Duration::ZERO, node(number), "192.0.2.1", ending), Ok(()));
        }
    }
}

#[test]
fn guessing_in_parallel_does_not_get_around_the_delays() {
    let mut gate = Gate::new();
    let mut permits = Vec::new();
    for number in 0..SUSPECTS_MAX {
        let permit =
            gate.enter(Duration::ZERO, node(u32::try_from(number).unwrap()), ip("192.0.2.1")).unwrap();
        if gate.guess(Duration::ZERO, &permit, &MESH).is_ok() {
            permits.push(permit);
        }
    }
    assert_eq!(permits.len(), FREE_FAILURES as usize);
    for permit in permits {
        gate.leave(Duration::ZERO, permit, Ending::Failed);
    }
    // Now one after the other.
    assert_eq!(fail(&mut gate, Duration::ZERO, "192.0.2.1"), Ok(()));
    let first = gate.enter(SECOND, node(1), ip("192.0.2.1")).unwrap();
    assert_eq!(gate.guess(SECOND, &first, &MESH), Ok(()));
    let second = gate.enter(SECOND, node(2), ip("192.0.2.1")).unwrap();
    assert_eq!(gate.guess(SECOND, &second, &MESH), Err(CROWDED_RETRY));
}

#[test]
fn half_of_the_budget_is_for_prefixes_without_failures() {
    let mut gate = Gate::new();
    let suspects: Vec<String> = (0..STRANGERS_MAX).map(|net| format!("10.0.{net}.1")).collect();
    for from in &suspects {
        fail(&mut gate, Duration::ZERO, from).unwrap();
    }
    let inside: Vec<_> =
        suspects.iter().filter_map(|from| gate.enter(SECOND, node(1), ip(from)).ok()).collect();
    assert_eq!(inside.len(), SUSPECTS_MAX);
    let clean: Vec<_> = (0..STRANGERS_MAX)
        .filter_map(|net| {
            gate.enter(SECOND, node(2), Ipv4Addr::new(172, 16, u8::try_from(net).unwrap(), 1).into()).ok()
        })
        .collect();
    assert_eq!(clean.len(), STRANGERS_MAX - SUSPECTS_MAX);
    // Neither keeps a known node out.
    gate.admitted(SECOND, node(3), MESH);
    assert!(gate.enter(SECOND, node(3), ip("10.0.1.1")).is_ok());
}

#[test]
fn one_prefix_cannot_take_the_whole_budget() {
    let mut gate = Gate::new();
    let inside: Vec<_> =
        (0..STRANGERS_MAX).filter_map(|_| gate.enter(SECOND, node(1), ip("10.0.0.1")).ok()).collect();
    assert_eq!(inside.len(), SUSPECTS_MAX);
    assert!(gate.enter(SECOND, node(1), ip("10.0.1.1")).is_ok());
}

#[test]
fn a_permit_that_is_never_given_back_is_taken_back() {
    let mut gate = Gate::new();
    let lost: Vec<_> =
        (0..SUSPECTS_MAX).map(|_| gate.enter(SECOND, node(1), ip("10.0.0.1")).unwrap()).collect();
    assert!(gate.enter(SECOND, node(1), ip("10.0.0.1")).is_err());
    assert!(gate.enter(SECOND + PERMIT_EXPIRES_AFTER, node(1), ip("10.0.0.1")).is_ok());
    assert_eq!(gate.pending(), 1);
    drop(lost);
}

#[test]
fn the_budget_of_known_nodes_is_bounded_too() {
    let mut gate = Gate::new();
    gate.admitted(SECOND, node(1), MESH);
    let inside: Vec<_> = (0..1000).filter_map(|_| gate.enter(SECOND, node(1), ip("10.0.0.1")).ok()).collect();
    assert_eq!(inside.len(), KNOWN_MAX);
}

#[test]
fn what_it_remembers_is_bounded() {
    let mut gate = Gate::new();
    for number in 0..20_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let now = Duration::from_millis(number.into());
        let from = IpAddr::from([10 + a, b, c, 1]);
        let permit = gate.enter(now, node(number), from).unwrap();
        gate.guess(now, &permit, &MESH).unwrap();
        gate.leave(now, permit, Ending::Failed);
        gate.admitted(now, node(number), OTHER_MESH);
    }
    assert_eq!(gate.failures.len(), PREFIXES_MAX);
    assert_eq!(gate.admitted.len(), ADMITTED_MAX);
    assert_eq!(gate.blamed.len(), PREFIXES_MAX);
}

proptest! {
    #[test]
    fn no_order_of_calls_exceeds_the_budget_or_panics(
        steps in proptest::collection::vec((0u8..4, 0u8..6, 0u32..8, 0u64..120_000), 1..300),
    ) {
        let mut gate = Gate::new();
        let mut permits = Vec::new();
        let mut now = Duration::ZERO;
        for (what, net, peer, ms) in steps {
            now += Duration::from_millis(ms / 50);
            match what {
                0 | 1 => {
                    if let Ok(permit) = gate.enter(now, node(peer), IpAddr::from([10, 0, net, 1])) {
                        let _ = gate.guess(now, &permit, &MESH);
                        permits.push(permit);
                    }
                }
                _ if permits.is_empty() => {}
                2 => gate.leave(now, permits.remove(0), Ending::Failed),
                _ => gate.leave(now, permits.remove(0), Ending::Proven(MESH)),
            }
            prop_assert!(gate.pending() <= STRANGERS_MAX + KNOWN_MAX);
            prop_assert!(gate.pending() <= permits.len());
        }
    }
}

//! Who is kept, who is tried, and when.

use super::*;

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn candidate(n: u8) -> Candidate {
    Candidate { node: Some(node(n)), addresses: vec![([127, 0, 0, 1], u16::from(n) + 1).into()] }
}

fn key(n: u8) -> Key {
    Key::Node(node(n))
}

#[test]
fn failures_back_off_and_a_new_address_is_tried_at_once() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(8, 8);
    candidates.add(candidate(1), Source::Hearsay, Time::ZERO, &mut chance);
    let key = candidates.eligible(9, Time::ZERO, &mut chance, |_| false)[0];
    candidates.dial(key, DialId(1), Time::ZERO);
    assert!(candidates.eligible(9, Time::ZERO, &mut chance, |_| false).is_empty(), "being dialed");
    candidates.failed(key, None, false, Time::ZERO, &mut chance);
    let next = candidates.next_try(|_| false).unwrap();
    assert!(next > Time::ZERO && next < Time::ZERO + Duration::from_secs(1), "{next:?}");
    let moved = Candidate { addresses: vec![([127, 0, 0, 1], 99).into()], ..candidate(1) };
    candidates.add(moved, Source::Hearsay, Time::ZERO, &mut chance);
    assert_eq!(candidates.eligible(9, Time::ZERO, &mut chance, |_| false), [key]);
}

#[test]
fn hearsay_adds_to_what_a_resolver_said_and_another_order_is_no_news() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(8, 8);
    let (a, b, c) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into(), ([127, 0, 0, 1], 3).into());
    let mut add = |addresses: Vec<SocketAddr>, source| {
        let candidate = Candidate { node: Some(node(1)), addresses };
        candidates.add(candidate, source, Time::ZERO, &mut chance);
        (candidates.table[&Key::Node(node(1))].addresses.clone(), candidates.table.len())
    };
    assert_eq!(add(vec![a, b], Source::Resolver).0, [a, b]);
    assert_eq!(add(vec![b, a], Source::Hearsay).0, [a, b]);
    assert_eq!(add(vec![c], Source::Hearsay), (vec![a, b, c], 1));
    assert_eq!(add(vec![c, a, ([127, 0, 0, 1], 4).into()], Source::Resolver).0[0], c);
}

#[test]
fn of_many_addresses_the_first_are_kept_and_the_one_that_worked() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(8, 8);
    let many = |from: u16| (from..from + 1000).map(|port| ([127, 0, 0, 1], port).into());
    let named = |from| Candidate { node: Some(node(1)), addresses: many(from).collect() };
    for source in [Source::Hearsay, Source::Resolver, Source::Anchor] {
        candidates.add(named(1), source, Time::ZERO, &mut chance);
        assert_eq!(candidates.table[&key(1)].addresses, many(1).take(16).collect::<Vec<_>>());
    }
    let good = ([127, 0, 0, 1], 5).into();
    candidates.succeeded(key(1), node(1), good, Time::ZERO);
    candidates.add(named(2000), Source::Resolver, Time::ZERO, &mut chance);
    let kept = &candidates.table[&key(1)].addresses;
    assert_eq!((kept.len(), kept[0], kept[15]), (16, ([127, 0, 0, 1], 2000).into(), good));
    // One that still is named stays the first.
    candidates.add(named(3), Source::Resolver, Time::ZERO, &mut chance);
    assert_eq!(candidates.table[&key(1)].addresses[0], good);
}

#[test]
fn a_table_of_which_all_worked_or_are_being_dialed_does_not_grow() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(64, 8);
    for n in 1..=8 {
        candidates.add(candidate(n), Source::Resolver, Time::ZERO, &mut chance);
        candidates.succeeded(key(n), node(n), ([127, 0, 0, 1], 1).into(), Time::ZERO);
    }
    for n in 20..40 {
        candidates.add(candidate(n), Source::Resolver, Time::ZERO, &mut chance);
        assert_eq!(candidates.table.len(), 8);
    }
    let keys: Vec<Key> = candidates.table.keys().copied().collect();
    for (key, dial) in keys.iter().zip(1..) {
        candidates.dial(*key, DialId(dial), Time::ZERO);
    }
    candidates.add(candidate(50), Source::Resolver, Time::ZERO, &mut chance);
    assert_eq!(candidates.table.keys().copied().collect::<Vec<_>>(), keys);
}

#[test]
fn hearsay_is_dropped_after_many_failures_a_resolved_one_is_kept() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(8, 8);
    candidates.add(candidate(1), Source::Hearsay, Time::ZERO, &mut chance);
    candidates.add(candidate(2), Source::Resolver, Time::ZERO, &mut chance);
    for _ in 0..=FAILURES_MAX {
        for n in [1, 2] {
            candidates.failed(key(n), None, false, Time::ZERO, &mut chance);
        }
    }
    assert_eq!(candidates.table.keys().copied().collect::<Vec<_>>(), [key(2)]);
    candidates.hurry(Time::ZERO);
    assert!(candidates.next_try(|_| false).unwrap() <= Time::ZERO + BACKOFF_ISOLATED_MIN);
}

#[test]
fn where_there_are_many_a_stranger_that_does_not_answer_is_shunned_for_a_while() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(8, 8);
    for n in 1..=8 {
        candidates.add(candidate(n), Source::Hearsay, Time::ZERO, &mut chance);
    }
    candidates.succeeded(key(2), node(2), ([127, 0, 0, 1], 3).into(), Time::ZERO);
    assert!(!candidates.failed(key(2), None, false, Time::ZERO, &mut chance), "it worked once");
    assert!(candidates.failed(key(1), None, false, Time::ZERO, &mut chance), "given up");
    candidates.add(candidate(1), Source::Hearsay, Time::ZERO, &mut chance);
    assert!(!candidates.table.contains_key(&key(1)), "hearsay does not bring it back");
    assert!(!candidates.may_dial(node(1), Time::ZERO));
    let later = Time::ZERO + SHUNNED_FOR;
    candidates.add(candidate(1), Source::Hearsay, later, &mut chance);
    assert!(candidates.table.contains_key(&key(1)));
    candidates.shun(node(9), later);
    candidates.forgive(node(9));
    assert!(candidates.may_dial(node(9), later), "it moved");
}

#[test]
fn the_table_is_bounded_and_gives_up_the_worst() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(8, 8);
    for n in 1..=8 {
        candidates.add(candidate(n), Source::Resolver, Time::ZERO, &mut chance);
    }
    candidates.failed(key(3), None, false, Time::ZERO, &mut chance);
    candidates.add(candidate(9), Source::Resolver, Time::ZERO, &mut chance);
    assert_eq!(candidates.table.len(), 8);
    assert!(!candidates.table.contains_key(&key(3)));
    for n in 10..60 {
        candidates.add(candidate(n), Source::Hearsay, Time::ZERO, &mut chance);
    }
    assert_eq!((candidates.table.len(), candidates.heard), (16, 8), "each kind has its room");
}

#[test]
fn a_flood_of_new_ones_does_not_push_out_what_worked() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(16, 16);
    for n in 1..=16 {
        candidates.add(candidate(n), Source::Hearsay, Time::ZERO, &mut chance);
    }
    for n in 1..=6 {
        candidates.succeeded(key(n), node(n), ([127, 0, 0, 1], 1).into(), Time::ZERO);
    }
    for n in 20..220 {
        candidates.add(candidate(n), Source::Hearsay, Time::ZERO, &mut chance);
    }
    assert_eq!(candidates.table.len(), 16);
    assert!((1..=6).all(|n| candidates.table.contains_key(&key(n))));
}

#[test]
fn an_anchor_is_tried_first_and_the_last_good_address_too() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(16, 16);
    for n in 1..=8 {
        candidates.add(candidate(n), Source::Resolver, Time::ZERO, &mut chance);
    }
    let (old, good) = (([127, 0, 0, 1], 70).into(), ([127, 0, 0, 1], 71).into());
    let anchor = Candidate { node: Some(node(9)), addresses: vec![old, good] };
    candidates.add(anchor, Source::Anchor, Time::ZERO, &mut chance);
    assert_eq!(candidates.eligible(2, Time::ZERO, &mut chance, |_| false)[0], key(9));
    candidates.succeeded(key(9), node(9), good, Time::ZERO);
    assert_eq!(candidates.table[&key(9)].addresses[0], good);
}

#[test]
fn the_nearest_is_found_by_its_coordinate_or_by_what_was_measured() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(16, 16);
    let at = |x| Coordinate::new(x, 0, 100, 10);
    let mut place = Place::default();
    for _ in 0..200 {
        place.settle(&[(at(0), Duration::from_micros(300))], &mut chance);
    }
    for (n, x) in [(1, 90_000), (2, 20_000), (3, 50_000)] {
        candidates.add(candidate(n), Source::Hearsay, Time::ZERO, &mut chance);
        candidates.vouch(node(n), Some(at(x)), Duration::ZERO, Time::ZERO);
    }
    candidates.add(candidate(4), Source::Hearsay, Time::ZERO, &mut chance);
    let nearest =
        |candidates: &Candidates| candidates.nearest(Time::ZERO, &place, |_| false).map(|(key, _)| key);
    assert_eq!(nearest(&candidates), Some(key(2)));
    candidates.succeeded(key(2), node(2), ([127, 0, 0, 1], 3).into(), Time::ZERO);
    candidates.note_measured(node(2), Duration::from_millis(70));
    assert_eq!(nearest(&candidates), Some(key(3)), "what was measured counts");
}

#[test]
fn a_dial_that_hangs_is_not_counted_on() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(8, 8);
    candidates.add(candidate(1), Source::Hearsay, Time::ZERO, &mut chance);
    candidates.dial(key(1), DialId(1), Time::ZERO);
    assert_eq!((candidates.promising(Time::ZERO), candidates.dialing()), (1, 1));
    let later = candidates.next_hedge(Time::ZERO).unwrap();
    assert_eq!((candidates.promising(later), candidates.dialing()), (0, 1));
    assert_eq!(candidates.next_hedge(later), None);
}

#[test]
fn what_a_resolver_names_besides_takes_the_place_of_what_it_named() {
    let mut chance = Chance::fork([0; 32], 0);
    let mut candidates = Candidates::new(8, 2);
    for n in 1..=4 {
        candidates.add(candidate(n), Source::Hearsay, Time::ZERO, &mut chance);
    }
    for n in 1..=4 {
        candidates.add(candidate(n), Source::Resolver, Time::ZERO, &mut chance);
        candidates.check();
    }
    assert_eq!(candidates.table.len(), 2, "two of four that were heard of and then named");
}

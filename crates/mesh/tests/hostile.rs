//! An admitted neighbor that sends anything at all: nothing panics, nothing grows without
//! bound, and the others are not disturbed.

mod world;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{Config, Event, Input, LinkId, LinkOpened, Output};
use peerchannel_wire::limits::SEQUENCE_MAX;
use peerchannel_wire::{
    ChannelName, Connect, ControlFrame, DataFrame, DigestContent, DigestRange, Disconnect, DisconnectReason,
    Epoch, Flood, LinkKind, LinkNumber, LinkPurpose, Member, MemberContent, MemberDigest, MemberFacts,
    MemberMark, MemberName, MemberRange, MemberStatus, MemberSum, MeshId, NodeId, Pong, Position, Refuse,
    RefuseReason, Sequence, Signature, StreamId, StreamRange, UnsignedBatch, Welcome,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use world::{World, address, node_id};

const SECOND: Duration = Duration::from_secs(1);

struct Liar {
    dice: ChaCha8Rng,
    me: NodeId,
}

impl Liar {
    fn below(&mut self, bound: u64) -> u64 {
        self.dice.next_u64() % bound
    }

    fn sequence(&mut self) -> Sequence {
        let number = match self.below(6) {
            0 => SEQUENCE_MAX,
            1 => SEQUENCE_MAX - 1,
            2 => self.dice.next_u64() % SEQUENCE_MAX,
            _ => self.below(12),
        };
        Sequence::new(number).expect("in range")
    }

    fn node(&mut self) -> NodeId {
        match self.below(5) {
            0 => self.me,
            n => node_id(usize::try_from(n).expect("small") - 1),
        }
    }

    fn stream(&mut self) -> StreamId {
        let channel = ChannelName::new(&format!("c{}", self.below(600))).expect("valid");
        let epoch = Epoch::new(
            [1, 2, self.dice.next_u64() % SEQUENCE_MAX][usize::try_from(self.below(3)).expect("small")],
        );
        StreamId { origin: self.node(), epoch: epoch.expect("in range"), channel }
    }

    fn range(&mut self) -> StreamRange {
        loop {
            let (a, b) = (self.sequence(), self.sequence());
            if let Some(range) = StreamRange::new(self.stream(), a.min(b), a.max(b)) {
                return range;
            }
        }
    }

    fn ranges(&mut self) -> Vec<StreamRange> {
        (0..=self.below(8)).map(|_| self.range()).collect()
    }

    fn positions(&mut self) -> Vec<Position> {
        (0..=self.below(8)).map(|_| Position { stream: self.stream(), contiguous: self.sequence() }).collect()
    }

    fn member(&mut self) -> Member {
        let epoch = Epoch::new(1 + self.below(3)).expect("small");
        let incarnation = u32::try_from(self.below(3)).expect("small") * (u32::MAX / 2);
        let name = MemberName::new("liar").expect("valid");
        let known = MemberFacts::new(self.node(), epoch, incarnation, name);
        let facts = MemberFacts { addresses: vec![address(3)], suspended: self.below(5) == 0, ..known };
        let status = [MemberStatus::Alive, MemberStatus::Left, MemberStatus::Failed]
            [usize::try_from(self.below(3)).expect("small")];
        Member { status, record: facts.unsigned().sign(Signature::from_bytes([1; 64])) }
    }

    fn control(&mut self) -> ControlFrame {
        match self.below(22) {
            0 => ControlFrame::Connect(Connect {
                epoch: Epoch::new(1).expect("small"),
                purpose: LinkPurpose::Neighbor,
                joining: true,
                urgent: true,
                kind: LinkKind::Near,
                coordinate: None,
                healing: false,
                lacking: false,
                member: self.member().record,
            }),
            1 => ControlFrame::Welcome(Welcome {
                epoch: Epoch::new(1).expect("small"),
                joining: true,
                member: self.member().record,
                link_number: LinkNumber(1),
                referrals: vec![],
                coordinate: None,
            }),
            2 => ControlFrame::Refuse(Refuse { reason: RefuseReason::NodeBusy, referrals: vec![] }),
            3 => ControlFrame::Disconnect(Disconnect { reason: DisconnectReason::Idle, referrals: vec![] }),
            4 => ControlFrame::Ping(self.below(9)),
            5 => ControlFrame::Pong(Pong::plain(self.below(9))),
            6 => ControlFrame::Probe { node: self.node(), nonce: self.below(9), spread: self.below(2) == 0 },
            7 => ControlFrame::ProbeResult { nonce: self.below(9), answers: true },
            8 => ControlFrame::Baseline { positions: self.positions(), last: self.below(2) == 0 },
            9 => {
                let positions = self.positions();
                let (a, b) = (self.stream(), self.stream());
                let content = DigestContent::Positions { positions, reply: true };
                let until = (a != b).then(|| a.clone().max(b.clone()));
                ControlFrame::Digest(vec![DigestRange { from: Some(a.min(b)), until, content }])
            }
            10 => ControlFrame::Announce(self.ranges()),
            11 => ControlFrame::Pull(self.ranges()),
            12 => ControlFrame::Gone(self.ranges()),
            13 => ControlFrame::NotFromMe(self.ranges()),
            14 => ControlFrame::Ack(self.positions()),
            15 => ControlFrame::Congestion { congested: true },
            16 => ControlFrame::Members((0..4).map(|_| self.member()).collect()),
            17 => ControlFrame::Direct { nonce: self.below(9), payload: Bytes::from_static(b"x") },
            18 => ControlFrame::MemberPull(vec![self.node(), self.node()]),
            19 => ControlFrame::MemberDoubt((0..4).map(|_| MemberMark::of(&self.member())).collect()),
            20 => {
                let marks: Vec<MemberMark> = (0..4).map(|_| MemberMark::of(&self.member())).collect();
                let sums = marks.iter().map(MemberSum::of).fold(MemberSum::default(), MemberSum::plus);
                let content = match self.below(3) {
                    0 => MemberContent::Marks { marks, reply: true },
                    1 => MemberContent::Sum(sums),
                    _ => MemberContent::Sum(MemberSum::default()),
                };
                let from = (self.below(2) == 0).then(|| self.node());
                let level = u32::try_from(self.below(3)).expect("small") * 100;
                let members = u32::try_from(self.below(2)).expect("small") * 1_000_000;
                ControlFrame::MemberDigest(MemberDigest {
                    level,
                    members,
                    ranges: vec![MemberRange { from, until: None, content }],
                })
            }
            _ => ControlFrame::DirectAck { nonce: self.below(9) },
        }
    }

    fn data(&mut self) -> DataFrame {
        let payloads = (0..=self.below(3))
            .map(|n| Bytes::from(vec![b'y'; usize::try_from(n).expect("small")]))
            .collect();
        let first = Sequence::new(1 + self.below(40)).expect("small");
        let batch = UnsignedBatch::new(first, 0, payloads).expect("within limits").sign(None);
        DataFrame::Flood(Flood { stream: self.stream(), hops: 0, batch: Arc::new(batch) })
    }
}

/// Of a member that joins again and again nobody tells more often than of one that renames itself.
#[test]
fn a_member_that_raises_its_epoch_without_end_is_not_passed_on_without_end() {
    let mut world = World::full(6, &Config::default());
    world.run_for(10 * SECOND);
    let link = world.link(0, 1);
    world.run_for(30 * SECOND);
    let before = world.frames();
    let node = NodeId::from_bytes([0xee; 32]);
    for epoch in 1..=400 {
        let facts = MemberFacts::new(node, Epoch::new(epoch).unwrap(), 0, MemberName::default());
        let unsigned = facts.unsigned();
        let signature = world::sign(node, &unsigned.transcript(&MeshId::from_bytes([9; 32])));
        let member = Member { status: MemberStatus::Alive, record: unsigned.sign(signature) };
        world.input(0, Input::Control { link, frame: ControlFrame::Members(vec![member]) });
        world.run_for(SECOND / 10);
    }
    let told = world.frames() - before;
    // 45 times, by node 0 to four others, who tell each other; and the mesh's usual talk.
    assert!(told < 45 * 24 + 600, "{told} frames");
}

/// A neighbor calls everybody failed, whatever their incarnation, again and again.
#[test]
fn what_one_neighbor_doubts_costs_the_mesh_no_more_than_its_share() {
    let mut world = World::full(20, &Config::default());
    world.run_for(60 * SECOND);
    let link = (1..20).find(|other| world.linked(0, *other)).map(|other| world.link(0, other)).unwrap();
    let refuted = |world: &World| -> u64 {
        world.members.iter().map(|m| m.node.as_ref().unwrap().stats().refutations).sum()
    };
    for _ in 0..60 {
        let members: Vec<_> = world.node(0).members().skip(1).map(|member| member.node).collect();
        let marks = members.into_iter().flat_map(|node| {
            let epoch = Epoch::new(1).unwrap();
            let mark =
                move |incarnation| MemberMark { node, epoch, incarnation, status: MemberStatus::Failed };
            (0..60).map(mark).collect::<Vec<_>>()
        });
        for chunk in marks.collect::<Vec<_>>().chunks(256) {
            world.input(0, Input::Control { link, frame: ControlFrame::MemberDoubt(chunk.to_vec()) });
        }
        world.run_for(11 * SECOND);
    }
    // The share of eleven minutes is 84 and 185 more; each is heard by its member from several.
    let refuted = refuted(&world);
    assert!(refuted <= 19 * 300, "{refuted} refutations");
    let told: u64 = world.members.iter().map(|m| m.node.as_ref().unwrap().stats().overloads).sum();
    assert!(told > 0, "some were left out");
}

/// A neighbor calls the node itself failed, whatever it answers.
#[test]
fn a_node_that_is_called_failed_without_end_answers_once_a_second() {
    let mut world = World::full(3, &Config::default());
    world.run_for(30 * SECOND);
    let link = world.link(0, 1);
    let changes = |world: &World| {
        let events = &world.members[2].events;
        let of_zero = |e: &&Event| matches!(e, Event::MemberUp { node, .. } if *node == node_id(0));
        events.iter().filter(of_zero).count()
    };
    let before = (world.frames(), changes(&world));
    for step in 0..600u32 {
        let marks = (0..100).map(|incarnation| {
            let (node, epoch) = (node_id(0), Epoch::new(1).unwrap());
            MemberMark { node, epoch, incarnation, status: MemberStatus::Failed }
        });
        if step % 2 == 0 {
            world.input(0, Input::Control { link, frame: ControlFrame::MemberDoubt(marks.collect()) });
        }
        world.run_for(SECOND / 10);
    }
    assert_eq!(changes(&world), before.1, "it never was away");
    // 65 statements to two neighbors, who tell each other; and the usual talk.
    let told = world.frames() - before.0;
    assert!(told < 65 * 4 + 400, "{told} frames");
}

/// A mesh in which node 0 has neighbors that it dialed and such that dialed it.
fn settled(count: usize, config: &Config) -> World {
    let mut world = World::new(count, config);
    for index in 0..count {
        world.members[index].knows = if index == 0 { vec![] } else { vec![0, index - 1] };
        world.start(index);
        world.run_for(SECOND / 10);
    }
    world.run_for(60 * SECOND);
    world
}

fn stranger(n: u32) -> NodeId {
    let mut id = [0xee; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    NodeId::from_bytes(id)
}

/// A stranger dials node 0 and sends its Connect.
fn dials_in(world: &mut World, n: u32, urgent: bool, healing: bool, kind: LinkKind) {
    dials_for(world, LinkPurpose::Neighbor, n, urgent, healing, kind);
}

fn dials_for(
    world: &mut World,
    purpose: LinkPurpose,
    n: u32,
    urgent: bool,
    healing: bool,
    kind: LinkKind,
) -> LinkId {
    let (link, node) = (LinkId(1_000_000 + u64::from(n)), stranger(n));
    world.input(
        0,
        Input::LinkOpened(LinkOpened {
            link,
            peer: node,
            dial: None,
            address: address(500),
            number: LinkNumber(100_000 + n),
            rtt: SECOND / 100,
            features: peerchannel_wire::Features::SUPPORTED,
        }),
    );
    let epoch = Epoch::new(1).expect("small");
    let unsigned = MemberFacts::new(node, epoch, 0, MemberName::default()).unsigned();
    let signature = world::sign(node, &unsigned.transcript(&MeshId::from_bytes([9; 32])));
    let (coordinate, member) = (None, unsigned.sign(signature));
    // Anyone can say that it lacks links.
    let lacking = true;
    let connect =
        Connect { epoch, purpose, joining: false, urgent, kind, coordinate, healing, lacking, member };
    world.input(0, Input::Control { link, frame: ControlFrame::Connect(connect) });
    link
}

#[test]
fn a_link_for_direct_messages_carries_nothing_else() {
    let mut world = settled(20, &Config::default());
    let misbehaved = |world: &World| {
        world.saw(0, |event| matches!(event, Event::Misbehaved { node, .. } if *node == stranger(1)))
    };
    let link = dials_for(&mut world, LinkPurpose::Direct, 1, false, false, LinkKind::Near);
    let payload = Bytes::from_static(b"hello");
    world.input(0, Input::Control { link, frame: ControlFrame::Direct { nonce: 1, payload } });
    world.input(0, Input::Control { link, frame: ControlFrame::Ping(7) });
    world.run_for(SECOND);
    assert!(!misbehaved(&world));
    assert!(world.saw(0, |event| matches!(event, Event::Direct { .. })));
    let known = world.node(0).members().count();
    let member = Member { status: MemberStatus::Alive, record: world.record(3) };
    world.input(0, Input::Control { link, frame: ControlFrame::Members(vec![member]) });
    let failed = Member { status: MemberStatus::Failed, record: world.record(3) };
    world.input(0, Input::Control { link, frame: ControlFrame::Members(vec![failed]) });
    let probe = ControlFrame::Probe { node: node_id(3), nonce: 9, spread: true };
    world.input(0, Input::Control { link, frame: probe });
    world.run_for(SECOND);
    assert_eq!(world.node(0).stats().direct_ignored, 3, "nothing of it is taken");
    assert!(!misbehaved(&world), "earlier releases send such frames");
    assert_eq!(world.node(0).members().count(), known);
    assert!(!world.saw(0, |event| matches!(event, Event::MemberDown { .. })));
    // What tells of the receiver itself it may answer.
    let itself = Member { status: MemberStatus::Failed, record: world.record(0) };
    world.input(0, Input::Control { link, frame: ControlFrame::Members(vec![itself]) });
    world.run_for(SECOND);
    assert_eq!(world.node(0).stats().refutations, 1);
    assert!(!misbehaved(&world));
    world.input(0, Input::Control { link, frame: ControlFrame::Digest(vec![]) });
    world.run_for(SECOND);
    assert!(misbehaved(&world), "the link is closed, and the application told why");
}

/// A report about a member to which there is only a link for direct messages.
#[test]
fn a_report_about_the_peer_of_a_direct_link_does_not_go_over_it() {
    let mut config = Config::default();
    (config.neighbors_low, config.neighbors_target, config.neighbors_high) = (1, 2, 3);
    config.full_mesh_members_max = 1;
    let mut world = settled(12, &config);
    let other = (1..12).find(|other| !world.linked(0, *other)).unwrap();
    let now = world.now;
    world.node(0).send_direct(now, node_id(other), Bytes::from_static(b"hello")).unwrap();
    world.input(0, Input::Timeout);
    world.run_for(SECOND);
    assert!(world.saw(0, |event| matches!(event, Event::DirectDone { result: Ok(()), .. })));
    let near = (1..12).find(|near| world.linked(0, *near)).unwrap();
    let (link, record) = (world.link(0, near), world.record(other));
    let told = Member { status: MemberStatus::Failed, record };
    world.input(0, Input::Control { link, frame: ControlFrame::Members(vec![told]) });
    world.run_for(3 * SECOND);
    let stats = world.node(other).stats();
    assert_eq!(stats.direct_ignored, 0);
    assert!(stats.refutations > 0, "it is asked across the mesh");
    for index in 0..12 {
        assert!(!world.saw(index, |event| matches!(event, Event::Misbehaved { .. })), "node {index}");
        assert!(!world.saw(index, |event| matches!(event, Event::MemberDown { .. })), "node {index}");
    }
}

fn honest(world: &mut World) -> usize {
    let known: Vec<NodeId> = world.members.iter().map(|member| member.id).collect();
    world.node(0).neighbors().filter(|neighbor| known.contains(&neighbor.node)).count()
}

/// Anyone can say that it has no neighbor, again and again.
#[test]
fn a_crowd_that_calls_itself_urgent_drives_out_a_few_neighbors_and_no_more() {
    for config in [Config::default(), Config::peer_channel()] {
        let mut world = settled(20, &config);
        let before = honest(&mut world);
        let most = (world.node(0).neighbors_max_now() / 4).max(1);
        for n in 0..120 {
            dials_in(&mut world, n, true, false, LinkKind::Near);
        }
        assert!(honest(&mut world) + 1 >= before, "one at once, not {before} to {}", honest(&mut world));
        let own = own_far(&world);
        for n in 120..400 {
            dials_in(&mut world, n, true, false, LinkKind::Near);
            world.run_for(SECOND / 4);
            let evicted = world.node(0).stats().evicted_for_urgent;
            assert!(evicted <= 1 + u64::from(n) / 8, "{evicted}");
        }
        assert!(own.iter().all(|node| own_far(&world).contains(node)), "far links of its own choice stay");
        let (after, pruned) = (honest(&mut world), world.node(0).stats().pruned as usize);
        assert!(after + most + pruned >= before, "{before} to {after}, {most} at most, {pruned} by choice");
    }
}

/// The far neighbors that node 0 chose itself.
fn own_far(world: &World) -> Vec<NodeId> {
    let own = |n: &peerchannel_mesh::NeighborView| n.far && n.opened_by_us;
    world.members[0].node.as_ref().expect("it runs").neighbors().filter(own).map(|n| n.node).collect()
}

/// Node 0 loses the far links of its own choice, and can dial nobody until cuts are healed.
fn without_own_far(world: &mut World) -> usize {
    let own = own_far(world);
    for other in 1..world.members.len() {
        world.cut.insert((0, other));
        if own.contains(&node_id(other)) {
            world.break_link(0, other);
        }
    }
    world.run_for(SECOND);
    assert!(own_far(world).is_empty());
    own.len()
}

/// Whoever dials says itself whether its link is far.
#[test]
fn far_links_of_others_do_not_take_the_places_of_a_nodes_own() {
    let mut world = settled(20, &Config::default());
    without_own_far(&mut world);
    for n in 0..120 {
        dials_in(&mut world, n, false, false, LinkKind::Far);
    }
    let max = world.node(0).neighbors_max_now();
    assert_eq!(world.neighbors(0), max - 2);
    world.cut.clear();
    world.run_for(300 * SECOND);
    assert!(own_far(&world).len() >= 2);
}

#[test]
fn a_node_at_its_limit_still_dials_far_links_that_it_lacks() {
    let mut world = settled(20, &Config::peer_channel());
    without_own_far(&mut world);
    let max = world.node(0).neighbors_max_now();
    for n in 0..120 {
        dials_in(&mut world, n, false, true, LinkKind::Near);
    }
    assert!(world.neighbors(0) >= max);
    world.cut.clear();
    // Its peer may drop it again for reasons of its own.
    world.run_until(300 * SECOND, "a far link of its own choice", |w| !own_far(w).is_empty());
    assert!(world.neighbors(0) <= max);
}

#[test]
fn links_that_mend_a_split_come_on_top_of_the_limit_and_stay_for_their_time() {
    let mut world = settled(20, &Config::default());
    for n in 0..120 {
        dials_in(&mut world, n, false, false, LinkKind::Near);
    }
    let (before, max) = (world.neighbors(0), world.node(0).neighbors_max_now());
    let all = |world: &mut World| world.node(0).neighbors().map(|n| n.node).collect::<Vec<_>>();
    let there = all(&mut world);
    assert!(before + 2 >= max && max == 32, "{before} of {max}");
    for n in 200..250 {
        dials_in(&mut world, n, false, true, LinkKind::Far);
    }
    assert_eq!(world.neighbors(0), max + 4);
    let now = all(&mut world);
    assert!(there.iter().all(|node| now.contains(node)), "none goes for them");
    let mending = |world: &mut World| {
        all(world).iter().filter(|node| (200..250).any(|n| stranger(n) == **node)).count()
    };
    let few = mending(&mut world);
    world.run_for(28 * SECOND);
    assert_eq!(mending(&mut world), few);
    world.run_for(4 * SECOND);
    assert!(world.neighbors(0) <= max);
}

/// Frames of every kind with odd contents, on links in every state, against a node that also
/// has an honest neighbor.
#[test]
fn whatever_an_admitted_neighbor_sends_the_honest_ones_are_not_disturbed() {
    for seed in 0..150 {
        let mut config = Config::default();
        // Without signatures a liar's contents get further; with them it can disturb nobody.
        config.origin_auth = seed % 2 == 0;
        config.channels_per_origin_max = 16;
        config.streams_max = 64;
        config.members_max = 8;
        config.hold_back_bytes = config.max_message;
        let mut world = World::full(2, &config);
        world.run_for(2 * SECOND);
        assert!(world.linked(0, 1));
        let mut liar = Liar { dice: ChaCha8Rng::seed_from_u64(seed), me: node_id(2) };
        let mut link = 0;
        for step in 0..400u64 {
            if step % 40 == 0 {
                link = 1_000_000 + step;
                let opened = LinkOpened {
                    link: LinkId(link),
                    peer: liar.me,
                    dial: None,
                    address: address(3),
                    number: LinkNumber(7),
                    rtt: SECOND / 100,
                    features: peerchannel_wire::Features::SUPPORTED,
                };
                world.input(0, Input::LinkOpened(opened));
                // An honest beginning, most of the time, so that the rest is not refused at once.
                if liar.below(8) > 0 {
                    let mut member = liar.member();
                    let mut facts = member.record.facts().clone();
                    (facts.node, facts.epoch, facts.incarnation) =
                        (liar.me, Epoch::new(1).expect("small"), 0);
                    member.record = facts.unsigned().sign(Signature::from_bytes([1; 64]));
                    let frame = ControlFrame::Connect(Connect {
                        epoch: Epoch::new(1).expect("small"),
                        purpose: LinkPurpose::Neighbor,
                        joining: liar.below(2) == 0,
                        urgent: true,
                        kind: LinkKind::Far,
                        coordinate: None,
                        healing: false,
                        lacking: false,
                        member: member.record,
                    });
                    world.input(0, Input::Control { link: LinkId(link), frame });
                }
            }
            let link = LinkId(link);
            let input = match liar.below(3) {
                0 => Input::Data { link, frame: liar.data() },
                1 => Input::Control { link, frame: liar.control() },
                _ if step % 7 == 0 => Input::LaneFinished { link },
                _ => Input::Control { link, frame: liar.control() },
            };
            // Bytes are what a liar sends: each frame goes through the codec first.
            let input = match input {
                Input::Control { link, frame } => {
                    Input::Control { link, frame: world::through_codec(&frame) }
                }
                other => other,
            };
            world.input(0, input);
            world.run_for(Duration::from_millis(liar.below(50)));
            let stats = world.node(0).stats();
            assert!(stats.streams <= 65, "{stats:?}");
            assert!(stats.members <= 9, "{stats:?}");
            assert!(stats.held_back_bytes <= config.hold_back_bytes as u64 + 4096, "{stats:?}");
            assert!(stats.retained_bytes <= config.retention_bytes as u64, "{stats:?}");
        }
        world.publish(1, "still here");
        world.run_for(3 * SECOND);
        let arrived = world.texts(0).contains(&"still here".to_owned());
        assert!(arrived || !config.origin_auth, "seed {seed}");
        assert!(world.node(0).poll_output().is_none_or(|o| !matches!(o, Output::Close { .. })));
    }
}

/// Before Connect and Welcome nothing but the handshake is taken.
#[test]
fn frames_before_the_handshake_close_the_link() {
    let mut world = World::full(1, &Config::default());
    let mut liar = Liar { dice: ChaCha8Rng::seed_from_u64(1), me: node_id(2) };
    for number in 0..40 {
        let link = LinkId(5000 + number);
        world.input(
            0,
            Input::LinkOpened(LinkOpened {
                link,
                peer: liar.me,
                dial: None,
                address: address(3),
                number: LinkNumber(7),
                rtt: SECOND / 100,
                features: peerchannel_wire::Features::SUPPORTED,
            }),
        );
        let before = world.node(0).stats().violations;
        let frame = loop {
            let frame = liar.control();
            if !matches!(frame, ControlFrame::Connect(_)) {
                break frame;
            }
        };
        let input = if number % 2 == 0 {
            Input::Data { link, frame: liar.data() }
        } else {
            Input::Control { link, frame }
        };
        world.input(0, input);
        assert_eq!(world.node(0).stats().violations, before + 1);
    }
    assert!(world.texts(0).is_empty());
    assert_eq!(world.node(0).stats().streams, 0);
}

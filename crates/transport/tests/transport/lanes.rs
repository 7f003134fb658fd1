//! Links that work: order, queues, priorities, goodbyes, datagrams.

use bytes::Bytes;
use peerchannel_transport::{
    CloseReason, ConnectionLost, DatagramError, EstablishError, Lane, LinkEvent, LinkLost, PushError,
    QueueLevel,
};
use peerchannel_wire::{ControlFrame, Disconnect, DisconnectReason};

use crate::support::*;

fn disconnect() -> Bytes {
    let reason = DisconnectReason::LeavingMesh;
    ControlFrame::Disconnect(Disconnect { reason, referrals: Vec::new() }).encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_frames_arrive_in_order_on_each_lane() {
    const COUNT: u64 = 5000;
    let pair = pair().await;
    let ((link, mut own), (_other, mut reader)) = link(&pair.at_a, &pair.at_b).await;
    let sending = tokio::spawn(async move {
        for index in 0..COUNT {
            for (lane, length) in [(Lane::Control, 20), (Lane::Interactive, 300), (Lane::Bulk, 3000)] {
                while link.room(lane) < length + 4 {
                    // A push that fails arms the notice.
                    let full = link.push(lane, numbered(index, length));
                    assert!(matches!(full, Err(PushError::Full(_))));
                    while !matches!(within("notice", own.recv()).await, LinkEvent::Drained(on) if on == lane)
                    {
                    }
                }
                link.push(lane, numbered(index, length)).unwrap();
            }
        }
        (link, own)
    });
    let mut next_of = [0u64; 3];
    while next_of != [COUNT; 3] {
        let LinkEvent::Frames { lane, frames, .. } = next(&mut reader).await else { panic!("only frames") };
        let position = Lane::ALL.iter().position(|each| *each == lane).unwrap();
        for body in frames {
            assert_eq!(number_of(&body), next_of[position], "{lane:?}");
            next_of[position] += 1;
        }
    }
    let (link, _own) = within("sender", sending).await.unwrap();
    let sent = link.stats();
    assert_eq!(sent.frames_sent, 3 * COUNT);
    assert!(sent.writes < sent.frames_sent / 2, "frames gather while a lane is busy: {sent:?}");
    assert_eq!(pair.b.stats().traffic.frames_received, 3 * COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn receiving_can_be_cancelled_at_any_moment() {
    const COUNT: u64 = 3000;
    let pair = pair().await;
    let ((link, mut own), (_other, mut reader)) = link(&pair.at_a, &pair.at_b).await;
    let sending = tokio::spawn(async move {
        for index in 0..COUNT {
            // Longer than a packet, so that frames are cut by reads.
            while let Err(error) = link.push(Lane::Interactive, numbered(index, 2000)) {
                assert!(matches!(error, PushError::Full(_)));
                within("notice", own.recv()).await;
            }
        }
        (link, own)
    });
    let mut expected = 0;
    while expected < COUNT {
        let event = tokio::select! {
            biased;
            event = reader.recv() => event,
            () = tokio::task::yield_now() => continue,
        };
        let LinkEvent::Frames { frames, .. } = event else { panic!("{event:?}") };
        for body in frames {
            assert_eq!(number_of(&body), expected);
            expected += 1;
        }
    }
    within("sender", sending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_comes_back_and_one_notice_follows() {
    let pair = pair().await;
    let ((link, mut own), (_other, mut reader)) = link(&pair.at_a, &pair.at_b).await;
    let (mut pushed, mut high) = (0, false);
    let given_back = loop {
        match link.push(Lane::Bulk, numbered(pushed, 100_000)) {
            Ok(level) => high |= level == QueueLevel::High,
            Err(PushError::Full(frame)) => break frame,
            Err(error) => panic!("{error}"),
        }
        pushed += 1;
    };
    assert!(high, "above half comes before full");
    assert_eq!(given_back, numbered(pushed, 100_000));
    assert_eq!(link.stats().pushes_refused, 1);
    let received = frames(&mut reader, Lane::Bulk, usize::try_from(pushed).unwrap()).await;
    assert_eq!(received.len() as u64, pushed);
    assert!(matches!(within("notice", own.recv()).await, LinkEvent::Drained(Lane::Bulk)));
    // Nothing else is there: the next event is the end of the link.
    link.close(CloseReason::Unused);
    assert!(matches!(within("end", own.recv()).await, LinkEvent::Closed(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_blocks_neither_its_control_lane_nor_another_link() {
    let pair = pair().await;
    let ((slow, _own), (_other, mut reader)) = link(&pair.at_a, &pair.at_b).await;
    let ((brisk, _own2), (_other2, mut brisk_reader)) = link(&pair.at_a, &pair.at_b).await;
    for lane in [Lane::Interactive, Lane::Bulk] {
        while slow.push(lane, numbered(0, 50_000)).is_ok() {}
    }
    // The driver takes frames and lets go of none, until no more are read.
    let mut kept = Vec::new();
    let mut bytes = 0;
    while bytes < (2 << 20) - 100_000 {
        let LinkEvent::Frames { lane: _, frames, permit } = next(&mut reader).await else { panic!("frames") };
        bytes += frames.iter().map(Bytes::len).sum::<usize>();
        kept.push(permit);
    }
    slow.push(Lane::Control, frame(b"still here")).unwrap();
    loop {
        match next(&mut reader).await {
            LinkEvent::Frames { lane: Lane::Control, frames, .. } => {
                assert_eq!(frames[0], "still here");
                break;
            }
            LinkEvent::Frames { permit, .. } => kept.push(permit),
            event => panic!("unexpected {event:?}"),
        }
    }
    for index in 0..1000 {
        brisk.push(Lane::Interactive, numbered(index, 100)).unwrap();
    }
    let received = frames(&mut brisk_reader, Lane::Interactive, 1000).await;
    assert!(received.iter().map(number_of).eq(0..1000));
    assert!(slow.queued_bytes(Lane::Bulk) > 0, "the slow link is still blocked");
    kept.clear();
    assert!(matches!(next(&mut reader).await, LinkEvent::Frames { .. }), "and goes on when permits return");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_comes_after_everything_that_was_pushed() {
    let pair = pair().await;
    let ((link, mut own), (_other, mut reader)) = link(&pair.at_a, &pair.at_b).await;
    for index in 0..200 {
        link.push(Lane::Interactive, numbered(index, 2000)).unwrap();
        link.push(Lane::Bulk, numbered(index, 10_000)).unwrap();
    }
    link.push(Lane::Control, frame(b"before")).unwrap();
    link.finish(disconnect().into()).unwrap();
    assert_eq!(link.push(Lane::Control, frame(b"after")), Err(PushError::Closed));
    assert_eq!(link.finish(disconnect().into()), Err(PushError::Closed));
    let mut counts = [0; 3];
    let mut ended = 0;
    let last = loop {
        match next(&mut reader).await {
            LinkEvent::Frames { lane, frames, .. } => {
                let position = Lane::ALL.iter().position(|each| *each == lane).unwrap();
                counts[position] += frames.len();
                if let Some(last) = frames.last().filter(|body| ControlFrame::is_disconnect(body)) {
                    break last.clone();
                }
            }
            LinkEvent::LaneFinished(_) => ended += 1,
            event => panic!("unexpected {event:?}"),
        }
    };
    assert_eq!((counts, ended), ([2, 200, 200], 2));
    assert_eq!(framed(&last), disconnect());
    assert!(matches!(next(&mut reader).await, LinkEvent::Closed(LinkLost::FinishedByPeer)));
    assert!(matches!(next(&mut own).await, LinkEvent::Closed(LinkLost::Finished)));
    assert!(matches!(next(&mut own).await, LinkEvent::Closed(LinkLost::Finished)), "again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_survives_the_handles() {
    let pair = pair().await;
    let ((link, own), (_other, mut reader)) = link(&pair.at_a, &pair.at_b).await;
    for index in 0..100 {
        link.push(Lane::Interactive, numbered(index, 5000)).unwrap();
    }
    link.finish(disconnect().into()).unwrap();
    drop((link, own, pair.at_a));
    assert_eq!(frames(&mut reader, Lane::Interactive, 100).await.len(), 100);
    let lost = loop {
        match next(&mut reader).await {
            LinkEvent::Closed(lost) => break lost,
            LinkEvent::LaneFinished(_) | LinkEvent::Frames { lane: Lane::Control, .. } => {}
            event => panic!("unexpected {event:?}"),
        }
    };
    assert_eq!(lost, LinkLost::FinishedByPeer);
    let lost = within("the connection goes with its last link", pair.at_b.closed()).await;
    assert_eq!(lost, ConnectionLost::ClosedByPeer(CloseReason::Unused));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_may_say_goodbye_at_once() {
    let pair = pair().await;
    let ((a, mut at_a), (b, mut at_b)) = link(&pair.at_a, &pair.at_b).await;
    a.push(Lane::Interactive, frame(b"from a")).unwrap();
    b.push(Lane::Interactive, frame(b"from b")).unwrap();
    a.finish(disconnect().into()).unwrap();
    b.finish(disconnect().into()).unwrap();
    for reader in [&mut at_a, &mut at_b] {
        let lost = loop {
            if let LinkEvent::Closed(lost) = next(reader).await {
                break lost;
            }
        };
        assert!(matches!(lost, LinkLost::Finished | LinkLost::FinishedByPeer), "{lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_that_nobody_takes_ends_in_time() {
    let mut config = config();
    config.finish_timeout = std::time::Duration::from_millis(300);
    let pair = pair_with(config).await;
    let ((link, mut own), (_other, _unread)) = link(&pair.at_a, &pair.at_b).await;
    while link.push(Lane::Bulk, numbered(0, 100_000)).is_ok() {}
    link.finish(disconnect().into()).unwrap();
    assert!(matches!(next(&mut own).await, LinkEvent::Closed(LinkLost::FinishTimedOut)));
    assert_eq!(link.over().await, LinkLost::FinishTimedOut);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_never_established_can_refuse() {
    let pair = pair().await;
    let (a, b) = control(&pair.at_a, &pair.at_b).await;
    let (a, mut at_a) = a.into_link();
    let (b, _at_b) = b.into_link();
    assert_eq!(a.push(Lane::Interactive, frame(b"early")), Err(PushError::NotEstablished));
    b.finish(frame(b"refused")).unwrap();
    assert_eq!(frames(&mut at_a, Lane::Control, 1).await[0], "refused");
    assert!(matches!(next(&mut at_a).await, LinkEvent::Closed(LinkLost::FinishedByPeer)));
    assert_eq!(a.establish(a.number()), Err(EstablishError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_share_a_connection_and_end_apart() {
    let pair = pair().await;
    let ((a1, _r1), (_b1, mut first)) = link(&pair.at_a, &pair.at_b).await;
    // The other one is opened from the other side.
    let ((_b2, mut second_b), (a2, mut second)) = link(&pair.at_b, &pair.at_a).await;
    assert_ne!(a1.number(), a2.number());
    a1.push(Lane::Interactive, frame(b"first")).unwrap();
    a2.push(Lane::Interactive, frame(b"second")).unwrap();
    assert_eq!(frames(&mut first, Lane::Interactive, 1).await[0], "first");
    assert_eq!(frames(&mut second_b, Lane::Interactive, 1).await[0], "second");
    a1.close(CloseReason::TooSlow);
    assert!(matches!(
        next(&mut first).await,
        LinkEvent::Closed(LinkLost::ClosedByPeer(CloseReason::TooSlow))
    ));
    _b2.push(Lane::Bulk, frame(b"lives on")).unwrap();
    assert_eq!(frames(&mut second, Lane::Bulk, 1).await[0], "lives on");
    let number = a2.number();
    assert_eq!(a2.establish(number), Err(EstablishError::Established));
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_come_before_their_link_is_known_wait_for_it() {
    let pair = pair().await;
    let (a, b) = control(&pair.at_a, &pair.at_b).await;
    let number = a.number();
    let (a, _at_a) = a.into_link();
    a.establish(number).unwrap();
    a.push(Lane::Interactive, frame(b"early")).unwrap();
    a.push(Lane::Bulk, frame(b"early too")).unwrap();
    a.push(Lane::Control, frame(b"welcome")).unwrap();
    let (b, mut at_b) = b.into_link();
    assert_eq!(frames(&mut at_b, Lane::Control, 1).await[0], "welcome");
    b.establish(number).unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        let LinkEvent::Frames { frames, .. } = next(&mut at_b).await else { panic!("frames") };
        bodies.extend(frames);
    }
    bodies.sort();
    assert_eq!(bodies, ["early", "early too"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_find_their_link() {
    let pair = pair().await;
    let ((a, _at_a), (b, mut at_b)) = link(&pair.at_a, &pair.at_b).await;
    let number = u8::try_from(a.number().0).unwrap();
    assert!(number < 0x80);
    // Datagrams of no link are dropped and counted.
    a.send_datagram(Bytes::from(vec![99, 1])).unwrap();
    a.send_datagram(Bytes::from(vec![number, 1, 2, 3])).unwrap();
    let event = next(&mut at_b).await;
    assert!(matches!(&event, LinkEvent::Datagram(body) if body[..] == [1, 2, 3]), "{event:?}");
    let limit = a.datagram_limit().unwrap();
    assert!(limit > 1000);
    let too_large = a.send_datagram(Bytes::from(vec![number; 65_000]));
    assert!(matches!(too_large, Err(DatagramError::TooLarge { limit: l }) if l >= limit));
    assert_eq!((a.stats().datagrams_sent, b.stats().datagrams_received), (2, 1));
    assert_eq!(pair.b.stats().traffic.datagrams_dropped, 1);
}

//! Two machines and whoever may sit between them.

use std::net::{IpAddr, Ipv4Addr};

use peerchannel_wire::{Features, Hello, HelloCredential, HelloReply, ReplyCredential};
use proptest::prelude::*;

use super::*;
use crate::Password;

const NOW: Duration = Duration::from_secs(1_000);
const ANN: NodeId = NodeId::from_bytes([0xa; 32]);
const BOB: NodeId = NodeId::from_bytes([0xb; 32]);
const MALLORY: NodeId = NodeId::from_bytes([0xe; 32]);
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn name(text: &str) -> MeshName {
    MeshName::new(text).unwrap()
}

fn open(mesh: &str) -> Admission {
    Admission::open(&name(mesh))
}

fn password(mesh: &str, word: &str) -> Admission {
    let word = Password::new(word).unwrap();
    Admission::password(StretchedPassword::danger_low_cost(&word, &name(mesh)).unwrap())
}

/// The exporter of a connection: the same function at both ends, and at no other connection.
fn exporter(connection: u8) -> impl Fn(&[u8]) -> Option<[u8; 32]> {
    move |context| Some(blake3::keyed_hash(&[connection; 32], context).into())
}

/// The opener's end.
struct Asking {
    me: NodeId,
    peer: NodeId,
    connection: u8,
    offer: Offer,
    attempt: u32,
}

impl Default for Asking {
    fn default() -> Self {
        Self { me: ANN, peer: BOB, connection: 1, offer: Offer::default(), attempt: 0 }
    }
}

impl Asking {
    fn start(&self, admission: &Admission) -> Opener {
        let exporter = exporter(self.connection);
        let context = Context { me: self.me, peer: self.peer, offer: self.offer, exporter: &exporter };
        Opener::new(NOW, &context, admission, self.attempt, [1; 32])
    }
}

/// The responder's end, with its gate.
struct Answering {
    me: NodeId,
    peer: NodeId,
    connection: u8,
    offer: Offer,
    meshes: Vec<Admission>,
    gate: Gate,
}

impl Answering {
    fn new(meshes: Vec<Admission>) -> Self {
        let (me, peer, connection, offer) = (BOB, ANN, 1, Offer::default());
        Self { me, peer, connection, offer, meshes, gate: Gate::new() }
    }

    fn start(&mut self) -> Responder {
        Responder::new(NOW, self.peer, LOCALHOST, &mut self.gate, [2; 32])
    }

    fn handle(&mut self, responder: &mut Responder, frame: &AdmissionFrame) {
        let exporter = exporter(self.connection);
        let context = Context { me: self.me, peer: self.peer, offer: self.offer, exporter: &exporter };
        let meshes: Vec<&Admission> = self.meshes.iter().collect();
        responder.handle(NOW, frame, &mut Reception { context, meshes: &meshes, gate: &mut self.gate });
    }
}

fn outputs(poll: impl FnMut() -> Option<Output>) -> (Vec<AdmissionFrame>, Option<Output>) {
    let (mut frames, mut end) = (Vec::new(), None);
    for output in std::iter::from_fn(poll) {
        assert!(end.is_none(), "something after the end: {output:?}");
        match output {
            Output::Send(frame) => frames.push(frame),
            Output::Admitted(_) | Output::Refused(_) => end = Some(output),
        }
    }
    (frames, end)
}

/// What came of it at both ends, and every frame in order.
struct Outcome {
    opener: Option<Output>,
    responder: Option<Output>,
    frames: Vec<AdmissionFrame>,
}

impl Outcome {
    fn admitted(&self) -> bool {
        matches!((self.opener, self.responder), (Some(Output::Admitted(a)), Some(Output::Admitted(b))) if a == b)
    }

    #[track_caller]
    fn refused(&self, reason: AdmissionRefusal) {
        for end in [self.opener, self.responder] {
            assert!(matches!(end, Some(Output::Refused(refused)) if refused.reason == reason), "{end:?}");
        }
    }
}

/// Runs an admission; `tamper` may replace each frame on its way.
fn run_with(
    asking: &Asking,
    admission: &Admission,
    answering: &mut Answering,
    mut tamper: impl FnMut(AdmissionFrame) -> AdmissionFrame,
) -> Outcome {
    let (mut opener, mut responder) = (asking.start(admission), answering.start());
    let mut result = Outcome { opener: None, responder: None, frames: Vec::new() };
    for _ in 0..5 {
        let (to_responder, end) = outputs(|| opener.poll_output());
        result.opener = result.opener.or(end);
        for frame in to_responder {
            result.frames.push(frame);
            answering.handle(&mut responder, &tamper(frame));
        }
        let (to_opener, end) = outputs(|| responder.poll_output());
        result.responder = result.responder.or(end);
        for frame in to_opener {
            result.frames.push(frame);
            opener.handle(&tamper(frame));
        }
    }
    result
}

fn run(asking: &Asking, admission: &Admission, answering: &mut Answering) -> Outcome {
    run_with(asking, admission, answering, |frame| frame)
}

#[test]
fn whoever_knows_the_name_is_admitted_to_an_open_mesh_in_one_round_trip() {
    let result = run(&Asking::default(), &open("m"), &mut Answering::new(vec![open("other"), open("m")]));
    assert!(result.admitted());
    let [AdmissionFrame::Hello(_), AdmissionFrame::HelloReply(_), AdmissionFrame::Admitted] =
        result.frames[..]
    else {
        panic!("{:?}", result.frames)
    };
}

#[test]
fn whoever_knows_the_password_is_admitted() {
    let mut answering = Answering::new(vec![open("m"), password("m", "word")]);
    let result = run(&Asking::default(), &password("m", "word"), &mut answering);
    assert!(result.admitted());
    let Some(Output::Admitted(admitted)) = result.opener else { panic!() };
    assert_eq!(admitted.mesh, *password("m", "x").mesh());
    assert_eq!(answering.gate.pending(), 0);
}

#[test]
fn a_wrong_password_is_refused_at_both_ends_and_neither_learns_a_proof() {
    let mut answering = Answering::new(vec![password("m", "right")]);
    let result = run(&Asking::default(), &password("m", "wrong"), &mut answering);
    result.refused(AdmissionRefusal::BadCredential);
    // The opener, who found out, gave no confirmation that the responder could try guesses on.
    assert!(!result.frames.iter().any(|frame| matches!(frame, AdmissionFrame::Confirm { .. })));
    // What the responder showed is no proof under the opener's key, so it cannot be reused.
    let again = run(&Asking::default(), &password("m", "wrong"), &mut answering);
    again.refused(AdmissionRefusal::BadCredential);
}

#[test]
fn meshes_of_one_name_under_different_credentials_do_not_mix() {
    let open_asks = run(&Asking::default(), &open("m"), &mut Answering::new(vec![password("m", "word")]));
    open_asks.refused(AdmissionRefusal::UnknownMesh);
    let password_asks = run(&Asking::default(), &password("m", "word"), &mut Answering::new(vec![open("m")]));
    password_asks.refused(AdmissionRefusal::UnknownMesh);
    let mut other = Answering::new(vec![password("n", "word")]);
    run(&Asking::default(), &password("m", "word"), &mut other).refused(AdmissionRefusal::UnknownMesh);
    assert!(other.gate.pending() == 0);
}

#[test]
fn a_relay_between_two_connections_fails() {
    // Mallory terminates both connections and passes frames on: the tag already differs.
    let asking = Asking { peer: MALLORY, connection: 1, ..Asking::default() };
    let mut answering =
        Answering { peer: MALLORY, connection: 2, ..Answering::new(vec![password("m", "word")]) };
    run(&asking, &password("m", "word"), &mut answering).refused(AdmissionRefusal::UnknownMesh);

    // Knowing the name, she makes the tag fit. The proof does not.
    let tag_exporter = exporter(2)(&crate::mesh_id::tag_context(0, &MALLORY)).unwrap();
    let tag = crate::mesh_tag(password("m", "word").mesh(), &tag_exporter);
    let fix = |frame| match frame {
        AdmissionFrame::Hello(hello) => AdmissionFrame::Hello(Hello { mesh_tag: tag, ..hello }),
        other => other,
    };
    let mut answering =
        Answering { peer: MALLORY, connection: 2, ..Answering::new(vec![password("m", "word")]) };
    run_with(&asking, &password("m", "word"), &mut answering, fix).refused(AdmissionRefusal::BadCredential);
}

#[test]
fn a_peer_under_another_id_on_the_same_connection_fails() {
    // As if the exporter did not cover the opener's key: the ids in the proof do.
    let tag_exporter = exporter(1)(&crate::mesh_id::tag_context(0, &MALLORY)).unwrap();
    let tag = crate::mesh_tag(password("m", "word").mesh(), &tag_exporter);
    let fix = |frame| match frame {
        AdmissionFrame::Hello(hello) => AdmissionFrame::Hello(Hello { mesh_tag: tag, ..hello }),
        other => other,
    };
    let mut answering = Answering { peer: MALLORY, ..Answering::new(vec![password("m", "word")]) };
    run_with(&Asking::default(), &password("m", "word"), &mut answering, fix)
        .refused(AdmissionRefusal::BadCredential);
}

#[test]
fn our_own_frames_sent_back_prove_nothing() {
    // Ann dials Mallory, who opens a stream to Ann on the same connection with what Ann said,
    // and answers Ann's first stream with what Ann answered on the second.
    let word = password("m", "word");
    let mut ann_asks = Asking { peer: MALLORY, ..Asking::default() }.start(&word);
    let mut ann_answers = Answering { me: ANN, peer: MALLORY, ..Answering::new(vec![word.clone()]) };
    let mut responder = ann_answers.start();
    let (frames, _) = outputs(|| ann_asks.poll_output());
    let AdmissionFrame::Hello(hello) = frames[0] else { panic!() };
    // As it is: the tag was made for Ann as the opener.
    ann_answers.handle(&mut responder, &AdmissionFrame::Hello(hello));
    let (_, end) = outputs(|| responder.poll_output());
    assert!(matches!(end, Some(Output::Refused(Refused { reason: AdmissionRefusal::UnknownMesh, .. }))));
    // With a tag of her own: the roles and ids in the proof are the wrong way round.
    let tag_exporter = exporter(1)(&crate::mesh_id::tag_context(0, &MALLORY)).unwrap();
    let mesh_tag = crate::mesh_tag(word.mesh(), &tag_exporter);
    let mut responder = ann_answers.start();
    ann_answers.handle(&mut responder, &AdmissionFrame::Hello(Hello { mesh_tag, ..hello }));
    let (frames, _) = outputs(|| responder.poll_output());
    ann_asks.handle(&frames[0]);
    let (frames, end) = outputs(|| ann_asks.poll_output());
    assert!(matches!(end, Some(Output::Refused(Refused { reason: AdmissionRefusal::BadCredential, .. }))));
    assert!(matches!(frames[..], [AdmissionFrame::Refused { .. }]), "no confirmation to pass on");
}

#[test]
fn an_echo_is_not_a_responder() {
    for admission in [open("m"), password("m", "word")] {
        let mut opener = Asking::default().start(&admission);
        let (frames, _) = outputs(|| opener.poll_output());
        opener.handle(&frames[0]);
        let (_, end) = outputs(|| opener.poll_output());
        assert!(matches!(end, Some(Output::Refused(Refused { reason: AdmissionRefusal::Malformed, .. }))));
    }
}

#[test]
fn a_changed_offer_or_choice_is_noticed() {
    let features = Offer { features: Features::from_bits(0b111), ..Offer::default() };
    let asking = Asking { offer: features, ..Asking::default() };
    let word = || password("m", "word");
    let mut answering = Answering { offer: features, ..Answering::new(vec![word()]) };
    let strip_offer = |frame| match frame {
        AdmissionFrame::Hello(hello) => {
            AdmissionFrame::Hello(Hello { features: Features::from_bits(0b1), ..hello })
        }
        other => other,
    };
    run_with(&asking, &word(), &mut answering, strip_offer).refused(AdmissionRefusal::BadCredential);
    let strip_choice = |frame| match frame {
        AdmissionFrame::HelloReply(reply) => {
            AdmissionFrame::HelloReply(HelloReply { features: Features::from_bits(0), ..reply })
        }
        other => other,
    };
    run_with(&asking, &word(), &mut answering, strip_choice).refused(AdmissionRefusal::BadCredential);
}

#[test]
fn versions_and_features_are_negotiated() {
    let range = |min, max| VersionRange::new(min, max).unwrap();
    for admission in [open("m"), password("m", "word")] {
        let asking = Asking {
            offer: Offer { versions: range(1, 4), features: Features::from_bits(0b1100) },
            ..Asking::default()
        };
        let offer = Offer { versions: range(2, 3), features: Features::from_bits(0b0110) };
        let mut answering = Answering { offer, ..Answering::new(vec![admission.clone()]) };
        let result = run(&asking, &admission, &mut answering);
        let Some(Output::Admitted(admitted)) = result.opener else { panic!() };
        assert_eq!((admitted.version, admitted.features), (3, Features::from_bits(0b0100)));
        assert_eq!(result.opener, result.responder);

        let offer = Offer { versions: range(5, 6), features: Features::from_bits(0) };
        let mut answering = Answering { offer, ..Answering::new(vec![admission.clone()]) };
        run(&asking, &admission, &mut answering).refused(AdmissionRefusal::Version);
    }
}

#[test]
fn a_responder_cannot_choose_what_was_not_offered() {
    for (version, features) in [(2, Features::NONE), (1, Features::from_bits(1 << 60))] {
        let mut opener = Asking::default().start(&open("m"));
        let _ = outputs(|| opener.poll_output());
        let credential = ReplyCredential::Open;
        opener.handle(&AdmissionFrame::HelloReply(HelloReply { version, features, credential }));
        let (_, end) = outputs(|| opener.poll_output());
        assert!(matches!(end, Some(Output::Refused(Refused { reason: AdmissionRefusal::Malformed, .. }))));
    }
}

#[test]
fn a_node_does_not_admit_itself() {
    let mut opener = Asking { peer: ANN, ..Asking::default() }.start(&open("m"));
    let (frames, end) = outputs(|| opener.poll_output());
    assert!(frames.is_empty());
    assert!(matches!(end, Some(Output::Refused(Refused { reason: AdmissionRefusal::Duplicate, .. }))));
    let mut answering = Answering { peer: BOB, ..Answering::new(vec![open("m")]) };
    let asking = Asking { me: BOB, peer: ANN, ..Asking::default() };
    run(&asking, &open("m"), &mut answering).refused(AdmissionRefusal::Duplicate);
}

#[test]
fn silence_ends_at_the_deadline_and_counts_against_the_silent() {
    let mut opener = Asking::default().start(&open("m"));
    let _ = outputs(|| opener.poll_output());
    let deadline = opener.poll_timeout().unwrap();
    assert_eq!(deadline, NOW + ADMISSION_DEADLINE);
    opener.handle_timeout(deadline - Duration::from_nanos(1));
    assert!(opener.poll_output().is_none());
    opener.handle_timeout(deadline);
    let (frames, end) = outputs(|| opener.poll_output());
    assert_eq!(frames.len(), 1);
    assert!(matches!(end, Some(Output::Refused(Refused { reason: AdmissionRefusal::TimedOut, .. }))));
    assert_eq!(opener.poll_timeout(), None);

    let mut gate = Gate::new();
    let mut responder = Responder::new(NOW, ANN, LOCALHOST, &mut gate, [1; 32]);
    responder.handle_timeout(responder.poll_timeout().unwrap(), &mut gate);
    let (_, end) = outputs(|| responder.poll_output());
    assert!(matches!(end, Some(Output::Refused(Refused { reason: AdmissionRefusal::TimedOut, .. }))));
    assert_eq!(gate.pending(), 0);
}

#[test]
fn guesses_that_are_abandoned_half_way_are_counted() {
    // Whoever has our confirmation has had its guess, even if it hangs up then.
    let mut answering = Answering::new(vec![password("m", "right")]);
    let mut waits = None;
    for attempt in 0..100 {
        let mut opener = Asking { attempt, ..Asking::default() }.start(&password("m", "guess"));
        let mut responder = answering.start();
        let (frames, _) = outputs(|| opener.poll_output());
        answering.handle(&mut responder, &frames[0]);
        let (frames, end) = outputs(|| responder.poll_output());
        if let Some(Output::Refused(refused)) = end {
            assert_eq!(refused.reason, AdmissionRefusal::Busy);
            waits = Some((attempt, refused.retry_after, frames[0]));
            break;
        }
        responder.close(NOW, &mut answering.gate);
    }
    let retry_after = Some(Duration::from_secs(1));
    let frame = AdmissionFrame::Refused { reason: AdmissionRefusal::Busy, retry_after };
    assert_eq!(waits, Some((17, retry_after, frame)));
    // The open mesh next door is not affected.
    answering.meshes.push(open("m"));
    assert!(run(&Asking::default(), &open("m"), &mut answering).admitted());
}

#[test]
fn silence_and_garbage_count_as_failures() {
    let misbehave: [fn(&mut Responder, &mut Gate); 2] = [
        |responder, gate| responder.handle_timeout(NOW + ADMISSION_DEADLINE, gate),
        |responder, gate| responder.handle_malformed(NOW, gate),
    ];
    for misbehave in misbehave {
        let mut answering = Answering::new(vec![password("m", "word")]);
        for _ in 0..17 {
            misbehave(&mut answering.start(), &mut answering.gate);
        }
        run(&Asking::default(), &password("m", "word"), &mut answering).refused(AdmissionRefusal::Busy);
    }
}

#[test]
fn losing_the_connection_before_the_hello_is_nobodys_fault() {
    let mut answering = Answering::new(vec![password("m", "word")]);
    for _ in 0..100 {
        answering.start().close(NOW, &mut answering.gate);
    }
    assert!(run(&Asking::default(), &password("m", "word"), &mut answering).admitted());
}

#[test]
fn a_full_house_says_when_to_come_back() {
    let mut gate = Gate::new();
    let held: Vec<_> = (0..200).map(|_| Responder::new(NOW, ANN, LOCALHOST, &mut gate, [1; 32])).collect();
    assert_eq!(held.iter().filter(|responder| !responder.is_over()).count(), 32);
    let mut refused = Responder::new(NOW, ANN, LOCALHOST, &mut gate, [1; 32]);
    let (frames, end) = outputs(|| refused.poll_output());
    assert!(matches!(
        frames[..],
        [AdmissionFrame::Refused { reason: AdmissionRefusal::Busy, retry_after: Some(_) }]
    ));
    assert!(matches!(end, Some(Output::Refused(_))));
}

#[test]
fn a_connection_that_cannot_export_ends_as_busy() {
    let none = |_: &[u8]| None;
    let context = Context { me: ANN, peer: BOB, offer: Offer::default(), exporter: &none };
    for admission in [open("m"), password("m", "word")] {
        let mut opener = Opener::new(NOW, &context, &admission, 0, [1; 32]);
        let (frames, end) = outputs(|| opener.poll_output());
        assert!(frames.is_empty() && matches!(end, Some(Output::Refused(_))));
    }
}

#[test]
fn the_same_seeds_replay_the_same_admission() {
    let frames = || {
        let mut answering = Answering::new(vec![password("m", "word")]);
        run(&Asking::default(), &password("m", "word"), &mut answering).frames
    };
    assert_eq!(frames(), frames());
}

#[test]
fn debug_shows_no_secret() {
    let word = password("m", "word");
    let (opener, mut answering) = (Asking::default().start(&word), Answering::new(vec![word.clone()]));
    let responder = answering.start();
    let text = format!("{word:?} {opener:?} {responder:?}");
    assert!(text.contains("AwaitReply") && text.contains("AwaitHello") && !text.contains("[2, 2"), "{text}");
}

fn any_frame() -> impl Strategy<Value = AdmissionFrame> {
    let share = proptest::sample::select(vec![[0; 32], [0xff; 32], [9; 32]]);
    prop_oneof![
        (any::<u64>(), any::<[u8; 32]>(), any::<bool>(), share.clone()).prop_map(
            |(features, mesh_tag, open, share)| {
                AdmissionFrame::Hello(Hello {
                    versions: VersionRange::SUPPORTED,
                    features: Features::from_bits(features),
                    mesh_tag,
                    attempt: 0,
                    credential: if open {
                        HelloCredential::Open
                    } else {
                        HelloCredential::Password { share }
                    },
                })
            }
        ),
        (0u64..2, any::<bool>(), share.clone()).prop_map(|(features, open, share)| {
            let password = ReplyCredential::Password { share, confirmation: share };
            let credential = if open { ReplyCredential::Open } else { password };
            AdmissionFrame::HelloReply(HelloReply {
                version: 1,
                features: Features::from_bits(features),
                credential,
            })
        }),
        share.prop_map(|confirmation| AdmissionFrame::Confirm { confirmation }),
        Just(AdmissionFrame::Admitted),
        Just(AdmissionFrame::Refused { reason: AdmissionRefusal::Busy, retry_after: None }),
    ]
}

proptest! {
    #[test]
    fn frames_out_of_nowhere_never_admit_anyone_with_a_password(
        frames in proptest::collection::vec(any_frame(), 0..8),
        honest_at in 0usize..8,
    ) {
        let word = password("m", "word");
        let mut opener = Asking::default().start(&word);
        let mut answering = Answering::new(vec![word]);
        let mut responder = answering.start();
        let (hello, _) = outputs(|| opener.poll_output());
        let (mut opener_ends, mut responder_ends) = (0, 0);
        for (index, frame) in frames.iter().enumerate() {
            opener.handle(frame);
            // Somewhere in between, a hello that fits: it must not help the others.
            answering.handle(&mut responder, if index == honest_at { &hello[0] } else { frame });
            for output in std::iter::from_fn(|| opener.poll_output()) {
                prop_assert!(!matches!(output, Output::Admitted(_)));
                opener_ends += u32::from(matches!(output, Output::Refused(_)));
            }
            for output in std::iter::from_fn(|| responder.poll_output()) {
                prop_assert!(!matches!(output, Output::Admitted(_)));
                responder_ends += u32::from(matches!(output, Output::Refused(_)));
            }
        }
        prop_assert!(opener_ends <= 1 && responder_ends <= 1);
        prop_assert_eq!(opener_ends == 1, opener.is_over());
        prop_assert_eq!(responder.is_over(), answering.gate.pending() == 0);
    }

    #[test]
    fn any_flipped_bit_of_any_frame_prevents_admission_with_a_password(which in 0usize..3, bit in any::<usize>()) {
        let word = password("m", "word");
        let mut count = 0;
        let tamper = |frame: AdmissionFrame| {
            count += 1;
            if count - 1 != which {
                return frame;
            }
            let encoded = frame.encode();
            let mut decoder = peerchannel_wire::FrameDecoder::new(1024);
            decoder.push(&encoded);
            let mut body = decoder.next_frame().unwrap().unwrap().to_vec();
            let bit = bit % (body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
            // What is not a frame any more is handled as malformed, as the driver does.
            AdmissionFrame::decode(body.into()).unwrap_or(AdmissionFrame::Refused {
                reason: AdmissionRefusal::Malformed,
                retry_after: None,
            })
        };
        let result = run_with(&Asking::default(), &word, &mut Answering::new(vec![word.clone()]), tamper);
        prop_assert!(!matches!(result.responder, Some(Output::Admitted(_))), "{:?}", result.frames);
    }
}

//! The draft's vectors, and that every part of the binding matters.
//!
//! Covered of draft-irtf-cfrg-cpace-21 appendix B.3: generator string and encoded generator
//! (B.3.1), Ya and Yb from the given scalars (B.3.2, B.3.3; the crate takes its scalar from
//! 64 bytes of randomness reduced modulo the group order, so a scalar followed by 32 zeros is
//! that scalar), K through `derive_isk` (B.3.4), transcript and ISK of initiator-responder
//! mode by both parties' own code (B.3.5), and the invalid shares (B.3.11). Not covered: the
//! symmetric mode, which this protocol does not use.

use std::convert::Infallible;

use pakery_core::crypto::CpaceGroup as _;
use pakery_cpace::generator::{calculate_generator, generator_string};
use pakery_cpace::transcript::{derive_isk, transcript_ir};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{SeedableRng as _, TryCryptoRng, TryRng};

use super::*;

const PRS: &[u8] = b"Password";
const CI: &[u8] = b"\x0bA_initiator\x0bB_responder";
const SID: &str = "7e4b4791d6a8ef019b936c79fb7f2c57";
const SCALAR_A: &str = "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08";
const SCALAR_B: &str = "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d";
const SHARE_A: &str = "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157";
const SHARE_B: &str = "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258";
const SECRET_POINT: &str = "80b69a8a76457ab6a4d7f887a4bf6b55a2f80ac19c333f917a05fc9887c8b40f";
const ISK: &str = "b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd\
                   2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447";

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn unhex32(text: &str) -> [u8; 32] {
    unhex(text).try_into().unwrap()
}

/// "Random" bytes that reduce to a given scalar.
struct Scalar(Vec<u8>);

impl Scalar {
    fn new(hex: &str) -> Self {
        let mut wide = unhex(hex);
        wide.resize(64, 0);
        Self(wide)
    }
}

impl TryRng for Scalar {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("the crate draws its scalar as bytes")
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("the crate draws its scalar as bytes")
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        dst.copy_from_slice(&self.0);
        Ok(())
    }
}

impl TryCryptoRng for Scalar {}

#[test]
fn the_generator_is_the_drafts() {
    let string = generator_string::<Suite>(PRS, CI, &unhex(SID));
    let mut expected = unhex("11435061636552697374726574746f3235350850617373776f726464");
    expected.resize(expected.len() + 100, 0);
    expected.extend(unhex(
        "180b415f696e69746961746f720b425f726573706f6e646572107e4b4791d6a8ef019b936c79fb7f2c57",
    ));
    assert_eq!(expected.len(), 170);
    assert_eq!(string, expected);
    let Ok(generator) = calculate_generator::<Suite>(PRS, CI, &unhex(SID)) else { panic!() };
    assert_eq!(
        generator.to_bytes(),
        unhex("222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56")
    );
}

#[test]
fn both_parties_compute_the_drafts_shares_and_isk() {
    let (ya, opener) =
        CpaceInitiator::<Suite>::start(PRS, CI, &unhex(SID), b"ADa", &mut Scalar::new(SCALAR_A)).unwrap();
    assert_eq!(ya, unhex(SHARE_A));
    let (yb, responder) = CpaceResponder::<Suite>::respond(
        &ya,
        PRS,
        CI,
        &unhex(SID),
        b"ADa",
        b"ADb",
        CpaceMode::InitiatorResponder,
        &mut Scalar::new(SCALAR_B),
    )
    .unwrap();
    assert_eq!(yb, unhex(SHARE_B));
    assert_eq!(responder.isk.as_bytes(), unhex(ISK));
    let opener = opener.finish(&yb, b"ADb", CpaceMode::InitiatorResponder).unwrap();
    assert_eq!(opener.isk.as_bytes(), unhex(ISK));
}

#[test]
fn the_isk_of_the_drafts_secret_point_is_the_drafts() {
    let (ya, yb) = (unhex(SHARE_A), unhex(SHARE_B));
    let transcript = transcript_ir(&ya, b"ADa", &yb, b"ADb");
    assert_eq!(transcript.len(), 74);
    let mode = CpaceMode::InitiatorResponder;
    let isk = derive_isk::<Suite>(&unhex(SID), &unhex(SECRET_POINT), &ya, b"ADa", &yb, b"ADb", mode);
    assert_eq!(isk.as_bytes(), unhex(ISK));
}

#[test]
fn invalid_shares_and_the_identity_are_refused() {
    let side = Side::default();
    let invalid = unhex32("2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c");
    for share in [invalid, [0; 32], [0xff; 32]] {
        assert!(respond(&side.binding(), &side.password, &share, &mut rng(1)).is_err());
        let (_, opener) = OpenerPake::start(&side.binding(), &side.password, &mut rng(2)).unwrap();
        assert!(opener.finish(&share).is_err());
    }
}

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

/// One side's view of an exchange.
#[derive(Clone)]
struct Side {
    mesh: MeshId,
    opener: NodeId,
    responder: NodeId,
    exporter: [u8; 32],
    password: [u8; 32],
}

impl Default for Side {
    fn default() -> Self {
        Self {
            mesh: MeshId::from_bytes([1; 32]),
            opener: NodeId::from_bytes([2; 32]),
            responder: NodeId::from_bytes([3; 32]),
            exporter: [4; 32],
            password: [5; 32],
        }
    }
}

impl Side {
    fn binding(&self) -> Binding<'_> {
        Binding {
            mesh: &self.mesh,
            opener: &self.opener,
            responder: &self.responder,
            exporter: &self.exporter,
        }
    }
}

/// Whether opener and responder, each with its own view, derive the same key.
fn agree(opener: &Side, responder: &Side) -> bool {
    let (share, pake) = OpenerPake::start(&opener.binding(), &opener.password, &mut rng(1)).unwrap();
    let (reply, theirs) = respond(&responder.binding(), &responder.password, &share, &mut rng(2)).unwrap();
    let ours = pake.finish(&reply).unwrap();
    let [a, b] = [Role::Opener, Role::Responder]
        .map(|role| ours.confirms(role, b"said", &theirs.confirmation(role, b"said")));
    assert_eq!(a, b);
    a
}

#[test]
fn equal_views_agree() {
    assert!(agree(&Side::default(), &Side::default()));
}

#[test]
fn every_part_of_the_binding_matters() {
    let side = Side::default;
    for (what, other) in [
        ("password", Side { password: [9; 32], ..side() }),
        ("mesh", Side { mesh: MeshId::from_bytes([9; 32]), ..side() }),
        ("connection", Side { exporter: [9; 32], ..side() }),
        ("opener", Side { opener: NodeId::from_bytes([9; 32]), ..side() }),
        ("responder", Side { responder: NodeId::from_bytes([9; 32]), ..side() }),
        ("roles", Side { opener: side().responder, responder: side().opener, ..side() }),
    ] {
        assert!(!agree(&side(), &other), "{what} must matter");
    }
}

#[test]
fn a_confirmation_is_of_one_role_and_one_transcript() {
    let (side, mut rng_a, mut rng_b) = (Side::default(), rng(1), rng(2));
    let (share, _) = OpenerPake::start(&side.binding(), &side.password, &mut rng_a).unwrap();
    let (_, key) = respond(&side.binding(), &side.password, &share, &mut rng_b).unwrap();
    let proof = key.confirmation(Role::Responder, b"said");
    assert!(key.confirms(Role::Responder, b"said", &proof));
    assert!(!key.confirms(Role::Opener, b"said", &proof));
    assert!(!key.confirms(Role::Responder, b"sad", &proof));
}

proptest! {
    #[test]
    fn arbitrary_shares_never_panic(share in any::<[u8; 32]>()) {
        let side = Side::default();
        let _ = respond(&side.binding(), &side.password, &share, &mut rng(1));
        let (_, opener) = OpenerPake::start(&side.binding(), &side.password, &mut rng(2)).unwrap();
        let _ = opener.finish(&share);
    }
}

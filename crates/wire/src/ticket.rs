//! Tickets: invitations that say where to find a mesh.
//!
//! A ticket names a mesh and a few of its nodes with their addresses and is signed by the
//! node that made it. It has no grant: the mesh's credential is still needed
//! (docs/protocol.md section 2). Its text form begins with `pc1`, is all lower-case letters
//! and digits, and holds a checksum, so that a mistyped ticket is told from a forged one.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::{Encoding, Specification};
use prost::Message as _;
use thiserror::Error;

use crate::address::NodeAddress;
use crate::error::{DecodeError, limit};
use crate::generated as proto;
use crate::id::{NodeId, Signature};
use crate::limits::{TICKET_NODES_MAX, TICKET_TEXT_MAX};
use crate::name::MeshName;
use crate::transcript::Transcript;

const CONTEXT: &str = "peerchannel/1 ticket";

/// What every ticket of any version begins with, followed by its version.
const PREFIX: &str = "pc";
const VERSION: u32 = 1;

/// Four bytes of BLAKE3: one mistyped ticket in four billion goes unnoticed, and then the
/// signature finds it.
const CHECKSUM_LEN: usize = 4;

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketFacts {
    /// The mesh.
    pub mesh: MeshName,
    /// Nodes to dial: 1 to 8.
    pub nodes: Vec<NodeAddress>,
    /// The node that made and signs the ticket.
    pub inviter: NodeId,
    /// When it ends, in milliseconds since 1970 UTC; `None` = never.
    pub expires_ms: Option<u64>,
}

impl TicketFacts {
    /// Encodes the facts: what the inviter signs.
    ///
    /// # Errors
    /// [`TicketError`] if the ticket would name no node or more than 8.
    pub fn unsigned(self) -> Result<UnsignedTicket, TicketError> {
        if self.nodes.is_empty() {
            return Err(TicketError::NoNodes);
        }
        if self.nodes.len() > TICKET_NODES_MAX {
            return Err(TicketError::TooManyNodes(self.nodes.len()));
        }
        let encoded = proto::TicketContent {
            version: VERSION,
            mesh_name: self.mesh.as_str().to_owned(),
            nodes: self.nodes.iter().map(NodeAddress::to_proto).collect(),
            inviter: Bytes::copy_from_slice(self.inviter.as_bytes()),
            expires_ms: self.expires_ms.unwrap_or(0),
        }
        .encode_to_vec();
        Ok(UnsignedTicket { facts: self, encoded: encoded.into() })
    }
}

/// Why a ticket cannot be made: the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Nobody to dial.
    #[error("a ticket needs at least one node with an address that can be dialed")]
    NoNodes,
    /// Too many nodes to paste.
    #[error("a ticket names at most 8 nodes, these are {0}: choose the ones most likely to be up")]
    TooManyNodes(usize),
}

/// A ticket that is not signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedTicket {
    facts: TicketFacts,
    encoded: Bytes,
}

impl UnsignedTicket {
    /// What the inviter signs.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        transcript(&self.encoded)
    }

    /// Completes the ticket.
    #[must_use]
    pub fn sign(self, signature: Signature) -> Ticket {
        Ticket { facts: self.facts, encoded: self.encoded, signature }
    }
}

/// A signed invitation. Parsed from text, its checksum is right and its facts are valid;
/// whether the signature is the inviter's is for the security crate to find out, from
/// [`transcript`](Self::transcript) and [`signature`](Self::signature).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    facts: TicketFacts,
    encoded: Bytes,
    signature: Signature,
}

impl Ticket {
    /// What it says; to be believed once the signature verified.
    #[must_use]
    pub const fn facts(&self) -> &TicketFacts {
        &self.facts
    }

    /// The signature by the inviter's key.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What the signature must cover.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        transcript(&self.encoded)
    }

    /// Whether it has ended by a clock that shows `now_ms` (milliseconds since 1970 UTC).
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.facts.expires_ms.is_some_and(|expires| expires <= now_ms)
    }

    fn decode(bytes: Bytes) -> Result<Self, ParseTicketError> {
        let message = proto::Ticket::decode(bytes).map_err(DecodeError::from)?;
        let content = proto::TicketContent::decode(message.content.clone()).map_err(DecodeError::from)?;
        if content.version != VERSION {
            return Err(ParseTicketError::Version(content.version.to_string()));
        }
        Ok(Self {
            facts: facts_from_proto(&content)?,
            encoded: message.content,
            signature: Signature::decode(&message.signature)?,
        })
    }
}

fn facts_from_proto(content: &proto::TicketContent) -> Result<TicketFacts, DecodeError> {
    limit("nodes", content.nodes.len(), TICKET_NODES_MAX)?;
    if content.nodes.is_empty() {
        return Err(DecodeError::Missing("node"));
    }
    let nodes: Result<Vec<_>, _> = content.nodes.iter().map(NodeAddress::from_proto).collect();
    Ok(TicketFacts {
        mesh: MeshName::new(&content.mesh_name)
            .map_err(|_| DecodeError::Invalid { field: "mesh name", why: "not a valid mesh name" })?,
        nodes: nodes?,
        inviter: NodeId::decode("inviter", &content.inviter)?,
        expires_ms: (content.expires_ms != 0).then_some(content.expires_ms),
    })
}

/// The text form: `pc1`, then base32 (RFC 4648, lower case, no padding) of the encoded
/// ticket and a checksum.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = proto::Ticket {
            content: self.encoded.clone(),
            signature: Bytes::copy_from_slice(self.signature.as_bytes()),
        }
        .encode_to_vec();
        let sum = checksum(&body);
        let bytes = [&body[..], &sum[..]].concat();
        write!(f, "{PREFIX}{VERSION}{}", BASE32.encode_display(&bytes))
    }
}

/// A text that is not a ticket this version can use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseTicketError {
    /// It does not begin with `pc` and a version.
    #[error("a ticket begins with \"pc1\", this text with {0:?}: paste the whole ticket")]
    Prefix(String),
    /// Made by another version of the protocol.
    #[error("the ticket has version {0}, this program knows version 1: update it, or ask for a new ticket")]
    Version(String),
    /// A character that no ticket contains.
    #[error("the ticket is damaged: {character:?} at position {position} cannot be in a ticket")]
    Character {
        /// The character.
        character: char,
        /// Where it stands, counted in characters from 1.
        position: usize,
    },
    /// The checksum does not match: mistyped or cut off.
    #[error("the ticket is damaged: a character was mistyped or is missing; copy it again")]
    Checksum,
    /// Longer than any ticket.
    #[error("a ticket has at most {TICKET_TEXT_MAX} characters, this text has {0}")]
    TooLong(usize),
    /// Intact, but what it says is not valid: a fault of the program that made it.
    #[error("the ticket is intact but not valid: {0}")]
    Invalid(#[from] DecodeError),
}

impl FromStr for Ticket {
    type Err = ParseTicketError;

    /// White space anywhere is ignored (mail programs break lines), and so is case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TICKET_TEXT_MAX {
            return Err(ParseTicketError::TooLong(text.len()));
        }
        let not_a_ticket = || ParseTicketError::Prefix(text.trim().chars().take(8).collect());
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let head = compact.get(..PREFIX.len() + 1).ok_or_else(not_a_ticket)?.to_ascii_lowercase();
        let version = head.strip_prefix(PREFIX).ok_or_else(not_a_ticket)?;
        if !version.bytes().all(|b| b.is_ascii_digit()) {
            return Err(not_a_ticket());
        }
        if version != "1" {
            return Err(ParseTicketError::Version(version.to_owned()));
        }
        let coded = &compact[head.len()..];
        let mut rest = text.chars().enumerate().filter(|(_, c)| !c.is_whitespace()).skip(head.len());
        if let Some((index, character)) = rest.find(|(_, c)| !is_base32(*c)) {
            return Err(ParseTicketError::Character { character, position: index + 1 });
        }
        let bytes = BASE32.decode(coded.as_bytes()).map_err(|_| ParseTicketError::Checksum)?;
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(ParseTicketError::Checksum)?;
        if *sum != checksum(body) {
            return Err(ParseTicketError::Checksum);
        }
        Self::decode(Bytes::copy_from_slice(body))
    }
}

/// Base32 of RFC 4648 in lower case, without padding; upper case is read as lower case.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.translate.from.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    specification.translate.to.push_str("abcdefghijklmnopqrstuvwxyz");
    #[expect(clippy::expect_used, reason = "a constant, checked by every test here")]
    specification.encoding().expect("the alphabet has 32 different symbols")
});

const fn is_base32(character: char) -> bool {
    character.is_ascii_alphabetic() || matches!(character, '2'..='7')
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = blake3::derive_key("peerchannel/1 ticket checksum", body);
    std::array::from_fn(|i| hash[i])
}

fn transcript(encoded: &[u8]) -> Transcript {
    // No mesh id: it depends on the kind of credential, which the inviter need not know.
    let mut transcript = Transcript::new(CONTEXT, None);
    transcript.part(encoded);
    transcript
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    fn node(byte: u8) -> NodeAddress {
        let addresses = ["192.0.2.7:4000", "[2001:db8::7]:4000"].map(|a| a.parse::<SocketAddr>().unwrap());
        NodeAddress::new(NodeId::from_bytes([byte; 32]), addresses).unwrap()
    }

    fn facts() -> TicketFacts {
        TicketFacts {
            mesh: MeshName::new("kitchen").unwrap(),
            nodes: vec![node(1), node(2)],
            inviter: NodeId::from_bytes([1; 32]),
            expires_ms: Some(1_800_000_000_000),
        }
    }

    fn ticket() -> Ticket {
        facts().unsigned().unwrap().sign(Signature::from_bytes([7; 64]))
    }

    #[test]
    fn it_round_trips_as_text() {
        let text = ticket().to_string();
        assert!(text.starts_with("pc1"), "{text}");
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{text}");
        assert_eq!(text.parse(), Ok(ticket()));
        assert_eq!(ticket().transcript(), facts().unsigned().unwrap().transcript());
    }

    #[test]
    fn case_and_white_space_do_not_matter() {
        let text = ticket().to_string();
        let (a, b) = text.split_at(40);
        assert_eq!(format!("  {a}\r\n  {b}\n").parse(), Ok(ticket()));
        assert_eq!(text.to_uppercase().parse(), Ok(ticket()));
    }

    #[test]
    fn errors_say_what_is_wrong_with_the_text() {
        let text = ticket().to_string();
        let check = |text: &str, error: ParseTicketError| {
            assert_eq!(text.parse::<Ticket>(), Err(error), "{text}");
        };
        check("", ParseTicketError::Prefix(String::new()));
        check("pc", ParseTicketError::Prefix("pc".into()));
        check("hello world", ParseTicketError::Prefix("hello wo".into()));
        check("pcé", ParseTicketError::Prefix("pcé".into()));
        check("pc1", ParseTicketError::Checksum);
        check(&text.replacen("pc1", "pc2", 1), ParseTicketError::Version("2".into()));
        check(&text.replacen("pc1", "pc1 0", 1), ParseTicketError::Character { character: '0', position: 5 });
        check(&text[..text.len() - 1], ParseTicketError::Checksum);
        check(&"a".repeat(TICKET_TEXT_MAX + 1), ParseTicketError::TooLong(TICKET_TEXT_MAX + 1));
    }

    #[test]
    fn a_ticket_of_a_later_version_is_named_as_such() {
        let content = proto::TicketContent { version: 2, ..Default::default() }.encode_to_vec();
        let body = proto::Ticket { content: content.into(), signature: Bytes::new() }.encode_to_vec();
        assert_eq!(Ticket::decode(body.into()), Err(ParseTicketError::Version("2".into())));
    }

    #[test]
    fn a_ticket_names_one_to_eight_nodes() {
        let none = TicketFacts { nodes: vec![], ..facts() };
        assert_eq!(none.unsigned(), Err(TicketError::NoNodes));
        let many = TicketFacts { nodes: vec![node(1); 9], ..facts() };
        assert_eq!(many.unsigned(), Err(TicketError::TooManyNodes(9)));
        let content = proto::TicketContent {
            nodes: vec![node(1).to_proto(); 9],
            mesh_name: "kitchen".into(),
            ..Default::default()
        };
        let error = DecodeError::TooLong { field: "nodes", length: 9, limit: 8 };
        assert_eq!(facts_from_proto(&content), Err(error));
    }

    #[test]
    fn the_largest_ticket_fits_its_limit() {
        let addresses = (1..=16).map(|port| SocketAddr::from(([0x20; 16], 60_000 + port)));
        let node = NodeAddress::new(NodeId::from_bytes([9; 32]), addresses).unwrap();
        let facts = TicketFacts {
            mesh: MeshName::new(&"m".repeat(190)).unwrap(),
            nodes: vec![node; TICKET_NODES_MAX],
            inviter: NodeId::from_bytes([1; 32]),
            expires_ms: Some(u64::MAX),
        };
        let ticket = facts.unsigned().unwrap().sign(Signature::from_bytes([7; 64]));
        let text = ticket.to_string();
        assert!(text.len() <= TICKET_TEXT_MAX, "{}", text.len());
        assert_eq!(text.parse(), Ok(ticket));
    }

    #[test]
    fn it_expires_at_its_time() {
        assert!(!ticket().is_expired(1_799_999_999_999));
        assert!(ticket().is_expired(1_800_000_000_000));
        let forever = TicketFacts { expires_ms: None, ..facts() };
        let forever = forever.unsigned().unwrap().sign(Signature::from_bytes([0; 64]));
        assert!(!forever.is_expired(u64::MAX));
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_always_noticed(at: prop::sample::Index, other in "[a-z2-7]") {
            let text = ticket().to_string();
            let index = at.index(text.len());
            let mut damaged = text.clone();
            damaged.replace_range(index..=index, &other);
            prop_assume!(damaged != text);
            prop_assert!(damaged.parse::<Ticket>().is_err());
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}", tail in "[a-z2-7]{0,200}") {
            let _ = text.parse::<Ticket>();
            let _ = format!("pc1{tail}").parse::<Ticket>();
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Ticket::decode(bytes.into());
        }
    }
}

//! The JSON lines of `peerchannel node --json`: what stands on stdout, field by field.
//!
//! This is a contract with scripts: fields may be added, never renamed. docs/json.md explains
//! each of them, and `documented` sees to it that it names those of this file. Reasons are the
//! short words of `words`; the sentence for people is in `detail`.

#[cfg(test)]
mod documented;
mod words;

use std::net::SocketAddr;

use data_encoding::BASE64;
use peerchannel::{
    Direct, Epoch, Gap, Incoming, IncomingDirect, MemberInfo, MeshEvent, MeshSize, MeshStats, Message,
    neighbor_loss_text,
};
use serde::Serialize;
use serde_json::Value;

pub(crate) use words::{
    direct_error_word, direct_reason_word, publish_error_word, publish_reason_word, status_word,
};
use words::{gap_word, member_loss_word, neighbor_loss_cause, neighbor_loss_word, refusal_word};

/// One line on stdout.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line {
    /// The node listens.
    Listening { node: String, addr: SocketAddr, mesh: String, epoch: u64 },
    /// The first neighbor is up.
    Online,
    /// The last neighbor is gone.
    Offline,
    /// Nobody was found since the start. Told once; the node goes on looking.
    Alone { lasted_ms: u64, detail: String },
    /// A neighbor more.
    NeighborUp { node: String, addr: SocketAddr },
    /// A neighbor less.
    NeighborDown {
        node: String,
        reason: &'static str,
        // Why a link was ended; one that was lost has none.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<&'static str>,
        detail: String,
    },
    /// One node did not take the other; `inbound` where this node was the one that refused.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        addr: Option<SocketAddr>,
        reason: &'static str,
        detail: String,
        #[serde(skip_serializing_if = "is_false")]
        inbound: bool,
    },
    /// Nobody answers at an address.
    Unreachable {
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        addr: Option<SocketAddr>,
        detail: String,
    },
    /// A resolver does not answer.
    ResolverFailed { resolver: String, detail: String },
    /// It answers again.
    ResolverRecovered { resolver: String },
    /// The node did not run for a while: sleep, or a stopped process.
    Paused { lasted_ms: u64 },
    /// The machine no longer has the address this node listens at: nobody reaches it.
    ListenAddressLost { addr: SocketAddr, detail: String },
    /// The machine's network changed; where the node can be dialed now.
    NetworkChanged { addrs: Vec<SocketAddr> },
    /// A member more.
    MemberUp { node: String, name: String, epoch: u64 },
    /// A member says something new of itself.
    MemberChanged {
        node: String,
        name: String,
        // Always there: false is how the end of a break is told.
        suspended: bool,
        #[serde(flatten)]
        metadata: Option<Metadata>,
    },
    /// `members` tells of everybody from here on.
    MembersKnown { members: usize, complete: bool },
    /// A member less.
    MemberDown { node: String, name: String, reason: &'static str },
    /// A message.
    Message(MessageLine),
    /// A direct message.
    Direct {
        from: String,
        name: String,
        #[serde(flatten)]
        body: Body,
    },
    /// Messages that will never come.
    Gap {
        channel: String,
        from: String,
        name: String,
        epoch: u64,
        first: u64,
        last: u64,
        reason: &'static str,
    },
    /// Own messages that no neighbor acknowledged before the mesh was left: they may be lost.
    Uncommitted { channel: String, epoch: u64, first: u64, last: u64 },
    /// Read too slowly.
    Lagged { missed: u64, what: &'static str },
    /// An own message was accepted.
    Published {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
        channel: String,
        epoch: u64,
        seq: u64,
        // Each lane counts for itself.
        lane: &'static str,
        // No neighbor has it yet: this node is offline.
        #[serde(skip_serializing_if = "is_false")]
        held: bool,
        // This node's own filter kept it here: it has no number, and nobody else gets it.
        #[serde(skip_serializing_if = "is_false")]
        filtered: bool,
    },
    /// An own direct message arrived.
    DirectSent {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
        to: String,
    },
    /// A command, or this node, could not do something.
    Error {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
        error: &'static str,
        // The cause, as narrow as it is known: `error` where that says it all.
        reason: &'static str,
        detail: String,
    },
    /// A command that had a `ref`, and has no other answer, was carried out.
    Ok {
        #[serde(rename = "ref")]
        reference: Value,
        cmd: &'static str,
    },
    /// Who is there.
    Members {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
        members: Vec<MemberLine>,
        // How many there are, and whether each of them is listed.
        size: usize,
        complete: bool,
    },
    /// The node takes a break.
    Suspended {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
    },
    /// It ended it.
    Resumed {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
    },
    /// What the node says of itself is on its way to the others.
    MetadataSet {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
    },
    /// Counters.
    Stats(Box<StatsLine>),
    /// This node has left the mesh: the last line.
    Left {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Value>,
    },
}

/// A body: text where it is UTF-8.
#[derive(Debug, Serialize)]
pub(crate) enum Body {
    /// As text.
    #[serde(rename = "payload")]
    Text(String),
    /// As bytes.
    #[serde(rename = "payload_base64")]
    Base64(String),
}

impl Body {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(BASE64.encode(bytes)),
        }
    }
}

/// What a member says of itself: text where it is UTF-8; nothing where it says nothing.
#[derive(Debug, Serialize)]
pub(crate) enum Metadata {
    /// As text.
    #[serde(rename = "metadata")]
    Text(String),
    /// As bytes.
    #[serde(rename = "metadata_base64")]
    Base64(String),
}

impl Metadata {
    fn new(bytes: &[u8]) -> Option<Self> {
        match std::str::from_utf8(bytes) {
            Ok("") => None,
            Ok(text) => Some(Self::Text(text.to_owned())),
            Err(_) => Some(Self::Base64(BASE64.encode(bytes))),
        }
    }
}

/// The fields of `message`.
#[derive(Debug, Serialize)]
pub(crate) struct MessageLine {
    channel: String,
    from: String,
    name: String,
    epoch: u64,
    seq: u64,
    lane: String,
    hops: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    hops_left: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(flatten)]
    body: Body,
    #[serde(skip_serializing_if = "is_false")]
    own: bool,
}

/// One member of `members`.
#[derive(Debug, Serialize)]
pub(crate) struct MemberLine {
    node: String,
    name: String,
    status: &'static str,
    epoch: u64,
    addrs: Vec<SocketAddr>,
    #[serde(skip_serializing_if = "is_false")]
    suspended: bool,
    #[serde(flatten)]
    metadata: Option<Metadata>,
    #[serde(skip_serializing_if = "is_false")]
    own: bool,
}

/// The fields of `stats`.
#[derive(Debug, Serialize)]
pub(crate) struct StatsLine {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<Value>,
    neighbors: u64,
    members: u64,
    published: u64,
    delivered: u64,
    duplicates: u64,
    forwarded: u64,
    bytes_in: u64,
    bytes_out: u64,
    payload_bytes_in: u64,
    repairs: u64,
    served: u64,
    retained_bytes: u64,
    held_back_bytes: u64,
    queue_bytes: u64,
    gaps: u64,
    streams: u64,
    bad_signatures: u64,
    violations: u64,
    overloads: u64,
    queue_full: u64,
    datagrams_dropped: u64,
    filter_panics: u64,
}

// What serde asks for takes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Line {
    /// The line without its line end.
    pub(crate) fn text(&self) -> String {
        // Strings, numbers and maps with string keys: nothing that JSON cannot say.
        serde_json::to_string(self).unwrap_or_else(|error| {
            format!("{{\"event\":\"error\",\"error\":\"internal\",\"detail\":{:?}}}", error.to_string())
        })
    }

    /// An event of the mesh; `epoch` is that of this node's join. `None` for what only the log
    /// is told.
    pub(crate) fn from_event(event: MeshEvent, epoch: Epoch) -> Option<Self> {
        Some(match event {
            MeshEvent::Online => Self::Online,
            MeshEvent::Offline => Self::Offline,
            MeshEvent::NeighborUp { node, address } => {
                Self::NeighborUp { node: node.to_string(), addr: address }
            }
            MeshEvent::NeighborDown { node, reason } => Self::NeighborDown {
                node: node.to_string(),
                reason: neighbor_loss_word(&reason),
                cause: neighbor_loss_cause(&reason),
                detail: neighbor_loss_text(&reason),
            },
            MeshEvent::MemberUp { node, name, epoch } => {
                Self::MemberUp { node: node.to_string(), name: name.as_str().to_owned(), epoch: epoch.get() }
            }
            MeshEvent::MemberDown { node, name, reason } => Self::MemberDown {
                node: node.to_string(),
                name: name.as_str().to_owned(),
                reason: member_loss_word(reason),
            },
            MeshEvent::Refused { node, address, reason } => Self::Refused {
                node: node.map(|node| node.to_string()),
                addr: address,
                reason: refusal_word(&reason),
                detail: reason.to_string(),
                inbound: false,
            },
            MeshEvent::TurnedAway { node, address, reason, .. } => Self::Refused {
                node: Some(node.to_string()),
                addr: Some(address),
                reason: refusal_word(&reason),
                detail: reason.to_string(),
                inbound: true,
            },
            MeshEvent::Unreachable { node, address, detail } => {
                Self::Unreachable { node: node.map(|node| node.to_string()), addr: address, detail }
            }
            MeshEvent::ResolverFailed { resolver, error } => Self::ResolverFailed { resolver, detail: error },
            MeshEvent::ResolverRecovered { resolver } => Self::ResolverRecovered { resolver },
            MeshEvent::Paused { lasted } => {
                Self::Paused { lasted_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX) }
            }
            MeshEvent::MemberChanged { node, name, suspended, metadata } => Self::MemberChanged {
                node: node.to_string(),
                name: name.as_str().to_owned(),
                suspended,
                metadata: Metadata::new(&metadata),
            },
            MeshEvent::MembersKnown { size } => {
                Self::MembersKnown { members: size.members, complete: size.complete }
            }
            MeshEvent::NetworkChanged { addresses } => Self::NetworkChanged { addrs: addresses },
            MeshEvent::ListenAddressLost { address } => {
                Self::ListenAddressLost { addr: address, detail: event.to_string() }
            }
            MeshEvent::Uncommitted { channel, first, last } => Self::Uncommitted {
                channel: channel.as_str().to_owned(),
                epoch: epoch.get(),
                first: first.get(),
                last: last.get(),
            },
            MeshEvent::Left => Self::Left { reference: None },
            MeshEvent::Lagged(missed) => Self::Lagged { missed, what: "events" },
            MeshEvent::FilterPanicked | MeshEvent::Overloaded(_) => Self::error(None, "overload", &event),
            other => {
                tracing::info!(event = %other, "mesh");
                return None;
            }
        })
    }

    /// What a subscription yielded.
    pub(crate) fn from_incoming(incoming: Incoming) -> Self {
        match incoming {
            Incoming::Message(message) => Self::Message(MessageLine::new(&message)),
            Incoming::Gap(gap) => Self::from_gap(&gap),
            Incoming::Lagged(missed) => Self::Lagged { missed, what: "messages" },
            other => Self::error(None, "unknown", &other),
        }
    }

    fn from_gap(gap: &Gap) -> Self {
        Self::Gap {
            channel: gap.channel.as_str().to_owned(),
            from: gap.from.to_string(),
            name: gap.name.as_str().to_owned(),
            epoch: gap.epoch.get(),
            first: gap.first.get(),
            last: gap.last.get(),
            reason: gap_word(gap.reason),
        }
    }

    /// What a subscription to direct messages yielded.
    pub(crate) fn from_direct(incoming: IncomingDirect) -> Self {
        match incoming {
            IncomingDirect::Direct(Direct { from, name, payload, .. }) => Self::Direct {
                from: from.to_string(),
                name: name.as_str().to_owned(),
                body: Body::new(&payload),
            },
            IncomingDirect::Lagged(missed) => Self::Lagged { missed, what: "directs" },
            other => Self::error(None, "unknown", &other),
        }
    }

    /// Something did not work.
    pub(crate) fn error(
        reference: Option<Value>,
        error: &'static str,
        detail: &dyn std::fmt::Display,
    ) -> Self {
        Self::error_because(reference, error, error, detail)
    }

    /// The same where one `error` has several causes.
    pub(crate) fn error_because(
        reference: Option<Value>,
        error: &'static str,
        reason: &'static str,
        detail: &dyn std::fmt::Display,
    ) -> Self {
        Self::Error { reference, error, reason, detail: detail.to_string() }
    }

    /// The answer to `members`.
    pub(crate) fn members(reference: Option<Value>, members: &[MemberInfo], size: MeshSize) -> Self {
        let members = members
            .iter()
            .map(|member| MemberLine {
                node: member.node.to_string(),
                name: member.name.as_str().to_owned(),
                status: status_word(member.status),
                epoch: member.epoch.get(),
                addrs: member.addresses.clone(),
                suspended: member.suspended,
                metadata: Metadata::new(&member.metadata),
                own: member.own,
            })
            .collect();
        Self::Members { reference, members, size: size.members, complete: size.complete }
    }

    /// The answer to `stats`.
    pub(crate) fn stats(reference: Option<Value>, stats: &MeshStats) -> Self {
        let mesh = stats.mesh;
        Self::Stats(Box::new(StatsLine {
            reference,
            neighbors: mesh.neighbors,
            members: mesh.members,
            published: mesh.published,
            delivered: mesh.delivered,
            duplicates: mesh.duplicates,
            forwarded: mesh.forwarded,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            payload_bytes_in: mesh.payload_bytes_in,
            repairs: mesh.repairs,
            served: mesh.served,
            retained_bytes: mesh.retained_bytes,
            held_back_bytes: mesh.held_back_bytes,
            queue_bytes: stats.queue_bytes,
            gaps: mesh.gaps,
            streams: mesh.streams,
            bad_signatures: mesh.bad_signatures,
            violations: mesh.violations,
            overloads: mesh.overloads,
            queue_full: mesh.queue_full,
            datagrams_dropped: stats.datagrams_dropped,
            filter_panics: stats.filter_panics,
        }))
    }
}

impl MessageLine {
    fn new(message: &Message) -> Self {
        Self {
            channel: message.channel.as_str().to_owned(),
            from: message.from.to_string(),
            name: message.name.as_str().to_owned(),
            epoch: message.epoch.get(),
            seq: message.sequence.get(),
            lane: message.lane.to_string(),
            hops: message.hops,
            hops_left: message.hops_left,
            key: (!message.key.is_empty()).then(|| String::from_utf8_lossy(&message.key).into_owned()),
            body: Body::new(&message.payload),
            own: message.own,
        }
    }
}

#[cfg(test)]
mod tests {
    use peerchannel::Refusal;

    use super::*;

    #[test]
    fn a_line_is_one_json_object_with_the_names_of_the_contract() {
        let check = |line: Line, json: &str| assert_eq!(line.text(), json);
        check(Line::Online, r#"{"event":"online"}"#);
        check(
            Line::error(Some(Value::from("r")), "malformed", &"no\nway"),
            r#"{"event":"error","ref":"r","error":"malformed","reason":"malformed","detail":"no\nway"}"#,
        );
        check(
            Line::Published {
                reference: None,
                channel: "c".into(),
                epoch: 2,
                seq: 3,
                lane: "local",
                held: false,
                filtered: false,
            },
            r#"{"event":"published","channel":"c","epoch":2,"seq":3,"lane":"local"}"#,
        );
        check(
            Line::Direct { from: "ab".into(), name: String::new(), body: Body::new(b"\xff") },
            r#"{"event":"direct","from":"ab","name":"","payload_base64":"/w=="}"#,
        );
    }

    #[test]
    fn a_refusal_has_a_word_for_scripts_and_a_sentence_for_people() {
        let refused = MeshEvent::Refused { node: None, address: None, reason: Refusal::BadCredential };
        let text = Line::from_event(refused, Epoch::new(1).unwrap()).unwrap().text();
        assert!(text.contains(r#""reason":"bad_credential","detail":"bad credential"#), "{text}");
    }
}

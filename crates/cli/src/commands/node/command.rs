//! The commands of `node --json`, parsed strictly: an unknown word is a fault, not a guess.

use data_encoding::BASE64;
use peerchannel::{ChannelName, NodeId, Verdict};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::filter::Rule;
use super::inbox::ALL;

/// A command and how the caller calls it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Given back in every answer.
    pub(super) reference: Option<Value>,
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Publish(Publish),
    Subscribe(String),
    Unsubscribe(String),
    Direct { to: NodeId, payload: Vec<u8> },
    Members,
    Stats,
    Filter(Rule),
    Metadata(Vec<u8>),
    Suspend,
    Resume,
    Refresh,
    Leave,
}

/// A message to publish.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
    pub(super) lane: PublishLane,
}

/// By which way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublishLane {
    Reliable,
    Local { hops: u32 },
    Volatile { key: String },
}

/// A line that is no command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) reference: Option<Value>,
    pub(super) detail: String,
}

/// The commands as they are written.
#[derive(Debug, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
enum Written {
    Publish {
        channel: String,
        payload: Option<String>,
        payload_base64: Option<String>,
        hops: Option<u32>,
        volatile: Option<bool>,
        key: Option<String>,
    },
    Subscribe {
        channel: String,
        history: Option<u64>,
    },
    Unsubscribe {
        channel: String,
    },
    Direct {
        to: String,
        payload: Option<String>,
        payload_base64: Option<String>,
    },
    Members {},
    Stats {},
    Filter {
        channel: String,
        verdict: WrittenVerdict,
        contains: Option<String>,
    },
    Metadata {
        payload: Option<String>,
        payload_base64: Option<String>,
    },
    Suspend {},
    Resume {},
    Refresh {},
    Leave {},
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenVerdict {
    None,
    Local,
    Remote,
    LocalAndRemote,
}

impl Request {
    /// Parses a line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let mut object: Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| Malformed { reference: None, detail: format!("not a JSON object: {error}") })?;
        let reference = object.remove("ref");
        let parsed = if object.contains_key("cmd") {
            Written::deserialize(Value::Object(object)).map_err(|error| error.to_string()).and_then(check)
        } else {
            Err("no \"cmd\": use one of publish, subscribe, unsubscribe, direct, members, stats, filter, \
                 metadata, suspend, resume, refresh, leave"
                .to_owned())
        };
        match parsed {
            Ok(command) => Ok(Self { reference, command }),
            Err(detail) => Err(Malformed { reference, detail }),
        }
    }
}

/// From what is written to what is meant.
fn check(written: Written) -> Result<Command, String> {
    Ok(match written {
        Written::Publish { channel, payload, payload_base64, hops, volatile, key } => {
            let lane = match (hops, volatile.unwrap_or(false), key) {
                (Some(_), true, _) => return Err("hops and volatile cannot be used together".into()),
                (None, true, key) => PublishLane::Volatile { key: key.unwrap_or_default() },
                (_, false, Some(_)) => return Err("key is for volatile messages".into()),
                (Some(hops), false, None) => PublishLane::Local { hops },
                (None, false, None) => PublishLane::Reliable,
            };
            Command::Publish(Publish {
                channel: name(channel)?,
                payload: body(payload, payload_base64)?,
                lane,
            })
        }
        Written::Subscribe { history: Some(_), .. } => {
            return Err("history is not available in this version: leave it out".into());
        }
        Written::Subscribe { channel, history: None } => Command::Subscribe(name_or_all(channel)?),
        Written::Unsubscribe { channel } => Command::Unsubscribe(name_or_all(channel)?),
        Written::Direct { to, payload, payload_base64 } => {
            let to = to.parse().map_err(|error| format!("to {to:?}: {error}"))?;
            Command::Direct { to, payload: body(payload, payload_base64)? }
        }
        Written::Members {} => Command::Members,
        Written::Stats {} => Command::Stats,
        Written::Filter { channel, verdict, contains } => {
            let verdict = match verdict {
                WrittenVerdict::None => Verdict::None,
                WrittenVerdict::Local => Verdict::Local,
                WrittenVerdict::Remote => Verdict::Remote,
                WrittenVerdict::LocalAndRemote => Verdict::LocalAndRemote,
            };
            Command::Filter(Rule {
                channel: name_or_all(channel)?,
                contains: contains.unwrap_or_default(),
                verdict,
            })
        }
        Written::Metadata { payload, payload_base64 } => Command::Metadata(body(payload, payload_base64)?),
        Written::Suspend {} => Command::Suspend,
        Written::Resume {} => Command::Resume,
        Written::Refresh {} => Command::Refresh,
        Written::Leave {} => Command::Leave,
    })
}

fn name(channel: String) -> Result<String, String> {
    match ChannelName::new(&channel) {
        Ok(_) => Ok(channel),
        Err(error) => Err(format!("channel {channel:?}: {error}")),
    }
}

fn name_or_all(channel: String) -> Result<String, String> {
    if channel == ALL { Ok(channel) } else { name(channel) }
}

fn body(text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => {
            BASE64.decode(base64.as_bytes()).map_err(|error| format!("payload_base64: {error}"))
        }
        (None, None) => Err("no payload: give payload, or payload_base64 for bytes that are not text".into()),
        (Some(_), Some(_)) => Err("payload and payload_base64 cannot be used together".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Request, Malformed> {
        Request::parse(text.as_bytes())
    }

    #[test]
    fn commands_of_the_contract_are_understood() {
        let check =
            |text: &str, command: Command| assert_eq!(parse(text).unwrap().command, command, "{text}");
        let publish = |lane, payload: &[u8]| {
            Command::Publish(Publish { channel: "c".into(), payload: payload.to_vec(), lane })
        };
        check(r#"{"cmd":"publish","channel":"c","payload":"x"}"#, publish(PublishLane::Reliable, b"x"));
        check(
            r#"{"cmd":"publish","channel":"c","payload_base64":"/wD+","hops":2,"volatile":false}"#,
            publish(PublishLane::Local { hops: 2 }, b"\xff\x00\xfe"),
        );
        check(
            r#"{"cmd":"publish","channel":"c","payload":"","hops":null,"volatile":true}"#,
            publish(PublishLane::Volatile { key: String::new() }, b""),
        );
        check(r#"{"cmd":"subscribe","channel":"*"}"#, Command::Subscribe("*".into()));
        check(r#"{"cmd":"members"}"#, Command::Members);
        check(r#"{"cmd":"suspend"}"#, Command::Suspend);
        check(r#"{"cmd":"metadata","payload":"away"}"#, Command::Metadata(b"away".to_vec()));
        check(r#" {"cmd":"leave"} "#, Command::Leave);
        let id = "ab".repeat(32);
        let direct = Command::Direct { to: id.parse().unwrap(), payload: b"p".to_vec() };
        check(&format!(r#"{{"cmd":"direct","to":"{id}","payload":"p"}}"#), direct);
        let rule = Rule { channel: "c".into(), contains: "bad".into(), verdict: Verdict::None };
        check(r#"{"cmd":"filter","channel":"c","verdict":"none","contains":"bad"}"#, Command::Filter(rule));
    }

    #[test]
    fn any_reference_comes_back_even_from_a_malformed_command() {
        assert_eq!(
            parse(r#"{"cmd":"stats","ref":[1,{"a":null}]}"#).unwrap().reference,
            Some(serde_json::json!([1, {"a": null}]))
        );
        assert_eq!(parse(r#"{"cmd":"fly","ref":7}"#).unwrap_err().reference, Some(Value::from(7)));
    }

    #[test]
    fn what_is_not_a_command_says_what_is_wrong() {
        let check = |text: &str, part: &str| {
            let detail = parse(text).unwrap_err().detail;
            assert!(detail.contains(part), "{text}: {detail}");
        };
        check("not json", "not a JSON object");
        check("[]", "not a JSON object");
        check("{} {}", "not a JSON object");
        check("{}", "no \"cmd\"");
        check(r#"{"cmd":"fly"}"#, "fly");
        check(r#"{"cmd":"publish"}"#, "channel");
        check(r#"{"cmd":"publish","channel":"c"}"#, "no payload");
        check(r#"{"cmd":"publish","channel":"","payload":"x"}"#, "channel \"\"");
        check(r#"{"cmd":"publish","channel":"c","payload":"x","payload_base64":""}"#, "together");
        check(r#"{"cmd":"publish","channel":"c","payload_base64":"?"}"#, "payload_base64");
        check(r#"{"cmd":"publish","channel":"c","payload":"x","hops":1,"volatile":true}"#, "together");
        check(r#"{"cmd":"publish","channel":"c","payload":"x","hops":-1}"#, "-1");
        check(r#"{"cmd":"publish","channel":"c","payload":"x","colour":1}"#, "colour");
        check(r#"{"cmd":"members","x":1}"#, "x");
        check(r#"{"cmd":"direct","to":"xyz","payload":"x"}"#, "to \"xyz\"");
        check(r#"{"cmd":"subscribe","channel":"c","history":3}"#, "not available");
        check(r#"{"cmd":"filter","channel":"c","verdict":"maybe"}"#, "maybe");
    }
}

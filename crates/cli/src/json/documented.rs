//! Holds docs/json.md against the code: it names every event, command, field and word, and no
//! others.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::commands::node_request_words as request_words;

/// The code whose words are listed in the document.
const WORDS: &str = include_str!("words.rs");

/// A section of the document: its fields and its examples.
#[derive(Debug, Default)]
struct Section {
    fields: BTreeSet<String>,
    examples: Vec<Value>,
}

fn document() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    std::fs::read_to_string(path).unwrap()
}

/// The third-level sections of a part: "Commands" or "Events".
fn sections(part: &str) -> BTreeMap<String, Section> {
    let text = document();
    let part = text.split("\n## ").find(|text| text.starts_with(part)).unwrap();
    let read = |text: &str| {
        let (title, body) = text.split_once('\n').unwrap();
        let mut section = Section::default();
        let (mut fenced, mut in_fields) = (false, false);
        for line in body.lines() {
            fenced ^= line.starts_with("```");
            in_fields = line.starts_with('|') && (in_fields || line.starts_with("| Field |"));
            if fenced && line.starts_with('{') {
                section.examples.push(serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")));
            } else if let Some(row) = line.strip_prefix("| `").filter(|_| in_fields) {
                section.fields.insert(row.split('`').next().unwrap().to_owned());
            }
        }
        (title.trim_matches('`').to_owned(), section)
    };
    part.split("\n### ").skip(1).map(read).collect()
}

/// The names of an object's fields but for `skip`; `list[].field` for those of objects in a list.
fn names(object: &Value, skip: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, value) in object.as_object().unwrap().iter().filter(|(name, _)| *name != skip) {
        names.insert(name.clone());
        for item in value.as_array().into_iter().flatten().filter(|item| item.is_object()) {
            names.extend(item.as_object().unwrap().keys().map(|inner| format!("{name}[].{inner}")));
        }
    }
    names
}

/// One line of every kind with everything in it; two where fields exclude each other.
fn lines() -> Vec<Line> {
    let reference = || Some(Value::from(1));
    let text = || "x".to_owned();
    let addr: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let message = |body: &[u8]| MessageLine {
        channel: text(),
        from: text(),
        name: text(),
        epoch: 1,
        seq: 1,
        lane: text(),
        hops: 1,
        hops_left: Some(1),
        key: Some(text()),
        body: Body::new(body),
        own: true,
    };
    let member = |metadata: &[u8]| MemberLine {
        node: text(),
        name: text(),
        status: "alive",
        epoch: 1,
        addrs: vec![addr],
        suspended: true,
        metadata: Metadata::new(metadata),
        own: true,
    };
    let changed = |metadata: &[u8]| Line::MemberChanged {
        node: text(),
        name: text(),
        suspended: true,
        metadata: Metadata::new(metadata),
    };
    let direct = |body: &[u8]| Line::Direct { from: text(), name: text(), body: Body::new(body) };
    vec![
        Line::Listening { node: text(), addr, mesh: text(), epoch: 1 },
        Line::Online,
        Line::Offline,
        Line::NeighborUp { node: text(), addr },
        Line::NeighborDown { node: text(), reason: "x", cause: Some("x"), detail: text() },
        Line::Refused { node: Some(text()), addr: Some(addr), reason: "x", detail: text(), inbound: true },
        Line::Unreachable { node: Some(text()), addr: Some(addr), detail: text() },
        Line::ResolverFailed { resolver: text(), detail: text() },
        Line::ResolverRecovered { resolver: text() },
        Line::Paused { lasted_ms: 1 },
        Line::NetworkChanged { addrs: vec![addr] },
        Line::ListenAddressLost { addr, detail: text() },
        Line::Alone { lasted_ms: 1, detail: text() },
        Line::MemberUp { node: text(), name: text(), epoch: 1 },
        changed(b"x"),
        changed(b"\xff"),
        Line::MembersKnown { members: 1, complete: true },
        Line::MemberDown { node: text(), name: text(), reason: "x" },
        Line::Message(message(b"x")),
        Line::Message(message(b"\xff")),
        direct(b"x"),
        direct(b"\xff"),
        Line::Gap { channel: text(), from: text(), name: text(), epoch: 1, first: 1, last: 1, reason: "x" },
        Line::Uncommitted { channel: text(), epoch: 1, first: 1, last: 1 },
        Line::Lagged { missed: 1, what: "x" },
        Line::Published {
            reference: reference(),
            channel: text(),
            epoch: 1,
            seq: 1,
            lane: "x",
            held: true,
            filtered: true,
        },
        Line::DirectSent { reference: reference(), to: text() },
        Line::error(reference(), "x", &"x"),
        Line::Ok { reference: Value::from(1), cmd: "x" },
        Line::Members {
            reference: reference(),
            members: vec![member(b"x"), member(b"\xff")],
            size: 1,
            complete: true,
        },
        Line::Suspended { reference: reference() },
        Line::Resumed { reference: reference() },
        Line::MetadataSet { reference: reference() },
        Line::stats(reference(), &MeshStats::default()),
        Line::Left { reference: reference() },
    ]
}

/// The variants of `Line`, from the compiler's own list of them.
fn kinds() -> usize {
    // The counter is here so that a new variant cannot be forgotten in `lines`: this match
    // must be completed, and then the two numbers differ.
    let number = |line: &Line| match line {
        Line::Listening { .. } => 0,
        Line::Online => 1,
        Line::Offline => 2,
        Line::NeighborUp { .. } => 3,
        Line::NeighborDown { .. } => 4,
        Line::Refused { .. } => 5,
        Line::Unreachable { .. } => 6,
        Line::ResolverFailed { .. } => 7,
        Line::ResolverRecovered { .. } => 8,
        Line::Paused { .. } => 9,
        Line::NetworkChanged { .. } => 10,
        Line::MemberUp { .. } => 11,
        Line::MemberChanged { .. } => 12,
        Line::MembersKnown { .. } => 13,
        Line::MemberDown { .. } => 14,
        Line::Message(_) => 15,
        Line::Direct { .. } => 16,
        Line::Gap { .. } => 17,
        Line::Uncommitted { .. } => 18,
        Line::Lagged { .. } => 19,
        Line::Published { .. } => 20,
        Line::DirectSent { .. } => 21,
        Line::Error { .. } => 22,
        Line::Ok { .. } => 23,
        Line::Members { .. } => 24,
        Line::Suspended { .. } => 25,
        Line::Resumed { .. } => 26,
        Line::MetadataSet { .. } => 27,
        Line::Stats(_) => 28,
        Line::Left { .. } => 29,
        Line::Alone { .. } => 30,
        Line::ListenAddressLost { .. } => 31,
    };
    let numbers: BTreeSet<i32> = lines().iter().map(number).collect();
    assert!(numbers.iter().copied().eq(0..32), "a kind of line is missing in `lines`: {numbers:?}");
    numbers.len()
}

#[test]
fn every_event_is_documented_with_its_fields() {
    let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines() {
        let line: Value = serde_json::from_str(&line.text()).unwrap();
        let event = line["event"].as_str().unwrap().to_owned();
        written.entry(event).or_default().extend(names(&line, "event"));
    }
    assert_eq!(written.len(), kinds());
    let documented = sections("Events");
    let titles: BTreeSet<&String> = documented.keys().collect();
    assert_eq!(titles, written.keys().collect(), "events of the document, and of the code");
    for (event, section) in &documented {
        assert_eq!(section.fields, written[event], "fields of `{event}` in the document, and in the code");
        assert!(!section.examples.is_empty(), "`{event}` has no example");
        for example in &section.examples {
            assert_eq!(example["event"], event.as_str());
            assert!(names(example, "event").is_subset(&section.fields), "{example}");
        }
    }
}

#[test]
fn every_command_is_documented_with_its_fields() {
    let documented = sections("Commands");
    let titles: BTreeSet<String> = documented.keys().cloned().collect();
    assert_eq!(titles, request_words::commands(), "commands of the document, and of the code");
    for (command, section) in &documented {
        let fields = request_words::fields(command);
        assert_eq!(section.fields, fields, "fields of `{command}` in the document, and in the code");
        assert!(!section.examples.is_empty(), "`{command}` has no example");
        for example in &section.examples {
            assert_eq!(example["cmd"], command.as_str());
            assert_eq!(request_words::fault(&example.to_string()), None, "{example}");
        }
    }
}

/// `node --help` shows commands and fields that exist, and every command.
#[test]
fn the_help_names_real_commands_and_fields() {
    use clap::CommandFactory as _;
    let help = crate::args::Cli::command();
    let help = help.find_subcommand("node").unwrap().get_after_help().unwrap().to_string();
    let mut shown = BTreeSet::new();
    for text in help.split(r#"{"cmd""#).skip(1) {
        let text = format!(r#"{{"cmd"{}}}"#, text.split('}').next().unwrap());
        let command: Value = serde_json::from_str(&text).unwrap();
        let name = command["cmd"].as_str().unwrap().to_owned();
        let mut fields = names(&command, "cmd");
        fields.remove("ref");
        assert!(fields.is_subset(&request_words::fields(&name)), "{text}");
        shown.insert(name);
    }
    assert_eq!(shown, request_words::commands());
}

/// Every word that a script may meet is explained: as `word` in the document.
#[test]
fn every_word_is_documented() {
    let (text, mut count) = (document(), 0);
    for word in WORDS.split('"').skip(1).step_by(2) {
        assert!(text.contains(&format!("`{word}`")), "the word {word:?} is not in docs/json.md");
        count += 1;
    }
    assert!(count > 40, "{count} words found: does words.rs look different now?");
}

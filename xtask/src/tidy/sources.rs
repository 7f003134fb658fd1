//! Rules about single files: how they begin, how long they are, which words they avoid.

use super::{Finding, Source};

/// Longest file, tests in `tests/` and generated code apart. A guess that holds up: beyond
/// it a file is about two things.
const LINES_MAX: usize = 600;

/// Words that must not appear in one kind of file. Written in two pieces where this file
/// would otherwise find itself.
struct Words {
    rule: &'static str,
    advice: &'static str,
    applies: fn(&str) -> bool,
    words: &'static [&'static str],
}

const WORDS: &[Words] = &[
    Words {
        rule: "unfinished work",
        advice: "finish it, or open an issue and say what is there now",
        applies: |name| name.ends_with(".rs") || name.ends_with(".proto") || name.ends_with(".toml"),
        words: &[
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("XX", "X"),
            concat!("to", "do!"),
            concat!("unimple", "mented!"),
        ],
    },
    Words {
        rule: "unbounded queue",
        advice: "use a bounded queue whose capacity is a named constant with its reason",
        // A test's own harness may gather without a limit.
        applies: |name| name.ends_with(".rs") && !name.contains("/tests/"),
        words: &[
            concat!("unbounded_", "channel"),
            concat!("Unbounded", "Sender"),
            concat!("mpsc::un", "bounded"),
        ],
    },
    Words {
        rule: "effect in the core",
        advice: "the core takes time, chance and facts as arguments and iterates in order: docs/architecture.md",
        applies: |name| name.starts_with("crates/mesh/src/"),
        words: &[
            "Instant::now",
            "SystemTime",
            "HashMap",
            "HashSet",
            "tokio",
            "rand::",
            "std::net::UdpSocket",
            "std::thread",
            "Mutex",
            "RwLock",
        ],
    },
    Words {
        rule: "path of one machine",
        advice: "write paths relative to the repository",
        applies: |_| true,
        words: &[
            concat!("/ro", "ot/"),
            concat!("/wo", "rk/"),
            concat!("/Us", "ers/"),
            concat!("/ho", "me/"),
            concat!("/tm", "p/wt/"),
            concat!("/tm", "p/target"),
        ],
    },
];

pub(crate) fn check(file: &Source) -> Vec<Finding> {
    let name = file.name.as_str();
    if name.contains("/generated/") {
        return Vec::new();
    }
    let finding = |line, rule, advice: String| Finding { file: name.to_owned(), line, rule, advice };
    let mut findings = Vec::new();
    let rust = name.ends_with(".rs");
    // An example is a page for readers who look for code: its story is in the README.
    if rust && !name.contains("/examples/") && !file.text.starts_with("//!") {
        findings.push(finding(1, "file head", "begin with `//!`: what this file is, in one sentence".into()));
    }
    let lines = file.text.lines().count();
    if rust && lines > LINES_MAX && !name.contains("/tests/") {
        findings.push(finding(
            0,
            "file size",
            format!("{lines} lines, at most {LINES_MAX}: split it by concept"),
        ));
    }
    for rule in WORDS.iter().filter(|rule| (rule.applies)(name)) {
        for (number, line) in file.text.lines().enumerate() {
            // Telling people what not to use is not using it.
            let code = if rule.rule == "effect in the core" { without_comment(line) } else { line };
            if let Some(word) = rule.words.iter().find(|word| contains_word(code, word)) {
                findings.push(finding(number + 1, rule.rule, format!("`{word}`: {}", rule.advice)));
            }
        }
    }
    findings
}

fn without_comment(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// Whether `word` stands in `text` by itself, not inside a longer word.
fn contains_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let begins = !word.starts_with(part) || !before.is_some_and(part);
        let ends = !word.ends_with(part) || !after.is_some_and(part);
        begins && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, text: &str) -> String {
        let file = Source { name: name.into(), text: text.into() };
        check(&file).iter().map(|f| format!("{f}\n")).collect()
    }

    #[test]
    fn a_clean_file_passes() {
        assert_eq!(findings("crates/mesh/src/a.rs", "//! A.\n\nfn f() {}\n"), "");
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        assert!(
            findings("crates/wire/src/a.rs", "fn f() {}\n").starts_with("crates/wire/src/a.rs:1: file head")
        );
        assert_eq!(findings("crates/peerchannel/examples/a.rs", "fn main() {}\n"), "");
        assert_eq!(findings("crates/wire/src/generated/a.rs", "fn f() {}\n"), "");
    }

    #[test]
    fn a_long_file_is_found_unless_it_is_a_test() {
        let text = "//! A.\n".to_owned() + &"\n".repeat(LINES_MAX);
        assert!(findings("crates/wire/src/a.rs", &text).contains("file size"));
        assert_eq!(findings("crates/wire/tests/a.rs", &text), "");
    }

    #[test]
    fn words_are_found_with_their_line() {
        let cases = [
            ("crates/wire/src/a.rs", concat!("// TO", "DO: later"), "unfinished work"),
            ("crates/wire/src/a.rs", concat!("to", "do!()"), "unfinished work"),
            ("crates/transport/src/a.rs", concat!("mpsc::unbounded_", "channel()"), "unbounded queue"),
            ("crates/mesh/src/a.rs", "use std::collections::HashMap;", "effect in the core"),
            ("crates/mesh/src/a.rs", "let x = rand::random();", "effect in the core"),
            ("docs/a.md", concat!("see /ro", "ot/x"), "path of one machine"),
        ];
        for (name, line, rule) in cases {
            let said = findings(name, &format!("//! A.\n{line}\n"));
            assert!(said.contains(&format!("{name}:2: {rule}")), "{line}: {said}");
        }
    }

    #[test]
    fn words_elsewhere_or_inside_longer_words_pass() {
        let cases = [
            ("crates/transport/src/a.rs", "use std::collections::HashMap;"),
            ("crates/transport/tests/a.rs", concat!("mpsc::unbounded_", "channel()")),
            ("crates/mesh/src/a.rs", "// unlike a HashMap, this has an order"),
            ("crates/mesh/src/a.rs", "let brand::X = strand::Y;"),
            ("crates/wire/src/a.rs", concat!("let TO", "DOS = 1;")),
        ];
        for (name, line) in cases {
            assert_eq!(findings(name, &format!("//! A.\n{line}\n")), "", "{line}");
        }
    }
}

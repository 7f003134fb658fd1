//! The words of the commands, as the parser itself lists them, for the test of docs/json.md.

use std::collections::BTreeSet;

use super::command::Request;

/// The commands.
pub(crate) fn commands() -> BTreeSet<String> {
    expected(r#"{"cmd":"no such command"}"#)
}

/// The fields of a command.
pub(crate) fn fields(command: &str) -> BTreeSet<String> {
    expected(&format!(r#"{{"cmd":"{command}","no such field":0}}"#))
}

/// What is wrong with a line.
pub(crate) fn fault(line: &str) -> Option<String> {
    Request::parse(line.as_bytes()).err().map(|malformed| malformed.detail)
}

/// What the parser would have expected: it lists that in backticks, after what it found.
fn expected(line: &str) -> BTreeSet<String> {
    let fault = fault(line).unwrap();
    assert!(fault.contains("no such"), "{fault}");
    fault.split('`').skip(3).step_by(2).map(ToOwned::to_owned).collect()
}

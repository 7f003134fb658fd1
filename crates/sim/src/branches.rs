//! The recovery branches that a suite of runs must have reached, so that a green suite says
//! something about them.

use std::collections::BTreeSet;

use crate::outcome::Outcome;

/// Names in [`Outcome::sometimes`] that `cargo test -p peerchannel-sim` must reach.
pub const RECOVERY_BRANCHES: &[&str] = &[
    "a link timed out",
    "a link was reset by a restarted process",
    "a lost packet was sent again",
    "a message arrived by pull",
    "a neighbor said goodbye",
    "a node asked for what it missed",
    "a node noticed that it had stood still",
    "a node with neighbors asked the resolver again",
    "a suspect was found alive",
    "an isolated node asked the resolver again",
    "asked a neighbor about a suspect",
    "asked to be let in urgently",
    "core: a member of the past became a neighbor",
    "core: a suspect spoke for itself",
    "core: a suspect was vouched for",
    "core: a trial brought nothing",
    "core: became more patient",
    "core: began a shuffle",
    "core: checked a member without a link to it",
    "core: compared tables that differed",
    "core: dialed a member of the past",
    "core: doubted what a neighbor said of a member",
    "core: pruned",
    "core: refused a trial",
    "core: refused by quota",
    "core: refused for want of room",
    "core: refuted its own failure",
    "core: reported a member as failed",
    "core: retried in isolation",
    "core: suspected a split",
    "core: swapped",
    "core: woke up",
    "dial: no answer",
    "dial: of another mesh",
    "heard that a member left",
];

/// Those of [`RECOVERY_BRANCHES`] that none of these runs reached.
pub fn unreached<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<&'static str> {
    let reached: BTreeSet<&str> =
        outcomes.into_iter().flat_map(|outcome| outcome.sometimes.keys().map(String::as_str)).collect();
    RECOVERY_BRANCHES.iter().copied().filter(|branch| !reached.contains(branch)).collect()
}

//! The propagation filter of `node --json`: rules that a script sets.

use peerchannel::{Filter, FilterView, Verdict};

use super::inbox::ALL;

/// Most rules: every message is held against each of them (a guess).
const RULES_MAX: usize = 256;

/// What to do with messages of a channel that contain a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// The channel; `*` is all.
    pub(super) channel: String,
    /// The text; empty is every message.
    pub(super) contains: String,
    pub(super) verdict: Verdict,
}

/// The rules in force. The first that fits decides; those with a text come first, then those
/// of one channel. A message that none fits is delivered and passed on.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    /// Sets the rule of a channel and text. Rules that say what happens without them, local
    /// and remote with nothing after them, are not kept.
    pub(super) fn set(&mut self, rule: Rule) -> Result<(), String> {
        self.0.retain(|other| other.channel != rule.channel || other.contains != rule.contains);
        if self.0.len() >= RULES_MAX {
            return Err(format!(
                "{RULES_MAX} rules are set, which is the limit: remove one by setting it to local_and_remote"
            ));
        }
        self.0.push(rule);
        // Stable: rules of one kind stay in the order they were set.
        self.0.sort_by_key(|rule| (rule.contains.is_empty(), rule.channel == ALL));
        while self.0.last().is_some_and(|rule| rule.verdict == Verdict::LocalAndRemote) {
            self.0.pop();
        }
        Ok(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Filter for Rules {
    fn judge(&mut self, message: &FilterView<'_>) -> Verdict {
        let fits = |rule: &&Rule| {
            (rule.channel == ALL || rule.channel == message.channel.as_str())
                && contains(message.payload, rule.contains.as_bytes())
        };
        self.0.iter().find(fits).map_or(Verdict::LocalAndRemote, |rule| rule.verdict)
    }
}

fn contains(payload: &[u8], text: &[u8]) -> bool {
    text.is_empty() || payload.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerchannel::{ChannelName, NodeId, Origination};

    use super::*;

    fn judge(rules: &mut Rules, channel: &str, payload: &'static str) -> Verdict {
        rules.judge(&FilterView {
            channel: &ChannelName::new(channel).unwrap(),
            origin: NodeId::from_bytes([1; 32]),
            payload: &Bytes::from_static(payload.as_bytes()),
            origination: Origination::Remote,
        })
    }

    #[test]
    fn the_most_particular_rule_decides() {
        let mut rules = Rules::default();
        let mut set = |channel: &str, contains: &str, verdict| {
            rules.set(Rule { channel: channel.into(), contains: contains.into(), verdict }).unwrap();
        };
        set("*", "", Verdict::Local);
        set("c", "", Verdict::Remote);
        set("c", "bad", Verdict::None);
        assert_eq!(judge(&mut rules, "c", "so bad"), Verdict::None);
        assert_eq!(judge(&mut rules, "c", "fine"), Verdict::Remote);
        assert_eq!(judge(&mut rules, "d", "bad"), Verdict::Local);
    }

    #[test]
    fn a_rule_is_replaced_and_removed() {
        let mut rules = Rules::default();
        let rule = |verdict| Rule { channel: "*".into(), contains: String::new(), verdict };
        rules.set(rule(Verdict::None)).unwrap();
        rules.set(rule(Verdict::Local)).unwrap();
        assert_eq!(judge(&mut rules, "c", "x"), Verdict::Local);
        rules.set(rule(Verdict::LocalAndRemote)).unwrap();
        assert!(rules.is_empty());
    }

    #[test]
    fn rules_are_bounded() {
        let mut rules = Rules::default();
        for number in 0..RULES_MAX {
            let rule =
                Rule { channel: format!("c{number}"), contains: String::new(), verdict: Verdict::None };
            rules.set(rule).unwrap();
        }
        let one_more = Rule { channel: "d".into(), contains: String::new(), verdict: Verdict::None };
        assert!(rules.set(one_more).unwrap_err().contains("256"));
    }
}

//! Which channels `node --json` reports: all at first, then those it was told.
//!
//! There is one subscription, to everything, from the join to the end; what was not asked for
//! is left out here. So a change of channels neither misses nor repeats a message.

use std::collections::BTreeSet;

use peerchannel::{Incoming, Mesh, Subscription};

/// The name that stands for all channels.
pub(super) const ALL: &str = "*";

/// Most channels that are named one by one (a guess).
const CHANNELS_MAX: usize = 1024;

/// The messages that were asked for.
#[derive(Debug)]
pub(super) struct Inbox {
    subscription: Subscription,
    chosen: Chosen,
}

impl Inbox {
    /// Everything.
    pub(super) fn all(mesh: &Mesh) -> Self {
        Self { subscription: mesh.subscribe_all(), chosen: Chosen::Initial }
    }

    /// The next item that was asked for. Waits for ever once the mesh is left. Cancel safe.
    pub(super) async fn next(&mut self) -> Incoming {
        while let Some(incoming) = self.subscription.next().await {
            if channel_of(&incoming).is_none_or(|channel| self.chosen.has(channel)) {
                return incoming;
            }
        }
        std::future::pending().await
    }

    pub(super) fn subscribe(&mut self, channel: &str) -> Result<(), String> {
        self.chosen.subscribe(channel)
    }

    pub(super) fn unsubscribe(&mut self, channel: &str) -> Result<(), String> {
        self.chosen.unsubscribe(channel)
    }
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    /// Nobody said anything: everything, until the first `subscribe`.
    Initial,
    /// Every channel but these.
    AllBut(BTreeSet<String>),
    /// These channels.
    Only(BTreeSet<String>),
}

impl Chosen {
    fn has(&self, channel: &str) -> bool {
        match self {
            Self::Initial => true,
            Self::AllBut(except) => !except.contains(channel),
            Self::Only(only) => only.contains(channel),
        }
    }

    fn subscribe(&mut self, channel: &str) -> Result<(), String> {
        match self {
            _ if channel == ALL => *self = Self::AllBut(BTreeSet::new()),
            Self::Initial => *self = Self::Only(BTreeSet::from([channel.to_owned()])),
            Self::AllBut(except) => {
                except.remove(channel);
            }
            Self::Only(only) => add(only, channel)?,
        }
        Ok(())
    }

    fn unsubscribe(&mut self, channel: &str) -> Result<(), String> {
        match self {
            _ if channel == ALL => *self = Self::Only(BTreeSet::new()),
            Self::Initial => *self = Self::AllBut(BTreeSet::from([channel.to_owned()])),
            Self::AllBut(except) => add(except, channel)?,
            Self::Only(only) => {
                if !only.remove(channel) {
                    return Err(format!("not subscribed to {channel:?}"));
                }
            }
        }
        Ok(())
    }
}

fn add(channels: &mut BTreeSet<String>, channel: &str) -> Result<(), String> {
    if channels.len() >= CHANNELS_MAX && !channels.contains(channel) {
        return Err(format!("{CHANNELS_MAX} channels are named one by one, which is the limit: use \"*\""));
    }
    channels.insert(channel.to_owned());
    Ok(())
}

fn channel_of(incoming: &Incoming) -> Option<&str> {
    match incoming {
        Incoming::Message(message) => Some(message.channel.as_str()),
        Incoming::Gap(gap) => Some(gap.channel.as_str()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_subscribe_replaces_all_and_a_star_is_all_again() {
        let mut chosen = Chosen::Initial;
        assert!(chosen.has("a") && chosen.has("b"));
        chosen.subscribe("a").unwrap();
        assert!(chosen.has("a") && !chosen.has("b"));
        chosen.subscribe("b").unwrap();
        chosen.unsubscribe("a").unwrap();
        assert!(!chosen.has("a") && chosen.has("b"));
        assert!(chosen.unsubscribe("a").unwrap_err().contains("\"a\""));
        chosen.subscribe(ALL).unwrap();
        chosen.unsubscribe("a").unwrap();
        assert!(!chosen.has("a") && chosen.has("c"));
        chosen.unsubscribe(ALL).unwrap();
        assert!(!chosen.has("c"));
    }

    #[test]
    fn named_channels_are_bounded() {
        let mut chosen = Chosen::Only(BTreeSet::new());
        for number in 0..CHANNELS_MAX {
            chosen.subscribe(&number.to_string()).unwrap();
        }
        chosen.subscribe("0").unwrap();
        assert!(chosen.subscribe("one more").unwrap_err().contains("1024"));
    }
}

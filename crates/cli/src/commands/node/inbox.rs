//! Which channels `node --json` reports: all at first, then those it was told.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_core::Stream as _;
use peerchannel::{Incoming, Mesh, Subscription};

/// The name that stands for all channels.
pub(super) const ALL: &str = "*";

/// Most channels subscribed to one by one: each has a queue (a guess).
const CHANNELS_MAX: usize = 1024;

/// The subscriptions in force.
#[derive(Debug)]
pub(super) struct Inbox {
    chosen: Chosen,
    // Nobody said yet what to subscribe to: the first `subscribe` replaces all.
    initial: bool,
}

#[derive(Debug)]
enum Chosen {
    /// Every channel but these.
    AllBut(Subscription, BTreeSet<String>),
    /// These, and which of them is looked at first: each in its turn.
    Only(Vec<(String, Subscription)>, usize),
}

impl Inbox {
    /// Subscribed to everything.
    pub(super) fn all(mesh: &Mesh) -> Self {
        Self { chosen: Chosen::AllBut(mesh.subscribe_all(), BTreeSet::new()), initial: true }
    }

    pub(super) fn subscribe(&mut self, mesh: &Mesh, channel: &str) -> Result<(), String> {
        let initial = std::mem::replace(&mut self.initial, false);
        match &mut self.chosen {
            Chosen::Only(..) if channel == ALL => {
                self.chosen = Chosen::AllBut(mesh.subscribe_all(), BTreeSet::new());
            }
            Chosen::AllBut(_, except) if channel == ALL => except.clear(),
            Chosen::AllBut(..) if initial => {
                let only = vec![(channel.to_owned(), mesh.channel(channel).subscribe())];
                self.chosen = Chosen::Only(only, 0);
            }
            Chosen::AllBut(_, except) => {
                except.remove(channel);
            }
            Chosen::Only(only, _) => {
                if !only.iter().any(|(name, _)| name == channel) {
                    within_limit(only.len())?;
                    only.push((channel.to_owned(), mesh.channel(channel).subscribe()));
                }
            }
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, channel: &str) -> Result<(), String> {
        self.initial = false;
        match &mut self.chosen {
            _ if channel == ALL => self.chosen = Chosen::Only(Vec::new(), 0),
            Chosen::AllBut(_, except) => {
                within_limit(except.len())?;
                except.insert(channel.to_owned());
            }
            Chosen::Only(only, _) => {
                let subscribed = only.iter().position(|(name, _)| name == channel);
                let at = subscribed.ok_or_else(|| format!("not subscribed to {channel:?}"))?;
                drop(only.swap_remove(at));
            }
        }
        Ok(())
    }

    /// The next item of any of them, each in its turn. Waits for ever once the mesh is left.
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Incoming {
        poll_fn(|context| match &mut self.chosen {
            Chosen::AllBut(subscription, except) => loop {
                match Pin::new(&mut *subscription).poll_next(context) {
                    Poll::Ready(Some(incoming))
                        if channel_of(&incoming).is_some_and(|c| except.contains(c)) => {}
                    Poll::Ready(Some(incoming)) => return Poll::Ready(incoming),
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            },
            Chosen::Only(only, first) => {
                for turn in 0..only.len() {
                    let index = (*first + turn) % only.len();
                    let Some((_, subscription)) = only.get_mut(index) else { continue };
                    if let Poll::Ready(Some(incoming)) = Pin::new(subscription).poll_next(context) {
                        *first = index + 1;
                        return Poll::Ready(incoming);
                    }
                }
                Poll::Pending
            }
        })
        .await
    }
}

fn channel_of(incoming: &Incoming) -> Option<&str> {
    match incoming {
        Incoming::Message(message) => Some(message.channel.as_str()),
        Incoming::Gap(gap) => Some(gap.channel.as_str()),
        _ => None,
    }
}

fn within_limit(count: usize) -> Result<(), String> {
    if count < CHANNELS_MAX {
        return Ok(());
    }
    Err(format!("{CHANNELS_MAX} channels are subscribed to one by one, which is the limit: use \"*\""))
}

//! What happens when: one `[[event]]` of a scenario file.
//!
//! All events share one layout, so that a key that does not belong to a kind is refused with the
//! keys that do.

use std::time::Duration;

use serde::Deserialize;

use crate::plan::{Happening, Mood, Scripted, Who};

use super::values::{Share, Span, Whole};

/// An event as a file writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventText {
    at: Span,
    kind: Kind,
    share: Option<Share>,
    count: Option<Whole<1, 16_777_216>>,
    region: Option<Whole<0, 255>>,
    nodes: Option<Vec<usize>>,
    over: Option<Span>,
    lasts: Option<Span>,
    down: Option<Span>,
    back: Option<Span>,
    clean: Option<bool>,
    upgrade: Option<bool>,
    groups: Option<Whole<2, 250>>,
    mood: Option<MoodName>,
    delay: Option<Span>,
    stands: Option<Span>,
    every: Option<Span>,
    handling: Option<Span>,
    migrates: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Crash,
    Leave,
    Join,
    RollingRestart,
    RegionLoss,
    Partition,
    RegionCut,
    OneWay,
    Resolver,
    Pause,
    Slow,
    Swizzle,
    Move,
}

/// What a resolver does, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MoodName {
    Honest,
    Down,
    Empty,
    Slow,
    Dead,
    Foreign,
    Lying,
}

impl MoodName {
    /// # Errors
    /// A slow resolver without its delay.
    pub(super) fn mood(self, delay: Option<Duration>) -> Result<Mood, String> {
        Ok(match self {
            Self::Honest => Mood::Honest,
            Self::Down => Mood::Down,
            Self::Empty => Mood::Empty,
            Self::Slow => Mood::Slow(delay.ok_or("a slow resolver needs `delay`, for example \"8s\"")?),
            Self::Dead => Mood::Dead,
            Self::Foreign => Mood::Foreign,
            Self::Lying => Mood::Lying,
        })
    }
}

/// Keys that say whom an event befalls.
const WHO: [&str; 4] = ["share", "count", "region", "nodes"];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Leave => "leave",
            Self::Join => "join",
            Self::RollingRestart => "rolling_restart",
            Self::RegionLoss => "region_loss",
            Self::Partition => "partition",
            Self::RegionCut => "region_cut",
            Self::OneWay => "one_way",
            Self::Resolver => "resolver",
            Self::Pause => "pause",
            Self::Slow => "slow",
            Self::Swizzle => "swizzle",
            Self::Move => "move",
        }
    }

    /// Whether it befalls chosen nodes, and the keys it has beside.
    fn keys(self) -> (bool, &'static [&'static str]) {
        match self {
            Self::Crash | Self::Leave => (true, &[]),
            Self::Join => (false, &["count", "over"]),
            Self::RollingRestart => (true, &["over", "down", "clean", "upgrade"]),
            Self::RegionLoss => (false, &["region", "back"]),
            Self::Partition => (false, &["groups", "lasts"]),
            Self::RegionCut => (false, &["region", "lasts"]),
            Self::OneWay | Self::Swizzle => (true, &["lasts"]),
            Self::Resolver => (false, &["mood", "delay", "lasts"]),
            Self::Pause => (true, &["stands", "every", "lasts"]),
            Self::Slow => (true, &["handling", "lasts"]),
            Self::Move => (true, &["migrates"]),
        }
    }
}

impl EventText {
    /// # Errors
    /// Which event, which key, and what would be right.
    pub(super) fn scripted(self, index: usize) -> Result<Scripted, String> {
        let name = format!("event {} ({} at {:?})", index + 1, self.kind.name(), self.at.get());
        self.refuse_strange_keys().map_err(|why| format!("{name}: {why}"))?;
        let at = self.at.get();
        let what = self.happening().map_err(|why| format!("{name}: {why}"))?;
        Ok(Scripted { at, what })
    }

    fn present(&self) -> Vec<&'static str> {
        let Self {
            at: _,
            kind: _,
            share,
            count,
            region,
            nodes,
            over,
            lasts,
            down,
            back,
            clean,
            upgrade,
            groups,
            mood,
            delay,
            stands,
            every,
            handling,
            migrates,
        } = self;
        let all = [
            ("share", share.is_some()),
            ("count", count.is_some()),
            ("region", region.is_some()),
            ("nodes", nodes.is_some()),
            ("over", over.is_some()),
            ("lasts", lasts.is_some()),
            ("down", down.is_some()),
            ("back", back.is_some()),
            ("clean", clean.is_some()),
            ("upgrade", upgrade.is_some()),
            ("groups", groups.is_some()),
            ("mood", mood.is_some()),
            ("delay", delay.is_some()),
            ("stands", stands.is_some()),
            ("every", every.is_some()),
            ("handling", handling.is_some()),
            ("migrates", migrates.is_some()),
        ];
        all.into_iter().filter(|(_, is_there)| *is_there).map(|(key, _)| key).collect()
    }

    fn refuse_strange_keys(&self) -> Result<(), String> {
        let (befalls, own) = self.kind.keys();
        let allowed: Vec<&str> = own.iter().copied().chain(WHO.into_iter().filter(|_| befalls)).collect();
        match self.present().into_iter().find(|key| !allowed.contains(key)) {
            Some(key) => Err(format!(
                "`{key}` does not belong here: `{}` takes at, {}",
                self.kind.name(),
                allowed.join(", ")
            )),
            None => Ok(()),
        }
    }

    fn happening(self) -> Result<Happening, String> {
        let needed = |key: &str, example: &str| format!("`{key}` is missing, for example {key} = {example}");
        let lasts = self.lasts.map(Span::get).ok_or_else(|| needed("lasts", "\"60s\""));
        let over = self.over.map(Span::get).ok_or_else(|| needed("over", "\"60s\""));
        let region = self.region.map(Whole::size).ok_or_else(|| needed("region", "0"));
        Ok(match self.kind {
            Kind::Crash => Happening::Crash { who: self.who()? },
            Kind::Leave => Happening::Leave { who: self.who()? },
            Kind::Join => Happening::Join {
                nodes: self.count.map(Whole::size).ok_or_else(|| needed("count", "100"))?,
                over: over?,
            },
            Kind::RollingRestart => Happening::RollingRestart {
                over: over?,
                down: self.down.map(Span::get).ok_or_else(|| needed("down", "\"2s\""))?,
                clean: self.clean.unwrap_or(true),
                upgrade: self.upgrade.unwrap_or(false),
                who: self.who()?,
            },
            Kind::RegionLoss => Happening::RegionLoss { region: region?, back: self.back.map(Span::get) },
            Kind::Partition => Happening::Partition {
                groups: self.groups.map(Whole::size).ok_or_else(|| needed("groups", "2"))?,
                lasts: lasts?,
            },
            Kind::RegionCut => Happening::RegionCut { region: region?, lasts: lasts? },
            Kind::OneWay => Happening::OneWay { who: self.who()?, lasts: lasts? },
            Kind::Resolver => {
                let mood = self.mood.ok_or_else(|| needed("mood", "\"down\""))?;
                if mood != MoodName::Slow && self.delay.is_some() {
                    return Err("`delay` belongs to mood = \"slow\" only".into());
                }
                Happening::Resolver { mood: mood.mood(self.delay.map(Span::get))?, lasts: lasts? }
            }
            Kind::Pause => {
                let stands = self.stands.map(Span::get).ok_or_else(|| needed("stands", "\"5s\""))?;
                let every = self.every.map(Span::get);
                // A single pause lasts as long as it stands.
                let lasts = if every.is_none() { self.lasts.map_or(stands, Span::get) } else { lasts? };
                Happening::Pause { who: self.who()?, stands, every, lasts }
            }
            Kind::Slow => Happening::Slow {
                who: self.who()?,
                handling: self.handling.map(Span::get).ok_or_else(|| needed("handling", "\"50ms\""))?,
                lasts: lasts?,
            },
            Kind::Swizzle => Happening::Swizzle { who: self.who()?, lasts: lasts? },
            Kind::Move => Happening::Move { who: self.who()?, migrates: self.migrates.unwrap_or(true) },
        })
    }

    fn who(&self) -> Result<Who, String> {
        let choices = [
            self.share.map(|share| Who::Share(share.get())),
            self.count.map(|count| Who::Count(count.size())),
            self.region.map(|region| Who::Region(region.size())),
            self.nodes.clone().map(Who::Nodes),
        ];
        let mut chosen = choices.into_iter().flatten();
        match (chosen.next(), chosen.next()) {
            (Some(who), None) => Ok(who),
            (None, _) => Err(format!("say whom: one of {}, for example share = 0.3", WHO.join(", "))),
            (Some(_), Some(_)) => Err(format!("say whom once: only one of {}", WHO.join(", "))),
        }
    }
}

//! What is made to happen: the plan's events, and the walls some of them raise.

use std::time::Duration;

use super::{Event, NOBODY, World, ns};
use crate::outcome::Mark;
use crate::plan::{Happening, Mood, Who};
use crate::watch::seconds;

/// Packets that do not pass.
#[derive(Debug)]
pub(super) struct Wall {
    script: u32,
    kind: WallKind,
}

#[derive(Debug)]
enum WallKind {
    /// By node: its group. Packets between groups are lost.
    Groups(Vec<u8>),
    /// By node: whether what it sends is lost.
    Mute(Vec<bool>),
}

/// The group of nodes that join behind a wall of two groups.
const LATE: u8 = 0;

impl World {
    /// Whether packets from one node to another are lost at a wall.
    pub(super) fn walled(&self, from: u32, to: u32) -> bool {
        if self.walls.is_empty() && self.cut_off == 0 {
            return false;
        }
        let (a, b) = (from as usize, to as usize);
        if self.hosts[a].cut > 0 || self.hosts[b].cut > 0 {
            return a != b;
        }
        self.walls.iter().any(|wall| match &wall.kind {
            WallKind::Groups(groups) => {
                let group = |node: usize| groups.get(node).copied().unwrap_or(LATE);
                group(a) != group(b)
            }
            WallKind::Mute(mute) => mute.get(a).copied().unwrap_or(false),
        })
    }

    fn happening(&self, script: u32) -> Option<Happening> {
        self.plan.events.get(script as usize).map(|event| event.what.clone())
    }

    /// The nodes something happens to, in random order.
    fn choose(&mut self, who: &Who) -> Vec<u32> {
        let all = (0u32..).zip(&self.hosts).filter(|(_, host)| host.up && !host.leaving);
        let mut chosen: Vec<u32> = match who {
            Who::Region(region) => all
                .filter(|(_, host)| usize::from(host.place.region) == *region)
                .map(|(index, _)| index)
                .collect(),
            Who::Nodes(nodes) => {
                all.filter(|(index, _)| nodes.contains(&(*index as usize))).map(|(index, _)| index).collect()
            }
            Who::Share(_) | Who::Count(_) => all.map(|(index, _)| index).collect(),
        };
        self.script_dice.shuffle(&mut chosen);
        match who {
            Who::Count(count) => chosen.truncate(*count),
            Who::Share(share) => chosen.truncate((share * chosen.len() as f64).round() as usize),
            Who::Region(_) | Who::Nodes(_) => {}
        }
        chosen
    }

    /// A moment within a span, at its `place`th of so many equal steps.
    fn step(&self, span: Duration, place: usize, of: usize) -> u64 {
        self.now + ns(span) * place as u64 / of.max(1) as u64
    }

    pub(super) fn script_begins(&mut self, script: u32) {
        let Some(what) = self.happening(script) else { return };
        let place = self.watch.marks.len();
        let name = what.name();
        self.watch.marks.push(Mark { at: seconds(self.now), what: name.clone(), ..Mark::default() });
        self.watch.reached(&format!("script: {name}"));
        let (nodes, lasts) = self.begin(script, &what, place);
        let mark = &mut self.watch.marks[place];
        mark.nodes = nodes;
        mark.until = what.passes_after().map(|lasts| mark.at + lasts.as_secs_f64());
        if let Some(lasts) = lasts {
            mark.until = Some(mark.at + lasts.as_secs_f64());
            self.queue.push(self.now + ns(lasts), NOBODY, Event::ScriptEnds(script));
        }
    }

    /// How many nodes it befalls, and for how long if its end needs doing something.
    fn begin(&mut self, script: u32, what: &Happening, mark: usize) -> (usize, Option<Duration>) {
        match what {
            Happening::Crash { who } => {
                let chosen = self.choose(who);
                chosen.iter().for_each(|node| self.crash(*node, Some(mark)));
                (chosen.len(), None)
            }
            Happening::Leave { who } => {
                let chosen = self.choose(who);
                chosen.iter().for_each(|node| self.leave(*node, Some(mark)));
                (chosen.len(), None)
            }
            Happening::Join { nodes, over } => {
                for place in 0..*nodes {
                    let (index, at) = (self.add_host(), self.step(*over, place, *nodes));
                    self.queue.push(at, index, Event::Start { stranger: false });
                }
                (*nodes, None)
            }
            Happening::RollingRestart { who, over, .. } => {
                let chosen = self.choose(who);
                for (place, node) in chosen.iter().enumerate() {
                    self.queue.push(self.step(*over, place, chosen.len()), *node, Event::Restart(script));
                }
                (chosen.len(), None)
            }
            Happening::RegionLoss { region, back } => {
                let chosen = self.choose(&Who::Region(*region));
                for node in &chosen {
                    self.crash(*node, Some(mark));
                    if let Some(back) = back {
                        self.queue.push(self.now + ns(*back), *node, Event::Start { stranger: false });
                    }
                }
                (chosen.len(), None)
            }
            Happening::Partition { groups, lasts } => {
                let mut order: Vec<usize> = (0..self.hosts.len()).collect();
                self.script_dice.shuffle(&mut order);
                let mut group = vec![0; self.hosts.len()];
                for (place, node) in order.into_iter().enumerate() {
                    group[node] = u8::try_from(place % groups).unwrap_or(0);
                }
                self.raise(script, WallKind::Groups(group));
                (self.hosts.len(), Some(*lasts))
            }
            Happening::RegionCut { region, lasts } => {
                let group: Vec<u8> =
                    self.hosts.iter().map(|h| u8::from(usize::from(h.place.region) == *region)).collect();
                let nodes = group.iter().filter(|group| **group == 1).count();
                self.raise(script, WallKind::Groups(group));
                (nodes, Some(*lasts))
            }
            Happening::OneWay { who, lasts } => {
                let chosen = self.choose(who);
                let mut mute = vec![false; self.hosts.len()];
                for node in &chosen {
                    mute[*node as usize] = true;
                }
                self.raise(script, WallKind::Mute(mute));
                (chosen.len(), Some(*lasts))
            }
            Happening::Resolver { mood, lasts } => {
                self.directory.mood = *mood;
                (0, Some(*lasts))
            }
            Happening::Pause { who, every, .. } => {
                let chosen = self.choose(who);
                for node in &chosen {
                    let phase = every.map_or(Duration::ZERO, |every| self.script_dice.part(every));
                    self.queue.push(self.now + ns(phase), *node, Event::Pause(script));
                }
                (chosen.len(), None)
            }
            Happening::Slow { who, handling, lasts } => {
                let chosen = self.choose(who);
                for node in &chosen {
                    self.hosts[*node as usize].standing.handling = ns(*handling);
                }
                self.slowed.extend(chosen.iter().map(|node| (script, *node)));
                (chosen.len(), Some(*lasts))
            }
            Happening::Swizzle { who, lasts } => {
                let mut chosen = self.choose(who);
                for (place, node) in chosen.iter().enumerate() {
                    self.queue.push(self.step(*lasts / 3, place, chosen.len()), *node, Event::Cut);
                }
                self.script_dice.shuffle(&mut chosen);
                for (place, node) in chosen.iter().enumerate() {
                    let free = self.step(*lasts / 3, place, chosen.len()) + ns(*lasts) * 2 / 3;
                    self.queue.push(free, *node, Event::Uncut);
                }
                (chosen.len(), None)
            }
            Happening::Move { who, migrates } => {
                let chosen = self.choose(who);
                chosen.iter().for_each(|node| self.move_away(*node, *migrates));
                (chosen.len(), None)
            }
        }
    }

    pub(super) fn script_ends(&mut self, script: u32) {
        match self.happening(script) {
            Some(Happening::Resolver { .. }) => self.directory.mood = self.plan.resolver.mood,
            Some(Happening::Slow { .. }) => {
                let (over, rest) =
                    std::mem::take(&mut self.slowed).into_iter().partition(|(s, _)| *s == script);
                self.slowed = rest;
                let over: Vec<(u32, u32)> = over;
                for (_, node) in over {
                    self.hosts[node as usize].standing.handling = 0;
                    self.wake(node);
                }
            }
            _ => {
                self.walls.retain(|wall| wall.script != script);
                self.listen_everywhere();
                self.register_again();
            }
        }
    }

    fn raise(&mut self, script: u32, kind: WallKind) {
        self.walls.push(Wall { script, kind });
        self.listen_everywhere();
        self.let_leases_run();
    }

    pub(super) fn cut(&mut self, node: u32) {
        self.hosts[node as usize].cut += 1;
        self.cut_off += 1;
        self.listen_around(node);
    }

    pub(super) fn uncut(&mut self, node: u32) {
        let host = &mut self.hosts[node as usize];
        if host.cut > 0 {
            host.cut -= 1;
            self.cut_off -= 1;
            self.listen_around(node);
            for (end, _) in self.links_of(node) {
                self.send_held_again(end);
                self.send_held_again(end.other());
            }
        }
    }

    pub(super) fn pause(&mut self, node: u32, script: u32) {
        let Some(Happening::Pause { stands, every, lasts, .. }) = self.happening(script) else { return };
        let began = self.plan.events.get(script as usize).map_or(0, |event| ns(event.at));
        let until = began + ns(lasts);
        self.stand_still(node);
        self.queue.push((self.now + ns(stands)).min(until.max(self.now)), node, Event::Resume(script));
        if let Some(every) = every.filter(|every| self.now + ns(*every) < until) {
            self.queue.push(self.now + ns(every), node, Event::Pause(script));
        }
    }

    pub(super) fn resume(&mut self, node: u32, _script: u32) {
        self.go_on(node);
    }

    pub(super) fn restart(&mut self, node: u32, script: u32) {
        let Some(Happening::RollingRestart { down, clean, upgrade, .. }) = self.happening(script) else {
            return;
        };
        if clean {
            self.leave(node, None);
        } else {
            self.crash(node, None);
        }
        if upgrade {
            self.hosts[node as usize].older = false;
        }
        // A goodbye takes up to two seconds.
        let down = if clean { down.max(Duration::from_millis(2500)) } else { down };
        self.queue.push(self.now + ns(down), node, Event::Start { stranger: false });
    }
}

impl Happening {
    /// How long it lasts, if it ends without anything that needs doing.
    fn passes_after(&self) -> Option<Duration> {
        match self {
            Self::Join { over, .. } => Some(*over),
            Self::RollingRestart { over, down, .. } => Some(*over + *down),
            Self::RegionLoss { back, .. } => *back,
            Self::Pause { stands, every: None, .. } => Some(*stands),
            Self::Pause { lasts, .. } | Self::Swizzle { lasts, .. } => Some(*lasts),
            _ => None,
        }
    }

    /// What people call it.
    fn name(&self) -> String {
        match self {
            Self::Crash { .. } => "crash".to_owned(),
            Self::Leave { .. } => "leave".to_owned(),
            Self::Join { .. } => "join".to_owned(),
            Self::RollingRestart { .. } => "rolling restart".to_owned(),
            Self::RegionLoss { region, .. } => format!("loss of region {region}"),
            Self::Partition { groups, .. } => format!("partition into {groups}"),
            Self::RegionCut { region, .. } => format!("region {region} cut off"),
            Self::OneWay { .. } => "one-way partition".to_owned(),
            Self::Resolver { mood, .. } => match mood {
                Mood::Honest => "resolver honest".to_owned(),
                Mood::Down => "resolver down".to_owned(),
                Mood::Empty => "resolver empty".to_owned(),
                Mood::Slow(_) => "resolver slow".to_owned(),
                Mood::Dead => "resolver names the dead".to_owned(),
                Mood::Foreign => "resolver names strangers".to_owned(),
                Mood::Lying => "resolver lying".to_owned(),
            },
            Self::Pause { .. } => "pauses".to_owned(),
            Self::Slow { .. } => "slow nodes".to_owned(),
            Self::Swizzle { .. } => "swizzle".to_owned(),
            Self::Move { .. } => "move".to_owned(),
        }
    }
}

//! The layout of a scenario file: its tables and keys, each optional where the plan has a default.

use serde::Deserialize;

use crate::plan::{
    Admission, BandwidthClass, Checks, Churn, Join, Map, Mood, NODES_MAX, Packets, Plan, Resolver, Traffic,
};

use super::event::{EventText, MoodName};
use super::target::TargetText;
use super::values::{Rate, Share, Span, Whole};
use super::{Scenario, ScenarioError};

/// Seeds of a scenario that does not say: as many as the table asks for.
const SEEDS: usize = 10;
/// Scenarios that extend each other: beyond, nobody can say what a file means.
const EXTENDS_MAX: usize = 4;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    title: String,
    #[serde(default)]
    shows: String,
    /// Resolved before the file is read as this type.
    #[serde(rename = "extends")]
    _extends: Option<String>,
    #[serde(default = "judge")]
    judge: bool,
    nodes: Option<Whole<1, { NODES_MAX as u64 }>>,
    seeds: Option<Whole<1, 1000>>,
    duration: Option<Span>,
    sample_every: Option<Span>,
    codec: Option<bool>,
    older: Option<Share>,
    #[serde(default)]
    config: ConfigText,
    #[serde(default)]
    network: NetworkText,
    #[serde(default)]
    traffic: TrafficText,
    #[serde(default)]
    join: JoinText,
    #[serde(default)]
    resolver: ResolverText,
    churn: Option<ChurnText>,
    #[serde(default)]
    checks: ChecksText,
    #[serde(default, rename = "event")]
    events: Vec<EventText>,
    #[serde(default, rename = "target")]
    targets: Vec<TargetText>,
}

fn judge() -> bool {
    true
}

/// The configuration of every node, beginning from a preset.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigText {
    preset: Option<Preset>,
    neighbors_low: Option<Whole<1, 64>>,
    neighbors_target: Option<Whole<1, 64>>,
    neighbors_high: Option<Whole<1, 64>>,
    dialable_high: Option<Whole<1, 64>>,
    full_mesh_members_max: Option<Whole<1, 65>>,
    members_max: Option<Whole<2, 1_048_576>>,
    passive_max: Option<Whole<1, 65_536>>,
    candidates_max: Option<Whole<8, 65_536>>,
    retention_bytes: Option<Whole<65_536, 4_294_967_295>>,
    origin_auth: Option<bool>,
    connect_timeout: Option<Span>,
    slow_after: Option<Span>,
    resolve_interval: Option<Span>,
    repair_limit: Option<Span>,
    leave_timeout: Option<Span>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Preset {
    Default,
    PeerChannel,
    Lan,
    Internet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkText {
    undialable: Option<Share>,
    loss: Option<Share>,
    jitter: Option<Share>,
    admission: Option<AdmissionName>,
    /// Centres, in ms of one-way delay.
    regions: Option<Vec<(f64, f64)>>,
    spread_ms: Option<f64>,
    last_mile_ms: Option<(f64, f64)>,
    handling: Option<Span>,
    bandwidth: Option<Vec<BandwidthText>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AdmissionName {
    Open,
    Password,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BandwidthText {
    share: Share,
    uplink_kbit: Whole<1, 100_000_000>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrafficText {
    per_second: Option<Rate>,
    payload_bytes: Option<Whole<4, 1_048_576>>,
    publishers: Option<Whole<1, 16_384>>,
    from: Option<Span>,
    until: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinText {
    /// 0s: all at once.
    over: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolverText {
    answers: Option<Whole<0, 256>>,
    delay: Option<Span>,
    lease: Option<Span>,
    mood: Option<MoodName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChurnText {
    from: Option<Span>,
    until: Option<Span>,
    /// May exceed 1: more go in a minute than there are.
    per_minute: Option<Rate>,
    shape: Option<f64>,
    absence: Option<Span>,
    clean: Option<Share>,
    returning: Option<Share>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChecksText {
    delta: Option<OrOff>,
    settled: Option<Span>,
    neighbors_max: Option<Whole<1, 4096>>,
    agree_within: Option<OrOff>,
    links_per_pair_minute: Option<Whole<0, 1_000_000>>,
    quiet_bytes: Option<Rate>,
    links_per_node_minute: Option<Rate>,
    settles_in: Option<Span>,
    deadlines_per_second: Option<Whole<1, 1_000_000>>,
}

/// A duration, or `false` for a check that is not made.
#[derive(Debug, Clone, Copy)]
struct OrOff(Option<Span>);

impl<'de> Deserialize<'de> for OrOff {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a duration such as \"60s\", or false for no check")]
        enum Either {
            Off(bool),
            Time(Span),
        }
        match Either::deserialize(from)? {
            Either::Off(false) => Ok(Self(None)),
            Either::Off(true) => {
                Err(serde::de::Error::custom("true is no duration: write one such as \"60s\", or false"))
            }
            Either::Time(span) => Ok(Self(Some(span))),
        }
    }
}

/// Reads a file and what it extends.
pub(super) fn read(
    name: &str,
    text: &str,
    base: &dyn Fn(&str) -> Result<String, ScenarioError>,
) -> Result<File, ScenarioError> {
    let invalid = |why: String| ScenarioError::Invalid { name: name.to_owned(), why };
    let table = |name: &str, text: &str| {
        toml::from_str::<toml::Table>(text)
            .map_err(|error| ScenarioError::Invalid { name: name.to_owned(), why: error.to_string() })
    };
    let mut merged = table(name, text)?;
    if !merged.contains_key("extends") {
        // From the text rather than from the table: errors show the line.
        return toml::from_str(text).map_err(|error| invalid(error.to_string()));
    }
    for _ in 0..EXTENDS_MAX {
        let Some(extends) = merged.remove("extends") else {
            return merged.try_into().map_err(|error: toml::de::Error| invalid(error.to_string()));
        };
        let toml::Value::String(extends) = extends else {
            return Err(invalid(format!("extends = {extends}: must be the name of a scenario, in quotes")));
        };
        let below = table(&extends, &base(&extends)?)?;
        merged = laid_over(below, merged);
    }
    Err(invalid(format!("extends more than {EXTENDS_MAX} scenarios one after another, or itself")))
}

/// What the upper table says wins; tables in both are laid over each other, lists are replaced.
fn laid_over(mut below: toml::Table, above: toml::Table) -> toml::Table {
    for (key, value) in above {
        match (below.remove(&key), value) {
            (Some(toml::Value::Table(lower)), toml::Value::Table(upper)) => {
                below.insert(key, toml::Value::Table(laid_over(lower, upper)));
            }
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
    below
}

impl File {
    /// # Errors
    /// What is wrong, with the key.
    pub(super) fn scenario(self, name: &str) -> Result<Scenario, String> {
        let title = self.title.trim().to_owned();
        if title.is_empty() || title.lines().count() > 1 {
            return Err(format!("title = {title:?}: must be one line that is not empty"));
        }
        let defaults = Plan::default();
        let events: Result<Vec<_>, String> =
            self.events.into_iter().enumerate().map(|(index, event)| event.scripted(index)).collect();
        let judge = self.judge;
        let targets: Result<Vec<_>, String> =
            self.targets.into_iter().map(|target| target.target(judge)).collect();
        let network = self.network;
        let plan = Plan {
            name: name.to_owned(),
            nodes: self.nodes.map_or(defaults.nodes, Whole::size),
            duration: self.duration.map_or(defaults.duration, Span::get),
            sample_every: self.sample_every.map_or(defaults.sample_every, Span::get),
            codec: self.codec.unwrap_or(defaults.codec),
            older: self.older.map_or(defaults.older, Share::get),
            config: self.config.config(),
            undialable: network.undialable.map_or(defaults.undialable, Share::get),
            admission: network.admission.map_or(defaults.admission, AdmissionName::admission),
            packets: network.packets(),
            bandwidth: network.bandwidth(),
            map: network.map(),
            traffic: self.traffic.traffic(),
            join: self.join.over.map_or(defaults.join, |over| {
                if over.get().is_zero() { Join::AtOnce } else { Join::Over(over.get()) }
            }),
            resolver: self.resolver.resolver()?,
            churn: self.churn.map(|churn| churn.churn()),
            events: events?,
            checks: self.checks.checks(),
            ..defaults
        };
        Ok(Scenario {
            name: name.to_owned(),
            place: name.to_owned(),
            title,
            shows: self.shows.trim().to_owned(),
            seeds: self.seeds.map_or(SEEDS, Whole::size),
            plan,
            targets: targets?,
        })
    }
}

/// Replaces fields that the file names.
macro_rules! replace {
    ($from:ident -> $into:ident { $($field:ident $read:path),* $(,)? }) => {
        $(if let Some(value) = $from.$field {
            $into.$field = $read(value);
        })*
    };
}

impl ConfigText {
    fn config(&self) -> peerchannel_mesh::Config {
        let mut config = match self.preset {
            None | Some(Preset::Default) => peerchannel_mesh::Config::default(),
            Some(Preset::PeerChannel) => peerchannel_mesh::Config::peer_channel(),
            Some(Preset::Lan) => peerchannel_mesh::Config::lan(),
            Some(Preset::Internet) => peerchannel_mesh::Config::internet(),
        };
        replace!(self -> config {
            neighbors_low Whole::size,
            neighbors_target Whole::size,
            neighbors_high Whole::size,
            dialable_high Whole::size,
            full_mesh_members_max Whole::size,
            members_max Whole::size,
            passive_max Whole::size,
            candidates_max Whole::size,
            retention_bytes Whole::size,
            origin_auth bool::from,
            connect_timeout Span::get,
            slow_after Span::get,
            resolve_interval Span::get,
            repair_limit Span::get,
            leave_timeout Span::get,
        });
        config
    }
}

impl NetworkText {
    fn packets(&self) -> Packets {
        let mut packets = Packets::default();
        replace!(self -> packets { loss Share::get, jitter Share::get });
        packets
    }

    fn bandwidth(&self) -> Vec<BandwidthClass> {
        let Some(classes) = &self.bandwidth else { return BandwidthClass::mix() };
        let class = |text: &BandwidthText| BandwidthClass {
            weight: text.share.get(),
            uplink_bits: text.uplink_kbit.get() * 1000,
        };
        classes.iter().map(class).collect()
    }

    fn map(&self) -> Map {
        let mut map = Map::default();
        if let Some(regions) = &self.regions {
            map.regions.clone_from(regions);
        }
        if let Some((from, until)) = self.last_mile_ms {
            map.last_mile_ms = from..until;
        }
        replace!(self -> map { spread_ms f64::from, handling Span::get });
        map
    }
}

impl AdmissionName {
    fn admission(self) -> Admission {
        match self {
            Self::Open => Admission::Open,
            Self::Password => Admission::Password,
        }
    }
}

impl TrafficText {
    fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        replace!(self -> traffic {
            per_second Rate::get,
            payload_bytes Whole::size,
            publishers Whole::size,
            from Span::get,
        });
        traffic.until = self.until.map(Span::get);
        traffic
    }
}

impl ResolverText {
    fn resolver(&self) -> Result<Resolver, String> {
        let mut resolver = Resolver::default();
        replace!(self -> resolver { answers Whole::size, delay Span::get, lease Span::get });
        resolver.mood = match self.mood {
            None => Mood::Honest,
            // Slowness without end is the delay of every answer.
            Some(MoodName::Slow) => return Err("resolver.mood = \"slow\": set resolver.delay instead".into()),
            Some(mood) => mood.mood(None)?,
        };
        Ok(resolver)
    }
}

impl ChurnText {
    fn churn(&self) -> Churn {
        let mut churn = Churn::default();
        replace!(self -> churn {
            from Span::get,
            per_minute Rate::get,
            shape f64::from,
            absence Span::get,
            clean Share::get,
            returning Share::get,
        });
        churn.until = self.until.map(Span::get);
        churn
    }
}

impl ChecksText {
    fn checks(&self) -> Checks {
        let mut checks = Checks::default();
        let off = |time: OrOff| time.0.map(Span::get);
        let size = |count: Whole<0, 1_000_000>| u32::try_from(count.get()).ok();
        replace!(self -> checks {
            delta off,
            settled Span::get,
            agree_within off,
            links_per_pair_minute size,
            settles_in Span::get,
        });
        checks.neighbors_max = self.neighbors_max.map(Whole::size).or(checks.neighbors_max);
        checks.quiet_bytes = self.quiet_bytes.map(Rate::get).or(checks.quiet_bytes);
        checks.links_per_node_minute =
            self.links_per_node_minute.map(Rate::get).or(checks.links_per_node_minute);
        if let Some(deadlines) = self.deadlines_per_second {
            checks.deadlines_per_second = u32::try_from(deadlines.get()).unwrap_or(u32::MAX);
        }
        checks
    }
}

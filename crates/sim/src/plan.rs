//! Everything a run is told: one [`Plan`] and its seed determine every event of it.
//!
//! Plain data with defaults. Shares are from 0 to 1, times count from the start of the run.

use std::ops::Range;
use std::time::Duration;

use peerchannel_mesh::Config;
use thiserror::Error;

/// Most nodes of a run: an address of the simulated network has 24 bits for them.
pub const NODES_MAX: usize = 1 << 24;

/// A run: who takes part, over which network, and what befalls them.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What people call it. Appears in reports and in [`Plan::replay`].
    pub name: String,
    /// The command that repeats this run, printed with each violation. Empty: made up from
    /// name, nodes and seed.
    pub replay: String,
    /// Nodes at the start. Default 200.
    pub nodes: usize,
    /// What all chance of the run comes from. Default 1.
    pub seed: u64,
    /// How long the run lasts in virtual time. Default 60 s.
    pub duration: Duration,
    /// What every node is configured with.
    pub config: Config,
    /// Whether each frame is really encoded and decoded. Default off: frames are moved, and
    /// their sizes computed. Slower by several times; for small runs.
    pub codec: bool,
    /// The share of nodes of the first release: they offer none of the optional features.
    /// Default 0. [`Happening::RollingRestart`] can upgrade them.
    pub older: f64,
    /// Where nodes are.
    pub map: Map,
    /// The share of nodes that dial but do not answer dials, as behind most home routers. Their
    /// advertised address swallows what is sent to it. The first node is always dialable.
    /// Default 0.3.
    pub undialable: f64,
    /// How fast nodes send. Default: the classes of science.md section 5.2.
    pub bandwidth: Vec<BandwidthClass>,
    /// What befalls packets.
    pub packets: Packets,
    /// Which proof opens a link, which decides the round trips of a dial.
    pub admission: Admission,
    /// What is published.
    pub traffic: Traffic,
    /// How the first nodes join.
    pub join: Join,
    /// How the resolver answers while nothing is scripted.
    pub resolver: Resolver,
    /// Whether nodes come and go by themselves. Default not.
    pub churn: Option<Churn>,
    /// What happens when. Any order.
    pub events: Vec<Scripted>,
    /// How often the whole mesh is looked at. Default 1 s.
    pub sample_every: Duration,
    /// What must hold.
    pub checks: Checks,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: "unnamed".to_owned(),
            replay: String::new(),
            nodes: 200,
            seed: 1,
            duration: Duration::from_secs(60),
            config: Config::default(),
            codec: false,
            older: 0.0,
            map: Map::default(),
            undialable: 0.3,
            bandwidth: BandwidthClass::mix(),
            packets: Packets::default(),
            admission: Admission::Password,
            traffic: Traffic::default(),
            join: Join::default(),
            resolver: Resolver::default(),
            churn: None,
            events: Vec::new(),
            sample_every: Duration::from_secs(1),
            checks: Checks::default(),
        }
    }
}

/// Regions on a plane whose distances are one-way delays.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Centres, in ms of one-way delay. Nodes are spread over them evenly. Default: eight on a
    /// plane of 120 by 60 ms (science.md section 1.2).
    pub regions: Vec<(f64, f64)>,
    /// How far from its centre a node lies at most, in ms. Default 2.
    pub spread_ms: f64,
    /// One-way delay of a node's last mile, in ms: uniform between the two. Default 0.25 to 5.
    pub last_mile_ms: Range<f64>,
    /// What a node takes to handle a packet. Default 0.2 ms (science.md section 1.2).
    pub handling: Duration,
}

impl Default for Map {
    fn default() -> Self {
        Self {
            regions: vec![
                (8.0, 22.0),
                (26.0, 14.0),
                (30.0, 48.0),
                (58.0, 10.0),
                (64.0, 26.0),
                (86.0, 34.0),
                (108.0, 18.0),
                (116.0, 54.0),
            ],
            spread_ms: 2.0,
            last_mile_ms: 0.25..5.0,
            handling: Duration::from_micros(200),
        }
    }
}

/// How fast a class of nodes sends, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BandwidthClass {
    /// Its weight among the classes.
    pub weight: f64,
    /// Bits per second of the uplink. What a node receives is not limited: homes send slower
    /// than they receive.
    pub uplink_bits: u64,
}

impl BandwidthClass {
    /// 30 % with 10 Mbit/s, 50 % with 100 Mbit/s, 20 % with 1 Gbit/s (science.md section 5.2).
    #[must_use]
    pub fn mix() -> Vec<Self> {
        vec![
            Self { weight: 0.3, uplink_bits: 10_000_000 },
            Self { weight: 0.5, uplink_bits: 100_000_000 },
            Self { weight: 0.2, uplink_bits: 1_000_000_000 },
        ]
    }
}

/// What befalls packets on every path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packets {
    /// The share that is lost. Streams repair it with delay, datagrams do not. Default 0.
    pub loss: f64,
    /// Added to the one-way delay: uniform up to this share of it. Default 0.05.
    pub jitter: f64,
}

impl Default for Packets {
    fn default() -> Self {
        Self { loss: 0.0, jitter: 0.05 }
    }
}

/// The round trips before a link is open, beside QUIC's one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// Hello and reply: one round trip.
    Open,
    /// Shares, then confirmations: two round trips.
    #[default]
    Password,
}

/// What is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Messages per second of all publishers together, at random times. Default 1. Zero: none.
    pub per_second: f64,
    /// Bytes of each. Default 256, at least 4: a message begins with its number.
    pub payload_bytes: usize,
    /// Nodes that publish, chosen at random among the first nodes. Default 16. One whose node is
    /// down is silent.
    pub publishers: usize,
    /// From when. Default 20 s.
    pub from: Duration,
    /// Until when. Default: 10 s before the end of the run.
    pub until: Option<Duration>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            per_second: 1.0,
            payload_bytes: 256,
            publishers: 16,
            from: Duration::from_secs(20),
            until: None,
        }
    }
}

impl Traffic {
    /// Nobody publishes.
    #[must_use]
    pub fn none() -> Self {
        Self { per_second: 0.0, ..Self::default() }
    }
}

/// How the first nodes join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// All at time zero.
    AtOnce,
    /// One after another, evenly over this time; the first at zero.
    Over(Duration),
}

impl Default for Join {
    fn default() -> Self {
        Self::Over(Duration::from_secs(10))
    }
}

/// A directory: nodes register while they are up, and ask it for a few addresses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolver {
    /// Addresses in an answer, chosen at random among the registered. Default 8.
    pub answers: usize,
    /// How long an answer takes. Default 100 ms.
    pub delay: Duration,
    /// How long a node that crashed stays registered. Default 60 s, a lease.
    pub lease: Duration,
    /// What it does with questions.
    pub mood: Mood,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            answers: 8,
            delay: Duration::from_millis(100),
            lease: Duration::from_secs(60),
            mood: Mood::Honest,
        }
    }
}

/// What a resolver does with questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// It answers truly.
    #[default]
    Honest,
    /// It does not answer: nodes wait for their time-out.
    Down,
    /// It knows of nobody.
    Empty,
    /// It answers after this time.
    Slow(Duration),
    /// It answers with addresses where nobody is.
    Dead,
    /// It answers with nodes of other meshes, which refuse.
    Foreign,
    /// A random mixture of true, dead and foreign addresses.
    Lying,
}

/// Nodes that come and go by themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// From when. Default 30 s.
    pub from: Duration,
    /// Until when. Default: the end of the run less [`Checks::delta`].
    pub until: Option<Duration>,
    /// The share of nodes that go per minute. Default 0.1.
    pub per_minute: f64,
    /// Shape of the Weibull distribution of sessions; below 1, who has stayed long stays
    /// longer. Default 0.5 (science.md section 5.2). 1: exponential.
    pub shape: f64,
    /// How long until a node that went is replaced. Default 5 s, so that the size stays.
    pub absence: Duration,
    /// The share that says goodbye; the others crash. Default 0.5.
    pub clean: f64,
    /// The share that comes back as the same node in a new epoch; the others are replaced by
    /// strangers. Default 0.2.
    pub returning: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Self {
            from: Duration::from_secs(30),
            until: None,
            per_minute: 0.1,
            shape: 0.5,
            absence: Duration::from_secs(5),
            clean: 0.5,
            returning: 0.2,
        }
    }
}

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Scripted {
    /// When.
    pub at: Duration,
    /// What.
    pub what: Happening,
}

/// What can be made to happen.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// Processes die without a word.
    Crash {
        /// Whose.
        who: Who,
    },
    /// Nodes leave, with goodbyes.
    Leave {
        /// Who.
        who: Who,
    },
    /// More nodes join, evenly over a time.
    Join {
        /// How many.
        nodes: usize,
        /// Over how long.
        over: Duration,
    },
    /// Nodes are restarted one after another, on the same address under a new epoch.
    RollingRestart {
        /// Which.
        who: Who,
        /// Over how long they are taken down.
        over: Duration,
        /// How long each is down.
        down: Duration,
        /// Whether they say goodbye.
        clean: bool,
        /// Whether they come back with every optional feature.
        upgrade: bool,
    },
    /// A region loses its power: its nodes crash, and start again if `back` is given.
    RegionLoss {
        /// Index into [`Map::regions`].
        region: usize,
        /// After how long its nodes start again.
        back: Option<Duration>,
    },
    /// The network falls apart: packets between groups are lost.
    Partition {
        /// How many random groups of equal size.
        groups: usize,
        /// For how long.
        lasts: Duration,
    },
    /// A region is cut off from the others.
    RegionCut {
        /// Index into [`Map::regions`].
        region: usize,
        /// For how long.
        lasts: Duration,
    },
    /// Packets from these nodes to all others are lost; those towards them arrive.
    OneWay {
        /// Whose.
        who: Who,
        /// For how long.
        lasts: Duration,
    },
    /// The resolver behaves otherwise.
    Resolver {
        /// How.
        mood: Mood,
        /// For how long.
        lasts: Duration,
    },
    /// Processes stand still again and again, as in a virtual machine that is not scheduled or
    /// a laptop that sleeps: nothing is handled, packets and deadlines wait.
    Pause {
        /// Whose.
        who: Who,
        /// For how long each time.
        stands: Duration,
        /// How often, each node at its own random phase. `None`: once, now.
        every: Option<Duration>,
        /// For how long this goes on.
        lasts: Duration,
    },
    /// Nodes take long over everything they handle.
    Slow {
        /// Who.
        who: Who,
        /// For each packet.
        handling: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// Swizzle-clogging: nodes are cut off one after another in a random order, then let free
    /// one after another in another random order (FoundationDB).
    Swizzle {
        /// Who.
        who: Who,
        /// From the first cut to the last freedom.
        lasts: Duration,
    },
    /// The addresses of nodes change, as from one Wi-Fi to the next: packets to the old ones
    /// are lost.
    Move {
        /// Whose.
        who: Who,
        /// Whether QUIC migrates their connections; otherwise they are lost in silence.
        migrates: bool,
    },
}

/// Nodes that something happens to, among those that are up.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// A random share.
    Share(f64),
    /// So many at random.
    Count(usize),
    /// All of a region.
    Region(usize),
    /// These, by index.
    Nodes(Vec<usize>),
}

/// What must hold, beside what always must: each message at most once, in order or after an
/// exact gap; no node its own neighbor; no neighbor dialed; no violation of the protocol between honest nodes;
/// memory within its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks {
    /// A member that is up all the time has every message this long after it was published, or
    /// after the last fault ended if that is later. Default 60 s. `None`: not checked.
    pub delta: Option<Duration>,
    /// How long a node must have had a neighbor to count as a member that must receive.
    /// Default 10 s.
    pub settled: Duration,
    /// Most neighbors of a node. Default: what the configuration allows.
    pub neighbors_max: Option<usize>,
    /// Two nodes that can reach each other may disagree about their link for this long.
    /// Default 12 s: QUIC notices a dead peer within 9.5 s. `None`: not checked.
    pub agree_within: Option<Duration>,
    /// Most times per minute the same two nodes become neighbors. Default 6.
    pub links_per_pair_minute: Option<u32>,
    /// How long after the last join, fault and departure the mesh counts as settled: the two
    /// limits below hold on average from then on, where a minute is left. Default 3 min.
    pub settles_in: Duration,
    /// Most bytes per second and node that a settled mesh sends beside messages and what they
    /// ask for. Default 2000, four times what is aimed at with 1000 members. `None`: not checked.
    pub quiet_bytes: Option<f64>,
    /// Most links made per node and minute in a settled mesh. Default 2. `None`: not checked.
    pub links_per_node_minute: Option<f64>,
    /// Most deadlines a node may handle per second: more is spinning. Default 2000.
    pub deadlines_per_second: u32,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            delta: Some(Duration::from_secs(60)),
            settled: Duration::from_secs(10),
            neighbors_max: None,
            agree_within: Some(Duration::from_secs(12)),
            links_per_pair_minute: Some(6),
            settles_in: Duration::from_secs(180),
            quiet_bytes: Some(2000.0),
            links_per_node_minute: Some(2.0),
            deadlines_per_second: 2000,
        }
    }
}

/// A plan that cannot be run. The text names the field and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {why}")]
pub struct PlanError {
    /// The field of [`Plan`].
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Plan {
    /// Checks every value.
    ///
    /// # Errors
    /// [`PlanError`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), PlanError> {
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let joining: usize = self
            .events
            .iter()
            .map(|event| if let Happening::Join { nodes, .. } = event.what { nodes } else { 0 })
            .fold(self.nodes, usize::saturating_add);
        let regions = self.map.regions.len();
        let places = self.map.regions.iter().all(|(x, y)| x.is_finite() && y.is_finite());
        let miles = &self.map.last_mile_ms;
        let rules = [
            (self.nodes >= 1 && joining <= NODES_MAX, "nodes", "must be 1 to 2^24 in all"),
            (!self.duration.is_zero(), "duration", "must not be zero"),
            (self.duration.as_secs() < 1 << 24, "duration", "must be below half a year"),
            ((1..=256).contains(&regions) && places, "map.regions", "must be 1 to 256 places"),
            (self.map.spread_ms >= 0.0, "map.spread_ms", "must not be negative"),
            (miles.start >= 0.0 && miles.end >= miles.start, "map.last_mile_ms", "must be a range from 0 up"),
            (share(self.undialable), "undialable", "must be a share from 0 to 1"),
            (share(self.older), "older", "must be a share from 0 to 1"),
            (share(self.packets.loss) && self.packets.loss < 0.9, "packets.loss", "must be below 0.9"),
            (share(self.packets.jitter), "packets.jitter", "must be a share from 0 to 1"),
            (!self.bandwidth.is_empty(), "bandwidth", "must have a class"),
            (
                self.bandwidth.iter().all(|class| class.uplink_bits >= 1000 && class.weight >= 0.0),
                "bandwidth",
                "must be at least 1000 bit/s, with weights from 0 up",
            ),
            (self.traffic.per_second >= 0.0, "traffic.per_second", "must not be negative"),
            (
                (4..=self.config.max_message).contains(&self.traffic.payload_bytes),
                "traffic.payload_bytes",
                "must be 4 to the largest message of the configuration",
            ),
            (self.sample_every >= Duration::from_millis(10), "sample_every", "must be at least 10 ms"),
            (
                self.churn.is_none_or(|churn| churn.shape > 0.05 && churn.per_minute >= 0.0),
                "churn",
                "must have a shape above 0.05 and a rate from 0 up",
            ),
        ];
        if let Some((_, field, why)) = rules.into_iter().find(|(holds, ..)| !holds) {
            return Err(PlanError { field, why: why.to_owned() });
        }
        self.config.validate().map_err(|error| PlanError { field: "config", why: error.to_string() })?;
        self.events.iter().try_for_each(|event| event.what.validate(regions))
    }

    /// The command that repeats this run.
    #[must_use]
    pub fn replay(&self) -> String {
        if self.replay.is_empty() {
            format!("cargo xtask sim {} --nodes {} --seed {}", self.name, self.nodes, self.seed)
        } else {
            self.replay.clone()
        }
    }
}

impl Happening {
    fn validate(&self, regions: usize) -> Result<(), PlanError> {
        let wrong = |why: &str| Err(PlanError { field: "events", why: why.to_owned() });
        let region = match self {
            Self::RegionLoss { region, .. } | Self::RegionCut { region, .. } => Some(*region),
            Self::Crash { who: Who::Region(region) } | Self::Leave { who: Who::Region(region) } => {
                Some(*region)
            }
            _ => None,
        };
        if region.is_some_and(|region| region >= regions) {
            return wrong("no such region");
        }
        match self {
            Self::Partition { groups, .. } if !(2..=250).contains(groups) => {
                wrong("a partition has 2 to 250 groups")
            }
            Self::Pause { stands, every: Some(every), .. } if every <= stands => {
                wrong("a pause must be shorter than its period")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Plan::default().validate(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_named() {
        let check = |change: &dyn Fn(&mut Plan), field: &str| {
            let mut plan = Plan::default();
            change(&mut plan);
            assert_eq!(plan.validate().map_err(|error| error.field), Err(field));
        };
        check(&|plan| plan.nodes = 0, "nodes");
        check(&|plan| plan.undialable = 1.5, "undialable");
        check(&|plan| plan.bandwidth.clear(), "bandwidth");
        check(&|plan| plan.traffic.payload_bytes = 1, "traffic.payload_bytes");
        check(&|plan| plan.config.neighbors_low = 0, "config");
        let region = Happening::RegionLoss { region: 8, back: None };
        check(&|plan| plan.events = vec![Scripted { at: Duration::ZERO, what: region.clone() }], "events");
    }
}

//! The brain of Peer Channel: a sans-IO state machine of one node in one mesh.

mod aside;
mod candidates;
mod chance;
mod config;
mod connect;
mod direct;
mod filter;
mod flood;
mod inbound;
mod input;
mod jobs;
mod leave;
mod link;
mod maintain;
mod members;
mod node;
mod outgoing;
mod output;
mod presence;
mod publish;
mod publish_error;
mod reconcile;
mod repair;
mod retention;
mod stats;
mod time;
mod timers;

pub use config::{Config, ConfigError, NEIGHBORS_MAX};
pub use filter::{Filter, FilterView, Origination, Verdict};
pub use input::{Candidate, DialFailure, DialId, Input, JobId, Lane, LinkId, LinkLoss, LinkOpened};
pub use members::MemberView;
pub use node::{Me, NeighborView, Node};
pub use output::{
    Delivery, DeliveryLane, DirectError, Event, Farewell, GapReason, MemberLoss, NeighborLoss, Output,
    VOLATILE_LIFETIME,
};
pub use publish_error::{PublishError, Published};
pub use stats::Stats;
pub use time::Time;

//! The brain of Peer Channel: a sans-IO state machine of one node in one mesh.
//!
//! [`Node`] decides who is a neighbor, what is new, where a message goes next, what is missing
//! and whom to ask for it. It does nothing: no sockets, no clock, no dice, no tasks, no locks.
//! A driver tells it what happened and carries out what it orders. The same code runs in the
//! `peerchannel` facade over QUIC and in tests on virtual time: same seed, same run.
//!
//! # The contract
//! 1. Make a node with [`Node::new`].
//! 2. When something happens, call [`Node::handle`] with one [`Input`], or one of the
//!    application's verbs ([`Node::publish`], [`Node::send_direct`], [`Node::leave`], …).
//! 3. Then call [`Node::poll_output`] until it returns `None`, and carry out each [`Output`].
//! 4. Then read [`Node::poll_timeout`] and call `handle(now, Input::Timeout)` at that time.
//!
//! `now` never goes back. Spurious time-outs are harmless. Orders are facts to wait for, never
//! to wait *on*: a driver that takes long over one neighbor must not delay the others.
//!
//! # What it promises
//! - **Order and once.** Messages of one stream, (origin, epoch, channel), are delivered in
//!   sequence, each at most once. What will never come is reported as exactly one
//!   [`Event::Gap`] per range.
//! - **Bounds.** Every table, queue and memory that a neighbor can grow has a limit in
//!   [`Config`] or a named constant, and says so by [`Event::Overloaded`] and [`Stats`].
//! - **Blame.** What breaks the protocol closes the link it came by, and nothing else.
//!
//! The ideas come from HyParView (links), Plumtree (pull repair), SWIM (members and their
//! refutations), range-based set reconciliation (digests), and WCF Peer Channel (referrals,
//! propagation filters, hop counts). `docs/protocol.md` sections 3 to 5 are normative.
//!
//! # Example: two nodes and the orders between them
//! ```
//! use peerchannel_mesh::{Config, Event, Input, Me, Node, Output, Time};
//! use peerchannel_wire::{ChannelName, Epoch, MemberName, MeshId, NodeId, Signature};
//!
//! let me = Me {
//!     mesh: MeshId::from_bytes([1; 32]),
//!     node: NodeId::from_bytes([7; 32]),
//!     epoch: Epoch::new(1).expect("small"),
//!     name: MemberName::new("ann")?,
//!     addresses: vec!["127.0.0.1:4000".parse()?],
//!     wall_ms: 0,
//! };
//! let now = Time::ZERO;
//! let mut node = Node::new(Config::default(), me, [0; 32], now)?;
//!
//! // A message published without a neighbor is held; the node asks for signatures and addresses.
//! node.publish(now, &ChannelName::new("chat")?, "hello".into())?;
//! let mut orders = Vec::new();
//! while let Some(output) = node.poll_output() {
//!     if let Output::Sign { job, .. } = output {
//!         // A real driver signs the transcript with the node's identity.
//!         node.handle(now, Input::Signed { job, signature: Signature::from_bytes([0; 64]) });
//!     } else {
//!         orders.push(output);
//!     }
//! }
//! assert!(matches!(orders[..], [Output::Resolve]));
//! assert_eq!(node.stats().published, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod allowance;
mod aside;
mod audit;
mod baseline;
mod candidate;
mod candidates;
mod chance;
mod compared;
mod config;
mod connect;
mod coordinate;
mod direct;
mod disconnect;
mod filter;
mod flood;
mod gossip;
mod health;
mod inbound;
mod input;
mod invariants;
mod jobs;
mod kinds;
mod leave;
mod link;
mod maintain;
mod measure;
mod members;
mod node;
mod outgoing;
mod output;
mod presence;
mod prune;
mod publish;
mod publish_error;
mod quota;
mod reconcile;
mod repair;
mod reservoir;
mod retention;
mod roster;
mod rumor;
mod sampler;
mod shuffle;
mod sources;
mod stats;
mod stream_list;
mod suspend;
mod suspicion;
mod swap;
mod table;
mod time;
mod timers;
mod wake;

pub use config::{Config, ConfigError, NEIGHBORS_MAX, TIME_MAX};
pub use filter::{Filter, FilterView, Origination, Verdict};
pub use health::STOPPED;
pub use input::{Candidate, DialFailure, DialId, Input, JobId, Lane, LinkId, LinkLoss, LinkOpened};
pub use members::MemberView;
pub use node::{Me, NeighborView, Node};
pub use output::{
    CloseCause, Delivery, DeliveryLane, DirectError, Event, Farewell, GapReason, MemberLoss, NeighborLoss,
    Output, VOLATILE_LIFETIME,
};
pub use presence::MetadataTooLong;
pub use publish_error::{PublishError, Published};
pub use stats::Stats;
pub use time::Time;

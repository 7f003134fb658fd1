//! What can be said on the command line: commands, options, help.
//!
//! Every mesh option can also come from a `PEERCHANNEL_*` variable or a `--config` file; how
//! the three are laid over each other is in [`layers`].

mod duration;
mod layers;
mod mesh;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use duration::parse_lease;
pub(crate) use duration::{duration_text, parse_duration};
pub(crate) use layers::{Settings, load};
pub(crate) use mesh::{MeshOptions, Preset};

/// Most nodes of a demo: each has its own port, keys and 64 MiB for a moment while it joins.
const DEMO_NODES_MAX: i64 = 32;

const ABOUT: &str = "Serverless multiparty messaging: named meshes, ordered exactly-once delivery, \
password security, over QUIC";

const EXAMPLES: &str = "\
Try it:
  peerchannel demo                                   a whole mesh in this process
  peerchannel key passphrase > kitchen.pass          a password worth having
  chmod 600 kitchen.pass
  peerchannel chat kitchen --name ann --password-file kitchen.pass
  peerchannel chat kitchen --name bob --password-file kitchen.pass     (another terminal or machine)

Exit status: 0 done; 1 it did not work, which is also a file, an address or a password that cannot
be used; 2 the command line, a variable or the --config file is wrong.
Every mesh option can also be a variable (PEERCHANNEL_NAME=ann) or a line in the --config file
(name = \"ann\"); options win over variables, variables over the file.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "peerchannel", version, about = ABOUT, after_help = EXAMPLES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Options from a TOML file: the mesh options by their names, and a table [tuning]
    #[arg(long, value_name = "FILE", global = true, help_heading = "General options")]
    pub(crate) config: Option<PathBuf>,
    /// What to log to stderr: error, warn (default), info, debug, trace, or per module as in
    /// warn,peerchannel_mesh=debug
    #[arg(long, value_name = "FILTER", global = true, help_heading = "General options")]
    pub(crate) log: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show it: a whole mesh in this process, checked message by message
    Demo(DemoArgs),
    /// Chat: full screen on a terminal, plain lines when piped
    Chat(ChatArgs),
    /// Publish the lines of stdin, or a file, and wait until they are safe
    Publish(PublishArgs),
    /// Print messages as they come
    Subscribe(SubscribeArgs),
    /// A node driven by JSON lines, for scripts and tests
    Node(NodeArgs),
    /// Who is in the mesh
    Members(MembersArgs),
    /// How a node stands in the mesh: links, addresses, resolvers, counters
    Status(LookArgs),
    /// Print a ticket that says where the mesh is
    Invite(InviteArgs),
    /// The directory service
    #[command(subcommand)]
    Resolver(ResolverCommand),
    /// Node identities and passphrases
    #[command(subcommand)]
    Key(KeyCommand),
    /// Check this machine, and a mesh, and say what to do
    Doctor(DoctorArgs),
}

/// `demo`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything stays on this machine's loopback interface. Exits 0 only if every member \
got every message of all others exactly once and in order."
)]
pub(crate) struct DemoArgs {
    /// How many nodes, 2 to 32
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=DEMO_NODES_MAX))]
    pub(crate) nodes: u16,
    /// How many messages each of them publishes in the busy part; 250 in a mesh of eight,
    /// fewer in larger ones, where each message takes more copies
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) messages: Option<u32>,
}

/// `chat`.
#[derive(Debug, Args)]
#[command(after_help = "\
In the chat: /members  /status  /invite  /msg NAME TEXT  /help  /quit

Examples:
  peerchannel chat kitchen --name ann --ask-password
  peerchannel chat kitchen --name bot --password-file kitchen.pass < greetings.txt
  peerchannel chat lobby --open --resolver static:192.0.2.7:4000")]
pub(crate) struct ChatArgs {
    /// The mesh's name
    pub(crate) mesh: String,
    /// The channel to talk in
    #[arg(long, value_name = "C", default_value = "chat")]
    pub(crate) channel: String,
    /// Plain lines even on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    #[command(flatten)]
    pub(crate) options: MeshOptions,
}

/// `publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line of stdin is one message; --file F publishes the whole file as one.
Exits 0 when a neighbor has acknowledged all of them, 1 with a list of those that were not.

Examples:
  echo 'dinner is ready' | peerchannel publish kitchen --channel chat --password-file kitchen.pass
  tail -f app.log | peerchannel publish ops --channel log --password-env OPS_PASSWORD")]
pub(crate) struct PublishArgs {
    /// The mesh's name
    pub(crate) mesh: String,
    /// The channel to publish in
    #[arg(long, value_name = "C")]
    pub(crate) channel: String,
    /// Publish this file as one message instead of the lines of stdin
    #[arg(long, value_name = "F")]
    pub(crate) file: Option<PathBuf>,
    /// Only to nodes within N links (best effort), 0 to 64
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64), conflicts_with = "volatile")]
    pub(crate) hops: Option<u32>,
    /// Best effort, only worth something now: at most 768 bytes, never queued
    #[arg(long)]
    pub(crate) volatile: bool,
    /// How long to wait for a first link, and at the end for acknowledgements
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) options: MeshOptions,
}

/// `subscribe`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints `name: text`; control characters are shown as escapes. --json prints the events
`message`, `gap` and `lagged` of `peerchannel node --json` instead.

Examples:
  peerchannel subscribe kitchen --channel chat --password-file kitchen.pass
  peerchannel subscribe ops --channel '*' --json --password-env OPS_PASSWORD | jq .payload
  peerchannel subscribe ops --channel done --count 1 --timeout 5m --open")]
pub(crate) struct SubscribeArgs {
    /// The mesh's name
    pub(crate) mesh: String,
    /// The channel to listen to; * is all of them
    #[arg(long, value_name = "C")]
    pub(crate) channel: String,
    /// Stop after N messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Stop after this time: with --count unreached that is a failure (1)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// JSON lines instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) options: MeshOptions,
}

/// `node`.
#[derive(Debug, Args)]
#[command(after_help = "\
One JSON object per line, events on stdout, commands on stdin:
  {\"cmd\":\"publish\",\"channel\":\"c\",\"payload\":\"text\",\"ref\":1}
      also hops, volatile, key
  {\"cmd\":\"subscribe\",\"channel\":\"c\"}      starts subscribed to all; the first one replaces that; * is all
  {\"cmd\":\"unsubscribe\",\"channel\":\"c\"}
  {\"cmd\":\"direct\",\"to\":\"NODE\",\"payload\":\"text\"}
  {\"cmd\":\"members\"}  {\"cmd\":\"stats\"}  {\"cmd\":\"refresh\"}  {\"cmd\":\"leave\"}
  {\"cmd\":\"metadata\",\"payload\":\"out for lunch\"}  {\"cmd\":\"suspend\"}  {\"cmd\":\"resume\"}
  {\"cmd\":\"filter\",\"channel\":\"c\",\"verdict\":\"none|local|remote|local_and_remote\",\"contains\":\"text\"}
Wherever there is a payload it may be payload_base64 instead. Every command takes a `ref` of any
kind, which comes back in its answer; with one, every command is answered.
A malformed command is answered by an `error` event. The end of stdin does not leave the mesh.
docs/json.md explains every command and event, and each of their fields.
Messages that nobody had acknowledged when it left are named by `uncommitted` events, and the
exit status is 1.")]
pub(crate) struct NodeArgs {
    /// The mesh's name
    pub(crate) mesh: String,
    /// JSON lines: the only form there is, so this may be left out
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) options: MeshOptions,
}

/// `members`.
#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// Also those that left (--json always tells of them)
    #[arg(long)]
    pub(crate) all: bool,
}

/// `members` and `status`.
#[derive(Debug, Args)]
#[command(after_help = "It joins the mesh for a moment to find out, so the others see a member come and go.")]
pub(crate) struct LookArgs {
    /// The mesh's name
    pub(crate) mesh: String,
    /// How long to wait for a first link
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) options: MeshOptions,
}

/// `invite`.
#[derive(Debug, Args)]
#[command(after_help = "\
A ticket names nodes that are in the mesh now. It holds no secret: whoever gets it still needs
the mesh's password. Use it as `--resolver ticket:TICKET`.")]
pub(crate) struct InviteArgs {
    /// The mesh's name
    pub(crate) mesh: String,
    /// How long the ticket is good for; by default it does not end
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) lifetime: Option<Duration>,
    /// How long to wait for a first link
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) options: MeshOptions,
}

/// `resolver`.
#[derive(Debug, Subcommand)]
pub(crate) enum ResolverCommand {
    /// Run a directory: nodes that know its address find each other
    Serve(ServeArgs),
}

/// `resolver serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints `service:NODEKEY@ADDR` when it is ready: that is the --resolver of the nodes.
Registrations survive a restart, and a crash, where they are in a file.

Examples:
  peerchannel resolver serve --listen 0.0.0.0:4400 --identity directory.key --store directory.db
  peerchannel chat kitchen --resolver service:NODEKEY@192.0.2.7:4400 --password-file kitchen.pass")]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 is any
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:4400", value_parser = mesh::parse_address)]
    pub(crate) listen: SocketAddr,
    /// Where registrations are kept: `memory`, or a file
    #[arg(long, value_name = "memory|FILE", default_value = "peerchannel-directory.db")]
    pub(crate) store: String,
    /// How long a registration lives without being refreshed; 1s to 24h
    #[arg(long, value_name = "TIME", value_parser = parse_lease)]
    pub(crate) refresh: Option<Duration>,
    /// Nodes found here must not tell each other about third ones: the directory alone decides
    /// who links to whom
    #[arg(long)]
    pub(crate) control_shape: bool,
    /// The directory's key, created if missing; default: FILE.key beside the store, a new one
    /// each time with --store memory
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// JSON lines instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a node identity and print its node id
    New {
        /// The file to write; it must not exist
        file: PathBuf,
    },
    /// Print the node id of an identity
    Show {
        /// The identity's file
        file: PathBuf,
    },
    /// Print a random passphrase of 96 bits that can be read aloud
    Passphrase,
}

/// `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line says ok, warn or FAIL, and what to do. With a mesh and its credential it joins for a
moment and says who answers. Exits 1 if something fails.")]
pub(crate) struct DoctorArgs {
    /// Also check this mesh
    pub(crate) mesh: Option<String>,
    /// How long to wait for somebody of the mesh
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) options: MeshOptions,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn two_credentials_in_one_place_are_a_usage_fault() {
        let parsed = Cli::try_parse_from(["peerchannel", "members", "m", "--open", "--password-file", "f"]);
        assert!(parsed.unwrap_err().to_string().contains("--password-file"));
    }
}

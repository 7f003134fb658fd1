//! `demo`: a whole mesh in this process, checked message by message.
//!
//! Every node is a full one, with its own key, UDP port and connections; they share nothing
//! but the process. The demo believes nobody: what each member received is compared with what
//! the others published, and the exit status says whether it was the same.

mod checks;
mod figures;
mod payload;

use std::io::{IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use peerchannel::{Mesh, MeshStats, Node};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use self::checks::{Progress, Receiver, Verdict, Want};
use self::figures::{Figures, grouped, millis};
use self::payload::{Clock, Phase};
use crate::args::DemoArgs;
use crate::commands::key::random_passphrase;
use crate::failure::{Failure, with_causes};
use crate::loopback;
use crate::output::say;
use crate::session;
use crate::signals::Stop;

/// A demo of a few nodes that takes longer has failed.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What each node adds to it: stretching the password alone takes up to half a second.
const TIME_PER_NODE: Duration = Duration::from_secs(1);

/// Copies of messages on all links together in the busy part, unless the number of messages
/// is given: what two cores flood in about a second.
const BUSY_COPIES: usize = 112_000;

/// Messages of each member in the busy part at most.
const BUSY_MESSAGES_MAX: usize = 250;

/// The mesh's name.
const MESH: &str = "demo";

/// The channel of both parts.
const CHANNEL: &str = "demo";

/// Messages each member publishes in the calm part, in which latency is measured.
const CALM_MESSAGES: u32 = 20;

/// The pause between two of them.
const CALM_PAUSE: Duration = Duration::from_millis(25);

/// Bytes of a message in the calm part: a chat line.
const CALM_BYTES: usize = 64;

/// Bytes of a message in the busy part.
const BUSY_BYTES: usize = 1024;

/// How often the live line is drawn.
const LIVE_PAUSE: Duration = Duration::from_millis(100);

/// What members are called; after these come numbers.
const NAMES: [&str; 12] =
    ["ann", "bob", "cleo", "dan", "eve", "finn", "gil", "hana", "ivo", "jana", "kai", "lea"];

/// Runs the demo. The error says what was not as promised.
pub(super) async fn run(args: &DemoArgs, mut stop: Stop) -> Result<(), Failure> {
    // Without it the demo would look for its own nodes until the time is over.
    loopback::echo_v4().map_err(|error| {
        let advice = loopback::advice();
        Failure::runtime(format!("UDP does not work on 127.0.0.1 ({error}), which the demo needs: {advice}"))
    })?;
    let time = TIME_LIMIT + TIME_PER_NODE * u32::from(args.nodes);
    let limit = tokio::time::Instant::now() + time;
    tokio::select! {
        result = timeout_at(limit, demo(args)) => match result {
            Ok(result) => result,
            Err(_) => Err(Failure::runtime(format!("the demo did not end within {} s", time.as_secs()))),
        },
        () = stop.requested() => Err(Failure::runtime("stopped before everything was checked")),
    }
}

async fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let nodes = usize::from(args.nodes);
    say(&format!(
        "A mesh of {nodes} nodes, each with its own key and UDP port on 127.0.0.1, no server.\n\
         They share the mesh's name {MESH:?} and a password, and know one address to begin with.\n"
    ))?;
    let started = Instant::now();
    let members = join(nodes).await?;
    say(&format!(
        "  started    {nodes} nodes, each with the password stretched, so that guessing it is slow\n\
         \x20            and costly (Argon2id, 64 MiB a guess)"
    ))?;
    let formed = form(&members, started).await?;
    say(&format!(
        "  formed     {} over QUIC; both ends of each proved the password\n\
         \x20            without showing it (CPace); ready after {}",
        shape(&members).await?,
        millis(formed)
    ))?;

    let clock = Clock::start();
    let busy_messages = args.messages.unwrap_or_else(|| busy_messages(nodes));
    let want = Want { members: nodes, calm: CALM_MESSAGES, busy: busy_messages };
    let progress = Progress::default();
    let mut receivers = JoinSet::new();
    for (index, mesh) in members.iter().enumerate() {
        let receiver = Receiver::new(index, mesh.channel(CHANNEL).subscribe(), want, clock, progress.clone());
        receivers.spawn(receiver.run());
    }
    let calm = publish(&members, Phase::Calm, CALM_MESSAGES, CALM_BYTES, clock, &progress, want).await?;
    say(&format!(
        "  calm part  every member said {CALM_MESSAGES} lines of {CALM_BYTES} bytes, one each {} ms, in {}",
        CALM_PAUSE.as_millis(),
        millis(calm)
    ))?;
    let busy = publish(&members, Phase::Busy, busy_messages, BUSY_BYTES, clock, &progress, want).await?;
    say(&format!(
        "  busy part  every member published {} messages of {BUSY_BYTES} bytes at once, in {}\n",
        grouped(busy_messages.into()),
        millis(busy)
    ))?;

    // A duplicate that is still on its way must not escape the check.
    sleep(Duration::from_millis(200)).await;
    progress.stop();
    let verdicts: Vec<Verdict> = receivers.join_all().await;
    let mut stats = Vec::new();
    for mesh in &members {
        stats.push(mesh.stats().await?);
    }
    let mut leaving = JoinSet::new();
    for mesh in members {
        leaving.spawn(async move { session::leave(&mesh).await });
    }
    leaving.join_all().await;
    report(&want, &verdicts, &stats, busy)
}

/// A flood crosses every link about once: that many copies has each message.
fn busy_messages(nodes: usize) -> u32 {
    let links = if nodes <= FULL_MESH_MAX { nodes * (nodes - 1) / 2 } else { nodes * 5 };
    let messages = (BUSY_COPIES / (nodes * links * 2).max(1)).clamp(1, BUSY_MESSAGES_MAX);
    u32::try_from(messages).unwrap_or(u32::MAX)
}

/// Starts the nodes and lets them join, all at once. Each knows the address of the first.
async fn join(nodes: usize) -> Result<Vec<Mesh>, Failure> {
    let password = random_passphrase();
    let mut started = Vec::with_capacity(nodes);
    for _ in 0..nodes {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        started.push(Node::options().listen(listen).start().await?);
    }
    let Some(first) = started.first().map(Node::local_address) else {
        return Err(Failure::usage("--nodes must be at least 2"));
    };
    let mut joins = JoinSet::new();
    for (index, node) in started.into_iter().enumerate() {
        // The first knows its own address only, which harms nobody: somebody has to be first.
        let join =
            node.join(MESH).password(password.clone()).name(name(index)).resolver(format!("static:{first}"));
        joins.spawn(async move { (index, join.await) });
    }
    let mut members = Vec::with_capacity(nodes);
    while let Some(joined) = joins.join_next().await {
        let (index, mesh) =
            joined.map_err(|error| Failure::runtime(format!("a node did not start: {error}")))?;
        members.push((index, mesh?));
    }
    members.sort_by_key(|(index, _)| *index);
    Ok(members.into_iter().map(|(_, mesh)| mesh).collect())
}

fn name(index: usize) -> String {
    NAMES.get(index).map_or_else(|| format!("node {}", index + 1), |name| (*name).to_owned())
}

/// Waits until every member knows every other, and small meshes are complete.
async fn form(members: &[Mesh], started: Instant) -> Result<Duration, Failure> {
    let count = members.len() as u64;
    loop {
        let (mut links, mut known, mut complete) = (0, 0, 0);
        for mesh in members {
            let stats = mesh.stats().await?.mesh;
            links += stats.neighbors;
            known += u64::from(stats.members == count);
            // Small meshes are complete; in larger ones everybody has a few links.
            let wanted = if members.len() <= FULL_MESH_MAX { count - 1 } else { LINKS_WANTED };
            complete += u64::from(stats.neighbors >= wanted);
        }
        if known == count && complete == count {
            live_end();
            return Ok(started.elapsed());
        }
        live(&format!("forming: {}, {known} of {count} members know all others", links_text(links / 2)));
        sleep(Duration::from_millis(20)).await;
    }
}

/// Up to this many members everyone links to everyone (the library's default).
const FULL_MESH_MAX: usize = 9;

/// In larger meshes everybody should have this many links (the library's default minimum).
const LINKS_WANTED: u64 = 6;

async fn shape(members: &[Mesh]) -> Result<String, Failure> {
    let mut ends = 0;
    for mesh in members {
        ends += mesh.stats().await?.mesh.neighbors;
    }
    let kind = if members.len() <= FULL_MESH_MAX {
        "everyone linked to everyone"
    } else {
        "everyone linked to a few"
    };
    Ok(format!("{kind}, {}", links_text(ends / 2)))
}

fn links_text(links: u64) -> String {
    if links == 1 { "1 link".to_owned() } else { format!("{links} links") }
}

/// Lets every member publish at once and waits until every member has everything.
async fn publish(
    members: &[Mesh],
    phase: Phase,
    messages: u32,
    bytes: usize,
    clock: Clock,
    progress: &Progress,
    want: Want,
) -> Result<Duration, Failure> {
    let began = Instant::now();
    let mut publishers = JoinSet::new();
    for (index, mesh) in members.iter().enumerate() {
        let channel = mesh.channel(CHANNEL);
        publishers.spawn(async move {
            for number in 0..messages {
                channel.publish(payload::encode(phase, index, number, clock, bytes)).await?;
                if phase == Phase::Calm {
                    sleep(CALM_PAUSE).await;
                }
            }
            Ok::<(), peerchannel::PublishError>(())
        });
    }
    let expected = want.deliveries(phase);
    loop {
        while let Some(published) = publishers.try_join_next() {
            match published {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(Failure::runtime(format!(
                        "a member cannot publish: {}",
                        with_causes(&error)
                    )));
                }
                Err(error) => return Err(Failure::runtime(format!("a publisher ended: {error}"))),
            }
        }
        let received = progress.received(phase);
        if publishers.is_empty() && received >= expected {
            live_end();
            return Ok(began.elapsed());
        }
        live(&format!("{} of {} deliveries checked", grouped(received), grouped(expected)));
        tokio::select! {
            () = progress.reached(phase, expected) => {}
            () = sleep(LIVE_PAUSE) => {}
        }
    }
}

fn report(want: &Want, verdicts: &[Verdict], stats: &[MeshStats], busy: Duration) -> Result<(), Failure> {
    let figures = Figures::new(want, verdicts, stats, busy, BUSY_BYTES);
    say(&figures.to_string())?;
    let faults: Vec<String> = verdicts.iter().flat_map(|verdict| verdict.faults.iter().cloned()).collect();
    if faults.is_empty() && verdicts.len() == want.members {
        return say("\nEvery member got every message of all others, exactly once and in order.");
    }
    Err(Failure::runtime(format!("not every promise was kept:\n  {}", faults.join("\n  "))))
}

/// Draws the live line, where there is a person to see it.
fn live(text: &str) {
    let mut stdout = std::io::stdout();
    if stdout.is_terminal() {
        // Only decoration: what matters is printed and checked elsewhere.
        let _ = write!(stdout, "\r\x1b[K  {text}").and_then(|()| stdout.flush());
    }
}

fn live_end() {
    let mut stdout = std::io::stdout();
    if stdout.is_terminal() {
        let _ = write!(stdout, "\r\x1b[K").and_then(|()| stdout.flush());
    }
}

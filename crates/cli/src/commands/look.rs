//! `members` and `status`: joining for a moment to see what is there.

use std::time::Duration;

use peerchannel::{MemberInfo, Mesh, MeshStats, Status};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::args::{LookArgs, Settings};
use crate::failure::Failure;
use crate::json::{Line, status_word};
use crate::notes::Notes;
use crate::output::say;
use crate::printable::printable;
use crate::session;
use crate::signals::Stop;

/// After the first link the members come within a round trip; this long without news means
/// that they are all there (a guess).
const QUIET: Duration = Duration::from_millis(400);

/// A mesh that never gets quiet is looked at after this long.
const QUIET_LIMIT: Duration = Duration::from_secs(3);

/// Prints who is there.
pub(super) async fn members(args: LookArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    let json = args.json;
    let Some(mesh) = look(args, settings, &mut stop).await? else { return Ok(()) };
    let members = mesh.members().await;
    session::leave(&mesh).await;
    let members = members?;
    if json {
        return say(&Line::members(None, &members).text());
    }
    say(&members_table(&members))
}

/// Prints how this node stands.
pub(super) async fn status(args: LookArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    let json = args.json;
    let Some(mesh) = look(args, settings, &mut stop).await? else { return Ok(()) };
    let (status, stats) = (mesh.status().await, mesh.stats().await);
    session::leave(&mesh).await;
    let (status, stats) = (status?, stats?);
    if json { say(&status_json(&status, &stats)) } else { say(&status_table(&status, &stats)) }
}

/// Joins, waits for a link and for the news that come with it. `None` if it was told to stop.
async fn look(args: LookArgs, settings: &Settings, stop: &mut Stop) -> Result<Option<Mesh>, Failure> {
    let Some(mesh) = session::join(&args.mesh, args.options, settings, stop).await? else {
        return Ok(None);
    };
    let found = tokio::select! {
        found = found(&mesh, args.timeout) => found,
        () = stop.requested() => {
            session::leave(&mesh).await;
            return Ok(None);
        }
    };
    if found {
        return Ok(Some(mesh));
    }
    session::leave(&mesh).await;
    Err(nobody(&args.mesh, args.timeout))
}

/// The failure of a look into a mesh nobody answers for.
pub(super) fn nobody(mesh: &str, waited: Duration) -> Failure {
    Failure::runtime(format!(
        "nobody of the mesh {mesh:?} answered within {waited:?}: is a node running, with the same \
         password, where --resolver looks? `peerchannel doctor {mesh}` may know more"
    ))
}

/// Waits for a link, telling why there is none, and then until the members are known.
pub(super) async fn found(mesh: &Mesh, patience: Duration) -> bool {
    let (mut events, mut notes) = (mesh.events(), Notes::default());
    let online = async {
        loop {
            tokio::select! {
                biased;
                online = mesh.wait_online() => return online.is_ok(),
                Some(event) = events.next() => notes.tell(&event),
            }
        }
    };
    if !timeout(patience, online).await.unwrap_or(false) {
        return false;
    }
    let limit = Instant::now() + QUIET_LIMIT;
    while Instant::now() < limit && matches!(timeout(QUIET, events.next()).await, Ok(Some(_))) {}
    true
}

/// The members, one per line.
pub(super) fn members_table(members: &[MemberInfo]) -> String {
    let name = |member: &MemberInfo| match member.name.as_str() {
        "" => "-".to_owned(),
        name => printable(name),
    };
    let width = members.iter().map(|member| name(member).chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:<width$}  {:<10}  {:<6}  addresses", "name", "node", "status");
    for member in members {
        let addresses: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
        let own = if member.own { " (this node)" } else { "" };
        text += &format!(
            "\n{:<width$}  {:<10}  {:<6}  {}{own}",
            name(member),
            member.node.short(),
            status_word(member.status),
            addresses.join(" "),
        );
    }
    text
}

/// How a node stands, for people.
pub(super) fn status_table(status: &Status, stats: &MeshStats) -> String {
    let list = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let mut text = format!(
        "mesh        {}\nnode        {}\nname        {}\nepoch       {}\nonline      {}\nlistens at  {}\nknown as    {}",
        status.mesh,
        status.node,
        printable(status.name.as_str()),
        status.epoch.get(),
        if status.online { "yes" } else { "no" },
        status.local_address,
        list(&status.advertised),
    );
    for resolver in &status.resolvers {
        let health = resolver.error.as_deref().unwrap_or("answers");
        text += &format!("\nresolver    {}: {health}", resolver.resolver);
    }
    for neighbor in &status.neighbors {
        text += &format!(
            "\nneighbor    {} at {}, round trip {:.1} ms, {} new messages, {} duplicates",
            neighbor.node.short(),
            neighbor.address,
            neighbor.rtt.as_secs_f64() * 1000.0,
            neighbor.useful,
            neighbor.duplicates,
        );
    }
    let mesh = &stats.mesh;
    text += &format!(
        "\nmessages    {} received, {} published, {} passed on, {} duplicates, {} repaired, {} missing",
        mesh.delivered, mesh.published, mesh.forwarded, mesh.duplicates, mesh.repairs, mesh.gaps,
    );
    text + &format!(
        "\nbytes       {} in, {} out, {} kept for others, {} queued",
        stats.bytes_in, stats.bytes_out, mesh.retained_bytes, stats.queue_bytes,
    )
}

fn status_json(status: &Status, stats: &MeshStats) -> String {
    let neighbors: Vec<_> = status
        .neighbors
        .iter()
        .map(|neighbor| {
            json!({
                "node": neighbor.node.to_string(),
                "addr": neighbor.address,
                "rtt_us": u64::try_from(neighbor.rtt.as_micros()).unwrap_or(u64::MAX),
                "useful": neighbor.useful,
                "duplicates": neighbor.duplicates,
            })
        })
        .collect();
    let resolvers: Vec<_> = status
        .resolvers
        .iter()
        .map(|resolver| json!({ "resolver": resolver.resolver, "error": resolver.error }))
        .collect();
    let stats = serde_json::to_value(Line::stats(None, stats)).unwrap_or_default();
    json!({
        "event": "status",
        "mesh": status.mesh.as_str(),
        "node": status.node.to_string(),
        "name": status.name.as_str(),
        "epoch": status.epoch.get(),
        "online": status.online,
        "addr": status.local_address,
        "advertised": status.advertised,
        "neighbors": neighbors,
        "resolvers": resolvers,
        "stats": stats,
    })
    .to_string()
}

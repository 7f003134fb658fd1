//! `members` and `status`: joining for a moment to see what is there.

use std::time::Duration;

use peerchannel::{MemberInfo, MemberStatus, Mesh, MeshStats, Status};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::args::{LookArgs, MembersArgs, Settings};
use crate::failure::Failure;
use crate::json::{Line, status_word};
use crate::output::say;
use crate::printable::printable;
use crate::session;
use crate::signals::Stop;
use crate::watch::{nobody, watch};

/// After the first link the members come within a round trip; this long without news means
/// that they are all there (a guess).
const QUIET: Duration = Duration::from_millis(400);

/// A mesh that never gets quiet is looked at after this long.
const QUIET_LIMIT: Duration = Duration::from_secs(3);

/// Prints who is there.
pub(super) async fn members(args: MembersArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    let MembersArgs { look: args, all } = args;
    let json = args.json;
    let Some(mesh) = look(args, settings, &mut stop).await? else { return Ok(()) };
    let (members, size) = (mesh.members().await, mesh.size().await);
    session::leave(&mesh).await;
    let (members, size) = (members?, size?);
    if json {
        return say(&Line::members(None, &members, size).text());
    }
    let left = members.iter().filter(|member| member.status == MemberStatus::Left).count();
    let mut text = members_table(&members, if all { Listing::Everybody } else { Listing::WithoutLeft });
    if !all && left > 0 {
        text += &format!("\n({left} left: --all shows them)");
    }
    if !size.complete {
        text += &format!("\n(a sample: the mesh has about {} members)", size.members);
    }
    say(&text)
}

/// Which members are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// Those that are here, and those that are gone without a goodbye.
    WithoutLeft,
    /// Those that said goodbye as well.
    Everybody,
}

/// How far up in the list.
const fn rank(status: MemberStatus) -> u8 {
    match status {
        MemberStatus::Alive => 0,
        MemberStatus::Failed => 1,
        MemberStatus::Left => 2,
    }
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
    if let Err(failure) = found {
        session::leave(&mesh).await;
        return Err(failure);
    }
    Ok(Some(mesh))
}

/// Waits for a link, telling why there is none, and then until the members are known.
pub(super) async fn found(mesh: &Mesh, patience: Duration) -> Result<(), Failure> {
    // The first subscription begins with the join: what is in the way may have been told already.
    let watched = mesh.events();
    let mut events = mesh.events();
    tokio::select! {
        biased;
        online = timeout(patience, mesh.wait_online()) => match online {
            Ok(online) => online?,
            Err(_) => return Err(nobody(mesh, patience).await),
        },
        failure = watch(mesh, watched) => return Err(failure),
    }
    let limit = Instant::now() + QUIET_LIMIT;
    while Instant::now() < limit && matches!(timeout(QUIET, events.next()).await, Ok(Some(_))) {}
    Ok(())
}

/// The members, one per line, those that are here first.
pub(super) fn members_table(members: &[MemberInfo], listing: Listing) -> String {
    let mut members: Vec<&MemberInfo> = members
        .iter()
        .filter(|member| listing == Listing::Everybody || member.status != MemberStatus::Left)
        .collect();
    members.sort_by_key(|member| rank(member.status));
    let name = |member: &MemberInfo| name_or_dash(member.name.as_str());
    let width = members.iter().map(|member| name(member).chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:<width$}  {:<10}  {:<6}  addresses", "name", "node", "status");
    for member in members {
        let addresses: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
        let own = if member.own { " (this node)" } else { "" };
        let status = if member.suspended && member.status == MemberStatus::Alive {
            "break"
        } else {
            status_word(member.status)
        };
        let says = match std::str::from_utf8(&member.metadata) {
            Ok("") => String::new(),
            Ok(text) => format!("  {}", printable(text)),
            Err(_) => format!("  ({} bytes)", member.metadata.len()),
        };
        text += &format!(
            "\n{:<width$}  {:<10}  {:<6}  {}{own}{says}",
            name(member),
            member.node.short(),
            status,
            addresses.join(" "),
        );
    }
    text
}

fn name_or_dash(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { printable(name) }
}

/// How a node stands, for people.
pub(super) fn status_table(status: &Status, stats: &MeshStats) -> String {
    let list = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let mut text = format!(
        "mesh        {}\nmembers     {}{}\nnode        {}\nname        {}\nepoch       {}\nonline      {}\nlistens at  {}\nknown as    {}",
        status.mesh,
        if status.size.complete { "" } else { "about " },
        status.size.members,
        status.node,
        name_or_dash(status.name.as_str()),
        status.epoch.get(),
        match (status.online, status.suspended) {
            (true, _) => "yes",
            (false, false) => "no",
            (false, true) => "no: takes a break",
        },
        status.local_address,
        list(&status.advertised),
    );
    for resolver in &status.resolvers {
        let health = resolver.error.as_deref().unwrap_or("answers");
        text += &format!("\nresolver    {}: {health}", resolver.resolver);
    }
    for neighbor in &status.neighbors {
        text += &format!(
            "\nneighbor    {} at {}, {}, round trip {:.1} ms, {} new messages, {} duplicates",
            neighbor.node.short(),
            neighbor.address,
            if neighbor.far { "far" } else { "near" },
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
                "far": neighbor.far,
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
        "suspended": status.suspended,
        "members": status.size.members,
        "complete": status.size.complete,
        "addr": status.local_address,
        "advertised": status.advertised,
        "neighbors": neighbors,
        "resolvers": resolvers,
        "stats": stats,
    })
    .to_string()
}

//! The chat in plain lines: messages on stdout, news of the mesh on stderr.

use std::pin::pin;
use std::time::Duration;

use peerchannel::{Channel, Mesh, MeshEvent, Published, Refusal};
use tokio::time::{Instant, timeout_at};

use super::talk::{self, Outcome};
use crate::failure::Failure;
use crate::input::{self, InputLine};
use crate::notes::{Notes, WRONG_PASSWORD};
use crate::output::{Closed, Lines, tell};
use crate::session;
use crate::signals::Stop;
use crate::watch::{ALONE_TIME, nobody_text, still_alone};

/// Longest line that is read: the mesh says more precisely what it takes.
const LINE_BYTES_MAX: usize = 2 << 20;

/// How long the end of the input waits for what was said to reach anybody: the time that
/// `publish` takes as well.
const COMMIT_TIME: Duration = Duration::from_secs(30);

/// How long the end of an input in which nothing was said waits to be let in: long enough for
/// the nodes it knows to say that the password is wrong.
const ADMISSION_TIME: Duration = Duration::from_secs(3);

/// Chats.
pub(super) async fn run(mesh: &Mesh, channel: &Channel, mut stop: Stop) -> Result<(), Failure> {
    let (lines, written) = Lines::stdout();
    let mut last = None;
    let ended = tokio::select! {
        ended = talk(mesh, channel, &lines, &mut last) => ended,
        () = stop.requested() => Ok(None),
        () = lines.closed() => Err(Closed),
    };
    session::leave(mesh).await;
    drop(lines);
    written.wait().await;
    // Nobody reads: there is nobody to complain to either.
    if let Ok(Some(why)) = ended {
        return Err(why);
    }
    if last.is_some_and(|last: Last| !last.committed) {
        return Err(Failure::runtime(
            "left before anybody had received the last messages: they are lost (is anyone else in the mesh?)",
        ));
    }
    Ok(())
}

/// The last message said, and whether it is safe.
struct Last {
    published: Published,
    committed: bool,
}

/// Talks until the input ends. The failure is for one who said nothing and was not let in.
async fn talk(
    mesh: &Mesh,
    channel: &Channel,
    lines: &Lines,
    last: &mut Option<Last>,
) -> Result<Option<Failure>, Closed> {
    let mut input = input::lines(LINE_BYTES_MAX);
    let (mut inbox, mut directs, mut events) = (channel.subscribe(), mesh.directs(), mesh.events());
    let mut notes = Notes::default();
    tell(&format!(
        "note: {} in {:?}, channel {:?}, at {}; /help helps",
        if mesh.name().as_str().is_empty() { mesh.node_id().short() } else { mesh.name().to_string() },
        mesh.mesh_name().as_str(),
        channel.name().map_or("", |name| name.as_str()),
        mesh.local_address(),
    ));
    // Once the input has ended: since when it is waited until what was said is safe.
    let (mut ending, mut quit): (Option<Instant>, bool) = (None, false);
    let mut told_alone = false;
    let mut alone = pin!(still_alone(mesh));
    let mut refused = None;
    loop {
        let since = ending.unwrap_or_else(Instant::now);
        let committed = async {
            match last.as_ref() {
                Some(last) => {
                    let committed = last.published.committed();
                    timeout_at(since + COMMIT_TIME, committed).await.is_ok_and(|c| c.is_ok())
                }
                // Nothing waits for others; but a wrong password should not go unnoticed.
                None if quit => true,
                None => timeout_at(since + ADMISSION_TIME, mesh.wait_online()).await.is_ok(),
            }
        };
        tokio::select! {
            biased;
            Some(event) = events.next() => {
                match &event {
                    MeshEvent::Online => refused = None,
                    MeshEvent::Refused { reason: Refusal::BadCredential, .. } => {
                        refused = Some(format!("{event}; {WRONG_PASSWORD}: try again with that"));
                    }
                    _ => {}
                }
                if let Some(note) = notes.in_chat(&event) {
                    tell(&format!("note: {note}"));
                }
            }
            () = &mut alone, if !told_alone => {
                told_alone = true;
                tell(&format!("note: {}; still looking", nobody_text(mesh, ALONE_TIME).await));
            }
            Some(direct) = directs.next() => lines.line(direct.to_string()).await?,
            Some(incoming) = inbox.next() => lines.line(incoming.to_string()).await?,
            done = committed, if ending.is_some() => {
                return Ok(match last {
                    Some(last) => {
                        last.committed = done;
                        None
                    }
                    None => refused.filter(|_| !mesh.is_online()).map(Failure::runtime),
                });
            }
            line = input.recv(), if ending.is_none() => match line {
                None => ending = Some(Instant::now()),
                Some(InputLine::TooLong) => {
                    tell(&format!("note: not sent: longer than {LINE_BYTES_MAX} bytes"));
                }
                Some(InputLine::Failed(why)) => {
                    tell(&format!("note: stdin cannot be read: {why}"));
                    ending = Some(Instant::now());
                }
                Some(InputLine::Bytes(bytes)) => {
                    match talk::act(mesh, channel, &String::from_utf8_lossy(&bytes)).await {
                        Outcome::Nothing => {}
                        Outcome::Show(text) | Outcome::Invite(text) => lines.line(text).await?,
                        Outcome::Said(published) => *last = Some(Last { published, committed: false }),
                        Outcome::Quit => (ending, quit) = (Some(Instant::now()), true),
                    }
                }
            },
        }
    }
}

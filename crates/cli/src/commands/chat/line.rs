//! The chat in plain lines: messages on stdout, news of the mesh on stderr.

use std::time::Duration;

use peerchannel::{Channel, Mesh, Published};
use tokio::time::timeout;

use super::talk::{self, Outcome};
use crate::failure::Failure;
use crate::input::{self, InputLine};
use crate::notes::Notes;
use crate::output::{Closed, Lines, tell};
use crate::session;
use crate::signals::Stop;

/// Longest line that is read: the mesh says more precisely what it takes.
const LINE_BYTES_MAX: usize = 2 << 20;

/// How long the end of the input waits for what was said to reach anybody: the time that
/// `publish` takes as well.
const COMMIT_TIME: Duration = Duration::from_secs(30);

/// Chats.
pub(super) async fn run(mesh: &Mesh, channel: &Channel, mut stop: Stop) -> Result<(), Failure> {
    let (lines, written) = Lines::stdout();
    let mut last = None;
    let ended = tokio::select! {
        ended = talk(mesh, channel, &lines, &mut last) => ended,
        () = stop.requested() => Ok(()),
        () = lines.closed() => Err(Closed),
    };
    session::leave(mesh).await;
    drop(lines);
    written.wait().await;
    // Nobody reads: there is nobody to complain to either.
    let _ = ended;
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

async fn talk(mesh: &Mesh, channel: &Channel, lines: &Lines, last: &mut Option<Last>) -> Result<(), Closed> {
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
    // Once the input has ended: until what was said is safe.
    let mut ending = false;
    loop {
        let committed = async {
            match last.as_ref() {
                Some(last) => timeout(COMMIT_TIME, last.published.committed()).await.is_ok_and(|c| c.is_ok()),
                None => true,
            }
        };
        tokio::select! {
            biased;
            Some(event) = events.next() => if let Some(note) = notes.in_chat(&event) {
                tell(&format!("note: {note}"));
            },
            Some(direct) = directs.next() => lines.line(direct.to_string()).await?,
            Some(incoming) = inbox.next() => lines.line(incoming.to_string()).await?,
            done = committed, if ending => {
                if let Some(last) = last {
                    last.committed = done;
                }
                return Ok(());
            }
            line = input.recv(), if !ending => match line {
                None => ending = true,
                Some(InputLine::TooLong) => {
                    tell(&format!("note: not sent: longer than {LINE_BYTES_MAX} bytes"));
                }
                Some(InputLine::Failed(why)) => {
                    tell(&format!("note: stdin cannot be read: {why}"));
                    ending = true;
                }
                Some(InputLine::Bytes(bytes)) => {
                    match talk::act(mesh, channel, &String::from_utf8_lossy(&bytes)).await {
                        Outcome::Nothing => {}
                        Outcome::Show(text) | Outcome::Invite(text) => lines.line(text).await?,
                        Outcome::Said(published) => *last = Some(Last { published, committed: false }),
                        Outcome::Quit => ending = true,
                    }
                }
            },
        }
    }
}

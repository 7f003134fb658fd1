//! The chat on the whole screen: keys in, picture out, and the mesh between.

use std::io;
use std::time::Duration;

use peerchannel::{Channel, Incoming, IncomingDirect, MemberInfo, MemberStatus, Mesh, Published};
use ratatui::DefaultTerminal;
use ratatui::backend::Backend as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::editor::Removed;
use super::talk::{self, Outcome};
use super::view::{Entry, Listed, View};
use crate::failure::Failure;
use crate::notes::Notes;
use crate::printable::printable;
use crate::session;
use crate::signals::Stop;

/// Keys that may wait: a pasted page is slowed down, not lost.
const KEYS_MAX: usize = 256;

/// Lines typed that may wait for the mesh.
const TYPED_MAX: usize = 16;

/// How often members and counters are asked for.
const REFRESH: Duration = Duration::from_millis(500);

/// Messages shown before the screen is drawn again: a flood must not be drawn one by one.
const BURST_MAX: usize = 256;

/// How to get a ticket in one line.
const INVITE_HINT: &str =
    "(the list of members is back with Enter; `peerchannel invite MESH` prints a ticket in one line)";

/// Chats until `/quit`, Ctrl-C or a signal. The terminal is as it was when this returns.
pub(super) async fn run(mesh: &Mesh, channel: &Channel, mut stop: Stop) -> Result<(), Failure> {
    let mut terminal = ratatui::try_init().map_err(|error| {
        Failure::runtime(format!("cannot use the terminal: {error} (--plain needs none)"))
    })?;
    let result = tokio::select! {
        result = chat(mesh, channel, &mut terminal) => result,
        () = stop.requested() => Ok(()),
    };
    ratatui::restore();
    session::leave(mesh).await;
    result.map_err(|error| Failure::runtime(format!("cannot use the terminal: {error} (--plain needs none)")))
}

async fn chat(mesh: &Mesh, channel: &Channel, terminal: &mut DefaultTerminal) -> io::Result<()> {
    let mut keys = keys();
    let (mut inbox, mut directs, mut events) = (channel.subscribe(), mesh.directs(), mesh.events());
    // Publishing may wait for busy neighbors; the screen must not.
    let (typed, mut outcomes) = typist(mesh.clone(), channel.clone());
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut notes = Notes::default();
    let mut view = View::default();
    view.title = format!(" {}  #{}", mesh.mesh_name(), channel.name().map_or("", |name| name.as_str()));
    view.add(Entry::Note("type to talk, /help for the rest, PgUp and PgDn to scroll".into()));
    // The last own message that is not known to be safe.
    let mut unsafe_yet: Option<Published> = None;
    loop {
        terminal.draw(|frame| view.draw(frame))?;
        let committed = async {
            match &unsafe_yet {
                Some(published) => published.committed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            key = keys.recv() => match key {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok(key)) => match press(&mut view, &key) {
                    Pressed::Nothing => {}
                    Pressed::Redraw => wipe(terminal)?,
                    Pressed::Quit => return Ok(()),
                    Pressed::Line(line) => {
                        view.without_list = false;
                        if typed.try_send(line).is_err() {
                            view.add(Entry::Note("not sent: the mesh is busy, try again".into()));
                        }
                    }
                },
            },
            Some((line, outcome)) = outcomes.recv() => match outcome {
                Outcome::Nothing => {}
                Outcome::Quit => return Ok(()),
                Outcome::Show(text) => view.add(Entry::Note(text)),
                Outcome::Invite(text) => {
                    view.add(Entry::Note(text));
                    view.add(Entry::Note(INVITE_HINT.into()));
                    view.without_list = true;
                }
                Outcome::Said(published) => {
                    let text = printable(line.strip_prefix('/').unwrap_or(&line).trim_end());
                    view.add(Entry::Message { name: own_name(mesh), text, own: true });
                    unsafe_yet = Some(published);
                }
            },
            _ = committed => unsafe_yet = None,
            Some(event) = events.next() => {
                if let Some(note) = notes.in_chat(&event) {
                    view.add(Entry::Note(note));
                }
                refresh(mesh, &mut view, unsafe_yet.is_some()).await;
            }
            Some(direct) = directs.next() => view.add(direct_entry(&direct)),
            Some(incoming) = inbox.next() => {
                show(&mut view, &incoming);
                for _ in 1..BURST_MAX {
                    let Some(more) = inbox.try_next() else { break };
                    show(&mut view, &more);
                }
            }
            _ = ticks.tick() => refresh(mesh, &mut view, unsafe_yet.is_some()).await,
        }
    }
}

/// Lets the next drawing draw everything. `Terminal::clear` would ask the terminal for its
/// cursor, whose answer the thread that reads keys takes away.
fn wipe(terminal: &mut DefaultTerminal) -> io::Result<()> {
    terminal.backend_mut().clear()?;
    // Both of its buffers are blank now, as the screen is.
    terminal.swap_buffers();
    Ok(())
}

/// Keys from a thread of their own: reading them cannot be interrupted.
fn keys() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Does what was typed, line by line. Ends with the sender.
fn typist(mesh: Mesh, channel: Channel) -> (mpsc::Sender<String>, mpsc::Receiver<(String, Outcome)>) {
    let (typed, mut lines) = mpsc::channel::<String>(TYPED_MAX);
    let (done, outcomes) = mpsc::channel(TYPED_MAX);
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            let outcome = talk::act(&mesh, &channel, &line).await;
            if done.send((line, outcome)).await.is_err() {
                return;
            }
        }
    });
    (typed, outcomes)
}

enum Pressed {
    Nothing,
    // What was taken away may have left traces.
    Redraw,
    Line(String),
    Quit,
}

impl From<Removed> for Pressed {
    fn from(removed: Removed) -> Self {
        match removed {
            Removed::Plain => Self::Nothing,
            Removed::Wide => Self::Redraw,
        }
    }
}

fn press(view: &mut View, event: &Event) -> Pressed {
    // The terminal tells its size with every drawing; releases are not presses.
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) =
        event
    else {
        return Pressed::Nothing;
    };
    let control = modifiers.contains(KeyModifiers::CONTROL);
    match *code {
        KeyCode::Char('c' | 'd') if control => return Pressed::Quit,
        KeyCode::Char('u') if control => drop(view.editor.take()),
        KeyCode::Char('a') if control => view.editor.home(),
        KeyCode::Char('e') if control => view.editor.end(),
        KeyCode::Char(character) if !control => view.editor.insert(character),
        KeyCode::Backspace => return view.editor.backspace().into(),
        KeyCode::Delete => return view.editor.delete().into(),
        KeyCode::Left => view.editor.left(),
        KeyCode::Right => view.editor.right(),
        KeyCode::Home => view.editor.home(),
        KeyCode::End => view.editor.end(),
        KeyCode::PageUp => view.scroll(10),
        KeyCode::PageDown => view.scroll(-10),
        KeyCode::Up => view.scroll(1),
        KeyCode::Down => view.scroll(-1),
        KeyCode::Enter => return Pressed::Line(view.editor.take()),
        _ => {}
    }
    Pressed::Nothing
}

/// Asks for members and counters; what cannot be had stays as it was.
async fn refresh(mesh: &Mesh, view: &mut View, waiting: bool) {
    view.online = mesh.is_online();
    if let Ok(members) = mesh.members().await {
        view.members =
            members.iter().filter(|member| member.status == MemberStatus::Alive).map(listed).collect();
    }
    if let Ok(stats) = mesh.stats().await {
        let stats = stats.mesh;
        let links = if stats.neighbors == 1 { "link" } else { "links" };
        let waiting = if waiting { "   not yet received by anybody" } else { "" };
        view.status = format!(
            " {} {links}   {} received, {} sent{waiting}",
            stats.neighbors, stats.delivered, stats.published
        );
    }
}

fn listed(member: &MemberInfo) -> Listed {
    let name = display_name(member.name.as_str(), &member.node.short());
    Listed { name, own: member.own, alive: member.status == MemberStatus::Alive }
}

fn own_name(mesh: &Mesh) -> String {
    display_name(mesh.name().as_str(), &mesh.node_id().short())
}

fn display_name(name: &str, short: &str) -> String {
    if name.is_empty() { short.to_owned() } else { printable(name) }
}

/// Own messages are shown when they are said; with echo on they come back as well.
fn show(view: &mut View, incoming: &Incoming) {
    match incoming {
        Incoming::Message(message) if message.own => {}
        Incoming::Message(message) => view.add(Entry::Message {
            name: display_name(message.name.as_str(), &message.from.short()),
            text: printable(&message.text()),
            own: false,
        }),
        news => view.add(Entry::Note(news.to_string())),
    }
}

fn direct_entry(direct: &IncomingDirect) -> Entry {
    Entry::Note(direct.to_string())
}

//! What can be typed in a chat, and what it does: the same in both forms of the chat.

use peerchannel::{Channel, Mesh, NodeId, Published};

use crate::commands::look::{Listing, members_table, status_table};
use crate::failure::with_causes;
use crate::unsent::unsent;

pub(super) const HELP: &str = "\
/members          who is here
/status           links, addresses, resolvers, counters
/invite           a ticket that says where the mesh is (not its password)
/msg NAME TEXT    a message to one member alone
/away [TEXT]      tell the others that you are away, and why
/back             and that you are back
/quit             leave (so does Ctrl-C, and the end of the input)
//text            a message that begins with a slash";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed<'a> {
    Nothing,
    Say(&'a str),
    Members,
    Status,
    Invite,
    Direct { to: &'a str, text: &'a str },
    Away(&'a str),
    Back,
    Help,
    Quit,
    Unknown(&'a str),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Nothing,
    /// Text for the one who typed.
    Show(String),
    /// A ticket, to be copied.
    Invite(String),
    /// A message was accepted.
    Said(Published),
    Quit,
}

/// Reads a line.
pub(super) fn parse(line: &str) -> Typed<'_> {
    let line = line.trim_end();
    if line.is_empty() {
        return Typed::Nothing;
    }
    let Some(command) = line.strip_prefix('/') else { return Typed::Say(line) };
    if command.starts_with('/') {
        return Typed::Say(command);
    }
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match word {
        "members" | "who" => Typed::Members,
        "status" => Typed::Status,
        "invite" => Typed::Invite,
        "msg" => match rest.trim_start().split_once(char::is_whitespace) {
            Some((to, text)) if !text.trim().is_empty() => Typed::Direct { to, text: text.trim() },
            _ => Typed::Unknown("usage: /msg NAME TEXT"),
        },
        "away" => Typed::Away(rest.trim()),
        "back" => Typed::Back,
        "help" | "?" => Typed::Help,
        "quit" | "q" | "exit" => Typed::Quit,
        _ => Typed::Unknown("no such command: /help shows them all"),
    }
}

/// Does what a line asks for. May wait while the neighbors are busy.
pub(super) async fn act(mesh: &Mesh, channel: &Channel, line: &str) -> Outcome {
    match parse(line) {
        Typed::Nothing => Outcome::Nothing,
        Typed::Quit => Outcome::Quit,
        Typed::Say(text) => match channel.publish(text.to_owned()).await {
            Ok(published) => Outcome::Said(published),
            Err(error) => Outcome::Show(format!("not sent: {}", with_causes(&error))),
        },
        Typed::Members => Outcome::Show(match mesh.members().await {
            Ok(members) => members_table(&members, Listing::WithoutLeft),
            Err(error) => error.to_string(),
        }),
        Typed::Status => Outcome::Show(match (mesh.status().await, mesh.stats().await) {
            (Ok(status), Ok(stats)) => status_table(&status, &stats),
            (Err(error), _) | (_, Err(error)) => error.to_string(),
        }),
        Typed::Invite => match mesh.invite(None).await {
            Ok(ticket) => Outcome::Invite(format!("others join with --resolver and:\nticket:{ticket}")),
            Err(error) => Outcome::Show(with_causes(&error)),
        },
        Typed::Direct { to, text } => Outcome::Show(match member(mesh, to).await {
            Err(why) => why,
            Ok(node) => match mesh.send_direct(node, text.to_owned()).await {
                Ok(()) => format!("(to {to}) {text}"),
                Err(error) => format!("not sent to {to}: {}", unsent(mesh, node, &error).await.1),
            },
        }),
        Typed::Away(text) => {
            let text = if text.is_empty() { "away".to_owned() } else { format!("away: {text}") };
            presence(mesh, &text).await
        }
        Typed::Back => presence(mesh, "").await,
        Typed::Help => Outcome::Show(HELP.to_owned()),
        Typed::Unknown(why) => Outcome::Show(why.to_owned()),
    }
}

/// Tells the others how this member stands.
async fn presence(mesh: &Mesh, text: &str) -> Outcome {
    match mesh.set_metadata(text.to_owned()).await {
        Ok(()) if text.is_empty() => Outcome::Show("the others see that you are back".to_owned()),
        Ok(()) => Outcome::Show(format!("the others see: {text}")),
        Err(error) => Outcome::Show(with_causes(&error)),
    }
}

/// The member of a name, or of a node id or the beginning of one.
async fn member(mesh: &Mesh, to: &str) -> Result<NodeId, String> {
    /// Short enough to type, long enough not to be a name by accident.
    const ID_DIGITS_MIN: usize = 6;
    let members = mesh.members().await.map_err(|error| error.to_string())?;
    let fits = |member: &&peerchannel::MemberInfo| {
        member.name.as_str() == to || (to.len() >= ID_DIGITS_MIN && member.node.to_string().starts_with(to))
    };
    let mut found = members.iter().filter(|member| !member.own).filter(fits);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.node),
        (None, _) => Err(format!("nobody is called {to:?}: /members shows who is here")),
        (Some(_), Some(_)) => Err(format!("several are called {to:?}: use the node of /members")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_unless_it_begins_with_one_slash() {
        let check = |line: &str, typed: Typed<'_>| assert_eq!(parse(line), typed, "{line}");
        check("", Typed::Nothing);
        check("hello there\n", Typed::Say("hello there"));
        check("//etc", Typed::Say("/etc"));
        check("/members", Typed::Members);
        check("/msg bob  how are you ", Typed::Direct { to: "bob", text: "how are you" });
        check("/msg bob", Typed::Unknown("usage: /msg NAME TEXT"));
        check("/away lunch ", Typed::Away("lunch"));
        check("/away", Typed::Away(""));
        check("/quit", Typed::Quit);
        check("/fly", Typed::Unknown("no such command: /help shows them all"));
    }
}

//! `chat`: full screen on a terminal, plain lines when piped.

mod editor;
mod line;
mod screen;
mod talk;
mod view;

use std::io::IsTerminal as _;

use crate::args::{ChatArgs, Settings};
use crate::failure::Failure;
use crate::session;
use crate::signals::Stop;

/// Whether a chat takes the whole screen.
pub(crate) fn is_full_screen(args: &ChatArgs) -> bool {
    !args.plain && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Chats until the input ends, `/quit`, or a signal.
pub(super) async fn run(args: ChatArgs, settings: &Settings, mut stop: Stop) -> Result<(), Failure> {
    let full_screen = is_full_screen(&args);
    let channel = session::channel_name(&args.channel)?;
    let Some(mesh) = session::join(&args.mesh, args.options, settings, &mut stop).await? else {
        return Ok(());
    };
    let channel = mesh.channel(channel.as_str());
    if full_screen {
        screen::run(&mesh, &channel, stop).await
    } else {
        line::run(&mesh, &channel, stop).await
    }
}

//! The commands, one file each.

mod chat;
mod demo;
mod doctor;
mod invite;
mod key;
mod look;
mod node;
mod publish;
mod resolver;
mod subscribe;

pub(crate) use self::chat::is_full_screen;
#[cfg(test)]
pub(crate) use self::node::words as node_request_words;
use crate::args::{Command, KeyCommand, ResolverCommand, Settings};
use crate::failure::Failure;
use crate::signals::Stop;

/// Runs a command to its end.
pub(crate) async fn run(command: Command, settings: &Settings) -> Result<(), Failure> {
    let stop =
        Stop::listen().map_err(|error| Failure::runtime(format!("cannot listen for signals: {error}")))?;
    match command {
        Command::Demo(args) => demo::run(&args, stop).await,
        Command::Chat(args) => chat::run(args, settings, stop).await,
        Command::Publish(args) => publish::run(args, settings, stop).await,
        Command::Subscribe(args) => subscribe::run(args, settings, stop).await,
        Command::Node(args) => node::run(args, settings, stop).await,
        Command::Members(args) => look::members(args, settings, stop).await,
        Command::Status(args) => look::status(args, settings, stop).await,
        Command::Invite(args) => invite::run(args, settings, stop).await,
        Command::Resolver(ResolverCommand::Serve(args)) => resolver::serve(args, stop).await,
        Command::Key(KeyCommand::New { file }) => key::new(&file),
        Command::Key(KeyCommand::Show { file }) => key::show(&file),
        Command::Key(KeyCommand::Passphrase) => key::passphrase(),
        Command::Doctor(args) => doctor::run(args, settings, stop).await,
    }
}

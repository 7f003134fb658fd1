//! The `peerchannel` command: a mesh for people at a terminal and for scripts.
//!
//! Human output goes to stdout, the log to stderr; `--json` gives one object per line.
//! Status 0: done. 1: it did not work, which is also a file, an address or a password that cannot
//! be used. 2: the command line, a variable or the configuration file is wrong.

// They panic where nobody reads; `output` has what does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod commands;
mod credential;
mod failure;
mod input;
mod json;
mod loopback;
mod notes;
mod output;
mod printable;
mod session;
mod signals;
mod tuning;
mod unsent;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};
use crate::failure::Failure;

/// What is logged where nobody said otherwise.
const LOG_DEFAULT: &str = "warn";

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Interrupted) {
                output::tell(&format!("error: {failure}"));
            }
            ExitCode::from(failure.status())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let settings = args::load(&cli.global)?;
    // A log on the terminal would tear the chat's screen.
    let on_screen = matches!(&cli.command, Command::Chat(chat) if commands::is_full_screen(chat));
    if !(on_screen && std::io::stderr().is_terminal()) {
        // What the log would warn of is among the doctor's findings.
        let default = if matches!(cli.command, Command::Doctor(_)) { "error" } else { LOG_DEFAULT };
        start_log(settings.log.as_deref().unwrap_or(default))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("cannot start: {error}")))?;
    let result = runtime.block_on(commands::run(cli.command, &settings));
    // Not waiting for threads that read stdin: nothing can interrupt them.
    runtime.shutdown_background();
    result
}

fn start_log(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("--log {filter:?}: {error}; use a level as info, or module=level,..."))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would complain to stderr that stderr cannot be written, and panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}

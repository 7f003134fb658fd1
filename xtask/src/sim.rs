//! Runs the simulator: builds it with optimization and hands the command line on.
//!
//! The simulator parses its own options, so that this tool needs to know none of them.

use std::process::{Command, ExitCode};

use crate::process::{cargo_here, shown, target_dir};
use crate::root;

/// Runs `cargo xtask sim ARGS`; the exit status is the simulator's.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode, String> {
    let mut command = command(args);
    // Where the suite keeps what it has run, whatever folder this is called from.
    command.env("PEERCHANNEL_SIM_STORE", target_dir()?.join("sim"));
    let status = command.status().map_err(|e| format!("cannot start `{}`: {e}", shown(&command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn command(args: &[&str]) -> Command {
    // In the caller's folder: paths among the arguments are relative to it.
    let mut command =
        cargo_here(&["run", "--locked", "--package", "peerchannel-sim", "--bin", "peerchannel-sim"]);
    command.arg("--manifest-path").arg(root().join("Cargo.toml"));
    let args = match args {
        ["--debug", rest @ ..] => rest,
        all => {
            command.arg("--release");
            all
        }
    };
    command.arg("--").args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_profile_is_used_unless_assertions_are_wanted() {
        let line = shown(&command(&["crash-30", "--seed", "4"]));
        assert!(line.contains(" --release -- crash-30 --seed 4"), "{line}");
        let line = shown(&command(&["--debug", "crash-30"]));
        assert!(!line.contains("--release") && line.ends_with(" -- crash-30"), "{line}");
    }
}

//! `cargo xtask`: the developer's tool of this workspace.
//!
//! Small and quick to compile on purpose: it starts other tools and reads files,
//! and depends on nothing of the workspace. A file per command.

mod baseline;
mod bench;
mod ci;
mod codegen;
mod package;
mod process;
mod sim;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--timings] [FILTER...]   build and run every test, example and doc test of the workspace;
                                 ends with what was skipped and why. --timings adds a table of
                                 stated against measured times and fails where one is exceeded
  ci                             everything .ci/run does: fmt, tidy, codegen --check, clippy, test,
                                 docs, and deny where cargo-deny is installed
  tidy                           the rules no compiler checks: crate edges, file heads and sizes,
                                 forbidden words, links between the docs
  codegen [--check]              compile proto/ into crates/wire/src/generated (or only compare)
  codegen --accept-breaking      the same, and make proto/ the new compatibility baseline
  bench [--quick] [FILTER]       run the benches and print ours beside raw, with the ratio
  sim SCENARIO [OPTIONS]         thousands of nodes in virtual time; `sim --list` names the
                                 scenarios, `sim --help` the options; --debug first: with assertions
  sim suite [--quick]            the whole table of docs/simulation.md, continued where it stopped
  package [--verify]             pack every crate that is published (and build it from the package)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["codegen"] => codegen::run(codegen::Mode::Write),
        ["codegen", "--accept-breaking"] => codegen::run(codegen::Mode::WriteWithBaseline),
        ["codegen", "--check"] => codegen::run(codegen::Mode::Check),
        ["tidy"] => tidy::run(),
        ["test", rest @ ..] => test::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["ci"] => ci::run(),
        ["sim", rest @ ..] => {
            return sim::run(rest).unwrap_or_else(|message| {
                eprintln!("xtask: {message}");
                ExitCode::FAILURE
            });
        }
        ["package"] => package::run(package::Depth::Pack),
        ["package", "--verify"] => package::run(package::Depth::Build),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("xtask: unknown command {words:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace: the folder above this crate's.
fn root() -> std::path::PathBuf {
    let mut path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

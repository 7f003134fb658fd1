//! Builds and runs every test, example and doc test of the workspace.
//!
//! A test that cannot run on this machine says so instead of passing silently: it appends a
//! line `name: reason` to the file named by `PEERCHANNEL_SKIPS`. One that measures a time the
//! documentation states appends `name<TAB>stated ms<TAB>measured ms` to the file named by
//! `PEERCHANNEL_TIMINGS`. Both are collected here, after cargo's own lines.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{cargo, is_there, shown, target_dir};

/// What the lines `test result: …` add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    binaries: usize,
    passed: u64,
    failed: u64,
    ignored: u64,
    names_of_failed: Vec<String>,
}

pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let timings = args.contains(&"--timings");
    let filters: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--timings").collect();
    if let Some(unknown) = filters.iter().find(|arg| arg.starts_with('-')) {
        return Err(format!("test: unknown option {unknown}: it takes --timings and names of tests"));
    }
    c_compiler()?;
    let notes = Notes::fresh(&target_dir()?.join("xtask"))?;
    let mut totals = Totals::default();
    // Two runs because cargo runs doc tests only by themselves. Benches are built by clippy.
    let runs: [&[&str]; 2] = [
        &["test", "--workspace", "--locked", "--no-fail-fast", "--tests", "--examples"],
        &["test", "--workspace", "--locked", "--no-fail-fast", "--doc"],
    ];
    let mut outcome = Ok(());
    for arguments in runs {
        let mut command = cargo(arguments);
        command
            .arg("--")
            .args(&filters)
            .env("PEERCHANNEL_SKIPS", &notes.skips)
            .env("PEERCHANNEL_TIMINGS", &notes.timings);
        if let Err(error) = counted(&mut command, &mut totals) {
            outcome = Err(error);
        }
    }
    let Totals { binaries, passed, failed, ignored, names_of_failed } = totals;
    println!("\ntests: {passed} passed, {failed} failed, {ignored} ignored in {binaries} binaries");
    for name in names_of_failed {
        println!("  FAILED {name}");
    }
    print!("{}", skip_report(&read(&notes.skips)));
    if timings {
        let (table, exceeded) = timing_report(&read(&notes.timings));
        print!("{table}");
        if exceeded > 0 && outcome.is_ok() {
            outcome = Err(format!("{exceeded} measured times exceed what is stated"));
        }
    }
    outcome
}

/// The files tests write to.
struct Notes {
    skips: PathBuf,
    timings: PathBuf,
}

impl Notes {
    /// Empty files: what an earlier run wrote is gone.
    fn fresh(folder: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let notes = Self { skips: folder.join("skips.txt"), timings: folder.join("timings.tsv") };
        for file in [&notes.skips, &notes.timings] {
            fs::write(file, "").map_err(|e| format!("{}: {e}", file.display()))?;
        }
        Ok(notes)
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// The TLS library is C: say so before the build does, at length.
fn c_compiler() -> Result<(), String> {
    let named = std::env::var("CC").ok();
    let candidates = named.as_deref().into_iter().chain(["cc", "gcc", "clang"]);
    // On Windows the build finds Visual Studio by itself.
    if cfg!(windows) || candidates.into_iter().any(|compiler| is_there(compiler, "--version")) {
        return Ok(());
    }
    Err("no C compiler found (tried $CC, cc, gcc, clang), the TLS library needs one: install one, \
         for example with `apt-get install gcc` or `xcode-select --install`"
        .into())
}

/// Runs a test command, passes its output on and counts.
fn counted(command: &mut Command, totals: &mut Totals) -> Result<(), String> {
    let name = shown(command);
    eprintln!("$ {name}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cannot start `{name}`: {e}"))?;
    if let Some(output) = child.stdout.take() {
        let mut stdout = std::io::stdout().lock();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(|e| format!("`{name}`: {e}"))?;
            let line = String::from_utf8_lossy(&line);
            totals.add(&line);
            writeln!(stdout, "{}", line.trim_end_matches('\r')).map_err(|e| e.to_string())?;
        }
    }
    let status = child.wait().map_err(|e| format!("`{name}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` ended with {status}")) }
}

impl Totals {
    /// Counts `test result: ok. 12 passed; 0 failed; 1 ignored; …` and notes the names in
    /// `test a::name ... FAILED`; other lines count nothing.
    fn add(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.names_of_failed.push(name.to_owned());
        }
        let Some((_, counts)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". "))
        else {
            return;
        };
        self.binaries += 1;
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|n| n.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn skip_report(lines: &str) -> String {
    let mut skipped: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    skipped.sort_unstable();
    skipped.dedup();
    if skipped.is_empty() {
        return "skipped on this machine: nothing\n".into();
    }
    let list: String = skipped.iter().map(|line| format!("  SKIPPED {line}\n")).collect();
    format!("skipped on this machine: {}\n{list}", skipped.len())
}

/// The table, and how many rows exceed what is stated. A line that is no row counts as one:
/// a measurement that cannot be read must not look like a good one.
fn timing_report(lines: &str) -> (String, usize) {
    let mut rows: Vec<(&str, f64, f64)> = Vec::new();
    let mut bad = String::new();
    let mut exceeded = 0;
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            [name, stated, measured]
                if stated.trim().parse::<f64>().is_ok() && measured.trim().parse::<f64>().is_ok() =>
            {
                rows.push((
                    name,
                    stated.trim().parse().unwrap_or(0.0),
                    measured.trim().parse().unwrap_or(f64::MAX),
                ));
            }
            _ => {
                exceeded += 1;
                bad += &format!("  not `name<TAB>stated<TAB>measured`: {line}\n");
            }
        }
    }
    rows.sort_by(|a, b| a.0.cmp(b.0));
    let width = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0).max("times".len()) + 2;
    let mut table = format!("\n{:<width$}{:>12}{:>14}\n", "times", "stated ms", "measured ms");
    for (name, stated, measured) in rows {
        let over = measured > stated;
        exceeded += usize::from(over);
        let mark = if over { "  EXCEEDED" } else { "" };
        table += &format!("{name:<width$}{stated:>12.0}{measured:>14.1}{mark}\n");
    }
    (table + &bad, exceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_add_up_and_others_do_not_count() {
        let mut totals = Totals::default();
        totals.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s",
        );
        totals.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        totals.add("test a_name ... ok");
        totals.add("test another::name ... FAILED");
        let names_of_failed = vec!["another::name".to_owned()];
        assert_eq!(totals, Totals { binaries: 2, passed: 14, failed: 1, ignored: 1, names_of_failed });
    }

    #[test]
    fn skipped_tests_are_named_once_each() {
        assert_eq!(skip_report(""), "skipped on this machine: nothing\n");
        let report = skip_report("b: no namespaces\na: no IPv6\na: no IPv6\n");
        assert_eq!(report, "skipped on this machine: 2\n  SKIPPED a: no IPv6\n  SKIPPED b: no namespaces\n");
    }

    #[test]
    fn a_time_beyond_what_is_stated_is_marked_and_counted() {
        let (table, exceeded) = timing_report("refused\t2000\t31.5\nback\t5000\t5200\n");
        assert_eq!(exceeded, 1);
        assert!(table.contains("back") && table.contains("EXCEEDED"), "{table}");
        assert!(!table.lines().any(|line| line.contains("refused") && line.contains("EXCEEDED")), "{table}");
        assert_eq!(timing_report("nonsense\n").1, 1);
    }
}

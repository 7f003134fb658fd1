//! Real processes of the `peerchannel` command: started, read, and always ended.
//!
//! Every wait has a hang guard of five times the time that is promised; what is measured goes
//! to `cargo xtask test --timings`. A process whose stderr tells of a panic or an error fails
//! its test, whatever else happened.

// Each test binary uses a part of this.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

#[cfg(target_os = "linux")]
pub(crate) mod cable;
pub(crate) mod relay;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A password of six words, as the documentation recommends.
pub(crate) const PASSWORD: &str = "violet anchor tundra pickle orbit lamp";

/// How many times the promised time a test waits before it calls it a hang.
const HANG_FACTOR: u32 = 5;

/// How long joining may take, the password's stretching included: generous, since many
/// processes of debug builds share a small machine.
pub(crate) const ONLINE: Duration = Duration::from_secs(10);

/// A folder with a password file, for one test.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.secret("password", PASSWORD);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    /// A node of the mesh `m` on loopback that knows the addresses in `at`.
    pub(crate) fn node(&self, name: &str, at: &[&str]) -> Proc {
        self.node_with(name, at, &[])
    }

    /// The same with further options.
    pub(crate) fn node_with(&self, name: &str, at: &[&str], more: &[&str]) -> Proc {
        // Somebody has to be first: port 9 discards.
        let resolver =
            if at.is_empty() { "static:127.0.0.1:9".into() } else { format!("static:{}", at.join(",")) };
        let mut args = vec!["--resolver", &resolver];
        args.extend(more);
        self.node_at(name, &args)
    }

    /// A node of the mesh `m` on loopback that finds others as `more` says.
    pub(crate) fn node_at(&self, name: &str, more: &[&str]) -> Proc {
        self.node_of(Path::new(env!("CARGO_BIN_EXE_peerchannel")), name, more)
    }

    /// The same of another build of the command.
    pub(crate) fn node_of(&self, binary: &Path, name: &str, more: &[&str]) -> Proc {
        let password = self.path("password");
        let mut command = command_of(binary, ["node", "m", "--json", "--name", name, "--password-file"]);
        command.arg(password);
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(more);
        Proc::start(name, command)
    }
}

/// The command with arguments, and none of this process's settings.
pub(crate) fn peerchannel<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_peerchannel")), args)
}

/// The same of another build of it.
pub(crate) fn command_of<A: AsRef<OsStr>>(binary: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PEERCHANNEL_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// Runs a command that ends by itself.
pub(crate) fn run(mut command: Command, stdin: &str, promised: Duration) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = stdin.to_owned();
    // A process that fails early does not read it all.
    let writer = std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > promised * HANG_FACTOR {
            let _ = child.kill();
            panic!("{command:?} did not end: {}", stderr.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = started.elapsed();
    writer.join().unwrap();
    let ran = Ran { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap(), took };
    healthy("a process", &ran.stderr);
    ran
}

fn collect(mut source: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Ran {
    /// Its exit status is this, and stderr has all of these.
    pub(crate) fn expect(&self, code: i32, stderr: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        for part in stderr {
            assert!(self.stderr.contains(part), "{part:?} is missing in: {}", self.stderr);
        }
    }
}

/// Fails if a log tells of something that must never happen.
fn healthy(label: &str, stderr: &str) {
    assert!(!stderr.contains("panicked"), "{label} panicked:\n{stderr}");
    assert!(!stderr.lines().any(|line| line.contains(" ERROR ")), "{label} logged an error:\n{stderr}");
}

/// A JSON line and when it was read.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) event: Value,
}

#[derive(Default)]
struct Log {
    events: Mutex<Vec<Seen>>,
    more: Condvar,
}

/// A process that writes JSON lines.
pub(crate) struct Proc {
    label: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    stderr: Arc<Mutex<String>>,
    // Its stdout is for people.
    text: bool,
    pub(crate) started: Instant,
    ended: bool,
}

impl Proc {
    /// Starts a process that writes JSON lines to stdout.
    pub(crate) fn start(label: &str, command: Command) -> Self {
        let mut process = Self::start_unread(label, command);
        process.read();
        process
    }

    /// Starts a process whose stdout nobody reads yet.
    pub(crate) fn start_unread(label: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = Arc::<Mutex<String>>::default();
        let (errors, kept) = (child.stderr.take().unwrap(), stderr.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(errors).split(b'\n') {
                let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self {
            label: label.into(),
            stdin: child.stdin.take(),
            child,
            log: Arc::default(),
            readers: vec![reader],
            stderr,
            text: false,
            started: Instant::now(),
            ended: false,
        }
    }

    /// Reads its stdout from here on.
    pub(crate) fn read(&mut self) {
        let (stdout, log) = (self.child.stdout.take().unwrap(), self.log.clone());
        self.readers.push(std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                let event = serde_json::from_str(&line)
                    .unwrap_or_else(|_| json!({ "event": "NOT JSON", "line": line }));
                log.events.lock().unwrap().push(Seen { at: Instant::now(), event });
                log.more.notify_all();
            }
        }));
    }

    /// Stops reading its stdout, as `head` does when it has enough.
    pub(crate) fn close_stdout(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Its stdout is for people, not JSON.
    pub(crate) fn expect_text(&mut self) {
        self.text = true;
    }

    /// Writes a command.
    pub(crate) fn send(&mut self, command: &Value) {
        self.send_line(&command.to_string());
    }

    /// Writes a line, whatever it is.
    pub(crate) fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Gives its stdin away, for a thread that writes.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }

    /// Everything it said so far.
    pub(crate) fn events(&self) -> Vec<Seen> {
        self.log.events.lock().unwrap().clone()
    }

    /// How many events there are: where to look from for later ones.
    pub(crate) fn mark(&self) -> usize {
        self.log.events.lock().unwrap().len()
    }

    /// The events of a kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|seen| seen.event["event"] == kind).map(|seen| seen.event).collect()
    }

    /// Waits for the first event of a kind.
    pub(crate) fn wait(&self, kind: &str, promised: Duration) -> Seen {
        self.wait_from(0, kind, promised, |_| true)
    }

    /// Waits for the first event of a kind from `mark` on for which something holds.
    pub(crate) fn wait_from(
        &self,
        mark: usize,
        kind: &str,
        promised: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Seen {
        self.wait_until(&format!("`{kind}`"), promised, |events| {
            let fits = |seen: &&Seen| seen.event["event"] == kind && holds(&seen.event);
            events.get(mark..)?.iter().find(fits).cloned()
        })
    }

    /// Waits until what it said is enough.
    pub(crate) fn wait_until<T>(
        &self,
        what: &str,
        promised: Duration,
        enough: impl Fn(&[Seen]) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + promised * HANG_FACTOR;
        let mut events = self.log.events.lock().unwrap();
        loop {
            if let Some(found) = enough(&events) {
                return found;
            }
            let now = Instant::now();
            if now >= deadline {
                let tail: Vec<String> = events.iter().rev().take(12).map(|s| shortened(&s.event)).collect();
                drop(events);
                let stderr = self.stderr.lock().unwrap().clone();
                panic!(
                    "{} waited in vain for {what}; it said last (latest first):\n  {}\nstderr:\n{stderr}",
                    self.label,
                    tail.join("\n  ")
                );
            }
            events = self.log.more.wait_timeout(events, deadline - now).unwrap().0;
        }
    }

    /// Its address, once it listens.
    pub(crate) fn addr(&self) -> String {
        self.wait("listening", ONLINE).event["addr"].as_str().unwrap().to_owned()
    }

    /// Its node id, once it listens.
    pub(crate) fn id(&self) -> String {
        self.wait("listening", ONLINE).event["node"].as_str().unwrap().to_owned()
    }

    /// Asks for counters.
    pub(crate) fn stats(&mut self) -> Value {
        let mark = self.mark();
        self.send(&json!({ "cmd": "stats" }));
        self.wait_from(mark, "stats", ONLINE, |_| true).event
    }

    /// Waits until it has this many neighbors.
    pub(crate) fn wait_neighbors(&mut self, count: u64, promised: Duration) {
        let deadline = Instant::now() + promised * HANG_FACTOR;
        loop {
            let stats = self.stats();
            if stats["neighbors"] == count {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} has {} neighbors, not {count}",
                self.label,
                stats["neighbors"]
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it at once, as a crash or a power cut would.
    pub(crate) fn crash(mut self) {
        self.child.kill().unwrap();
        self.finish();
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Processor time it used so far; `None` where the system does not tell.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        // Fields after the parenthesis of the name: utime and stime are the 12th and 13th, in
        // ticks of 10 ms.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 10))
    }

    /// Asks who is there, and waits for the answer.
    pub(crate) fn members(&mut self) -> Vec<Value> {
        let mark = self.mark();
        self.send(&json!({ "cmd": "members" }));
        let answer = self.wait_from(mark, "members", ONLINE, |_| true).event;
        answer["members"].as_array().unwrap().clone()
    }

    /// Waits until it ended by itself.
    pub(crate) fn wait_end(&mut self, promised: Duration) -> (ExitStatus, Duration) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, started.elapsed());
            }
            assert!(started.elapsed() < promised * HANG_FACTOR, "{} did not end", self.label);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it logged so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        drop(self.stdin.take());
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if !std::thread::panicking() {
            healthy(&self.label, &self.stderr());
            let broken = self.all("NOT JSON");
            assert!(
                self.text || broken.is_empty(),
                "{} wrote lines that are not JSON: {broken:?}",
                self.label
            );
        }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.finish();
    }
}

fn shortened(event: &Value) -> String {
    let text = event.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Connects everybody with everybody and waits until that is so.
pub(crate) fn complete(nodes: &mut [Proc]) {
    let others = nodes.len() as u64 - 1;
    for node in nodes {
        node.wait_neighbors(others, ONLINE);
    }
}

/// Notes a measured time beside the promised one. Exceeding it is judged by
/// `cargo xtask test --timings`, not here: other tests share the machine.
pub(crate) fn timing(name: &str, promised: Duration, measured: Duration) {
    append(
        "PEERCHANNEL_TIMINGS",
        &format!("{name}\t{}\t{:.1}", promised.as_millis(), measured.as_secs_f64() * 1e3),
    );
}

/// Says that a test cannot run here, and why.
pub(crate) fn skip(name: &str, reason: &str) {
    eprintln!("SKIPPED {name}: {reason}");
    append("PEERCHANNEL_SKIPS", &format!("{name}: {reason}"));
}

fn append(variable: &str, line: &str) {
    let Some(file) = std::env::var_os(variable) else { return };
    let mut file = fs::OpenOptions::new().append(true).create(true).open(Path::new(&file)).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

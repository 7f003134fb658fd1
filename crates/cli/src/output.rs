//! Lines to stdout, from a thread of their own: bounded, flushed one by one.
//!
//! Whoever writes waits for a place, never the mesh: a reader that is too slow fills first
//! this queue, then the subscription, which then says how much it dropped.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Lines that may wait for stdout (a guess).
const LINES_MAX: usize = 1024;

/// Bytes that may wait for stdout: a few of the largest messages (a guess).
const BYTES_MAX: u32 = 8 << 20;

/// How long the end of a process waits for a reader that does not read.
const FINISH_TIME: Duration = Duration::from_millis(300);

/// How often it is looked whether anybody still reads stdout: soon for a person, rare for the machine.
const READER_CHECK: Duration = Duration::from_millis(250);

/// Nobody reads stdout any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// Writes lines to stdout. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    queue: mpsc::Sender<(String, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    // Whether a place stays open although nobody reads it: asked only of the real stdout.
    hung_up: fn() -> bool,
}

/// Resolves when everything was written.
#[derive(Debug)]
pub(crate) struct Written(oneshot::Receiver<io::Result<()>>);

impl Lines {
    /// Starts the writing thread. It ends with the last handle, or when stdout is closed.
    pub(crate) fn stdout() -> (Self, Written) {
        Self::to(io::stdout(), stdout_hung_up)
    }

    fn to(mut place: impl io::Write + Send + 'static, hung_up: fn() -> bool) -> (Self, Written) {
        let (queue, mut lines) = mpsc::channel::<(String, OwnedSemaphorePermit)>(LINES_MAX);
        let (done, written) = oneshot::channel();
        std::thread::spawn(move || {
            let mut result = Ok(());
            while let Some((line, _room)) = lines.blocking_recv() {
                result = place.write_all(line.as_bytes()).and_then(|()| place.flush());
                if result.is_err() {
                    break;
                }
            }
            // Nobody waits for it where the process ended otherwise.
            let _ = done.send(result);
        });
        (Self { queue, room: Arc::new(Semaphore::new(BYTES_MAX as usize)), hung_up }, Written(written))
    }

    /// Queues a line; waits while there is no room. A line that is dropped while it waits is
    /// not written.
    pub(crate) async fn line(&self, mut line: String) -> Result<(), Closed> {
        line.push('\n');
        let size = u32::try_from(line.len()).unwrap_or(BYTES_MAX).min(BYTES_MAX);
        let room = self.room.clone().acquire_many_owned(size).await.map_err(|_| Closed)?;
        self.queue.send((line, room)).await.map_err(|_| Closed)
    }

    /// Resolves when nobody reads stdout any more: writing failed, or the other end is gone
    /// although nothing is written.
    pub(crate) async fn closed(&self) {
        let gone = async {
            while !(self.hung_up)() {
                tokio::time::sleep(READER_CHECK).await;
            }
        };
        tokio::select! {
            () = self.queue.closed() => {}
            () = gone => {}
        }
    }
}

impl Written {
    /// Waits, for a moment, until the lines are written. Drop the handles before.
    pub(crate) async fn wait(self) {
        let _ = tokio::time::timeout(FINISH_TIME, self.0).await;
    }
}

/// Whether the reader of stdout is gone. A file has none, so it never is.
#[cfg(unix)]
fn stdout_hung_up() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    // Errors and hang-ups are told without being asked for.
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once))
        .is_ok_and(|_| asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

/// Here only writing tells.
#[cfg(not(unix))]
const fn stdout_hung_up() -> bool {
    false
}

/// Prints a line to stdout at once. For commands that say little.
pub(crate) fn say(text: &str) -> Result<(), crate::failure::Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n"));
    written
        .and_then(|()| stdout.flush())
        .map_err(|error| crate::failure::Failure::runtime(format!("cannot write to stdout: {error}")))
}

/// Prints a line to stderr. Where it cannot be written nobody can be told, and nothing fails
/// for that: what a command did does not depend on who listens.
pub(crate) fn tell(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Place(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Place {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::Error::other("poisoned"))?.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_are_written_in_order_before_the_end() {
        let place = Place::default();
        let (lines, written) = Lines::to(place.clone(), || false);
        for number in 0..5000 {
            lines.line(number.to_string()).await.unwrap();
        }
        drop(lines);
        written.wait().await;
        let text = String::from_utf8(place.0.lock().unwrap().clone()).unwrap();
        assert!(text.lines().map(|line| line.parse::<u32>().unwrap()).eq(0..5000));
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_noticed() {
        let (lines, _written) = Lines::to(Broken, || false);
        let _ = lines.line("x".into()).await;
        lines.closed().await;
        assert_eq!(lines.line("y".into()).await, Err(Closed));
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_noticed_without_writing() {
        let (lines, _written) = Lines::to(Place::default(), || true);
        lines.closed().await;
    }
}

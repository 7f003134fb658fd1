//! Jobs on a few threads, until all are done or the time is up.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Instant;

use crate::outcome::Outcome;

use super::Job;

/// A job that came to an end.
#[derive(Debug)]
pub struct Finished {
    /// Index of the job in the list.
    pub job: usize,
    /// What came of it, or why nothing did.
    pub result: Result<Outcome, String>,
}

/// Runs the jobs in their order on so many threads and tells of each as it ends. After the
/// deadline no job is begun. Returns those that were not.
pub fn carry_out(
    jobs: &[Job],
    workers: usize,
    deadline: Option<Instant>,
    run: impl Fn(&Job) -> Result<Outcome, String> + Sync,
    mut tell: impl FnMut(Finished),
) -> Vec<usize> {
    let next = Mutex::new(0..jobs.len());
    let take = || {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return None;
        }
        // Only a panic while taking a number could poison it, and taking one cannot panic.
        next.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
    };
    let (sender, finished) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, jobs.len().max(1)) {
            let sender = sender.clone();
            let (take, run) = (&take, &run);
            scope.spawn(move || {
                while let Some(job) = take() {
                    let result = run(&jobs[job]);
                    if sender.send(Finished { job, result }).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for job in finished {
            tell(job);
        }
    });
    next.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).collect()
}

//! Outcomes of finished jobs, a file each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

use super::Job;

/// The layout of a file of the store; one of another layout counts as absent.
const STORE_VERSION: u32 = 1;

/// A folder of outcomes: `<folder>/<scenario>/<nodes>-<seed>-<key>.json`.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept<O> {
    version: u32,
    key: String,
    outcome: O,
}

impl Store {
    /// The store in this folder, which is made when something is put there.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// What came of a job, if it was finished; `None` also for a file that is damaged or of
    /// another layout.
    #[must_use]
    pub fn get(&self, job: &Job) -> Option<Outcome> {
        let text = fs::read(self.file(job)).ok()?;
        let kept: Kept<Outcome> = serde_json::from_slice(&text).ok()?;
        // The command to repeat it is not part of the key.
        let outcome = Outcome { replay: job.plan.replay(), ..kept.outcome };
        (kept.version == STORE_VERSION && kept.key == job.key).then_some(outcome)
    }

    /// Keeps what came of a job. A process that dies here leaves the old state or the new one.
    ///
    /// # Errors
    /// What the file system says, with the file.
    pub fn put(&self, job: &Job, outcome: &Outcome) -> io::Result<()> {
        let file = self.file(job);
        let with_name = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(|error| with_name(folder, error))?;
        }
        let text = serde_json::to_vec(&Kept { version: STORE_VERSION, key: job.key.clone(), outcome })?;
        let unfinished = file.with_extension("unfinished");
        fs::write(&unfinished, text).map_err(|error| with_name(&unfinished, error))?;
        fs::rename(&unfinished, &file).map_err(|error| with_name(&file, error))
    }

    /// Forgets what came of a job.
    ///
    /// # Errors
    /// What the file system says; nothing where there was nothing.
    pub fn forget(&self, job: &Job) -> io::Result<()> {
        match fs::remove_file(self.file(job)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn file(&self, job: &Job) -> PathBuf {
        let Job { plan, key, .. } = job;
        self.folder.join(&plan.name).join(format!("{}-{}-{key}.json", plan.nodes, plan.seed))
    }
}

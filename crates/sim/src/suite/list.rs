//! The suite's list: `suite.toml` beside the folder of scenarios.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// Which scenarios the suite runs, in the order of its document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// From the first to the last.
    #[serde(rename = "entry")]
    pub entries: Vec<Entry>,
}

/// One scenario of the suite.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub scenario: String,
    /// Nodes at the start; default: as many as the scenario says. One scenario may have several
    /// rows, of different sizes.
    pub nodes: Option<usize>,
    /// Seeds; default: as many as the scenario says. With none it is only listed: who wants it
    /// runs the scenario by its name.
    pub seeds: Option<usize>,
    /// Whether the document shows a picture of it.
    #[serde(default)]
    pub picture: bool,
    /// What the document says about its figures, as of a shortfall.
    #[serde(default)]
    pub note: String,
}

/// A list that cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no list.
    #[error("suite.toml: {0}")]
    Invalid(#[from] toml::de::Error),
}

impl Suite {
    /// Reads the list.
    ///
    /// # Errors
    /// [`SuiteError::Invalid`] with the line.
    pub fn parse(text: &str) -> Result<Self, SuiteError> {
        Ok(toml::from_str(text)?)
    }

    /// The list that comes with the simulator.
    ///
    /// # Errors
    /// [`SuiteError`].
    pub fn own() -> Result<Self, SuiteError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("suite.toml");
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text),
            Err(source) => Err(SuiteError::Unreadable { path, source }),
        }
    }

    /// Only these scenarios, in the list's order.
    ///
    /// # Errors
    /// The first name that the list does not have.
    pub fn only(mut self, names: &[String]) -> Result<Self, String> {
        if let Some(unknown) =
            names.iter().find(|name| self.entries.iter().all(|entry| entry.scenario != **name))
        {
            let known: Vec<&str> = self.entries.iter().map(|entry| entry.scenario.as_str()).collect();
            return Err(format!("the suite has no row `{unknown}`; it has {}", known.join(", ")));
        }
        self.entries.retain(|entry| names.contains(&entry.scenario));
        Ok(self)
    }
}

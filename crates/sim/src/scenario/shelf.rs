//! Where scenarios are kept: the folder `scenarios` of this crate, or any file.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Scenario, ScenarioError};

/// A folder of scenarios.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// The scenarios that come with the simulator.
    #[must_use]
    pub fn own() -> Self {
        Self::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios"))
    }

    /// Those of another folder.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The names of all, in alphabetical order.
    ///
    /// # Errors
    /// [`ScenarioError::Unreadable`] if the folder cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, ScenarioError> {
        let unreadable = |source| ScenarioError::Unreadable { path: self.folder.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "toml")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads the scenario of this name.
    ///
    /// # Errors
    /// [`ScenarioError`]; [`ScenarioError::Unknown`] tells the name most like it.
    pub fn load(&self, name: &str) -> Result<Scenario, ScenarioError> {
        Scenario::parse(name, &self.text(name)?, |base| self.text(base))
    }

    /// The text of the scenario of this name, for one that extends it.
    ///
    /// # Errors
    /// [`ScenarioError::Unknown`] or [`ScenarioError::Unreadable`].
    pub fn text(&self, name: &str) -> Result<String, ScenarioError> {
        let names = self.names()?;
        if !names.iter().any(|known| known == name) {
            return Err(ScenarioError::Unknown { name: name.to_owned(), near: nearest(name, &names) });
        }
        read(&self.folder.join(format!("{name}.toml")))
    }
}

/// Reads the scenario that a person named: one of the shelf, or a path to a file.
///
/// # Errors
/// [`ScenarioError`].
pub fn find(shelf: &Shelf, place: &str) -> Result<Scenario, ScenarioError> {
    let path = Path::new(place);
    if !place.ends_with(".toml") && path.components().count() == 1 {
        return shelf.load(place);
    }
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(place);
    // A file extends its neighbors in its folder, and what the simulator brings along.
    let beside = Shelf::at(path.parent().unwrap_or(Path::new("")));
    let base = |base: &str| beside.text(base).or_else(|_| shelf.text(base));
    let mut scenario = Scenario::parse(name, &read(path)?, base)?;
    place.clone_into(&mut scenario.place);
    Ok(scenario)
}

fn read(path: &Path) -> Result<String, ScenarioError> {
    fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable { path: path.to_owned(), source })
}

/// The name that takes the fewest changes of a letter, if they are few.
fn nearest(name: &str, names: &[String]) -> Option<String> {
    let best = names.iter().map(|known| (changes(name, known), known)).min()?;
    (best.0 <= 3 || best.1.starts_with(name)).then(|| best.1.clone())
}

/// Letters to insert, remove or replace (Levenshtein).
fn changes(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_right_one() {
        let names = ["crash-30".to_owned(), "split-2".to_owned()];
        let check = |name: &str, near: Option<&str>| assert_eq!(nearest(name, &names).as_deref(), near);
        check("crash30", Some("crash-30"));
        check("crahs-30", Some("crash-30"));
        check("spl", Some("split-2"));
        check("something-else", None);
        assert_eq!(changes("kitten", "sitting"), 3);
    }

    #[test]
    fn a_file_is_found_by_its_path_and_extends_its_neighbor() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("base.toml"), "title = \"base\"\nnodes = 7").unwrap();
        let path = folder.path().join("mine.toml");
        fs::write(&path, "extends = \"base\"\ntitle = \"mine\"").unwrap();
        let scenario = find(&Shelf::own(), path.to_str().unwrap()).unwrap();
        assert_eq!((scenario.name.as_str(), scenario.plan.nodes), ("mine", 7));
        assert!(scenario.command(super::super::Overrides::default(), "").ends_with("mine.toml"));
        let missing = find(&Shelf::at(folder.path()), "bse").unwrap_err().to_string();
        assert!(missing.contains("did you mean `base`?"), "{missing}");
        assert!(find(&Shelf::own(), "no/such.toml").unwrap_err().to_string().contains("no/such.toml"));
    }
}

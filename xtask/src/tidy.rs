//! The rules no compiler checks.
//!
//! Each rule is a function from text to findings, so that its tests need no files. A finding
//! says where, which rule, and what to do.

mod edges;
mod links;
mod program;
mod sources;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{process, root};

/// One breach of one rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Relative to the root, with forward slashes.
    file: String,
    /// From 1; 0 = the file as a whole.
    line: usize,
    rule: &'static str,
    advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, rule, advice } = self;
        if *line == 0 {
            write!(f, "{file}: {rule}: {advice}")
        } else {
            write!(f, "{file}:{line}: {rule}: {advice}")
        }
    }
}

/// A text file of the project.
pub(crate) struct Source {
    /// Relative to the root, with forward slashes.
    name: String,
    text: String,
}

pub(crate) fn run() -> Result<(), String> {
    let files = read_all(&root())?;
    let mut findings = edges::check(&process::metadata()?);
    for file in &files {
        findings.extend(sources::check(file));
        if file.name.ends_with(".md") {
            findings.extend(links::check(file, &|path| root().join(path).exists()));
        }
    }
    let find = |name: &str| files.iter().find(|file| file.name == name);
    if let (Some(readme), Some(example)) = (find("README.md"), find("crates/peerchannel/examples/chat.rs")) {
        findings.extend(program::check(readme, example));
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    Err(format!("tidy: {} to put right", findings.len()))
}

/// Folders of the root that hold nothing of ours.
const NOT_OURS: [&str; 2] = ["target", ".git"];
const TEXT: [&str; 7] = ["rs", "md", "toml", "proto", "yml", "yaml", "sh"];

fn read_all(root: &Path) -> Result<Vec<Source>, String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let entry = entry.map_err(|e| e.to_string())?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| e.to_string())?;
            if kind.is_dir() && !NOT_OURS.iter().any(|name| path == root.join(name)) {
                folders.push(path);
            } else if kind.is_file() && is_text(&path) {
                let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                files.push(Source { name: relative(root, &path), text });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|e| TEXT.iter().any(|text| e == *text)) || path.ends_with(".ci/run")
}

fn relative(root: &Path, path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root).unwrap_or(path).to_path_buf();
    let parts: Vec<_> = path.components().map(|c| c.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

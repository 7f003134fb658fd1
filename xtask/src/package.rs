//! Packs every crate that is meant to be published.
//!
//! The crates depend on each other and none is published yet, so cargo packs them in one go:
//! it resolves the siblings from the packages it has just made.

use serde_json::Value;

use crate::process::{self, cargo};

/// How far to go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Make the packages and resolve them.
    Pack,
    /// Also build each from its package alone.
    Build,
}

pub(crate) fn run(depth: Depth) -> Result<(), String> {
    let metadata = process::metadata()?;
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    let missing: Vec<String> = packages.iter().filter(|p| is_published(p)).flat_map(missing).collect();
    if !missing.is_empty() {
        return Err(format!("a package is not complete:\n  {}", missing.join("\n  ")));
    }
    let unpublished: Vec<String> = packages
        .iter()
        .filter(|p| !is_published(p))
        .filter_map(|p| p["name"].as_str().map(String::from))
        .collect();
    let args = arguments(&unpublished, depth);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    process::run(&mut cargo(&args))
}

/// `publish = false` is an empty list of registries.
fn is_published(package: &Value) -> bool {
    package["publish"].as_array().is_none_or(|registries| !registries.is_empty())
}

/// What a registry's page would lack, one sentence each.
fn missing(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    ["description", "license", "readme", "documentation"]
        .iter()
        .filter(|field| package[**field].is_null())
        .map(|field| format!("{name}: add `{field}` to its Cargo.toml"))
        .collect()
}

fn arguments(unpublished: &[String], depth: Depth) -> Vec<String> {
    let mut args: Vec<String> = ["package", "--workspace", "--allow-dirty"].map(String::from).into();
    for name in unpublished {
        args.extend(["--exclude".to_owned(), name.clone()]);
    }
    if depth == Depth::Pack {
        args.push("--no-verify".to_owned());
    }
    args
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn crates_that_stay_here_are_left_out() {
        assert!(!is_published(&json!({"publish": []})));
        assert!(is_published(&json!({"publish": null})));
        let args = arguments(&["xtask".into()], Depth::Pack);
        assert_eq!(args.join(" "), "package --workspace --allow-dirty --exclude xtask --no-verify");
    }

    #[test]
    fn a_page_without_a_description_is_found() {
        let package = json!({"name": "a", "license": "MIT", "readme": "README.md", "documentation": "x"});
        assert_eq!(missing(&package), ["a: add `description` to its Cargo.toml"]);
    }
}

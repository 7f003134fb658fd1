//! Links between Markdown files lead somewhere.

use super::{Finding, Source};

/// Checks the relative links of one file; `exists` is asked with paths relative to the root.
pub(crate) fn check(file: &Source, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in targets(line) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let advice = if path.is_empty() {
                (!has_heading(&file.text, anchor)).then(|| format!("no heading here makes `#{anchor}`"))
            } else {
                let resolved = resolve(&file.name, path);
                (!exists(&resolved)).then(|| format!("`{target}`: there is no {resolved}"))
            };
            if let Some(advice) = advice {
                findings.push(Finding {
                    file: file.name.clone(),
                    line: number + 1,
                    rule: "dead link",
                    advice,
                });
            }
        }
    }
    findings
}

/// The targets of the inline links of one line that point into the project.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("](") {
        rest = &rest[at + 2..];
        let Some(end) = rest.find(')') else { break };
        let target = rest[..end].trim();
        if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
            found.push(target);
        }
        rest = &rest[end..];
    }
    found
}

/// A link of `file` as a path from the root.
fn resolve(file: &str, link: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether a heading of the text has this anchor, as the usual renderers make it.
fn has_heading(text: &str, anchor: &str) -> bool {
    text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let slug: String = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        slug == anchor
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, text: &str) -> String {
        let file = Source { name: name.into(), text: text.into() };
        let exists = |path: &str| ["docs/protocol.md", "README.md", "docs/decisions"].contains(&path);
        check(&file, &exists).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        assert_eq!(findings("docs/a.md", "[p](protocol.md#4-x) [r](../README.md) [d](./decisions/)"), "");
        assert_eq!(findings("README.md", "[p](docs/protocol.md), [w](https://example.org/x)"), "");
        assert_eq!(findings("a.md", "# One (two)\n[o](#one-two)"), "");
        assert_eq!(findings("a.md", "```\n[x](nowhere.md)\n```"), "");
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        assert_eq!(
            findings("docs/a.md", "\n[r](README.md)"),
            "docs/a.md:2: dead link: `README.md`: there is no docs/README.md"
        );
        assert!(findings("a.md", "# One\n[o](#two)").contains("no heading here makes `#two`"));
    }
}

//! The README shows the example that is compiled and tested, and it stays short.

use super::{Finding, Source};

/// The promise of the front page.
const LINES_MAX: usize = 25;

/// Checks the program on the front page against the example it claims to be.
pub(crate) fn check(readme: &Source, example: &Source) -> Vec<Finding> {
    let code: Vec<&str> = example.text.lines().skip_while(|l| l.starts_with("//!") || l.is_empty()).collect();
    let finding = |file: &Source, advice: String| Finding {
        file: file.name.clone(),
        line: 0,
        rule: "front-page program",
        advice,
    };
    let mut findings = Vec::new();
    if !readme.text.contains(&format!("```rust\n{}\n```", code.join("\n"))) {
        findings.push(finding(readme, format!("its program is not {}: copy that one", example.name)));
    }
    let lines = code.iter().filter(|line| !line.trim().is_empty()).count();
    if lines > LINES_MAX {
        findings.push(finding(example, format!("{lines} lines of code, promised are {LINES_MAX}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    #[test]
    fn the_front_page_must_show_the_example() {
        let example = source("chat.rs", "//! Docs.\n\nfn main() {}\n");
        assert!(check(&source("README.md", "x\n```rust\nfn main() {}\n```\n"), &example).is_empty());
        assert_eq!(check(&source("README.md", "```rust\nfn main() { }\n```\n"), &example).len(), 1);
    }

    #[test]
    fn a_long_example_breaks_the_promise() {
        let long = "let a = 1;\n".repeat(LINES_MAX + 1);
        let readme = source("README.md", &format!("```rust\n{}\n```", long.trim_end()));
        assert_eq!(check(&readme, &source("chat.rs", &long)).len(), 1);
    }
}

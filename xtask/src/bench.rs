//! Runs the benches and prints ours beside raw.
//!
//! Benches that compare are named `<what>/<ours|raw>/<size>` and run in one go, so that the
//! ratio compares numbers of one run on one machine. Others are listed without a ratio.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use crate::process::{self, cargo, target_dir};

/// One measured bench.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    /// As criterion names it.
    name: String,
    /// Median of one iteration.
    nanos: f64,
    /// What one iteration moves.
    per_iteration: Option<Amount>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Bytes(f64),
    Elements(f64),
}

/// Our bench and the raw one it is compared with.
#[derive(Debug, Default)]
struct Pair {
    ours: Option<Measured>,
    raw: Option<Measured>,
}

pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let begun = SystemTime::now();
    // Only the bench targets: the library's own harness does not know criterion's options.
    let mut command = cargo(&["bench", "--locked", "--package", "peerchannel-benches", "--bench", "*", "--"]);
    process::run(command.args(args))?;
    let measured = collect(&target_dir()?.join("criterion"), begun)?;
    if measured.is_empty() {
        return Err("the benches left no results under target/criterion: is the filter right?".into());
    }
    print!("\n{}", table(&measured));
    Ok(())
}

/// Every result of this run under criterion's folder.
fn collect(folder: &Path, since: SystemTime) -> Result<Vec<Measured>, String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if !path.is_dir() {
                continue;
            }
            if path.file_name().is_some_and(|name| name == "new") {
                found.extend(read(&path, since));
            } else {
                folders.push(path);
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// One result; `None` if it is of an earlier run or not criterion's.
fn read(folder: &Path, since: SystemTime) -> Option<Measured> {
    let estimates = folder.join("estimates.json");
    // File systems round times: what is a second older was not left by an earlier run.
    let slack = std::time::Duration::from_secs(2);
    if fs::metadata(&estimates).ok()?.modified().ok()? + slack < since {
        return None;
    }
    let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    measured(&json(&folder.join("benchmark.json"))?, &json(&estimates)?)
}

fn measured(benchmark: &Value, estimates: &Value) -> Option<Measured> {
    let throughput = &benchmark["throughput"];
    let per_iteration = throughput["Bytes"]
        .as_f64()
        .or(throughput["BytesDecimal"].as_f64())
        .or(throughput["ElementsAndBytes"]["bytes"].as_f64())
        .map(Amount::Bytes)
        .or(throughput["Elements"].as_f64().map(Amount::Elements));
    Some(Measured {
        name: benchmark["full_id"].as_str()?.to_owned(),
        nanos: estimates["median"]["point_estimate"].as_f64()?,
        per_iteration,
    })
}

impl Measured {
    /// Per second; iterations where the bench states no amount.
    fn rate(&self) -> f64 {
        let amount = match self.per_iteration {
            Some(Amount::Bytes(n) | Amount::Elements(n)) => n,
            None => 1.0,
        };
        amount * 1e9 / self.nanos
    }

    fn shown_rate(&self) -> String {
        let (rate, unit) = match self.per_iteration {
            Some(Amount::Bytes(_)) => (self.rate(), "B/s"),
            Some(Amount::Elements(_)) => (self.rate(), "/s"),
            None => (self.rate(), "iter/s"),
        };
        let (scaled, prefix) = match rate {
            r if r >= 1e9 => (r / 1e9, "G"),
            r if r >= 1e6 => (r / 1e6, "M"),
            r if r >= 1e3 => (r / 1e3, "k"),
            r => (r, ""),
        };
        format!("{scaled:.1} {prefix}{unit}")
    }

    fn shown_time(&self) -> String {
        match self.nanos {
            n if n >= 1e9 => format!("{:.2} s", n / 1e9),
            n if n >= 1e6 => format!("{:.2} ms", n / 1e6),
            n if n >= 1e3 => format!("{:.2} us", n / 1e3),
            n => format!("{n:.1} ns"),
        }
    }
}

/// What a line of the table is about. Ordered so that 64 comes before 1024.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    what: String,
    size: u64,
    name: String,
}

impl Key {
    fn new(name: String) -> Self {
        let (what, size) = name.rsplit_once('/').unwrap_or((&name, ""));
        Self { what: what.to_owned(), size: size.parse().unwrap_or(0), name }
    }
}

/// Splits `<what>/<ours|raw>/<size>` into (whether ours, the rest).
fn side(name: &str) -> Option<(bool, String)> {
    let parts: Vec<&str> = name.split('/').collect();
    let at = parts.iter().position(|part| matches!(*part, "ours" | "raw"))?;
    let rest: Vec<&str> =
        parts.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, p)| *p).collect();
    Some((parts[at] == "ours", rest.join("/")))
}

fn table(measured: &[Measured]) -> String {
    let mut pairs: BTreeMap<Key, Pair> = BTreeMap::new();
    for bench in measured {
        let (ours, key) = side(&bench.name).unwrap_or((true, bench.name.clone()));
        let pair = pairs.entry(Key::new(key)).or_default();
        *(if ours { &mut pair.ours } else { &mut pair.raw }) = Some(bench.clone());
    }
    let width = pairs.keys().map(|key| key.name.chars().count()).max().unwrap_or(0).max("bench".len()) + 2;
    let mut text =
        format!("{:<width$}{:>12}{:>16}{:>12}{:>16}{:>8}\n", "bench", "ours", "", "raw", "", "ratio");
    for (Key { name, .. }, pair) in &pairs {
        let show = |bench: &Option<Measured>| {
            bench.as_ref().map_or((String::new(), String::new()), |b| (b.shown_time(), b.shown_rate()))
        };
        let (ours, raw) = (show(&pair.ours), show(&pair.raw));
        let ratio = match (&pair.ours, &pair.raw) {
            (Some(ours), Some(raw)) => format!("{:.2}", ours.rate() / raw.rate()),
            _ => "-".to_owned(),
        };
        text += &format!("{name:<width$}{:>12}{:>16}{:>12}{:>16}{ratio:>8}\n", ours.0, ours.1, raw.0, raw.1);
    }
    text + "ratio: our throughput as a part of raw QUIC's in the same run; more is better\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bench(name: &str, nanos: f64) -> Measured {
        let benchmark = json!({"full_id": name, "throughput": {"Bytes": 1024}});
        measured(&benchmark, &json!({"median": {"point_estimate": nanos}})).unwrap()
    }

    #[test]
    fn ours_is_compared_with_raw_of_the_same_size() {
        let text = table(&[
            bench("link/ours/1024", 2000.0),
            bench("link/raw/1024", 1000.0),
            bench("decode/64", 10.0),
        ]);
        let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().trim_end().to_owned();
        assert!(line("link/1024").ends_with("0.50"), "{text}");
        assert!(line("link/1024").contains("512.0 MB/s"), "{text}");
        assert!(line("decode/64").ends_with('-'), "{text}");
    }

    #[test]
    fn sizes_are_in_order() {
        let text = table(&[bench("link/ours/1024", 1.0), bench("link/ours/64", 1.0), bench("a/ours/9", 1.0)]);
        let names: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names[..3], ["a/9", "link/64", "link/1024"]);
    }

    #[test]
    fn a_result_without_what_it_measured_is_left_out() {
        assert_eq!(measured(&json!({}), &json!({})), None);
    }
}

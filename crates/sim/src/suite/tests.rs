//! Suites that are interrupted, continued and told about.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::outcome::Outcome;
use crate::report::Report;

fn scenario(text: &str) -> Scenario {
    Scenario::parse("small", text, |_| unreachable!()).unwrap()
}

fn jobs(seeds: u64) -> Vec<Job> {
    let scenario = scenario("title = \"small\"\nnodes = 5\nduration = \"10s\"");
    (1..=seeds).map(|seed| Job::new(0, &scenario, Overrides::default(), seed).unwrap()).collect()
}

fn outcome(job: &Job) -> Outcome {
    Outcome { seed: job.plan.seed, replay: job.plan.replay(), ..Outcome::default() }
}

#[test]
fn what_decides_about_a_run_is_in_its_key_and_nothing_else() {
    let of = |text: &str, nodes| {
        let overrides = Overrides { nodes, ..Overrides::default() };
        Job::new(0, &scenario(text), overrides, 1).unwrap().key
    };
    let plain = of("title = \"a\"\nnodes = 9", None);
    assert_eq!(
        plain,
        of("title = \"b\"\nshows = \"more\"\nnodes = 9\nseeds = 3", None),
        "words decide nothing"
    );
    assert_eq!(plain, of("title = \"a\"\nnodes = 9\n[[target]]\nmetric = \"gaps\"\nat_most = 0", None));
    assert_eq!(plain, of("title = \"a\"\nnodes = 3", Some(9)), "wherever the number comes from");
    assert_ne!(plain, of("title = \"a\"\nnodes = 10", None));
    assert_ne!(plain, of("title = \"a\"\nnodes = 9\n[network]\nloss = 0.01", None));
    let plan = &jobs(1)[0].plan;
    assert_ne!(key(plan, "code"), key(plan, "other code"));
    let keys: BTreeSet<String> = jobs(20).into_iter().map(|job| job.key).collect();
    assert_eq!(keys.len(), 20, "each seed has its own");
}

/// Runs what the store lacks, as the command does; the run after `dies_after` others dies.
fn go_on(store: &Store, jobs: &[Job], dies_after: usize) -> usize {
    let missing: Vec<Job> = jobs.iter().filter(|job| store.get(job).is_none()).cloned().collect();
    let begun = Mutex::new(0);
    let mut done = 0;
    let run = |job: &Job| {
        let mut begun = begun.lock().unwrap();
        *begun += 1;
        if *begun > dies_after { Err("killed".to_owned()) } else { Ok(outcome(job)) }
    };
    carry_out(&missing, 1, None, run, |finished| {
        if let Ok(outcome) = finished.result {
            store.put(&missing[finished.job], &outcome).unwrap();
            done += 1;
        }
    });
    done
}

#[test]
fn an_interrupted_suite_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let jobs = jobs(6);
    assert_eq!(go_on(&store, &jobs, 4), 4);
    assert_eq!(go_on(&store, &jobs, usize::MAX), 2, "only what was missing");
    assert_eq!(go_on(&store, &jobs, usize::MAX), 0);
    assert_eq!(store.get(&jobs[3]), Some(outcome(&jobs[3])));
    store.forget(&jobs[3]).unwrap();
    store.forget(&jobs[3]).unwrap();
    assert_eq!(go_on(&store, &jobs, usize::MAX), 1);
}

#[test]
fn a_damaged_or_foreign_file_counts_as_absent() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path());
    let jobs = jobs(2);
    store.put(&jobs[0], &outcome(&jobs[0])).unwrap();
    let file = folder.path().join("small").join(format!("5-1-{}.json", jobs[0].key));
    let whole = std::fs::read_to_string(&file).unwrap();
    for broken in ["", "{}", &whole[..whole.len() / 2], &whole.replace("\"version\":1", "\"version\":9")] {
        std::fs::write(&file, broken).unwrap();
        assert_eq!(store.get(&jobs[0]), None, "{broken}");
    }
    std::fs::write(&file, whole.replace(&jobs[0].key, &jobs[1].key)).unwrap();
    assert_eq!(store.get(&jobs[0]), None, "another job's");
}

#[test]
fn every_job_is_run_once_by_some_worker() {
    let jobs = jobs(50);
    let mut seen = Vec::new();
    let left = carry_out(&jobs, 4, None, |job| Ok(outcome(job)), |finished| seen.push(finished.job));
    seen.sort_unstable();
    assert_eq!((seen, left), ((0..50).collect(), Vec::new()));
    assert_eq!(carry_out(&[], 2, None, |job| Ok(outcome(job)), |_| ()), Vec::<usize>::new());
}

#[test]
fn after_the_deadline_nothing_is_begun() {
    let jobs = jobs(5);
    let past = Some(Instant::now());
    let left = carry_out(&jobs, 2, past, |_| panic!("begun"), |_| ());
    assert_eq!(left, [0, 1, 2, 3, 4]);
    let far = Some(Instant::now() + Duration::from_secs(3600));
    assert_eq!(carry_out(&jobs, 2, far, |job| Ok(outcome(job)), |_| ()), Vec::<usize>::new());
}

#[test]
fn a_list_is_read_and_cut_down_to_rows() {
    let text =
        "[[entry]]\nscenario = \"a\"\npicture = true\n[[entry]]\nscenario = \"b\"\nnodes = 9\nseeds = 3";
    let suite = Suite::parse(text).unwrap();
    assert_eq!((suite.entries[0].picture, suite.entries[0].nodes), (true, None));
    assert_eq!((suite.entries[1].nodes, suite.entries[1].seeds), (Some(9), Some(3)));
    let only = suite.clone().only(&["b".to_owned()]).unwrap();
    assert_eq!(only.entries.len(), 1);
    let error = suite.only(&["c".to_owned()]).unwrap_err();
    assert!(error.contains("no row `c`; it has a, b"), "{error}");
    let error = Suite::parse("[[entry]]\nname = \"a\"").unwrap_err().to_string();
    assert!(error.contains("suite.toml") && error.contains("name"), "{error}");
}

#[test]
fn the_document_has_a_line_per_target_with_its_command() {
    let text = "title = \"a small mesh\"\nshows = \"That it is small.\"\nseeds = 2\n[[target]]\nmetric = \
                \"violations\"\nwhat = \"invariants broken\"\nat_most = 0\n[[target]]\nmetric = \"redundancy\"";
    let scenario = scenario(text);
    let outcomes: Vec<Outcome> = jobs(1).iter().map(outcome).collect();
    let report = Report::new(&scenario, Overrides::default(), "c0de", outcomes);
    let section =
        Section { scenario, report, seeds: 2, note: "A note.".into(), picture: Some("small.svg".into()) };
    let text = document(&[section]);
    let line = "| a small mesh: invariants broken | 200 | ≤ 0 | 0 | 0 | 0 | met | `cargo xtask sim small --seed 1` |";
    for part in [
        line,
        "## small, 200 nodes\n\nA small mesh.\n\nThat it is small.",
        "1 of 2 seeds so far",
        "A note.",
        "](small.svg)",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    assert!(text.contains("Every target is met"), "{text}");
}

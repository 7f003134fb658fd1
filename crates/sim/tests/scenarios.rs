//! The scenarios that come with the simulator: each is read, explained, and runs.

use std::time::Duration;

use peerchannel_sim::World;
use peerchannel_sim::report::Report;
use peerchannel_sim::scenario::{Overrides, Scenario, Shelf};
use peerchannel_sim::suite::{CODE, Suite};

fn shipped() -> Vec<Scenario> {
    let shelf = Shelf::own();
    let names = shelf.names().expect("the folder of scenarios is there");
    names.iter().map(|name| shelf.load(name).expect("a scenario that comes along is valid")).collect()
}

#[test]
fn every_scenario_says_what_it_shows_and_what_it_looks_at() {
    let scenarios = shipped();
    assert!(scenarios.len() > 30, "{}", scenarios.len());
    for scenario in &scenarios {
        assert!(!scenario.shows.is_empty(), "{} has no `shows`", scenario.name);
        assert!(!scenario.targets.is_empty(), "{} has no target", scenario.name);
        assert!(scenario.title.len() <= 90, "{}: the title is too long for a table", scenario.name);
        let end = scenario.plan.duration;
        let late = scenario.targets.iter().find(|target| target.part.from.is_some_and(|from| from >= end));
        assert!(late.is_none(), "{}: a target begins after the end", scenario.name);
        for event in &scenario.plan.events {
            assert!(event.at < end, "{}: {event:?} is after the end", scenario.name);
        }
    }
}

#[test]
fn every_scenario_runs_with_a_few_nodes_until_something_happened_in_it() {
    for scenario in shipped() {
        // The first thing that befalls them, and what comes of it.
        let first = scenario.plan.events.first().map_or(Duration::ZERO, |event| event.at);
        let duration = (first + Duration::from_secs(40)).min(scenario.plan.duration);
        let overrides = Overrides { nodes: Some(30), duration: Some(duration) };
        let plan = scenario.plan(1, overrides).unwrap();
        let outcome = World::run(plan).unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        assert_eq!(outcome.violations, [], "{}", scenario.name);
        assert!(outcome.events > 0, "{}: nothing happened", scenario.name);
        let report = Report::new(&scenario, overrides, CODE, vec![outcome]);
        assert!(report.to_text().contains(&scenario.title));
    }
}

#[test]
fn every_row_of_the_suite_is_a_scenario_and_the_other_way_round() {
    let rows: Vec<String> = Suite::own().unwrap().entries.into_iter().map(|entry| entry.scenario).collect();
    let names = Shelf::own().names().unwrap();
    assert_eq!(rows.iter().find(|row| !names.contains(row)), None, "in the list, but there is no such file");
    assert_eq!(names.iter().find(|name| !rows.contains(name)), None, "not in suite.toml");
}

//! What scenario files say, rightly and wrongly.

use std::time::Duration;

use super::*;
use crate::plan::{Happening, Join, Mood, Who};

fn no_base(name: &str) -> Result<String, ScenarioError> {
    Err(ScenarioError::Unknown { name: name.to_owned(), near: None })
}

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse("test", text, no_base)
}

#[test]
fn everything_a_file_says_reaches_the_plan() {
    let text = r#"
        title = "a test"
        nodes = 50
        seeds = 3
        duration = "2min"
        [config]
        members_max = 256
        neighbors_high = 14
        [network]
        undialable = 0.7
        loss = 0.05
        admission = "open"
        regions = [[0.0, 0.0], [10, 20]]
        bandwidth = [{ share = 1, uplink_kbit = 10_000 }]
        [traffic]
        per_second = 0.2
        until = "90s"
        [join]
        over = "0s"
        [resolver]
        mood = "lying"
        [churn]
        per_minute = 0.1
        [checks]
        delta = false
        agree_within = "20s"
        [[event]]
        at = "30s"
        kind = "crash"
        share = 0.3
        [[event]]
        at = "40s"
        kind = "resolver"
        mood = "slow"
        delay = "8s"
        lasts = "10s"
        [[target]]
        metric = "giant_share_min"
        at_least = 0.999
        from = "30s"
        over = "mean"
    "#;
    let Scenario { plan, targets, seeds, .. } = parse(text).unwrap();
    assert_eq!((plan.nodes, seeds, plan.duration), (50, 3, Duration::from_secs(120)));
    assert_eq!(
        (plan.config.members_max, plan.config.neighbors_high, plan.config.neighbors_low),
        (256, 14, 6)
    );
    assert_eq!((plan.undialable, plan.packets.loss, plan.packets.jitter), (0.7, 0.05, 0.05));
    assert_eq!(plan.admission, crate::plan::Admission::Open);
    assert_eq!(plan.map.regions, [(0.0, 0.0), (10.0, 20.0)]);
    assert_eq!(plan.bandwidth[0].uplink_bits, 10_000_000);
    assert_eq!((plan.traffic.per_second, plan.traffic.until), (0.2, Some(Duration::from_secs(90))));
    assert_eq!((plan.join, plan.resolver.mood), (Join::AtOnce, Mood::Lying));
    assert_eq!(plan.churn.unwrap().per_minute, 0.1);
    assert_eq!((plan.checks.delta, plan.checks.agree_within), (None, Some(Duration::from_secs(20))));
    assert_eq!(plan.events[0].what, Happening::Crash { who: Who::Share(0.3) });
    let slow =
        Happening::Resolver { mood: Mood::Slow(Duration::from_secs(8)), lasts: Duration::from_secs(10) };
    assert_eq!((plan.events[1].at, &plan.events[1].what), (Duration::from_secs(40), &slow));
    assert_eq!((targets[0].metric.name, targets[0].over), ("giant_share_min", Over::Mean));
    assert_eq!(targets[0].bound, Some(Bound::AtLeast(0.999)));
    assert_eq!(targets[0].part.from, Some(Duration::from_secs(30)));
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let check = |text: &str, parts: &[&str]| {
        let error = parse(&format!("title = \"t\"\n{text}")).unwrap_err().to_string();
        for part in ["scenario test", "seeds = 3"].iter().take(1).chain(parts) {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    };
    check("node = 3", &["unknown field `node`", "`nodes`"]);
    check("nodes = 0", &["nodes = 0", "a whole number from 1 to"]);
    check("nodes = \"many\"", &["nodes", "many", "a whole number"]);
    check("duration = 60", &["duration = 60", "such as \"250ms\""]);
    check("title = \"u\"", &["duplicate key"]);
    check("[network]\nloss = 2", &["loss = 2", "a share from 0 to 1"]);
    check("[network]\nlos = 0.2", &["unknown field `los`", "`loss`"]);
    check("[network]\nadmission = \"secret\"", &["secret", "`open`", "`password`"]);
    check("[network]\nlast_mile_ms = [5, 1]", &["map.last_mile_ms", "must be a range"]);
    check("[config]\nneighbors_low = 9", &["config", "low 9"]);
    check("[config]\npreset = \"moon\"", &["moon", "`default`", "`peer-channel`"]);
    check("[checks]\ndelta = true", &["delta", "write one such as"]);
    check("[checks]\ndelta = 3", &["delta", "false for no check"]);
    check("[resolver]\nmood = \"slow\"", &["resolver.mood", "set resolver.delay"]);
    check("[[event]]\nkind = \"crash\"\nshare = 0.3", &["missing field `at`"]);
    check("[[event]]\nat = \"1s\"\nkind = \"explode\"", &["explode", "`crash`", "`swizzle`"]);
    check("[[event]]\nat = \"1s\"\nkind = \"crash\"", &["event 1 (crash at 1s)", "say whom", "share = 0.3"]);
    check(
        "[[event]]\nat = \"1s\"\nkind = \"crash\"\nshare = 0.3\ncount = 3",
        &["event 1 (crash at 1s)", "say whom once"],
    );
    check(
        "[[event]]\nat = \"1s\"\nkind = \"crash\"\nshare = 0.3\nlasts = \"1s\"",
        &["`lasts` does not belong here", "takes at, share, count"],
    );
    check("[[event]]\nat = \"1s\"\nkind = \"partition\"\ngroups = 2", &["`lasts` is missing", "\"60s\""]);
    check("[[event]]\nat = \"1s\"\nkind = \"partition\"\ngroups = 1", &["groups = 1", "from 2 to 250"]);
    check("[[event]]\nat = \"1s\"\nkind = \"region_loss\"\nregion = 9", &["events", "no such region"]);
    check(
        "[[event]]\nat = \"1s\"\nkind = \"resolver\"\nmood = \"slow\"\nlasts = \"5s\"",
        &["a slow resolver needs `delay`"],
    );
    check("[[target]]\nmetric = \"speed\"\nat_most = 1", &["unknown metric `speed`", "latency_p99_ms"]);
    check(
        "[[target]]\nmetric = \"redundancy\"\nat_most = 1\nat_least = 1",
        &["target redundancy", "write two targets"],
    );
    check(
        "[[target]]\nmetric = \"redundancy\"\nat_most = 1\nfrom = \"9s\"\nuntil = \"3s\"",
        &["target redundancy", "is not before until"],
    );
    check("[[target]]\nmetric = \"redundancy\"\nover = \"best\"", &["best", "`worst`"]);
    let no_title = parse("nodes = 3").unwrap_err().to_string();
    assert!(no_title.contains("missing field `title`"), "{no_title}");
    let long = parse("title = \"a\\nb\"").unwrap_err().to_string();
    assert!(long.contains("must be one line"), "{long}");
}

#[test]
fn a_variant_says_only_its_difference() {
    let base = |name: &str| match name {
        "base" => Ok("title = \"base\"\nnodes = 500\n[network]\nloss = 0.1\n[[target]]\nmetric = \
                      \"redundancy\"\nat_most = 1.5"
            .to_owned()),
        other => no_base(other),
    };
    let variant = "extends = \"base\"\ntitle = \"variant\"\njudge = false\n[network]\nundialable = 0.7";
    let scenario = Scenario::parse("variant", variant, base).unwrap();
    assert_eq!((scenario.title.as_str(), scenario.plan.nodes), ("variant", 500));
    assert_eq!((scenario.plan.packets.loss, scenario.plan.undialable), (0.1, 0.7));
    assert_eq!(scenario.targets.len(), 1);
    assert_eq!(scenario.targets[0].bound, None, "shown, not judged");

    let error = |text: &str| Scenario::parse("variant", text, base).unwrap_err().to_string();
    assert!(error("extends = \"none\"").contains("no scenario `none`"));
    assert!(error("extends = 3").contains("must be the name of a scenario"));
    let wrong = error("extends = \"base\"\n[network]\nundialable = 7");
    assert!(wrong.contains("a share from 0 to 1") && wrong.contains("undialable"), "{wrong}");
    let circle = |_: &str| Ok("extends = \"a\"".to_owned());
    let error = Scenario::parse("a", "extends = \"a\"", circle).unwrap_err().to_string();
    assert!(error.contains("or itself"), "{error}");
}

#[test]
fn a_run_knows_the_command_that_repeats_it() {
    let scenario = parse("title = \"t\"\nnodes = 50\nduration = \"2min\"").unwrap();
    let replay = |overrides| scenario.plan(7, overrides).unwrap().replay();
    assert_eq!(replay(Overrides::default()), "cargo xtask sim test --seed 7");
    let overrides = Overrides { nodes: Some(30), duration: Some(Duration::from_secs(30)) };
    assert_eq!(replay(overrides), "cargo xtask sim test --nodes 30 --minutes 0.5 --seed 7");
    let same = Overrides { nodes: Some(50), duration: None };
    assert_eq!(replay(same), "cargo xtask sim test --seed 7");
    assert!(scenario.plan(1, Overrides { nodes: Some(0), duration: None }).is_err());
}

//! Dependencies point one way: the table of docs/architecture.md, enforced.

use serde_json::Value;

use super::Finding;

/// What a crate of the workspace may depend on.
struct Allowed {
    package: &'static str,
    /// Crates of the workspace, in shipped code.
    normal: &'static [&'static str],
    /// Crates of the workspace, in tests and benches beyond those.
    dev: &'static [&'static str],
    /// Foreign crates that must never appear, not even in tests.
    never: &'static [&'static str],
}

/// What a crate without IO, clock and dice has no use for.
const EFFECTS: &[&str] =
    &["tokio", "tokio-util", "quinn", "quinn-proto", "rustls", "socket2", "rand", "dashmap"];

const TABLE: &[Allowed] = &[
    Allowed { package: "peerchannel-wire", normal: &[], dev: &[], never: EFFECTS },
    Allowed { package: "peerchannel-mesh", normal: &["peerchannel-wire"], dev: &[], never: EFFECTS },
    Allowed {
        package: "peerchannel-security",
        normal: &["peerchannel-wire"],
        dev: &[],
        never: &["tokio", "quinn", "quinn-proto", "socket2"],
    },
    Allowed {
        package: "peerchannel-transport",
        normal: &["peerchannel-security", "peerchannel-wire"],
        dev: &["peerchannel-simnet"],
        never: &[],
    },
    Allowed {
        package: "peerchannel-simnet",
        normal: &["peerchannel-transport"],
        dev: &["peerchannel-security"],
        never: &[],
    },
    Allowed {
        package: "peerchannel-resolver",
        // The service client speaks QUIC.
        normal: &["peerchannel-transport", "peerchannel-security", "peerchannel-wire"],
        dev: &[],
        never: &[],
    },
    Allowed {
        package: "peerchannel-resolver-service",
        normal: &["peerchannel-transport", "peerchannel-security", "peerchannel-wire"],
        dev: &["peerchannel-resolver"],
        never: &[],
    },
    Allowed {
        package: "peerchannel",
        normal: &[
            "peerchannel-mesh",
            "peerchannel-resolver",
            "peerchannel-security",
            "peerchannel-transport",
            "peerchannel-wire",
        ],
        // The whole stack is compared with the model.
        dev: &["peerchannel-resolver-service", "peerchannel-sim", "peerchannel-simnet"],
        never: &[],
    },
    Allowed {
        package: "peerchannel-cli",
        normal: &["peerchannel", "peerchannel-resolver-service"],
        // A raw client that misbehaves needs what an application has no use for.
        dev: &["peerchannel-transport", "peerchannel-security", "peerchannel-wire"],
        never: &[],
    },
    Allowed {
        package: "peerchannel-sim",
        normal: &["peerchannel-mesh", "peerchannel-wire"],
        // Its link model states numbers of the transport and of admission; a test compares them.
        dev: &["peerchannel-security", "peerchannel-transport"],
        never: &["tokio", "quinn", "quinn-proto", "rustls", "socket2", "rand", "dashmap"],
    },
    Allowed {
        package: "peerchannel-benches",
        normal: &["peerchannel", "peerchannel-security", "peerchannel-wire"],
        dev: &["peerchannel-mesh", "peerchannel-transport"],
        never: &[],
    },
    Allowed { package: "xtask", normal: &[], dev: &[], never: EFFECTS },
];

pub(crate) fn check(metadata: &Value) -> Vec<Finding> {
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    let ours: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let finding =
            |advice| Finding { file: format!("Cargo.toml of {name}"), line: 0, rule: "crate edge", advice };
        let Some(allowed) = TABLE.iter().find(|row| row.package == name) else {
            findings.push(finding(
                "add the crate to the table in xtask/src/tidy/edges.rs and to docs/architecture.md".into(),
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap_or(&empty) {
            let on = dependency["name"].as_str().unwrap_or_default();
            let dev = dependency["kind"] == "dev";
            if allowed.never.contains(&on) {
                findings.push(finding(format!(
                    "remove {on}: this crate decides or translates, effects live elsewhere"
                )));
            } else if ours.contains(&on)
                && !allowed.normal.contains(&on)
                && !(dev && allowed.dev.contains(&on))
            {
                let kind = if dev { "dev-dependency" } else { "dependency" };
                findings.push(finding(format!(
                    "remove the {kind} on {on}, or write down why in docs/decisions/ and extend the table in \
                     xtask/src/tidy/edges.rs"
                )));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn advice(package: &str, on: &str, kind: Option<&str>) -> String {
        let known = ["peerchannel-mesh", "peerchannel-resolver", "peerchannel-wire", "peerchannel"];
        let mut packages: Vec<Value> =
            known.iter().filter(|n| **n != package).map(|n| json!({"name": n})).collect();
        packages.push(json!({"name": package, "dependencies": [{"name": on, "kind": kind}]}));
        let findings = check(&json!({ "packages": packages }));
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_edge_of_the_table_passes() {
        assert_eq!(advice("peerchannel-mesh", "peerchannel-wire", None), "");
        assert_eq!(advice("peerchannel-resolver-service", "peerchannel-resolver", Some("dev")), "");
        assert_eq!(advice("peerchannel-mesh", "bytes", None), "");
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_found() {
        assert!(advice("peerchannel-mesh", "peerchannel-resolver", None).contains("remove the dependency"));
        assert!(
            advice("peerchannel-wire", "peerchannel-mesh", Some("dev")).contains("remove the dev-dependency")
        );
        let shipped = advice("peerchannel-resolver-service", "peerchannel-resolver", None);
        assert!(shipped.contains("remove the dependency"), "allowed in tests only: {shipped}");
    }

    #[test]
    fn effects_stay_out_of_the_core_even_in_tests() {
        assert!(advice("peerchannel-mesh", "tokio", Some("dev")).contains("remove tokio"));
        assert!(advice("peerchannel-wire", "rand", None).contains("remove rand"));
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert!(advice("peerchannel-new", "bytes", None).contains("add the crate to the table"));
    }
}

//! Two hosts with a cable between them: network namespaces joined by a veth pair.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Place, Proc};

/// Two namespaces with a cable between them, removed at the end.
pub(crate) struct Cable {
    ends: [String; 2],
}

impl Cable {
    /// Two ends at 10.77.0.1 and 10.77.0.2, or why there are none here.
    pub(crate) fn new() -> Result<Self, String> {
        // Tests of one process may run at once.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cable = Self { ends: [format!("pc{id}a"), format!("pc{id}b")] };
        let [a, b] = &cable.ends;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b])?;
        for (end, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            ip(&["-n", end, "address", "add", address, "dev", "cable"])?;
            ip(&["-n", end, "link", "set", "lo", "up"])?;
            ip(&["-n", end, "link", "set", "cable", "up"])?;
            // Multicast goes where the cable goes.
            ip(&["-n", end, "route", "add", "default", "dev", "cable"])?;
        }
        Ok(cable)
    }

    /// A node at one end, told the mesh's name, its password, and what is in `more`.
    pub(crate) fn node(&self, end: usize, name: &str, place: &Place, more: &[&str]) -> Proc {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ends[end], env!("CARGO_BIN_EXE_peerchannel")]);
        command.args(["node", "home", "--json", "--password-file"]).arg(place.path("password")).args(more);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PEERCHANNEL_") {
                command.env_remove(variable);
            }
        }
        Proc::start(name, command)
    }

    /// Runs `ip` at one end.
    pub(crate) fn ip(&self, end: usize, args: &[&str]) {
        ip(&[&["-n", &self.ends[end]], args].concat()).unwrap();
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in &self.ends {
            // One that was never made cannot be removed either.
            let _ = Command::new("ip").args(["netns", "del", end]).output();
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output =
        Command::new("ip").args(args).output().map_err(|error| format!("no `ip` command: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

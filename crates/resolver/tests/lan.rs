//! Nodes find each other by mDNS, on loopback and across two network namespaces.
#![allow(clippy::unwrap_used, clippy::panic)] // a failed expectation is the point

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use peerchannel_resolver::{Found, LanOptions, LanResolver, MeshKey, NodeId, Registration, Resolver};

const MESH: MeshKey = MeshKey::from_bytes([0x5a; 32]);

fn registration(node: u8, addresses: &[SocketAddr]) -> Registration {
    Registration { mesh: MESH, node: NodeId::from_bytes([node; 32]), addresses: addresses.to_vec() }
}

fn on(interface: &str) -> LanResolver {
    let mut options = LanOptions::default();
    options.interfaces = vec![interface.to_owned()];
    LanResolver::new(options)
}

/// Five times what finding each other may take: mDNS asks at once and again after one, two,
/// four seconds (RFC 6762 section 5.2).
const HANG: Duration = Duration::from_secs(50);

/// Resolves until the condition holds.
async fn resolve_until(
    resolver: &LanResolver,
    done: impl Fn(&[Found]) -> bool,
) -> Result<Vec<Found>, Vec<Found>> {
    let start = Instant::now();
    loop {
        let found = resolver.resolve(MESH, 10).await.unwrap();
        if done(&found) {
            return Ok(found);
        }
        if start.elapsed() > HANG {
            return Err(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Says that a test cannot run here, also to `cargo xtask test`.
#[cfg(target_os = "linux")]
fn skip(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
    let Some(file) = std::env::var_os("PEERCHANNEL_SKIPS") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    std::io::Write::write_all(&mut file, format!("{test}: {reason}\n").as_bytes()).unwrap();
}

/// Sends a datagram to a group on loopback and receives it.
#[cfg(target_os = "linux")]
fn multicast_on_loopback() -> std::io::Result<()> {
    use std::net::Ipv4Addr;
    let group = Ipv4Addr::new(239, 255, 77, 1);
    let receiver = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    receiver.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
    let sender = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    sender.set_multicast_if_v4(&Ipv4Addr::LOCALHOST)?;
    let to = SocketAddr::from((group, receiver.local_addr()?.port()));
    sender.send_to(b"anyone?", &to.into())?;
    receiver.recv(&mut [0; 16]).map(drop)
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_loopback_find_each_other_and_a_goodbye_is_heard() {
    let (ann, bob) = (on("lo"), on("lo"));
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let (of_ann, of_bob) = (registration(1, &[address(4001)]), registration(2, &[address(4002)]));
    let _ = ann.register(&of_ann).await.unwrap();
    let _ = bob.register(&of_bob).await.unwrap();

    if let Err(error) = multicast_on_loopback() {
        let reason = format!("no multicast on loopback here ({error})");
        return skip("nodes_on_loopback_find_each_other_and_a_goodbye_is_heard", &reason);
    }
    let found = resolve_until(&ann, |found| !found.is_empty()).await.unwrap();
    assert_eq!(found, [Found { node: Some(of_bob.node), addresses: vec![address(4002)] }], "not ourselves");
    assert_eq!(bob.resolve(MeshKey::from_bytes([1; 32]), 10).await.unwrap(), [], "nor other meshes");

    let moved = registration(2, &[address(4003)]);
    let _ = bob.update(&moved).await.unwrap();
    resolve_until(&ann, |found| found.iter().any(|f| f.addresses.contains(&address(4003)))).await.unwrap();

    bob.unregister(&moved).await.unwrap();
    resolve_until(&ann, <[Found]>::is_empty).await.unwrap();

    drop(ann);
    resolve_until(&bob, <[Found]>::is_empty).await.unwrap();
}

/// Two hosts with a cable between them: network namespaces with a veth pair.
#[cfg(target_os = "linux")]
mod two_hosts {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Output};

    use super::*;

    /// What the child process plays, set by the parent test.
    const ROLE: &str = "PEERCHANNEL_LAN_TEST_ROLE";

    struct Namespaces {
        names: [String; 2],
    }

    impl Namespaces {
        /// `Err` says why this machine cannot.
        fn create() -> Result<Self, String> {
            let unique = std::process::id();
            let this = Self { names: [format!("pcl{unique}a"), format!("pcl{unique}b")] };
            let [a, b] = &this.names;
            let (va, vb) = (format!("pva{unique}"), format!("pvb{unique}"));
            for command in [
                format!("netns add {a}"),
                format!("netns add {b}"),
                format!("link add {va} netns {a} type veth peer name {vb} netns {b}"),
                format!("-n {a} addr add 10.77.0.1/24 dev {va}"),
                format!("-n {b} addr add 10.77.0.2/24 dev {vb}"),
                format!("-n {a} addr add fd77::1/64 dev {va} nodad"),
                format!("-n {b} addr add fd77::2/64 dev {vb} nodad"),
                format!("-n {a} link set lo up"),
                format!("-n {b} link set lo up"),
                format!("-n {a} link set {va} up"),
                format!("-n {b} link set {vb} up"),
            ] {
                ip(&command)?;
            }
            Ok(this)
        }

        fn run(&self, index: usize, role: &str) -> Child {
            Command::new("ip")
                .args(["netns", "exec", &self.names[index]])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "two_hosts::a_child_plays_its_role", "--nocapture"])
                .env(ROLE, role)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        }
    }

    impl Drop for Namespaces {
        fn drop(&mut self) {
            for name in &self.names {
                let _ = ip(&format!("netns del {name}"));
            }
        }
    }

    fn ip(arguments: &str) -> Result<(), String> {
        match Command::new("ip").args(arguments.split_whitespace()).output() {
            Ok(Output { status, .. }) if status.success() => Ok(()),
            Ok(output) => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("ip {arguments}: {error}")),
        }
    }

    /// Does nothing unless a parent test gave it a role.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_child_plays_its_role() {
        let (me, other) = match std::env::var(ROLE).as_deref() {
            Ok("ann") => (1u8, 2u8),
            Ok("bob") => (2, 1),
            _ => return,
        };
        let lan = LanResolver::new(LanOptions::default());
        let addresses = |host: u8| {
            let v6 = SocketAddr::from(([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host)], 4000));
            vec![SocketAddr::from(([10, 77, 0, host], 4000)), v6]
        };
        let mut announced = addresses(me);
        announced.push(SocketAddr::from(([127, 0, 0, 1], 4000)));
        let _ = lan.register(&registration(me, &announced)).await.unwrap();
        let start = Instant::now();
        // Both families; and loopback stays on its host.
        let wanted = Found { node: Some(NodeId::from_bytes([other; 32])), addresses: addresses(other) };
        resolve_until(&lan, |found| found.contains(&wanted)).await.unwrap();
        println!("found after {:?}", start.elapsed());
        // Stay until the parent saw both, so that the other is answered too.
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    #[test]
    fn find_each_other_over_a_cable() {
        let namespaces = match Namespaces::create() {
            Ok(namespaces) => namespaces,
            Err(reason) => {
                return skip(
                    "find_each_other_over_a_cable",
                    &format!("no network namespaces here ({reason})"),
                );
            }
        };
        let mut children = [namespaces.run(0, "ann"), namespaces.run(1, "bob")];
        let mut outputs = Vec::new();
        for child in &mut children {
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            let mut seen = String::new();
            let found = lines.by_ref().inspect(|line| seen += line).find(|line| line.contains("found after"));
            println!("{}", found.unwrap_or_else(|| panic!("not found: {seen}")));
            outputs.push(lines);
        }
        for (mut child, output) in children.into_iter().zip(outputs) {
            drop(child.stdin.take());
            output.for_each(drop);
            assert!(child.wait().unwrap().success());
        }
    }
}

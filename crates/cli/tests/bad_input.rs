//! Bad input: what was wrong, with which value, and what to do.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{ONLINE, Place, Proc, peerchannel, run};
use serde_json::{Value, json};

/// A command that cannot even begin says so within this time.
const AT_ONCE: Duration = Duration::from_secs(5);

/// `node` with these arguments fails with this status, and its error has all of these.
fn check(args: &[&str], code: i32, parts: &[&str]) {
    let mut command = peerchannel(["node"]);
    command.args(args).args(["--json", "--resolver", "static:127.0.0.1:9"]);
    let ran = run(command, "", AT_ONCE);
    ran.expect(code, parts);
    assert_eq!(ran.stdout, "", "errors go to stderr: {args:?}");
}

#[test]
fn mesh_and_member_names_are_checked() {
    check(&["", "--open"], 2, &["mesh name \"\""]);
    let long = "m".repeat(191);
    check(&[&long, "--open"], 2, &["mesh name \"mmm", "190"]);
    check(&["a\nb", "--open"], 2, &["mesh name \"a\\nb\""]);
    check(&["m", "--open", "--name", &"n".repeat(65)], 2, &["--name \"nnn", "64"]);
    check(&["m", "--open", "--name", "a\u{7}b"], 2, &["--name"]);
    check(&["m", "--open", "--name", ""], 2, &["--name \"\" is empty"]);
}

/// A full disk or a reader that went away takes the words, not the exit status.
#[cfg(target_os = "linux")]
#[test]
fn stderr_that_cannot_be_written_changes_no_exit_status() {
    use std::process::Stdio;
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let check = |args: &[&str], status: i32| {
        let mut command = peerchannel(args);
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(full()).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{args:?}");
    };
    check(&["node", "", "--open"], 2);
    check(&["node", "--no-such-option"], 2);
    // What is logged goes there as well.
    let alone = ["--open", "--resolver", "static:127.0.0.1:9", "--listen", "127.0.0.1:0", "--timeout"];
    check(&[&["doctor", "m", "--log", "trace"], &alone[..], &["100ms"]].concat(), 1);
    check(&[&["chat", "m", "--channel", "c"], &alone[..5]].concat(), 0);

    // `2>&1 | head`: neither stdout nor stderr can be written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut doctor = peerchannel(["doctor"]);
    doctor.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
    assert_eq!(doctor.status().unwrap().code(), Some(1));
}

/// A member that comes and goes for a mistyped option would be seen by all others.
#[test]
fn a_channel_is_checked_before_the_mesh_is_joined() {
    let place = Place::new();
    // Made by the join, had there been one.
    let identity = place.path("identity");
    for command in ["publish", "subscribe", "chat"] {
        let mut command = peerchannel([command, "m", "--channel", "", "--open", "--resolver"]);
        command.args(["static:127.0.0.1:9", "--listen", "127.0.0.1:0", "--identity"]).arg(&identity);
        run(command, "", AT_ONCE).expect(2, &["--channel \"\"", "must not be empty"]);
        assert!(!identity.exists());
    }
}

#[test]
fn credentials_are_checked_and_the_way_out_is_named() {
    let place = Place::new();
    check(
        &["m"],
        2,
        &["\"m\" needs a credential", "--password-file", "--password-env", "--ask-password", "--open"],
    );
    let absent = place.path("absent");
    check(&["m", "--password-file", absent.to_str().unwrap()], 1, &["absent", "cannot read"]);
    let folder = place.path("");
    check(&["m", "--password-file", folder.to_str().unwrap()], 1, &["cannot read"]);
    let empty = place.secret("empty", "\n");
    check(&["m", "--password-file", empty.to_str().unwrap()], 1, &["empty", "is empty", "key passphrase"]);
    let weak = place.secret("weak", "kitchen1\n");
    check(
        &["m", "--password-file", weak.to_str().unwrap()],
        1,
        &["too weak", "--allow-weak-password", "key passphrase"],
    );
    check(&["m", "--password-env", "NO_SUCH_VARIABLE"], 1, &["NO_SUCH_VARIABLE"]);
    check(&["m", "--open", "--password-file", "f"], 2, &["--open", "--password-file"]);
    check(&["m", "--ca", "f"], 2, &["certificates are not available in this version"]);
}

#[test]
fn a_password_is_not_taken_on_the_command_line_and_not_repeated() {
    for (args, status) in
        [("--password hunter2", 2), ("--password=hunter2 --log info", 2), ("--password-env hunter2", 1)]
    {
        let ran = run(peerchannel(["node", "m"].into_iter().chain(args.split(' '))), "", AT_ONCE);
        ran.expect(status, &["--password-env"]);
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    }
    run(peerchannel(["members", "m", "--password"]), "", AT_ONCE).expect(2, &["passwords are not taken"]);
}

#[cfg(unix)]
#[test]
fn an_identity_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let key = place.path("node.key");
    let mut new = peerchannel(["key", "new"]);
    new.arg(&key);
    let made = run(new, "", AT_ONCE);
    made.expect(0, &[]);
    assert_eq!(made.stdout.trim().len(), 64);
    let mut again = peerchannel(["key", "new"]);
    again.arg(&key);
    run(again, "", AT_ONCE).expect(1, &["node.key", "exists already"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    check(&["m", "--open", "--identity", key.to_str().unwrap()], 1, &["node.key", "chmod 600"]);
}

#[test]
fn a_file_that_is_no_identity_is_named() {
    let place = Place::new();
    let other = place.secret("notes.txt", "milk\neggs\n");
    check(
        &["m", "--open", "--identity", other.to_str().unwrap()],
        1,
        &["notes.txt is not an identity file: `peerchannel key new FILE` makes one"],
    );
}

#[test]
fn a_weak_password_can_be_allowed() {
    let place = Place::new();
    let weak = place.secret("weak", "kitchen1");
    let mut command =
        peerchannel(["node", "m", "--json", "--listen", "127.0.0.1:0", "--allow-weak-password"]);
    command.args(["--resolver", "static:127.0.0.1:9", "--password-file"]).arg(weak);
    let mut node = Proc::start("weak", command);
    node.wait("listening", ONLINE);
    node.send(&json!({ "cmd": "leave" }));
    node.wait("left", AT_ONCE);
    assert_eq!(node.wait_end(AT_ONCE).0.code(), Some(0));
}

#[test]
fn addresses_are_checked() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(&["m", "--open", "--listen", &address], 1, &[&address, "in use", "another port"]);
    check(
        &["m", "--open", "--listen", "192.0.2.99:0"],
        1,
        &["192.0.2.99:0", "not an address of this machine"],
    );
    check(&["m", "--open", "--listen", "localhost"], 2, &["localhost", "--listen"]);
    for bad in ["4555", "0.0.0.0", ":4555"] {
        check(&["m", "--open", "--listen", bad], 2, &["--listen", "ADDRESS:PORT, as 0.0.0.0:4555 or [::]:0"]);
    }
    check(&["m", "--open", "--advertise", "0.0.0.0:0"], 1, &["0.0.0.0:0", "advertised"]);
    check(&["m", "--open", "--min-neighbors", "9"], 2, &["low 9"]);
}

#[test]
fn resolvers_and_tickets_are_checked() {
    let resolver = |uri: &str, code, parts: &[&str]| check(&["m", "--open", "--resolver", uri], code, parts);
    resolver("pigeon:x", 2, &["pigeon:x", "static:HOST:PORT"]);
    resolver("static:127.0.0.1", 2, &["static:127.0.0.1", "no port"]);
    resolver("dns:example.org", 2, &["dns", "not available in this version"]);
    resolver("dht", 2, &["dht", "not available in this version"]);
    resolver("service:xyz@127.0.0.1:1", 2, &["xyz", "64 hex digits"]);
    resolver("ticket:hello", 2, &["ticket cannot be used"]);
    resolver("pc1abcdef", 2, &["this is a ticket: write --resolver ticket:pc1"]);
}

#[test]
fn settings_elsewhere_are_checked_and_named() {
    let place = Place::new();
    let with = |content: &str, parts: &[&str]| {
        let path = place.secret("settings.toml", content);
        let mut command = peerchannel(["node", "m", "--json", "--config"]);
        command.arg(path);
        run(command, "", AT_ONCE).expect(2, parts);
    };
    with("nmae = 'x'", &["settings.toml", "nmae"]);
    with("listen = 'x'", &["settings.toml", "listen", "'x'"]);
    with("open = true\n[tuning]\nmax_message = 0", &["max_message is 0"]);
    with("name = ", &["settings.toml", "line 1"]);
    let mut command = peerchannel(["node", "m", "--json", "--config", "absent.toml"]);
    run(command, "", AT_ONCE).expect(2, &["absent.toml"]);
    command = peerchannel(["node", "m", "--json"]);
    command.env("PEERCHANNEL_LISTEN", "everywhere");
    run(command, "", AT_ONCE).expect(2, &["PEERCHANNEL_LISTEN", "everywhere"]);
    command = peerchannel(["node", "m", "--json", "--open", "--log", "=,="]);
    run(command, "", AT_ONCE).expect(2, &["--log"]);
}

#[test]
fn options_win_over_variables_and_variables_over_the_file() {
    let place = Place::new();
    let settings = place.secret(
        "settings.toml",
        "name = 'file'\nopen = true\nlisten = '127.0.0.1:0'\nresolver = 'static:127.0.0.1:9'\n",
    );
    let name = |variable: Option<&str>, option: Option<&str>| {
        let mut command = peerchannel(["node", "m", "--json", "--config"]);
        command.arg(&settings).envs(variable.map(|name| ("PEERCHANNEL_NAME", name)));
        command.args(option.map(|name| format!("--name={name}")));
        let mut node = Proc::start("named", command);
        node.send(&json!({ "cmd": "members" }));
        node.wait("members", ONLINE).event["members"][0]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(None, None), "file");
    assert_eq!(name(Some("variable"), None), "variable");
    assert_eq!(name(Some("variable"), Some("option")), "option");
}

#[test]
fn malformed_commands_are_answered_and_disturb_nothing() {
    let place = Place::new();
    let mut node = place.node("node", &[]);
    node.wait("listening", ONLINE);
    let lines = [
        "not json",
        "[]",
        "{}",
        r#"{"cmd":"fly","ref":"f"}"#,
        r#"{"cmd":"publish","channel":"","payload":"x"}"#,
        r#"{"cmd":"publish","channel":"c","payload":"x","hops":"far"}"#,
        "\u{feff}{\"cmd\":\"stats\"}",
        r#"{"cmd":"direct","to":"abc","payload":"x"}"#,
    ];
    for line in lines {
        let mark = node.mark();
        node.send_line(line);
        let error = node.wait_from(mark, "error", AT_ONCE, |_| true).event;
        assert_eq!(error["error"], "malformed", "{line}: {error}");
        assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{line}: {error}");
    }
    assert!(node.all("error").iter().any(|error| error["ref"] == "f"));

    // Over the limits: the error names them.
    let over = |node: &mut Proc, command: Value, limit: &str| {
        let mark = node.mark();
        node.send(&command);
        let error = node.wait_from(mark, "error", AT_ONCE, |event| event["ref"] == "over").event;
        assert!(error["detail"].as_str().unwrap().contains(limit), "{error}");
    };
    let large = "x".repeat((1 << 20) + 1);
    over(&mut node, json!({ "cmd": "publish", "channel": "c", "payload": large, "ref": "over" }), "1048576");
    let hops = json!({ "cmd": "publish", "channel": "c", "payload": "x", "hops": 65, "ref": "over" });
    over(&mut node, hops, "64");
    let nobody = json!({ "cmd": "direct", "to": "ab".repeat(32), "payload": "x", "ref": "over" });
    over(&mut node, nobody, "no member");

    let mark = node.mark();
    node.send_line(&"y".repeat(7 << 20));
    node.wait_from(mark, "error", AT_ONCE, |event| event["error"] == "malformed");
    assert_eq!(node.stats()["neighbors"], 0, "it still works");
}

#[test]
fn an_unreachable_directory_is_told_and_does_not_stop_the_join() {
    let place = Place::new();
    // Bound and silent: nobody answers there.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("service:{}", silent.local_addr().unwrap());
    let mut node = place.node_at("node", &["--resolver", &uri]);
    node.wait("listening", ONLINE);
    let failed = node.wait("resolver_failed", Duration::from_secs(10)).event;
    assert!(failed["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{failed}");
    node.send(&json!({ "cmd": "publish", "channel": "c", "payload": "held", "ref": 1 }));
    node.wait("published", AT_ONCE);
    node.send(&json!({ "cmd": "leave" }));
    node.wait("left", AT_ONCE);
}

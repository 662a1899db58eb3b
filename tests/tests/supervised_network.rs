//! The kernel's programs beneath the supervisor: they hold by themselves, for what the supervisor doesn't see. Whatever reaches it is
//! proved by the suites that run on both backends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use leash_tests::attempt::Attempt;
use leash_tests::ground::{self, IPV4_DENIED, IPV4_OK, IPV6_DENIED, IPV6_OK, await_some};
use leash_tests::session::{EACCES, Plan};

const EPERM: i32 = 1;
const SCRIPT: &str = "/w/odd/network.py";
const ALL: &str = "@id(\"all\") permit(principal, action, resource);";
/// Besides what is denied to all, what is denied to some programs, and what is denied to all by turns.
const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("no-address") @reason("closed")
forbid(principal, action in [Action::"Network"], resource is Endpoint)
when { resource.ip == ip("10.99.0.2") || resource.ip == ip("fd99::2") };
@id("no-icmp") forbid(principal, action == Action::"SocketCreate", resource == Socket::"inet/icmp");
@id("no-raw") forbid(principal, action == Action::"SocketCreate", resource == Socket::"inet/raw");
@id("not-one") forbid(principal, action in [Action::"Network"], resource is Endpoint)
when { (resource.port == 7096 || resource.port == 7097) && context.exe == "/usr/bin/one" };
@id("not-others") forbid(principal, action in [Action::"Network"], resource is Endpoint)
when { resource.port == 7096 && context.exe != "/usr/bin/one" };
"#;

fn ready() {
    ground::peers();
    let root = ground::fresh("/w/odd");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(SCRIPT, include_str!("../work/odd/network.py")).unwrap();
}

fn errnos(text: &[u8]) -> BTreeMap<String, i32> {
    let text = String::from_utf8_lossy(text);
    text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, errno)| (name.to_owned(), errno.parse().unwrap())).collect()
}

/// The script's calls on these places, made by a process that this command starts.
fn calls(place: [&str; 2], into: Option<&std::path::Path>) -> BTreeMap<String, i32> {
    let mut command = Command::new("python3");
    command.arg(SCRIPT).arg("calls").arg(place.join(","));
    if let Some(cgroup) = into {
        let list = cgroup.join("cgroup.procs");
        // SAFETY: between fork and exec, nothing but a write.
        unsafe { command.pre_exec(move || fs::write(&list, "0")) };
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    errnos(&output.stdout)
}

#[test]
fn calls_that_no_supervisor_sees_are_denied_by_the_kernel() {
    ready();
    let (denied, allowed) = ([IPV4_DENIED, IPV6_DENIED], [IPV4_OK, IPV6_OK]);
    for place in [denied, allowed] {
        let plain = calls(place, None);
        assert!(plain.iter().all(|(name, errno)| name == "pid" || *errno == 0), "{plain:?}");
    }
    let plan = Plan::new(POLICY);
    let running = plan.start_attempts(&[Attempt::new("wait", "make-file /w/odd/up x; wait-file /w/odd/go 200")], false);
    await_some("the session", || fs::metadata("/w/odd/up").ok());
    let cgroup = running.cgroup();
    // Whom the test puts there has no filter, so the programs are all that there is.
    let (under, twin) = (calls(denied, Some(&cgroup)), calls(allowed, Some(&cgroup)));
    let outside = calls(denied, None);
    assert!(outside.iter().all(|(name, errno)| name == "pid" || *errno == 0), "{outside:?}");
    fs::write("/w/odd/go", "").unwrap();
    let run = running.finish();
    assert_eq!(run.start["network_floor"], "calls and packets");
    for (name, errno) in &twin {
        let closed = ["create-icmp", "create-raw", "port-7096"].contains(&name.as_str());
        let expected = if closed { EACCES } else { 0 };
        assert!(name == "pid" || *errno == expected, "{name}: {errno}");
    }
    for (name, errno) in &under {
        let open = name == "create-icmpv6";
        assert!(name == "pid" || *errno == if open { 0 } else { EACCES }, "{name}: {errno}");
    }
    let pids = [under["pid"], twin["pid"]];
    let of = |pid: i32, action: &str, resource: &str| {
        let denials = run.denials(action, resource).filter(|event| event.pid == pid as u32);
        denials.map(|event| (event.policies.join(","), event.errno)).collect::<Vec<_>>()
    };
    let closed = ("no-address".to_owned(), EACCES);
    for (address, times) in [("10.99.0.2:7099", 2), ("[fd99::2]:7099", 1)] {
        // Connecting, and what connects by sending.
        assert_eq!(
            of(pids[0], "NetworkConnect", &format!("{address}/tcp")),
            vec![closed.clone(); 2 * times],
            "{}",
            run.denials_text()
        );
        assert_eq!(of(pids[0], "NetworkConnect", &format!("{address}/udp")), vec![closed.clone(); times]);
        assert_eq!(of(pids[0], "NetworkSend", &format!("{address}/udp")), vec![closed.clone(); times]);
        for layer in ["tcp", "udp"] {
            let bound = format!("{}/{layer}", address.replace("7099", "0"));
            assert_eq!(of(pids[0], "NetworkListen", &bound), vec![closed.clone(); times]);
        }
    }
    for (pid, action, resource, policy) in [
        (pids[1], "NetworkSend", "10.99.0.1:7096/udp", ""),
        (pids[1], "SocketCreate", "inet/icmp", "no-icmp"),
        (pids[1], "SocketCreate", "inet/raw", "no-raw"),
        (pids[0], "SocketCreate", "inet/icmp", "no-icmp"),
    ] {
        assert_eq!(of(pid, action, resource), [(policy.to_owned(), EACCES)], "{}", run.denials_text());
    }
    let turns = run.denials("NetworkSend", "10.99.0.1:7096/udp").next().unwrap();
    assert_eq!(turns.reason.as_deref(), Some("the policy lets no program do this"));
    // The parent is looked up when the record arrives; by then the process may be gone.
    assert!([0, std::process::id()].contains(&turns.ppid));
    assert_eq!(run.denials("NetworkSend", "10.99.0.1:7097/udp").count(), 0);
}

#[test]
fn a_connected_socket_sends_only_while_its_peer_is_permitted() {
    ready();
    let mapped = format!("::ffff:{IPV4_DENIED}");
    let addresses = [IPV4_DENIED, IPV6_DENIED, &mapped, IPV4_OK, IPV6_OK];
    let plan = Plan::new(ALL);
    let running = plan.start(&[&["python3", SCRIPT, "sends"], &addresses[..]].concat());
    await_some("the first sends", || fs::metadata("/w/odd/up").ok());
    fs::write(plan.policy_file(), POLICY).unwrap();
    assert!(running.reload());
    fs::write("/w/odd/go", "").unwrap();
    let run = running.finish();
    assert_eq!(run.status, 0, "{}", run.stderr);
    let errnos = errnos(&run.stdout);
    assert_eq!(errnos.len(), 4 * addresses.len(), "{errnos:?}");
    for (what, errno) in &errnos {
        let closed = what.starts_with("after") && !what.ends_with(IPV4_OK) && !what.ends_with(IPV6_OK);
        // Where IPv6 is IPv4, a send without an address becomes one with the peer's, and the call is denied before the packet.
        let denied = if what.contains("send ::ffff") { EACCES } else { EPERM };
        assert_eq!(*errno, if closed { denied } else { 0 }, "{what}");
    }
    for (resource, times) in [("10.99.0.2:7099/udp", 4), ("[fd99::2]:7099/udp", 2)] {
        let denials: Vec<_> = run.denials("NetworkSend", resource).collect();
        assert_eq!(denials.len(), times, "{}", run.denials_text());
        for denial in denials {
            assert_eq!((&denial.policies[..], denial.generation), (&["no-address".to_owned()][..], 2));
            assert!([EACCES, EPERM].contains(&denial.errno));
        }
    }
    assert_eq!(run.events.iter().filter(|event| event.verdict == "deny").count(), 6, "{}", run.denials_text());
}

#[test]
fn a_peer_that_may_be_connected_to_may_be_sent_to() {
    ready();
    fs::write("/w/odd/go", "").unwrap();
    let policy = format!("{ALL} @id(\"no-send\") forbid(principal, action == Action::\"NetworkSend\", resource is Endpoint);");
    let mapped = format!("::ffff:{IPV4_OK}");
    let run = Plan::new(&policy).run(&["python3", SCRIPT, "sends", IPV4_OK, IPV6_OK, &mapped]);
    let errnos = errnos(&run.stdout);
    assert!(errnos.len() == 12 && errnos.values().all(|errno| *errno == 0), "{errnos:?}\n{}", run.denials_text());
}

/// What is denied as a peer is answered all the same where it connects to what may be listened on.
#[test]
fn an_accepted_connection_answers_whomever_it_accepted() {
    ready();
    let program = "import socket; s = socket.create_server(('10.99.0.1', 7095)); open('/w/odd/up', 'w').close(); c = s.accept()[0]; \
                   c.sendall(c.recv(9)); c.recv(9)";
    let running = Plan::new(POLICY).start(&["python3", "-c", program]);
    await_some("the server", || fs::metadata("/w/odd/up").ok());
    let client = "import socket; s = socket.create_connection(('10.99.0.1', 7095), source_address=('10.99.0.2', 0)); s.sendall(b'echo'); \
                  print(s.recv(9).decode())";
    let answer = Command::new("python3").args(["-c", client]).output().unwrap();
    assert_eq!(answer.stdout, b"echo\n", "{}", String::from_utf8_lossy(&answer.stderr));
    let run = running.finish();
    assert_eq!((run.status, run.denials_text().as_str()), (0, ""), "{}", run.stderr);
    // The address is denied indeed.
    let listener = TcpListener::bind((IPV4_DENIED, 7095)).unwrap();
    let run = Plan::new(POLICY).run(&["python3", "-c", "import socket; socket.create_connection(('10.99.0.2', 7095))"]);
    assert_eq!(run.denials("NetworkConnect", "10.99.0.2:7095/tcp").count(), 1, "{}", run.stderr);
    drop(listener);
}

/// Nothing is denied in record mode, so there is nothing to add to what the supervisor records.
#[test]
fn record_mode_has_no_programs() {
    ready();
    fs::write("/w/odd/go", "").unwrap();
    let run = Plan::new(POLICY).record().run(&["python3", SCRIPT, "sends", IPV4_DENIED]);
    assert_eq!(run.start["network_floor"], "none");
}

//! The table of differences in `docs/backends.md`, line by line, on whichever backend runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use leash_tests::session::{Plan, Run};
use leash_tests::{ground, user};

/// What proves a line of the table.
enum Proof {
    /// A key of `differences.py`, with what comes of it on `bpf-lsm` and on `supervised`; `ok` is what comes of it without Leash.
    Result(&'static str, &'static str, &'static str),
    /// The same, where the floor has this ABI of Landlock; before, what comes of it is as on `bpf-lsm`.
    SinceAbi(u64, &'static str, &'static str, &'static str),
    /// The same, where there are several processors; with one, what comes of it is as on `bpf-lsm`.
    OfSeveral(&'static str, &'static str, &'static str),
    /// How often the log has this action on this path (or name in the script's directory), on each of them.
    Count(&'static str, &'static str, u64, u64),
    /// This test, of another suite.
    Elsewhere(&'static str),
    /// It is a race, or a figure.
    Chance,
}

use Proof::{Chance, Count, Elsewhere, OfSeveral, Result, SinceAbi};

/// The lines, by how they begin.
const LINES: &[(&str, &[Proof])] = &[
    (
        "`ptrace`, `process_vm_readv`, `process_vm_writev`, `pidfd_getfd`, writing to `/proc/PID/mem`",
        &[
            Result("ptrace", "ok", "EPERM"),
            Result("process_vm_readv", "ok", "EPERM"),
            Result("process_vm_writev", "ok", "EPERM"),
            Result("pidfd_getfd", "ok", "EPERM"),
            Result("mem", "ok", "EPERM"),
        ],
    ),
    ("reading `/proc/PID/mem` and `/proc/PID/environ` of another process", &[Elsewhere("supervised_backend")]),
    ("LeakSanitizer", &[Elsewhere("supervised_backend")]),
    ("Landlock's calls, `recvmmsg`", &[Result("landlock", "ok", "ENOSYS"), Result("recvmmsg", "ok", "ENOSYS")]),
    ("a signal to process 1", &[SinceAbi(6, "signal", "ok", "EPERM")]),
    ("`TIOCGPTPEER`", &[Result("peer-end", "ok", "ENOTTY"), Result("terminals", "ok", "ok")]),
    ("a program in a directory that the host makes", &[Elsewhere("supervised_backend")]),
    ("a seccomp filter with a listener of its own", &[Result("listener", "ok", "EBUSY")]),
    ("`mq_open`", &[Result("mq_open", "EACCES", "EPERM")]),
    ("`openat2` that creates under `RESOLVE_…` limits", &[Result("openat2", "ok", "ENOSYS")]),
    ("a descriptor opened with `O_PATH`, sent over a socket", &[Elsewhere("supervised_backend")]),
    ("core dumps", &[Result("core", "ok", "none")]),
    (
        "`sendmsg` with credentials, `MSG_ZEROCOPY`",
        &[
            Result("credentials", "ok", "ok"),
            Result("credentials-datagram", "ok", "EPERM"),
            Result("zerocopy", "ok", "EOPNOTSUPP"),
        ],
    ),
    ("credentials of a peer", &[Result("peer", "ok", "differs"), Result("peer-user", "ok", "ok")]),
    ("`connect` of a datagram socket, then `send`", &[Count("NetworkSend", "datagrams", 2, 1)]),
    ("a process that shares descriptors or memory", &[Result("share", "ok", "EPERM")]),
    ("other threads while one maps", &[Chance]),
    ("the processors of a thread that is given a descriptor", &[OfSeveral("processors", "ok", "differs")]),
    ("`O_NOFOLLOW` in the flags of a descriptor", &[Result("nofollow", "ok", "missing")]),
    ("times or extended attributes of what is mounted in two places", &[Elsewhere("kernel_hooks")]),
    ("an action that the file system refuses", &[Count("FileCreate", "/usr/leash-differences", 0, 1)]),
    ("opening a terminal without `O_NOCTTY`", &[Result("terminal", "ok", "none")]),
    ("a signal in the moment before the supervisor has received a call", &[Chance]),
    ("a waiting call that a handled signal interrupts", &[Result("interrupted", "ok", "EINTR")]),
    ("the daemon dies", &[Elsewhere("kernel_run")]),
    ("cost of an open", &[Chance]),
];

const POLICY: &str = "@id(\"all\") permit(principal, action, resource);";

fn run(path: &str) -> (Run, BTreeMap<String, String>) {
    let run = Plan::new(POLICY).run(&["python3", path]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let results = text.lines().filter_map(|line| line.split_once(' ')).map(|(key, value)| (key.to_owned(), value.to_owned()));
    (run, results.collect())
}

#[test]
fn every_line_of_the_table_holds() {
    ground::ready();
    let root = ground::fresh("/w/odd");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    let path = "/w/odd/differences.py";
    fs::write(path, include_str!("../work/odd/differences.py")).unwrap();
    user::hand_over(ground::ROOT);
    let (run, results) = run(path);
    let supervised = match run.start["backend"].as_str() {
        Some("supervised") => true,
        Some("bpf-lsm") => false,
        other => panic!("{other:?}"),
    };
    let abi = run.start["landlock_abi"].as_u64().unwrap_or(0);
    let several = std::thread::available_parallelism().unwrap().get() > 1;
    let wrong = std::cell::RefCell::new(Vec::new());
    let compare = |key: &str, expected: &str| {
        let found = results.get(key).map_or("nothing", String::as_str);
        if found != expected {
            wrong.borrow_mut().push(format!("{key}: {found}, not {expected}"));
        }
    };
    for proof in LINES.iter().flat_map(|(_, proofs)| *proofs) {
        match proof {
            Result(key, kernel, other) => compare(key, if supervised { other } else { kernel }),
            SinceAbi(since, key, kernel, other) => compare(key, if abi >= *since { other } else { kernel }),
            OfSeveral(key, kernel, other) => compare(key, if supervised && several { other } else { kernel }),
            Count(action, name, kernel, other) => {
                let expected = if supervised { *other } else { *kernel };
                let resource = std::path::Path::new(&results["place"]).join(name);
                let resource = resource.to_str().unwrap();
                let events = run.events.iter().filter(|event| event.action == *action && event.resource.words() == resource);
                let found: u64 = events.map(|event| event.count).sum();
                if found != expected {
                    wrong.borrow_mut().push(format!("{action} {name}: {found} times, not {expected}"));
                }
            }
            Elsewhere(_) | Chance => {}
        }
    }
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "{}\n{results:?}", wrong.join("\n"));
}

#[test]
fn every_line_of_the_table_is_known() {
    let text = include_str!("../../docs/backends.md");
    let table = text.split("## Differences").nth(1).expect("a table of differences");
    let lines: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| ")).skip(1).collect();
    for line in &lines {
        assert_eq!(LINES.iter().filter(|(start, _)| line.starts_with(start)).count(), 1, "{line}");
    }
    assert_eq!(lines.len(), LINES.len());
    for suite in LINES.iter().flat_map(|(_, proofs)| *proofs) {
        if let Elsewhere(suite) = suite {
            let fixtures = std::env::var_os("CARGO_MANIFEST_DIR").expect("`CARGO_MANIFEST_DIR` is set by `cargo xtask test`");
            assert!(std::path::Path::new(&fixtures).join("tests").join(suite).with_extension("rs").exists());
        }
    }
}

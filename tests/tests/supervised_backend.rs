//! What only the supervised backend must prove: that nothing which a program can still change decides, and that programs which
//! behave oddly are served as by the kernel. Everything else is proved by the suites that run on both backends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_tests::attempt::Attempt;
use leash_tests::session::{EACCES, Plan, Run, Running};
use leash_tests::{ground, user};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("no-victim") @reason("closed")
forbid(principal, action, resource in Dir::"/w/swap/d");
@id("no-start") @reason("read, and not run")
forbid(principal, action == Action::"ProcessExec", resource in Dir::"/w/swap/r");
@id("no-address") @reason("nothing goes to this address")
forbid(principal, action in [Action::"Network"], resource is Endpoint) when { resource.ip == ip("10.99.0.2") };
"#;

/// Swaps of one argument: `LEASH_SWAPS`, by default what takes seconds.
fn swaps(share: u64) -> u64 {
    std::env::var("LEASH_SWAPS").map_or(20_000, |text| text.parse().expect("`LEASH_SWAPS` is a number")) / share
}

#[derive(serde::Deserialize, Debug)]
struct Counts {
    won: u64,
    allowed: u64,
    denied: u64,
    other: u64,
}

/// The attempt wins without Leash and never in a session, where it is denied and allowed in turn.
fn never_wins(script: &str, times: u64) -> (Run, Counts) {
    /// Without Leash it ends when it wins, which takes a few or thousands of tries.
    const MOST: u64 = 1_000_000;
    // As many as are asked for take their time.
    let attempt = |times: u64| Attempt { seconds: 800, ..Attempt::new("swap", format!("{script} {times}")) };
    let ungoverned = ground::ungoverned(&[attempt(MOST)]);
    assert!(ungoverned[0].ok, "{ungoverned:?}");
    let (run, outcomes) = Plan::new(POLICY).perform(&[attempt(times)], false);
    let counts: Counts = serde_json::from_str(&outcomes[0].data).unwrap_or_else(|error| panic!("{error}: {outcomes:?}"));
    assert_eq!((counts.won, counts.other), (0, 0), "{counts:?}\n{}", run.denials_text());
    assert_eq!(counts.allowed + counts.denied, times);
    assert!(counts.allowed > 0 && counts.denied > 0, "nothing was swapped: {counts:?}");
    assert_eq!(outcomes[0].errno, EACCES);
    (run, counts)
}

fn victims() {
    ground::ready();
    let root = ground::fresh("/w/swap");
    for (place, program) in [("d", "/bin/false"), ("o", "/bin/true")] {
        fs::create_dir(root.join(place)).unwrap();
        fs::write(root.join(place).join("key"), "SECRET").unwrap();
        fs::copy(program, root.join(place).join("prog")).unwrap();
    }
}

#[test]
fn a_swapped_path_opens_what_was_decided_on() {
    victims();
    let (run, counts) = never_wins("swap-open /w/swap/d/key /w/swap/o/key", swaps(1));
    assert_eq!(run.denials("FileRead", "/w/swap/d/key").count() as u64, counts.denied);
}

#[test]
fn a_swapped_path_starts_what_was_decided_on() {
    victims();
    let (run, counts) = never_wins("swap-exec /w/swap/d/prog /w/swap/o/prog", swaps(40));
    assert!(run.denials("ProcessExec", "/w/swap/d/prog").count() as u64 >= counts.denied, "{}", run.denials_text());
}

#[test]
fn a_swapped_address_connects_to_what_was_decided_on() {
    victims();
    let (run, counts) = never_wins("swap-connect 10.99.0.2 10.99.0.1", swaps(2));
    assert_eq!(run.denials("NetworkConnect", "10.99.0.2:7099/udp").count() as u64, counts.denied);
}

const SOMEWHERE: &str = r#"
@id("reads") permit(principal, action in [Action::"FileRead", Action::"DirList"], resource);
@id("system") permit(principal, action == Action::"ProcessExec", resource in Dir::"/usr");
@id("later") permit(principal, action == Action::"ProcessExec", resource in Dir::"/var/tmp/leash-tests/later");
"#;

/// Waits until the command runs: its floor is there.
fn await_command(running: &Running) {
    let opens = |record: &serde_json::Value| (record["action"] == "FileRead").then_some(());
    ground::await_some("the command", || running.records().iter().find_map(opens));
}

/// A program in a directory that was not there when the floor was laid: the policy permits it, and the kernel doesn't.
#[test]
fn the_floor_lies_under_the_supervisor() {
    let later = format!("{}/later", ground::ASIDE);
    let script = format!("until [ -e {later}/true ]; do :; done; {later}/true; echo $?; /usr/bin/true; echo $?");
    ground::ready();
    drop(fs::remove_dir_all(&later));
    let running = Plan::new(SOMEWHERE).start(&["/usr/bin/sh", "-c", &script]);
    await_command(&running);
    fs::create_dir(&later).unwrap();
    fs::copy("/usr/bin/true", format!("{later}/made")).unwrap();
    assert!(std::process::Command::new(format!("{later}/made")).status().unwrap().success());
    fs::rename(format!("{later}/made"), format!("{later}/true")).unwrap();
    let run = running.finish();
    fs::remove_dir_all(&later).unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "126\n0\n", "{}{}", run.stderr, run.denials_text());
    let abi = run.start["landlock_abi"].as_u64();
    assert!(abi >= Some(ground::landlock_abi()), "{abi:?}");
    let started = run.events.iter().filter(|event| event.resource.words() == format!("{later}/true"));
    assert!(started.into_iter().all(|event| event.verdict == "allow"), "{}", run.denials_text());
}

/// A floor can't be raised: what would need it is refused, and the old policy stays.
#[test]
fn a_reload_that_wants_more_than_the_floor_is_refused() {
    ground::ready();
    let root = ground::fresh("/w/reloaded");
    fs::copy("/usr/bin/true", root.join("true")).unwrap();
    let also =
        |dir: &str| format!("{SOMEWHERE} permit(principal, action == Action::\"ProcessExec\", resource in Dir::\"{dir}\");");
    let first = also("/w");
    let plan = Plan::new(&first);
    let running = plan.start(&["/usr/bin/sh", "-c", "while [ -e /w/reloaded/true ]; do :; done; /usr/bin/true"]);
    await_command(&running);
    let reload = |policy: &str| {
        fs::write(plan.policy_file(), policy).unwrap();
        running.reload()
    };
    assert!(reload(SOMEWHERE), "less than the floor was refused");
    assert!(reload(&first), "as much as the floor was refused");
    assert!(!reload(&also("/etc")), "more than the floor was accepted");
    fs::remove_file(root.join("true")).unwrap();
    let run = running.finish();
    assert_eq!(run.status, 0, "{}{}", run.stderr, run.denials_text());
    let refused = run.records.iter().filter(|record| record["ok"] == false);
    let words: Vec<_> = refused.filter_map(|record| record["error"].as_str()).collect();
    assert!(matches!(words[..], [words] if words.contains("`/etc`") && words.contains("Landlock floor")), "{words:?}");
}

/// Two scripts of one interpreter, and two files: one of each may be read, but not run.
fn readable_victims() {
    victims();
    let root = std::path::Path::new("/w/swap");
    fs::create_dir(root.join("r")).unwrap();
    for (place, status) in [("r", 1), ("o", 0)] {
        fs::write(root.join(place).join("script"), format!("#!/bin/sh\nexit {status}\n")).unwrap();
        fs::set_permissions(root.join(place).join("script"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join(place).join("file"), if status == 1 { "V" } else { "D" }).unwrap();
    }
}

#[test]
fn a_swapped_path_starts_the_script_that_was_decided_on() {
    readable_victims();
    let (run, counts) = never_wins("swap-exec /w/swap/r/script /w/swap/o/script", swaps(40));
    assert!(run.denials("ProcessExec", "/w/swap/r/script").count() as u64 >= counts.denied, "{}", run.denials_text());
}

#[test]
fn a_swapped_descriptor_is_mapped_as_it_was_decided_on() {
    readable_victims();
    let (run, counts) = never_wins("swap-map /w/swap/r/file /w/swap/o/file", swaps(20));
    assert_eq!(run.denials("ProcessExec", "/w/swap/r/file").count() as u64, counts.denied);
}

#[test]
fn a_swapped_mapping_becomes_executable_as_it_was_decided_on() {
    readable_victims();
    let (run, counts) = never_wins("swap-protect /w/swap/r/file /w/swap/o/file", swaps(20));
    assert_eq!(run.denials("ProcessExec", "/w/swap/r/file").count() as u64, counts.denied);
}

/// Runs a Python program, ungoverned and in a session; both must print the same.
fn same_as_ungoverned(program: &str) -> Run {
    let path = "/w/odd/program.py";
    let place = || {
        let root = ground::fresh("/w/odd");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(path, program).unwrap();
    };
    ground::ready();
    place();
    user::hand_over(ground::ROOT);
    let mut plain = std::process::Command::new("python3");
    user::act(&mut plain);
    let plain = plain.arg(path).current_dir("/w/odd").output().unwrap();
    assert!(plain.status.success(), "{}", String::from_utf8_lossy(&plain.stderr));
    place();
    let run = Plan::new(POLICY).run(&["python3", path]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert_eq!(String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&plain.stdout));
    run
}

#[test]
fn a_pipe_that_nobody_opens_holds_up_only_its_opener() {
    same_as_ungoverned(include_str!("../work/odd/pipes.py"));
}

#[test]
fn odd_programs_are_served() {
    same_as_ungoverned(include_str!("../work/odd/programs.py"));
}

/// No call reaches anything by what the supervisor's threads are: their directories, their descriptors, their place in `/proc`. In no mode, as
/// nothing of that is a question to the policy. The same holds for what was opened outside and handed in: here, a file as standard input that the
/// session can't write to by its name.
#[test]
fn nothing_is_reached_by_what_the_supervisor_is() {
    let handed = std::path::Path::new(ground::ASIDE).join("handed");
    for record in [true, false] {
        ground::ready();
        let root = ground::fresh("/w/odd");
        fs::write(root.join("program.py"), include_str!("../work/odd/outside.py")).unwrap();
        fs::write(&handed, "as it was").unwrap();
        let plan = if record { Plan::new(POLICY).record() } else { Plan::new(POLICY) };
        let who = if user::has_container() { "contained" } else { "bare" };
        let mut command = plan.command(&["sh", "-c", "cd /w/odd; exec python3 program.py \"$0\"", who]);
        command.stdin(fs::File::open(&handed).unwrap());
        let run = plan.start_prepared(command).finish();
        let lines = String::from_utf8_lossy(&run.stdout).into_owned();
        let refused = |line: &str| ["EROFS", "EACCES"].iter().any(|errno| line.ends_with(errno));
        let (tries, end) = lines.trim_end().rsplit_once('\n').unwrap_or_else(|| panic!("{lines}{}", run.stderr));
        assert!(tries.lines().count() == 3 && tries.lines().all(refused), "record: {record}: {lines}");
        assert_eq!(end, "True reached: []", "record: {record}: {}", run.stderr);
        assert_eq!(fs::read_to_string(&handed).unwrap(), "as it was");
    }
    fs::remove_file(handed).unwrap();
}

/// A file that was opened outside is opened again as what the session has by its name. One without such a name is nobody's, in record mode, too.
#[test]
fn what_was_handed_in_is_opened_by_its_name() {
    ground::ready();
    let root = ground::fresh("/w/handed");
    let (inside, outside) = (root.join("file"), std::path::Path::new(ground::ASIDE).join("gone"));
    for record in [false, true] {
        for path in [&inside, &outside] {
            fs::write(path, "handed\n").unwrap();
            user::hand_over(path);
            let plan = if record { Plan::new(POLICY).record() } else { Plan::new(POLICY) };
            let mut command = plan.command(&["sh", "-c", "cat /dev/stdin"]);
            command.stdin(fs::File::open(path).unwrap());
            if path == &outside {
                fs::remove_file(path).unwrap();
            }
            let run = plan.start_prepared(command).finish();
            let nobodys = path == &outside && user::has_container();
            let expected = if nobodys { "" } else { "handed\n" };
            assert_eq!(String::from_utf8_lossy(&run.stdout), expected, "record: {record}: {}{}", run.stderr, run.denials_text());
            let gone = format!("{} (deleted)", outside.display());
            let denied = run.denials("FileRead", &gone).filter(|event| event.errno == EACCES).count();
            assert_eq!(denied, usize::from(nobodys), "record: {record}:\n{}", run.denials_text());
        }
    }
}

/// A key that one program may read is in its memory. Another program doesn't get at it; what runs the same program does, and everybody reads
/// their own. Nobody writes.
#[test]
fn memory_is_read_by_the_same_program_only() {
    ground::ready();
    let root = ground::fresh("/w/tool");
    fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), root.join("reader")).unwrap();
    fs::write(root.join("key"), "SECRET").unwrap();
    fs::write(root.join("memory.py"), include_str!("../work/odd/memory.py")).unwrap();
    let policy = r#"
@id("all") permit(principal, action, resource);
@id("key") forbid(principal, action == Action::"FileRead", resource == File::"/w/tool/key") unless { context.exe == "/w/tool/reader" };
"#;
    let read = "[True, True] True\nTrue True True\n1\n";
    for (plan, program, expected, denied) in [
        (Plan::new(policy), "python3", "[13, 13] 13\nTrue True True\n1\n", 3),
        (Plan::new(policy), "/w/tool/reader", read, 0),
        (Plan::new(policy).record(), "python3", read, 3),
    ] {
        let run = plan.run(&[program, "/w/tool/memory.py", "/w/tool/reader"]);
        assert_eq!(String::from_utf8_lossy(&run.stdout), expected, "{program}: {}{}", run.stderr, run.denials_text());
        let denials = run.events.iter().filter(|event| event.verdict == "deny" && event.action == "FileRead");
        let of_memory =
            denials.filter(|event| event.reason.as_deref().is_some_and(|reason| reason.contains("the memory of a program")));
        let of_memory: Vec<_> = of_memory.map(|event| (event.resource.words(), event.errno)).collect();
        assert!(
            of_memory.len() == denied && of_memory.iter().all(|(path, _)| path.starts_with("/proc/")),
            "{program}: {of_memory:?}"
        );
    }
}

#[test]
fn what_was_reported_of_other_sandboxes_works_as_ungoverned() {
    same_as_ungoverned(include_str!("../work/odd/reported.py"));
}

/// A descriptor that is only a place can't be handed over; that it doesn't arrive is recorded. One that is open does.
#[test]
fn a_place_that_does_not_arrive_is_recorded() {
    ground::ready();
    ground::fresh("/w/odd");
    let program = "import os, socket\na, b = socket.socketpair()\nfor flags in (os.O_PATH, os.O_RDONLY):\n    \
                   socket.send_fds(a, [b'x'], [os.open('/w/odd', flags)])\n    print(len(socket.recv_fds(b, 1, 1)[1]))";
    let run = Plan::new(POLICY).run(&["python3", "-c", program]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "0\n1\n", "{}", run.stderr);
    let denials: Vec<_> = run.denials("DirList", "/w/odd").collect();
    let [denial] = denials[..] else { panic!("{}", run.denials_text()) };
    assert!(denial.reason.as_deref().is_some_and(|reason| reason.contains("O_PATH")), "{denial:?}");
}

#[test]
fn sockets_work_as_ungoverned() {
    same_as_ungoverned(include_str!("../work/odd/sockets.py"));
}

/// What the machine shows of itself can't be changed, nor anything that is mounted in it.
#[test]
fn the_systems_own_files_are_read_only() {
    let run = Plan::new(POLICY).run(&[
        "awk",
        "$2 ~ \"^/sys(/|$)\" { print $2; if ($4 !~ /^ro(,|$)/) print \"writable: \" $0 }",
        "/proc/self/mounts",
    ]);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(text.starts_with("/sys\n") && !text.contains("writable"), "{text}{}", run.stderr);
}

/// What this backend can't see through is refused with an error that a program understands.
#[test]
fn what_cannot_be_supervised_is_refused() {
    let run = same_as_ungoverned("print(1)");
    assert_eq!(run.start["backend"], "supervised");
    ground::ready();
    let path = "/w/odd/refused.py";
    fs::write(path, include_str!("../work/odd/refused.py")).unwrap();
    let run = Plan::new(POLICY).run(&["python3", path]);
    let expected = "ptrace -1 1\nprocess_vm_readv -1 1\nprocess_vm_writev -1 1\npidfd_getfd -1 1\nio_uring_setup -1 1\n\
                    landlock_create_ruleset -1 38\nuserfaultfd -1 1\nunshare -1 1\nunknown -1 38\n\
                    recvmmsg -1 38\nsetxattrat -1 38\nlistener -1 16\n";
    assert_eq!(String::from_utf8_lossy(&run.stdout), expected);

    let mut doctor = std::process::Command::new(std::env::var_os("LEASH_BIN").unwrap());
    user::act(&mut doctor);
    let found: serde_json::Value = serde_json::from_slice(&doctor.args(["doctor", "--json"]).output().unwrap().stdout).unwrap();
    let limits = found["limits"].as_str();
    // Where the stronger backend works doctor says nothing of this one.
    assert_eq!(limits.is_some(), found["backend"] == "supervised", "{found}");
    for what in ["io_uring", "ptrace", "mounts", "namespaces", "32-bit", "x32", "doesn't know", "Landlock", "recvmmsg"] {
        assert!(limits.is_none_or(|limits| limits.contains(what)), "{what}: {found}");
    }
}

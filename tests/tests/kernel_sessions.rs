//! Sessions against each other and against the rest of the machine: who is inside, who is not, and what a reload changes when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_tests::attempt::{Attempt, Outcome};
use leash_tests::ground::{self, await_some};
use leash_tests::session::{EACCES, Plan, Run, Running};
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const ENOBUFS: i32 = 105;

/// Everything, but not what is below `/w/s/<name>`.
fn all_but(name: &str) -> String {
    format!(
        r#"
@id("all") permit(principal, action, resource);
@id("no-{name}") @reason("closed")
forbid(principal, action in [Action::"FileOpen", Action::"FileModify"], resource in Dir::"/w/s/{name}");
"#
    )
}

/// `/w/s` with the secrets `a/key` and `b/key`, and the files through which tests and attempts tell each other how far they are.
fn ground() -> PathBuf {
    ground::ready();
    let root = ground::fresh("/w/s");
    for name in ["a", "b"] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("key"), format!("SECRET {name}")).unwrap();
    }
    root
}

fn say(name: &str) {
    fs::write(Path::new("/w/s").join(name), "").unwrap();
}

fn await_file(name: &str) {
    await_some(name, || Path::new("/w/s").join(name).exists().then_some(()));
}

fn errnos(outcomes: &[Outcome]) -> Vec<i32> {
    outcomes.iter().map(|outcome| outcome.errno).collect()
}

#[test]
fn two_sessions_have_two_policies_and_outsiders_none() {
    ground();
    let reads = [Attempt::new("a", "cat /w/s/a/key"), Attempt::new("b", "cat /w/s/b/key")];
    let held: Vec<Attempt> = reads
        .iter()
        .map(|read| Attempt::new(&read.id, format!("make-file /w/s/up-$pid x; wait-file /w/s/go 200; {}", read.script)))
        .collect();
    let (first, second) = (Plan::new(&all_but("a")), Plan::new(&all_but("b")));
    let both = [first.start_attempts(&held, true), second.start_attempts(&held, true)];
    // All four attempts are waiting, so both sessions govern at this moment.
    await_some("both sessions", || {
        let up = fs::read_dir("/w/s")
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("up-"));
        let sessions = both.iter().filter(|session| session.records().len() > 1).count();
        (up.count() >= 2 && sessions == 2).then_some(())
    });
    assert_eq!(errnos(&ground::ungoverned(&reads)), [0, 0], "a process outside is touched");
    say("go");
    let [first, second] = both.map(Running::finish);
    for (run, denied, other) in [(&first, "a", "b"), (&second, "b", "a")] {
        let outcomes = ground::outcomes(&run.stdout);
        assert_eq!(outcomes.len(), 2, "{}", run.stderr);
        for outcome in &outcomes {
            assert_eq!(outcome.errno, if outcome.id == denied { EACCES } else { 0 }, "{outcome:?}");
        }
        let path = format!("/w/s/{denied}/key");
        let denials: Vec<_> = run.denials("FileRead", &path).collect();
        assert_eq!(denials.len(), 1, "{}", run.denials_text());
        assert_eq!(denials[0].policies, [format!("no-{denied}")]);
        let allowed =
            run.events.iter().any(|event| event.verdict == "allow" && event.resource.words() == format!("/w/s/{other}/key"));
        assert!(allowed, "the other file's read is not in this session's log");
        assert_eq!(run.events.iter().filter(|event| event.verdict == "deny").count(), 1, "{}", run.denials_text());
    }
}

#[test]
fn a_child_cgroup_made_later_is_inside() {
    ground();
    let script = "make-file /w/s/up x; wait-file /w/s/go 200; ? cat /w/s/a/key; cat /w/s/b/key; cat /w/s/a/key";
    let plan = Plan::new(&all_but("a"));
    let running = plan.start_attempts(&[Attempt::new("moved", script)], false);
    await_file("up");
    let cgroup = running.cgroup();
    let deeper = cgroup.join("later/deeper");
    fs::create_dir_all(&deeper).unwrap();
    let inside = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    assert!(inside.lines().count() >= 2, "{inside}");
    for pid in inside.lines() {
        fs::write(deeper.join("cgroup.procs"), pid).unwrap();
    }
    assert_eq!(fs::read_to_string(cgroup.join("cgroup.procs")).unwrap(), "", "something stayed behind");
    say("go");
    let run = running.finish();
    let outcomes = ground::outcomes(&run.stdout);
    assert_eq!((outcomes[0].errno, outcomes[0].at.as_str()), (EACCES, "cat"), "{outcomes:?}");
    assert_eq!(outcomes[0].data, "SECRET b");
    assert_eq!(run.denials("FileRead", "/w/s/a/key").count(), 2, "{}", run.denials_text());
    assert!(!cgroup.exists(), "the session's cgroup is left behind");
}

#[test]
fn no_descriptor_is_inherited() {
    ground();
    let mut secret = fs::File::options().read(true).write(true).open("/w/s/a/key").unwrap();
    let number = secret.as_raw_fd();
    // SAFETY: the descriptor is open, and this flag makes it survive an exec.
    unsafe { nix::libc::fcntl(number, nix::libc::F_SETFD, 0) };
    let attempts = [
        Attempt::new("read", format!("read {number}")),
        Attempt::new("write", format!("write {number} x")),
        Attempt::new("reopen", format!("cat /proc/self/fd/{number}")),
    ];
    let alone = ground::ungoverned(&attempts);
    assert_eq!(errnos(&alone), [0, 0, 0], "{alone:?}");
    secret.rewind().unwrap();
    secret.set_len(0).unwrap();
    secret.write_all(b"SECRET a").unwrap();
    secret.rewind().unwrap();
    let (run, outcomes) = Plan::new(&all_but("a")).perform(&attempts, false);
    for outcome in &outcomes {
        // EBADF, or ENOENT below /proc: there is no such descriptor.
        assert!([9, 2].contains(&outcome.errno), "{outcome:?}\n{}", run.denials_text());
        assert!(!outcome.data.contains("SECRET"), "{outcome:?}");
    }
    drop(secret);
    // The twin: what the policy permits is opened anew.
    let (_, twin) = Plan::new(&all_but("a"))
        .perform(&[Attempt::new("twin", "f = open /w/s/b/key O_RDWR; write $f x; cat /proc/self/fd/$f")], false);
    assert_eq!(twin[0].errno, 0, "{twin:?}");
}

#[test]
fn a_descriptor_from_before_a_reload_opens_nothing_new() {
    ground();
    let policy = all_but("a");
    let plan = Plan::new(&policy);
    let step = |last: &str| format!("f = open /w/s/b/key O_RDWR; make-file /w/s/up-$pid x; wait-file /w/s/go 200; {last}");
    let attempts = [
        Attempt::new("reopen", step("cat /proc/self/fd/$f")),
        Attempt::new("truncate", step("ftruncate $f 0")),
        Attempt::new("truncate-path", step("truncate /proc/self/fd/$f 0")),
        Attempt::new("map", step("mmap $f PROT_READ|PROT_EXEC")),
        Attempt::new("twin", step("? close $f; f = open /w/s/a/key O_RDWR; cat /proc/self/fd/$f; ftruncate $f 8")),
    ];
    let running = plan.start_attempts(&attempts, true);
    await_some("all attempts", || {
        let up = fs::read_dir("/w/s")
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("up-"));
        (up.count() == attempts.len()).then_some(())
    });
    let later = all_but("b").replace("[Action::\"FileOpen\",", "[Action::\"ProcessExec\", Action::\"FileOpen\",");
    fs::write(plan.policy_file(), later).unwrap();
    assert!(running.reload(), "the new policy was refused");
    say("go");
    let run = running.finish();
    let outcomes = ground::outcomes(&run.stdout);
    assert_eq!(outcomes.len(), attempts.len(), "{}", run.stderr);
    for outcome in &outcomes {
        // On 6.1 no hook sees a truncation through a descriptor but the one for paths.
        let expected = if outcome.id == "twin" { 0 } else { EACCES };
        assert_eq!(outcome.errno, expected, "{outcome:?}\n{}", run.denials_text());
    }
    for (action, count) in [("FileRead", 1), ("FileWrite", 2), ("ProcessExec", 1)] {
        let denials: Vec<_> = run.denials(action, "/w/s/b/key").collect();
        assert_eq!(denials.len(), count, "{action}\n{}", run.denials_text());
        assert!(denials.iter().all(|event| event.policies == ["no-b"] && event.generation == 2), "{denials:?}");
    }
}

#[test]
fn a_broken_policy_is_refused_and_the_old_one_stays() {
    ground();
    let plan = Plan::new(&all_but("a"));
    let script = "? cat /w/s/a/key; make-file /w/s/up x; wait-file /w/s/go 200; cat /w/s/b/key; cat /w/s/a/key";
    let running = plan.start_attempts(&[Attempt::new("steady", script)], false);
    await_file("up");
    fs::write(plan.policy_file(), "permit(principal, action, resource").unwrap();
    assert!(!running.reload(), "a broken policy was accepted");
    say("go");
    let run = running.finish();
    let outcome = &ground::outcomes(&run.stdout)[0];
    assert_eq!((outcome.errno, outcome.data.as_str()), (EACCES, "SECRET b"), "{outcome:?}");
    assert!(run.denials("FileRead", "/w/s/a/key").all(|event| event.generation == 1 && event.policies == ["no-a"]));
}

/// Red-team 50. Two policies: both forbid `both`, each by a policy of its own, and both permit `free`, each by a policy of its own.
/// A call that saw neither policy could not read `free`; one that saw both, or a mixture, would name two policies or none. And
/// `turn` is forbidden by one of them only, so every reader sees it change no more often than the policy did.
#[test]
fn a_reload_under_load_is_one_switch() {
    const RELOADS: usize = 12;
    const READERS: usize = 4;
    let root = ground();
    for name in ["both", "free", "turn"] {
        fs::write(root.join(name), "text").unwrap();
    }
    let policy = |own: &str, turn: &str| {
        format!(
            r#"
@id("{own}-rest") permit(principal, action in [Action::"FileOpen", Action::"FileModify", Action::"DirList", Action::"ProcessExec"], resource)
unless {{ resource in [File::"/w/s/both", File::"/w/s/turn"] }};
@id("{own}-both") @reason("{own}") forbid(principal, action, resource == File::"/w/s/both");
@id("{own}-turn") @reason("{own}") {turn}(principal, action, resource == File::"/w/s/turn");
"#
        )
    };
    let policies = [policy("odd", "permit"), policy("even", "forbid")];
    let plan = Plan::new(&policies[0]);
    let watch = "make-file /w/s/up-$pid x; keep-opening /w/s/stop 220 /w/s/both /w/s/free /w/s/turn";
    let attempts: Vec<Attempt> = (0..READERS).map(|reader| Attempt::new(format!("reader-{reader}"), watch)).collect();
    let running = plan.start_attempts(&attempts, true);
    await_some("all readers", || {
        let up = fs::read_dir("/w/s")
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("up-"));
        (up.count() == READERS).then_some(())
    });
    for number in 1..=RELOADS {
        fs::write(plan.policy_file(), &policies[number % 2]).unwrap();
        assert!(running.reload(), "reload {number} was refused");
    }
    say("stop");
    let run = running.finish();
    let outcomes = ground::outcomes(&run.stdout);
    assert_eq!(outcomes.len(), READERS, "{}", run.stderr);
    for outcome in &outcomes {
        assert!(outcome.ok, "{outcome:?}");
        let seen: Vec<Vec<(i32, u64)>> = serde_json::from_str(&outcome.data).unwrap();
        let values = |index: usize| seen[index].iter().map(|(errno, _)| *errno).collect::<Vec<_>>();
        assert_eq!(values(0), [EACCES], "a call saw no policy that forbids");
        assert_eq!(values(1), [0], "a call saw no policy that permits");
        assert!(values(2).len() <= RELOADS + 1, "the switch went to and fro: {:?}", seen[2]);
        assert!(values(2).iter().all(|errno| [0, EACCES].contains(errno)), "{:?}", seen[2]);
    }
    assert!(outcomes.iter().any(|outcome| outcome.data.matches("[13,").count() > 1), "no reader saw a reload: {outcomes:?}");
    for event in run.events.iter().filter(|event| event.resource.words().starts_with("/w/s/") && event.action == "FileRead") {
        let own = if event.generation % 2 == 1 { "odd" } else { "even" };
        let name = event.resource.words().replace("/w/s/", "");
        let (verdict, policy) = match name.as_str() {
            "both" => ("deny", format!("{own}-both")),
            "turn" if own == "odd" => ("allow", "odd-turn".to_owned()),
            "turn" => ("deny", "even-turn".to_owned()),
            _ => ("allow", format!("{own}-rest")),
        };
        assert_eq!((event.verdict.as_str(), &event.policies), (verdict, &vec![policy]), "{event:?}");
    }
    let generations: std::collections::BTreeSet<u32> = run.events.iter().map(|event| event.generation).collect();
    assert!(generations.len() > 2, "the readers slept through the reloads: {generations:?}");
}

/// Hands out descriptors at `sock`: of a file for `f`, of a pipe for `p`, of a socket for `s`, each with something to read.
fn hand_out(root: &Path) {
    let listener = UnixListener::bind(root.join("sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut wanted = [0; 1];
            stream.read_exact(&mut wanted).unwrap();
            let handed: OwnedFd = match &wanted {
                b"p" => {
                    let (reader, writer) = nix::unistd::pipe().unwrap();
                    nix::unistd::write(writer, b"text").unwrap();
                    reader
                }
                b"s" => {
                    let (reader, mut writer) = UnixStream::pair().unwrap();
                    writer.write_all(b"text").unwrap();
                    reader.into()
                }
                _ => fs::File::options().read(true).write(true).open("/w/s/a/key").unwrap().into(),
            };
            let descriptors = [handed.as_raw_fd()];
            let control = [nix::sys::socket::ControlMessage::ScmRights(&descriptors)];
            let text = [std::io::IoSlice::new(b"x")];
            let flags = nix::sys::socket::MsgFlags::empty();
            nix::sys::socket::sendmsg::<()>(stream.as_raw_fd(), &text, &control, flags, None).unwrap();
        }
    });
}

/// Red-team 36: an outside helper hands over an open descriptor. A file that it opened lies on a mount of its own, so it has no name
/// in the session (or one that is denied) and does not arrive; pipes and sockets hold no file's bytes and do. In record mode all arrive.
#[test]
fn a_descriptor_that_is_handed_over_is_asked() {
    hand_out(&ground());
    let receive =
        |wanted| format!("s = socket unix SOCK_STREAM; connect $s un:/w/s/sock; send $s {wanted}; f = receive-fd $s; read $f");
    let attempts = ["f", "p", "s"].map(|wanted| Attempt::new(wanted, receive(wanted)));
    let alone = ground::ungoverned(&attempts);
    assert_eq!(errnos(&alone), [0, 0, 0], "{alone:?}");
    let data = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| outcome.data.clone()).collect::<Vec<_>>();

    let (run, outcomes) = Plan::new(&all_but("a")).perform(&attempts, false);
    // The message arrives and says `MSG_CTRUNC`, which the attempt reports as `ENOBUFS`: its descriptor didn't.
    assert_eq!((errnos(&outcomes), outcomes[0].at.as_str()), (vec![ENOBUFS, 0, 0], "receive-fd"), "{outcomes:?}");
    assert_eq!(data(&outcomes), ["", "text", "text"]);
    let denied = |run: &Run, errno| {
        // Opened for both: both are asked.
        for action in ["FileRead", "FileWrite"] {
            let denials: Vec<_> = run.denials(action, "/w/s/a/key").collect();
            assert_eq!(denials.len(), 1, "{}", run.denials_text());
            // Without a container there is one mount for both, so the file has its name.
            let nameless = denials[0].reason.as_ref().is_some_and(|reason| reason.contains("no path under"));
            let named = run.start["container"] == false && denials[0].policies == ["no-a"];
            assert!(nameless || named, "{denials:?}");
            assert_eq!((denials[0].errno, denials[0].exe.as_str()), (errno, ground::ATTEMPT));
        }
        assert_eq!(run.totals("deny")[0], 2, "{}", run.denials_text());
    };
    denied(&run, EACCES);

    let (run, outcomes) = Plan::new(&all_but("a")).record().perform(&attempts, false);
    // A supervisor can't tell what lies outside of the session's mounts from what is its own, so it lets through nothing of either.
    let outside = run.start["backend"] == "supervised" && run.start["container"] != false;
    let (errno, read) = if outside { (ENOBUFS, "") } else { (0, "SECRET a") };
    assert_eq!((errnos(&outcomes), data(&outcomes)), (vec![errno, 0, 0], [read, "text", "text"].map(str::to_owned).into()));
    denied(&run, if outside { EACCES } else { 0 });
}

/// A program that has no path (only record mode lets one run) is nobody: what it does is never decided as if another program did it,
/// the start of the next one included.
#[test]
fn a_program_without_a_path_stays_unknown() {
    const SCRIPT: &str = r#"
import os, sys
program = open("/bin/sh", "rb").read()
where = "/bin/sh"
if sys.argv[1] == "memory":
    where = os.memfd_create("program")
    os.write(where, program)
os.execve(where, ["sh", "-c", "/bin/true; exit 7"], {})
"#;
    let program = std::fs::canonicalize("/bin/true").unwrap();
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    for (kind, verdict, exe) in [("memory", "deny", ""), ("file", "allow", shell.to_str().unwrap())] {
        let run = Plan::new(&all_but("a")).record().run(&["python3", "-c", SCRIPT, kind]);
        assert_eq!(run.status, 7, "{}", run.stderr);
        let started: Vec<_> = run
            .events
            .iter()
            .filter(|event| {
                event.action == "ProcessExec" && event.resource.path.as_deref() == program.to_str() && event.exe == exe
            })
            .collect();
        assert_eq!(started.len(), 1, "{:#?}", run.events);
        assert_eq!(started[0].verdict, verdict, "{started:?}");
    }
}

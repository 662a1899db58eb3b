//! Sessions without a container, where user namespaces are refused: what the container keeps otherwise is kept all the same, and what isn't is
//! said. Each attempt succeeds without Leash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_tests::session::{EACCES, Plan, Run};
use leash_tests::{ground, user};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const ALL: &str = r#"@id("all") permit(principal, action, resource);"#;
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EROFS: i32 = 30;
const ENOSYS: i32 = 38;

/// Ways to another process, with the error that stops each. A denial by `EACCES` is recorded, for this action.
const SIGNALS: [&str; 7] = ["kill", "kill-group", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"];
/// They answer 0 whether somebody was reached or not.
const SILENT: [&str; 3] = ["owner", "owner-group", "kill-all"];
const LOOKS: [(&str, i32, &str, &str); 11] = [
    ("environ", EACCES, "FileRead", "environ"),
    ("environ-relative", EACCES, "FileRead", "environ"),
    ("environ-place", EACCES, "FileRead", "environ"),
    ("status", EACCES, "FileRead", "status"),
    ("memory", EACCES, "FileRead", "maps"),
    ("root", EACCES, "FileRead", "root"),
    ("cwd", EACCES, "FileRead", "cwd"),
    ("exe", EACCES, "FileRead", "exe"),
    ("pipe", EACCES, "FileWrite", "fd/3"),
    // The kernel refuses the place already.
    ("pipe-place", EACCES, "", ""),
    ("comm", EACCES, "FileWrite", "oom_score_adj"),
];
const CHANGES: [&str; 11] = [
    "kcmp",
    "get_robust_list",
    "prlimit64",
    "sched_setaffinity",
    "sched_setscheduler",
    "sched_setparam",
    "sched_setattr",
    "setpriority",
    "setpriority-group",
    "setpriority-user",
    "ioprio_set",
];

/// The descriptor of a victim's pipe.
const PIPE: &str = "3";

/// A process of the same user, outside of every session, that waits with a pipe.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        let mut command = Command::new("bash");
        user::act(&mut command);
        command.args(["-c", "exec 3< <(sleep 600); exec sleep 601"]);
        let victim = Self(command.process_group(0).spawn().unwrap());
        ground::await_some("the victim", || {
            let line = fs::read_to_string(format!("/proc/{}/cmdline", victim.0.id())).ok()?;
            line.starts_with("sleep").then_some(())
        });
        victim
    }

    fn number(&self) -> String {
        self.0.id().to_string()
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Its group has nobody else; one that is gone isn't found.
        let group = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn place(name: &str, program: &str) -> String {
    ground::ready();
    let root = ground::fresh("/w/bare");
    let path = root.join(name);
    fs::write(&path, program).unwrap();
    user::hand_over(ground::ROOT);
    path.to_str().unwrap().to_owned()
}

fn ungoverned(command: &[&str]) -> String {
    let mut plain = Command::new(command[0]);
    user::act(&mut plain);
    let output = plain.args(&command[1..]).current_dir(ground::ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn answers(text: &str) -> BTreeMap<String, i32> {
    let pairs = text.lines().filter_map(|line| line.rsplit_once(' '));
    pairs.map(|(name, errno)| (name.to_owned(), errno.parse().unwrap_or_else(|_| panic!("{text}")))).collect()
}

fn said(run: &Run) -> BTreeMap<String, i32> {
    assert_eq!(run.status, 0, "{}", run.stderr);
    answers(&String::from_utf8_lossy(&run.stdout))
}

#[test]
fn the_session_says_what_it_does_not_have() {
    let run = Plan::new(ALL).run(&["true"]);
    assert_eq!((run.status, &run.start["backend"], &run.start["container"]), (0, &"supervised".into(), &false.into()));
    assert!(run.stderr.contains("no container, because"), "{}", run.stderr);
    let mut refused = Plan::new(ALL).with(&["--require", "container"]).command(&["true"]);
    let refused = refused.output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(125), "{words}");
    assert!(words.contains("`--require container` refuses"), "{words}");
    let mut doctor = Command::new(std::env::var_os("LEASH_BIN").unwrap());
    user::act(&mut doctor);
    let doctor = doctor.args(["doctor", "--json"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!((&found["ok"], &found["container"]), (&true.into(), &false.into()), "{found}");
    assert!(found["container_limits"].as_str().unwrap().contains("the host's processes"), "{found}");
}

#[test]
fn nobody_outside_gets_a_signal() {
    let program = place("reach.py", include_str!("../work/bare/reach.py"));
    for way in SIGNALS.iter().chain(&SILENT) {
        let mut victim = Victim::new();
        ungoverned(&["python3", &program, &victim.number(), PIPE, way]);
        ground::await_some(way, || victim.has_ended().then_some(()));
    }
    let mut victim = Victim::new();
    let number = victim.number();
    let mut command = vec!["python3", &program, &number, PIPE];
    command.extend(SIGNALS.iter().chain(&SILENT));
    let run = Plan::new(ALL).run(&command);
    let said = said(&run);
    for way in SIGNALS {
        assert_eq!(said[way], EPERM, "{way}: {said:?}");
    }
    assert!(SILENT.iter().all(|way| said.contains_key(*way)), "{said:?}");
    assert!(!victim.has_ended(), "the victim was signalled");
}

#[test]
fn nobody_looks_into_a_process_outside() {
    let program = place("reach.py", include_str!("../work/bare/reach.py"));
    let victim = Victim::new();
    let number = victim.number();
    let mut command = vec!["python3", &program, &number, PIPE];
    command.extend(LOOKS.iter().map(|(way, ..)| *way));
    let free = answers(&ungoverned(&command));
    assert!(free.values().all(|errno| *errno == 0), "{free:?}");
    for plan in [Plan::new(ALL), Plan::new(ALL).record()] {
        let run = plan.run(&command);
        let said = said(&run);
        for (way, errno, action, file) in LOOKS {
            assert_eq!(said[way], errno, "{way}: {said:?}\n{}", run.denials_text());
            if !action.is_empty() {
                let path = format!("/proc/{number}/{file}");
                let denial = run.denials(action, &path).next();
                assert!(denial.is_some_and(|event| event.errno == EACCES), "no record of {way}\n{}", run.denials_text());
            }
        }
    }
    // The session's first process is Leash's own.
    let run = Plan::new(ALL).run(&["sh", "-c", "cat /proc/$PPID/environ; echo $?; cat /proc/$$/comm"]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "1\nsh\n", "{}", run.stderr);
}

#[test]
fn nobody_changes_a_process_outside() {
    let program = place("reach.py", include_str!("../work/bare/reach.py"));
    let victim = Victim::new();
    let number = victim.number();
    let mut command = vec!["python3", &program, &number, PIPE];
    command.extend(CHANGES);
    let free = answers(&ungoverned(&command));
    assert!(free.values().all(|errno| *errno == 0), "{free:?}");
    let run = Plan::new(ALL).run(&command);
    let said = said(&run);
    assert!(CHANGES.iter().all(|way| said[*way] == EPERM), "{said:?}");
}

/// The twin: what is the session's own is signalled, looked at and changed as ever.
#[test]
fn a_session_s_own_processes_are_its_own() {
    let program = place("own.py", include_str!("../work/bare/own.py"));
    let free = ungoverned(&["python3", &program]);
    let run = Plan::new(ALL).run(&["python3", &program]);
    assert_eq!((run.status, String::from_utf8_lossy(&run.stdout).into_owned()), (0, free), "{}", run.stderr);
}

#[test]
fn the_machine_s_ipc_devices_and_terminals_are_not_there() {
    let program = place("hidden.py", include_str!("../work/bare/hidden.py"));
    // A terminal of the same user's, outside.
    let terminal = nix::pty::openpty(None, None).unwrap();
    let name = nix::unistd::ttyname(&terminal.slave).unwrap();
    let owner = user::ordinary().map(nix::unistd::Uid::from_raw);
    nix::unistd::chown(&name, owner, None).unwrap();
    let command = ["python3", &program, name.to_str().unwrap(), "/dev/null", "/dev/tty"];
    let free = answers(&ungoverned(&command));
    for reached in ["shmget", "msgget", "semget", "undumpable", "dumpable", name.to_str().unwrap(), "/dev/null"] {
        assert_eq!(free[reached], 0, "{free:?}");
    }
    let run = Plan::new(ALL).run(&command);
    let said = said(&run);
    for (what, errno) in
        [("shmget", ENOSYS), ("msgget", ENOSYS), ("semget", ENOSYS), ("undumpable", EPERM), ("dumpable", 0), ("/dev/null", 0)]
    {
        assert_eq!(said[what], errno, "{what}: {said:?}");
    }
    assert_eq!(said[name.to_str().unwrap()], EACCES, "{said:?}");
    assert_eq!(run.denials("FileWrite", name.to_str().unwrap()).count(), 1, "{}", run.denials_text());
}

/// A program that its user may not read can't be supervised.
#[test]
fn a_program_that_hides_is_not_started() {
    ground::ready();
    let root = ground::fresh("/w/bare");
    for (name, mode) in [("hidden", 0o711), ("twin", 0o755)] {
        fs::copy(ground::ATTEMPT, root.join(name)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let script = "/w/bare/hidden say; echo $?; /w/bare/twin say";
    // Root's file: its user may start it and not read it.
    let mut plain = Command::new("sh");
    user::act(&mut plain);
    let free = plain.args(["-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&free.stdout), "EXECUTED\n0\nEXECUTED\n");
    let plan = Plan::new(ALL);
    let mut command = plan.command(&["sh", "-c", script]);
    // What the plan handed over is root's again.
    std::os::unix::fs::chown(root.join("hidden"), Some(0), Some(0)).unwrap();
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "126\nEXECUTED\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_can_only_be_read_stays_as_it_is() {
    ground::ready();
    let outside = ground::fresh("/w/outside");
    let root = ground::fresh("/w/bare");
    for directory in ["ro/in", "rw", "plain"] {
        fs::create_dir_all(root.join(directory)).unwrap();
        fs::write(root.join(directory).join("file"), "x").unwrap();
    }
    fs::write(outside.join("file"), "x").unwrap();
    let attempts = [
        ("echo y > /w/outside/file", EROFS),
        ("mkdir /w/outside/dir", EROFS),
        ("ln /w/bare/plain/file /w/outside/link", EROFS),
        ("ln /w/outside/file /w/bare/plain/link", EROFS),
        ("chmod 700 /w/outside/file", EROFS),
        ("mv /w/bare/plain/file /w/outside/moved", EROFS),
        ("rm /w/outside/file", EROFS),
        ("echo y > /w/bare/ro/in/file", EROFS),
        ("mv /w/bare/ro/in /w/bare/plain/in", EBUSY),
        ("mv /w/bare/ro /w/bare/other", EBUSY),
    ];
    let script: String = attempts.iter().map(|(attempt, _)| format!("{attempt} || echo failed\n")).collect();
    let file = root.join("attempts.sh");
    fs::write(&file, &script).unwrap();
    let plan = Plan::new(ALL).in_workspace("/w/bare").with(&["--ro", "/w/bare/ro/in", "--ro", "/w/bare/attempts.sh"]);
    let twins = "echo y > rw/file; mv plain/file rw/moved; ln rw/moved rw/link; mkdir rw/dir; chmod 700 rw/dir; rm rw/link; cat ro/in/file";
    {
        let strace = format!("LC_ALL=C sh {} 2>&1; {twins}", file.display());
        let run = plan.run(&["sh", "-c", &strace]);
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        let words = |errno| if errno == EROFS { "Read-only file system" } else { "Device or resource busy" };
        assert_eq!(text.matches("failed\n").count(), attempts.len(), "{text}");
        for errno in [EROFS, EBUSY] {
            let expected = attempts.iter().filter(|(_, known)| *known == errno).count();
            assert_eq!(text.matches(words(errno)).count(), expected, "{text}");
        }
        assert!(text.ends_with('x') && run.status == 0, "{text}{}", run.stderr);
    }
    // Another path that can be written to, and the same attempts without Leash.
    let run = Plan::new(ALL).in_workspace("/w/bare").with(&["--rw", "/w/outside"]).run(&["sh", "-c", "echo z > /w/outside/file"]);
    assert_eq!((run.status, fs::read_to_string("/w/outside/file").unwrap().as_str()), (0, "z\n"), "{}", run.stderr);
    fs::create_dir_all("/w/bare/plain").unwrap();
    fs::write("/w/bare/plain/file", "x").unwrap();
    user::hand_over(ground::ROOT);
    assert!(!ungoverned(&["sh", file.to_str().unwrap()]).contains("failed"));
}

#[test]
fn leash_s_own_files_are_not_there() {
    ground::ready();
    let script = "ls /tmp/leash-$(id -u) && echo listed; for d in /tmp/leash-$(id -u)/*/owner; do cat $d && echo read; done; echo x > /tmp/leash-$(id -u)/x; true";
    let run = Plan::new(ALL).run(&["sh", "-c", script]);
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!((run.status, text.as_str()), (0, ""), "{}", run.stderr);
    assert!(run.stderr.contains("No such file or directory"), "{ENOENT}: {}", run.stderr);
    let twin = ungoverned(&["sh", "-c", "ls /tmp/leash-$(id -u) && echo listed"]);
    assert!(twin.contains("listed"), "{twin}");
}

/// `/tmp` and `/dev/shm` are the machine's. What others have there, at the start or later as a socket, is theirs.
#[test]
fn what_others_have_in_scratch_directories_is_theirs() {
    ground::ready();
    ground::fresh("/w/bare");
    user::hand_over(ground::ROOT);
    let socket = "/tmp/bare-others-socket";
    let make = "mkdir -p /tmp/bare-others /dev/shm/bare-others; echo SECRET > /tmp/bare-others/key; echo SECRET > /dev/shm/bare-others/key";
    ungoverned(&["sh", "-c", make]);
    let attempts = "for f in /tmp/bare-others/key /dev/shm/bare-others/key; do cat $f || echo refused; done
        (cd /tmp/bare-others && cat key) || echo refused
        rm /tmp/bare-others/key 2> /dev/null || echo refused; mv /tmp/bare-others /tmp/bare-moved 2> /dev/null || echo refused";
    let run = Plan::new(ALL).run(&["sh", "-c", attempts]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "refused\n".repeat(5), "{}", run.stderr);
    assert_eq!(run.stderr.matches("No such file or directory").count(), 3, "{}", run.stderr);
    // The same without Leash; and what the session itself makes is its own.
    let free = ungoverned(&["sh", "-c", attempts]);
    assert_eq!(free, format!("{}", "SECRET\n".repeat(3)), "{free}");
    let twin = "mkdir /tmp/bare-own && echo mine > /tmp/bare-own/key && cat /tmp/bare-own/key && mv /tmp/bare-own/key /tmp/bare-key && rm /tmp/bare-key";
    let run = Plan::new(ALL).run(&["sh", "-c", twin]);
    assert_eq!((run.status, String::from_utf8_lossy(&run.stdout).as_ref()), (0, "mine\n"), "{}", run.stderr);

    // A socket that another program binds while the session runs, and one of the session's own.
    let connect = format!(
        "import os, socket, time\nown = socket.socket(socket.AF_UNIX)\nown.bind('/tmp/bare-own-socket')\nown.listen()\n\
         open('/w/bare/ready', 'w').close()\nwhile not os.path.exists('{socket}'):\n    time.sleep(0.01)\n\
         for name in ('{socket}', '/tmp/bare-own-socket'):\n    print(socket.socket(socket.AF_UNIX).connect_ex(name))\n"
    );
    fs::write("/w/bare/connect.py", connect).unwrap();
    let running = Plan::new(ALL).start(&["python3", "/w/bare/connect.py"]);
    ground::await_some("the session's start", || Path::new("/w/bare/ready").exists().then_some(()));
    let bind = "import os, socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('/tmp/bare-others-bound')\ns.listen(8)\n\
                os.rename('/tmp/bare-others-bound', '/tmp/bare-others-socket')\nimport time\ntime.sleep(600)";
    let mut other = Command::new("python3");
    user::act(&mut other);
    let mut other = Victim(other.args(["-c", bind]).process_group(0).spawn().unwrap());
    let run = running.finish();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "13\n0\n", "{}", run.stderr);
    assert_eq!(run.denials("NetworkConnect", socket).filter(|event| event.errno == EACCES).count(), 1, "{}", run.denials_text());
    assert!(!other.has_ended());
    let free = format!("import socket\nprint(socket.socket(socket.AF_UNIX).connect_ex('{socket}'))");
    assert_eq!(ungoverned(&["python3", "-c", &free]), "0\n");
}

/// What one session left in a scratch directory is there for the next one of the same user, and what others left isn't. Out of there things are copied,
/// as out of a container's own.
#[test]
fn what_a_session_left_is_there_for_the_next() {
    ground::ready();
    ground::fresh("/w/bare");
    user::hand_over(ground::ROOT);
    // The machine's own, so an earlier run may have left it.
    drop(fs::remove_file("/dev/shm/bare-left"));
    let run = Plan::new(ALL).run(&[
        "sh",
        "-c",
        "mkdir /tmp/bare-left && echo mine > /tmp/bare-left/key && echo shared > /dev/shm/bare-left",
    ]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    ungoverned(&["sh", "-c", "mkdir /tmp/bare-not-left; echo SECRET > /tmp/bare-not-left/key"]);
    let attempts = "import os, socket\nfor name in ('/tmp/bare-left/key', '/dev/shm/bare-left', '/tmp/bare-not-left/key'):\n    \
                    try: print(open(name).read(), end='')\n    except OSError as error: print(error.errno)\n\
                    own = socket.socket(socket.AF_UNIX)\nown.bind('/tmp/bare-left/socket')\nos.unlink('/tmp/bare-left/socket')\n\
                    for call in (os.rename, os.link):\n    \
                    try: call('/tmp/bare-left/key', '/w/bare/key')\n    except OSError as error: print(error.errno)\n";
    let run = Plan::new(ALL).run(&["python3", "-c", attempts]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "mine\nshared\n2\n18\n18\n", "{}{}", run.stderr, run.denials_text());
    fs::remove_file("/dev/shm/bare-left").unwrap();
    let run = Plan::new(ALL).run(&["sh", "-c", "mv -T /tmp/bare-left /w/bare/moved && cat /w/bare/moved/key"]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "mine\n", "{}{}", run.stderr, run.denials_text());
}

/// Every process of the suite's user, but victims.
fn left(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let processes = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(mark)).collect()
}

/// Programs that leave their parents, and go on for as long as they may.
const ORPHANS: [(&str, &str); 4] = [
    ("sleeper", "setsid sh -c 'sleep 4321 & ' &"),
    ("spinner", "(setsid sh -c 'while :; do :; done # 4321' &)"),
    ("deaf", "(setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 4321; done' &)"),
    ("comet", "python3 /w/bare/comet.py 4321 &"),
];
/// One that never has the same number, session and process group for long.
const COMET: &str = "import os\nwhile True:\n    if os.fork():\n        os._exit(0)\n    os.setsid()\n";

#[test]
fn nothing_outlives_the_session() {
    place("comet.py", COMET);
    let all: String = ORPHANS.iter().map(|(_, script)| format!("{script}\n")).collect();
    let script = format!("{all} sleep 0.5; exit 7");
    let mut plain = Command::new("sh");
    user::act(&mut plain);
    let status = plain.args(["-c", &script]).stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(7));
    let outlived = left("4321");
    // Ends them: the number of a comet is another one by now, so all of the user's, whose pid namespace is the suite's.
    while !left("4321").is_empty() {
        let mut end = Command::new("sh");
        user::act(&mut end);
        let _ = end.args(["-c", "kill -9 -1"]).status();
    }
    assert!(outlived.len() >= ORPHANS.len(), "without Leash they outlive their parent: {outlived:?}");
    let run = Plan::new(ALL).run(&["sh", "-c", &script]);
    assert_eq!(run.status, 7, "{}", run.stderr);
    assert_eq!(left("4321"), [""; 0]);
}

/// The daemon, the launcher or the first process is killed: the session ends all the same.
#[test]
fn nothing_outlives_its_keepers() {
    for (what, depth) in [("the daemon", 0), ("the launcher", 1), ("the first process", 2)] {
        place("comet.py", COMET);
        let all: String = ORPHANS.iter().map(|(_, script)| format!("{script}\n")).collect();
        let running = Plan::new(ALL).start(&["sh", "-c", &format!("{all} echo ready > /w/bare/ready; sleep 4321")]);
        ground::await_some("the session's start", || Path::new("/w/bare/ready").exists().then_some(()));
        let mut process = running.pid();
        for _ in 0..depth {
            let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
            process = children.split(' ').next().unwrap().parse().unwrap();
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(process as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
        ground::await_some(what, || left("4321").iter().all(|line| line.contains("leash run")).then_some(()));
        running.abandon();
    }
}

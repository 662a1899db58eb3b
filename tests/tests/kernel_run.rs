//! `leash run` as its user sees it: statuses, streams, signals, environment, modes, reports, and what is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod governed;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use governed::ground::{Dialogue, Ground, PERMIT_ALL, eventually, text};
use governed::{Log, leash, names_policy};
use leash_tests::user;
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn the_commands_status_is_ours() {
    let ground = Ground::new(PERMIT_ALL);
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let output = ground.shell(script);
        assert_eq!(output.status.code(), Some(status), "{script}: {}", text(&output.stderr));
        assert_eq!(ground.log().only("session_end")["status"], status);
    }
}

#[test]
fn a_denied_command_is_not_executable_and_the_policy_is_named() {
    let ground = Ground::new("");
    fs::write(
        ground.policy(),
        format!("{PERMIT_ALL}@id(\"no-true\") @reason(\"no truth\") forbid (principal, action == Action::\"ProcessExec\", resource == File::\"/usr/bin/true\");"),
    )
    .unwrap();
    let output = ground.run(&[], &["/usr/bin/true"]);
    assert_eq!(output.status.code(), Some(126), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("policy no-true: no truth"), "{}", text(&output.stderr));
    assert_eq!(ground.run(&[], &["/usr/bin/false"]).status.code(), Some(1));
}

#[test]
fn pipes_carry_every_byte() {
    let ground = Ground::new(PERMIT_ALL);
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut child = ground.command(&["-q"], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.stdout, bytes);
    // That something is weaker than it could be is said all the same.
    let words: Vec<String> = text(&output.stderr).lines().map(str::to_owned).collect();
    let said = words.iter().filter(|line| user::has_container() || !line.starts_with("leash: no container")).collect::<Vec<_>>();
    assert!(said.is_empty(), "quiet is quiet: {said:?}");
}

#[test]
fn signals_reach_the_command() {
    let ground = Ground::new(PERMIT_ALL);
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGUSR1, "USR1")] {
        let script = format!("trap 'echo caught; exit 3' {name}; echo ready; while :; do sleep 0.1; done");
        let _ = fs::remove_file(ground.path("log.jsonl"));
        let mut session = Dialogue::start(ground.command(&[], &["sh", "-c", &script]));
        assert_eq!(session.read(), "ready\n");
        session.signal(signal);
        assert_eq!(session.read(), "caught\n", "{name}");
        assert_eq!(session.finish().0, 3, "{name}");
    }
}

#[test]
fn tokens_do_not_enter_and_named_variables_do() {
    let ground = Ground::new(PERMIT_ALL);
    let mut command = ground.command(&["--env", "NAMED", "--env", "SET=a b"], &["env"]);
    let output = command.env("API_TOKEN", "leak").env("NAMED", "passed").env("SSH_AUTH_SOCK", "/x").output().unwrap();
    let environment = text(&output.stdout);
    for expected in ["NAMED=passed\n", "SET=a b\n", "LEASH_SESSION=", &format!("HOME={}\n", ground.path("home").display())] {
        assert!(environment.contains(expected), "{expected}: {environment}");
    }
    assert!(!environment.contains("API_TOKEN") && !environment.contains("SSH_AUTH_SOCK"), "{environment}");
}

#[test]
fn enforce_denies_and_record_only_says_so() {
    let ground = Ground::new("");
    fs::write(ground.policy(), ground.forbid_secret()).unwrap();
    let secret = ground.workspace().join("secret").to_string_lossy().into_owned();

    let output = ground.shell("cat open; cat secret");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "shown\n"), "{}", text(&output.stderr));
    let log = ground.log();
    let denials = log.denials_of("FileRead", &secret);
    assert_eq!(denials.len(), 1, "{}", log.denials_text());
    assert_eq!((&denials[0]["errno"], &denials[0]["mode"]), (&Value::from(13), &Value::from("enforce")));
    assert!(names_policy(denials[0], "no-secret"));
    let report = text(&output.stderr);
    for words in ["1 × policy no-secret: the secret stays where it is", "log: ", "leash log show --denied"] {
        assert!(report.contains(words), "{words}: {report}");
    }

    let output = ground.run(&["--mode", "record"], &["sh", "-c", "cat open; cat secret"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "shown\nhidden\n"), "{}", text(&output.stderr));
    let log = ground.log();
    let denials = log.denials_of("FileRead", &secret);
    assert_eq!((denials.len(), &denials[0]["errno"], &denials[0]["mode"]), (1, &Value::from(0), &Value::from("record")));
    assert!(text(&output.stderr).contains("1 would be denied"), "{}", text(&output.stderr));
}

/// What the report advises can be pasted into a shell, and does what it says.
#[test]
fn the_report_says_how_to_enforce_what_was_recorded() {
    let ground = Ground::new("");
    fs::write(ground.policy(), ground.forbid_secret()).unwrap();
    let secret = ground.workspace().join("secret");
    let words = ["sh", "-c", "cat \"$1\"; echo \"$2\"", "sh", secret.to_str().unwrap(), "a 'b' $(id) ; c"];
    let recorded = ground.run(&["--mode", "record"], &words);
    assert_eq!(text(&recorded.stdout), "hidden\na 'b' $(id) ; c\n", "{}", text(&recorded.stderr));
    let report = text(&recorded.stderr);
    let advice = report.lines().find_map(|line| line.split_once("enforce it: leash ")).expect(&report).1;
    let mut pasted = Command::new("sh");
    pasted.args(["-c", &format!("exec \"$0\" {advice}")]).arg(leash()).env("HOME", ground.path("home"));
    pasted.env_remove("XDG_STATE_HOME").env("LEASH_MODE", "record").stdin(Stdio::null());
    ground.act(&mut pasted);
    let enforced = pasted.output().unwrap();
    assert_eq!(text(&enforced.stdout), "a 'b' $(id) ; c\n", "{advice}: {}", text(&enforced.stderr));
    assert!(text(&enforced.stderr).contains("no permit allows what a policy forbids"), "{}", text(&enforced.stderr));

    // Its log is the newest one, and found without its name; so it is where the report says.
    let mut show = Command::new(leash());
    show.args(["log", "show", "--denied"]).env("HOME", ground.path("home")).env_remove("XDG_STATE_HOME");
    ground.act(&mut show);
    let shown = show.output().unwrap();
    assert!(text(&shown.stdout).contains("no-secret") && text(&shown.stdout).lines().count() == 1, "{shown:?}");
}

/// Nothing of a session lies in the caller's directory if another one is its workspace.
#[test]
fn a_directory_that_is_gone_is_no_obstacle() {
    let ground = Ground::new(PERMIT_ALL);
    let gone = ground.path("gone");
    fs::create_dir(&gone).unwrap();
    let mut command = Command::new("sh");
    command.args(["-ec", "rmdir ../gone; exec \"$@\"", "sh"]).arg(leash()).arg("run").current_dir(&gone);
    command.arg("--policy").arg(ground.policy()).arg("--log").arg(ground.path("log.jsonl"));
    command.arg("--workspace").arg(ground.workspace()).args(["--", "cat", "open"]).env("HOME", ground.path("home"));
    ground.act(&mut command);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "shown\n"), "{}", text(&output.stderr));
}

/// Where `place` puts what it runs, the kernel's programs can't decide, for one of these reasons: the supervisor does, and nothing starts that
/// insists on the programs.
fn gets_the_supervised_backend(place: &str, reasons: &[&str]) {
    let ground = Ground::new("");
    fs::write(ground.policy(), ground.forbid_secret()).unwrap();
    let inside = |arguments: &[&str]| {
        let _ = fs::remove_file(ground.path("log.jsonl"));
        let mut command = Command::new("sh");
        command.args(["-ec", place, "sh"]).arg(leash()).args(arguments);
        command.env_remove("LEASH_BACKEND").stdin(Stdio::null()).output().unwrap()
    };
    let says_why = |output: &Output| {
        let words = text(&output.stderr);
        assert!(reasons.iter().any(|reason| words.contains(reason)), "{words}");
    };
    let (policy, log, workspace) = (ground.policy(), ground.path("log.jsonl"), ground.workspace());
    let [policy, log, workspace] = [&policy, &log, &workspace].map(|path| path.to_str().unwrap());
    let session = ["run", "--policy", policy, "--log", log, "--workspace", workspace];
    let command = ["--", "sh", "-c", "cat open; cat secret"];
    let output = inside(&[&session[..], &command].concat());
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "shown\n"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("backend supervised, because"), "{}", text(&output.stderr));
    says_why(&output);
    assert_eq!(ground.log().only("session_start")["backend"], "supervised");
    assert_eq!(ground.log().denials().len(), 1, "{}", ground.log().denials_text());
    for option in [["--require", "bpf-lsm"], ["--backend", "bpf-lsm"]] {
        let output = inside(&[&session[..], &option, &command].concat());
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(125), ""));
        says_why(&output);
    }
    let output = inside(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["ok"], &report["backend"]), (&Value::from(true), &Value::from("supervised")), "{report}");
}

/// The kernel's programs find a session by its depth, which a container with a cgroup namespace of its own doesn't know.
#[test]
fn a_cgroup_namespace_gets_the_supervised_backend() {
    const INSIDE: &str = "mount=$(awk '$3 == \"cgroup2\" { print $2; exit }' /proc/mounts)\n\
        mkdir -p $mount/leash-container\n\
        echo $$ > $mount/leash-container/cgroup.procs\n\
        exec unshare --cgroup --mount sh -ec 'umount -l \"$0\"; mount -t cgroup2 none \"$0\"; exec \"$@\"' $mount \"$@\"";
    gets_the_supervised_backend(INSIDE, &["--cgroupns=host"]);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2").unwrap()[1];
    let container = Path::new(mount).join("leash-container");
    eventually("the cgroup is empty", || fs::remove_dir(&container).is_ok());
}

/// A kernel that has BPF LSM and doesn't use it takes programs, attaches them, and never asks them.
#[test]
fn an_lsm_list_without_bpf_gets_the_supervised_backend() {
    const INSIDE: &str = "exec unshare --mount sh -ec 'mount -t tmpfs none /sys/kernel/security\n\
        echo lockdown,capability,landlock > /sys/kernel/security/lsm\n\
        exec \"$0\" \"$@\"' \"$@\"";
    // The second is said of kernels that take no such program in the first place.
    gets_the_supervised_backend(INSIDE, &["`bpf` isn't among this kernel's LSMs", "the kernel refuses all BPF LSM programs"]);
}

#[test]
fn another_user_can_be_named() {
    let ground = Ground::new(PERMIT_ALL);
    chown(ground.workspace(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(ground.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = ground.run(&["--user", "nobody"], &["sh", "-c", "id -u; touch mine"]);
    assert_eq!(text(&output.stdout), "65534\n", "{}", text(&output.stderr));
    assert_eq!(ground.log().only("session_start")["uid"], 65534);
    assert!(ground.workspace().join("mine").exists());
}

#[test]
fn what_takes_root_starts_nothing_without_it() {
    use std::os::unix::process::CommandExt;
    let ground = Ground::new(PERMIT_ALL);
    fs::set_permissions(ground.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (arguments, status, words) in [
        (["--backend", "bpf-lsm"], 125, "sudo leash run"),
        (["--require", "bpf-lsm"], 125, "sudo leash run"),
        (["--user", "root"], 2, "only root can run a command as `root`"),
    ] {
        let mut command = ground.command(&arguments, &["touch", "started"]);
        if arguments[0] == "--require" {
            command.env_remove("LEASH_BACKEND");
        }
        let output = command.uid(65534).gid(65534).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
    assert!(!ground.workspace().join("started").exists());
}

/// An ordinary user's container needs a user namespace; where there can't be one, that is said, and nothing starts if one is required.
#[test]
fn an_ordinary_user_s_container_needs_a_user_namespace() {
    /// ABI of Landlock without which no session is without a container.
    const SIGNALS_STAY_INSIDE: u64 = 6;
    const NO_MORE: &str = "echo $1 > /proc/sys/user/max_user_namespaces; shift; exec \"$@\"";
    let ground = Ground::new(PERMIT_ALL);
    fs::set_permissions(ground.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let theirs = tempfile::Builder::new().tempdir_in("/srv").unwrap();
    std::os::unix::fs::chown(theirs.path(), Some(65534), Some(65534)).unwrap();
    let log = theirs.path().join("log.jsonl");
    let run = |namespaces: &str, more: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-euc", NO_MORE, "sh", namespaces]);
        command.arg(leash()).args(["run", "--policy"]).arg(ground.policy()).arg("--log").arg(&log);
        command.arg("--workspace").arg(theirs.path()).args(["--backend", "supervised"]).args(more).args(["--", "sh", "-c"]);
        // Whoever made the namespace has every privilege in it.
        command.arg("touch started; grep ^Cap /proc/self/status");
        command.env("HOME", "/nonexistent").stdin(Stdio::null()).output().unwrap()
    };
    let output = run("0", &["--require", "container"]);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("refuses the user namespace"), "{}", text(&output.stderr));
    assert!(!theirs.path().join("started").exists());
    for (namespaces, container) in [("0", false), ("1000", true)] {
        let output = run(namespaces, &[]);
        if !container && leash_tests::ground::landlock_abi() < SIGNALS_STAY_INSIDE {
            assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
            assert!(text(&output.stderr).contains("Landlock of Linux 6.12"), "{}", text(&output.stderr));
            assert!(!theirs.path().join("started").exists());
            continue;
        }
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr).contains("no container"), !container, "{}", text(&output.stderr));
        assert_eq!(Log::read(&log).only("session_start")["container"], container);
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(text(&output.stdout).contains(&format!("{set}:\t0000000000000000")), "{}", text(&output.stdout));
        }
        fs::remove_file(&log).unwrap();
        fs::remove_file(theirs.path().join("started")).unwrap();
    }
}

#[test]
fn a_full_disk_ends_the_session() {
    let ground = Ground::new(PERMIT_ALL);
    let small = ground.path("small");
    fs::create_dir(&small).unwrap();
    let mount =
        |arguments: &[&str]| assert!(Command::new(arguments[0]).args(&arguments[1..]).arg(&small).status().unwrap().success());
    mount(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    let mut command = Command::new(leash());
    command.args(["run", "--policy"]).arg(ground.policy()).arg("--log").arg(small.join("log.jsonl")).arg("--workspace");
    ground.act(&mut command);
    command.arg(ground.workspace()).args(["--", "sh", "-c", "i=0; while :; do i=$((i+1)); echo > f$i; rm f$i; done"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    mount(&["umount"]);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("No space left on device"), "{}", text(&output.stderr));
}

/// Where sessions keep what they need while they run.
fn runtime_dir() -> PathBuf {
    user::ordinary().map_or_else(|| "/run/leash".into(), |user| format!("/tmp/leash-{user}").into())
}

/// What a session makes outside of its files.
fn traces() -> Vec<String> {
    let names = |dir: &str| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
    };
    let mut found: Vec<String> = names("/sys/fs/cgroup").into_iter().filter(|path| path.ends_with("/leash")).collect();
    found.extend(names("/sys/fs/bpf").into_iter().filter(|path| path.contains("leash")));
    found.extend(names(&runtime_dir().display().to_string()).into_iter().filter(|path| Path::new(path).is_dir()));
    found.extend(
        fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains("/run/leash")).map(str::to_owned),
    );
    found
}

#[test]
fn nothing_is_left_behind() {
    // Other tests of this suite run sessions at the same time, in this machine: look at what is ours.
    let ground = Ground::new(PERMIT_ALL);
    let output = ground.shell("(setsid sleep 12345 >/dev/null 2>&1 &) ; mkdir -p /tmp/left; echo done");
    assert_eq!(text(&output.stdout), "done\n", "{}", text(&output.stderr));
    let session = ground.log().only("session_end")["session"].as_str().unwrap().to_owned();
    let left: Vec<String> = traces().into_iter().filter(|trace| trace.contains(&session)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!Path::new("/sys/fs/cgroup/leash").join(&session).exists());
    // Without a container `/tmp` is the host's.
    assert_eq!(Path::new("/tmp/left").exists(), !user::has_container());
    let sleeping = Command::new("pgrep").args(["-f", "sleep 12345"]).output().unwrap();
    assert_eq!(text(&sleeping.stdout), "");
}

#[test]
fn a_session_dies_with_its_parent() {
    let ground = Ground::new(PERMIT_ALL);
    let mut session = Dialogue::start(ground.command(&[], &["sh", "-c", "echo ready; exec sleep 54321"]));
    assert_eq!(session.read(), "ready\n");
    session.signal(Signal::SIGKILL);
    session.child.wait().unwrap();
    eventually("the command is gone", || {
        text(&Command::new("pgrep").args(["-fx", "sleep 54321"]).output().unwrap().stdout).is_empty()
    });
    // The next session cleans up after it.
    let runtime = runtime_dir();
    let text = fs::read_to_string(ground.path("log.jsonl")).unwrap();
    let start: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let left = start["session"].as_str().unwrap();
    assert!(runtime.join(left).exists());
    assert_eq!(Ground::new(PERMIT_ALL).shell("exit 0").status.code(), Some(0));
    assert!(!runtime.join(left).exists());
    assert!(!Path::new("/sys/fs/cgroup/leash").join(left).exists());
}

#[test]
fn logs_are_shown_and_followed() {
    let ground = Ground::new("");
    fs::write(ground.policy(), ground.forbid_secret()).unwrap();
    ground.shell("cat secret");
    let leash_log = |arguments: &[&str]| {
        let output = Command::new(leash()).arg("log").args(arguments).arg(ground.path("log.jsonl")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let all = leash_log(&["show"]);
    assert!(all.lines().next().unwrap().contains("session ") && all.lines().last().unwrap().contains("session ended"), "{all}");
    let denied = leash_log(&["show", "--denied"]);
    assert_eq!(denied.lines().count(), 1, "{denied}");
    assert!(denied.contains("no-secret: the secret stays where it is") && !denied.contains('\u{1b}'), "{denied}");
    assert!(leash_log(&["show", "--denied", "--color", "always"]).contains('\u{1b}'));
    assert_eq!(leash_log(&["tail"]), all, "a finished log ends by itself");
    let json = leash_log(&["show", "--json"]);
    assert_eq!(json, fs::read_to_string(ground.path("log.jsonl")).unwrap());
}

#[test]
fn doctor_finds_what_these_machines_have() {
    let output = Command::new(leash()).args(["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["v"], &report["ok"], &report["backend"]),
        (&Value::from(1), &Value::from(true), &Value::from("bpf-lsm")),
        "{report}"
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(Command::new(leash()).arg("doctor").output().unwrap().status.success());
}

/// Root by name alone, as in many containers, and root whose cgroups can't be written to.
#[test]
fn doctor_says_no_where_root_lacks_what_a_session_takes() {
    const READ_ONLY: &str = "mount=$(awk '$3 == \"cgroup2\" { print $2; exit }' /proc/mounts)\n\
        mount -o remount,bind,ro $mount\n\
        exec \"$@\"";
    let ground = Ground::new(PERMIT_ALL);
    let weak = |way: &[&str], arguments: &[&str]| {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).arg(leash()).args(arguments).stdin(Stdio::null()).current_dir(ground.workspace());
        command.env_remove("LEASH_BACKEND").output().unwrap()
    };
    for way in [
        &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"][..],
        &["unshare", "--mount", "sh", "-ec", READ_ONLY, "sh"],
    ] {
        let policy = ground.policy().display().to_string();
        let run = weak(way, &["run", "--policy", &policy, "--", "touch", "started"]);
        assert_ne!(run.status.code(), Some(0), "{way:?}");
        assert!(!ground.workspace().join("started").exists());
        let doctor = weak(way, &["doctor", "--json"]);
        let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
        assert_eq!((doctor.status.code(), &report["ok"]), (Some(1), &Value::from(false)), "{way:?}: {report}");
        let failed = report["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false);
        assert!(failed.clone().count() > 0 && failed.clone().all(|check| check["remedy"].is_string()), "{report}");
    }
}

/// A cloned repository brings policies of its own, and an agent chooses names of files: the report is Leash's all the same.
#[test]
fn a_project_s_policies_forge_nothing_that_is_printed() {
    const HOSTILE: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}1m\u{7f}\nleash: 9 actions allowed, 0 denied\n  log: /x\r\u{202e}\u{2066}\u{200b}\u{2028}\u{e0041}";
    const READABLE: &str = "Größe 日本語 😀";
    let harmless = |text: &str| {
        let obeyed = |c: char| {
            c != '\n'
                && (c.is_control()
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}'))
        };
        assert!(!text.contains(obeyed), "{text:?}");
        assert!(text.lines().filter(|line| line.starts_with("leash: ") && line.contains(" denied")).count() <= 1, "{text}");
        assert!(text.lines().filter(|line| line.trim_start().starts_with("log:")).count() <= 1, "{text}");
    };
    let ground = Ground::new(PERMIT_ALL);
    let project = ground.workspace().join(".leash");
    fs::create_dir(&project).unwrap();
    let file = project.join(format!("{}.cedar", HOSTILE.replace('/', "|")));
    let secret = ground.workspace().join("secret");
    let forbid = |id: &str| {
        format!(
            "@id(\"{id}\") @reason(\"{id}\") forbid (principal, action == Action::\"FileRead\", resource == File::\"{}\");",
            secret.display()
        )
    };
    let plain = format!("{HOSTILE} {READABLE}");
    // Cedar takes no carriage return as it is.
    let raw = plain.replace('\r', "");
    for (plain, id) in [(&raw, raw.clone()), (&plain, plain.escape_debug().to_string())] {
        fs::write(&file, forbid(&id)).unwrap();
        let output = ground.run(&[], &["sh", "-c", "cat secret; cat \"$1\"", "sh", HOSTILE]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let path = secret.display().to_string();
        let log = ground.log();
        let denials = log.denials_of("FileRead", &path);
        assert_eq!((denials.len(), &denials[0]["errno"]), (1, &Value::from(13)), "{}", log.denials_text());
        assert!(names_policy(denials[0], plain) && denials[0]["reason"] == plain.as_str(), "{}", log.denials_text());
        harmless(&fs::read_to_string(ground.path("log.jsonl")).unwrap());
        // What `cat` says itself is its own.
        let report: String = text(&output.stderr)
            .lines()
            .skip_while(|line| !line.contains("actions allowed, 1 denied"))
            .map(|line| format!("{line}\n"))
            .collect();
        harmless(&report);
        assert!(report.contains("actions allowed, 1 denied") && report.contains(READABLE), "{report}");
        for options in [&[][..], &["--json"]] {
            let shown = Command::new(leash()).args(["log", "show"]).args(options).arg(ground.path("log.jsonl")).output().unwrap();
            assert!(shown.status.success(), "{}", text(&shown.stderr));
            harmless(&text(&shown.stdout));
        }
    }
    // Two of one name, what only permits, and what is no policy, are said before anything runs.
    for wrong in [
        [forbid(&plain), forbid(&plain)].concat(),
        format!("@id(\"{plain}\") {PERMIT_ALL}").replace("@id(\"all\")", ""),
        format!("forbid({HOSTILE}"),
    ] {
        fs::write(&file, &wrong).unwrap();
        let output = ground.shell("echo ran");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), ""), "{wrong:?}: {}", text(&output.stderr));
        harmless(&text(&output.stderr));
    }
    // And a twin: what is harmless is enforced, and said as it is written.
    fs::write(&file, forbid(READABLE)).unwrap();
    let output = ground.shell("cat open; cat secret");
    assert_eq!(text(&output.stdout), "shown\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&format!("policy `{READABLE}`: {READABLE}")), "{}", text(&output.stderr));
}

#[test]
fn a_session_in_a_session_is_told_where_it_is() {
    let ground = Ground::new(PERMIT_ALL);
    let inner = ground.path("leash");
    fs::copy(leash(), &inner).unwrap();
    let script = format!("'{}' run -q --log log.jsonl -- true; echo status $?", inner.display());
    let output = ground.shell(&script);
    assert_eq!(text(&output.stdout), "status 125\n", "{}", text(&output.stderr));
    let session = ground.log().only("session_start")["session"].as_str().unwrap().to_owned();
    let words = text(&output.stderr);
    assert!(words.contains(&format!("leash: this is inside of the session `{session}` of Leash already")), "{words}");
    // Wrong usage is still only that.
    let output = ground.shell(&format!("'{}' run --profile nonsense -- true; echo status $?", inner.display()));
    assert!(text(&output.stdout) == "status 2\n" && !text(&output.stderr).contains("inside of"), "{}", text(&output.stderr));
}

#[test]
fn a_limit_on_the_size_of_files_is_named_and_kills_nobody() {
    let ground = Ground::new(PERMIT_ALL);
    let under = |blocks: &str, script: &str| {
        let _ = fs::remove_file(ground.path("log.jsonl"));
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -f \"$1\"; shift; exec \"$@\"", "sh", blocks]);
        let leash = ground.command(&["-q"], &["sh", "-c", script]);
        limited.arg(leash.get_program()).args(leash.get_args()).stdin(Stdio::null()).env("HOME", ground.path("home"));
        ground.act(&mut limited);
        limited.output().unwrap()
    };
    // Too small for a session at all, and for the log of one.
    for (blocks, script) in [("1", "true"), ("64", "i=0; while [ $i -lt 2000 ]; do : > file$i; i=$((i + 1)); done")] {
        let output = under(blocks, script);
        assert_eq!(output.status.code(), Some(125), "{blocks}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("(`ulimit -f`)"), "{blocks}: {}", text(&output.stderr));
    }
    // The command has the limit and its signal, and what is done for it has them, too.
    let output = under(
        "2000",
        "dd if=/dev/zero of=big bs=64k count=64; echo $?; python3 -c 'import os; os.truncate(\"open\", 1 << 30)' 2>&1 | tail -1",
    );
    let out = text(&output.stdout);
    assert!(
        out.starts_with("153\n") && out.contains("File too large") && output.status.success(),
        "{out}{}",
        text(&output.stderr)
    );
}

/// A mount over a file goes when somebody outside replaces the file.
#[test]
fn what_can_only_be_read_stays_so_when_it_is_replaced_from_outside() {
    let ground = Ground::new(PERMIT_ALL);
    let bpf = std::env::var("LEASH_BACKEND").map_or(true, |backend| backend != "supervised");
    for mode in ["enforce", "record"] {
        let kept = ground.workspace().join("kept");
        let directory = ground.workspace().join("in/dir");
        let project = ground.workspace().join(".leash");
        for path in [&directory, &project] {
            let _ = fs::remove_dir_all(path);
            fs::create_dir_all(path).unwrap();
        }
        for path in [&kept, &directory.join("file")] {
            fs::write(path, "1\n").unwrap();
        }
        let options = ["--mode", mode, "--ro", kept.to_str().unwrap(), "--ro", directory.to_str().unwrap()];
        let script = "while read -r line; do if sh -c \"$line\" 2> err; then echo did; else cat err | tail -1; fi; done";
        let _ = fs::remove_file(ground.path("log.jsonl"));
        let mut session = Dialogue::start(ground.command(&options, &["sh", "-c", script]));
        let attempts = [
            "echo 2 > kept",
            "rm kept",
            "mv kept moved",
            "truncate -s 0 kept",
            "chmod 777 kept",
            "ln kept linked",
            "echo 2 > in/dir/file",
            "touch in/dir/new",
            "mv in/dir moved",
            "mv in moved",
            "touch .leash/mine.cedar",
            "mv .leash moved",
        ];
        let refused = |session: &mut Dialogue, when: &str| {
            for attempt in attempts {
                // The kernel lets a directory be moved that holds a mount.
                if bpf && (attempt == "mv in moved" || when == "after") {
                    continue;
                }
                let answer = session.ask(attempt);
                assert!(
                    ["Read-only file system", "busy", "cross-device"].iter().any(|words| answer.contains(words)),
                    "{mode}, {when}: {attempt}: {answer}"
                );
            }
        };
        refused(&mut session, "before");
        for path in [&kept, &directory, &project] {
            let (new, old) = (ground.path("new"), ground.path("old"));
            let _ = fs::remove_dir_all(&old);
            if path.is_dir() {
                fs::create_dir(&new).unwrap();
                fs::write(new.join("file"), "1\n").unwrap();
                fs::rename(path, &old).unwrap();
            } else {
                fs::copy(path, &new).unwrap();
            }
            ground.act(&mut Command::new("true"));
            fs::rename(&new, path).unwrap();
        }
        refused(&mut session, "after");
        assert_eq!(session.ask("cat kept in/dir/file > out && echo 2 > open"), "did\n", "{mode}");
        assert_eq!(session.finish().0, 0);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "1\n");
    }
}

//! `leash run` as its user sees it: statuses, streams, signals, environment, modes, reload, bad input, and what is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod governed;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use governed::{Log, leash, names_policy, scratch};
use leash_tests::keeper::keep_loaded;
use leash_tests::user;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PERMIT_ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

/// A workspace with a policy beside it.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new(policy: &str) -> Self {
        keep_loaded();
        let dir = scratch();
        for name in ["w", "policy", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let ground = Self { dir };
        fs::write(ground.policy(), policy).unwrap();
        fs::write(ground.workspace().join("secret"), "hidden\n").unwrap();
        fs::write(ground.workspace().join("open"), "shown\n").unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn policy(&self) -> PathBuf {
        self.path("policy/p.cedar")
    }

    fn workspace(&self) -> PathBuf {
        self.path("w")
    }

    fn log(&self) -> Log {
        Log::read(&self.path("log.jsonl"))
    }

    /// `leash run OPTIONS -- COMMAND`, not started.
    fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut leash = Command::new(leash());
        leash.arg("run").arg("--policy").arg(self.policy()).arg("--log").arg(self.path("log.jsonl"));
        leash.arg("--workspace").arg(self.workspace()).args(options).arg("--").args(command);
        leash.env("HOME", self.path("home")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.act(&mut leash);
        leash
    }

    /// Has a command run as whom the suite is about, who owns everything here.
    fn act(&self, command: &mut Command) {
        user::hand_over(self.dir.path());
        user::act(command);
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let _ = fs::remove_file(self.path("log.jsonl"));
        self.command(options, command).output().expect("leash starts")
    }

    fn shell(&self, script: &str) -> Output {
        self.run(&[], &["sh", "-c", script])
    }

    /// Forbids reading the file `secret` of the workspace.
    fn forbid_secret(&self) -> String {
        let path = self.workspace().join("secret");
        format!(
            "{PERMIT_ALL}@id(\"no-secret\") @reason(\"the secret stays where it is\")\n\
             forbid (principal, action == Action::\"FileRead\", resource == File::\"{}\");\n",
            path.display()
        )
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for `condition`; the test fails if it stays false.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A session whose command reads lines from us.
struct Dialogue {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Dialogue {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.read()
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Closes the command's input and waits for the end: status and stderr.
    fn finish(mut self) -> (i32, String) {
        drop(self.child.stdin.take());
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code().unwrap(), stderr)
    }
}

/// Prints `ok` or `no` for each file named on stdin.
const READER: [&str; 3] =
    ["sh", "-c", "while read -r file; do if cat \"$file\" >/dev/null 2>&1; then echo ok; else echo no; fi; done"];

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

#[test]
fn a_hangup_signal_reloads_and_a_broken_policy_is_refused() {
    let ground = Ground::new(PERMIT_ALL);
    let mut session = Dialogue::start(ground.command(&[], &READER));
    assert_eq!(session.ask("secret"), "ok\n");
    let reloads = || fs::read_to_string(ground.path("log.jsonl")).unwrap().matches("\"type\":\"policy_reload\"").count();

    fs::write(ground.policy(), ground.forbid_secret()).unwrap();
    session.signal(Signal::SIGHUP);
    eventually("the reload is logged", || reloads() == 1);
    assert_eq!((session.ask("secret"), session.ask("open")), ("no\n".into(), "ok\n".into()));

    fs::write(ground.policy(), "permit (principal, action, resource").unwrap();
    session.signal(Signal::SIGHUP);
    eventually("the refusal is logged", || reloads() == 2);
    assert_eq!((session.ask("secret"), session.ask("open")), ("no\n".into(), "ok\n".into()));

    let (status, stderr) = session.finish();
    assert_eq!(status, 0);
    assert!(stderr.contains("the policy was not reloaded, the old one stays") && stderr.contains("p.cedar"), "{stderr}");
    let text = fs::read_to_string(ground.path("log.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reloads: Vec<&Value> = records.iter().filter(|record| record["type"] == "policy_reload").collect();
    assert_eq!((&reloads[0]["ok"], &reloads[0]["policies"]["generation"]), (&Value::from(true), &Value::from(2)));
    assert_eq!((&reloads[1]["ok"], &reloads[1]["policies"]["generation"]), (&Value::from(false), &Value::from(2)));
    assert!(reloads[1]["error"].is_string());
}

#[test]
fn a_watched_policy_is_read_again_when_an_editor_replaces_it() {
    let ground = Ground::new(PERMIT_ALL);
    let mut session = Dialogue::start(ground.command(&["--watch"], &READER));
    assert_eq!(session.ask("secret"), "ok\n");
    // Not beside the policy: that would be a change of its own, with a reload before this one.
    fs::write(ground.path("new"), ground.forbid_secret()).unwrap();
    fs::rename(ground.path("new"), ground.policy()).unwrap();
    eventually("the reload is logged", || {
        fs::read_to_string(ground.path("log.jsonl")).unwrap().contains("\"type\":\"policy_reload\"")
    });
    assert_eq!(session.ask("secret"), "no\n");
    assert_eq!(session.finish().0, 0);
}

#[test]
fn the_session_cannot_write_its_policy_or_its_log() {
    let ground = Ground::new(PERMIT_ALL);
    let inside = ground.workspace().join("rules");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("q.cedar"), "").unwrap();
    let log = ground.workspace().join("log.jsonl");
    let mut command = Command::new(leash());
    command.args(["run", "--policy"]).arg(ground.policy()).arg("--policy").arg(inside.join("q.cedar"));
    command.arg("--log").arg(&log).arg("--workspace").arg(ground.workspace()).args(["--", "sh", "-c"]);
    ground.act(&mut command);
    let output = command
        .arg("echo x >> log.jsonl; rm log.jsonl; echo x > rules/q.cedar; echo x > rules/r.cedar; mv rules r; echo x > new")
        .output()
        .unwrap();
    assert!(Log::read(&log).only("session_end")["status"].is_number());
    assert_eq!(fs::read_to_string(inside.join("q.cedar")).unwrap(), "", "{}", text(&output.stderr));
    assert!(!inside.join("r.cedar").exists());
    assert!(ground.workspace().join("new").exists());
}

#[test]
fn project_policies_narrow_and_only_narrow() {
    let ground = Ground::new(PERMIT_ALL);
    let project = ground.workspace().join(".leash");
    fs::create_dir(&project).unwrap();
    let forbid = ground.forbid_secret().replace(PERMIT_ALL, "");
    fs::write(project.join("narrow.cedar"), forbid).unwrap();
    let output = ground.shell("cat open; cat secret; echo > .leash/mine.cedar");
    assert_eq!(text(&output.stdout), "shown\n", "{}", text(&output.stderr));
    assert!(!project.join("mine.cedar").exists());

    fs::write(project.join("wide.cedar"), PERMIT_ALL).unwrap();
    let output = ground.shell("touch started");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("may only forbid"), "{}", text(&output.stderr));
    assert!(!ground.workspace().join("started").exists());
}

/// Without `--policy` and `--mode`, the caller's file says which; the command line and variables win.
#[test]
fn a_configuration_file_holds_defaults() {
    let ground = Ground::new(PERMIT_ALL);
    let secret = ground.path("policy/secret.cedar");
    fs::write(&secret, ground.forbid_secret()).unwrap();
    let directory = ground.path("home/.config/leash");
    fs::create_dir_all(&directory).unwrap();
    let configure = |text: &str| fs::write(directory.join("config.toml"), format!("[run]\n{text}\n")).unwrap();
    let run = |workspace: &Path, options: &[&str], variable: &str, script: &str| {
        let _ = fs::remove_file(ground.path("log.jsonl"));
        let mut command = Command::new(leash());
        command.arg("run").arg("--log").arg(ground.path("log.jsonl")).arg("--workspace").arg(workspace);
        command.args(options).args(["--", "sh", "-c", script]).env_remove("XDG_CONFIG_HOME");
        command.env("HOME", ground.path("home")).env("LEASH_MODE", variable).stdin(Stdio::null());
        if variable.is_empty() {
            command.env_remove("LEASH_MODE");
        }
        ground.act(&mut command);
        command.output().unwrap()
    };
    let read = |options: &[&str], variable: &str| {
        let output = run(&ground.workspace(), options, variable, "cat open secret");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let policy = format!("policy = [{:?}]", secret.display().to_string());
    let (all, named) = (ground.policy().display().to_string(), secret.display().to_string());

    configure(&policy);
    assert!(matches!(read(&[], ""), (Some(1), out, _) if out == "shown\n"));
    let log = ground.log();
    assert_eq!(log.denials().len(), 1, "{}", log.denials_text());
    assert!(names_policy(log.denials()[0], "no-secret"));
    assert!(matches!(read(&["--policy", &all], ""), (Some(0), ..)));
    configure(&format!("{policy}\nmode = \"record\""));
    assert!(matches!(read(&[], ""), (Some(0), ..)));
    assert!(matches!(read(&[], "enforce"), (Some(1), ..)));
    assert!(matches!(read(&["--mode", "enforce"], "record"), (Some(1), ..)));
    configure("env = [\"GIVEN=by the file\"]");
    let output = run(&ground.workspace(), &["--policy", &named], "", "echo $GIVEN");
    assert_eq!(text(&output.stdout), "by the file\n", "{}", text(&output.stderr));

    // Not even a policy that permits everything lets a session write the next one's configuration.
    let attempt = "echo '[run]' > .config/leash/config.toml; mv .config/leash .config/old; echo x > written";
    run(&ground.path("home"), &["--policy", &all], "", attempt);
    assert!(fs::read_to_string(directory.join("config.toml")).unwrap().contains("GIVEN"));
    assert!(ground.path("home/written").exists());

    for (wrong, words) in [("mood = \"record\"", "line 2"), ("mode = \"sometimes\"", "line 2"), ("rw = [\"x\"]", "absolute")] {
        configure(wrong);
        let output = run(&ground.workspace(), &[], "", "touch started");
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("config.toml") && text(&output.stderr).contains(words), "{}", text(&output.stderr));
        assert!(!ground.workspace().join("started").exists());
    }
}

/// Under `sudo` a user's file names nothing that root reads for them.
#[test]
fn a_configuration_file_gives_its_owner_no_more_than_they_have() {
    let ground = Ground::new(PERMIT_ALL);
    fs::set_permissions(ground.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = ground.path("home");
    for theirs in [&ground.workspace(), &home] {
        chown(theirs, Some(65534), Some(65534)).unwrap();
    }
    fs::create_dir_all(home.join(".config/leash")).unwrap();
    let (file, closed) = (home.join(".config/leash/config.toml"), ground.path("closed.cedar"));
    fs::write(&closed, "SECRET-OF-ROOT").unwrap();
    let run = || {
        let mut command = governed::at_home_of(65534, &home, ground.dir.path());
        command.arg(leash()).args(["run", "--workspace"]).arg(ground.workspace()).arg("--log").arg(ground.path("log.jsonl"));
        command.args(["--", "touch", "started"]).env("SUDO_UID", "65534").env("SUDO_GID", "65534").env_remove("XDG_CONFIG_HOME");
        command.stdin(Stdio::null()).output().unwrap()
    };
    fs::write(&file, format!("[run]\npolicy = [{:?}]\n", closed.display().to_string())).unwrap();
    for (mode, words) in [(0o600, "Permission denied"), (0o640, "Permission denied"), (0o644, "SECRET-OF-ROOT")] {
        fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
        let output = run();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(words), "{mode:o}: {}", text(&output.stderr));
    }
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&closed, &file).unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("is a link"), "{}", text(&output.stderr));
    fs::remove_file(&file).unwrap();
    fs::write(&file, "[run]\nagent = \"configured\"\n").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(run().status.code(), Some(0));
    assert_eq!(ground.log().only("session_start")["agent"], "configured");
    assert!(!ground.workspace().join("started").metadata().unwrap().permissions().readonly());
}

/// The kernel's programs find a session by its depth, which a container with a cgroup namespace of its own doesn't know.
#[test]
fn a_cgroup_namespace_gets_the_supervised_backend() {
    const INSIDE: &str = "mount=$(awk '$3 == \"cgroup2\" { print $2; exit }' /proc/mounts)\n\
        mkdir -p $mount/leash-container\n\
        echo $$ > $mount/leash-container/cgroup.procs\n\
        exec unshare --cgroup --mount sh -ec 'umount -l \"$0\"; mount -t cgroup2 none \"$0\"; exec \"$@\"' $mount \"$@\"";
    let ground = Ground::new("");
    fs::write(ground.policy(), ground.forbid_secret()).unwrap();
    let inside = |arguments: &[&str]| {
        let _ = fs::remove_file(ground.path("log.jsonl"));
        let mut command = Command::new("sh");
        command.args(["-ec", INSIDE, "sh"]).arg(leash()).args(arguments);
        command.env_remove("LEASH_BACKEND").stdin(Stdio::null()).output().unwrap()
    };
    let (policy, log, workspace) = (ground.policy(), ground.path("log.jsonl"), ground.workspace());
    let [policy, log, workspace] = [&policy, &log, &workspace].map(|path| path.to_str().unwrap());
    let session = ["run", "--policy", policy, "--log", log, "--workspace", workspace];
    let command = ["--", "sh", "-c", "cat open; cat secret"];
    let output = inside(&[&session[..], &command].concat());
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "shown\n"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("backend supervised, because"), "{}", text(&output.stderr));
    assert_eq!(ground.log().only("session_start")["backend"], "supervised");
    assert_eq!(ground.log().denials().len(), 1, "{}", ground.log().denials_text());
    for option in [["--require", "bpf-lsm"], ["--backend", "bpf-lsm"]] {
        let output = inside(&[&session[..], &option, &command].concat());
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(125), ""));
        assert!(text(&output.stderr).contains("--cgroupns=host"), "{}", text(&output.stderr));
    }
    let output = inside(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["ok"], &report["backend"]), (&Value::from(true), &Value::from("supervised")), "{report}");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2").unwrap()[1];
    let container = Path::new(mount).join("leash-container");
    eventually("the cgroup is empty", || fs::remove_dir(&container).is_ok());
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
fn bad_input_starts_nothing() {
    let ground = Ground::new(PERMIT_ALL);
    let broken = ground.path("broken.cedar");
    fs::write(&broken, "permit (principal, action, resource) when { resource.nonsense };").unwrap();
    let directory = ground.path("home").to_string_lossy().into_owned();
    let (broken, file) = (broken.to_string_lossy().into_owned(), ground.policy().to_string_lossy().into_owned());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--policy", "/no/such.cedar"], 3, "/no/such.cedar"),
        (&["--policy", &broken], 3, "nonsense"),
        (&["--profile", "no-such-profile"], 2, "workspace"),
        (&["--workspace", "/no/such/dir"], 2, "/no/such/dir"),
        (&["--workspace", &file], 2, "is not a directory"),
        (&["--log", "/no/such/dir/log"], 125, "/no/such/dir/log"),
        (&["--log", &directory], 125, "File exists"),
        (&["--user", "no-such-user"], 2, "no-such-user"),
        (&["--env", "LEASH_SESSION=x"], 2, "LEASH_SESSION"),
        (&["--rw", "/no/such/path"], 2, "/no/such/path"),
        (&["--principal", "/no/such.json"], 3, "/no/such.json"),
        (&["--mode", "sometimes"], 2, "enforce"),
        (&["--backend", "magic"], 2, "bpf-lsm"),
    ];
    for (options, status, words) in cases {
        let mut command = Command::new(leash());
        command.arg("run").current_dir(ground.workspace()).args(*options).args(["--", "touch", "started"]);
        ground.act(&mut command);
        let output = command.env("HOME", ground.path("home")).stdin(Stdio::null()).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*status), "{options:?}: {stderr}");
        assert!(stderr.contains(words), "{options:?}: {stderr}");
        assert!(!ground.workspace().join("started").exists(), "{options:?}");
    }
    for (command, status) in [("no-such-command", 127), ("/etc/passwd", 126)] {
        let output = ground.run(&[], &[command]);
        assert_eq!(output.status.code(), Some(status), "{command}: {}", text(&output.stderr));
        assert!(!ground.path("log.jsonl").exists(), "{command} left a log");
    }
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
        command.env("HOME", theirs.path()).stdin(Stdio::null()).output().unwrap()
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

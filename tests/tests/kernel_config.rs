//! Where a session's policies and options come from, how they are read again, and what starts nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod governed;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use governed::ground::{Dialogue, Ground, PERMIT_ALL, READER, eventually, text};
use governed::{Log, leash, names_policy};
use nix::sys::signal::Signal;
use serde_json::Value;

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

    // What is empty is still being written, or was lost.
    fs::write(ground.policy(), "// later\n").unwrap();
    session.signal(Signal::SIGHUP);
    eventually("the second refusal is logged", || reloads() == 3);
    assert_eq!((session.ask("secret"), session.ask("open")), ("no\n".into(), "ok\n".into()));

    // Neither depth nor size ends the session, nor does text that is no policy at all.
    let nested = |levels: usize| {
        format!("permit(principal, action, resource) when {{ {}true{} }};\n", "!(".repeat(levels), ")".repeat(levels))
    };
    let small = "permit(principal, action, resource in Dir::\"/srv\");\n";
    let hostile = [
        nested(600),
        nested(100_000),
        format!("{}{}", small.repeat(3_000), nested(5_000)),
        format!("permit(principal, action, resource) when {{ true{} }};", " || false".repeat(100_000)),
        format!("permit(principal, action, resource) when {{ {}true }};", "if true then true else ".repeat(50_000)),
        "permit(principal,action,resource);\n".repeat(110_000),
        "// ".repeat(6 << 20),
        "\0\u{202e}(((".to_owned(),
    ];
    for (number, text) in (4..).zip(hostile) {
        // The first one is deep, and yet valid.
        let text = if number == 4 { format!("{text}{}", ground.forbid_secret()) } else { text };
        fs::write(ground.policy(), text).unwrap();
        session.signal(Signal::SIGHUP);
        eventually("the next reload is logged", || reloads() == number);
        assert_eq!((session.ask("secret"), session.ask("open")), ("no\n".into(), "ok\n".into()), "{number}");
    }

    let (status, stderr) = session.finish();
    assert_eq!(status, 0);
    assert!(stderr.contains("there is no policy in"), "{stderr}");
    for limit in [
        "nested 100001 deep here; 1000 is the limit",
        "operators deep here; 10000 is the limit",
        "100000 is the limit",
        "the limit for policies",
    ] {
        assert!(stderr.contains(limit), "{limit}: {stderr}");
    }
    assert!(stderr.contains("the policy was not reloaded, the old one stays") && stderr.contains("p.cedar"), "{stderr}");
    let text = fs::read_to_string(ground.path("log.jsonl")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reloads: Vec<&Value> = records.iter().filter(|record| record["type"] == "policy_reload").collect();
    assert_eq!((&reloads[0]["ok"], &reloads[0]["policies"]["generation"]), (&Value::from(true), &Value::from(2)));
    assert_eq!((&reloads[1]["ok"], &reloads[1]["policies"]["generation"]), (&Value::from(false), &Value::from(2)));
    assert!(reloads[1]["error"].is_string());
    assert_eq!((&reloads[2]["ok"], &reloads[2]["policies"]["generation"]), (&Value::from(false), &Value::from(2)));
    let deep = |reload: &&Value| (reload["ok"] == true, reload["policies"]["generation"].clone());
    assert_eq!(deep(&reloads[3]), (true, Value::from(3)));
    assert!(reloads.iter().skip(4).all(|reload| deep(reload) == (false, Value::from(3))), "{reloads:?}");
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
    run(&ground.path("home"), &["--allow-home", "--policy", &all], "", attempt);
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

/// All that belongs to the caller's programs lies there, so it must be meant.
#[test]
fn a_home_directory_is_no_workspace_unless_it_is_meant() {
    let ground = Ground::new(PERMIT_ALL);
    let home = ground.path("home");
    std::os::unix::fs::symlink(&home, ground.path("link")).unwrap();
    let policy = ground.policy();
    leash_tests::user::hand_over(ground.dir.path());
    let run = |workspace: &Path, directory: &Path, options: &[&str]| {
        let _ = fs::remove_file(ground.path("log.jsonl"));
        let mut command = governed::at_home(&home, ground.dir.path());
        command.arg(leash()).args(["run", "--policy"]).arg(&policy).arg("--log").arg(ground.path("log.jsonl"));
        if workspace != Path::new("") {
            command.arg("--workspace").arg(workspace);
        }
        command.args(options).args(["--", "touch", "started"]).env("HOME", &home).env_remove("XDG_CONFIG_HOME");
        command.current_dir(directory).stdin(Stdio::null()).output().unwrap()
    };
    let here = ground.dir.path();
    let slashes = home.join(".//");
    for (workspace, directory) in [
        (home.as_path(), here),
        (&slashes, here),
        (&ground.path("link"), here),
        (&ground.path("link/../home/"), here),
        (here, here),
        (Path::new(".."), &home),
        (Path::new(""), &home),
        (Path::new("/"), here),
    ] {
        let output = run(workspace, directory, &[]);
        assert_eq!(output.status.code(), Some(2), "{}: {}", workspace.display(), text(&output.stderr));
        if workspace != Path::new("/") {
            assert!(text(&output.stderr).contains("--allow-home"), "{}: {}", workspace.display(), text(&output.stderr));
        }
        assert!(!home.join("started").exists() && !ground.path("log.jsonl").exists());
    }
    let output = run(&home, here, &["--allow-home"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(home.join("started").exists());
    let project = home.join("project");
    fs::create_dir(&project).unwrap();
    leash_tests::user::hand_over(here);
    assert_eq!(run(&project, here, &[]).status.code(), Some(0));
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

#[test]
fn bad_input_starts_nothing() {
    let ground = Ground::new(PERMIT_ALL);
    let broken = ground.path("broken.cedar");
    fs::write(&broken, "permit (principal, action, resource) when { resource.nonsense };").unwrap();
    let directory = ground.path("home").to_string_lossy().into_owned();
    let (broken, file) = (broken.to_string_lossy().into_owned(), ground.policy().to_string_lossy().into_owned());
    let (empty, list) = (ground.path("empty.cedar"), ground.path("list.json"));
    fs::write(&empty, "// nothing yet\n").unwrap();
    fs::write(&list, "[\"codex\"]").unwrap();
    let (empty, list) = (empty.to_string_lossy().into_owned(), list.to_string_lossy().into_owned());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--policy", "/no/such.cedar"], 3, "/no/such.cedar"),
        (&["--policy", &broken], 3, "nonsense"),
        (&["--policy", &empty], 3, "there is no policy in"),
        (&["--mode", "record", "--policy", &empty], 3, "there is no policy in"),
        (&["--profile", "workspace", "--policy", &empty], 3, "there is no policy in"),
        (&["--policy", &directory], 3, "there is no policy in"),
        (&["--principal", &list], 3, "a JSON object"),
        (&["--profile", "no-such-profile"], 2, "workspace"),
        (&["--workspace", "/no/such/dir"], 2, "/no/such/dir"),
        (&["--workspace", &file], 2, "is not a directory"),
        (&["--log", "/no/such/dir/log"], 125, "/no/such/dir/log"),
        (&["--log", &directory], 125, "File exists"),
        (&["--user", "no-such-user"], 2, "no-such-user"),
        (&["--user", "4294967295"], 2, "4294967295"),
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

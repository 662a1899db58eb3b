//! A workspace with a policy beside it, and sessions there that a test talks to.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use leash_tests::user;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Log, leash, scratch};

/// Permits everything.
pub(crate) const PERMIT_ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

/// A workspace with a policy beside it.
pub(crate) struct Ground {
    pub(crate) dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new(policy: &str) -> Self {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn policy(&self) -> PathBuf {
        self.path("policy/p.cedar")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.path("w")
    }

    pub(crate) fn log(&self) -> Log {
        Log::read(&self.path("log.jsonl"))
    }

    /// `leash run OPTIONS -- COMMAND`, not started.
    pub(crate) fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut leash = Command::new(leash());
        leash.arg("run").arg("--policy").arg(self.policy()).arg("--log").arg(self.path("log.jsonl"));
        leash.arg("--workspace").arg(self.workspace()).args(options).arg("--").args(command);
        leash.env("HOME", self.path("home")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.act(&mut leash);
        leash
    }

    /// Has a command run as whom the suite is about, who owns everything here.
    pub(crate) fn act(&self, command: &mut Command) {
        user::hand_over(self.dir.path());
        user::act(command);
    }

    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let _ = fs::remove_file(self.path("log.jsonl"));
        self.command(options, command).output().expect("leash starts")
    }

    pub(crate) fn shell(&self, script: &str) -> Output {
        self.run(&[], &["sh", "-c", script])
    }

    /// Forbids reading the file `secret` of the workspace.
    pub(crate) fn forbid_secret(&self) -> String {
        let path = self.workspace().join("secret");
        format!(
            "{PERMIT_ALL}@id(\"no-secret\") @reason(\"the secret stays where it is\")\n\
             forbid (principal, action == Action::\"FileRead\", resource == File::\"{}\");\n",
            path.display()
        )
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for `condition`; the test fails if it stays false.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A session whose command reads lines from us.
pub(crate) struct Dialogue {
    pub(crate) child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Dialogue {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.read()
    }

    pub(crate) fn read(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Closes the command's input and waits for the end: status and stderr.
    pub(crate) fn finish(mut self) -> (i32, String) {
        drop(self.child.stdin.take());
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code().unwrap(), stderr)
    }
}

/// Prints `ok` or `no` for each file named on stdin.
pub(crate) const READER: [&str; 3] =
    ["sh", "-c", "while read -r file; do if cat \"$file\" >/dev/null 2>&1; then echo ok; else echo no; fi; done"];

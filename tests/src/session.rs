//! `leash run` as a test sees it: policies in, outcomes and the log out.

use crate::attempt::{Attempt, Outcome};
use crate::{ground, user};
use serde::Deserialize;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// `EACCES`, the error of every denial.
pub const EACCES: i32 = 13;
/// No session of these suites takes longer, even on an emulated processor.
const LIMIT: Duration = Duration::from_secs(900);

/// What to start.
pub struct Plan {
    policy: PathBuf,
    mode: &'static str,
    arguments: Vec<OsString>,
    log: PathBuf,
}

/// A session that runs.
pub struct Running {
    child: Child,
    log: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A session that has ended.
pub struct Run {
    /// Exit status; 128 and the signal's number for a signal.
    pub status: i32,
    /// What the command printed.
    pub stdout: Vec<u8>,
    /// What Leash and the command said.
    pub stderr: String,
    /// Actions, in order.
    pub events: Vec<Event>,
    /// The first record.
    pub start: Value,
    /// The last record.
    pub end: Value,
    /// All records.
    pub records: Vec<Value>,
}

/// An action in the log (`docs/log.md`).
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields of the log, documented there")]
pub struct Event {
    pub action: String,
    pub resource: Resource,
    pub verdict: String,
    pub mode: String,
    pub policies: Vec<String>,
    pub reason: Option<String>,
    pub pid: u32,
    pub ppid: u32,
    pub exe: String,
    pub errno: i32,
    pub count: u64,
    pub generation: u32,
}

/// A resource in the log.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields of the log, documented there")]
pub struct Resource {
    #[serde(rename = "type")]
    pub kind: String,
    pub path: Option<String>,
    pub path_hex: Option<String>,
    pub name: Option<String>,
    pub ip: Option<std::net::IpAddr>,
    pub port: Option<u16>,
    pub protocol: Option<String>,
}

impl Resource {
    /// As one word: a path, a name, or `ip:port/protocol` with an IPv6 address in brackets.
    pub fn words(&self) -> String {
        match (self.ip, self.port) {
            (Some(ip), Some(port)) => {
                format!("{}/{}", std::net::SocketAddr::new(ip, port), self.protocol.as_deref().unwrap_or("?"))
            }
            _ => self.path.as_deref().or(self.name.as_deref()).unwrap_or("?").to_owned(),
        }
    }
}

impl Plan {
    /// A session under `policy`, in `/w`.
    pub fn new(policy: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        ground::ready();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let file = Path::new(ground::ASIDE).join(format!("{name}.cedar"));
        fs::write(&file, policy).unwrap();
        let log = Path::new(ground::ASIDE).join(format!("{name}.jsonl"));
        let arguments = ["--workspace", ground::ROOT].map(OsString::from).into();
        Self { policy: file, mode: "enforce", arguments, log }
    }

    /// In record mode instead of enforce mode.
    pub fn record(mut self) -> Self {
        self.mode = "record";
        self
    }

    /// In another workspace.
    pub fn in_workspace(mut self, directory: &str) -> Self {
        self.arguments = ["--workspace", directory].map(OsString::from).into();
        self
    }

    /// With more arguments of `leash run`.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(OsString::from));
        self
    }

    /// The policy's file, for changing it while the session runs.
    pub fn policy_file(&self) -> &Path {
        &self.policy
    }

    /// The command that starts the session with `command` in it.
    pub fn command(&self, command: &[&str]) -> Command {
        let leash = std::env::var_os("LEASH_BIN").expect("`LEASH_BIN` is set by `cargo xtask test`");
        let mut started = Command::new(leash);
        started.arg("run").arg("--policy").arg(&self.policy).args(["--mode", self.mode]).arg("--log").arg(&self.log);
        started.args(&self.arguments).arg("--").args(command).stdin(Stdio::null()).current_dir(ground::ROOT);
        for path in [ground::ROOT, ground::ASIDE] {
            user::hand_over(path);
        }
        user::act(&mut started);
        started
    }

    /// Starts `command` in a session.
    pub fn start(&self, command: &[&str]) -> Running {
        self.start_prepared(self.command(command))
    }

    /// Starts a session by what [`Plan::command`] gave.
    pub fn start_prepared(&self, mut command: Command) -> Running {
        let (stdout, stderr) = (self.log.with_extension("out"), self.log.with_extension("err"));
        command.stdout(fs::File::create(&stdout).unwrap()).stderr(fs::File::create(&stderr).unwrap());
        let child = command.spawn().expect("start leash");
        Running { child, log: self.log.clone(), stdout, stderr }
    }

    /// Runs `command` in a session.
    pub fn run(&self, command: &[&str]) -> Run {
        self.start(command).finish()
    }

    /// Performs attempts in a session, one after the other or all at once.
    pub fn perform(&self, attempts: &[Attempt], parallel: bool) -> (Run, Vec<Outcome>) {
        let running = self.start_attempts(attempts, parallel);
        let run = running.finish();
        let outcomes = ground::outcomes(&run.stdout);
        assert_eq!(outcomes.len(), attempts.len(), "leash run ended with {}:\n{}", run.status, run.stderr);
        (run, outcomes)
    }

    /// Starts attempts in a session.
    pub fn start_attempts(&self, attempts: &[Attempt], parallel: bool) -> Running {
        let file = ground::write_attempts(attempts);
        let file = file.to_str().unwrap();
        let command = [ground::ATTEMPT, "batch", file, "--parallel"];
        self.start(if parallel { &command } else { &command[..3] })
    }
}

impl Running {
    /// Process id of `leash run`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The records so far, without a last line that is still being written.
    pub fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the session is there and returns the directory of its cgroup.
    pub fn cgroup(&self) -> PathBuf {
        let id = ground::await_some("the session's start", || {
            let record = self.records().into_iter().next()?;
            Some(record["session"].as_str().expect("an id").to_owned())
        });
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let hierarchy = mounts.lines().find(|line| line.starts_with("cgroup2 ")).expect("a cgroup v2 mount");
        Path::new(hierarchy.split(' ').nth(1).unwrap()).join("leash").join(id)
    }

    /// Tells Leash to read the policy again, and waits for the record of it. Returns whether the policy was accepted.
    pub fn reload(&self) -> bool {
        // Under load the log grows fast: only what is new is read, and only lines that can be the record are parsed.
        let mut log = fs::File::open(&self.log).unwrap();
        log.seek(SeekFrom::End(0)).unwrap();
        let leash = nix::unistd::Pid::from_raw(self.pid() as i32);
        nix::sys::signal::kill(leash, nix::sys::signal::Signal::SIGHUP).unwrap();
        let mut text = Vec::new();
        ground::await_some("the reload", || {
            log.read_to_end(&mut text).unwrap();
            let end = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
            let lines: Vec<u8> = text.drain(..end).collect();

            String::from_utf8_lossy(&lines).lines().find(|line| line.contains("\"policy_reload\"")).map(|line| {
                // The first line may be the end of one that was being written.
                line.contains("\"ok\":true")
            })
        })
    }

    /// Waits for the end of one whose daemon was killed, which may leave a log without an end.
    pub fn abandon(mut self) {
        self.child.wait().unwrap();
    }

    /// Waits for the end and reads the log.
    pub fn finish(mut self) -> Run {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begin.elapsed() > LIMIT {
                let _ = self.child.kill();
                panic!("the session did not end:\n{}", fs::read_to_string(&self.stderr).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let stderr = String::from_utf8_lossy(&fs::read(&self.stderr).unwrap()).into_owned();
        let text = fs::read_to_string(&self.log).unwrap_or_else(|error| panic!("no log ({error}), status {status}:\n{stderr}"));
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
        for (seq, record) in records.iter().enumerate() {
            assert_eq!(record["seq"], seq, "the log has a gap");
        }
        let of = |kind: &str| records.iter().filter(|record| record["type"] == kind).cloned().collect::<Vec<_>>();
        let (starts, ends) = (of("session_start"), of("session_end"));
        assert_eq!((starts.len(), ends.len()), (1, 1), "status {status}:\n{stderr}");
        let events = of("event").into_iter().map(|event| serde_json::from_value(event).expect("an event")).collect();
        let (start, end) = (starts[0].clone(), ends[0].clone());
        let run = Run { status, stdout: fs::read(&self.stdout).unwrap(), stderr, events, start, end, records };
        run.assert_accounts();
        run
    }
}

impl Drop for Running {
    /// A test that failed leaves no session behind: it ends with its daemon.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Run {
    /// The counts of a verdict in the last record: performed, recorded, folded, dropped.
    pub fn totals(&self, verdict: &str) -> [u64; 4] {
        let counts = &self.end["totals"][verdict];
        ["performed", "recorded", "folded", "dropped"]
            .map(|name| counts[name].as_u64().unwrap_or_else(|| panic!("no {name}: {counts}")))
    }

    /// The accounting equation, which holds for every session: what was performed was recorded, folded or dropped, and the log's
    /// own lines say the same.
    fn assert_accounts(&self) {
        for verdict in ["allow", "deny"] {
            let [performed, recorded, folded, dropped] = self.totals(verdict);
            assert_eq!(performed, recorded + folded + dropped, "{verdict}: {}", self.end);
            let events = self.events.iter().filter(|event| event.verdict == verdict);
            let counted: u64 = events.clone().map(|event| event.count).sum();
            assert_eq!(counted, recorded + folded, "{verdict}: the log's counts against {}", self.end);
            if verdict == "deny" {
                assert!(events.clone().all(|event| event.count == 1), "a denial was folded");
                assert_eq!(folded, 0, "a denial was folded: {}", self.end);
            }
        }
    }

    /// Denials of `action` on `resource` (as [`Resource::words`] gives it).
    pub fn denials<'a>(&'a self, action: &'a str, resource: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events
            .iter()
            .filter(move |event| event.verdict == "deny" && event.action == action && event.resource.words() == resource)
    }

    /// All denials as text, for messages.
    pub fn denials_text(&self) -> String {
        let denials = self.events.iter().filter(|event| event.verdict == "deny");
        denials
            .map(|e| format!("  {} {} {:?} {:?} errno {}\n", e.action, e.resource.words(), e.policies, e.reason, e.errno))
            .collect()
    }
}

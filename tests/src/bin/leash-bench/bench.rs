//! Sessions to measure: `leash run` in directories of this run's own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use std::os::unix::process::CommandExt;

use anyhow::{Context, bail, ensure};
use nix::mount::{MsFlags, mount};

use crate::figure::Figure;
use crate::policies::reload_rules;
use crate::workload::{Flipped, Opened, monotonic_ns};

/// Directories with policies and logs, and `leash` to run things in them.
pub(crate) struct Bench {
    backend: &'static str,
    /// An ordinary user whose sessions they are; root's otherwise.
    user: Option<u32>,
    /// The workspace of the sessions, in memory: an emulated machine's disk costs more than what is measured.
    directory: tempfile::TempDir,
    /// Policies, logs and programs, where no session can write.
    outside: tempfile::TempDir,
    pub(crate) leash: PathBuf,
    /// This program.
    pub(crate) this: PathBuf,
}

/// Gives this process a mount namespace of its own, which goes with it.
pub(crate) fn isolate() -> anyhow::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?)
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What is left goes with the mount namespace.
        let _ = nix::mount::umount2(self.directory.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

impl Bench {
    /// Makes the directories; [`isolate`] must have been called.
    pub(crate) fn new(leash: &Path, backend: &'static str, user: Option<u32>) -> anyhow::Result<Self> {
        let temporary = |parent: &str| tempfile::Builder::new().prefix("leash-bench-").tempdir_in(parent);
        let (directory, outside) = (temporary("/var/tmp")?, temporary("/var/lib")?);
        mount(Some("leash-bench"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .with_context(|| format!("mounting a tmpfs on `{}`", directory.path().display()))?;
        let copy = |from: &Path, name: &str| -> anyhow::Result<PathBuf> {
            // A user need not be able to reach where they were built.
            let to = outside.path().join(name);
            std::fs::copy(from, &to).with_context(|| format!("copying `{}`", from.display()))?;
            Ok(to)
        };
        let (leash, this) = (copy(leash, "leash")?, copy(&std::env::current_exe()?, "leash-bench")?);
        let bench = Self { backend, user, directory, outside, leash, this };
        bench.hand_over(bench.workspace())?;
        bench.hand_over(bench.outside.path())?;
        Ok(bench)
    }

    pub(crate) fn workspace(&self) -> &Path {
        self.directory.path()
    }

    /// Gives the user of the sessions what is at `path`.
    pub(crate) fn hand_over(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(user) = self.user {
            let status = Command::new("chown").args(["-RPh", &format!("{user}:{user}")]).arg(path).status()?;
            ensure!(status.success(), "chown of `{}` ended with {status}", path.display());
        }
        Ok(())
    }

    /// A policy or log of this name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.outside.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        self.write_to(self.path(name), text)
    }

    /// A file that the workloads open.
    pub(crate) fn open_me(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.write_to(self.workspace().join(name), name)
    }

    fn write_to(&self, path: PathBuf, text: &str) -> anyhow::Result<PathBuf> {
        std::fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))?;
        Ok(path)
    }

    /// `program` as the user of the sessions.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.stdin(Stdio::null());
        command
    }

    /// `leash run` with these options over the workspace.
    pub(crate) fn session(&self, options: &[&str], log: &Path) -> Command {
        let mut command = self.command(&self.leash);
        command.args(["-q", "run", "--backend", self.backend]).args(options).arg("--log").arg(log);
        command.arg("--workspace").arg(self.workspace()).arg("--");
        command
    }

    /// `leash run` with one policy file, over a workspace that holds the workload's files.
    pub(crate) fn run(&self, policy: &Path, log: &Path, workload: &[&str]) -> anyhow::Result<Command> {
        let policy = policy.to_str().context("a path that isn't UTF-8")?;
        let mut command = self.session(&["--policy", policy], log);
        command.arg(&self.this).args(workload);
        Ok(command)
    }

    /// What a workload printed that succeeded.
    pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
        let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {command:?}"))?;
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Nanoseconds of an open and close in a session; leaves no log.
    pub(crate) fn governed_loop(&self, policy: &Path, workload: &[&str]) -> anyhow::Result<f64> {
        let log = self.path("open-close.jsonl");
        let nanoseconds = Self::output(&mut self.run(policy, &log, workload)?)?.trim().parse()?;
        std::fs::remove_file(log)?;
        Ok(nanoseconds)
    }

    /// Nanoseconds of an open and close without Leash.
    pub(crate) fn free_loop(&self, workload: &[&str]) -> anyhow::Result<f64> {
        Ok(Self::output(self.command(&self.this).args(workload))?.trim().parse()?)
    }

    pub(crate) fn reload(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let directory = self.workspace().to_str().context("a path that isn't UTF-8")?;
        for name in ["flips", "allowed", "denied"] {
            self.open_me(name)?;
        }
        let policy = self.write("reload.cedar", &reload_rules(directory, false))?;
        let mut command = self.run(&policy, &self.path("reload.jsonl"), &["flip", directory])?;
        let session = Waiting::start(&mut command, "ready")?;
        self.write("reload.cedar", &reload_rules(directory, true))?;
        let asked_ns = monotonic_ns()?;
        nix::sys::signal::kill(session.pid()?, nix::sys::signal::Signal::SIGHUP)?;
        let seen: Flipped = serde_json::from_str(&session.finish()?)?;
        let milliseconds = (seen.first_new_ns.saturating_sub(asked_ns)) as f64 / 1e6;
        figures.push(Figure::at_most("reload of 1,000 policies, as seen by a running session", milliseconds, "ms", 100.0));
        figures.push(Figure::holds("no gap during the reload", seen.gaps == 0 && seen.first_new_ns != 0));
        Ok(())
    }

    pub(crate) fn accounting(&self, opens: u64, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let directory = self.workspace().to_str().context("a path that isn't UTF-8")?;
        for file in 0..9 {
            self.open_me(&format!("allowed-{file}"))?;
        }
        self.open_me("denied")?;
        let policy = self.write(
            "accounting.cedar",
            &format!("permit (principal, action, resource);\n@id(\"denied\") forbid (principal, action == Action::\"FileRead\", resource == File::\"{directory}/denied\");\n"),
        )?;
        let log = self.path("accounting.jsonl");
        let each = (opens / 4).to_string();
        let opened: Opened =
            serde_json::from_str(&Self::output(&mut self.run(&policy, &log, &["opens", directory, "4", &each])?)?)?;
        let (mut allowed, mut denied, mut end) = (0, 0, None);
        for line in BufReader::new(std::fs::File::open(&log)?).lines() {
            let record: Record = serde_json::from_str(&line?)?;
            match record.verdict.as_deref() {
                Some("allow") => allowed += record.count,
                Some("deny") if record.policies == serde_json::json!(["denied"]) => denied += record.count,
                Some("deny") => bail!("an unexpected denial, by {}", record.policies),
                _ => {}
            }
            end = end.or(record.totals);
        }
        let end = end.context("the log has no `session_end`")?;
        let mut exact = true;
        for (counts, opened) in [(&end.allow, opened.allowed), (&end.deny, opened.denied)] {
            exact &= counts.performed == counts.recorded + counts.folded + counts.dropped && counts.performed >= opened;
        }
        exact &= end.allow.performed == allowed + end.allow.dropped;
        figures.push(Figure::holds(format!("{opens} opens by four processes: performed = recorded + folded + dropped"), exact));
        figures.push(Figure::holds(
            format!("{opens} opens by four processes: each of {} denials logged", opened.denied),
            denied == opened.denied && end.deny.dropped == 0,
        ));
        figures.push(Figure::reported("allowed records dropped and counted", end.allow.dropped as f64, "records"));
        Ok(())
    }

    /// Resident memory of Leash's own processes with one session, in MiB.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        let mut command = self.session(&[], &self.path("memory.jsonl"));
        let mut session = Waiting::start(command.args(["sh", "-c", "echo ready; exec sleep 120"]), "ready")?;
        let kilobytes = resident_kilobytes(session.child.id());
        session.stop()?;
        Ok(kilobytes? / 1024.0)
    }

    /// Milliseconds of a session that does nothing.
    pub(crate) fn start(&self) -> anyhow::Result<f64> {
        let log = self.path("true.jsonl");
        let start = std::time::Instant::now();
        Self::output(self.session(&[], &log).arg("true"))?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        std::fs::remove_file(log)?;
        Ok(milliseconds)
    }
}

/// What the accounting reads of a record of the log.
#[derive(serde::Deserialize)]
struct Record {
    verdict: Option<String>,
    #[serde(default)]
    policies: serde_json::Value,
    #[serde(default)]
    count: u64,
    totals: Option<Totals>,
}

/// The totals of `session_end`.
#[derive(serde::Deserialize)]
struct Totals {
    allow: Counts,
    deny: Counts,
}

#[derive(serde::Deserialize)]
struct Counts {
    performed: u64,
    recorded: u64,
    folded: u64,
    dropped: u64,
}

/// Resident memory of `pid` and of those of its children that run the same program, in KiB.
fn resident_kilobytes(pid: u32) -> anyhow::Result<f64> {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    let mut sum = 0.0;
    let mut waiting = vec![pid];
    while let Some(pid) = waiting.pop() {
        if !std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program) {
            continue;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let pss = status.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
        sum += pss.trim().trim_end_matches(" kB").parse::<f64>()?;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let children = std::fs::read_to_string(task?.path().join("children"))?;
            waiting.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    Ok(sum)
}

/// A workload that said a word and goes on.
pub(crate) struct Waiting {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Waiting {
    pub(crate) fn start(command: &mut Command, word: &str) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut waiting = Self { child, output };
        let mut line = String::new();
        waiting.output.read_line(&mut line)?;
        if line.trim() != word {
            let _ = waiting.stop();
            bail!("{command:?} said `{}`, not `{word}`", line.trim());
        }
        Ok(waiting)
    }

    fn pid(&self) -> anyhow::Result<nix::unistd::Pid> {
        Ok(nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// The next line, once the workload has ended by itself.
    fn finish(mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the workload ended with {status}");
        Ok(line)
    }

    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut input) = self.child.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        nix::sys::signal::kill(self.pid()?, nix::sys::signal::Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }
}

//! Figures of governed processes: `leash run` on this kernel, against the same program without Leash.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::figure::{Figure, median};
use crate::policies::{path_rules, reload_rules};
use crate::workload::{Flipped, Opened, monotonic_ns};

const PAIRS: u64 = 20_000;
const ROUNDS: usize = 7;
const STARTS: usize = 9;

/// A directory of this run's own with policies, and `leash` to run things in it.
struct Bench<'a> {
    leash: &'a Path,
    /// The workspace of the sessions.
    directory: tempfile::TempDir,
    /// Policies and logs, where no session can write.
    outside: tempfile::TempDir,
    this: PathBuf,
}

/// All figures of this kernel.
pub(crate) fn figures(leash: &Path, opens: u64) -> anyhow::Result<Vec<Figure>> {
    let temporary = |parent: &str| tempfile::Builder::new().prefix("leash-bench-").tempdir_in(parent);
    let bench =
        Bench { leash, directory: temporary("/var/tmp")?, outside: temporary("/var/lib")?, this: std::env::current_exe()? };
    mount_memory(bench.directory.path())?;
    let mut figures = Vec::new();
    bench.open_close(&mut figures)?;
    bench.reload(&mut figures)?;
    bench.accounting(opens, &mut figures)?;
    bench.starts(&mut figures)?;
    nix::mount::umount(bench.directory.path())?;
    Ok(figures)
}

/// Puts a file system in memory there, for this process and those that it starts: an emulated machine's disk costs more than what is
/// measured.
fn mount_memory(directory: &Path) -> anyhow::Result<()> {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("leash-bench"), directory, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting a tmpfs on `{}`", directory.display()))
}

impl Bench<'_> {
    /// A policy or log of this name.
    fn path(&self, name: &str) -> PathBuf {
        self.outside.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        self.write_to(self.path(name), text)
    }

    /// A file that the workloads open.
    fn open_me(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.write_to(self.directory.path().join(name), name)
    }

    fn write_to(&self, path: PathBuf, text: &str) -> anyhow::Result<PathBuf> {
        std::fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))?;
        Ok(path)
    }

    /// `leash run` with one policy file, over a workspace that holds the workload's files.
    fn run(&self, policy: &Path, log: &Path, workload: &[&str]) -> Command {
        let mut command = Command::new(self.leash);
        command.args(["-q", "run", "--policy"]).arg(policy).arg("--log").arg(log);
        command.arg("--workspace").arg(self.directory.path()).arg("--").arg(&self.this).args(workload);
        command.stdin(Stdio::null());
        command
    }

    fn output(command: &mut Command) -> anyhow::Result<String> {
        let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {command:?}"))?;
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    fn open_close(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let ten = self.write("ten.cedar", &path_rules(10))?;
        let many = self.write("many.cedar", &path_rules(10_000))?;
        let file = self.open_me("opened")?;
        let file = file.to_str().context("a path that isn't UTF-8")?;
        let iterations = PAIRS.to_string();
        let workload = ["loop", file, &iterations];
        let free = || -> anyhow::Result<f64> { Ok(Self::output(Command::new(&self.this).args(workload))?.trim().parse()?) };
        let governed = |policy: &Path| -> anyhow::Result<f64> {
            let log = self.path("open-close.jsonl");
            let nanoseconds = Self::output(&mut self.run(policy, &log, &workload))?.trim().parse()?;
            std::fs::remove_file(log)?;
            Ok(nanoseconds)
        };
        let (mut ten_over, mut many_over, mut outside_over) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // No session, so no program is attached.
            let before = free()?;
            let log = self.path("outside.jsonl");
            let mut session = Waiting::start(&mut self.run(&ten, &log, &["wait"]), "ready")?;
            let samples = (|| Ok::<_, anyhow::Error>((governed(&ten)?, governed(&many)?, free()?)))();
            session.stop()?;
            std::fs::remove_file(log)?;
            let (ten, many, outside) = samples?;
            let baseline = (before + free()?) / 2.0;
            ten_over.push(ten / baseline);
            many_over.push(many / baseline);
            outside_over.push(outside / baseline);
        }
        figures.push(Figure::at_most(
            "open+close, enforcing 10 rules, over no LSM program",
            median(&mut ten_over),
            "ratio",
            1.25,
        ));
        figures.push(Figure::at_most(
            "open+close, enforcing 10,000 rules, over no LSM program",
            median(&mut many_over),
            "ratio",
            1.25,
        ));
        figures.push(Figure::at_most(
            "open+close outside every session, over no LSM program",
            median(&mut outside_over),
            "ratio",
            1.05,
        ));
        Ok(())
    }

    fn reload(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let directory = self.directory.path().to_str().context("a path that isn't UTF-8")?;
        for name in ["flips", "allowed", "denied"] {
            self.open_me(name)?;
        }
        let policy = self.write("reload.cedar", &reload_rules(directory, false))?;
        let mut command = self.run(&policy, &self.path("reload.jsonl"), &["flip", directory]);
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

    fn accounting(&self, opens: u64, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let directory = self.directory.path().to_str().context("a path that isn't UTF-8")?;
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
            serde_json::from_str(&Self::output(&mut self.run(&policy, &log, &["opens", directory, "4", &each]))?)?;
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

    fn starts(&self, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let (mut leash, mut bwrap) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let start = Instant::now();
            let log = self.path("true.jsonl");
            let mut command = Command::new(self.leash);
            command.args(["-q", "run", "--log"]).arg(&log).arg("--workspace").arg(self.directory.path()).args(["--", "true"]);
            Self::output(command.stdin(Stdio::null()))?;
            leash.push(start.elapsed().as_secs_f64() * 1e3);
            std::fs::remove_file(log)?;
            let start = Instant::now();
            Self::output(Command::new("bwrap").args([
                "--ro-bind",
                "/",
                "/",
                "--dev",
                "/dev",
                "--proc",
                "/proc",
                "--unshare-all",
                "true",
            ]))?;
            bwrap.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let (leash, bwrap) = (median(&mut leash), median(&mut bwrap));
        figures.push(Figure::reported("`leash run -- true`", leash, "ms"));
        figures.push(Figure::reported("`leash run -- true` over `bwrap … true`", leash / bwrap, "ratio"));

        let mut command = Command::new(self.leash);
        command.args(["-q", "run", "--log"]).arg(self.path("memory.jsonl")).arg("--workspace").arg(self.directory.path());
        command.args(["--", "sh", "-c", "echo ready; exec sleep 120"]).stdin(Stdio::null());
        let mut session = Waiting::start(&mut command, "ready")?;
        let kilobytes = resident_kilobytes(session.child.id())?;
        session.stop()?;
        figures.push(Figure::reported(
            "memory of the daemon with one session (Leash's own processes)",
            kilobytes / 1024.0,
            "MiB",
        ));
        Ok(())
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
struct Waiting {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Waiting {
    fn start(command: &mut Command, word: &str) -> anyhow::Result<Self> {
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

    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut input) = self.child.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        nix::sys::signal::kill(self.pid()?, nix::sys::signal::Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }
}

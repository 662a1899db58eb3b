//! Suites on this machine's own kernel: what needs no session, and the supervised backend's, in namespaces of their own.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::plan::{Job, Place, Run, Subject};
use super::tally::Tally;
use super::{Args, ground, report};
use crate::{build, process};

/// Where the suites mount a file system of their own; a machine that doesn't have it is left without it.
const MOUNT_POINT: &str = "/w";

/// What has to hold for any suite of the supervised backend here.
pub(super) struct Here {
    /// Major and minor number of the kernel.
    kernel: String,
    made: bool,
}

impl Here {
    pub(super) fn new() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the suites of the supervised backend need root: run `cargo xtask test` as root");
        }
        let release = process::output(Command::new("uname").arg("-r"))?;
        let mut numbers = release.split('.');
        let (major, minor) = numbers.next().zip(numbers.next()).context("the kernel's release has no two numbers")?;
        let made = !std::path::Path::new(MOUNT_POINT).exists();
        std::fs::create_dir_all(MOUNT_POINT).with_context(|| format!("couldn't create {MOUNT_POINT}"))?;
        Ok(Self { kernel: format!("{major}.{minor}"), made })
    }

    /// Runs a job's suites, one after the other.
    pub(super) fn run(&self, args: &Args, job: &Job) -> Result<Vec<Tally>> {
        job.runs.iter().map(|run| self.one(args, run)).collect()
    }

    fn one(&self, args: &Args, run: &Run) -> Result<Tally> {
        let words = ground::command(run, Place::Here)?;
        let [program, arguments @ ..] = words.as_slice() else { bail!("`{}` has no command", run.name()) };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&run.suite.directory).envs(ground::environment(run, &self.kernel, args.binary()));
        if run.subject == Subject::Host {
            // As cargo would run it.
            command.env("CARGO_MANIFEST_DIR", &run.suite.directory);
        }
        let (text, ended_well, elapsed) = listen(&mut command)?;
        let tally = Tally::of(run, &text, ended_well, elapsed);
        report::suite(Place::Here, run, &tally, &text);
        Ok(tally)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if self.made {
            // One that is in use is somebody else's by now.
            let _ = std::fs::remove_dir(MOUNT_POINT);
        }
    }
}

/// The examples of the documentation, which cargo builds and runs.
pub(super) fn examples() -> Result<Tally> {
    let (text, ended_well, elapsed) = listen(build::cargo().args(["test", "--quiet", "--workspace", "--doc"]))?;
    let mut tally = Tally::parse(&text);
    tally.elapsed = elapsed;
    tally.expect_end(ended_well, "documentation examples");
    report::examples(&tally, &text);
    Ok(tally)
}

/// What a command writes to both its outputs, whether it succeeded, and how long it took.
fn listen(command: &mut Command) -> Result<(String, bool, std::time::Duration)> {
    let start = Instant::now();
    let (mut reader, writer) = std::io::pipe()?;
    let display = process::display(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("couldn't start `{display}`"))?;
    // The ends that we wrote to are the command's alone from here on.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut text)?;
    let ended_well = child.wait()?.success();
    Ok((String::from_utf8_lossy(&text).into_owned(), ended_well, start.elapsed()))
}

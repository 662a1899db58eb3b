//! Figures of the supervised backend, on this machine's own kernel.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::bench::Bench;
use crate::figure::{Figure, median};
use crate::policies::path_rules;

const PAIRS: u64 = 20_000;
const ROUNDS: usize = 7;
const STARTS: usize = 15;
const WORKS: usize = 5;
const NETWORK: &str = r#"
permit(principal, action, resource);
forbid(principal, action in [Action::"Network"], resource is Endpoint) when { resource.ip.isInRange(ip("10.0.0.0/8")) };
"#;
/// A number that is nobody's.
const USER: u32 = 54321;

/// All figures of this backend.
pub(crate) fn figures(leash: &Path, projects: &Path, opens: u64) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let bench = Bench::new(leash, "supervised", None)?;
    open_close(&bench, &mut figures)?;
    network(&bench, &mut figures)?;
    bench.reload(&mut figures)?;
    bench.accounting(opens, &mut figures)?;
    figures.push(Figure::at_most(
        "memory of the supervisor with one session (Leash's own processes)",
        bench.memory()?,
        "MiB",
        30.0,
    ));
    for (who, user, start_ms, work) in [("root", None, 100.0, 1.15), ("an ordinary user", Some(USER), 60.0, 1.25)] {
        let bench = Bench::new(leash, "supervised", user)?;
        let mut samples = Vec::new();
        for _ in 0..STARTS {
            samples.push(bench.start()?);
        }
        figures.push(Figure::at_most(format!("`leash run -- true`, {who}"), median(&mut samples), "ms", start_ms));
        for project in ["cargo", "clone", "node"] {
            let ratio = work_ratio(&bench, &projects.join(project), project)?;
            figures.push(Figure::at_most(format!("project `{project}` over ungoverned, {who}"), ratio, "ratio", work));
        }
        let floor = format!("project `clone` under a supervisor that lets all pass, over ungoverned, {who}");
        figures.push(Figure::reported(floor, clone_floor_ratio(&bench, projects)?, "ratio"));
        let ratio = work_ratio(&bench, &projects.join("git"), "git")?;
        figures.push(Figure::reported(format!("project `git`, 40 short commands, over ungoverned, {who}"), ratio, "ratio"));
    }
    for figure in &mut figures {
        figure.name_backend("supervised");
    }
    Ok(figures)
}

/// What the network costs: a datagram without an address, which only the kernel's programs are asked about, and a connection, which the
/// supervisor makes.
fn network(bench: &Bench, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let policy = bench.write("network.cedar", NETWORK)?;
    for (name, workload, iterations) in
        [("datagram on a connected socket", "sends", "200000"), ("TCP connection on loopback", "connects", "2000")]
    {
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let workload = [workload, iterations];
            let free = bench.free_loop(&workload)?;
            ratios.push(bench.governed_loop(&policy, &workload)? / free);
        }
        figures.push(Figure::reported(format!("{name} over ungoverned"), median(&mut ratios), "ratio"));
    }
    Ok(())
}

/// Caller and supervisor on one processor, beside what a supervisor costs that lets every call pass.
fn open_close(bench: &Bench, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let own = sched_getaffinity(Pid::this())?;
    let first = (0..CpuSet::count()).find(|&cpu| own.is_set(cpu) == Ok(true)).context("no processor")?;
    let mut one = CpuSet::new();
    one.set(first)?;
    let policy = bench.write("ten.cedar", &path_rules(10))?;
    let file = bench.open_me("opened")?;
    let file = file.to_str().context("a path that isn't UTF-8")?;
    let iterations = PAIRS.to_string();
    let (free, floor) = (["loop", file, &iterations], ["floor", file, &iterations]);
    let (mut over_free, mut floor_over_free, mut over_floor) = (Vec::new(), Vec::new(), Vec::new());
    sched_setaffinity(Pid::this(), &one)?;
    for _ in 0..ROUNDS {
        let (free, floor, governed) = (bench.free_loop(&free)?, bench.free_loop(&floor)?, bench.governed_loop(&policy, &free)?);
        over_free.push(governed / free);
        floor_over_free.push(floor / free);
        over_floor.push(governed / floor);
    }
    sched_setaffinity(Pid::this(), &own)?;
    figures.push(Figure::reported("open+close over ungoverned", median(&mut over_free), "ratio"));
    figures.push(Figure::reported(
        "open+close under a supervisor that lets all pass, over ungoverned",
        median(&mut floor_over_free),
        "ratio",
    ));
    figures.push(Figure::at_most("open+close over a supervisor that lets all pass", median(&mut over_floor), "ratio", 1.5));
    Ok(())
}

/// The time that a project's `run.sh` takes under the profile `workspace`, over its time ungoverned; the start of the session is a
/// figure of its own.
fn work_ratio(bench: &Bench, project: &Path, name: &str) -> anyhow::Result<f64> {
    let mut ratios = Vec::new();
    for _ in 0..WORKS {
        let free = free_seconds(bench, project, name, "timed")?;
        let (place, log) = fresh(bench, project, name)?;
        // The profile doesn't know the directory of the program that takes the time.
        let permit = bench
            .write("timed.cedar", &format!("permit (principal, action, resource == File::\"{}\");", bench.this.display()))?;
        let permit = permit.to_str().context("a path that isn't UTF-8")?;
        let mut command = bench.session(&["--profile", "workspace", "--policy", permit], &log);
        let governed = seconds(command.arg(&bench.this).arg("timed").arg(&place), bench)?;
        std::fs::remove_file(log)?;
        ratios.push(governed / free);
    }
    Ok(median(&mut ratios))
}

/// The same of the clone, under a supervisor that lets every call pass: what no supervisor of this kind can do without.
fn clone_floor_ratio(bench: &Bench, projects: &Path) -> anyhow::Result<f64> {
    let (project, name) = (projects.join("clone"), "clone");
    let mut ratios = Vec::new();
    for _ in 0..WORKS {
        let free = free_seconds(bench, &project, name, "timed")?;
        ratios.push(free_seconds(bench, &project, name, "timed-floor")? / free);
    }
    Ok(median(&mut ratios))
}

/// The time that a project takes without Leash. `how`: the command of this program that takes it.
fn free_seconds(bench: &Bench, project: &Path, name: &str, how: &str) -> anyhow::Result<f64> {
    let (place, _) = fresh(bench, project, name)?;
    seconds(bench.command(&bench.this).arg(how).arg(&place), bench)
}

/// A copy of the project in the workspace, and where the session's log goes.
fn fresh(bench: &Bench, project: &Path, name: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let place = bench.workspace().join(name);
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    let status = Command::new("cp").arg("-R").arg(project).arg(&place).status()?;
    ensure!(status.success(), "cp ended with {status}");
    if place.join("prepare.sh").exists() {
        let status = Command::new("sh").arg("prepare.sh").current_dir(&place).status()?;
        ensure!(status.success(), "prepare.sh ended with {status}");
    }
    std::fs::create_dir_all(bench.workspace().join("home"))?;
    bench.hand_over(bench.workspace())?;
    Ok((place, bench.path("work.jsonl")))
}

fn seconds(command: &mut Command, bench: &Bench) -> anyhow::Result<f64> {
    command.env_clear().env("HOME", bench.workspace().join("home")).env("LANG", "C.UTF-8").env("TERM", "dumb");
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next_back().context("no time")?.parse()?)
}

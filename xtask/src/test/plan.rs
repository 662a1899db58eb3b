//! Which suites run where, and which of their tests don't: each left-out test has its full name and its reason here.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, bail};

use super::ground::Way;
use super::suite::Suite;
use super::{Args, Backend};
use crate::kernel::Series;
use crate::{paths, process};

/// A suite in one place, as one user, with the tests that run there.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) suite: Suite,
    pub(super) subject: Subject,
    /// By their full names; never empty.
    pub(super) tests: Vec<String>,
    /// Tests of the suite that aren't among them.
    pub(super) left_out: usize,
}

/// What a suite is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// No session: unit tests, the policy compiler, the command line.
    Host,
    BpfLsm,
    Supervised(Way),
}

impl Run {
    /// For people.
    pub(super) fn name(&self) -> String {
        match self.subject {
            Subject::Host | Subject::BpfLsm => self.suite.name.clone(),
            Subject::Supervised(way) => format!("{} (supervised, {})", self.suite.name, way.words()),
        }
    }
}

/// Runs that share one machine, or this one, in their order.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    Machine(Series),
}

impl Place {
    pub(super) fn name(self) -> String {
        match self {
            Self::Here => "this machine".to_owned(),
            Self::Machine(series) => format!("kernel {}", series.name()),
        }
    }
}

/// What runs, and what doesn't.
pub(super) struct Plan {
    /// Those that take longest first.
    pub(super) jobs: Vec<Job>,
    /// For people: what another command, or another commit, runs.
    pub(super) not_run: Vec<String>,
}

/// Tests that a place, a user or a kind of session can't have.
struct LeftOut {
    suite: &'static str,
    test: &'static str,
    when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// They need throw-away machines: loop devices, every kind of IPv6 route, BPF LSM for `doctor`, a process 1 that lets its namespaces
    /// be opened.
    Here,
    /// They don't hold in the machines as those are (docs/plan.md).
    InMachine,
    /// They need what an ordinary user doesn't have: other users, cgroups, the tools below root's home directory, and what can't be tried
    /// without Leash.
    NotRoot,
    /// They are about the container itself.
    Bare,
}

const fn out(when: When, suite: &'static str, test: &'static str) -> LeftOut {
    LeftOut { suite, test, when }
}

const LEFT_OUT: &[LeftOut] = &[
    out(When::Here, "kernel_hooks", "extended_attributes"),
    out(When::Here, "kernel_hooks", "mounts_in_mounts"),
    out(When::Here, "kernel_hooks", "sockets"),
    out(When::Here, "kernel_redteam", "extended_attributes_are_asked"),
    out(When::Here, "kernel_redteam", "routes_lead_nowhere"),
    out(When::Here, "kernel_redteam", "the_container_keeps_what_paths_mean"),
    out(When::Here, "kernel_run", "doctor_finds_what_these_machines_have"),
    out(When::InMachine, "kernel_run", "a_cgroup_namespace_gets_the_supervised_backend"),
    out(When::NotRoot, "kernel_config", "a_configuration_file_gives_its_owner_no_more_than_they_have"),
    out(When::NotRoot, "kernel_run", "a_cgroup_namespace_gets_the_supervised_backend"),
    out(When::NotRoot, "kernel_run", "an_lsm_list_without_bpf_gets_the_supervised_backend"),
    out(When::NotRoot, "kernel_run", "another_user_can_be_named"),
    out(When::NotRoot, "kernel_run", "doctor_says_no_where_root_lacks_what_a_session_takes"),
    out(When::NotRoot, "kernel_hooks", "sockets"),
    out(When::NotRoot, "kernel_redteam", "routes_lead_nowhere"),
    out(When::NotRoot, "kernel_redteam", "the_container_keeps_what_paths_mean"),
    out(When::NotRoot, "kernel_sessions", "a_child_cgroup_made_later_is_inside"),
    out(When::NotRoot, "kernel_work", "rust_crate_offline"),
    out(When::Bare, "kernel_run", "an_ordinary_user_s_container_needs_a_user_namespace"),
    out(When::Bare, "supervised_backend", "the_systems_own_files_are_read_only"),
];

/// The agents' suite tests each of them; in machines, which are slow, one on each commit.
const AGENTS: (&str, [&str; 3]) = (
    "kernel_agents",
    [
        "mini_swe_agent_works_and_its_attacks_are_denied",
        "codex_works_and_its_attacks_are_denied",
        "gemini_works_and_its_attacks_are_denied",
    ],
);

/// Suites of whole programs, which ask the kernel nothing that the others don't: one of them on each commit.
const OF_PROGRAMS: [&str; 2] = ["kernel_agents", "kernel_work"];

/// What the kernels that don't run in full on a commit must pass all the same.
const SMOKE: [&str; 2] = ["kernel_hooks", "kernel_redteam"];
/// Suites of `supervised` that root's sessions must pass in the machine that runs in full: an emulated processor makes each call dear, and
/// all of them run here.
const SUPERVISED_IN_MACHINES: [&str; 2] = ["kernel_backends", "kernel_sessions"];
/// How long a suite takes in a machine, roughly and in seconds: it decides only in which order they begin and which machine they share.
const WEIGHTS: [(&str, u32); 13] = [
    ("kernel_accounting", 40),
    ("kernel_agents", 300),
    ("kernel_backends", 20),
    ("kernel_config", 30),
    ("kernel_differential", 60),
    ("kernel_hooks", 60),
    ("kernel_redteam", 90),
    ("kernel_run", 140),
    ("kernel_sandbox", 20),
    ("kernel_sessions", 90),
    ("kernel_terminal", 30),
    ("kernel_work", 380),
    ("supervised_backend", 120),
];

/// The number of this checkout's commits, which says whose turn it is; 0 where git doesn't know.
fn turn() -> usize {
    let mut git = Command::new("git");
    git.current_dir(paths::root()).args(["rev-list", "--count", "HEAD"]);
    process::output(&mut git).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

impl Plan {
    pub(super) fn make(args: &Args, suites: &[Suite], machines: usize) -> Result<Self> {
        let turn = turn();
        let mut plan = Self { jobs: Vec::new(), not_run: Vec::new() };
        check_names(suites)?;
        for series in args.kernels.clone().unwrap_or(Series::ALL.into()) {
            let full = args.kernels.is_some() || Series::ALL.get(turn % Series::ALL.len()) == Some(&series);
            plan.add_machines(args, suites, series, full, turn, machines)?;
        }
        if !args.kernel_only {
            plan.add_here(args, suites)?;
        }
        if plan.jobs.is_empty() {
            bail!("no suite has a test that matches: nothing would be tested");
        }
        Ok(plan)
    }

    fn add_here(&mut self, args: &Args, suites: &[Suite]) -> Result<()> {
        let supervised = Way::ALL.map(Subject::Supervised);
        for subject in supervised.into_iter().chain([Subject::Host]) {
            let is_its = |suite: &&Suite| match subject {
                Subject::Supervised(way) => suite.is_for_supervised() && way.runs(&suite.name),
                _ => suite.is_for_host(),
            };
            let runs: Result<Vec<_>> = suites.iter().filter(is_its).map(|suite| run(args, suite, Place::Here, subject)).collect();
            let runs: Vec<Run> = runs?.into_iter().flatten().collect();
            if !runs.is_empty() {
                self.jobs.push(Job { place: Place::Here, runs });
            }
        }
        Ok(())
    }

    /// The machines of one kernel: as many as can run at a time where it runs in full, so that they end together.
    fn add_machines(
        &mut self,
        args: &Args,
        suites: &[Suite],
        series: Series,
        full: bool,
        turn: usize,
        machines: usize,
    ) -> Result<()> {
        let place = Place::Machine(series);
        let mut subjects: Vec<(&Suite, Subject)> = Vec::new();
        let kernel_suites = || suites.iter().filter(|suite| suite.needs_kernel());
        if args.backend != Some(Backend::Supervised) {
            let programs = OF_PROGRAMS.get(turn / Series::ALL.len() % OF_PROGRAMS.len());
            let is_chosen = |suite: &&Suite| match suite.name.as_str() {
                name if !full => SMOKE.contains(&name),
                name if args.kernels.is_none() && OF_PROGRAMS.contains(&name) => programs == Some(&name),
                _ => true,
            };
            let (chosen, others): (Vec<&Suite>, Vec<&Suite>) = kernel_suites().partition(is_chosen);
            subjects.extend(chosen.into_iter().map(|suite| (suite, Subject::BpfLsm)));
            if !others.is_empty() {
                let names: Vec<&str> = others.iter().map(|suite| suite.name.as_str()).collect();
                self.not_run.push(format!("{}: {}", place.name(), names.join(" ")));
            }
        }
        match args.backend {
            Some(Backend::BpfLsm) => {}
            // Without a container a session takes Landlock's scopes, of Linux 6.12; that an older kernel refuses it is a test of `kernel_run`.
            Some(Backend::Supervised) => {
                let ways = Way::ALL.into_iter().filter(|way| *way != Way::Bare || series != Series::V6_1);
                let all = suites.iter().filter(|suite| suite.is_for_supervised());
                let pairs =
                    ways.flat_map(|way| all.clone().filter(move |suite| way.runs(&suite.name)).map(move |suite| (suite, way)));
                subjects.extend(pairs.map(|(suite, way)| (suite, Subject::Supervised(way))));
            }
            None if full => {
                let usual = kernel_suites().filter(|suite| SUPERVISED_IN_MACHINES.contains(&suite.name.as_str()));
                subjects.extend(usual.map(|suite| (suite, Subject::Supervised(Way::Root))));
            }
            None => {}
        }
        let mut runs = Vec::new();
        for (suite, subject) in subjects {
            let Some(mut run) = run(args, suite, place, subject)? else { continue };
            if args.kernels.is_none() && suite.name == AGENTS.0 {
                let chosen = AGENTS.1.get(turn / (Series::ALL.len() * OF_PROGRAMS.len()) % AGENTS.1.len());
                let all = run.tests.len();
                run.tests.retain(|test| !AGENTS.1.contains(&test.as_str()) || chosen.is_some_and(|chosen| chosen == test));
                run.left_out += all - run.tests.len();
                self.not_run.push(format!("{}: {} tests of {}", place.name(), all - run.tests.len(), AGENTS.0));
            }
            runs.push(run);
        }
        let share = if full { machines } else { 1 };
        self.jobs.extend(deal(runs, share).into_iter().map(|runs| Job { place, runs }));
        Ok(())
    }
}

fn weight(run: &Run) -> u32 {
    WEIGHTS.iter().find(|(name, _)| *name == run.suite.name).map_or(30, |(_, weight)| *weight)
}

/// Deals the runs out to so many machines, the longest first, each to the one that has least.
fn deal(mut runs: Vec<Run>, machines: usize) -> Vec<Vec<Run>> {
    runs.sort_by_key(|run| std::cmp::Reverse(weight(run)));
    let mut hands: Vec<(u32, Vec<Run>)> = vec![(0, Vec::new()); machines.max(1)];
    for run in runs {
        if let Some((sum, hand)) = hands.iter_mut().min_by_key(|(sum, _)| *sum) {
            *sum += weight(&run);
            hand.push(run);
        }
    }
    hands.into_iter().map(|(_, hand)| hand).filter(|hand| !hand.is_empty()).collect()
}

/// One suite in a place; nothing if none of its tests is asked for.
fn run(args: &Args, suite: &Suite, place: Place, subject: Subject) -> Result<Option<Run>> {
    if !suite.name.contains(&args.suite) {
        return Ok(None);
    }
    let way = match subject {
        Subject::Supervised(way) => way,
        Subject::Host | Subject::BpfLsm => Way::Root,
    };
    let applies = |when| match when {
        When::Here => place == Place::Here,
        When::InMachine => place != Place::Here,
        When::NotRoot => way != Way::Root,
        When::Bare => way == Way::Bare,
    };
    let is_out = |test: &str| LEFT_OUT.iter().any(|line| line.suite == suite.name && line.test == test && applies(line.when));
    let is_wanted = |test: &&String| args.filter.as_ref().is_none_or(|filter| test.contains(filter));
    let (left_out, tests): (Vec<String>, Vec<String>) =
        suite.tests()?.into_iter().filter(|test| is_wanted(&test)).partition(|test| is_out(test));
    let run = Run { suite: suite.clone(), subject, tests, left_out: left_out.len() };
    Ok((!run.tests.is_empty()).then_some(run))
}

/// A name in the lists above that no test has any more would leave out nothing, or worse, hide that something else was meant.
fn check_names(suites: &[Suite]) -> Result<()> {
    let named = LEFT_OUT.iter().map(|line| (line.suite, line.test));
    let agents = AGENTS.1.iter().map(|test| (AGENTS.0, *test));
    let unknown: BTreeSet<String> = named
        .chain(agents)
        .filter(|(name, test)| {
            let suite = suites.iter().find(|suite| suite.name == *name);
            !suite.is_some_and(|suite| suite.tests().is_ok_and(|tests| tests.iter().any(|found| found == test)))
        })
        .map(|(suite, test)| format!("{suite}::{test}"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    bail!("xtask/src/test/plan.rs leaves out tests that aren't there: {}", unknown.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Run {
        let suite = Suite { name: name.into(), program: "/t".into(), directory: "/w".into() };
        Run { suite, subject: Subject::BpfLsm, tests: vec!["t".into()], left_out: 0 }
    }

    #[test]
    fn suites_are_dealt_out_evenly() {
        let hands = deal(["kernel_run", "kernel_work", "kernel_hooks", "kernel_sandbox"].map(of).into(), 2);
        let sums: Vec<u32> = hands.iter().map(|hand| hand.iter().map(weight).sum()).collect();
        assert_eq!(sums, [380, 220]);
        assert_eq!(deal(vec![of("kernel_run")], 4).len(), 1);
    }
}

//! `cargo xtask test`: what can be tested on any machine is tested here, the rest on kernels of the matrix.
//!
//! Test programs of the crate `leash-tests` named `kernel_*` and `supervised_*` are about sessions. All are built once, here, together with
//! the `leash` that they test, and run as they are, here and in machines. Some jobs run at a time: the suites of a machine, or of a way in
//! which the supervised backend runs here.

mod ground;
mod here;
mod machine;
mod plan;
mod report;
mod suite;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use self::here::Here;
use self::plan::{Job, Place, Plan};
use self::tally::Tally;
use crate::kernel::Series;
use crate::steps::Steps;
use crate::{build, ebpf, paths, setup};

pub(crate) use self::suite::FEATURE;

/// More machines than this need more memory than a developer's machine may have.
const MOST_JOBS: usize = 4;
/// What a machine has, unless something else is asked for.
const MEMORY_MIB: u32 = 3072;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Every suite on these kernels: 6.1, 6.12, 7.2, `all` or `none` [default: one of them, by turns; hooks and red team on the others]
    #[arg(long = "kernel", value_name = "K", value_parser = parse_kernels)]
    kernels: Option<Kernels>,
    /// Leave out what runs on this machine's own kernel
    #[arg(long)]
    kernel_only: bool,
    /// Which backend's suites run on the kernels [default: bpf-lsm's, and two of supervised's as root]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Only the suites whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    suite: String,
    /// Only the tests whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Test `target/release/leash` instead of the one that is built with the tests
    #[arg(long)]
    release: bool,
    /// How many machines, or ways on this one, run at a time [default: as many as there are processors, at most 4]
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZero<usize>>,
    /// The memory of each machine
    #[arg(long, value_name = "MiB", default_value_t = MEMORY_MIB)]
    mem: u32,
}

impl Args {
    /// What runs on every change.
    pub(crate) fn usual() -> Self {
        Self {
            kernels: None,
            kernel_only: false,
            backend: None,
            suite: String::new(),
            filter: None,
            release: false,
            jobs: None,
            mem: MEMORY_MIB,
        }
    }

    fn binary(&self) -> Binary {
        if self.release { Binary::Release } else { Binary::OfTests }
    }
}

/// Which `leash` is tested.
#[derive(Clone, Copy)]
enum Binary {
    /// Built with the tests, in the same graph: with assertions, and less optimised.
    OfTests,
    Release,
}

impl Binary {
    fn path(self) -> PathBuf {
        match self {
            Self::OfTests => paths::debug().join("leash"),
            Self::Release => build::leash(),
        }
    }
}

type Kernels = Vec<Series>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    BpfLsm,
    Supervised,
}

fn parse_kernels(text: &str) -> Result<Kernels, String> {
    match text {
        "all" => Ok(Series::ALL.into()),
        "none" => Ok(Vec::new()),
        one => Series::ALL
            .into_iter()
            .find(|series| series.name() == one)
            .map(|series| vec![series])
            .ok_or_else(|| "expected 6.1, 6.12, 7.2, all or none".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::everything()?;
    ebpf::build()?;
    if args.release {
        build::release()?;
    }
    run_suites(args, &suite::build()?, Steps::default())
}

/// Builds the test programs and runs the suites; the summary begins with what was done `before`.
pub(crate) fn run_after(args: &Args, mut before: Steps) -> Result<ExitCode> {
    let suites = before.time("test programs", suite::build)?;
    run_suites(args, &suites, before)
}

fn run_suites(args: &Args, suites: &[suite::Suite], before: Steps) -> Result<ExitCode> {
    let start = Instant::now();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let at_once = args.jobs.map_or(processors.min(MOST_JOBS), usize::from);
    let plan = Plan::make(args, suites, at_once)?;
    let here = Here::new()?;
    let mut results = perform(args, &plan, &here, at_once);
    drop(here);
    if !args.kernel_only && args.suite.is_empty() && args.filter.is_none() {
        results.push(("documentation examples".to_owned(), here::examples()?));
    }
    before.print();
    Ok(report::summary(&results, &plan.not_run, start.elapsed()))
}

/// All results, by place and suite, in the order of the plan.
fn perform(args: &Args, plan: &Plan, here: &Here, at_once: usize) -> Vec<(String, Tally)> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Vec<Tally>>>> = Mutex::new(plan.jobs.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..at_once.min(plan.jobs.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = plan.jobs.get(number) else { return };
                    let tallies = one(args, number, job, here);
                    if let Some(place) = done.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number) {
                        *place = Some(tallies);
                    }
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let named = plan.jobs.iter().zip(done).flat_map(|(job, tallies)| {
        let tallies = tallies.unwrap_or_else(|| job.runs.iter().map(|run| Tally::lost(run, "never ran")).collect());
        job.runs.iter().zip(tallies).map(|(run, tally)| (format!("{}: {}", job.place.name(), run.name()), tally))
    });
    named.collect()
}

/// One job. What keeps it from running fails its suites, and the others still have something to say.
fn one(args: &Args, number: usize, job: &Job, here: &Here) -> Vec<Tally> {
    println!("\n=== {} begins: {}", job.place.name(), job.runs.iter().map(plan::Run::name).collect::<Vec<_>>().join(", "));
    let tallies = match job.place {
        Place::Here => here.run(args, job),
        Place::Machine(series) => machine::run(args, number, series, job),
    };
    tallies.unwrap_or_else(|error| {
        println!("error: {error:#}");
        job.runs.iter().map(|run| Tally::lost(run, &format!("{error:#}"))).collect()
    })
}

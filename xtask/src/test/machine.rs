//! The suites of the kernels: a machine for each suite on each kernel, some at a time. An emulated machine keeps about one
//! processor busy, whatever it has.

use std::ffi::OsString;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::suite::Suite;
use super::supervised;
use super::tally::Tally;
use super::{Args, Backend};
use crate::build;
use crate::kernel::Series;
use crate::vm::{self, Output};

/// A machine that takes longer than this hangs; the slowest emulated suite takes a fraction of it.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// More machines than this need more memory than a developer's machine may have.
const MOST_MACHINES: usize = 4;

/// Suites of whole programs, which ask the kernel nothing that the others don't: where no kernel is named, they run on one.
const OF_PROGRAMS: [&str; 3] = ["kernel_agents", "kernel_terminal", "kernel_work"];

/// A suite in a machine.
#[derive(Clone, Copy)]
enum Run<'a> {
    BpfLsm(&'a Suite),
    Supervised(supervised::Run<'a>),
}

impl Run<'_> {
    fn suite(&self) -> &Suite {
        match self {
            Self::BpfLsm(suite) => suite,
            Self::Supervised(run) => run.suite,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::BpfLsm(suite) => suite.name.clone(),
            Self::Supervised(run) => format!("{} (supervised, {})", run.suite.name, run.way.words()),
        }
    }

    /// Whether it runs where no backend is named.
    fn is_usual(&self) -> bool {
        match self {
            Self::BpfLsm(_) => true,
            Self::Supervised(run) => run.is_usual_in_machines(),
        }
    }

    /// Whether the kernel can have such sessions. Those without a container take Landlock's scopes, of Linux 6.12; that an older kernel
    /// refuses them is a test of `kernel_run`.
    fn is_possible(&self, series: Series) -> bool {
        match self {
            Self::BpfLsm(_) => true,
            Self::Supervised(run) => run.way != supervised::Way::Bare || series != Series::V6_1,
        }
    }

    /// Whether it runs on a kernel where none is named. The supervised backend, which passes everything on this machine's own kernel, runs on
    /// the oldest.
    fn runs_by_default(&self, series: Series) -> bool {
        match self {
            Self::BpfLsm(suite) => series == Series::V6_12 || !OF_PROGRAMS.contains(&suite.name.as_str()),
            Self::Supervised(_) => series == Series::V6_1,
        }
    }
}

/// Runs all `suites` on the kernels asked for, and the `supervised` ones on that backend. The results are by kernel; a time is the sum of its
/// machines'.
pub(super) fn run(args: &Args, suites: &[Suite], supervised: &[Suite]) -> Vec<(String, Tally)> {
    let kernels = args.kernels();
    let bpf_lsm = suites.iter().map(Run::BpfLsm).filter(|_| args.backend != Some(Backend::Supervised));
    let supervised = supervised::Run::all(supervised).map(Run::Supervised).filter(|_| args.backend != Some(Backend::BpfLsm));
    let runs = bpf_lsm.chain(supervised).filter(|run| args.backend.is_some() || run.is_usual());
    // A suite takes about as long on each kernel, so this keeps the machines busy to the end.
    let mut pairs: Vec<(Run<'_>, usize)> = runs.flat_map(|run| (0..kernels.len()).map(move |kernel| (run, kernel))).collect();
    pairs.retain(|(run, kernel)| {
        kernels
            .get(*kernel)
            .is_some_and(|&series| run.is_possible(series) && (args.kernel.is_some() || run.runs_by_default(series)))
    });
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let machines = args.jobs.map_or(processors.min(MOST_MACHINES), usize::from).min(pairs.len());
    let totals: Mutex<Vec<Tally>> = Mutex::new(kernels.iter().map(|_| Tally::default()).collect());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..machines {
            scope.spawn(|| {
                while let Some(&(run, kernel)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(&series) = kernels.get(kernel) else { return };
                    let tally = run_one(args, series, run, machines == 1);
                    if let Some(total) = totals.lock().unwrap_or_else(PoisonError::into_inner).get_mut(kernel) {
                        total.add(&tally);
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    kernels.iter().zip(totals).map(|(series, tally)| (format!("kernel {}", series.name()), tally)).collect()
}

/// The command line of a suite. One test at a time: they share the machine's one kernel.
fn in_machine(suite: &Suite, filter: Option<&str>) -> Vec<OsString> {
    let mut words = vec![suite.program.clone().into()];
    words.extend(filter.map(OsString::from));
    words.push("--test-threads=1".into());
    for (_, test) in supervised::NOT_IN_MACHINES.iter().filter(|(name, _)| *name == suite.name) {
        words.extend(["--skip", test].map(OsString::from));
    }
    words
}

fn environment(suite: &Suite, series: Series) -> Vec<(String, String)> {
    let pairs = [
        ("CARGO_MANIFEST_DIR", suite.directory.display().to_string()),
        ("LEASH_BIN", build::leash().display().to_string()),
        ("LEASH_EXPECT_KERNEL", series.name().to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// One suite in a machine. Where others run beside it, its output comes in one piece at the end.
fn run_one(args: &Args, series: Series, run: Run<'_>, alone: bool) -> Tally {
    const IN_PLACE: &str = r#"cd "$0" && exec "$@""#;
    let (name, suite) = (run.name(), run.suite());
    let title = format!("kernel {}: {name}", series.name());
    println!("\n=== {title}{}", if alone { "" } else { " begins" });
    let start = Instant::now();
    let text = Arc::new(Mutex::new(Vec::new()));
    let filter = args.filter.as_deref();
    let (words, env) = match run {
        Run::BpfLsm(suite) => (in_machine(suite, filter), environment(suite, series)),
        Run::Supervised(run) => (run.command(true, filter), run.environment(series.name())),
    };
    let mut command = ["/bin/sh", "-c", IN_PLACE].map(OsString::from).to_vec();
    command.push(suite.directory.clone().into());
    command.extend(words);
    let job = vm::Job {
        series,
        mem_mib: args.mem,
        cpus: 2,
        rw: Vec::new(),
        timeout: Some(LIMIT),
        env,
        show_console: false,
        output: if alone { Output::Copied(Arc::clone(&text)) } else { Output::Kept(Arc::clone(&text)) },
        command,
    };
    let outcome = vm::execute(&job);
    let text = String::from_utf8_lossy(&text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    let mut tally = Tally::parse(&text, &[&suite.name]);
    let mut words = if alone { String::new() } else { format!("\n=== {title} has ended\n{text}") };
    match outcome {
        Ok(status) => tally.expect_end(status == 0, "ended badly without naming a test"),
        // The others still have something to say.
        Err(error) => {
            words.push_str(&format!("error: {error:#}\n"));
            tally.fail(&format!("the machine: {error}"));
        }
    }
    if tally.passed + tally.failed == 0 {
        tally.fail("nothing ran");
    }
    // In one piece; a reader that went away is no reason to stop.
    let _ = std::io::stdout().lock().write_all(words.as_bytes());
    for failure in &mut tally.failures {
        *failure = format!("{name}: {failure}");
    }
    tally.elapsed = start.elapsed();
    tally
}

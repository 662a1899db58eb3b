//! The suites of the kernels: a machine for each suite on each kernel, some at a time. An emulated machine keeps about one
//! processor busy, whatever it has.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Args;
use super::suite::Suite;
use super::tally::Tally;
use crate::build;
use crate::kernel::Series;
use crate::vm::{self, Output};

/// A machine that takes longer than this hangs; the slowest emulated suite takes a fraction of it.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// More machines than this need more memory than a developer's machine may have.
const MOST_MACHINES: usize = 4;

/// Suites of whole programs, which ask the kernel nothing that the others don't: where no kernel is named, they run on one.
const OF_PROGRAMS: [&str; 3] = ["kernel_agents", "kernel_terminal", "kernel_work"];

/// Whether a suite runs on a kernel where none is named. The supervised backend, which passes everything on this machine's own kernel,
/// runs on the oldest.
fn runs_by_default(suite: &Suite, supervised: bool, series: Series) -> bool {
    if supervised {
        return series == Series::V6_1;
    }
    series == Series::V6_12 || !OF_PROGRAMS.contains(&suite.name.as_str())
}

/// Runs all suites on the kernels asked for, and `supervised` ones on that backend. The results are by kernel; a time is the sum of its
/// machines'.
pub(super) fn run(args: &Args, suites: &[Suite], supervised: &[Suite]) -> Vec<(String, Tally)> {
    let kernels = args.kernels();
    let all = suites.iter().map(|suite| (suite, false)).chain(supervised.iter().map(|suite| (suite, true)));
    // A suite takes about as long on each kernel, so this keeps the machines busy to the end.
    let mut pairs: Vec<((&Suite, bool), usize)> =
        all.flat_map(|suite| (0..kernels.len()).map(move |kernel| (suite, kernel))).collect();
    if args.kernel.is_none() {
        pairs.retain(|&((suite, supervised), kernel)| {
            kernels.get(kernel).is_some_and(|&series| runs_by_default(suite, supervised, series))
        });
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let machines = args.jobs.map_or(processors.min(MOST_MACHINES), usize::from).min(pairs.len());
    let totals: Mutex<Vec<Tally>> = Mutex::new(kernels.iter().map(|_| Tally::default()).collect());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..machines {
            scope.spawn(|| {
                while let Some(&((suite, supervised), kernel)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(&series) = kernels.get(kernel) else { return };
                    let tally = run_one(args, series, suite, supervised, machines == 1);
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

/// One suite in a machine. Where others run beside it, its output comes in one piece at the end.
fn run_one(args: &Args, series: Series, suite: &Suite, supervised: bool, alone: bool) -> Tally {
    /// One test at a time: they share the machine's one kernel. The test that is left out wasn't tried in these machines (docs/plan.md).
    const SCRIPT: &str = r#"cd "$1" && CARGO_MANIFEST_DIR=$1 exec "$2" --test-threads=1 \
        --skip a_cgroup_namespace_gets_the_supervised_backend ${3:+"$3"}"#;
    let name = if supervised { format!("{} (supervised)", suite.name) } else { suite.name.clone() };
    let title = format!("kernel {}: {name}", series.name());
    println!("\n=== {title}{}", if alone { "" } else { " begins" });
    let start = Instant::now();
    let text = Arc::new(Mutex::new(Vec::new()));
    let words = ["/bin/sh", "-c", SCRIPT, "suite"].map(Into::into);
    let paths = [suite.directory.clone().into(), suite.program.clone().into(), args.filter.clone().unwrap_or_default().into()];
    let mut env = vec![
        ("LEASH_BIN".to_owned(), build::leash().display().to_string()),
        ("LEASH_EXPECT_KERNEL".to_owned(), series.name().to_owned()),
    ];
    if supervised {
        env.push(("LEASH_BACKEND".to_owned(), "supervised".to_owned()));
    }
    let job = vm::Job {
        series,
        mem_mib: args.mem,
        cpus: 2,
        rw: Vec::new(),
        timeout: Some(LIMIT),
        env,
        show_console: false,
        output: if alone { Output::Copied(Arc::clone(&text)) } else { Output::Kept(Arc::clone(&text)) },
        command: words.into_iter().chain(paths).collect(),
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

//! What a person reads while the suites run, and the summary at the end.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use super::plan::{Place, Run};
use super::tally::Tally;

/// A suite that has ended, in one piece: others run beside it.
pub(super) fn suite(place: Place, run: &Run, tally: &Tally, said: &str) {
    show(&format!("{}: {}", place.name(), run.name()), tally, said);
}

/// The examples of the documentation.
pub(super) fn examples(tally: &Tally, said: &str) {
    show("documentation examples", tally, said);
}

fn show(title: &str, tally: &Tally, said: &str) {
    let text = format!("\n=== {title}\n{said}=== {title}: {tally} in {} s\n", tally.elapsed.as_secs());
    // A reader that went away is no reason to stop.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// The summary: a line for each suite, what didn't run, and the line that other programs read.
pub(super) fn summary(results: &[(String, Tally)], not_run: &[String], elapsed: Duration) -> ExitCode {
    println!("\nwhat ran, and for how long");
    let mut total = Tally::default();
    for (name, tally) in results {
        let left_out = if tally.left_out > 0 { format!(", {} left out", tally.left_out) } else { String::new() };
        println!("{:>5} s  {name}: {tally}{left_out}", tally.elapsed.as_secs());
        for failure in &tally.failures {
            println!("         failed: {failure}");
        }
        total.add(tally);
    }
    println!("{:>5} s  in all", elapsed.as_secs());
    if !not_run.is_empty() {
        println!("not run on this commit (`cargo xtask test --kernel all` does):");
        for line in not_run {
            println!("    {line}");
        }
    }
    if total.left_out > 0 {
        println!("left out by name, since their place or user can't have them (xtask/src/test/plan.rs): {}", total.left_out);
    }
    if total.ignored > 0 {
        println!("not run, by declaration: {}", total.ignored);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

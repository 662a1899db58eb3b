//! Counting what test programs report.

use std::fmt;
use std::time::Duration;

use super::plan::Run;

/// Results of a suite, or of several.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// Declared as not to be run.
    pub(super) ignored: u64,
    /// Not of this place, or not of this user.
    pub(super) left_out: u64,
    pub(super) failures: Vec<String>,
    pub(super) elapsed: Duration,
}

impl Tally {
    /// Reads the output of the standard test harness.
    pub(super) fn parse(text: &str) -> Self {
        let mut tally = Self::default();
        for line in text.lines() {
            if let Some(counts) = line.trim().strip_prefix("test result: ") {
                tally.passed += count(counts, " passed");
                tally.failed += count(counts, " failed");
                tally.ignored += count(counts, " ignored");
            } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
                tally.failures.push(name.to_owned());
            }
        }
        tally
    }

    /// What came of a run. Each of its tests has to have come to its end: one that crashed, or was never started, counts as a failure.
    pub(super) fn of(run: &Run, text: &str, ended_well: bool, elapsed: Duration) -> Self {
        let mut tally = Self { elapsed, left_out: run.left_out as u64, ..Self::parse(text) };
        tally.expect_end(ended_well, "ended badly without naming a test");
        let (asked, ended) = (run.tests.len() as u64, tally.passed + tally.failed + tally.ignored);
        if ended < asked {
            tally.fail(&format!("{} of {asked} tests didn't come to their end", asked - ended));
        }
        tally
    }

    /// A run that has no result at all.
    pub(super) fn lost(run: &Run, why: &str) -> Self {
        let mut tally = Self { left_out: run.left_out as u64, ..Self::default() };
        tally.fail(&format!("{} tests have no result: {}", run.tests.len(), why.lines().next().unwrap_or_default()));
        tally
    }

    /// A bad exit status has to show up as a failure even if no test owned up to it.
    pub(super) fn expect_end(&mut self, well: bool, what: &str) {
        if !well && self.failed == 0 {
            self.fail(what);
        }
    }

    pub(super) fn fail(&mut self, what: &str) {
        self.failed += 1;
        self.failures.push(what.to_owned());
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.left_out += other.left_out;
        self.failures.extend(other.failures.iter().cloned());
        self.elapsed += other.elapsed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The number before ` passed` and the like in `ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(text: &str, what: &str) -> u64 {
    text.split(';')
        .find_map(|part| part.trim_end().strip_suffix(what))
        .and_then(|part| part.rsplit(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::plan::Subject;
    use super::super::suite::Suite;
    use super::*;

    const TWO: &str = "running 3 tests\ntest a ... ok\ntest b::c ... FAILED\n\
        test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s\n\
        test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";

    /// A run that was asked for so many tests.
    fn run(tests: usize) -> Run {
        let suite = Suite { name: "x".into(), program: "/t".into(), directory: "/w".into() };
        Run { suite, subject: Subject::Host, tests: vec!["t".into(); tests], left_out: 2 }
    }

    #[test]
    fn counts_are_summed_and_failures_named() {
        let tally = Tally::of(&run(23), TWO, false, Duration::ZERO);
        assert_eq!((tally.passed, tally.failed, tally.ignored, tally.left_out), (21, 1, 1, 2));
        assert_eq!(tally.failures, ["b::c"]);
    }

    #[test]
    fn a_test_without_a_result_is_a_failure() {
        assert_eq!(Tally::of(&run(24), TWO, false, Duration::ZERO).failed, 2);
        assert_eq!(Tally::of(&run(1), "", true, Duration::ZERO).failed, 1);
        assert_eq!(Tally::lost(&run(3), "it fell over\nwhile it ran").failed, 1);
    }

    #[test]
    fn a_bad_exit_status_is_a_failure_once() {
        let mut tally = Tally::parse(TWO);
        tally.expect_end(false, "exit");
        assert_eq!(tally.failed, 1);
        let mut clean = Tally::default();
        clean.expect_end(false, "exit");
        assert_eq!(clean.failed, 1);
    }
}

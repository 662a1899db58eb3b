//! Steps of a long command, each with its time.

use std::time::{Duration, Instant};

use anyhow::Result;

/// What was done, and how long it took.
#[derive(Default)]
pub(crate) struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    /// Does one more step.
    pub(crate) fn time<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n##### {name}");
        let start = Instant::now();
        let result = step()?;
        self.0.push((name, start.elapsed()));
        Ok(result)
    }

    /// A line for each, for people.
    pub(crate) fn print(&self) {
        if !self.0.is_empty() {
            println!("\nwhat was done before the tests");
        }
        for (name, elapsed) in &self.0 {
            println!("{:>5} s  {name}", elapsed.as_secs());
        }
    }
}

//! `cargo xtask tidy`: the house rules that a program can check and no other tool does.
//!
//! Each rule is a function from the project's files to findings. What a rule can't judge with certainty it
//! leaves alone: a finding here is an error in CI.

mod direction;
mod hosts;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{paths, process};

/// One file of the project that is text.
struct Source {
    /// Relative to the root.
    path: PathBuf,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    fn is_in(&self, dir: &str) -> bool {
        self.path.starts_with(dir)
    }
}

/// A broken rule, and where.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: PathBuf,
    /// Counted from 1.
    line: usize,
    rule: String,
}

impl Finding {
    fn new(path: &Path, line_index: usize, rule: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: line_index + 1, rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.rule)
    }
}

pub(crate) fn run() -> Result<()> {
    let sources = sources()?;
    let hosts = hosts::configured();
    let mut findings = direction::crates()?;
    let mut sizes = Vec::new();
    for source in &sources {
        findings.extend(hosts::check(source, &hosts));
        if source.is_rust() {
            findings.extend(text::check(source));
            findings.extend(direction::rooms(source));
            sizes.push(text::product_lines(&source.text));
        }
    }
    sizes.sort_unstable();
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or_default();
    let long = sizes.iter().filter(|size| **size > 500).count();
    println!("{} Rust files without their tests: median {median} lines, {long} over 500", sizes.len());
    if findings.is_empty() {
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    bail!("{} house rules broken", findings.len())
}

/// All files that git knows or would add, but no binaries.
fn sources() -> Result<Vec<Source>> {
    let mut git = Command::new("git");
    git.current_dir(paths::root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = process::output(&mut git)?;
    let read = |path: &str| Some(Source { path: path.into(), text: fs::read_to_string(paths::root().join(path)).ok()? });
    Ok(listed.split('\0').filter(|path| !path.is_empty()).filter_map(read).collect())
}

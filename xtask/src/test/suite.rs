//! The workspace's test programs, as cargo builds and names them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{build, process};

/// Suites that need root and BPF LSM are named so.
const KERNEL_PREFIX: &str = "kernel_";
/// Suites of the supervised backend are named so. They need root, and run on this machine's own kernel.
const SUPERVISED_PREFIX: &str = "supervised_";
/// The suite for the kernel that is about something else than a backend's decisions.
const ONE_BACKEND: &str = "kernel_sandbox";
/// What they are built with; a plain `cargo test` leaves them out.
pub(crate) const FEATURE: &str = "leash-tests/kernel";

/// One test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// Where cargo would run it: its package's directory.
    pub(super) directory: PathBuf,
}

impl Suite {
    /// Whether it is about sessions on a kernel of the matrix.
    pub(super) fn needs_kernel(&self) -> bool {
        self.name.starts_with(KERNEL_PREFIX)
    }

    /// Whether the supervised backend must pass it.
    pub(super) fn is_for_supervised(&self) -> bool {
        self.name.starts_with(SUPERVISED_PREFIX) || self.needs_kernel() && self.name != ONE_BACKEND
    }

    /// Whether it needs no session.
    pub(super) fn is_for_host(&self) -> bool {
        !self.needs_kernel() && !self.name.starts_with(SUPERVISED_PREFIX)
    }

    /// The full names of its tests.
    pub(super) fn tests(&self) -> Result<Vec<String>> {
        let listed = process::output(Command::new(&self.program).args(["--list", "--format", "terse"]))?;
        Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }
}

/// The part of a `--message-format=json` line that matters here (cargo book, "External tools").
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds all test programs of the workspace, and beside them the programs that they start: `leash` and what acts in its sessions.
pub(super) fn build() -> Result<Vec<Suite>> {
    let mut cargo = build::cargo();
    cargo.args(["test", "--workspace", "--lib", "--bins", "--tests", "--features", FEATURE]);
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("couldn't start cargo")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", process::display(&cargo), output.status);
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(messages: &str) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).with_context(|| format!("unexpected line from cargo: {line}"))?;
        if message.reason != "compiler-artifact" || !message.profile.is_some_and(|profile| profile.test) {
            continue;
        }
        if let (Some(program), Some(manifest), Some(target)) = (message.executable, message.manifest_path, message.target) {
            let directory = manifest.parent().map(Path::to_path_buf).unwrap_or_default();
            suites.push(Suite { name: target.name, program, directory });
        }
    }
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_are_suites() {
        let text = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"name":"kernel_files"},"profile":{"test":true},"executable":"/t/kf"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"profile":{"test":false},"executable":"/t/a"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let suites = parse(text).unwrap();
        assert_eq!(suites, [Suite { name: "kernel_files".into(), program: "/t/kf".into(), directory: "/w/tests".into() }]);
        assert!(suites[0].needs_kernel() && suites[0].is_for_supervised() && !suites[0].is_for_host());
    }
}

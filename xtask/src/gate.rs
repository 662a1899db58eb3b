//! `cargo xtask gate`: everything that has to hold before a change goes in, the quick checks first.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::steps::Steps;
use crate::{build, ebpf, fuzz, paths, process, setup, test, tidy};

/// Has a workspace of its own.
const EBPF: &str = "leash-ebpf/Cargo.toml";

pub(crate) fn run() -> Result<ExitCode> {
    let mut steps = Steps::default();
    steps.time("format", format)?;
    steps.time("tidy", tidy::run)?;
    steps.time("set-up", setup::everything)?;
    steps.time("licences and sources", deny)?;
    // The agent embeds the object, so that has to be there before anything looks at the agent.
    steps.time("eBPF object", ebpf::build)?;
    steps.time("clippy", clippy)?;
    steps.time("documentation", document)?;
    steps.time("fuzz targets", fuzz::build_targets)?;
    steps.time("a minute of fuzzing", fuzz::a_minute)?;
    test::run_after(&test::Args::usual(), steps)
}

fn format() -> Result<()> {
    process::run(build::cargo().args(["fmt", "--all", "--check"]))?;
    process::run(build::cargo().args(["fmt", "--check", "--manifest-path", EBPF]))
}

/// Not `advisories`: deny.toml says why.
fn deny() -> Result<()> {
    let check = ["--locked", "check", "bans", "licenses", "sources"];
    ["Cargo.toml", EBPF].iter().try_for_each(|manifest| {
        let mut deny = Command::new(setup::cargo_deny());
        process::run(deny.current_dir(paths::root()).args(["--manifest-path", manifest]).args(check))
    })
}

fn clippy() -> Result<()> {
    let mut clippy = build::cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--features", test::FEATURE, "--locked", "--", "-D", "warnings"]);
    process::run(&mut clippy)
}

/// Shares what clippy had checked.
fn document() -> Result<()> {
    let mut doc = build::cargo();
    doc.env("RUSTDOCFLAGS", "-D warnings");
    process::run(doc.args(["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"]))
}

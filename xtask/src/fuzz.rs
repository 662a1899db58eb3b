//! `cargo xtask fuzz`: throws what nobody would write at the parts that read what others wrote.

use std::fs;
use std::process::ExitCode;

use anyhow::Result;

use crate::{build, ebpf, paths, process, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The targets; all of them by default
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
    /// How long each of them runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
}

/// As `fuzz/Cargo.toml` names them.
const TARGETS: [&str; 3] = ["policy_text", "requests", "log_reader"];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::fuzzing()?;
    ebpf::build()?;
    let chosen: Vec<&str> = match args.targets.as_slice() {
        [] => TARGETS.into(),
        some => some.iter().map(String::as_str).collect(),
    };
    for target in chosen {
        let corpus = paths::root().join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus)?;
        let mut cargo = build::cargo();
        // The instrumentation is unstable, and there need be no other compiler than the stable one.
        cargo.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", "--sanitizer", "none", "--target-dir"]);
        // Below the workspace's, where the agent finds its eBPF object.
        cargo.arg(paths::target().join("fuzz")).arg(target).arg(&corpus).arg(paths::root().join("fuzz/seeds").join(target));
        process::run(cargo.arg("--").arg(format!("-max_total_time={}", args.seconds)))?;
    }
    Ok(ExitCode::SUCCESS)
}

//! `cargo xtask fuzz`: throws what nobody would write at the parts that read what others wrote.

use std::fs;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Result, anyhow, bail};

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
/// What the gate spends on each.
const SHORT_SECONDS: u64 = 60 / TARGETS.len() as u64;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::fuzzing()?;
    ebpf::build()?;
    build_targets()?;
    let chosen: Vec<&str> = match args.targets.as_slice() {
        [] => TARGETS.into(),
        some => some.iter().map(String::as_str).collect(),
    };
    run_targets(&chosen, args.seconds)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds what [`a_minute`] runs; setting up and the eBPF object come first.
pub(crate) fn build_targets() -> Result<()> {
    let mut cargo = build::cargo();
    cargo.env("RUSTC_WORKSPACE_WRAPPER", paths::root().join("fuzz/instrument.sh"));
    process::run(cargo.args(["build", "--locked", "--package", "leash-fuzz", "--features", "targets", "--bins"]))
}

/// All of the targets, for a minute in all.
pub(crate) fn a_minute() -> Result<()> {
    run_targets(&TARGETS, SHORT_SECONDS)
}

/// Runs targets side by side; what they find is kept beside their corpora.
fn run_targets(targets: &[&str], seconds: u64) -> Result<()> {
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = targets.iter().map(|target| scope.spawn(move || run_target(target, seconds))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a fuzz target's thread panicked"))))
            .collect()
    });
    let failures: Vec<String> = results.into_iter().filter_map(|result| result.err().map(|error| format!("{error:#}"))).collect();
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\nerror: ")) }
}

fn run_target(target: &str, seconds: u64) -> Result<()> {
    let place = paths::target().join("fuzz").join(target);
    let corpus = place.join("corpus");
    fs::create_dir_all(&corpus)?;
    let mut command = Command::new(paths::debug().join(target));
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", place.display()));
    command.args(["-timeout=60", "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"]);
    process::run(command.arg(&corpus).arg(paths::root().join("fuzz/seeds").join(target)))
}

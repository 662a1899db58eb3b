//! `cargo xtask demo`: the product's main job on a real agent, on the strongest backend that this machine has.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::kernel::Series;
use crate::{build, ebpf, paths, setup, vm};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run on this kernel, in a virtual machine, instead of on this machine's
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// The agent: mini-swe-agent, codex or gemini
    #[arg(long, value_name = "NAME", default_value = "mini-swe-agent")]
    agent: String,
}

/// Two runs of an agent take minutes on an emulated processor.
const LIMIT: Duration = Duration::from_secs(20 * 60);

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.kernel.is_some() { setup::everything() } else { setup::agents() }?;
    ebpf::build()?;
    build::release()?;
    let leash = build::leash();
    let demo = paths::root().join("tests/agents/demo.py");
    let Some(series) = args.kernel else {
        let status = Command::new("python3")
            .arg(demo)
            .arg("--leash")
            .arg(leash)
            .args(["--agent", &args.agent])
            .env("LEASH_AGENTS_DIR", paths::agents())
            .status();
        let status = status.context("couldn't start python3")?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    let job = vm::Job {
        series,
        mem_mib: 3072,
        cpus: 2,
        rw: Vec::new(),
        timeout: Some(LIMIT),
        env: vec![("LEASH_AGENTS_DIR".to_owned(), paths::agents().display().to_string())],
        show_console: false,
        output: vm::Output::Passed,
        command: vec![
            "python3".into(),
            demo.into(),
            "--throw-away".into(),
            "--leash".into(),
            leash.into(),
            "--agent".into(),
            args.agent.clone().into(),
        ],
    };
    vm::execute(&job).map(ExitCode::from)
}

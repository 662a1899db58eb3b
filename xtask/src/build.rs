//! `cargo xtask build`: the kernel's object first, then the program that embeds it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{ebpf, paths, process};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only build the eBPF object
    #[arg(long)]
    bpf_only: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ebpf::build()?;
    if args.bpf_only { Ok(()) } else { release() }
}

/// Builds `leash` for release; the object has to be there.
pub(crate) fn release() -> Result<()> {
    process::run(cargo().args(["build", "--release", "--package", "leash-agent"]))
}

/// The product's binary, once built.
pub(crate) fn leash() -> PathBuf {
    paths::target().join("release/leash")
}

/// The workspace's own cargo, run in its root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    command
}

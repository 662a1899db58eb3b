//! Every developer command of the project, as `cargo xtask COMMAND`.
//!
//! This crate knows how the product is built and tested, and nothing of how it works: it depends on no
//! other crate of the workspace, so that a broken product never takes its own tools down with it.

mod apt;
mod bench;
mod build;
mod demo;
mod ebpf;
mod fuzz;
mod gate;
mod kernel;
mod paths;
mod process;
mod setup;
mod steps;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Developer commands", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need, by the machine's package managers
    Setup(setup::Args),
    /// Build `target/release/leash`, with its eBPF object embedded
    Build(build::Args),
    /// Run the tests, on this machine and on other kernels in machines
    Test(test::Args),
    /// Check and test everything that has to hold before a change goes in
    Gate,
    /// Set everything up and show an agent, recorded and then enforced
    Demo(demo::Args),
    /// Take the figures of SPECIFICATION.md
    Bench(bench::Args),
    /// Run the fuzz targets
    Fuzz(fuzz::Args),
    /// Check the house rules that other tools don't
    Tidy,
    /// Run a command in a virtual machine with a Debian kernel and this machine's files
    Vm(vm::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Setup(args) => setup::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Build(args) => build::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Test(args) => test::run(&args),
        Command::Gate => gate::run(),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Command::Vm(args) => vm::run(&args),
    }
}

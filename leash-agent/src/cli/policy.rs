//! `leash policy`: check policies, ask them, and have their answers explained.

mod check;
mod eval;
mod explain;
mod load;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Global;

/// Exit code for policies that can't be enforced.
const INVALID: u8 = 3;

/// Check policies, and ask what they decide
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Check(check::CheckArgs),
    Eval(eval::EvalArgs),
    Explain(explain::ExplainArgs),
}

/// Which policies, and for whom.
#[derive(Debug, Args)]
struct Selection {
    /// A policy file, or a directory of *.cedar files
    #[arg(long = "policy", value_name = "PATH", required = true)]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    subject: Subject,
}

/// What policies are compiled with.
#[derive(Debug, Args)]
struct Subject {
    /// JSON file with the attributes of the agent
    #[arg(long, value_name = "FILE")]
    principal: Option<PathBuf>,
    /// Value of a `${NAME}` in policies, where it isn't to be that of a session of yours in this directory
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
}

pub(super) fn run(args: PolicyArgs, global: Global) -> Result<ExitCode> {
    match args.command {
        PolicyCommand::Check(args) => check::run(&args, global),
        PolicyCommand::Eval(args) => eval::run(&args, global),
        PolicyCommand::Explain(args) => explain::run(args, global),
    }
}

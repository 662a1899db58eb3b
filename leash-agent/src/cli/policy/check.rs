//! `leash policy check`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Subject;
use super::load::{Loaded, load};

/// Say whether policies can be enforced, and what is wrong where if not
///
/// Policies that can never apply are warned about, and are no failure.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Policy files, or directories of *.cedar files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    subject: Subject,
}

pub(super) fn run(args: &CheckArgs) -> Result<ExitCode> {
    match load(&args.paths, &args.subject)? {
        Loaded::Refused(code) => Ok(code),
        Loaded::Policy(policy) => {
            for warning in policy.warnings() {
                eprintln!("{:?}", miette::Report::new(warning.clone()));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

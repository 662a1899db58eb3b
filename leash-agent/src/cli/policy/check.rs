//! `leash policy check`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Subject;
use super::load::{Loaded, load};
use crate::cli::Global;
use crate::words::{report, say};

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

pub(super) fn run(args: &CheckArgs, global: Global) -> Result<ExitCode> {
    match load(&args.paths, &args.subject, global) {
        Loaded::Refused(code) => Ok(code),
        Loaded::Policy(policy) => {
            for warning in policy.warnings().iter().filter(|_| !global.quiet) {
                say(&report(warning, global.color.on_stderr()));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

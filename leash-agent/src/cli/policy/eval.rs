//! `leash policy eval`.

use std::io::{BufRead, stdin};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use leash_policy::{Outcome, Request};
use serde::Serialize;

use super::Selection;
use super::load::{Loaded, load};
use crate::cli::{Global, USAGE};
use crate::words::Out;

/// Answer requests, given as JSON lines on standard input, by Cedar and by the tables
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    #[command(flatten)]
    selection: Selection,
}

/// One line of the answer.
#[derive(Serialize)]
struct Answer {
    cedar: Outcome,
    tables: Outcome,
    agree: bool,
    /// Determining policies that the tables don't name, as others of the same form are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unnamed: Vec<String>,
}

pub(super) fn run(args: &EvalArgs, global: Global) -> Result<ExitCode> {
    let policy = match load(&args.selection.policies, &args.selection.subject, global) {
        Loaded::Refused(code) => return Ok(code),
        Loaded::Policy(policy) => policy,
    };
    let mut out = Out::lock();
    let mut all_agree = true;
    for (number, line) in (1..).zip(stdin().lock().lines()) {
        let request = line.map_err(anyhow::Error::from).and_then(|line| match line.trim() {
            "" => Ok(None),
            line => serde_json::from_str::<Request>(line).map(Some).map_err(Into::into),
        });
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => continue,
            Err(fault) => {
                out.flush()?;
                crate::cli::output::complain(format_args!("standard input, line {number}: {fault:#}"));
                return Ok(ExitCode::from(USAGE));
            }
        };
        let (cedar, tables) = (policy.cedar(&request), policy.decide(&request));
        let unnamed = policy.unnamed(&cedar, &tables);
        let agree = unnamed.is_some();
        all_agree &= agree;
        let unnamed = unnamed.unwrap_or_default();
        out.json(&Answer { cedar, tables, agree, unnamed })?;
    }
    out.flush()?;
    Ok(if all_agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

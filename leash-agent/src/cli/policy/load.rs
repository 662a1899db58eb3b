//! Policies from files, and how their faults are shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use leash_policy::{Compiled, Principal, Source, Variables, compile};

use super::{INVALID, Subject};
use crate::cli::output::complain;
use crate::cli::{Global, USAGE};
use crate::daemon::{self, RunError};
use crate::words::{report, say};

/// A policy that can be asked, or the exit code of what was already said about it.
pub(super) enum Loaded {
    Policy(Box<Compiled>),
    Refused(ExitCode),
}

/// Reads and compiles policies.
pub(super) fn load(paths: &[PathBuf], subject: &Subject, global: Global) -> Loaded {
    let inputs =
        || -> Result<_> { Ok((sources(paths)?, variables(&subject.variables)?, principal(subject.principal.as_deref())?)) };
    let (sources, variables, principal) = match inputs() {
        Ok(inputs) => inputs,
        Err(fault) => {
            complain(format_args!("{fault:#}"));
            return Loaded::Refused(ExitCode::from(USAGE));
        }
    };
    match compile(&sources, &variables, &principal) {
        Ok(compiled) if compiled.policies().is_empty() => {
            complain(RunError::no_policy(paths));
            Loaded::Refused(ExitCode::from(INVALID))
        }
        Ok(compiled) => Loaded::Policy(Box::new(compiled)),
        Err(faults) => {
            say(&report(&faults, global.color.on_stderr()));
            Loaded::Refused(ExitCode::from(INVALID))
        }
    }
}

fn sources(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let read: Result<Vec<_>> = paths.iter().map(|path| daemon::read_policies(path).map_err(said)).collect();
    Ok(read?.concat())
}

/// An error whose words have its cause in them already.
fn said(error: RunError) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

fn variables(given: &[String]) -> Result<Variables> {
    let mut variables = daemon::own_variables().map_err(said)?;
    for variable in given {
        let (name, value) = variable.split_once('=').with_context(|| format!("`{variable}` is not of the form NAME=VALUE"))?;
        variables.0.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

fn principal(path: Option<&Path>) -> Result<Principal> {
    let Some(path) = path else { return Ok(Principal::default()) };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Principal::from_json(&text).with_context(|| format!("`{}` does not describe an agent", path.display()))
}

//! Policies from files, and how their faults are shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use leash_policy::{Compiled, Principal, Source, Variables, compile};

use super::{INVALID, Subject};
use crate::cli::output::{complain, report, say};
use crate::cli::{Global, USAGE};
use crate::daemon;

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
            complain(&format!("{fault:#}"));
            return Loaded::Refused(ExitCode::from(USAGE));
        }
    };
    match compile(&sources, &variables, &principal) {
        Ok(compiled) if compiled.policies().is_empty() => {
            let paths: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
            complain(&format!("there is no policy in {}", paths.join(", ")));
            Loaded::Refused(ExitCode::from(INVALID))
        }
        Ok(compiled) => Loaded::Policy(Box::new(compiled)),
        Err(faults) => {
            say(&report(&faults, global.color));
            Loaded::Refused(ExitCode::from(INVALID))
        }
    }
}

fn sources(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        let files = if path.is_dir() { cedar_files(path)? } else { vec![path.clone()] };
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
            sources.push(Source { name: file.to_string_lossy().into_owned(), text });
        }
    }
    Ok(sources)
}

fn cedar_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read `{}`", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read `{}`", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn variables(given: &[String]) -> Result<Variables> {
    let mut variables = daemon::own_variables()?;
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

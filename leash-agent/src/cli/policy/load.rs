//! Policies from files, and how their faults are shown.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use leash_policy::{Compiled, Diagnostics, Principal, Source, Variables, compile};

use super::{INVALID, Subject, USAGE};

/// A policy that can be asked, or the exit code of what was already said about it.
pub(super) enum Loaded {
    Policy(Box<Compiled>),
    Refused(ExitCode),
}

/// Reads and compiles policies.
pub(super) fn load(paths: &[PathBuf], subject: &Subject) -> Result<Loaded> {
    let inputs = (|| Ok((sources(paths)?, variables(&subject.variables)?, principal(subject.principal.as_deref())?)))();
    let (sources, variables, principal) = match inputs {
        Ok(inputs) => inputs,
        Err(fault) => {
            let fault: anyhow::Error = fault;
            crate::cli::output::complain(&format!("{fault:#}"));
            return Ok(Loaded::Refused(ExitCode::from(USAGE)));
        }
    };
    match compile(&sources, &variables, &principal) {
        Ok(compiled) => Ok(Loaded::Policy(Box::new(compiled))),
        Err(faults) => {
            show(faults);
            Ok(Loaded::Refused(ExitCode::from(INVALID)))
        }
    }
}

/// Prints faults with their places, in colour where the terminal has it.
fn show(faults: Diagnostics) {
    eprintln!("{:?}", miette::Report::new(faults));
}

fn sources(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        let files = if path.is_dir() { cedar_files(path)? } else { vec![path.clone()] };
        if files.is_empty() {
            bail!("`{}` holds no *.cedar file", path.display());
        }
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
    let mut variables = BTreeMap::new();
    if let Ok(home) = std::env::var("HOME") {
        variables.insert("HOME".to_owned(), home);
    }
    if let Some(directory) = std::env::current_dir().ok().and_then(|directory| directory.into_os_string().into_string().ok()) {
        variables.insert("WORKSPACE".to_owned(), directory);
    }
    let temporary = std::env::var("TMPDIR").unwrap_or_else(|_| "/tmp".to_owned());
    variables.insert("TMPDIR".to_owned(), temporary);
    for variable in given {
        let (name, value) = variable.split_once('=').with_context(|| format!("`{variable}` is not of the form NAME=VALUE"))?;
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(Variables(variables))
}

fn principal(path: Option<&Path>) -> Result<Principal> {
    let Some(path) = path else { return Ok(Principal::default()) };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` does not describe an agent", path.display()))
}

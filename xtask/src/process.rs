//! Running other programs with errors that say which one failed and how.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The command as a person would type it, for error texts.
pub(crate) fn display(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs to the end with the caller's output; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("couldn't start `{}`", display(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", display(command));
    }
    Ok(())
}

/// Runs to the end and returns what it printed; on failure its messages are part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("couldn't start `{}`", display(command)))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", display(command), output.status, words.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

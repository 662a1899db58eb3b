//! `leash completions SHELL` and `leash man`, from the same definition as the commands themselves.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;
use crate::words::Out;

/// Print a shell's completion script
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print a manual page
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The command whose page it is, for example `run`; the program's own if not given
    command: Option<String>,
}

pub(super) fn run(args: CompletionsArgs) -> Result<ExitCode> {
    let mut text = Vec::new();
    generate(args.shell, &mut Cli::command(), "leash", &mut text);
    Out::lock().generated(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: ManArgs) -> Result<ExitCode> {
    let mut root = Cli::command();
    root.build();
    let command = match &args.command {
        None => root,
        Some(name) => match root.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                super::output::complain(format_args!("there is no command `{name}`"));
                return Ok(ExitCode::from(super::USAGE));
            }
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Out::lock().generated(&text)?;
    Ok(ExitCode::SUCCESS)
}

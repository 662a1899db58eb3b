//! The command line: what can be asked, and how it is answered. All printing of the program happens below here.

mod completions;
mod doctor;
mod log;
mod output;
mod policy;
mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::sandbox::launcher;
use crate::words;
pub use output::ColorChoice;

/// Exit code for what isn't a question or a command of ours.
const USAGE: u8 = 2;

/// Runs an agent in a governed container: every file, program and network action is decided in the kernel by Cedar policies.
#[derive(Debug, Parser)]
#[command(name = "leash", bin_name = "leash", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Global {
    /// Say more about what Leash itself does; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Print only errors, and what is weaker than it could be
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Colour the output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Log(log::LogArgs),
    Policy(policy::PolicyArgs),
    Doctor(doctor::DoctorArgs),
    #[command(hide = true)]
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Man(completions::ManArgs),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    words::say_panics();
    if let Some(code) = launcher_main(std::env::args_os().skip(1)) {
        return code;
    }
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    start_tracing(cli.global.verbose);
    let result = match cli.command {
        Command::Run(args) => run::run(args, cli.global),
        Command::Log(args) => log::run(args, cli.global),
        Command::Policy(args) => policy::run(args, cli.global),
        Command::Doctor(args) => doctor::run(args, cli.global),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => completions::man(args),
    };
    match result {
        Ok(code) => code,
        // Whoever stops reading early has what they wanted.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The launcher must not parse a command line that people could complete or mistype, and must do nothing before it is alone.
fn launcher_main(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if args.next()? != launcher::SUBCOMMAND {
        return None;
    }
    start_tracing(0);
    match args.next().and_then(|fd| fd.to_str()?.parse().ok()) {
        Some(fd) => Some(launcher::main(fd)),
        None => Some(ExitCode::from(USAGE)),
    }
}

/// Help and version go to stdout with status 0, complaints to stderr with status 2; clap knows which is which.
fn usage(error: clap::Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
    if error.use_stderr() {
        words::say(&words::usage(error));
    } else {
        // Made from the definition of the commands. There is nothing to be done about a closed stdout.
        drop(error.print());
    }
    code
}

fn start_tracing(verbose: u8) {
    let default = match verbose {
        0 => "warn,libcontainer=off,libcgroups=off",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("LEASH_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| words::Events);
    // A second subscriber is one of a test; it may stay.
    drop(subscriber.without_time().try_init());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! `leash run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Global;
use super::output::{ColorChoice, complain};
use crate::daemon::config::{self, Defaults};
use crate::daemon::{self, BackendChoice, ModeChoice, Notices, Required, RunError, RunRequest};
use crate::words::{Plain, report, say};

/// Run a command in a governed container
///
/// Every file, program and network action of the command and all its children is decided in the kernel by Cedar policies, and
/// recorded. Without --policy and --profile the profile `workspace` applies. --policy without --profile takes its place;
/// with --profile, both apply together. Policies of
/// `/etc/leash` (*.cedar, the administrators') and of a `.leash` directory in the workspace always apply, and may only forbid.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: the command's own; 128+n if signal n ended it; 125 if Leash failed, 126 if the command cannot \
                        be executed, 127 if it is not found; 2 for wrong usage, 3 for an invalid policy.\n\
                        SIGHUP makes a running session read its policies again.\n\
                        Defaults for --policy, --profile, --mode, --agent, --principal, --ro, --rw, --env, --backend, --require and \
                        --watch: the table [run] of $XDG_CONFIG_HOME/leash/config.toml (~/.config/leash/config.toml), then of \
                        /etc/leash/config.toml. Options and LEASH_* variables win."
)]
pub(super) struct RunArgs {
    /// Policy file, or directory with *.cedar files; several with an option each, or with colons between them
    #[arg(short, long = "policy", value_name = "PATH", env = "LEASH_POLICY", hide_env_values = true, value_delimiter = ':')]
    policies: Vec<PathBuf>,
    /// Ready profile
    #[arg(long, value_name = "NAME", env = "LEASH_PROFILE", hide_env_values = true)]
    profile: Option<String>,
    /// Whether the policy's denials take effect, or are only recorded [default: enforce]
    #[arg(long, value_enum, env = "LEASH_MODE", hide_env_values = true)]
    mode: Option<ModeChoice>,
    /// Name of the agent, in policies and in the log
    #[arg(long, value_name = "NAME", env = "LEASH_AGENT", hide_env_values = true)]
    agent: Option<String>,
    /// JSON file with attributes of the principal
    #[arg(long, value_name = "FILE", env = "LEASH_PRINCIPAL", hide_env_values = true)]
    principal: Option<PathBuf>,
    /// Directory that the command works in, and may write to as far as the policy allows [default: the current one]
    #[arg(short, long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Accept a workspace that is the home directory, or holds it
    #[arg(long)]
    allow_home: bool,
    /// Path that can only be read, where it would be writable otherwise (under bpf-lsm, a file until it is replaced from outside)
    #[arg(long = "ro", value_name = "PATH")]
    read_only: Vec<PathBuf>,
    /// One more path that can be written to, as far as the policy allows
    #[arg(long = "rw", value_name = "PATH")]
    writable: Vec<PathBuf>,
    /// Variable to pass on, or to set
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<OsString>,
    /// User to run as, by name or number, with an optional group number after a colon [default: the caller]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Where to write the log; the file must not exist [default: below $XDG_STATE_HOME/leash]
    #[arg(long, value_name = "FILE", env = "LEASH_LOG_FILE", hide_env_values = true)]
    log: Option<PathBuf>,
    /// What enforces the policy [default: auto]
    #[arg(long, value_enum, env = "LEASH_BACKEND", hide_env_values = true)]
    backend: Option<BackendChoice>,
    /// Refuse to run under anything weaker
    #[arg(long, value_enum, value_name = "BACKEND", env = "LEASH_REQUIRE", hide_env_values = true)]
    require: Option<Required>,
    /// Read policies again when their files change
    #[arg(long)]
    watch: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What is asked for, where the command line is silent: what the configuration says.
fn request(args: RunArgs, defaults: Defaults) -> RunRequest {
    // Policies and profile are one choice: neither adds to what the command line chose.
    let chosen = !args.policies.is_empty() || args.profile.is_some();
    let (policies, profile, policy_reader) = if chosen {
        (args.policies, args.profile, None)
    } else {
        (defaults.policy.unwrap_or_default(), defaults.profile, defaults.policy_reader)
    };
    let principal_reader = if args.principal.is_some() { None } else { defaults.principal_reader };
    RunRequest {
        policies,
        policy_reader,
        profile,
        mode: args.mode.or(defaults.mode).unwrap_or_default(),
        agent: args.agent.or(defaults.agent),
        principal: args.principal.or(defaults.principal),
        principal_reader,
        workspace: args.workspace,
        allow_home: args.allow_home,
        read_only: [defaults.ro, args.read_only].concat(),
        writable: [defaults.rw, args.writable].concat(),
        env: defaults.env.into_iter().map(OsString::from).chain(args.env).collect(),
        user: args.user,
        log: args.log,
        backend: args.backend.or(defaults.backend).unwrap_or_default(),
        require: args.require.or(defaults.require),
        watch: args.watch || defaults.watch.unwrap_or_default(),
        configuration: defaults.files,
        command: args.command,
    }
}

pub(super) fn run(args: RunArgs, global: Global) -> Result<ExitCode> {
    let mut words = Words { raw: false, quiet: global.quiet, color: global.color };
    let ran = config::read().and_then(|defaults| daemon::run(&request(args, defaults), &mut words));
    Ok(match ran {
        Ok(outcome) => {
            if let Some(error) = &outcome.error {
                complain(format_args!("the session was ended: {error}"));
            }
            if !global.quiet {
                say(&outcome.report);
            }
            if !outcome.notices.as_str().is_empty() {
                say(&outcome.notices);
            }
            exit_code(outcome.status)
        }
        Err(error) => {
            say(&describe(&error, global.color).within("leash: ", ""));
            exit_code(error.exit_status())
        }
    })
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}

/// The error in full: policy diagnostics with their places and snippets.
fn describe(error: &RunError, color: ColorChoice) -> Plain {
    match error {
        RunError::Policy(faults) => report(faults.as_ref(), color.on_stderr()),
        error => Plain::line(error),
    }
}

/// Prints what happens while the session runs.
struct Words {
    raw: bool,
    quiet: bool,
    color: ColorChoice,
}

impl Words {
    fn print(&self, text: Plain) {
        let text = text.within("leash: ", "");
        say(&if self.raw { text.raw() } else { text });
    }
}

impl Notices for Words {
    fn raw_terminal(&mut self, raw: bool) {
        self.raw = raw;
    }

    fn info(&mut self, text: &str) {
        if !self.quiet {
            self.print(Plain::line(text));
        }
    }

    fn warning(&mut self, text: &str) {
        self.print(Plain::line(text));
    }

    fn refused(&mut self, error: &RunError) {
        self.print(describe(error, self.color).within("the policy was not reloaded, the old one stays: ", ""));
    }
}

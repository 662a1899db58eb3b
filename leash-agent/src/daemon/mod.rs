//! One session from start to end: compiles the policy, makes the container, installs enforcement, and takes everything down again.
//!
//! The order is what makes it safe: the log exists before the container, the container before enforcement (which needs its
//! cgroup), and enforcement before the command's first instruction. On the way down it is reversed, and whatever fails, the
//! session's processes die first. Words for people leave through [`Notices`]; this module prints nothing.

mod as_user;
mod backend;
mod bare;
pub mod checks;
pub mod config;
mod convert;
mod hint;
mod layout;
mod left;
mod policies;
mod pump;
mod recorder;
mod repositories;
mod request;
mod session;
mod watch;

pub use policies::read_all as read_policies;
pub use request::{BackendChoice, ModeChoice, Required, RunRequest};
pub use session::{default_log_dir, own_variables, run};

use std::path::PathBuf;

use nix::errno::Errno;

use crate::audit::log::LogError;
use crate::enforce::EnforceError;
use crate::sandbox::{EXIT_LEASH, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, NAMESPACE_REMEDY, SandboxError};
use crate::words::Plain;

/// Takes what a person should see while the session runs.
pub trait Notices {
    /// The session's own terminal is in use (or no longer), so that lines need a carriage return.
    fn raw_terminal(&mut self, raw: bool);
    /// A line about something that went as asked.
    fn info(&mut self, text: &str);
    /// A line about something that is not as good as it could be; it is said in quiet mode too.
    fn warning(&mut self, text: &str);
    /// A policy that was refused while the session runs.
    fn refused(&mut self, error: &RunError);
}

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status for the caller.
    pub status: i32,
    /// The report for people.
    pub report: Plain,
    /// What they should know of even if they want no report.
    pub notices: Plain,
    /// Why the session was ended, if not by its command.
    pub error: Option<RunError>,
}

/// Why a session didn't start, or was ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Not root.
    #[error("the backend bpf-lsm needs root; use `sudo leash run …`: the command still runs as you")]
    Privileges,
    /// Not root, and yet somebody else is to be run as.
    #[error("only root can run a command as `{0}`; leave `--user` out, or use `sudo leash run …`")]
    OtherUser(String),
    /// The workspace can't be one.
    #[error("the workspace `{}` {fault}", path.display())]
    Workspace {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The workspace is, or holds, the home directory.
    #[error(
        "the workspace `{}` holds the home directory `{}`, so the agent could read and change what belongs to all your programs; choose a project's directory with --workspace, or give --allow-home if you mean it",
        path.display(),
        home.display()
    )]
    HomeWorkspace {
        /// The workspace.
        path: PathBuf,
        /// The home directory.
        home: PathBuf,
    },
    /// A path of `--ro` or `--rw`.
    #[error("`{}` cannot be bound into the container: {fault}", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The directory for an agent's state.
    #[error("cannot make `{}`: {source}", path.display())]
    AgentState {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration file can't be used.
    #[error("the configuration file `{}` {fault}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// There is no such profile.
    #[error("there is no profile `{name}`; there are {known}")]
    Profile {
        /// What was asked for.
        name: String,
        /// What can be asked for.
        known: String,
    },
    /// A policy or principal file can't be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The principal is no principal.
    #[error("`{}` is no principal: {source}", path.display())]
    Principal {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The policy can't be enforced.
    #[error(transparent)]
    Policy(Box<leash_policy::Diagnostics>),
    /// Policies were given, and there are none.
    #[error("there is no policy in {0}; a session under it could do nothing at all")]
    NoPolicy(String),
    /// A policy of the project or of the administrators permits something.
    #[error(
        "`{source_name}` permits something (policy `{policy}`); policies of /etc/leash and of a project's .leash directory may only forbid, give it with --policy instead"
    )]
    Widens {
        /// The source.
        source_name: String,
        /// The policy.
        policy: String,
    },
    /// A policy file could have been changed by the agent.
    #[error("`{}` was not read again: it lies where the agent can write; move it out of the workspace, or into its .leash directory", .0.display())]
    Writable(PathBuf),
    /// A new policy wants more than can be had.
    #[error(
        "the new policy lets programs be started below `{}`, which the Landlock floor of this session has ruled out for good; start a new session for it",
        .0.display()
    )]
    BeyondFloor(PathBuf),
    /// The command isn't there.
    #[error("cannot find the command `{0}`")]
    NotFound(String),
    /// The command isn't executable.
    #[error("cannot execute `{0}`: it is not an executable file")]
    NotExecutable(String),
    /// The log can't be kept.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The container can't be made or kept.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Enforcement can't be had or kept.
    #[error(transparent)]
    Enforce(#[from] EnforceError),
    /// A weaker backend was asked for than is required.
    #[error("`--require bpf-lsm` refuses the backend supervised; leave one of the two options out")]
    Weaker,
    /// There is no container, and one is required.
    #[error(
        "`--require container` refuses a session without one, and this machine refuses the user namespace that it needs: {0}; {NAMESPACE_REMEDY}"
    )]
    Uncontained(Errno),
    /// Leash runs in a session of its own, and can't there.
    #[error(
        "this is inside of the session `{session}` of Leash already, where no other can be had ({source}); leave `leash run` out, or run it outside of the session"
    )]
    Nested {
        /// The session.
        session: String,
        /// Why.
        source: Box<RunError>,
    },
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was attempted, as an infinitive.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl RunError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> i32 {
        match self {
            Self::Config { .. }
            | Self::Weaker
            | Self::OtherUser(_)
            | Self::Profile { .. }
            | Self::Workspace { .. }
            | Self::HomeWorkspace { .. }
            | Self::Bind { .. } => 2,
            Self::Sandbox(SandboxError::NoUser(_) | SandboxError::BadVariable(..)) => 2,
            Self::Policy(_) | Self::NoPolicy(_) | Self::Principal { .. } | Self::Widens { .. } | Self::Read { .. } => 3,
            Self::NotFound(_) => EXIT_NOT_FOUND,
            Self::NotExecutable(_) => EXIT_NOT_EXECUTABLE,
            _ => EXIT_LEASH,
        }
    }

    /// That there is no policy in any of `paths`.
    pub(crate) fn no_policy(paths: &[PathBuf]) -> Self {
        let paths: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
        Self::NoPolicy(paths.join(", "))
    }

    pub(crate) fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

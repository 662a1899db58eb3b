//! The container that a session runs in: namespaces, root file system, user, environment, cgroup and terminal.
//!
//! [`Container`] is the parent's end. It starts this program a second time as a single-threaded **launcher** (libcontainer forks,
//! which a multi-threaded process may not do safely); the launcher creates the container, whose process 1 is our own `init`,
//! and reports over a socket. Nothing of the command runs before [`Container::start`], so the caller installs enforcement
//! between [`Container::create`] and `start`.
//!
//! This module knows nothing of policies or BPF.

mod bare;
pub mod cgroup;
mod container;
pub mod env;
mod filter;
pub mod floor;
mod init;
pub mod launcher;
mod members;
mod mounts;
mod notify;
pub mod plan;
pub mod relay;
mod root;
pub mod rootless;
mod spec;
mod state;
mod syscalls;
pub mod terminal;
pub mod user;

pub use bare::{Missing, possible as possible_without_container};
pub use container::{Container, LauncherEvent, Stdio3};
pub use init::{EXIT_LEASH, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
pub use state::StateDir;

use std::path::PathBuf;

use nix::errno::Errno;

/// Directory for what lives as long as a session of root's: sockets and mount points. Hidden from the sessions themselves.
pub const RUNTIME_DIR: &str = "/run/leash";

/// What an ordinary user can do who may have no user namespace.
pub const NAMESPACE_REMEDY: &str = "use sudo (the command under `sudo leash run` still runs as you), or have user namespaces permitted: \
    sysctl `user.max_user_namespaces` above 0, on Ubuntu `kernel.apparmor_restrict_unprivileged_userns` 0, on Debian \
    `kernel.unprivileged_userns_clone` 1";

/// Why a container couldn't be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A system call or file operation failed.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Path {
        /// What was attempted, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A system call without a path failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was attempted, as an infinitive.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// No cgroup v2 hierarchy is mounted.
    #[error("no cgroup v2 hierarchy is mounted; mount one with `mount -t cgroup2 none /sys/fs/cgroup`")]
    NoCgroup,
    /// An ordinary user can't have a user namespace.
    #[error("the session of an ordinary user needs a user namespace, which this machine refuses: {0}; {NAMESPACE_REMEDY}")]
    UserNamespace(std::io::Error),
    /// An ordinary user can have neither a container nor a session without one.
    #[error(
        "this machine refuses a user namespace ({refusal}), so there can be no container, and a session without one can't be kept together: {missing}; {NAMESPACE_REMEDY}"
    )]
    NoWay {
        /// Why there is no container.
        refusal: Errno,
        /// Why it doesn't work without one.
        missing: Missing,
    },
    /// The user that was asked for doesn't exist.
    #[error("there is no user `{0}`")]
    NoUser(String),
    /// `--env` with something that is no variable.
    #[error("`{0}` is not an environment variable that can be set: {1}")]
    BadVariable(String, &'static str),
    /// The launcher said why it failed.
    #[error("the container could not be made: {0}")]
    Launcher(String),
    /// The launcher went away without a word.
    #[error("the container's launcher ended unexpectedly")]
    LauncherLost,
}

impl SandboxError {
    /// A [`SandboxError::Path`] from `errno` or an I/O error.
    pub(crate) fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { action, path, source }
    }

    /// A [`SandboxError::System`].
    pub(crate) fn system(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { action, source: errno.into() }
    }
}

//! What a session is asked to be.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use crate::audit::record::Mode;
use crate::sandbox::plan::Identity;

/// The mode as people choose it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeChoice {
    /// What the policy denies fails.
    #[default]
    Enforce,
    /// Nothing is denied; the log says what would be.
    Record,
}

impl From<ModeChoice> for Mode {
    fn from(choice: ModeChoice) -> Self {
        match choice {
            ModeChoice::Enforce => Self::Enforce,
            ModeChoice::Record => Self::Record,
        }
    }
}

/// What enforces the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendChoice {
    /// The strongest that this machine has
    #[default]
    Auto,
    /// BPF programs on LSM hooks
    BpfLsm,
    /// A supervisor that answers system calls, where BPF LSM is refused
    Supervised,
}

/// The weakest backend that may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Required {
    /// Nothing weaker than BPF programs on LSM hooks
    BpfLsm,
    /// Nothing weaker than a supervised container: refuses a session in the host's own namespaces
    Container,
}

/// Everything that `leash run` was told.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// Policy files, or directories of them. Without a profile, they replace the default one.
    pub policies: Vec<PathBuf>,
    /// Whose rights they are read with, if not those of this process.
    pub policy_reader: Option<Identity>,
    /// A ready profile.
    pub profile: Option<String>,
    /// Enforce or record.
    pub mode: ModeChoice,
    /// Name of the agent in policies and in the log.
    pub agent: Option<String>,
    /// File with the principal's attributes.
    pub principal: Option<PathBuf>,
    /// Whose rights it is read with, if not those of this process.
    pub principal_reader: Option<Identity>,
    /// The workspace; the current directory if not given.
    pub workspace: Option<PathBuf>,
    /// Whether it may be the home directory, or hold it.
    pub allow_home: bool,
    /// Paths that are readable only, inside of what is writable.
    pub read_only: Vec<PathBuf>,
    /// More writable paths.
    pub writable: Vec<PathBuf>,
    /// Variables to set or pass.
    pub env: Vec<OsString>,
    /// Who to run as.
    pub user: Option<String>,
    /// Where the log goes.
    pub log: Option<PathBuf>,
    /// What enforces the policy.
    pub backend: BackendChoice,
    /// The weakest that may be taken.
    pub require: Option<Required>,
    /// Whether policies are read again when their files change.
    pub watch: bool,
    /// Configuration files, which the session must not be able to change.
    pub configuration: Vec<PathBuf>,
    /// The command; at least one word.
    pub command: Vec<OsString>,
}

//! What goes into and comes out of the `leash-attempt` program.

use serde::{Deserialize, Serialize};

/// One attempt: a script of system calls (the language is in `bin/leash-attempt/script.rs`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Names the attempt in its outcome.
    pub id: String,
    /// The statements.
    pub script: String,
    /// After so many seconds the attempt is ended.
    pub seconds: u32,
}

/// How an attempt ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The attempt's name.
    pub id: String,
    /// Whether every statement succeeded.
    pub ok: bool,
    /// The first failed statement's operation.
    pub at: String,
    /// Its errno; -1 where the operation gives none; 0 if nothing failed.
    pub errno: i32,
    /// What can be said about the failure.
    pub note: String,
    /// What the statements read, lossily as UTF-8.
    pub data: String,
    /// The attempt's process, in its own pid namespace.
    pub pid: u32,
}

impl Attempt {
    /// An attempt with the usual time limit, generous for emulated processors.
    pub fn new(id: impl Into<String>, script: impl Into<String>) -> Self {
        Self { id: id.into(), script: script.into(), seconds: 240 }
    }
}

//! Backends: they install a compiled policy for a session and deliver what was decided.
//!
//! `bpf-lsm`: [`Engine`] is the machine's set of loaded programs, [`Session`] one governed cgroup with its policy. `supervised`: see
//! [`supervised`]. Once a session is registered, both are a [`Guard`].
//! This room knows maps, programs and records; it knows neither Cedar nor the log.

pub mod bench;
mod btf;
mod cgroup;
mod error;
mod event;
mod guard;
mod install;
mod layout;
pub mod lsm;
mod network;
mod owner;
mod programs;
mod ring;
mod session;
pub mod supervised;
mod sys;

use std::sync::{Arc, Mutex, PoisonError};

pub use cgroup::sees_the_whole_tree;
pub use error::EnforceError;
pub use event::{Cause, Event, EventResource, Mode};
pub use guard::Guard;
pub use leash_common::kind::{Kind, Protocol};
pub use network::{NetworkFloor, NetworkPrograms, available as network_available};
pub use session::{Counts, Session, SessionSpec, Totals};

use error::Result;
use install::{Lock, Maps};

/// The programs of this machine, loaded or joined.
pub struct Engine {
    maps: Mutex<Arc<Maps>>,
}

impl Engine {
    /// Loads the programs, or joins those that another process loaded, and collects sessions that have ended without a word.
    pub fn open() -> Result<Self> {
        let lock = Lock::take()?;
        let maps = install::join(&lock)?;
        session::collect(&maps, &lock)?;
        Ok(Self { maps: Mutex::new(Arc::new(maps)) })
    }

    /// Why there can be none, if that is found out at once. There may be other reasons.
    pub fn refusal() -> Option<EnforceError> {
        install::must_be_possible().err()
    }

    /// Makes the cgroup a session. It is active from the first exec in it on.
    pub fn register(&self, spec: SessionSpec<'_>) -> Result<Session> {
        let lock = Lock::take()?;
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if !install::directory().is_dir() {
            // The last session of another process ended meanwhile, and took the pins with it.
            *maps = Arc::new(install::join(&lock)?);
        }
        Session::register(Arc::clone(&maps), &lock, spec)
    }
}

impl Drop for Engine {
    /// The last one out removes the pins.
    fn drop(&mut self) {
        let Ok(lock) = Lock::take() else { return };
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if session::collect(&maps, &lock).is_ok_and(|alive| alive == 0)
            && let Err(error) = install::remove(&lock)
        {
            tracing::warn!("{error}");
        }
    }
}

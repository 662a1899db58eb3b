//! The directory of a session's sockets and mount points.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{RUNTIME_DIR, SandboxError};

/// Name of the mount point of the session's root in the directory.
pub(super) const ROOT: &str = "root";

/// Removed when dropped.
#[derive(Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Creates the directory of `session`.
    pub fn create(session: &str) -> Result<Self, SandboxError> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder.create(RUNTIME_DIR).map_err(SandboxError::path("create", RUNTIME_DIR))?;
        let dir = Path::new(RUNTIME_DIR).join(session);
        builder.recursive(false).create(&dir).map_err(SandboxError::path("create", &dir))?;
        let root = dir.join(ROOT);
        builder.create(&root).map_err(SandboxError::path("create", &root))?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // The mount point goes first and not recursively: should anything ever be mounted there in our own namespace, this
        // fails, and nothing of the host is deleted through it.
        let removed = fs::remove_dir(self.0.join(ROOT)).and_then(|()| fs::remove_dir_all(&self.0));
        if let Err(error) = removed {
            tracing::warn!(%error, dir = %self.0.display(), "the session's directory is left behind");
        }
    }
}

//! The directory of a session's sockets and mount points, and the remains of sessions whose daemon was killed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::SandboxError;
use super::cgroup::Cgroup;

/// Name of the mount point of the session's root in the directory.
pub(super) const ROOT: &str = "root";
/// Name of the file that the session's daemon keeps locked for as long as it lives.
const OWNER: &str = "owner";

/// Removed when dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _owner: Flock<File>,
}

impl StateDir {
    /// Creates the directory of `session` below `runtime`, and removes what dead sessions left there.
    pub fn create(runtime: &Path, session: &str) -> Result<Self, SandboxError> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder.create(runtime).map_err(SandboxError::path("create", runtime))?;
        // Held while directories come and go, so that one in the making isn't taken for one that was left.
        let directory = File::open(runtime).map_err(SandboxError::path("open", runtime))?;
        let _exclusive = lock(directory, FlockArg::LockExclusive).map_err(SandboxError::system("lock the runtime directory"))?;
        collect(runtime);
        let path = runtime.join(session);
        builder.recursive(false).create(&path).map_err(SandboxError::path("create", &path))?;
        let root = path.join(ROOT);
        builder.create(&root).map_err(SandboxError::path("create", &root))?;
        let owner = path.join(OWNER);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&owner);
        let file = file.map_err(SandboxError::path("create", &owner))?;
        let owner = lock(file, FlockArg::LockExclusiveNonblock).map_err(SandboxError::system("lock the session"))?;
        Ok(Self { path, _owner: owner })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn lock(file: File, how: FlockArg) -> Result<Flock<File>, Errno> {
    Flock::lock(file, how).map_err(|(_, errno)| errno)
}

/// Removes the directories and cgroups of sessions whose daemon is gone.
fn collect(runtime: &Path) {
    let entries = fs::read_dir(runtime).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let path = entry.path();
        // Without the file the directory was left half made, or half removed.
        let _dead = match File::open(path.join(OWNER)).map(|file| lock(file, FlockArg::LockExclusiveNonblock)) {
            Ok(Ok(dead)) => Some(dead),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Ok(Err(_)) | Err(_) => continue,
        };
        if let Some(session) = entry.file_name().to_str() {
            // Dropping it kills what is left inside, and removes it.
            drop(Cgroup::left_by(session));
        }
        remove(&path);
    }
}

fn remove(path: &Path) {
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    // The mount point goes first and not recursively: should anything ever be mounted there in our own namespace, this
    // fails, and nothing of the host is deleted through it.
    let removed = gone(fs::remove_dir(path.join(ROOT))).and_then(|()| gone(fs::remove_dir_all(path)));
    if let Err(error) = removed {
        tracing::warn!(%error, dir = %path.display(), "the session's directory is left behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dead_sessions_left_is_removed_and_what_lives_stays() {
        let runtime = tempfile::tempdir().unwrap();
        let alive = StateDir::create(runtime.path(), "alive").unwrap();
        for (session, parts) in [("dead", &[ROOT, OWNER][..]), ("half-removed", &[OWNER]), ("half-made", &[ROOT]), ("empty", &[])]
        {
            let dir = runtime.path().join(session);
            fs::create_dir(&dir).unwrap();
            for part in parts {
                if *part == ROOT { fs::create_dir(dir.join(ROOT)).unwrap() } else { fs::write(dir.join(OWNER), "").unwrap() }
            }
        }
        let next = StateDir::create(runtime.path(), "next").unwrap();
        let mut left: Vec<_> = fs::read_dir(runtime.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["alive", "next"]);
        drop((alive, next));
        assert_eq!(fs::read_dir(runtime.path()).unwrap().count(), 0);
    }
}

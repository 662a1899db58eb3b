//! A session's cgroup: what makes a process governed, and what ends with the session.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{SandboxError, mounts};

/// Below the hierarchy's root, the parent of all sessions.
const PARENT: &str = "leash";
/// Processes and threads that a session may have at once: far beyond any build, far below what would starve the machine.
const PIDS_MAX: &str = "32768";
/// How long the kernel may take to reap killed processes.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Where the cgroup v2 hierarchy is mounted, if it is.
pub fn mount_point() -> Result<Option<PathBuf>, SandboxError> {
    mounts::cgroup2_mount()
}

/// The cgroup of one session. Dropping it kills what is inside and removes it.
#[derive(Debug)]
pub struct Cgroup {
    mount: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// Creates the cgroup of `session`.
    pub fn create(session: &str) -> Result<Self, SandboxError> {
        let mount = mounts::cgroup2_mount()?.ok_or(SandboxError::NoCgroup)?;
        let path = Path::new("/").join(PARENT).join(session);
        let cgroup = Self { mount, path };
        let parent = cgroup.mount.join(PARENT);
        // On a hybrid hierarchy the pids controller is elsewhere; the limit is a courtesy to the machine, not a boundary.
        let enable = |dir: &Path| drop(fs::write(dir.join("cgroup.subtree_control"), "+pids"));
        enable(&cgroup.mount);
        fs::create_dir_all(&parent).map_err(SandboxError::path("create the cgroup", &parent))?;
        enable(&parent);
        let dir = cgroup.dir();
        fs::create_dir(&dir).map_err(SandboxError::path("create the cgroup", &dir))?;
        drop(fs::write(dir.join("pids.max"), PIDS_MAX));
        Ok(cgroup)
    }

    /// The cgroup that a session left when its daemon was killed, if there is one.
    pub(super) fn left_by(session: &str) -> Option<Self> {
        let mount = mounts::cgroup2_mount().ok()??;
        let path = Path::new("/").join(PARENT).join(session);
        let left = Path::new(&mount).join(PARENT).join(session).is_dir();
        left.then(|| Self { mount, path })
    }

    /// Mount point of the hierarchy.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Path below the mount point, with a leading slash.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Absolute path of the directory.
    pub fn dir(&self) -> PathBuf {
        self.mount.join(self.path.strip_prefix("/").unwrap_or(&self.path))
    }

    /// Kills every process inside and waits until they are gone.
    pub fn kill(&self) -> Result<(), SandboxError> {
        let dir = self.dir();
        let events = dir.join("cgroup.events");
        let deadline = Instant::now() + KILL_PATIENCE;
        loop {
            // Opened before it is read, so that a change in between still wakes the poll.
            let file = match fs::File::open(&events) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(SandboxError::path("read", &events)(error)),
            };
            let text = fs::read_to_string(&events).map_err(SandboxError::path("read", &events))?;
            if text.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            let kill = dir.join("cgroup.kill");
            fs::write(&kill, "1").map_err(SandboxError::path("kill the processes of", &dir))?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SandboxError::System {
                    action: "end all processes of the session",
                    source: std::io::ErrorKind::TimedOut.into(),
                });
            }
            let slice = u16::try_from(left.as_millis().min(200)).unwrap_or(200);
            let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
            poll(&mut fds, PollTimeout::from(slice)).map_err(SandboxError::system("wait for the session's processes"))?;
        }
    }

    /// Kills what is inside and removes the cgroup with all its children.
    pub fn remove(&self) -> Result<(), SandboxError> {
        self.kill()?;
        remove_tree(&self.dir())?;
        // Fails while other sessions run, and then it is theirs.
        drop(fs::remove_dir(self.mount.join(PARENT)));
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "the session's cgroup is left behind");
        }
    }
}

fn remove_tree(dir: &Path) -> Result<(), SandboxError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SandboxError::path("read", dir)(error)),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir).map_err(SandboxError::path("remove the cgroup", dir))
}

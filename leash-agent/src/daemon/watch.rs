//! Notices when policy files change.
//!
//! Editors replace files, so the directory of each file is watched, and a change of any name in it counts; reading policies
//! again when nothing changed is harmless.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::RunError;

/// Watches files and directories.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
}

impl Watch {
    /// Watches each path (a directory, or a file through its directory).
    pub(super) fn new(paths: &[PathBuf]) -> Result<Self, RunError> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|errno| RunError::system("watch policy files")(errno.into()))?;
        let flags =
            AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE;
        for path in paths {
            let dir = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(path) };
            inotify.add_watch(dir, flags).map_err(|errno| RunError::Read { path: dir.to_owned(), source: errno.into() })?;
        }
        Ok(Self { inotify })
    }

    /// Readable when something changed.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Takes all pending changes.
    pub(super) fn clear(&self) {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, poll};

    fn changed(watch: &Watch, milliseconds: u16) -> bool {
        let mut fds = [PollFd::new(watch.fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, milliseconds).unwrap() == 1;
        watch.clear();
        ready
    }

    #[test]
    fn replaced_and_rewritten_files_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.cedar");
        std::fs::write(&file, "one").unwrap();
        let watch = Watch::new(std::slice::from_ref(&file)).unwrap();
        assert!(!changed(&watch, 0));
        std::fs::write(&file, "two").unwrap();
        assert!(changed(&watch, 5000));
        std::fs::write(dir.path().join("new"), "three").unwrap();
        changed(&watch, 5000);
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        assert!(changed(&watch, 5000));
    }
}

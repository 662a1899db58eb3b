//! Acting on files as the session's user: what root does below a home directory must be what its owner could have done, or a link in
//! it would lead root anywhere.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::sandbox::plan::Identity;

/// This thread's file system user, until dropped. Giving up user 0 also gives up its powers over files (capabilities(7)).
pub(super) struct FileSystemUser {
    before: (Uid, Gid),
}

impl FileSystemUser {
    pub(super) fn of(user: &Identity) -> Self {
        let gid = setfsgid(Gid::from_raw(user.gid));
        let uid = setfsuid(Uid::from_raw(user.uid));
        Self { before: (uid, gid) }
    }
}

impl Drop for FileSystemUser {
    fn drop(&mut self) {
        setfsuid(self.before.0);
        setfsgid(self.before.1);
    }
}

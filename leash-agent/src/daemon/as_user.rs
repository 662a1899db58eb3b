//! Acting on files as the session's user: what root does below a home directory must be what its owner could have done, or a link in
//! it would lead root anywhere.

use nix::libc;
use nix::unistd::{Gid, Uid, getgroups, setfsgid, setfsuid};

use crate::sandbox::plan::Identity;

/// This thread's file system user and groups, until dropped. Giving up user 0 also gives up its powers over files (capabilities(7)).
pub(super) struct FileSystemUser {
    before: (Uid, Gid),
    groups: Option<Vec<u32>>,
}

impl FileSystemUser {
    pub(super) fn of(user: &Identity) -> Self {
        // Root's groups may read what the user may not. Without root there is nothing to give up, and nothing is.
        let own = getgroups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
        let groups = set_groups(&user.groups).then_some(own);
        let gid = setfsgid(Gid::from_raw(user.gid));
        let uid = setfsuid(Uid::from_raw(user.uid));
        Self { before: (uid, gid), groups }
    }
}

impl Drop for FileSystemUser {
    fn drop(&mut self) {
        setfsuid(self.before.0);
        setfsgid(self.before.1);
        if let Some(groups) = &self.groups {
            set_groups(groups);
        }
    }
}

/// Does something as the file system user `user`, or as whoever this thread is.
pub(super) fn as_user<T>(user: Option<&Identity>, act: impl FnOnce() -> T) -> T {
    let _as_user = user.map(FileSystemUser::of);
    act()
}

/// Sets the groups of this thread; the C library's function would set those of all threads.
fn set_groups(groups: &[u32]) -> bool {
    // SAFETY: the list outlives the call and is as long as said.
    unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    #[ignore = "takes root, as `cargo xtask test` has it"]
    fn the_groups_of_root_open_nothing_for_a_user() {
        assert!(Uid::effective().is_root());
        let file = tempfile::NamedTempFile::new().unwrap();
        // A group that this process is in, and the user isn't.
        chown(file.path(), Some(0), Some(54321)).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let before: Vec<u32> = getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        assert!(set_groups(&[0, 54321]));
        let user = Identity { groups: vec![65534], ..crate::sandbox::user::named("65534:65534").unwrap() };
        assert!(as_user(Some(&user), || std::fs::read(file.path())).is_err());
        assert!(std::fs::read(file.path()).is_ok());
        assert!(getgroups().unwrap().contains(&Gid::from_raw(54321)));
        let member = Identity { groups: vec![65534, 54321], ..user };
        assert!(as_user(Some(&member), || std::fs::read(file.path())).is_ok());
        set_groups(&before);
    }
}

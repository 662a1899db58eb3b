//! Where the supervisor's threads stand: in the session's namespaces and root, as the session's user, without its privileges.
//!
//! So the kernel answers them as it would answer the caller: by the same names, with the same permissions. They stay in the host's
//! pid namespace, where nothing of the session can reach them and where its `/proc/self` means nobody, so that it can't be taken
//! for the caller's. One capability is kept in reserve: looking into a program that hides itself from its own user.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};

use super::sys::{self, Result, check};

/// `CAP_SYS_PTRACE`, linux/capability.h.
const SYS_PTRACE: u32 = 1 << 19;
/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// The session's user.
#[derive(Clone, Debug)]
pub struct User {
    /// User number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups; `None` if the daemon has them, too, and may not change them.
    pub groups: Option<Vec<u32>>,
}

/// Moves the calling thread into the namespaces and the root of process `pid` below `proc`. Its file system attributes are its own
/// from here on.
pub(super) fn enter(proc: BorrowedFd<'_>, pid: u32) -> Result<()> {
    let open = |name: &str| -> Result<OwnedFd> {
        let path = CString::new(format!("{pid}/ns/{name}")).map_err(|_| Errno::EINVAL)?;
        sys::open(proc.as_raw_fd(), &path, libc::O_RDONLY, 0, 0)
    };
    let namespaces = [
        (open("ipc")?, CloneFlags::CLONE_NEWIPC),
        (open("uts")?, CloneFlags::CLONE_NEWUTS),
        (open("cgroup")?, CloneFlags::CLONE_NEWCGROUP),
        (open("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    unshare(CloneFlags::CLONE_FS)?;
    for (namespace, kind) in namespaces {
        setns(namespace, kind)?;
    }
    Ok(())
}

/// Makes the calling thread, and it alone, one of the session's user. glibc's functions would change every thread.
pub(super) fn become_user(user: &User) -> Result<()> {
    if let Some(groups) = &user.groups {
        // SAFETY: the length belongs to the array, which outlives the call.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    }
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, user.gid, user.gid, user.gid) })?;
    // SAFETY: no pointers; a flag of this thread.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, user.uid, user.uid, user.uid) })?;
    set_capabilities(0)
}

/// Takes every privilege from the calling thread, and it alone: whoever calls Leash may have some, in a namespace of its own.
pub(super) fn give_up() -> Result<()> {
    capset([0; 6])
}

/// Keeps the reserve permitted, and makes `effective` effective.
fn set_capabilities(effective: u32) -> Result<()> {
    // Effective, permitted, inheritable; then the upper halves.
    capset([effective, SYS_PTRACE, 0, 0, 0, 0])
}

fn capset(sets: [u32; 6]) -> Result<()> {
    let header = [CAPABILITY_VERSION, 0];
    // SAFETY: the version says that two triples follow, and they do.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}

/// Does `action`, and if it isn't permitted, once more with the reserve, if there is one. It must only look at the caller, never act
/// for it.
pub(super) fn insist<T>(action: impl Fn() -> Result<T>) -> Result<T> {
    match action() {
        Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
            if set_capabilities(SYS_PTRACE).is_err() {
                // A daemon without privileges never had it.
                return Err(errno);
            }
            let result = action();
            set_capabilities(0)?;
            result
        }
        result => result,
    }
}

//! Sessions of an ordinary user: this process moves into a user namespace of its own, in which that user has every privilege and
//! nobody else exists. So the container is made as root makes it, and whatever comes of that reaches no further than the user.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork};

use super::SandboxError;

/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Where the kernel says which capability is the last that it knows.
const LAST_CAPABILITY: &str = "/proc/sys/kernel/cap_last_cap";

/// Moves this process, which must have one thread, into a user namespace where its user keeps its number, and makes programs that
/// it starts as privileged there as it is itself: the launcher is one.
pub fn enter() -> Result<(), SandboxError> {
    move_in().map_err(SandboxError::UserNamespace)
}

fn move_in() -> std::io::Result<()> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // Without it the kernel lets nobody but root map groups, user_namespaces(7).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    Ok(pass_on_capabilities()?)
}

/// Whether [`enter`] would succeed, and be of any use: some systems permit the namespace, but nothing in it, and in some containers no `/proc`
/// can be mounted. Tried in a process of its own; the calling one must have no other threads.
pub fn possible() -> Result<(), Errno> {
    let attempt = || -> std::io::Result<()> {
        move_in()?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        // The next process is the first of the new pid namespace, and can show that one.
        Ok(in_process(|| Ok(mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?))?)
    };
    in_process(attempt)
}

/// Whether `attempt` succeeds in a process of its own.
fn in_process(attempt: impl FnOnce() -> std::io::Result<()>) -> Result<(), Errno> {
    // SAFETY: without other threads, the child may use anything.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let status = attempt().map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
            // SAFETY: ends this process at once, without what the parent registered for its end.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)),
            _ => Err(Errno::EINTR),
        },
    }
}

/// Makes all capabilities ambient: a program that isn't root's loses the others when it is started.
fn pass_on_capabilities() -> Result<(), Errno> {
    let last = fs::read_to_string(LAST_CAPABILITY).ok().and_then(|text| text.trim().parse::<u32>().ok()).ok_or(Errno::EINVAL)?;
    let all = u64::MAX >> 63_u32.saturating_sub(last);
    let (low, high) = (all as u32, (all >> 32) as u32);
    capset([low, low, low, high, high, high])?;
    for capability in 0..=last {
        // SAFETY: no pointers.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) })?;
    }
    Ok(())
}

/// Takes all of them from this process, which must have one thread; the ambient ones go with the others.
pub(super) fn give_up_capabilities() -> Result<(), Errno> {
    capset([0; 6])
}

/// Effective, permitted, inheritable; then the upper halves.
fn capset(sets: [u32; 6]) -> Result<(), Errno> {
    let header = [CAPABILITY_VERSION, 0];
    // SAFETY: the version says that two triples follow, and they do.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}

/// Where an ordinary user's sessions keep what [`RUNTIME_DIR`](super::RUNTIME_DIR) is for root's.
pub fn runtime_dir() -> Result<PathBuf, SandboxError> {
    let own = |path: &Path| path.symlink_metadata().is_ok_and(|found| is_private(&found));
    let from_login = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute() && own(path));
    if let Some(dir) = from_login {
        return Ok(dir.join("leash"));
    }
    let dir = PathBuf::from(format!("/tmp/leash-{}", Uid::effective()));
    let made = fs::DirBuilder::new().mode(0o700).create(&dir);
    match made {
        // Anybody could have put something else there.
        Ok(()) => Ok(dir),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && own(&dir) => Ok(dir),
        Err(error) => Err(SandboxError::path("use", dir)(error)),
    }
}

fn is_private(found: &fs::Metadata) -> bool {
    found.is_dir() && found.uid() == Uid::effective().as_raw() && found.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_directories_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        assert!(is_private(&dir.path().symlink_metadata().unwrap()));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(!is_private(&link.symlink_metadata().unwrap()));
        assert!(!is_private(&Path::new("/tmp").metadata().unwrap()));
    }
}

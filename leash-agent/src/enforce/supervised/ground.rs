//! Where the supervisor's threads stand, and how they come to an object that they hold.
//!
//! A path without a directory of its own would start where the thread stands, and what is there would be the supervisor's, not the
//! caller's. So threads stand where nothing is. Only for a call that takes a path and no directory does one step into another, with a
//! text that is ours, and back.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};

use super::sys::{self, Result};

/// See the module.
pub(super) struct Ground {
    /// `/proc/self/fd` of the host: the text of a descriptor's number leads to what it refers to.
    numbers: OwnedFd,
    nowhere: OwnedFd,
    /// Ends the session's threads.
    stopping: Arc<AtomicBool>,
}

impl Ground {
    /// `nowhere` is where threads stand.
    pub(super) fn new(numbers: OwnedFd, nowhere: OwnedFd, stopping: Arc<AtomicBool>) -> Self {
        Self { numbers, nowhere, stopping }
    }

    /// Makes the mask for new files and the current directory the calling thread's own, and has it stand nowhere.
    pub(super) fn stand(&self) -> Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        sys::enter(self.nowhere.as_raw_fd())
    }

    /// Does `action` in a directory. It must take no text of a caller for a path but one name without slashes.
    pub(super) fn within<T>(&self, dir: &OwnedFd, action: impl FnOnce() -> Result<T>) -> Result<T> {
        sys::enter(dir.as_raw_fd())?;
        let result = action();
        if let Err(errno) = sys::enter(self.nowhere.as_raw_fd()) {
            // It must answer nothing from there.
            self.stopping.store(true, Ordering::SeqCst);
            return Err(errno);
        }
        result
    }

    /// Does `action` where the number of a descriptor is a path to what it refers to; see [`number`].
    pub(super) fn among_numbers<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<T> {
        self.within(&self.numbers, action)
    }

    /// Does `action` with a path that leads to `object`.
    pub(super) fn by_number<T>(&self, object: &OwnedFd, action: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
        let number = number(object)?;
        self.among_numbers(|| action(&number))
    }

    /// Opens what `object` refers to.
    pub(super) fn open(&self, object: &OwnedFd, flags: i32) -> Result<OwnedFd> {
        sys::open(self.numbers.as_raw_fd(), &number(object)?, flags, 0, 0)
    }

    /// What the kernel calls `object`.
    pub(super) fn link(&self, object: &OwnedFd) -> Result<Vec<u8>> {
        sys::read_link(self.numbers.as_raw_fd(), &number(object)?)
    }
}

/// The text of a descriptor's number.
pub(super) fn number(fd: &OwnedFd) -> Result<CString> {
    CString::new(fd.as_raw_fd().to_string()).map_err(|_| Errno::EINVAL)
}

/// A directory that holds nothing, can't be written to, and lies in no tree, so that `..` leads nowhere either. Takes `CAP_SYS_ADMIN`
/// in the mount namespace.
pub(super) fn empty() -> Result<OwnedFd> {
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    // SAFETY: the name outlives the call.
    let context = sys::own(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), FSOPEN_CLOEXEC) })?;
    let (none, fd) = (std::ptr::null::<libc::c_char>(), context.as_raw_fd());
    // SAFETY: this command takes neither key nor value.
    sys::check(unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) })?;
    // SAFETY: no pointers.
    sys::own(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes) })
}

/// linux/mount.h
const FSOPEN_CLOEXEC: libc::c_uint = 1;
/// See [`FSOPEN_CLOEXEC`].
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
/// See [`FSOPEN_CLOEXEC`].
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

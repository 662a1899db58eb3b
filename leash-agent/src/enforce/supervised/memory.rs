//! Memory of processes as files of `/proc`.
//!
//! A program may hold in its memory what only it may read, so nobody reads it but itself and programs to which the policy grants the same.
//! Nobody at all writes to it: the writer could make another program do what it may not do itself.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use leash_common::event::Cause;
use nix::errno::Errno;
use nix::libc;

use super::desk::{Ask, Desk};
use super::name::Name;
use super::sys::{self, Result};

/// Files of a process that hold bytes of its memory: all of it, and where its environment lies.
const FILES: [&[u8]; 2] = [b"mem", b"environ"];

/// Whether a file with this path can hold some.
pub(super) fn is_shown_by(path: &[u8]) -> bool {
    path.starts_with(b"/proc/") && FILES.contains(&path.rsplit(|&byte| byte == b'/').next().unwrap_or_default())
}

/// Fails for an open with these flags that could write to memory.
pub(super) fn refuse_writing(name: &Name, flags: i32) -> Result<()> {
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
    if writes && name.bytes().ends_with(b"/mem") { Err(Errno::EPERM) } else { Ok(()) }
}

/// `asks`, which are about `object`, a file of that kind. They are denied for another program's memory.
pub(super) fn guarded(desk: &Desk<'_>, object: &OwnedFd, name: &Name, mut asks: Vec<Ask>) -> Result<Vec<Ask>> {
    if is_of_another(desk, object, name.path())? {
        asks.iter_mut().for_each(|ask| ask.except = Some(Cause::OtherProgram));
    }
    Ok(asks)
}

/// Whether the policy tells the program whose memory this is from the caller's.
fn is_of_another(desk: &Desk<'_>, object: &OwnedFd, path: &[u8]) -> Result<bool> {
    let Some(rest) = path.strip_prefix(b"/proc/") else { return Ok(true) };
    let number = rest.split(|&byte| byte == b'/').next().unwrap_or_default();
    // The caller waits, so its number is its own.
    if number == desk.task.inner.1.to_string().as_bytes() {
        return Ok(false);
    }
    let (directory, file) = path.split_at(path.iter().rposition(|&byte| byte == b'/').unwrap_or_default());
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let directory = sys::open(libc::AT_FDCWD, &text(directory)?, libc::O_PATH | libc::O_DIRECTORY, 0, libc::RESOLVE_NO_SYMLINKS)?;
    // The number may have become another process's.
    let there = sys::status(directory.as_raw_fd(), &text(file.get(1..).unwrap_or_default())?)?;
    if !there.same(&sys::status(object.as_raw_fd(), c"")?) {
        return Err(Errno::ESRCH);
    }
    let class = |exe: &[u8]| desk.policy.class(exe);
    let Some(other) = desk.shared.tasks.program(directory.as_fd()) else { return Ok(true) };
    Ok(match (class(&desk.task.exe), class(&other)) {
        (Ok(own), Ok(other)) => own != other,
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_memory_are_known_by_their_names() {
        for path in ["/proc/7/mem", "/proc/7/task/8/mem", "/proc/7/environ", "/proc/7/task/7/environ"] {
            assert!(is_shown_by(path.as_bytes()), "{path}");
        }
        for path in ["/proc/meminfo", "/proc/7/maps", "/w/mem", "/proc/7/memory", "/proc"] {
            assert!(!is_shown_by(path.as_bytes()), "{path}");
        }
    }
}

//! The name that an object has in the session: what the kernel says of a descriptor, never what a program said.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use leash_common::event::Cause;
use leash_common::table::MAX_PATH_BYTES;
use nix::errno::Errno;
use nix::libc;

use super::ground::Ground;
use super::sys::{self, Result, Status};

/// File systems of objects that only descriptors reach and that hold no file's bytes (linux/magic.h): pipes, sockets, event and
/// poll descriptors, processes.
const ANONYMOUS: [i64; 4] = [0x5049_5045, 0x534f_434b, 0x0904_1934, 0x5049_4446];
/// File systems of memory files (memfd_create(2)): tmpfs and hugetlbfs. Their mounts are the kernel's own.
const MEMORY: [i64; 2] = [0x0102_1994, 0x9584_58f6];
/// Further ones that nobody mounts: namespaces, secret memory, buffers of devices.
const WITHOUT_MOUNT: [i64; 3] = [0x6e73_6673, 0x5345_434d, 0x444d_4142];
/// What the kernel appends to the name of what has none any more.
const DELETED: &[u8] = b" (deleted)";

/// An object's name.
#[derive(Clone, Debug)]
pub(super) enum Name {
    /// Its path.
    Path(Vec<u8>),
    /// None that a policy could speak of: why, and what can be said for the record.
    Without(Cause, Vec<u8>),
    /// None, because it is memory with a descriptor, its maker's to use by that: what can be said for the record.
    Memory(Vec<u8>),
    /// It belongs to somebody else or lies outside of the session, and nobody in it may have it, whatever policy or mode: what can be said for
    /// the record.
    Foreign(Vec<u8>),
    /// It is reached by descriptors only, and is no file.
    Anonymous,
}

impl Name {
    /// The path, or what there is of it.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Path(path) | Self::Without(_, path) | Self::Memory(path) | Self::Foreign(path) => path,
            Self::Anonymous => b"",
        }
    }

    /// The path; empty if there is none.
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Path(path) => path,
            Self::Without(..) | Self::Memory(_) | Self::Foreign(_) | Self::Anonymous => b"",
        }
    }

    /// The name of `name` in the directory of this name.
    pub(super) fn below(&self, name: &[u8]) -> Self {
        match self {
            Self::Path(path) => {
                let slash: &[u8] = if path == b"/" { b"" } else { b"/" };
                let whole = [path.as_slice(), slash, name].concat();
                if whole.len() >= MAX_PATH_BYTES { Self::Without(Cause::TooLong, Vec::new()) } else { Self::Path(whole) }
            }
            Self::Without(cause, path) => Self::Without(*cause, [path.as_slice(), b"/", name].concat()),
            Self::Foreign(path) => Self::Foreign([path.as_slice(), b"/", name].concat()),
            Self::Anonymous | Self::Memory(_) => Self::Without(Cause::Unreachable, name.to_vec()),
        }
    }
}

/// The mounts of the session.
pub(super) struct Mounts {
    table: Mutex<(File, HashSet<u64>)>,
    ground: Arc<Ground>,
}

impl Mounts {
    /// `table` is the `mountinfo` of a process of the session.
    pub(super) fn new(table: OwnedFd, ground: Arc<Ground>) -> Self {
        Self { table: Mutex::new((table.into(), HashSet::new())), ground }
    }

    fn has(&self, mount: u64) -> bool {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, known) = &mut *table;
        if known.contains(&mount) {
            return true;
        }
        // Nothing in a session can mount, but the host's automounter may have.
        let mut text = Vec::new();
        if file.rewind().and_then(|()| file.read_to_end(&mut text)).is_err() {
            return false;
        }
        known.extend(text.split(|&byte| byte == b'\n').filter_map(own_mount));
        known.contains(&mount)
    }

    /// Where a file that was opened outside and handed in (as standard input, say) is to be opened again: in the session's own mounts,
    /// if it has the same path there. Anything else as it is.
    pub(super) fn own(&self, object: OwnedFd, status: Status) -> Result<(OwnedFd, Status)> {
        if self.has(status.mount) {
            return Ok((object, status));
        }
        let path = self.ground.link(&object).ok().filter(|path| path.starts_with(b"/")).and_then(|path| CString::new(path).ok());
        let Some(path) = path else { return Ok((object, status)) };
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let Ok(own) = sys::open(libc::AT_FDCWD, &path, flags, 0, libc::RESOLVE_NO_SYMLINKS) else { return Ok((object, status)) };
        let found = sys::status(own.as_raw_fd(), c"")?;
        if found.same(&status) { Ok((own, found)) } else { Ok((object, status)) }
    }

    /// Name of the object behind `fd`, whose status is `status`.
    pub(super) fn name(&self, fd: &OwnedFd, status: &Status) -> Result<Name> {
        let path = match self.ground.link(fd) {
            Err(Errno::ENAMETOOLONG) if self.has(status.mount) => return Ok(Name::Without(Cause::TooLong, Vec::new())),
            // Somebody else's, whatever it is called.
            Err(Errno::ENAMETOOLONG) => Vec::new(),
            path => path?,
        };
        if !self.has(status.mount) {
            return Ok(match sys::file_system(fd.as_raw_fd())? {
                kind if ANONYMOUS.contains(&kind) => Name::Anonymous,
                kind if MEMORY.contains(&kind) && path.starts_with(b"/memfd:") && path.ends_with(DELETED) => Name::Memory(path),
                kind if WITHOUT_MOUNT.contains(&kind) => Name::Without(Cause::Unreachable, path),
                _ => Name::Foreign(path),
            });
        }
        if !path.starts_with(b"/") {
            return Ok(Name::Without(Cause::Unreachable, path));
        }
        let path = match path.strip_suffix(DELETED) {
            Some(former) if !is_at(&path, status) => former.to_vec(),
            _ => path,
        };
        if path.len() >= MAX_PATH_BYTES {
            return Ok(Name::Without(Cause::TooLong, Vec::new()));
        }
        Ok(Name::Path(path))
    }
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG]… - TYPE SOURCE OPTIONS`, proc_pid_mountinfo(5): the number of a mount. A `/proc` that
/// the host has mounted elsewhere shows other processes, so it is none of the session's.
fn own_mount(line: &[u8]) -> Option<u64> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (id, point) = (fields.next()?, fields.nth(3)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let elsewhere = kind == b"proc" && point != b"/proc" && !point.starts_with(b"/proc/");
    if elsewhere { None } else { std::str::from_utf8(id).ok()?.parse().ok() }
}

/// Whether a file with this status is at `path` (and its name really ends like that).
fn is_at(path: &[u8], expected: &Status) -> bool {
    let Ok(path) = CString::new(path) else { return false };
    sys::status(libc::AT_FDCWD, &path).is_ok_and(|found| found.same(expected) && found.mount == expected.mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_proc_is_none_of_the_sessions_mounts() {
        let line =
            |point: &str, kind: &str| own_mount(format!("36 35 0:4 / {point} rw,nosuid master:1 - {kind} {kind} rw").as_bytes());
        for (point, kind) in [("/", "ext4"), ("/proc", "proc"), ("/proc/sys", "proc"), ("/srv/proc", "tmpfs")] {
            assert_eq!(line(point, kind), Some(36), "{point} {kind}");
        }
        for point in ["/srv/proc", "/process", "/"] {
            assert_eq!(line(point, "proc"), None, "{point}");
        }
        assert_eq!(own_mount(b""), None);
    }
}

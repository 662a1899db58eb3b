//! The name that an object has in the session: what the kernel says of a descriptor, never what a program said.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use leash_common::event::Cause;
use leash_common::table::MAX_PATH_BYTES;
use nix::errno::Errno;
use nix::libc;

use super::sys::{self, Result, Status};

/// File systems of objects that only descriptors reach and that hold no file's bytes (linux/magic.h): pipes, sockets, event and
/// poll descriptors, processes.
const ANONYMOUS: [i64; 4] = [0x5049_5045, 0x534f_434b, 0x0904_1934, 0x5049_4446];
/// What the kernel appends to the name of what has none any more.
const DELETED: &[u8] = b" (deleted)";

/// An object's name.
#[derive(Clone, Debug)]
pub(super) enum Name {
    /// Its path.
    Path(Vec<u8>),
    /// None that a policy could speak of: why, and what can be said for the record.
    Without(Cause, Vec<u8>),
    /// It belongs to somebody else, and nobody in the session may have it, whatever policy or mode: what can be said for the record.
    Foreign(Vec<u8>),
    /// It is reached by descriptors only, and is no file.
    Anonymous,
}

impl Name {
    /// The path, or what there is of it.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Path(path) | Self::Without(_, path) | Self::Foreign(path) => path,
            Self::Anonymous => b"",
        }
    }

    /// The path; empty if there is none.
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Path(path) => path,
            Self::Without(..) | Self::Foreign(_) | Self::Anonymous => b"",
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
            Self::Anonymous => Self::Without(Cause::Unreachable, name.to_vec()),
        }
    }
}

/// The mounts of the session.
pub(super) struct Mounts {
    table: Mutex<(File, HashSet<u64>)>,
}

impl Mounts {
    /// `table` is the `mountinfo` of a process of the session.
    pub(super) fn new(table: OwnedFd) -> Self {
        Self { table: Mutex::new((table.into(), HashSet::new())) }
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
        let ids = text.split(|&byte| byte == b'\n').filter_map(|line| {
            let id = line.split(|&byte| byte == b' ').next()?;
            std::str::from_utf8(id).ok()?.parse::<u64>().ok()
        });
        known.extend(ids);
        known.contains(&mount)
    }

    /// Name of the object behind `fd`, whose status is `status`. The caller's directory must be `/proc/self/fd`.
    pub(super) fn name(&self, fd: &OwnedFd, status: &Status) -> Result<Name> {
        let link = number(fd)?;
        let path = match sys::read_link(libc::AT_FDCWD, &link) {
            Err(Errno::ENAMETOOLONG) => return Ok(Name::Without(Cause::TooLong, Vec::new())),
            path => path?,
        };
        if !self.has(status.mount) {
            if ANONYMOUS.contains(&sys::file_system(fd.as_raw_fd())?) {
                return Ok(Name::Anonymous);
            }
            return Ok(Name::Without(Cause::Unreachable, path));
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

/// The text that leads to `fd` from `/proc/self/fd`.
pub(super) fn number(fd: &OwnedFd) -> Result<CString> {
    CString::new(fd.as_raw_fd().to_string()).map_err(|_| Errno::EINVAL)
}

/// Whether a file with this status is at `path` (and its name really ends like that).
fn is_at(path: &[u8], expected: &Status) -> bool {
    let Ok(path) = CString::new(path) else { return false };
    sys::status(libc::AT_FDCWD, &path).is_ok_and(|found| found.same(expected) && found.mount == expected.mount)
}

//! The short way for what is opened most: a file or directory that is there, for reading, under the text of its own path.
//!
//! The text is decided on as if it were the name, and only what is permitted is opened. No link is followed on the way, and the name that
//! the kernel has for what was opened must be the text; so what was decided on is what the caller gets. Everything else, and every
//! denial, goes the long way, which begins anew.

use std::os::fd::{AsRawFd, OwnedFd};

use leash_common::kind::Kind;
use nix::libc;

use super::desk::{Ask, Desk};
use super::memory;
use super::name::Name;
use super::resolve::Path;
use super::sys;

/// Flags that don't make an open more than one for reading.
const READING: i32 = libc::O_CLOEXEC | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOATIME;

/// Opens `path`, if it can be done in this way; `None` says nothing about why not.
pub(super) fn open(desk: &Desk<'_>, path: &Path, flags: i32) -> Option<OwnedFd> {
    let text = path.text.to_bytes();
    // Where there is no container, more must be known of an object than its name.
    if flags & !READING != 0 || !is_canonical(text) || memory::is_shown_by(text) || desk.task.bounds.is_some() {
        return None;
    }
    let before = sys::status(libc::AT_FDCWD, &path.text).ok()?;
    let kind = match before.kind() {
        libc::S_IFREG if flags & libc::O_DIRECTORY == 0 => Kind::FileRead,
        libc::S_IFDIR => Kind::DirList,
        _ => return None,
    };
    let ask = Ask::name(kind, &Name::Path(text.to_vec()));
    let verdict = desk.foresee(&ask);
    if desk.denies(&ask, &verdict) {
        return None;
    }
    // A pipe may have taken the file's place meanwhile, and nobody may be there to write to it.
    let without_waiting = flags | libc::O_NONBLOCK | libc::O_NOCTTY;
    let fd = sys::open(libc::AT_FDCWD, &path.text, without_waiting, 0, libc::RESOLVE_NO_SYMLINKS).ok()?;
    let after = sys::status(fd.as_raw_fd(), c"").ok()?;
    if after.kind() != before.kind() || !matches!(desk.name(&fd, &after).ok()?, Name::Path(name) if name == text) {
        return None;
    }
    if flags & libc::O_NONBLOCK == 0 {
        sys::set_flags(&fd, flags).ok()?;
    }
    desk.record(&ask, &verdict);
    Some(fd)
}

/// Whether a text is absolute and each of its parts is a name.
fn is_canonical(text: &[u8]) -> bool {
    let mut names = text.split(|&byte| byte == b'/').skip(1);
    text.starts_with(b"/") && names.all(|name| !matches!(name, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_that_can_be_names_are_taken_for_names() {
        for text in ["/a", "/a/b", "/a/...", "/a/b c/.d"] {
            assert!(is_canonical(text.as_bytes()), "{text}");
        }
        for text in ["", "/", "a", "a/b", "/a/", "//a", "/a//b", "/a/./b", "/a/../b", "/..", "/a/."] {
            assert!(!is_canonical(text.as_bytes()), "{text}");
        }
    }
}

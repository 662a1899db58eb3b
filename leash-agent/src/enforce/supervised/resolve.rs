//! From the text of a path to the object, as the kernel would find it for the caller.
//!
//! The kernel itself resolves, from the caller's root and directory. What it can't answer for another task are the links of `/proc`
//! that mean whoever looks; there the path is walked name by name, and `self` is the caller.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::sys::{self, Result};
use super::task::Task;

/// Symlinks in one resolution, as in the kernel (linux/namei.h).
const MAX_LINKS: usize = 40;
/// `PROC_SUPER_MAGIC`, and the inode of its root (linux/proc_ns.h).
pub(super) const PROC_MAGIC: i64 = 0x9fa0;
const PROC_ROOT: u64 = 1;

/// A path as a call gives it.
pub(super) struct Path {
    /// Where it starts, if it is relative.
    pub(super) dir: i32,
    pub(super) text: CString,
}

/// A name in a directory, whether anything has it or not.
pub(super) struct Place {
    pub(super) dir: OwnedFd,
    /// Without slashes; never empty, `.` or `..`.
    pub(super) name: CString,
    /// Whether slashes follow, so that only a directory can be meant.
    pub(super) slash: bool,
}

impl Place {
    /// The name as a call wants it.
    pub(super) fn text(&self) -> Result<CString> {
        if self.slash { join(self.name.to_bytes(), b"/") } else { Ok(self.name.clone()) }
    }
}

/// What a path leads to.
pub(super) enum Found {
    /// This object.
    Object(OwnedFd),
    /// Nothing, but the directory where it would be is there.
    Nothing(Place),
}

/// The object at `path`. `follow`: its last name may be a symlink that is followed. `resolve`: further limits of openat2(2).
pub(super) fn object(task: &Task, path: &Path, follow: bool, resolve: u64) -> Result<OwnedFd> {
    // Here a slash means the descriptor, or that nothing is found.
    let own_start = resolve & (libc::RESOLVE_IN_ROOT | libc::RESOLVE_BENEATH) != 0;
    let base = if own_start { Some(task.base(path.dir)?) } else { base(task, path)? };
    object_from(task, &base, &path.text, follow, resolve)
}

fn object_from(task: &Task, base: &Base, text: &CStr, follow: bool, resolve: u64) -> Result<OwnedFd> {
    let flags = libc::O_PATH | if follow { 0 } else { libc::O_NOFOLLOW };
    let open = |limits| sys::open(base_fd(base), text, flags, 0, limits);
    if resolve != 0 {
        return open(resolve | libc::RESOLVE_NO_MAGICLINKS);
    }
    // Without any symlink on the way there is nothing that means another task.
    match open(libc::RESOLVE_NO_SYMLINKS) {
        Err(Errno::ELOOP) => {}
        result => return result,
    }
    match open(libc::RESOLVE_NO_MAGICLINKS) {
        Err(Errno::ENOENT | Errno::ELOOP) => {}
        // Where there is no pid namespace, `self` was ourselves.
        Ok(object) if task.bounds.is_some() && sys::file_system(object.as_raw_fd())? == PROC_MAGIC => {}
        result => return result,
    }
    match walk(task, base, text.to_bytes(), follow)? {
        Found::Object(object) => Ok(object),
        Found::Nothing(_) => Err(Errno::ENOENT),
    }
}

/// The object at `path`, or the place where it would be made. As in open(2), a symlink that leads nowhere is followed if `follow`.
pub(super) fn object_or_place(task: &Task, path: &Path, follow: bool) -> Result<Found> {
    let base = base(task, path)?;
    match object_from(task, &base, &path.text, follow, 0) {
        Ok(object) => return Ok(Found::Object(object)),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let place = place_from(task, &base, &path.text)?.map_err(|_| Errno::ENOENT)?;
    match sys::open(place.dir.as_raw_fd(), &place.name, libc::O_PATH | libc::O_NOFOLLOW, 0, 0) {
        Err(Errno::ENOENT) => Ok(Found::Nothing(place)),
        // A symlink to nothing, or it has come into being just now.
        _ => walk(task, &base, path.text.to_bytes(), follow),
    }
}

/// Why a path names no entry of a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    /// It is the root.
    Root,
    /// It ends in `.`
    Dot,
    /// It ends in `..`
    DotDot,
}

/// The directory and the last name of `path`, which isn't followed.
pub(super) fn place(task: &Task, path: &Path) -> Result<std::result::Result<Place, Odd>> {
    if path.text.is_empty() {
        return Err(Errno::ENOENT);
    }
    place_from(task, &base(task, path)?, &path.text)
}

fn place_from(task: &Task, base: &Base, text: &CStr) -> Result<std::result::Result<Place, Odd>> {
    let text = text.to_bytes();
    let end = text.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let (text, slashes) = text.split_at_checked(end).unwrap_or((text, b""));
    if text.is_empty() {
        return Ok(Err(Odd::Root));
    }
    let start = text.iter().rposition(|&byte| byte == b'/').map_or(0, |last| last + 1);
    let (above, name) = text.split_at_checked(start).unwrap_or((b"", text));
    let above = if above.is_empty() { b"." } else { above };
    let above = CString::new(above).map_err(|_| Errno::EINVAL)?;
    let dir = object_from(task, base, &above, true, 0)?;
    if sys::status(dir.as_raw_fd(), c"")?.kind() != libc::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    match name {
        b"." => return Ok(Err(Odd::Dot)),
        b".." => return Ok(Err(Odd::DotDot)),
        _ => {}
    }
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    if name.to_bytes().len() > 255 {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(Ok(Place { dir, name, slash: !slashes.is_empty() }))
}

/// Where a path starts; `None` at the root.
type Base = Option<OwnedFd>;

fn base(task: &Task, path: &Path) -> Result<Base> {
    if path.text.to_bytes().starts_with(b"/") {
        return Ok(None);
    }
    task.base(path.dir).map(Some)
}

fn base_fd(base: &Base) -> i32 {
    // An absolute path starts at our root, which is the session's, wherever the thread stands.
    base.as_ref().map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd)
}

fn step(dir: i32, name: &CStr) -> Result<OwnedFd> {
    sys::open(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0, 0)
}

fn join(first: &[u8], second: &[u8]) -> Result<CString> {
    CString::new([first, second].concat()).map_err(|_| Errno::EINVAL)
}

/// Resolves name by name.
fn walk(task: &Task, base: &Base, text: &[u8], follow: bool) -> Result<Found> {
    let root = || sys::open(libc::AT_FDCWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0, 0);
    let names = |text: &[u8]| text.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect::<VecDeque<_>>();
    let mut current = match base {
        Some(base) => base.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE)))?,
        None => root()?,
    };
    let mut rest = names(text);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name.is_empty() || name == b"." {
            continue;
        }
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let last = rest.iter().all(Vec::is_empty);
        let slash = last && !rest.is_empty();
        let next = match step(current.as_raw_fd(), &name) {
            Err(Errno::ENOENT) if last => return Ok(Found::Nothing(Place { dir: current, name, slash })),
            result => result?,
        };
        let status = sys::status(next.as_raw_fd(), c"")?;
        if status.kind() != libc::S_IFLNK {
            if !last && status.kind() != libc::S_IFDIR || slash && status.kind() != libc::S_IFDIR {
                return Err(Errno::ENOTDIR);
            }
            current = next;
            continue;
        }
        if last && !slash && !follow {
            return Ok(Found::Object(next));
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let target = match of_proc(task, &current, &name)? {
            Proc::Jump(object) => {
                current = object;
                continue;
            }
            Proc::Stay => return Ok(Found::Object(next)),
            Proc::Text(text) => text,
            Proc::Plain => sys::read_link(next.as_raw_fd(), c"")?,
        };
        if target.starts_with(b"/") {
            current = root()?;
        }
        let mut before = names(&target);
        before.append(&mut rest);
        rest = before;
    }
    Ok(Found::Object(current))
}

/// What a symlink is.
enum Proc {
    /// One like any other.
    Plain,
    /// One whose text depends on who looks.
    Text(Vec<u8>),
    /// One without text, which leads here.
    Jump(OwnedFd),
    /// One without text that leads into another process, so that nobody follows it.
    Stay,
}

fn of_proc(task: &Task, dir: &OwnedFd, name: &CStr) -> Result<Proc> {
    if sys::file_system(dir.as_raw_fd())? != PROC_MAGIC {
        return Ok(Proc::Plain);
    }
    if sys::status(dir.as_raw_fd(), c"")?.inode == PROC_ROOT {
        let (tid, tgid) = task.inner;
        return Ok(match name.to_bytes() {
            b"self" => Proc::Text(tgid.to_string().into_bytes()),
            b"thread-self" => Proc::Text(format!("{tgid}/task/{tid}").into_bytes()),
            _ => Proc::Plain,
        });
    }
    match sys::open(dir.as_raw_fd(), name, libc::O_PATH, 0, libc::RESOLVE_NO_MAGICLINKS) {
        Err(Errno::ELOOP) if task.bounds.as_ref().map_or(Ok(false), |bounds| bounds.leads_elsewhere(dir))? => Ok(Proc::Stay),
        Err(Errno::ELOOP) => sys::open(dir.as_raw_fd(), name, libc::O_PATH, 0, 0).map(Proc::Jump),
        _ => Ok(Proc::Plain),
    }
}

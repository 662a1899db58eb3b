//! Opening files: the supervisor opens what it decided on, and the caller gets the descriptor.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use leash_common::kind::Kind;
use nix::errno::Errno;
use nix::libc;

use super::desk::{Also, Answer, Ask, Desk, Opened};
use super::name::Name;
use super::resolve::{self, Found, Path, Place};
use super::sys::{self, Result, Status};
use super::{blocked, direct, memory};

/// `__O_TMPFILE` without the `O_DIRECTORY` that goes with it (asm-generic/fcntl.h).
const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
/// `O_LARGEFILE` (asm-generic/fcntl.h), which libc has as 0: on 64-bit machines every file is opened so.
const LARGE_FILE: u64 = 0x8000;
/// Every flag that open(2) knows, but that; openat2(2) refuses others.
const KNOWN: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_TMPFILE;
/// Numbers of `/dev/tty`: the terminal of whoever opens it.
const OWN_TERMINAL: (u32, u32) = (5, 0);
/// Attempts before a name that comes and goes is given up.
const ATTEMPTS: usize = 16;

/// `open`, `openat` and `creat`, with the path in argument `at`.
pub(super) fn open(desk: &Desk<'_>, dir: i32, at: usize, flags: i32, mode: u32) -> Result<Answer> {
    let path = Path { dir, text: desk.task.path(desk.word(at))? };
    desk.confirm()?;
    perform(desk, &path, flags & KNOWN, mode, 0)
}

/// `openat2`
pub(super) fn openat2(desk: &Desk<'_>) -> Result<Answer> {
    const HOW: usize = size_of::<libc::open_how>();
    let length = desk.word(3) as usize;
    if length < HOW {
        return Err(Errno::EINVAL);
    }
    let path = Path { dir: desk.int(0), text: desk.task.path(desk.word(1))? };
    let how = desk.task.bytes(desk.word(2), length.min(4096))?;
    desk.confirm()?;
    let mut words = how.chunks_exact(8).map(|word| word.try_into().map(u64::from_ne_bytes).unwrap_or_default());
    let (flags, mode, resolve) =
        (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if words.any(|word| word != 0) {
        return Err(Errno::E2BIG);
    }
    if flags & libc::O_PATH as u64 != 0 {
        // Such a descriptor can't be handed over; programs fall back to openat(2), where the kernel gives it.
        return Err(Errno::ENOSYS);
    }
    let flags = flags & !LARGE_FILE;
    let known = i32::try_from(flags).is_ok_and(|flags| flags & !KNOWN == 0);
    let creates = flags as i32 & libc::O_CREAT != 0 || flags as i32 & TMPFILE != 0;
    if !known || mode & !0o7777 != 0 || mode != 0 && !creates {
        return Err(Errno::EINVAL);
    }
    perform(desk, &path, flags as i32, mode as u32, resolve)
}

fn perform(desk: &Desk<'_>, path: &Path, flags: i32, mode: u32, resolve: u64) -> Result<Answer> {
    if path.text.is_empty() {
        return Err(Errno::ENOENT);
    }
    let (fd, also) = if flags & TMPFILE != 0 {
        (unnamed(desk, path, flags, mode, resolve)?, Also::Nothing)
    } else if flags & libc::O_CREAT != 0 {
        if resolve != 0 {
            // No program is known that makes files under such limits; it falls back to openat(2).
            return Err(Errno::ENOSYS);
        }
        open_or_make(desk, path, flags, mode)?
    } else if resolve == 0
        && let Some(fd) = direct::open(desk, path, flags)
    {
        (fd, Also::Nothing)
    } else {
        existing(desk, resolve::object(&desk.task, path, flags & libc::O_NOFOLLOW == 0, resolve)?, flags)?
    };
    Ok(Answer::Descriptor(Opened { fd, close_on_exec: flags & libc::O_CLOEXEC != 0, also }))
}

fn open_or_make(desk: &Desk<'_>, path: &Path, flags: i32, mode: u32) -> Result<(OwnedFd, Also)> {
    if flags & libc::O_EXCL != 0 {
        let place = resolve::place(&desk.task, path)?.map_err(|_| Errno::EEXIST)?;
        return make(desk, place, flags, mode);
    }
    for _ in 0..ATTEMPTS {
        match resolve::object_or_place(&desk.task, path, flags & libc::O_NOFOLLOW == 0)? {
            Found::Object(object) => {
                if sys::status(object.as_raw_fd(), c"")?.kind() == libc::S_IFDIR {
                    return Err(Errno::EISDIR);
                }
                return existing(desk, object, flags);
            }
            Found::Nothing(place) => match make(desk, place, flags, mode) {
                // Somebody was faster; then it is there.
                Err(Errno::EEXIST) => {}
                result => return result,
            },
        }
    }
    Err(Errno::ELOOP)
}

/// What an open in this mode asks.
fn kinds(directory: bool, flags: i32) -> Vec<Kind> {
    let access = flags & libc::O_ACCMODE;
    if directory {
        return vec![Kind::DirList];
    }
    let mut kinds = Vec::new();
    if access != libc::O_WRONLY {
        kinds.push(Kind::FileRead);
    }
    if access != libc::O_RDONLY || flags & libc::O_TRUNC != 0 {
        kinds.push(Kind::FileWrite);
    }
    kinds
}

fn asks(kinds: &[Kind], name: &Name) -> Vec<Ask> {
    kinds.iter().map(|&kind| Ask::name(kind, name)).collect()
}

/// Opens what is there.
fn existing(desk: &Desk<'_>, object: OwnedFd, flags: i32) -> Result<(OwnedFd, Also)> {
    let status = sys::status(object.as_raw_fd(), c"")?;
    let (object, status) = desk.shared.mounts.own(object, status)?;
    let directory = status.kind() == libc::S_IFDIR;
    match status.kind() {
        // It leads into another process, and was followed no further.
        libc::S_IFLNK if matches!(desk.name(&object, &status)?, Name::Foreign(_)) => {}
        libc::S_IFLNK => return Err(Errno::ELOOP),
        libc::S_IFSOCK => return Err(Errno::ENXIO),
        libc::S_IFDIR if flags & (libc::O_ACCMODE | libc::O_TRUNC) != 0 => return Err(Errno::EISDIR),
        libc::S_IFDIR => {}
        _ if flags & libc::O_DIRECTORY != 0 => return Err(Errno::ENOTDIR),
        _ => {}
    }
    let name = desk.name(&object, &status)?;
    if !matches!(name, Name::Anonymous) {
        let asks = asks(&kinds(directory, flags), &name);
        if memory::is_shown_by(name.bytes()) {
            memory::refuse_writing(&name, flags)?;
            // Whose memory a descriptor shows is settled when it is opened: what is looked at afterwards can't be another program's.
            let opened = reopen(desk, &object, &status, flags)?;
            desk.judge(&memory::guarded(desk, &object, &name, asks)?)?;
            return Ok((opened, Also::Nothing));
        }
        desk.judge(&asks)?;
    }
    let object = if status.kind() == libc::S_IFCHR && status.itself == OWN_TERMINAL { terminal_of(desk)? } else { object };
    if flags & libc::O_TRUNC == 0 || status.kind() != libc::S_IFREG || status.size == 0 {
        return Ok((reopen(desk, &object, &status, flags)?, Also::Nothing));
    }
    let fd = reopen(desk, &object, &status, flags & !libc::O_TRUNC)?;
    // One opened for reading is emptied all the same.
    let writable = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    Ok((fd, Also::Empty(desk.shared.ground.open(&object, writable)?)))
}

/// Opens an object that was decided on. What may wait for another program to come doesn't hold up the others.
fn reopen(desk: &Desk<'_>, object: &OwnedFd, status: &Status, flags: i32) -> Result<OwnedFd> {
    let without = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    // A terminal would become that of Leash itself.
    let open = || desk.shared.ground.open(object, flags & !without | libc::O_NOCTTY);
    let opened = match status.kind() {
        libc::S_IFIFO | libc::S_IFCHR if flags & libc::O_NONBLOCK == 0 => blocked::wait(desk, open)?,
        _ => open()?,
    };
    if let Some(bounds) = &desk.task.bounds {
        bounds.adopt_terminal(&opened, status)?;
    }
    Ok(opened)
}

/// The terminal of the caller's session.
fn terminal_of(desk: &Desk<'_>) -> Result<OwnedFd> {
    let stat = super::task::read_all(std::os::fd::AsFd::as_fd(&desk.task.dir), c"stat")?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    // The program's name, field 2, may hold anything; fields are counted after its closing parenthesis. Field 7, proc_pid_stat(5).
    let number: i32 = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(4))
        .and_then(|word| word.parse().ok())
        .ok_or(Errno::ENXIO)?;
    let (major, minor) = ((number >> 8 & 0xfff) as u32, (number & 0xff | number >> 12 & 0xf_ff00) as u32);
    // Slaves of pseudo-terminals have the numbers from 136 (admin-guide/devices.txt).
    if !(136..144).contains(&major) {
        return Err(Errno::ENXIO);
    }
    let path = CString::new(format!("/dev/pts/{}", minor + (major - 136) * 256)).map_err(|_| Errno::ENXIO)?;
    let terminal = sys::open(libc::AT_FDCWD, &path, libc::O_PATH | libc::O_NOFOLLOW, 0, 0).map_err(|_| Errno::ENXIO)?;
    if sys::status(terminal.as_raw_fd(), c"")?.itself == (major, minor) { Ok(terminal) } else { Err(Errno::ENXIO) }
}

/// Makes a file at `place`, and nothing else: if something is there by now, it fails with `EEXIST`.
fn make(desk: &Desk<'_>, place: Place, flags: i32, mode: u32) -> Result<(OwnedFd, Also)> {
    if place.slash {
        return Err(Errno::EISDIR);
    }
    let mut kinds = kinds(false, flags & !libc::O_TRUNC);
    kinds.insert(0, Kind::FileCreate);
    let _names = desk.shared.hold_names();
    let name = place_name(desk, &place)?;
    if sys::status(place.dir.as_raw_fd(), &place.name).is_ok() {
        return Err(Errno::EEXIST);
    }
    desk.judge(&asks(&kinds, &name))?;
    let made = with_umask(desk, || {
        let flags = flags | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_NOCTTY;
        sys::open(place.dir.as_raw_fd(), &place.name, flags & !libc::O_TRUNC, mode & 0o7777, 0)
    })?;
    Ok((made, Also::Made(place)))
}

/// The name that something at `place` has or will have.
pub(super) fn place_name(desk: &Desk<'_>, place: &Place) -> Result<Name> {
    let status = sys::status(place.dir.as_raw_fd(), c"")?;
    Ok(desk.name(&place.dir, &status)?.below(place.name.to_bytes()))
}

/// Does `action` under the caller's mask for new files. Each thread of ours has a mask of its own. The caller's is looked at every time: told
/// of a change, we would have to hold up `umask` and the making of processes that share a mask, and a signal would make a call fail that can't.
pub(super) fn with_umask<T>(desk: &Desk<'_>, action: impl FnOnce() -> Result<T>) -> Result<T> {
    let mask = desk.task.umask()?;
    // SAFETY: no pointers; it can't fail.
    unsafe { libc::umask(mask) };
    action()
}

/// `O_TMPFILE`: the file has no name before it is made, and nobody sees it before it is asked for.
fn unnamed(desk: &Desk<'_>, path: &Path, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    if flags & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(Errno::EINVAL);
    }
    let dir = resolve::object(&desk.task, path, flags & libc::O_NOFOLLOW == 0, resolve)?;
    if sys::status(dir.as_raw_fd(), c"")?.kind() != libc::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    let made = with_umask(desk, || sys::open(dir.as_raw_fd(), c".", flags & !libc::O_NOFOLLOW, mode & 0o7777, 0))?;
    let status = sys::status(made.as_raw_fd(), c"")?;
    let name = desk.name(&made, &status)?;
    let mut kinds = kinds(false, flags);
    kinds.insert(0, Kind::FileCreate);
    desk.judge(&asks(&kinds, &name))?;
    Ok(made)
}

/// `truncate`
pub(super) fn truncate(desk: &Desk<'_>) -> Result<Answer> {
    let path = Path { dir: libc::AT_FDCWD, text: desk.task.path(desk.word(0))? };
    let length = desk.word(1) as i64;
    desk.confirm()?;
    let object = resolve::object(&desk.task, &path, true, 0)?;
    let status = sys::status(object.as_raw_fd(), c"")?;
    match status.kind() {
        libc::S_IFDIR => return Err(Errno::EISDIR),
        libc::S_IFREG => {}
        _ => return Err(Errno::EINVAL),
    }
    let name = desk.name(&object, &status)?;
    desk.judge(&[Ask::name(Kind::FileWrite, &name)])?;
    desk.shared.ground.by_number(&object, |path| {
        // SAFETY: the path outlives the call.
        sys::check(unsafe { libc::truncate(path.as_ptr(), length) }.into()).map(Answer::Value)
    })
}

/// `ftruncate`: what was opened under an earlier policy is asked again.
pub(super) fn truncate_descriptor(desk: &Desk<'_>) -> Result<Answer> {
    desk.confirm()?;
    let fd = desk.task.descriptor(desk.int(0))?;
    let status = sys::status(fd.as_raw_fd(), c"")?;
    let name = desk.name(&fd, &status)?;
    if !matches!(name, Name::Anonymous | Name::Memory(_)) {
        desk.judge(&[Ask::name(Kind::FileWrite, &name)])?;
    }
    // SAFETY: no pointers.
    sys::check(unsafe { libc::ftruncate(fd.as_raw_fd(), desk.word(1) as i64) }.into()).map(Answer::Value)
}

/// `inotify_add_watch`: a watch on a directory tells the names in it, one on a file when it is used.
pub(super) fn watch(desk: &Desk<'_>) -> Result<Answer> {
    let path = Path { dir: libc::AT_FDCWD, text: desk.task.path(desk.word(1))? };
    let mask = desk.word(2) as u32;
    desk.confirm()?;
    let watcher = desk.task.descriptor(desk.int(0))?;
    let object = resolve::object(&desk.task, &path, mask & libc::IN_DONT_FOLLOW == 0, 0)?;
    let status = sys::status(object.as_raw_fd(), c"")?;
    let kind = if status.kind() == libc::S_IFDIR { Kind::DirList } else { Kind::FileRead };
    let name = desk.name(&object, &status)?;
    if !matches!(name, Name::Anonymous) {
        desk.judge(&[Ask::name(kind, &name)])?;
    }
    desk.shared.ground.by_number(&object, |path| {
        // SAFETY: the path outlives the call.
        sys::check(unsafe { libc::inotify_add_watch(watcher.as_raw_fd(), path.as_ptr(), mask & !libc::IN_DONT_FOLLOW) }.into())
            .map(Answer::Value)
    })
}

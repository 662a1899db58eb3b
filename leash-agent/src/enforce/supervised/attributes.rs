//! Mode, owner, times and extended attributes, changed on the object that was decided on.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use leash_common::kind::Kind;
use nix::errno::Errno;
use nix::libc;

use super::desk::{Answer, Ask, Desk};
use super::name::Name;
use super::resolve::{self, Path};
use super::sys::{self, Result, SYS_FCHMODAT2, check};

/// Bytes of the largest extended attribute, and of the longest name of one with its terminator (linux/limits.h).
const MAX_VALUE: usize = 65536;
const MAX_NAME: usize = 256;

/// The object at `path`, whose attributes the caller may change.
fn object(desk: &Desk<'_>, path: &Path, flags: i32) -> Result<OwnedFd> {
    let object = if path.text.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        desk.task.base(path.dir)?
    } else {
        resolve::object(&desk.task, path, flags & libc::AT_SYMLINK_NOFOLLOW == 0, 0)?
    };
    ask(desk, &object)?;
    Ok(object)
}

/// An open descriptor of the caller, whose attributes it may change.
fn descriptor(desk: &Desk<'_>, at: usize) -> Result<OwnedFd> {
    desk.confirm()?;
    let fd = desk.task.descriptor(desk.int(at))?;
    ask(desk, &fd)?;
    Ok(fd)
}

fn ask(desk: &Desk<'_>, object: &OwnedFd) -> Result<()> {
    let status = sys::status(object.as_raw_fd(), c"")?;
    match desk.name(object, &status)? {
        Name::Anonymous | Name::Memory(_) => Ok(()),
        name => desk.judge(&[Ask::name(Kind::FileSetAttributes, &name)]),
    }
}

fn path(desk: &Desk<'_>, dir: i32, at: usize) -> Result<Path> {
    Ok(Path { dir, text: desk.task.path(desk.word(at))? })
}

fn limit(flags: i32) -> Result<()> {
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `chmod`, `fchmodat`, `fchmodat2`
pub(super) fn mode(desk: &Desk<'_>, dir: i32, at: usize, mode: u32, flags: i32) -> Result<Answer> {
    limit(flags)?;
    let path = path(desk, dir, at)?;
    desk.confirm()?;
    let object = object(desk, &path, flags)?;
    if sys::status(object.as_raw_fd(), c"")?.kind() == libc::S_IFLNK {
        // SAFETY: the path outlives the call.
        let result = unsafe { libc::syscall(SYS_FCHMODAT2, object.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH) };
        return check(result).map(Answer::Value);
    }
    desk.shared.ground.by_number(&object, |path| {
        // SAFETY: the path outlives the call.
        check(unsafe { libc::chmod(path.as_ptr(), mode) }.into()).map(Answer::Value)
    })
}

/// `fchmod`
pub(super) fn mode_of_descriptor(desk: &Desk<'_>) -> Result<Answer> {
    let fd = descriptor(desk, 0)?;
    // SAFETY: no pointers.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), desk.word(1) as u32) }.into()).map(Answer::Value)
}

/// `chown`, `lchown`, `fchownat`, with user and group in these arguments
pub(super) fn owner(desk: &Desk<'_>, dir: i32, at: usize, (user, group): (usize, usize), flags: i32) -> Result<Answer> {
    limit(flags)?;
    let path = path(desk, dir, at)?;
    desk.confirm()?;
    let object = object(desk, &path, flags)?;
    let (user, group) = (desk.word(user) as u32, desk.word(group) as u32);
    // SAFETY: the path outlives the call.
    check(unsafe { libc::fchownat(object.as_raw_fd(), c"".as_ptr(), user, group, libc::AT_EMPTY_PATH) }.into()).map(Answer::Value)
}

/// `fchown`
pub(super) fn owner_of_descriptor(desk: &Desk<'_>) -> Result<Answer> {
    let fd = descriptor(desk, 0)?;
    // SAFETY: no pointers.
    check(unsafe { libc::fchown(fd.as_raw_fd(), desk.word(1) as u32, desk.word(2) as u32) }.into()).map(Answer::Value)
}

/// Sets access and change times of an object.
fn set_times(object: &OwnedFd, times: Option<[libc::timespec; 2]>) -> Result<Answer> {
    let times = times.as_ref().map_or(std::ptr::null(), |times| times.as_ptr());
    let fd = object.as_raw_fd();
    // SAFETY: the times outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_utimensat, fd, c"".as_ptr(), times, libc::AT_EMPTY_PATH) };
    check(result).map(Answer::Value)
}

/// Two pairs of numbers from the caller's memory; `None` where it gives none.
fn pairs(desk: &Desk<'_>, at: usize, scale: i64) -> Result<Option<[libc::timespec; 2]>> {
    if desk.word(at) == 0 {
        return Ok(None);
    }
    let bytes = desk.task.bytes(desk.word(at), 32)?;
    let words: Vec<i64> = bytes.chunks_exact(8).map(|word| word.try_into().map(i64::from_ne_bytes).unwrap_or_default()).collect();
    let [a, b, c, d] = words.try_into().map_err(|_| Errno::EFAULT)?;
    if scale != 1 && [b, d].into_iter().any(|part| !(0..1_000_000).contains(&part)) {
        return Err(Errno::EINVAL);
    }
    Ok(Some([(a, b), (c, d)].map(|(seconds, part)| libc::timespec { tv_sec: seconds, tv_nsec: part * scale })))
}

/// `utime`: seconds only
pub(super) fn utime(desk: &Desk<'_>) -> Result<Answer> {
    let path = path(desk, libc::AT_FDCWD, 0)?;
    let times = match desk.word(1) {
        0 => None,
        address => {
            let bytes = desk.task.bytes(address, 16)?;
            let words: Vec<i64> =
                bytes.chunks_exact(8).map(|word| word.try_into().map(i64::from_ne_bytes).unwrap_or_default()).collect();
            let [access, change] = words.try_into().map_err(|_| Errno::EFAULT)?;
            Some([access, change].map(|seconds| libc::timespec { tv_sec: seconds, tv_nsec: 0 }))
        }
    };
    desk.confirm()?;
    set_times(&object(desk, &path, 0)?, times)
}

/// `utimes`, `futimesat`: microseconds
pub(super) fn utimes(desk: &Desk<'_>, dir: i32, at: usize, times_at: usize) -> Result<Answer> {
    let times = pairs(desk, times_at, 1000)?;
    if desk.word(at) == 0 {
        // `futimesat` without a path means the descriptor.
        desk.confirm()?;
        let fd = desk.task.descriptor(dir)?;
        ask(desk, &fd)?;
        return set_times(&fd, times);
    }
    let path = path(desk, dir, at)?;
    desk.confirm()?;
    set_times(&object(desk, &path, 0)?, times)
}

/// `utimensat`
pub(super) fn utimensat(desk: &Desk<'_>) -> Result<Answer> {
    let flags = desk.int(3);
    limit(flags)?;
    let times = pairs(desk, 2, 1)?;
    if let Some([access, change]) = times
        && access.tv_nsec == libc::UTIME_OMIT
        && change.tv_nsec == libc::UTIME_OMIT
    {
        return Ok(Answer::Value(0));
    }
    if desk.word(1) == 0 {
        if desk.int(0) == libc::AT_FDCWD {
            return Err(Errno::EFAULT);
        }
        return set_times(&descriptor(desk, 0)?, times);
    }
    let path = path(desk, desk.int(0), 1)?;
    desk.confirm()?;
    set_times(&object(desk, &path, flags)?, times)
}

/// Name of an extended attribute in argument `at`.
fn attribute(desk: &Desk<'_>, at: usize) -> Result<CString> {
    match desk.task.string(desk.word(at), MAX_NAME)? {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(Errno::ERANGE),
    }
}

/// Value of an extended attribute in arguments 2 and 3.
fn value(desk: &Desk<'_>) -> Result<Vec<u8>> {
    let length = desk.word(3) as usize;
    if length > MAX_VALUE {
        return Err(Errno::E2BIG);
    }
    if length == 0 { Ok(Vec::new()) } else { desk.task.bytes(desk.word(2), length) }
}

/// `setxattr`, `lsetxattr`
pub(super) fn set_extended(desk: &Desk<'_>, follow: bool) -> Result<Answer> {
    let (path, name, value) = (path(desk, libc::AT_FDCWD, 0)?, attribute(desk, 1)?, value(desk)?);
    desk.confirm()?;
    let object = object(desk, &path, if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW })?;
    let (bytes, length) = (value.as_ptr().cast(), value.len());
    desk.shared.ground.by_number(&object, |path| {
        // SAFETY: all texts and the value outlive the call, and the value's length is passed.
        check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), bytes, length, desk.int(4)) }.into()).map(Answer::Value)
    })
}

/// `fsetxattr`
pub(super) fn set_extended_of_descriptor(desk: &Desk<'_>) -> Result<Answer> {
    let (name, value) = (attribute(desk, 1)?, value(desk)?);
    let fd = descriptor(desk, 0)?;
    let bytes = value.as_ptr().cast();
    // SAFETY: the name and the value outlive the call, and the value's length is passed.
    check(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), bytes, value.len(), desk.int(4)) }.into()).map(Answer::Value)
}

/// `removexattr`, `lremovexattr`
pub(super) fn remove_extended(desk: &Desk<'_>, follow: bool) -> Result<Answer> {
    let (path, name) = (path(desk, libc::AT_FDCWD, 0)?, attribute(desk, 1)?);
    desk.confirm()?;
    let object = object(desk, &path, if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW })?;
    desk.shared.ground.by_number(&object, |path| {
        // SAFETY: both texts outlive the call.
        check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }.into()).map(Answer::Value)
    })
}

/// `fremovexattr`
pub(super) fn remove_extended_of_descriptor(desk: &Desk<'_>) -> Result<Answer> {
    let name = attribute(desk, 1)?;
    let fd = descriptor(desk, 0)?;
    // SAFETY: the name outlives the call.
    check(unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) }.into()).map(Answer::Value)
}

/// `ioctl` with a command that sets attributes; the filter lets no other one come here.
pub(super) fn set_by_ioctl(desk: &Desk<'_>) -> Result<Answer> {
    let command = desk.word(1) as u32;
    // The size is part of the number (asm-generic/ioctl.h); of the two smallest only an `int` is read.
    let size = (command >> 16 & 0x3fff) as usize;
    let mut value = desk.task.bytes(desk.word(2), if size == 8 { 4 } else { size })?;
    value.resize(size.max(8), 0);
    let fd = descriptor(desk, 0)?;
    if size > 64 {
        // Verity's argument points to more memory of the caller.
        return Err(Errno::EOPNOTSUPP);
    }
    // SAFETY: the value has at least the size that the command names, and outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), command.into(), value.as_mut_ptr()) }.into()).map(Answer::Value)
}

//! Calls that make, remove and change names. Each is decided on resolved directories and performed on them, while no other call of
//! the session changes a name.

use std::os::fd::AsRawFd;

use leash_common::kind::Kind;
use nix::errno::Errno;
use nix::libc;

use super::desk::{Answer, Ask, Desk};
use super::files::{place_name, with_umask};
use super::name::Name;
use super::resolve::{self, Odd, Path, Place};
use super::sys::{self, Result, check};

/// A path: the descriptor that it starts from, and the argument with its text.
pub(super) type At = (i32, usize);

fn path(desk: &Desk<'_>, (dir, at): At) -> Result<Path> {
    Ok(Path { dir, text: desk.task.path(desk.word(at))? })
}

/// The place of a name that is to be made.
fn new_place(desk: &Desk<'_>, path: &Path) -> Result<Place> {
    resolve::place(&desk.task, path)?.map_err(|_| Errno::EEXIST)
}

/// Fails with `EEXIST` where something has that name already, as the kernel does before it asks.
fn must_be_free(place: &Place) -> Result<()> {
    if sys::status(place.dir.as_raw_fd(), &place.name).is_ok() { Err(Errno::EEXIST) } else { Ok(()) }
}

/// `unlink`, `rmdir`, `unlinkat`
pub(super) fn remove(desk: &Desk<'_>, dir: i32, at: usize, flags: i32) -> Result<Answer> {
    let directory = flags == libc::AT_REMOVEDIR;
    if flags != 0 && !directory {
        return Err(Errno::EINVAL);
    }
    let path = path(desk, (dir, at))?;
    desk.confirm()?;
    let place = resolve::place(&desk.task, &path)?.map_err(|odd| match odd {
        _ if !directory => Errno::EISDIR,
        Odd::Root => Errno::EBUSY,
        Odd::Dot => Errno::EINVAL,
        Odd::DotDot => Errno::ENOTEMPTY,
    })?;
    let _names = desk.shared.hold_names();
    let status = sys::status(place.dir.as_raw_fd(), &place.name)?;
    match (status.kind() == libc::S_IFDIR, directory) {
        (true, false) => return Err(Errno::EISDIR),
        (false, true) => return Err(Errno::ENOTDIR),
        (false, false) if place.slash => return Err(Errno::ENOTDIR),
        _ => {}
    }
    desk.judge(&[Ask::name(Kind::FileDelete, &place_name(desk, &place)?)])?;
    // SAFETY: the name outlives the call.
    check(unsafe { libc::unlinkat(place.dir.as_raw_fd(), place.name.as_ptr(), flags) }.into()).map(Answer::Value)
}

/// `mkdir`, `mkdirat`
pub(super) fn make_directory(desk: &Desk<'_>, dir: i32, at: usize, mode: u32) -> Result<Answer> {
    let path = path(desk, (dir, at))?;
    desk.confirm()?;
    let place = new_place(desk, &path)?;
    let _names = desk.shared.hold_names();
    must_be_free(&place)?;
    desk.judge(&[Ask::name(Kind::FileCreate, &place_name(desk, &place)?)])?;
    let text = place.text()?;
    with_umask(desk, || {
        // SAFETY: the name outlives the call.
        check(unsafe { libc::mkdirat(place.dir.as_raw_fd(), text.as_ptr(), mode) }.into()).map(Answer::Value)
    })
}

/// `mknod`, `mknodat`
pub(super) fn make_node(desk: &Desk<'_>, dir: i32, at: usize, mode: u32, device: u64) -> Result<Answer> {
    let path = path(desk, (dir, at))?;
    desk.confirm()?;
    let place = new_place(desk, &path)?;
    let _names = desk.shared.hold_names();
    must_be_free(&place)?;
    let name = place_name(desk, &place)?;
    let mut asks = vec![Ask::name(Kind::FileCreate, &name)];
    if mode & libc::S_IFMT == libc::S_IFSOCK {
        asks.push(Ask::name(Kind::UnixListen, &name));
    }
    desk.judge(&asks)?;
    let text = place.text()?;
    with_umask(desk, || {
        // SAFETY: the name outlives the call.
        check(unsafe { libc::mknodat(place.dir.as_raw_fd(), text.as_ptr(), mode, device) }.into()).map(Answer::Value)
    })
}

/// `symlink`, `symlinkat`, with the link's text in argument `text_at`
pub(super) fn make_symlink(desk: &Desk<'_>, text_at: usize, dir: i32, at: usize) -> Result<Answer> {
    let target = desk.task.path(desk.word(text_at))?;
    let path = path(desk, (dir, at))?;
    desk.confirm()?;
    let place = new_place(desk, &path)?;
    let _names = desk.shared.hold_names();
    must_be_free(&place)?;
    desk.judge(&[Ask::name(Kind::FileCreate, &place_name(desk, &place)?)])?;
    let text = place.text()?;
    // SAFETY: both texts outlive the call.
    check(unsafe { libc::symlinkat(target.as_ptr(), place.dir.as_raw_fd(), text.as_ptr()) }.into()).map(Answer::Value)
}

/// Fails where the two would be in different mounts, if there were a container. Programs then copy, and each copy is asked.
fn must_be_together(desk: &Desk<'_>, one: &Name, other: &Name) -> Result<()> {
    let bounds = desk.task.bounds.as_ref();
    if bounds.is_some_and(|bounds| bounds.are_apart(one.path(), other.path())) { Err(Errno::EXDEV) } else { Ok(()) }
}

/// The later uses that matter when an object of this type gets another name.
fn uses(kind: u32) -> u32 {
    match kind {
        libc::S_IFDIR => Kind::LATER_USE_BELOW_DIRECTORY,
        libc::S_IFSOCK => Kind::LATER_USE_SOCKET,
        _ => Kind::LATER_USE_FILE,
    }
}

/// `name` asked for each of `kinds`; `FileLink` and `FileRename` are denied if an object of type `moved` gains by coming here from
/// `from`.
fn asks(desk: &Desk<'_>, kinds: &[Kind], name: &Name, from: Option<(&Name, u32)>) -> Vec<Ask> {
    let gain = from.and_then(|(from, moved)| match (from, name) {
        (Name::Path(old), Name::Path(new)) => desk.policy.gains(old, new, uses(moved), moved == libc::S_IFDIR),
        // The question itself fails for that reason.
        _ => None,
    });
    let ask = |&kind: &Kind| {
        let mut ask = Ask::name(kind, name);
        if matches!(kind, Kind::FileLink | Kind::FileRename) {
            ask.except = gain;
        }
        ask
    };
    kinds.iter().map(ask).collect()
}

/// `link`, `linkat`
pub(super) fn link(desk: &Desk<'_>, old: At, new: At, flags: i32) -> Result<Answer> {
    if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let (old, new) = (path(desk, old)?, path(desk, new)?);
    desk.confirm()?;
    if old.text.is_empty() {
        // Wants a capability that nobody in a session has.
        return Err(Errno::ENOENT);
    }
    let object = resolve::object(&desk.task, &old, flags & libc::AT_SYMLINK_FOLLOW != 0, 0)?;
    let place = new_place(desk, &new)?;
    let _names = desk.shared.hold_names();
    let status = sys::status(object.as_raw_fd(), c"")?;
    if status.kind() == libc::S_IFDIR {
        return Err(Errno::EPERM);
    }
    must_be_free(&place)?;
    if status.mount != sys::status(place.dir.as_raw_fd(), c"")?.mount {
        return Err(Errno::EXDEV);
    }
    let (from, to) = (desk.name(&object, &status)?, place_name(desk, &place)?);
    must_be_together(desk, &from, &to)?;
    let mut questions = asks(desk, &[Kind::FileLink], &from, None);
    questions.extend(asks(desk, &[Kind::FileLink, Kind::FileCreate], &to, Some((&from, status.kind()))));
    desk.judge(&questions)?;
    let (dir, text, flags) = (place.dir.as_raw_fd(), place.text()?, libc::AT_SYMLINK_FOLLOW);
    desk.shared.ground.by_number(&object, |source| {
        // SAFETY: both texts outlive the call.
        check(unsafe { libc::linkat(libc::AT_FDCWD, source.as_ptr(), dir, text.as_ptr(), flags) }.into()).map(Answer::Value)
    })
}

/// `rename`, `renameat`, `renameat2`. An exchange moves both objects, so it asks both ways.
pub(super) fn rename(desk: &Desk<'_>, old: At, new: At, flags: u32) -> Result<Answer> {
    let exchange = flags & libc::RENAME_EXCHANGE != 0;
    let exclusive = flags & libc::RENAME_NOREPLACE != 0;
    let known = libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE | libc::RENAME_WHITEOUT;
    if flags & !known != 0 || exchange && flags != libc::RENAME_EXCHANGE {
        return Err(Errno::EINVAL);
    }
    let (old, new) = (path(desk, old)?, path(desk, new)?);
    desk.confirm()?;
    let from = resolve::place(&desk.task, &old)?.map_err(|_| Errno::EBUSY)?;
    let to = resolve::place(&desk.task, &new)?.map_err(|_| if exclusive { Errno::EEXIST } else { Errno::EBUSY })?;
    let _names = desk.shared.hold_names();
    let moved = sys::status(from.dir.as_raw_fd(), &from.name)?;
    let replaced = match sys::status(to.dir.as_raw_fd(), &to.name) {
        Ok(_) if exclusive => return Err(Errno::EEXIST),
        Ok(status) => Some(status),
        Err(Errno::ENOENT) if !exchange => None,
        Err(errno) => return Err(errno),
    };
    if (from.slash || !exchange && to.slash) && moved.kind() != libc::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    if sys::status(from.dir.as_raw_fd(), c"")?.mount != sys::status(to.dir.as_raw_fd(), c"")?.mount {
        return Err(Errno::EXDEV);
    }
    if replaced.is_some_and(|status| status.same(&moved)) && !exchange {
        // Two names of one file: nothing happens.
        return Ok(Answer::Value(0));
    }
    let (old_name, new_name) = (place_name(desk, &from)?, place_name(desk, &to)?);
    must_be_together(desk, &old_name, &new_name)?;
    let mut old_kinds = vec![Kind::FileRename, Kind::FileDelete];
    let mut new_kinds = vec![Kind::FileRename, Kind::FileCreate];
    if replaced.is_some() {
        new_kinds.push(Kind::FileDelete);
    }
    let mut back = None;
    if exchange {
        old_kinds.push(Kind::FileCreate);
        back = replaced.map(|status| (&new_name, status.kind()));
    }
    let mut questions = asks(desk, &old_kinds, &old_name, back);
    questions.extend(asks(desk, &new_kinds, &new_name, Some((&old_name, moved.kind()))));
    desk.judge(&questions)?;
    let (old_text, new_text) = (from.text()?, to.text()?);
    let (old_dir, new_dir) = (from.dir.as_raw_fd(), to.dir.as_raw_fd());
    // SAFETY: both names outlive the call.
    check(unsafe { libc::syscall(libc::SYS_renameat2, old_dir, old_text.as_ptr(), new_dir, new_text.as_ptr(), flags) })
        .map(Answer::Value)
}

//! The mount table, and the mount system calls that neither std nor nix wrap.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;

use super::SandboxError;

/// Where the cgroup v2 hierarchy is mounted with its root, if it is.
pub(super) fn cgroup2_mount() -> Result<Option<PathBuf>, SandboxError> {
    let path = "/proc/self/mountinfo";
    let text = fs::read(path).map_err(SandboxError::path("read", path))?;
    Ok(text.split(|&byte| byte == b'\n').find_map(cgroup2_line))
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG]… - TYPE SOURCE OPTIONS`, proc_pid_mountinfo(5).
fn cgroup2_line(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (root, mount_point) = (fields.nth(3)?, fields.next()?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"cgroup2" && root == b"/").then(|| PathBuf::from(unescape(mount_point)))
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// A mount attribute set, mount_setattr(2).
pub(super) struct Attributes {
    /// `MOUNT_ATTR_…` to set.
    pub set: u64,
    /// Recursively.
    pub recursive: bool,
}

/// Clones the mount at `path` with all below it, detached. The path may contain no symlink.
pub(super) fn clone_tree(path: &Path) -> Result<OwnedFd, SandboxError> {
    let error = SandboxError::path("open", path);
    let source = match open_beneath(None, path) {
        Ok(source) => source,
        Err(errno) => return Err(error(errno.into())),
    };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_RECURSIVE | libc::AT_EMPTY_PATH) as u32;
    // SAFETY: the descriptor is open for the duration of the call, and the empty path is a static C string.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), c"".as_ptr(), flags) };
    match own(result) {
        Ok(tree) => Ok(tree),
        Err(errno) => Err(SandboxError::path("clone the mount at", path)(errno.into())),
    }
}

/// Changes the attributes of a detached tree, and makes it private.
pub(super) fn set_attributes(tree: &OwnedFd, attributes: &Attributes) -> Result<(), Errno> {
    let attr = libc::mount_attr { attr_set: attributes.set, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` lives through the call and its size is passed; the path is a static C string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Attaches a detached tree to the place that `target` names.
pub(super) fn attach(tree: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both descriptors are open, both paths static C strings.
    let result =
        unsafe { libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags) };
    Errno::result(result).map(drop)
}

/// Opens `path` (`O_PATH`) following no symlink; below `root` if there is one. An agent of an earlier session may have
/// prepared symlinks where this one is to be mounted.
pub(super) fn open_beneath(root: Option<&OwnedFd>, path: &Path) -> Result<OwnedFd, Errno> {
    let relative = if root.is_some() { path.strip_prefix("/").unwrap_or(path) } else { path };
    let name = if relative.as_os_str().is_empty() { OsStr::new(".") } else { relative.as_os_str() };
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: all-zero bytes are a valid `open_how`, a plain struct of integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    if root.is_some() {
        how.resolve |= libc::RESOLVE_IN_ROOT;
    }
    let at = root.map_or(libc::AT_FDCWD, |root| root.as_fd().as_raw_fd());
    // SAFETY: `name` and `how` live through the call, and `how`'s size is passed.
    let result = unsafe { libc::syscall(libc::SYS_openat2, at, name.as_ptr(), &raw const how, size_of::<libc::open_how>()) };
    own(result)
}

fn own(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = Errno::result(result)?;
    // SAFETY: the system call succeeded, so this is a new descriptor that nobody else owns; descriptors fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup2_line_is_recognised() {
        let line = b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_line(line), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_line(b"41 31 0:38 /sub /mnt rw - cgroup2 cgroup2 rw"), None);
        assert_eq!(cgroup2_line(b"36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw"), None);
        assert_eq!(cgroup2_line(b""), None);
    }

    #[test]
    fn octal_escapes_are_undone() {
        assert_eq!(unescape(br"/a\040b\134c\x"), OsString::from(r"/a b\c\x"));
    }
}

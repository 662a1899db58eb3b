//! The kernel's list of LSMs. A program on an LSM hook is asked only where `bpf` is one of them; elsewhere it is taken and attached all
//! the same, and decides nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::error::{EnforceError, Result};

/// Where the list is, if securityfs is mounted.
pub const LIST: &str = "/sys/kernel/security/lsm";

/// `FSOPEN_CLOEXEC`, `FSCONFIG_CMD_CREATE` and `FSMOUNT_CLOEXEC`, linux/mount.h.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// The names of the LSMs that are in use, with commas between them.
pub fn list() -> io::Result<String> {
    let list = fs::read_to_string(LIST).or_else(|error| read_unmounted().map_err(|_| error))?;
    Ok(list.trim().to_owned())
}

/// Whether programs on LSM hooks are asked.
pub fn has_bpf(list: &str) -> bool {
    list.split(',').any(|name| name == "bpf")
}

/// Fails unless programs on LSM hooks are asked.
pub(super) fn must_have_bpf() -> Result<()> {
    let list = list().map_err(EnforceError::io("read", LIST))?;
    if has_bpf(&list) { Ok(()) } else { Err(EnforceError::NotListed(list)) }
}

/// The list of a securityfs that nobody sees. Only root can have one.
fn read_unmounted() -> io::Result<String> {
    // SAFETY: a static name and a flag.
    let context = own(unsafe { libc::syscall(libc::SYS_fsopen, c"securityfs".as_ptr(), FSOPEN_CLOEXEC) })?;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the descriptor is open; this command takes neither a key nor a value.
    Errno::result(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) })?;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    // SAFETY: the descriptor is open; the rest are flags.
    let mount = own(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })?;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the descriptor is open, the name static.
    let file = own(unsafe { libc::syscall(libc::SYS_openat, mount.as_raw_fd(), c"lsm".as_ptr(), flags) })?;
    let mut list = String::new();
    File::from(file).read_to_string(&mut list)?;
    Ok(list)
}

fn own(result: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = Errno::result(result)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns; descriptors fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_by_name() {
        assert!(has_bpf("lockdown,capability,bpf") && has_bpf("bpf"));
        assert!(!has_bpf("lockdown,capability,notbpf") && !has_bpf(""));
    }

    #[test]
    fn root_reads_the_list_without_a_mount() {
        let read = read_unmounted();
        match nix::unistd::Uid::effective().is_root() {
            true => assert!(read.unwrap().split(',').any(|name| name == "capability")),
            false => assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EPERM)),
        }
    }
}

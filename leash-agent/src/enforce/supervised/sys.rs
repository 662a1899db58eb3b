//! The system calls that the supervisor makes by descriptor, and those of seccomp's user notification (seccomp_unotify(2)).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Results with the kernel's error.
pub(super) type Result<T> = std::result::Result<T, Errno>;

/// Calls that no libc names yet (asm/unistd_64.h): since 6.6, and since 6.13.
pub(super) const SYS_FCHMODAT2: i64 = 452;
pub(super) const SYS_SETXATTRAT: i64 = 463;
pub(super) const SYS_REMOVEXATTRAT: i64 = 466;

/// `PIDFD_THREAD`, linux/pidfd.h, since 6.9.
const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;

/// `_IOWR('!', …)` and `_IOW('!', …)` of linux/seccomp.h.
const RECV: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const ID_VALID: u64 = 0x4008_2102;
const ADDFD: u64 = 0x4018_2103;
const SET_FLAGS: u64 = 0x4008_2104;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, since 6.6.
const SYNC_WAKE_UP: u64 = 1;

/// The result of a raw system call as the kernel gave it.
pub(super) fn check(result: i64) -> Result<i64> {
    Errno::result(result)
}

/// A new descriptor from the result of a system call that returns one.
pub(super) fn own(result: i64) -> Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the system call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn ioctl<T>(listener: BorrowedFd<'_>, command: u64, argument: *mut T) -> Result<i32> {
    // SAFETY: each caller passes a pointer to what the command reads and writes, which outlives the call.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), command, argument) })
}

/// One call that waits for its answer.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) id: u64,
    /// The calling thread, as we number it.
    pub(super) tid: u32,
    pub(super) number: i64,
    pub(super) arguments: [u64; 6],
}

/// Waits for the next call. `ENOENT`: one came and was taken back.
pub(super) fn receive(listener: BorrowedFd<'_>) -> Result<Call> {
    // SAFETY: plain integers; the kernel wants zeros.
    let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    ioctl(listener, RECV, &raw mut notice)?;
    let data = notice.data;
    Ok(Call { id: notice.id, tid: notice.pid, number: data.nr.into(), arguments: data.args })
}

/// Answers a call: its result, or a negative error.
pub(super) fn answer(listener: BorrowedFd<'_>, id: u64, value: i64, error: i32) -> Result<()> {
    let mut response = libc::seccomp_notif_resp { id, val: value, error, flags: 0 };
    ioctl(listener, SEND, &raw mut response).map(drop)
}

/// Lets the kernel perform the call.
pub(super) fn let_pass(listener: BorrowedFd<'_>, id: u64) -> Result<()> {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    ioctl(listener, SEND, &raw mut response).map(drop)
}

/// Whether the call still waits. If so, what was read of its thread so far was this thread's.
pub(super) fn still_waits(listener: BorrowedFd<'_>, mut id: u64) -> Result<()> {
    ioctl(listener, ID_VALID, &raw mut id).map(drop)
}

/// Gives the caller a descriptor while it waits; its number there.
pub(super) fn give(listener: BorrowedFd<'_>, id: u64, fd: BorrowedFd<'_>, close_on_exec: bool) -> Result<i32> {
    let newfd_flags = if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 };
    let mut addition = libc::seccomp_notif_addfd { id, flags: 0, srcfd: fd.as_raw_fd() as u32, newfd: 0, newfd_flags };
    ioctl(listener, ADDFD, &raw mut addition)
}

/// Wakes whoever waits on the processor that the other side runs on, where the kernel can.
pub(super) fn wake_nearby(listener: BorrowedFd<'_>) {
    // SAFETY: the flags are passed by value. Kernels that don't know the command refuse it, and nothing is lost.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
}

/// `openat2`, with a path that must hold no zero byte.
pub(super) fn open(dir: RawFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    // SAFETY: all-zero bytes are a valid `open_how`, a plain struct of integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = mode.into();
    how.resolve = resolve;
    // SAFETY: the path and `how` outlive the call, and `how`'s size is passed.
    own(unsafe { libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &raw const how, size_of::<libc::open_how>()) })
}

/// Sets those of `flags` that an open file can still change.
pub(super) fn set_flags(fd: &OwnedFd, flags: i32) -> Result<()> {
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// A descriptor for a thread, since Linux 6.9.
pub(super) fn thread_descriptor(tid: u32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    own(unsafe { libc::syscall(libc::SYS_pidfd_open, tid, PIDFD_THREAD) })
}

/// A descriptor for a process.
pub(super) fn process_descriptor(pid: u32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Whether the thread behind a pidfd has not ended.
pub(super) fn lives(pidfd: BorrowedFd<'_>) -> bool {
    // A pidfd becomes readable when its thread ends (pidfd_open(2)).
    poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
}

/// A second descriptor for what descriptor `fd` of another thread means.
pub(super) fn descriptor_of(pidfd: BorrowedFd<'_>, fd: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// Reads memory of another thread; returns how much could be read.
pub(super) fn read_memory(tid: u32, address: u64, buffer: &mut [u8]) -> Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: `local` is our buffer; `remote` is checked by the kernel.
    let result = unsafe { libc::process_vm_readv(tid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    check(result as i64).map(|length| length as usize)
}

/// Writes memory of another thread, all or nothing.
pub(super) fn write_memory(tid: u32, address: u64, bytes: &[u8]) -> Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: `local` is only read; `remote` is checked by the kernel.
    let result = unsafe { libc::process_vm_writev(tid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    if check(result as i64)? as usize == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// What is needed of `statx`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    pub(super) mode: u32,
    pub(super) inode: u64,
    /// Major and minor number of the file system's device.
    pub(super) device: (u32, u32),
    /// Major and minor number of the device that the file is.
    pub(super) itself: (u32, u32),
    pub(super) mount: u64,
    pub(super) size: u64,
}

impl Status {
    pub(super) fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether both are the same file.
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// `statx` of what `name` in `dir` is, without following it; of `dir` itself if `name` is empty.
pub(super) fn status(dir: RawFd, name: &CStr) -> Result<Status> {
    // SAFETY: plain integers, filled in by the call.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_STATX_DONT_SYNC;
    let mask = libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_INO | libc::STATX_SIZE | libc::STATX_MNT_ID;
    // SAFETY: name and result outlive the call.
    Errno::result(unsafe { libc::statx(dir, name.as_ptr(), flags, mask, &raw mut found) })?;
    Ok(Status {
        mode: found.stx_mode.into(),
        inode: found.stx_ino,
        device: (found.stx_dev_major, found.stx_dev_minor),
        itself: (found.stx_rdev_major, found.stx_rdev_minor),
        mount: found.stx_mnt_id,
        size: found.stx_size,
    })
}

/// Number of links of `name` in `dir`.
pub(super) fn links(dir: RawFd, name: &CStr) -> Result<u32> {
    // SAFETY: plain integers, filled in by the call.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: name and result outlive the call.
    Errno::result(unsafe { libc::statx(dir, name.as_ptr(), libc::AT_SYMLINK_NOFOLLOW, libc::STATX_NLINK, &raw mut found) })?;
    Ok(found.stx_nlink)
}

/// Target of the symlink `name` in `dir`; of `dir` itself if `name` is empty.
pub(super) fn read_link(dir: RawFd, name: &CStr) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 4097];
    // SAFETY: the buffer's length is passed.
    let length = Errno::result(unsafe { libc::readlinkat(dir, name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })?;
    buffer.truncate(length as usize);
    Ok(buffer)
}

/// Number of the file system's type.
pub(super) fn file_system(fd: RawFd) -> Result<i64> {
    // SAFETY: plain integers, filled in by the call.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the result outlives the call.
    Errno::result(unsafe { libc::fstatfs(fd, &raw mut found) })?;
    Ok(found.f_type)
}

/// Makes a directory the calling thread's own.
pub(super) fn enter(dir: RawFd) -> Result<()> {
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::fchdir(dir) }).map(drop)
}

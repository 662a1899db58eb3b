//! What seccomp's user notification costs by itself: a supervisor that reads nothing and lets every call pass.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use crate::workload;

/// `_IOWR('!', …)` and `_IOW('!', …)` of linux/seccomp.h.
const RECV: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const SET_FLAGS: u64 = 0x4008_2104;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, since 6.6.
const SYNC_WAKE_UP: u64 = 1;

/// The calls of a `git clone` that a supervisor of files and programs would be asked about.
const OF_CLONE: [i64; 8] = [
    libc::SYS_openat,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_chmod,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_execve,
];

/// [`workload::open_close`], with `openat` answered by another thread.
pub(crate) fn open_close(path: &Path, iterations: u64) -> anyhow::Result<()> {
    supervise(&[libc::SYS_openat])?;
    workload::open_close(path, iterations)
}

/// [`workload::timed`], with every call of [`OF_CLONE`] answered by another thread.
pub(crate) fn timed(place: &Path) -> anyhow::Result<()> {
    supervise(&OF_CLONE)?;
    workload::timed(place)
}

/// From here on these calls of the calling thread, and of whatever it starts, are answered by another thread.
fn supervise(calls: &[i64]) -> anyhow::Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel::<OwnedFd>();
    std::thread::spawn(move || {
        if let Ok(listener) = receiver.recv() {
            serve(&listener);
        }
    });
    nix::sys::prctl::set_no_new_privs()?;
    Ok(sender.send(listen(calls)?)?)
}

fn listen(calls: &[i64]) -> Result<OwnedFd, Errno> {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let give = |action: u32| statement(libc::BPF_RET | libc::BPF_K, action, 0, 0);
    let mut code = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for &call in calls {
        code.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 0, 1));
        code.push(give(libc::SECCOMP_RET_USER_NOTIF));
    }
    code.push(give(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: `program` points to `code`, which lives through the call; the kernel copies it.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let fd = Errno::result(fd)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    let listener = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: the flags are passed by value. A kernel that doesn't know them loses some time.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
    Ok(listener)
}

/// Answers until nobody calls any more.
fn serve(listener: &OwnedFd) {
    loop {
        // SAFETY: plain integers; the kernel wants zeros.
        let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the command writes a notice, which outlives the call.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECV, &raw mut notice) } < 0 {
            match Errno::last() {
                Errno::EINTR | Errno::ENOENT => continue,
                _ => return,
            }
        }
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let mut response = libc::seccomp_notif_resp { id: notice.id, val: 0, error: 0, flags };
        // SAFETY: the command reads a response, which outlives the call.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response) };
    }
}

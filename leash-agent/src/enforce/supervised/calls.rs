//! Which function answers which call. A call without one is refused.

use nix::errno::Errno;
use nix::libc;

use super::desk::{Answer, Desk};
use super::sys::{Result, SYS_FCHMODAT2, SYS_REMOVEXATTRAT, SYS_SETXATTRAT};
use super::{attributes, bounds, exec, files, messages, names, receive, sockets};

const CWD: i32 = libc::AT_FDCWD;
/// linux/ioprio.h
const IOPRIO_WHO_PROCESS: u32 = 1;

/// Answers a call.
pub(super) fn answer(desk: &Desk<'_>) -> Result<Answer> {
    match desk.call.number {
        libc::SYS_open => files::open(desk, CWD, 0, desk.int(1), desk.word(2) as u32),
        libc::SYS_creat => files::open(desk, CWD, 0, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, desk.word(1) as u32),
        libc::SYS_openat => files::open(desk, desk.int(0), 1, desk.int(2), desk.word(3) as u32),
        libc::SYS_openat2 => files::openat2(desk),
        libc::SYS_truncate => files::truncate(desk),
        libc::SYS_ftruncate => files::truncate_descriptor(desk),
        libc::SYS_inotify_add_watch => files::watch(desk),
        libc::SYS_unlink => names::remove(desk, CWD, 0, 0),
        libc::SYS_rmdir => names::remove(desk, CWD, 0, libc::AT_REMOVEDIR),
        libc::SYS_unlinkat => names::remove(desk, desk.int(0), 1, desk.int(2)),
        libc::SYS_mkdir => names::make_directory(desk, CWD, 0, desk.word(1) as u32),
        libc::SYS_mkdirat => names::make_directory(desk, desk.int(0), 1, desk.word(2) as u32),
        libc::SYS_mknod => names::make_node(desk, CWD, 0, desk.word(1) as u32, desk.word(2)),
        libc::SYS_mknodat => names::make_node(desk, desk.int(0), 1, desk.word(2) as u32, desk.word(3)),
        libc::SYS_symlink => names::make_symlink(desk, 0, CWD, 1),
        libc::SYS_symlinkat => names::make_symlink(desk, 0, desk.int(1), 2),
        libc::SYS_link => names::link(desk, (CWD, 0), (CWD, 1), 0),
        libc::SYS_linkat => names::link(desk, (desk.int(0), 1), (desk.int(2), 3), desk.int(4)),
        libc::SYS_rename => names::rename(desk, (CWD, 0), (CWD, 1), 0),
        libc::SYS_renameat => names::rename(desk, (desk.int(0), 1), (desk.int(2), 3), 0),
        libc::SYS_renameat2 => names::rename(desk, (desk.int(0), 1), (desk.int(2), 3), desk.word(4) as u32),
        libc::SYS_chmod => attributes::mode(desk, CWD, 0, desk.word(1) as u32, 0),
        libc::SYS_fchmodat => attributes::mode(desk, desk.int(0), 1, desk.word(2) as u32, 0),
        SYS_FCHMODAT2 => attributes::mode(desk, desk.int(0), 1, desk.word(2) as u32, desk.int(3)),
        libc::SYS_fchmod => attributes::mode_of_descriptor(desk),
        libc::SYS_chown => attributes::owner(desk, CWD, 0, (1, 2), 0),
        libc::SYS_lchown => attributes::owner(desk, CWD, 0, (1, 2), libc::AT_SYMLINK_NOFOLLOW),
        libc::SYS_fchownat => attributes::owner(desk, desk.int(0), 1, (2, 3), desk.int(4)),
        libc::SYS_fchown => attributes::owner_of_descriptor(desk),
        libc::SYS_utime => attributes::utime(desk),
        libc::SYS_utimes => attributes::utimes(desk, CWD, 0, 1),
        libc::SYS_futimesat => attributes::utimes(desk, desk.int(0), 1, 2),
        libc::SYS_utimensat => attributes::utimensat(desk),
        libc::SYS_setxattr => attributes::set_extended(desk, true),
        libc::SYS_lsetxattr => attributes::set_extended(desk, false),
        libc::SYS_fsetxattr => attributes::set_extended_of_descriptor(desk),
        libc::SYS_removexattr => attributes::remove_extended(desk, true),
        libc::SYS_lremovexattr => attributes::remove_extended(desk, false),
        libc::SYS_fremovexattr => attributes::remove_extended_of_descriptor(desk),
        libc::SYS_ioctl => attributes::set_by_ioctl(desk),
        // Programs fall back to the calls above.
        SYS_SETXATTRAT | SYS_REMOVEXATTRAT => Err(Errno::ENOSYS),
        libc::SYS_execve => exec::exec(desk, CWD, 0, 0),
        libc::SYS_execveat => exec::exec(desk, desk.int(0), 1, desk.int(4)),
        libc::SYS_mmap => exec::map(desk),
        libc::SYS_mprotect | libc::SYS_pkey_mprotect => exec::protect(desk),
        libc::SYS_prlimit64
        | libc::SYS_sched_setaffinity
        | libc::SYS_sched_setattr
        | libc::SYS_sched_setparam
        | libc::SYS_sched_setscheduler => bounds::own_process(desk, 0),
        libc::SYS_setpriority => bounds::own_process_of(desk, libc::PRIO_PROCESS),
        libc::SYS_ioprio_set => bounds::own_process_of(desk, IOPRIO_WHO_PROCESS),
        libc::SYS_socket | libc::SYS_socketpair => sockets::create(desk),
        libc::SYS_connect => sockets::connect(desk),
        libc::SYS_bind => sockets::bind(desk),
        libc::SYS_listen => sockets::listen(desk),
        libc::SYS_setsockopt => sockets::set_option(desk),
        libc::SYS_sendto => messages::send_to(desk),
        libc::SYS_sendmsg => messages::send_message(desk),
        libc::SYS_sendmmsg => messages::send_messages(desk),
        libc::SYS_recvmsg => receive::receive(desk),
        _ => Err(Errno::EPERM),
    }
}

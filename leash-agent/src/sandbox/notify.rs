//! The third seccomp filter, of sessions without BPF LSM: system calls that reach files, programs or addresses stop and wait for
//! the supervisor's answer.
//!
//! It goes on in the command's process right before its first exec, so it holds for everything that the command ever starts, and
//! nobody can take it off. If the supervisor is gone, the kernel answers these calls with `ENOSYS`. What the supervisor can't see
//! through is refused here. A condition looks at values in registers only, never at memory.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::filter::{ALLOW, give, jump_equal, load, offset, statement};

/// `setxattrat` and `removexattrat`, in no libc yet (asm/unistd_64.h, since 6.13).
const SYS_SETXATTRAT: i64 = 463;
/// See [`SYS_SETXATTRAT`].
const SYS_REMOVEXATTRAT: i64 = 466;
/// `fchmodat2`, since 6.6.
const SYS_FCHMODAT2: i64 = 452;

const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const ENOTTY: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOTTY as u32;
const EBUSY: u32 = libc::SECCOMP_RET_ERRNO | libc::EBUSY as u32;

/// Calls that always wait for an answer.
const NOTIFIED: &[i64] = &[
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SYS_SETXATTRAT,
    SYS_REMOVEXATTRAT,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_inotify_add_watch,
];

/// Refused with `EPERM`: they reach into other processes, whose programs may be granted other things, or round the supervisor.
const REFUSED: &[i64] =
    &[libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd, libc::SYS_mq_open];

/// As if the kernel had none. `recvmmsg`: programs fall back to `recvmsg`, which waits for an answer. Landlock: the supervisor opens
/// files on a program's behalf, so a domain that the program gave itself would not hold, and it must know.
const ABSENT: &[i64] =
    &[libc::SYS_recvmmsg, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];

/// Without a container: calls that change another process (its limits, its place in the queue), with the position of its number. They wait,
/// unless the number is 0, which is the caller.
const OF_PROCESSES: [(i64, u32); 5] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
];
/// The same with the kind of the number in front of it; only kind and number in question are a process's own.
const OF_KINDS: [(i64, u32); 2] = [(libc::SYS_setpriority, libc::PRIO_PROCESS), (libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS)];
/// linux/ioprio.h
const IOPRIO_WHO_PROCESS: u32 = 1;
/// Without an ipc namespace, System V's objects are those of the whole machine.
const SYSTEM_V: [i64; 11] = [
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
];

/// `O_PATH` opens give nothing but a place to resolve from.
const UNLESS_PATH: [(i64, u32); 2] = [(libc::SYS_open, 1), (libc::SYS_openat, 2)];
/// Calls that make memory executable, with the position of the protection.
const EXECUTABLE: [(i64, u32); 2] = [(libc::SYS_mprotect, 2), (libc::SYS_pkey_mprotect, 2)];

/// `FS_IOC_SETFLAGS`, `FS_IOC_SETVERSION`, `FS_IOC_FSSETXATTR` and `FS_IOC_ENABLE_VERITY` (linux/fs.h, linux/fsverity.h): attributes that
/// any descriptor can set.
const ATTRIBUTE_COMMANDS: [u32; 4] = [0x4008_6602, 0x4008_7602, 0x401c_5820, 0x4080_6685];

/// Opens the other end of a pseudo-terminal without naming it. Programs fall back to its path, which is asked.
const OPEN_PEER: u32 = libc::TIOCGPTPEER as u32;
/// What a session without a container adds, in front: the accumulator holds the number, before and after.
fn outside_container() -> Vec<libc::sock_filter> {
    let mut code = Vec::new();
    for call in SYSTEM_V {
        code.extend([jump_equal(call as u32, 0, 1), give(ENOSYS)]);
    }
    code.extend([jump_equal(libc::SYS_mq_unlink as u32, 0, 1), give(EPERM)]);
    for (call, argument) in OF_PROCESSES {
        rule(&mut code, call, &[load(offset::argument(argument)), jump_equal(0, 0, 1), give(ALLOW), give(NOTIFY)]);
    }
    for (call, process) in OF_KINDS {
        rule(
            &mut code,
            call,
            &[
                load(offset::argument(0)),
                jump_equal(process, 0, 2),
                load(offset::argument(1)),
                jump_equal(0, 1, 0),
                give(NOTIFY),
                give(ALLOW),
            ],
        );
    }
    // A program that hides itself from its own user hides itself from a supervisor without privileges. The rest of its calls would fail.
    rule(
        &mut code,
        libc::SYS_prctl,
        &[
            load(offset::argument(0)),
            jump_equal(libc::PR_SET_DUMPABLE as u32, 0, 2),
            load(offset::argument(1)),
            jump_equal(0, 1, 0),
            give(ALLOW),
            give(EPERM),
        ],
    );
    code
}

/// The program.
fn program(contained: bool) -> Vec<libc::sock_filter> {
    let mut code = vec![load(offset::NUMBER)];
    if !contained {
        code.extend(outside_container());
    }
    for (calls, action) in [(NOTIFIED, NOTIFY), (REFUSED, EPERM), (ABSENT, ENOSYS)] {
        for &call in calls {
            code.extend([jump_equal(call as u32, 0, 1), give(action)]);
        }
    }
    for (call, argument) in UNLESS_PATH {
        rule(&mut code, call, &[load(offset::argument(argument)), any_bit(libc::O_PATH as u32, 0, 1), give(ALLOW), give(NOTIFY)]);
    }
    for (call, argument) in EXECUTABLE {
        rule(
            &mut code,
            call,
            &[load(offset::argument(argument)), any_bit(libc::PROT_EXEC as u32, 0, 1), give(NOTIFY), give(ALLOW)],
        );
    }
    rule(
        &mut code,
        libc::SYS_mmap,
        &[
            load(offset::argument(2)),
            any_bit(libc::PROT_EXEC as u32, 1, 0),
            give(ALLOW),
            load(offset::argument(3)),
            any_bit(libc::MAP_ANONYMOUS as u32, 0, 1),
            give(ALLOW),
            give(NOTIFY),
        ],
    );
    let [flags, version, extended, verity] = ATTRIBUTE_COMMANDS;
    rule(
        &mut code,
        libc::SYS_ioctl,
        &[
            load(offset::argument(1)),
            jump_equal(flags, 5, 0),
            jump_equal(version, 4, 0),
            jump_equal(extended, 3, 0),
            jump_equal(verity, 2, 0),
            jump_equal(OPEN_PEER, 2, 0),
            give(ALLOW),
            give(NOTIFY),
            give(ENOTTY),
        ],
    );
    // What a call that goes on is performed with must be nobody else's but this process's: descriptors and memory are shared by
    // threads, and by a child that its parent waits for.
    let [files, memory, thread, vfork] =
        [libc::CLONE_FILES, libc::CLONE_VM, libc::CLONE_THREAD, libc::CLONE_VFORK].map(|flag| flag as u32);
    rule(
        &mut code,
        libc::SYS_clone,
        &[
            load(offset::argument(0)),
            any_bit(thread, 3, 0),
            any_bit(files, 3, 0),
            any_bit(memory, 0, 1),
            any_bit(vfork, 0, 1),
            give(ALLOW),
            give(EPERM),
        ],
    );
    // A listener of its own would answer a program's calls in the supervisor's place. Kernels that know but one per process say the same.
    rule(
        &mut code,
        libc::SYS_seccomp,
        &[load(offset::argument(1)), any_bit(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32, 0, 1), give(EBUSY), give(ALLOW)],
    );
    // That a socket tells who sent, `SO_PASSCRED`; and options that name a route: `IP_OPTIONS`; `IPV6_2292PKTOPTIONS`, `IPV6_FLOWLABEL_MGR`, `IPV6_RTHDR` (linux/in.h, linux/in6.h).
    rule(
        &mut code,
        libc::SYS_setsockopt,
        &[
            load(offset::argument(1)),
            jump_equal(libc::SOL_SOCKET as u32, 0, 4),
            load(offset::argument(2)),
            jump_equal(libc::SO_PASSCRED as u32, 0, 1),
            give(NOTIFY),
            give(ALLOW),
            jump_equal(libc::IPPROTO_IP as u32, 0, 4),
            load(offset::argument(2)),
            jump_equal(4, 0, 1),
            give(NOTIFY),
            give(ALLOW),
            jump_equal(libc::IPPROTO_IPV6 as u32, 0, 5),
            load(offset::argument(2)),
            jump_equal(6, 2, 0),
            jump_equal(32, 1, 0),
            jump_equal(57, 0, 1),
            give(NOTIFY),
            give(ALLOW),
        ],
    );
    // A datagram without an address goes where the socket is connected to.
    rule(
        &mut code,
        libc::SYS_sendto,
        &[
            load(offset::argument(4)),
            jump_equal(0, 1, 0),
            give(NOTIFY),
            load(offset::argument(4) + 4),
            jump_equal(0, 0, 1),
            give(ALLOW),
            give(NOTIFY),
        ],
    );
    // Unix sockets are asked by what is done with them.
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rule(&mut code, call, &[load(offset::argument(0)), jump_equal(libc::AF_UNIX as u32, 0, 1), give(ALLOW), give(NOTIFY)]);
    }
    code.push(give(ALLOW));
    code
}

/// Appends what happens on one call; the accumulator holds the number, before and after.
fn rule(code: &mut Vec<libc::sock_filter>, call: i64, body: &[libc::sock_filter]) {
    code.push(jump_equal(call as u32, 0, body.len() as u8));
    code.extend_from_slice(body);
}

fn any_bit(bits: u32, jt: u8, jf: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, bits, jt, jf)
}

/// Installs the filter on this thread and gives the descriptor on which its calls arrive to whoever holds the other end of
/// `socket`. The thread must have no-new-privileges set, and no company. `contained`: whether there is a container around it.
pub(super) fn install(socket: BorrowedFd<'_>, contained: bool) -> Result<(), Errno> {
    // A core dump is a file that the kernel writes without any call.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let (to_sender, from_installer) = std::sync::mpsc::channel::<RawFd>();
    std::thread::scope(|scope| {
        // Sending a message is a call that waits for an answer, so a thread without the filter does it.
        let sender = std::thread::Builder::new().spawn_scoped(scope, move || {
            let listener = from_installer.recv().map_err(|_| Errno::EIO)?;
            let descriptors = [listener];
            let message = [ControlMessage::ScmRights(&descriptors)];
            sendmsg::<()>(socket.as_raw_fd(), &[std::io::IoSlice::new(b"L")], &message, MsgFlags::empty(), None).map(drop)
        });
        let sender = sender.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)))?;
        let listener = listen(contained);
        if let Ok(listener) = &listener {
            // The other end is the thread just started.
            let _ = to_sender.send(listener.as_raw_fd());
        }
        drop(to_sender);
        let sent = sender.join().unwrap_or(Err(Errno::EIO));
        listener.and(sent)
    })
}

fn listen(contained: bool) -> Result<OwnedFd, Errno> {
    let mut code = program(contained);
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    let set = |flags: libc::c_ulong| {
        // SAFETY: `program` points to `code`, which lives through the call; the kernel copies it.
        Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
    };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let fd = set(flags)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::filter::tests::{ARCH_X86_64, run_program};

    fn native(call: i64, arguments: &[u64]) -> u32 {
        run_program(&program(true), ARCH_X86_64, call as u32, arguments)
    }

    fn bare(call: i64, arguments: &[u64]) -> u32 {
        run_program(&program(false), ARCH_X86_64, call as u32, arguments)
    }

    #[test]
    fn without_a_container_other_processes_are_asked_about() {
        for (call, argument) in OF_PROCESSES {
            let mut arguments = [0; 2];
            assert_eq!(bare(call, &arguments), ALLOW, "{call}");
            arguments[argument as usize] = 7;
            assert_eq!((bare(call, &arguments), native(call, &arguments)), (NOTIFY, ALLOW), "{call}");
        }
        for (call, process) in OF_KINDS {
            let process = u64::from(process);
            assert_eq!(bare(call, &[process, 0]), ALLOW);
            for arguments in [[process, 7], [process + 1, 0], [process + 2, 0]] {
                assert_eq!(bare(call, &arguments), NOTIFY, "{call} {arguments:?}");
            }
        }
    }

    #[test]
    fn without_a_container_nothing_of_the_machines_ipc_is_there() {
        for call in SYSTEM_V {
            assert_eq!((bare(call, &[]), native(call, &[])), (ENOSYS, ALLOW), "{call}");
        }
        assert_eq!(bare(libc::SYS_mq_unlink, &[]), EPERM);
        assert_eq!(bare(libc::SYS_openat, &[0, 0, 0]), NOTIFY);
    }

    #[test]
    fn without_a_container_nobody_hides() {
        let dumpable = libc::PR_SET_DUMPABLE as u64;
        assert_eq!((bare(libc::SYS_prctl, &[dumpable, 0]), native(libc::SYS_prctl, &[dumpable, 0])), (EPERM, ALLOW));
        assert_eq!(bare(libc::SYS_prctl, &[dumpable, 1]), ALLOW);
        assert_eq!(bare(libc::SYS_prctl, &[libc::PR_SET_NAME as u64, 0]), ALLOW);
    }

    #[test]
    fn what_reaches_files_waits() {
        for call in NOTIFIED {
            assert_eq!(native(*call, &[]), NOTIFY, "{call}");
        }
        assert_eq!(native(libc::SYS_openat, &[0, 0, libc::O_RDONLY as u64]), NOTIFY);
        assert_eq!(native(libc::SYS_openat, &[0, 0, libc::O_PATH as u64]), ALLOW);
        assert_eq!(native(libc::SYS_open, &[0, (1 << 40) | libc::O_RDWR as u64]), NOTIFY);
        assert_eq!(native(libc::SYS_read, &[]), ALLOW);
        assert_eq!(native(libc::SYS_ptrace, &[]), EPERM);
        assert_eq!(native(libc::SYS_landlock_restrict_self, &[]), ENOSYS);
        assert_eq!(native(libc::SYS_recvmmsg, &[]), ENOSYS);
        assert_eq!(native(libc::SYS_seccomp, &[1, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER]), EBUSY);
        assert_eq!(native(libc::SYS_seccomp, &[1, libc::SECCOMP_FILTER_FLAG_TSYNC]), ALLOW);
    }

    #[test]
    fn only_files_that_become_executable_wait() {
        let exec = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        assert_eq!(native(libc::SYS_mmap, &[0, 0, exec, libc::MAP_PRIVATE as u64]), NOTIFY);
        assert_eq!(native(libc::SYS_mmap, &[0, 0, exec, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64]), ALLOW);
        assert_eq!(native(libc::SYS_mmap, &[0, 0, 1, libc::MAP_PRIVATE as u64]), ALLOW);
        assert_eq!(native(libc::SYS_mprotect, &[0, 0, exec]), NOTIFY);
        assert_eq!(native(libc::SYS_mprotect, &[0, 0, 1]), ALLOW);
    }

    #[test]
    fn descriptors_and_memory_are_shared_by_threads_alone() {
        let answer = |flags: i32| native(libc::SYS_clone, &[(1 << 40) | flags as u64]);
        let (files, memory, thread, vfork) = (libc::CLONE_FILES, libc::CLONE_VM, libc::CLONE_THREAD, libc::CLONE_VFORK);
        let mask = libc::CLONE_FS;
        let threads = files | memory | thread;
        for allowed in
            [0, libc::SIGCHLD, memory | vfork, threads, mask | threads, mask, mask | libc::SIGCHLD, mask | memory | vfork]
        {
            assert_eq!(answer(allowed), ALLOW, "{allowed:#x}");
        }
        for refused in [files, memory, files | memory, files | memory | vfork, files | vfork, mask | files, mask | memory] {
            assert_eq!(answer(refused), EPERM, "{refused:#x}");
        }
    }

    #[test]
    fn only_ioctls_that_set_attributes_wait() {
        for command in ATTRIBUTE_COMMANDS {
            assert_eq!(native(libc::SYS_ioctl, &[3, u64::from(command)]), NOTIFY);
        }
        assert_eq!(native(libc::SYS_ioctl, &[3, libc::TCGETS]), ALLOW);
        assert_eq!(native(libc::SYS_ioctl, &[3, (1 << 40) | libc::TIOCGPTPEER]), ENOTTY);
    }

    #[test]
    fn only_options_that_name_a_route_or_a_sender_wait() {
        let answer = |level: i32, option: u64| native(libc::SYS_setsockopt, &[3, level as u64, option]);
        for (level, option) in [
            (libc::SOL_SOCKET, 16),
            (libc::IPPROTO_IP, 4),
            (libc::IPPROTO_IPV6, 6),
            (libc::IPPROTO_IPV6, 32),
            (libc::IPPROTO_IPV6, 57),
        ] {
            assert_eq!(answer(level, option), NOTIFY, "{level} {option}");
        }
        for (level, option) in [
            (libc::IPPROTO_IP, 1),
            (libc::IPPROTO_IP, 57),
            (libc::IPPROTO_IPV6, 4),
            (libc::SOL_SOCKET, 4),
            (libc::IPPROTO_TCP, 6),
        ] {
            assert_eq!(answer(level, option), ALLOW, "{level} {option}");
        }
    }

    #[test]
    fn only_sends_with_an_address_wait() {
        assert_eq!(native(libc::SYS_sendto, &[0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(native(libc::SYS_sendto, &[0, 0, 0, 0, 8]), NOTIFY);
        assert_eq!(native(libc::SYS_sendto, &[0, 0, 0, 0, 1 << 40]), NOTIFY);
        for call in [libc::SYS_socket, libc::SYS_socketpair] {
            assert_eq!(native(call, &[libc::AF_UNIX as u64]), ALLOW);
            assert_eq!(native(call, &[libc::AF_NETLINK as u64]), NOTIFY);
            assert_eq!(native(call, &[(1 << 40) | libc::AF_TIPC as u64]), NOTIFY);
        }
    }
}

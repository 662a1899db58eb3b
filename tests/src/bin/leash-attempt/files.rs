//! Everything that reaches a file or its name.

use crate::script::{Context, Words};
use crate::sys::{Answer, Arg, Fail, c, call};
use nix::libc;

/// The number that a word names.
pub(crate) fn constant(word: &str) -> i64 {
    macro_rules! table {
        ($($name:ident)*) => {
            match word {
                $(stringify!($name) => return libc::$name as i64,)*
                _ => {}
            }
        };
    }
    table!(O_RDONLY O_WRONLY O_RDWR O_ACCMODE O_CREAT O_EXCL O_TRUNC O_APPEND O_PATH O_TMPFILE O_DIRECTORY O_NOFOLLOW O_CLOEXEC
        O_NONBLOCK AT_FDCWD AT_EMPTY_PATH AT_SYMLINK_FOLLOW AT_SYMLINK_NOFOLLOW AT_REMOVEDIR RENAME_EXCHANGE RENAME_NOREPLACE
        RENAME_WHITEOUT S_IFIFO S_IFREG S_IFSOCK S_IFCHR FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE FALLOC_FL_ZERO_RANGE
        PROT_READ PROT_WRITE PROT_EXEC CLONE_NEWUSER CLONE_NEWNS CLONE_NEWNET MS_BIND MS_REC MS_PRIVATE SOCK_STREAM SOCK_DGRAM
        SOCK_RAW SOCK_SEQPACKET SOCK_RDM IPPROTO_TCP IPPROTO_UDP IPPROTO_ICMP IPPROTO_ICMPV6 IPPROTO_RAW
        IPPROTO_SCTP IPPROTO_UDPLITE IPPROTO_MPTCP NETLINK_ROUTE NETLINK_AUDIT NETLINK_KOBJECT_UEVENT MSG_FASTOPEN MSG_MORE);
    let parsed = match word.split_at_checked(2) {
        Some(("0o", digits)) => i64::from_str_radix(digits, 8),
        Some(("0x", digits)) => i64::from_str_radix(digits, 16),
        _ => word.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("no constant `{word}`"))
}

const CWD: i32 = libc::AT_FDCWD;

pub(crate) fn operate(operation: &str, w: &Words, context: &mut Context) -> Option<Answer> {
    let path = |index: usize| c(w.bytes(index));
    let mode = |index: usize| if w.bytes(index).is_empty() { 0o644 } else { w.int(index) };
    let times = [0u8; 32];
    Some(match operation {
        "open" => call(libc::SYS_openat, [CWD.into(), (&path(0)).into(), w.int(1).into(), mode(2).into()]),
        "legacy-open" => call(libc::SYS_open, [(&path(0)).into(), w.int(1).into(), mode(2).into()]),
        "openat" => call(libc::SYS_openat, [w.int(0).into(), (&path(1)).into(), w.int(2).into(), mode(3).into()]),
        "openat2" => openat2(w),
        "creat" => call(libc::SYS_creat, [(&path(0)).into(), mode(1).into()]),
        "read" => read(w.int(0), context),
        "write" => call(libc::SYS_write, [w.int(0).into(), w.bytes(1).into(), (w.bytes(1).len() as i64).into()]),
        "close" => call(libc::SYS_close, [w.int(0).into()]),
        "cat" => call(libc::SYS_openat, [CWD.into(), (&path(0)).into(), 0.into()]).and_then(|fd| read(fd, context)),
        "list" => list(&path(0), context),
        "truncate" => call(libc::SYS_truncate, [(&path(0)).into(), w.int(1).into()]),
        "ftruncate" => call(libc::SYS_ftruncate, [w.int(0).into(), w.int(1).into()]),
        "fallocate" => call(libc::SYS_fallocate, [w.int(0).into(), w.int(1).into(), w.int(2).into(), w.int(3).into()]),
        "unlink" => call(libc::SYS_unlink, [(&path(0)).into()]),
        "unlinkat" => call(libc::SYS_unlinkat, [w.int(0).into(), (&path(1)).into(), w.int(2).into()]),
        "rmdir" => call(libc::SYS_rmdir, [(&path(0)).into()]),
        "mkdir" => call(libc::SYS_mkdir, [(&path(0)).into(), 0o755.into()]),
        "mkdirat" => call(libc::SYS_mkdirat, [w.int(0).into(), (&path(1)).into(), 0o755.into()]),
        "mknod" => call(libc::SYS_mknod, [(&path(0)).into(), (w.int(1) | 0o644).into(), 0.into()]),
        "symlink" => call(libc::SYS_symlink, [(&path(0)).into(), (&path(1)).into()]),
        "link" => call(libc::SYS_link, [(&path(0)).into(), (&path(1)).into()]),
        "linkat" => {
            call(libc::SYS_linkat, [w.int(0).into(), (&path(1)).into(), w.int(2).into(), (&path(3)).into(), w.int(4).into()])
        }
        "rename" => call(libc::SYS_rename, [(&path(0)).into(), (&path(1)).into()]),
        "renameat2" => call(libc::SYS_renameat2, [CWD.into(), (&path(0)).into(), CWD.into(), (&path(1)).into(), w.int(2).into()]),
        "renameat" => {
            call(libc::SYS_renameat2, [w.int(0).into(), (&path(1)).into(), w.int(2).into(), (&path(3)).into(), w.int(4).into()])
        }
        "chmod" => call(libc::SYS_chmod, [(&path(0)).into(), w.int(1).into()]),
        "fchmod" => call(libc::SYS_fchmod, [w.int(0).into(), w.int(1).into()]),
        // `fchmodat2 FD PATH MODE FLAGS`
        "fchmodat2" => call(libc::SYS_fchmodat2, [w.int(0).into(), (&path(1)).into(), w.int(2).into(), w.int(3).into()]),
        "chown" => call(libc::SYS_chown, [(&path(0)).into(), own_uid().into(), own_gid().into()]),
        "lchown" => call(libc::SYS_lchown, [(&path(0)).into(), own_uid().into(), own_gid().into()]),
        "fchown" => call(libc::SYS_fchown, [w.int(0).into(), own_uid().into(), own_gid().into()]),
        "utimensat" => call(libc::SYS_utimensat, [CWD.into(), (&path(0)).into(), times.as_slice().into(), w.int(1).into()]),
        "futimens" => call(libc::SYS_utimensat, [w.int(0).into(), 0.into(), times.as_slice().into(), 0.into()]),
        "touch-now" => call(libc::SYS_utimensat, [CWD.into(), (&path(0)).into(), 0.into(), 0.into()]),
        "setxattr" => set_xattr(libc::SYS_setxattr, Arg::Str(&path(0)), w),
        "lsetxattr" => set_xattr(libc::SYS_lsetxattr, Arg::Str(&path(0)), w),
        "fsetxattr" => set_xattr(libc::SYS_fsetxattr, Arg::Int(w.int(0)), w),
        "removexattr" => call(libc::SYS_removexattr, [(&path(0)).into(), (&path(1)).into()]),
        "lremovexattr" => call(libc::SYS_lremovexattr, [(&path(0)).into(), (&path(1)).into()]),
        "fremovexattr" => call(libc::SYS_fremovexattr, [w.int(0).into(), (&path(1)).into()]),
        "watch" => watch(&path(0)),
        "set-flags" => set_flags(w),
        "chdir" => call(libc::SYS_chdir, [(&path(0)).into()]),
        "fchdir" => call(libc::SYS_fchdir, [w.int(0).into()]),
        "handle" => by_handle(w, context),
        "copy" => std::fs::copy(os(w.bytes(0)), os(w.bytes(1))).map(|n| n as i64).map_err(Fail::from),
        "descend" => descend(w, false),
        "descend-new" => descend(w, true),
        "make-file" => std::fs::write(os(w.bytes(0)), w.bytes(1)).map(|()| 0).map_err(Fail::from),
        _ => return None,
    })
}

pub(crate) fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// A watch for opens, as `inotify(7)` has it.
fn watch(path: &std::ffi::CString) -> Answer {
    let fd = call(libc::SYS_inotify_init1, [libc::IN_CLOEXEC.into()])?;
    call(libc::SYS_inotify_add_watch, [fd.into(), path.into(), i64::from(libc::IN_OPEN).into()])
}

/// `set-flags FD FLAGS`: the attributes of `ioctl_iflags(2)`.
fn set_flags(w: &Words) -> Answer {
    let flags = w.int(1).to_ne_bytes();
    call(libc::SYS_ioctl, [w.int(0).into(), (libc::FS_IOC_SETFLAGS as i64).into(), flags.as_slice().into()])
}

fn own_uid() -> i64 {
    i64::from(nix::unistd::getuid().as_raw())
}

fn own_gid() -> i64 {
    i64::from(nix::unistd::getgid().as_raw())
}

fn read(fd: i64, context: &mut Context) -> Answer {
    let mut buffer = [0u8; 4096];
    let count = call(libc::SYS_read, [fd.into(), buffer.as_mut_slice().into(), 4096.into()])?;
    context.data.extend_from_slice(&buffer[..count as usize]);
    Ok(count)
}

fn list(path: &std::ffi::CString, context: &mut Context) -> Answer {
    let fd = call(libc::SYS_openat, [CWD.into(), path.into(), i64::from(libc::O_DIRECTORY).into()])?;
    let mut buffer = [0u8; 4096];
    let count = call(libc::SYS_getdents64, [fd.into(), buffer.as_mut_slice().into(), 4096.into()])?;
    context.data.extend(buffer[..count as usize].iter().filter(|byte| byte.is_ascii_graphic()));
    Ok(count)
}

fn openat2(w: &Words) -> Answer {
    // `struct open_how` (openat2(2)): flags, mode, resolve.
    let mut how = [0u8; 24];
    how[..8].copy_from_slice(&w.int(1).to_ne_bytes());
    how[16..].copy_from_slice(&w.int(2).to_ne_bytes());
    call(libc::SYS_openat2, [CWD.into(), (&c(w.bytes(0))).into(), how.as_slice().into(), 24.into()])
}

fn set_xattr(number: libc::c_long, target: Arg<'_>, w: &Words) -> Answer {
    let value = w.bytes(2);
    call(number, [target, (&c(w.bytes(1))).into(), value.into(), (value.len() as i64).into(), 0.into()])
}

/// Opens word 0 through its handle, on the mount of word 1 (`open_by_handle_at(2)`).
fn by_handle(w: &Words, context: &mut Context) -> Answer {
    let mut handle = [0u8; 136];
    handle[..4].copy_from_slice(&128u32.to_ne_bytes());
    let mut mount_id = [0u8; 4];
    let path = c(w.bytes(0));
    call(
        libc::SYS_name_to_handle_at,
        [CWD.into(), (&path).into(), handle.as_mut_slice().into(), mount_id.as_mut_slice().into(), 0.into()],
    )?;
    let mount = call(libc::SYS_openat, [CWD.into(), (&c(w.bytes(1))).into(), 0.into()])?;
    let fd = call(libc::SYS_open_by_handle_at, [mount.into(), handle.as_slice().into(), 0.into()])?;
    read(fd, context)
}

/// Goes word 0 directories down, each named by word 1, so that the path grows beyond what one call can carry.
fn descend(w: &Words, create: bool) -> Answer {
    let name = c(w.bytes(1));
    for _ in 0..w.int(0) {
        if create {
            call(libc::SYS_mkdir, [(&name).into(), 0o755.into()])?;
        }
        call(libc::SYS_chdir, [(&name).into()])?;
    }
    Ok(0)
}

//! Every LSM hook with the calls that reach it: a line a call. What the red-team list has already is taken from there.

use super::{files, find, network, policy, programs, reason};
use crate::hook::Line;

const GAIN: &str = "the new name would allow";

const fn again(hook: &'static str, table: &'static [crate::case::Case], name: &str) -> Line {
    Line { hook, case: find(table, name) }
}

/// A call that the red-team list has not: hook, name, script, action, resource, policy.
const fn call(
    hook: &'static str,
    name: &'static str,
    script: &'static str,
    action: &'static str,
    resource: &'static str,
    id: &'static str,
) -> Line {
    Line { hook, case: policy(0, name, "", script, action, resource, id) }
}

/// Files: opening them, their names, their attributes, and running them.
#[rustfmt::skip] // a table, one call a line
pub const FILES: &[Line] = &[
    again("file_open", files::NAMES, "plain-read"),
    again("file_open", files::NAMES, "openat2"),
    again("file_open", files::NAMES, "list"),
    again("file_open", files::CHANGES, "write"),
    again("file_open", files::CHANGES, "append"),
    again("file_open", files::CHANGES, "unnamed"),
    call("file_open", "both-for-reading", "open {N}/key O_RDWR", "FileRead", "{N}/key", "no-read"),
    call("file_open", "both-for-writing", "open {R}/key O_RDWR", "FileWrite", "{R}/key", "no-modify"),
    call("file_open", "create-existing", "open {R}/key O_CREAT|O_WRONLY", "FileWrite", "{R}/key", "no-modify"),
    call("file_open", "unnamed-for-writing", "open {C} O_TMPFILE|O_WRONLY 0o600", "FileWrite", "{C}/*", "no-content"),
    again("path_truncate", files::CHANGES, "truncate"),
    again("path_truncate", files::CHANGES, "truncate-proc"),
    // Before 6.2 `path_truncate` sees these two.
    again("file_truncate", files::CHANGES, "open-truncate"),
    call("file_truncate", "ftruncate-moved", "f = open {W}/plain O_RDWR; rename {W}/plain {C}/moved; ftruncate $f 0", "FileWrite", "{C}/moved", "no-content"),
    again("path_mknod", files::CHANGES, "creat"),
    again("path_mknod", files::CHANGES, "creat-read-only"),
    again("path_mknod", files::CHANGES, "creat-by-symlink"),
    again("path_mknod", files::CHANGES, "mknod-file"),
    again("path_mknod", files::CHANGES, "mknod-fifo"),
    call("path_mknod", "mknod-socket", "mknod {R}/new S_IFSOCK", "FileCreate", "{R}/new", "no-modify"),
    // Device 0:0 is the one that needs no capability.
    call("path_mknod", "mknod-device", "mknod {R}/new S_IFCHR", "FileCreate", "{R}/new", "no-modify"),
    again("path_mkdir", files::CHANGES, "mkdir"),
    again("path_mkdir", files::CHANGES, "mkdirat"),
    again("path_rmdir", files::CHANGES, "rmdir"),
    again("path_rmdir", files::CHANGES, "rmdir-by-unlinkat"),
    again("path_unlink", files::CHANGES, "unlink"),
    again("path_unlink", files::CHANGES, "unlinkat"),
    again("path_symlink", files::CHANGES, "symlink-into"),
    again("path_link", files::MOVES, "link"),
    again("path_link", files::MOVES, "link-into"),
    again("path_link", files::MOVES, "link-descriptor"),
    again("path_link", files::MOVES, "link-gains-read"),
    again("path_rename", files::MOVES, "rename-file"),
    again("path_rename", files::MOVES, "rename-into"),
    again("path_rename", files::MOVES, "rename-over-file"),
    again("path_rename", files::MOVES, "rename-directory"),
    again("path_rename", files::MOVES, "rename-over"),
    again("path_rename", files::MOVES, "no-replace"),
    again("path_rename", files::MOVES, "whiteout"),
    again("path_rename", files::MOVES, "exchange"),
    again("path_rename", files::MOVES, "exchange-file-back"),
    again("path_rename", files::MOVES, "rename-gains-read"),
    call("path_rename", "rename-deletes", "rename {R}/key {W}/k", "FileDelete", "{R}/key", "no-modify"),
    call("path_rename", "replace-deletes", "rename {W}/plain {R}/key", "FileDelete", "{R}/key", "no-modify"),
    call("path_rename", "exchange-file", "renameat2 {R}/key {W}/plain RENAME_EXCHANGE", "FileCreate", "{R}/key", "no-modify"),
    again("path_chmod", files::CHANGES, "chmod"),
    again("path_chmod", files::CHANGES, "fchmod"),
    again("path_chmod", files::CHANGES, "chmod-path-descriptor"),
    again("path_chown", files::CHANGES, "chown"),
    again("path_chown", files::CHANGES, "lchown"),
    again("path_chown", files::CHANGES, "fchown"),
    again("inode_setattr", files::CHANGES, "utimensat"),
    again("inode_setattr", files::CHANGES, "touch"),
    again("inode_setattr", files::CHANGES, "futimens"),
    again("inode_setattr", files::CHANGES, "directory-times"),
    // Before 6.2 `inode_setxattr` and `inode_removexattr` see these.
    again("inode_set_acl", files::CHANGES, "set-acl"),
    again("inode_set_acl", files::CHANGES, "fset-acl"),
    again("inode_remove_acl", files::CHANGES, "remove-acl"),
    call("path_notify", "watch-directory", "watch {D}/dir", "DirList", "{D}/dir", "no-deny"),
    call("path_notify", "watch-file", "watch {N}/key", "FileRead", "{N}/key", "no-read"),
    // `FS_NODUMP_FL`, which needs no capability.
    call("file_ioctl", "set-flags", "f = open {R}/key O_RDONLY; set-flags $f 0x40", "FileSetAttributes", "{R}/key", "no-modify"),
    again("bprm_check_security", programs::PROGRAMS, "exec"),
    again("bprm_check_security", programs::PROGRAMS, "exec-symlink"),
    again("bprm_check_security", programs::PROGRAMS, "execveat"),
    again("bprm_check_security", programs::PROGRAMS, "execveat-directory"),
    again("bprm_check_security", programs::PROGRAMS, "exec-descriptor"),
    again("bprm_check_security", programs::PROGRAMS, "script"),
    again("bprm_check_security", programs::PROGRAMS, "interpreter"),
    again("mmap_file", programs::PROGRAMS, "mmap"),
    again("mmap_file", programs::PROGRAMS, "dlopen"),
    again("file_mprotect", programs::PROGRAMS, "mprotect"),
    again("file_mprotect", programs::PROGRAMS, "mprotect-copy"),
    Line { hook: "path_rename", case: reason(0, "directory-gains-run", "", "rename {X}/dir {W}/d", "FileRename", "{W}/d", GAIN) },
];

/// Extended attributes of users, on a file system that has them on every kernel.
#[rustfmt::skip] // a table, one call a line
pub const ATTRIBUTES: &[Line] = &[
    again("inode_setxattr", files::USER_ATTRIBUTES, "setxattr"),
    again("inode_setxattr", files::USER_ATTRIBUTES, "lsetxattr"),
    again("inode_setxattr", files::USER_ATTRIBUTES, "fsetxattr"),
    again("inode_removexattr", files::USER_ATTRIBUTES, "removexattr"),
    again("inode_removexattr", files::USER_ATTRIBUTES, "lremovexattr"),
    again("inode_removexattr", files::USER_ATTRIBUTES, "fremovexattr"),
];

/// `fchmodat2(2)`, since 6.6.
#[rustfmt::skip] // a table, one call a line
pub const FCHMODAT2: &[Line] = &[
    call("path_chmod", "fchmodat2", "fchmodat2 AT_FDCWD {R}/key 0o777", "FileSetAttributes", "{R}/key", "no-modify"),
    call("path_chmod", "fchmodat2-descriptor", "p = open {R}/key O_PATH; fchmodat2 $p '' 0o777 AT_EMPTY_PATH", "FileSetAttributes", "{R}/key", "no-modify"),
];

/// Sockets: making, binding, connecting them, and sending.
#[rustfmt::skip] // a table, one call a line
pub const SOCKETS: &[Line] = &[
    again("socket_create", network::FAMILIES, "netlink"),
    again("socket_create", network::FAMILIES, "netlink-audit"),
    again("socket_create", network::FAMILIES, "packet-raw"),
    again("socket_create", network::FAMILIES, "packet-dgram"),
    again("socket_create", network::FAMILIES, "raw4"),
    again("socket_create", network::FAMILIES, "raw6"),
    again("socket_create", network::FAMILIES, "ping"),
    again("socket_create", network::FAMILIES, "ping6"),
    again("socket_connect", network::ADDRESSES, "tcp4"),
    again("socket_connect", network::ADDRESSES, "tcp6"),
    again("socket_connect", network::ADDRESSES, "tcp-mapped"),
    again("socket_connect", network::ADDRESSES, "mptcp"),
    again("socket_connect", network::ADDRESSES, "udp4"),
    again("socket_connect", network::ADDRESSES, "udp6"),
    again("socket_connect", network::ADDRESSES, "udp-mapped"),
    again("socket_connect", network::ADDRESSES, "any4-is-loopback"),
    again("socket_connect", network::ADDRESSES, "any6-is-loopback"),
    again("socket_bind", network::ADDRESSES, "bind4"),
    again("socket_bind", network::ADDRESSES, "bind6"),
    again("socket_bind", network::ADDRESSES, "bind-mapped"),
    again("socket_bind", network::ADDRESSES, "bind-udp"),
    again("socket_bind", network::UNIX, "unix-bind-abstract"),
    call("socket_bind", "bind-udp6", "s = socket inet6 SOCK_DGRAM; bind $s in6:[{6}]:0", "NetworkListen", "[{6}]:0/udp", "no-net"),
    call("socket_bind", "bind-abstract-dgram", "s = socket unix SOCK_DGRAM; bind $s un:@{SIDE}-own", "NetworkListen", "@{SIDE}-own", "no-unix"),
    call("socket_bind", "bind-abstract-seqpacket", "s = socket unix SOCK_SEQPACKET; bind $s un:@{SIDE}-own", "NetworkListen", "@{SIDE}-own", "no-unix"),
    again("path_mknod", network::UNIX, "unix-bind"),
    call("path_mknod", "bind-dgram", "s = socket unix SOCK_DGRAM; bind $s un:{D}/sock", "NetworkListen", "{D}/sock", "no-unix"),
    call("path_mknod", "bind-seqpacket", "s = socket unix SOCK_SEQPACKET; bind $s un:{D}/sock", "NetworkListen", "{D}/sock", "no-unix"),
    // The bind asks for port 0, the listen for the one that the kernel chose.
    call("socket_listen", "listen4", "s = socket inet SOCK_STREAM; bind $s in:{LOOPBACK}:0; listen $s", "NetworkListen", "{LOOPBACK}:*", "no-chosen-port"),
    call("socket_listen", "listen-mapped", "s = socket inet6 SOCK_STREAM; bind $s in6:[::ffff:{LOOPBACK}]:0; listen $s", "NetworkListen", "{LOOPBACK}:*", "no-chosen-port"),
    again("socket_sendmsg", network::ADDRESSES, "sendto4"),
    again("socket_sendmsg", network::ADDRESSES, "sendto6"),
    again("socket_sendmsg", network::ADDRESSES, "sendto-mapped"),
    again("socket_sendmsg", network::ADDRESSES, "sendto6-in-4"),
    again("socket_sendmsg", network::ADDRESSES, "sendto-no-family"),
    again("socket_sendmsg", network::ADDRESSES, "sendmsg4"),
    again("socket_sendmsg", network::ADDRESSES, "sendmsg6"),
    again("socket_sendmsg", network::ADDRESSES, "sendmmsg4"),
    again("socket_sendmsg", network::ADDRESSES, "sendmmsg-mapped"),
    again("socket_sendmsg", network::ADDRESSES, "fast-open"),
    again("socket_sendmsg", network::ADDRESSES, "fast-open6"),
    again("socket_sendmsg", network::ADDRESSES, "fast-open-mapped"),
    call("socket_sendmsg", "sendmsg-mapped", "s = socket inet6 SOCK_DGRAM; sendmsg $s in6:[::ffff:{4}]:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    call("socket_sendmsg", "sendmmsg6", "s = socket inet6 SOCK_DGRAM; sendmmsg $s in6:[{6}]:{PORT} hi", "NetworkSend", "[{6}]:{PORT}/udp", "no-net"),
    again("socket_sendmsg", network::ROUTES, "route4-message"),
    again("socket_sendmsg", network::ROUTES, "route4-messages"),
    again("socket_sendmsg", network::ROUTES, "route6-message"),
    again("socket_setsockopt", network::ROUTES, "route4"),
    again("socket_setsockopt", network::ROUTES, "route6"),
    again("unix_stream_connect", network::UNIX, "unix-stream"),
    again("unix_stream_connect", network::UNIX, "unix-abstract"),
    call("unix_stream_connect", "seqpacket", "s = socket unix SOCK_SEQPACKET; connect $s un:{S}/seqpacket", "NetworkConnect", "{S}/seqpacket", "no-unix"),
    call("unix_stream_connect", "seqpacket-abstract", "s = socket unix SOCK_SEQPACKET; connect $s un:@{SIDE}-seqpacket", "NetworkConnect", "@{SIDE}-seqpacket", "no-unix"),
    again("unix_may_send", network::UNIX, "unix-dgram"),
    again("unix_may_send", network::UNIX, "unix-dgram-message"),
    again("unix_may_send", network::UNIX, "unix-dgram-connected"),
    call("unix_may_send", "dgram-messages", "s = socket unix SOCK_DGRAM; sendmmsg $s un:{S}/dgram hi", "NetworkSend", "{S}/dgram", "no-unix"),
    call("unix_may_send", "dgram-abstract", "s = socket unix SOCK_DGRAM; sendto $s un:@{SIDE}-dgram hi", "NetworkSend", "@{SIDE}-dgram", "no-unix"),
    call("unix_may_send", "dgram-abstract-connected", "s = socket unix SOCK_DGRAM; connect $s un:@{SIDE}-dgram; send $s hi", "NetworkSend", "@{SIDE}-dgram", "no-unix"),
];

/// Hooks that no line can stand for, and why.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("file_receive", "needs a helper outside the session: `kernel_sessions`"),
    ("bprm_committed_creds", "asks nothing: notes the new program"),
    ("task_alloc", "asks nothing: the child gets its parent's program"),
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use leash_common::kind::Kind;
    use std::collections::BTreeSet;

    fn lines() -> impl Iterator<Item = &'static Line> {
        [FILES, ATTRIBUTES, FCHMODAT2, SOCKETS].into_iter().flatten()
    }

    /// The hooks that `leash-ebpf` has programs for.
    pub(in crate::cases) fn programs() -> BTreeSet<String> {
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../leash-ebpf/src");
        let mut programs = BTreeSet::new();
        for file in std::fs::read_dir(sources).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let hooks = text.split("#[lsm(hook = \"").skip(1).filter_map(|rest| rest.split('"').next());
            programs.extend(hooks.map(str::to_owned));
        }
        programs
    }

    #[test]
    fn every_hook_that_has_a_program_has_a_line() {
        let tested = lines().map(|line| line.hook).chain(ELSEWHERE.iter().map(|(hook, _)| *hook));
        assert_eq!(tested.map(str::to_owned).collect::<BTreeSet<_>>(), programs());
    }

    #[test]
    fn every_action_is_denied_by_some_line() {
        let tested: BTreeSet<&str> = lines().map(|line| line.case.action().unwrap()).collect();
        assert_eq!(tested, Kind::ALL.iter().map(|kind| kind.action()).collect());
    }

    #[test]
    fn names_are_unique() {
        let mut seen = BTreeSet::new();
        assert_eq!(lines().find(|line| !seen.insert(line.case.name)).map(|line| line.case.name), None);
    }
}

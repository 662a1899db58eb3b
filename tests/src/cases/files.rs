//! Files: reaching their bytes, their names and their attributes.

use super::{always, container, policy, reason};
use crate::case::Case;

const GAIN: &str = "the new name would allow";
const EPERM: &[i32] = &[1];
const EPERM_OR_EACCES: &[i32] = &[1, 13];

/// Other names for the same file.
#[rustfmt::skip] // a table, one case a line
pub const NAMES: &[Case] = &[
    policy(1, "plain-read", "", "cat {D}/key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "self-root", "", "cat /proc/self/root{D}/key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "parent-root", "", "cat /proc/$ppid/root{D}/key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "thread-root", "", "cat /proc/thread-self/root{D}/key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "self-cwd", "", "chdir {D}; cat /proc/self/cwd/key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "relative", "", "chdir {D}/dir; cat ../key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "dots", "", "cat {D}/dir/.././/key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "openat", "", "d = open {D} O_PATH; f = openat $d key O_RDONLY; read $f", "FileRead", "{D}/key", "no-deny"),
    // The flag by which the kernel marks the opens of an exec is not the caller's to set.
    policy(1, "exec-flag", "", "f = open {D}/key 0x20; read $f", "FileRead", "{D}/key", "no-deny"),
    policy(1, "openat2", "", "f = openat2 {D}/key O_RDONLY 0; read $f", "FileRead", "{D}/key", "no-deny"),
    policy(1, "legacy-open", "", "f = legacy-open {D}/key O_RDONLY; read $f", "FileRead", "{D}/key", "no-deny"),
    policy(1, "fd-directory", "", "d = open {D} O_PATH|O_DIRECTORY; cat /proc/self/fd/$d/key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "cat-program", "", "exec /bin/cat /proc/self/root{D}/key", "FileRead", "{D}/key", "no-deny"),
    policy(1, "read-write", "", "f = open {D}/key O_RDWR; read $f", "FileRead", "{D}/key", "no-deny"),
    policy(1, "list", "", "list {D}/dir", "DirList", "{D}/dir", "no-deny"),
    policy(1, "list-proc", "", "list /proc/self/root{D}/dir", "DirList", "{D}/dir", "no-deny"),
    policy(2, "symlink", "", "symlink {D}/key {W}/s; cat {W}/s", "FileRead", "{D}/key", "no-deny"),
    policy(2, "symlink-directory", "", "symlink {D} {W}/s; cat {W}/s/key", "FileRead", "{D}/key", "no-deny"),
    policy(2, "symlink-chain", "", "symlink {W}/b {W}/a; symlink {D}/key {W}/b; cat {W}/a", "FileRead", "{D}/key", "no-deny"),
    policy(2, "symlink-race", "", "race {W}/r {D}/key {W}/plain 2000", "FileRead", "{D}/key", "no-deny"),
    policy(2, "symlink-directory-race", "make-file {W}/sub/key plain", "race {W}/r {D} {W}/sub 2000 /key", "FileRead", "{D}/key", "no-deny"),
    policy(8, "comm-by-prctl", "", "prctl-name update; cat {D}/key", "FileRead", "{D}/key", "no-deny"),
    policy(8, "comm-by-proc", "", "c = open /proc/self/comm O_WRONLY; write $c update; cat {D}/key", "FileRead", "{D}/key", "no-deny"),
    container(11, "by-handle", "handle {D}/key /w", EPERM_OR_EACCES),
    policy(12, "path-descriptor", "", "p = open {D}/key O_PATH; cat /proc/self/fd/$p", "FileRead", "{D}/key", "no-deny"),
    policy(12, "path-descriptor-dev", "", "p = open {D}/key O_PATH; cat /dev/fd/$p", "FileRead", "{D}/key", "no-deny"),
    policy(12, "path-descriptor-write", "", "p = open {D}/key O_PATH; open /proc/self/fd/$p O_WRONLY", "FileWrite", "{D}/key", "no-deny"),
    policy(12, "reopen-for-write", "", "f = open {R}/key O_RDONLY; g = open /proc/self/fd/$f O_RDWR; write $g x", "FileWrite", "{R}/key", "no-modify"),
];

/// Strange names.
#[rustfmt::skip] // a table, one case a line
pub const STRANGE: &[Case] = &[
    policy(6, "newline", "make-file {D}/a%0Ab SECRET", "cat {D}/a%0Ab", "FileRead", "{D}/a%0Ab", "no-deny"),
    policy(6, "space", "make-file {D}/%20a%20 SECRET", "cat {D}/%20a%20", "FileRead", "{D}/%20a%20", "no-deny"),
    policy(6, "quote", "make-file {D}/a%22%3B* SECRET", "cat {D}/a%22%3B*", "FileRead", "{D}/a%22%3B%2A", "no-deny"),
    policy(6, "umlaut", "make-file {D}/ä SECRET", "cat {D}/ä", "FileRead", "{D}/ä", "no-deny"),
    policy(
        6,
        "over-255",
        "chdir {D}; descend-new 10 {L}; make-file key SECRET",
        "chdir {D}; descend 10 {L}; cat key",
        "FileRead",
        "{D}/{L}/{L}/{L}/{L}/{L}/{L}/{L}/{L}/{L}/{L}/key",
        "no-deny",
    ),
    policy(6, "name-of-255", "make-file {D}/{L}{L50}12345 SECRET", "cat {D}/{L}{L50}12345", "FileRead", "{D}/{L}{L50}12345", "no-deny"),
    always(
        6,
        "over-4096",
        "chdir {W}; descend-new 25 {L}; make-file key SECRET",
        "chdir {W}; descend 25 {L}; cat key",
        "FileRead",
        "*",
        "longer than 4,095",
    ),
    always(6, "mkdir-over-4096", "", "chdir {W}; descend-new 25 {L}", "FileCreate", "*", "longer than 4,095"),
    always(6, "not-utf8", "make-file {W}/%FFx SECRET", "cat {W}/%FFx", "FileRead", "{W}/%FFx", "not UTF-8"),
    always(6, "create-not-utf8", "", "creat {W}/a%C3", "FileCreate", "{W}/a%C3", "not UTF-8"),
    always(6, "directory-not-utf8", "mkdir {W}/%E2%82; make-file {W}/%E2%82/key SECRET", "cat {W}/%E2%82/key", "FileRead", "{W}/%E2%82/key", "not UTF-8"),
    always(6, "surrogate", "make-file {W}/%ED%A0%80 SECRET", "cat {W}/%ED%A0%80", "FileRead", "{W}/*", "not UTF-8"),
    always(6, "overlong-slash", "make-file {W}/%C0%AF SECRET", "cat {W}/%C0%AF", "FileRead", "{W}/*", "not UTF-8"),
];

/// Moving the file, or what lies above it, to where it is permitted.
#[rustfmt::skip] // a table, one case a line
pub const MOVES: &[Case] = &[
    policy(3, "link", "", "link {D}/key {W}/h; cat {W}/h", "FileLink", "{D}/key", "no-deny"),
    policy(3, "link-into", "", "link {W}/plain {D}/h", "FileLink", "{D}/h", "no-deny"),
    policy(
        3,
        "link-descriptor",
        "",
        "f = open {D}/key O_PATH; linkat AT_FDCWD /proc/self/fd/$f AT_FDCWD {W}/h AT_SYMLINK_FOLLOW; cat {W}/h",
        "FileLink",
        "{D}/key",
        "no-deny",
    ),
    // Without CAP_DAC_READ_SEARCH the kernel finds nothing (ENOENT), newer ones the opener's own files.
    container(3, "link-empty-path", "f = open {D}/key O_PATH; linkat $f '' AT_FDCWD {W}/h AT_EMPTY_PATH; cat {W}/h", &[2, 13]),
    reason(3, "link-gains-read", "", "link {N}/key {W}/h; cat {W}/h", "FileLink", "{W}/h", GAIN),
    reason(3, "link-gains-write", "", "link {R}/key {W}/h; open {W}/h O_WRONLY", "FileLink", "{R}/key", "not to be changed"),
    policy(
        3,
        "unnamed-linked-in",
        "",
        "f = open {W} O_TMPFILE|O_RDWR 0o600; linkat AT_FDCWD /proc/self/fd/$f AT_FDCWD {D}/new AT_SYMLINK_FOLLOW",
        "FileLink",
        "{D}/new",
        "no-deny",
    ),
    policy(4, "rename-file", "", "rename {D}/key {W}/k; cat {W}/k", "FileRename", "{D}/key", "no-deny"),
    policy(4, "rename-directory", "", "rename {D}/dir {W}/d; cat {W}/d/inner", "FileRename", "{D}/dir", "no-deny"),
    policy(4, "rename-secret", "", "rename {T}/secret {T}/public; cat {T}/public/key", "FileRename", "{T}/secret", "no-secret"),
    reason(4, "rename-parent", "", "rename {T} {T}.moved; cat {T}.moved/secret/key", "FileRename", "{T}.moved", GAIN),
    policy(4, "rename-over", "", "rename {W}/sub {T}/secret/empty", "FileRename", "{T}/secret/empty", "no-secret"),
    policy(4, "rename-over-file", "", "rename {W}/plain {D}/key", "FileRename", "{D}/key", "no-deny"),
    policy(4, "rename-into", "", "rename {W}/plain {D}/new", "FileCreate", "{D}/new", "no-deny"),
    policy(4, "renameat", "", "d = open {D} O_PATH; w = open {W} O_PATH; renameat $d key $w k; cat {W}/k", "FileRename", "{D}/key", "no-deny"),
    policy(4, "exchange", "", "renameat2 {W}/sub {T}/secret RENAME_EXCHANGE; cat {W}/sub/key", "FileRename", "{T}/secret", "no-secret"),
    reason(4, "exchange-parent", "", "renameat2 {T} {W}/sub RENAME_EXCHANGE; cat {W}/sub/secret/key", "FileRename", "{W}/sub", GAIN),
    reason(4, "exchange-parent-back", "", "renameat2 {W}/sub {T} RENAME_EXCHANGE; cat {W}/sub/secret/key", "FileRename", "{W}/sub", GAIN),
    reason(4, "exchange-file-back", "", "renameat2 {W}/plain {N}/key RENAME_EXCHANGE; cat {W}/plain", "FileRename", "{W}/plain", GAIN),
    policy(4, "whiteout", "", "renameat2 {D}/key {W}/k RENAME_WHITEOUT; cat {W}/k", "FileRename", "{D}/key", "no-deny"),
    policy(4, "no-replace", "", "renameat2 {D}/key {W}/k RENAME_NOREPLACE; cat {W}/k", "FileRename", "{D}/key", "no-deny"),
    reason(4, "rename-gains-read", "", "rename {N}/key {W}/k; cat {W}/k", "FileRename", "{W}/k", GAIN),
    reason(4, "rename-directory-gains-read", "", "rename {N}/dir {W}/d; cat {W}/d/inner", "FileRename", "{W}/d", GAIN),
];

/// Changing what is there, and making what is not.
#[rustfmt::skip] // a table, one case a line
pub const CHANGES: &[Case] = &[
    policy(9, "write", "", "open {D}/key O_WRONLY", "FileWrite", "{D}/key", "no-deny"),
    policy(9, "append", "", "open {R}/key O_WRONLY|O_APPEND", "FileWrite", "{R}/key", "no-modify"),
    policy(9, "open-truncate", "", "open {R}/key O_RDONLY|O_TRUNC", "FileWrite", "{R}/key", "no-modify"),
    policy(9, "truncate", "", "truncate {R}/key 0", "FileWrite", "{R}/key", "no-modify"),
    policy(9, "truncate-proc", "", "truncate /proc/self/root{R}/key 0", "FileWrite", "{R}/key", "no-modify"),
    policy(9, "ftruncate", "", "f = open {R}/key O_RDWR; ftruncate $f 0", "FileWrite", "{R}/key", "no-modify"),
    policy(9, "fallocate", "", "f = open {R}/key O_WRONLY; fallocate $f 0 0 4096", "FileWrite", "{R}/key", "no-modify"),
    policy(9, "punch-hole", "", "f = open {D}/key O_RDWR; fallocate $f FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE 0 4096", "FileWrite", "{D}/key", "no-deny"),
    policy(9, "unlink", "", "unlink {R}/key", "FileDelete", "{R}/key", "no-modify"),
    policy(9, "unlinkat", "", "d = open {R} O_PATH; unlinkat $d key", "FileDelete", "{R}/key", "no-modify"),
    policy(9, "rmdir", "", "rmdir {R}/empty", "FileDelete", "{R}/empty", "no-modify"),
    policy(9, "rmdir-by-unlinkat", "", "unlinkat AT_FDCWD {R}/empty AT_REMOVEDIR", "FileDelete", "{R}/empty", "no-modify"),
    policy(9, "mkdir", "", "mkdir {R}/new", "FileCreate", "{R}/new", "no-modify"),
    policy(9, "mkdirat", "", "d = open {R} O_PATH; mkdirat $d new", "FileCreate", "{R}/new", "no-modify"),
    policy(9, "mknod-fifo", "", "mknod {R}/new S_IFIFO", "FileCreate", "{R}/new", "no-modify"),
    policy(9, "mknod-file", "", "mknod {R}/new S_IFREG", "FileCreate", "{R}/new", "no-modify"),
    policy(9, "symlink-into", "", "symlink /etc/passwd {R}/new", "FileCreate", "{R}/new", "no-modify"),
    policy(9, "creat", "", "creat {R}/new", "FileCreate", "{R}/new", "no-modify"),
    policy(9, "creat-by-symlink", "", "symlink {R}/new {W}/s; open {W}/s O_CREAT|O_WRONLY", "FileCreate", "{R}/new", "no-modify"),
    policy(9, "creat-read-only", "", "open {R}/new O_CREAT|O_RDONLY", "FileCreate", "{R}/new", "no-modify"),
    policy(9, "unnamed", "", "open {R} O_TMPFILE|O_RDWR 0o600", "FileCreate", "{R}/*", "no-modify"),
    policy(9, "chmod", "", "chmod {R}/key 0o777", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "fchmod", "", "f = open {R}/key O_RDONLY; fchmod $f 0o777", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "chmod-path-descriptor", "", "p = open {R}/key O_PATH; chmod /proc/self/fd/$p 0o777", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "chown", "", "chown {R}/key", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "lchown", "", "lchown {R}/key", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "fchown", "", "f = open {R}/key O_RDONLY; fchown $f", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "utimensat", "", "utimensat {R}/key", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "touch", "", "touch-now {R}/key", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "futimens", "", "f = open {R}/key O_RDONLY; futimens $f", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "directory-times", "", "touch-now {R}/dir", "FileSetAttributes", "{R}/dir", "no-modify"),
    policy(9, "set-acl", "", "setxattr {R}/key system.posix_acl_access {ACL}", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "fset-acl", "", "f = open {R}/key O_RDONLY; fsetxattr $f system.posix_acl_access {ACL}", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "remove-acl", "setxattr {R}/key system.posix_acl_access {ACL}", "removexattr {R}/key system.posix_acl_access", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(10, "absent-git", "", "mkdir {R}/.git", "FileCreate", "{R}/.git", "no-modify"),
    policy(10, "absent-env", "", "open {R}/.env O_CREAT|O_WRONLY|O_EXCL", "FileCreate", "{R}/.env", "no-modify"),
];

/// Extended attributes of users.
#[rustfmt::skip] // a table, one case a line
pub const USER_ATTRIBUTES: &[Case] = &[
    policy(9, "setxattr", "", "setxattr {R}/key user.x y", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "lsetxattr", "", "lsetxattr {R}/key user.x y", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "fsetxattr", "", "f = open {R}/key O_RDONLY; fsetxattr $f user.x y", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "removexattr", "setxattr {R}/key user.x y", "removexattr {R}/key user.x", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "lremovexattr", "setxattr {R}/key user.x y", "lremovexattr {R}/key user.x", "FileSetAttributes", "{R}/key", "no-modify"),
    policy(9, "fremovexattr", "setxattr {R}/key user.x y", "f = open {R}/key O_RDONLY; fremovexattr $f user.x", "FileSetAttributes", "{R}/key", "no-modify"),
];

/// Changing what a path means.
#[rustfmt::skip] // a table, one case a line
pub const MOUNTS: &[Case] = &[
    container(5, "chroot", "chroot {D}; cat /key", EPERM),
    container(5, "bind-mount", "unshare CLONE_NEWNS; mount none / '' MS_REC|MS_PRIVATE; mount {D} {W}/sub '' MS_BIND; cat {W}/sub/key", EPERM),
    container(
        5,
        "user-namespace",
        "unshare CLONE_NEWUSER|CLONE_NEWNS; mount none / '' MS_REC|MS_PRIVATE; mount {D} {W}/sub '' MS_BIND; cat {W}/sub/key",
        EPERM,
    ),
    container(
        5,
        "overlay",
        "unshare CLONE_NEWNS; mount none / '' MS_REC|MS_PRIVATE; mount overlay {W}/sub overlay 0 lowerdir={D}:{W}; cat {W}/sub/key",
        EPERM,
    ),
    container(
        5,
        "pivot-root",
        "unshare CLONE_NEWNS; mount none / '' MS_REC|MS_PRIVATE; mount /w {W} '' MS_BIND|MS_REC; pivot_root {W} {W}/free; cat /free{D}/key",
        EPERM,
    ),
    container(5, "open-tree", "unshare CLONE_NEWNS; t = open_tree {D}; move_mount $t {W}/sub; cat {W}/sub/key", EPERM),
    container(5, "mount-only", "mount {D} {W}/sub '' MS_BIND; f = open {W}/sub/key O_RDONLY; read $f; close $f; umount {W}/sub", EPERM),
    container(5, "open-tree-only", "t = open_tree {D}; f = openat $t key O_RDONLY; read $f", EPERM),
    container(5, "setns", "n = open /proc/self/ns/mnt O_RDONLY; setns $n 0; cat {D}/key", EPERM_OR_EACCES),
];

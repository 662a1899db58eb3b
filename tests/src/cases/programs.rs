//! Programs: every door to running a file's code.

use super::{always, policy, reason};
use crate::case::Case;

const GAIN: &str = "the new name would allow";

/// Ways to run what may not be run.
#[rustfmt::skip] // a table, one case a line
pub const PROGRAMS: &[Case] = &[
    policy(16, "exec", "", "exec {X}/prog say", "ProcessExec", "{X}/prog", "no-exec"),
    policy(16, "exec-root", "", "exec /proc/self/root{X}/prog say", "ProcessExec", "{X}/prog", "no-exec"),
    policy(16, "exec-symlink", "", "symlink {X}/prog {W}/s; exec {W}/s say", "ProcessExec", "{X}/prog", "no-exec"),
    policy(16, "exec-shell", "", "exec /bin/sh -c {X}/prog%20say", "ProcessExec", "{X}/prog", "no-exec"),
    policy(16, "exec-env", "", "exec /usr/bin/env {X}/prog say", "ProcessExec", "{X}/prog", "no-exec"),
    policy(17, "copy", "", "copy {D}/prog {W}/c; exec {W}/c say", "FileRead", "{D}/prog", "no-deny"),
    policy(17, "cp", "", "exec /bin/cp {D}/prog {W}/c; exec {W}/c say", "FileRead", "{D}/prog", "no-deny"),
    reason(17, "link-program", "", "link {X}/prog {W}/h; exec {W}/h say", "FileLink", "{W}/h", GAIN),
    reason(17, "rename-program", "", "rename {X}/prog {W}/h; exec {W}/h say", "FileRename", "{W}/h", GAIN),
    policy(18, "loader", "", "exec /lib64/ld-linux-x86-64.so.2 {X}/prog say", "ProcessExec", "{X}/prog", "no-exec"),
    policy(18, "loader-by-root", "", "exec /lib64/ld-linux-x86-64.so.2 /proc/self/root{X}/prog say", "ProcessExec", "{X}/prog", "no-exec"),
    always(19, "memfd", "", "memfd-exec {ATTEMPT}", "ProcessExec", "*", "no path under"),
    always(19, "memfd-by-proc", "", "memfd-exec-proc {ATTEMPT}", "ProcessExec", "*", "no path under"),
    policy(19, "execveat", "", "f = open {X}/prog O_PATH; execveat $f '' AT_EMPTY_PATH", "ProcessExec", "{X}/prog", "no-exec"),
    policy(19, "execveat-open", "", "f = open {X}/prog O_RDONLY; execveat $f '' AT_EMPTY_PATH", "ProcessExec", "{X}/prog", "no-exec"),
    policy(19, "execveat-directory", "chmod {X}/prog 0o755", "d = open {X} O_PATH; execveat $d prog 0", "ProcessExec", "{X}/prog", "no-exec"),
    policy(19, "exec-descriptor", "", "f = open {X}/prog O_PATH; exec /proc/self/fd/$f say", "ProcessExec", "{X}/prog", "no-exec"),
    policy(20, "interpreter", "make-file {W}/s #!{X}/prog%0A; chmod {W}/s 0o755", "exec {W}/s", "ProcessExec", "{X}/prog", "no-exec"),
    policy(20, "script", "make-file {X}/s #!/bin/true%0A; chmod {X}/s 0o755", "exec {X}/s", "ProcessExec", "{X}/s", "no-exec"),
    policy(20, "busybox", "", "exec {X}/busybox true", "ProcessExec", "{X}/busybox", "no-exec"),
    policy(20, "env-interpreter", "make-file {W}/s #!/usr/bin/env%20{X}/prog%0A; chmod {W}/s 0o755", "exec {W}/s", "ProcessExec", "{X}/prog", "no-exec"),
    policy(21, "mmap", "", "f = open {X}/prog O_RDONLY; mmap $f PROT_READ|PROT_EXEC", "ProcessExec", "{X}/prog", "no-exec"),
    policy(21, "mprotect", "", "f = open {X}/prog O_RDONLY; mmap-mprotect $f", "ProcessExec", "{X}/prog", "no-exec"),
    policy(21, "mprotect-copy", "", "f = open {X}/prog O_RDONLY; mmap-write-mprotect $f", "ProcessExec", "{X}/prog", "no-exec"),
    policy(21, "dlopen", "", "dlopen {X}/lib.so", "ProcessExec", "{X}/lib.so", "no-exec"),
];

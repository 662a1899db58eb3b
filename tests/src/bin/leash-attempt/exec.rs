//! Every door to running a program's code.

use crate::files::os;
use crate::script::{Context, Words};
use crate::sys::{Answer, Fail, c, call};
use nix::libc;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub(crate) fn operate(operation: &str, w: &Words, context: &mut Context) -> Option<Answer> {
    Some(match operation {
        "exec" => {
            let mut command = Command::new(os(w.bytes(0)));
            command.args(w.from(1).iter().map(|word| os(word)));
            finish(command, context)
        }
        // `exec-env NAME=VALUE PROGRAM ARGS…`
        "exec-env" => {
            let (name, value) = w.text(0).split_once('=').expect("NAME=VALUE");
            let mut command = Command::new(os(w.bytes(1)));
            command.env(name, value).args(w.from(2).iter().map(|word| os(word)));
            finish(command, context)
        }
        "execveat" => execveat(w.int(0), w.bytes(1), w.int(2), context),
        "memfd-exec" => memfd(w).and_then(|fd| execveat(fd, b"", i64::from(libc::AT_EMPTY_PATH), context)),
        "memfd-exec-proc" => memfd(w).and_then(|fd| finish(Command::new(format!("/proc/self/fd/{fd}")), context)),
        "mmap" => map(w.int(0), w.int(1)).map(|_| 0),
        "mmap-mprotect" => map(w.int(0), i64::from(libc::PROT_READ)).and_then(|address| {
            // SAFETY: the page was mapped just before and nothing refers to it.
            let answer = unsafe { libc::mprotect(address, 4096, libc::PROT_READ | libc::PROT_EXEC) };
            if answer < 0 { Err(Fail::last()) } else { Ok(0) }
        }),
        "mmap-write-mprotect" => map(w.int(0), i64::from(libc::PROT_READ | libc::PROT_WRITE)).and_then(|address| {
            // SAFETY: the private mapping is writable, at least a page long, and nothing else refers to it.
            let answer = unsafe {
                address.cast::<u8>().write(0xc3);
                libc::mprotect(address, 4096, libc::PROT_READ | libc::PROT_EXEC)
            };
            if answer < 0 { Err(Fail::last()) } else { Ok(0) }
        }),
        "dlopen" => dlopen(w),
        _ => return None,
    })
}

/// Runs `command`; it has succeeded when it exits with 0. What it printed is the attempt's data.
fn finish(mut command: Command, context: &mut Context) -> Answer {
    let output = command.stdin(std::process::Stdio::null()).output()?;
    context.data.extend_from_slice(&output.stdout);
    if output.status.success() {
        return Ok(0);
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let errno = match &words {
        // The second is how the loader reports a mapping that was refused.
        words if words.contains("Permission denied") || words.contains("failed to map segment") => libc::EACCES,
        words if words.contains("Operation not permitted") => libc::EPERM,
        _ => -1,
    };
    Err(Fail { errno, note: format!("{}: {words}", output.status) })
}

fn execveat(fd: i64, path: &[u8], flags: i64, context: &mut Context) -> Answer {
    let path = c(path);
    let name = c(b"attempt");
    let mut command = Command::new("/nonexistent");
    // SAFETY: the closure allocates nothing and makes one system call.
    unsafe {
        command.pre_exec(move || {
            let arguments = [name.as_ptr(), std::ptr::null()];
            let environment = [std::ptr::null::<libc::c_char>()];
            libc::syscall(libc::SYS_execveat, fd, path.as_ptr(), arguments.as_ptr(), environment.as_ptr(), flags);
            Err(std::io::Error::last_os_error())
        });
    }
    finish(command, context)
}

/// A memfd with the content of the file that word 0 names.
fn memfd(w: &Words) -> Answer {
    let program = std::fs::read(os(w.bytes(0)))?;
    let fd = call(libc::SYS_memfd_create, [(&c(b"program")).into(), 0.into()])?;
    let mut rest = program.as_slice();
    while !rest.is_empty() {
        let written = call(libc::SYS_write, [fd.into(), rest.into(), (rest.len() as i64).into()])?;
        rest = &rest[written as usize..];
    }
    Ok(fd)
}

fn map(fd: i64, protection: i64) -> Result<*mut libc::c_void, Fail> {
    // SAFETY: the kernel chooses an address that nothing uses.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection as i32, libc::MAP_PRIVATE, fd as i32, 0) };
    if address == libc::MAP_FAILED { Err(Fail::last()) } else { Ok(address) }
}

fn dlopen(w: &Words) -> Answer {
    let path = c(w.bytes(0));
    // SAFETY: the libraries that the suites name are the system's own, whose constructors are harmless.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if !handle.is_null() {
        return Ok(0);
    }
    // SAFETY: after a failed `dlopen`, `dlerror` returns a string that lives until the next call of its family.
    let words = unsafe { std::ffi::CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned();
    // The loader gives words only; these two are how it reports a refused open and a refused mapping.
    let denied = words.contains("Permission denied") || words.contains("failed to map segment");
    Err(Fail { errno: if denied { libc::EACCES } else { -1 }, note: words })
}

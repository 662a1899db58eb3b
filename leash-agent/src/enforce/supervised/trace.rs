//! Following one thread through one exec with ptrace(2).
//!
//! The thread is seized while it waits for its answer, so it can't do anything in between. A successful exec stops it before the
//! first instruction of the new program; a failed one stops it on its way back. If the supervisor dies meanwhile, the kernel kills
//! what it traces.

use nix::errno::Errno;
use nix::libc;

use super::place::insist;
use super::sys::Result;

/// Why a thread wasn't followed.
pub(super) enum Failure {
    /// The call was not let pass.
    Before(Errno),
    /// It was.
    After(Errno),
}

fn ptrace(request: libc::c_uint, pid: i32, data: usize) -> Result<()> {
    let address = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of the requests made here reads or writes our memory.
    Errno::result(unsafe { libc::ptrace(request, pid, address, data) }).map(drop)
}

/// Seizes thread `tid`, lets its call pass, and follows it until it runs on. `verify` is told the process that has become another
/// program, before its first instruction, and says whether it may live.
pub(super) fn through_exec(
    tid: u32,
    let_pass: impl FnOnce() -> Result<()>,
    verify: impl Fn(u32) -> bool,
) -> std::result::Result<(), Failure> {
    let options = (libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_EXITKILL) as usize;
    insist(|| ptrace(libc::PTRACE_SEIZE, tid as i32, options)).map_err(Failure::Before)?;
    // It stops when it comes back, if it doesn't before.
    ptrace(libc::PTRACE_INTERRUPT, tid as i32, 0).map_err(Failure::Before)?;
    // If this fails, the caller is gone or on its way back, and will be seen below.
    let _ = let_pass();
    loop {
        let mut status = 0;
        // Only what this thread traces.
        // SAFETY: the status outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        let pid = match Errno::result(pid) {
            Err(Errno::EINTR) => continue,
            result => result.map_err(Failure::After)?,
        };
        if !libc::WIFSTOPPED(status) {
            // A thread that isn't the first of its process lives on under the number of the first.
            if pid == tid as i32 || libc::WIFSIGNALED(status) {
                return Ok(());
            }
            continue;
        }
        let signal = match status >> 16 {
            libc::PTRACE_EVENT_EXEC => {
                if !verify(pid as u32) {
                    // SAFETY: no pointers; the process is stopped and ours, so the number is no other's.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                    continue;
                }
                0
            }
            libc::PTRACE_EVENT_STOP => 0,
            // A signal is about to be delivered to the old program: the exec has failed.
            _ => libc::WSTOPSIG(status) as usize,
        };
        return match ptrace(libc::PTRACE_DETACH, pid, signal) {
            // Killed meanwhile: the next wait tells.
            Err(Errno::ESRCH) => continue,
            result => result.map_err(Failure::After),
        };
    }
}

//! Following one thread through one exec with ptrace(2).
//!
//! The thread is seized while it waits for its answer, so it can't do anything in between. A successful exec stops it before the
//! first instruction of the new program; a failed one stops it on its way back. If the supervisor dies meanwhile, the kernel kills
//! what it traces.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::libc;

use super::place::insist;
use super::sys::Result;
use super::task;

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

/// Does `pass`, which decides on a call of thread `tid` and lets it pass, while no other thread of its process runs, and returns when the
/// call has been performed. `dir` is the thread's in `/proc`. Must be called in a thread of its own: its end lets go what it traces.
pub(super) fn through_call(dir: BorrowedFd<'_>, tid: u32, pass: impl FnOnce() -> Result<()>) -> Result<()> {
    seize(tid)?;
    let mut stopped = HashMap::new();
    let mut known = vec![tid];
    loop {
        let others: Vec<u32> = task::threads(dir)?.into_iter().filter(|thread| !known.contains(thread)).collect();
        if others.is_empty() {
            break;
        }
        for thread in others {
            known.push(thread);
            match seize(thread) {
                // It has ended.
                Err(_) if matches!(task::thread_state(dir, thread), Err(Errno::ENOENT | Errno::ESRCH) | Ok(b'Z' | b'X')) => {}
                result => {
                    result?;
                    stand_still(dir, thread, &mut stopped)?;
                }
            }
        }
    }
    pass()?;
    if let Some(signal) = wait(tid, 0)?.flatten() {
        stopped.insert(tid, signal);
    }
    for (thread, signal) in stopped {
        // One that was killed meanwhile needs nothing more.
        let _ = ptrace(libc::PTRACE_DETACH, thread as i32, signal);
    }
    Ok(())
}

/// Traces a thread, which stops before it runs an instruction.
fn seize(thread: u32) -> Result<()> {
    insist(|| ptrace(libc::PTRACE_SEIZE, thread as i32, 0))?;
    ptrace(libc::PTRACE_INTERRUPT, thread as i32, 0)
}

/// Waits until a thread that was interrupted stands: stopped, or asleep in a call that nothing but a death breaks off, as those of
/// calls that wait for an answer; it stops when it comes back.
fn stand_still(dir: BorrowedFd<'_>, thread: u32, stopped: &mut HashMap<u32, usize>) -> Result<()> {
    loop {
        match wait(thread, libc::WNOHANG)? {
            Some(Some(signal)) => {
                stopped.insert(thread, signal);
                return Ok(());
            }
            Some(None) => return Ok(()),
            None => {}
        }
        match task::thread_state(dir, thread) {
            Ok(b'D') | Err(Errno::ENOENT | Errno::ESRCH) => return Ok(()),
            Ok(_) => std::thread::yield_now(),
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits for one traced thread: `None` if it does something, `Some(None)` if it ended, otherwise the signal that it stopped for.
fn wait(thread: u32, flags: libc::c_int) -> Result<Option<Option<usize>>> {
    loop {
        let mut status = 0;
        // SAFETY: the status outlives the call.
        let found = unsafe { libc::waitpid(thread as i32, &raw mut status, libc::__WALL | flags) };
        return match Errno::result(found) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => Ok(Some(None)),
            Err(errno) => Err(errno),
            Ok(0) => Ok(None),
            Ok(_) if !libc::WIFSTOPPED(status) => Ok(Some(None)),
            Ok(_) if status >> 16 == libc::PTRACE_EVENT_STOP => Ok(Some(Some(0))),
            Ok(_) => Ok(Some(Some(libc::WSTOPSIG(status) as usize))),
        };
    }
}

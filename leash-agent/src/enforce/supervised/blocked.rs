//! Calls that may wait for another program or machine: opening a pipe, connecting, sending.
//!
//! Another thread takes the place of the one that waits, and while it waits somebody looks after it: if the caller was killed, or a
//! signal arrived that it handles, the wait is broken off, as the kernel would have done for the caller itself.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, getpid, gettid};

use super::desk::Desk;
use super::sys::{self, Result};
use super::task::Task;
use super::worker::{self, Shared};

/// How often waiting calls are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One call that waits.
struct Waiting {
    thread: Pid,
    call: u64,
    task: Arc<Task>,
}

/// The calls that wait.
#[derive(Default)]
pub(super) struct Blocked {
    list: Mutex<Vec<Waiting>>,
    changed: Condvar,
    watched: AtomicBool,
}

impl Blocked {
    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signal that breaks off a wait.
fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 3
}

/// Lets that signal interrupt and do nothing else.
pub(super) fn prepare() -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: plain integers and a null restorer.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the action outlives the call, and its handler does nothing that a handler may not do.
    Errno::result(unsafe { libc::sigaction(signal(), &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Does what may wait.
pub(super) fn wait<T>(desk: &Desk<'_>, action: impl FnOnce() -> Result<T>) -> Result<T> {
    worker::will_block(desk.shared)?;
    let blocked = &desk.shared.blocked;
    if !blocked.watched.swap(true, Ordering::SeqCst) {
        watch(desk.shared.myself.clone())?;
    }
    let thread = gettid();
    blocked.lock().push(Waiting { thread, call: desk.call.id, task: Arc::clone(&desk.task) });
    blocked.changed.notify_one();
    let result = action();
    blocked.lock().retain(|waiting| waiting.thread != thread);
    result
}

fn watch(shared: Weak<Shared>) -> Result<()> {
    let body = move || {
        while let Some(shared) = shared.upgrade() {
            let list = shared.blocked.lock();
            if list.is_empty() {
                drop(shared.blocked.changed.wait_timeout(list, Duration::from_secs(1)));
                continue;
            }
            for waiting in list.iter().filter(|waiting| is_over(&shared, waiting)) {
                // SAFETY: no pointers. The thread is on the list, so it hasn't ended.
                unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), waiting.thread.as_raw(), signal()) };
            }
            drop(list);
            drop(shared);
            std::thread::sleep(LOOK_EVERY);
        }
    };
    let thread = std::thread::Builder::new().name("supervisor-watch".into()).spawn(body);
    thread.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)))
}

/// Whether the caller is gone, or is to run a handler.
fn is_over(shared: &Shared, waiting: &Waiting) -> bool {
    sys::still_waits(shared.listener.as_fd(), waiting.call).is_err() || waiting.task.has_signal().unwrap_or(true)
}

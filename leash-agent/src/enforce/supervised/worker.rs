//! The threads that answer calls.
//!
//! One of them receives a call, answers it, and receives the next. Before it does what may take long (opening a pipe that nobody writes
//! to, connecting, watching an exec), it sees to it that another takes its place.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CpuSet;
use nix::unistd::{Pid, gettid};

use super::blocked::Blocked;
use super::bounds::Place as BoundsPlace;
use super::desk::{Also, Answer, Desk, Opened};
use super::ground::{self, Ground};
use super::journal::Journal;
use super::name::Mounts;
use super::near::Near;
use super::policy::Policy;
use super::resolve::Place;
use super::sys::{self, Call, Result};
use super::task::Tasks;
use super::turn::Turn;
use super::{calls, place};

/// Threads at the same time: so many calls of a session may wait for something.
const MAX_THREADS: usize = 1024;

/// What all threads of one session share.
pub(super) struct Shared {
    pub(super) listener: OwnedFd,
    pub(super) ground: Arc<Ground>,
    pub(super) tasks: Tasks,
    pub(super) mounts: Mounts,
    pub(super) journal: Arc<Journal>,
    pub(super) policy: Arc<RwLock<Arc<Policy>>>,
    /// See [`SupervisedSpec::places`](super::SupervisedSpec::places).
    pub(super) places: Vec<BoundsPlace>,
    pub(super) uid: u32,
    /// Held from the decision on a change of names to the change: nobody in the session can come between them.
    pub(super) names: Mutex<()>,
    /// Types of Unix sockets, a bit each, of which one in the session tells its user which process sent.
    pub(super) senders_are_told: AtomicU32,
    /// Who receives.
    pub(super) turn: Turn,
    /// Held while threads are traced: by many that trace one each, or by one that traces all of a process.
    pub(super) tracing: RwLock<()>,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) threads: Arc<Mutex<Vec<Pid>>>,
    /// Calls that wait for something.
    pub(super) blocked: Blocked,
    /// See [`super::near::processors`].
    pub(super) processors: Option<CpuSet>,
    /// For threads that start others.
    pub(super) myself: Weak<Shared>,
}

impl Shared {
    /// See [`Shared::tracing`].
    pub(super) fn trace_one(&self) -> std::sync::RwLockReadGuard<'_, ()> {
        self.tracing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Shared::tracing`].
    pub(super) fn trace_all(&self) -> std::sync::RwLockWriteGuard<'_, ()> {
        self.tracing.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a file that was made at `place`, if it is still there.
    fn take_back(&self, made: &OwnedFd, place: &Place) {
        let _names = self.hold_names();
        let (own, there) = (sys::status(made.as_raw_fd(), c""), sys::status(place.dir.as_raw_fd(), &place.name));
        if own.is_ok_and(|own| there.is_ok_and(|there| there.same(&own))) {
            // SAFETY: the name outlives the call. What can't be removed stays.
            unsafe { libc::unlinkat(place.dir.as_raw_fd(), place.name.as_ptr(), 0) };
        }
    }

    /// See [`Shared::names`].
    pub(super) fn hold_names(&self) -> std::sync::MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts one more thread. It inherits the caller's namespaces and credentials.
pub(super) fn start(shared: &Arc<Shared>) -> Result<()> {
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        let own = gettid();
        let list = Arc::clone(&shared.threads);
        list.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        if let Err(errno) = serve(&shared) {
            tracing::warn!("a supervisor's thread ended: {errno}");
        }
        list.lock().unwrap_or_else(PoisonError::into_inner).retain(|thread| *thread != own);
    });
    thread.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)))
}

fn serve(shared: &Arc<Shared>) -> Result<()> {
    shared.ground.stand()?;
    while shared.turn.take(&shared.stopping) {
        let call = sys::receive(shared.listener.as_fd());
        shared.turn.give_back();
        if shared.stopping.load(Ordering::SeqCst) {
            return Ok(());
        }
        match call {
            Ok(call) => handle(shared, call),
            Err(Errno::EINTR) => {}
            // It was taken back; or nobody is left who could call.
            Err(Errno::ENOENT) if !is_over(shared.listener.as_fd()) => {}
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn is_over(listener: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|_| {
        let [fd] = &fds;
        fd.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    })
}

fn handle(shared: &Arc<Shared>, call: Call) {
    let listener = shared.listener.as_fd();
    let answered = match shared.tasks.find(call.tid) {
        Ok(task) => {
            let policy = Arc::clone(&shared.policy.read().unwrap_or_else(PoisonError::into_inner));
            let desk = Desk { shared, call, task, policy };
            calls::answer(&desk)
        }
        Err(errno) => Err(errno),
    };
    let given = match answered {
        Ok(Answer::Value(value)) => sys::answer(listener, call.id, value, 0),
        Ok(Answer::Descriptor(opened)) => hand_over(shared, call, opened),
        Ok(Answer::Continue) => sys::let_pass(listener, call.id),
        Ok(Answer::Given) => Ok(()),
        Err(errno) => sys::answer(listener, call.id, 0, -(errno as i32)),
    };
    // A caller that is gone needs no answer.
    if let Err(errno) = given
        && errno != Errno::ENOENT
    {
        tracing::warn!("a call could not be answered: {errno}");
    }
}

/// Gives the caller its descriptor, and does what else belongs to the call.
fn hand_over(shared: &Shared, call: Call, opened: Opened) -> Result<()> {
    let Opened { fd, close_on_exec, also } = opened;
    let listener = shared.listener.as_fd();
    let near = shared.processors.as_ref().and_then(|ours| Near::keep(ours, call.tid));
    let given = sys::give(listener, call.id, fd.as_fd(), close_on_exec);
    drop(near);
    let done = match (given, also) {
        (Ok(number), Also::Empty(file)) => {
            // SAFETY: no pointers.
            Errno::result(unsafe { libc::ftruncate(file.as_raw_fd(), 0) }).map(|_| number)
        }
        // The caller has no room for another descriptor.
        (Err(errno), Also::Made(place)) if errno != Errno::ENOENT => {
            shared.take_back(&fd, &place);
            Err(errno)
        }
        (given, _) => given,
    };
    // Nobody else may have it when the caller goes on: a program that is open for writing can't be started.
    drop(fd);
    match done {
        Ok(number) => sys::answer(listener, call.id, number.into(), 0),
        Err(errno) => sys::answer(listener, call.id, 0, -(errno as i32)),
    }
}

/// The calling thread is about to do what may take long: another one takes its place.
pub(super) fn will_block(shared: &Shared) -> Result<()> {
    if shared.turn.pass_on() {
        return Ok(());
    }
    if shared.threads.lock().unwrap_or_else(PoisonError::into_inner).len() >= MAX_THREADS {
        return Err(Errno::EAGAIN);
    }
    let shared = shared.myself.upgrade().ok_or(Errno::ESRCH)?;
    start(&shared)
}

/// Moves the calling thread to where it can serve: into the container of a process, as its user. Without one it is there already, and
/// keeps no privilege either. Returns the directory where threads stand: an empty one, or without a container the root, as there is none but
/// the host's.
pub(super) fn settle(proc: BorrowedFd<'_>, contained: Option<(u32, &place::User)>) -> Result<OwnedFd> {
    let Some((pid, user)) = contained else {
        place::give_up()?;
        return sys::open(libc::AT_FDCWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0, 0);
    };
    place::enter(proc, pid)?;
    let nowhere = ground::empty()?;
    place::become_user(user)?;
    Ok(nowhere)
}

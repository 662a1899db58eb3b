//! The backend `supervised`, for machines that refuse BPF LSM: seccomp user notification, answered by the same walk over the same
//! tables.
//!
//! The command's process puts a filter on itself before its first exec (`sandbox::notify`) and sends us the descriptor on which
//! its calls arrive. Threads of the daemon that stand in the session's root, as its user and without its privileges, answer
//! them: they read each argument once, resolve it to a descriptor, decide on the name that the kernel has for that, and perform the call
//! themselves on what they decided on. Nothing that a program can still change takes part in a decision. If the daemon dies, the
//! session dies with it, and until then its calls fail.

mod attributes;
mod blocked;
mod bounds;
mod calls;
mod desk;
mod direct;
mod exec;
mod files;
mod floor;
mod ground;
mod journal;
mod memory;
mod messages;
mod name;
mod names;
mod near;
mod place;
mod policy;
mod receive;
mod resolve;
mod sockets;
mod sys;
mod task;
mod trace;
mod turn;
mod worker;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::error::{EnforceError, Result};
use super::event::{Event, Mode};
use super::network::NetworkFloor;
use super::session::Totals;
pub use bounds::{BoundsSpec, Place as BoundsPlace};
pub use floor::Floor;
use journal::Journal;
pub use place::User;
use policy::Policy;
use worker::Shared;

/// What a supervised session needs.
pub struct SupervisedSpec<'a> {
    /// The session's first process, in the root pid namespace.
    pub init_pid: u32,
    /// Where there is no container: what must be kept in its place.
    pub bounds: Option<BoundsSpec>,
    /// Where there is one: what it makes writable, and what readable only, outer ones first. A mount over a file goes when somebody outside of
    /// the session replaces the file, so they are kept by their names, too.
    pub places: Vec<BoundsPlace>,
    /// Who the session runs as.
    pub user: User,
    /// Over it the command's process sends the descriptor of its calls.
    pub socket: UnixStream,
    /// Whether denials are enforced.
    pub mode: Mode,
    /// The compiled policy.
    pub image: &'a [u64],
    /// Its generation.
    pub generation: u32,
    /// The kernel's own answer beneath this, where it can be had.
    pub network: Option<NetworkFloor>,
}

/// A supervised session.
pub struct Supervised {
    journal: Arc<Journal>,
    policy: Arc<RwLock<Arc<Policy>>>,
    stopping: Arc<AtomicBool>,
    threads: Arc<Mutex<Vec<nix::unistd::Pid>>>,
    network: Option<NetworkFloor>,
    uid: u32,
}

fn failed(action: &'static str) -> impl Fn(Errno) -> EnforceError {
    move |errno| EnforceError::Supervise { action, source: errno.into() }
}

/// Whether this kernel has what the supervisor needs: notifications with injected descriptors and killable waits (Linux 6.0).
pub fn available() -> Result<()> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the null program is what is refused, after the flags were looked at.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::null::<u8>()) };
    match Errno::result(result) {
        Err(Errno::EFAULT) => Ok(()),
        Err(errno) => Err(failed("have system calls answered by a supervisor (seccomp of Linux 6.0 or later)")(errno)),
        Ok(_) => Ok(()),
    }
}

impl Supervised {
    /// Makes everything ready to answer. The calls begin when the command's process has sent its descriptor.
    pub fn register(spec: SupervisedSpec<'_>) -> Result<Self> {
        let policy = Arc::new(RwLock::new(Arc::new(Policy::new(spec.image, spec.mode, spec.generation)?)));
        if let Some(floor) = &spec.network {
            floor.must_hold(spec.init_pid)?;
        }
        let (stopping, threads) = (Arc::default(), Arc::default());
        let session = Self { journal: Arc::default(), policy, stopping, threads, network: spec.network, uid: spec.user.uid };
        blocked::prepare().map_err(failed("handle a signal"))?;
        let directory = |path: &std::ffi::CStr| {
            sys::open(libc::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, 0, 0).map_err(failed("open /proc"))
        };
        let (proc, descriptors) = (directory(c"/proc")?, directory(c"/proc/self/fd")?);
        let table = CString::new(format!("{}/mountinfo", spec.init_pid)).unwrap_or_default();
        let table = sys::open(proc.as_raw_fd(), &table, libc::O_RDONLY, 0, 0).map_err(failed("read the session's mounts"))?;
        let (ready, is_ready) = channel();
        let (policy, journal) = (Arc::clone(&session.policy), Arc::clone(&session.journal));
        let (stopping, threads) = (Arc::clone(&session.stopping), Arc::clone(&session.threads));
        let SupervisedSpec { init_pid, user, socket, places, .. } = spec;
        let bounds = spec
            .bounds
            .map(|bounds| bounds::Bounds::new(bounds, directory(c"/proc")?, init_pid).map_err(failed("look at the session")));
        let bounds = bounds.transpose()?.map(Arc::new);
        let first = move || {
            let contained = bounds.is_none().then_some((init_pid, &user));
            let settled = worker::settle(proc.as_fd(), contained);
            let (nowhere, settled) = settled.map_or_else(|errno| (None, Err(errno)), |nowhere| (Some(nowhere), Ok(())));
            tell(&ready, settled);
            let Some(nowhere) = nowhere else { return };
            let Some(listener) = receive_listener(&socket) else { return };
            sys::wake_nearby(listener.as_fd());
            let ground = Arc::new(ground::Ground::new(descriptors, nowhere, Arc::clone(&stopping)));
            let shared = Arc::new_cyclic(|myself| Shared {
                listener,
                tasks: task::Tasks::new(proc, bounds),
                mounts: name::Mounts::new(table, Arc::clone(&ground)),
                ground,
                journal,
                policy,
                places,
                uid: user.uid,
                names: Mutex::default(),
                senders_are_told: AtomicU32::default(),
                turn: turn::Turn::default(),
                tracing: RwLock::default(),
                stopping,
                threads,
                blocked: blocked::Blocked::default(),
                processors: near::processors(),
                myself: Weak::clone(myself),
            });
            // One that receives, one that stands ready.
            for _ in 0..2 {
                if let Err(errno) = worker::start(&shared) {
                    tracing::error!("the supervisor cannot start: {errno}");
                }
            }
        };
        std::thread::Builder::new()
            .name("supervisor".into())
            .spawn(first)
            .map_err(|source| EnforceError::Supervise { action: "start the supervisor", source })?;
        is_ready.recv().unwrap_or(Err(Errno::EIO)).map_err(failed("enter the session as its user"))?;
        Ok(session)
    }

    /// Replaces policy, mode and generation by one switch, the kernel's before ours. A call that is being decided is decided by the old ones.
    pub(super) fn replace(&self, image: &[u64], mode: Mode, generation: u32) -> Result<()> {
        let new = Arc::new(Policy::new(image, mode, generation)?);
        if let Some(floor) = &self.network {
            floor.replace(image, mode, generation)?;
        }
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(super) fn take(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event)) -> Result<()> {
        self.take_network(sink)?;
        self.journal.take(timeout, sink);
        Ok(())
    }

    /// Ends the wait of [`Supervised::take`], whenever it is called.
    pub(super) fn bell(&self) -> impl Fn() + Send + 'static {
        let journal = Arc::clone(&self.journal);
        move || journal.ring()
    }

    pub(super) fn take_repeats(&mut self, sink: &mut dyn FnMut(Event)) -> Result<()> {
        self.take_network(sink)?;
        self.journal.drain(sink);
        Ok(())
    }

    fn take_network(&mut self, sink: &mut dyn FnMut(Event)) -> Result<()> {
        self.network.as_mut().map_or(Ok(()), |floor| floor.take(self.uid, sink))
    }

    pub(super) fn sums(&self) -> Totals {
        let mut totals = self.journal.totals();
        let (recorded, dropped) = self.network.as_ref().map_or((0, 0), NetworkFloor::counts);
        totals.deny.performed += recorded + dropped;
        totals.deny.recorded += recorded;
        totals.deny.dropped += dropped;
        totals
    }
}

impl Drop for Supervised {
    /// Ends the threads. Calls that still wait then fail.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.journal.close();
    }
}

fn tell(ready: &Sender<sys::Result<()>>, result: sys::Result<()>) {
    // The other end waits for exactly this.
    let _ = ready.send(result);
}

/// The descriptor of the command's calls; `None` if the session ended before there was one.
fn receive_listener(socket: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0; 1];
    let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([libc::c_int; 1]);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    message.cmsgs().ok()?.find_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => {
            // SAFETY: the kernel just installed this descriptor for us; nothing else owns it.
            fds.first().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) })
        }
        _ => None,
    })
}

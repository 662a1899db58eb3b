//! Which backend decides, and what each needs to begin.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};

use super::policies::Ready;
use super::{BackendChoice, ModeChoice, Notices, Required, RunError, RunRequest, convert};
use crate::audit::record::Mode;
use crate::enforce::supervised::{self, BoundsPlace, BoundsSpec, Floor, Supervised, SupervisedSpec, User};
use crate::enforce::{EnforceError, Engine, Guard, NetworkFloor, NetworkPrograms, SessionSpec, sees_the_whole_tree};
use crate::sandbox::floor;
use crate::sandbox::plan::{Bind, Identity};

/// The backend of a session.
pub(super) enum Backend {
    BpfLsm(Engine),
    Supervised,
}

/// What a backend is told of a session whose container was created.
pub(super) struct Governed<'a> {
    /// `None` for an ordinary user.
    pub(super) cgroup: Option<&'a Path>,
    pub(super) init_pid: u32,
    pub(super) user: &'a Identity,
    pub(super) mode: Mode,
    pub(super) ready: &'a Ready,
    /// What there is in the place of a container, if there is none.
    pub(super) bounds: Option<BoundsSpec>,
    /// What a container binds; nothing where there is none.
    pub(super) binds: &'a [Bind],
}

/// What the kernel's own answer beneath the supervisor is made of.
pub(super) type Loading = JoinHandle<Result<NetworkPrograms, EnforceError>>;
/// That answer, in the making while the container is.
type Laying = JoinHandle<Result<NetworkFloor, EnforceError>>;

/// A backend that waits for its session's container.
pub(super) enum Arming<'a> {
    BpfLsm(&'a Engine),
    Supervised(UnixStream, Option<Laying>),
}

/// Begins to load the programs of [`Backend::Supervised`] where it is certain already that it will be the backend: that takes as long as
/// compiling a policy.
pub(super) fn load_early(request: &RunRequest, root: bool) -> Option<Loading> {
    let wanted = root && request.mode == ModeChoice::Enforce && request.require != Some(Required::BpfLsm);
    let certain = || match request.backend {
        BackendChoice::Supervised => true,
        BackendChoice::Auto => Engine::refusal().is_some(),
        BackendChoice::BpfLsm => false,
    };
    if !wanted || !sees_the_whole_tree() || !certain() {
        return None;
    }
    // Signals are the main thread's, which hasn't taken them over yet.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()?;
    let loading = thread::spawn(NetworkPrograms::load);
    before.thread_set_mask().ok()?;
    Some(loading)
}

impl Backend {
    /// Takes the one that was asked for; by itself, the strongest that there is, and says so where that is a weaker one. An ordinary
    /// user can have but one.
    pub(super) fn choose(
        choice: BackendChoice,
        required: Option<Required>,
        root: bool,
        notices: &mut dyn Notices,
    ) -> Result<Self, RunError> {
        let strongest = || match root {
            // Known before anything is made, so that the other backend can still be taken.
            true if !sees_the_whole_tree() => Err(EnforceError::CgroupNamespace.into()),
            true => Engine::open().map_err(RunError::Enforce),
            false => Err(RunError::Privileges),
        };
        let weaker = match choice {
            BackendChoice::Supervised => None,
            BackendChoice::BpfLsm => return Ok(Self::BpfLsm(strongest()?)),
            BackendChoice::Auto => match strongest() {
                Ok(engine) => return Ok(Self::BpfLsm(engine)),
                Err(error) => Some(error),
            },
        };
        if required == Some(Required::BpfLsm) {
            return Err(weaker.unwrap_or(RunError::Weaker));
        }
        supervised::available()?;
        if let Some(error) = weaker {
            notices
                .warning(&format!("backend supervised, because bpf-lsm can't be had here ({error}); `leash doctor` says more"));
        }
        if floor::abi().is_none() {
            notices.warning(
                "this kernel has no Landlock, so nothing but the supervisor holds this session; `leash doctor` says more",
            );
        }
        Ok(Self::Supervised)
    }

    /// As the log names it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::BpfLsm(_) => "bpf-lsm",
            Self::Supervised => "supervised",
        }
    }

    /// The ABI of the floor under its sessions; `None` where the kernel has none, or decides by itself.
    pub(super) fn landlock_abi(&self) -> Option<i32> {
        match self {
            Self::BpfLsm(_) => None,
            Self::Supervised => floor::abi(),
        }
    }

    /// The floor that a policy wants. `changeable`: see [`Floor::new`].
    pub(super) fn floor(&self, mode: Mode, ready: &Ready, changeable: &dyn Fn(&Path) -> bool) -> Result<Option<Floor>, RunError> {
        if self.landlock_abi().is_none() {
            return Ok(None);
        }
        Ok(Some(Floor::new(ready.compiled.image(), convert::kernel_mode(mode), changeable)?))
    }

    /// Makes ready for one session; what its container must be given. Where there is something to enforce and a cgroup to do it in, the
    /// kernel is to deny, too, what the supervisor will decide on. `early`: what [`load_early`] began.
    pub(super) fn arm(
        &self,
        cgroup: Option<&Path>,
        mode: Mode,
        ready: &Ready,
        early: Option<Loading>,
    ) -> Result<(Arming<'_>, Option<UnixStream>), RunError> {
        match self {
            Self::BpfLsm(engine) => Ok((Arming::BpfLsm(engine), None)),
            Self::Supervised => {
                let (ours, theirs) = UnixStream::pair().map_err(RunError::system("create a socket"))?;
                let laying = cgroup.filter(|_| mode == Mode::Enforce).map(|cgroup| {
                    let (cgroup, image) = (cgroup.to_owned(), ready.compiled.image().to_owned());
                    let generation = ready.set.generation;
                    thread::spawn(move || {
                        let programs = early.map_or_else(NetworkPrograms::load, join)?;
                        NetworkFloor::lay(programs, &cgroup, &image, convert::kernel_mode(mode), generation)
                    })
                });
                Ok((Arming::Supervised(ours, laying), Some(theirs)))
            }
        }
    }
}

fn place(bind: &Bind) -> BoundsPlace {
    BoundsPlace { path: bind.path.as_os_str().as_bytes().to_vec(), writable: bind.writable, private: false }
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Arming<'_> {
    /// Waits for what the kernel is to answer beneath the supervisor. Says what that is in a word for the log, and why it is nothing.
    pub(super) fn network(&mut self, notices: &mut dyn Notices) -> (Option<NetworkFloor>, Option<&'static str>) {
        let Self::Supervised(_, laying) = self else { return (None, None) };
        let Some(laying) = laying.take() else { return (None, Some("none")) };
        match join(laying) {
            Ok(floor) => {
                let words = floor.words();
                (Some(floor), Some(words))
            }
            Err(error) => {
                notices.info(&format!("the supervisor alone decides about the network: {error}"));
                (None, Some("none"))
            }
        }
    }

    /// Installs the policy. Nothing of the command has run.
    pub(super) fn register(self, session: Governed<'_>, network: Option<NetworkFloor>) -> Result<Guard, RunError> {
        let (image, generation) = (session.ready.compiled.image(), session.ready.set.generation);
        let mode = convert::kernel_mode(session.mode);
        match self {
            Self::BpfLsm(engine) => {
                let cgroup = session.cgroup.ok_or(RunError::Privileges)?;
                let spec = SessionSpec { cgroup, init_pid: session.init_pid, mode, image, generation };
                Ok(Guard::BpfLsm(Box::new(engine.register(spec)?)))
            }
            Self::Supervised(socket, _) => {
                let Identity { uid, gid, groups, .. } = session.user.clone();
                let user = User { uid, gid, groups: session.cgroup.map(|_| groups) };
                let (init_pid, bounds) = (session.init_pid, session.bounds);
                let places = session.binds.iter().map(place).collect();
                let spec = SupervisedSpec { init_pid, bounds, places, user, socket, mode, image, generation, network };
                Ok(Guard::Supervised(Box::new(Supervised::register(spec)?)))
            }
        }
    }
}

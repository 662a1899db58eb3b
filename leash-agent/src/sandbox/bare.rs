//! Sessions without a container, for users who may have no user namespace: the same first process, in the host's namespaces.
//!
//! What the container does otherwise is done in other ways. The kernel's Landlock keeps signals and looks into other processes
//! inside of the session, the supervisor keeps what is readable only, and the first process, who adopts every orphan, ends
//! everything before it ends itself ([`members`](super::members)).

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::exit;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::openpty;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, getpid, getppid, pipe2, read, write};

use super::init::{EXIT_LEASH, Init, say};
use super::plan::Plan;
use super::{floor, rootless, spec};

/// Tells the first process to end everything: its launcher is gone, or the session is over. Nobody else sends it.
pub(super) const END: Signal = Signal::SIGSTKFLT;
/// ABI of Landlock since which a floor keeps signals inside (landlock(7)).
const SCOPES_SIGNALS: i32 = 6;
/// How far other processes of the same user are protected from being traced by default, where the kernel can say.
const YAMA: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// What a session without a container would need and doesn't have here.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// Landlock's scopes.
    #[error("Landlock of Linux 6.12 or later must keep signals inside of the session, and it isn't there")]
    Landlock,
    /// The supervisor may not look at its own descendants.
    #[error(
        "sysctl `kernel.yama.ptrace_scope` is {0}, so that a supervisor may not look at the processes that it started; it must be 0 or 1"
    )]
    Yama(String),
}

/// Whether there can be a session without a container here.
pub fn possible() -> Result<(), Missing> {
    if floor::abi().is_none_or(|abi| abi < SCOPES_SIGNALS) {
        return Err(Missing::Landlock);
    }
    match std::fs::read_to_string(YAMA) {
        Ok(scope) if !matches!(scope.trim(), "0" | "1") => Err(Missing::Yama(scope.trim().to_owned())),
        // Without that module there is no such limit.
        _ => Ok(()),
    }
}

/// The first process, which waits.
pub(super) struct Bare {
    init: Pid,
    start: OwnedFd,
}

impl Bare {
    /// Forks the first process. This one, which must have one thread, adopts what the first process leaves.
    pub(super) fn create(plan: &Plan, init: &Init) -> Result<Self, String> {
        let words = |what: &'static str| move |errno: Errno| format!("cannot {what}: {}", errno.desc());
        prctl::set_child_subreaper(true).map_err(words("adopt orphans"))?;
        let terminal = if plan.terminal { Some(terminal(&plan.state_dir.join("console.sock"))?) } else { None };
        let (wait, start) = pipe2(OFlag::O_CLOEXEC).map_err(words("create a pipe"))?;
        let launcher = getpid();
        // SAFETY: the launcher is single-threaded, so the child may use anything.
        match unsafe { fork() }.map_err(words("start a process"))? {
            ForkResult::Child => {
                drop(start);
                let failed = first_process(plan, init, terminal, &wait, launcher);
                say(format_args!("{failed}"));
                exit(EXIT_LEASH)
            }
            ForkResult::Parent { child } => Ok(Self { init: child, start }),
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.init
    }

    /// Lets the first process start the command.
    pub(super) fn start(&self) -> Result<(), String> {
        write(&self.start, b"s").map(drop).map_err(|errno| format!("cannot start the command: {}", errno.desc()))
    }
}

/// Returns why it can't go on.
fn first_process(plan: &Plan, init: &Init, terminal: Option<OwnedFd>, wait: &OwnedFd, launcher: Pid) -> String {
    let prepare = || -> Result<(), Errno> {
        // The launcher dies with the daemon; whatever is left then is ours to end.
        prctl::set_pdeathsig(END)?;
        if getppid() != launcher {
            return Err(Errno::ESRCH);
        }
        prctl::set_child_subreaper(true)?;
        prctl::set_no_new_privs()?;
        // Whoever calls Leash may have some, in a namespace of its own.
        rootless::give_up_capabilities()?;
        if let Some(terminal) = terminal {
            dup2_stdin(&terminal)?;
            dup2_stdout(&terminal)?;
            dup2_stderr(&terminal)?;
        }
        chdir(&plan.workdir)?;
        // Nothing but the standard descriptors enters the session.
        // SAFETY: no pointers; nothing is closed before an exec.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
    };
    if let Err(errno) = prepare() {
        return format!("cannot prepare the session's first process: {}", errno.desc());
    }
    // The end of the pipe: the launcher gave up.
    match read(wait, &mut [0; 1]) {
        Ok(1) => {}
        _ => exit(EXIT_LEASH),
    }
    let filtered = spec::seccomp()
        .map_err(|error| error.to_string())
        .and_then(|filter| libcontainer::seccomp::initialize_seccomp(&filter).map_err(|error| super::launcher::chain(&error)));
    if let Err(error) = filtered {
        return format!("cannot install the filter of system calls: {error}");
    }
    match init.run() {
        Ok(never) => match never {},
        Err((action, errno)) => format!("cannot {action}: {}", errno.desc()),
    }
}

/// Makes the session's terminal, and sends its master end to where the parent listens.
fn terminal(console: &Path) -> Result<OwnedFd, String> {
    let words = |error: std::io::Error| format!("cannot make the session's terminal: {error}");
    let pair = openpty(None, None).map_err(|errno| words(errno.into()))?;
    let socket = UnixStream::connect(console).map_err(words)?;
    let descriptors = [pair.master.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [std::io::IoSlice::new(b"t")];
    sendmsg::<()>(socket.as_raw_fd(), &bytes, &message, MsgFlags::empty(), None).map_err(|errno| words(errno.into()))?;
    Ok(pair.slave)
}

//! The parent's end of a container.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::launcher::{Order, Report, SUBCOMMAND};
use super::plan::Plan;
use super::{SandboxError, bare};

/// How long the kernel may take to reap killed processes, in milliseconds.
const PATIENCE_MS: u16 = 10_000;

/// What became of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LauncherEvent {
    /// It ended with this status, 128+n for signal n.
    Exited(i32),
}

/// Standard descriptors of the command. `None` passes ours on.
#[derive(Debug, Default)]
pub struct Stdio3 {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

/// A container that was created: its process 1 waits for [`Container::start`]. Dropping it ends everything inside.
#[derive(Debug)]
pub struct Container {
    launcher: Child,
    orders: UnixStream,
    reports: BufReader<UnixStream>,
    init_pid: u32,
    /// Names process 1 even when its number is another's.
    init: Option<OwnedFd>,
    console: Option<OwnedFd>,
    /// What makes process 1 end, and everything with it.
    end: Signal,
}

impl Container {
    /// Creates the container. `program` is this binary (`/proc/self/exe`); it must understand the launcher's subcommand. Call it
    /// from a thread that outlives the session, because the launcher dies with that thread. Over `supervisor` the command's process
    /// sends the descriptor that its supervised calls arrive on.
    pub fn create(program: &Path, mut plan: Plan, stdio: Stdio3, supervisor: Option<UnixStream>) -> Result<Self, SandboxError> {
        let (ours, theirs) = UnixStream::pair().map_err(|source| SandboxError::System { action: "create a socket", source })?;
        let console = plan.state_dir.join("console.sock");
        let listener = match plan.terminal {
            true => Some(UnixListener::bind(&console).map_err(SandboxError::path("create", &console))?),
            false => None,
        };
        for socket in [Some(&theirs), supervisor.as_ref()].into_iter().flatten() {
            fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).map_err(SandboxError::system("share a socket"))?;
        }
        let end = if plan.contained { Signal::SIGKILL } else { bare::END };
        plan.supervisor = supervisor.as_ref().map(AsRawFd::as_raw_fd);
        let pass = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::inherit, Stdio::from);
        let launcher = Command::new(program)
            .arg(SUBCOMMAND)
            .arg(theirs.as_raw_fd().to_string())
            // Where `leash run` was started may be gone, and is nothing to the container.
            .current_dir("/")
            .stdin(pass(stdio.stdin))
            .stdout(pass(stdio.stdout))
            .stderr(pass(stdio.stderr))
            .spawn()
            .map_err(SandboxError::path("start the launcher", program))?;
        drop((theirs, supervisor));
        let clone = ours.try_clone().map_err(|source| SandboxError::System { action: "share a socket", source })?;
        let mut container =
            Self { launcher, orders: ours, reports: BufReader::new(clone), init_pid: 0, init: None, console: None, end };
        container.order(&Order::Create(Box::new(plan)))?;
        match container.report()? {
            Report::Created { init_pid } => {
                container.init_pid = init_pid.unsigned_abs();
                container.init = Some(open_process(init_pid).map_err(SandboxError::system("watch the container"))?);
            }
            Report::Failed { message } => return Err(SandboxError::Launcher(message)),
            Report::Exited { .. } => return Err(SandboxError::LauncherLost),
        }
        if let Some(listener) = listener {
            container.console = Some(receive_console(&listener)?);
        }
        Ok(container)
    }

    /// Process 1, as the host numbers it.
    pub fn init_pid(&self) -> u32 {
        self.init_pid
    }

    /// The master end of the session's terminal, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Lets process 1 start the command.
    pub fn start(&mut self) -> Result<(), SandboxError> {
        self.order(&Order::Start)
    }

    /// Sends a signal to the command (through process 1).
    pub fn signal(&mut self, signal: Signal) -> Result<(), SandboxError> {
        self.order(&Order::Signal(signal as i32))
    }

    /// Readable when [`Container::event`] won't block.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.orders.as_fd()
    }

    /// Waits for what the launcher has to say.
    pub fn event(&mut self) -> Result<LauncherEvent, SandboxError> {
        match self.report()? {
            Report::Exited { status } => Ok(LauncherEvent::Exited(status)),
            Report::Failed { message } => Err(SandboxError::Launcher(message)),
            Report::Created { .. } => Err(SandboxError::LauncherLost),
        }
    }

    /// Ends everything inside and waits until it is gone: process 1 ends last.
    pub fn end(&mut self) -> Result<(), SandboxError> {
        let Some(init) = &self.init else { return Ok(()) };
        // SAFETY: a descriptor, a signal, no further information, no flags.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, init.as_raw_fd(), self.end as i32, 0, 0) };
        match Errno::result(result) {
            Ok(_) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(SandboxError::system("end the session's processes")(errno)),
        }
        let mut fds = [PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut fds, PollTimeout::from(PATIENCE_MS)) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(SandboxError::system("wait for the session's processes")(errno)),
                Ok(0) => return Err(SandboxError::system("end all processes of the session")(Errno::ETIMEDOUT)),
                Ok(_) => return Ok(()),
            }
        }
    }

    fn order(&mut self, order: &Order) -> Result<(), SandboxError> {
        let line = serde_json::to_string(order).map_err(|error| SandboxError::Launcher(error.to_string()))?;
        writeln!(self.orders, "{line}").map_err(|_| SandboxError::LauncherLost)
    }

    fn report(&mut self) -> Result<Report, SandboxError> {
        let mut line = String::new();
        match self.reports.read_line(&mut line) {
            Ok(0) | Err(_) => Err(SandboxError::LauncherLost),
            Ok(_) => serde_json::from_str(&line).map_err(|error| SandboxError::Launcher(error.to_string())),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Process 1 dies with the launcher, and everything in the session with it.
        drop(self.launcher.kill());
        drop(self.launcher.wait());
    }
}

/// A descriptor of process `pid`, which must not have been reaped.
pub(super) fn open_process(pid: i32) -> Result<OwnedFd, Errno> {
    use std::os::fd::FromRawFd;
    // SAFETY: pidfd_open takes a process number and flags, and returns a new descriptor.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the call succeeded, so the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Takes the terminal's master end, which process 1 sent before the container counted as created.
fn receive_console(listener: &UnixListener) -> Result<OwnedFd, SandboxError> {
    use std::os::fd::FromRawFd;
    let failed = |source| SandboxError::System { action: "receive the session's terminal", source };
    let (socket, _) = listener.accept().map_err(failed)?;
    let mut name = [0; 64];
    let mut buffers = [std::io::IoSliceMut::new(&mut name)];
    let mut space = cmsg_space!([libc::c_int; 1]);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .map_err(|errno| failed(errno.into()))?;
    for part in message.cmsgs().map_err(|errno| failed(errno.into()))? {
        if let ControlMessageOwned::ScmRights(fds) = part
            && let Some(&fd) = fds.first()
        {
            // SAFETY: the kernel just installed this descriptor for us; nothing else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(failed(std::io::ErrorKind::UnexpectedEof.into()))
}

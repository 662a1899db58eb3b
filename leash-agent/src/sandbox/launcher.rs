//! The launcher: this program again, single-threaded, between the parent and the container.
//!
//! libcontainer forks and expects to be alone in its process. The launcher leads a session of its own, so that a terminal's
//! signals reach only the parent, who decides; it dies with the parent, and the container with it.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, setgroups, setsid};
use serde::{Deserialize, Serialize};

use super::bare::Bare;
use super::container::open_process;
use super::init::{EXIT_LEASH, Init};
use super::plan::Plan;
use super::{bare, members, root, spec};
use crate::audit::log::too_large;

/// The hidden subcommand that runs the launcher.
pub const SUBCOMMAND: &str = "__launch";

/// From the parent, one JSON line each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Create the container.
    Create(Box<Plan>),
    /// Let process 1 start the command.
    Start,
    /// Forward this signal.
    Signal(i32),
}

/// To the parent, one JSON line each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The container exists; nothing of the command ran.
    Created {
        /// Process 1, as the host numbers it.
        init_pid: i32,
    },
    /// Process 1 ended.
    Exited {
        /// As a shell counts it.
        status: i32,
    },
    /// There is no container.
    Failed {
        /// Why.
        message: String,
    },
}

/// Runs the launcher on control socket `fd`.
pub fn main(fd: RawFd) -> ExitCode {
    // SAFETY: the parent passed this descriptor for us alone, see `Container::create`; nothing else in this fresh process has it.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let mut launcher = match Launcher::new(socket) {
        Ok(launcher) => launcher,
        Err(error) => {
            tracing::error!(%error, "the launcher cannot start");
            return ExitCode::FAILURE;
        }
    };
    match launcher.serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            drop(launcher.report(&Report::Failed { message }));
            ExitCode::FAILURE
        }
    }
}

struct Launcher {
    orders: BufReader<UnixStream>,
    reports: UnixStream,
}

impl Launcher {
    fn new(socket: UnixStream) -> std::io::Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        setsid()?;
        // The parent takes its signals from a descriptor, so it has them blocked. Process 1 would find a blocked hangup pending
        // when it lets go of the terminal, and pass it on to the command.
        SigSet::empty().thread_set_mask()?;
        Ok(Self { orders: BufReader::new(socket.try_clone()?), reports: socket })
    }

    fn serve(&mut self) -> Result<(), String> {
        let Some(Order::Create(plan)) = self.order()? else { return Err("no plan came from the parent".into()) };
        let mut made = Made::create(&plan)?;
        let init = made.first_process()?;
        self.report(&Report::Created { init_pid: init.as_raw() })?;
        match self.order()? {
            Some(Order::Start) => made.start()?,
            // The parent gave up (or went away); what we created must not stay.
            _ => {
                let _ = kill(init, Signal::SIGKILL);
                let _ = waitpid(init, None);
                return Ok(());
            }
        }
        let end = if plan.contained { Signal::SIGKILL } else { bare::END };
        let status = self.wait(init, end);
        if !plan.contained {
            // Should the first process have been killed, what it adopted is ours now.
            members::end_all();
        }
        let status = status?;
        self.report(&Report::Exited { status })
    }

    /// Forwards signals until process 1 ends. `end` makes it end if the parent goes away.
    fn wait(&mut self, init: Pid, end: Signal) -> Result<i32, String> {
        let pidfd = open_process(init.as_raw()).map_err(|errno| errno.to_string())?;
        let mut listening = true;
        loop {
            let flags = if listening { PollFlags::POLLIN } else { PollFlags::empty() };
            let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN), PollFd::new(self.reports.as_fd(), flags)];
            let timeout = if self.orders.buffer().is_empty() { PollTimeout::NONE } else { PollTimeout::ZERO };
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.to_string()),
            }
            let [ended, ordered] = fds.map(|fd| fd.any().unwrap_or(false));
            if ended {
                return match waitpid(init, None) {
                    Ok(WaitStatus::Exited(_, status)) => Ok(status),
                    Ok(WaitStatus::Signaled(_, number, _)) => Ok(128 + number as i32),
                    Ok(_) => Ok(EXIT_LEASH),
                    Err(errno) => Err(errno.to_string()),
                };
            }
            if listening && (ordered || !self.orders.buffer().is_empty()) {
                match self.order()? {
                    // Process 1 is our child and not reaped, so its number can't be another's.
                    Some(Order::Signal(number)) => {
                        if let Ok(signal) = Signal::try_from(number) {
                            let _ = kill(init, signal);
                        }
                    }
                    Some(_) => return Err("an order came out of turn".into()),
                    None => {
                        listening = false;
                        let _ = kill(init, end);
                    }
                }
            }
        }
    }

    /// The parent's next order; `None` when it went away.
    fn order(&mut self) -> Result<Option<Order>, String> {
        let mut line = String::new();
        match self.orders.read_line(&mut line).map_err(|error| error.to_string())? {
            0 => Ok(None),
            _ => serde_json::from_str(&line).map(Some).map_err(|error| error.to_string()),
        }
    }

    fn report(&mut self, report: &Report) -> Result<(), String> {
        let line = serde_json::to_string(report).map_err(|error| error.to_string())?;
        writeln!(self.reports, "{line}").map_err(|error| error.to_string())
    }
}

/// A session whose first process waits.
enum Made {
    Container(Box<Container>),
    Bare(Bare),
}

impl Made {
    fn create(plan: &Plan) -> Result<Self, String> {
        let init = Init {
            argv: plan.argv.clone(),
            env: plan.env.clone(),
            terminal: plan.terminal,
            contained: plan.contained,
            supervisor: plan.supervisor,
            floor: plan.floor.clone(),
        };
        match plan.contained {
            true => create(plan, init).map(|container| Self::Container(Box::new(container))),
            false => Bare::create(plan, &init).map(Self::Bare),
        }
    }

    fn first_process(&self) -> Result<Pid, String> {
        match self {
            Self::Container(container) => {
                container.pid().map(|pid| Pid::from_raw(pid.as_raw())).ok_or_else(|| "the container has no process".to_owned())
            }
            Self::Bare(bare) => Ok(bare.pid()),
        }
    }

    fn start(&mut self) -> Result<(), String> {
        match self {
            Self::Container(container) => container.start().map_err(|error| chain(&error)),
            Self::Bare(bare) => bare.start(),
        }
    }
}

fn create(plan: &Plan, init: Init) -> Result<Container, String> {
    // An ordinary user keeps its own, and may set none.
    if plan.cgroup.is_some() {
        let groups: Vec<Gid> = plan.user.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(|errno| format!("cannot set the groups: {errno}"))?;
    }
    let root = root::assemble(plan).map_err(|error| error.to_string())?;
    let spec = spec::build(plan, &root).map_err(|error| error.to_string())?;
    spec.save(plan.state_dir.join("config.json")).map_err(|error| chain(&error))?;
    let console = plan.terminal.then(|| plan.state_dir.join("console.sock"));
    ContainerBuilder::new(plan.session.clone(), SyscallType::default())
        .with_executor(init)
        .with_console_socket(console)
        .with_root_path(&plan.state_dir)
        .map_err(|error| chain(&error))?
        .as_init(&plan.state_dir)
        .with_systemd(false)
        .with_detach(plan.terminal)
        .build()
        .map_err(|error| chain(&error))
}

/// An error with all its causes; libcontainer's outermost words say little.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut advice = "";
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref().filter(|_| advice.is_empty()) {
            advice = too_large(cause);
        }
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text + advice
}

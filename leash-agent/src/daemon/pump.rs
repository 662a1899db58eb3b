//! The main loop of a session: signals, the terminal, streams, changed policies, and the end of the command.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, raise, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{isatty, pipe2};

use super::session::duplicate;
use super::watch::Watch;
use super::{Notices, RunError};
use crate::sandbox::relay::{Relay, set_nonblocking};
use crate::sandbox::terminal::{RawMode, copy_size, in_foreground};
use crate::sandbox::{Container, EXIT_LEASH, LauncherEvent, Stdio3};

/// Signals that are ours to handle while a session runs.
const HANDLED: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// How often one in the background looks whether it is in the foreground again, in milliseconds: shells say so only to what was stopped.
const AWAY_MS: u16 = 100;

/// Takes [`HANDLED`] signals out of their usual way. Must come before any thread is started.
pub(super) fn block_signals() -> Result<SignalFd, RunError> {
    // A file that may not grow (`ulimit -f`) is an error that can be told; the command gets the signal back.
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.map_err(|errno| RunError::system("ignore a signal")(errno.into()))?;
    let set: SigSet = HANDLED.into_iter().collect();
    set.thread_block()
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .map_err(|errno| RunError::system("take over signals")(errno.into()))
}

/// How our descriptors connect to the session's.
pub(super) enum Streams {
    /// We are on a terminal: the session gets one of its own, and we copy between them.
    Terminal,
    /// The session gets our descriptors, but no terminal: those are copied through pipes, so that a session never holds the
    /// caller's terminal.
    Plain(Vec<(Relay, Direction)>),
}

/// Which way a relay copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

impl Streams {
    pub(super) fn new() -> Result<(Self, Stdio3), RunError> {
        #[expect(clippy::disallowed_methods, reason = "the session's own, which is copied as it is")]
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let is_terminal = |fd: BorrowedFd<'_>| isatty(fd).unwrap_or(false);
        if is_terminal(stdin.as_fd()) && is_terminal(stdout.as_fd()) {
            return Ok((Self::Terminal, Stdio3::default()));
        }
        let mut relays = Vec::new();
        let mut stdio = Stdio3::default();
        if is_terminal(stdin.as_fd()) {
            let (read, write) = pipe()?;
            ours(&write)?;
            relays.push((Relay::new(duplicate(stdin)?, write), Direction::In));
            stdio.stdin = Some(read);
        }
        if is_terminal(stdout.as_fd()) {
            let (read, write) = pipe()?;
            relays.push((Relay::new(read, duplicate(stdout)?), Direction::Out));
            stdio.stdout = Some(write);
        }
        if is_terminal(stderr.as_fd()) {
            let (read, write) = pipe()?;
            relays.push((Relay::new(read, duplicate(stderr)?), Direction::Out));
            stdio.stderr = Some(write);
        }
        Ok((Self::Plain(relays), stdio))
    }

    pub(super) fn terminal(&self) -> bool {
        matches!(self, Self::Terminal)
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), RunError> {
    pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| RunError::system("create a pipe")(errno.into()))
}

fn ours(fd: &OwnedFd) -> Result<(), RunError> {
    set_nonblocking(fd).map_err(|errno| RunError::system("set up a stream")(errno.into()))
}

/// How the loop ended.
pub(super) struct Ended {
    /// The command's status.
    pub(super) status: i32,
    /// Why the session must end, if not by its command. The recorder may know better.
    pub(super) error: Option<RunError>,
}

/// The loop.
pub(super) struct Pump<'a> {
    container: &'a mut Container,
    signals: SignalFd,
    relays: Vec<(Relay, Direction)>,
    console: Option<OwnedFd>,
    /// While the session has a terminal of its own, and we are in the foreground of ours.
    raw: Option<RawMode>,
    alarm: UnixStream,
    watch: Option<Watch>,
    had_terminal: bool,
    status: Option<i32>,
}

/// What woke the loop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Launcher,
    Alarm,
    Watch,
    Relay(usize),
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        container: &'a mut Container,
        signals: SignalFd,
        streams: Streams,
        alarm: UnixStream,
        watched: &[PathBuf],
    ) -> Result<Self, RunError> {
        let watch = if watched.is_empty() { None } else { Some(Watch::new(watched)?) };
        let console = container.take_console();
        if let Some(console) = &console {
            ours(console)?;
        }
        #[expect(clippy::disallowed_methods, reason = "the session's own, which is copied as it is")]
        let stdout = std::io::stdout();
        let relays = match (streams, &console) {
            (Streams::Plain(relays), _) => relays,
            (Streams::Terminal, Some(console)) => vec![
                (Relay::new(duplicate(std::io::stdin())?, duplicate(console)?), Direction::In),
                (Relay::new(duplicate(console)?, duplicate(stdout)?), Direction::Out),
            ],
            (Streams::Terminal, None) => Vec::new(),
        };
        let had_terminal = has_terminal();
        Ok(Self { container, signals, relays, console, raw: None, alarm, watch, had_terminal, status: None })
    }

    /// Starts the command and serves it until it ends. The terminal is given back when this returns, or unwinds.
    pub(super) fn run(&mut self, reload: &mut dyn FnMut(&mut dyn Notices), notices: &mut dyn Notices) -> Ended {
        if let Some(console) = &self.console {
            let _ = copy_size(std::io::stdin(), console);
        }
        let result = self.serve(reload, notices);
        self.raw = None;
        notices.raw_terminal(false);
        match result {
            Ok(status) => Ended { status, error: None },
            Err(error) => Ended { status: EXIT_LEASH, error: Some(error) },
        }
    }

    /// Has the terminal in raw mode while we are in its foreground; elsewhere it is as others want it. `continued`: they may have changed it.
    fn attend(&mut self, continued: bool, notices: &mut dyn Notices) {
        let Some(console) = &self.console else { return };
        let stdin = std::io::stdin();
        // Not being able to is a matter of looks; the session's own terminal is what counts.
        match (in_foreground(&stdin), &self.raw) {
            (true, None) => {
                let _ = copy_size(&stdin, console);
                self.raw = duplicate(&stdin).ok().and_then(|stdin| RawMode::enter(stdin).ok());
            }
            (true, Some(raw)) if continued => {
                let _ = copy_size(&stdin, console);
                let _ = raw.resume();
            }
            (false, Some(_)) => self.raw = None,
            (true, Some(_)) | (false, None) => {}
        }
        notices.raw_terminal(self.raw.is_some());
    }

    fn serve(&mut self, reload: &mut dyn FnMut(&mut dyn Notices), notices: &mut dyn Notices) -> Result<i32, RunError> {
        self.container.start()?;
        loop {
            // Output is complete when its source is closed: the end of the command closed it, as nothing of it is left then.
            if let Some(status) = self.status
                && self.relays.iter().all(|(relay, direction)| *direction == Direction::In || relay.done())
            {
                return Ok(status);
            }
            self.attend(false, notices);
            for source in self.wait()? {
                match source {
                    Source::Signals => self.take_signals(reload, notices)?,
                    Source::Launcher => {
                        let LauncherEvent::Exited(status) = self.container.event()?;
                        self.status = Some(status);
                    }
                    Source::Alarm => return Ok(EXIT_LEASH),
                    Source::Watch => {
                        if let Some(watch) = &self.watch {
                            watch.clear();
                        }
                        reload(notices);
                    }
                    Source::Relay(index) => {
                        if let Some((relay, _)) = self.relays.get_mut(index) {
                            relay.step();
                        }
                    }
                }
            }
        }
    }

    fn wait(&self) -> Result<Vec<Source>, RunError> {
        let mut sources = vec![(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN)];
        sources.push((Source::Alarm, self.alarm.as_fd(), PollFlags::POLLIN));
        if self.status.is_none() {
            sources.push((Source::Launcher, self.container.fd(), PollFlags::POLLIN));
        }
        if let Some(watch) = &self.watch {
            sources.push((Source::Watch, watch.fd(), PollFlags::POLLIN));
        }
        let listening = in_foreground(std::io::stdin());
        let mut timeout = PollTimeout::NONE;
        for (index, (relay, direction)) in self.relays.iter().enumerate() {
            // In the background the terminal's input is the shell's.
            if *direction == Direction::In && !listening {
                timeout = PollTimeout::from(AWAY_MS);
                continue;
            }
            if let Some((fd, flags)) = relay.interest() {
                sources.push((Source::Relay(index), fd, flags));
            }
        }
        let mut fds: Vec<PollFd<'_>> = sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(RunError::system("wait for the session")(errno.into())),
        }
        let ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        Ok(sources.iter().zip(ready).filter(|(_, ready)| *ready).map(|((source, ..), _)| *source).collect())
    }

    fn take_signals(&mut self, reload: &mut dyn FnMut(&mut dyn Notices), notices: &mut dyn Notices) -> Result<(), RunError> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let Some(signal) = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) else {
                continue;
            };
            match signal {
                Signal::SIGHUP if !self.had_terminal || has_terminal() => reload(notices),
                Signal::SIGWINCH => {
                    if let Some(console) = &self.console {
                        let _ = copy_size(std::io::stdin(), console);
                    }
                }
                Signal::SIGTSTP => {
                    self.forward(signal);
                    self.raw = None;
                    raise(Signal::SIGSTOP).map_err(|errno| RunError::system("stop")(errno.into()))?;
                }
                Signal::SIGCONT => {
                    self.forward(signal);
                    self.attend(true, notices);
                }
                _ => self.forward(signal),
            }
        }
        Ok(())
    }

    fn forward(&mut self, signal: Signal) {
        // If the launcher is gone, its end is the next thing that the loop hears of.
        if self.status.is_none() {
            drop(self.container.signal(signal));
        }
    }
}

/// Whether we have a terminal. One that hung up no longer counts, which tells its hangup from a request to reload.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

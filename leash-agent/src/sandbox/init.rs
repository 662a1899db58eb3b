//! Process 1 of a session.
//!
//! It is this program, forked by libcontainer (or by [`bare`]), inside all namespaces and without any privilege. It forks the command, forwards
//! signals to it, reaps what it orphans, and ends with its status; the kernel then kills whatever else is left (without a pid
//! namespace, it does so itself). It never executes
//! anything itself, so no foreign code ever runs in it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::exit;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, killpg, signal, sigprocmask};
use nix::sys::stat::fstat;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdout, execve, fork, pipe2, setsid};

use super::{bare, filter, floor, members, notify};
use crate::words::{self, Plain};

/// Exit status when Leash itself failed.
pub const EXIT_LEASH: i32 = 125;
/// Exit status when the command can't be executed.
pub const EXIT_NOT_EXECUTABLE: i32 = 126;
/// Exit status when the command isn't there.
pub const EXIT_NOT_FOUND: i32 = 127;

/// Runs the command in a session.
#[derive(Clone, Debug)]
pub(super) struct Init {
    /// The command and its arguments; at least one.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment.
    pub env: Vec<Vec<u8>>,
    /// Whether stdin is the session's own terminal.
    pub terminal: bool,
    /// See [`Plan::contained`](super::plan::Plan::contained).
    pub contained: bool,
    /// See [`Plan::supervisor`](super::plan::Plan::supervisor).
    pub supervisor: Option<i32>,
    /// See [`Plan::floor`](super::plan::Plan::floor).
    pub floor: Vec<std::path::PathBuf>,
}

impl Executor for Init {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        match self.run() {
            Ok(never) => match never {},
            Err((action, errno)) => {
                say(format_args!("cannot {action}: {}", errno.desc()));
                exit(EXIT_LEASH)
            }
        }
    }

    /// Called last before the container counts as created, with the final user.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        // Set here because a change of user clears it. A session must not outlive its launcher unobserved.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| {
            ExecutorValidationError::ArgValidationError(format!("cannot tie the session to its launcher: {errno}"))
        })
    }

    /// The environment is passed to `execve`; that of process 1 doesn't matter.
    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

type Failure = (&'static str, Errno);

impl Init {
    pub(super) fn run(&self) -> Result<Infallible, Failure> {
        let argv = c_strings(&self.argv)?;
        let env = c_strings(&self.env)?;
        let _ = nix::sys::prctl::set_name(c"leash-init");
        if self.terminal && self.contained {
            self.release_terminal()?;
        }
        reopen_null().map_err(|errno| ("open /dev/null", errno))?;
        // The command's own filters come on top of these, so it can't lift them.
        filter::install().map_err(|errno| ("install the argument filter", errno))?;
        let signals = SigSet::all();
        signals.thread_set_mask().map_err(|errno| ("block signals", errno))?;
        let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| ("create a pipe", errno))?;
        // SAFETY: this process is single-threaded, so the child may use anything.
        match unsafe { fork() }.map_err(|errno| ("start a process", errno))? {
            ForkResult::Child => {
                drop(read);
                let errno = self.become_command(&argv, &env);
                // Nobody is left to tell if this fails; the exit status still says it.
                let _ = nix::unistd::write(write.as_fd(), &(errno as i32).to_ne_bytes());
                exit(EXIT_LEASH)
            }
            ForkResult::Parent { child } => {
                drop(write);
                let mut code = [0; 4];
                if std::fs::File::from(read).read_exact(&mut code).is_ok() {
                    let errno = Errno::from_raw(i32::from_ne_bytes(code));
                    let name = self.argv.first().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
                    say(format_args!("cannot run `{name}`: {}", errno.desc()));
                    exit(if errno == Errno::ENOENT { EXIT_NOT_FOUND } else { EXIT_NOT_EXECUTABLE });
                }
                self.supervise(child, &signals)
            }
        }
    }

    /// libcontainer made the terminal ours; let go, so that the command can lead a session of its own with it.
    fn release_terminal(&self) -> Result<(), Failure> {
        // Letting go hangs up the foreground group, which is us.
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) }.map_err(|errno| ("ignore a signal", errno))?;
        // SAFETY: TIOCNOTTY takes no argument.
        let result = unsafe { libc::ioctl(0, libc::TIOCNOTTY) };
        Errno::result(result).map(drop).map_err(|errno| ("release the terminal", errno))
    }

    /// In the child: turns into the command, or returns why not.
    fn become_command(&self, argv: &[CString], env: &[CString]) -> Errno {
        if let Err(errno) = setsid() {
            return errno;
        }
        if self.terminal {
            // SAFETY: TIOCSCTTY takes an integer.
            if let Err(errno) = Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }) {
                return errno;
            }
        }
        for number in Signal::iterator() {
            // SAFETY: the default action installs no handler. SIGKILL and SIGSTOP refuse, as they should.
            let _ = unsafe { signal(number, SigHandler::SigDfl) };
        }
        if let Err(errno) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None) {
            return errno;
        }
        if let Some(socket) = self.supervisor {
            // SAFETY: the launcher was started with this descriptor open, and nothing in between closes it.
            let socket = unsafe { BorrowedFd::borrow_raw(socket) };
            // Before the filter, which answers that there is no Landlock.
            if let Err(error) = floor::install(&self.floor) {
                say(format_args!("cannot lay the session's Landlock floor: {error}"));
                exit(EXIT_LEASH)
            }
            if let Err(errno) = notify::install(socket, self.contained) {
                return errno;
            }
        }
        let Some(name) = argv.first() else { return Errno::ENOENT };
        let mut denied = None;
        for candidate in candidates(name.as_bytes(), search_path(&self.env)) {
            let Err(errno) = execve(&candidate, argv, env);
            match errno {
                Errno::ENOENT | Errno::ENOTDIR => {}
                // Perhaps there is another one further on, execvp(3). A directory that may not be searched holds no command.
                Errno::EACCES if Path::new(OsStr::from_bytes(candidate.as_bytes())).exists() => denied = Some(errno),
                Errno::EACCES => {}
                other => return other,
            }
        }
        denied.unwrap_or(Errno::ENOENT)
    }

    /// Waits for the command, forwarding signals, and exits as it did.
    fn supervise(&self, child: Pid, signals: &SigSet) -> Result<Infallible, Failure> {
        loop {
            match signals.wait().map_err(|errno| ("wait for a signal", errno))? {
                Signal::SIGCHLD => {
                    if let Some(status) = reap(child)? {
                        self.end(status);
                    }
                }
                bare::END if !self.contained => self.end(128 + Signal::SIGKILL as i32),
                // What a terminal sends goes to everything in the foreground. Nobody in the session could resume the command, so
                // the kernel would ignore the polite form of a stop.
                Signal::SIGTSTP => {
                    let _ = killpg(child, Signal::SIGSTOP);
                }
                number @ (Signal::SIGINT | Signal::SIGQUIT | Signal::SIGCONT) => {
                    let _ = killpg(child, number);
                }
                number => {
                    let _ = kill(child, number);
                }
            }
        }
    }

    /// Ends with everything else.
    fn end(&self, status: i32) -> ! {
        if !self.contained {
            members::end_all();
        }
        exit(status)
    }
}

/// libcontainer replaces a standard descriptor that is the host's `/dev/null` by the session's, but opens that for reading only.
fn reopen_null() -> Result<(), Errno> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let device = fstat(&null)?.st_rdev;
    #[expect(clippy::disallowed_methods, reason = "nothing is written")]
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    if fstat(stdout)?.st_rdev == device {
        dup2_stdout(&null)?;
    }
    if fstat(stderr)?.st_rdev == device {
        dup2_stderr(&null)?;
    }
    Ok(())
}

fn c_strings(strings: &[Vec<u8>]) -> Result<Vec<CString>, Failure> {
    strings
        .iter()
        .map(|bytes| CString::new(bytes.clone()).map_err(|_| ("pass a NUL byte to the command", Errno::EINVAL)))
        .collect()
}

fn search_path(env: &[Vec<u8>]) -> &OsStr {
    OsStr::from_bytes(env.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or_default())
}

/// The paths to try for a command, in order.
fn candidates(name: &[u8], path: &OsStr) -> Vec<CString> {
    if name.contains(&b'/') {
        return CString::new(name).into_iter().collect();
    }
    path.as_bytes()
        .split(|&byte| byte == b':')
        .filter(|dir| !dir.is_empty())
        .filter_map(|dir| CString::new([dir, b"/", name].concat()).ok())
        .collect()
}

/// Reaps every process that ended; returns the command's exit status if it was among them.
fn reap(child: Pid) -> Result<Option<i32>, Failure> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => ended = Some(status),
            Ok(WaitStatus::Signaled(pid, number, _)) if pid == child => ended = Some(128 + number as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(("reap a process", errno)),
        }
    }
}

pub(super) fn say(text: std::fmt::Arguments<'_>) {
    words::say(&Plain::line(text).within("leash: ", ""));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_searched_as_a_shell_would() {
        let text = |candidates: Vec<CString>| candidates.into_iter().map(|path| path.into_string().unwrap()).collect::<Vec<_>>();
        assert_eq!(text(candidates(b"ls", OsStr::new("/usr/bin::/bin"))), ["/usr/bin/ls", "/bin/ls"]);
        assert_eq!(text(candidates(b"./ls", OsStr::new("/bin"))), ["./ls"]);
        assert!(candidates(b"ls", OsStr::new("")).is_empty());
    }
}

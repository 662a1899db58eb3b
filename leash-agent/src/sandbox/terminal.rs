//! The caller's terminal: raw while a session has its own, and given back on every way out.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

/// Keeps a terminal in raw mode until dropped, panics included. All of it is for the foreground only: elsewhere the terminal is somebody
/// else's, and the kernel stops who changes it (SIGTTOU).
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
    raw: Termios,
}

impl RawMode {
    /// Switches `terminal` to raw mode.
    pub fn enter(terminal: OwnedFd) -> Result<Self, Errno> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        let mode = Self { terminal, before, raw };
        mode.resume()?;
        Ok(mode)
    }

    /// Switches again, after others had the terminal.
    pub fn resume(&self) -> Result<(), Errno> {
        tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.raw)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if in_foreground(&self.terminal) {
            // What is still unread answers the session's programs, and would be a command to the shell. If the terminal is gone there is nothing
            // to give back.
            let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
        }
    }
}

/// Whether `terminal`, if it is one, is ours to read from and to change.
pub fn in_foreground(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).map_or(true, |foreground| foreground == getpgrp())
}

/// Gives `to` the window size of `from`; the kernel then signals the programs on it.
pub fn copy_size(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which outlives the call.
    Errno::result(unsafe { libc::ioctl(from.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    // SAFETY: TIOCSWINSZ reads one `winsize`, which outlives the call.
    Errno::result(unsafe { libc::ioctl(to.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, poll};
    use nix::pty::openpty;
    use nix::unistd::{read, write};

    fn is_readable(terminal: &OwnedFd) -> bool {
        poll(&mut [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)], 0u8).unwrap() > 0
    }

    #[test]
    fn what_nobody_read_is_no_input_of_the_next_program() {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let raw = RawMode::enter(pty.slave.try_clone().unwrap()).unwrap();
        assert_ne!(tcgetattr(&pty.slave).unwrap(), before);
        // Its answer to a question after its attributes.
        write(&pty.master, b"\x1b[?62;c").unwrap();
        poll(&mut [PollFd::new(pty.slave.as_fd(), PollFlags::POLLIN)], 10_000u16).unwrap();
        assert!(is_readable(&pty.slave));
        drop(raw);
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        write(&pty.master, b"ls\n").unwrap();
        let mut line = [0; 32];
        let count = read(&pty.slave, &mut line).unwrap();
        assert_eq!(line.get(..count), Some(&b"ls\n"[..]));
    }
}

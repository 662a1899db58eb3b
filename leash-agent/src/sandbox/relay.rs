//! Copies bytes between the caller's descriptors and the session's, one direction each, driven by `poll`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::unistd::{read, write};

/// One direction. It reads only when everything read before was written, so a slow reader slows the writer down, as a pipe does.
#[derive(Debug)]
pub struct Relay {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    written: usize,
}

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Bytes written at once: what `poll` promises that a pipe takes without blocking (`PIPE_BUF`, pipe(7)).
const WRITE_CHUNK: usize = 4096;

/// Makes reads and writes of a descriptor that is ours alone return instead of waiting.
pub fn set_nonblocking(fd: impl AsFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

impl Relay {
    /// Copies from `from` to `to` until `from` ends or `to` is gone.
    pub fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self { from: Some(from), to: Some(to), buffer: Vec::new(), written: 0 }
    }

    /// Whether nothing more will be copied.
    pub fn done(&self) -> bool {
        self.to.is_none()
    }

    /// What to wait for before the next [`Relay::step`].
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let to = self.to.as_ref()?;
        if self.written < self.buffer.len() {
            return Some((to.as_fd(), PollFlags::POLLOUT));
        }
        self.from.as_ref().map(|from| (from.as_fd(), PollFlags::POLLIN))
    }

    /// Copies once; call it when what [`Relay::interest`] named is ready.
    pub fn step(&mut self) {
        if let Err(errno) = self.try_step() {
            // EIO: the terminal's other end is closed. EPIPE: the reader went away. Both are how a stream ends.
            if !matches!(errno, Errno::EIO | Errno::EPIPE) {
                tracing::debug!(%errno, "a stream ended");
            }
            self.close();
        }
    }

    fn try_step(&mut self) -> Result<(), Errno> {
        let Some(to) = &self.to else { return Ok(()) };
        if self.written == self.buffer.len() {
            let Some(from) = &self.from else { return Ok(()) };
            self.buffer.resize(CHUNK, 0);
            self.written = 0;
            let count = match read(from, &mut self.buffer) {
                Ok(count) => count,
                Err(Errno::EINTR | Errno::EAGAIN) => {
                    self.buffer.clear();
                    return Ok(());
                }
                Err(errno) => return Err(errno),
            };
            self.buffer.truncate(count);
            if count == 0 {
                self.close();
            }
            return Ok(());
        }
        let left = self.buffer.get(self.written..).unwrap_or_default();
        match write(to, left.get(..WRITE_CHUNK).unwrap_or(left)) {
            Ok(count) => self.written += count,
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.from = None;
        self.to = None;
        self.buffer.clear();
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn pipe() -> (OwnedFd, OwnedFd) {
        nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap()
    }

    #[test]
    fn bytes_pass_unchanged_and_the_end_is_passed_on() {
        let ((source, feed), (drain, target)) = (pipe(), pipe());
        let bytes: Vec<u8> = (0..=255).cycle().take(20_000).collect();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || std::fs::File::from(feed).write_all(&sent).unwrap());
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            std::fs::File::from(drain).read_to_end(&mut got).unwrap();
            got
        });
        let mut relay = Relay::new(source, target);
        while relay.interest().is_some() {
            relay.step();
        }
        writer.join().unwrap();
        assert!(relay.done());
        assert_eq!(reader.join().unwrap(), bytes);
    }

    #[test]
    fn a_reader_that_went_away_ends_the_relay() {
        let ((source, feed), (drain, target)) = (pipe(), pipe());
        drop(drain);
        std::fs::File::from(feed).write_all(b"x").unwrap();
        let mut relay = Relay::new(source, target);
        relay.step();
        relay.step();
        assert!(relay.done());
    }
}

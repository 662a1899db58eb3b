//! What is run inside and outside of sessions.

use std::ffi::CString;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

fn open(path: &CString) -> Result<OwnedFd, Errno> {
    // SAFETY: the path is a NUL-terminated string that lives through the call.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    Errno::result(fd)?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> anyhow::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).context("a path holds a NUL byte")
}

/// Prints nanoseconds per open+close of `path`, over `iterations` pairs.
pub(crate) fn open_close(path: &Path, iterations: u64) -> anyhow::Result<()> {
    let path = c_path(path)?;
    for _ in 0..iterations / 10 {
        drop(open(&path)?);
    }
    let start = Instant::now();
    for _ in 0..iterations {
        drop(open(&path)?);
    }
    println!("{}", start.elapsed().as_nanos() as f64 / iterations as f64);
    Ok(())
}

/// Prints nanoseconds per datagram.
pub(crate) fn sends(iterations: u64) -> anyhow::Result<()> {
    let (sender, receiver) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    sender.connect(receiver.local_addr()?)?;
    let start = Instant::now();
    for _ in 0..iterations {
        // Nobody reads: what doesn't fit is thrown away.
        sender.send(b"datagram")?;
    }
    println!("{}", start.elapsed().as_nanos() as f64 / iterations as f64);
    Ok(())
}

/// Prints nanoseconds per connection, its end included.
pub(crate) fn connects(iterations: u64) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let start = Instant::now();
    for _ in 0..iterations {
        let connection = TcpStream::connect(address)?;
        drop(listener.accept()?);
        drop(connection);
    }
    println!("{}", start.elapsed().as_nanos() as f64 / iterations as f64);
    Ok(())
}

/// What [`opens`] prints.
#[derive(serde::Serialize, serde::Deserialize, Default)]
pub(crate) struct Opened {
    /// Opens that succeeded.
    pub allowed: u64,
    /// Opens that failed with `EACCES`.
    pub denied: u64,
}

/// `processes` processes open `each` files: nine times one of `allowed-0…`, then `denied`.
pub(crate) fn opens(directory: &Path, processes: u64, each: u64) -> anyhow::Result<()> {
    let (reader, writer) = nix::unistd::pipe()?;
    let mut children = Vec::new();
    for process in 0..processes {
        // SAFETY: the process has one thread, so the child may do what it likes.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => children.push(child),
            ForkResult::Child => {
                let code = match open_files(directory, process, each) {
                    Ok(opened) => {
                        let record = [opened.allowed.to_le_bytes(), opened.denied.to_le_bytes()].concat();
                        i32::from(nix::unistd::write(&writer, &record) != Ok(16))
                    }
                    Err(error) => {
                        eprintln!("leash-bench: {error:#}");
                        1
                    }
                };
                std::process::exit(code);
            }
        }
    }
    drop(writer);
    let mut total = Opened::default();
    for child in children {
        if waitpid(child, None)? != WaitStatus::Exited(child, 0) {
            bail!("process {child} failed");
        }
        let mut record = [0u8; 16];
        if nix::unistd::read(&reader, &mut record)? != 16 {
            bail!("process {child} reported nothing");
        }
        let (allowed, denied) = record.split_at(8);
        total.allowed += u64::from_le_bytes(allowed.try_into()?);
        total.denied += u64::from_le_bytes(denied.try_into()?);
    }
    println!("{}", serde_json::to_string(&total)?);
    Ok(())
}

fn open_files(directory: &Path, process: u64, each: u64) -> anyhow::Result<Opened> {
    let mut allowed = Vec::new();
    for file in 0..9 {
        allowed.push(c_path(&directory.join(format!("allowed-{}", (process + file) % 9)))?);
    }
    let denied = c_path(&directory.join("denied"))?;
    let mut opened = Opened::default();
    for number in 0..each {
        let path = allowed.get((number % 10) as usize).unwrap_or(&denied);
        match open(path) {
            Ok(_) => opened.allowed += 1,
            Err(Errno::EACCES) => opened.denied += 1,
            Err(error) => bail!("open of {path:?} failed: {error}"),
        }
    }
    Ok(opened)
}

/// What [`flip`] prints.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Flipped {
    /// `CLOCK_MONOTONIC` nanoseconds of the first open of `flips` that was denied.
    pub first_new_ns: u64,
    /// Rounds before and after the change.
    pub rounds: u64,
    /// Opens of `allowed` that were denied, of `denied` that were allowed, and of `flips` that were allowed after the change.
    pub gaps: u64,
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn monotonic_ns() -> anyhow::Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Opens three files in a loop; ends some rounds after `flips` was denied. Says `ready` first.
pub(crate) fn flip(directory: &Path) -> anyhow::Result<()> {
    let [flips, allowed, denied] = ["flips", "allowed", "denied"].map(|name| c_path(&directory.join(name)));
    let (flips, allowed, denied) = (flips?, allowed?, denied?);
    println!("ready");
    let mut seen = Flipped { first_new_ns: 0, rounds: 0, gaps: 0 };
    let mut after = 0;
    let start = Instant::now();
    while after < 10_000 {
        if start.elapsed().as_secs() > 120 {
            bail!("the verdict didn't change within 120 s");
        }
        seen.rounds += 1;
        seen.gaps += u64::from(open(&allowed).is_err()) + u64::from(open(&denied).is_ok());
        let is_new = open(&flips).is_err();
        if seen.first_new_ns == 0 && is_new {
            seen.first_new_ns = monotonic_ns()?;
        } else if seen.first_new_ns != 0 {
            seen.gaps += u64::from(!is_new);
            after += 1;
        }
    }
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

/// Says `ready` and waits for a signal, two minutes at the most.
pub(crate) fn wait() -> anyhow::Result<()> {
    println!("ready");
    std::thread::sleep(std::time::Duration::from_secs(120));
    Ok(())
}

/// Runs `run.sh` in `place`, and prints seconds last.
pub(crate) fn timed(place: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    let status = std::process::Command::new("sh").arg("run.sh").current_dir(place).status()?;
    anyhow::ensure!(status.success(), "run.sh ended with {status}");
    println!("{}", start.elapsed().as_secs_f64());
    Ok(())
}

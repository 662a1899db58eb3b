//! The kernel's own answer beneath the supervisor's: programs on the session's cgroup that deny what no program may do in the network.
//!
//! They have maps of their own, so this is a [`Session`] beside no other, and the links are this process's: the programs go when it
//! does, which a supervised session doesn't outlive.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aya::programs::ProgramError;
use aya::sys::SyscallError;
use aya_obj::generated::bpf_attach_type;
use leash_common::session::ACTIVE;

use super::error::{EnforceError, Result};
use super::event::{Event, Mode};
use super::install::{Maps, refused};
use super::programs::{Programs, Verified};
use super::session::{Session, load_image};
use super::sys;

/// Entries that one session needs, where the object has room for all of the machine's.
const ENTRIES: [(&str, u32); 9] = [
    ("SESSIONS", 1),
    ("COUNTERS", 1),
    ("CGROUPS", 1),
    ("IMAGES", 1),
    ("RINGS", 2),
    ("FOLD", 1),
    ("SCRATCH", 1),
    ("MOUNTS", 1),
    ("CONFIG", 1),
];

/// Programs whose cgroup hooks may put another address in the place of the one that was asked about.
const REWRITERS: [u32; 2] = [sys::CGROUP_CONNECT4, sys::CGROUP_CONNECT6];

/// The programs of one session. They are attached as long as this lives.
pub struct NetworkFloor {
    session: Session,
    _links: Vec<OwnedFd>,
    packets: bool,
    /// Events that were handed over.
    delivered: u64,
}

/// The programs of a session to come, on their way through the verifier.
pub struct NetworkPrograms {
    maps: Arc<Maps>,
    verifying: JoinHandle<Result<Vec<Verified>>>,
}

impl NetworkPrograms {
    /// Makes the maps, and begins to load the programs. Neither a policy nor a cgroup needs to be there.
    pub fn load() -> Result<Self> {
        let programs = Programs::prepare(&ENTRIES)?;
        let maps = Arc::new(Maps::open(|name| programs.map(name))?);
        Ok(Self { maps, verifying: thread::spawn(move || programs.load()) })
    }
}

impl NetworkFloor {
    /// Attaches the programs to the session's cgroup, in which nothing needs to run yet.
    pub fn lay(programs: NetworkPrograms, cgroup: &Path, image: &[u64], mode: Mode, generation: u32) -> Result<Self> {
        let image = load_image(image, mode, generation)?;
        // This waits for the whole machine, and the verifier works meanwhile.
        let session = Session::begin(programs.maps, cgroup, &image, ACTIVE)?;
        let (links, packets) = attach(&verified(programs.verifying)?, cgroup)?;
        Ok(Self { session, _links: links, packets, delivered: 0 })
    }

    /// Fails unless this process is one of those that it answers to.
    pub(super) fn must_hold(&self, pid: u32) -> Result<()> {
        self.session.must_hold(pid)
    }

    /// What it answers, in a word for the log.
    pub fn words(&self) -> &'static str {
        if self.packets { "calls and packets" } else { "calls" }
    }

    /// Replaces the image by one switch.
    pub(super) fn replace(&self, image: &[u64], mode: Mode, generation: u32) -> Result<()> {
        self.session.reload(image, mode, generation)
    }

    /// Hands over what was denied. The programs know neither the user of a session nor its processes' parents.
    pub(super) fn take(&mut self, uid: u32, sink: &mut dyn FnMut(Event)) -> Result<()> {
        let delivered = &mut self.delivered;
        self.session.poll(Duration::ZERO, &mut |event| {
            *delivered += 1;
            sink(Event { uid, ppid: parent(event.tgid), ..event });
        })
    }

    /// Denials that were handed over, and those that no event tells of.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.delivered, self.session.totals().deny.dropped)
    }
}

/// The parent of a process; 0 if it is gone.
fn parent(tgid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{tgid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok()).unwrap_or(0)
}

/// Whether the programs load here, and attach to the cgroup `directory`.
pub fn available(directory: &Path) -> Result<&'static str> {
    let (_links, packets) = attach(&verified(NetworkPrograms::load()?.verifying)?, directory)?;
    Ok(if packets { "load and attach" } else { "load and attach, those for packets left out" })
}

fn verified(verifying: JoinHandle<Result<Vec<Verified>>>) -> Result<Vec<Verified>> {
    verifying.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Attaches the programs, for as long as the links live. The one for packets asks about the address that a socket is connected to, so it
/// is left out where somebody else's program can replace that; returns whether it is there.
fn attach(programs: &[Verified], directory: &Path) -> Result<(Vec<OwnedFd>, bool)> {
    let cgroup = fs::File::open(directory).map_err(EnforceError::io("open", directory))?;
    let mut packets = true;
    for hook in REWRITERS {
        packets &= sys::count_programs(cgroup.as_fd(), hook)? == 0;
    }
    let mut links = Vec::new();
    for Verified { name, hook, program } in programs {
        if *hook == bpf_attach_type::BPF_CGROUP_INET_EGRESS && !packets {
            continue;
        }
        let failed = |io_error| refused(name)(ProgramError::SyscallError(SyscallError { call: "bpf_link_create", io_error }));
        links.push(sys::attach_program(program.as_fd(), cgroup.as_fd(), *hook).map_err(failed)?);
    }
    Ok((links, packets))
}

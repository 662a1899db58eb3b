//! The kernel's own answer beneath the supervisor's: programs on the session's cgroup that deny what no program may do in the network.
//!
//! They have maps of their own, so this is a [`Session`] beside no other, and the links are this process's: the programs go when it
//! does, which a supervised session doesn't outlive.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkb, Program, ProgramError};
use leash_common::layout::Layout;
use leash_common::session::ACTIVE;

use super::error::{EnforceError, Result};
use super::event::{Event, Mode};
use super::install::{self, Maps, refused};
use super::session::{Session, load_image};
use super::sys;

/// Entries that one session needs, where the object has room for all of the machine's. The programs use no other map.
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
    _programs: Ebpf,
    packets: bool,
    /// Events that were handed over.
    delivered: u64,
}

impl NetworkFloor {
    /// Loads the programs and attaches them to the session's cgroup, in which nothing needs to run yet.
    pub fn lay(cgroup: &Path, image: &[u64], mode: Mode, generation: u32) -> Result<Self> {
        let mut programs = object()?;
        let image = load_image(image, mode, generation)?;
        let maps = Arc::new(Maps::of(&programs)?);
        // Installing in maps of maps waits for the whole machine; the verifier needs a processor.
        let (loaded, session) = thread::scope(|scope| {
            let installing = scope.spawn(|| Session::begin(maps, cgroup, &image, ACTIVE));
            (load(&mut programs), installing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        loaded?;
        let session = session?;
        let packets = attach(&mut programs, cgroup)?;
        Ok(Self { session, _programs: programs, packets, delivered: 0 })
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
    let mut programs = object()?;
    load(&mut programs)?;
    Ok(if attach(&mut programs, directory)? { "load and attach" } else { "load and attach, those for packets left out" })
}

/// The programs with their maps. They need no structure of the kernel.
fn object() -> Result<Ebpf> {
    let layout = install::layout_bytes(&Layout::default());
    let mut loader = install::loader(&layout);
    loader.btf(None);
    for (name, entries) in ENTRIES {
        loader.map_max_entries(name, entries);
    }
    Ok(loader.load(install::OBJECT)?)
}

/// Has the kernel verify the programs.
fn load(object: &mut Ebpf) -> Result<()> {
    for (name, program) in object.programs_mut() {
        match program {
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            Program::CgroupSkb(program) => program.load(),
            _ => Ok(()),
        }
        .map_err(refused(name))?;
    }
    Ok(())
}

/// Attaches the programs. The one for packets asks about the address that a socket is connected to, so it is left out where somebody
/// else's program can replace that; returns whether it is there.
fn attach(object: &mut Ebpf, directory: &Path) -> Result<bool> {
    let cgroup = fs::File::open(directory).map_err(EnforceError::io("open", directory))?;
    let mut packets = true;
    for hook in REWRITERS {
        packets &= sys::count_programs(cgroup.as_fd(), hook)? == 0;
    }
    // A link is always one of several.
    let mode = CgroupAttachMode::Single;
    for (name, program) in object.programs_mut() {
        let attached: std::result::Result<(), ProgramError> = match program {
            Program::CgroupSockAddr(program) => program.attach(&cgroup, mode).map(drop),
            Program::CgroupSock(program) => program.attach(&cgroup, mode).map(drop),
            Program::CgroupSkb(program) if packets => attach_packets(program, &cgroup),
            _ => Ok(()),
        };
        attached.map_err(refused(name))?;
    }
    Ok(packets)
}

fn attach_packets(program: &mut CgroupSkb, cgroup: &fs::File) -> std::result::Result<(), ProgramError> {
    program.attach(cgroup, aya::programs::CgroupSkbAttachType::Egress, CgroupAttachMode::Single).map(drop)
}

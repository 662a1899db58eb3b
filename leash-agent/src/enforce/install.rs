//! The programs and maps of this machine: loaded once, pinned, shared by all sessions.
//!
//! The pins keep programs attached and policies installed when the daemon dies. They are made in a directory of their own that is
//! renamed when it is complete, so what has the final name is whole. Everything here happens under one lock.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use aya::programs::links::FdLink;
use aya::programs::{Lsm, Program, ProgramError};
use aya::{Btf as AyaBtf, EbpfLoader, VerifierLogLevel};
use leash_common::layout::Layout;
use nix::fcntl::{Flock, FlockArg};

use super::error::{EnforceError, Result};
use super::{layout, lsm, sys};

/// The eBPF object, aligned as its parser wants it.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(env!("LEASH_BPF_OBJECT", "the eBPF object isn't built: run `cargo xtask build`"));

const BPFFS: &str = "/sys/fs/bpf";
const RUN: &str = "/run/leash";

/// Hooks that only some of the supported kernels have. What they decide reaches other hooks where they are missing.
const OPTIONAL: &[&str] = &["file_truncate", "inode_set_acl", "inode_remove_acl"];

/// Maps by the names they have in the object.
const MAPS: [&str; 10] = ["CONFIG", "SESSIONS", "COUNTERS", "CGROUPS", "IMAGES", "RINGS", "FOLD", "TASKS", "SCRATCH", "MOUNTS"];

/// Held while sessions or pins change.
pub(super) struct Lock(#[allow(dead_code)] Flock<fs::File>);

impl Lock {
    /// Waits for the lock.
    pub(super) fn take() -> Result<Self> {
        fs::create_dir_all(RUN).map_err(EnforceError::io("create", RUN))?;
        let path = Path::new(RUN).join("lock");
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(EnforceError::io("open", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        lock.map(Self).map_err(|(_, errno)| EnforceError::io("lock", path)(errno.into()))
    }
}

/// The maps, opened.
pub(super) struct Maps {
    config: OwnedFd,
    sessions: OwnedFd,
    counters: OwnedFd,
    cgroups: OwnedFd,
    images: OwnedFd,
    rings: OwnedFd,
    fold: OwnedFd,
    mounts: OwnedFd,
}

macro_rules! accessors {
    ($($name:ident)*) => {
        impl Maps {
            $(pub(super) fn $name(&self) -> BorrowedFd<'_> { self.$name.as_fd() })*
        }
    };
}
impl Maps {
    /// All of them, each by its name in the object.
    pub(super) fn open(open: impl Fn(&str) -> Result<OwnedFd>) -> Result<Self> {
        Ok(Self {
            config: open("CONFIG")?,
            sessions: open("SESSIONS")?,
            counters: open("COUNTERS")?,
            cgroups: open("CGROUPS")?,
            images: open("IMAGES")?,
            rings: open("RINGS")?,
            fold: open("FOLD")?,
            mounts: open("MOUNTS")?,
        })
    }
}
accessors! { config sessions counters cgroups images rings fold mounts }

/// The directory of this build's pins.
pub(super) fn directory() -> PathBuf {
    // FNV-1a, by words: names the build, guards nothing.
    let words = OBJECT.chunks(8).map(|bytes| bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
    let hash = words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, word| (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3));
    Path::new(BPFFS).join(format!("leash-{hash:016x}"))
}

/// Fails where programs on LSM hooks aren't permitted, or aren't asked: what is found out at once, and refused most often.
pub(super) fn must_be_possible() -> Result<()> {
    match sys::refuses_lsm_programs() {
        Some(refusal) => Err(EnforceError::LsmPrograms(refusal)),
        None => lsm::must_have_bpf(),
    }
}

/// Joins what is installed, or installs it.
pub(super) fn join(_lock: &Lock) -> Result<Maps> {
    must_be_possible()?;
    let directory = directory();
    if !directory.is_dir() {
        install(&directory)?;
    }
    Maps::open(|name| sys::open_pinned(&directory.join(name)))
}

/// Removes the pins. Programs detach when the last descriptor goes.
pub(super) fn remove(_lock: &Lock) -> Result<()> {
    remove_directory(&directory())
}

fn remove_directory(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(EnforceError::io("list", directory)(error)),
    };
    for entry in entries {
        let path = entry.map_err(EnforceError::io("list", directory))?.path();
        fs::remove_file(&path).map_err(EnforceError::io("remove", path))?;
    }
    fs::remove_dir(directory).map_err(EnforceError::io("remove", directory))
}

fn pin_failed(name: &str) -> impl FnOnce(aya::pin::PinError) -> EnforceError {
    move |error| EnforceError::Pin { name: name.to_owned(), reason: error.to_string() }
}

/// The loader with everything that the object must be told.
pub(super) fn loader<'a>(layout: &'a [u8]) -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    loader.allow_unsupported_maps();
    loader.override_global("LAYOUT", layout, true);
    loader.verifier_log_level(VerifierLogLevel::STATS);
    loader
}

/// The layout as the bytes of the object's global.
pub(super) fn layout_bytes(layout: &Layout) -> Vec<u8> {
    // SAFETY: a structure of integers in C layout, without holes.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(layout).cast::<u8>(), size_of::<Layout>()) }.to_vec()
}

fn install(directory: &Path) -> Result<()> {
    // bpffs allows no dots in names.
    let mut unfinished = directory.as_os_str().to_owned();
    unfinished.push("-new");
    let unfinished = PathBuf::from(unfinished);
    remove_directory(&unfinished)?;
    fs::create_dir(&unfinished).map_err(EnforceError::io("create", &unfinished))?;
    let result = load_and_pin(&unfinished);
    if let Err(error) = result {
        remove_directory(&unfinished)?;
        return Err(error);
    }
    fs::rename(&unfinished, directory).map_err(EnforceError::io("rename", unfinished))
}

fn load_and_pin(directory: &Path) -> Result<()> {
    let btf = layout::running_btf()?;
    let layout = layout_bytes(&layout::resolve(&btf)?);
    let mut loader = loader(&layout);
    for name in MAPS {
        loader.map_pin_path(name, directory.join(name));
    }
    let mut object = loader.load(OBJECT)?;
    let aya_btf = AyaBtf::from_sys_fs().map_err(|_| EnforceError::Btf("it ends early or has an unknown type"))?;
    let mut programs = Vec::new();
    for (hook, program) in object.programs_mut() {
        let Program::Lsm(program) = program else { continue };
        if btf.has_hook(hook) {
            programs.push((hook, program));
        } else if !OPTIONAL.contains(&hook) {
            return Err(EnforceError::MissingHook(hook.to_owned()));
        }
    }
    load_all(&mut programs, &aya_btf)?;
    for (hook, program) in programs {
        let link = attach(program, hook)?;
        let name = format!("link_{hook}");
        link.pin(directory.join(&name)).map_err(pin_failed(&name))?;
    }
    Ok(())
}

/// Loads programs on all processors: most of the time of an installation is the verifier's.
fn load_all(programs: &mut [(&str, &mut Lsm)], btf: &AyaBtf) -> Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = programs.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let loading: Vec<_> = programs
            .chunks_mut(share)
            .map(|share| scope.spawn(move || share.iter_mut().try_for_each(|(hook, program)| load(program, hook, btf))))
            .collect();
        loading.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Loads one program.
fn load(program: &mut Lsm, hook: &str, btf: &AyaBtf) -> Result<()> {
    program.load(hook, btf).map_err(refused(hook))
}

/// Attaches one loaded program.
fn attach(program: &mut Lsm, hook: &str) -> Result<FdLink> {
    let link = program.attach().map_err(refused(hook))?;
    let link = program.take_link(link).map_err(refused(hook))?;
    Ok(link.into())
}

pub(super) fn refused(hook: &str) -> impl Fn(ProgramError) -> EnforceError {
    move |source| EnforceError::Program { hook: hook.to_owned(), source: Box::new(source) }
}

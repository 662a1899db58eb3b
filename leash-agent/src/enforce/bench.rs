//! The decision of the loaded program without a hook: for measuring it under the machine's own JIT, and for comparing it with the
//! same lines in userspace, also where LSM programs are refused.

use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya::programs::{Program, SchedClassifier};
use leash_common::event::Cause;
use leash_common::kind::Kind;
use leash_common::layout::Layout;
use leash_common::session::{Area, Scratch};
use leash_common::table::{Decision, INDEX_MASK, LEAF, LEAF_ALLOW, MAX_PATH_BYTES};

use super::error::{EnforceError, Result};
use super::event::Mode;
use super::{install, session, sys};

const REPEAT: u32 = 100_000;
/// The least that the kernel takes for a packet.
const PACKET: [u8; 64] = [0; 64];

/// The program that decides what userspace puts into its working memory.
pub struct TableBench {
    object: Ebpf,
}

/// An image that is installed for the program.
pub struct Installed<'a> {
    bench: &'a TableBench,
    _image: OwnedFd,
}

impl TableBench {
    /// Loads the program and its maps. Needs no LSM and no kernel structure.
    pub fn load() -> Result<Self> {
        let layout = install::layout_bytes(&Layout::default());
        let mut object = install::loader(&layout).load(install::OBJECT)?;
        let program = object.program_mut("leash_bench").ok_or(EnforceError::Image("the object has no measuring program"))?;
        let program: &mut SchedClassifier = program.try_into().map_err(refused)?;
        program.load().map_err(refused)?;
        Ok(Self { object })
    }

    fn map(&self, name: &str) -> Result<&MapData> {
        match self.object.map(name) {
            Some(Map::Array(data) | Map::ArrayOfMaps(data)) => Ok(data),
            _ => Err(EnforceError::Image("the object lacks a map")),
        }
    }

    fn program(&self) -> Result<BorrowedFd<'_>> {
        match self.object.program("leash_bench") {
            Some(Program::SchedClassifier(program)) => Ok(program.fd().map_err(refused)?.as_fd()),
            _ => Err(EnforceError::Image("the object has no measuring program")),
        }
    }

    /// Installs an image for the decisions that follow.
    pub fn install(&self, image: &[u64]) -> Result<Installed<'_>> {
        let map = session::load_image(image, Mode::Enforce, 1)?;
        session::install_inner(self.map("IMAGES")?.fd().as_fd(), 0, &map)?;
        Ok(Installed { bench: self, _image: map })
    }

    /// Mean duration of one `FileRead` decision on `path`, in nanoseconds, the harness's own included.
    pub fn nanoseconds(&self, image: &[u64], path: &[u8]) -> Result<f64> {
        let installed = self.install(image)?;
        installed.prepare(path, Kind::FileRead, 0)?;
        let (_, duration_ns) = sys::test_run(self.program()?, &PACKET, REPEAT)?;
        Ok(f64::from(duration_ns))
    }
}

fn refused(source: aya::programs::ProgramError) -> EnforceError {
    EnforceError::Program { hook: "none (measuring)".to_owned(), source: Box::new(source) }
}

impl Installed<'_> {
    /// Puts the question into the program's working memory.
    fn prepare(&self, path: &[u8], kind: Kind, class: u32) -> Result<()> {
        let mut memory = vec![0_u64; size_of::<Scratch>() / 8];
        // SAFETY: words are bytes; the slice covers exactly the vector.
        let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), size_of::<Scratch>()) };
        let start = MAX_PATH_BYTES.checked_sub(path.len()).ok_or(EnforceError::Image("the path is too long"))?;
        let mut put = |offset: usize, value: &[u8]| -> Result<()> {
            let end = offset + value.len();
            let target = bytes.get_mut(offset..end).ok_or(EnforceError::Image("the path is too long"))?;
            target.copy_from_slice(value);
            Ok(())
        };
        put(offset_of!(Scratch, start), &(start as u32).to_ne_bytes())?;
        put(offset_of!(Scratch, exe_is_path), &u32::from(kind as u8).to_ne_bytes())?;
        put(offset_of!(Scratch, class), &class.to_ne_bytes())?;
        put(offset_of!(Scratch, area) + offset_of!(Area, path) + start, path)?;
        sys::update_bytes(self.bench.map("SCRATCH")?.fd().as_fd(), &0_u32, &memory)
    }

    /// What the program decides on a path, or why it can't.
    pub fn decide(&self, path: &[u8], kind: Kind, class: u32) -> Result<std::result::Result<Decision, Cause>> {
        self.prepare(path, kind, class)?;
        let (leaf, _) = sys::test_run(self.bench.program()?, &PACKET, 1)?;
        if leaf & LEAF == 0 {
            return Ok(Err(Cause::from_number(leaf as u8)));
        }
        Ok(Ok(Decision { allow: leaf & LEAF_ALLOW != 0, reason: leaf & INDEX_MASK }))
    }
}

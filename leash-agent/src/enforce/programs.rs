//! The object's programs for cgroups, with the maps that they use, and nothing else of it.
//!
//! aya's loader reads the type information of the whole kernel before it can be told that these programs need none, asks the kernel
//! what it can do, and links the programs of LSM hooks, too: together that takes longer than the verifier does.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;

use aya::EbpfError;
use aya::programs::ProgramError;
use aya_obj::btf::BtfFeatures;
use aya_obj::generated::{bpf_attach_type, bpf_prog_type};
use aya_obj::{Map, Object, ProgramSection, VerifierLog};
use leash_common::layout::Layout;

use super::error::{EnforceError, Result};
use super::install::{self, refused};
use super::sys::{self, MapSpec, ProgramSpec};

/// Bytes for the verifier's words about a program that it refuses.
const LOG_BYTES: usize = 1 << 16;

/// Kernels with a supervisor have every kind of type information.
const KNOWN_TYPES: BtfFeatures = BtfFeatures::new(true, true, true, true, true, true, true, true);

/// A program that the kernel has verified.
pub(super) struct Verified {
    /// Its name in the object.
    pub name: String,
    /// Where it belongs.
    pub hook: bpf_attach_type,
    /// The program.
    pub program: OwnedFd,
}

/// The programs with their maps, which exist.
pub(super) struct Programs {
    object: Object,
    maps: HashMap<String, OwnedFd>,
}

/// What calls the programs of a section, and where; `None` for those of other backends.
fn hook(section: &ProgramSection) -> Option<(bpf_prog_type, bpf_attach_type)> {
    match section {
        ProgramSection::CgroupSockAddr { attach_type } => {
            Some((bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, (*attach_type).into()))
        }
        ProgramSection::CgroupSock { attach_type } => Some((bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK, (*attach_type).into())),
        ProgramSection::CgroupSkb { attach_type: Some(attach_type) } => {
            Some((bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB, (*attach_type).into()))
        }
        _ => None,
    }
}

impl Programs {
    /// Makes the maps of these names, with so many entries. The programs use no other one, but for their constants, and they need no
    /// structure of the kernel.
    pub(super) fn prepare(entries: &[(&str, u32)]) -> Result<Self> {
        let mut object = Object::parse(install::OBJECT).map_err(EbpfError::from)?;
        let layout = install::layout_bytes(&Layout::default());
        object.patch_map_data(HashMap::from([("LAYOUT", (layout.as_slice(), true))])).map_err(EbpfError::from)?;
        object.programs.retain(|_, program| hook(&program.section).is_some());
        let mut maps = HashMap::new();
        for (name, map) in &object.maps {
            let entries = entries.iter().find(|(wanted, _)| wanted == name).map(|&(_, entries)| entries);
            if let Some(entries) = entries.or((!map.data().is_empty()).then_some(1)) {
                maps.insert(name.clone(), create(name, map, entries)?);
            }
        }
        Ok(Self { object, maps })
    }

    /// A map by its name in the object.
    pub(super) fn map(&self, name: &str) -> Result<OwnedFd> {
        let map = self.maps.get(name).ok_or(EnforceError::Image("the object lacks a map"))?;
        map.try_clone().map_err(|source| EnforceError::Bpf { action: format!("share map `{name}`"), source })
    }

    /// Has the kernel verify the programs.
    pub(super) fn load(mut self) -> Result<Vec<Verified>> {
        let btf = match self.object.fixup_and_sanitize_btf(&KNOWN_TYPES).map_err(EbpfError::from)? {
            Some(btf) => Some(sys::load_btf(&btf.to_bytes())?),
            None => None,
        };
        self.link()?;
        let Self { object, maps: _maps } = &self;
        let load = |(name, program): (&String, &aya_obj::Program)| {
            let (kind, hook) = hook(&program.section).ok_or(EnforceError::Image("a program has no hook"))?;
            let function = object.functions.get(&program.function_key()).ok_or(EnforceError::Image("a program has no body"))?;
            let types = btf.as_ref().map(|btf| (btf.as_fd(), function.func_info.func_info.as_slice()));
            let license = &program.license;
            let program = verify(&ProgramSpec { name, kind, hook, instructions: &function.instructions, license, types })?;
            Ok(Verified { name: name.clone(), hook, program })
        };
        let programs: Vec<_> = object.programs.iter().collect();
        let share = programs.len().div_ceil(thread::available_parallelism().map_or(1, usize::from)).max(1);
        thread::scope(|scope| {
            let load = &load;
            let loading: Vec<_> = programs
                .chunks(share)
                .map(|share| scope.spawn(move || share.iter().map(|&program| load(program)).collect::<Result<Vec<_>>>()))
                .collect();
            let mut verified = Vec::new();
            for thread in loading {
                verified.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(verified)
        })
    }

    /// Puts descriptors of maps, and the functions that are called, into the programs.
    fn link(&mut self) -> Result<()> {
        let Self { object, maps } = self;
        let sections: HashSet<usize> = object.functions.keys().map(|&(section, _)| section).collect();
        let definitions = object.maps.clone();
        let descriptor = |name| maps.get(name).map_or(-1, AsRawFd::as_raw_fd);
        let all = definitions.iter().map(|(name, map)| (name.as_str(), descriptor(name), map));
        object.relocate_maps(all, &sections).map_err(EbpfError::from)?;
        Ok(object.relocate_calls(&sections).map_err(EbpfError::from)?)
    }
}

/// Makes a map as the object defines it; one with content is made with that.
fn create(name: &str, map: &Map, entries: u32) -> Result<OwnedFd> {
    let inner = match map.inner() {
        Some(inner) => Some(create("inner", &inner, inner.max_entries())?),
        None => None,
    };
    let made = sys::create_map(MapSpec {
        name,
        map_type: map.map_type(),
        key: map.key_size(),
        value: map.value_size(),
        entries,
        flags: map.map_flags(),
        inner: inner.as_ref().map(AsFd::as_fd),
    })?;
    if !map.data().is_empty() {
        sys::update_content(made.as_fd(), map.data())?;
        sys::freeze(made.as_fd())?;
    }
    Ok(made)
}

/// Loads a program; one that is refused a second time, to hear why.
fn verify(program: &ProgramSpec<'_>) -> Result<OwnedFd> {
    sys::load_program(program, &mut []).or_else(|_| {
        let mut log = vec![0; LOG_BYTES];
        sys::load_program(program, &mut log).map_err(|io_error| {
            let log = log.split(|&byte| byte == 0).next().unwrap_or_default();
            let verifier_log = VerifierLog::new(String::from_utf8_lossy(log).into_owned());
            refused(program.name)(ProgramError::LoadError { io_error, verifier_log })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_for_cgroups_has_a_hook_of_its_own() {
        let object = Object::parse(install::OBJECT).unwrap();
        let (ours, others): (Vec<_>, Vec<_>) = object.programs.iter().partition(|(_, program)| hook(&program.section).is_some());
        assert!(others.iter().all(|(name, _)| !name.starts_with("cgroup")), "{:?}", others.iter().map(|(name, _)| name));
        let hooks: HashSet<u32> =
            ours.iter().filter_map(|(_, program)| hook(&program.section)).map(|(_, hook)| hook as u32).collect();
        assert_eq!((ours.len(), hooks.len()), (8, 8));
    }
}

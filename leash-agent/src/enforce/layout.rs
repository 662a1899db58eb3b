//! Filling in the programs' `Layout` for the running kernel.

use std::fs;
use std::path::Path;

use leash_common::layout::{ARGUMENTS, Arguments, Layout, OFFSETS, Offsets};

use super::btf::Btf;
use super::error::{EnforceError, Result};

/// The kernel's BTF.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const SYMBOLS: &str = "/proc/kallsyms";

/// Reads the running kernel's BTF.
pub(super) fn running_btf() -> Result<Btf> {
    Btf::parse(&fs::read(VMLINUX).map_err(EnforceError::io("read", VMLINUX))?)
}

/// The layout of the running kernel, with a fresh key.
pub(super) fn resolve(btf: &Btf) -> Result<Layout> {
    let mut at = [0; OFFSETS.len()];
    for (slot, field) in at.iter_mut().zip(OFFSETS) {
        *slot = btf
            .offset(field.structure, field.member)
            .ok_or(EnforceError::MissingField { structure: field.structure, member: field.member })?;
    }
    // The programs read these in one piece.
    let pieces = [
        ("dentry", "d_parent", [("d_name.len", 12), ("d_name.name", 16)].as_slice()),
        ("mount", "mnt_parent", &[("mnt_mountpoint", 8)]),
    ];
    for (structure, first, others) in pieces {
        let first = btf.offset(structure, first);
        for &(member, distance) in others {
            if btf.offset(structure, member) != first.map(|first| first + distance) {
                return Err(EnforceError::Moved { structure, member });
            }
        }
    }
    let mut argument = [0; ARGUMENTS.len()];
    for (slot, wanted) in argument.iter_mut().zip(ARGUMENTS) {
        *slot = btf
            .parameter(wanted.hook, wanted.structure)
            .ok_or(EnforceError::MissingArgument { hook: wanted.hook, structure: wanted.structure })?;
    }
    // SAFETY: both are structures of as many `u32` as the tables have entries, in C layout.
    let (at, argument) = unsafe {
        (
            std::mem::transmute::<[u32; OFFSETS.len()], Offsets>(at),
            std::mem::transmute::<[u32; ARGUMENTS.len()], Arguments>(argument),
        )
    };
    let backing_user_path = btf.offset("backing_file", "user_path").unwrap_or(0);
    Ok(Layout { rename_lock: symbol("rename_lock")?, fold_key: random()?, at, argument, backing_user_path, reserved: 0 })
}

fn symbol(name: &'static str) -> Result<u64> {
    let symbols = fs::read_to_string(Path::new(SYMBOLS)).map_err(EnforceError::io("read", SYMBOLS))?;
    symbols
        .lines()
        .find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            (words.nth(1)? == name && words.next().is_none() && address != 0).then_some(address)
        })
        .ok_or(EnforceError::MissingSymbol(name))
}

/// A number that nobody can guess.
pub(super) fn random() -> Result<u64> {
    let mut key = [0; 8];
    let mut source = fs::File::open("/dev/urandom").map_err(EnforceError::io("open", "/dev/urandom"))?;
    std::io::Read::read_exact(&mut source, &mut key).map_err(EnforceError::io("read", "/dev/urandom"))?;
    Ok(u64::from_ne_bytes(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vec<u8> {
        fs::read(VMLINUX).expect("the kernel that runs the tests has BTF")
    }

    #[test]
    fn every_field_of_the_running_kernel_is_found() {
        let btf = Btf::parse(&bytes()).unwrap();
        for field in OFFSETS {
            assert!(btf.offset(field.structure, field.member).is_some(), "{}.{}", field.structure, field.member);
        }
        assert_eq!(btf.offset("path", "mnt"), Some(0));
        assert_eq!(btf.offset("path", "dentry"), Some(8));
    }

    #[test]
    fn a_field_that_is_not_there_stops_the_start_with_its_name() {
        let mut doctored = bytes();
        let wanted = b"\0mnt_mountpoint\0";
        let at = doctored.windows(wanted.len()).position(|window| window == wanted).unwrap();
        doctored[at + 1] = b'X';
        let error = resolve(&Btf::parse(&doctored).unwrap()).unwrap_err();
        assert!(error.to_string().contains("`mount.mnt_mountpoint`"), "{error}");
    }

    #[test]
    fn truncated_btf_is_refused() {
        let whole = bytes();
        assert!(Btf::parse(&whole[..whole.len() / 2]).is_err());
        assert!(Btf::parse(&[]).is_err());
    }
}

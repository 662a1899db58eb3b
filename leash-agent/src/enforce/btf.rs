//! A reader of the kernel's BTF: offsets of members, and parameters of LSM hooks.
//!
//! Only what the layout needs: types by name, members through anonymous structures, function prototypes
//! (`Documentation/bpf/btf.rst`).

use std::collections::HashMap;

use super::error::{EnforceError, Result};

const MAGIC: u16 = 0xeb9f;
/// What the name of a hook's function begins with. Others, tens of thousands, aren't kept.
const HOOK: &str = "bpf_lsm_";
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    size_or_type: u32,
    /// Offset of what follows the type, in the section of types.
    tail: usize,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn count(self) -> usize {
        (self.info & 0xffff) as usize
    }
}

/// Parsed BTF.
pub(super) struct Btf {
    types: Vec<Type>,
    section: Vec<u8>,
    strings: Vec<u8>,
    by_name: HashMap<(bool, String), u32>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

impl Btf {
    /// Parses `bytes`, the content of `/sys/kernel/btf/vmlinux`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        Self::try_parse(bytes).ok_or(EnforceError::Btf("it ends early or has an unknown type"))
    }

    fn try_parse(bytes: &[u8]) -> Option<Self> {
        if word(bytes, 0)? as u16 != MAGIC {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let part = |offset: u32, length: u32| {
            let start = header.checked_add(offset as usize)?;
            bytes.get(start..start.checked_add(length as usize)?)
        };
        let section = part(word(bytes, 8)?, word(bytes, 12)?)?.to_vec();
        let strings = part(word(bytes, 16)?, word(bytes, 20)?)?.to_vec();
        let mut btf = Self { types: Vec::new(), section, strings, by_name: HashMap::new() };
        let mut at = 0;
        while at < btf.section.len() {
            let info = word(&btf.section, at + 4)?;
            let found = Type { name: word(&btf.section, at)?, info, size_or_type: word(&btf.section, at + 8)?, tail: at + 12 };
            at += 12
                + match found.kind() {
                    1 | 14 | 17 => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | 15 | 19 => found.count() * 12,
                    6 | KIND_FUNC_PROTO => found.count() * 8,
                    2..=19 => 0,
                    _ => return None,
                };
            btf.types.push(found);
            let is_function = found.kind() == KIND_FUNC;
            if is_function || found.kind() == KIND_STRUCT {
                let name = btf.string(found.name)?;
                if !is_function || name.starts_with(HOOK) {
                    let key = (is_function, name.to_owned());
                    btf.by_name.entry(key).or_insert(btf.types.len() as u32);
                }
            }
        }
        Some(btf)
    }

    fn string(&self, offset: u32) -> Option<&str> {
        let rest = self.strings.get(offset as usize..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }

    /// Type number `id`, behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..32 {
            let found = *self.types.get((id as usize).checked_sub(1)?)?;
            match found.kind() {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => id = found.size_or_type,
                _ => return Some(found),
            }
        }
        None
    }

    /// Whether the kernel has this LSM hook.
    pub(super) fn has_hook(&self, hook: &str) -> bool {
        self.by_name.contains_key(&(true, format!("{HOOK}{hook}")))
    }

    /// Byte offset of `path` (members separated by dots) in `structure`.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut found = self.resolve(*self.by_name.get(&(false, structure.to_owned()))?)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, member) = self.member(found, name, 0)?;
            bits += offset;
            found = self.resolve(member)?;
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Bit offset and type of a member, looked for in anonymous members too.
    fn member(&self, owner: Type, wanted: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > 8 || !matches!(owner.kind(), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for i in 0..owner.count() {
            let at = owner.tail + i * 12;
            let name = self.string(word(&self.section, at)?)?;
            let member = word(&self.section, at + 4)?;
            let mut offset = word(&self.section, at + 8)?;
            if owner.info >> 31 != 0 {
                if offset >> 24 != 0 && name == wanted {
                    return None; // A bit field can't be read by bytes.
                }
                offset &= 0x00ff_ffff;
            }
            if name == wanted {
                return Some((offset, member));
            }
            if name.is_empty()
                && let Some((inner, found)) = self.resolve(member).and_then(|owner| self.member(owner, wanted, depth + 1))
            {
                return Some((offset + inner, found));
            }
        }
        None
    }

    /// Position of the first parameter of a hook that points to `structure`.
    pub(super) fn parameter(&self, hook: &str, structure: &str) -> Option<u32> {
        let function = self.resolve(*self.by_name.get(&(true, format!("{HOOK}{hook}")))?)?;
        let prototype = self.resolve(function.size_or_type)?;
        (0..prototype.count()).find_map(|i| {
            let pointer = self.resolve(word(&self.section, prototype.tail + i * 8 + 4)?)?;
            if pointer.kind() != KIND_PTR {
                return None;
            }
            let target = self.resolve(pointer.size_or_type)?;
            (target.kind() == KIND_STRUCT && self.string(target.name)? == structure).then_some(i as u32)
        })
    }
}

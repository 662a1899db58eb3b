//! What policies ask of a request, taken apart into atoms.
//!
//! An atom is a set of values of one dimension: a set of texts, of addresses or of ports. Atoms only partition. Whether a policy
//! is satisfied is always evaluated by Cedar, on one witness of each combination; what must hold is that a policy can see a
//! request only through its atoms.

mod arithmetic;
mod attribute;
mod collect;
mod constant;
mod literal;
mod makeup;
mod scope;

use std::net::IpAddr;

use leash_common::kind::{Kind, ResourceType};

use crate::diagnostic::Diagnostic;
use crate::fast::Interner;
use crate::parse::{Policy, Sources};
use crate::world::World;

/// A piece of a text pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Piece {
    /// This byte.
    Byte(u8),
    /// Any bytes, also none.
    Any,
    /// Any bytes but slashes, also none.
    Part,
}

/// A set of texts, by a pattern that the whole text must match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TextLeaf {
    /// The pattern is about the bytes after the last slash, instead of all.
    pub(crate) name: bool,
    pub(crate) pieces: Vec<Piece>,
}

/// A range of addresses of one family, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IpRange {
    pub(crate) v6: bool,
    pub(crate) low: u128,
    pub(crate) high: u128,
}

/// A range of ports, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortRange {
    pub(crate) low: u16,
    pub(crate) high: u16,
}

/// A set of values of one dimension, as the union of simpler ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Atom {
    Text(Vec<TextLeaf>),
    Exe(Vec<TextLeaf>),
    Ip(Vec<IpRange>),
    Port(Vec<PortRange>),
}

/// The distinct atoms of each dimension, of all policies.
pub(crate) struct Atoms {
    pub(crate) text: Interner<Vec<TextLeaf>>,
    pub(crate) exe: Interner<Vec<TextLeaf>>,
    pub(crate) ip: Interner<Vec<IpRange>>,
    pub(crate) port: Interner<Vec<PortRange>>,
}

impl Atoms {
    pub(crate) fn new() -> Self {
        Self { text: Interner::new(), exe: Interner::new(), ip: Interner::new(), port: Interner::new() }
    }
}

/// Through which atoms one policy sees a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The kinds that its scope's action admits, a bit a kind.
    pub(crate) kinds: u32,
    /// Whether its conditions tell actions apart.
    pub(crate) action: bool,
    /// Whether it sees `resource.protocol`.
    pub(crate) protocol: bool,
    /// The type that its scope asks for; `None` for any.
    pub(crate) types: Option<Vec<ResourceType>>,
    /// Indices into [`Atoms`], without duplicates.
    pub(crate) text: Vec<u32>,
    pub(crate) exe: Vec<u32>,
    pub(crate) ip: Vec<u32>,
    pub(crate) port: Vec<u32>,
}

impl Seen {
    /// Adds an atom of this policy. The empty set partitions nothing.
    fn add(&mut self, atoms: &mut Atoms, atom: Atom) {
        if matches!(&atom, Atom::Text(leaves) | Atom::Exe(leaves) if leaves.is_empty())
            || matches!(&atom, Atom::Ip(ranges) if ranges.is_empty())
            || matches!(&atom, Atom::Port(ranges) if ranges.is_empty())
        {
            return;
        }
        let (list, number) = match atom {
            Atom::Text(leaves) => (&mut self.text, atoms.text.intern(leaves)),
            Atom::Exe(leaves) => (&mut self.exe, atoms.exe.intern(leaves)),
            Atom::Ip(ranges) => (&mut self.ip, atoms.ip.intern(ranges)),
            Atom::Port(ranges) => (&mut self.port, atoms.port.intern(ranges)),
        };
        if !list.contains(&number) {
            list.push(number);
        }
    }

    /// Whether the scope admits the kind.
    pub(crate) fn admits(&self, kind: Kind) -> bool {
        self.kinds & kind.bit() != 0 && self.types.as_ref().is_none_or(|types| types.contains(&kind.resource_type()))
    }
}

/// The most atoms of one dimension in one policy; a set of them is a machine word.
pub(crate) const MAX_ATOMS: usize = 64;

/// Takes all policies apart.
pub(crate) fn collect(world: &World, sources: &Sources, policies: &[Policy], faults: &mut Vec<Diagnostic>) -> (Atoms, Vec<Seen>) {
    let mut atoms = Atoms::new();
    let mut scopes = scope::Scopes::new(world);
    let mut all = Vec::with_capacity(policies.len());
    for policy in policies {
        let mut seen = Seen::default();
        scopes.read(sources, policy, &mut seen, faults);
        let mut walk = collect::Walk::new(world, sources, policy, &mut atoms, &mut seen, faults);
        walk.policy();
        let most = [&seen.text, &seen.exe, &seen.ip, &seen.port].map(Vec::len).into_iter().max().unwrap_or(0);
        if most > MAX_ATOMS {
            let message = format!("this policy has {most} separate conditions on one attribute; {MAX_ATOMS} is the limit");
            let help = "join alternatives with `||` or in a set, or split the policy";
            faults.push(sources.complain(policy.place, policy.ast.loc(), message, "this policy").help(help));
        }
        all.push(seen);
    }
    (atoms, all)
}

/// A pattern for exactly this text.
pub(crate) fn exactly(text: &str) -> TextLeaf {
    TextLeaf { name: false, pieces: text.bytes().map(Piece::Byte).collect() }
}

/// The texts that are in `Dir::"path"`: the path itself and all below.
pub(crate) fn within(path: &str) -> [TextLeaf; 2] {
    let mut below = exactly(path);
    if path != "/" {
        below.pieces.push(Piece::Byte(b'/'));
    }
    below.pieces.push(Piece::Any);
    [exactly(path), below]
}

/// The addresses of `address/prefix`.
pub(crate) fn network(address: IpAddr, prefix: u8) -> Option<IpRange> {
    let (v6, bits, width) = match address {
        IpAddr::V4(address) => (false, u128::from(u32::from(address)), 32_u8),
        IpAddr::V6(address) => (true, u128::from(address), 128),
    };
    let host_bits = width.checked_sub(prefix)?;
    let hosts = if host_bits == 128 { u128::MAX } else { (1_u128 << host_bits) - 1 };
    Some(IpRange { v6, low: bits & !hosts, high: bits | hosts })
}

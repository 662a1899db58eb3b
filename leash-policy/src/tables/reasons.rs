//! Sets of determining policies, by number.
//!
//! Most sets differ in few policies from the set that holds where no condition does, so a set is kept as that one and the
//! policies in which it differs.

use crate::fast::Interner;

/// All sets. Number 0 is the empty one.
pub(crate) struct Reasons {
    bases: Interner<Box<[u32]>>,
    sets: Interner<(u32, Box<[u32]>)>,
}

impl Reasons {
    pub(crate) fn new() -> Self {
        let mut reasons = Self { bases: Interner::new(), sets: Interner::new() };
        let empty = reasons.base(Vec::new());
        reasons.number(empty, Vec::new());
        reasons
    }

    /// Names a set to start from.
    pub(crate) fn base(&mut self, mut policies: Vec<u32>) -> u32 {
        policies.sort_unstable();
        self.bases.intern(policies.into())
    }

    /// The set `base` with these policies added, or removed if they are in it.
    pub(crate) fn number(&mut self, base: u32, mut toggled: Vec<u32>) -> u32 {
        toggled.sort_unstable();
        self.sets.intern((base, toggled.into()))
    }

    /// Whether a set to start from holds a policy.
    pub(crate) fn holds(&self, base: u32, policy: u32) -> bool {
        self.bases.get(base).is_some_and(|base| base.binary_search(&policy).is_ok())
    }

    /// The policies of a set, sorted.
    pub(crate) fn policies(&self, number: u32) -> Vec<u32> {
        let Some((base, toggled)) = self.sets.get(number) else { return Vec::new() };
        let base = self.bases.get(*base).map_or(&[][..], |base| base);
        let mut all: Vec<u32> = base.iter().copied().filter(|policy| toggled.binary_search(policy).is_err()).collect();
        all.extend(toggled.iter().copied().filter(|policy| base.binary_search(policy).is_err()));
        all.sort_unstable();
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }
}

//! Policies that can stand for each other, where telling them apart would take too much room.
//!
//! `n` separate patterns such as `*a*`, `*b*` can match together in any of `2^n` combinations, and the exact set of determining
//! policies needs each of them. The verdict doesn't: of policies that differ in their pattern alone, it matters only whether any
//! pattern matches. Such patterns are *alike*. The automaton then follows, as soon as one of them has matched, no other one of the
//! same group, so that classes hold a part of the true atoms: at least one of each group of which any is true.
//!
//! What must hold, so that verdicts stay exact: all members of a group are the same function of their pattern and of everything
//! else, and a match never makes one of them less satisfied. Cedar says whether that is so, see `units`; here only candidates are
//! found.

use std::collections::BTreeMap;

use crate::atoms::{Piece, Seen, TextLeaf};
use crate::fast::FastMap;
use crate::parse::Policy;

/// What members of a group have in common besides the pattern.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    permits: bool,
    kinds: u32,
    action: bool,
    types: Option<Vec<leash_common::kind::ResourceType>>,
    exe: Vec<u32>,
    /// The condition without its literals.
    condition: String,
}

/// The groups.
#[derive(Debug)]
pub(crate) struct Alike {
    /// For each text atom the first atom of its group; an atom that is alone is its own group.
    pub(crate) groups: Vec<u32>,
    /// For each policy that may go unnamed, the number of its group and shape.
    pub(crate) slots: Vec<Option<u32>>,
}

impl Alike {
    /// Every atom alone.
    pub(crate) fn none(atoms: usize) -> Self {
        Self { groups: (0..atoms as u32).collect(), slots: Vec::new() }
    }

    /// Groups the patterns that multiply; `None` if no two are alike.
    pub(crate) fn find(policies: &[Policy], seen: &[Seen], atoms: &[Vec<TextLeaf>]) -> Option<Self> {
        let mut shapes: BTreeMap<Shape, u32> = BTreeMap::new();
        // For each atom the shapes of its policies; `None` if one of them sees more than this atom.
        let mut users: FastMap<u32, Option<Vec<u32>>> = FastMap::default();
        let mut shape_of = vec![None; policies.len()];
        for ((policy, seen), shape) in policies.iter().zip(seen).zip(&mut shape_of) {
            let number = Shape::of(policy, seen).map(|shape| {
                let next = shapes.len() as u32;
                *shapes.entry(shape).or_insert(next)
            });
            *shape = number;
            for atom in &seen.text {
                let users = users.entry(*atom).or_insert_with(|| Some(Vec::new()));
                match number {
                    Some(number) => users.iter_mut().for_each(|users| users.push(number)),
                    None => *users = None,
                }
            }
        }
        let mut groups: BTreeMap<(bool, Vec<u32>), u32> = BTreeMap::new();
        let mut alike = Self::none(atoms.len());
        let mut sizes = vec![0_u32; atoms.len()];
        for ((number, leaves), group) in (0..).zip(atoms).zip(&mut alike.groups) {
            let (Some(Some(users)), Some(names)) = (users.get_mut(&number), multiplies(leaves)) else { continue };
            users.sort_unstable();
            users.dedup();
            *group = *groups.entry((names, users.clone())).or_insert(number);
            if let Some(size) = sizes.get_mut(*group as usize) {
                *size += 1;
            }
        }
        let mut slots: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for (seen, shape) in seen.iter().zip(shape_of) {
            let group = seen.text.first().and_then(|atom| alike.groups.get(*atom as usize)).copied();
            let shared = group.filter(|group| sizes.get(*group as usize).is_some_and(|size| *size > 1));
            alike.slots.push(shared.zip(shape).map(|slot| {
                let next = slots.len() as u32;
                *slots.entry(slot).or_insert(next)
            }));
        }
        (!slots.is_empty()).then_some(alike)
    }

    /// The group and shape of a policy that may go unnamed.
    pub(crate) fn slot(&self, policy: usize) -> Option<u32> {
        self.slots.get(policy).copied().flatten()
    }

    /// The group of an atom.
    pub(crate) fn group(&self, atom: u32) -> u32 {
        self.groups.get(atom as usize).copied().unwrap_or(atom)
    }
}

impl Shape {
    /// The shape of a policy that sees one text atom, and besides that at most the action and the program.
    fn of(policy: &Policy, seen: &Seen) -> Option<Self> {
        if seen.text.len() != 1 || !seen.ip.is_empty() || !seen.port.is_empty() || seen.protocol {
            return None;
        }
        Some(Self {
            permits: policy.reference.effect == crate::request::Effect::Permit,
            kinds: seen.kinds,
            action: seen.action,
            types: seen.types.clone(),
            exe: seen.exe.clone(),
            condition: without_literals(&policy.ast.condition().to_string()),
        })
    }
}

/// The text with nothing between its quotes.
fn without_literals(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => {
                inside = !inside;
                kept.push('"');
            }
            _ if inside => {}
            character => kept.push(character),
        }
    }
    kept
}

/// Whether an atom's patterns can multiply with others, and if so whether they are about names.
fn multiplies(leaves: &[TextLeaf]) -> Option<bool> {
    let names = leaves.first()?.name;
    let inner = |leaf: &TextLeaf| {
        let stars = leaf.pieces.iter().filter(|piece| !matches!(piece, Piece::Byte(_))).count();
        stars > 1 || stars == 1 && leaf.name
    };
    let of_one_kind = leaves.iter().all(|leaf| leaf.name == names && !(names && leaf.pieces.contains(&Piece::Byte(b'/'))));
    (of_one_kind && leaves.iter().any(inner)).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_taken_out_of_a_condition() {
        assert_eq!(without_literals(r#"a like "x\"y*" && b == "z""#), r#"a like "" && b == """#);
    }
}

//! Policies that can stand for each other, where telling them apart would take too much room.
//!
//! `n` separate patterns such as `*a*`, `*b*` can match together in any of `2^n` combinations, and the exact set of determining
//! policies needs each of them; a thousand directories and a thousand names need a million. The verdict doesn't: of policies that
//! differ in their pattern alone, it matters only whether any pattern matches. Such patterns are *alike*, a group. The automaton
//! then follows, as soon as one of them has matched, no other one of the same group, so that classes hold a part of the true atoms:
//! at least one of each group of which any is true.
//!
//! A group can leave nothing to be known of others as well: it *absorbs* them. Where a policy forbids for its pattern alone, no
//! other policy on the same kinds of requests matters any more; where one permits, no other permit does.
//!
//! What must hold, so that verdicts stay exact: all members of a group are the same function of their pattern and of everything
//! else, and a match never makes one of them less satisfied; one that absorbs others is satisfied wherever its pattern matches.
//! Cedar says whether that is so, see `units`; here only candidates are found.

use std::collections::BTreeMap;

use cedar_policy_core::ast::{BinaryOp, EntityUIDEntry, Expr, ExprKind};
use leash_common::kind::{Kind, ResourceType};

use crate::atoms::{Piece, Seen, TextLeaf};
use crate::fast::FastMap;
use crate::parse::Policy;
use crate::request::{Effect, Resource};
use crate::world::{World, context, is_true, resource_entity};

/// What members of a group have in common besides the pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// Satisfied by these kinds of requests wherever the pattern matches, and by nothing else.
    Plain { permits: bool, kinds: u32 },
    /// Anything else.
    Formed { permits: bool, kinds: u32, action: bool, types: Option<Vec<ResourceType>>, exe: Vec<u32>, condition: String },
}

/// More relations between groups than this aren't looked for.
const MAX_RELATIONS: usize = 1 << 20;

/// The groups.
#[derive(Debug)]
pub(crate) struct Alike {
    /// For each text atom the first atom of its group; an atom that is alone is its own group.
    pub(crate) groups: Vec<u32>,
    /// For the first atom of each group the groups that it absorbs, its own among them; an empty list stands for its own alone.
    absorbed: Vec<Box<[u32]>>,
    /// For each policy that may go unnamed, the number of its group and shape.
    pub(crate) slots: Vec<Option<u32>>,
    /// For each policy its shape, if it has one.
    pub(crate) shapes: Vec<Option<Shape>>,
    /// For each of these numbers the kinds of requests that the pattern alone satisfies, if it does.
    plain: Vec<Option<u32>>,
}

impl Alike {
    /// Every atom alone.
    pub(crate) fn none(atoms: usize) -> Self {
        Self {
            groups: (0..atoms as u32).collect(),
            absorbed: Vec::new(),
            slots: Vec::new(),
            shapes: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// Groups the patterns that multiply; `None` if no two are alike.
    pub(crate) fn find(world: &World, policies: &[Policy], seen: &[Seen], atoms: &[Vec<TextLeaf>]) -> Option<Self> {
        let mut numbers: BTreeMap<Shape, u32> = BTreeMap::new();
        let mut plain: BTreeMap<Shape, Option<u32>> = BTreeMap::new();
        // For each atom the shapes of its policies; `None` if one of them sees more than this atom.
        let mut users: FastMap<u32, Option<Vec<u32>>> = FastMap::default();
        let mut shape_of = vec![None; policies.len()];
        for ((policy, seen), shape) in policies.iter().zip(seen).zip(&mut shape_of) {
            *shape = Shape::of(policy, seen).map(|shape| {
                let leaves = seen.text.first().and_then(|atom| atoms.get(*atom as usize));
                let kinds = *plain
                    .entry(shape.clone())
                    .or_insert_with(|| plain_kinds(world, policy, seen, leaves.map_or(&[], Vec::as_slice)));
                let shape = kinds.map_or(shape, |kinds| Shape::Plain { permits: permits(policy), kinds });
                let next = numbers.len() as u32;
                *numbers.entry(shape).or_insert(next)
            });
            for atom in &seen.text {
                let users = users.entry(*atom).or_insert_with(|| Some(Vec::new()));
                match shape {
                    Some(number) => users.iter_mut().for_each(|users| users.push(*number)),
                    None => *users = None,
                }
            }
        }
        let mut shapes: Vec<(u32, Shape)> = numbers.into_iter().map(|(shape, number)| (number, shape)).collect();
        shapes.sort_unstable_by_key(|(number, _)| *number);
        let is_plain = |shape: &u32| matches!(shapes.get(*shape as usize), Some((_, Shape::Plain { .. })));
        let mut groups: BTreeMap<(Option<bool>, Vec<u32>), u32> = BTreeMap::new();
        let mut alike = Self::none(atoms.len());
        let mut shared = vec![false; atoms.len()];
        for ((number, leaves), group) in (0..).zip(atoms).zip(&mut alike.groups) {
            let Some(Some(users)) = users.get_mut(&number) else { continue };
            users.sort_unstable();
            users.dedup();
            let names = match users.iter().all(is_plain) {
                true => None,
                false => match multiplies(leaves) {
                    Some(names) => Some(names),
                    None => continue,
                },
            };
            *group = *groups.entry((names, users.clone())).or_insert(number);
            if let Some(shared) = shared.get_mut(*group as usize) {
                *shared = *group != number || *shared;
            }
        }
        alike.relate(&groups, &shapes, &mut shared);
        let mut slots: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for (seen, shape) in seen.iter().zip(&shape_of) {
            let group = seen.text.first().and_then(|atom| alike.groups.get(*atom as usize)).copied();
            let group = group.filter(|group| shared.get(*group as usize) == Some(&true));
            alike.slots.push(group.zip(*shape).map(|slot| {
                let next = slots.len() as u32;
                *slots.entry(slot).or_insert_with(|| {
                    alike.plain.push(match shapes.get(slot.1 as usize) {
                        Some((_, Shape::Plain { kinds, .. })) => Some(*kinds),
                        _ => None,
                    });
                    next
                })
            }));
        }
        let shape = |shape: &Option<u32>| Some(shapes.get((*shape)? as usize)?.1.clone());
        alike.shapes = shape_of.iter().map(shape).collect();
        (!slots.is_empty()).then_some(alike)
    }

    /// Whether any two patterns can match together in more combinations than their number.
    pub(crate) fn any_multiplies(atoms: &[Vec<TextLeaf>]) -> bool {
        atoms.iter().filter(|leaves| multiplies(leaves).is_some()).count() > 1
    }

    /// Finds which groups absorb which.
    fn relate(&mut self, groups: &BTreeMap<(Option<bool>, Vec<u32>), u32>, shapes: &[(u32, Shape)], shared: &mut [bool]) {
        let shapes_of = |users: &[u32]| -> Vec<&Shape> {
            users.iter().filter_map(|user| shapes.get(*user as usize)).map(|(_, shape)| shape).collect()
        };
        let absorbing: Vec<(u32, Vec<&Shape>)> = (groups.iter().filter(|((names, _), _)| names.is_none()))
            .map(|((_, users), group)| (*group, shapes_of(users)))
            .collect();
        if absorbing.len() * groups.len() > MAX_RELATIONS {
            return;
        }
        self.absorbed = vec![Box::default(); self.groups.len()];
        for (group, own) in absorbing {
            let absorbs = |users: &[u32]| shapes_of(users).into_iter().all(|other| own.iter().any(|own| own.absorbs(other)));
            let absorbed: Vec<u32> =
                groups.iter().filter(|((_, users), other)| **other == group || absorbs(users)).map(|(_, other)| *other).collect();
            for other in absorbed.iter().filter(|other| **other != group) {
                if let Some(shared) = shared.get_mut(*other as usize) {
                    *shared = true;
                }
            }
            if let Some(place) = self.absorbed.get_mut(group as usize) {
                *place = absorbed.into();
            }
        }
    }

    /// The group and shape of a policy that may go unnamed.
    pub(crate) fn slot(&self, policy: usize) -> Option<u32> {
        self.slots.get(policy).copied().flatten()
    }

    /// The kinds of requests that the policies of a slot are satisfied by for their pattern alone, if that is how they are.
    pub(crate) fn plain(&self, slot: u32) -> Option<u32> {
        self.plain.get(slot as usize).copied().flatten()
    }

    /// The groups of which nothing more need be known where an atom of `group` is true.
    pub(crate) fn absorbed(&self, group: u32) -> &[u32] {
        match self.absorbed.get(group as usize) {
            Some(absorbed) if !absorbed.is_empty() => absorbed,
            _ => self.groups.get(group as usize..=group as usize).unwrap_or_default(),
        }
    }

    /// Of atoms that are true keeps those of which something need be known beside the others; where either of two will do, the first.
    pub(crate) fn keep_needed(&self, atoms: &mut Vec<u32>) {
        if self.slots.is_empty() || atoms.len() < 2 {
            return;
        }
        // What is left after the first round absorbs nothing that comes later, but may what comes before.
        for _ in 0..2 {
            let mut known: FastMap<u32, ()> = FastMap::default();
            atoms.retain(|atom| {
                let needed = !known.contains_key(&self.group(*atom));
                if needed {
                    known.extend(self.absorbed(self.group(*atom)).iter().map(|group| (*group, ())));
                }
                needed
            });
            atoms.reverse();
        }
    }

    /// The group of an atom.
    pub(crate) fn group(&self, atom: u32) -> u32 {
        self.groups.get(atom as usize).copied().unwrap_or(atom)
    }
}

fn permits(policy: &Policy) -> bool {
    policy.reference.effect == Effect::Permit
}

impl Shape {
    /// The shape of a policy that sees one text atom, and besides that at most the action and the program.
    fn of(policy: &Policy, seen: &Seen) -> Option<Self> {
        if seen.text.len() != 1 || !seen.ip.is_empty() || !seen.port.is_empty() || seen.protocol {
            return None;
        }
        Some(Self::Formed {
            permits: permits(policy),
            kinds: seen.kinds,
            action: seen.action,
            types: seen.types.clone(),
            exe: seen.exe.clone(),
            condition: without_literals(&policy.ast.condition().to_string()),
        })
    }

    /// Whether nothing need be known of a policy of shape `other` where one of this shape has matched.
    fn absorbs(&self, other: &Self) -> bool {
        let Self::Plain { permits, kinds } = self else { return false };
        let (Self::Plain { permits: others, kinds: of_other } | Self::Formed { permits: others, kinds: of_other, .. }) = other;
        of_other & !kinds == 0 && (!permits || *others)
    }
}

/// The kinds of requests that the policy is satisfied by where its pattern matches, if by its form it is satisfied there alone.
fn plain_kinds(world: &World, policy: &Policy, seen: &Seen, leaves: &[TextLeaf]) -> Option<u32> {
    let admitted = Kind::ALL.into_iter().filter(|kind| seen.admits(*kind));
    if seen.action || !seen.exe.is_empty() || !policy.ast.non_scope_constraints().is_none_or(is_conjunction) {
        return None;
    }
    let leaf = leaves.first()?;
    let literal = leaf.pieces.iter().filter_map(|piece| if let Piece::Byte(byte) = piece { Some(*byte) } else { None });
    let text = String::from_utf8(literal.collect()).ok()?;
    // A file's path begins with a slash; one before a name, or before what a `*` may match, keeps the match.
    let text = if text.starts_with('/') && !leaf.name { text } else { format!("/{text}") };
    let condition = policy.ast.condition();
    let mut kinds = 0;
    for kind in admitted {
        let resource = match kind.resource_type() {
            ResourceType::File => Resource::File { path: text.clone() },
            ResourceType::Dir => Resource::Dir { path: text.clone() },
            ResourceType::UnixSocket => Resource::UnixSocket { path: text.clone() },
            _ => continue,
        };
        let entity = resource_entity(&resource).ok()?;
        let asked = EntityUIDEntry::known(entity.uid().clone(), None);
        let entities = world.with_resources([entity]).ok()?;
        if world.evaluate(&entities, &condition, kind, &asked, &context("/")).as_ref().is_ok_and(is_true) {
            kinds |= kind.bit();
        }
    }
    (kinds != 0).then_some(kinds)
}

/// Whether a condition is a conjunction of tests of which none is the opposite of a pattern: it then holds where all of them do.
fn is_conjunction(e: &Expr) -> bool {
    match e.expr_kind() {
        ExprKind::And { left, right } => is_conjunction(left) && is_conjunction(right),
        ExprKind::Or { .. } => is_disjunction(e),
        ExprKind::Is { .. } | ExprKind::HasAttr { .. } | ExprKind::Lit(_) => true,
        _ => is_test(e),
    }
}

fn is_disjunction(e: &Expr) -> bool {
    match e.expr_kind() {
        ExprKind::Or { left, right } => is_disjunction(left) && is_disjunction(right),
        _ => is_test(e),
    }
}

fn is_test(e: &Expr) -> bool {
    let is_operand = |e: &Expr| {
        let simple =
            |e: &Expr| matches!(e.expr_kind(), ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::GetAttr { .. } | ExprKind::Set(_));
        e.subexpressions().all(simple)
    };
    match e.expr_kind() {
        ExprKind::Like { expr, .. } => is_operand(expr),
        ExprKind::BinaryApp { op: BinaryOp::Eq | BinaryOp::In | BinaryOp::Contains, arg1, arg2 } => {
            is_operand(arg1) && is_operand(arg2)
        }
        _ => false,
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

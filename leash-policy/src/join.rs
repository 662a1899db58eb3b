//! Permits that are told apart no longer, where even one name of each group would take too much room.
//!
//! A thousand directories that are permitted, each by a policy of its own, and a thousand names that are forbidden in all of them,
//! need a state for each pair: at the end of a name that isn't forbidden the automaton must still know the directory, to name its
//! permit. Joined with `||` the permits are one policy, which Cedar satisfies exactly where it satisfies one of them. Then the
//! verdict stays exact, a denial names its policies as before, and what is allowed by a joined permit goes without a name.

use std::collections::BTreeMap;

use cedar_policy_core::ast::Expr;

use crate::alike::{Alike, Shape};
use crate::atoms::{Seen, TextLeaf};

/// The policies with some of them joined.
pub(crate) struct Joined {
    pub(crate) seen: Vec<Seen>,
    pub(crate) atoms: Vec<Vec<TextLeaf>>,
    pub(crate) conditions: Vec<Expr>,
    /// For each policy whether it is one of those that were joined.
    pub(crate) members: Vec<bool>,
}

impl Joined {
    /// Joins permits that are satisfied by the same kinds of requests for their pattern alone; `None` if there are no two such.
    pub(crate) fn find(alike: &Alike, seen: &[Seen], atoms: &[Vec<TextLeaf>], conditions: &[Expr]) -> Option<Self> {
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (policy, shape) in alike.shapes.iter().enumerate() {
            if let Some(Shape::Plain { permits: true, kinds }) = shape {
                groups.entry(*kinds).or_default().push(policy);
            }
        }
        groups.retain(|_, members| members.len() > 1);
        if groups.is_empty() {
            return None;
        }
        let mut joined = Self {
            seen: seen.to_vec(),
            atoms: atoms.to_vec(),
            conditions: conditions.to_vec(),
            members: vec![false; seen.len()],
        };
        for (kinds, members) in groups {
            let own = |policy: &usize| seen.get(*policy).into_iter().flat_map(|seen| &seen.text);
            let leaves: Vec<TextLeaf> =
                members.iter().flat_map(own).filter_map(|atom| atoms.get(*atom as usize)).flatten().cloned().collect();
            let all: Vec<Expr> = members.iter().filter_map(|policy| conditions.get(*policy)).cloned().collect();
            for policy in &members {
                if let (Some(seen), Some(member)) = (joined.seen.get_mut(*policy), joined.members.get_mut(*policy)) {
                    *seen = Seen::default();
                    *member = true;
                }
            }
            // The first one stands for all.
            let first = members.first().copied().unwrap_or_default();
            if let (Some(seen), Some(condition)) = (joined.seen.get_mut(first), joined.conditions.get_mut(first)) {
                *seen = Seen { kinds, text: vec![joined.atoms.len() as u32], ..Seen::default() };
                *condition = any(all);
            }
            joined.atoms.push(leaves);
        }
        Some(joined)
    }
}

/// The disjunction of conditions, no deeper than need be.
fn any(mut conditions: Vec<Expr>) -> Expr {
    while conditions.len() > 1 {
        let mut pairs = Vec::with_capacity(conditions.len().div_ceil(2));
        let mut rest = conditions.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => Expr::or(left, right),
                None => left,
            });
        }
        conditions = pairs;
    }
    conditions.pop().unwrap_or_else(|| Expr::val(false))
}

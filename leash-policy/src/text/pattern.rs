//! What follows the first `*` of patterns: positions, and sets of positions with their transitions.

use std::rc::Rc;

use crate::atoms::Piece;
use crate::fast::{FastMap, Interner};

/// What a position passes over without moving on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stay {
    Never,
    /// On any byte but a slash.
    Part,
    /// On any byte.
    Any,
}

/// One place in a pattern.
#[derive(Clone, Copy, Debug)]
struct Position {
    atom: u32,
    stay: Stay,
    /// The byte that leads to the following position; `None` at the pattern's end.
    byte: Option<u8>,
    /// Whether the pattern is about names, so that a slash ends it.
    name: bool,
    /// What matches from here on; equal numbers match the same.
    tail: u32,
    /// Whoever is here need not be at any position from this one up to here: it matches all that they match.
    covers_from: u32,
}

/// A set of positions after one more byte.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) set: u32,
    /// Atoms that became certain.
    pub(super) certain: Box<[u32]>,
}

/// Where a set leads.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    /// Sorted by byte.
    pub(super) by_byte: Vec<(u8, Step)>,
    pub(super) default: Step,
}

/// All positions, and the sets of them that were met so far. Set 0 is the empty one.
pub(super) struct Patterns {
    /// For each atom the first one of its group: where one of a group is certain, the others are not followed.
    groups: Vec<u32>,
    positions: Vec<Position>,
    /// What matches from a position on: what it passes over, its byte, and the tail after that.
    tails: Interner<(Stay, Option<u8>, bool, u32)>,
    sets: Interner<Box<[u32]>>,
    steps: FastMap<u32, Rc<Steps>>,
}

impl Patterns {
    pub(super) fn new(groups: Vec<u32>) -> Self {
        let mut sets = Interner::new();
        sets.intern(Box::default());
        Self { groups, positions: Vec::new(), tails: Interner::new(), sets, steps: FastMap::default() }
    }

    /// Adds the rest of a pattern, from its first `*` on, and returns its first position.
    pub(super) fn add(&mut self, atom: u32, name: bool, pieces: &[Piece]) -> u32 {
        let first = self.positions.len() as u32;
        let mut stay = Stay::Never;
        let mut covers_from = first;
        for piece in pieces.iter().map(Some).chain([None]) {
            match piece {
                Some(Piece::Any) => stay = Stay::Any,
                Some(Piece::Part) if stay == Stay::Never => stay = Stay::Part,
                Some(Piece::Part) => {}
                Some(Piece::Byte(_)) | None => {
                    let here = self.positions.len() as u32;
                    let byte = if let Some(Piece::Byte(byte)) = piece { Some(*byte) } else { None };
                    let covers = if stay == Stay::Never { here } else { covers_from };
                    let covers = if stay == Stay::Any { first } else { covers };
                    self.positions.push(Position { atom, stay, byte, name, tail: 0, covers_from: covers });
                    // A part's `*` matches what an earlier one of the same part does, but not across `*` or a slash.
                    if stay == Stay::Any {
                        covers_from = here + 1;
                    }
                    if byte == Some(b'/') {
                        covers_from = here + 1;
                    }
                    stay = Stay::Never;
                }
            }
        }
        let mut tail = u32::MAX;
        for position in self.positions.iter_mut().skip(first as usize).rev() {
            tail = self.tails.intern((position.stay, position.byte, name, tail));
            position.tail = tail;
        }
        first
    }

    /// The group of an atom.
    pub(super) fn group(&self, atom: u32) -> u32 {
        self.groups.get(atom as usize).copied().unwrap_or(atom)
    }

    fn position(&self, number: u32) -> Option<&Position> {
        self.positions.get(number as usize)
    }

    /// The set with `more` positions, without those of groups in `certain`. Atoms that are certain at once are returned.
    pub(super) fn extend(&mut self, set: u32, more: &[u32], certain: &[u32]) -> Step {
        let mut positions: Vec<u32> = self.members(set).to_vec();
        positions.extend(more);
        self.drop_groups(&mut positions, certain);
        self.intern(positions)
    }

    /// Keeps the first atom of each group.
    pub(super) fn one_of_each_group(&self, atoms: &mut Vec<u32>) {
        let mut met: FastMap<u32, ()> = FastMap::default();
        atoms.retain(|atom| met.insert(self.group(*atom), ()).is_none());
    }

    /// The positions of a set.
    pub(super) fn members(&self, set: u32) -> &[u32] {
        self.sets.get(set).map_or(&[], |set| set)
    }

    /// The atom of a position.
    pub(super) fn atom(&self, number: u32) -> Option<u32> {
        self.position(number).map(|at| at.atom)
    }

    /// The atoms that are true where a text ends with this set.
    pub(super) fn ends(&self, set: u32) -> impl Iterator<Item = u32> {
        self.members(set).iter().filter_map(|number| self.position(*number)).filter(|at| at.byte.is_none()).map(|at| at.atom)
    }

    /// Takes out the positions of all groups that one of `atoms` is in.
    fn drop_groups(&self, positions: &mut Vec<u32>, atoms: &[u32]) {
        let mut groups: Vec<u32> = atoms.iter().map(|atom| self.group(*atom)).collect();
        groups.sort_unstable();
        positions.retain(|number| self.position(*number).is_some_and(|at| groups.binary_search(&self.group(at.atom)).is_err()));
    }

    /// Where a name's pattern holds whatever of the name follows, takes out the other name patterns of its group: all of them end
    /// at the slash.
    fn drop_beside_sure_names(&self, positions: &mut Vec<u32>) {
        let sure = |at: &Position| at.name && at.byte.is_none() && at.stay == Stay::Part;
        let mut kept: Vec<(u32, u32)> = positions
            .iter()
            .filter_map(|number| Some((self.group(self.position(*number).filter(|at| sure(at))?.atom), *number)))
            .collect();
        kept.sort_unstable();
        kept.dedup_by_key(|(group, _)| *group);
        positions.retain(|number| {
            self.position(*number).is_some_and(|at| {
                if !at.name {
                    return true;
                }
                match kept.binary_search_by_key(&self.group(at.atom), |(group, _)| *group) {
                    Ok(found) => kept.get(found).is_some_and(|(_, sure)| sure == number),
                    Err(_) => true,
                }
            })
        });
    }

    /// Of positions of one group that match the same from here on, keeps the first.
    fn drop_equal_tails(&self, positions: &mut Vec<u32>) {
        let mut met: FastMap<(u32, u32), ()> = FastMap::default();
        positions
            .retain(|number| self.position(*number).is_some_and(|at| met.insert((self.group(at.atom), at.tail), ()).is_none()));
    }

    /// Takes out what became certain and what is covered, and names the set.
    fn intern(&mut self, mut positions: Vec<u32>) -> Step {
        let mut certain: Vec<u32> = positions
            .iter()
            .filter_map(|number| self.position(*number))
            .filter(|at| at.byte.is_none() && at.stay == Stay::Any)
            .map(|at| at.atom)
            .collect();
        certain.sort_unstable();
        certain.dedup();
        self.one_of_each_group(&mut certain);
        self.drop_groups(&mut positions, &certain);
        positions.sort_unstable();
        positions.dedup();
        self.drop_beside_sure_names(&mut positions);
        self.drop_equal_tails(&mut positions);
        let mut kept: Vec<u32> = Vec::with_capacity(positions.len());
        for &number in &positions {
            if let Some(at) = self.position(number)
                && at.stay != Stay::Never
            {
                while kept.last().is_some_and(|last| *last >= at.covers_from) {
                    kept.pop();
                }
            }
            kept.push(number);
        }
        Step { set: self.sets.intern(kept.into()), certain: certain.into() }
    }

    /// Where a set leads.
    pub(super) fn steps(&mut self, set: u32) -> Rc<Steps> {
        if let Some(steps) = self.steps.get(&set) {
            return Rc::clone(steps);
        }
        let members: Vec<(u32, Position)> =
            self.members(set).iter().filter_map(|number| Some((*number, *self.position(*number)?))).collect();
        let mut bytes: Vec<u8> = members.iter().filter_map(|(_, at)| at.byte).collect();
        if members.iter().any(|(_, at)| at.stay == Stay::Part) {
            bytes.push(b'/');
        }
        bytes.sort_unstable();
        bytes.dedup();
        let mut by_byte = Vec::with_capacity(bytes.len());
        for byte in bytes {
            let mut next = Vec::with_capacity(members.len());
            for (number, at) in &members {
                if at.stay == Stay::Any || at.stay == Stay::Part && byte != b'/' {
                    next.push(*number);
                }
                if at.byte == Some(byte) {
                    next.push(number + 1);
                }
            }
            by_byte.push((byte, self.intern(next)));
        }
        let stays = members.iter().filter(|(_, at)| at.stay != Stay::Never).map(|(number, _)| *number).collect();
        let steps = Rc::new(Steps { by_byte, default: self.intern(stays) });
        self.steps.insert(set, Rc::clone(&steps));
        steps
    }
}

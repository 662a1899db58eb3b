//! What follows the first `*` of patterns: positions, and sets of positions with their transitions.

use std::cell::Cell;
use std::rc::Rc;

use crate::alike::Alike;
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) set: u32,
    /// Atoms that became certain, for [`Patterns::sure`].
    pub(super) certain: u32,
}

/// Where a set leads.
#[derive(Debug)]
pub(super) struct Steps {
    /// Sorted by byte.
    pub(super) by_byte: Vec<(u8, Step)>,
    pub(super) default: Step,
}

/// Where the positions of a set that stay lead.
///
/// In the set of a thousand patterns `*x*` a thousand positions stay at each step, so all that they have in common is found once.
#[derive(Debug)]
struct Launches {
    /// Sorted by byte.
    by_byte: Vec<Launch>,
    /// The set of those that stay on a slash, if not all do.
    after_slash: Option<u32>,
}

/// The positions that a byte leads to from positions that stay.
#[derive(Debug)]
struct Launch {
    byte: u8,
    to: Vec<u32>,
    /// Where the byte leads if no other position moves by it, once that is known.
    alone: Cell<Option<Step>>,
}

/// All positions, and the sets of them that were met so far. Set 0 is the empty one.
pub(super) struct Patterns<'a> {
    alike: &'a Alike,
    positions: Vec<Position>,
    /// What matches from a position on: what it passes over, its byte, and the tail after that.
    tails: Interner<(Stay, Option<u8>, bool, u32)>,
    /// Groups and tails of which there are several positions.
    twins: FastMap<(u32, u32), bool>,
    /// Positions that stay on some byte, and all others, each sorted.
    stays: Interner<Box<[u32]>>,
    moving: Interner<Box<[u32]>>,
    /// Pairs of the former two.
    sets: Interner<(u32, u32)>,
    launches: FastMap<u32, Rc<Launches>>,
    steps: FastMap<u32, Rc<Steps>>,
    sure: Interner<Box<[u32]>>,
    /// Groups that have a position.
    patterned: FastMap<u32, ()>,
    /// Positions that were looked at.
    pub(super) work: usize,
    /// Positions that are kept.
    pub(super) kept: usize,
}

impl<'a> Patterns<'a> {
    pub(super) fn new(alike: &'a Alike) -> Self {
        let empty = || {
            let mut sets = Interner::new();
            sets.intern(Box::default());
            sets
        };
        let mut sets = Interner::new();
        sets.intern((0, 0));
        Self {
            alike,
            positions: Vec::new(),
            tails: Interner::new(),
            twins: FastMap::default(),
            stays: empty(),
            moving: empty(),
            sets,
            launches: FastMap::default(),
            steps: FastMap::default(),
            sure: empty(),
            patterned: FastMap::default(),
            work: 0,
            kept: 0,
        }
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
        let group = self.group(atom);
        self.patterned.insert(group, ());
        let mut tail = u32::MAX;
        for position in self.positions.iter_mut().skip(first as usize).rev() {
            tail = self.tails.intern((position.stay, position.byte, name, tail));
            position.tail = tail;
            self.twins.entry((group, tail)).and_modify(|several| *several = true).or_insert(false);
        }
        first
    }

    /// The number of positions.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// The group of an atom.
    fn group(&self, atom: u32) -> u32 {
        self.alike.group(atom)
    }

    fn position(&self, number: u32) -> Option<&Position> {
        self.positions.get(number as usize)
    }

    /// The set with `more` positions, without those of which `certain` leaves nothing to be known. Atoms that are certain at once
    /// are returned.
    pub(super) fn extend(&mut self, set: u32, more: &[u32], certain: &[u32]) -> Step {
        self.work += certain.len();
        if more.is_empty() && !certain.iter().any(|atom| self.ends_patterns(*atom)) {
            return Step { set, certain: 0 };
        }
        let mut positions: Vec<u32> = self.members(set).collect();
        positions.extend(more);
        self.drop_known(&mut positions, certain);
        self.intern(positions)
    }

    /// Whether an atom that is certain takes out positions at all.
    fn ends_patterns(&self, atom: u32) -> bool {
        self.alike.absorbed(self.group(atom)).iter().any(|group| self.patterned.contains_key(group))
    }

    /// The atoms of a step's number.
    pub(super) fn sure(&self, number: u32) -> &[u32] {
        self.sure.get(number).map_or(&[], |sure| sure)
    }

    /// The positions of a set.
    pub(super) fn members(&self, set: u32) -> impl Iterator<Item = u32> {
        let (stays, moving) = self.sets.get(set).copied().unwrap_or_default();
        let [stays, moving] =
            [self.stays.get(stays), self.moving.get(moving)].map(|positions| positions.map_or(&[][..], |positions| positions));
        stays.iter().chain(moving).copied()
    }

    /// The atom of a position.
    pub(super) fn atom(&self, number: u32) -> Option<u32> {
        self.position(number).map(|at| at.atom)
    }

    /// The atoms that are true where a text ends with this set.
    pub(super) fn ends(&self, set: u32) -> impl Iterator<Item = u32> {
        self.members(set).filter_map(|number| self.position(number)).filter(|at| at.byte.is_none()).map(|at| at.atom)
    }

    /// Takes out the positions of all groups of which nothing more need be known where `atoms` are certain.
    fn drop_known(&self, positions: &mut Vec<u32>, atoms: &[u32]) {
        let mut known: Vec<u32> = atoms.iter().flat_map(|atom| self.alike.absorbed(self.group(*atom))).copied().collect();
        known.sort_unstable();
        positions.retain(|number| self.position(*number).is_some_and(|at| known.binary_search(&self.group(at.atom)).is_err()));
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
        positions.retain(|number| {
            self.position(*number).is_some_and(|at| {
                let tail = (self.group(at.atom), at.tail);
                self.twins.get(&tail) != Some(&true) || met.insert(tail, ()).is_none()
            })
        });
    }

    /// Takes out what became certain and what is covered, and names the set.
    fn intern(&mut self, mut positions: Vec<u32>) -> Step {
        self.work += 4 * positions.len();
        let mut certain: Vec<u32> = positions
            .iter()
            .filter_map(|number| self.position(*number))
            .filter(|at| at.byte.is_none() && at.stay == Stay::Any)
            .map(|at| at.atom)
            .collect();
        certain.sort_unstable();
        certain.dedup();
        self.alike.keep_needed(&mut certain);
        self.drop_known(&mut positions, &certain);
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
        let (stays, moving): (Vec<u32>, Vec<u32>) = kept.into_iter().partition(|number| self.stays_somewhere(*number));
        let before = self.stays.len();
        self.kept += stays.len();
        let stays = self.stays.intern(stays.into());
        if self.stays.len() == before {
            self.kept -= self.stays.get(stays).map_or(0, |stays| stays.len());
        }
        let moving = self.moving(moving);
        Step { set: self.sets.intern((stays, moving)), certain: self.sure.intern(certain.into()) }
    }

    fn stays_somewhere(&self, number: u32) -> bool {
        self.position(number).is_some_and(|at| at.stay != Stay::Never)
    }

    /// The number of a set of positions that don't stay.
    fn moving(&mut self, moving: Vec<u32>) -> u32 {
        let (before, size) = (self.moving.len(), moving.len());
        let number = self.moving.intern(moving.into());
        if self.moving.len() > before {
            self.kept += size;
        }
        number
    }

    /// Where positions that stay lead.
    fn launches(&mut self, stays: u32) -> Rc<Launches> {
        if let Some(launches) = self.launches.get(&stays) {
            return Rc::clone(launches);
        }
        let members: Vec<u32> = self.stays.get(stays).map_or_else(Vec::new, |stays| stays.to_vec());
        let mut to: Vec<(u8, u32)> =
            members.iter().filter_map(|number| Some((self.position(*number)?.byte?, number + 1))).collect();
        to.sort_unstable();
        let by_byte = to.chunk_by(|a, b| a.0 == b.0).filter_map(|chunk| {
            let (byte, _) = chunk.first()?;
            Some(Launch { byte: *byte, to: chunk.iter().map(|(_, to)| *to).collect(), alone: Cell::new(None) })
        });
        let by_byte = by_byte.collect();
        let on_slash: Vec<u32> =
            members.iter().copied().filter(|number| self.position(*number).is_some_and(|at| at.stay == Stay::Any)).collect();
        let after_slash = (on_slash.len() < members.len()).then(|| self.intern(on_slash).set);
        self.work += 2 * members.len();
        self.kept += 2 * members.len();
        let launches = Rc::new(Launches { by_byte, after_slash });
        self.launches.insert(stays, Rc::clone(&launches));
        launches
    }

    /// The set of positions that stay, with these that were arrived at.
    fn arrive(&mut self, stays: u32, mut arrived: Vec<u32>) -> Step {
        self.work += arrived.len();
        if arrived.iter().any(|number| self.stays_somewhere(*number)) {
            arrived.extend(self.stays.get(stays).into_iter().flat_map(|stays| stays.iter()));
            return self.intern(arrived);
        }
        // What doesn't stay is never certain and covers nothing, and no position that stays has its tail.
        arrived.sort_unstable();
        arrived.dedup();
        self.drop_equal_tails(&mut arrived);
        let moving = self.moving(arrived);
        Step { set: self.sets.intern((stays, moving)), certain: 0 }
    }

    /// Where a set leads.
    pub(super) fn steps(&mut self, set: u32) -> Rc<Steps> {
        if let Some(steps) = self.steps.get(&set) {
            return Rc::clone(steps);
        }
        let (stays, moving) = self.sets.get(set).copied().unwrap_or_default();
        let launches = self.launches(stays);
        let moving = self.moving.get(moving).map_or(&[][..], |moving| moving);
        let mut moved: Vec<(u8, u32)> =
            moving.iter().filter_map(|number| Some((self.position(*number)?.byte?, number + 1))).collect();
        moved.sort_unstable();
        let mut bytes: Vec<u8> = launches.by_byte.iter().map(|launch| launch.byte).collect();
        bytes.extend(moved.iter().map(|(byte, _)| *byte));
        bytes.extend(launches.after_slash.map(|_| b'/'));
        bytes.sort_unstable();
        bytes.dedup();
        self.work += bytes.len() + moved.len();
        self.kept += 4 * bytes.len();
        let mut by_byte = Vec::with_capacity(bytes.len());
        for byte in bytes {
            let launch = launches.by_byte.binary_search_by_key(&byte, |launch| launch.byte).ok();
            let launch = launch.and_then(|at| launches.by_byte.get(at));
            let start = moved.partition_point(|(other, _)| *other < byte);
            let end = moved.partition_point(|(other, _)| *other <= byte);
            let moved = moved.get(start..end).unwrap_or_default();
            let known = launch.filter(|_| moved.is_empty()).and_then(|launch| launch.alone.get());
            let step = known.unwrap_or_else(|| {
                let launched = launch.map_or(&[][..], |launch| &launch.to);
                let mut arrived: Vec<u32> = launched.iter().copied().chain(moved.iter().map(|(_, to)| *to)).collect();
                match launches.after_slash.filter(|_| byte == b'/') {
                    Some(set) if arrived.is_empty() => Step { set, certain: 0 },
                    Some(set) => {
                        arrived.extend(self.members(set));
                        self.intern(arrived)
                    }
                    None => self.arrive(stays, arrived),
                }
            });
            if let Some(launch) = launch.filter(|_| moved.is_empty()) {
                launch.alone.set(Some(step));
            }
            by_byte.push((byte, step));
        }
        let steps = Rc::new(Steps { by_byte, default: Step { set: self.sets.intern((stays, 0)), certain: 0 } });
        self.steps.insert(set, Rc::clone(&steps));
        steps
    }
}

//! The subset construction.

use std::num::NonZeroU8;

use leash_common::table::MAX_PATH_BYTES;

use super::pattern::{Patterns, Step};
use super::trie::{NONE, Trie};
use super::{Automaton, Class, Domain, State};
use crate::alike::Alike;
use crate::atoms::{Piece, TextLeaf};
use crate::fast::{FastMap, Interner};

/// What one automaton may take. Time and memory are bounded by what is counted here, so that the same policies meet the same limit
/// on every machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) states: usize,
    /// States and edges, which are the words of the image.
    pub(crate) words: usize,
    /// Positions and atoms that are looked at.
    pub(crate) steps: usize,
    /// Members of all sets of positions and atoms.
    pub(crate) members: usize,
}

/// The most bytes behind the first `*` of all patterns, and in all witnesses.
const MAX_POSITIONS: usize = 1 << 19;
const MAX_WITNESS_BYTES: usize = 1 << 26;

/// The patterns together need more room than they may have.
#[derive(Debug)]
pub(crate) struct TooLarge {
    /// The atoms that multiply each other; none if the compiler itself is at fault.
    pub(crate) atoms: Vec<u32>,
    /// What there is too much of, and how much there may be.
    pub(crate) what: &'static str,
    pub(crate) most: usize,
}

/// What a state means; equal meanings are one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Meaning {
    domain: Domain,
    /// Place in the trie of whole texts.
    text: u32,
    /// Place in the trie of names.
    name: u32,
    /// Set of pattern positions.
    set: u32,
    /// Set of certain atoms.
    certain: u32,
}

struct Builder<'a> {
    alike: &'a Alike,
    room: Room,
    texts: Trie,
    names: Trie,
    /// The groups that have a pattern for names.
    name_groups: FastMap<u32, ()>,
    /// For sets of certain atoms, whether nothing is left to be known of names.
    names_known: FastMap<u32, bool>,
    patterns: Patterns<'a>,
    certain: Interner<Box<[u32]>>,
    meanings: Interner<Meaning>,
    /// How each state was reached first: from where, by which byte (`None` by default).
    reached: Vec<(u32, Byte)>,
    /// Classes by domain and atoms.
    classes: Interner<(Domain, Box<[u32]>)>,
    /// Classes of states where nothing ends, by domain and certain atoms.
    plain_classes: FastMap<(Domain, u32), u32>,
    /// The state in which each class was met first.
    met: Vec<u32>,
    /// Where patterns for names begin anew: the set before, with the certain atoms, and the set after.
    begun: FastMap<(u32, u32), (u32, u32)>,
    /// A character that no pattern holds.
    fresh: char,
    steps: usize,
    /// Members of the sets of certain atoms and of classes.
    members: usize,
}

/// A byte, or none for the default.
type Byte = Option<NonZeroU8>;

/// Builds the automaton of `atoms`. With `split` a text's first byte decides its [`Domain`], else all non-empty texts are in
/// [`Domain::Path`].
///
/// Where an atom of a group of `alike` is true, classes need not hold the atoms of the groups that it absorbs.
pub(crate) fn build(atoms: &[Vec<TextLeaf>], alike: &Alike, split: bool, room: Room) -> Result<Automaton, TooLarge> {
    let mut builder = Builder {
        alike,
        room,
        texts: Trie::new(),
        names: Trie::new(),
        name_groups: FastMap::default(),
        names_known: FastMap::default(),
        patterns: Patterns::new(alike),
        certain: Interner::new(),
        meanings: Interner::new(),
        reached: Vec::new(),
        classes: Interner::new(),
        plain_classes: FastMap::default(),
        met: Vec::new(),
        begun: FastMap::default(),
        fresh: fresh(atoms)?,
        steps: 0,
        members: 0,
    };
    builder.certain.intern(Box::default());
    for (atom, leaves) in (0..).zip(atoms) {
        for leaf in leaves {
            builder.insert(atom, leaf);
            let too_large = |what, most| TooLarge { atoms: vec![atom], what, most };
            if builder.texts.len() + builder.names.len() > room.states {
                return Err(too_large("states", room.states));
            }
            if builder.patterns.len() > MAX_POSITIONS {
                return Err(too_large("bytes after the first `*` of a pattern", MAX_POSITIONS));
            }
        }
    }
    builder.run(split)
}

impl Builder<'_> {
    fn insert(&mut self, atom: u32, leaf: &TextLeaf) {
        // No text holds a zero byte, or is longer than the kernel's paths.
        let bytes = leaf.pieces.iter().filter(|piece| matches!(piece, Piece::Byte(_))).count();
        if bytes >= MAX_PATH_BYTES || leaf.pieces.contains(&Piece::Byte(0)) {
            return;
        }
        let literal: Vec<u8> =
            leaf.pieces.iter().map_while(|piece| if let Piece::Byte(byte) = piece { Some(*byte) } else { None }).collect();
        let rest = leaf.pieces.get(literal.len()..).unwrap_or_default();
        if leaf.name {
            self.name_groups.insert(self.alike.group(atom), ());
        }
        let trie = if leaf.name { &mut self.names } else { &mut self.texts };
        let Some(marks) = trie.insert(&literal) else { return };
        match rest {
            [] => marks.ends.push(atom),
            [Piece::Any] if !leaf.name => marks.certain.push(atom),
            rest => marks.starts.push(self.patterns.add(atom, leaf.name, rest)),
        }
    }

    fn run(mut self, split: bool) -> Result<Automaton, TooLarge> {
        let mut automaton = Automaton { states: Vec::new(), edges: Vec::new(), classes: Vec::new() };
        let empty = Step { set: 0, certain: 0 };
        let start = self.enter(Domain::Empty, 0, NONE, &empty, 0);
        self.state(start, (0, None));
        let mut next = 0;
        while let Some(meaning) = self.meanings.get(next).copied() {
            let limits = [
                (self.meanings.len(), self.room.states, "states"),
                (self.meanings.len() + automaton.edges.len(), self.room.words, "states and edges"),
                (self.steps + self.patterns.work, self.room.steps, "steps of work"),
                (self.members + self.patterns.kept, self.room.members, "members of sets"),
            ];
            if let Some((_, most, what)) = limits.into_iter().find(|(used, most, _)| used > most) {
                return Err(TooLarge { atoms: self.culprits(), what, most });
            }
            let class = self.class(&meaning, next);
            let edges_start = automaton.edges.len() as u32;
            let default = self.expand(next, &meaning, split, &mut automaton.edges);
            let edges_end = automaton.edges.len() as u32;
            automaton.states.push(State { default, edges_start, edges_end, class });
            next += 1;
        }
        let mut bytes = 0;
        let mut witnesses = Vec::with_capacity(self.met.len());
        for state in &self.met {
            let witness = self.witness(*state);
            bytes += witness.len();
            witnesses.push(witness);
            if bytes > MAX_WITNESS_BYTES {
                return Err(TooLarge { atoms: self.culprits(), what: "bytes of examples", most: MAX_WITNESS_BYTES });
            }
        }
        automaton.classes = (self.classes.into_values().into_iter().zip(witnesses))
            .map(|((domain, atoms), witness)| Class { domain, atoms, witness })
            .collect();
        Ok(automaton)
    }

    /// The state that means this, and how it was reached if it is new.
    fn state(&mut self, meaning: Meaning, reached: (u32, Byte)) -> u32 {
        let state = self.meanings.intern(meaning);
        if state as usize == self.reached.len() {
            self.reached.push(reached);
        }
        state
    }

    /// The meaning of arriving at these places: marks and patterns that begin there take effect.
    fn enter(&mut self, domain: Domain, text: u32, mut name: u32, step: &Step, certain: u32) -> Meaning {
        if name != NONE && self.names_known(certain) {
            name = NONE;
        }
        let mut new: Vec<u32> = self.patterns.sure(step.certain).to_vec();
        let mut starts: Vec<u32> = Vec::new();
        for marks in [self.texts.marks(text), self.names.marks(name)].into_iter().flatten() {
            new.extend(&marks.certain);
            starts.extend(&marks.starts);
        }
        self.steps += 1 + new.len() + starts.len();
        if new.is_empty() && starts.is_empty() {
            return Meaning { domain, text, name, set: step.set, certain };
        }
        // Most slashes lead to the beginnings of names, and nowhere else.
        let key = (name == 0 && new.is_empty() && self.texts.marks(text).is_none()).then_some((step.set, certain));
        if let Some((set, certain)) = key.and_then(|key| self.begun.get(&key)).copied() {
            return Meaning { domain, text, name, set, certain };
        }
        let mut certain = self.union(certain, new);
        let mut set = step.set;
        // Positions that start here can make their own atoms certain at once (`*` alone), which takes out others of the atom.
        loop {
            let sure: Box<[u32]> = self.certain.get(certain).cloned().unwrap_or_default();
            let step = self.patterns.extend(set, &starts, &sure);
            set = step.set;
            if step.certain == 0 {
                break;
            }
            certain = self.union(certain, self.patterns.sure(step.certain).to_vec());
        }
        if let Some(key) = key {
            self.begun.insert(key, (set, certain));
        }
        if name != NONE && self.names_known(certain) {
            name = NONE;
        }
        Meaning { domain, text, name, set, certain }
    }

    /// Whether the certain atoms leave nothing to be known of names.
    fn names_known(&mut self, certain: u32) -> bool {
        if certain == 0 || self.alike.slots.is_empty() {
            return false;
        }
        if let Some(known) = self.names_known.get(&certain) {
            return *known;
        }
        let atoms = self.certain.get(certain).map_or(&[][..], |atoms| atoms);
        let absorbed: FastMap<u32, ()> =
            atoms.iter().flat_map(|atom| self.alike.absorbed(self.alike.group(*atom))).map(|group| (*group, ())).collect();
        let known = self.name_groups.keys().all(|group| absorbed.contains_key(group));
        self.names_known.insert(certain, known);
        known
    }

    /// The set of certain atoms with `more`.
    fn union(&mut self, certain: u32, more: Vec<u32>) -> u32 {
        if more.is_empty() {
            return certain;
        }
        // What was certain before comes first, so that it stays where another atom would do as well.
        let mut all = self.certain.get(certain).map_or_else(Vec::new, |set| set.to_vec());
        all.extend(more);
        self.alike.keep_needed(&mut all);
        all.sort_unstable();
        all.dedup();
        let (before, size) = (self.certain.len(), all.len());
        self.steps += size;
        let number = self.certain.intern(all.into());
        if self.certain.len() > before {
            self.members += size;
        }
        number
    }

    /// Appends the edges of a state and returns its default.
    fn expand(&mut self, state: u32, meaning: &Meaning, split: bool, edges: &mut Vec<(u8, u32)>) -> u32 {
        let steps = self.patterns.steps(meaning.set);
        let names = !self.names.is_empty();
        let texts: Vec<(u8, u32)> = self.texts.children(meaning.text).collect();
        let in_names: Vec<(u8, u32)> = self.names.children(meaning.name).collect();
        let mut bytes: Vec<u8> = texts.iter().chain(&in_names).map(|(byte, _)| *byte).collect();
        bytes.extend(steps.by_byte.iter().map(|(byte, _)| *byte));
        if names || meaning.domain == Domain::Family {
            bytes.push(b'/');
        }
        if meaning.domain == Domain::Empty && split {
            bytes.extend(*b"/@");
        }
        bytes.sort_unstable();
        bytes.dedup();
        let domain = |byte: Option<u8>| match (meaning.domain, byte) {
            (Domain::Empty, _) if !split => Domain::Path,
            (Domain::Empty, Some(b'/')) => Domain::Path,
            (Domain::Empty, Some(b'@')) => Domain::Abstract,
            (Domain::Empty, _) => Domain::Family,
            (Domain::Family, Some(b'/')) => Domain::Socket,
            (domain, _) => domain,
        };
        let to = self.enter(domain(None), NONE, NONE, &steps.default, meaning.certain);
        let default = self.state(to, (state, None));
        for byte in bytes {
            let child = |children: &[(u8, u32)]| {
                let at = children.binary_search_by_key(&byte, |(byte, _)| *byte).ok();
                at.and_then(|at| children.get(at)).map_or(NONE, |(_, child)| *child)
            };
            let text = child(&texts);
            let name = if byte == b'/' && names { 0 } else { child(&in_names) };
            let step = steps.by_byte.binary_search_by_key(&byte, |(byte, _)| *byte).ok().and_then(|at| steps.by_byte.get(at));
            let step = step.map_or(&steps.default, |(_, step)| step);
            let to = self.enter(domain(Some(byte)), text, name, step, meaning.certain);
            let to = self.state(to, (state, NonZeroU8::new(byte)));
            if to != default {
                edges.push((byte, to));
            }
        }
        default
    }

    /// The class of the texts that end in a state.
    fn class(&mut self, meaning: &Meaning, state: u32) -> u32 {
        let mut local: Vec<u32> = self.patterns.ends(meaning.set).collect();
        for marks in [self.texts.marks(meaning.text), self.names.marks(meaning.name)].into_iter().flatten() {
            local.extend(&marks.ends);
        }
        self.steps += local.len();
        let before = self.classes.len();
        let class = if local.is_empty() {
            match self.plain_classes.get(&(meaning.domain, meaning.certain)) {
                Some(class) => *class,
                None => {
                    let atoms = self.certain.get(meaning.certain).cloned().unwrap_or_default();
                    let class = self.classes.intern((meaning.domain, atoms));
                    self.plain_classes.insert((meaning.domain, meaning.certain), class);
                    class
                }
            }
        } else {
            local.splice(0..0, self.certain.get(meaning.certain).into_iter().flat_map(|set| set.iter().copied()));
            self.alike.keep_needed(&mut local);
            self.steps += local.len();
            local.sort_unstable();
            local.dedup();
            self.classes.intern((meaning.domain, local.into()))
        };
        if self.classes.len() > before {
            self.members += self.classes.get(class).map_or(0, |(_, atoms)| atoms.len());
            self.met.push(state);
        }
        class
    }

    /// A text that leads to a state.
    ///
    /// Where a character of a pattern was begun and not finished, or where the way goes by a default, a character that no pattern
    /// holds takes the place. That leads to the same atoms: a pattern's literals are whole characters, so what survives an
    /// unfinished one are only positions that pass over anything.
    fn witness(&self, mut state: u32) -> String {
        let mut bytes = Vec::new();
        while state != 0 {
            let Some((from, byte)) = self.reached.get(state as usize) else { break };
            bytes.push(byte.map_or(0xff, NonZeroU8::get));
            state = *from;
        }
        bytes.reverse();
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(Some(self.fresh).filter(|_| !chunk.invalid().is_empty()));
        }
        text
    }

    /// The atoms that are looked for most often in the states met last.
    fn culprits(&self) -> Vec<u32> {
        let mut counts: FastMap<u32, u32> = FastMap::default();
        for state in self.meanings.len().saturating_sub(1000)..self.meanings.len() {
            let Some(meaning) = self.meanings.get(state as u32) else { continue };
            let positions = self.patterns.members(meaning.set).take(1000).filter_map(|number| self.patterns.atom(number));
            let certain = self.certain.get(meaning.certain).into_iter().flat_map(|atoms| atoms.iter().rev().take(1000).copied());
            let marks = [self.texts.marks(meaning.text), self.names.marks(meaning.name)];
            let ends = marks.into_iter().flatten().flat_map(|marks| marks.ends.iter().copied());
            for atom in positions.chain(certain).chain(ends) {
                *counts.entry(atom).or_insert(0) += 1;
            }
        }
        let mut atoms: Vec<(u32, u32)> = counts.into_iter().map(|(atom, count)| (count, atom)).collect();
        atoms.sort_unstable_by(|a, b| b.cmp(a));
        let atoms: Vec<u32> = atoms.into_iter().map(|(_, atom)| atom).take(5).collect();
        if atoms.is_empty() { vec![0] } else { atoms }
    }
}

/// A character that no pattern holds, to stand in witnesses for whatever patterns don't name. That it does is checked: the witness of
/// a class must lead to the class.
fn fresh(atoms: &[Vec<TextLeaf>]) -> Result<char, TooLarge> {
    let mut held = std::collections::BTreeSet::new();
    for leaf in atoms.iter().flatten() {
        let mut pieces = leaf.pieces.as_slice();
        while let Some((first, rest)) = pieces.split_first() {
            pieces = rest;
            // Four bytes that begin like this are a character of the last two planes.
            if let (Piece::Byte(first @ 0xf3..=0xf4), [Piece::Byte(b), Piece::Byte(c), Piece::Byte(d), ..]) = (first, rest) {
                held.extend(std::str::from_utf8(&[*first, *b, *c, *d]).ok().and_then(|text| text.chars().next()));
            }
        }
    }
    let mut private = ('\u{f0000}'..='\u{10fff7}').rev();
    let most = private.clone().count();
    private.find(|character| !held.contains(character)).ok_or(TooLarge {
        atoms: vec![0],
        what: "characters of the private use planes",
        most,
    })
}

//! The subset construction.

use super::pattern::{Patterns, Step};
use super::trie::{NONE, Trie};
use super::{Automaton, Class, Domain, State};
use crate::alike::Alike;
use crate::atoms::{Piece, TextLeaf};
use crate::fast::{FastMap, Interner};

/// Sets of certain atoms that are allowed for in any case, and for each atom. Directories in directories need about one for each
/// atom; patterns such as `*/x/*` that can match together in any combination need two to their number.
const CERTAIN_SETS: usize = 1 << 12;
const CERTAIN_SETS_PER_ATOM: usize = 16;
/// The same where atoms are grouped: each group is as good as one atom there, and only the number of states is a limit.
const CERTAIN_SETS_GROUPED: usize = 1 << 17;

/// The patterns together need more states than they may.
#[derive(Debug)]
pub(crate) struct TooLarge {
    /// The atoms that multiply each other.
    pub(crate) atoms: Vec<u32>,
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

struct Builder {
    texts: Trie,
    names: Trie,
    patterns: Patterns,
    certain: Interner<Box<[u32]>>,
    meanings: Interner<Meaning>,
    /// How each state was reached first: from where, by which byte (`None` by default).
    reached: Vec<(u32, Option<u8>)>,
    /// Classes by domain and atoms.
    classes: Interner<(Domain, Box<[u32]>)>,
    /// Classes of states where nothing ends, by domain and certain atoms.
    plain_classes: FastMap<(Domain, u32), u32>,
    /// The state in which each class was met first.
    met: Vec<u32>,
}

/// Builds the automaton of `atoms`. With `split` a text's first byte decides its [`Domain`], else all non-empty texts are in
/// [`Domain::Path`].
///
/// Where an atom of a group of `alike` is true, classes need not hold the others of its group.
pub(crate) fn build(atoms: &[Vec<TextLeaf>], alike: &Alike, split: bool, states: usize) -> Result<Automaton, TooLarge> {
    let mut builder = Builder {
        texts: Trie::new(),
        names: Trie::new(),
        patterns: Patterns::new(alike.groups.clone()),
        certain: Interner::new(),
        meanings: Interner::new(),
        reached: Vec::new(),
        classes: Interner::new(),
        plain_classes: FastMap::default(),
        met: Vec::new(),
    };
    builder.certain.intern(Box::default());
    for (atom, leaves) in atoms.iter().enumerate() {
        for leaf in leaves {
            builder.insert(atom as u32, leaf);
        }
    }
    let certain_sets = match alike.slots.is_empty() {
        true => CERTAIN_SETS + CERTAIN_SETS_PER_ATOM * atoms.len(),
        false => CERTAIN_SETS_GROUPED,
    };
    builder.run(states, certain_sets, split)
}

impl Builder {
    fn insert(&mut self, atom: u32, leaf: &TextLeaf) {
        // No text holds a zero byte.
        if leaf.pieces.contains(&Piece::Byte(0)) {
            return;
        }
        let literal: Vec<u8> =
            leaf.pieces.iter().map_while(|piece| if let Piece::Byte(byte) = piece { Some(*byte) } else { None }).collect();
        let rest = leaf.pieces.get(literal.len()..).unwrap_or_default();
        let trie = if leaf.name { &mut self.names } else { &mut self.texts };
        let Some(marks) = trie.insert(&literal) else { return };
        match rest {
            [] => marks.ends.push(atom),
            [Piece::Any] if !leaf.name => marks.certain.push(atom),
            rest => marks.starts.push(self.patterns.add(atom, leaf.name, rest)),
        }
    }

    fn run(mut self, states: usize, certain_sets: usize, split: bool) -> Result<Automaton, TooLarge> {
        let mut automaton = Automaton { states: Vec::new(), edges: Vec::new(), classes: Vec::new() };
        let empty = Step { set: 0, certain: Box::default() };
        let start = self.enter(Domain::Empty, 0, NONE, &empty, 0);
        self.state(start, (0, None));
        let mut next = 0;
        while let Some(meaning) = self.meanings.get(next).copied() {
            if self.meanings.len() > states || self.certain.len() > certain_sets {
                return Err(TooLarge { atoms: self.culprits() });
            }
            let class = self.class(&meaning, next);
            let edges_start = automaton.edges.len() as u32;
            let default = self.expand(next, &meaning, split, &mut automaton.edges);
            let edges_end = automaton.edges.len() as u32;
            automaton.states.push(State { default, edges_start, edges_end, class });
            next += 1;
        }
        let witnesses: Vec<String> = self.met.iter().map(|state| self.witness(*state)).collect();
        automaton.classes = (self.classes.into_values().into_iter().zip(witnesses))
            .map(|((domain, atoms), witness)| Class { domain, atoms, witness })
            .collect();
        Ok(automaton)
    }

    /// The state that means this, and how it was reached if it is new.
    fn state(&mut self, meaning: Meaning, reached: (u32, Option<u8>)) -> u32 {
        let state = self.meanings.intern(meaning);
        if state as usize == self.reached.len() {
            self.reached.push(reached);
        }
        state
    }

    /// The meaning of arriving at these places: marks and patterns that begin there take effect.
    fn enter(&mut self, domain: Domain, text: u32, name: u32, step: &Step, certain: u32) -> Meaning {
        let mut new: Vec<u32> = step.certain.to_vec();
        let mut starts: Vec<u32> = Vec::new();
        for marks in [self.texts.marks(text), self.names.marks(name)].into_iter().flatten() {
            new.extend(&marks.certain);
            starts.extend(&marks.starts);
        }
        if new.is_empty() && starts.is_empty() {
            return Meaning { domain, text, name, set: step.set, certain };
        }
        let mut certain = self.union(certain, new);
        let mut set = step.set;
        // Positions that start here can make their own atoms certain at once (`*` alone), which takes out others of the atom.
        loop {
            let sure: Box<[u32]> = self.certain.get(certain).cloned().unwrap_or_default();
            let step = self.patterns.extend(set, &starts, &sure);
            set = step.set;
            if step.certain.is_empty() {
                return Meaning { domain, text, name, set, certain };
            }
            certain = self.union(certain, step.certain.to_vec());
        }
    }

    /// The set of certain atoms with `more`.
    fn union(&mut self, certain: u32, more: Vec<u32>) -> u32 {
        if more.is_empty() {
            return certain;
        }
        // What was certain before stays; of a group no other atom joins it.
        let mut all = self.certain.get(certain).map_or_else(Vec::new, |set| set.to_vec());
        all.extend(more);
        self.patterns.one_of_each_group(&mut all);
        all.sort_unstable();
        all.dedup();
        self.certain.intern(all.into())
    }

    /// Appends the edges of a state and returns its default.
    fn expand(&mut self, state: u32, meaning: &Meaning, split: bool, edges: &mut Vec<(u8, u32)>) -> u32 {
        let steps = self.patterns.steps(meaning.set);
        let names = !self.names.is_empty();
        let mut bytes: Vec<u8> = self.texts.children(meaning.text).iter().map(|(byte, _)| *byte).collect();
        bytes.extend(self.names.children(meaning.name).iter().map(|(byte, _)| *byte));
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
            let child = |trie: &Trie, node| {
                let children = trie.children(node);
                children
                    .binary_search_by_key(&byte, |(byte, _)| *byte)
                    .ok()
                    .and_then(|at| children.get(at))
                    .map_or(NONE, |child| child.1)
            };
            let text = child(&self.texts, meaning.text);
            let name = if byte == b'/' && names { 0 } else { child(&self.names, meaning.name) };
            let step = steps.by_byte.binary_search_by_key(&byte, |(byte, _)| *byte).ok().and_then(|at| steps.by_byte.get(at));
            let step = step.map_or(&steps.default, |(_, step)| step);
            let to = self.enter(domain(Some(byte)), text, name, step, meaning.certain);
            let to = self.state(to, (state, Some(byte)));
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
            local.extend(self.certain.get(meaning.certain).into_iter().flat_map(|set| set.iter()));
            local.sort_unstable();
            local.dedup();
            self.classes.intern((meaning.domain, local.into()))
        };
        if class as usize == self.met.len() {
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
            bytes.push(byte.unwrap_or(0xff));
            state = *from;
        }
        bytes.reverse();
        bytes.utf8_chunks().flat_map(|chunk| [chunk.valid(), if chunk.invalid().is_empty() { "" } else { FRESH }]).collect()
    }

    /// The atoms with the most positions in the sets met last.
    fn culprits(&self) -> Vec<u32> {
        let mut counts: FastMap<u32, u32> = FastMap::default();
        for state in self.meanings.len().saturating_sub(1000)..self.meanings.len() {
            let set = self.meanings.get(state as u32).map_or(0, |meaning| meaning.set);
            for atom in self.patterns.members(set).iter().filter_map(|number| self.patterns.atom(*number)) {
                *counts.entry(atom).or_insert(0) += 1;
            }
        }
        let mut atoms: Vec<(u32, u32)> = counts.into_iter().map(|(atom, count)| (count, atom)).collect();
        atoms.sort_unstable_by(|a, b| b.cmp(a));
        atoms.into_iter().map(|(_, atom)| atom).take(5).collect()
    }
}

/// Stands in a witness for what no pattern holds. That it is so is checked: the witness of a class must lead to the class.
const FRESH: &str = "\u{10fff7}";

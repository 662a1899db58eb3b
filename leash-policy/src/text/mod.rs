//! Classes of texts: one deterministic automaton over bytes for the text atoms of all policies.
//!
//! Patterns begin with literal bytes as a rule, so these form a trie; what follows a pattern's first `*` is a set of positions
//! that travels along. A state is the place in the trie, the place in the trie of names (which starts anew at each slash), the
//! set of positions, and the atoms that are already certain whatever follows.

mod build;
mod pattern;
mod trie;

pub(crate) use build::{Room, TooLarge, build};

/// What the automaton of a policy set may take at most.
pub(crate) const MOST: Room = Room { states: 2_000_000, words: MAX_PAGES * PAGE_WORDS, steps: 40_000_000, members: 12_000_000 };

/// What exact sets of determining policies are worth, where policies could share theirs.
pub(crate) const EXACT: Room = Room { states: 1 << 18, words: 1 << 21, steps: 15_000_000, members: 6_000_000 };

use leash_common::table::{MAX_PAGES, PAGE_WORDS};

/// What a text starts with decides which resources it can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Domain {
    /// Nothing: no resource.
    Empty,
    /// A slash: files, directories, Unix sockets.
    Path,
    /// `@`: abstract Unix sockets.
    Abstract,
    /// Anything else, before a slash: the family of a socket, no resource yet.
    Family,
    /// The same after a slash: the name of a socket, `family/protocol`.
    Socket,
}

/// An equivalence class of texts: all of them make the same atoms true.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) domain: Domain,
    /// The atoms that are true, sorted.
    pub(crate) atoms: Box<[u32]>,
    /// One of the texts.
    pub(crate) witness: String,
}

/// One state.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// The next state by any byte that has no edge.
    pub(crate) default: u32,
    edges_start: u32,
    edges_end: u32,
    /// The class of the texts that end here.
    pub(crate) class: u32,
}

/// The automaton. State 0 is the start.
#[derive(Debug)]
pub(crate) struct Automaton {
    pub(crate) states: Vec<State>,
    edges: Vec<(u8, u32)>,
    pub(crate) classes: Vec<Class>,
}

impl Automaton {
    /// The edges of a state that differ from its default, sorted by byte.
    pub(crate) fn edges(&self, state: &State) -> &[(u8, u32)] {
        self.edges.get(state.edges_start as usize..state.edges_end as usize).unwrap_or_default()
    }

    /// The class of a text.
    pub(crate) fn classify(&self, text: &[u8]) -> Option<u32> {
        let mut state = self.states.first()?;
        for byte in text {
            let edges = self.edges(state);
            let next = match edges.binary_search_by_key(byte, |(byte, _)| *byte) {
                Ok(at) => edges.get(at)?.1,
                Err(_) => state.default,
            };
            state = self.states.get(next as usize)?;
        }
        Some(state.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alike::Alike;
    use crate::atoms::{Piece, TextLeaf, exactly, within};

    fn like(pattern: &str, name: bool) -> TextLeaf {
        let star = if name { Piece::Part } else { Piece::Any };
        TextLeaf { name, pieces: pattern.bytes().map(|byte| if byte == b'*' { star } else { Piece::Byte(byte) }).collect() }
    }

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some((b'*', rest)), _) => matches(rest, text) || text.split_first().is_some_and(|(_, text)| matches(pattern, text)),
            (Some((byte, rest)), Some((first, text))) => byte == first && matches(rest, text),
            (Some(_), None) => false,
        }
    }

    #[test]
    fn classes_hold_the_atoms_that_patterns_match() {
        let patterns = ["/a*b", "*/x*", "/a/b/c", "*", "/a*a*b*", "*.pem", "/ab", "a", "@*", "*é*", "/", "**b**a"];
        let names = ["a*", "*b", "ab", "*a*b*", "", "*"];
        let mut atoms: Vec<Vec<TextLeaf>> = patterns.iter().map(|pattern| vec![like(pattern, false)]).collect();
        atoms.extend(names.iter().map(|pattern| vec![like(pattern, true)]));
        atoms.push(within("/a").to_vec());
        atoms.push(within("/").to_vec());
        atoms.push(vec![exactly("/a/x"), like("/a/b*", false), like("*bb*", false), like("a*", true)]);
        let automaton = build(&atoms, &Alike::none(atoms.len()), false, MOST).map_err(|_| "too large").unwrap();
        let alphabet = ["/", "a", "b", "x", "@", "é", ".", "pem"];
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let text: String = (0..seed >> 61).map(|i| alphabet[(seed >> (3 * i + 20)) as usize % 8]).collect();
            let text = if seed & 1 << 19 == 0 { format!("/{text}") } else { text };
            let name = text.rsplit_once('/').map(|(_, name)| name.as_bytes());
            let by_path = |pattern: &str| matches(pattern.as_bytes(), text.as_bytes());
            let by_name = |pattern: &str| name.is_some_and(|name| matches(pattern.as_bytes(), name));
            let mut wanted: Vec<bool> = patterns.iter().map(|pattern| by_path(pattern)).collect();
            wanted.extend(names.iter().map(|pattern| by_name(pattern)));
            wanted.push(text == "/a" || text.starts_with("/a/"));
            wanted.push(text.starts_with('/'));
            wanted.push(text == "/a/x" || text.starts_with("/a/b") || text.contains("bb") || by_name("a*"));
            let class = &automaton.classes[automaton.classify(text.as_bytes()).unwrap() as usize];
            let got: Vec<bool> = (0..wanted.len() as u32).map(|atom| class.atoms.contains(&atom)).collect();
            assert_eq!(got, wanted, "{text}");
        }
    }

    #[test]
    fn alternatives_of_one_atom_do_not_multiply() {
        let leaves: Vec<TextLeaf> = (0..64).map(|i| like(&format!("*/.s{i}/*"), false)).collect();
        let automaton = build(&[leaves], &Alike::none(1), false, MOST).map_err(|_| "too large").unwrap();
        assert!(automaton.states.len() < 2_000, "{}", automaton.states.len());
    }

    #[test]
    fn separate_patterns_that_multiply_are_refused() {
        let atoms: Vec<Vec<TextLeaf>> = (0..40).map(|i| vec![like(&format!("*/.s{i}/*"), false)]).collect();
        assert!(build(&atoms, &Alike::none(atoms.len()), false, MOST).is_err_and(|fault| !fault.atoms.is_empty()));
    }

    #[test]
    fn of_a_group_at_least_one_true_atom_is_held_and_states_do_not_multiply() {
        let patterns: Vec<String> = (0..60).map(|i| format!("*s{i}x*")).collect();
        let names = ["*ab*", "*ba*", "b*", "*a"];
        let other = ["/a*b*", "*.pem", "/s1x/*"];
        let mut atoms: Vec<Vec<TextLeaf>> = patterns.iter().map(|pattern| vec![like(pattern, false)]).collect();
        atoms.extend(names.iter().map(|pattern| vec![like(pattern, true)]));
        atoms.extend(other.iter().map(|pattern| vec![like(pattern, false)]));
        let mut alike = Alike::none(atoms.len());
        alike.groups[..60].fill(0);
        alike.groups[60..64].fill(60);
        alike.slots.push(None);
        let automaton = build(&atoms, &alike, false, MOST).map_err(|_| "too large").unwrap();
        assert!(automaton.states.len() < 60_000, "{}", automaton.states.len());
        let alphabet = ["/", "a", "b", "s1x", "s2x", "s59x", ".", "pem", "x", "s"];
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let text: String = (0..seed >> 61).map(|i| alphabet[(seed >> (4 * i + 20)) as usize % 10]).collect();
            let text = format!("/{text}");
            let name = text.rsplit('/').next().unwrap();
            let truths: Vec<bool> = patterns
                .iter()
                .map(|pattern| matches(pattern.as_bytes(), text.as_bytes()))
                .chain(names.iter().map(|pattern| matches(pattern.as_bytes(), name.as_bytes())))
                .chain(other.iter().map(|pattern| matches(pattern.as_bytes(), text.as_bytes())))
                .collect();
            let class = &automaton.classes[automaton.classify(text.as_bytes()).unwrap() as usize];
            let held: Vec<bool> = (0..truths.len() as u32).map(|atom| class.atoms.contains(&atom)).collect();
            assert!(held.iter().zip(&truths).all(|(held, is)| !held || *is), "{text}: holds what is not true");
            assert_eq!(held[64..], truths[64..], "{text}: atoms without a group");
            for group in [0..60, 60..64] {
                assert_eq!(held[group.clone()].contains(&true), truths[group].contains(&true), "{text}");
            }
        }
    }
}

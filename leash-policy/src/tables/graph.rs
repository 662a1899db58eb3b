//! The automaton of an image before it gets addresses.

use crate::fast::FastMap;

/// `accept` names a state of the graph, which becomes an address.
pub(crate) const ACCEPT_STATE: u32 = 1 << 31;

/// A state. A *next* is a leaf, with the flag of `leash_common`, or the number of a state.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// A number, or with [`ACCEPT_STATE`] a state.
    pub(crate) accept: u32,
    pub(crate) default: u32,
    pub(crate) uniform: bool,
    edges_start: u32,
    edges_end: u32,
}

/// What makes a state: accept, default and edges.
type Meaning = (u32, u32, Box<[(u8, u32)]>);

/// All states.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    edges: Vec<(u8, u32)>,
    known: FastMap<Meaning, u32>,
}

impl Graph {
    /// The edges of a state, by symbol.
    pub(crate) fn edges(&self, node: &Node) -> &[(u8, u32)] {
        self.edges.get(node.edges_start as usize..node.edges_end as usize).unwrap_or_default()
    }

    /// Adds a state.
    pub(crate) fn push(&mut self, accept: u32, default: u32, edges: &[(u8, u32)]) -> u32 {
        let edges_start = self.edges.len() as u32;
        self.edges.extend_from_slice(edges);
        self.nodes.push(Node { accept, default, uniform: false, edges_start, edges_end: self.edges.len() as u32 });
        self.nodes.len() as u32 - 1
    }

    /// The state with this meaning; it is added once.
    pub(crate) fn intern(&mut self, accept: u32, default: u32, mut edges: Vec<(u8, u32)>) -> u32 {
        edges.retain(|(_, next)| *next != default);
        let key = (accept, default, edges.into_boxed_slice());
        if let Some(&node) = self.known.get(&key) {
            return node;
        }
        let node = self.push(accept, default, &key.2);
        self.known.insert(key, node);
        node
    }

    /// The most frequent target, the best default. Ties go to the first.
    pub(crate) fn best_default(targets: impl Iterator<Item = u32>) -> u32 {
        let mut counts: Vec<(u32, u32)> = Vec::new();
        for target in targets {
            match counts.iter_mut().find(|(known, _)| *known == target) {
                Some((_, count)) => *count += 1,
                None => counts.push((target, 1)),
            }
        }
        let mut best = (leash_common::table::LEAF, 0);
        for (target, count) in counts {
            if count > best.1 {
                best = (target, count);
            }
        }
        best.0
    }
}

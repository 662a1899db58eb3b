//! The literal beginnings of patterns.

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// What happens at a node.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Atoms that are true of a text that ends here.
    pub(super) ends: Vec<u32>,
    /// Atoms that are true of everything that begins like this.
    pub(super) certain: Vec<u32>,
    /// Positions of patterns that begin after this literal.
    pub(super) starts: Vec<u32>,
}

/// Millions of these are made: a node's children are a list through `next`, sorted by byte.
#[derive(Debug)]
struct Node {
    first: u32,
    next: u32,
    marks: u32,
    byte: u8,
}

impl Node {
    fn new(byte: u8, next: u32) -> Self {
        Self { first: NONE, next, marks: NONE, byte }
    }
}

/// A trie over bytes. Node 0 is the root.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    marks: Vec<Marks>,
}

impl Trie {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::new(0, NONE)], marks: Vec::new() }
    }

    /// The marks at `text`, which is added.
    pub(super) fn insert(&mut self, text: &[u8]) -> Option<&mut Marks> {
        let mut at = 0;
        for &byte in text {
            let (mut before, mut child) = (NONE, self.node(at)?.first);
            while let Some(node) = self.node(child).filter(|node| node.byte < byte) {
                (before, child) = (child, node.next);
            }
            if self.node(child).is_none_or(|node| node.byte != byte) {
                let new = self.nodes.len() as u32;
                self.nodes.push(Node::new(byte, child));
                match self.nodes.get_mut(before as usize) {
                    Some(before) => before.next = new,
                    None => self.nodes.get_mut(at as usize)?.first = new,
                }
                child = new;
            }
            at = child;
        }
        let node = self.nodes.get_mut(at as usize)?;
        if node.marks == NONE {
            node.marks = self.marks.len() as u32;
            self.marks.push(Marks::default());
        }
        self.marks.get_mut(node.marks as usize)
    }

    fn node(&self, node: u32) -> Option<&Node> {
        self.nodes.get(node as usize)
    }

    /// The children of a node, sorted by byte.
    pub(super) fn children(&self, node: u32) -> impl Iterator<Item = (u8, u32)> {
        let first = self.node(node).map_or(NONE, |node| node.first);
        let with_node = |child: u32| Some((child, self.node(child)?));
        std::iter::successors(with_node(first), move |(_, node)| with_node(node.next)).map(|(child, node)| (node.byte, child))
    }

    pub(super) fn marks(&self, node: u32) -> Option<&Marks> {
        self.marks.get(self.node(node)?.marks as usize)
    }

    /// Nodes, the root among them.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was inserted.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.marks.is_empty()
    }
}

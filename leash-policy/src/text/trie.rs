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

#[derive(Debug, Default)]
struct Node {
    /// Sorted by byte.
    children: Vec<(u8, u32)>,
    marks: Option<Box<Marks>>,
}

/// A trie over bytes. Node 0 is the root.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

impl Trie {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()] }
    }

    /// The marks at `text`, which is added.
    pub(super) fn insert(&mut self, text: &[u8]) -> Option<&mut Marks> {
        let mut at = 0;
        for &byte in text {
            let new = self.nodes.len() as u32;
            let node = self.nodes.get_mut(at as usize)?;
            at = match node.children.binary_search_by_key(&byte, |(byte, _)| *byte) {
                Ok(found) => node.children.get(found)?.1,
                Err(place) => {
                    node.children.insert(place, (byte, new));
                    self.nodes.push(Node::default());
                    new
                }
            };
        }
        Some(self.nodes.get_mut(at as usize)?.marks.get_or_insert_default())
    }

    /// The children of a node, sorted by byte.
    pub(super) fn children(&self, node: u32) -> &[(u8, u32)] {
        self.nodes.get(node as usize).map_or(&[], |node| &node.children)
    }

    pub(super) fn marks(&self, node: u32) -> Option<&Marks> {
        self.nodes.get(node as usize)?.marks.as_deref()
    }

    /// Whether nothing was inserted.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.marks(0).is_none()
    }
}

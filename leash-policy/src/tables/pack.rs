//! Addresses for the states: each state's words must lie in one page, where no other state has its own.

use leash_common::table::{HEADER, HEADER_UNIFORM, LEAF, MAGIC, MAX_PAGES, PAGE_SHIFT, PAGE_STARTS, PAGE_WORDS, SINK, header};

use super::graph::{ACCEPT_STATE, Node};
use super::{Graph, TooLarge};

/// Words of a page's map of free words.
const MAP_WORDS: usize = PAGE_WORDS / 64;
/// Words of the map in which states may begin.
const STARTS: usize = PAGE_STARTS / 64;
/// Pages in which room is looked for.
const OPEN_PAGES: usize = 4;

/// The states where the walks start.
pub(crate) struct Roots {
    pub(crate) text: u32,
    pub(crate) exe: u32,
    pub(crate) ipv4: u32,
    pub(crate) ipv6: u32,
}

struct Page {
    number: usize,
    free: [u64; MAP_WORDS],
    free_words: usize,
    /// No word of the map before this one has a free bit.
    first: usize,
}

impl Page {
    fn new(number: usize) -> Self {
        let mut free = [u64::MAX; MAP_WORDS];
        let mut free_words = PAGE_WORDS;
        if number == 0 {
            for bit in 0..header::WORDS {
                if let Some(word) = free.first_mut() {
                    *word &= !(1 << bit);
                }
            }
            free_words -= header::WORDS;
        }
        Self { number, free, free_words, first: 0 }
    }

    /// The map's bits from `bit` on.
    fn bits(&self, bit: usize) -> u64 {
        let word = |at: usize| self.free.get(at).copied().unwrap_or(0);
        let (at, shift) = (bit / 64, bit % 64);
        if shift == 0 { word(at) } else { word(at) >> shift | word(at + 1) << (64 - shift) }
    }

    /// Takes room for a header and these edges, if there is some.
    fn take(&mut self, edges: &[(u8, u32)]) -> Option<usize> {
        if self.free_words <= edges.len() {
            return None;
        }
        while self.free.get(self.first) == Some(&0) {
            self.first += 1;
        }
        for at in self.first..STARTS {
            let mut fits = self.bits(at * 64);
            for (symbol, _) in edges {
                if fits == 0 {
                    break;
                }
                fits &= self.bits(at * 64 + usize::from(*symbol));
            }
            if fits != 0 {
                let start = at * 64 + fits.trailing_zeros() as usize;
                for offset in edges.iter().map(|(symbol, _)| usize::from(*symbol)).chain([0]) {
                    if let Some(word) = self.free.get_mut((start + offset) / 64) {
                        *word &= !(1 << ((start + offset) % 64));
                    }
                }
                self.free_words -= edges.len() + 1;
                return Some(start);
            }
        }
        None
    }
}

/// Makes the image of all states that the roots reach.
pub(crate) fn pack(graph: &Graph, roots: &Roots) -> Result<Vec<u64>, TooLarge> {
    let starts = [roots.text, roots.exe, roots.ipv4, roots.ipv6];
    let order = order(graph, &starts);
    let mut addresses = vec![u32::MAX; graph.nodes.len()];
    let mut open = vec![Page::new(0)];
    let mut pages = 1;
    for number in &order {
        let Some(node) = graph.nodes.get(*number as usize) else { continue };
        let edges = graph.edges(node);
        let place = open.iter_mut().rev().find_map(|page| Some((page.number, page.take(edges)?)));
        let (page, start) = match place {
            Some(place) => place,
            None => {
                if pages == MAX_PAGES {
                    return Err(TooLarge::of("pages of table memory", MAX_PAGES));
                }
                let mut page = Page::new(pages);
                let start = page.take(edges).ok_or(TooLarge::of("edges of one state", PAGE_WORDS))?;
                if open.len() == OPEN_PAGES {
                    let fullest = open.iter().enumerate().min_by_key(|(_, page)| page.free_words).map_or(0, |(at, _)| at);
                    open.remove(fullest);
                }
                open.push(page);
                pages += 1;
                (pages - 1, start)
            }
        };
        if let Some(address) = addresses.get_mut(*number as usize) {
            *address = ((page << PAGE_SHIFT) | (start * 8)) as u32;
        }
    }
    let mut image = vec![0; pages * PAGE_WORDS];
    let address = |number: u32| addresses.get(number as usize).copied().unwrap_or(0);
    let next = |next: u32| match next & LEAF {
        0 => address(next) | if is_sink(graph, next) { SINK } else { 0 },
        _ => next,
    };
    for number in &order {
        let Some(node) = graph.nodes.get(*number as usize) else { continue };
        let start = address(*number);
        let accept = if node.accept & ACCEPT_STATE != 0 { address(node.accept & !ACCEPT_STATE) } else { node.accept };
        let flags = HEADER | if node.uniform { HEADER_UNIFORM } else { 0 };
        let at = (start >> PAGE_SHIFT) as usize * PAGE_WORDS + (start as usize & ((1 << PAGE_SHIFT) - 1)) / 8;
        set(&mut image, at, flags | accept, next(node.default));
        for (symbol, to) in graph.edges(node) {
            set(&mut image, at + usize::from(*symbol), start, next(*to));
        }
    }
    let words = [
        (header::MAGIC, MAGIC),
        (header::START_TEXT, address(roots.text).into()),
        (header::START_EXE, address(roots.exe).into()),
        (header::START_IPV4, address(roots.ipv4).into()),
        (header::START_IPV6, address(roots.ipv6).into()),
        (header::PAGES, pages as u64),
    ];
    for (at, value) in words {
        if let Some(word) = image.get_mut(at) {
            *word = value;
        }
    }
    Ok(image)
}

fn set(image: &mut [u64], at: usize, upper: u32, lower: u32) {
    if let Some(word) = image.get_mut(at) {
        *word = u64::from(upper) << 32 | u64::from(lower);
    }
}

/// Whether no symbol leaves the state.
fn is_sink(graph: &Graph, number: u32) -> bool {
    graph.nodes.get(number as usize).is_some_and(|node| node.default == number && graph.edges(node).is_empty())
}

/// All states that can be reached, a state's followers soon after it, so that a walk stays in few pages.
fn order(graph: &Graph, roots: &[u32]) -> Vec<u32> {
    let mut order = Vec::with_capacity(graph.nodes.len());
    let mut seen = vec![false; graph.nodes.len()];
    let mut work: Vec<u32> = roots.iter().rev().copied().collect();
    while let Some(number) = work.pop() {
        let Some(seen) = seen.get_mut(number as usize).filter(|seen| !**seen) else { continue };
        *seen = true;
        order.push(number);
        let Some(node): Option<&Node> = graph.nodes.get(number as usize) else { continue };
        let accept = Some(node.accept).filter(|accept| accept & ACCEPT_STATE != 0).map(|accept| accept & !ACCEPT_STATE);
        work.extend(Some(node.default).filter(|next| next & LEAF == 0));
        work.extend(graph.edges(node).iter().map(|(_, next)| *next).filter(|next| next & LEAF == 0).rev());
        work.extend(accept);
    }
    order
}

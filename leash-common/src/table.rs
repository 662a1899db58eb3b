//! The decision tables of one policy, and the only functions that read them.
//!
//! A policy is compiled to an **image**: `u64` words in pages. The whole decision is one run of one deterministic
//! automaton over a string of symbols: the bytes of a path (or the nibbles of an address, the protocol, the nibbles of a port),
//! then the request's [`Kind`], then the class of the acting program. No step depends on the number of policies.
//!
//! ## States
//! A state's name `s` is its page's number, from bit 16 on, and the byte offset of its header word in that page: what a step loads
//! is the next step's address but for one sum. All its words lie in one page, which is why a page goes on after the last place
//! for a header ([`PAGE_STARTS`]). States share space: state `s` owns the word `symbol` words on only if its upper half is `s`.
//!
//! | word | upper 32 bits | lower 32 bits |
//! |---|---|---|
//! | header, at `s` | bit 31 set, bit 30 *uniform below*, bits 0–29 `accept` | default next state |
//! | edge, `symbol` words after it (1 ≤ symbol ≤ 255) | `s` | next state |
//!
//! A next state is one of: a plain state (bits 30, 31 clear); a state with [`SINK`] set, which no further byte of the path can
//! leave; a leaf, with [`LEAF`] set, which is the [`Decision`].
//!
//! ## Accept
//! Where a path or an endpoint ends in state `s`, `accept(s)` names its **row** state. A step by `kind + 1` from the row yields a
//! leaf, or a state that wants two more symbols, the program's class in seven-bit halves ([`exe_symbols`]), and then yields a
//! leaf. In states of that latter form `accept` holds the *allow-set id*: equal ids allow exactly the same programs, and
//! [`NOBODY`] allows none. In the
//! automaton over program paths `accept` is the program's class itself, below [`MAX_EXE_CLASSES`].

use crate::kind::{Kind, Protocol};

/// Words of a page in which a state may begin: as many as 16 bits of byte offsets name.
pub const PAGE_STARTS: usize = 8192;
/// Words in a page: the last state's edges have room, too.
pub const PAGE_WORDS: usize = PAGE_STARTS + MAX_SYMBOL + 1;
/// Bytes in a page.
pub const PAGE_BYTES: usize = PAGE_WORDS * 8;
/// Pages in the largest image, which is smaller than 64 MiB.
pub const MAX_PAGES: usize = 990;
/// Where a page's number begins in a state's name.
pub const PAGE_SHIFT: u32 = 16;
/// The bits of a state's name that are the byte offset in its page.
const OFFSET_MASK: u32 = 0xfff8;
/// The largest symbol.
pub const MAX_SYMBOL: usize = 255;
/// Classes that the acting programs can fall into.
pub const MAX_EXE_CLASSES: usize = 1 << 14;
/// Bytes in the longest path that can be decided (`PATH_MAX` with its terminator, `limits.h`).
pub const MAX_PATH_BYTES: usize = 4096;

/// Set in a next state that no byte leaves.
pub const SINK: u32 = 1 << 30;
/// Set in a next state that is a decision.
pub const LEAF: u32 = 1 << 31;
/// Set in a leaf that allows.
pub const LEAF_ALLOW: u32 = 1 << 30;
/// The bits of a state's name, of `accept` and of a leaf's reason.
pub const INDEX_MASK: u32 = SINK - 1;
/// Set in the upper half of every header word, so that no header can pass for an edge.
pub const HEADER: u32 = 1 << 31;
/// Set in the upper half of a header: all that lies below this path is granted alike.
pub const HEADER_UNIFORM: u32 = 1 << 30;

/// The allow-set id of no program at all.
pub const NOBODY: u32 = 0;

/// The first words of page 0.
pub mod header {
    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: usize = 0;
    /// Lower half: the policy's generation, given by the installer. Upper half: the mode, likewise.
    pub const GENERATION: usize = 1;
    /// Start state for paths and names (`File`, `Dir`, `UnixSocket`, `Socket`).
    pub const START_TEXT: usize = 2;
    /// Start state for the paths of programs.
    pub const START_EXE: usize = 3;
    /// Start state for IPv4 addresses.
    pub const START_IPV4: usize = 4;
    /// Start state for IPv6 addresses.
    pub const START_IPV6: usize = 5;
    /// Pages of the image.
    pub const PAGES: usize = 6;
    /// Words that are reserved for the header; no state may own them.
    pub const WORDS: usize = 16;
}

/// Marks an image, with the version of this layout in its last byte.
pub const MAGIC: u64 = 0x004c_4541_5348_0002;

/// One page of an image.
pub type Page = [u64; PAGE_WORDS];

/// The pages of one image. In the kernel this is the inner map of a session, in userspace a slice.
pub trait Image {
    /// Page `number`, or `None` outside the image.
    fn page(&self, number: u32) -> Option<&Page>;
}

/// A verdict with the set of policies that determined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Whether the request is allowed.
    pub allow: bool,
    /// Index of the determining policies in the policy's reason table; 0 is the empty set.
    pub reason: u32,
}

/// The image contradicts its layout (or ends early): deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// A state together with its page, so that steps within a page need no new lookup.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    page: &'a Page,
    state: u32,
}

/// Word `index` of a page, below [`PAGE_STARTS`]; the mask is what bounds the access, for the compiler and for the kernel's verifier.
#[inline(always)]
pub fn word(page: &Page, index: u32) -> u64 {
    edge(page, index << 3, 0)
}

/// The word `symbol` words after the header of `state` in its page.
#[inline(always)]
fn edge(page: &Page, state: u32, symbol: u8) -> u64 {
    // SAFETY: an offset of at most `OFFSET_MASK` bytes is below `PAGE_STARTS` words, so that 255 words more are inside the page. Slice
    // indexing would compile to a panic branch, which the eBPF target cannot express. The symbol comes first: it is known before
    // the state is.
    unsafe { *page.as_ptr().add(symbol as usize).byte_add((state & OFFSET_MASK) as usize) }
}

impl<'a> Cursor<'a> {
    /// Enters `state` (flags are ignored).
    #[inline(always)]
    pub fn enter(image: &'a impl Image, state: u32) -> Result<Self, Corrupt> {
        let state = state & INDEX_MASK;
        match image.page(state >> PAGE_SHIFT) {
            Some(page) => Ok(Self { page, state }),
            None => Err(Corrupt),
        }
    }

    /// The next state by `symbol` (1..=255), flags included.
    #[inline(always)]
    pub fn peek(&self, symbol: u8) -> u32 {
        let edge = edge(self.page, self.state, symbol);
        if (edge >> 32) as u32 == self.state { edge as u32 } else { self.header() as u32 }
    }

    /// Moves to `next`, a plain or sink state.
    #[inline(always)]
    pub fn follow(&mut self, image: &'a impl Image, next: u32) -> Result<(), Corrupt> {
        let next = next & INDEX_MASK;
        if (next ^ self.state) >> PAGE_SHIFT != 0 {
            match image.page(next >> PAGE_SHIFT) {
                Some(page) => self.page = page,
                None => return Err(Corrupt),
            }
        }
        self.state = next;
        Ok(())
    }

    /// Moves by one byte of a path, and returns whether the new state is a sink.
    #[inline(always)]
    pub fn advance(&mut self, image: &'a impl Image, byte: u8) -> Result<bool, Corrupt> {
        let next = self.peek(byte);
        // A flag in `next` makes the difference large, too, so that the usual step is one comparison.
        if (next ^ self.state) >> PAGE_SHIFT == 0 {
            self.state = next;
            return Ok(false);
        }
        self.state = next & INDEX_MASK;
        self.page = image.page(self.state >> PAGE_SHIFT).ok_or(Corrupt)?;
        Ok(next & SINK != 0)
    }

    #[inline(always)]
    fn header(&self) -> u64 {
        edge(self.page, self.state, 0)
    }

    /// The state's name.
    #[inline(always)]
    pub fn state(&self) -> u32 {
        self.state
    }

    /// `accept` of the state: a row, an allow-set id or a program class.
    #[inline(always)]
    pub fn accept(&self) -> u32 {
        (self.header() >> 32) as u32 & INDEX_MASK
    }

    /// Whether everything below this path is granted alike.
    #[inline(always)]
    pub fn uniform_below(&self) -> bool {
        (self.header() >> 32) as u32 & HEADER_UNIFORM != 0
    }
}

/// Reads one word of the image's header.
#[inline(always)]
pub fn header_word(image: &impl Image, index: usize) -> Result<u64, Corrupt> {
    match image.page(0) {
        Some(page) => Ok(word(page, index as u32)),
        None => Err(Corrupt),
    }
}

/// Walks up to `bytes.len()` bytes from `cursor`. Stops early in a sink, and returns whether it did.
///
/// Callers with a compile-time length get a loop that the kernel's verifier accepts.
#[inline(always)]
pub fn walk_bytes<'a>(image: &'a impl Image, cursor: &mut Cursor<'a>, bytes: &[u8]) -> Result<bool, Corrupt> {
    for &byte in bytes {
        if cursor.advance(image, byte)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The two symbols of a program class.
#[inline(always)]
pub const fn exe_symbols(class: u32) -> [u8; 2] {
    [1 + (class >> 7 & 0x7f) as u8, 1 + (class & 0x7f) as u8]
}

/// Decides `kind` in the row `accept` for a program of class `exe_class`.
#[inline(always)]
pub fn decide_row(image: &impl Image, accept: u32, kind: Kind, exe_class: u32) -> Result<Decision, Corrupt> {
    let mut cursor = Cursor::enter(image, accept)?;
    let mut next = cursor.peek(kind as u8 + 1);
    let [high, low] = exe_symbols(exe_class);
    if next & LEAF == 0 {
        cursor.follow(image, next)?;
        next = cursor.peek(high);
    }
    if next & LEAF == 0 {
        cursor.follow(image, next)?;
        next = cursor.peek(low);
    }
    if next & LEAF == 0 {
        return Err(Corrupt);
    }
    Ok(Decision { allow: next & LEAF_ALLOW != 0, reason: next & INDEX_MASK })
}

/// The answer to all programs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whoever {
    /// Some program may.
    Allow,
    /// No program may, by this reason.
    Deny(u32),
    /// No program may, and not each by the same reason.
    DenyVariously,
}

/// Decides `kind` in the row `accept` where the acting program isn't known: what is denied here is denied to every program.
#[inline(always)]
pub fn decide_whoever(image: &impl Image, accept: u32, kind: Kind) -> Result<Whoever, Corrupt> {
    let next = Cursor::enter(image, accept)?.peek(kind as u8 + 1);
    if next & LEAF == 0 {
        let programs = Cursor::enter(image, next)?;
        return Ok(if programs.accept() == NOBODY { Whoever::DenyVariously } else { Whoever::Allow });
    }
    Ok(if next & LEAF_ALLOW != 0 { Whoever::Allow } else { Whoever::Deny(next & INDEX_MASK) })
}

/// Walks an internet endpoint and returns the cursor at its end. `address` holds 4 or 16 bytes in network order; an IPv4-mapped
/// IPv6 address must have been made an IPv4 address before.
#[inline(always)]
pub fn walk_endpoint<'a, const N: usize>(
    image: &'a impl Image,
    address: &[u8; N],
    protocol: Protocol,
    port: u16,
) -> Result<Cursor<'a>, Corrupt> {
    let start = header_word(image, if N == 4 { header::START_IPV4 } else { header::START_IPV6 })?;
    let mut cursor = Cursor::enter(image, start as u32)?;
    for &byte in address {
        let next = cursor.peek(1 + (byte >> 4));
        cursor.follow(image, next)?;
        let next = cursor.peek(1 + (byte & 15));
        cursor.follow(image, next)?;
    }
    let next = cursor.peek(1 + protocol as u8);
    cursor.follow(image, next)?;
    for shift in [12, 8, 4, 0] {
        let next = cursor.peek(1 + (port >> shift & 15) as u8);
        cursor.follow(image, next)?;
    }
    Ok(cursor)
}

/// Whether a file that moves from the name with row `old` to the name with row `new` gains no later use by any program.
/// `uses` is one of the `LATER_USE_…` sets of [`Kind`], a bit a kind. Conservative where both names grant a use to some programs
/// only, and not the same ones.
#[inline(always)]
pub fn gains_nothing(image: &impl Image, old: u32, new: u32, uses: u32) -> Result<bool, Corrupt> {
    if old == new {
        return Ok(true);
    }
    let old_row = Cursor::enter(image, old)?;
    let new_row = Cursor::enter(image, new)?;
    for kind in 0..Kind::COUNT as u8 {
        if uses >> kind & 1 == 0 {
            continue;
        }
        let old_next = old_row.peek(kind + 1);
        let new_next = new_row.peek(kind + 1);
        let new_denies_all = new_next & (LEAF | LEAF_ALLOW) == LEAF;
        let old_allows_all = old_next & (LEAF | LEAF_ALLOW) == LEAF | LEAF_ALLOW;
        if old_next == new_next || new_denies_all || old_allows_all {
            continue;
        }
        if (old_next | new_next) & LEAF != 0 {
            return Ok(false);
        }
        if Cursor::enter(image, old_next)?.accept() != Cursor::enter(image, new_next)?.accept() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a directory may move: `old` and `new` are the cursors after the two names *and a slash*. True if every name below
/// either means the same on both sides, or gains nothing.
#[inline(always)]
pub fn subtree_gains_nothing<'a>(image: &'a impl Image, old: &Cursor<'a>, new: &Cursor<'a>) -> Result<bool, Corrupt> {
    if old.state == new.state {
        return Ok(true);
    }
    if !(old.uniform_below() && new.uniform_below()) {
        return Ok(false);
    }
    gains_nothing(image, old.accept(), new.accept(), Kind::LATER_USE_BELOW_DIRECTORY)
}

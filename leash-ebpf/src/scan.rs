//! One pass over a path's bytes: the automaton, a hash, and whether the bytes are UTF-8.
//!
//! Paths end at a fixed place and are read in chunks of 64 bytes that are aligned to it. What precedes the path in its first
//! chunk is zeroed, and a zero moves no automaton: no name holds one.

use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use leash_common::session::ScanState;
use leash_common::table::{Corrupt, Cursor, INDEX_MASK, Image, MAX_PATH_BYTES, Page};

use crate::kernel::{bound, clear, repeat};
use crate::walk::PATH_MASK;

const CHUNK: u32 = 64;
const WORDS: u32 = CHUNK / 8;
/// Bounds the offset of a chunk.
pub const CHUNK_MASK: u32 = MAX_PATH_BYTES as u32 - CHUNK;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The installed image of a session: its inner map.
#[derive(Clone, Copy)]
pub struct Pages(pub NonNull<c_void>);

impl Image for Pages {
    #[inline(always)]
    fn page(&self, number: u32) -> Option<&Page> {
        // SAFETY: the pointer came from the array of images in this run of the program, and the kernel keeps the inner map for
        // as long. Pages are written before their map is installed, never after.
        unsafe { bpf_map_lookup_elem(self.0.as_ptr(), (&raw const number).cast()).cast::<Page>().as_ref() }
    }
}

/// What each chunk needs: the path, the image, and where the state is. None of it changes during the pass.
struct Pass<'a> {
    path: *mut u8,
    pages: &'a Pages,
    state: *mut ScanState,
}

/// Whether the bytes of a finished pass are UTF-8.
#[inline(always)]
pub fn is_utf8(state: &ScanState) -> bool {
    state.invalid == 0 && state.expected == 0
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 29
}

unsafe extern "C" fn chunk(index: u64, pass: *mut Pass<'_>) -> i64 {
    // SAFETY: `repeat` hands over the state it was given; the scratch slot that holds the state is claimed.
    let (pass, state) = unsafe { (&*pass, &mut *(*pass).state) };
    let offset = bound::<CHUNK_MASK>((state.first as u64 + index * CHUNK as u64) as u32);
    // SAFETY: `offset` plus a chunk is inside the path's buffer.
    let words = unsafe { pass.path.add(offset) }.cast::<u64>();
    let mut hash = state.hash;
    let mut seen = state.seen;
    for i in 0..WORDS as usize {
        // SAFETY: see above; buffers are aligned to words.
        let word = unsafe { words.add(i).read() };
        seen |= word;
        hash = mix(hash, word);
    }
    state.hash = hash;
    state.seen = seen;
    if state.sunk != 0 {
        return 0;
    }
    let Ok(mut cursor) = Cursor::enter(pass.pages, state.state) else {
        state.corrupt = 1;
        return 1;
    };
    for i in 0..CHUNK as usize {
        // SAFETY: see above.
        let byte = unsafe { words.cast::<u8>().add(i).read() };
        // Zeros are what precedes the path.
        if byte == 0 {
            continue;
        }
        match cursor.advance(pass.pages, byte) {
            Ok(false) => {}
            Ok(true) => {
                state.sunk = 1;
                break;
            }
            Err(Corrupt) => {
                state.corrupt = 1;
                return 1;
            }
        }
    }
    state.state = cursor.state();
    0
}

/// Validates UTF-8 (Unicode 15, table 3-7), a byte a call: few paths need it. `expected` bytes of a sequence are still to come, the
/// next of them within `lowest..=highest`.
unsafe extern "C" fn validate(index: u64, pass: *mut Pass<'_>) -> i64 {
    // SAFETY: as in `chunk`.
    let (pass, state) = unsafe { (&*pass, &mut *(*pass).state) };
    let offset = bound::<PATH_MASK>((state.first as u64 + index) as u32);
    // SAFETY: `offset` is inside the path's buffer.
    let byte = unsafe { pass.path.add(offset).read() } as u32;
    if state.expected != 0 {
        if byte < state.lowest || byte > state.highest {
            state.invalid = 1;
            return 1;
        }
        state.expected -= 1;
        state.lowest = 0x80;
        state.highest = 0xbf;
    } else if byte >= 0x80 {
        if byte < 0xc2 || byte > 0xf4 {
            state.invalid = 1;
            return 1;
        }
        let (expected, lowest, highest) = match byte {
            0xf0 => (3, 0x90, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            _ => (1, 0x80, 0xbf),
        };
        state.expected = expected;
        state.lowest = lowest;
        state.highest = highest;
    }
    0
}

/// Runs the automaton from its state `from` over the path that starts at `start` of `path`. Returns whether the
/// image is sound.
///
/// # Safety
/// `path` must be a buffer of `MAX_PATH_BYTES`, aligned to words, and `state` memory that nobody else uses.
#[inline(always)]
pub unsafe fn scan(pages: &Pages, from: u32, path: *mut u8, start: u32, state: *mut ScanState) -> bool {
    let first = start & !(CHUNK - 1);
    // SAFETY: the caller's promise.
    unsafe {
        (*state).state = from & INDEX_MASK;
        clear(&raw mut (*state).sunk);
        clear(&raw mut (*state).corrupt);
        clear(&raw mut (*state).invalid);
        clear(&raw mut (*state).seen);
        clear(&raw mut (*state).hash);
        clear(&raw mut (*state).expected);
        (*state).first = first;
        let mut pass = Pass { path, pages, state };
        if start < MAX_PATH_BYTES as u32 {
            let base = bound::<CHUNK_MASK>(first);
            let before = start - first;
            for i in 0..WORDS {
                let word = path.add(base).cast::<u64>().add(i as usize);
                if i * 8 + 8 <= before {
                    word.write(0);
                } else if i * 8 < before {
                    word.write(word.read() & (u64::MAX << ((before & 7) * 8)));
                }
            }
            let count = (MAX_PATH_BYTES as u32 - first) / CHUNK;
            repeat(count, chunk, &mut pass);
            if (*state).seen & HIGH_BITS != 0 {
                repeat(count * CHUNK, validate, &mut pass);
            }
        }
        match Cursor::enter(pages, (*state).state) {
            Ok(cursor) => (*state).accept = cursor.accept(),
            Err(Corrupt) => return false,
        }
        (*state).corrupt == 0
    }
}

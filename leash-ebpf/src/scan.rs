//! One pass over a path's bytes: the automaton, a hash, and whether the bytes are UTF-8.
//!
//! Paths end at a fixed place and are read in chunks of 64 bytes that are aligned to it. What precedes the path in its first
//! chunk is zeroed, and a zero moves no automaton: no name holds one.

use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use leash_common::table::{Cursor, Image, MAX_PATH_BYTES, Page, SINK};

use crate::kernel::repeat;

const CHUNK: u32 = 64;
const WORDS: u32 = CHUNK / 8;
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

/// A pass over the path that starts at `start` of the `MAX_PATH_BYTES` at `path`.
pub struct Scan<'a> {
    path: *mut u8,
    pages: &'a Pages,
    cursor: Cursor<'a>,
    start: u32,
    sunk: u32,
    corrupt: u32,
    high: u64,
    hash: u64,
    expected: u32,
    lowest: u32,
    highest: u32,
    invalid: u32,
}

/// The outcome of a pass.
pub struct Scanned<'a> {
    pub cursor: Cursor<'a>,
    pub hash: u64,
    pub utf8: bool,
    pub corrupt: bool,
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 29
}

unsafe extern "C" fn chunk(index: u64, scan: *mut Scan<'_>) -> i64 {
    // SAFETY: `repeat` hands over the state it was given.
    let scan = unsafe { &mut *scan };
    let offset = (scan.start as u64 + index * CHUNK as u64) as u32 & (MAX_PATH_BYTES as u32 - CHUNK);
    // SAFETY: `offset` plus a chunk is inside the path's buffer.
    let words = unsafe { scan.path.add(offset as usize) }.cast::<u64>();
    let mut cursor = scan.cursor;
    let mut hash = scan.hash;
    let mut high = scan.high;
    for i in 0..WORDS as usize {
        // SAFETY: see above; buffers are aligned to words.
        let word = unsafe { words.add(i).read() };
        if word == 0 {
            continue;
        }
        high |= word;
        hash = mix(hash, word);
    }
    scan.hash = hash;
    scan.high = high;
    if scan.sunk != 0 {
        return 0;
    }
    for i in 0..CHUNK as usize {
        // SAFETY: see above.
        let byte = unsafe { words.cast::<u8>().add(i).read() };
        if byte == 0 {
            continue;
        }
        let next = cursor.peek(byte);
        if cursor.follow(scan.pages, next).is_err() {
            scan.corrupt = 1;
            return 1;
        }
        if next & SINK != 0 {
            scan.sunk = 1;
            break;
        }
    }
    scan.cursor = cursor;
    0
}

/// Validates UTF-8 (Unicode 15, table 3-7) in one chunk. `expected` bytes of a sequence are still to come, the next of them
/// within `lowest..=highest`.
unsafe extern "C" fn validate(index: u64, scan: *mut Scan<'_>) -> i64 {
    // SAFETY: as in `chunk`.
    let scan = unsafe { &mut *scan };
    let offset = (scan.start as u64 + index * CHUNK as u64) as u32 & (MAX_PATH_BYTES as u32 - CHUNK);
    let mut expected = scan.expected;
    let mut lowest = scan.lowest;
    let mut highest = scan.highest;
    for i in 0..CHUNK as usize {
        // SAFETY: as in `chunk`.
        let byte = unsafe { scan.path.add(offset as usize + i).read() } as u32;
        if expected != 0 {
            if byte < lowest || byte > highest {
                scan.invalid = 1;
                return 1;
            }
            expected -= 1;
            lowest = 0x80;
            highest = 0xbf;
        } else if byte >= 0x80 {
            if byte < 0xc2 || byte > 0xf4 {
                scan.invalid = 1;
                return 1;
            }
            lowest = 0x80;
            highest = 0xbf;
            expected = 1;
            if byte >= 0xf0 {
                expected = 3;
                if byte == 0xf0 {
                    lowest = 0x90;
                } else if byte == 0xf4 {
                    highest = 0x8f;
                }
            } else if byte >= 0xe0 {
                expected = 2;
                if byte == 0xe0 {
                    lowest = 0xa0;
                } else if byte == 0xed {
                    highest = 0x9f;
                }
            }
        }
    }
    scan.expected = expected;
    scan.lowest = lowest;
    scan.highest = highest;
    0
}

/// Runs the automaton from `cursor` over the path that starts at `start` of `path`.
///
/// # Safety
/// `path` must be a buffer of `MAX_PATH_BYTES`, aligned to words.
#[inline(always)]
pub unsafe fn scan<'a>(pages: &'a Pages, cursor: Cursor<'a>, path: *mut u8, start: u32) -> Scanned<'a> {
    let first = start & !(CHUNK - 1);
    let mut scan = Scan {
        path,
        pages,
        cursor,
        start: first,
        sunk: 0,
        corrupt: 0,
        high: 0,
        hash: 0,
        expected: 0,
        lowest: 0,
        highest: 0,
        invalid: 0,
    };
    if start < MAX_PATH_BYTES as u32 {
        let base = first & (MAX_PATH_BYTES as u32 - CHUNK);
        let before = start - first;
        for i in 0..WORDS {
            // SAFETY: the first chunk of the path is inside the buffer.
            let word = unsafe { path.add(base as usize).cast::<u64>().add(i as usize) };
            if i * 8 + 8 <= before {
                // SAFETY: see above.
                unsafe { word.write(0) };
            } else if i * 8 < before {
                // SAFETY: see above.
                unsafe { word.write(word.read() & (u64::MAX << ((before & 7) * 8))) };
            }
        }
        let count = (MAX_PATH_BYTES as u32 - first) / CHUNK;
        repeat(count, chunk, &mut scan);
        if scan.high & HIGH_BITS != 0 {
            repeat(count, validate, &mut scan);
        }
    }
    Scanned {
        cursor: scan.cursor,
        hash: scan.hash,
        utf8: scan.invalid == 0 && scan.expected == 0,
        corrupt: scan.corrupt != 0,
    }
}

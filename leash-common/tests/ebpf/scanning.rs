//! `scan.rs`: one pass over a path gives what `leash_common::table` and the standard library give.

use std::ptr::NonNull;

use leash_common::session::ScanState;
use leash_common::table::{Cursor, HEADER, MAX_PATH_BYTES, PAGE_SHIFT, PAGE_WORDS, Page, SINK, walk_bytes};

use crate::fixture::Numbers;
use crate::scan::{Pages, is_utf8, scan};

/// Words that a state may own here, so that none shares any.
const APART: usize = 256;
const STATES: usize = 2 * 31;

#[repr(align(8))]
struct Buffer([u8; MAX_PATH_BYTES]);

fn name(state: usize) -> u32 {
    (((state / 31) << PAGE_SHIFT) + (16 + state % 31 * APART) * 8) as u32
}

/// Two pages of states with edges by chance, few of which lead to a sink.
fn automaton(numbers: &mut Numbers) -> Vec<Page> {
    let mut pages = vec![[0; PAGE_WORDS]; 2];
    for state in 0..STATES {
        let mut next = || {
            let sink = if numbers.below(400) == 0 { SINK } else { 0 };
            u64::from(name(numbers.below(STATES)) | sink)
        };
        let page = &mut pages[state / 31];
        let head = 16 + state % 31 * APART;
        page[head] = u64::from(HEADER | state as u32) << 32 | next();
        for symbol in 1..APART {
            if symbol % 3 != 0 {
                page[head + symbol] = u64::from(name(state)) << 32 | next();
            }
        }
    }
    pages
}

struct Outcome {
    state: ScanState,
    sound: bool,
}

/// Scans `path` at its place at the end of a buffer, after `before` everywhere.
fn pass(pages: &Vec<Page>, from: u32, path: &[u8], before: u8) -> Outcome {
    let mut buffer = Buffer([before; MAX_PATH_BYTES]);
    let start = MAX_PATH_BYTES - path.len();
    buffer.0[start..].copy_from_slice(path);
    // SAFETY: integers.
    let mut state: ScanState = unsafe { std::mem::zeroed() };
    // Whatever an earlier pass left.
    (state.sunk, state.corrupt, state.invalid, state.expected, state.seen, state.hash) = (1, 1, 1, 1, 1, 1);
    let image = Pages(NonNull::from(pages).cast());
    // SAFETY: a buffer of that size, aligned, and a state of our own.
    let sound = unsafe { scan(&image, from, buffer.0.as_mut_ptr(), start as u32, &raw mut state) };
    Outcome { state, sound }
}

struct Slice<'a>(&'a [Page]);

impl leash_common::table::Image for Slice<'_> {
    fn page(&self, number: u32) -> Option<&Page> {
        self.0.get(number as usize)
    }
}

#[test]
fn the_automaton_ends_where_the_plain_walk_does() {
    let mut numbers = Numbers(1);
    for _ in 0..20 {
        let pages = automaton(&mut numbers);
        for _ in 0..50 {
            let length = [0, 1, 7, 8, 63, 64, 65, 128, 4095, numbers.below(400)][numbers.below(10)];
            let path: Vec<u8> = (0..length).map(|_| 1 + numbers.below(255) as u8).collect();
            let from = name(numbers.below(STATES));
            let image = Slice(&pages);
            let mut cursor = Cursor::enter(&image, from).unwrap();
            let sunk = walk_bytes(&image, &mut cursor, &path).unwrap();
            let outcome = pass(&pages, from, &path, 0xc3);
            assert!(outcome.sound);
            let ended = (outcome.state.state, outcome.state.accept, outcome.state.sunk != 0);
            assert_eq!(ended, (cursor.state(), cursor.accept(), sunk), "{path:?}");
        }
    }
}

#[test]
fn a_hash_is_of_the_path_alone() {
    let pages = automaton(&mut Numbers(2));
    let hash = |path: &[u8], before| pass(&pages, name(0), path, before).state.hash;
    let mut numbers = Numbers(3);
    let mut seen = std::collections::BTreeSet::new();
    for length in 1..300 {
        let path: Vec<u8> = (0..length).map(|_| 1 + numbers.below(255) as u8).collect();
        assert_eq!(hash(&path, 0), hash(&path, 0xff));
        assert!(seen.insert(hash(&path, 0)), "{length}");
    }
}

#[test]
fn text_is_text_where_the_standard_library_says_so() {
    let pages = automaton(&mut Numbers(4));
    let check = |path: &[u8]| {
        assert_eq!(is_utf8(&pass(&pages, name(0), path, 0).state), std::str::from_utf8(path).is_ok(), "{path:x?}");
    };
    // Each first byte with each second one, and with what may follow, at the end and before more.
    for first in 0x80..=0xff {
        check(&[b'/', first]);
        for second in 0x70..=0xff {
            for tail in [&[][..], &[0x80], &[0x80, 0xbf], &[0x80, 0x80, 0x80], b"a"] {
                check(&[&[b'/', first, second], tail].concat());
            }
        }
    }
    // Across the edge of a chunk.
    for length in 60..70 {
        check(&[&b"x".repeat(length)[..], "€𝄞é".as_bytes(), &b"y".repeat(62)].concat());
        check(&[&b"x".repeat(length)[..], &"𝄞".as_bytes()[..3], &b"y".repeat(62)].concat());
    }
}

#[test]
fn an_image_that_ends_early_is_found_out() {
    let mut pages = automaton(&mut Numbers(5));
    let head = 16;
    pages[0][head] = u64::from(HEADER) << 32 | 9 << PAGE_SHIFT;
    for symbol in 1..APART {
        pages[0][head + symbol] = 0;
    }
    assert!(!pass(&pages, name(0), b"/a", 0).sound);
    assert!(!pass(&pages, 9 << PAGE_SHIFT, b"/a", 0).sound);
    assert!(pass(&pages, name(0), b"", 0).sound);
}

//! The decision: from a claimed scratch slot to the answer of the session's tables, one record for each question.

use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use leash_common::event::Cause;
use leash_common::kind::{Kind, Protocol};
use leash_common::session::{Scratch, TaskRecord, class_tag};
use leash_common::table::{
    Corrupt, Cursor, LEAF, LEAF_ALLOW, MAGIC, MAX_PATH_BYTES, decide_row, gains_nothing, header, header_word,
    subtree_gains_nothing, walk_endpoint,
};

use crate::emit::leash_record;
use crate::maps::{IMAGES, TASKS};
use crate::path::BACKWARDS;
use crate::scan::{Pages, scan};
use crate::scratch;

/// The installed policy of a session, as of this moment.
pub struct Installed {
    pub pages: Pages,
    pub generation: u32,
    pub enforce: u32,
}

/// What is installed for `slot`. One lookup: everything that follows uses the same image, whatever is installed meanwhile.
#[inline(always)]
pub fn installed(slot: u32) -> Option<Installed> {
    let pages = Pages(NonNull::from(IMAGES.get(slot)?).cast());
    let magic = header_word(&pages, header::MAGIC).ok()?;
    if magic != MAGIC {
        return None;
    }
    let word = header_word(&pages, header::GENERATION).ok()?;
    Some(Installed { pages, generation: word as u32, enforce: (word >> 32) as u32 & 1 })
}

/// The start state of one kind of text.
#[inline(always)]
pub fn start<'a>(pages: &'a Pages, index: usize) -> Result<Cursor<'a>, Corrupt> {
    let state = header_word(pages, index)?;
    Cursor::enter(pages, state as u32)
}

/// Class of the acting program, and its path's hash.
#[inline(always)]
unsafe fn program(installed: &Installed, scratch: *mut Scratch, area: usize) -> Result<u32, Cause> {
    let Ok(cursor) = start(&installed.pages, header::START_EXE) else { return Err(Cause::CorruptImage) };
    // SAFETY: the current task is a trusted pointer; the record is the task's own; the slot is claimed.
    unsafe {
        let task: *mut TaskRecord = TASKS.get(bpf_get_current_task_btf().cast(), false);
        if !task.is_null() && (*task).start != 0 {
            let tag = class_tag((*scratch).slot, installed.generation);
            (*scratch).exe_hash = (*task).hash;
            if (*task).tag == tag {
                return Ok((*task).class);
            }
            let scanned = scan(&installed.pages, cursor, (*task).path.as_mut_ptr(), (*task).start);
            if scanned.corrupt {
                return Err(Cause::CorruptImage);
            }
            if !scanned.utf8 {
                return Err(Cause::UnknownProgram);
            }
            (*task).class = scanned.cursor.accept();
            (*task).hash = scanned.hash;
            (*task).tag = tag;
            (*scratch).exe_hash = scanned.hash;
            return Ok((*task).class);
        }
        // The first exec of a session has no program that acts but the one that is about to run.
        let from = *(*scratch).start.as_ptr().add(area);
        if (*scratch).exe_is_path == 0 || from == MAX_PATH_BYTES as u32 {
            return Err(Cause::UnknownProgram);
        }
        let path = (*(*scratch).area.as_mut_ptr().add(area)).path.as_mut_ptr();
        let scanned = scan(&installed.pages, cursor, path, from);
        if scanned.corrupt {
            return Err(Cause::CorruptImage);
        }
        (*scratch).exe_hash = scanned.hash;
        Ok(scanned.cursor.accept())
    }
}

/// Row of the object of `area`: what the tables say of its path or endpoint.
#[inline(always)]
unsafe fn row(installed: &Installed, scratch: *mut Scratch, area: usize) -> Result<u32, Cause> {
    let pages = &installed.pages;
    // SAFETY: the slot is claimed and `area` is below 2.
    unsafe {
        let cause = *(*scratch).cause.as_ptr().add(area);
        if cause != 0 {
            return Err(Cause::from_number(cause as u8));
        }
        let protocol = Protocol::from_number((*scratch).protocol as u8);
        let port = (*scratch).port as u16;
        let hash = (*scratch).hash.as_mut_ptr().add(area);
        if (*scratch).address_len != 0 {
            let halves = (*scratch).address.as_ptr().cast::<u64>();
            let address = halves.read() ^ halves.add(1).read().rotate_left(17);
            hash.write(address ^ (port as u64) << 8 ^ protocol as u64);
        }
        match (*scratch).address_len {
            4 => {
                let address = (*scratch).address.as_ptr().cast::<[u8; 4]>();
                match walk_endpoint(pages, &*address, protocol, port) {
                    Ok(cursor) => Ok(cursor.accept()),
                    Err(Corrupt) => Err(Cause::CorruptImage),
                }
            }
            16 => match walk_endpoint(pages, &*(&raw const (*scratch).address), protocol, port) {
                Ok(cursor) => Ok(cursor.accept()),
                Err(Corrupt) => Err(Cause::CorruptImage),
            },
            _ => {
                let cursor = end(pages, scratch, area)?;
                Ok(cursor.accept())
            }
        }
    }
}

/// Where the path of `area` ends in the automaton.
#[inline(always)]
unsafe fn end<'a>(pages: &'a Pages, scratch: *mut Scratch, area: usize) -> Result<Cursor<'a>, Cause> {
    let Ok(cursor) = start(pages, header::START_TEXT) else { return Err(Cause::CorruptImage) };
    // SAFETY: the slot is claimed and `area` is below 2.
    unsafe {
        let from = *(*scratch).start.as_ptr().add(area);
        if from >= MAX_PATH_BYTES as u32 {
            return Err(Cause::Unreachable);
        }
        let path = (*(*scratch).area.as_mut_ptr().add(area)).path.as_mut_ptr();
        let scanned = scan(pages, cursor, path, from);
        (*scratch).hash.as_mut_ptr().add(area).write(scanned.hash);
        if scanned.corrupt {
            return Err(Cause::CorruptImage);
        }
        if !scanned.utf8 {
            return Err(Cause::NotUtf8);
        }
        Ok(scanned.cursor)
    }
}

/// Asks `kinds` (a bit a kind) of the object of area `area` in scratch slot `index`, and records each answer. Returns 1 if one
/// of them is an enforced denial.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_judge(index: u32, area: u32, kinds: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return 1 };
    let area = area as usize & 1;
    // SAFETY: the caller claimed the slot.
    unsafe {
        let Some(installed) = installed((*scratch).slot) else {
            // Without an image there is no mode either, so nothing may pass.
            let mut kind = 0;
            while kind < Kind::COUNT as u32 {
                if kinds >> kind & 1 != 0 {
                    leash_record(index, area as u32 | kind << 8 | (Cause::NoImage as u32) << 16 | 1 << 24, 0, LEAF);
                }
                kind += 1;
            }
            return 1;
        };
        (*scratch).exe_hash = 0;
        let mut cause = Cause::Policy as u32;
        let mut accept = 0;
        let mut class = 0;
        match row(&installed, scratch, area) {
            Ok(found) => accept = found,
            Err(why) => cause = why as u32,
        }
        if cause == 0 {
            match program(&installed, scratch, area) {
                Ok(found) => class = found,
                Err(why) => cause = why as u32,
            }
        }
        let override_kinds = (*scratch).override_kinds;
        let override_cause = (*scratch).override_cause;
        let mut denied = 0;
        let mut kind = 0;
        while kind < Kind::COUNT as u32 {
            if kinds >> kind & 1 != 0 {
                let mut why = cause;
                let mut leaf = LEAF;
                if why == 0 && override_kinds >> kind & 1 != 0 {
                    why = override_cause;
                }
                if why == 0 {
                    // INVARIANT: `Kind`s are numbered without holes from 0, and `kind` is below their count.
                    match decide_row(&installed.pages, accept, core::mem::transmute::<u8, Kind>(kind as u8 & 15), class) {
                        Ok(decision) if decision.allow => leaf = LEAF | LEAF_ALLOW | decision.reason,
                        Ok(decision) => leaf = LEAF | decision.reason,
                        Err(Corrupt) => why = Cause::CorruptImage as u32,
                    }
                }
                let packed = area as u32 | kind << 8 | (why & 0xff) << 16 | installed.enforce << 24;
                leash_record(index, packed, installed.generation, leaf);
                if leaf & LEAF_ALLOW == 0 {
                    denied |= installed.enforce;
                }
            }
            kind += 1;
        }
        denied
    }
}

/// Whether the object that gets the name of area 1 gains nothing over the name of area 0 ([`BACKWARDS`]: the reverse); `tree` if it is a directory, so that all
/// below it counts. `uses` as in [`gains_nothing`]. Returns the cause of a denial, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_gains(index: u32, uses: u32, tree: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot.
    unsafe {
        if (*scratch).cause != [0, 0] {
            // The question itself fails for that cause.
            return 0;
        }
        let Some(installed) = installed((*scratch).slot) else { return Cause::NoImage as u32 };
        let pages = &installed.pages;
        let backwards = uses & BACKWARDS != 0;
        let mut old = match end(pages, scratch, backwards as usize) {
            Ok(cursor) => cursor,
            Err(cause) => return cause as u32,
        };
        let mut new = match end(pages, scratch, !backwards as usize) {
            Ok(cursor) => cursor,
            Err(cause) => return cause as u32,
        };
        let mut kept = gains_nothing(pages, old.accept(), new.accept(), uses);
        if tree != 0 && kept == Ok(true) {
            let old_next = old.peek(b'/');
            let new_next = new.peek(b'/');
            kept = match (old.follow(pages, old_next), new.follow(pages, new_next)) {
                (Ok(()), Ok(())) => subtree_gains_nothing(pages, &old, &new),
                _ => Err(Corrupt),
            };
        }
        match kept {
            Ok(true) => 0,
            Ok(false) => Cause::GainsAccess as u32,
            Err(Corrupt) => Cause::CorruptImage as u32,
        }
    }
}

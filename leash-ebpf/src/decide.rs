//! The decision: from a claimed scratch slot to the answer of the session's tables, one record for each question.
//!
//! It is cut into global functions, which the verifier proves one by one for any argument. Each looks the image up anew and
//! checks that it is the one the decision began with; if a reload came between, the decision starts over.

use core::mem::offset_of;
use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use leash_common::event::Cause;
use leash_common::kind::Kind;
use leash_common::session::{Area, EPOCH_WORD, Scratch, TaskRecord, class_tag};
use leash_common::table::{
    Corrupt, Cursor, Image, LEAF, LEAF_ALLOW, MAGIC, MAX_PATH_BYTES, decide_row, gains_nothing, header, header_word,
    subtree_gains_nothing, word,
};

use crate::emit::leash_record;
use crate::kernel::{bound, copy};
use crate::maps::{IMAGES, TASKS};
use crate::path::BACKWARDS;
use crate::scan::{Pages, is_utf8, scan};
use crate::scratch;

/// Decisions that are begun before a policy that keeps changing is taken for none.
const MAX_ATTEMPTS: u32 = 4;

/// The installed policy of a session, as of this moment.
pub struct Installed {
    pub pages: Pages,
    pub generation: u32,
    pub enforce: u32,
    pub epoch: u64,
}

/// What is installed for `slot`.
#[inline(always)]
pub fn installed(slot: u32) -> Option<Installed> {
    let pages = Pages(NonNull::from(IMAGES.get(slot)?).cast());
    let first = pages.page(0)?;
    if word(first, header::MAGIC as u32) != MAGIC {
        return None;
    }
    let mode = word(first, header::GENERATION as u32);
    let epoch = word(first, EPOCH_WORD as u32);
    Some(Installed { pages, generation: mode as u32, enforce: (mode >> 32) as u32 & 1, epoch })
}

/// The image that the decision in this slot began with, unless another is installed by now.
#[inline(always)]
unsafe fn same(scratch: *mut Scratch) -> Result<Pages, Cause> {
    // SAFETY: the slot is claimed.
    unsafe {
        let Some(found) = IMAGES.get((*scratch).slot) else { return Err(Cause::NoImage) };
        let pages = Pages(NonNull::from(found).cast());
        let Some(first) = pages.page(0) else { return Err(Cause::CorruptImage) };
        if word(first, EPOCH_WORD as u32) == (*scratch).epoch { Ok(pages) } else { Err(Cause::Reloaded) }
    }
}

/// Path of area 0 or 1.
const SOURCE_PATH: u32 = 0;
/// Where the program's path is put, in area 0 or 1.
const SOURCE_EXE: u32 = 2;

/// One pass of the automaton that starts at header word `head` over the path that starts at `from` in `source`. The outcome is in
/// the slot's `scan`. Returns a cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_scan(index: u32, source: u32, head: u32, from: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot; both parts of the offset are bounded.
    unsafe {
        let pages = match same(scratch) {
            Ok(pages) => pages,
            Err(cause) => return cause as u32,
        };
        let Ok(state) = header_word(&pages, head as usize & (header::WORDS - 1)) else { return Cause::CorruptImage as u32 };
        let area = bound::<1>(source) * size_of::<Area>();
        let part = bound::<1>(source >> 1) * MAX_PATH_BYTES;
        let path = (&raw mut (*scratch).area).cast::<u8>().add(offset_of!(Area, path)).add(area).add(part);
        match scan(&pages, state as u32, path, from, &raw mut (*scratch).scan) {
            true => Cause::Policy as u32,
            false => Cause::CorruptImage as u32,
        }
    }
}

/// `leash_scan`, and whether the path is UTF-8.
#[inline(always)]
fn pass(index: u32, source: u32, head: usize, from: u32) -> Result<(), Cause> {
    match leash_scan(index, source, head as u32, from) {
        0 => Ok(()),
        cause => Err(Cause::from_number(cause as u8)),
    }
}

/// Where the automaton stopped.
#[inline(always)]
unsafe fn cursor<'a>(pages: &'a Pages, scratch: *mut Scratch) -> Result<Cursor<'a>, Cause> {
    // SAFETY: the slot is claimed.
    match unsafe { Cursor::enter(pages, (*scratch).scan.state) } {
        Ok(cursor) => Ok(cursor),
        Err(Corrupt) => Err(Cause::CorruptImage),
    }
}

fn code(result: Result<(), Cause>) -> u32 {
    match result {
        Ok(()) => Cause::Policy as u32,
        Err(cause) => cause as u32,
    }
}

/// Begins a decision: notes which image decides. Returns a cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_begin(index: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot.
    unsafe {
        // Without an image there is no mode either, so nothing may pass.
        (*scratch).enforce = 1;
        (*scratch).generation = 0;
        (*scratch).exe_hash = 0;
        let Some(installed) = installed((*scratch).slot) else { return Cause::NoImage as u32 };
        (*scratch).enforce = installed.enforce;
        (*scratch).generation = installed.generation;
        (*scratch).epoch = installed.epoch;
        Cause::Policy as u32
    }
}

/// Finds the row of the endpoint in the slot. Returns a cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_endpoint(index: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot.
    unsafe { code(endpoint(index, scratch)) }
}

#[inline(always)]
unsafe fn endpoint(index: u32, scratch: *mut Scratch) -> Result<(), Cause> {
    // SAFETY: the slot is claimed.
    unsafe {
        let wide = (*scratch).address_len != 4;
        let head = if wide { header::START_IPV6 } else { header::START_IPV4 };
        // The symbols of `table::walk_endpoint`, none of them zero, in the place of a path; area 1 is free here.
        let base = (&raw mut (*scratch).area).cast::<Area>().add(1);
        let path = (&raw mut (*base).path).cast::<u8>();
        let from = MAX_PATH_BYTES - if wide { 16 * 2 + 5 } else { 4 * 2 + 5 };
        let address = (&raw const (*scratch).address).cast::<u8>();
        for i in 0..if wide { 16 } else { 4 } {
            let byte = address.add(i).read();
            path.add(from + 2 * i).write(1 + (byte >> 4));
            path.add(from + 2 * i + 1).write(1 + (byte & 15));
        }
        let port = (*scratch).port;
        path.add(MAX_PATH_BYTES - 5).write(1 + (*scratch).protocol as u8);
        path.add(MAX_PATH_BYTES - 4).write(1 + (port >> 12 & 15) as u8);
        path.add(MAX_PATH_BYTES - 3).write(1 + (port >> 8 & 15) as u8);
        path.add(MAX_PATH_BYTES - 2).write(1 + (port >> 4 & 15) as u8);
        path.add(MAX_PATH_BYTES - 1).write(1 + (port & 15) as u8);
        pass(index, SOURCE_PATH | 1, head, from as u32)?;
        (*scratch).hash[0] = (*scratch).scan.hash;
        (*scratch).accept = (*scratch).scan.accept;
    }
    Ok(())
}

/// Finds the row of the path in `area`. Returns a cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_path(index: u32, area: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot.
    unsafe { code(path(index, scratch, area as usize & 1)) }
}

#[inline(always)]
unsafe fn path(index: u32, scratch: *mut Scratch, area: usize) -> Result<(), Cause> {
    // SAFETY: the slot is claimed.
    unsafe {
        end(index, scratch, area)?;
        (*scratch).accept = (*scratch).scan.accept;
    }
    Ok(())
}

/// Runs the automaton over the path of `area`; where it ends is in the slot's `scan`.
#[inline(always)]
unsafe fn end(index: u32, scratch: *mut Scratch, area: usize) -> Result<(), Cause> {
    // SAFETY: the slot is claimed and `area` is below 2.
    unsafe {
        let from = *(*scratch).start.as_ptr().add(area);
        if from >= MAX_PATH_BYTES as u32 {
            return Err(Cause::Unreachable);
        }
        pass(index, SOURCE_PATH | area as u32, header::START_TEXT, from)?;
        (*scratch).hash.as_mut_ptr().add(area).write((*scratch).scan.hash);
        if !is_utf8(&(*scratch).scan) {
            return Err(Cause::NotUtf8);
        }
    }
    Ok(())
}

/// Finds the class of the current task's program. Returns a cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_class(index: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot.
    unsafe { code(class(index, scratch)) }
}

#[inline(always)]
unsafe fn class(index: u32, scratch: *mut Scratch) -> Result<(), Cause> {
    // SAFETY: the current task is a trusted pointer; the record is the task's own; the slot is claimed.
    unsafe {
        let task: *mut TaskRecord = TASKS.get(bpf_get_current_task_btf().cast(), false);
        if task.is_null() || (*task).start == 0 {
            return Err(Cause::UnknownProgram);
        }
        let tag = class_tag((*scratch).slot, (*scratch).generation);
        if (*task).tag != tag {
            let area = (&raw mut (*scratch).area).cast::<Area>();
            if !copy((&raw mut (*area).exe).cast(), MAX_PATH_BYTES, (&raw const (*task).path) as u64) {
                return Err(Cause::UnknownProgram);
            }
            pass(index, SOURCE_EXE, header::START_EXE, (*task).start)?;
            if !is_utf8(&(*scratch).scan) {
                return Err(Cause::UnknownProgram);
            }
            (*task).class = (*scratch).scan.accept;
            (*task).hash = (*scratch).scan.hash;
            (*task).tag = tag;
        }
        (*scratch).class = (*task).class;
        (*scratch).exe_hash = (*task).hash;
    }
    Ok(())
}

/// Finds the class of the program whose path is in area 0: the first exec of a session has no other program that acts. Returns a
/// cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_class_of_path(index: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot.
    unsafe { code(class_of_path(index, scratch)) }
}

#[inline(always)]
unsafe fn class_of_path(index: u32, scratch: *mut Scratch) -> Result<(), Cause> {
    // SAFETY: the slot is claimed.
    unsafe {
        let from = (*scratch).start[0];
        if from >= MAX_PATH_BYTES as u32 {
            return Err(Cause::UnknownProgram);
        }
        pass(index, SOURCE_PATH, header::START_EXE, from)?;
        (*scratch).class = (*scratch).scan.accept;
        (*scratch).exe_hash = (*scratch).scan.hash;
    }
    Ok(())
}

/// Decides `kind` for the row and the class in the slot; leaves the leaf. Returns a cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_leaf(index: u32, kind: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    let number = (kind & 15) as u8;
    // SAFETY: the caller claimed the slot. `Kind`s are numbered without holes from 0 to 15.
    unsafe {
        let pages = match same(scratch) {
            Ok(pages) => pages,
            Err(cause) => return cause as u32,
        };
        match decide_row(&pages, (*scratch).accept, core::mem::transmute::<u8, Kind>(number), (*scratch).class) {
            Ok(decision) => {
                let allow = if decision.allow { LEAF_ALLOW } else { 0 };
                (*scratch).leaf.as_mut_ptr().add(number as usize).write(LEAF | allow | decision.reason);
                Cause::Policy as u32
            }
            Err(Corrupt) => Cause::CorruptImage as u32,
        }
    }
}

/// Everything up to the leaves, by one image. Returns a cause that holds for all kinds.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_decide(index: u32, area: u32, kinds: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    let cause = leash_begin(index);
    if cause != 0 {
        return cause;
    }
    // SAFETY: the caller claimed the slot; the mask bounds the index.
    unsafe {
        let cause = *(*scratch).cause.as_ptr().add(area as usize & 1);
        if cause != 0 {
            return cause;
        }
        let cause = if (*scratch).address_len != 0 { leash_endpoint(index) } else { leash_path(index, area) };
        if cause != 0 {
            return cause;
        }
        let mut cause = leash_class(index);
        if cause == Cause::UnknownProgram as u32 && (*scratch).exe_is_path != 0 {
            cause = leash_class_of_path(index);
        }
        if cause != 0 {
            return cause;
        }
    }
    let mut kind = 0;
    while kind < Kind::COUNT as u32 {
        if kinds >> kind & 1 != 0 {
            let cause = leash_leaf(index, kind);
            if cause != 0 {
                return cause;
            }
        }
        kind += 1;
    }
    Cause::Policy as u32
}

/// Asks `kinds` (a bit a kind) of the object of area `area` in scratch slot `index`, and records each answer. Returns 1 if one
/// of them is an enforced denial.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_judge(index: u32, area: u32, kinds: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return 1 };
    let mut cause = Cause::Reloaded as u32;
    for _ in 0..MAX_ATTEMPTS {
        cause = leash_decide(index, area, kinds);
        if cause != Cause::Reloaded as u32 {
            break;
        }
    }
    let mut denied = 0;
    let mut kind = 0;
    // SAFETY: the caller claimed the slot; the loop's condition bounds the index.
    unsafe {
        while kind < Kind::COUNT as u32 {
            if kinds >> kind & 1 != 0 {
                let mut why = cause;
                if why == 0 && (*scratch).override_kinds >> kind & 1 != 0 {
                    why = (*scratch).override_cause;
                }
                let leaf = if why == 0 { *(*scratch).leaf.as_ptr().add(kind as usize) } else { LEAF };
                leash_record(index, area & 1 | kind << 8 | (why & 0xff) << 16, leaf);
                if leaf & LEAF_ALLOW == 0 {
                    denied |= (*scratch).enforce;
                }
            }
            kind += 1;
        }
    }
    denied
}

/// Whether the object that gets the name of area 1 gains nothing over the name of area 0 ([`BACKWARDS`]: the reverse); `tree` if
/// it is a directory, so that all below it counts. `uses` as in [`gains_nothing`]. Returns the cause of a denial, or 0.
#[inline(always)]
pub fn gains(index: u32, uses: u32, tree: bool) -> u32 {
    let mut cause = Cause::Reloaded as u32;
    for _ in 0..MAX_ATTEMPTS {
        cause = leash_gains(index, uses, tree as u32);
        if cause != Cause::Reloaded as u32 {
            break;
        }
    }
    cause
}

/// One attempt of [`gains`], by one image.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_gains(index: u32, uses: u32, tree: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot.
    unsafe {
        if (*scratch).cause[0] | (*scratch).cause[1] != 0 {
            // The question itself fails for that cause.
            return 0;
        }
        let Some(installed) = installed((*scratch).slot) else { return Cause::NoImage as u32 };
        (*scratch).epoch = installed.epoch;
        let pages = &installed.pages;
        let backwards = uses & BACKWARDS != 0;
        let mut old = match end(index, scratch, backwards as usize).and_then(|()| cursor(pages, scratch)) {
            Ok(cursor) => cursor,
            Err(cause) => return cause as u32,
        };
        let mut new = match end(index, scratch, !backwards as usize).and_then(|()| cursor(pages, scratch)) {
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

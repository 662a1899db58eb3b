//! The decision: from a claimed scratch slot to the answer of the session's tables, one record for each question.
//!
//! It is cut into global functions, which the verifier proves one by one for any argument. Each looks the image up anew and
//! checks that it is the one the decision began with; if a reload came between, the whole decision starts over, both names of a
//! rename or link included.

use core::mem::offset_of;
use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use leash_common::event::Cause;
use leash_common::kind::Kind;
use leash_common::session::{Area, EPOCH_WORD, Scratch, TaskRecord, class_tag};
use leash_common::table::{Corrupt, Image, LEAF, LEAF_ALLOW, MAGIC, MAX_PATH_BYTES, Page, decide_row, header, word};

use crate::emit::leash_record;
use crate::gains::leash_gains;
use crate::kernel::{bound, clear, copy};
use crate::maps::{IMAGES, TASKS};
use crate::scan::{Pages, is_utf8, scan};
use crate::scratch::{self, Claim};

/// Decisions that are begun before a policy that keeps changing is taken for none.
const MAX_ATTEMPTS: u32 = 4;
/// One more than the kinds that a hook asks of one object.
const MAX_KINDS: u32 = 5;
/// Bounds the number of a kind: they are 0 to 15, without holes.
const KIND_MASK: u32 = Kind::COUNT as u32 - 1;

/// The installed policy of a session, as of this moment.
pub struct Installed {
    pub pages: Pages,
    /// The header's page.
    first: &'static Page,
    pub generation: u32,
    pub enforce: u32,
    epoch: u64,
}

impl Installed {
    /// The state that header word `head` names.
    #[inline(always)]
    pub fn start(&self, head: usize) -> u32 {
        word(self.first, head as u32) as u32
    }
}

/// What is installed for `slot`.
#[inline(always)]
pub fn installed(slot: u32) -> Option<Installed> {
    let pages = Pages(NonNull::from(IMAGES.get(slot)?).cast());
    // SAFETY: an image stays while a program that looked it up runs.
    let first: &'static Page = unsafe { core::mem::transmute::<Option<&Page>, Option<&'static Page>>(pages.page(0)) }?;
    if word(first, header::MAGIC as u32) != MAGIC {
        return None;
    }
    let mode = word(first, header::GENERATION as u32);
    let epoch = word(first, EPOCH_WORD as u32);
    Some(Installed { pages, first, generation: mode as u32, enforce: (mode >> 32) as u32 & 1, epoch })
}

/// Whether this is the image that the decision in this slot began with; the first to ask begins the decision. Returns a cause.
///
/// # Safety
/// The slot must be claimed.
#[inline(always)]
pub unsafe fn same(scratch: *mut Scratch, installed: &Installed) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        if (*scratch).epoch == 0 {
            (*scratch).epoch = installed.epoch;
            (*scratch).enforce = installed.enforce;
            (*scratch).generation = installed.generation;
        } else if (*scratch).epoch != installed.epoch {
            return Cause::Reloaded as u32;
        }
    }
    Cause::Policy as u32
}

/// Without an image there is no mode either, so nothing may pass. Returns the cause.
///
/// # Safety
/// The slot must be claimed.
#[inline(always)]
pub unsafe fn no_image(scratch: *mut Scratch) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        (*scratch).enforce = 1;
        (*scratch).generation = 0;
    }
    Cause::NoImage as u32
}

/// The image that decides the question in a claimed slot; otherwise returns a cause.
macro_rules! image_of {
    ($scratch:expr) => {{
        let Some(installed) = $crate::decide::installed((*$scratch).slot) else { return $crate::decide::no_image($scratch) };
        let cause = $crate::decide::same($scratch, &installed);
        if cause != 0 {
            return cause;
        }
        installed
    }};
}
pub(crate) use image_of;

/// Path of area 0 or 1; the other value of `place` is the program's path in area 0.
const PLACE_EXE: u32 = 2;

/// Set in the kinds that are handed to [`leash_scan`] if the answers are for area 1.
const SECOND: u32 = 1 << 31;
/// Set there if the class is in the slot already, without anyone having asked who acts.
const CLASS_GIVEN: u32 = 1 << 30;
/// What [`leash_scan`] returns if [`leash_classify`] must be called first; no [`Cause`].
const UNCLASSIFIED: u32 = u32::MAX;

/// One pass of the automaton that starts at header word `head` over what begins at `from` in `place`; where it ends is in the slot's
/// `scan`. Then, if there are `kinds` (a bit a kind, [`SECOND`], [`CLASS_GIVEN`]), the leaves of the row where it ended, for the class of
/// the acting program. It is one function because finding the image costs as much as a short path. Returns a cause, or
/// [`UNCLASSIFIED`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_scan(index: u32, place: u32, head: u32, from: u32, kinds: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the caller claimed the slot; all parts of the offsets are bounded.
    unsafe {
        let installed = image_of!(scratch);
        if kinds != 0 && kinds & CLASS_GIVEN == 0 && !classified(scratch) {
            return UNCLASSIFIED;
        }
        // What the verifier knows of a register it would follow through the scan, for each value on its own.
        (*scratch).asked = kinds;
        let area = bound::<1>(place) * size_of::<Area>();
        let part = bound::<1>(place >> 1) * MAX_PATH_BYTES;
        let path = (&raw mut (*scratch).area).cast::<u8>().add(offset_of!(Area, path)).add(area).add(part);
        if !scan(&installed.pages, installed.start(head as usize), path, from, &raw mut (*scratch).scan) {
            return Cause::CorruptImage as u32;
        }
        let kinds = core::ptr::read_volatile(&raw const (*scratch).asked);
        if kinds == 0 {
            return Cause::Policy as u32;
        }
        let area = bound::<1>(kinds >> 31);
        (*scratch).hash.as_mut_ptr().add(area).write((*scratch).scan.hash);
        // The symbols of an endpoint are below 0x80.
        if !is_utf8(&(*scratch).scan) {
            return Cause::NotUtf8 as u32;
        }
        leaves(&installed, scratch, area, (*scratch).scan.accept, kinds & !(SECOND | CLASS_GIVEN))
    }
}

/// Runs the automaton over the path of `area`; where it ends is in the slot's `scan`. Returns a cause.
///
/// # Safety
/// The slot must be claimed and `area` below 2.
#[inline(always)]
pub unsafe fn scan_path(index: u32, scratch: *mut Scratch, area: u32) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let from = *(*scratch).start.as_ptr().add(area as usize);
        if from >= MAX_PATH_BYTES as u32 {
            return Cause::Unreachable as u32;
        }
        let cause = leash_scan(index, area, header::START_TEXT as u32, from, 0);
        if cause == 0 && !is_utf8(&(*scratch).scan) { Cause::NotUtf8 as u32 } else { cause }
    }
}

/// Decides `kinds` of the object of `area` in the claimed slot. Returns what [`leash_scan`] does.
#[inline(always)]
unsafe fn decide(index: u32, scratch: *mut Scratch, area: usize, kinds: u32) -> u32 {
    let kinds = kinds | if area != 0 { SECOND } else { 0 };
    // SAFETY: the slot is claimed and `area` is below 2.
    unsafe {
        if (*scratch).address_len != 0 {
            let [head, from] = symbols(scratch);
            return leash_scan(index, 1, head, from, kinds);
        }
        let from = *(*scratch).start.as_ptr().add(area);
        if from >= MAX_PATH_BYTES as u32 {
            return Cause::Unreachable as u32;
        }
        leash_scan(index, area as u32, header::START_TEXT as u32, from, kinds)
    }
}

/// Writes the endpoint as the symbols of `table::walk_endpoint`, none of them zero, in the place of the path of area 1, which is free.
/// Returns the header word of the first state, and where the symbols begin.
#[inline(always)]
unsafe fn symbols(scratch: *mut Scratch) -> [u32; 2] {
    // SAFETY: the slot is claimed.
    unsafe {
        let wide = (*scratch).address_len != 4;
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
        let head = if wide { header::START_IPV6 } else { header::START_IPV4 };
        [head as u32, from as u32]
    }
}

/// Whether the class of the acting program is in the slot, or in the task's record, from where it is taken.
#[inline(always)]
unsafe fn classified(scratch: *mut Scratch) -> bool {
    // SAFETY: the current task is a trusted pointer; the record is the task's own; the slot is claimed.
    unsafe {
        if (*scratch).classified == (*scratch).epoch {
            return true;
        }
        let task: *mut TaskRecord = TASKS.get(bpf_get_current_task_btf().cast(), false);
        if task.is_null() || (*task).start == 0 || (*task).tag != class_tag((*scratch).slot, (*scratch).generation) {
            return false;
        }
        (*scratch).class = (*task).class;
        (*scratch).exe_hash = (*task).hash;
        (*scratch).classified = (*scratch).epoch;
        true
    }
}

/// Finds the class of the acting program: the current task's, or at the first exec of a session, which has no program that acts,
/// the one whose path is in area 0. Returns a cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_classify(index: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: the current task is a trusted pointer; the record is the task's own; the caller claimed the slot.
    unsafe {
        let area = (&raw mut (*scratch).area).cast::<Area>();
        let task: *mut TaskRecord = TASKS.get(bpf_get_current_task_btf().cast(), false);
        let known = !task.is_null() && (*task).start != 0;
        let exe = (&raw mut (*area).exe).cast::<u8>();
        let from = if known {
            if !copy(exe, MAX_PATH_BYTES, (&raw const (*task).path) as u64) {
                return Cause::UnknownProgram as u32;
            }
            (*task).start
        } else if (*scratch).exe_is_path != 0 {
            if !copy(exe, MAX_PATH_BYTES, (&raw const (*area).path) as u64) {
                return Cause::UnknownProgram as u32;
            }
            (*scratch).start[0]
        } else {
            return Cause::UnknownProgram as u32;
        };
        if from >= MAX_PATH_BYTES as u32 {
            return Cause::UnknownProgram as u32;
        }
        let cause = leash_scan(index, PLACE_EXE, header::START_EXE as u32, from, 0);
        if cause != 0 {
            return cause;
        }
        if !is_utf8(&(*scratch).scan) {
            return Cause::UnknownProgram as u32;
        }
        (*scratch).class = (*scratch).scan.accept;
        (*scratch).exe_hash = (*scratch).scan.hash;
        (*scratch).classified = (*scratch).epoch;
        if known {
            (*task).class = (*scratch).class;
            (*task).hash = (*scratch).exe_hash;
            (*task).tag = class_tag((*scratch).slot, (*scratch).generation);
        }
    }
    Cause::Policy as u32
}

/// Takes the first kind out of a set that isn't empty.
#[inline(always)]
fn take_kind(kinds: &mut u32) -> usize {
    let kind = bound::<KIND_MASK>(kinds.trailing_zeros());
    *kinds &= *kinds - 1;
    kind
}

/// Looks up a leaf for each of `kinds` in row `accept`, for the class in the slot.
#[inline(always)]
unsafe fn leaves(installed: &Installed, scratch: *mut Scratch, area: usize, accept: u32, kinds: u32) -> u32 {
    // SAFETY: the slot is claimed and `area` is below 2; `Kind`s are numbered without holes from 0.
    unsafe {
        let leaves = (&raw mut (*scratch).leaf).cast::<u32>().add(area * Kind::COUNT);
        let mut left = kinds;
        for _ in 0..MAX_KINDS {
            if left == 0 {
                return Cause::Policy as u32;
            }
            let kind = take_kind(&mut left);
            let question = core::mem::transmute::<u8, Kind>(kind as u8);
            match decide_row(&installed.pages, accept, question, (*scratch).class) {
                Ok(decision) => {
                    let allow = if decision.allow { LEAF_ALLOW } else { 0 };
                    leaves.add(kind).write(LEAF | allow | decision.reason);
                }
                Err(Corrupt) => return Cause::CorruptImage as u32,
            }
        }
    }
    // More than any hook asks.
    Cause::CorruptImage as u32
}

/// Decides `kinds` (a bit a kind) of the object of `area`; leaves the leaves in the slot. Returns a cause that holds for all kinds.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_decide(index: u32, area: u32, kinds: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    let area = area as usize & 1;
    // SAFETY: the caller claimed the slot; the mask bounds the index.
    unsafe {
        let cause = *(*scratch).cause.as_ptr().add(area);
        if cause != 0 {
            // The record needs mode and generation all the same.
            let _ = image_of!(scratch);
            return cause;
        }
        let decided = decide(index, scratch, area, kinds);
        if decided != UNCLASSIFIED {
            return decided;
        }
        let cause = leash_classify(index);
        if cause != 0 {
            return cause;
        }
        // Nobody could classify it for another image.
        match decide(index, scratch, area, kinds) {
            UNCLASSIFIED => Cause::UnknownProgram as u32,
            decided => decided,
        }
    }
}

/// The table decision alone, for a class that is in the slot: what [`leash_decide`] does between finding the image and the leaf.
#[inline(always)]
pub fn decide_for_class(index: u32, kinds: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return Cause::NoScratch as u32 };
    // SAFETY: nothing else uses the slot.
    unsafe {
        (*scratch).epoch = 0;
        decide(index, scratch, 0, kinds | CLASS_GIVEN)
    }
}

/// Asks `kinds` of the one object of a claimed slot.
#[inline(always)]
pub fn judge(claim: &Claim, kinds: u32) -> u32 {
    leash_judge(claim.index, kinds, 0, 0, 0)
}

/// Asks `old_kinds` (a bit a kind) of the object of area 0 in scratch slot `index`, and `new_kinds` (if any) of that of area 1, by
/// one image, and records each answer. `forth` tells what moves from the name of area 0 to that of area 1, as
/// [`leash_gains`] takes it, `back` what moves the other way; 0 for nothing. Returns 1 if an answer is an enforced denial.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_judge(index: u32, old_kinds: u32, new_kinds: u32, forth: u32, back: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return 1 };
    // SAFETY: the caller claimed the slot.
    unsafe {
        let mut causes = (Cause::Reloaded as u32, Cause::Reloaded as u32);
        for _ in 0..MAX_ATTEMPTS {
            causes = attempt(index, scratch, old_kinds, new_kinds, forth, back);
            if causes.0 != Cause::Reloaded as u32 && causes.1 != Cause::Reloaded as u32 {
                break;
            }
        }
        let mut denied = record(index, scratch, 0, old_kinds, causes.0);
        if new_kinds != 0 {
            denied |= record(index, scratch, 1, new_kinds, causes.1);
        }
        denied
    }
}

/// One attempt of [`leash_judge`]. Returns the causes of both objects.
#[inline(always)]
unsafe fn attempt(index: u32, scratch: *mut Scratch, old_kinds: u32, new_kinds: u32, forth: u32, back: u32) -> (u32, u32) {
    // SAFETY: the slot is claimed.
    unsafe {
        clear(&raw mut (*scratch).epoch);
        clear(&raw mut (*scratch).classified);
    }
    let old = leash_decide(index, 0, old_kinds);
    if new_kinds == 0 || old == Cause::Reloaded as u32 {
        return (old, old);
    }
    let new = leash_decide(index, 1, new_kinds);
    let gained = if forth != 0 { leash_gains(index, forth, 0) } else { 0 };
    let gained_back = if back != 0 { leash_gains(index, back, 1) } else { 0 };
    // SAFETY: the slot is claimed.
    unsafe { (*scratch).gained = [gained_back, gained] };
    if gained == Cause::Reloaded as u32 || gained_back == Cause::Reloaded as u32 {
        return (Cause::Reloaded as u32, Cause::Reloaded as u32);
    }
    (old, new)
}

/// Records the answers for `area`. Returns 1 if one is an enforced denial.
#[inline(always)]
unsafe fn record(index: u32, scratch: *mut Scratch, area: usize, kinds: u32, cause: u32) -> u32 {
    let mut denied = 0;
    // SAFETY: the slot is claimed; `area` is below 2 and the loop's condition bounds the index.
    unsafe {
        let leaves = (&raw const (*scratch).leaf).cast::<u32>().add(area * Kind::COUNT);
        let gained = *(*scratch).gained.as_ptr().add(area);
        let mut left = kinds;
        for _ in 0..MAX_KINDS {
            if left == 0 {
                return denied;
            }
            let kind = take_kind(&mut left);
            let mut why = cause;
            if why == 0 && Kind::MOVES >> kind & 1 != 0 {
                why = gained;
            }
            let leaf = if why == 0 { *leaves.add(kind) } else { LEAF };
            leash_record(index, area as u32 | (kind as u32) << 8 | (why & 0xff) << 16, leaf);
            if leaf & LEAF_ALLOW == 0 {
                denied |= (*scratch).enforce;
            }
        }
    }
    1
}

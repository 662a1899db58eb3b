//! Records: counting, folding repeats, and the ring buffers.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns, bpf_ringbuf_output,
    bpf_ringbuf_query,
};
use leash_common::event::{Cause, HEADER_BYTES, Header, RECORD_EVENT, RECORD_FLUSH};
use leash_common::kind::Kind;
use leash_common::session::{Counters, FOLD_COUNT_BITS, FOLD_COUNT_MASK, FOLD_WORDS, Scratch, TaskRecord};
use leash_common::table::{INDEX_MASK, LEAF_ALLOW, MAX_PATH_BYTES};

use crate::decide;
use crate::kernel::{add, bound, compare_exchange, copy, layout, member, read, repeat};
use crate::maps::{COUNTERS, FOLD, RINGS, TASKS};
use crate::scratch;
use crate::walk::PATH_MASK;

/// Wake the reader only when this much is waiting: it looks by itself every so often.
const WAKE_BYTES: u64 = 64 * 1024;
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_AVAIL_DATA: u64 = 0;
const BPF_RB_RING_SIZE: u64 = 1;
/// How long one denial is held back at most. The kernel may not be preempted meanwhile, so it is short of what anyone notices.
const HOLD_NS: u64 = 4_000_000;
const MAX_HOLD_STEPS: u32 = 1 << 20;
/// Kinds that are asked under the lock of the socket at the other end.
const HELD_BEFORE: u32 = Kind::UnixConnect.bit() | Kind::UnixSend.bit();
/// Bounds a path's length, the offset of a header, and the size of a record.
const LENGTH_MASK: u32 = 2 * MAX_PATH_BYTES as u32 - 1;
const WORD_MASK: u32 = LENGTH_MASK & !7;
const SIZE_MASK: u32 = 4 * MAX_PATH_BYTES as u32 - 1;
/// The largest record.
const MAX_RECORD: usize = HEADER_BYTES + 2 * MAX_PATH_BYTES;
/// Bounds the index of a fold word.
const FOLD_MASK: u32 = FOLD_WORDS as u32 - 1;
pub const DENY: usize = 0;
const ALLOW: usize = 1;

/// Hands a record to the reader of session `slot`. Returns whether there was room.
///
/// # Safety
/// `record` must be valid for `size` bytes; the verifier checks it.
#[inline(always)]
pub unsafe fn output(slot: u32, verdict: usize, record: *mut c_void, size: u64) -> bool {
    let Some(ring) = ring(slot, verdict) else { return false };
    // SAFETY: the verifier checks the ring and the record's bounds.
    unsafe {
        // A denial wakes the reader at once, allowed actions wait for company.
        let quiet = verdict == ALLOW && bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) < WAKE_BYTES;
        bpf_ringbuf_output(ring, record, size, if quiet { BPF_RB_NO_WAKEUP } else { 0 }) == 0
    }
}

#[inline(always)]
fn ring(slot: u32, verdict: usize) -> Option<*mut c_void> {
    let ring = RINGS.get(slot * 2 + verdict as u32)?;
    Some(core::ptr::from_ref(ring).cast_mut().cast())
}

/// What a held task waits for.
struct Hold {
    ring: *mut c_void,
    until_ns: u64,
}

unsafe extern "C" fn hold(_index: u64, hold: *mut Hold) -> i64 {
    // SAFETY: `repeat` hands over the state it was given, and the ring is a map's.
    unsafe {
        let waiting = bpf_ringbuf_query((*hold).ring, BPF_RB_AVAIL_DATA);
        (is_low(waiting, (*hold).ring) || bpf_ktime_get_boot_ns() > (*hold).until_ns) as i64
    }
}

/// Whether a ring with so many bytes waiting has room enough.
#[inline(always)]
unsafe fn is_low(waiting: u64, ring: *mut c_void) -> bool {
    // SAFETY: the ring is a map's.
    waiting < unsafe { bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) } / 4 * 3
}

/// Holds back a task that is denied faster than its denials are read: while the ring of session `slot` is nearly full, each denial
/// costs its task some time of its own, so that the reader gets ahead and no denial is lost. A program can't sleep, and an errno
/// other than the denial's would be a lie, so it waits in place.
///
/// Where the kernel asks with a socket of others locked ([`HELD_BEFORE`]), the wait is in the hook before.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_hold(slot: u32) -> u32 {
    let Some(ring) = ring(slot, DENY) else { return 0 };
    // SAFETY: the ring is a map's.
    unsafe {
        if is_low(bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA), ring) {
            return 0;
        }
        let mut state = Hold { ring, until_ns: bpf_ktime_get_boot_ns() + HOLD_NS };
        repeat(MAX_HOLD_STEPS, hold, &mut state);
    }
    0
}

/// Who acts, when.
#[inline(always)]
unsafe fn identify(header: &mut Header) {
    // SAFETY: helpers without pointers; the rest are checked reads.
    unsafe {
        let ids = bpf_get_current_pid_tgid();
        let task = bpf_get_current_task_btf() as u64;
        let parent: u64 = read(member!(task, task_parent));
        header.time_ns = bpf_ktime_get_boot_ns();
        header.pid = ids as u32;
        header.tgid = (ids >> 32) as u32;
        header.ppid = read(member!(parent, task_tgid));
        header.uid = bpf_get_current_uid_gid() as u32;
    }
}

/// The fold word for `hash`, and the tag that says it is ours.
#[inline(always)]
fn fold_word(slot: u32, hash: u64) -> (*mut u64, u32, u64) {
    let index = bound::<FOLD_MASK>(hash as u32);
    let word = match FOLD.get_ptr_mut(slot) {
        // SAFETY: the mask bounds the index.
        Some(table) => unsafe { table.cast::<u64>().add(index) },
        None => core::ptr::null_mut(),
    };
    (word, index as u32, (hash >> FOLD_COUNT_BITS) | 1)
}

/// Counts an allowed action on the record of its first occurrence, if there is one. Returns whether it is counted.
#[inline(always)]
unsafe fn fold(slot: u32, hash: u64, counters: *mut Counters) -> bool {
    let (word, _, tag) = fold_word(slot, hash);
    if word.is_null() {
        return false;
    }
    for _ in 0..4 {
        // SAFETY: map values.
        unsafe {
            let seen = core::ptr::read_volatile(word);
            if seen >> FOLD_COUNT_BITS != tag || seen & FOLD_COUNT_MASK == FOLD_COUNT_MASK {
                return false;
            }
            if compare_exchange(word, seen, seen + 1) == seen {
                add((&raw mut (*counters).folded).cast::<u64>().add(ALLOW), 1);
                return true;
            }
        }
    }
    false
}

/// Gives the fold word of `hash` to the record that was just written, after telling how often its previous owner was repeated.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_take_fold(slot: u32, hash: u64) -> u32 {
    let Some(counters) = COUNTERS.get_ptr_mut(slot) else { return 0 };
    let (word, index, tag) = fold_word(slot, hash);
    if word.is_null() {
        return 0;
    }
    // SAFETY: map values, and a header on the stack.
    unsafe {
        let seen = core::ptr::read_volatile(word);
        if compare_exchange(word, seen, tag << FOLD_COUNT_BITS) != seen {
            return 0;
        }
        let count = seen & FOLD_COUNT_MASK;
        if count == 0 {
            return 0;
        }
        let mut header = Header {
            record: RECORD_FLUSH,
            allow: 1,
            fold_slot: index,
            fold_tag: seen >> FOLD_COUNT_BITS,
            count: count as u32,
            ..Header::default()
        };
        if !output(slot, ALLOW, (&raw mut header).cast(), HEADER_BYTES as u64) {
            // Repeats that nobody will hear of are lost, not folded.
            add((&raw mut (*counters).folded).cast::<u64>().add(ALLOW), count.wrapping_neg());
            add((&raw mut (*counters).dropped).cast::<u64>().add(ALLOW), count);
        }
    }
    0
}

/// Copies the acting program's path behind the resource's; returns its length.
#[inline(always)]
unsafe fn append_program(scratch: *mut Scratch, area: usize) -> u32 {
    // SAFETY: the slot is claimed; `start` is bounded by the masks.
    unsafe {
        let target = scratch.cast::<u8>().add(core::mem::offset_of!(Scratch, area));
        let target = target.add(area * size_of::<leash_common::session::Area>());
        let to = target.add(core::mem::offset_of!(leash_common::session::Area, exe));
        let task: *mut TaskRecord = TASKS.get(bpf_get_current_task_btf().cast(), false);
        if !task.is_null() && (*task).start != 0 {
            let start = bound::<PATH_MASK>((*task).start);
            let length = bound::<LENGTH_MASK>(MAX_PATH_BYTES as u32 - start as u32);
            let from = (*task).path.as_ptr().add(start);
            return if copy(to, length, from as u64) { length as u32 } else { 0 };
        }
        if (*scratch).exe_is_path == 0 {
            return 0;
        }
        let start = bound::<PATH_MASK>(*(*scratch).start.as_ptr().add(area));
        if start == 0 {
            return 0;
        }
        let length = bound::<LENGTH_MASK>(MAX_PATH_BYTES as u32 - start as u32);
        let from = target.add(core::mem::offset_of!(leash_common::session::Area, path)).add(start);
        if copy(to, length, from as u64) { length as u32 } else { 0 }
    }
}

/// Records the answer `leaf` to one question on scratch slot `index`. `packed`: the area, the kind from bit 8, the cause from bit
/// 16.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_record(index: u32, packed: u32, leaf: u32) -> u32 {
    let Some(scratch) = scratch::memory(index) else { return 0 };
    let area = packed as usize & 1;
    let kind = packed >> 8 & 0xff;
    let cause = packed >> 16 & 0xff;
    let verdict = if leaf & LEAF_ALLOW != 0 { ALLOW } else { DENY };
    // SAFETY: the caller claimed the slot; masks bound the offsets.
    unsafe {
        let slot = (*scratch).slot;
        let generation = (*scratch).generation;
        let enforce = (*scratch).enforce;
        let Some(counters) = COUNTERS.get_ptr_mut(slot) else { return 0 };
        add((&raw mut (*counters).performed).cast::<u64>().add(verdict), 1);
        let mut hash = 0;
        if verdict == ALLOW {
            let tgid = bpf_get_current_pid_tgid() >> 32;
            hash = *(*scratch).hash.as_ptr().add(area) ^ layout!(fold_key);
            hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ (*scratch).exe_hash ^ (tgid << 8 | kind as u64);
            hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53) ^ ((generation as u64) << 32 | leaf as u64);
            hash = (hash ^ hash >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 32;
            if fold(slot, hash, counters) {
                return 0;
            }
        } else if HELD_BEFORE >> kind & 1 == 0 {
            leash_hold(slot);
        }
        let base = scratch.cast::<u8>().add(core::mem::offset_of!(Scratch, area));
        let base = base.add(area * size_of::<leash_common::session::Area>());
        let mut start = *(*scratch).start.as_ptr().add(area);
        if start > MAX_PATH_BYTES as u32 {
            start = MAX_PATH_BYTES as u32;
        }
        let exe_len = append_program(scratch, area);
        let offset = bound::<WORD_MASK>(start);
        let header = &mut *base.add(offset).cast::<Header>();
        identify(header);
        header.fold_tag = if verdict == ALLOW { (hash >> FOLD_COUNT_BITS) | 1 } else { 0 };
        header.fold_slot = hash as u32 & FOLD_MASK;
        header.generation = generation;
        header.reason = leaf & INDEX_MASK;
        header.count = 1;
        header.kind = kind as u8;
        header.allow = verdict as u8;
        header.enforce = enforce as u8;
        header.cause = cause as u8;
        header.record = RECORD_EVENT;
        header.protocol = (*scratch).protocol as u8;
        header.port = (*scratch).port as u16;
        header.address = (*scratch).address;
        header.address_len = (*scratch).address_len as u8;
        header.path_len = (MAX_PATH_BYTES as u32 - start) as u16;
        header.exe_len = exe_len as u16;
        header.reserved = [0; 3];
        let size = HEADER_BYTES + MAX_PATH_BYTES - offset + bound::<LENGTH_MASK>(exe_len);
        let size = bound::<SIZE_MASK>(size as u32);
        if size <= MAX_RECORD && output(slot, verdict, base.add(offset).cast(), size as u64) {
            add((&raw mut (*counters).recorded).cast::<u64>().add(verdict), 1);
            if verdict == ALLOW {
                leash_take_fold(slot, hash);
            }
        } else {
            add((&raw mut (*counters).dropped).cast::<u64>().add(verdict), 1);
        }
        0
    }
}

/// Denies and records `kinds` for want of working memory. Returns 1 if the denial is enforced.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_bare(slot: u32, kinds: u32) -> u32 {
    let (generation, enforce) = match decide::installed(slot) {
        Some(installed) => (installed.generation, installed.enforce),
        None => (0, 1),
    };
    let Some(counters) = COUNTERS.get_ptr_mut(slot) else { return 1 };
    for kind in 0..Kind::COUNT as u32 {
        if kinds >> kind & 1 == 0 {
            continue;
        }
        let mut header = Header {
            generation,
            count: 1,
            kind: kind as u8,
            enforce: enforce as u8,
            cause: Cause::NoScratch as u8,
            record: RECORD_EVENT,
            ..Header::default()
        };
        // SAFETY: the counters are a map value, the header is on the stack.
        unsafe {
            identify(&mut header);
            leash_hold(slot);
            add((&raw mut (*counters).performed).cast::<u64>(), 1);
            if output(slot, DENY, (&raw mut header).cast(), HEADER_BYTES as u64) {
                add((&raw mut (*counters).recorded).cast::<u64>(), 1);
            } else {
                add((&raw mut (*counters).dropped).cast::<u64>(), 1);
            }
        }
    }
    enforce
}

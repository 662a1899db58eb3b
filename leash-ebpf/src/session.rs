//! Finding the session of the acting task.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use leash_common::session::{ACTIVE, ARMING, FILTER_WORDS, MAX_LEVELS, SessionRecord, filter_bit};

use crate::maps::{CGROUPS, CONFIG, SESSIONS};

/// Slot of the session in whose cgroup, or below it, the current task is.
#[inline(always)]
pub fn of_current() -> Option<u32> {
    let config = CONFIG.get(0)?;
    for level in 0..MAX_LEVELS {
        if level as u32 >= config.level_count {
            return None;
        }
        // SAFETY: `level` is below the array's length; slice indexing would need a panic branch.
        let depth = unsafe { *config.levels.as_ptr().add(level) };
        // SAFETY: a helper without pointers.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(depth as i32) };
        let bit = filter_bit(id);
        // SAFETY: the mask bounds the index.
        let word = unsafe { *config.filter.as_ptr().add((bit / 64) as usize & (FILTER_WORDS - 1)) };
        if word >> (bit & 63) & 1 != 0 {
            // SAFETY: entries are made and removed by userspace only, and a slot number is copied at once.
            if let Some(&slot) = unsafe { CGROUPS.get(id) } {
                return Some(slot);
            }
        }
    }
    None
}

/// Slot of the current task's session if its actions are decided.
#[inline(always)]
pub fn governed() -> Option<u32> {
    let slot = of_current()?;
    let session = SESSIONS.get(slot)?;
    if state(session) == ACTIVE { Some(slot) } else { None }
}

/// Slot of the current task's session, active or about to be.
#[inline(always)]
pub fn governed_or_arming() -> Option<u32> {
    let slot = of_current()?;
    let session = SESSIONS.get(slot)?;
    match state(session) {
        ACTIVE | ARMING => Some(slot),
        _ => None,
    }
}

#[inline(always)]
fn state(session: &SessionRecord) -> u32 {
    // SAFETY: a plain read; userspace may write at the same time.
    unsafe { core::ptr::read_volatile(&session.state) }
}

/// Whether the first program of the session runs. Before, the program that is about to be started counts as the one that acts.
#[inline(always)]
pub fn has_begun(slot: u32) -> bool {
    // SAFETY: a plain read of a flag that is only ever set.
    SESSIONS.get(slot).is_none_or(|session| unsafe { core::ptr::read_volatile(&session.begun) } != 0)
}

/// See [`has_begun`].
#[inline(always)]
pub fn begin(slot: u32) {
    if let Some(session) = SESSIONS.get_ptr_mut(slot) {
        // SAFETY: a map value; nobody else writes this word while the session is active.
        unsafe { core::ptr::write_volatile(&raw mut (*session).begun, 1) };
    }
}

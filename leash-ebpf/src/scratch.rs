//! Claiming working memory. Programs can be preempted by tasks that run the same programs, so no memory is per CPU.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use leash_common::session::{SCRATCH_SLOTS, Scratch};
use leash_common::table::MAX_PATH_BYTES;

use crate::emit;
use crate::kernel::compare_exchange;
use crate::maps::SCRATCH;

/// Slots that a program tries.
const TRIES: u32 = 16;
/// Distance of the first slots of neighbouring CPUs.
const STRIDE: u32 = 4;

/// Claimed working memory: its index, and where it is.
pub struct Claim {
    pub index: u32,
    pub memory: *mut Scratch,
}

/// Claims memory for a question of session `slot`.
#[inline(always)]
pub fn claim(slot: u32) -> Option<Claim> {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let index = leash_claim(cpu * STRIDE, slot);
    if index >= SCRATCH_SLOTS as u32 {
        return None;
    }
    Some(Claim { index, memory: memory(index)? })
}

/// Claims a slot, looking from `first` on, and prepares it. Returns its index, or a number that is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_claim(first: u32, slot: u32) -> u32 {
    for attempt in 0..TRIES {
        let index = first.wrapping_add(attempt) & (SCRATCH_SLOTS as u32 - 1);
        let Some(memory) = SCRATCH.get_ptr_mut(index) else { return u32::MAX };
        // SAFETY: a map value; the exchange makes it ours alone.
        unsafe {
            if compare_exchange(core::ptr::addr_of_mut!((*memory).claimed), 0, 1) == 0 {
                (*memory).slot = slot;
                (*memory).start = [MAX_PATH_BYTES as u32; 2];
                (*memory).cause = [0; 2];
                (*memory).address_len = 0;
                (*memory).gained = [0; 2];
                (*memory).exe_is_path = 0;
                return index;
            }
        }
    }
    u32::MAX
}

impl Claim {
    /// Gives the memory back.
    #[inline(always)]
    pub fn release(self) {
        // SAFETY: ours since `claim`. The exchange orders everything before it.
        unsafe { compare_exchange(core::ptr::addr_of_mut!((*self.memory).claimed), 1, 0) };
    }

    /// Names the object whose path is wanted in area `area`.
    #[inline(always)]
    pub fn object(&self, area: usize, mnt: u64, dentry: u64) {
        // SAFETY: ours, and callers pass constants below 2.
        unsafe {
            (*self.memory).mnt.as_mut_ptr().add(area).write(mnt);
            (*self.memory).dentry.as_mut_ptr().add(area).write(dentry);
        }
    }
}

/// The memory with this index.
#[inline(always)]
pub fn memory(index: u32) -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(index & (SCRATCH_SLOTS as u32 - 1))
}

/// The answer to `kinds` when there is no memory to ask with.
#[inline(always)]
pub fn none_left(slot: u32, kinds: u32) -> i32 {
    verdict(emit::leash_bare(slot, kinds))
}

/// The return value of a hook: 0, or the errno of a denial.
#[inline(always)]
pub fn verdict(denied: u32) -> i32 {
    if denied != 0 { -EACCES } else { 0 }
}

const EACCES: i32 = 13;

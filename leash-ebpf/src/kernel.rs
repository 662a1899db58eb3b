//! Reading the kernel's memory at the offsets of this kernel.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use leash_common::layout::Layout;

/// Patched by the loader before the programs are verified.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = {
    // SAFETY: all fields are integers.
    unsafe { MaybeUninit::zeroed().assume_init() }
};

/// Reads a word of a static that the loader patches.
#[inline(always)]
pub fn load<T: Copy>(field: &'static T) -> T {
    // SAFETY: a plain read of a static.
    unsafe { core::ptr::read_volatile(field) }
}

/// A field of [`LAYOUT`], read so that the compiler can't take the placeholder's value for it.
macro_rules! layout {
    ($($field:ident).+) => {
        $crate::kernel::load(&$crate::kernel::LAYOUT.$($field).+)
    };
}
pub(crate) use layout;

/// Address of the member whose offset is `LAYOUT.at.$member` in the structure at `base`.
macro_rules! member {
    ($base:expr, $member:ident) => {
        ($base).wrapping_add($crate::kernel::layout!(at.$member) as u64)
    };
}
pub(crate) use member;

/// Reads kernel memory. What can't be read is zero: the kernel clears the destination.
#[inline(always)]
pub fn read<T: Copy>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address, and writes all of the destination in every case.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        value.assume_init()
    }
}

/// `value & MASK`, by an instruction that the compiler can't leave out because it knows that the value is small: the verifier may
/// not know it.
#[inline(always)]
pub fn bound<const MASK: u32>(value: u32) -> usize {
    let mut bounded = value as u64;
    // SAFETY: a bitwise and.
    unsafe { core::arch::asm!("{0} &= {mask}", inout(reg) bounded, mask = const MASK, options(pure, nomem, nostack)) };
    bounded as usize
}

/// Copies `length` bytes of kernel memory. Returns whether all could be read.
///
/// # Safety
/// `to` must be valid for `length` bytes; the verifier checks it.
#[inline(always)]
pub unsafe fn copy(to: *mut u8, length: usize, from: u64) -> bool {
    // SAFETY: the caller's promise; the helper checks `from`.
    unsafe { bpf_probe_read_kernel(to.cast(), length as u32, from as *const c_void) == 0 }
}

/// Copies eight bytes between places that need no alignment, in one load and one store.
///
/// # Safety
/// Both must be valid; the verifier checks them. It accepts them unaligned where the processor does, which x86-64 and arm64 do.
#[inline(always)]
pub unsafe fn move_word(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's promise. The compiler would split an unaligned access into bytes.
    unsafe {
        core::arch::asm!(
            "{word} = *(u64 *)({from} + 0)",
            "*(u64 *)({to} + 0) = {word}",
            word = out(reg) _, from = in(reg) from, to = in(reg) to, options(nostack)
        );
    }
}

/// Makes a word zero, by a store of its own: of neighbouring zeros the compiler makes a `memset`, which on this target is a loop over
/// single bytes.
///
/// # Safety
/// `word` must be valid and aligned; zero must be a value of its type. The verifier checks the store.
#[inline(always)]
pub unsafe fn clear<T: Copy>(word: *mut T) {
    // SAFETY: the caller's promise.
    unsafe { word.write_volatile(core::mem::zeroed()) };
}

/// Argument `position` of a hook as a number. Read as memory, so that the position may depend on the kernel and a pointer that
/// may be null isn't taken by the verifier for one that never is.
#[inline(always)]
pub fn argument(context: &impl EbpfContext, position: u32) -> u64 {
    read((context.as_ptr() as u64).wrapping_add(position as u64 * 8))
}

/// Reads a member through a pointer whose type the verifier knows, which costs one instruction.
///
/// # Safety
/// `base` must be such a pointer, and not null.
#[inline(always)]
pub unsafe fn load_at<T: Copy>(base: *const c_void, offset: u32) -> T {
    // SAFETY: the verifier checks the offset against the type; a fault reads as zero.
    unsafe { core::ptr::read_volatile(base.byte_add(offset as usize).cast()) }
}

/// Calls `step` with `state` up to `count` times, until it returns 1.
#[inline(always)]
pub fn repeat<S>(count: u32, step: unsafe extern "C" fn(u64, *mut S) -> i64, state: &mut S) {
    // SAFETY: the verifier checks the callback with this state.
    unsafe { bpf_loop(count, step as *mut c_void, core::ptr::from_mut(state).cast(), 0) };
}

/// An unsigned atomic add whose old value nobody needs.
///
/// # Safety
/// `word` must be valid and aligned; the verifier checks it.
#[inline(always)]
pub unsafe fn add(word: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(word, value) };
}

/// Replaces `old` by `new`; returns what was there.
///
/// # Safety
/// `word` must be valid and aligned; the verifier checks it.
#[inline(always)]
pub unsafe fn compare_exchange<T: Copy>(word: *mut T, old: T, new: T) -> T {
    use core::intrinsics::AtomicOrdering::SeqCst;
    // SAFETY: the caller's promise.
    unsafe { core::intrinsics::atomic_cxchg::<T, { SeqCst }, { SeqCst }>(word, old, new) }.0
}

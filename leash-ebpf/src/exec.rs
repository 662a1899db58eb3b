//! Programs: exec, and mapping a file executable.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use leash_common::kind::Kind;

use crate::decide::judge;
use crate::file::ask_file;
use crate::kernel::{argument, layout, member, read};
use crate::mounts::leash_activate;
use crate::path::ask_object;
use crate::scratch::{claim, none_left, verdict};
use crate::session::{begin, governed, governed_or_arming, has_begun};
use crate::task;
use crate::walk::{is_below_stack, leash_walk};

/// `include/uapi/asm-generic/mman-common.h`
const PROT_EXEC: u64 = 4;
/// `FMODE_BACKING` of `include/linux/fs.h`, since 6.5 bit 25 and since 6.14 bit 24: the file is part of a `struct backing_file`.
const FMODE_BACKING: u32 = 1 << 25 | 1 << 24;

/// `LSM_HOOK(int, 0, bprm_check_security, struct linux_binprm *bprm)`: once for a script, and once more for its interpreter.
#[lsm(hook = "bprm_check_security")]
pub fn bprm_check_security(context: LsmContext) -> i32 {
    let Some(slot) = governed_or_arming() else { return 0 };
    leash_activate(slot);
    let bprm = argument(&context, 0);
    let file: u64 = read(member!(bprm, bprm_file));
    let kinds = Kind::ProcessExec.bit();
    let Some(claim) = claim(slot) else { return none_left(slot, kinds) };
    claim.object(0, read(member!(file, file_mnt)), read(member!(file, file_dentry)));
    leash_walk(claim.index, 0);
    // SAFETY: the slot is claimed.
    unsafe { (*claim.memory).exe_is_path = u32::from(!has_begun(slot)) };
    let denied = judge(&claim, kinds);
    claim.release();
    verdict(denied)
}

/// `LSM_HOOK(void, LSM_RET_VOID, bprm_committed_creds, const struct linux_binprm *bprm)`: from here the task is the new program.
#[lsm(hook = "bprm_committed_creds")]
pub fn bprm_committed_creds(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    begin(slot);
    let bprm = argument(&context, 0);
    let file: u64 = read(member!(bprm, bprm_file));
    if let Some(claim) = claim(slot) {
        claim.object(0, read(member!(file, file_mnt)), read(member!(file, file_dentry)));
        leash_walk(claim.index, 0);
        task::leash_become(claim.index);
        claim.release();
    } else {
        task::forget();
    }
    0
}

/// `LSM_HOOK(int, 0, mmap_file, struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)`
#[lsm(hook = "mmap_file")]
pub fn mmap_file(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let file = argument(&context, 0);
    if file == 0 || argument(&context, 2) & PROT_EXEC == 0 {
        return 0;
    }
    ask_file(slot, file, Kind::ProcessExec.bit())
}

/// `LSM_HOOK(int, 0, file_mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)`
#[lsm(hook = "file_mprotect")]
pub fn file_mprotect(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    if argument(&context, 2) & PROT_EXEC == 0 {
        return 0;
    }
    let vma = argument(&context, 0);
    let file: u64 = read(member!(vma, vma_file));
    if file == 0 {
        return 0;
    }
    let kinds = Kind::ProcessExec.bit();
    let user_path = layout!(backing_user_path);
    let opened: u32 = read(member!(file, file_mode));
    let below = is_below_stack(read(member!(file, file_mnt)), read(member!(file, file_inode)));
    if user_path == 0 || opened & FMODE_BACKING == 0 || !below {
        return ask_file(slot, file, kinds);
    }
    // The mapping is of the file below a stacked one; the latter is what the task mapped.
    let path = file.wrapping_add(user_path as u64);
    ask_object(slot, read(member!(path, path_mnt)), read(member!(path, path_dentry)), kinds)
}

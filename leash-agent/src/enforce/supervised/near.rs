//! Keeping caller and supervisor on one processor while a descriptor is handed over.
//!
//! The caller wakes to take the descriptor and waits on, which wakes the supervisor. The kernel places whoever it wakes on an idle
//! processor if there is one, and waking a processor that sleeps, twice, costs more than all the rest of an open.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// The processors that the calling thread may run on, if there are several; with one there is nothing to keep.
pub(super) fn processors() -> Option<CpuSet> {
    let all = sched_getaffinity(THIS).ok()?;
    let count = (0..CpuSet::count()).filter(|&processor| all.is_set(processor) == Ok(true)).take(2).count();
    (count == 2).then_some(all)
}

/// A thread that waits for its answer, and the calling one, on one processor until this is dropped.
pub(super) struct Near<'a> {
    thread: Pid,
    here: CpuSet,
    /// Where either may run otherwise.
    its: CpuSet,
    ours: &'a CpuSet,
}

impl<'a> Near<'a> {
    /// `ours`: the calling thread's [`processors`]. `None` where it can't be done, or where the thread may not run here.
    pub(super) fn keep(ours: &'a CpuSet, tid: u32) -> Option<Self> {
        let thread = Pid::from_raw(tid as i32);
        let its = sched_getaffinity(thread).ok()?;
        let number = sched_getcpu().ok()?;
        let mut here = CpuSet::new();
        here.set(number).ok()?;
        if its == here || its.is_set(number) != Ok(true) {
            return None;
        }
        sched_setaffinity(THIS, &here).ok()?;
        let near = Self { thread, here, its, ours };
        sched_setaffinity(thread, &near.here).ok()?;
        Some(near)
    }
}

impl Drop for Near<'_> {
    fn drop(&mut self) {
        // What somebody else has set meanwhile stands. A thread that has ended needs nothing.
        if sched_getaffinity(self.thread) == Ok(self.here) {
            let _ = sched_setaffinity(self.thread, &self.its);
        }
        // It fails only if none of them is left to run on, and then the kernel chooses.
        let _ = sched_setaffinity(THIS, self.ours);
    }
}

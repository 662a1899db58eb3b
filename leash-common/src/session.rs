//! The maps that the programs and the daemon share: sessions, their counters, tasks, and the programs' working memory.
//!
//! Everything here is plain integers in C layout, so that any bit pattern is valid on both sides.

use crate::event::HEADER_BYTES;
use crate::kind::Kind;
use crate::table::MAX_PATH_BYTES;

/// Sessions at once.
pub const MAX_SESSIONS: usize = 256;
/// Depths in the cgroup tree at which sessions can live at the same time.
pub const MAX_LEVELS: usize = 8;
/// Words in the filter that lets outsiders go at once.
pub const FILTER_WORDS: usize = 64;
/// Words of one session's table of folded repeats.
pub const FOLD_WORDS: usize = 4096;
/// Bits of a fold word that count; the rest is the tag.
pub const FOLD_COUNT_BITS: u32 = 24;
/// The counting part of a fold word.
pub const FOLD_COUNT_MASK: u64 = (1 << FOLD_COUNT_BITS) - 1;
/// Working areas of programs that run at the same time. A program that finds none free denies.
pub const SCRATCH_SLOTS: usize = 256;
/// Mounts of all sessions together.
pub const MAX_MOUNTS: usize = 16_384;

/// Word of an image's header that differs between any two installed images; the installer sets it. A decision takes several
/// steps, and all must see the same image.
pub const EPOCH_WORD: usize = 7;

/// A slot without a session.
pub const FREE: u32 = 0;
/// The session's container is being set up by Leash itself; the first exec in it makes the session active.
pub const ARMING: u32 = 1;
/// Every action of the session is decided.
pub const ACTIVE: u32 = 2;

/// Where sessions can be found, for the first test of every hook.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many of `levels` are in use.
    pub level_count: u32,
    /// Keeps the layout without holes.
    pub reserved: u32,
    /// Depths of the sessions' cgroups, the root's being 0.
    pub levels: [u32; MAX_LEVELS],
    /// A bit for each session's cgroup by [`filter_bit`].
    pub filter: [u64; FILTER_WORDS],
}

/// The bit of a cgroup in [`Config::filter`].
#[inline(always)]
pub const fn filter_bit(cgroup_id: u64) -> u32 {
    (cgroup_id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as u32
}

/// One session.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionRecord {
    /// [`FREE`], [`ARMING`] or [`ACTIVE`].
    pub state: u32,
    /// Process in the root pid namespace that set the session up, and the process that owns it.
    pub owner_pid: u32,
    /// Start time of the owner, in clock ticks since boot, so that a reused pid is told apart.
    pub owner_start: u64,
    /// The session's cgroup.
    pub cgroup_id: u64,
    /// Depth of the cgroup.
    pub level: u32,
    /// 1 once the session's first program runs: from here on whoever acts has a program, or is denied.
    pub begun: u32,
    /// `struct vfsmount` of the session's root directory.
    pub root_mnt: u64,
    /// `struct dentry` of the session's root directory.
    pub root_dentry: u64,
}

/// What one session's hooks were asked, by verdict: index 0 counts denials, index 1 allowed actions.
/// INVARIANT: `performed = recorded + folded + dropped` for each verdict whenever no hook is running.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Questions that were answered.
    pub performed: [u64; 2],
    /// Answers that have a record of their own.
    pub recorded: [u64; 2],
    /// Answers that are counted on an earlier record.
    pub folded: [u64; 2],
    /// Answers that reached no record.
    pub dropped: [u64; 2],
}

/// The program of a governed task.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TaskRecord {
    /// Session and generation that `class` was found for, see [`class_tag`]; 0 for none.
    pub tag: u64,
    /// Hash of the program's path.
    pub hash: u64,
    /// The program's class in the image.
    pub class: u32,
    /// Where the path starts in `path`; 0 if the program isn't known.
    pub start: u32,
    /// The path, ending with the last byte.
    pub path: [u8; MAX_PATH_BYTES],
}

/// Marks a class as found for one generation of one session's policy.
#[inline(always)]
pub const fn class_tag(slot: u32, generation: u32) -> u64 {
    ((slot as u64 + 1) << 32) | generation as u64
}

/// A path in the making. The path ends with the last byte of `path`, and the program's path follows, so that header, path and
/// program are one piece of memory and leave as one record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Area {
    /// Room for the header of a record with the longest path.
    pub head: [u8; HEADER_BYTES],
    /// The path.
    pub path: [u8; MAX_PATH_BYTES],
    /// The acting program's path, from its first byte.
    pub exe: [u8; MAX_PATH_BYTES],
}

/// The state of a walk from an object to the session's root. It lives here and not on a program's stack because the verifier
/// follows every value of the stack through each iteration.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WalkState {
    /// The current dentry.
    pub dentry: u64,
    /// The current `struct vfsmount`, 0 while it is unknown.
    pub mnt: u64,
    /// Root of the current mount.
    pub mnt_root: u64,
    /// Where the walk ends.
    pub root_dentry: u64,
    /// See `root_dentry`.
    pub root_mnt: u64,
    /// Where the path starts by now.
    pub start: u32,
    /// Whether and how the walk ended.
    pub status: u32,
    /// The session.
    pub slot: u32,
    /// 1 if no rename came between.
    pub settled: u32,
    /// The current dentry's parent, name and inode as they lie in the kernel's memory.
    pub node: [u64; WalkState::NODE_WORDS],
}

impl WalkState {
    /// Words of [`Self::node`].
    pub const NODE_WORDS: usize = 8;
}

/// The state of a pass over a path, for the same reason.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ScanState {
    /// State of the automaton.
    pub state: u32,
    /// 1 once the automaton is in a sink.
    pub sunk: u32,
    /// 1 if the image is damaged.
    pub corrupt: u32,
    /// 1 if the bytes aren't UTF-8.
    pub invalid: u32,
    /// All words of the path, or-ed.
    pub seen: u64,
    /// Hash of the path.
    pub hash: u64,
    /// Bytes of a UTF-8 sequence that are still to come.
    pub expected: u32,
    /// Least value of the next of them.
    pub lowest: u32,
    /// Greatest value of the next of them.
    pub highest: u32,
    /// Where the first chunk starts.
    pub first: u32,
    /// `accept` of the state in which the path ended.
    pub accept: u32,
    /// Keeps the layout without holes.
    pub reserved: u32,
}

/// Working memory of one run of a program. Programs can be preempted, so it is claimed, not per CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    /// 1 while a program uses it.
    pub claimed: u32,
    /// The session.
    pub slot: u32,
    /// Start of each path in its area; `MAX_PATH_BYTES` if there is none.
    pub start: [u32; 2],
    /// Why there is no path, a `Cause`.
    pub cause: [u32; 2],
    /// The objects whose paths are wanted. A mount of 0: find it by the dentry.
    pub mnt: [u64; 2],
    /// See `mnt`.
    pub dentry: [u64; 2],
    /// Hash of each path.
    pub hash: [u64; 2],
    /// An endpoint's address in network order.
    pub address: [u8; 16],
    /// Bytes of `address` in use: 0, 4 or 16.
    pub address_len: u32,
    /// An endpoint's port in host order.
    pub port: u32,
    /// An endpoint's `Protocol`.
    pub protocol: u32,
    /// 1 if the acting program is the one that is about to run: the first exec of a session.
    pub exe_is_path: u32,
    /// Why an object may not get the name of each area, a `Cause`; 0 if it may.
    pub gained: [u32; 2],
    /// Hash of the acting program's path.
    pub exe_hash: u64,
    /// Epoch of the image that decides this question, see [`EPOCH_WORD`]; 0 while none does.
    pub epoch: u64,
    /// The epoch for which `class` and `exe_hash` are known; another one if they aren't.
    pub classified: u64,
    /// Generation of that image.
    pub generation: u32,
    /// 1 if that image is enforced.
    pub enforce: u32,
    /// Class of the acting program.
    pub class: u32,
    /// The kinds that are decided, during a pass.
    pub asked: u32,
    /// For each area, a leaf of the tables for each kind that is asked.
    pub leaf: [[u32; Kind::COUNT]; 2],
    /// See [`WalkState`].
    pub walk: WalkState,
    /// See [`ScanState`].
    pub scan: ScanState,
    /// The paths.
    pub area: [Area; 2],
    /// What the verifier must be able to add to the end of the last area.
    pub slack: [u8; MAX_PATH_BYTES * 2],
}

/// Key of the map from the root of a mount to the mount, for hooks that are told no mount.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MountKey {
    /// The session.
    pub slot: u64,
    /// `struct dentry` of the mount's root.
    pub dentry: u64,
}

/// Stands for a mount in that map when several mounts have the same root.
pub const AMBIGUOUS_MOUNT: u64 = 1;

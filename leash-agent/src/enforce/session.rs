//! One session: its slot in the maps, its policy, its events.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use leash_common::event::RECORD_FLUSH;
use leash_common::session::{
    ARMING, Config, Counters as KernelCounters, EPOCH_WORD, FOLD_COUNT_BITS, FOLD_COUNT_MASK, FOLD_WORDS, MAX_SESSIONS, MountKey,
    SessionRecord, filter_bit,
};
use leash_common::table::{MAGIC, PAGE_BYTES, PAGE_WORDS, header};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::cgroup::{self, Place};
use super::error::{EnforceError, Result};
use super::event::{Event, Mode, decode, split};
use super::install::{Lock, Maps};
use super::layout;
use super::owner;
use super::ring::{Mapping, Ring};
use super::sys;

/// Bytes of the ring of denials, and of allowed actions.
const DENY_RING: u32 = 1 << 20;
const ALLOW_RING: u32 = 1 << 22;
/// How long a quiet ring is left unread: allowed actions wake nobody until much is waiting.
const GLANCE: Duration = Duration::from_millis(50);

/// What a session needs.
#[derive(Clone, Copy)]
pub struct SessionSpec<'a> {
    /// The session's cgroup, an absolute directory of cgroupfs.
    pub cgroup: &'a Path,
    /// The container's first process, in the root pid namespace.
    pub init_pid: u32,
    /// Whether denials are enforced.
    pub mode: Mode,
    /// The compiled policy.
    pub image: &'a [u64],
    /// Its generation.
    pub generation: u32,
}

/// Counts of one verdict. `performed = recorded + folded + dropped` once the session's processes have ended and all was drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions answered.
    pub performed: u64,
    /// Answers with an event of their own.
    pub recorded: u64,
    /// Answers counted on an earlier event.
    pub folded: u64,
    /// Answers that no event tells of.
    pub dropped: u64,
}

/// Counts by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Allowed by the policy.
    pub allow: Counts,
    /// Not allowed, enforced or not.
    pub deny: Counts,
}

/// A registered session. Dropping it leaves the policy in force; [`Session::close`] ends it.
pub struct Session {
    maps: Arc<Maps>,
    slot: u32,
    cgroup: PathBuf,
    denials: Ring,
    allowed: Ring,
    fold: Mapping,
    owners: Owners,
    /// Repeats whose first event never arrived.
    lost: u64,
}

/// The events whose repeats fold words may count. A word's new owner is told of before the repeats of the old one are, and several
/// processors may be at it, so the last few owners of each word are kept.
#[derive(Default)]
struct Owners(HashMap<u32, VecDeque<(u64, Event)>>);

impl Owners {
    const KEPT: usize = 4;

    fn add(&mut self, index: u32, tag: u64, event: Event) {
        let owners = self.0.entry(index).or_default();
        owners.truncate(Self::KEPT - 1);
        owners.push_front((tag, event));
    }

    fn find(&self, index: u32, tag: u64) -> Option<&Event> {
        self.0.get(&index)?.iter().find(|(owner, _)| *owner == tag).map(|(_, event)| event)
    }
}

/// A map with the image, ready to be installed.
pub(super) fn load_image(image: &[u64], mode: Mode, generation: u32) -> Result<OwnedFd> {
    let mut pages = image.chunks_exact(PAGE_WORDS);
    if !pages.remainder().is_empty() || image.get(header::MAGIC) != Some(&MAGIC) {
        return Err(EnforceError::Image("it isn't made of whole pages with a header"));
    }
    let count = pages.len() as u32;
    let map = sys::create_map(sys::MapSpec {
        name: "leash_image",
        map_type: sys::MAP_TYPE_ARRAY,
        key: 4,
        value: PAGE_BYTES as u32,
        entries: count,
        flags: sys::F_INNER_MAP,
        inner: None,
    })?;
    if let Some(first) = pages.next() {
        let mut first = first.to_vec();
        if let Some(word) = first.get_mut(header::GENERATION) {
            *word = u64::from(mode == Mode::Enforce) << 32 | u64::from(generation);
        }
        if let Some(word) = first.get_mut(EPOCH_WORD) {
            // 0 stands for no image.
            *word = layout::random()?.max(1);
        }
        sys::update_bytes(map.as_fd(), &0_u32, &first)?;
    }
    for (number, page) in pages.enumerate() {
        sys::update_bytes(map.as_fd(), &(number as u32 + 1), page)?;
    }
    Ok(map)
}

pub(super) fn install_inner(outer: std::os::fd::BorrowedFd<'_>, index: u32, inner: &OwnedFd) -> Result<()> {
    use std::os::fd::AsRawFd;
    sys::update(outer, &index, &(inner.as_raw_fd() as u32))
}

fn must_hold(cgroup: &Path, pid: u32) -> Result<()> {
    if cgroup::holds(cgroup, pid)? { Ok(()) } else { Err(EnforceError::Elsewhere { pid, cgroup: cgroup.to_owned() }) }
}

impl Session {
    pub(super) fn register(maps: Arc<Maps>, _lock: &Lock, spec: SessionSpec<'_>) -> Result<Self> {
        must_hold(spec.cgroup, spec.init_pid)?;
        Self::begin(maps, spec.cgroup, &load_image(spec.image, spec.mode, spec.generation)?, ARMING)
    }

    /// A session that is in this state from its start, with a loaded image. Nobody else may be changing the maps.
    pub(super) fn begin(maps: Arc<Maps>, cgroup: &Path, image: &OwnedFd, state: u32) -> Result<Self> {
        let place = Place::of(cgroup)?;
        let slot = free_slot(&maps)?;
        clear(&maps, slot)?;
        let ring = |name, entries| {
            let map_type = sys::MAP_TYPE_RINGBUF;
            sys::create_map(sys::MapSpec { name, map_type, key: 0, value: 0, entries, flags: 0, inner: None })
        };
        let (denials, allowed) = (ring("leash_deny", DENY_RING)?, ring("leash_allow", ALLOW_RING)?);
        // Each waits for a grace period of the kernel's, and one period does for all.
        std::thread::scope(|scope| {
            let rings = [(slot * 2, &denials), (slot * 2 + 1, &allowed)];
            let outer = maps.rings();
            let installing = rings.map(|(index, ring)| scope.spawn(move || install_inner(outer, index, ring)));
            let installed = install_inner(maps.images(), slot, image);
            installing
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .fold(installed, Result::and)
        })?;
        let fold = Mapping::new(maps.fold(), FOLD_WORDS * 8, u64::from(slot) * FOLD_WORDS as u64 * 8, true)?;
        let session = Self {
            slot,
            cgroup: cgroup.to_owned(),
            denials: Ring::new(denials, DENY_RING)?,
            allowed: Ring::new(allowed, ALLOW_RING)?,
            fold,
            owners: Owners::default(),
            lost: 0,
            maps,
        };
        let (owner_pid, owner_start) = owner::this_process()?;
        let record =
            SessionRecord { state, owner_pid, owner_start, cgroup_id: place.id, level: place.level, ..SessionRecord::default() };
        sys::update(session.maps.sessions(), &slot, &record)?;
        if let Err(error) = announce(&session.maps, &place, slot) {
            sys::update(session.maps.sessions(), &slot, &SessionRecord::default())?;
            return Err(error);
        }
        Ok(session)
    }

    /// Replaces policy, mode and generation by one atomic switch. After an error the old ones are still in force.
    pub fn reload(&self, image: &[u64], mode: Mode, generation: u32) -> Result<()> {
        let image = load_image(image, mode, generation)?;
        install_inner(self.maps.images(), self.slot, &image)
    }

    /// Fails unless this process is one of the session's.
    pub(super) fn must_hold(&self, pid: u32) -> Result<()> {
        must_hold(&self.cgroup, pid)
    }

    /// Waits until events arrive, at most for `timeout`, and hands over all that are there.
    pub fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event)) -> Result<()> {
        let end = Instant::now() + timeout;
        loop {
            if self.consume(sink) > 0 {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let wait = PollTimeout::try_from(left.min(GLANCE) + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
            let mut rings =
                [PollFd::new(self.denials.fd(), PollFlags::POLLIN), PollFd::new(self.allowed.fd(), PollFlags::POLLIN)];
            match poll(&mut rings, wait) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => {
                    return Err(EnforceError::Bpf { action: "wait for events".into(), source: errno.into() });
                }
            }
        }
    }

    fn consume(&mut self, sink: &mut dyn FnMut(Event)) -> usize {
        let Self { denials, allowed, owners, lost, .. } = self;
        let mut count = denials.consume(|record| {
            if let Some(event) = split(record).and_then(|(header, rest)| decode(&header, rest)) {
                sink(event);
            }
        });
        count += allowed.consume(|record| {
            let Some((header, rest)) = split(record) else { return };
            if header.record == RECORD_FLUSH {
                let repeats = u64::from(header.count);
                match owners.find(header.fold_slot, header.fold_tag) {
                    Some(event) => sink(Event { count: repeats, ..event.clone() }),
                    None => *lost += repeats,
                }
                return;
            }
            let Some(event) = decode(&header, rest) else { return };
            if header.fold_tag != 0 {
                owners.add(header.fold_slot, header.fold_tag, event.clone());
            }
            sink(event);
        });
        count
    }

    /// Hands over what is waiting, and the repeats that were counted since the last time.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Event)) -> Result<()> {
        self.consume(sink);
        for index in 0..FOLD_WORDS as u32 {
            let Some(word) = self.fold.word(index as usize * 8) else { continue };
            let seen = word.load(Ordering::Relaxed);
            if seen & FOLD_COUNT_MASK == 0 {
                continue;
            }
            // A word whose first event is still on its way keeps its count until the next time.
            let Some(event) = self.owners.find(index, seen >> FOLD_COUNT_BITS) else { continue };
            if word.compare_exchange(seen, seen & !FOLD_COUNT_MASK, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                sink(Event { count: seen & FOLD_COUNT_MASK, ..event.clone() });
            }
        }
        Ok(())
    }

    /// The kernel's sums; zeros if they can't be read.
    pub fn totals(&self) -> Totals {
        let counters: KernelCounters = sys::lookup(self.maps.counters(), &self.slot).ok().flatten().unwrap_or_default();
        let [deny_performed, allow_performed] = counters.performed;
        let [deny_recorded, allow_recorded] = counters.recorded;
        let [deny_folded, allow_folded] = counters.folded;
        let [deny_dropped, allow_dropped] = counters.dropped;
        Totals {
            allow: Counts {
                performed: allow_performed,
                recorded: allow_recorded,
                folded: allow_folded.saturating_sub(self.lost),
                dropped: allow_dropped + self.lost,
            },
            deny: Counts { performed: deny_performed, recorded: deny_recorded, folded: deny_folded, dropped: deny_dropped },
        }
    }

    /// Ends the session. Refused while its cgroup has processes.
    pub fn close(self) -> Result<()> {
        let lock = Lock::take()?;
        if cgroup::is_populated(&self.cgroup) {
            return Err(EnforceError::Busy);
        }
        release(&self.maps, &lock, self.slot)
    }
}

/// Makes the session findable. Entries of other sessions keep their places, so none is lost for a moment.
fn announce(maps: &Maps, place: &Place, slot: u32) -> Result<()> {
    let mut config: Config = sys::lookup(maps.config(), &0_u32)?.ok_or(EnforceError::Btf("the configuration map is empty"))?;
    let known = config.levels.iter().take(config.level_count as usize).any(|&level| level == place.level);
    if !known {
        let count = config.levels.len();
        let free = config.levels.get_mut(config.level_count as usize).ok_or(EnforceError::TooManyLevels(count))?;
        *free = place.level;
        // First the level, then that it counts.
        sys::update(maps.config(), &0_u32, &config)?;
        config.level_count += 1;
    }
    let bit = filter_bit(place.id);
    if let Some(word) = config.filter.get_mut(bit as usize / 64) {
        *word |= 1 << (bit % 64);
    }
    sys::update(maps.cgroups(), &place.id, &slot)?;
    sys::update(maps.config(), &0_u32, &config)
}

fn free_slot(maps: &Maps) -> Result<u32> {
    for slot in 0..MAX_SESSIONS as u32 {
        let record: SessionRecord = sys::lookup(maps.sessions(), &slot)?.unwrap_or_default();
        if record.state == leash_common::session::FREE {
            return Ok(slot);
        }
    }
    Err(EnforceError::TooManySessions(MAX_SESSIONS))
}

/// Forgets what a slot's last session left.
fn clear(maps: &Maps, slot: u32) -> Result<()> {
    sys::update(maps.counters(), &slot, &KernelCounters::default())?;
    sys::update(maps.fold(), &slot, &[0_u64; FOLD_WORDS])?;
    let mut key: Option<MountKey> = None;
    let mut dead = Vec::new();
    while let Some(next) = sys::next_key(maps.mounts(), key.as_ref())? {
        if next.slot == u64::from(slot) {
            dead.push(next);
        }
        key = Some(next);
    }
    for key in dead {
        sys::delete(maps.mounts(), &key)?;
    }
    Ok(())
}

/// Frees a slot whose cgroup has no processes.
pub(super) fn release(maps: &Maps, _lock: &Lock, slot: u32) -> Result<()> {
    let record: SessionRecord = sys::lookup(maps.sessions(), &slot)?.unwrap_or_default();
    sys::delete(maps.cgroups(), &record.cgroup_id)?;
    sys::update(maps.sessions(), &slot, &SessionRecord::default())?;
    sys::delete(maps.images(), &slot)?;
    sys::delete(maps.rings(), &(slot * 2))?;
    sys::delete(maps.rings(), &(slot * 2 + 1))?;
    clear(maps, slot)
}

/// Frees the slots of sessions whose owner and processes are gone; returns how many sessions remain.
pub(super) fn collect(maps: &Maps, lock: &Lock) -> Result<usize> {
    let mut alive = 0;
    for slot in 0..MAX_SESSIONS as u32 {
        let record: SessionRecord = sys::lookup(maps.sessions(), &slot)?.unwrap_or_default();
        if record.state == leash_common::session::FREE {
            continue;
        }
        if owner::is_alive(record.owner_pid, record.owner_start) || cgroup::is_populated_by_id(record.cgroup_id) {
            alive += 1;
        } else {
            release(maps, lock, slot)?;
        }
    }
    Ok(alive)
}

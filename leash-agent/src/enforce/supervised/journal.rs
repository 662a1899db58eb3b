//! What was decided: the events on their way to the log, the repeats that are folded, and the sums.
//!
//! INVARIANT: performed = recorded + folded + dropped for each verdict, under one lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::event::{Event, EventResource};
use super::super::session::Totals;

/// Events that may wait for the reader. A denial waits for room, so that none is lost; an allowed action then goes uncounted into
/// `dropped`.
const WAITING: usize = 1 << 16;
/// From so many on the reader is woken. It looks by itself now and then, and one that is woken for every event costs more than the event.
const MANY: usize = 1 << 10;
/// Different allowed actions whose repeats are counted.
const FOLDED: usize = 1 << 14;

/// Whether two allowed actions are alike, so that the second is a repeat.
fn alike(one: &Event, other: &Event) -> bool {
    one.kind == other.kind
        && one.tgid == other.tgid
        && one.generation == other.generation
        && one.reason == other.reason
        && one.resource == other.resource
        && one.exe == other.exe
}

/// Equal for actions that are alike.
fn key(keys: &RandomState, event: &Event) -> u64 {
    let mut hasher = keys.build_hasher();
    (event.kind, event.tgid, event.generation, event.reason, &event.exe).hash(&mut hasher);
    match &event.resource {
        EventResource::Path(path) => path.hash(&mut hasher),
        EventResource::Endpoint { ip, port, protocol } => (ip, port, *protocol as u8).hash(&mut hasher),
    }
    hasher.finish()
}

#[derive(Default)]
struct State {
    waiting: Vec<Event>,
    /// By [`key`]. Of actions that have a key in common and aren't alike, one is counted.
    folded: HashMap<u64, (Event, u64)>,
    totals: Totals,
    /// The reader shall not wait any longer.
    urgent: bool,
    closed: bool,
}

/// The events of one session.
#[derive(Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    keys: RandomState,
    arrived: Condvar,
    taken: Condvar,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records one answer.
    pub(super) fn add(&self, event: Event) {
        let key = key(&self.keys, &event);
        let mut state = self.lock();
        if event.allow {
            state.totals.allow.performed += 1;
            if let Some((_, count)) = state.folded.get_mut(&key).filter(|(first, _)| alike(first, &event)) {
                *count += 1;
                state.totals.allow.folded += 1;
                return;
            }
            if state.waiting.len() >= WAITING {
                state.totals.allow.dropped += 1;
                return;
            }
            if state.folded.len() >= FOLDED {
                flush(&mut state);
                state.folded.clear();
            }
            state.folded.entry(key).or_insert_with(|| (event.clone(), 0));
            state.totals.allow.recorded += 1;
        } else {
            while state.waiting.len() >= WAITING && !state.closed {
                state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.totals.deny.performed += 1;
            state.totals.deny.recorded += 1;
        }
        let urgent = !event.allow || state.waiting.len() >= MANY;
        state.waiting.push(event);
        if urgent {
            self.hurry(&mut state);
        }
    }

    fn hurry(&self, state: &mut State) {
        if !std::mem::replace(&mut state.urgent, true) {
            self.arrived.notify_one();
        }
    }

    /// Whoever waits in [`Journal::take`], or does so next, shall not wait.
    pub(super) fn ring(&self) {
        self.hurry(&mut self.lock());
    }

    /// Hands over what is there: at once if a denial or many events are there, otherwise after `timeout`.
    pub(super) fn take(&self, timeout: Duration, sink: &mut dyn FnMut(Event)) {
        let end = Instant::now() + timeout;
        let mut state = self.lock();
        while !state.urgent {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.urgent = false;
        let events = std::mem::take(&mut state.waiting);
        drop(state);
        self.taken.notify_all();
        events.into_iter().for_each(sink);
    }

    /// Hands over what is waiting, then the repeats since the last time.
    pub(super) fn drain(&self, sink: &mut dyn FnMut(Event)) {
        let mut state = self.lock();
        flush(&mut state);
        let events = std::mem::take(&mut state.waiting);
        drop(state);
        self.taken.notify_all();
        events.into_iter().for_each(sink);
    }

    /// The sums.
    pub(super) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Nobody reads any more: nothing may wait for room.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.taken.notify_all();
    }
}

/// Turns counted repeats into events.
fn flush(state: &mut State) {
    let State { waiting, folded, .. } = state;
    for (event, count) in folded.values_mut().filter(|(_, count)| *count > 0) {
        waiting.push(Event { count: std::mem::take(count), ..event.clone() });
    }
}

#[cfg(test)]
mod tests {
    use leash_common::kind::Kind;

    use super::super::super::event::{Cause, Mode};
    use super::super::super::session::Counts;
    use super::*;

    fn event(path: &str, allow: bool) -> Event {
        Event {
            time_ns: 0,
            kind: Kind::FileRead,
            resource: EventResource::Path(path.into()),
            allow,
            denied: !allow,
            mode: Mode::Enforce,
            generation: 1,
            reason: 0,
            cause: Cause::Policy,
            pid: 1,
            tgid: 1,
            ppid: 0,
            uid: 0,
            exe: b"/bin/x".to_vec(),
            errno: 0,
            count: 1,
        }
    }

    #[test]
    fn repeats_are_counted_and_denials_never_folded() {
        let journal = Journal::default();
        for _ in 0..3 {
            journal.add(event("/a", true));
            journal.add(event("/b", false));
        }
        let mut seen = Vec::new();
        journal.take(Duration::ZERO, &mut |event| seen.push(event));
        journal.drain(&mut |event| seen.push(event));
        let counts = |allow: bool| seen.iter().filter(|event| event.allow == allow).map(|event| event.count).collect::<Vec<_>>();
        assert_eq!(counts(true), [1, 2]);
        assert_eq!(counts(false), [1, 1, 1]);
        let totals = journal.totals();
        assert_eq!(totals.allow, Counts { performed: 3, recorded: 1, folded: 2, dropped: 0 });
        assert_eq!(totals.deny, Counts { performed: 3, recorded: 3, folded: 0, dropped: 0 });
    }

    /// The reader would otherwise wait for an hour.
    #[test]
    fn denials_many_events_and_the_bell_end_the_wait() {
        const HOUR: Duration = Duration::from_secs(3600);
        let taken = |journal: &Journal| {
            let mut seen = 0;
            journal.take(HOUR, &mut |_| seen += 1);
            seen
        };
        let journal = Journal::default();
        journal.add(event("/allowed", true));
        journal.add(event("/denied", false));
        assert_eq!(taken(&journal), 2);
        for file in 0..=MANY {
            journal.add(event(&format!("/{file}"), true));
        }
        assert_eq!(taken(&journal), MANY + 1);
        journal.ring();
        assert_eq!(taken(&journal), 0);
        journal.add(event("/last", true));
        let mut seen = 0;
        journal.take(Duration::ZERO, &mut |_| seen += 1);
        assert_eq!(seen, 1);
    }
}

//! What was decided: the events on their way to the log, the repeats that are folded, and the sums.
//!
//! INVARIANT: performed = recorded + folded + dropped for each verdict, under one lock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use leash_common::kind::Kind;

use super::super::event::{Event, EventResource};
use super::super::session::Totals;

/// Events that may wait for the reader. A denial waits for room, so that none is lost; an allowed action then goes uncounted into
/// `dropped`.
const WAITING: usize = 1 << 16;
/// Different allowed actions whose repeats are counted.
const FOLDED: usize = 1 << 14;

/// Which allowed actions are alike.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Alike {
    kind: Kind,
    tgid: u32,
    generation: u32,
    reason: u32,
    exe: Vec<u8>,
    resource: Key,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Path(Vec<u8>),
    Endpoint(std::net::IpAddr, u16, u8),
}

impl Alike {
    fn of(event: &Event) -> Self {
        let resource = match &event.resource {
            EventResource::Path(path) => Key::Path(path.clone()),
            EventResource::Endpoint { ip, port, protocol } => Key::Endpoint(*ip, *port, *protocol as u8),
        };
        Self {
            kind: event.kind,
            tgid: event.tgid,
            generation: event.generation,
            reason: event.reason,
            exe: event.exe.clone(),
            resource,
        }
    }
}

#[derive(Default)]
struct State {
    waiting: Vec<Event>,
    folded: HashMap<Alike, (Event, u64)>,
    totals: Totals,
    closed: bool,
}

/// The events of one session.
#[derive(Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    arrived: Condvar,
    taken: Condvar,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records one answer.
    pub(super) fn add(&self, event: Event) {
        let mut state = self.lock();
        if event.allow {
            state.totals.allow.performed += 1;
            if let Some((_, count)) = state.folded.get_mut(&Alike::of(&event)) {
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
            if let Entry::Vacant(place) = state.folded.entry(Alike::of(&event)) {
                place.insert((event.clone(), 0));
            }
            state.totals.allow.recorded += 1;
        } else {
            while state.waiting.len() >= WAITING && !state.closed {
                state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.totals.deny.performed += 1;
            state.totals.deny.recorded += 1;
        }
        state.waiting.push(event);
        if state.waiting.len() == 1 {
            self.arrived.notify_one();
        }
    }

    /// Waits for events, at most for `timeout`, and hands over what is there.
    pub(super) fn take(&self, timeout: Duration, sink: &mut dyn FnMut(Event)) {
        let end = Instant::now() + timeout;
        let mut state = self.lock();
        while state.waiting.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
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
}

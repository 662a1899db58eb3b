//! Which thread receives calls: one at a time. The kernel wakes every thread that waits for a call, and all but one in vain.
//!
//! Those that stand ready wait here instead. One takes the turn when the thread that has it is about to do what may take long, or when
//! that thread's call takes longer than anybody should wait for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Threads that stand ready; those beyond them end.
const MAX_READY: usize = 2;
/// How long one call may hold up the others.
const PATIENCE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct State {
    /// Somebody receives, or is about to.
    taken: bool,
    /// Whoever stands ready shall take the turn.
    wanted: bool,
    ready: usize,
    /// Calls received.
    received: u64,
}

#[derive(Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    changed: Condvar,
}

impl Turn {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn to receive. Fails if the calling thread is not needed, or if the session is over.
    pub(super) fn take(&self, stopping: &AtomicBool) -> bool {
        let mut state = self.lock();
        if state.taken {
            if state.ready >= MAX_READY {
                return false;
            }
            state.ready += 1;
            let mut seen = state.received;
            while !stopping.load(Ordering::SeqCst) {
                state = self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
                let stuck = std::mem::replace(&mut seen, state.received) == state.received;
                if !state.taken && (state.wanted || stuck) {
                    break;
                }
            }
            state.ready -= 1;
        }
        state.taken = true;
        state.wanted = false;
        !stopping.load(Ordering::SeqCst)
    }

    /// Gives the turn back, after a call was received or none will come any more.
    pub(super) fn give_back(&self) {
        let mut state = self.lock();
        state.taken = false;
        state.received += 1;
    }

    /// Sees to it that somebody receives while the calling thread does something else. `false`: a further thread is needed.
    pub(super) fn pass_on(&self) -> bool {
        let mut state = self.lock();
        if !state.taken && state.ready > 0 {
            state.wanted = true;
            self.changed.notify_one();
        }
        state.taken || state.ready > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn one_has_the_turn_and_another_gets_it() {
        let (turn, stopping) = (Arc::new(Turn::default()), Arc::new(AtomicBool::new(false)));
        assert!(!turn.pass_on(), "nobody is there");
        assert!(turn.take(&stopping));
        assert!(turn.pass_on(), "somebody receives");
        let (sender, receiver) = channel();
        let other = {
            let (turn, stopping) = (Arc::clone(&turn), Arc::clone(&stopping));
            std::thread::spawn(move || {
                let got = turn.take(&stopping);
                sender.send(()).unwrap();
                got
            })
        };
        while turn.lock().ready == 0 {
            std::thread::yield_now();
        }
        assert!(receiver.try_recv().is_err(), "two have the turn");
        turn.give_back();
        assert!(turn.pass_on());
        receiver.recv().unwrap();
        assert!(other.join().unwrap());
        assert_eq!(turn.lock().ready, 0);
    }

    #[test]
    fn a_call_that_takes_long_does_not_hold_up_the_others() {
        let (turn, stopping) = (Arc::new(Turn::default()), Arc::new(AtomicBool::new(false)));
        assert!(turn.take(&stopping));
        let other = {
            let (turn, stopping) = (Arc::clone(&turn), Arc::clone(&stopping));
            std::thread::spawn(move || turn.take(&stopping))
        };
        turn.give_back();
        assert!(other.join().unwrap(), "nobody took over");
    }

    #[test]
    fn those_that_are_not_needed_end() {
        let (turn, stopping) = (Arc::new(Turn::default()), Arc::new(AtomicBool::new(false)));
        assert!(turn.take(&stopping));
        let start = || {
            let (turn, stopping) = (Arc::clone(&turn), Arc::clone(&stopping));
            std::thread::spawn(move || turn.take(&stopping))
        };
        let ready: Vec<_> = (0..MAX_READY).map(|_| start()).collect();
        while turn.lock().ready < MAX_READY {
            std::thread::yield_now();
        }
        assert!(!start().join().unwrap(), "one too many stays");
        stopping.store(true, Ordering::SeqCst);
        assert!(ready.into_iter().all(|thread| !thread.join().unwrap()));
    }
}

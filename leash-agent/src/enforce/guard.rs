//! A registered session, whichever backend decides for it.

use std::time::Duration;

use super::error::Result;
use super::event::{Event, Mode};
use super::session::{Session, Totals};
use super::supervised::Supervised;

/// A session under one of the backends.
pub enum Guard {
    /// The kernel decides.
    BpfLsm(Box<Session>),
    /// The supervisor decides.
    Supervised(Box<Supervised>),
}

impl Guard {
    /// Replaces policy, mode and generation by one atomic switch. After an error the old ones are still in force.
    pub fn reload(&self, image: &[u64], mode: Mode, generation: u32) -> Result<()> {
        match self {
            Self::BpfLsm(session) => session.reload(image, mode, generation),
            Self::Supervised(session) => session.replace(image, mode, generation),
        }
    }

    /// Waits for events, at most for `timeout`, and hands over all that are there. Denials and many events end the wait.
    pub fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event)) -> Result<()> {
        match self {
            Self::BpfLsm(session) => session.poll(timeout, sink),
            Self::Supervised(session) => session.take(timeout, sink),
        }
    }

    /// Ends a wait in [`Guard::poll`] from another thread, or the next one; where that can't be done, its timeout ends it.
    pub fn bell(&self) -> Box<dyn Fn() + Send> {
        match self {
            Self::BpfLsm(_) => Box::new(|| ()),
            Self::Supervised(session) => Box::new(session.bell()),
        }
    }

    /// Hands over what is waiting, and the repeats that were counted since the last time.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Event)) -> Result<()> {
        match self {
            Self::BpfLsm(session) => session.drain(sink),
            Self::Supervised(session) => session.take_repeats(sink),
        }
    }

    /// The sums so far.
    pub fn totals(&self) -> Totals {
        match self {
            Self::BpfLsm(session) => session.totals(),
            Self::Supervised(session) => session.sums(),
        }
    }

    /// Ends the session, whose processes must have ended.
    pub fn close(self) -> Result<()> {
        match self {
            Self::BpfLsm(session) => session.close(),
            Self::Supervised(_) => Ok(()),
        }
    }
}

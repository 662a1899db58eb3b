//! The thread that takes events from the kernel to the log, and switches policies.
//!
//! It owns the session's rings, the log and the summary, so none of them needs a lock; the rest of the daemon talks to it over a
//! channel. If the log can't be written it says so at once, and the session ends: what can't be recorded may not go on.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::RunError;
use super::convert::{self, Generations};
use super::policies::Ready;
use crate::audit::log::LogWriter;
use crate::audit::notices::Notices;
use crate::audit::record::{Body, Mode, PolicyReload, PolicySet, Totals};
use crate::audit::summary::Summary;
use crate::audit::time::from_boot_ns;
use crate::enforce::Guard;

/// Longest wait for events; also how long a new policy may wait to be installed.
const TICK: Duration = Duration::from_millis(20);
/// How often counts of folded repeats are fetched.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

/// What the thread is told.
enum Order {
    /// Switch to this policy.
    Install(Box<Ready>),
    /// Note that a policy was refused.
    Refused(String),
    /// The session's processes are gone.
    Stop,
}

/// What is left when a session is over.
pub(super) struct Recorded {
    pub(super) log: LogWriter,
    pub(super) summary: Summary,
    pub(super) notices: Notices,
    pub(super) totals: Totals,
    pub(super) error: Option<RunError>,
}

/// The other threads' end.
pub(super) struct Recorder {
    orders: Sender<Order>,
    /// Tells the thread to look for orders.
    bell: Box<dyn Fn() + Send>,
    thread: JoinHandle<Recorded>,
}

struct Worker {
    session: Guard,
    log: LogWriter,
    summary: Summary,
    notices: Notices,
    generations: Generations,
    current: PolicySet,
    mode: Mode,
    orders: Receiver<Order>,
}

impl Recorder {
    /// Starts recording. `alarm` is written to if the session must end.
    pub(super) fn start(session: Guard, log: LogWriter, ready: Ready, mode: Mode, alarm: UnixStream) -> Result<Self, RunError> {
        let (sender, orders) = channel();
        let bell = session.bell();
        let mut generations = Generations::new();
        let notices = Notices::new(ready.compiled.policies());
        generations.insert(ready.set.generation, ready.compiled);
        let summary = Summary::default();
        let worker = Worker { session, log, summary, notices, generations, current: ready.set, mode, orders };
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || worker.run(alarm))
            .map_err(RunError::system("start the recorder"))?;
        Ok(Self { orders: sender, bell, thread })
    }

    fn tell(&self, order: Order) {
        // Fails only when the thread ended, and then the session is ending.
        drop(self.orders.send(order));
        (self.bell)();
    }

    /// Installs a policy, soon.
    pub(super) fn install(&self, ready: Ready) {
        self.tell(Order::Install(Box::new(ready)));
    }

    /// Logs that a policy was refused.
    pub(super) fn refused(&self, why: String) {
        self.tell(Order::Refused(why));
    }

    /// Takes the last events and ends the kernel's session. Call it when no process of the session is left.
    pub(super) fn stop(self) -> Result<Recorded, RunError> {
        self.tell(Order::Stop);
        self.thread.join().map_err(|_| RunError::system("keep the recorder running")(std::io::ErrorKind::Other.into()))
    }
}

impl Worker {
    fn run(mut self, mut alarm: UnixStream) -> Recorded {
        let mut error = self.record().err();
        if error.is_some() {
            // The other end is the main loop; it ends the session.
            drop(alarm.write_all(&[1]));
            while !matches!(self.orders.recv(), Ok(Order::Stop) | Err(_)) {}
        }
        let totals = convert::totals(&self.session.totals());
        if let Err(failed) = self.session.close() {
            error.get_or_insert(failed.into());
        }
        Recorded { log: self.log, summary: self.summary, notices: self.notices, totals, error }
    }

    fn record(&mut self) -> Result<(), RunError> {
        let mut drained = Instant::now();
        loop {
            let order = self.orders.try_recv();
            match order {
                Ok(Order::Install(ready)) => self.install(*ready)?,
                Ok(Order::Refused(why)) => self.log_reload(Some(why))?,
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => {
                    self.take(Duration::ZERO)?;
                    return self.drain();
                }
                Err(TryRecvError::Empty) => {}
            }
            self.take(TICK)?;
            if drained.elapsed() >= DRAIN_EVERY {
                self.drain()?;
                drained = Instant::now();
            }
        }
    }

    fn install(&mut self, ready: Ready) -> Result<(), RunError> {
        let Ready { compiled, set } = ready;
        if let Err(error) = self.session.reload(compiled.image(), convert::kernel_mode(self.mode), set.generation) {
            // The old policy is still in force.
            tracing::error!("the policy was not reloaded, the old one stays: {error}");
            return self.log_reload(Some(error.to_string()));
        }
        self.generations.insert(set.generation, compiled);
        self.current = set;
        self.log_reload(None)
    }

    fn log_reload(&mut self, error: Option<String>) -> Result<(), RunError> {
        let reload = PolicyReload { ok: error.is_none(), policies: self.current.clone(), error };
        self.log.append(SystemTime::now(), Body::PolicyReload(reload))?;
        Ok(self.log.flush()?)
    }

    /// Records what is there, waiting up to `timeout` for something.
    fn take(&mut self, timeout: Duration) -> Result<(), RunError> {
        let Self { session, log, summary, notices, generations, .. } = self;
        let mut result = Ok(());
        session.poll(timeout, &mut |event| record_one(log, (&mut *summary, &mut *notices), generations, event, &mut result))?;
        result?;
        Ok(self.log.flush()?)
    }

    fn drain(&mut self) -> Result<(), RunError> {
        let Self { session, log, summary, notices, generations, .. } = self;
        let mut result = Ok(());
        session.drain(&mut |event| record_one(log, (&mut *summary, &mut *notices), generations, event, &mut result))?;
        result?;
        Ok(self.log.flush()?)
    }
}

fn record_one(
    log: &mut LogWriter,
    (summary, notices): (&mut Summary, &mut Notices),
    generations: &Generations,
    event: crate::enforce::Event,
    result: &mut Result<(), crate::audit::log::LogError>,
) {
    if result.is_err() {
        return;
    }
    let time = from_boot_ns(event.time_ns);
    let notice = convert::notice(&event, generations);
    let event = convert::event(&event, generations);
    if let Some((place, notice)) = notice {
        notices.add(place, notice, &event.resource.words());
    }
    summary.add(&event);
    *result = log.append(time, Body::Event(Box::new(event)));
}

//! One call on the supervisor's desk: who asks what, the answer, and the record of it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use leash_common::event::Cause;
use leash_common::kind::{Kind, Protocol};
use nix::errno::Errno;
use nix::libc;
use nix::time::{ClockId, clock_gettime};

use super::super::event::{Event, EventResource, Mode};
use super::bounds;
use super::name::Name;
use super::policy::{Denied, Policy};
use super::resolve::Place;
use super::sys::{self, Call, Result, Status};
use super::task::Task;
use super::worker::Shared;

/// What the caller gets.
pub(super) enum Answer {
    /// This result.
    Value(i64),
    /// A descriptor of its own for what was opened.
    Descriptor(Opened),
    /// What the kernel answers.
    Continue,
    /// It got its answer already.
    Given,
}

/// What was opened for the caller.
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    pub(super) close_on_exec: bool,
    pub(super) also: Also,
}

/// What an open does to a file besides. A caller that has no room for another descriptor must find everything as it was.
pub(super) enum Also {
    Nothing,
    /// It is emptied, through this descriptor.
    Empty(OwnedFd),
    /// It was made here.
    Made(Place),
}

/// What a question is about.
#[derive(Clone)]
pub(super) enum Subject {
    /// Something with a name.
    Name(Name),
    /// An internet endpoint.
    Endpoint(std::net::IpAddr, u16, Protocol),
}

/// One question.
pub(super) struct Ask {
    pub(super) kind: Kind,
    pub(super) subject: Subject,
    /// Deny for this reason, whatever the policy says.
    pub(super) except: Option<Cause>,
}

impl Ask {
    /// `kind` of a name.
    pub(super) fn name(kind: Kind, name: &Name) -> Self {
        Self { kind, subject: Subject::Name(name.clone()), except: None }
    }
}

/// The answer to a question.
pub(super) struct Verdict {
    allow: bool,
    reason: u32,
    cause: Cause,
}

/// One call.
pub(super) struct Desk<'a> {
    pub(super) shared: &'a Shared,
    pub(super) call: Call,
    pub(super) task: Arc<Task>,
    pub(super) policy: Arc<Policy>,
}

impl Desk<'_> {
    /// Argument `index` as it is.
    pub(super) fn word(&self, index: usize) -> u64 {
        self.call.arguments.get(index).copied().unwrap_or_default()
    }

    /// Argument `index` as an `int`.
    pub(super) fn int(&self, index: usize) -> i32 {
        self.word(index) as i32
    }

    /// Must hold after the last look at the caller's memory and before anything is done: what was read was this call's.
    pub(super) fn confirm(&self) -> Result<()> {
        sys::still_waits(self.shared.listener.as_fd(), self.call.id)
    }

    /// Writes to the caller's memory. While it waited it may have been killed, and its number may be another's by now.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.confirm()?;
        sys::write_memory(self.task.tid, address, bytes)
    }

    /// Name of an object.
    pub(super) fn name(&self, fd: &OwnedFd, status: &Status) -> Result<Name> {
        let name = self.shared.mounts.name(fd, status)?;
        if let Some(bounds) = &self.task.bounds
            && !matches!(name, Name::Anonymous)
            && bounds.is_foreign(fd, name.bytes(), status)?
        {
            return Ok(Name::Foreign(name.bytes().to_vec()));
        }
        Ok(name)
    }

    /// Whether nothing is denied, only recorded.
    pub(super) fn only_records(&self) -> bool {
        self.policy.mode == Mode::Record
    }

    /// Asks every question for the caller's program, records each answer, and fails with `EACCES` if one of them is an enforced
    /// denial.
    pub(super) fn judge(&self, asks: &[Ask]) -> Result<()> {
        self.judge_as(&self.task.exe, asks)
    }

    /// The same for the program `exe`.
    pub(super) fn judge_as(&self, exe: &[u8], asks: &[Ask]) -> Result<()> {
        let mut denied = false;
        for ask in asks {
            let verdict = self.verdict(exe, ask);
            self.record_as(exe, ask, &verdict);
            denied |= self.denies(ask, &verdict);
        }
        if denied {
            return Err(Errno::EACCES);
        }
        asks.iter().try_for_each(|ask| match &self.task.bounds {
            Some(bounds) => bounds.permit(ask),
            // Elsewhere the mounts say what can be written to, and nobody can replace those.
            None => bounds::keep(&self.shared.places, ask, true),
        })
    }

    /// What the policy answers to the caller's program; no record is made of it.
    pub(super) fn foresee(&self, ask: &Ask) -> Verdict {
        self.verdict(&self.task.exe, ask)
    }

    /// Whether that is an enforced denial.
    pub(super) fn denies(&self, ask: &Ask, verdict: &Verdict) -> bool {
        let foreign = matches!(ask.subject, Subject::Name(Name::Foreign(_)));
        foreign || !verdict.allow && self.policy.mode == Mode::Enforce
    }

    /// Records what was foreseen.
    pub(super) fn record(&self, ask: &Ask, verdict: &Verdict) {
        self.record_as(&self.task.exe, ask, verdict);
    }

    fn verdict(&self, exe: &[u8], ask: &Ask) -> Verdict {
        match self.decision(exe, ask) {
            Ok(decision) => Verdict { allow: decision.allow, reason: decision.reason, cause: Cause::Policy },
            Err(Denied(cause)) => Verdict { allow: false, reason: 0, cause },
        }
    }

    fn record_as(&self, exe: &[u8], ask: &Ask, verdict: &Verdict) {
        let denied = self.denies(ask, verdict);
        let resource = match &ask.subject {
            Subject::Name(name) => EventResource::Path(name.bytes().to_vec()),
            Subject::Endpoint(ip, port, protocol) => EventResource::Endpoint { ip: *ip, port: *port, protocol: *protocol },
        };
        let now =
            clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64);
        self.shared.journal.add(Event {
            time_ns: now,
            kind: ask.kind,
            resource,
            allow: verdict.allow,
            denied,
            mode: self.policy.mode,
            generation: self.policy.generation,
            reason: verdict.reason,
            cause: verdict.cause,
            pid: self.task.tid,
            tgid: self.task.tgid,
            ppid: self.task.ppid,
            uid: self.shared.uid,
            exe: exe.to_vec(),
            errno: if denied { libc::EACCES } else { 0 },
            count: 1,
        });
    }

    fn decision(&self, exe: &[u8], ask: &Ask) -> std::result::Result<leash_common::table::Decision, Denied> {
        let row = match &ask.subject {
            Subject::Name(Name::Path(path)) => self.policy.row(path)?,
            Subject::Name(Name::Without(cause, _)) => return Err(Denied(*cause)),
            Subject::Name(Name::Anonymous | Name::Memory(_) | Name::Foreign(_)) => return Err(Denied(Cause::Unreachable)),
            Subject::Endpoint(ip, port, protocol) => self.policy.endpoint_row(*ip, *port, *protocol)?,
        };
        if let Some(cause) = ask.except {
            return Err(Denied(cause));
        }
        self.policy.decide(row, ask.kind, self.policy.class(exe)?)
    }
}

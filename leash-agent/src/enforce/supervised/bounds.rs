//! What keeps a session together that has no container: what its mounts, its pid namespace and its devices would keep from it.
//!
//! The kernel itself keeps the session's own calls away from other processes (`sandbox::floor`). What the supervisor opens on the session's
//! behalf is looked at here: files of `/proc` of a process that isn't the session's, devices, terminals of others, Leash's own files,
//! and changes where the session may only read. None of this is a question to the policy, so record mode keeps it, too.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use leash_common::kind::Kind;
use nix::errno::Errno;
use nix::libc;

use super::desk::{Answer, Ask, Desk, Subject};
use super::name::Name;
use super::resolve::{self, PROC_MAGIC};
use super::sys::{self, Result, Status};
use super::task::read_all;

/// Devices that hold nothing of others: `null`, `zero`, `full`, `random`, `urandom`, the caller's own terminal, and the one that makes new
/// terminals (admin-guide/devices.txt).
const DEVICES: [(u32, u32); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), NEW_TERMINAL];
const NEW_TERMINAL: (u32, u32) = (5, 2);
/// Major numbers of the slaves of pseudo-terminals.
const SLAVES: std::ops::Range<u32> = 136..144;
/// Ancestors of a process that are looked at.
const MAX_DEPTH: usize = 1024;

/// An absolute path, and what a session can do below it.
pub struct Place {
    /// The path.
    pub path: Vec<u8>,
    /// Whether it can write, or only read.
    pub writable: bool,
    /// Whether a container would have its own in its place, so that sockets of others are nobody's there.
    pub private: bool,
}

/// What a session without a container is told.
pub struct BoundsSpec {
    /// Outer ones first. Elsewhere it can only read.
    pub places: Vec<Place>,
    /// Paths that are not there for it, nor anything below them.
    pub hidden: HashSet<Vec<u8>>,
    /// Directories of which is noted what the session makes in them.
    pub scratch: Vec<Vec<u8>>,
    /// Here: paths.
    pub made: Arc<Mutex<HashSet<Vec<u8>>>>,
}

/// See the module.
pub(super) struct Bounds {
    spec: BoundsSpec,
    proc: OwnedFd,
    /// The first process, which is no member itself.
    first: u32,
    /// Slaves of the session's terminals, as places.
    terminals: Mutex<Vec<OwnedFd>>,
    /// Sockets that the session bound, as places, so that nothing else can become the same file.
    sockets: Mutex<Vec<OwnedFd>>,
}

impl Bounds {
    /// `proc` is the host's, `first` the session's first process.
    pub(super) fn new(spec: BoundsSpec, proc: OwnedFd, first: u32) -> Result<Self> {
        let bounds = Self { spec, proc, first, terminals: Mutex::default(), sockets: Mutex::default() };
        // Its standard input is the session's own terminal, or none.
        let input = CString::new(format!("{first}/fd/0")).map_err(|_| Errno::EINVAL)?;
        let input = sys::open(bounds.proc.as_raw_fd(), &input, libc::O_PATH, 0, 0)?;
        if is_slave(&sys::status(input.as_raw_fd(), c"")?) {
            bounds.terminals.lock().unwrap_or_else(PoisonError::into_inner).push(input);
        }
        Ok(bounds)
    }

    /// Whether an object with this path and status belongs to somebody else.
    pub(super) fn is_foreign(&self, object: &OwnedFd, path: &[u8], status: &Status) -> Result<bool> {
        match status.kind() {
            libc::S_IFBLK => Ok(true),
            libc::S_IFCHR if is_slave(status) => Ok(!is_among(&self.terminals, status)),
            libc::S_IFSOCK => Ok(self.place(path).is_some_and(|place| place.private) && !is_among(&self.sockets, status)),
            libc::S_IFCHR => Ok(!DEVICES.contains(&status.itself)),
            _ => Ok(sys::file_system(object.as_raw_fd())? == PROC_MAGIC && self.is_of_another(path)),
        }
    }

    /// Whether `directory` in `/proc` belongs to another process. If not, it is right as long as the directory's process lives; afterwards the
    /// directory is empty.
    pub(super) fn leads_elsewhere(&self, directory: &OwnedFd) -> Result<bool> {
        let link = CString::new(format!("self/fd/{}", directory.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
        Ok(self.is_of_another(&sys::read_link(self.proc.as_raw_fd(), &link)?))
    }

    fn is_of_another(&self, path: &[u8]) -> bool {
        // Another one that is mounted elsewhere counts other processes.
        let Some(rest) = path.strip_prefix(b"/proc") else { return true };
        let name = rest.split(|&byte| byte == b'/').nth(1).unwrap_or_default();
        if !name.first().is_some_and(u8::is_ascii_digit) {
            return !rest.is_empty() && !rest.starts_with(b"/");
        }
        let process = std::str::from_utf8(name).ok().and_then(|text| text.parse().ok());
        !process.is_some_and(|process| self.has(process))
    }

    /// Whether a process is of the session. Numbers are used again while they are looked at; but an ancestor that a process has twice, one after
    /// the other, it had all the time.
    pub(super) fn has(&self, process: u32) -> bool {
        let line = self.ancestors(process);
        line.last() == Some(&self.first) && line == self.ancestors(process)
    }

    /// The ancestors of a process up to the session's first, or as far as can be seen.
    fn ancestors(&self, process: u32) -> Vec<u32> {
        let mut line = Vec::new();
        let mut process = process;
        while process > 1 && process != self.first && line.len() < MAX_DEPTH {
            let Some(parent) = self.parent(process) else { break };
            line.push(parent);
            process = parent;
        }
        line
    }

    fn parent(&self, process: u32) -> Option<u32> {
        let name = CString::new(format!("{process}/stat")).ok()?;
        let text = read_all(self.proc.as_fd(), &name).ok()?;
        // The program's name may hold anything; field 4, proc_pid_stat(5).
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        rest.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    fn hides(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end).chain([path.len()]);
        ends.filter_map(|end| path.get(..end)).any(|above| self.spec.hidden.contains(above))
    }

    fn place(&self, path: &[u8]) -> Option<&Place> {
        innermost(&self.spec.places, path)
    }

    /// Whether one of two paths, and not the other, lies where a container would have a directory of its own: in another mount.
    pub(super) fn are_apart(&self, one: &[u8], other: &[u8]) -> bool {
        let private = |path: &[u8]| self.place(path).filter(|place| place.private).map(|place| &place.path);
        private(one) != private(other)
    }

    /// The session bound a socket to `path`, which is `at`.
    pub(super) fn adopt_socket(&self, path: &[u8], at: &resolve::Place) -> Result<()> {
        if !self.place(path).is_some_and(|place| place.private) {
            return Ok(());
        }
        let socket = sys::open(at.dir.as_raw_fd(), &at.name, libc::O_PATH | libc::O_NOFOLLOW, 0, 0)?;
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(is_there);
        sockets.push(socket);
        Ok(())
    }

    /// `master` was opened for the session, where `status` is what was opened.
    pub(super) fn adopt_terminal(&self, master: &OwnedFd, status: &Status) -> Result<()> {
        if status.itself != NEW_TERMINAL {
            return Ok(());
        }
        let mut number: libc::c_uint = 0;
        // SAFETY: TIOCGPTN writes one unsigned int, which outlives the call.
        Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
        let path = CString::new(format!("/dev/pts/{number}")).map_err(|_| Errno::EINVAL)?;
        let slave = sys::open(libc::AT_FDCWD, &path, libc::O_PATH | libc::O_NOFOLLOW, 0, 0)?;
        if sys::status(slave.as_raw_fd(), c"")?.itself != (SLAVES.start + number / 256, number % 256) {
            return Err(Errno::EIO);
        }
        self.terminals.lock().unwrap_or_else(PoisonError::into_inner).push(slave);
        Ok(())
    }

    /// Whether what is asked may be done at all, whatever the policy says.
    pub(super) fn permit(&self, ask: &Ask) -> Result<()> {
        match &ask.subject {
            Subject::Name(Name::Path(path)) if ask.kind != Kind::SocketCreate && self.hides(path) => return Err(Errno::ENOENT),
            _ => keep(&self.spec.places, ask, false)?,
        }
        if let (Subject::Name(Name::Path(path)), Kind::FileCreate) = (&ask.subject, ask.kind)
            && self.spec.scratch.iter().any(|scratch| is_in(path, scratch))
        {
            self.spec.made.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        }
        Ok(())
    }
}

/// Keeps places (outer ones first) as they are, whatever the policy says: a file in one that can only be read is changed by nobody, and what
/// holds a place isn't moved away. `elsewhere`: whether a file in none of them may be changed.
pub(super) fn keep(places: &[Place], ask: &Ask, elsewhere: bool) -> Result<()> {
    let Subject::Name(Name::Path(path)) = &ask.subject else { return Ok(()) };
    let moves = matches!(ask.kind, Kind::FileDelete | Kind::FileRename);
    let changes = matches!(ask.kind, Kind::FileWrite | Kind::FileCreate | Kind::FileLink | Kind::FileSetAttributes);
    if moves && places.iter().any(|place| is_below(&place.path, path)) {
        return Err(Errno::EBUSY);
    }
    let writable = || innermost(places, path).map_or(elsewhere, |place| place.writable);
    if (moves || changes) && !writable() { Err(Errno::EROFS) } else { Ok(()) }
}

/// The innermost place that holds a path.
fn innermost<'a>(places: &'a [Place], path: &[u8]) -> Option<&'a Place> {
    places.iter().rev().find(|place| is_below(path, &place.path))
}

/// Whether one of `places` is the object with this status, and still has its name: afterwards a terminal's number is another's.
fn is_among(places: &Mutex<Vec<OwnedFd>>, status: &Status) -> bool {
    let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
    places.retain(is_there);
    places
        .iter()
        .any(|place| sys::status(place.as_raw_fd(), c"").is_ok_and(|own| own.same(status) && own.itself == status.itself))
}

/// Whether `path` is `directory` or below it.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether `path` is an entry of `directory`.
fn is_in(path: &[u8], directory: &[u8]) -> bool {
    let name = path.strip_prefix(directory).and_then(|rest| rest.strip_prefix(b"/"));
    name.is_some_and(|name| !name.is_empty() && !name.contains(&b'/'))
}

fn is_slave(status: &Status) -> bool {
    status.kind() == libc::S_IFCHR && SLAVES.contains(&status.itself.0)
}

/// Whether an object still has a name.
fn is_there(object: &OwnedFd) -> bool {
    // SAFETY: plain integers, filled in by the call.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the result outlives the call.
    Errno::result(unsafe { libc::fstat(object.as_raw_fd(), &raw mut found) }).is_ok_and(|_| found.st_nlink > 0)
}

/// Calls that change a process's limits or place in the queue, with its number in argument `at`: only the caller's own process, whose number
/// can't become another's meanwhile.
pub(super) fn own_process(desk: &Desk<'_>, at: usize) -> Result<Answer> {
    let number = desk.word(at) as u32;
    if number == desk.task.tgid || number == desk.task.tid { Ok(Answer::Continue) } else { Err(Errno::EPERM) }
}

/// The same where argument 0 says what kind of number it is; `process` is the kind of a process's.
pub(super) fn own_process_of(desk: &Desk<'_>, process: u32) -> Result<Answer> {
    if desk.word(0) as u32 == process { own_process(desk, 1) } else { Err(Errno::EPERM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        let places = [("/tmp", true), ("/w", true), ("/w/.leash", false)];
        let place = |(path, writable): (&str, bool)| Place { path: path.into(), writable, private: path == "/tmp" };
        let hidden = [b"/tmp/leash-1".to_vec()].into();
        let spec =
            BoundsSpec { places: places.map(place).into(), hidden, scratch: [b"/tmp".to_vec()].into(), made: Arc::default() };
        let proc = std::fs::File::open("/proc").unwrap().into();
        Bounds { spec, proc, first: std::os::unix::process::parent_id(), terminals: Mutex::default(), sockets: Mutex::default() }
    }

    fn permit(kind: Kind, path: &str) -> Result<()> {
        bounds().permit(&Ask::name(kind, &Name::Path(path.as_bytes().to_vec())))
    }

    #[test]
    fn what_can_only_be_read_is_not_changed() {
        for path in ["/w/a", "/tmp/a/b", "/w"] {
            assert_eq!(permit(Kind::FileWrite, path), Ok(()), "{path}");
        }
        for path in ["/etc/a", "/wide", "/w/.leash/a", "/w/.leash"] {
            assert_eq!(permit(Kind::FileWrite, path), Err(Errno::EROFS), "{path}");
            assert_eq!(permit(Kind::FileRead, path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_holds_a_place_stays_where_it_is() {
        assert_eq!(permit(Kind::FileRename, "/w"), Err(Errno::EBUSY));
        assert_eq!(permit(Kind::FileDelete, "/w/.leash"), Err(Errno::EBUSY));
        assert_eq!(permit(Kind::FileRename, "/w/src"), Ok(()));
    }

    #[test]
    fn what_is_made_in_scratch_directories_is_noted() {
        let bounds = bounds();
        for path in ["/tmp/a", "/tmp/b/c", "/w/d", "/tmp/leash-1", "/etc/e"] {
            let _ = bounds.permit(&Ask::name(Kind::FileCreate, &Name::Path(path.into())));
        }
        let _ = bounds.permit(&Ask::name(Kind::FileRead, &Name::Path(b"/tmp/read".to_vec())));
        assert_eq!(*bounds.spec.made.lock().unwrap(), [b"/tmp/a".to_vec()].into());
    }

    #[test]
    fn scratch_directories_are_other_mounts() {
        let bounds = bounds();
        assert!(bounds.are_apart(b"/tmp/a", b"/w/a"));
        assert!(bounds.are_apart(b"/etc/a", b"/tmp/a/b"));
        assert!(!bounds.are_apart(b"/tmp/a", b"/tmp/b/c"));
        assert!(!bounds.are_apart(b"/w/a", b"/w/.leash/a"));
    }

    #[test]
    fn own_files_are_not_there() {
        assert_eq!(permit(Kind::FileRead, "/tmp/leash-1/s/owner"), Err(Errno::ENOENT));
        assert_eq!(permit(Kind::UnixConnect, "/tmp/leash-1"), Err(Errno::ENOENT));
        assert_eq!(permit(Kind::FileRead, "/tmp/leash-12"), Ok(()));
    }

    #[test]
    fn only_descendants_are_members() {
        let bounds = bounds();
        let own = std::process::id();
        assert!(bounds.has(own));
        for other in [1, bounds.first, 0, u32::MAX] {
            assert!(!bounds.has(other), "{other}");
        }
        for (path, foreign) in [
            (format!("/proc/{own}/environ"), false),
            (format!("/proc/{}/environ", bounds.first), true),
            ("/proc/1/mem".into(), true),
            (format!("/proc/{own} (deleted)"), true),
            (format!("/elsewhere/{own}/environ"), true),
            ("/process".into(), true),
            ("/proc".into(), false),
            ("/proc/meminfo".into(), false),
        ] {
            assert_eq!(bounds.is_of_another(path.as_bytes()), foreign, "{path}");
        }
    }
}

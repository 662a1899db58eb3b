//! Who calls: the thread, its process, and the program that the process runs.
//!
//! The program is what the kernel says it is (`/proc/PID/exe`, which nothing in a session can change), under the path that it had when
//! it was started. A program that was renamed since keeps that path; one whose start was never seen is not known, and what it asks
//! is denied.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leash_common::event::Cause;
use nix::errno::Errno;
use nix::libc;

use super::bounds::Bounds;
use super::name::Name;
use super::place::insist;
use super::sys::{self, Result, Status};

/// Threads that are remembered before those that ended are forgotten.
const REMEMBERED: usize = 1024;
/// Bytes of a page of memory.
const PAGE: usize = 4096;

/// A thread of the session.
pub(super) struct Task {
    pub(super) tid: u32,
    pub(super) tgid: u32,
    pub(super) ppid: u32,
    /// Thread and process as the session numbers them.
    pub(super) inner: (u32, u32),
    /// Its directory in the host's `/proc`, bound to this thread and no later one of the same number.
    pub(super) dir: Arc<OwnedFd>,
    pub(super) pidfd: Arc<OwnedFd>,
    /// Whether `pidfd` is the thread's own.
    exact: bool,
    /// Path of its program; empty if that isn't known.
    pub(super) exe: Vec<u8>,
    /// Where there is no container.
    pub(super) bounds: Option<Arc<Bounds>>,
}

/// What makes a file the same file.
type Identity = ((u32, u32), u64);

#[derive(Default)]
struct State {
    tasks: HashMap<u32, Arc<Task>>,
    /// Paths under which each program was started.
    programs: HashMap<Identity, Vec<Vec<u8>>>,
    /// How many programs were started.
    starts: u64,
}

impl State {
    fn remember(&mut self, task: &Arc<Task>) {
        // Where descriptors of threads can't be had, another thread may have the number next time.
        if !task.exact {
            return;
        }
        if self.tasks.len() >= REMEMBERED {
            self.tasks.retain(|_, task| sys::lives(task.pidfd.as_fd()));
        }
        self.tasks.insert(task.tid, Arc::clone(task));
    }

    /// Process `tgid` has started another program.
    fn forget(&mut self, tgid: u32) {
        self.starts += 1;
        self.tasks.retain(|_, task| task.tgid != tgid);
    }
}

/// All threads that called.
pub(super) struct Tasks {
    proc: OwnedFd,
    bounds: Option<Arc<Bounds>>,
    state: Mutex<State>,
}

impl Tasks {
    /// `proc` is the host's.
    pub(super) fn new(proc: OwnedFd, bounds: Option<Arc<Bounds>>) -> Self {
        Self { proc, bounds, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread with this number. Right as long as its call still waits.
    pub(super) fn find(&self, tid: u32) -> Result<Arc<Task>> {
        let (known, starts) = {
            let state = self.lock();
            (state.tasks.get(&tid).cloned(), state.starts)
        };
        if let Some(task) = known.filter(|task| sys::lives(task.pidfd.as_fd())) {
            return Ok(task);
        }
        let task = Arc::new(self.look_up(tid)?);
        let mut state = self.lock();
        // A program that was started meanwhile may have taken the number over from the thread that was looked at.
        if state.starts == starts {
            state.remember(&task);
        }
        Ok(task)
    }

    /// Process `tgid` after an exec of `caller`, with a program that isn't known yet.
    pub(super) fn after_exec(&self, caller: &Task, tgid: u32) -> Result<Task> {
        if caller.tid != tgid {
            // The thread has taken over the number of its process.
            return Ok(Task { exe: Vec::new(), ..self.look_up(tgid)? });
        }
        let (dir, pidfd, bounds) = (Arc::clone(&caller.dir), Arc::clone(&caller.pidfd), caller.bounds.clone());
        Ok(Task { exe: Vec::new(), dir, pidfd, bounds, ..*caller })
    }

    /// The same as [`Tasks::find`], without what was found out earlier.
    fn look_up(&self, tid: u32) -> Result<Task> {
        let dir = self.directory(tid)?;
        let status = status_of(dir.as_fd())?;
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
        };
        let last = |name: &str| numbers(name).and_then(|numbers| numbers.last().copied()).ok_or(Errno::ESRCH);
        let exe = self.program(dir.as_fd()).unwrap_or_default();
        let tgid = last("Tgid:")?;
        // Before Linux 6.9 only processes have descriptors.
        let thread = sys::thread_descriptor(tid);
        let exact = thread.is_ok() || tid == tgid;
        let pidfd = thread.or_else(|_| sys::process_descriptor(tgid))?;
        let (ppid, inner) = (last("PPid:")?, (last("NSpid:")?, last("NStgid:")?));
        let (dir, pidfd) = (Arc::new(dir), Arc::new(pidfd));
        Ok(Task { tid, tgid, ppid, inner, dir, pidfd, exact, exe, bounds: self.bounds.clone() })
    }

    /// Path of the program of the thread with this directory in `/proc`, if its start was seen.
    pub(super) fn program(&self, dir: BorrowedFd<'_>) -> Option<Vec<u8>> {
        let exe = insist(|| sys::open(dir.as_raw_fd(), c"exe", libc::O_PATH, 0, 0)).ok()?;
        let status = sys::status(exe.as_raw_fd(), c"").ok()?;
        let started = self.lock().programs.get(&(status.device, status.inode))?.clone();
        if let [only] = started.as_slice() {
            return Some(only.clone());
        }
        let path = insist(|| sys::read_link(dir.as_raw_fd(), c"exe")).ok()?;
        started.into_iter().find(|known| *known == path)
    }

    /// Directory of process `tgid` in the host's `/proc`.
    pub(super) fn directory(&self, tgid: u32) -> Result<OwnedFd> {
        let name = CString::new(tgid.to_string()).map_err(|_| Errno::EINVAL)?;
        sys::open(self.proc.as_raw_fd(), &name, libc::O_PATH | libc::O_DIRECTORY, 0, 0)
    }

    /// Whether nothing of the session runs yet.
    pub(super) fn nothing_runs(&self) -> bool {
        self.lock().programs.is_empty()
    }

    /// `task`, from [`Tasks::after_exec`], runs the program `status` from here on, which was started as `path`.
    pub(super) fn became(&self, mut task: Task, status: &Status, path: &[u8]) {
        task.exe = path.to_vec();
        let mut state = self.lock();
        state.forget(task.tgid);
        let started = state.programs.entry((status.device, status.inode)).or_default();
        if !started.iter().any(|known| known == path) {
            started.push(path.to_vec());
        }
        state.remember(&Arc::new(task));
    }

    /// Process `tgid` runs a program that nothing is known of.
    pub(super) fn became_unknown(&self, tgid: u32) {
        self.lock().forget(tgid);
    }
}

/// A small file of `/proc`. It has no length to ask for, and the kernel hands out a page at a time.
pub(super) fn read_all(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Vec<u8>> {
    use std::io::Read;
    let file = insist(|| sys::open(dir.as_raw_fd(), name, libc::O_RDONLY, 0, 0))?;
    let mut text = Vec::with_capacity(PAGE);
    std::fs::File::from(file)
        .take(u64::MAX)
        .read_to_end(&mut text)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(text)
}

/// The status of the thread with this directory in `/proc`, proc_pid_status(5).
fn status_of(dir: BorrowedFd<'_>) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_all(dir, c"status")?).into_owned())
}

/// The mask for new files in a thread's status.
fn umask_of(status: &str) -> Option<u32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok()
}

impl Task {
    /// Its mask for new files.
    pub(super) fn umask(&self) -> Result<u32> {
        umask_of(&status_of(self.dir.as_fd())?).ok_or(Errno::ESRCH)
    }

    /// Whether a signal waits for it that it handles and doesn't block.
    pub(super) fn has_signal(&self) -> Result<bool> {
        let status = status_of(self.dir.as_fd())?;
        let set = |name: &str| {
            let word = status.lines().find_map(|line| line.strip_prefix(name)).ok_or(Errno::ESRCH)?;
            u64::from_str_radix(word.trim(), 16).map_err(|_| Errno::ESRCH)
        };
        Ok((set("SigPnd:")? | set("ShdPnd:")?) & !set("SigBlk:")? & set("SigCgt:")? != 0)
    }

    /// What one of its descriptors refers to, as a place (`O_PATH`).
    pub(super) fn descriptor_place(&self, fd: i32) -> Result<OwnedFd> {
        let name = CString::new(format!("fd/{fd}")).map_err(|_| Errno::EINVAL)?;
        insist(|| sys::open(self.dir.as_raw_fd(), &name, libc::O_PATH, 0, 0)).map_err(|errno| match errno {
            Errno::ENOENT => Errno::EBADF,
            other => other,
        })
    }

    /// One of its descriptors, shared.
    pub(super) fn descriptor(&self, fd: i32) -> Result<OwnedFd> {
        insist(|| sys::descriptor_of(self.pidfd.as_fd(), fd))
    }

    /// Where a relative path starts.
    pub(super) fn base(&self, fd: i32) -> Result<OwnedFd> {
        if fd == libc::AT_FDCWD {
            return insist(|| sys::open(self.dir.as_raw_fd(), c"cwd", libc::O_PATH | libc::O_DIRECTORY, 0, 0));
        }
        self.descriptor_place(fd)
    }

    /// Whether it is the only thread of its process.
    pub(super) fn is_single(&self) -> Result<bool> {
        // A directory has a link for itself, its name, and each directory in it: here, one a thread.
        insist(|| sys::links(self.dir.as_raw_fd(), c"task")).map(|links| links == 3)
    }

    /// Reads exactly `length` bytes of its memory.
    pub(super) fn bytes(&self, address: u64, length: usize) -> Result<Vec<u8>> {
        let read = insist(|| {
            let mut buffer = vec![0; length];
            sys::read_memory(self.tid, address, &mut buffer).map(|read| (read, buffer))
        });
        let (read, buffer) = read.map_err(fault)?;
        if read < length { Err(Errno::EFAULT) } else { Ok(buffer) }
    }

    /// Reads a path: up to `PATH_MAX` bytes with the terminator.
    pub(super) fn path(&self, address: u64) -> Result<CString> {
        let text = self.string(address, libc::PATH_MAX as usize)?;
        text.ok_or(Errno::ENAMETOOLONG)
    }

    /// Reads a string of at most `limit` bytes with its terminator; `None` if it is longer.
    pub(super) fn string(&self, address: u64, limit: usize) -> Result<Option<CString>> {
        let mut text = Vec::with_capacity(256);
        while text.len() < limit {
            let at = address.checked_add(text.len() as u64).ok_or(Errno::EFAULT)?;
            // Never beyond the page: the next one may not be there.
            let room = (PAGE - at as usize % PAGE).min(limit - text.len());
            let part = insist(|| {
                let mut buffer = vec![0; room];
                let length = sys::read_memory(self.tid, at, &mut buffer)?;
                buffer.truncate(length);
                Ok(buffer)
            });
            let part = part.map_err(fault)?;
            if part.is_empty() {
                return Err(Errno::EFAULT);
            }
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                text.extend(part.into_iter().take(end));
                return CString::new(text).map(Some).map_err(|_| Errno::EFAULT);
            }
            text.extend(part);
        }
        Ok(None)
    }
}

/// The session's number of the process with this directory in `/proc`; 0 for one that is outside.
pub(super) fn inner_number(dir: BorrowedFd<'_>) -> Result<u32> {
    let status = status_of(dir)?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).ok_or(Errno::ESRCH)?;
    let inner = numbers.split_ascii_whitespace().skip(1).last();
    Ok(inner.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// The threads of the process with this directory in `/proc`.
pub(super) fn threads(dir: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let list = insist(|| sys::open(dir.as_raw_fd(), c"task", libc::O_RDONLY | libc::O_DIRECTORY, 0, 0))?;
    let mut list = nix::dir::Dir::from_fd(list)?;
    let mut threads = Vec::new();
    for entry in list.iter() {
        threads.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(threads)
}

/// What a thread of that process does: `R`, `S`, `D` and so on, proc_pid_stat(5).
pub(super) fn thread_state(dir: BorrowedFd<'_>, thread: u32) -> Result<u8> {
    let name = CString::new(format!("task/{thread}/stat")).map_err(|_| Errno::EINVAL)?;
    let stat = read_all(dir, &name)?;
    let end = stat.iter().rposition(|&byte| byte == b')').ok_or(Errno::ESRCH)?;
    stat.get(end + 2).copied().ok_or(Errno::ESRCH)
}

/// Names of the files that memory between two addresses shows, of the process with this directory in `/proc`.
pub(super) fn mapped_files(dir: BorrowedFd<'_>, from: u64, end: u64) -> Result<Vec<Name>> {
    let table = read_all(dir, c"maps")?;
    let mut names: Vec<Name> =
        table.split(|&byte| byte == b'\n').filter_map(|line| mapped_file(line, from, end, has_inode)).collect();
    names.dedup_by(|one, other| one.bytes() == other.bytes());
    Ok(names)
}

/// Whether the file at an absolute path has this number.
fn has_inode(path: &[u8], inode: u64) -> bool {
    CString::new(path).is_ok_and(|path| sys::status(libc::AT_FDCWD, &path).is_ok_and(|found| found.inode == inode))
}

/// `FROM-END PERMISSIONS OFFSET DEVICE INODE PATH`, proc_pid_maps(5): the file, if it is one and lies in the range. `has` says whether the file at
/// a path has a number.
fn mapped_file(line: &[u8], from: u64, end: u64, has: impl Fn(&[u8], u64) -> bool) -> Option<Name> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let range = std::str::from_utf8(fields.next()?).ok()?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(last, 16).ok()?);
    if last <= from || first >= end {
        return None;
    }
    let inode = std::str::from_utf8(fields.nth(3)?).ok()?.parse().ok()?;
    let path = fields.next()?;
    let path = path.get(path.iter().position(|&byte| byte == b'/')?..)?;
    // Memory that several processes share looks like a file that was deleted.
    let unnamed: [&[u8]; 3] = [b"/memfd:", b"/dev/zero (deleted)", b"/SYSV"];
    if unnamed.iter().any(|start| path.starts_with(start)) {
        return Some(Name::Without(Cause::Unreachable, path.to_vec()));
    }
    // Which of the two the file's name has can't be told.
    if path.windows(NEWLINE.len()).any(|part| part == NEWLINE) {
        return Some(Name::Without(Cause::Unreachable, path.to_vec()));
    }
    // Gone, or called so.
    let former = path.strip_suffix(b" (deleted)").filter(|_| !has(path, inode));
    Some(Name::Path(former.unwrap_or(path).to_vec()))
}

/// How that table writes a newline; a backslash it writes as it is.
const NEWLINE: &[u8] = br"\012";

/// A path as that table writes it.
pub(super) fn as_mapped(path: &[u8]) -> Vec<u8> {
    path.split(|&byte| byte == b'\n').collect::<Vec<_>>().join(NEWLINE)
}

/// What a call with a bad pointer returns. `EPERM`: the program hides from its own user.
fn fault(errno: Errno) -> Errno {
    if matches!(errno, Errno::ESRCH | Errno::EPERM) { errno } else { Errno::EFAULT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_whose_file_cannot_be_told_has_no_name() {
        let line = |path: &str| {
            let has = |path: &[u8], inode| path == b"/w/b (deleted)" && inode == 7;
            mapped_file(format!("1000-2000 r-xp 00000000 08:01 7    {path}").as_bytes(), 0x1800, 0x1900, has)
        };
        assert!(matches!(line("/w/a (deleted)"), Some(Name::Path(path)) if path == b"/w/a"));
        assert!(matches!(line("/w/b (deleted)"), Some(Name::Path(path)) if path == b"/w/b (deleted)"));
        assert!(matches!(line(r"/w/a\012b"), Some(Name::Without(..))));
        assert!(matches!(line("/memfd:x (deleted)"), Some(Name::Without(..))));
        assert!(line("[stack]").is_none());
        assert_eq!(as_mapped(b"/w/a\nb"), br"/w/a\012b");
        assert_eq!(as_mapped(b"/w/a"), b"/w/a");
    }
}

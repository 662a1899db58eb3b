//! Programs: exec, and memory that becomes executable.
//!
//! An exec can't be performed for another process, so the kernel performs it, after the decision, from a path that another thread
//! may have changed meanwhile. Therefore the program is looked at again when it has been loaded and before its first instruction:
//! if it isn't what was decided on and isn't permitted either, it is killed. The supervisor traces the thread for just so long.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use leash_common::kind::Kind;
use nix::errno::Errno;
use nix::libc;

use super::desk::{Answer, Ask, Desk};
use super::ground::Ground;
use super::name::Name;
use super::place::insist;
use super::resolve::{self, Path};
use super::sys::{self, Result, Status};
use super::task::{self, Task};
use super::{trace, worker};

/// Scripts that may be the interpreter of a script (`BINPRM` recursion of the kernel, exec.c).
const MAX_DEPTH: usize = 5;
/// Bytes of a script that the kernel looks at (`BINPRM_BUF_SIZE`).
const LOOKED_AT: usize = 256;
/// Type of the program header that names the loader, and where an ELF header says that they are (elf.h, 64 bits).
const PT_INTERP: u32 = 3;

/// A program that is to be started.
struct Program {
    object: OwnedFd,
    status: Status,
    name: Name,
}

/// A program that was started and hasn't run an instruction.
struct Started {
    task: Task,
    status: Status,
    name: Name,
    /// The files that the kernel mapped for it.
    mapped: Vec<Name>,
    /// See [`other_name`].
    other: Option<Name>,
}

/// `execve`, `execveat`
pub(super) fn exec(desk: &Desk<'_>, dir: i32, at: usize, flags: i32) -> Result<Answer> {
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = Path { dir, text: desk.task.path(desk.word(at))? };
    desk.confirm()?;
    let object = if path.text.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        desk.task.base(dir)?
    } else {
        resolve::object(&desk.task, &path, flags & libc::AT_SYMLINK_NOFOLLOW == 0, 0)?
    };
    let mut program = look(desk, object)?;
    let named = program.status;
    // The first program of a session has no other that starts it.
    let first = desk.shared.tasks.nothing_runs();
    let exe = if first { program.name.path().to_vec() } else { desk.task.exe.clone() };
    let ask = |program: &Program| desk.judge_as(&exe, &[Ask::name(Kind::ProcessExec, &program.name)]);
    ask(&program)?;
    let ground = &desk.shared.ground;
    let mut head = Head::read(ground, &program.object);
    for _ in 0..MAX_DEPTH {
        let Some(interpreter) = head.as_ref().and_then(Head::script_interpreter) else { break };
        let path = Path { dir: libc::AT_FDCWD, text: interpreter };
        program = look(desk, resolve::object(&desk.task, &path, true, 0)?)?;
        ask(&program)?;
        head = Head::read(ground, &program.object);
    }
    // From the commit on it is the new program that maps its own file and its loader.
    let mut parts = vec![program.name.clone()];
    if let Some(loader) = head.as_ref().and_then(Head::loader) {
        let path = Path { dir: libc::AT_FDCWD, text: loader };
        if let Ok(object) = resolve::object(&desk.task, &path, true, 0) {
            parts.push(look(desk, object)?.name);
        }
    }
    let asks: Vec<Ask> = parts.iter().map(|part| Ask::name(Kind::ProcessExec, part)).collect();
    desk.judge_as(program.name.path(), &asks)?;
    worker::will_block(desk.shared)?;
    let _tracing = desk.shared.trace_one();
    let started = trace::through_exec(
        desk.task.tid,
        || sys::let_pass(desk.shared.listener.as_fd(), desk.call.id),
        |tgid| verify(desk, &exe, &named, &program, &parts, tgid),
    );
    match started {
        Ok(()) => Ok(Answer::Given),
        // It was never let pass.
        Err(trace::Failure::Before(errno)) => Err(errno),
        Err(trace::Failure::After(errno)) => {
            tracing::warn!("the start of a program could not be watched to its end: {errno}");
            Ok(Answer::Given)
        }
    }
}

/// What can be started at all.
fn look(desk: &Desk<'_>, object: OwnedFd) -> Result<Program> {
    let status = sys::status(object.as_raw_fd(), c"")?;
    match status.kind() {
        libc::S_IFLNK => return Err(Errno::ELOOP),
        libc::S_IFREG => {}
        _ => return Err(Errno::EACCES),
    }
    let flags = libc::AT_EMPTY_PATH | libc::AT_EACCESS;
    // A program that its user may not read can't be looked at by a supervisor without privileges.
    let access = if desk.task.bounds.is_some() { libc::X_OK | libc::R_OK } else { libc::X_OK };
    // SAFETY: the path outlives the call.
    sys::check(unsafe { libc::syscall(libc::SYS_faccessat2, object.as_raw_fd(), c"".as_ptr(), access, flags) })?;
    let name = desk.name(&object, &status)?;
    Ok(Program { object, status, name })
}

/// The beginning of a program. One that its user may not read tells nothing; the check of what was started remains.
struct Head {
    file: File,
    bytes: Vec<u8>,
}

impl Head {
    fn read(ground: &Ground, object: &OwnedFd) -> Option<Self> {
        let file = File::from(ground.open(object, libc::O_RDONLY | libc::O_NOCTTY).ok()?);
        // The table of an ELF program and what it says of the loader mostly lie in here, too.
        let mut bytes = vec![0; 1024];
        let length = file.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(length);
        Some(Self { file, bytes })
    }

    /// The interpreter that a script names.
    fn script_interpreter(&self) -> Option<CString> {
        let bytes = self.bytes.get(..LOOKED_AT).unwrap_or(&self.bytes);
        let line = bytes.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
        let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let word = line.split(|byte| blank(byte) || *byte == 0).find(|word| !word.is_empty())?;
        CString::new(word).ok()
    }

    /// The loader that an ELF program names.
    fn loader(&self) -> Option<CString> {
        if !self.bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let number = |bytes: &[u8], at: usize, length: usize| -> Option<u64> {
            let part = bytes.get(at..at.checked_add(length)?)?;
            Some(part.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
        };
        let (table, size, count) = (number(&self.bytes, 32, 8)?, number(&self.bytes, 54, 2)?, number(&self.bytes, 56, 2)?);
        for index in 0..count {
            let entry = self.part(table.checked_add(index.checked_mul(size)?)?, 56)?;
            if number(&entry, 0, 4)? as u32 == PT_INTERP {
                let length = usize::try_from(number(&entry, 32, 8)?).ok()?.min(libc::PATH_MAX as usize);
                return CString::from_vec_with_nul(self.part(number(&entry, 8, 8)?, length)?).ok();
            }
        }
        None
    }

    fn part(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(at).ok()?;
        if let Some(part) = self.bytes.get(start..start.checked_add(length)?) {
            return Some(part.to_vec());
        }
        let mut part = vec![0; length];
        self.file.read_exact_at(&mut part, at).ok()?;
        Some(part)
    }
}

/// Called when process `tgid` has become another program and hasn't run an instruction of it. Whether it may: its file, all that
/// the kernel mapped for it, and what it was started by the name of (`named`, unless it is a script the same as `expected`), must be
/// what was decided on, or be permitted.
fn verify(desk: &Desk<'_>, exe: &[u8], named: &Status, expected: &Program, parts: &[Name], tgid: u32) -> bool {
    let look = || -> Result<Started> {
        let task = desk.shared.tasks.after_exec(&desk.task, tgid)?;
        let file = insist(|| sys::open(task.dir.as_raw_fd(), c"exe", libc::O_PATH, 0, 0))?;
        let status = sys::status(file.as_raw_fd(), c"")?;
        let same = status.same(&expected.status) && status.mount == expected.status.mount;
        let name = if same { expected.name.clone() } else { desk.name(&file, &status)? };
        let (mapped, other) = (task::mapped_files(task.dir.as_fd(), 0, u64::MAX)?, other_name(desk, named, &task)?);
        Ok(Started { task, status, name, mapped, other })
    };
    let Ok(Started { task, status, name, mapped, other }) = look() else {
        desk.shared.tasks.became_unknown(tgid);
        return desk.only_records();
    };
    let mut permitted = status.same(&expected.status) || desk.judge_as(exe, &[Ask::name(Kind::ProcessExec, &name)]).is_ok();
    if let Some(other) = other {
        permitted &= desk.judge_as(exe, &[Ask::name(Kind::ProcessExec, &other)]).is_ok();
    }
    for file in &mapped {
        let known = parts.iter().any(|part| task::as_mapped(part.bytes()) == file.bytes());
        permitted &= known || desk.judge_as(name.path(), &[Ask::name(Kind::ProcessExec, file)]).is_ok();
    }
    if permitted {
        desk.shared.tasks.became(task, &status, name.path());
    }
    permitted
}

/// A script leaves nothing in the process but its name, which is what its interpreter will open. The kernel keeps the name that it
/// started (`AT_EXECFN`, getauxval(3)), where nobody can change it yet: what it leads to, if that isn't `named`. A name that leads
/// nowhere starts nothing.
fn other_name(desk: &Desk<'_>, named: &Status, task: &Task) -> Result<Option<Name>> {
    let vector = task::read_all(task.dir.as_fd(), c"auxv")?;
    let words: Vec<u64> = vector.chunks_exact(8).filter_map(|word| word.try_into().ok().map(u64::from_ne_bytes)).collect();
    let address = words.chunks_exact(2).find_map(|pair| match pair {
        [libc::AT_EXECFN, address] => Some(*address),
        _ => None,
    });
    let path = Path { dir: libc::AT_FDCWD, text: task.path(address.ok_or(Errno::EFAULT)?)? };
    let Ok(object) = resolve::object(task, &path, true, 0) else { return Ok(None) };
    let status = sys::status(object.as_raw_fd(), c"")?;
    let same = status.same(named) && status.mount == named.mount;
    if same { Ok(None) } else { desk.name(&object, &status).map(Some) }
}

/// `mmap` of a file into executable memory.
pub(super) fn map(desk: &Desk<'_>) -> Result<Answer> {
    alone(desk, || {
        let object = desk.task.descriptor_place(desk.int(4))?;
        desk.confirm()?;
        let status = sys::status(object.as_raw_fd(), c"")?;
        match desk.name(&object, &status)? {
            Name::Anonymous => Ok(()),
            name => desk.judge(&[Ask::name(Kind::ProcessExec, &name)]),
        }
    })
}

/// `mprotect` of a file's mapping.
pub(super) fn protect(desk: &Desk<'_>) -> Result<Answer> {
    let (from, length) = (desk.word(0), desk.word(1));
    let Some(end) = from.checked_add(length) else { return Ok(Answer::Continue) };
    alone(desk, || {
        let names = task::mapped_files(desk.task.dir.as_fd(), from, end)?;
        desk.confirm()?;
        let asks: Vec<Ask> = names.iter().map(|name| Ask::name(Kind::ProcessExec, name)).collect();
        desk.judge(&asks)
    })
}

/// Decides on a call that the kernel then performs by what the process has at that time: its descriptors, its memory. Other threads
/// of the process, which could change both between the decision and the end of the call, stand still for so long. No other process
/// shares them; the filter refuses to make one that does.
pub(super) fn alone(desk: &Desk<'_>, decide: impl FnOnce() -> Result<()> + Send) -> Result<Answer> {
    if desk.task.is_single()? {
        decide()?;
        return Ok(Answer::Continue);
    }
    worker::will_block(desk.shared)?;
    let _tracing = desk.shared.trace_all();
    let (task, listener, id) = (&desk.task, desk.shared.listener.as_fd(), desk.call.id);
    // What a thread traces goes on when that thread ends.
    let watched = std::thread::scope(|scope| {
        let body =
            move || trace::through_call(task.dir.as_fd(), task.tid, || decide().and_then(|()| sys::let_pass(listener, id)));
        let watcher = std::thread::Builder::new().name("supervisor".into()).spawn_scoped(scope, body);
        watcher.map_err(|_| Errno::EAGAIN)?.join().unwrap_or(Err(Errno::EIO))
    });
    watched.map(|()| Answer::Given)
}

//! `recvmsg`: the supervisor receives for the caller, because a message can hand over descriptors of files that the session may not
//! open. Each is decided as if it were opened; one that is denied doesn't arrive.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use leash_common::event::Cause;
use leash_common::kind::Kind;
use nix::errno::Errno;
use nix::libc;

use super::desk::{Answer, Ask, Desk};
use super::messages::{CMSGHDR, MAX_CONTROL, MAX_DATA, MAX_PIECES, MSGHDR, words};
use super::name::Name;
use super::sockets::Socket;
use super::sys::{self, Result, check};
use super::task;

/// `SCM_PIDFD`, linux/socket.h.
const SCM_PIDFD: i32 = 4;
/// Bytes of the longest address.
const MAX_ADDRESS: usize = 128;
/// Where `struct msghdr` has its lengths and flags.
const NAME_LENGTH_AT: u64 = 8;
const CONTROL_LENGTH_AT: u64 = 40;
const FLAGS_AT: u64 = 48;

/// `recvmsg`
pub(super) fn receive(desk: &Desk<'_>) -> Result<Answer> {
    let (at, flags) = (desk.word(1), desk.int(2));
    let head = words(&desk.task.bytes(at, MSGHDR)?);
    let [name, name_length, pieces, count, control, control_length, _] = <[u64; 7]>::try_from(head).map_err(|_| Errno::EFAULT)?;
    if count > MAX_PIECES {
        return Err(Errno::EMSGSIZE);
    }
    let pieces = if count == 0 { Vec::new() } else { words(&desk.task.bytes(pieces, count as usize * 16)?) };
    desk.confirm()?;
    let socket = Socket::of(desk, desk.int(0))?;
    let total = pieces.chunks_exact(2).filter_map(|piece| piece.last()).fold(0_u64, |sum, length| sum.saturating_add(*length));
    let mut data = vec![0_u8; usize::try_from(total).unwrap_or(usize::MAX).min(MAX_DATA)];
    let mut address = vec![0_u8; MAX_ADDRESS];
    let room = if control == 0 { 0 } else { usize::try_from(control_length).unwrap_or(usize::MAX).min(MAX_CONTROL) };
    // Of whole words, because the kernel writes structures into it.
    let mut received = vec![0_u64; room.div_ceil(8)];

    let mut piece = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: all-zero bytes are a valid `msghdr`: null pointers with lengths of zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_name = address.as_mut_ptr().cast();
    message.msg_namelen = MAX_ADDRESS as libc::socklen_t;
    message.msg_control = received.as_mut_ptr().cast();
    message.msg_controllen = room;
    let length = socket.call(desk, flags, || {
        // SAFETY: everything that the header points to outlives the call, with its length.
        check(unsafe { libc::recvmsg(socket.fd.as_raw_fd(), &raw mut message, flags | libc::MSG_CMSG_CLOEXEC) } as i64)
    })?;
    let control_bytes: Vec<u8> = received.iter().flat_map(|word| word.to_ne_bytes()).take(message.msg_controllen).collect();
    let (control_bytes, cut) = hand_over(desk, control_bytes, flags & libc::MSG_CMSG_CLOEXEC != 0)?;

    let mut rest = data.get(..(length as usize).min(data.len())).unwrap_or_default();
    for piece in pieces.chunks_exact(2) {
        let [to, room] = <[u64; 2]>::try_from(piece).map_err(|_| Errno::EFAULT)?;
        let (part, after) = rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        if !part.is_empty() {
            desk.write(to, part)?;
        }
        rest = after;
    }
    if name != 0 {
        let part = address.get(..(message.msg_namelen as usize).min(name_length as u32 as usize).min(MAX_ADDRESS));
        let part = part.unwrap_or_default();
        if !part.is_empty() {
            desk.write(name, part)?;
        }
        desk.write(at.wrapping_add(NAME_LENGTH_AT), &message.msg_namelen.to_ne_bytes())?;
    }
    if !control_bytes.is_empty() {
        desk.write(control, &control_bytes)?;
    }
    desk.write(at.wrapping_add(CONTROL_LENGTH_AT), &(control_bytes.len() as u64).to_ne_bytes())?;
    let mut seen = message.msg_flags & !libc::MSG_CMSG_CLOEXEC | flags & libc::MSG_CMSG_CLOEXEC;
    if cut {
        seen |= libc::MSG_CTRUNC;
    }
    desk.write(at.wrapping_add(FLAGS_AT), &seen.to_ne_bytes())?;
    Ok(Answer::Value(length))
}

/// Gives the caller what was handed over to us, as far as it may have it. Returns the control data with its numbers, and whether
/// something is missing.
fn hand_over(desk: &Desk<'_>, control: Vec<u8>, close_on_exec: bool) -> Result<(Vec<u8>, bool)> {
    let mut ours = Vec::new();
    let mut parts = Vec::new();
    let mut at = 0;
    // First everything that the kernel gave us becomes ours, so that nothing stays open whatever happens.
    while let Some(head) = control.get(at..at + CMSGHDR) {
        let length = head.get(..8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_ne_bytes) as usize;
        let number = |from: usize| head.get(from..from + 4).and_then(|part| part.try_into().ok()).map_or(0, i32::from_ne_bytes);
        let (level, kind) = (number(8), number(12));
        let Some(body) = control.get(at + CMSGHDR..at + length.max(CMSGHDR)) else { break };
        let descriptors = level == libc::SOL_SOCKET && (kind == libc::SCM_RIGHTS || kind == SCM_PIDFD);
        if descriptors {
            for number in body.chunks_exact(4) {
                let number = i32::from_ne_bytes(number.try_into().map_err(|_| Errno::EINVAL)?);
                // SAFETY: the kernel just installed this descriptor for us; nothing else owns it.
                ours.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        parts.push((level, kind, descriptors, body.to_vec()));
        at += length.max(CMSGHDR).next_multiple_of(8);
    }
    let mut ours = ours.into_iter();
    let (mut text, mut cut) = (Vec::new(), false);
    for (level, kind, descriptors, mut body) in parts {
        if descriptors {
            let mut theirs = Vec::new();
            for fd in ours.by_ref().take(body.len() / 4) {
                // As in the kernel, nothing after the first that is refused arrives.
                match if cut { Err(Errno::EACCES) } else { give(desk, &fd, close_on_exec) } {
                    Ok(number) => theirs.extend(number.to_ne_bytes()),
                    Err(_) => cut = true,
                }
            }
            body = theirs;
        } else if level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS {
            renumber(desk, &mut body);
        }
        if body.is_empty() && descriptors {
            continue;
        }
        text.extend(((CMSGHDR + body.len()) as u64).to_ne_bytes());
        text.extend(level.to_ne_bytes());
        text.extend(kind.to_ne_bytes());
        text.extend(body);
        text.resize(text.len().next_multiple_of(8), 0);
    }
    Ok((text, cut))
}

/// Gives one descriptor to the caller if it may have it; its number there.
fn give(desk: &Desk<'_>, fd: &OwnedFd, close_on_exec: bool) -> Result<i32> {
    // SAFETY: no pointers.
    let flags = Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let status = sys::status(fd.as_raw_fd(), c"")?;
    let name = desk.name(fd, &status)?;
    if flags & libc::O_PATH != 0 {
        let kind = if status.kind() == libc::S_IFDIR { Kind::DirList } else { Kind::FileRead };
        desk.judge(&[Ask { except: Some(Cause::PlaceOnly), ..Ask::name(kind, &name) }])?;
        // The kernel refuses it, too, where nothing is enforced.
    } else if !matches!(name, Name::Anonymous | Name::Memory(_)) {
        let access = flags & libc::O_ACCMODE;
        let mut asks = Vec::new();
        match status.kind() {
            libc::S_IFDIR => asks.push(Ask::name(Kind::DirList, &name)),
            _ => {
                if access != libc::O_WRONLY {
                    asks.push(Ask::name(Kind::FileRead, &name));
                }
                if access != libc::O_RDONLY {
                    asks.push(Ask::name(Kind::FileWrite, &name));
                }
            }
        }
        desk.judge(&asks)?;
    }
    sys::give(desk.shared.listener.as_fd(), desk.call.id, fd.as_fd(), close_on_exec)
}

/// Process numbers in credentials are ours: makes them the session's, 0 for a process outside.
fn renumber(desk: &Desk<'_>, credentials: &mut [u8]) {
    let Some((number, _)) = credentials.split_first_chunk_mut::<4>() else { return };
    if desk.task.bounds.is_some() {
        // Without a namespace they are the session's as well.
        return;
    }
    let inner = desk.shared.tasks.directory(u32::from_ne_bytes(*number)).and_then(|dir| task::inner_number(dir.as_fd()));
    *number = inner.unwrap_or(0).to_ne_bytes();
}

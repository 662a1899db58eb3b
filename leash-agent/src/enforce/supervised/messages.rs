//! Messages: `sendto`, `sendmsg` and `sendmmsg`, sent by the supervisor on the caller's socket, because their addresses lie in memory.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use leash_common::socket::{AF_UNIX, SOCK_STREAM};
use nix::errno::Errno;
use nix::libc;

use super::desk::{Answer, Desk};
use super::exec;
use super::sockets::{Socket, address, destination, refuse_route};
use super::sys::{Result, check};

const SOCK_SEQPACKET: u32 = libc::SOCK_SEQPACKET as u32;
/// Bytes of data that are sent by one call; a stream sends the rest with the next one.
pub(super) const MAX_DATA: usize = 1 << 20;
/// Bytes of control data (`net.core.optmem_max` is of this size), pieces of data (`UIO_MAXIOV`), messages of one `sendmmsg`.
pub(super) const MAX_CONTROL: usize = 1 << 16;
pub(super) const MAX_PIECES: u64 = 1024;
const MAX_MESSAGES: u64 = 1024;
/// Sizes and offsets of `struct msghdr`, `struct mmsghdr` and `struct cmsghdr` on 64-bit machines.
pub(super) const MSGHDR: usize = 56;
const MMSGHDR: u64 = 64;
pub(super) const CMSGHDR: usize = 16;

/// One message, read once.
struct Message {
    address: Vec<u8>,
    data: Vec<u8>,
    /// Whether `data` is all of it.
    whole: bool,
    control: Vec<u8>,
    /// Whether `control` names a route.
    route: bool,
    /// Keeps the descriptors open that `control` hands over.
    _handed: Vec<OwnedFd>,
}

/// `sendto`
pub(super) fn send_to(desk: &Desk<'_>) -> Result<Answer> {
    let length = (desk.word(2) as usize).min(MAX_DATA);
    let data = if length == 0 { Vec::new() } else { desk.task.bytes(desk.word(1), length)? };
    let address = address(desk, desk.word(4), desk.word(5))?;
    desk.confirm()?;
    let socket = Socket::of(desk, desk.int(0))?;
    let whole = length as u64 == desk.word(2);
    let message = Message { address, data, whole, control: Vec::new(), route: false, _handed: Vec::new() };
    send(desk, &socket, message, desk.int(3)).map(Answer::Value)
}

/// `sendmsg`
pub(super) fn send_message(desk: &Desk<'_>) -> Result<Answer> {
    let socket = Socket::of(desk, desk.int(0))?;
    if is_sent_by_kernel(desk, &socket)? {
        return by_kernel(desk);
    }
    let message = read(desk, desk.word(1))?;
    send(desk, &socket, message, desk.int(2)).map(Answer::Value)
}

/// `sendmmsg`
pub(super) fn send_messages(desk: &Desk<'_>) -> Result<Answer> {
    let socket = Socket::of(desk, desk.int(0))?;
    if is_sent_by_kernel(desk, &socket)? {
        return by_kernel(desk);
    }
    let mut sent = 0;
    for index in 0..u64::from(desk.word(2) as u32).min(MAX_MESSAGES) {
        let at = desk.word(1).wrapping_add(index * MMSGHDR);
        let one = read(desk, at).and_then(|message| send(desk, &socket, message, desk.int(3)));
        match one {
            Ok(length) => desk.write(at.wrapping_add(MSGHDR as u64), &(length as u32).to_ne_bytes())?,
            Err(errno) if sent == 0 => return Err(errno),
            Err(_) => break,
        }
        sent += 1;
    }
    Ok(Answer::Value(sent))
}

/// Whether messages of this socket have no address, whatever they say: a connected one of the machine's own.
fn has_no_addresses(socket: &Socket) -> bool {
    socket.domain == AF_UNIX && matches!(socket.kind, SOCK_STREAM | SOCK_SEQPACKET)
}

/// Whether the kernel sends, so that the sender is the caller. Other threads of the process have to stand still for it, so it is done only where
/// somebody may look at that, or where there are none.
fn is_sent_by_kernel(desk: &Desk<'_>, socket: &Socket) -> Result<bool> {
    let is_told = desk.shared.senders_are_told.load(Ordering::SeqCst) & socket.bit() != 0;
    Ok(has_no_addresses(socket) && (is_told || desk.task.is_single()?))
}

fn by_kernel(desk: &Desk<'_>) -> Result<Answer> {
    exec::alone(desk, || {
        let socket = Socket::of(desk, desk.int(0))?;
        // Another one has taken its place: by a thread that stands still now.
        if has_no_addresses(&socket) { Ok(()) } else { Err(Errno::EBADF) }
    })
}

pub(super) fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|word| word.try_into().map(u64::from_ne_bytes).unwrap_or_default()).collect()
}

/// Reads a `struct msghdr` and all that it points to.
fn read(desk: &Desk<'_>, at: u64) -> Result<Message> {
    let head = words(&desk.task.bytes(at, MSGHDR)?);
    let [name, name_length, pieces, count, control, control_length, _] = <[u64; 7]>::try_from(head).map_err(|_| Errno::EFAULT)?;
    let address = if name == 0 { Vec::new() } else { address(desk, name, name_length)? };
    if count > MAX_PIECES {
        return Err(Errno::EMSGSIZE);
    }
    let (mut data, mut whole) = (Vec::new(), true);
    let pieces = if count == 0 { Vec::new() } else { words(&desk.task.bytes(pieces, count as usize * 16)?) };
    for piece in pieces.chunks_exact(2) {
        let [from, length] = <[u64; 2]>::try_from(piece).map_err(|_| Errno::EFAULT)?;
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let length = wanted.min(MAX_DATA - data.len());
        whole &= length == wanted;
        if length > 0 {
            data.extend(desk.task.bytes(from, length)?);
        }
    }
    let length = usize::try_from(control_length).unwrap_or(usize::MAX);
    if length > MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let control = if control == 0 || length == 0 { Vec::new() } else { desk.task.bytes(control, length)? };
    desk.confirm()?;
    let route = names_route(&control);
    let (control, handed) = own_control(desk, control)?;
    Ok(Message { address, data, whole, control, route, _handed: handed })
}

/// Whether control data can name a route: `IP_RETOPTS`; `IPV6_2292RTHDR`, `IPV6_RTHDR` (linux/in.h, linux/ipv6.h). What doesn't
/// end well is refused by the kernel.
fn names_route(control: &[u8]) -> bool {
    let mut at = 0;
    while let Some(head) = control.get(at..at + CMSGHDR) {
        let length = head.get(..8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_ne_bytes) as usize;
        let number = |from: usize| head.get(from..from + 4).and_then(|part| part.try_into().ok()).map_or(0, i32::from_ne_bytes);
        match (number(8), number(12)) {
            (libc::IPPROTO_IP, 7) | (libc::IPPROTO_IPV6, 5 | 57) => return true,
            _ if length < CMSGHDR || length > control.len() - at => return false,
            _ => at += length.next_multiple_of(8),
        }
    }
    false
}

/// Control data with our descriptors in the place of the caller's.
fn own_control(desk: &Desk<'_>, mut control: Vec<u8>) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut handed = Vec::new();
    let mut at = 0;
    while let Some(head) = control.get(at..at + CMSGHDR) {
        let length = head.get(..8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_ne_bytes) as usize;
        let number = |from: usize| head.get(from..from + 4).and_then(|part| part.try_into().ok()).map_or(0, i32::from_ne_bytes);
        let (level, kind) = (number(8), number(12));
        if length < CMSGHDR || length > control.len() - at {
            return Err(Errno::EINVAL);
        }
        if level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS {
            // They would be the supervisor's.
            return Err(Errno::EPERM);
        }
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            for slot in control.get_mut(at + CMSGHDR..at + length).unwrap_or_default().chunks_exact_mut(4) {
                let theirs = i32::from_ne_bytes(<[u8; 4]>::try_from(&*slot).map_err(|_| Errno::EINVAL)?);
                let ours = match desk.task.descriptor(theirs) {
                    // A descriptor without a file behind it can be handed over all the same.
                    Err(Errno::EBADF) => desk.task.descriptor_place(theirs)?,
                    result => result?,
                };
                slot.copy_from_slice(&ours.as_raw_fd().to_ne_bytes());
                handed.push(ours);
            }
        }
        at += length.next_multiple_of(8);
    }
    Ok((control, handed))
}

fn send(desk: &Desk<'_>, socket: &Socket, message: Message, flags: i32) -> Result<i64> {
    let Message { address, data, whole, control, route, _handed } = message;
    if !whole && socket.kind != SOCK_STREAM {
        return Err(Errno::EMSGSIZE);
    }
    if flags & libc::MSG_ZEROCOPY != 0 {
        // The kernel would go on reading our copy of the data.
        return Err(Errno::EOPNOTSUPP);
    }
    if route && socket.is_internet() {
        refuse_route(desk, socket)?;
    }
    let target = destination(desk, socket, address, flags, !control.is_empty())?;
    let mut piece = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: all-zero bytes are a valid `msghdr`: null pointers with lengths of zero.
    let mut head: libc::msghdr = unsafe { std::mem::zeroed() };
    head.msg_iov = &raw mut piece;
    head.msg_iovlen = 1;
    if !target.address.is_empty() {
        head.msg_name = target.address.as_ptr().cast_mut().cast();
        head.msg_namelen = target.address.len() as libc::socklen_t;
    }
    if !control.is_empty() {
        head.msg_control = control.as_ptr().cast_mut().cast();
        head.msg_controllen = control.len();
    }
    let result = target.call(desk, socket, flags, || {
        // SAFETY: everything that the header points to outlives the call, with its length.
        check(unsafe { libc::sendmsg(socket.fd.as_raw_fd(), &raw const head, flags | libc::MSG_NOSIGNAL) } as i64)
    });
    if result == Err(Errno::EPIPE) && flags & libc::MSG_NOSIGNAL == 0 && desk.confirm().is_ok() {
        // SAFETY: no pointers. The thread waits for its answer, so the numbers are its own.
        unsafe { libc::syscall(libc::SYS_tgkill, desk.task.tgid, desk.task.tid, libc::SIGPIPE) };
    }
    result
}

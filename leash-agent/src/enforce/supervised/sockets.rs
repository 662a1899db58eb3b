//! Sockets: the supervisor reads the address once, decides, and performs the call itself on the caller's socket.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use leash_common::event::Cause;
use leash_common::kind::{Kind, Protocol};
use leash_common::socket::{AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, is_usual, name, transport};
use nix::errno::Errno;
use nix::libc;

use super::blocked;
use super::desk::{Answer, Ask, Desk, Subject};
use super::files::{place_name, with_umask};
use super::ground::number;
use super::name::Name;
use super::resolve::{self, Path};
use super::sys::{self, Result, check};

const AF_UNSPEC: u32 = 0;
/// Bytes of an address up to the end of what is read: `struct sockaddr_in`, `SIN6_LEN_RFC2133`.
const SOCKADDR_IN: usize = 16;
const SOCKADDR_IN6: usize = 24;
/// `sizeof(struct sockaddr_storage)`, the longest address.
const MAX_ADDRESS: usize = 128;
/// Where the name of a Unix address starts.
const NAME_AT: usize = 2;

/// A socket of the caller.
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) domain: u32,
    pub(super) kind: u32,
    protocol: u32,
}

impl Socket {
    pub(super) fn of(desk: &Desk<'_>, fd: i32) -> Result<Self> {
        let fd = desk.task.descriptor(fd)?;
        let option = |name| -> Result<u32> {
            let mut value: libc::c_int = 0;
            let mut length = size_of::<libc::c_int>() as libc::socklen_t;
            let pointer = (&raw mut value).cast();
            // SAFETY: value and length outlive the call, and the length is the value's.
            Errno::result(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, pointer, &raw mut length) })?;
            Ok(value as u32)
        };
        let (domain, kind, protocol) = (option(libc::SO_DOMAIN)?, option(libc::SO_TYPE)?, option(libc::SO_PROTOCOL)?);
        Ok(Self { fd, domain, kind, protocol })
    }

    /// Its type, as one of a set.
    pub(super) fn bit(&self) -> u32 {
        1_u32.checked_shl(self.kind).unwrap_or_default()
    }

    pub(super) fn is_internet(&self) -> bool {
        self.domain == AF_INET || self.domain == AF_INET6
    }

    fn protocol(&self) -> Protocol {
        transport(self.kind, self.protocol)
    }

    /// Makes a call on it that may wait for another machine.
    pub(super) fn call<T>(&self, desk: &Desk<'_>, flags: i32, action: impl FnOnce() -> Result<T>) -> Result<T> {
        // SAFETY: no pointers.
        let status = Errno::result(unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_GETFL) })?;
        if status & libc::O_NONBLOCK != 0 || flags & libc::MSG_DONTWAIT != 0 { action() } else { blocked::wait(desk, action) }
    }
}

/// `socket`. Its arguments are no memory, so nobody can change them after the decision.
pub(super) fn create(desk: &Desk<'_>) -> Result<Answer> {
    const TYPE_MASK: u32 = 0xf;
    let (family, kind, protocol) = (desk.word(0) as u32, desk.word(1) as u32 & TYPE_MASK, desk.word(2) as u32);
    if is_usual(family, kind, protocol) {
        return Ok(Answer::Continue);
    }
    let (first, second) = name(family, kind, protocol);
    let part = |part: &leash_common::socket::Name| part.bytes.get(..usize::from(part.len)).unwrap_or_default().to_vec();
    let name = Name::Path([part(first), b"/".to_vec(), part(second)].concat());
    desk.judge(&[Ask::name(Kind::SocketCreate, &name)])?;
    Ok(Answer::Continue)
}

fn family(address: &[u8]) -> u32 {
    address.get(..2).and_then(|bytes| bytes.try_into().ok()).map_or(AF_UNSPEC, |bytes| u16::from_ne_bytes(bytes).into())
}

/// The address of a call: read once, and this copy is what is used.
pub(super) fn address(desk: &Desk<'_>, at: u64, length: u64) -> Result<Vec<u8>> {
    let length = length as u32 as usize;
    if length > MAX_ADDRESS {
        return Err(Errno::EINVAL);
    }
    if length == 0 { Ok(Vec::new()) } else { desk.task.bytes(at, length) }
}

/// The internet address in a `struct sockaddr` of this family.
fn ip_of(family: u32, address: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET if address.len() >= SOCKADDR_IN => {
            address.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(|bytes| Ipv4Addr::from(bytes).into())
        }
        AF_INET6 if address.len() >= SOCKADDR_IN6 => {
            address.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(|bytes| Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The question about an internet address. `unspecified`: what an address without family means here.
fn endpoint(socket: &Socket, address: &[u8], kind: Kind, unspecified: u32) -> Ask {
    let family = match family(address) {
        AF_UNSPEC => unspecified,
        family => family,
    };
    let port = address.get(2..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes);
    match ip_of(family, address) {
        // An IPv4-mapped address is IPv4.
        Some(ip) => Ask { kind, subject: Subject::Endpoint(ip.to_canonical(), port, socket.protocol()), except: None },
        None => Ask::name(kind, &Name::Without(Cause::UnknownAddress, Vec::new())),
    }
}

/// The question about a peer. No address means loopback to the kernel, which is written into `address`, so that it stays so. But where the
/// socket is bound to an address, or its message may name a source (`sourced`), the kernel would go there: that is no form that a policy
/// can speak of.
fn peer(socket: &Socket, address: &mut [u8], kind: Kind, unspecified: u32, sourced: bool) -> Result<Ask> {
    let family = match family(address) {
        AF_UNSPEC => unspecified,
        family => family,
    };
    let Some(ip) = ip_of(family, address).filter(|ip| ip.to_canonical().is_unspecified()) else {
        return Ok(endpoint(socket, address, kind, unspecified));
    };
    let bound = ip_of(socket.domain, &local(socket)?).ok_or(Errno::EINVAL)?;
    let elsewhere = match ip.to_canonical() {
        IpAddr::V4(_) => sourced || !bound.to_canonical().is_unspecified(),
        IpAddr::V6(_) => bound.to_canonical().is_ipv4(),
    };
    if elsewhere {
        return Ok(Ask::name(kind, &Name::Without(Cause::UnknownAddress, Vec::new())));
    }
    let (at, loopback): (usize, &[u8]) = match ip {
        IpAddr::V4(_) => (4, &[127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => (20, &[127, 0, 0, 1]),
        IpAddr::V6(_) => (20, &[0, 0, 0, 1]),
    };
    address.get_mut(at..at + 4).ok_or(Errno::EINVAL)?.copy_from_slice(loopback);
    Ok(endpoint(socket, address, kind, unspecified))
}

/// What a socket is bound to.
fn local(socket: &Socket) -> Result<Vec<u8>> {
    let mut address = vec![0_u8; MAX_ADDRESS];
    let mut length = MAX_ADDRESS as libc::socklen_t;
    let pointer = address.as_mut_ptr().cast();
    // SAFETY: address and length outlive the call, and the length is the buffer's.
    Errno::result(unsafe { libc::getsockname(socket.fd.as_raw_fd(), pointer, &raw mut length) })?;
    address.truncate(length as usize);
    Ok(address)
}

/// A Unix address: an abstract name as policies have it, or the path of a socket.
enum UnixAddress {
    Abstract(Name),
    Path(CString),
}

fn unix_address(address: &[u8]) -> Result<UnixAddress> {
    let name = address.get(NAME_AT..).unwrap_or_default();
    match name.split_first() {
        None => Ok(UnixAddress::Abstract(Name::Path(b"@".to_vec()))),
        Some((0, rest)) if rest.contains(&0) => Ok(UnixAddress::Abstract(Name::Without(Cause::UnknownAddress, Vec::new()))),
        Some((0, rest)) => Ok(UnixAddress::Abstract(Name::Path([b"@", rest].concat()))),
        Some(_) => {
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            let path = name.get(..end).unwrap_or_default();
            CString::new(path).map(UnixAddress::Path).map_err(|_| Errno::EINVAL)
        }
    }
}

/// What a call is really made with.
pub(super) struct Target {
    pub(super) address: Vec<u8>,
    /// What the address is the number of, if it is one.
    object: Option<OwnedFd>,
}

impl Target {
    /// Makes a call on `socket` with this address.
    pub(super) fn call<T>(&self, desk: &Desk<'_>, socket: &Socket, flags: i32, action: impl FnOnce() -> Result<T>) -> Result<T> {
        socket.call(desk, flags, || match self.object {
            Some(_) => desk.shared.ground.among_numbers(action),
            None => action(),
        })
    }
}

/// The address by which a Unix socket is reached that was decided on.
fn unix_target(desk: &Desk<'_>, address: Vec<u8>, kind: Kind) -> Result<Target> {
    match unix_address(&address)? {
        UnixAddress::Abstract(name) => {
            desk.judge(&[Ask::name(kind, &name)])?;
            Ok(Target { address, object: None })
        }
        UnixAddress::Path(text) => {
            let object = resolve::object(&desk.task, &Path { dir: libc::AT_FDCWD, text }, true, 0)?;
            let status = sys::status(object.as_raw_fd(), c"")?;
            if status.kind() != libc::S_IFSOCK {
                return Err(Errno::ECONNREFUSED);
            }
            desk.judge(&[Ask::name(kind, &desk.name(&object, &status)?)])?;
            let mut by_number = (AF_UNIX as u16).to_ne_bytes().to_vec();
            by_number.extend(number(&object)?.to_bytes_with_nul());
            Ok(Target { address: by_number, object: Some(object) })
        }
    }
}

/// `connect`
pub(super) fn connect(desk: &Desk<'_>) -> Result<Answer> {
    let address = address(desk, desk.word(1), desk.word(2))?;
    desk.confirm()?;
    let socket = Socket::of(desk, desk.int(0))?;
    let mut target = Target { address, object: None };
    if family(&target.address) != AF_UNSPEC {
        if socket.is_internet() {
            desk.judge(&[peer(&socket, &mut target.address, Kind::NetworkConnect, AF_UNSPEC, false)?])?;
        } else if socket.domain == AF_UNIX && family(&target.address) == AF_UNIX {
            let kind = if socket.kind == SOCK_DGRAM { Kind::UnixSend } else { Kind::UnixConnect };
            target = unix_target(desk, target.address, kind)?;
        }
    }
    let (pointer, length) = (target.address.as_ptr().cast(), target.address.len() as libc::socklen_t);
    target.call(desk, &socket, 0, || {
        // SAFETY: the address outlives the call, and its length is passed.
        check(unsafe { libc::connect(socket.fd.as_raw_fd(), pointer, length) }.into()).map(Answer::Value)
    })
}

/// `bind`
pub(super) fn bind(desk: &Desk<'_>) -> Result<Answer> {
    let address = address(desk, desk.word(1), desk.word(2))?;
    desk.confirm()?;
    let socket = Socket::of(desk, desk.int(0))?;
    let perform = |address: &[u8]| {
        let (pointer, length) = (address.as_ptr().cast(), address.len() as libc::socklen_t);
        // SAFETY: the address outlives the call, and its length is passed.
        check(unsafe { libc::bind(socket.fd.as_raw_fd(), pointer, length) }.into()).map(Answer::Value)
    };
    if socket.is_internet() {
        desk.judge(&[endpoint(&socket, &address, Kind::NetworkListen, AF_INET)])?;
    }
    if socket.domain != AF_UNIX {
        return perform(&address);
    }
    if address.len() < NAME_AT || family(&address) != AF_UNIX {
        return Err(Errno::EINVAL);
    }
    match unix_address(&address)? {
        UnixAddress::Abstract(name) => {
            desk.judge(&[Ask::name(Kind::UnixListen, &name)])?;
            perform(&address)
        }
        UnixAddress::Path(text) => {
            let absolute = text.to_bytes().starts_with(b"/");
            let place = resolve::place(&desk.task, &Path { dir: libc::AT_FDCWD, text })?.map_err(|_| Errno::EADDRINUSE)?;
            let _names = desk.shared.hold_names();
            if sys::status(place.dir.as_raw_fd(), &place.name).is_ok() {
                return Err(Errno::EADDRINUSE);
            }
            let name = place_name(desk, &place)?;
            desk.judge(&[Ask::name(Kind::FileCreate, &name), Ask::name(Kind::UnixListen, &name)])?;
            let mut here = (AF_UNIX as u16).to_ne_bytes().to_vec();
            here.extend(place.name.to_bytes_with_nul());
            // The socket keeps the text that it was bound by. An absolute path without symlinks is the same text for us.
            let same = absolute && address.get(NAME_AT..).unwrap_or_default().strip_suffix(b"\0") == Some(name.bytes());
            let same = same || absolute && address.get(NAME_AT..) == Some(name.bytes());
            let bound = with_umask(desk, || {
                if same {
                    return perform(&address);
                }
                desk.shared.ground.within(&place.dir, || perform(&here))
            })?;
            if let Some(bounds) = &desk.task.bounds {
                bounds.adopt_socket(name.bytes(), &place)?;
            }
            Ok(bound)
        }
    }
}

/// `listen`
pub(super) fn listen(desk: &Desk<'_>) -> Result<Answer> {
    desk.confirm()?;
    let socket = Socket::of(desk, desk.int(0))?;
    if socket.is_internet() {
        let address = local(&socket)?;
        desk.judge(&[endpoint(&socket, &address, Kind::NetworkListen, socket.domain)])?;
    }
    // SAFETY: no pointers.
    check(unsafe { libc::listen(socket.fd.as_raw_fd(), desk.int(1)) }.into()).map(Answer::Value)
}

/// Refuses, as no policy can permit it, what would send packets to addresses that nobody asked about.
pub(super) fn refuse_route(desk: &Desk<'_>, socket: &Socket) -> Result<()> {
    let subject = Subject::Endpoint(Ipv4Addr::UNSPECIFIED.into(), 0, socket.protocol());
    desk.judge(&[Ask { kind: Kind::NetworkConnect, subject, except: Some(Cause::UnknownAddress) }])
}

/// `setsockopt` with an option that names a route, or that has a socket tell who sent; the filter lets no other one come here.
pub(super) fn set_option(desk: &Desk<'_>) -> Result<Answer> {
    desk.confirm()?;
    let socket = Socket::of(desk, desk.int(0))?;
    if desk.int(1) == libc::SOL_SOCKET {
        desk.shared.senders_are_told.fetch_or(socket.bit(), Ordering::SeqCst);
        return Ok(Answer::Continue);
    }
    if !socket.is_internet() {
        return Err(Errno::EOPNOTSUPP);
    }
    refuse_route(desk, &socket)?;
    // Only where nothing is enforced.
    Ok(Answer::Continue)
}

/// Decides where a message may go; what it is to be sent with. No address: it goes to where the socket is connected. `sourced`: whether
/// control data goes with it.
pub(super) fn destination(desk: &Desk<'_>, socket: &Socket, mut address: Vec<u8>, flags: i32, sourced: bool) -> Result<Target> {
    let plain = Target { address: Vec::new(), object: None };
    if address.is_empty() {
        return Ok(plain);
    }
    if socket.domain == AF_UNIX {
        if socket.kind != SOCK_DGRAM || family(&address) != AF_UNIX {
            return Ok(Target { address, object: None });
        }
        return unix_target(desk, address, Kind::UnixSend);
    }
    if !socket.is_internet() {
        return Ok(Target { address, object: None });
    }
    let stream = socket.protocol() == Protocol::Tcp;
    if stream && flags & libc::MSG_FASTOPEN == 0 {
        // TCP ignores the address.
        return Ok(plain);
    }
    if socket.domain == AF_INET6 && family(&address) == AF_UNSPEC {
        // An IPv6 socket then sends to where it is connected.
        return Ok(Target { address, object: None });
    }
    let kind = if stream { Kind::NetworkConnect } else { Kind::NetworkSend };
    desk.judge(&[peer(socket, &mut address, kind, AF_INET, sourced)?])?;
    Ok(Target { address, object: None })
}

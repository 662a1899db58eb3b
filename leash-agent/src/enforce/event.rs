//! Records of the kernel as events.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use leash_common::event::Cause;
use leash_common::event::{HEADER_BYTES, Header, RECORD_PACKET};
use leash_common::kind::{Kind, Protocol};
use leash_common::socket;
use nix::libc;

/// Whether denials are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is denied; events say what would have been.
    Record,
    /// What the policy denies fails with `EACCES`.
    Enforce,
}

/// What an action was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventResource {
    /// A path, the name of a Unix socket, or `family/protocol`, as bytes. Empty if the object has none.
    Path(Vec<u8>),
    /// An internet endpoint.
    Endpoint {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: u16,
        /// The transport.
        protocol: Protocol,
    },
}

/// One question that a governed task's action raised, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub time_ns: u64,
    /// What was asked.
    pub kind: Kind,
    /// Of what.
    pub resource: EventResource,
    /// Whether the policy allows it.
    pub allow: bool,
    /// Whether it was denied: not allowed, in enforce mode.
    pub denied: bool,
    /// The mode at that moment.
    pub mode: Mode,
    /// The policy's generation.
    pub generation: u32,
    /// Index of the determining policies in the policy's reasons.
    pub reason: u32,
    /// What decided, if not the policy.
    pub cause: Cause,
    /// The thread, in the root pid namespace.
    pub pid: u32,
    /// The process.
    pub tgid: u32,
    /// The parent process.
    pub ppid: u32,
    /// The real user.
    pub uid: u32,
    /// The acting program; empty if unknown.
    pub exe: Vec<u8>,
    /// What the system call returned: 0, `EACCES`, or `EPERM` for a packet.
    pub errno: i32,
    /// How often: 1, or the repeats of an earlier event.
    pub count: u64,
}

/// The fixed part of a record, and the bytes that follow.
pub(super) fn split(record: &[u8]) -> Option<(Header, &[u8])> {
    let (head, rest) = record.split_at_checked(HEADER_BYTES)?;
    // SAFETY: the slice has a header's length, and any bit pattern is a valid header.
    let header = unsafe { std::ptr::read_unaligned(head.as_ptr().cast::<Header>()) };
    Some((header, rest))
}

/// The event of a record, or `None` if it isn't one of ours.
pub(super) fn decode(header: &Header, rest: &[u8]) -> Option<Event> {
    let exe_at = rest.len().checked_sub(header.exe_len.into())?;
    let (path, exe) = rest.split_at_checked(exe_at)?;
    let path = path.get(path.len().checked_sub(header.path_len.into())?..)?;
    let kind = Kind::from_number(header.kind)?;
    let resource = match header.address_len {
        4 => {
            let [a, b, c, d, ..] = header.address;
            endpoint(header, Ipv4Addr::new(a, b, c, d).into())
        }
        16 => endpoint(header, Ipv6Addr::from(header.address).into()),
        _ if kind == Kind::SocketCreate && path.is_empty() => EventResource::Path(socket_name(header)),
        _ => EventResource::Path(path.to_vec()),
    };
    let allow = header.allow != 0;
    let enforce = header.enforce != 0;
    let denied = enforce && !allow;
    Some(Event {
        time_ns: header.time_ns,
        kind,
        resource,
        allow,
        denied,
        mode: if enforce { Mode::Enforce } else { Mode::Record },
        generation: header.generation,
        reason: header.reason,
        cause: Cause::from_number(header.cause),
        pid: header.pid,
        tgid: header.tgid,
        ppid: header.ppid,
        uid: header.uid,
        exe: exe.to_vec(),
        errno: match header.record {
            _ if !denied => 0,
            RECORD_PACKET => libc::EPERM,
            _ => libc::EACCES,
        },
        count: header.count.into(),
    })
}

/// The name of a socket whose record has its family, type and protocol in the place of an address.
fn socket_name(header: &Header) -> Vec<u8> {
    let mut numbers = header.address.chunks_exact(4).filter_map(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let mut next = || numbers.next().unwrap_or_default();
    let (first, second) = socket::name(next(), next(), next());
    let part = |name: &socket::Name| name.bytes.get(..name.len.into()).unwrap_or_default().to_vec();
    [part(first), part(second)].join(&b'/')
}

fn endpoint(header: &Header, ip: IpAddr) -> EventResource {
    EventResource::Endpoint { ip, port: header.port, protocol: Protocol::from_number(header.protocol) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_an_event() {
        let header = Header { kind: 1, enforce: 1, path_len: 5, exe_len: 4, cause: 6, ..Header::default() };
        let event = decode(&header, b"\0\0\0/a/bc/exe").unwrap();
        assert_eq!(event.resource, EventResource::Path(b"/a/bc".to_vec()));
        assert_eq!(event.exe, b"/exe");
        assert_eq!((event.denied, event.errno, event.cause), (true, 13, Cause::GainsAccess));
    }

    #[test]
    fn a_socket_without_a_name_is_named_by_its_numbers() {
        let mut address = [0; 16];
        address[..1].copy_from_slice(&[2]);
        address[4..5].copy_from_slice(&[2]);
        address[8..9].copy_from_slice(&[1]);
        let event = decode(&Header { kind: 15, enforce: 1, record: RECORD_PACKET, address, ..Header::default() }, b"").unwrap();
        assert_eq!(event.resource, EventResource::Path(b"inet/icmp".to_vec()));
        assert_eq!(event.errno, libc::EPERM);
    }

    #[test]
    fn lengths_beyond_the_record_are_refused() {
        assert_eq!(decode(&Header { path_len: 9, ..Header::default() }, b"/short"), None);
        assert_eq!(decode(&Header { exe_len: 9, ..Header::default() }, b"/short"), None);
    }
}

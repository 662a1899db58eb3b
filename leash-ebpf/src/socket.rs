//! Sockets: creating the unusual ones, and internet endpoints.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use leash_common::event::Cause;
use leash_common::kind::{Kind, Protocol};
use leash_common::session::Area;
use leash_common::socket::{AF_INET, AF_INET6, AF_UNIX, MAX_PART, is_usual, name, transport};
use leash_common::table::MAX_PATH_BYTES;

use crate::decide::judge;
use crate::emit::leash_hold;
use crate::kernel::{argument, bound, copy, member, read};
use crate::route;
use crate::scratch::{Claim, claim, none_left, verdict};
use crate::session::governed;
use crate::unix::abstract_name;
use crate::walk::PATH_MASK;

const AF_UNSPEC: u32 = 0;
/// Bounds the length of half a name.
const PART_MASK: u32 = MAX_PART as u32;
/// `include/linux/socket.h`
const MSG_FASTOPEN: u32 = 0x2000_0000;
/// Bytes of an address up to the end of what is read: `struct sockaddr_in`, `SIN6_LEN_RFC2133`.
const SOCKADDR_IN: u32 = 16;
const SOCKADDR_IN6: u32 = 24;
/// What precedes an IPv4 address in an IPv6 one.
const MAPPED: [u32; 3] = [0, 0, u32::from_be(0xffff)];

/// `LSM_HOOK(int, 0, socket_create, int family, int type, int protocol, int kern)`. TCP, UDP and Unix sockets are asked by what is
/// done with them.
#[lsm(hook = "socket_create")]
pub fn socket_create(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let family = argument(&context, 0) as u32;
    let kind = argument(&context, 1) as u32;
    let protocol = argument(&context, 2) as u32;
    if argument(&context, 3) as u32 != 0 || is_usual(family, kind, protocol) {
        return 0;
    }
    let Some(claim) = claim(slot) else { return none_left(slot, Kind::SocketCreate.bit()) };
    let (first, second) = name(family, kind, protocol);
    let first_len = bound::<PART_MASK>(first.len as u32);
    let second_len = bound::<PART_MASK>(second.len as u32);
    let start = MAX_PATH_BYTES - 1 - first_len - second_len;
    // SAFETY: the slot is claimed; two names and a slash fit the buffer.
    unsafe {
        let base = (&raw mut (*claim.memory).area).cast::<Area>();
        let path = (&raw mut (*base).path).cast::<u8>();
        let at = bound::<PATH_MASK>(start as u32);
        copy(path.add(at), first_len, first.bytes.as_ptr() as u64);
        let end = path.add(bound::<PATH_MASK>((MAX_PATH_BYTES - 1 - second_len) as u32));
        end.write(b'/');
        copy(end.add(1), second_len, second.bytes.as_ptr() as u64);
        (*claim.memory).start[0] = start as u32;
    }
    let denied = judge(&claim, Kind::SocketCreate.bit());
    claim.release();
    verdict(denied)
}

#[inline(always)]
fn protocol_of(sk: u64) -> Protocol {
    let kind: u16 = read(member!(sk, sk_type));
    let protocol: u16 = read(member!(sk, sk_protocol));
    transport(kind as u32, protocol as u32)
}

/// Writes the endpoint into the claimed slot. An IPv4-mapped address is IPv4; where `to_peer`, no address is loopback, as the
/// kernel makes it.
#[inline(always)]
unsafe fn set_address4(claim: &Claim, address: u32, to_peer: bool) {
    let address = if to_peer && address == 0 { u32::from_ne_bytes([127, 0, 0, 1]) } else { address };
    // SAFETY: the slot is claimed.
    unsafe {
        let words = (&raw mut (*claim.memory).address).cast::<u32>();
        words.write(address);
        words.add(1).write(0);
        words.add(2).write(0);
        words.add(3).write(0);
        (*claim.memory).address_len = 4;
    }
}

#[inline(always)]
unsafe fn set_address6(claim: &Claim, from: u64, to_peer: bool) {
    let high: u64 = read(from);
    let middle: u32 = read(from.wrapping_add(8));
    let mut low: u32 = read(from.wrapping_add(12));
    // SAFETY: the slot is claimed.
    unsafe {
        if high == 0 && middle == u32::from_be(0xffff) {
            return set_address4(claim, low, to_peer);
        }
        if to_peer && high == 0 && middle == 0 && low == 0 {
            low = u32::from_be(1);
        }
        let words = (&raw mut (*claim.memory).address).cast::<u32>();
        words.write(high as u32);
        words.add(1).write((high >> 32) as u32);
        words.add(2).write(middle);
        words.add(3).write(low);
        (*claim.memory).address_len = 16;
    }
}

/// Whether no address means something else than loopback: the kernel goes to what the socket is bound to, or to the source that control
/// data names. A thread that binds the socket after this look is asked about that address, as one where it listens.
#[inline(always)]
fn goes_elsewhere(sk: u64, family: u32, address: u64, sourced: bool) -> bool {
    // The last four bytes of the address, and what precedes them in an IPv6 one.
    let (low, before) = if family == AF_INET6 {
        let before: [u32; 3] = read(address.wrapping_add(8));
        (read::<u32>(address.wrapping_add(20)), before)
    } else {
        (read::<u32>(address.wrapping_add(4)), MAPPED)
    };
    if low != 0 || before[0] | before[1] != 0 {
        return false;
    }
    if before[2] == MAPPED[2] {
        return sourced || read::<u32>(member!(sk, sk_address4)) != 0;
    }
    before[2] == 0 && read::<[u32; 3]>(member!(sk, sk_address6)) == MAPPED
}

/// Asks `kind` of the endpoint at `address`, memory of the kernel. `unspecified`: what an address without family means here; `sourced`:
/// whether control data goes with it.
#[inline(always)]
fn ask_address(slot: u32, sk: u64, address: u64, length: u32, kind: Kind, unspecified: u32, sourced: bool) -> i32 {
    let Some(claim) = claim(slot) else { return none_left(slot, kind.bit()) };
    let mut family = read::<u16>(address) as u32;
    if family == AF_UNSPEC {
        family = unspecified;
    }
    let to_peer = kind as u8 != Kind::NetworkListen as u8;
    let port: u16 = read(address.wrapping_add(2));
    // SAFETY: the slot is claimed.
    unsafe {
        (*claim.memory).port = u16::from_be(port) as u32;
        (*claim.memory).protocol = protocol_of(sk) as u32;
        let known = !to_peer || !goes_elsewhere(sk, family, address, sourced);
        if family == AF_INET && length >= SOCKADDR_IN && known {
            set_address4(&claim, read(address.wrapping_add(4)), to_peer);
        } else if family == AF_INET6 && length >= SOCKADDR_IN6 && known {
            set_address6(&claim, address.wrapping_add(8), to_peer);
        } else {
            (*claim.memory).cause[0] = Cause::UnknownAddress as u32;
        }
    }
    let denied = judge(&claim, kind.bit());
    claim.release();
    verdict(denied)
}

#[inline(always)]
fn family_of(sk: u64) -> u32 {
    read::<u16>(member!(sk, sk_family)) as u32
}

#[inline(always)]
fn is_internet(family: u32) -> bool {
    family == AF_INET || family == AF_INET6
}

/// `LSM_HOOK(int, 0, socket_connect, struct socket *sock, struct sockaddr *address, int addrlen)`
#[lsm(hook = "socket_connect")]
pub fn socket_connect(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let sk: u64 = read(member!(argument(&context, 0), socket_sk));
    let address = argument(&context, 1);
    let family = family_of(sk);
    if family == AF_UNIX {
        leash_hold(slot);
    }
    if !is_internet(family) || read::<u16>(address) as u32 == AF_UNSPEC {
        // No family: the socket is disconnected.
        return 0;
    }
    ask_address(slot, sk, address, argument(&context, 2) as u32, Kind::NetworkConnect, AF_UNSPEC, false)
}

/// `LSM_HOOK(int, 0, socket_bind, struct socket *sock, struct sockaddr *address, int addrlen)`. A Unix socket that is bound to a
/// path is asked when the path comes into being.
#[lsm(hook = "socket_bind")]
pub fn socket_bind(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let sk: u64 = read(member!(argument(&context, 0), socket_sk));
    let address = argument(&context, 1);
    let length = argument(&context, 2) as u32;
    let family = family_of(sk);
    if family == AF_UNIX {
        if length > 2 && read::<u8>(address.wrapping_add(2)) != 0 {
            return 0;
        }
        let kinds = Kind::UnixListen.bit();
        let Some(claim) = claim(slot) else { return none_left(slot, kinds) };
        abstract_name(&claim, address, length);
        let denied = judge(&claim, kinds);
        claim.release();
        return verdict(denied);
    }
    if !is_internet(family) {
        return 0;
    }
    ask_address(slot, sk, address, length, Kind::NetworkListen, AF_INET, false)
}

/// `LSM_HOOK(int, 0, socket_listen, struct socket *sock, int backlog)`
#[lsm(hook = "socket_listen")]
pub fn socket_listen(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let sk: u64 = read(member!(argument(&context, 0), socket_sk));
    let family = family_of(sk);
    if !is_internet(family) {
        return 0;
    }
    let kind = Kind::NetworkListen;
    let Some(claim) = claim(slot) else { return none_left(slot, kind.bit()) };
    // SAFETY: the slot is claimed.
    unsafe {
        (*claim.memory).port = read::<u16>(member!(sk, sk_port)) as u32;
        (*claim.memory).protocol = protocol_of(sk) as u32;
        if family == AF_INET {
            set_address4(&claim, read(member!(sk, sk_address4)), false);
        } else {
            set_address6(&claim, member!(sk, sk_address6), false);
        }
    }
    let denied = judge(&claim, kind.bit());
    claim.release();
    verdict(denied)
}

/// `LSM_HOOK(int, 0, socket_sendmsg, struct socket *sock, struct msghdr *msg, int size)`. Only with an address; a connected socket
/// was asked when it was connected.
#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let message = argument(&context, 1);
    let sk: u64 = read(member!(argument(&context, 0), socket_sk));
    let family = family_of(sk);
    if family == AF_UNIX {
        leash_hold(slot);
    }
    if !is_internet(family) {
        return 0;
    }
    if route::is_in(message) {
        return refuse_route(slot, sk);
    }
    let address: u64 = read(member!(message, msg_name));
    if address == 0 {
        return 0;
    }
    let length: u32 = read(member!(message, msg_namelen));
    let flags: u32 = read(member!(message, msg_flags));
    let stream = protocol_of(sk) as u8 == Protocol::Tcp as u8;
    if stream && flags & MSG_FASTOPEN == 0 {
        // TCP ignores the address.
        return 0;
    }
    if family == AF_INET6 && read::<u16>(address) as u32 == AF_UNSPEC {
        // An IPv6 socket then sends to where it is connected.
        return 0;
    }
    let kind = if stream { Kind::NetworkConnect } else { Kind::NetworkSend };
    ask_address(slot, sk, address, length, kind, AF_INET, read::<u64>(member!(message, msg_controllen)) != 0)
}

/// `LSM_HOOK(int, 0, socket_setsockopt, struct socket *sock, int level, int optname)`. Only for source routes.
#[lsm(hook = "socket_setsockopt")]
pub fn socket_setsockopt(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    if !route::is_option(argument(&context, 1) as u32, argument(&context, 2) as u32) {
        return 0;
    }
    refuse_route(slot, read(member!(argument(&context, 0), socket_sk)))
}

/// Denies what would send packets to addresses that nobody asked about.
#[inline(always)]
fn refuse_route(slot: u32, sk: u64) -> i32 {
    let kinds = Kind::NetworkConnect.bit();
    let Some(claim) = claim(slot) else { return none_left(slot, kinds) };
    // SAFETY: the slot is claimed.
    unsafe {
        set_address4(&claim, 0, false);
        (*claim.memory).port = 0;
        (*claim.memory).protocol = protocol_of(sk) as u32;
        (*claim.memory).cause[0] = Cause::UnknownAddress as u32;
    }
    let denied = judge(&claim, kinds);
    claim.release();
    verdict(denied)
}

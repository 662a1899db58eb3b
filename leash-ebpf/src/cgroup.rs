//! Programs on the cgroup of a supervised session: the kernel's own answer beneath the supervisor's, for machines that refuse LSM
//! programs. They deny what no program may do, and record only that.
//!
//! The supervisor acts on a session's sockets from outside its cgroup, after it has decided and recorded, so calls by outsiders aren't
//! asked again. Packets belong to a socket and to no task: whoever sends them, a socket that is connected, or about to be, sends
//! only to what may still be connected to.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_set_retval, bpf_sk_fullsock};
use aya_ebpf::macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext};
use leash_common::event::{Cause, HEADER_BYTES, Header, RECORD_EVENT, RECORD_PACKET};
use leash_common::kind::{Kind, Protocol};
use leash_common::socket::{AF_INET, AF_INET6, IPPROTO_TCP, MAX_PART, SOCK_DGRAM, SOCK_RAW, is_usual, name, transport};
use leash_common::table::{Corrupt, Cursor, LEAF, Whoever, decide_whoever, header};

use crate::decide::{Installed, installed};
use crate::emit::{DENY, leash_hold, output};
use crate::kernel::{add, bound, repeat};
use crate::maps::COUNTERS;
use crate::scan::Pages;
use crate::session::governed;

/// The supervisor's maps hold one session.
const SLOT: u32 = 0;
/// Return values of the programs.
const REFUSE: i32 = 0;
const PASS: i32 = 1;
const EACCES: i32 = 13;
/// States of a socket (`include/net/tcp_states.h`). Sockets of datagrams are `ESTABLISHED` while they are connected.
const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
/// Set in what is asked if it is a packet, or of an IPv6 address.
const PACKET: u64 = 1 << 48;
const WIDE: u64 = 1 << 49;

/// What is asked of an endpoint, in one number: the protocol, a kind from bit 8 on, from bit 16 on another one that is
/// enough as well, and the port from bit 32 on.
#[inline(always)]
const fn asked(protocol: Protocol, kind: Kind, or: Kind, port: u32) -> u64 {
    protocol as u64 | (kind as u64) << 8 | (or as u64) << 16 | (port as u64) << 32
}

/// A question's kind and what is recorded of it, and who asks: process and thread in one number, 0 for nobody.
struct Question {
    record: u8,
    kind: Kind,
    protocol: u8,
    port: u16,
    address: [u64; 2],
    address_len: u8,
    by: u64,
}

/// Why something is denied: the cause, and the reason where that is the policy.
type Denial = (Cause, u32);

#[inline(always)]
fn denial(answer: Result<Whoever, Corrupt>) -> Option<Denial> {
    match answer {
        Ok(Whoever::Allow) => None,
        Ok(Whoever::Deny(reason)) => Some((Cause::Policy, reason)),
        Ok(Whoever::DenyVariously) => Some((Cause::NoProgram, 0)),
        Err(Corrupt) => Some((Cause::CorruptImage, 0)),
    }
}

/// Records a denial. Returns 1 if it is enforced.
#[inline(always)]
fn deny(question: Question, (cause, reason): Denial, installed: Option<&Installed>) -> u32 {
    let (generation, enforce) = installed.map_or((0, 1), |installed| (installed.generation, installed.enforce));
    let Some(counters) = COUNTERS.get_ptr_mut(SLOT) else { return 1 };
    let mut address = [0; 16];
    let [high, low] = question.address.map(u64::to_ne_bytes);
    for i in 0..8 {
        // SAFETY: both halves are eight bytes; slice indexing would need a panic branch.
        unsafe {
            *address.as_mut_ptr().add(i) = *high.as_ptr().add(i);
            *address.as_mut_ptr().add(8 + i) = *low.as_ptr().add(i);
        }
    }
    let mut header = Header {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        pid: question.by as u32,
        tgid: (question.by >> 32) as u32,
        generation,
        reason,
        count: 1,
        kind: question.kind as u8,
        enforce: enforce as u8,
        cause: cause as u8,
        record: question.record,
        protocol: question.protocol,
        port: question.port,
        address,
        address_len: question.address_len,
        ..Header::default()
    };
    leash_hold(SLOT);
    // SAFETY: the counters are a map value, the header is on the stack.
    unsafe {
        add((&raw mut (*counters).performed).cast::<u64>().add(DENY), 1);
        let counted = if output(SLOT, DENY, (&raw mut header).cast(), HEADER_BYTES as u64) {
            (&raw mut (*counters).recorded).cast::<u64>()
        } else {
            (&raw mut (*counters).dropped).cast::<u64>()
        };
        add(counted.add(DENY), 1);
    }
    enforce
}

/// Asks about an address in halves, as it lies in memory; an IPv4 address is the last four bytes of it. `what` is [`asked`], with
/// the port from bit 32 on, [`WIDE`] for an IPv6 address, and [`PACKET`] for a packet. Returns 1 for an enforced denial.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_whoever(high: u64, low: u64, what: u64, by: u64) -> u32 {
    let installed = installed(SLOT);
    let found = match &installed {
        Some(installed) => endpoint(installed, [high, low], what),
        None => Some((Cause::NoImage, 0)),
    };
    let Some(found) = found else { return 0 };
    let (address, address_len) = if what & WIDE != 0 { ([high, low], 16) } else { ([low >> 32, 0], 4) };
    let question = Question {
        record: if what & PACKET != 0 { RECORD_PACKET } else { RECORD_EVENT },
        kind: kind(what >> 8),
        protocol: what as u8,
        port: (what >> 32) as u16,
        address,
        address_len,
        by,
    };
    deny(question, found, installed.as_ref())
}

/// The kind in the lowest bits.
#[inline(always)]
fn kind(number: u64) -> Kind {
    // SAFETY: kinds are numbered from 0 to 15 without holes.
    unsafe { core::mem::transmute::<u8, Kind>(number as u8 & 15) }
}

/// Symbols of the longest endpoint (`table::walk_endpoint`), and where that of an IPv4 address begins among them.
const SYMBOLS: usize = 16 * 2 + 5;
const NARROW: usize = 12 * 2;
/// Bounds the index of a symbol.
const SYMBOL_MASK: u32 = 63;

/// A walk over the symbols of an endpoint or a name. It goes by [`repeat`], of which the verifier follows one step for all.
struct Walk {
    symbols: [u8; SYMBOL_MASK as usize + 1],
    first: u32,
    state: u32,
    pages: Pages,
}

unsafe extern "C" fn step(index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: `repeat` hands over the state it was given; the mask bounds the index.
    unsafe {
        let at = bound::<SYMBOL_MASK>((*walk).first + index as u32);
        let symbol = (*walk).symbols.as_ptr().add(at).read();
        match Cursor::enter(&(*walk).pages, (*walk).state) {
            Ok(cursor) => (*walk).state = cursor.peek(symbol),
            Err(Corrupt) => {
                (*walk).state = LEAF;
                return 1;
            }
        }
    }
    0
}

#[inline(always)]
fn endpoint(installed: &Installed, address: [u64; 2], what: u64) -> Option<Denial> {
    let wide = what & WIDE != 0;
    let first = if wide { 0 } else { NARROW };
    let start = installed.start(if wide { header::START_IPV6 } else { header::START_IPV4 });
    let mut walk = Walk { symbols: [0; SYMBOL_MASK as usize + 1], first: first as u32, state: start, pages: installed.pages };
    let symbols = walk.symbols.as_mut_ptr();
    // SAFETY: all places are below the array's length.
    unsafe {
        for (half, bytes) in address.into_iter().enumerate() {
            for i in 0..8 {
                let byte = (bytes >> (8 * i)) as u8;
                symbols.add(half * 16 + 2 * i).write(1 + (byte >> 4));
                symbols.add(half * 16 + 2 * i + 1).write(1 + (byte & 15));
            }
        }
        symbols.add(32).write(1 + what as u8);
        for (i, shift) in [44, 40, 36, 32].into_iter().enumerate() {
            symbols.add(33 + i).write(1 + (what >> shift & 15) as u8);
        }
    }
    repeat((SYMBOLS - first) as u32, step, &mut walk);
    let row = match Cursor::enter(&installed.pages, walk.state) {
        Ok(cursor) if walk.state & LEAF == 0 => cursor.accept(),
        _ => return Some((Cause::CorruptImage, 0)),
    };
    let found = denial(decide_whoever(&installed.pages, row, kind(what >> 8)))?;
    denial(decide_whoever(&installed.pages, row, kind(what >> 16)))?;
    Some(found)
}

/// An IPv6 address in its place in the kernel, by words as they lie in memory. An IPv4-mapped one is IPv4; where `to_peer`, no
/// address counts as loopback (from a socket that is bound to another address the supervisor has refused it).
#[inline(always)]
fn ask6(words: [u32; 4], what: u64, by: u64, to_peer: bool) -> u32 {
    let [first, second, third, fourth] = words;
    if first == 0 && second == 0 && third == u32::from_be(0xffff) {
        return ask4(fourth, what, by, to_peer);
    }
    let none = first == 0 && second == 0 && third == 0 && fourth == 0;
    let fourth = if to_peer && none { u32::from_be(1) } else { fourth };
    let half = |low: u32, high: u32| low as u64 | (high as u64) << 32;
    leash_whoever(half(first, second), half(third, fourth), what | WIDE, by)
}

#[inline(always)]
fn ask4(address: u32, what: u64, by: u64, to_peer: bool) -> u32 {
    let address = if to_peer && address == 0 { u32::from_ne_bytes([127, 0, 0, 1]) } else { address };
    leash_whoever(0, (address as u64) << 32, what, by)
}

/// Reads a member of a context or a socket by one access of its own width, which is what the verifier admits.
macro_rules! field {
    ($from:expr, $($member:tt)+) => {
        // SAFETY: the kernel's context or socket; the verifier checks the access.
        unsafe { core::ptr::read_volatile(&raw const (*$from).$($member)+) }
    };
}

/// All words of an IPv6 address in a context or a socket.
macro_rules! words {
    ($from:expr, $member:ident) => {
        [field!($from, $member[0]), field!($from, $member[1]), field!($from, $member[2]), field!($from, $member[3])]
    };
}

/// What a program on a call returns.
#[inline(always)]
fn verdict(denied: u32) -> i32 {
    if denied == 0 {
        return PASS;
    }
    // SAFETY: a helper without pointers.
    unsafe { bpf_set_retval(-EACCES) };
    REFUSE
}

/// Asks `kind` of the address that a session's task gives.
#[inline(always)]
fn call(context: &SockAddrContext, wide: bool, kind: Kind) -> i32 {
    if governed().is_none() {
        return PASS;
    }
    let address: *mut bpf_sock_addr = context.sock_addr;
    let protocol = transport(field!(address, type_), field!(address, protocol));
    let port = u16::from_be(field!(address, user_port) as u16) as u32;
    // A connected IPv6 socket hands its IPv4 peer over as if the task had given the address.
    let connected = !wide && kind as u8 == Kind::NetworkSend as u8 && field!(address, family) == AF_INET6;
    let what = asked(protocol, kind, if connected { Kind::NetworkConnect } else { kind }, port);
    // SAFETY: a helper without arguments.
    let by = unsafe { bpf_get_current_pid_tgid() };
    let to_peer = kind as u8 != Kind::NetworkListen as u8;
    verdict(if wide {
        ask6(words!(address, user_ip6), what, by, to_peer)
    } else {
        ask4(field!(address, user_ip4), what, by, to_peer)
    })
}

/// `connect(2)`, and what connects by sending.
#[cgroup_sock_addr(connect4)]
pub fn cgroup_connect4(context: SockAddrContext) -> i32 {
    call(&context, false, Kind::NetworkConnect)
}

/// See [`cgroup_connect4`].
#[cgroup_sock_addr(connect6)]
pub fn cgroup_connect6(context: SockAddrContext) -> i32 {
    call(&context, true, Kind::NetworkConnect)
}

/// `bind(2)`.
#[cgroup_sock_addr(bind4)]
pub fn cgroup_bind4(context: SockAddrContext) -> i32 {
    call(&context, false, Kind::NetworkListen)
}

/// See [`cgroup_bind4`].
#[cgroup_sock_addr(bind6)]
pub fn cgroup_bind6(context: SockAddrContext) -> i32 {
    call(&context, true, Kind::NetworkListen)
}

/// A datagram with an address.
#[cgroup_sock_addr(sendmsg4)]
pub fn cgroup_sendmsg4(context: SockAddrContext) -> i32 {
    call(&context, false, Kind::NetworkSend)
}

/// See [`cgroup_sendmsg4`].
#[cgroup_sock_addr(sendmsg6)]
pub fn cgroup_sendmsg6(context: SockAddrContext) -> i32 {
    call(&context, true, Kind::NetworkSend)
}

/// `socket(2)` of an internet family: the unusual ones.
#[cgroup_sock(sock_create)]
pub fn cgroup_create(context: SockContext) -> i32 {
    if governed().is_none() {
        return PASS;
    }
    let socket: *mut bpf_sock = context.sock;
    let (family, kind, protocol) = (field!(socket, family), field!(socket, type_), field!(socket, protocol));
    if is_usual(family, kind, protocol) {
        return PASS;
    }
    // SAFETY: a helper without arguments.
    let by = unsafe { bpf_get_current_pid_tgid() };
    verdict(leash_whoever_socket(family, kind, protocol, by))
}

/// Asks about a socket of this kind. The record has the numbers in the place of an address.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leash_whoever_socket(family: u32, kind: u32, protocol: u32, by: u64) -> u32 {
    let installed = installed(SLOT);
    let found = match &installed {
        Some(installed) => denial(named(installed, family, kind, protocol)),
        None => Some((Cause::NoImage, 0)),
    };
    let Some(found) = found else { return 0 };
    let numbers = [family as u64 | (kind as u64) << 32, protocol as u64];
    let question =
        Question { record: RECORD_EVENT, kind: Kind::SocketCreate, protocol: 0, port: 0, address: numbers, address_len: 0, by };
    deny(question, found, installed.as_ref())
}

#[inline(always)]
fn named(installed: &Installed, family: u32, kind: u32, protocol: u32) -> Result<Whoever, Corrupt> {
    let (first, second) = name(family, kind, protocol);
    let mut walk = Walk {
        symbols: [0; SYMBOL_MASK as usize + 1],
        first: 0,
        state: installed.start(header::START_TEXT),
        pages: installed.pages,
    };
    let symbols = walk.symbols.as_mut_ptr();
    // SAFETY: all places are below the arrays' lengths.
    unsafe {
        for i in 0..MAX_PART {
            symbols.add(i).write(first.bytes.as_ptr().add(i).read());
            symbols.add(MAX_PART + 1 + i).write(second.bytes.as_ptr().add(i).read());
        }
        symbols.add(MAX_PART).write(b'/');
    }
    for (from, count) in [(0, first.len as u32), (MAX_PART, 1), (MAX_PART + 1, second.len as u32)] {
        walk.first = from as u32;
        repeat(count, step, &mut walk);
    }
    if walk.state & LEAF != 0 {
        return Err(Corrupt);
    }
    let row = Cursor::enter(&installed.pages, walk.state)?.accept();
    decide_whoever(&installed.pages, row, Kind::SocketCreate)
}

/// A packet on its way out. What is sent to an address was asked about with the call, and what an accepted connection sends was
/// asked for; what remains is a connected socket of datagrams, whose peer may have been permitted when it was connected only, and the
/// beginning of a connection, which the kernel can also make by itself.
#[cgroup_skb(egress)]
pub fn cgroup_egress(context: SkBuffContext) -> i32 {
    let packet = context.as_ptr().cast::<aya_ebpf::bindings::__sk_buff>();
    let socket: *mut bpf_sock = field!(packet, __bindgen_anon_2.sk);
    if socket.is_null() {
        return PASS;
    }
    // SAFETY: the packet's socket, which isn't null.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    if socket.is_null() {
        return PASS;
    }
    let (kind, protocol, state) = (field!(socket, type_), field!(socket, protocol), field!(socket, state));
    let transport = transport(kind, protocol);
    let port = u16::from_be(field!(socket, dst_port)) as u32;
    let what = if protocol == IPPROTO_TCP && kind != SOCK_RAW {
        if state != SYN_SENT {
            return PASS;
        }
        asked(transport, Kind::NetworkConnect, Kind::NetworkConnect, port)
    } else {
        if state != ESTABLISHED || kind != SOCK_DGRAM && kind != SOCK_RAW {
            return PASS;
        }
        asked(transport, Kind::NetworkSend, Kind::NetworkConnect, port)
    };
    let denied = match field!(socket, family) {
        AF_INET => ask4(field!(socket, dst_ip4), what | PACKET, 0, true),
        AF_INET6 => ask6(words!(socket, dst_ip6), what | PACKET, 0, true),
        _ => 0,
    };
    if denied == 0 { PASS } else { REFUSE }
}

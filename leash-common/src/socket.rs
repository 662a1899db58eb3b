//! Names of sockets that are neither TCP, UDP nor Unix: `family/protocol`.
//!
//! The second part is the netlink protocol, the IP protocol, or for other families the socket's type. What has no name here is
//! called `other`, so every socket has a name that a policy can speak of.

use crate::kind::Protocol;

/// One half of a name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Bytes in use, at most [`MAX_PART`].
    pub len: u8,
    /// The name, padded.
    pub bytes: [u8; MAX_PART],
}

/// Bytes in the longest half of a name.
pub const MAX_PART: usize = 15;

/// `AF_UNIX`
pub const AF_UNIX: u32 = 1;
/// `AF_INET`
pub const AF_INET: u32 = 2;
/// `AF_INET6`
pub const AF_INET6: u32 = 10;
/// `AF_NETLINK`
pub const AF_NETLINK: u32 = 16;
/// `SOCK_STREAM`
pub const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`
pub const SOCK_DGRAM: u32 = 2;
/// `SOCK_RAW`
pub const SOCK_RAW: u32 = 3;

/// `IPPROTO_ICMP`
pub const IPPROTO_ICMP: u32 = 1;
/// `IPPROTO_TCP`
pub const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`
pub const IPPROTO_UDP: u32 = 17;
/// `IPPROTO_DCCP`
pub const IPPROTO_DCCP: u32 = 33;
/// `IPPROTO_ICMPV6`
pub const IPPROTO_ICMPV6: u32 = 58;
/// `IPPROTO_SCTP`
pub const IPPROTO_SCTP: u32 = 132;
/// `IPPROTO_UDPLITE`
pub const IPPROTO_UDPLITE: u32 = 136;
/// `IPPROTO_MPTCP`
pub const IPPROTO_MPTCP: u32 = 262;

/// The transport of an internet socket, by its type and IP protocol.
#[inline(always)]
pub const fn transport(kind: u32, protocol: u32) -> Protocol {
    if kind == SOCK_RAW {
        return Protocol::Raw;
    }
    match protocol {
        IPPROTO_TCP | IPPROTO_MPTCP => Protocol::Tcp,
        IPPROTO_UDP => Protocol::Udp,
        IPPROTO_ICMP => Protocol::Icmp,
        IPPROTO_ICMPV6 => Protocol::Icmpv6,
        IPPROTO_SCTP => Protocol::Sctp,
        IPPROTO_UDPLITE => Protocol::UdpLite,
        IPPROTO_DCCP => Protocol::Dccp,
        _ => Protocol::Other,
    }
}

/// Whether a socket is asked about by what is done with it, and not when it is made: TCP, UDP and Unix.
#[inline(always)]
pub const fn is_usual(family: u32, kind: u32, protocol: u32) -> bool {
    let transport = match kind {
        SOCK_STREAM => protocol == 0 || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP,
        SOCK_DGRAM => protocol == 0 || protocol == IPPROTO_UDP,
        _ => false,
    };
    family == AF_UNIX || transport && (family == AF_INET || family == AF_INET6)
}

/// A table of `N` names, a power of two, so that a mask bounds its index; what `words` doesn't fill is `other`.
const fn names<const N: usize>(words: &[&str]) -> [Name; N] {
    let mut names = [Name { len: 0, bytes: [0; MAX_PART] }; N];
    let mut i = 0;
    #[allow(clippy::indexing_slicing)] // evaluated by the compiler, where an index out of bounds is an error
    while i < N {
        let word = if i < words.len() { words[i].as_bytes() } else { b"other" };
        let mut j = 0;
        while j < word.len() {
            names[i].bytes[j] = word[j];
            j += 1;
        }
        names[i].len = word.len() as u8;
        i += 1;
    }
    names
}

/// Address families by number (`include/linux/socket.h`).
static FAMILIES: [Name; 64] = names(&[
    "unspec",
    "unix",
    "inet",
    "ax25",
    "ipx",
    "appletalk",
    "netrom",
    "bridge",
    "atmpvc",
    "x25",
    "inet6",
    "rose",
    "decnet",
    "netbeui",
    "security",
    "key",
    "netlink",
    "packet",
    "ash",
    "econet",
    "atmsvc",
    "rds",
    "sna",
    "irda",
    "pppox",
    "wanpipe",
    "llc",
    "ib",
    "mpls",
    "can",
    "tipc",
    "bluetooth",
    "iucv",
    "rxrpc",
    "isdn",
    "phonet",
    "ieee802154",
    "caif",
    "alg",
    "nfc",
    "vsock",
    "kcm",
    "qipcrtr",
    "smc",
    "xdp",
    "mctp",
]);

/// Netlink protocols by number (`include/uapi/linux/netlink.h`).
static NETLINK: [Name; 32] = names(&[
    "route",
    "other",
    "usersock",
    "firewall",
    "sock_diag",
    "nflog",
    "xfrm",
    "selinux",
    "iscsi",
    "audit",
    "fib_lookup",
    "connector",
    "netfilter",
    "ip6_fw",
    "dnrtmsg",
    "kobject_uevent",
    "generic",
    "other",
    "scsitransport",
    "ecryptfs",
    "rdma",
    "crypto",
    "smc",
]);

/// Socket types by number (`include/linux/net.h`).
static TYPES: [Name; 8] = names(&["other", "stream", "dgram", "raw", "rdm", "seqpacket", "dccp"]);

/// IP protocols, and the name of everything without one, by the numbers that [`ip`] gives them.
static OTHERS: [Name; 16] = names(&["other", "tcp", "udp", "raw", "icmp", "icmpv6", "sctp", "dccp", "udplite"]);

const fn ip(kind: u32, protocol: u32) -> u32 {
    match (kind, protocol) {
        (SOCK_RAW, _) => 3,
        (_, IPPROTO_ICMP) => 4,
        (_, IPPROTO_ICMPV6) => 5,
        (_, IPPROTO_SCTP) => 6,
        (_, IPPROTO_DCCP) => 7,
        (_, IPPROTO_UDPLITE) => 8,
        (_, IPPROTO_TCP) => 1,
        (_, IPPROTO_UDP) => 2,
        _ => 0,
    }
}

/// Entry `index` of a table, or its last one, which is `other`.
#[inline(always)]
fn entry<const N: usize>(table: &'static [Name; N], index: u32) -> &'static Name {
    let index = if index < N as u32 { index } else { N as u32 - 1 };
    // The kernel's verifier wants to see the mask that the compiler would leave out.
    let index = core::hint::black_box(index) as usize & (N - 1);
    // SAFETY: the mask bounds the index, `N` being a power of two. Slice indexing would compile to a panic branch, which the eBPF
    // target cannot express.
    unsafe { &*table.as_ptr().add(index) }
}

/// The two halves of the name of a socket that `socket(family, kind, protocol)` would make; `kind` without flags.
#[inline(always)]
pub fn name(family: u32, kind: u32, protocol: u32) -> (&'static Name, &'static Name) {
    let second = match family {
        AF_NETLINK => entry(&NETLINK, protocol),
        AF_INET | AF_INET6 => entry(&OTHERS, ip(kind, protocol)),
        _ => entry(&TYPES, kind),
    };
    (entry(&FAMILIES, family), second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(family: u32, kind: u32, protocol: u32) -> String {
        let part = |name: &Name| String::from_utf8(name.bytes[..name.len as usize].to_vec()).unwrap();
        let (first, second) = name(family, kind, protocol);
        format!("{}/{}", part(first), part(second))
    }

    #[test]
    fn sockets_have_the_names_that_policies_use() {
        for (socket, expected) in [
            ((16, 3, 0), "netlink/route"),
            ((16, 2, 22), "netlink/smc"),
            ((16, 3, 23), "netlink/other"),
            ((17, 3, 768), "packet/raw"),
            ((2, 2, 1), "inet/icmp"),
            ((10, 3, 58), "inet6/raw"),
            ((10, 5, 132), "inet6/sctp"),
            ((2, 1, 77), "inet/other"),
            ((40, 1, 0), "vsock/stream"),
            ((38, 5, 0), "alg/seqpacket"),
            ((44, 9, 0), "xdp/other"),
            ((46, 1, 0), "other/stream"),
        ] {
            let (family, kind, protocol) = socket;
            assert_eq!(text(family, kind, protocol), expected);
        }
    }
}

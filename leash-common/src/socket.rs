//! Names of sockets that are neither TCP, UDP nor Unix: `family/protocol`.
//!
//! The second part is the netlink protocol, the IP protocol, or for other families the socket's type. What has no name here is
//! called `other`, so every socket has a name that a policy can speak of.

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

const fn names<const N: usize>(words: [&str; N]) -> [Name; N] {
    let mut names = [Name { len: 0, bytes: [0; MAX_PART] }; N];
    let mut i = 0;
    #[allow(clippy::indexing_slicing)] // evaluated by the compiler, where an index out of bounds is an error
    while i < N {
        let word = words[i].as_bytes();
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

const FAMILY_COUNT: u32 = 46;
/// Address families by number (`include/linux/socket.h`).
static FAMILIES: [Name; 46] = names([
    "unspec", "unix", "inet", "ax25", "ipx", "appletalk", "netrom", "bridge", "atmpvc", "x25", "inet6", "rose", "decnet",
    "netbeui", "security", "key", "netlink", "packet", "ash", "econet", "atmsvc", "rds", "sna", "irda", "pppox", "wanpipe", "llc",
    "ib", "mpls", "can", "tipc", "bluetooth", "iucv", "rxrpc", "isdn", "phonet", "ieee802154", "caif", "alg", "nfc", "vsock",
    "kcm", "qipcrtr", "smc", "xdp", "mctp",
]);

const NETLINK_COUNT: u32 = 23;
/// Netlink protocols by number (`include/uapi/linux/netlink.h`).
static NETLINK: [Name; 23] = names([
    "route", "other", "usersock", "firewall", "sock_diag", "nflog", "xfrm", "selinux", "iscsi", "audit", "fib_lookup",
    "connector", "netfilter", "ip6_fw", "dnrtmsg", "kobject_uevent", "generic", "other", "scsitransport", "ecryptfs", "rdma",
    "crypto", "smc",
]);

const TYPE_COUNT: u32 = 7;
/// Socket types by number (`include/linux/net.h`).
static TYPES: [Name; 7] = names(["other", "stream", "dgram", "raw", "rdm", "seqpacket", "dccp"]);

/// IP protocols, and the name of everything without one, by the numbers that [`ip`] gives them.
static OTHERS: [Name; 9] = names(["other", "tcp", "udp", "raw", "icmp", "icmpv6", "sctp", "dccp", "udplite"]);

const fn ip(kind: u32, protocol: u32) -> usize {
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

#[inline(always)]
fn entry(table: &'static [Name], index: usize) -> &'static Name {
    // SAFETY: every caller compares the index with the table's length first. Slice indexing would compile to a panic branch,
    // which the eBPF target cannot express.
    unsafe { &*table.as_ptr().add(index) }
}

/// The two halves of the name of a socket that `socket(family, kind, protocol)` would make; `kind` without flags.
#[inline(always)]
pub fn name(family: u32, kind: u32, protocol: u32) -> (&'static Name, &'static Name) {
    let first = if family < FAMILY_COUNT { entry(&FAMILIES, family as usize) } else { entry(&OTHERS, 0) };
    let second = match family {
        AF_NETLINK if protocol < NETLINK_COUNT => entry(&NETLINK, protocol as usize),
        AF_NETLINK => entry(&OTHERS, 0),
        AF_INET | AF_INET6 => entry(&OTHERS, ip(kind, protocol)),
        _ if kind < TYPE_COUNT => entry(&TYPES, kind as usize),
        _ => entry(&OTHERS, 0),
    };
    (first, second)
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

//! Source routes: options that send a packet to another address than the one that it is addressed to. The hooks see only the latter,
//! so whoever names a route would reach any address; nobody needs to.

use crate::kernel::{member, read};

const IPPROTO_IP: u32 = 0;
const IPPROTO_IPV6: u32 = 41;
/// `include/uapi/linux/in.h`: as an option of a socket, and as control data of a message.
const IP_OPTIONS: u32 = 4;
const IP_RETOPTS: u32 = 7;
/// `include/uapi/linux/in6.h`, `ipv6.h`. A flow label carries options of its own.
const IPV6_2292RTHDR: u32 = 5;
const IPV6_2292PKTOPTIONS: u32 = 6;
const IPV6_FLOWLABEL_MGR: u32 = 32;
const IPV6_RTHDR: u32 = 57;
/// Pieces of control data that are looked at; with more, a message counts as one with a route.
const MAX_CONTROLS: u32 = 16;
/// `sizeof(struct cmsghdr)`
const HEADER: u64 = 16;

/// `struct cmsghdr`
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    length: u64,
    level: u32,
    kind: u32,
}

/// Whether this option of a socket can name a route.
#[inline(always)]
pub fn is_option(level: u32, option: u32) -> bool {
    level == IPPROTO_IP && option == IP_OPTIONS
        || level == IPPROTO_IPV6 && (option == IPV6_RTHDR || option == IPV6_2292PKTOPTIONS || option == IPV6_FLOWLABEL_MGR)
}

/// Whether a `struct msghdr` has control data that can name a route. By now the kernel has its own copy of it.
#[inline(always)]
pub fn is_in(message: u64) -> bool {
    let mut rest: u64 = read(member!(message, msg_controllen));
    if rest == 0 {
        return false;
    }
    let mut at: u64 = read(member!(message, msg_control));
    for _ in 0..MAX_CONTROLS {
        if rest < HEADER {
            return false;
        }
        let Control { length, level, kind } = read(at);
        if length < HEADER || length > rest {
            // The kernel refuses it.
            return false;
        }
        if level == IPPROTO_IP && kind == IP_RETOPTS || level == IPPROTO_IPV6 && (kind == IPV6_RTHDR || kind == IPV6_2292RTHDR) {
            return true;
        }
        let step = (length + 7) & !7;
        if step >= rest {
            return false;
        }
        rest -= step;
        at = at.wrapping_add(step);
    }
    true
}

//! Unix sockets: connecting and sending, by the name that the other side is bound to.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use leash_common::event::Cause;
use leash_common::kind::Kind;
use leash_common::table::MAX_PATH_BYTES;

use crate::decide::judge;
use crate::kernel::{argument, bound, copy, member, read};
use crate::scratch::{Claim, claim, none_left, verdict};
use crate::session::governed;
use crate::walk::{PATH_MASK, leash_walk};

/// `sizeof(struct sockaddr_un)`, and where its name starts.
const MAX_ADDRESS: u32 = 110;
const NAME_AT: u32 = 2;

/// Puts `@name` of an abstract address into area 0. A name with a zero byte in it has no Cedar value.
#[inline(always)]
pub fn abstract_name(claim: &Claim, address: u64, address_len: u32) {
    // SAFETY: the slot is claimed; the length is bounded before the copy.
    unsafe {
        let scratch = claim.memory;
        (*scratch).cause[0] = Cause::UnknownAddress as u32;
        if address_len < NAME_AT || address_len > MAX_ADDRESS {
            return;
        }
        // The name with the zero byte that marks it as abstract, where `@` is written.
        let length = address_len - NAME_AT;
        let start = MAX_PATH_BYTES as u32 - length;
        let base = (&raw mut (*scratch).area).cast::<leash_common::session::Area>();
        let path = (&raw mut (*base).path).cast::<u8>();
        if length == 0 {
            path.add(MAX_PATH_BYTES - 1).write(b'@');
            (*scratch).start[0] = MAX_PATH_BYTES as u32 - 1;
            (*scratch).cause[0] = 0;
            return;
        }
        let at = bound::<PATH_MASK>(start);
        if !copy(path.add(at), bound::<127>(length), address.wrapping_add(NAME_AT as u64)) {
            return;
        }
        path.add(at).write(b'@');
        for back in 1..=(MAX_ADDRESS - NAME_AT) as usize {
            if back as u32 > length {
                break;
            }
            if path.add(MAX_PATH_BYTES - back).read() == 0 {
                return;
            }
        }
        (*scratch).start[0] = start;
        (*scratch).cause[0] = 0;
    }
}

/// Asks `kind` of the name that `other`, a `struct sock`, is bound to. A socket without a name was handed over, not found.
#[inline(always)]
fn ask_bound(slot: u32, other: u64, kind: Kind) -> i32 {
    let address: u64 = read(member!(other, unix_addr));
    if address == 0 {
        return 0;
    }
    let Some(claim) = claim(slot) else { return none_left(slot, kind.bit()) };
    let dentry: u64 = read(member!(other, unix_dentry));
    if dentry != 0 {
        // Bound through the binder's mount, which may not be one of the session's.
        claim.object(0, 0, dentry);
        leash_walk(claim.index, 0);
    } else {
        let length: u32 = read(member!(address, unix_address_len));
        abstract_name(&claim, member!(address, unix_address_name), length);
    }
    let denied = judge(&claim, kind.bit());
    claim.release();
    verdict(denied)
}

/// `LSM_HOOK(int, 0, unix_stream_connect, struct sock *sock, struct sock *other, struct sock *newsk)`
#[lsm(hook = "unix_stream_connect")]
pub fn unix_stream_connect(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    ask_bound(slot, argument(&context, 1), Kind::UnixConnect)
}

/// `LSM_HOOK(int, 0, unix_may_send, struct socket *sock, struct socket *other)`
#[lsm(hook = "unix_may_send")]
pub fn unix_may_send(context: LsmContext) -> i32 {
    let Some(slot) = governed() else { return 0 };
    let other = argument(&context, 1);
    ask_bound(slot, read(member!(other, socket_sk)), Kind::UnixSend)
}

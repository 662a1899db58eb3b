//! Sockets: every way to name a peer and to reach it.

use crate::files::os;
use crate::script::{Context, Words};
use crate::sys::{Answer, Fail, call};
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::net::{Ipv4Addr, SocketAddrV6};

pub(crate) fn operate(operation: &str, w: &Words, context: &mut Context) -> Option<Answer> {
    Some(match operation {
        "socket" => call(libc::SYS_socket, [family(w.text(0)).into(), w.int(1).into(), w.int(2).into()]),
        // `pair FAMILY TYPE PROTOCOL`
        "pair" => {
            let mut pair = [0i32; 2];
            let (family, kind, protocol) = (family(w.text(0)), w.int(1) as i32, w.int(2) as i32);
            // SAFETY: the array has room for both descriptors.
            nix::errno::Errno::result(unsafe { libc::socketpair(family as i32, kind, protocol, pair.as_mut_ptr()) })
                .map(|_| pair[0].into())
                .map_err(Fail::from)
        }
        "connect" => with_address(libc::SYS_connect, w),
        "bind" => with_address(libc::SYS_bind, w),
        "listen" => call(libc::SYS_listen, [w.int(0).into(), 8.into()]),
        "accept" => call(libc::SYS_accept4, [w.int(0).into(), 0.into(), 0.into(), 0.into()]),
        "reuse" => {
            let one = 1i32.to_ne_bytes();
            let (level, name) = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
            call(libc::SYS_setsockopt, [w.int(0).into(), level.into(), name.into(), one.as_slice().into(), 4.into()])
        }
        // `option FD LEVEL NAME BYTES`
        "option" => {
            let value = w.bytes(3);
            let (level, name, length) = (w.int(1).into(), w.int(2).into(), (value.len() as i64).into());
            call(libc::SYS_setsockopt, [w.int(0).into(), level, name, value.into(), length])
        }
        // `send FD TEXT FLAGS`
        "send" => send_to(w.int(0), w.bytes(1), &[], w.int(2)),
        // `sendto FD ADDRESS TEXT FLAGS`
        "sendto" => send_to(w.int(0), w.bytes(2), &address(w.bytes(1)), w.int(3)),
        "sendmsg" => send_message(w, false),
        "sendmmsg" => send_message(w, true),
        // `sendmsg-control FD ADDRESS TEXT 0 LEVEL TYPE BYTES`, and by `sendmmsg`
        "sendmsg-control" => send_message(w, false),
        "sendmmsg-control" => send_message(w, true),
        "receive" => receive(w.int(0), context),
        "receive-fd" => receive_descriptor(w.int(0)),
        _ => return None,
    })
}

fn family(name: &str) -> i64 {
    i64::from(match name {
        "inet" => libc::AF_INET,
        "inet6" => libc::AF_INET6,
        "unix" => libc::AF_UNIX,
        "netlink" => libc::AF_NETLINK,
        "packet" => libc::AF_PACKET,
        "vsock" => libc::AF_VSOCK,
        "alg" => libc::AF_ALG,
        "key" => libc::AF_KEY,
        "rds" => libc::AF_RDS,
        "tipc" => libc::AF_TIPC,
        "bluetooth" => libc::AF_BLUETOOTH,
        "can" => libc::AF_CAN,
        "xdp" => libc::AF_XDP,
        "ax25" => libc::AF_AX25,
        "x25" => libc::AF_X25,
        "appletalk" => libc::AF_APPLETALK,
        "ipx" => libc::AF_IPX,
        "kcm" => 41,
        "smc" => 43,
        other => other.parse().unwrap_or_else(|_| panic!("no socket family `{other}`")),
    })
}

/// A `sockaddr` as bytes: `in:1.2.3.4:80`, `in6:[::1]:80`, `unspec:1.2.3.4:80` (IPv4 bytes under family 0), `un:/path`, `un:@name`,
/// `vm:cid:port`, `nl:groups`.
fn address(text: &[u8]) -> Vec<u8> {
    let colon = text.iter().position(|&byte| byte == b':').expect("family:address");
    let (kind, rest) = (&text[..colon], &text[colon + 1..]);
    let words = || std::str::from_utf8(rest).expect("an address in text");
    let mut out = Vec::new();
    match kind {
        b"in" | b"unspec" => {
            let (ip, port) = words().rsplit_once(':').expect("ip:port");
            let family = if kind == b"in" { libc::AF_INET } else { libc::AF_UNSPEC };
            out.extend_from_slice(&(family as u16).to_ne_bytes());
            out.extend_from_slice(&port.parse::<u16>().expect("port").to_be_bytes());
            out.extend_from_slice(&ip.parse::<Ipv4Addr>().expect("IPv4 address").octets());
            out.extend_from_slice(&[0; 8]);
        }
        b"in6" => {
            let peer: SocketAddrV6 = words().parse().expect("IPv6 address and port");
            out.extend_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            out.extend_from_slice(&peer.port().to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&peer.ip().octets());
            out.extend_from_slice(&peer.scope_id().to_ne_bytes());
        }
        b"un" => {
            out.extend_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
            match rest.strip_prefix(b"@") {
                Some(name) => {
                    out.push(0);
                    out.extend_from_slice(name);
                }
                None => {
                    out.extend_from_slice(rest);
                    out.push(0);
                }
            }
        }
        b"vm" => {
            let (cid, port) = words().split_once(':').expect("cid:port");
            out.extend_from_slice(&(libc::AF_VSOCK as u16).to_ne_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&port.parse::<u32>().expect("port").to_ne_bytes());
            out.extend_from_slice(&cid.parse::<u32>().expect("cid").to_ne_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        b"nl" => {
            out.extend_from_slice(&(libc::AF_NETLINK as u16).to_ne_bytes());
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&words().parse::<u32>().expect("groups").to_ne_bytes());
        }
        other => panic!("no address form `{}`", os(other).display()),
    }
    out
}

fn with_address(number: libc::c_long, w: &Words) -> Answer {
    let address = address(w.bytes(1));
    call(number, [w.int(0).into(), address.as_slice().into(), (address.len() as i64).into()])
}

fn send_to(fd: i64, text: &[u8], address: &[u8], flags: i64) -> Answer {
    let text_length = text.len() as i64;
    if address.is_empty() {
        return call(libc::SYS_sendto, [fd.into(), text.into(), text_length.into(), flags.into(), 0.into(), 0.into()]);
    }
    let length = address.len() as i64;
    call(libc::SYS_sendto, [fd.into(), text.into(), text_length.into(), flags.into(), address.into(), length.into()])
}

/// `sendmsg FD ADDRESS TEXT [FLAGS [LEVEL TYPE BYTES]]`, the last three control data; by `sendmmsg` where `many`. No address is `''`.
fn send_message(w: &Words, many: bool) -> Answer {
    let mut address = if w.bytes(1).is_empty() { Vec::new() } else { address(w.bytes(1)) };
    let mut control = control(w);
    let mut text = w.bytes(2).to_vec();
    let mut vector = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    // SAFETY: all-zero is a valid `mmsghdr`: no name, no vectors, no control data.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    if !address.is_empty() {
        message.msg_hdr.msg_name = address.as_mut_ptr().cast();
        message.msg_hdr.msg_namelen = address.len() as u32;
    }
    if !control.is_empty() {
        message.msg_hdr.msg_control = control.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = control.len();
    }
    message.msg_hdr.msg_iov = &raw mut vector;
    message.msg_hdr.msg_iovlen = 1;
    let (fd, flags) = (w.int(0) as i32, w.int(3) as i32);
    // SAFETY: the message points at `address`, `control`, `vector` and `text`, which live until after the call.
    let answer = unsafe {
        if many {
            libc::sendmmsg(fd, &raw mut message, 1, flags) as isize
        } else {
            libc::sendmsg(fd, &raw const message.msg_hdr, flags)
        }
    };
    if answer < 0 { Err(Fail::last()) } else { Ok(answer as i64) }
}

/// One `cmsghdr` with its data, padded, from words 4 to 6; nothing where there are none.
fn control(w: &Words) -> Vec<u8> {
    let data = w.bytes(6);
    let mut out = Vec::new();
    if !data.is_empty() {
        out.extend_from_slice(&(16 + data.len() as u64).to_ne_bytes());
        out.extend_from_slice(&(w.int(4) as i32).to_ne_bytes());
        out.extend_from_slice(&(w.int(5) as i32).to_ne_bytes());
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

fn receive(fd: i64, context: &mut Context) -> Answer {
    let mut buffer = [0u8; 4096];
    let count = call(libc::SYS_recvfrom, [fd.into(), buffer.as_mut_slice().into(), 4096.into(), 0.into(), 0.into(), 0.into()])?;
    context.data.extend_from_slice(&buffer[..count as usize]);
    Ok(count)
}

/// The descriptor that the peer sends (`SCM_RIGHTS`).
fn receive_descriptor(fd: i64) -> Answer {
    let mut buffer = [0u8; 16];
    let mut vectors = [std::io::IoSliceMut::new(&mut buffer)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let message = recvmsg::<()>(fd as i32, &mut vectors, Some(&mut space), MsgFlags::empty())?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control
            && let Some(&descriptor) = received.first()
        {
            return Ok(i64::from(descriptor));
        }
    }
    Err(Fail { errno: libc::EACCES, note: "no descriptor arrived".to_owned() })
}

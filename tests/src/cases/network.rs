//! Sockets: every way to name a peer, and every kind of socket.

use super::{always, policy};
use crate::case::Case;

/// Ways to reach an address that may not be reached.
#[rustfmt::skip] // a table, one case a line
pub const ADDRESSES: &[Case] = &[
    policy(27, "tcp4", "", "s = socket inet SOCK_STREAM; connect $s in:{4}:{PORT}", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
    policy(27, "tcp6", "", "s = socket inet6 SOCK_STREAM; connect $s in6:[{6}]:{PORT}", "NetworkConnect", "[{6}]:{PORT}/tcp", "no-net"),
    policy(27, "tcp-mapped", "", "s = socket inet6 SOCK_STREAM; connect $s in6:[::ffff:{4}]:{PORT}", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
    policy(27, "mptcp", "", "s = socket inet SOCK_STREAM IPPROTO_MPTCP; connect $s in:{4}:{PORT}", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
    policy(27, "udp4", "", "s = socket inet SOCK_DGRAM; connect $s in:{4}:{PORT}; send $s hi", "NetworkConnect", "{4}:{PORT}/udp", "no-net"),
    policy(27, "udp6", "", "s = socket inet6 SOCK_DGRAM; connect $s in6:[{6}]:{PORT}; send $s hi", "NetworkConnect", "[{6}]:{PORT}/udp", "no-net"),
    policy(27, "udp-mapped", "", "s = socket inet6 SOCK_DGRAM; connect $s in6:[::ffff:{4}]:{PORT}; send $s hi", "NetworkConnect", "{4}:{PORT}/udp", "no-net"),
    policy(27, "udp6-in-4", "", "s = socket inet6 SOCK_DGRAM; connect $s in:{4}:{PORT}; send $s hi", "NetworkConnect", "{4}:{PORT}/udp", "no-net"),
    policy(27, "sendto4", "", "s = socket inet SOCK_DGRAM; sendto $s in:{4}:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    policy(27, "sendto6", "", "s = socket inet6 SOCK_DGRAM; sendto $s in6:[{6}]:{PORT} hi", "NetworkSend", "[{6}]:{PORT}/udp", "no-net"),
    policy(27, "sendto-mapped", "", "s = socket inet6 SOCK_DGRAM; sendto $s in6:[::ffff:{4}]:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    policy(27, "sendto6-in-4", "", "s = socket inet6 SOCK_DGRAM; sendto $s in:{4}:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    policy(27, "sendto-no-family", "", "s = socket inet SOCK_DGRAM; sendto $s unspec:{4}:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    policy(27, "sendmsg4", "", "s = socket inet SOCK_DGRAM; sendmsg $s in:{4}:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    policy(27, "sendmsg6", "", "s = socket inet6 SOCK_DGRAM; sendmsg $s in6:[{6}]:{PORT} hi", "NetworkSend", "[{6}]:{PORT}/udp", "no-net"),
    policy(27, "sendmmsg4", "", "s = socket inet SOCK_DGRAM; sendmmsg $s in:{4}:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    policy(27, "sendmmsg-mapped", "", "s = socket inet6 SOCK_DGRAM; sendmmsg $s in6:[::ffff:{4}]:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    policy(27, "fast-open", "", "s = socket inet SOCK_STREAM; sendto $s in:{4}:{PORT} hi MSG_FASTOPEN", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
    policy(27, "fast-open6", "", "s = socket inet6 SOCK_STREAM; sendmsg $s in6:[{6}]:{PORT} hi MSG_FASTOPEN", "NetworkConnect", "[{6}]:{PORT}/tcp", "no-net"),
    policy(27, "fast-open-mapped", "", "s = socket inet6 SOCK_STREAM; sendmmsg $s in6:[::ffff:{4}]:{PORT} hi MSG_FASTOPEN", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
    policy(27, "send-elsewhere", "", "s = socket inet SOCK_DGRAM; connect $s in:127.0.0.1:{PORT}; sendto $s in:{4}:{PORT} hi", "NetworkSend", "{4}:{PORT}/udp", "no-net"),
    policy(
        27,
        "connect-twice",
        "",
        "s = socket inet SOCK_DGRAM; connect $s in:127.0.0.1:{PORT}; connect $s unspec:0.0.0.0:0; connect $s in:{4}:{PORT}; send $s hi",
        "NetworkConnect",
        "{4}:{PORT}/udp",
        "no-net",
    ),
    policy(27, "any4-is-loopback", "", "s = socket inet SOCK_STREAM; connect $s in:0.0.0.0:{P}", "NetworkConnect", "127.0.0.1:{P}/tcp", "no-loopback"),
    policy(27, "any6-is-loopback", "", "s = socket inet6 SOCK_STREAM; connect $s in6:[::]:{P}", "NetworkConnect", "[::1]:{P}/tcp", "no-loopback"),
    policy(27, "any-mapped-is-loopback", "", "s = socket inet6 SOCK_STREAM; connect $s in6:[::ffff:0.0.0.0]:{P}", "NetworkConnect", "127.0.0.1:{P}/tcp", "no-loopback"),
    always(27, "any6-bound-to-4", "", "s = socket inet6 SOCK_STREAM; bind $s in6:[::ffff:127.0.0.1]:0; connect $s in6:[::]:{PORT}", "NetworkConnect", "*", NO_FORM),
    always(27, "any4-bound", "", "s = socket inet SOCK_STREAM; bind $s in:127.0.0.1:0; connect $s in:0.0.0.0:{PORT}", "NetworkConnect", "*", NO_FORM),
    always(27, "any-mapped-bound", "", "s = socket inet6 SOCK_DGRAM; bind $s in6:[::ffff:127.0.0.1]:0; sendto $s in6:[::ffff:0.0.0.0]:{PORT} hi", "NetworkSend", "*", NO_FORM),
    always(27, "any4-with-a-source", "", "s = socket inet SOCK_DGRAM; sendmsg-control $s in:0.0.0.0:{PORT} hi 0 0 8 {SOURCE4}", "NetworkSend", "*", NO_FORM),
    policy(27, "sendto-any4", "", "s = socket inet SOCK_DGRAM; sendto $s in:0.0.0.0:{P} hi", "NetworkSend", "127.0.0.1:{P}/udp", "no-loopback"),
    policy(27, "sendto-any6", "", "s = socket inet6 SOCK_DGRAM; sendto $s in6:[::]:{P} hi", "NetworkSend", "[::1]:{P}/udp", "no-loopback"),
    policy(29, "bind4", "", "s = socket inet SOCK_STREAM; bind $s in:{4}:0; listen $s", "NetworkListen", "{4}:0/tcp", "no-net"),
    policy(29, "bind6", "", "s = socket inet6 SOCK_STREAM; bind $s in6:[{6}]:0; listen $s", "NetworkListen", "[{6}]:0/tcp", "no-net"),
    policy(29, "bind-mapped", "", "s = socket inet6 SOCK_STREAM; bind $s in6:[::ffff:{4}]:0; listen $s", "NetworkListen", "{4}:0/tcp", "no-net"),
    policy(29, "bind-udp", "", "s = socket inet SOCK_DGRAM; bind $s in:{4}:0", "NetworkListen", "{4}:0/udp", "no-net"),
    policy(
        29,
        "accept",
        "",
        "l = socket inet SOCK_STREAM; reuse $l; bind $l in:{4}:7080; listen $l; c = socket inet SOCK_STREAM; connect $c in:{4}:7080; accept $l",
        "NetworkListen",
        "{4}:7080/tcp",
        "no-net",
    ),
    always(29, "listen-unbound", "", "s = socket inet SOCK_STREAM; listen $s", "NetworkListen", "0.0.0.0:0/tcp", "nobody listens"),
    always(29, "listen-unbound6", "", "s = socket inet6 SOCK_STREAM; listen $s", "NetworkListen", "[::]:0/tcp", "nobody listens"),
    always(29, "bind-no-family", "", "s = socket inet SOCK_STREAM; bind $s unspec:0.0.0.0:0", "NetworkListen", "0.0.0.0:0/tcp", "nobody listens"),
    policy(30, "dev-tcp", "", "exec /bin/bash -c echo%20hi>/dev/tcp/{4}/{PORT}", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
    policy(30, "dev-udp", "", "exec /bin/bash -c echo%20hi>/dev/udp/{4}/{PORT}", "NetworkConnect", "{4}:{PORT}/udp", "no-net"),
    policy(30, "without-proxy", "", "exec /usr/bin/env -u HTTPS_PROXY /bin/bash -c echo%20hi>/dev/tcp/{4}/{PORT}", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
    policy(30, "decimal", "", "exec /bin/bash -c echo%20hi>/dev/tcp/{4DECIMAL}/{PORT}", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
    policy(30, "hexadecimal", "", "exec /bin/bash -c echo%20hi>/dev/tcp/{4HEX}/{PORT}", "NetworkConnect", "{4}:{PORT}/tcp", "no-net"),
];

/// Routes that lead packets to an address that may not be reached, while the address that is named may. Where the kernel keeps its
/// numbers: `IP_OPTIONS` 4, `IP_RETOPTS` 7; `IPV6_2292RTHDR` 5, `IPV6_2292PKTOPTIONS` 6, `IPV6_FLOWLABEL_MGR` 32, `IPV6_RTHDR` 57.
#[rustfmt::skip] // a table, one case a line
pub const ROUTES: &[Case] = &[
    always(27, "route4", "", "s = socket inet SOCK_DGRAM; option $s 0 4 {ROUTE4}; sendto $s in:10.99.0.1:{PORT} hi", "NetworkConnect", "*", NO_FORM),
    always(27, "route4-strict", "", "s = socket inet SOCK_DGRAM; option $s 0 4 {STRICT4}; connect $s in:10.99.0.1:{PORT}; send $s hi", "NetworkConnect", "*", NO_FORM),
    always(27, "route4-tcp", "", "s = socket inet SOCK_STREAM; option $s 0 4 {ROUTE4}", "NetworkConnect", "*", NO_FORM),
    always(27, "route4-late", "", "s = socket inet SOCK_DGRAM; connect $s in:10.99.0.1:{PORT}; option $s 0 4 {ROUTE4}; send $s hi", "NetworkConnect", "*", NO_FORM),
    always(27, "route4-message", "", "s = socket inet SOCK_DGRAM; sendmsg-control $s in:10.99.0.1:{PORT} hi 0 0 7 {ROUTE4}", "NetworkConnect", "*", NO_FORM),
    always(27, "route4-messages", "", "s = socket inet SOCK_DGRAM; connect $s in:10.99.0.1:{PORT}; sendmmsg-control $s '' hi 0 0 7 {ROUTE4}", "NetworkConnect", "*", NO_FORM),
    always(27, "route6", "", "s = socket inet6 SOCK_DGRAM; option $s 41 57 {ROUTE6}; sendto $s in6:[fd99::1]:{PORT} hi", "NetworkConnect", "*", NO_FORM),
    always(27, "route6-tcp", "", "s = socket inet6 SOCK_STREAM; option $s 41 57 {ROUTE6}", "NetworkConnect", "*", NO_FORM),
    always(27, "flow-label6", "", "s = socket inet6 SOCK_DGRAM; option $s 41 32 {FLOW6}", "NetworkConnect", "*", NO_FORM),
    always(27, "route6-message", "", "s = socket inet6 SOCK_DGRAM; sendmsg-control $s in6:[fd99::1]:{PORT} hi 0 41 57 {HOME6}", "NetworkConnect", "*", NO_FORM),
    always(27, "route6-old-message", "", "s = socket inet6 SOCK_DGRAM; sendmsg-control $s in6:[fd99::1]:{PORT} hi 0 41 5 {HOME6}", "NetworkConnect", "*", NO_FORM),
];
const NO_FORM: &str = "a form that no policy can speak of";

/// Kinds of sockets that policies speak of by family and protocol.
#[rustfmt::skip] // a table, one case a line
pub const FAMILIES: &[Case] = &[
    policy(28, "netlink", "", "socket netlink SOCK_RAW {NETLINK}", "SocketCreate", "netlink/{NETLINK_NAME}", "no-sockets"),
    always(28, "netlink-audit", "", "socket netlink SOCK_RAW NETLINK_AUDIT", "SocketCreate", "netlink/audit", "only usual"),
    always(28, "packet-raw", "", "socket packet SOCK_RAW 768", "SocketCreate", "packet/raw", "only usual"),
    always(28, "packet-dgram", "", "socket packet SOCK_DGRAM 8", "SocketCreate", "packet/dgram", "only usual"),
    always(28, "raw4", "", "socket inet SOCK_RAW IPPROTO_ICMP", "SocketCreate", "inet/raw", "only usual"),
    always(28, "raw-any", "", "socket inet SOCK_RAW IPPROTO_RAW", "SocketCreate", "inet/raw", "only usual"),
    always(28, "raw-tcp", "", "socket inet SOCK_RAW IPPROTO_TCP", "SocketCreate", "inet/raw", "only usual"),
    always(28, "raw6", "", "socket inet6 SOCK_RAW IPPROTO_ICMPV6", "SocketCreate", "inet6/raw", "only usual"),
    always(28, "ping", "", "socket inet SOCK_DGRAM IPPROTO_ICMP", "SocketCreate", "inet/icmp", "only usual"),
    always(28, "ping6", "", "socket inet6 SOCK_DGRAM IPPROTO_ICMPV6", "SocketCreate", "inet6/icmpv6", "only usual"),
];

/// Unix sockets.
#[rustfmt::skip] // a table, one case a line
pub const UNIX: &[Case] = &[
    policy(27, "unix-stream", "", "s = socket unix SOCK_STREAM; connect $s un:{S}/stream", "NetworkConnect", "{S}/stream", "no-unix"),
    policy(27, "unix-root", "", "s = socket unix SOCK_STREAM; connect $s un:/proc/self/root{S}/stream", "NetworkConnect", "{S}/stream", "no-unix"),
    policy(27, "unix-symlink", "", "symlink {S}/stream {W}/s; s = socket unix SOCK_STREAM; connect $s un:{W}/s", "NetworkConnect", "{S}/stream", "no-unix"),
    policy(27, "unix-relative", "", "chdir {S}; s = socket unix SOCK_STREAM; connect $s un:stream", "NetworkConnect", "{S}/stream", "no-unix"),
    policy(27, "unix-dgram", "", "s = socket unix SOCK_DGRAM; sendto $s un:{S}/dgram hi", "NetworkSend", "{S}/dgram", "no-unix"),
    policy(27, "unix-dgram-message", "", "s = socket unix SOCK_DGRAM; sendmsg $s un:{S}/dgram hi", "NetworkSend", "{S}/dgram", "no-unix"),
    policy(27, "unix-dgram-connected", "", "s = socket unix SOCK_DGRAM; connect $s un:{S}/dgram; send $s hi", "NetworkSend", "{S}/dgram", "no-unix"),
    policy(27, "unix-abstract", "", "s = socket unix SOCK_STREAM; connect $s un:@{SIDE}-peer", "NetworkConnect", "@{SIDE}-peer", "no-unix"),
    policy(27, "unix-link", "", "? unlink {W}/s; link {S}/stream {W}/s; s = socket unix SOCK_STREAM; connect $s un:{W}/s", "FileLink", "{S}/stream", "no-files"),
    policy(29, "unix-bind", "", "s = socket unix SOCK_STREAM; bind $s un:{D}/sock; listen $s", "NetworkListen", "{D}/sock", "no-unix"),
    policy(29, "unix-bind-relative", "", "chdir {D}; s = socket unix SOCK_DGRAM; bind $s un:sock", "NetworkListen", "{D}/sock", "no-unix"),
    policy(29, "unix-bind-abstract", "", "s = socket unix SOCK_STREAM; bind $s un:@{SIDE}-mine; listen $s", "NetworkListen", "@{SIDE}-mine", "no-unix"),
];

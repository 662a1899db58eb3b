//! The ground that the suites stand on: a file system of their own at `/w`, and addresses of their own on loopback.
//!
//! Everything lives in the machine that the suite runs in, which is thrown away. The file system is a tmpfs: it has unnamed
//! files, whiteouts, file handles and access control lists on every kernel, which an overlay has not.

use crate::attempt::{Attempt, Outcome};
use crate::user;
use nix::sys::socket::UnixAddr;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

/// Root of everything that the suites make.
pub const ROOT: &str = "/w";
/// Where policies and logs lie: outside of what sessions may write.
pub const ASIDE: &str = "/var/tmp/leash-tests";
/// The attempt program's path inside and outside of sessions.
pub const ATTEMPT: &str = "/w/bin/attempt";
/// The address that the suites' policies permit.
pub const IPV4_OK: &str = "10.99.0.1";
/// The address that they deny.
pub const IPV4_DENIED: &str = "10.99.0.2";
/// The same for IPv6.
pub const IPV6_OK: &str = "fd99::1";
/// The same for IPv6.
pub const IPV6_DENIED: &str = "fd99::2";
/// The port on which something listens on all of them.
pub const PORT: u16 = 7099;
/// The port on which something listens on loopback, where the suites' policies deny it.
pub const PORT_DENIED: u16 = 7098;

static READY: Once = Once::new();

/// Makes the ground ready, once in a process; earlier suites may have done so in this machine.
pub fn ready() {
    READY.call_once(|| {
        let kernel = kernel();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(
            release.starts_with(&format!("{kernel}.")) || release.starts_with(&format!("{kernel}-")),
            "{release} is not {kernel}"
        );
        fs::create_dir_all(ROOT).unwrap();
        let mounted = fs::read_to_string("/proc/self/mounts").unwrap().lines().any(|line| line.contains(" /w tmpfs "));
        if !mounted {
            let options = Some("mode=755,size=1g");
            nix::mount::mount(Some("tmpfs"), ROOT, Some("tmpfs"), nix::mount::MsFlags::empty(), options).expect("mount tmpfs");
        }
        fs::create_dir_all("/w/bin").unwrap();
        fs::create_dir_all(ASIDE).unwrap();
        fs::copy(built_attempt(), ATTEMPT).expect("install the attempt program");
        for address in [IPV4_OK, IPV4_DENIED] {
            run("ip", &["addr", "replace", &format!("{address}/32"), "dev", "lo"]);
        }
        for address in [IPV6_OK, IPV6_DENIED] {
            run("ip", &["addr", "replace", &format!("{address}/128"), "dev", "lo", "nodad"]);
        }
        run("ip", &["link", "set", "lo", "up"]);
        // The kernel makes a new address's route in its own time.
        for address in [IPV6_OK, IPV6_DENIED] {
            await_some("the route to an address", || UdpSocket::bind("[::]:0").ok()?.connect((address, PORT)).ok());
        }
        // Echo requests without a raw socket are a way out too, where the system allows them.
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
    });
}

/// The attempt program beside this test program, as cargo builds it.
fn built_attempt() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let built = this.parent().and_then(Path::parent).unwrap().join("leash-attempt");
    assert!(built.is_file(), "`{}` is missing: build the binaries of leash-tests", built.display());
    built
}

/// Runs a program of the system, which has to succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("start `{program}`: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Performs attempts without Leash, in order.
pub fn ungoverned(attempts: &[Attempt]) -> Vec<Outcome> {
    let file = write_attempts(attempts);
    user::hand_over(ROOT);
    let mut program = Command::new(ATTEMPT);
    user::act(&mut program);
    let output = program.arg("batch").arg(&file).stdin(Stdio::null()).current_dir(ROOT).output();
    let output = output.expect("start the attempt program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    outcomes(&output.stdout)
}

/// Writes a batch and returns its path.
pub fn write_attempts(attempts: &[Attempt]) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(ROOT).join(format!("batch-{}-{number}.jsonl", std::process::id()));
    let mut file = fs::File::create(&path).unwrap();
    for attempt in attempts {
        writeln!(file, "{}", serde_json::to_string(attempt).unwrap()).unwrap();
    }
    path
}

/// The outcomes among the lines of an attempt program's output.
pub fn outcomes(stdout: &[u8]) -> Vec<Outcome> {
    String::from_utf8_lossy(stdout)
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("`{line}`: {error}")))
        .collect()
}

/// Removes what may be there and makes a directory.
pub fn fresh(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let _ = fs::remove_dir_all(path);
    let _ = fs::remove_file(path);
    fs::create_dir_all(path).unwrap();
    path.to_owned()
}

/// Starts TCP and UDP peers on every address, and Unix peers named `stream`, `dgram` and `seqpacket` in `/w/deny/peers` and `/w/ok/peers`, once
/// in a process; they end with it.
pub fn peers() {
    static STARTED: Once = Once::new();
    ready();
    STARTED.call_once(|| {
        for address in [IPV4_OK, IPV4_DENIED, IPV6_OK, IPV6_DENIED, "127.0.0.1", "::1"] {
            for port in [PORT, PORT_DENIED] {
                let peer = std::net::SocketAddr::new(address.parse().unwrap(), port);
                let listener = TcpListener::bind(peer).unwrap_or_else(|error| panic!("listen on {peer}: {error}"));
                std::thread::spawn(move || listener.incoming().for_each(drop));
                // Nobody reads: what doesn't fit is thrown away.
                std::mem::forget(UdpSocket::bind(peer).unwrap());
            }
        }
        for side in ["deny", "ok"] {
            let directory = fresh(Path::new(ROOT).join(side).join("peers"));
            let name = SocketAddr::from_abstract_name(format!("{side}-peer")).unwrap();
            for listener in [UnixListener::bind(directory.join("stream")).unwrap(), UnixListener::bind_addr(&name).unwrap()] {
                std::thread::spawn(move || listener.incoming().for_each(drop));
            }
            let name = SocketAddr::from_abstract_name(format!("{side}-dgram")).unwrap();
            for datagram in [UnixDatagram::bind(directory.join("dgram")).unwrap(), UnixDatagram::bind_addr(&name).unwrap()] {
                std::thread::spawn(move || while datagram.recv(&mut [0; 64]).is_ok() {});
            }
            seqpacket(&UnixAddr::new(&directory.join("seqpacket")).unwrap());
            seqpacket(&UnixAddr::new_abstract(format!("{side}-seqpacket").as_bytes()).unwrap());
        }
    });
}

/// Listens on a Unix socket of the kind that the standard library has not. Nobody accepts: the backlog is as long as can be.
fn seqpacket(address: &UnixAddr) {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, bind, listen, socket};
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(listener.as_raw_fd(), address).unwrap();
    listen(&listener, Backlog::MAXCONN).unwrap();
    std::mem::forget(listener);
}

/// The kernel that this machine is said to run.
pub fn kernel() -> String {
    std::env::var("LEASH_EXPECT_KERNEL").expect("`LEASH_EXPECT_KERNEL` is set by `cargo xtask test`")
}

/// The ABI of Landlock that the kernel's release brought, or a later one.
pub fn landlock_abi() -> u64 {
    let release = kernel();
    let (major, minor) = release.split_once('.').unwrap();
    let release: (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
    let brought = [((6, 2), 3), ((6, 7), 4), ((6, 10), 5), ((6, 12), 6), ((6, 15), 7), ((7, 0), 8), ((7, 1), 9), ((7, 2), 10)];
    brought.into_iter().rfind(|(since, _)| release >= *since).map_or(2, |(_, abi)| abi)
}

/// Waits until `done` gives something, as long as anything may take on an emulated processor.
pub fn await_some<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(180);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(std::time::Instant::now() < end, "{what} did not happen");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

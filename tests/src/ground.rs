//! The ground that the suites stand on: a file system of their own at `/w`, and addresses of their own on loopback.
//!
//! Everything lives in the machine that the suite runs in, which is thrown away. The file system is a tmpfs: it has unnamed
//! files, whiteouts, file handles and access control lists on every kernel, which an overlay has not.

use crate::attempt::{Attempt, Outcome};
use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

/// Root of everything that the suites make.
pub const ROOT: &str = "/w";
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

static READY: Once = Once::new();

/// Makes the ground ready, once in a process; earlier suites may have done so in this machine.
pub fn ready() {
    READY.call_once(|| {
        let kernel = std::env::var("LEASH_EXPECT_KERNEL").expect("`LEASH_EXPECT_KERNEL` is set by `cargo xtask test`");
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(release.starts_with(&format!("{kernel}.")) || release.starts_with(&format!("{kernel}-")), "{release} is not {kernel}");
        fs::create_dir_all(ROOT).unwrap();
        let mounted = fs::read_to_string("/proc/self/mounts").unwrap().lines().any(|line| line.contains(" /w tmpfs "));
        if !mounted {
            let options = Some("mode=755,size=1g");
            nix::mount::mount(Some("tmpfs"), ROOT, Some("tmpfs"), nix::mount::MsFlags::empty(), options).expect("mount tmpfs");
        }
        for directory in ["bin", "logs", "policies"] {
            fs::create_dir_all(Path::new(ROOT).join(directory)).unwrap();
        }
        fs::copy(built_attempt(), ATTEMPT).expect("install the attempt program");
        for address in [IPV4_OK, IPV4_DENIED] {
            run("ip", &["addr", "replace", &format!("{address}/32"), "dev", "lo"]);
        }
        for address in [IPV6_OK, IPV6_DENIED] {
            run("ip", &["addr", "replace", &format!("{address}/128"), "dev", "lo", "nodad"]);
        }
        run("ip", &["link", "set", "lo", "up"]);
    });
}

/// The attempt program beside this test program, as cargo builds it.
fn built_attempt() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let built = this.parent().and_then(Path::parent).unwrap().join("leash-attempt");
    assert!(built.is_file(), "`{}` is missing: build the binaries of leash-tests", built.display());
    built
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("start `{program}`: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Performs attempts without Leash, in order.
pub fn ungoverned(attempts: &[Attempt]) -> Vec<Outcome> {
    let file = write_attempts(attempts);
    let output = Command::new(ATTEMPT)
        .arg("batch")
        .arg(&file)
        .stdin(Stdio::null())
        .current_dir(ROOT)
        .output()
        .expect("start the attempt program");
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

/// Peers on every address: they accept and read, and end with the process.
pub struct Peers {
    _unix: Vec<UnixListener>,
    _datagram: Vec<UnixDatagram>,
    _udp: Vec<UdpSocket>,
}

impl Peers {
    /// Starts TCP and UDP peers on [`PORT`], and Unix peers named `stream` and `dgram` in both directories.
    pub fn start(directories: &[&Path]) -> Self {
        let mut udp = Vec::new();
        for address in [IPV4_OK, IPV4_DENIED, IPV6_OK, IPV6_DENIED, "127.0.0.1", "::1"] {
            let ip: std::net::IpAddr = address.parse().unwrap();
            let listener = TcpListener::bind((ip, PORT)).unwrap_or_else(|error| panic!("listen on {address}: {error}"));
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    drop(stream);
                }
            });
            udp.push(UdpSocket::bind((ip, PORT)).unwrap());
        }
        let mut unix = Vec::new();
        let mut datagram = Vec::new();
        for directory in directories {
            let path = directory.join("stream");
            let listener = UnixListener::bind(&path).unwrap();
            let acceptor = listener.try_clone().unwrap();
            std::thread::spawn(move || {
                for stream in acceptor.incoming() {
                    drop(stream);
                }
            });
            unix.push(listener);
            datagram.push(UnixDatagram::bind(directory.join("dgram")).unwrap());
        }
        Self { _unix: unix, _datagram: datagram, _udp: udp }
    }
}

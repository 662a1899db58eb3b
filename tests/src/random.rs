//! Random policies, and random requests that a process can perform: the world of the differential test.
//!
//! The random part speaks of what is below `/w/u` and of addresses; all else is permitted, so that the test's own programs run.

use crate::attempt::Attempt;
use crate::ground;
use leash_policy::{Request, Resource};
use std::fs;
use std::net::IpAddr;
use std::os::unix::net::UnixListener;

/// SplitMix64: a seed gives the same numbers everywhere.
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A system call, and what the kernel must ask for it.
pub struct Question {
    /// Performs it.
    pub attempt: Attempt,
    /// The acting program.
    pub program: &'static str,
    /// The requests, in order.
    pub requests: Vec<Request>,
    /// Whether one call asks all of them, even after one is denied.
    pub all_at_once: bool,
}

/// Files, sockets and programs that questions are about.
pub struct World {
    files: Vec<String>,
    directories: Vec<String>,
    _listeners: Vec<UnixListener>,
    number: usize,
}

const NAMES: &[&str] = &["a", "b", "ab", "a.b", "x y", "é", "k.pem", "key", "\"q", "a*b", "\\"];
const PORTS: &[u16] = &[1, 53, 80, 443, 1023, 1024, 4096, 7080, 8080, 32768, 65535];
const ADDRESSES: &[&str] = &["127.0.0.1", "127.0.0.2", "127.1.2.3", "10.99.0.1", "10.99.0.2", "::1", "fd99::1", "fd99::2"];
const RANGES: &[&str] = &[
    "127.0.0.0/8",
    "127.0.0.0/31",
    "10.0.0.0/8",
    "10.99.0.0/30",
    "10.99.0.2",
    "::/0",
    "fd00::/8",
    "fd99::2",
    "0.0.0.0/0",
    "::1/128",
    "fd99::/127",
];
/// Family, socket type and protocol as words of an attempt, and the name in policies.
const SOCKETS: &[(&str, &str)] = &[
    ("netlink SOCK_RAW NETLINK_ROUTE", "netlink/route"),
    ("netlink SOCK_DGRAM NETLINK_KOBJECT_UEVENT", "netlink/kobject_uevent"),
    ("netlink SOCK_RAW 16", "netlink/generic"),
    ("inet SOCK_RAW IPPROTO_ICMP", "inet/raw"),
    ("inet6 SOCK_RAW IPPROTO_ICMPV6", "inet6/raw"),
    ("inet SOCK_DGRAM IPPROTO_ICMP", "inet/icmp"),
    ("inet SOCK_DGRAM IPPROTO_UDPLITE", "inet/udplite"),
];
const FILE_ACTIONS: &[&str] = &["FileRead", "FileWrite", "FileCreate", "FileDelete", "FileSetAttributes", "ProcessExec"];
const UNIX_ACTIONS: &[&str] = &["NetworkConnect", "NetworkListen"];

impl World {
    /// The programs that act: all the same, by different paths.
    pub const PROGRAMS: &[&'static str] = &["/w/x/a", "/w/x/ab", "/w/x/lib/python3"];

    /// Makes the world afresh.
    pub fn new() -> Self {
        ground::fresh("/w/u");
        fs::create_dir_all("/w/x/lib").unwrap();
        for program in Self::PROGRAMS {
            fs::copy(ground::ATTEMPT, program).unwrap();
        }
        let (mut files, mut directories, mut listeners) = (Vec::new(), vec!["/w/u".to_owned()], Vec::new());
        for level in 0..2 {
            for parent in directories.clone() {
                for name in NAMES.iter().skip(level).step_by(2 + level) {
                    let path = format!("{parent}/{name}");
                    if !directories.contains(&path) {
                        fs::create_dir_all(&path).unwrap();
                        directories.push(path);
                    }
                }
            }
        }
        for directory in &directories {
            for name in NAMES {
                let path = format!("{directory}/f{name}");
                fs::write(&path, vec![b'x'; 4096]).unwrap();
                files.push(path);
            }
        }
        for directory in directories.iter().take(6) {
            listeners.push(UnixListener::bind(format!("{directory}/sock")).unwrap());
        }
        Self { files, directories, _listeners: listeners, number: 0 }
    }

    /// A policy set.
    pub fn policy(&mut self, random: &mut Random) -> String {
        let mut text = String::from(
            r#"@id("rest") permit(principal, action in [Action::"FileOpen", Action::"FileModify", Action::"DirList", Action::"ProcessExec"], resource)
unless { resource in Dir::"/w/u" };
"#,
        );
        for number in 0..4 + random.below(14) {
            let effect = *random.pick(&["permit", "permit", "forbid"]);
            let (scope, condition) = match random.below(6) {
                0..=2 => {
                    let actions = *random.pick(&[
                        "action in [Action::\"FileOpen\"]",
                        "action in [Action::\"FileModify\"]",
                        "action == Action::\"FileRead\"",
                        "action in [Action::\"FileRead\", Action::\"ProcessExec\"]",
                        "action in [Action::\"FileCreate\", Action::\"FileDelete\", Action::\"FileWrite\"]",
                    ]);
                    let condition = self.condition(random, 3, Self::file_atom);
                    (format!("{actions}, resource"), format!("resource in Dir::\"/w/u\" && ({condition})"))
                }
                3 => {
                    let condition = self.condition(random, 2, Self::file_atom);
                    ("action == Action::\"DirList\", resource".to_owned(), format!("resource in Dir::\"/w/u\" && ({condition})"))
                }
                4 => {
                    let actions = *random.pick(&[
                        "action in [Action::\"Network\"]",
                        "action == Action::\"NetworkConnect\"",
                        "action in [Action::\"NetworkSend\", Action::\"NetworkListen\"]",
                    ]);
                    (format!("{actions}, resource is Endpoint"), self.condition(random, 3, Self::endpoint_atom))
                }
                _ if random.below(2) == 0 => (
                    "action in [Action::\"Network\"], resource is UnixSocket".to_owned(),
                    self.condition(random, 1, Self::unix_atom),
                ),
                _ => ("action == Action::\"SocketCreate\", resource".to_owned(), self.condition(random, 1, Self::socket_atom)),
            };
            // Only `when` keeps the random part below its directory.
            text.push_str(&format!("@id(\"p{number}\") {effect}(principal, {scope}) when {{ {condition} }};\n"));
        }
        text
    }

    fn condition(&self, random: &mut Random, depth: usize, atom: fn(&Self, &mut Random) -> String) -> String {
        if depth == 0 {
            return if random.below(12) == 0 { self.name_atom(random) } else { atom(self, random) };
        }
        match random.below(6) {
            0 => format!("({} && {})", self.condition(random, depth - 1, atom), self.condition(random, depth - 1, atom)),
            1 => format!("({} || {})", self.condition(random, depth - 1, atom), self.condition(random, depth - 1, atom)),
            2 => format!("!({})", self.condition(random, depth - 1, atom)),
            3 => format!(
                "(if {} then {} else {})",
                self.condition(random, depth - 1, atom),
                self.condition(random, depth - 1, atom),
                self.condition(random, depth - 1, atom)
            ),
            _ => atom(self, random),
        }
    }

    /// Resources as mere names; none is what a request is about.
    fn name_atom(&self, random: &mut Random) -> String {
        let types = ["File", "Dir", "UnixSocket", "Socket", "Endpoint"];
        let name = |random: &mut Random, of: &str| format!("{of}::{}", quoted(random.pick(&self.files)));
        let of = *random.pick(&types);
        let (one, other) = (name(random, of), name(random, of));
        match random.below(4) {
            0 => format!("{one} == {other}"),
            1 => format!("{one} is {}", random.pick(&types)),
            2 => format!("[{one}, {other}].contains({other})"),
            _ => format!("(if principal.is_ai then {one} else {other}) != {{ a: {other} }}.a"),
        }
    }

    fn program_atom(random: &mut Random) -> String {
        let atoms = [
            "context.exe == \"/w/x/a\"",
            "context.exe like \"/w/x/a*\"",
            "context.exe like \"*python3*\"",
            "context.exe != \"/w/x/ab\"",
            "principal.is_ai",
            "principal.uid > 0",
        ];
        (*random.pick(&atoms)).to_owned()
    }

    fn file_atom(&self, random: &mut Random) -> String {
        let path = quoted(if random.below(2) == 0 { random.pick(&self.files) } else { random.pick(&self.directories) });
        let name = quoted(random.pick(NAMES));
        match random.below(9) {
            0 => format!("resource in Dir::{path}"),
            1 => format!("resource.path == {path}"),
            2 => format!("resource.path like {}", self.pattern(random)),
            3 => format!("resource.name == {}", quoted(format!("f{}", random.pick(NAMES)))),
            4 => format!("resource.name like {}", quoted(*random.pick(&["f*", "*b", "*.pem", "fa*", "*a*b*", "n*", "*"]))),
            5 => format!("[{path}, \"/w/u/fa\"].contains(resource.path)"),
            6 => format!("resource.path like {}", self.pattern(random)),
            7 => Self::program_atom(random),
            _ => format!("resource.name == {name}"),
        }
    }

    /// A path with some of it replaced by `*`.
    fn pattern(&self, random: &mut Random) -> String {
        let path: Vec<char> = random.pick(&self.files).chars().collect();
        let mut out = String::new();
        let mut index = 0;
        while index < path.len() {
            if random.below(6) == 0 {
                out.push('*');
                index += random.below(6);
            } else {
                match path[index] {
                    '*' => out.push_str("\\*"),
                    '"' => out.push_str("\\\""),
                    '\\' => out.push_str("\\\\"),
                    other => out.push(other),
                }
                index += 1;
            }
        }
        format!("\"{out}\"")
    }

    fn endpoint_atom(&self, random: &mut Random) -> String {
        let port = random.pick(PORTS);
        match random.below(9) {
            0 => format!("resource.port == {port}"),
            1 => format!("resource.port {} {port}", random.pick(&["<", "<=", ">", ">=", "!="])),
            2 | 3 => format!("resource.ip.isInRange(ip(\"{}\"))", random.pick(RANGES)),
            4 => format!("resource.ip == ip(\"{}\")", random.pick(ADDRESSES)),
            5 => format!("resource.ip.{}()", random.pick(&["isLoopback", "isIpv4", "isIpv6", "isMulticast"])),
            6 => format!("resource.protocol == \"{}\"", random.pick(&["tcp", "udp", "icmp"])),
            7 => format!("[{port}, 443].contains(resource.port)"),
            _ => Self::program_atom(random),
        }
    }

    fn unix_atom(&self, random: &mut Random) -> String {
        match random.below(4) {
            0 => format!("resource.path like {}", quoted(format!("{}/*", random.pick(&self.directories)))),
            1 => "resource.path like \"@*\"".to_owned(),
            2 => format!("resource.path == {}", quoted(format!("{}/sock", random.pick(&self.directories)))),
            _ => Self::program_atom(random),
        }
    }

    fn socket_atom(&self, random: &mut Random) -> String {
        match random.below(4) {
            0 => "resource.family == \"netlink\"".to_owned(),
            1 => "resource.protocol like \"r*\"".to_owned(),
            2 => format!("resource == Socket::\"{}\"", random.pick(SOCKETS).1),
            _ => Self::program_atom(random),
        }
    }

    /// Questions of one program.
    pub fn questions(&mut self, random: &mut Random, program: &'static str, count: usize) -> Vec<Question> {
        (0..count).map(|_| self.question(random, program)).collect()
    }

    fn question(&mut self, random: &mut Random, program: &'static str) -> Question {
        self.number += 1;
        let id = format!("{program}-{}", self.number);
        let (script, requests, all_at_once) = match random.below(8) {
            0..=3 => self.file_question(random),
            4 => {
                let path = random.pick(&self.directories).clone();
                (format!("list {}", word(&path)), vec![("DirList", Resource::Dir { path })], false)
            }
            5 | 6 => Self::endpoint_question(random),
            _ if random.below(2) == 0 => self.unix_question(random),
            _ => {
                let (words, name) = *random.pick(SOCKETS);
                (format!("socket {words}"), vec![("SocketCreate", Resource::Socket { name: name.to_owned() })], false)
            }
        };
        let request = |(action, resource)| Request::new(action, resource, program).expect("a request of this world");
        let requests = requests.into_iter().map(request).collect();
        Question { attempt: Attempt::new(id, script), program, requests, all_at_once }
    }

    fn file_question(&self, random: &mut Random) -> (String, Vec<(&'static str, Resource)>, bool) {
        let file = |path: &str| Resource::File { path: path.to_owned() };
        let existing = random.pick(&self.files).clone();
        let other = format!("{}/n{}{}", random.pick(&self.directories), self.number, random.pick(NAMES));
        let old = word(&existing);
        match *random.pick(FILE_ACTIONS) {
            "FileRead" => (format!("cat {old}"), vec![("FileRead", file(&existing))], false),
            "FileWrite" if random.below(2) == 0 => {
                (format!("open {old} O_RDWR"), vec![("FileRead", file(&existing)), ("FileWrite", file(&existing))], true)
            }
            "FileWrite" => (format!("open {old} O_WRONLY"), vec![("FileWrite", file(&existing))], false),
            "FileCreate" => (format!("mkdir {}", word(&other)), vec![("FileCreate", file(&other))], false),
            "FileDelete" => {
                fs::write(&other, "").unwrap();
                (format!("unlink {}", word(&other)), vec![("FileDelete", file(&other))], false)
            }
            "FileSetAttributes" => (format!("chmod {old} 0o644"), vec![("FileSetAttributes", file(&existing))], false),
            _ => (
                format!("f = open {old} O_RDONLY; mmap $f PROT_READ|PROT_EXEC"),
                vec![("FileRead", file(&existing)), ("ProcessExec", file(&existing))],
                false,
            ),
        }
    }

    fn endpoint_question(random: &mut Random) -> (String, Vec<(&'static str, Resource)>, bool) {
        let ip: IpAddr = random.pick(ADDRESSES).parse().unwrap();
        let port = *random.pick(PORTS);
        let (family, address) = match ip {
            // An IPv4 address by an IPv6 socket is the same request.
            IpAddr::V4(ip) if random.below(3) == 0 => ("inet6", format!("in6:[::ffff:{ip}]:{port}")),
            IpAddr::V4(ip) => ("inet", format!("in:{ip}:{port}")),
            IpAddr::V6(ip) => ("inet6", format!("in6:[{ip}]:{port}")),
        };
        let (kind, protocol, action, call) = match random.below(5) {
            0 => ("SOCK_STREAM", "tcp", "NetworkConnect", format!("connect $s {address}")),
            1 => ("SOCK_DGRAM", "udp", "NetworkConnect", format!("connect $s {address}")),
            2 => ("SOCK_DGRAM", "udp", "NetworkSend", format!("sendto $s {address} x")),
            // Without capabilities the kernel refuses lower ports itself, with the same error.
            3 if port >= 1024 => ("SOCK_STREAM", "tcp", "NetworkListen", format!("bind $s {address}")),
            _ if port >= 1024 => ("SOCK_DGRAM", "udp", "NetworkListen", format!("bind $s {address}")),
            _ => ("SOCK_DGRAM", "udp", "NetworkSend", format!("sendmsg $s {address} x")),
        };
        let resource = Resource::Endpoint { ip, port, protocol: protocol.to_owned() };
        (format!("s = socket {family} {kind}; {call}"), vec![(action, resource)], false)
    }

    fn unix_question(&self, random: &mut Random) -> (String, Vec<(&'static str, Resource)>, bool) {
        let action = *random.pick(UNIX_ACTIONS);
        if action == "NetworkConnect" {
            let path = format!("{}/sock", self.directories[random.below(6)]);
            let script = format!("s = socket unix SOCK_STREAM; connect $s un:{}", word(&path));
            return (script, vec![(action, Resource::UnixSocket { path })], false);
        }
        let name = format!("@n{}", self.number);
        (format!("s = socket unix SOCK_STREAM; bind $s un:{name}"), vec![(action, Resource::UnixSocket { path: name })], false)
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// A path as one word of a script.
fn word(path: &str) -> String {
    path.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02x}")
            }
        })
        .collect()
}

/// A Cedar string.
fn quoted(text: impl AsRef<str>) -> String {
    format!("\"{}\"", text.as_ref().replace('\\', "\\\\").replace('"', "\\\""))
}

//! Random policy sets that are valid under the schema, and random requests that lie near what the policies speak of.

use leash_policy::{Principal, Request, Resource};

/// SplitMix64: a seed gives the same numbers everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

const PARTS: &[&str] = &["a", "b", "ab", "ba", "a.b", "é", "è", "x y", "a*b", "aa", ".", "k.pem", "key", "\\", "日本"];
const PROGRAMS: &[&str] = &["/bin/a", "/bin/ab", "/usr/bin/python3", "/usr/bin/python3.11", "/usr/local/bin/a", "/é", "/a"];
const ADDRESSES: &[&str] = &[
    "0.0.0.0",
    "10.0.0.1",
    "10.0.0.255",
    "10.1.2.3",
    "127.0.0.1",
    "127.255.255.255",
    "128.0.0.0",
    "169.254.169.254",
    "192.168.1.1",
    "223.255.255.255",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "2001:db8::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "::ffff:10.0.0.1",
];
const RANGES: &[&str] = &[
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.1",
    "10.0.0.1/31",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255",
    "::/0",
    "::1",
    "::/127",
    "fe80::/10",
    "fd00::/8",
    "ff00::/8",
    "2001:db8::/32",
    "::ffff:a00:1",
    "::ffff:0:0/96",
];
const PORTS: &[&str] =
    &["0", "1", "22", "53", "80", "443", "1023", "1024", "8080", "65534", "65535", "65536", "-1", "9223372036854775807"];
const PROTOCOLS: &[&str] = &["tcp", "udp", "icmp", "icmpv6", "sctp", "udplite", "dccp", "raw", "other"];
const SOCKETS: &[&str] = &["netlink/route", "netlink/audit", "packet/raw", "inet/icmp", "inet6/icmp", "a/a", "ab/a", "a/ab"];
const FILE_ACTIONS: &[&str] =
    &["FileRead", "FileWrite", "FileCreate", "FileDelete", "FileRename", "FileLink", "FileSetAttributes", "ProcessExec"];

/// A string as a Cedar literal; a pattern's stars are written by the caller.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn path(random: &mut Random) -> String {
    if random.chance(40) {
        return random.pick(&["/a", "/b", "/a/b", "/a/ab", "/b/a", "/a/b/k.pem", "/é/a"]).to_owned();
    }
    let mut path = String::new();
    for _ in 0..1 + random.below(4) {
        let part = random.pick(PARTS);
        path.push('/');
        path.push_str(if part == "." { ".a" } else { part });
    }
    if random.chance(3) { "/".to_owned() } else { path }
}

fn pattern(random: &mut Random, slashes: bool) -> String {
    let mut pattern = String::new();
    if !slashes && random.chance(50) {
        let part = random.pick(&["a", "b", "é", "k.", "x"]);
        return if random.chance(60) { format!("\"{part}*\"") } else { format!("\"*{part}\"") };
    }
    if slashes && random.chance(80) {
        pattern.push('/');
    }
    for _ in 0..1 + random.below(5) {
        match random.below(10) {
            0..4 => pattern.push('*'),
            4..7 if slashes => pattern.push('/'),
            _ => pattern.push_str(&random.pick(PARTS).replace('\\', "\\\\").replace('*', "\\*")),
        }
    }
    format!("\"{pattern}\"")
}

/// Conditions on texts: the attribute, and whether its values hold slashes.
fn text_test(random: &mut Random, attribute: &str, slashes: bool) -> String {
    let value = |random: &mut Random| {
        quote(&match attribute {
            "context.exe" => random.pick(PROGRAMS).to_owned(),
            "resource.name" => random.pick(PARTS).to_owned(),
            "resource.family" | "resource.protocol" => {
                let socket = random.pick(SOCKETS);
                let (family, protocol) = socket.split_once('/').unwrap_or(("", ""));
                if attribute == "resource.family" { family.to_owned() } else { protocol.to_owned() }
            }
            _ => path(random),
        })
    };
    let values = |random: &mut Random| {
        let values: Vec<String> = (0..1 + random.below(3)).map(|_| value(random)).collect();
        values.join(", ")
    };
    match random.below(12) {
        10 => format!(
            "{attribute} == (if action == Action::\"FileRead\" || action == Action::\"NetworkSend\" then {} else {})",
            value(random),
            value(random)
        ),
        11 => format!("[{attribute}, {}] == [{}]", value(random), values(random)),
        0 => format!("{attribute} == {}", value(random)),
        1 => format!("{} != {attribute}", value(random)),
        2 => format!("[{}].contains({attribute})", values(random)),
        3 => format!("[{}].containsAny([{attribute}, {}])", values(random), value(random)),
        4 => format!("[{}].containsAll([{attribute}])", values(random)),
        5 => format!("[{attribute}, {}].containsAll([{}])", value(random), values(random)),
        6 => format!("{attribute} == (if principal.uid > 500 then {} else {})", value(random), value(random)),
        _ => format!("{attribute} like {}", pattern(random, slashes)),
    }
}

fn file_test(random: &mut Random, dir: bool) -> String {
    match random.below(12) {
        0..3 => format!("resource in Dir::{}", quote(&path(random))),
        3 => format!("resource in [Dir::{}, Dir::{}]", quote(&path(random)), quote(&path(random))),
        4 if !dir => format!("resource == File::{}", quote(&path(random))),
        4 => format!("resource == Dir::{}", quote(&path(random))),
        5..8 => text_test(random, "resource.path", true),
        8..10 => text_test(random, "resource.name", false),
        _ => text_test(random, "context.exe", true),
    }
}

fn endpoint_test(random: &mut Random) -> String {
    match random.below(14) {
        0 => format!("resource.port == {}", random.pick(PORTS)),
        1 => format!("resource.port < {}", random.pick(PORTS)),
        2 => format!("resource.port <= {}", random.pick(PORTS)),
        3 => format!("{} < resource.port", random.pick(PORTS)),
        4 => format!("resource.port >= {}", random.pick(PORTS)),
        5 => format!("[{}, {}].contains(resource.port)", random.pick(PORTS), random.pick(PORTS)),
        6 => format!("resource.ip == ip(\"{}\")", random.pick(RANGES)),
        7 => format!("ip(\"{}\").isInRange(resource.ip)", random.pick(RANGES)),
        8 => format!("resource.ip.{}()", random.pick(&["isLoopback", "isMulticast", "isIpv4", "isIpv6"])),
        9 => format!("resource.protocol == \"{}\"", random.pick(PROTOCOLS)),
        10 => format!("resource.protocol like \"*{}*\"", random.pick(&["p", "u", "icmp", "tcp", ""])),
        11 => text_test(random, "context.exe", true),
        _ => format!("resource.ip.isInRange(ip(\"{}\"))", random.pick(RANGES)),
    }
}

fn principal_test(random: &mut Random) -> String {
    random
        .pick(&[
            "principal.is_ai",
            "principal.uid == 1000",
            "principal.uid < 500",
            "principal in Team::\"core\"",
            "principal in Team::\"other\"",
            "principal.labels.contains(\"env=ci\")",
            "principal.labels.containsAny([\"a\", \"b\"])",
            "principal.name like \"cl*\"",
            "principal.user == \"dev\"",
            "action == Action::\"FileRead\"",
            "action in Action::\"FileModify\"",
            "context has exe",
            "[1, principal.uid].contains(1000)",
            "principal.labels.isEmpty()",
            "true",
        ])
        .to_owned()
}

/// An entity of a type that depends on the request, by name.
pub(crate) fn literal(random: &mut Random, entity_type: &str) -> String {
    let id = match entity_type {
        "UnixSocket" => quote(&unix(random)),
        "Socket" => format!("\"{}\"", random.pick(SOCKETS)),
        "Endpoint" => {
            let address = random.pick(&["10.0.0.1", "127.0.0.1", "[::1]"]);
            format!("\"{}/{address}:{}\"", random.pick(PROTOCOLS), random.pick(PORTS))
        }
        "Host" => random.pick(&["\"example.com\"", "\"com\""]).to_owned(),
        _ => quote(&path(random)),
    };
    format!("{entity_type}::{id}")
}

/// Types of entities that depend on the request, each with an attribute.
pub(crate) const DEPENDENT: &[(&str, &str)] = &[
    ("File", "path"),
    ("File", "name"),
    ("Dir", "path"),
    ("UnixSocket", "path"),
    ("Socket", "family"),
    ("Endpoint", "port"),
    ("Endpoint", "protocol"),
    ("Process", "exe"),
];

/// Entities as mere names, which they may be.
fn literal_test(random: &mut Random, resource: &str) -> String {
    let (any, _) = DEPENDENT[random.below(DEPENDENT.len())];
    let other = literal(random, any);
    match random.below(if matches!(resource, "Endpoint" | "any") { 5 } else { 11 }) {
        0 => format!("{other} == {}", literal(random, any)),
        1 => format!("{other} != {other}"),
        2 => format!("{other} is {}", random.pick(&["File", "Dir", "Socket"])),
        3 => format!("[{other}, {}].contains({other})", literal(random, any)),
        4 => format!("{{ a: {other} }} has a"),
        5 => format!("{} == resource", literal(random, resource)),
        6 => format!("[{}, {}].contains(resource)", literal(random, resource), literal(random, resource)),
        7 => format!("[{}, {}].containsAny([resource])", literal(random, resource), literal(random, resource)),
        8 => format!("{{ a: {} }}.a == resource", literal(random, resource)),
        9 => format!("resource in [{}, {}]", literal(random, resource), literal(random, resource)),
        _ => format!(
            "(if {} then {} else {}) == resource",
            principal_test(random),
            literal(random, resource),
            literal(random, resource)
        ),
    }
}

/// A condition that asks for the data of an entity which is there only in requests about it.
pub(crate) fn asking_literal(random: &mut Random) -> String {
    let (entity_type, attribute) = DEPENDENT[random.below(DEPENDENT.len())];
    let one = literal(random, entity_type);
    let one = match random.below(6) {
        0 => format!("(if principal.is_ai then {one} else {})", literal(random, entity_type)),
        1 => format!("{{ a: {one} }}.a"),
        2 => format!("{{ a: {{ b: {one} }} }}[\"a\"].b"),
        _ => one,
    };
    let asking = match random.below(7) {
        0 => format!("{one} in Dir::{}", quote(&path(random))),
        1 => format!("{one} in [{}, {}]", literal(random, entity_type), literal(random, entity_type)),
        2 => format!("{one} has {attribute}"),
        3 => format!("{one} is {entity_type} in Dir::{}", quote(&path(random))),
        4 => format!("{one} has {attribute} && {one}.{attribute} == {one}.{attribute}"),
        5 => format!("[{one} has {attribute}].contains(true)"),
        _ => format!("(if {one} has {attribute} then 1 else 2) == 1"),
    };
    match random.below(5) {
        0 => format!("!({asking})"),
        1 => format!("principal.uid >= 0 && {asking}"),
        2 => format!("(resource is File && resource.path like \"/a*\" && {asking})"),
        3 => format!("(resource is File && resource.path == (if {asking} then \"/a\" else \"/b\"))"),
        _ => asking,
    }
}

/// Values that have attributes in them: chosen by a test, in records, in sets; and what is constant for each type of resource.
fn composite_test(random: &mut Random, resource: &str) -> String {
    let choice = principal_test(random);
    match (resource, random.below(10)) {
        (_, 0) => "resource == resource".to_owned(),
        (_, 1) => format!("(if {choice} then resource else resource) == resource"),
        (_, 2) => format!("context == {{ exe: {} }}", quote(random.pick(PROGRAMS))),
        (_, 3) => format!("(if context has exe then context.exe else \"/x\") like {}", pattern(random, true)),
        (_, 4) => format!("[{{ a: context.exe, b: 1 }}].contains({{ a: {}, b: 1 }})", quote(random.pick(PROGRAMS))),
        ("Endpoint", 5) => format!(
            "resource.port + {} == {}",
            random.pick(&["0", "1", "-1", "65536"]),
            random.pick(&["443", "80", "0", "65540"])
        ),
        ("Endpoint", 6) => format!("{} - resource.port * 2 < {}", random.pick(&["0", "500", "131070"]), random.pick(PORTS)),
        ("Endpoint", 7) => format!("(if {choice} then resource.port else 80) <= {}", random.pick(PORTS)),
        ("Endpoint", 8) => {
            format!("(if {choice} then resource.ip else ip(\"10.0.0.1\")).isInRange(ip(\"{}\"))", random.pick(RANGES))
        }
        ("Endpoint", _) => format!("{{ r: resource }}.r.protocol == \"{}\"", random.pick(PROTOCOLS)),
        ("File" | "Dir", 5) => {
            let test = text_test(random, "resource.name", false);
            format!("(if {test} then resource.path else resource.name) == {}", quote(&path(random)))
        }
        ("File" | "Dir", 6) => format!("resource.path == (if resource has port then \"/a\" else {})", quote(&path(random))),
        ("File" | "Dir", 7) => format!("{{ a: {{ b: resource.path }} }}.a.b like {}", pattern(random, true)),
        ("File" | "Dir", 8) => {
            format!("[[resource.path], [{0}]] == [[{0}], [{1}]]", quote(&path(random)), quote(&path(random)))
        }
        ("File" | "Dir", _) => format!("(if {choice} then resource else resource) in Dir::{}", quote(&path(random))),
        ("UnixSocket", _) => format!("(if {choice} then resource else resource).path == {}", quote(&unix(random))),
        ("Socket", _) => format!("{{ r: resource }}.r.protocol == (if {choice} then \"route\" else \"raw\")"),
        _ => format!("resource == (if {choice} then resource else resource)"),
    }
}

fn test(random: &mut Random, resource: &str) -> String {
    if random.chance(10) {
        return principal_test(random);
    }
    if random.chance(6) {
        return literal_test(random, resource);
    }
    if random.chance(8) {
        return composite_test(random, resource);
    }
    match resource {
        "File" => file_test(random, false),
        "Dir" => file_test(random, true),
        "Endpoint" => endpoint_test(random),
        "UnixSocket" => match random.below(3) {
            0 => format!("resource == UnixSocket::{}", quote(&unix(random))),
            1 => text_test(random, "context.exe", true),
            _ => format!(
                "resource.path like {}",
                random.pick(&["\"@*\"", "\"/a*\"", "\"*b\"", "\"*a*a*\"", "\"/*/b*\"", "\"@a\""])
            ),
        },
        "Socket" => match random.below(4) {
            0 => format!("resource == Socket::\"{}\"", random.pick(SOCKETS)),
            1 => text_test(random, "resource.family", false),
            2 => text_test(random, "resource.protocol", false),
            _ => text_test(random, "context.exe", true),
        },
        _ => match random.below(7) {
            5 => format!(
                "(resource == File::{0} || resource == Dir::{0} || resource == UnixSocket::{1})",
                quote(&path(random)),
                quote(&path(random))
            ),
            6 => format!(
                "(resource is UnixSocket && (resource in Dir::{} || resource.path == {}))",
                quote(&path(random)),
                quote(&path(random))
            ),
            0 => format!("resource in Dir::{}", quote(&path(random))),
            1 => format!("(resource is File && {})", file_test(random, false)),
            2 => format!("(resource is Endpoint && {})", endpoint_test(random)),
            3 => format!("resource is {}", random.pick(&["File", "Dir", "Endpoint", "UnixSocket", "Socket"])),
            _ => text_test(random, "context.exe", true),
        },
    }
}

fn condition(random: &mut Random, resource: &str, depth: usize) -> String {
    if depth == 0 || random.chance(25) {
        return test(random, resource);
    }
    let part = |random: &mut Random| condition(random, resource, depth - 1);
    match random.below(9) {
        0..3 => format!("({} && {})", part(random), part(random)),
        3..6 => format!("({} || {})", part(random), part(random)),
        6 => format!("!({})", part(random)),
        7 => format!("(if {} then {} else {})", part(random), part(random), part(random)),
        _ => format!("({}) == ({})", part(random), part(random)),
    }
}

fn unix(random: &mut Random) -> String {
    if random.chance(40) { format!("@{}", random.pick(PARTS)) } else { path(random) }
}

/// A set of policies.
pub(crate) fn policies(random: &mut Random) -> String {
    let mut text = String::new();
    for number in 0..1 + random.below(9) {
        let effect = random.pick(&["permit", "permit", "forbid"]);
        let principal = random.pick(&[
            "principal",
            "principal",
            "principal",
            "principal in Team::\"core\"",
            "principal is Agent",
            "principal == Agent::\"claude\"",
        ]);
        let (action, resource, constraint) = match random.below(8) {
            0..3 => {
                let action = match random.below(4) {
                    0 => "action in Action::\"FileOpen\"".to_owned(),
                    1 => "action in [Action::\"FileModify\", Action::\"ProcessExec\"]".to_owned(),
                    2 => format!("action == Action::\"{}\"", random.pick(FILE_ACTIONS)),
                    _ => format!(
                        "action in [Action::\"{}\", Action::\"{}\"]",
                        random.pick(FILE_ACTIONS),
                        random.pick(FILE_ACTIONS)
                    ),
                };
                let constraint = match random.below(5) {
                    0 => format!("resource in Dir::{}", quote(&path(random))),
                    1 => format!("resource == File::{}", quote(&path(random))),
                    2 => format!("resource is File in Dir::{}", quote(&path(random))),
                    _ => "resource".to_owned(),
                };
                (action, "File", constraint)
            }
            3 => ("action == Action::\"DirList\"".to_owned(), "Dir", "resource".to_owned()),
            4 => {
                let action = random.pick(&[
                    "action in Action::\"Network\"",
                    "action == Action::\"NetworkConnect\"",
                    "action in [Action::\"NetworkListen\", Action::\"NetworkSend\"]",
                ]);
                (action.to_owned(), "Endpoint", "resource is Endpoint".to_owned())
            }
            5 => ("action in Action::\"Network\"".to_owned(), "UnixSocket", "resource is UnixSocket".to_owned()),
            6 => ("action == Action::\"SocketCreate\"".to_owned(), "Socket", "resource".to_owned()),
            _ => ("action".to_owned(), "any", "resource".to_owned()),
        };
        text.push_str(&format!("@id(\"p{number}\") {effect}({principal}, {action}, {constraint})"));
        for _ in 0..random.below(3) {
            let word = random.pick(&["when", "when", "unless"]);
            text.push_str(&format!("\n  {word} {{ {} }}", condition(random, resource, 3)));
        }
        text.push_str(";\n");
    }
    text
}

/// A principal.
pub(crate) fn principal(random: &mut Random) -> Principal {
    Principal {
        name: random.pick(&["claude", "other"]).to_owned(),
        user: random.pick(&["dev", "root"]).to_owned(),
        uid: if random.chance(50) { 1000 } else { 0 },
        is_ai: random.chance(70),
        labels: if random.chance(50) { ["env=ci".to_owned(), "a".to_owned()].into() } else { Default::default() },
        teams: if random.chance(50) { vec!["core".to_owned()] } else { Vec::new() },
    }
}

/// The texts that a policy names, which requests are made of.
fn literals(policies: &str) -> Vec<String> {
    policies.split('"').filter(|text| text.starts_with('/')).map(|text| text.replace("\\\\", "\\").replace("\\*", "*")).collect()
}

fn near(random: &mut Random, literals: &[String]) -> String {
    let mut text = match literals.len() {
        0 => path(random),
        _ if random.chance(20) => path(random),
        count => literals[random.below(count)].clone(),
    };
    while text.contains('*') && random.chance(80) {
        let with = random.pick(&["", "a", "/", "/b/", "é", "ab", ".pem"]);
        text = text.replacen('*', with, 1);
    }
    match random.below(6) {
        0 => text.push_str(&path(random)),
        1 => text.push_str(random.pick(PARTS)),
        2 => drop(text.pop()),
        _ => {}
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    format!("/{}", parts.join("/"))
}

/// A request.
pub(crate) fn request(random: &mut Random, policies: &str) -> Request {
    let literals = literals(policies);
    let exe = if random.chance(80) { random.pick(PROGRAMS).to_owned() } else { near(random, &literals) };
    let (action, resource) = match random.below(10) {
        0..5 => (random.pick(FILE_ACTIONS), Resource::File { path: near(random, &literals) }),
        5 => ("DirList", Resource::Dir { path: near(random, &literals) }),
        6..8 => {
            let ip = random.pick(ADDRESSES).parse().unwrap();
            let port = random.pick(PORTS).parse().unwrap_or(random.next() as u16);
            let resource = Resource::Endpoint { ip, port, protocol: random.pick(PROTOCOLS).to_owned() };
            (random.pick(&["NetworkConnect", "NetworkListen", "NetworkSend"]), resource)
        }
        8 => {
            let path = if random.chance(40) { format!("@{}", random.pick(PARTS)) } else { near(random, &literals) };
            (random.pick(&["NetworkConnect", "NetworkListen", "NetworkSend"]), Resource::UnixSocket { path })
        }
        _ => ("SocketCreate", Resource::Socket { name: random.pick(SOCKETS).to_owned() }),
    };
    Request::new(action, resource, exe).unwrap()
}

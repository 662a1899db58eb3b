//! Each construct of Cedar that the tables carry, with a request that it allows and a twin that it denies. Expected values come
//! from what Cedar's documentation says; both Cedar's authorizer and the tables must give them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_policy::{Compiled, Outcome, Principal, Request, Resource, Source, Variables, Verdict, compile};

fn principal() -> Principal {
    Principal {
        name: "claude".into(),
        user: "dev".into(),
        uid: 1000,
        is_ai: true,
        labels: ["env=ci".to_owned(), "team=core".to_owned()].into(),
        teams: vec!["core".into()],
    }
}

fn build(text: &str) -> Compiled {
    let variables = Variables([("HOME".to_owned(), "/home/dev".to_owned())].into());
    let sources = [Source { name: "test.cedar".into(), text: text.into() }];
    compile(&sources, &variables, &principal()).unwrap_or_else(|faults| {
        panic!("{text}: {}", faults.iter().map(|fault| format!("{fault} {:?}", fault.advice())).collect::<Vec<_>>().join("; "))
    })
}

fn file(action: &str, path: &str, exe: &str) -> Request {
    Request::new(action, Resource::File { path: path.into() }, exe).unwrap()
}

fn net(action: &str, ip: &str, port: u16, protocol: &str) -> Request {
    let resource = Resource::Endpoint { ip: ip.parse().unwrap(), port, protocol: protocol.into() };
    Request::new(action, resource, "/bin/a").unwrap()
}

fn check(policy: &Compiled, request: &Request, allow: bool, context: &str) {
    let (cedar, tables) = (policy.cedar(request), policy.decide(request));
    let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
    assert_eq!(cedar.verdict, verdict, "Cedar: {context}: {request:?}");
    assert_eq!(cedar, tables, "{context}: {request:?}");
}

#[test]
fn conditions_on_paths() {
    for (condition, yes, no) in [
        (r#"resource == File::"/a/b""#, "/a/b", "/a/bc"),
        (r#"resource in Dir::"/a""#, "/a/b", "/ab"),
        (r#"resource in Dir::"/a""#, "/a", "/"),
        (r#"resource in Dir::"/""#, "/x", ""),
        (r#"resource in [Dir::"/a", Dir::"/b"]"#, "/b/c", "/c"),
        (r#"resource is File in Dir::"/a""#, "/a/b", "/c"),
        (r#"resource.path == "/a""#, "/a", "/b"),
        (r#"resource.path != "/a""#, "/b", "/a"),
        (r#""/a" == resource.path"#, "/a", "/b"),
        (r#"resource.path like "/a/*/c""#, "/a/x/c", "/a/c"),
        (r#"resource.path like "*x*y*""#, "/1x2y3", "/1y2x3"),
        (r#"resource.path like "/a\*b""#, "/a*b", "/axb"),
        (r#"resource.path like "/é*""#, "/éa", "/e"),
        (r#"resource.name == "k""#, "/a/k", "/k/a"),
        (r#"resource.name like "*.pem""#, "/a.b/c.pem", "/a.pem/c"),
        (r#"resource.name like "a*b""#, "/x/a1b", "/a/b"),
        (r#"["/a", "/b"].contains(resource.path)"#, "/b", "/c"),
        (r#"["/a", "/b"].containsAny([resource.path, "/c"])"#, "/b", "/d"),
        (r#"["/a", "/b"].containsAll([resource.path, "/b"])"#, "/a", "/c"),
        (r#"[resource.path].containsAll(["/a"])"#, "/a", "/b"),
        (r#"!(resource.path like "/a*")"#, "/b", "/a"),
        (r#"resource.path like "/a*" && !(resource.path like "*b")"#, "/ac", "/ab"),
        (r#"resource.path == "/a" || resource.name == "b""#, "/x/b", "/b/x"),
        (r#"if resource.name == "b" then resource in Dir::"/a" else resource in Dir::"/c""#, "/a/b", "/c/b"),
        (r#"(if resource.name == "b" then 1 else 2) == 1"#, "/b", "/c"),
        (r#"resource has name && resource.name like "b*""#, "/b1", "/c"),
        (r#"resource.path == "${HOME}/x""#, "/home/dev/x", "/home/dev/y"),
        (r#"resource.path like "${HOME}/*""#, "/home/dev/y", "/home/de"),
        (r#"principal.is_ai && resource in Dir::"/a""#, "/a/x", "/b"),
        (r#"principal.uid >= 1000 && principal.uid < 1001 && resource.path like "/a*""#, "/a", "/b"),
        (r#"principal.labels.containsAll(["env=ci"]) && resource.path == "/a""#, "/a", "/b"),
        (r#"principal in Team::"core" && resource.path == "/a""#, "/a", "/b"),
        (r#"(principal.labels.isEmpty() || resource.path == "/a")"#, "/a", "/b"),
        (r#"resource.path == (if principal.is_ai then "/a" else "/b")"#, "/a", "/b"),
        (r#"action == Action::"FileRead" && resource.path == "/a""#, "/a", "/b"),
        (r#"resource.path == (if action == Action::"FileRead" then "/a" else "/b")"#, "/a", "/b"),
        (r#"context.exe == "/bin/a" && resource.path == "/a""#, "/a", "/b"),
        (r#"["/a"].containsAll([resource.path, "/z"]) || resource.path == "/b""#, "/b", "/a"),
        (r#"[resource.path, "/x"] == ["/x", "/b"]"#, "/b", "/x"),
        (r#"resource in (if action == Action::"FileRead" then Dir::"/a" else Dir::"/b")"#, "/a/x", "/b/x"),
        (r#"context has exe && resource.path == "/a""#, "/a", "/b"),
        (r#"resource.path == (if context has exe then "/a" else "/b")"#, "/a", "/b"),
        (r#"resource.path == (if resource has path then "/a" else "/b")"#, "/a", "/b"),
        (r#"resource.path == (if resource has port then "/a" else "/b")"#, "/b", "/a"),
        (r#"resource.path == (if resource is File then "/a" else "/b")"#, "/a", "/b"),
        (r#"resource in (if resource is Dir then Dir::"/b" else Dir::"/a")"#, "/a/x", "/b/x"),
        (r#"(if principal.is_ai then resource.path else resource.name) == "/a""#, "/a", "/b"),
        (r#"(if resource.name like "k*" then resource.path else resource.name) == "/a/k""#, "/a/k", "/b/k"),
        (r#"(if context.exe == "/bin/a" then resource.path else context.exe) like "/a*""#, "/ab", "/b"),
        (r#"{ a: resource.path, b: 1 }.a == "/a""#, "/a", "/b"),
        (r#"{ a: { b: resource.name } }.a.b like "*.pem""#, "/k.pem", "/k"),
        (r#"{ a: resource.path } == { a: "/a" }"#, "/a", "/b"),
        (r#"[[resource.path], ["/x"]] == [["/x"], ["/a"]]"#, "/a", "/b"),
        (r#"[{ a: resource.path }].contains({ a: "/a" })"#, "/a", "/b"),
        (r#"context == { exe: "/bin/a" } && resource.path == "/a""#, "/a", "/b"),
        (r#"(if principal.is_ai then resource else resource).path == "/a""#, "/a", "/b"),
        (r#"(if resource.name == "k" then resource else resource) in Dir::"/a""#, "/a/k", "/b/k"),
        (r#"resource == resource && resource.path == "/a""#, "/a", "/b"),
        (r#"resource.path == resource.path && resource.path != "/b""#, "/a", "/b"),
        (r#"resource in [resource] && resource.path == "/a""#, "/a", "/b"),
        (r#"![resource.path].isEmpty() && resource.path == "/a""#, "/a", "/b"),
        (r#"{ a: resource.path == "/a" }.a"#, "/a", "/b"),
        (r#"!(resource has port) && resource.path == "/a""#, "/a", "/b"),
        (r#"!(resource has nothing) && resource.path == "/a""#, "/a", "/b"),
        (r#"if resource has nothing then resource.nothing == 1 else resource.path == "/a""#, "/a", "/b"),
        (r#"!(context has nothing) && resource.path == "/a""#, "/a", "/b"),
        (r#"!(principal has nothing) && resource.path == "/a""#, "/a", "/b"),
        (r#"ip("10.0.0.1").isInRange(ip("10.0.0.0/8")) && resource.path == "/a""#, "/a", "/b"),
    ] {
        let permit = build(&format!(r#"permit(principal, action == Action::"FileRead", resource) when {{ {condition} }};"#));
        check(&permit, &file("FileRead", yes, "/bin/a"), true, condition);
        let forbid = build(&format!(
            r#"@id("all") permit(principal, action, resource); @id("f") forbid(principal, action in Action::"FileOpen", resource is File) when {{ {condition} }};"#
        ));
        check(&forbid, &file("FileRead", yes, "/bin/a"), false, condition);
        assert_eq!(forbid.decide(&file("FileRead", yes, "/bin/a")).policies, ["f"]);
        if !no.is_empty() {
            check(&permit, &file("FileRead", no, "/bin/a"), false, condition);
            check(&forbid, &file("FileRead", no, "/bin/a"), true, condition);
        }
        check(&permit, &file("FileWrite", yes, "/bin/a"), false, condition);
    }
}

#[test]
fn conditions_on_programs() {
    for (condition, yes, no) in [
        (r#"context.exe == "/bin/a""#, "/bin/a", "/bin/b"),
        (r#"context.exe like "/usr/*""#, "/usr/x/y", "/usr"),
        (r#"context["exe"] like "*python3*""#, "/usr/bin/python3.11", "/usr/bin/python"),
        (r#"["/bin/a", "/bin/b"].contains(context.exe)"#, "/bin/b", "/bin/c"),
        (r#"context.exe == "/bin/a" && resource in Dir::"/d""#, "/bin/a", "/bin/b"),
        (r#"context.exe != "/bin/a" || resource in Dir::"/x""#, "/bin/b", "/bin/a"),
    ] {
        let permit = build(&format!("permit(principal, action, resource is File) when {{ {condition} }};"));
        check(&permit, &file("FileRead", "/d/f", yes), true, condition);
        check(&permit, &file("FileRead", "/d/f", no), false, condition);
    }
}

#[test]
fn conditions_on_endpoints() {
    type Point = (&'static str, u16, &'static str);
    let cases: [(&str, Point, Point); 27] = [
        (r#"resource.port == 443"#, ("1.2.3.4", 443, "tcp"), ("1.2.3.4", 444, "tcp")),
        (r#"resource.port + 0 == 443"#, ("1.2.3.4", 443, "tcp"), ("1.2.3.4", 444, "tcp")),
        (r#"1 + resource.port * 2 == 887"#, ("1.2.3.4", 443, "tcp"), ("1.2.3.4", 444, "tcp")),
        (r#"-resource.port - 1 < -443"#, ("1.2.3.4", 443, "tcp"), ("1.2.3.4", 442, "tcp")),
        (r#"principal.uid - resource.port >= 557"#, ("1.2.3.4", 443, "tcp"), ("1.2.3.4", 444, "tcp")),
        (r#"resource.port + 1 > resource.port * 2 - 442"#, ("1.2.3.4", 442, "tcp"), ("1.2.3.4", 443, "tcp")),
        (r#"(if principal.is_ai then resource.port else 1) < 444"#, ("1.2.3.4", 443, "tcp"), ("1.2.3.4", 444, "tcp")),
        (r#"(if resource.protocol == "udp" then resource.port else 1) == 443"#, ("1.2.3.4", 443, "udp"), ("1.2.3.4", 443, "tcp")),
        (r#"{ r: resource }.r.protocol == "udp""#, ("1.1.1.1", 53, "udp"), ("1.1.1.1", 53, "tcp")),
        (
            r#"(if resource.port == 1 then resource.ip else ip("::1")).isInRange(ip("10.0.0.0/8"))"#,
            ("10.0.0.1", 1, "tcp"),
            ("10.0.0.1", 2, "tcp"),
        ),
        (r#"resource.port < 1024"#, ("::2", 1023, "tcp"), ("::2", 1024, "tcp")),
        (r#"resource.port >= 1024 && resource.port <= 2000"#, ("::2", 2000, "tcp"), ("::2", 2001, "tcp")),
        (r#"1024 > resource.port"#, ("::2", 0, "tcp"), ("::2", 1024, "tcp")),
        (r#"[80, 443].contains(resource.port)"#, ("::2", 80, "tcp"), ("::2", 81, "tcp")),
        (r#"resource.protocol == "udp""#, ("1.1.1.1", 53, "udp"), ("1.1.1.1", 53, "tcp")),
        (r#"resource.protocol like "*dp*""#, ("1.1.1.1", 53, "udplite"), ("1.1.1.1", 53, "tcp")),
        (r#"resource.ip == ip("10.0.0.1")"#, ("10.0.0.1", 1, "tcp"), ("10.0.0.2", 1, "tcp")),
        (r#"resource.ip != ip("10.0.0.1")"#, ("10.0.0.2", 1, "tcp"), ("10.0.0.1", 1, "tcp")),
        (r#"resource.ip.isInRange(ip("10.0.0.0/8"))"#, ("10.255.255.255", 1, "tcp"), ("11.0.0.0", 1, "tcp")),
        (r#"resource.ip.isInRange(ip("fe80::/10"))"#, ("febf::1", 1, "tcp"), ("fec0::1", 1, "tcp")),
        (r#"resource.ip.isLoopback()"#, ("127.9.9.9", 1, "tcp"), ("128.0.0.1", 1, "tcp")),
        (r#"resource.ip.isLoopback()"#, ("::1", 1, "tcp"), ("::2", 1, "tcp")),
        (r#"resource.ip.isMulticast()"#, ("239.1.1.1", 1, "udp"), ("240.0.0.1", 1, "udp")),
        (
            r#"ip("10.0.0.0/8").isInRange(resource.ip) || resource.ip == ip("9.9.9.9")"#,
            ("9.9.9.9", 1, "tcp"),
            ("10.0.0.1", 1, "tcp"),
        ),
        (r#"resource.ip.isIpv4() && resource.port == 1"#, ("::ffff:1.2.3.4", 1, "tcp"), ("1::", 1, "tcp")),
        (r#"resource.ip.isIpv6() || resource.protocol == "udp""#, ("1::", 1, "tcp"), ("1.2.3.4", 1, "tcp")),
        (
            r#"resource.ip.isInRange(ip("10.0.0.0/8")) && resource.port == 1 && resource.protocol == "tcp" && context.exe == "/bin/a""#,
            ("10.1.1.1", 1, "tcp"),
            ("10.1.1.1", 1, "udp"),
        ),
    ];
    for (condition, yes, no) in cases {
        let permit =
            build(&format!(r#"permit(principal, action in Action::"Network", resource is Endpoint) when {{ {condition} }};"#));
        check(&permit, &net("NetworkConnect", yes.0, yes.1, yes.2), true, condition);
        check(&permit, &net("NetworkConnect", no.0, no.1, no.2), false, condition);
        let forbid = build(&format!(
            r#"permit(principal, action, resource); forbid(principal, action == Action::"NetworkSend", resource is Endpoint) when {{ {condition} }};"#
        ));
        check(&forbid, &net("NetworkSend", yes.0, yes.1, yes.2), false, condition);
        check(&forbid, &net("NetworkSend", no.0, no.1, no.2), true, condition);
        check(&forbid, &net("NetworkConnect", yes.0, yes.1, yes.2), true, condition);
    }
}

#[test]
fn other_resources() {
    let unix = |path: &str| Request::new("NetworkConnect", Resource::UnixSocket { path: path.into() }, "/bin/a").unwrap();
    let socket = |name: &str| Request::new("SocketCreate", Resource::Socket { name: name.into() }, "/bin/a").unwrap();
    let dir = |path: &str| Request::new("DirList", Resource::Dir { path: path.into() }, "/bin/a").unwrap();
    for (policy, yes, no) in [
        (r#"permit(principal, action, resource == UnixSocket::"/run/a");"#, unix("/run/a"), unix("/run/b")),
        (r#"permit(principal, action, resource == UnixSocket::"@x");"#, unix("@x"), unix("@xy")),
        (r#"permit(principal, action, resource is UnixSocket) when { resource.path like "@*" };"#, unix("@/a"), unix("/a")),
        (r#"permit(principal, action, resource == Socket::"netlink/route");"#, socket("netlink/route"), socket("netlink/audit")),
        (
            r#"permit(principal, action, resource is Socket) when { resource.family == "inet" };"#,
            socket("inet/icmp"),
            socket("inet6/icmp"),
        ),
        (
            r#"permit(principal, action, resource is Socket) when { resource.protocol like "i*p" };"#,
            socket("inet/icmp"),
            socket("inet/raw"),
        ),
        (
            r#"permit(principal, action, resource is Socket) when { resource.family like "*net*" && resource.protocol != "raw" };"#,
            socket("inet6/icmp"),
            socket("inet6/raw"),
        ),
        (r#"permit(principal, action in Action::"Privileged", resource);"#, socket("a/b"), dir("/")),
        (r#"permit(principal, action, resource in Dir::"/a");"#, dir("/a"), dir("/b")),
        (r#"permit(principal, action, resource == Dir::"/a");"#, dir("/a"), dir("/a/b")),
        (
            r#"permit(principal, action, resource) when { resource == Dir::"/a" || resource == File::"/b" };"#,
            dir("/a"),
            dir("/b"),
        ),
        (
            r#"permit(principal, action, resource) when { resource in Dir::"/a" || resource == UnixSocket::"/b" };"#,
            unix("/b"),
            unix("/a"),
        ),
        (
            r#"permit(principal, action, resource) when { resource is UnixSocket && (resource in Dir::"/a" || resource.path == "/b") };"#,
            unix("/b"),
            unix("/a/x"),
        ),
        (
            r#"permit(principal, action == Action::"DirList", resource is Dir) unless { resource.name like ".*" };"#,
            dir("/"),
            dir("/.a"),
        ),
    ] {
        let policy_text = policy;
        let policy = build(policy_text);
        check(&policy, &yes, true, policy_text);
        check(&policy, &no, false, policy_text);
    }
}

#[test]
fn determining_policies_are_cedars() {
    let policy = build(
        r#"@id("p1") permit(principal, action, resource in Dir::"/a");
           @id("p2") permit(principal, action == Action::"FileRead", resource in Dir::"/a/b");
           @id("f1") @reason("no keys") forbid(principal, action, resource) when { resource is File && resource.name like "*.key" };
           forbid(principal, action, resource in Dir::"/a/b/c");"#,
    );
    let ask = |path: &str| policy.decide(&file("FileRead", path, "/bin/a"));
    let outcome =
        |verdict, policies: &[&str]| Outcome { verdict, policies: policies.iter().map(|id| (*id).to_owned()).collect() };
    assert_eq!(ask("/a/x"), outcome(Verdict::Allow, &["p1"]));
    assert_eq!(ask("/a/b/x"), outcome(Verdict::Allow, &["p1", "p2"]));
    assert_eq!(ask("/a/b/x.key"), outcome(Verdict::Deny, &["f1"]));
    assert_eq!(ask("/a/b/c/x.key"), outcome(Verdict::Deny, &["f1", "test#4"]));
    assert_eq!(ask("/b"), outcome(Verdict::Deny, &[]));
    let words = policy.explain(&file("FileRead", "/a/x.key", "/bin/a")).join("\n");
    assert!(words.contains("denied") && words.contains("forbid `f1` at test.cedar:3: no keys"), "{words}");
    assert!(policy.explain(&file("FileRead", "/b", "/bin/a")).join("\n").contains("no policy permits it"));
}

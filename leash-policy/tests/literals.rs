//! Entities that a policy names. Cedar knows the attributes and ancestors of a resource only in requests about it, so no policy may
//! depend on those of one that it names; as a mere name each can be compared with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_policy::{Compiled, Diagnostics, Principal, Request, Resource, Source, Variables, Verdict, compile};

fn build(text: &str) -> Result<Compiled, Diagnostics> {
    let principal = Principal { name: "claude".into(), teams: vec!["core".into()], ..Principal::default() };
    compile(&[Source { name: "literals.cedar".into(), text: text.into() }], &Variables::default(), &principal)
}

fn forbid_when(condition: &str) -> String {
    format!(
        "@id(\"all\") permit(principal, action, resource);\n@id(\"f\") forbid(principal, action, resource) when {{\n  {condition}\n}};"
    )
}

const LITERALS: [(&str, &str); 8] = [
    ("File::\"/etc/shadow\"", "path"),
    ("Dir::\"/etc\"", "name"),
    ("UnixSocket::\"/run/x\"", "path"),
    ("UnixSocket::\"@x\"", "path"),
    ("Socket::\"netlink/route\"", "family"),
    ("Endpoint::\"tcp/10.0.0.1:80\"", "port"),
    ("Process::\"/bin/a\"", "exe"),
    ("Host::\"example.com\"", "name"),
];

/// What asks for the data of a literal, with `L` for it and `A` for an attribute of its type.
const ASKS: [&str; 20] = [
    "L in Dir::\"/etc\"",
    "L in L",
    "L in [Dir::\"/\", Dir::\"/etc\"]",
    "!(L in Dir::\"/etc\")",
    "principal.is_ai && L in Dir::\"/etc\"",
    "resource is File && resource.path like \"/etc/*\" && L in Dir::\"/etc\"",
    "L has A",
    "L is File in Dir::\"/etc\"",
    "L is Dir in Dir::\"/\"",
    "L has A && L.A == L.A",
    "L has A.b",
    "(if principal.is_ai then L else L) in Dir::\"/etc\"",
    "(if L in Dir::\"/etc\" then 1 else 2) == 1",
    "{ a: L }.a in Dir::\"/etc\"",
    "{ a: { b: L } }.a.b has A",
    "{ a: L } has a.A",
    "(if principal.is_ai then { a: L } else { a: L })[\"a\"] in Dir::\"/etc\"",
    "[L in Dir::\"/etc\"].contains(true)",
    "resource is File && resource.path == (if L in Dir::\"/etc\" then \"/a\" else \"/b\")",
    "resource in (if L has A then Dir::\"/a\" else Dir::\"/b\")",
];

#[test]
fn no_policy_depends_on_the_data_of_a_resource_that_it_names() {
    let mut refused = 0;
    for (literal, attribute) in LITERALS {
        for asks in ASKS {
            let condition = asks.replace('L', literal).replace('A', attribute);
            let text = forbid_when(&condition);
            let faults = match build(&text) {
                Ok(_) => panic!("accepted: {condition}"),
                Err(faults) => faults,
            };
            // Cedar's own validator refuses some of these for their types.
            for fault in faults.iter() {
                let span = fault.span().unwrap_or_else(|| panic!("no place: {fault}\n{text}"));
                let marked = &text[span.offset()..span.offset() + span.len()];
                if fault.message().contains("only in requests that are about it") {
                    refused += 1;
                    assert!(marked.contains(literal) && fault.message().contains(literal), "{marked}: {fault}\n{text}");
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_resource_that_a_policy_names_is_compared_with_as_a_name() {
    let file = |path: &str| Request::new("FileRead", Resource::File { path: path.into() }, "/bin/a").unwrap();
    for (condition, denied, allowed) in [
        ("resource == File::\"/etc/shadow\"", Some("/etc/shadow"), Some("/etc/passwd")),
        ("File::\"/etc/shadow\" == resource", Some("/etc/shadow"), Some("/etc/passwd")),
        ("[File::\"/etc/shadow\", File::\"/etc\"].contains(resource)", Some("/etc/shadow"), Some("/etc/passwd")),
        ("resource in [Dir::\"/etc/shadow\", Dir::\"/srv\"]", Some("/srv/a"), Some("/etc/passwd")),
        ("File::\"/a\" == File::\"/a\"", Some("/etc/shadow"), None),
        ("File::\"/a\" == File::\"/b\"", None, Some("/etc/shadow")),
        ("File::\"/a\" is File", Some("/etc/shadow"), None),
        ("[File::\"/a\"].contains(File::\"/b\")", None, Some("/a")),
        ("{ a: File::\"/a\" }.a == resource", Some("/a"), Some("/b")),
        ("(if principal.is_ai then File::\"/a\" else File::\"/b\") == resource", Some("/a"), Some("/b")),
        ("{ a: File::\"/a\" } has a", Some("/x"), None),
        ("principal in [Team::\"core\"]", Some("/x"), None),
        ("Agent::\"claude\" in Team::\"core\"", Some("/x"), None),
        ("Agent::\"claude\".is_ai", Some("/x"), None),
        ("Agent::\"other\" in Team::\"core\"", None, Some("/x")),
        ("Agent::\"other\" has name", None, Some("/x")),
        ("action in Action::\"FileOpen\" && Action::\"FileRead\" in Action::\"FileOpen\"", Some("/x"), None),
    ] {
        let text =
            forbid_when(condition).replace("forbid(principal, action,", "forbid(principal, action == Action::\"FileRead\",");
        let policy = build(&text).unwrap_or_else(|faults| panic!("{condition}: {:?}", faults.iter().next()));
        for (path, verdict) in [(denied, Verdict::Deny), (allowed, Verdict::Allow)] {
            let Some(path) = path else { continue };
            let request = file(path);
            assert_eq!(policy.cedar(&request).verdict, verdict, "Cedar: {condition}: {path}");
            assert_eq!(policy.decide(&request), policy.cedar(&request), "{condition}: {path}");
        }
    }
}

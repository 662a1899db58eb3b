//! Every policy that can't be enforced is an error with a message, the right place and a help text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_policy::{Diagnostics, Principal, Request, Resource, Source, Variables, compile};

fn faults(text: &str) -> Diagnostics {
    let variables = Variables([("HOME".to_owned(), "/home/very/long/home/directory".to_owned())].into());
    let sources = [Source { name: "dir/bad.cedar".into(), text: text.into() }];
    match compile(&sources, &variables, &Principal::default()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(faults) => faults,
    }
}

/// A policy with one condition.
fn when(condition: &str) -> String {
    format!("permit(principal, action == Action::\"FileRead\", resource) when {{\n  {condition}\n}};")
}

fn endpoint(condition: &str) -> String {
    format!("permit(principal, action == Action::\"NetworkConnect\", resource is Endpoint) when {{\n  {condition}\n}};")
}

#[test]
fn bad_policies_are_refused_at_their_place() {
    // The policy, a part of the message, and the marked text (`None` where Cedar alone decides on it).
    let cases: Vec<(String, &str, Option<&str>)> = vec![
        ("permit(principal, action, resource".into(), "unexpected end", None),
        ("permit(principal, action, resource) when { true }".into(), "unexpected end", None),
        ("permit(principal == ?principal, action, resource);".into(), "template", None),
        (when("resource.paht == \"/x\""), "attribute `paht`", None),
        (when("resource.path == 3"), "are not compatible", None),
        (when("context.time < 3"), "attribute `time`", None),
        (when("resource.path.foo()"), "foo", None),
        ("permit(principal, action == Action::\"FileRaed\", resource);".into(), "unrecognized action", None),
        ("permit(principal, action, resource in Folder::\"/x\");".into(), "unrecognized entity type", None),
        (when("resource.path == context.exe"), "`resource.path` cannot be used in this way", Some("resource.path")),
        (when("resource.path == resource.name"), "`resource.path` cannot be used in this way", Some("resource.path")),
        (when("principal.name == resource.name || [context.exe].contains(resource.name)"), "cannot be used", None),
        (when("{ a: resource.path }.a == \"/x\""), "attribute `a` is not known", None),
        (when("context == { exe: \"/x\" }"), "whole entity or record", Some("context")),
        (when("(if principal.is_ai then resource else resource).path == \"/x\""), "attribute `path`", None),
        (endpoint("resource.port + 1 == 443"), "`resource.port` cannot be used in this way", Some("resource.port")),
        (endpoint("resource.port * 2 < 443"), "`resource.port` cannot be used in this way", Some("resource.port")),
        (endpoint("resource in Host::\"example.com\""), "host names", Some("resource in Host::\"example.com\"")),
        (endpoint("resource == Endpoint::\"x\""), "endpoints have no names", None),
        (when("resource in Dir::\"/etc/\""), "ends in a slash", Some("resource in Dir::\"/etc/\"")),
        (when("resource in Dir::\"etc\""), "is not absolute", None),
        ("permit(principal, action, resource in Dir::\"/a/../b\");".into(), "`..` component", None),
        ("permit(principal, action, resource == File::\"/a//b\");".into(), "empty, `.`", None),
        ("permit(principal, action == Action::\"Mount\", resource);".into(), "cannot be mediated", None),
        (
            "permit(principal, action in [Action::\"BpfUse\", Action::\"ProcessSignal\"], resource);".into(),
            "cannot be mediated",
            None,
        ),
        (when("principal.uid + 9223372036854775807 > 0 && resource.path like \"/x*\""), "fails", None),
        (when("resource.path like \"/x*\" && principal.uid * 9223372036854775807 > 0"), "overflow", None),
        (when("resource.path == ${HOME}"), "outside of a string literal", Some("${HOME}")),
        (when("resource.path == \"${HOEM}/x\""), "unknown variable `${HOEM}`", Some("${HOEM}")),
        (
            "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);".into(),
            "dir/bad.cedar:1 and dir/bad.cedar:2",
            None,
        ),
        (when("resource.path == \"${HOME}/a\" && resource.path == context.exe"), "cannot be used", Some("resource.path")),
    ];
    for (text, message, marked) in cases {
        let faults = faults(&text);
        let all: Vec<String> = faults.iter().map(|fault| format!("{fault} ({:?})", fault.advice())).collect();
        let Some(fault) = faults.iter().find(|fault| fault.message().contains(message)) else {
            panic!("no `{message}` in {all:?}\n{text}");
        };
        assert_eq!(fault.source_name(), "dir/bad.cedar");
        let span = fault.span().unwrap_or_else(|| panic!("no place: {fault}\n{text}"));
        let got = &text[span.offset()..span.offset() + span.len()];
        if let Some(marked) = marked {
            assert_eq!(got, marked, "{fault}\n{text}");
        }
        assert!(fault.line_column().is_some());
    }
}

#[test]
fn places_are_those_of_the_users_text_after_variables() {
    let text = when("resource.path like \"${HOME}/a\" && resource.path == context.exe");
    let faults = faults(&text);
    let fault = faults.iter().next().unwrap();
    assert_eq!(fault.line_column(), Some((2, 37)), "{fault}");
    let report = format!("{:?}", miette::Report::new(faults.clone()));
    assert!(report.contains("dir/bad.cedar:2:37") && report.contains("${HOME}") && report.contains("help"), "{report}");
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = format!("{}\n{}", when("resource.path == context.exe"), endpoint("resource.port + 1 == 2"));
    assert_eq!(faults(&text).iter().count(), 3);
}

#[test]
fn patterns_that_multiply_are_refused_by_name() {
    let policies: String = (0..40)
        .map(|i| {
            format!("@id(\"star{i}\") forbid(principal, action, resource is File) when {{ resource.path like \"*/.s{i}/*\" && resource.path like \"*{i}\" }};\n")
        })
        .collect();
    let faults = faults(&policies);
    let fault = faults.iter().next().unwrap();
    assert!(fault.message().contains("`star") && fault.advice().unwrap_or_default().contains("||"), "{fault}");
}

#[test]
fn requests_that_the_kernel_never_makes_are_refused() {
    let file = |path: &str, exe: &str| Request::new("FileRead", Resource::File { path: path.into() }, exe);
    assert!(file("/x", "/bin/a").is_ok());
    for path in ["", "x", "/x/", "//x", "/x//y", "/./x", "/x/..", "/x\0", &format!("/{}", "x".repeat(4096))] {
        assert!(file(path, "/bin/a").is_err(), "{path}");
        assert!(file("/x", path).is_err(), "{path}");
    }
    for json in [
        r#"{"action": "FileRead"}"#,
        r#"{"action": "Mount", "resource": {"type": "File", "path": "/x"}, "context": {"exe": "/a"}}"#,
        r#"{"action": "FileRead", "resource": {"type": "Dir", "path": "/x"}, "context": {"exe": "/a"}}"#,
        r#"{"action": "FileRead", "resource": {"type": "File", "path": "/x", "more": 1}, "context": {"exe": "/a"}}"#,
        r#"{"action": "FileRead", "resource": {"type": "File", "path": "/\ud800"}, "context": {"exe": "/a"}}"#,
        r#"{"action": "NetworkConnect", "resource": {"type": "Endpoint", "ip": "1.2.3", "port": 1, "protocol": "tcp"}, "context": {"exe": "/a"}}"#,
        r#"{"action": "NetworkConnect", "resource": {"type": "Endpoint", "ip": "1.2.3.4", "port": 65536, "protocol": "tcp"}, "context": {"exe": "/a"}}"#,
        r#"{"action": "NetworkConnect", "resource": {"type": "Endpoint", "ip": "1.2.3.4", "port": 1, "protocol": "TCP"}, "context": {"exe": "/a"}}"#,
        r#"{"action": "SocketCreate", "resource": {"type": "Socket", "name": "netlink"}, "context": {"exe": "/a"}}"#,
    ] {
        assert!(serde_json::from_str::<Request>(json).is_err(), "{json}");
    }
    let good = r#"{"action":"NetworkConnect","resource":{"type":"Endpoint","ip":"::ffff:1.2.3.4","port":1,"protocol":"tcp"},"context":{"exe":"/a"}}"#;
    let request: Request = serde_json::from_str(good).unwrap();
    assert_eq!(serde_json::to_value(&request).unwrap()["resource"]["ip"], "1.2.3.4");
}

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
        (when("[resource.path] == [resource.name]"), "`resource.path` cannot be used in this way", Some("resource.path")),
        (when("{ a: resource.path }.a == context.exe"), "cannot be used in this way", Some("resource.path")),
        (when("context == { exe: resource.path }"), "cannot be used", None),
        (when("(if principal.is_ai then resource.path else context.exe) == resource.name"), "cannot be used", None),
        (endpoint("resource.port * resource.port == 443"), "`resource.port` cannot be used in this way", Some("resource.port")),
        (endpoint("[443].contains(resource.port + 1)"), "`resource.port` cannot be used in this way", Some("resource.port")),
        (endpoint("resource.port + 9223372036854775807 == 443"), "overflow", None),
        (when("File::\"/x\" in Dir::\"/\""), "only in requests that are about it", Some("File::\"/x\" in Dir::\"/\"")),
        (
            "permit(principal, action == Action::\"FileOpen\", resource);".into(),
            "is a group of actions",
            Some("Action::\"FileOpen\""),
        ),
        ("permit(principal, action in [], resource);".into(), "", None),
        (
            "permit(principal, action, resource);\n@id(\"bad#1\") forbid(principal, action, resource);".into(),
            "two policies have the id `bad#1`",
            Some("@id(\"bad#1\") forbid(principal, action, resource);"),
        ),
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
    let text = format!("{}\n{}", when("resource.path == context.exe"), endpoint("[2].contains(resource.port + 1)"));
    assert_eq!(faults(&text).iter().count(), 3);
}

/// Cedar's validator tells a fault again for each type that the resource can have.
#[test]
fn one_fault_is_told_once() {
    let text = "permit(principal, action, resource) when { resource.paht == \"/x\" && principal.nmae == \"x\" };";
    let faults = faults(text);
    let places: Vec<_> = faults.iter().map(|fault| fault.line_column()).collect();
    assert!(places.len() <= 2 && places[0].is_some(), "{faults:?}");
}

#[test]
fn a_group_of_actions_is_to_be_used_with_in() {
    let faults = faults("forbid(principal, action == Action::\"FileModify\", resource);");
    let advice: Vec<_> = faults.iter().filter_map(|fault| fault.advice()).collect();
    assert!(advice.iter().any(|advice| advice.contains("write `action in Action::\"FileModify\"`")), "{advice:?}");
}

#[test]
fn files_of_one_name_are_told_of_once() {
    let policies = "permit(principal, action, resource);\nforbid(principal, action, resource);\n";
    let sources = ["a/p.cedar", "b/p.cedar"].map(|name| Source { name: name.into(), text: policies.into() });
    let faults = compile(&sources, &Variables::default(), &Principal::default()).err().expect("two policies are called `p#1`");
    let faults: Vec<_> = faults.iter().collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].message().contains("a/p.cedar:1 and b/p.cedar:1") && faults[0].source_name() == "b/p.cedar", "{faults:?}");
    assert!(!faults[0].advice().unwrap().contains("change the `@id`"), "{faults:?}");
}

#[test]
fn what_looks_like_a_variable_stays_in_an_annotation() {
    let text = "@id(\"a\") @reason(\"keep out of ${NOWHERE}, ${HOME} and ${\") permit(principal, action, resource);";
    let sources = [Source { name: "a.cedar".into(), text: text.into() }];
    let variables = Variables([("HOME".to_owned(), "/home/a".to_owned())].into());
    let compiled = compile(&sources, &variables, &Principal::default()).unwrap();
    assert_eq!(compiled.policies()[0].reason.as_deref(), Some("keep out of ${NOWHERE}, /home/a and ${"));
}

#[test]
fn more_text_or_policies_than_the_limit_are_refused_at_the_place() {
    let one = "forbid(principal, action, resource);\n";
    for (text, message, line) in [
        (one.repeat(100_001), "there are 100001 policies; 100000 is the limit", 100_001),
        (format!("{one}// {}", "é".repeat(2 << 20)), "bytes of text; 4194304 is the limit", 2),
    ] {
        let sources = [Source { name: "large.cedar".into(), text }];
        let faults = compile(&sources, &Variables::default(), &Principal::default()).err().expect("refused");
        let faults: Vec<_> = faults.iter().collect();
        assert!(faults.len() == 1 && faults[0].message().contains(message), "{}", faults[0]);
        assert_eq!(faults[0].line_column().unwrap().0, line);
    }
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

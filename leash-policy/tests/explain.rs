//! What `explain` says, and what is warned about.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_policy::{Compiled, Principal, Request, Resource, Source, Variables, compile};

const POLICIES: &str = r#"
@id("read-usr") permit(principal, action == Action::"FileRead", resource in Dir::"/usr");
@id("write-work") permit(principal, action in Action::"FileModify", resource in Dir::"/home/u/work") when { context.exe like "/usr/bin/*" };
@id("team-only") permit(principal in Team::"core", action == Action::"FileDelete", resource in Dir::"/srv");
@id("exec") permit(principal, action == Action::"ProcessExec", resource is File) when { resource.path like "/bin/*" && context.exe == "/bin/sh" };
@id("web") permit(principal, action == Action::"NetworkConnect", resource is Endpoint) when { resource.port == 443 } unless { resource.ip.isLoopback() };
@id("people") permit(principal, action == Action::"FileLink", resource in Dir::"/opt") unless { principal.is_ai };
@id("never") forbid(principal, action, resource in Dir::"/secret");
"#;

fn compiled(text: &str) -> Compiled {
    compile(&[Source { name: "p.cedar".into(), text: text.into() }], &Variables::default(), &Principal::default()).unwrap()
}

fn explain(policy: &Compiled, action: &str, resource: Resource, exe: &str) -> String {
    policy.explain(&Request::new(action, resource, exe).unwrap()).join("\n") + "\n"
}

#[test]
fn a_default_denial_names_the_nearest_permit_and_what_it_lacks() {
    let policy = compiled(POLICIES);
    let file = |path: &str| Resource::File { path: path.into() };
    let web = |ip: &str, port| Resource::Endpoint { ip: ip.parse().unwrap(), port, protocol: "tcp".into() };
    let cases = [
        (
            "FileRead",
            file("/etc/hosts"),
            "/bin/cat",
            "`read-usr` at p.cedar:2",
            "it is the File `/etc/hosts`, and the policy asks for `resource in Dir::\"/usr\"`",
        ),
        (
            "FileWrite",
            file("/home/u/work/a"),
            "/opt/x",
            "`write-work`",
            "condition: the program is `/opt/x`, and the policy asks for `context",
        ),
        ("FileWrite", file("/home/u/other"), "/usr/bin/vi", "`write-work`", "resource in Dir::\"/home/u/work\""),
        (
            "FileDelete",
            file("/srv/x"),
            "/bin/rm",
            "`team-only`",
            "principal: the agent is `agent`, and the policy asks for `principal in Team::\"core\"`",
        ),
        ("ProcessExec", file("/bin/ls"), "/bin/bash", "`exec`", "the program is `/bin/bash`"),
        ("ProcessExec", file("/opt/ls"), "/bin/sh", "`exec`", "the File is `/opt/ls`"),
        ("NetworkConnect", web("192.0.2.1", 80), "/bin/nc", "`web`", "port == 443"),
        ("NetworkConnect", web("127.0.0.1", 443), "/bin/nc", "`web`", "isLoopback"),
        ("FileLink", file("/opt/x"), "/bin/ln", "`people`", "is_ai"),
    ];
    for (action, resource, exe, name, lack) in cases {
        let words = explain(&policy, action, resource, exe);
        assert!(words.contains("no policy permits it") && words.contains(&format!("the nearest permit is {name}")), "{words}");
        assert!(words.contains(lack), "no `{lack}` in\n{words}");
    }
    let other_action = explain(&policy, "DirList", Resource::Dir { path: "/usr/lib".into() }, "/bin/ls");
    assert!(
        other_action.contains("action: it is `DirList`, and the policy asks for `action == Action::\"FileRead\"`"),
        "{other_action}"
    );
}

#[test]
fn other_answers_name_no_nearest_permit() {
    let policy = compiled(POLICIES);
    for path in ["/usr/lib/a", "/secret/a"] {
        let words = explain(&policy, "FileRead", Resource::File { path: path.into() }, "/bin/cat");
        assert!(!words.contains("nearest"), "{words}");
    }
    let forbids = compiled(r#"forbid(principal, action, resource);"#);
    assert!(!explain(&forbids, "FileRead", Resource::File { path: "/a".into() }, "/bin/cat").contains("nearest"));
}

#[test]
fn policies_that_can_never_apply_are_warned_about() {
    let text = format!(
        "{POLICIES}@id(\"no\") forbid(principal, action == Action::\"DirList\", resource is File);\n@id(\"nor\") permit(principal, action, resource) when {{ resource is File && resource is Dir }};"
    );
    let policy = compiled(&text);
    let warnings: Vec<_> =
        policy.warnings().iter().map(|warning| (warning.line_column(), warning.message().to_owned())).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].0 == Some((9, 1)) && warnings[0].1.contains("impossible"), "{warnings:?}");
    assert!(compiled(POLICIES).warnings().is_empty());
}

#[test]
fn profiles_have_no_warnings() {
    let variables = [
        "HOME",
        "WORKSPACE",
        "TMPDIR",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_RUNTIME_DIR",
    ]
    .map(|name| (name.to_owned(), format!("/v/{name}")))
    .into_iter()
    .chain(["DNS1", "DNS2", "DNS3"].map(|name| (name.to_owned(), "192.0.2.1".to_owned())));
    let variables: Variables = variables.collect();
    for profile in leash_policy::profile::PROFILES {
        let compiled = compile(&profile.sources(), &variables, &Principal::default()).unwrap();
        let warnings: Vec<_> = compiled.warnings().iter().map(ToString::to_string).collect();
        assert!(warnings.is_empty(), "{}: {warnings:?}", profile.name);
    }
}

#[test]
fn of_policies_that_look_alike_each_wrong_one_is_refused() {
    let good = |path: &str| {
        format!("permit(principal, action, resource) when {{ resource is File && resource.path like \"{path}\" }};\n")
    };
    let text = format!(
        "{}{}permit(principal, action, resource) when {{ resource is File && resource.paht like \"/c\" }};\n",
        good("/a"),
        good("/b")
    );
    let faults = compile(&[Source { name: "p.cedar".into(), text }], &Variables::default(), &Principal::default()).err().unwrap();
    assert_eq!(faults.iter().next().unwrap().line_column().unwrap().0, 3);
}

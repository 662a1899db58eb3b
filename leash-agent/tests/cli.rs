//! Commands that start nothing: what they print where, and their exit status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

const PERMIT: &str = "@id(\"all\") permit(principal, action, resource);\n";
/// Valid, and yet worth a warning.
const NEVER: &str = "forbid(principal, action == Action::\"FileRead\", resource is Endpoint);\n";

fn leash(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leash"));
    command.args(arguments).stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    words(leash(arguments).output().unwrap())
}

fn words(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn with_input(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = leash(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    words(child.wait_with_output().unwrap())
}

/// A file of this text, and its path.
fn file(dir: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = dir.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_check_is_quiet_or_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(dir.path(), "good.cedar", PERMIT);
    let odd = file(dir.path(), "odd.cedar", NEVER);
    let bad = file(dir.path(), "bad.cedar", "permit(principal, action, resource) when { resource.nonsense };");
    assert_eq!(run(&["policy", "check", &good]), (Some(0), String::new(), String::new()));
    let (status, _, warning) = run(&["policy", "check", &odd]);
    assert!(status == Some(0) && warning.contains("odd.cedar"), "{warning}");
    assert_eq!(run(&["policy", "check", "-q", &odd]), (Some(0), String::new(), String::new()));
    for (options, colored) in [(&[][..], false), (&["--color", "always"], true), (&["--color", "never"], false)] {
        let (status, _, words) = run(&[&["policy", "check", &bad], options].concat());
        assert!(status == Some(3) && words.contains("nonsense") && words.contains("bad.cedar"), "{words}");
        assert_eq!(words.contains('\u{1b}'), colored, "{words}");
    }
}

#[test]
fn nobody_listens_and_the_status_is_right_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text, status) in [("odd.cedar", NEVER, 0), ("bad.cedar", "permit(", 3), ("empty.cedar", "", 3)] {
        let policy = file(dir.path(), name, text);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(leash(&["policy", "check", &policy]).stderr(writer).status().unwrap().code(), Some(status), "{name}");
    }
}

#[test]
fn no_policy_is_none_that_could_be_checked_or_asked() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("policies");
    fs::create_dir(&directory).unwrap();
    let (empty, directory) = (file(dir.path(), "empty.cedar", "// soon\n"), directory.to_str().unwrap());
    for path in [&empty, directory] {
        for arguments in [
            &["policy", "check", path][..],
            &["policy", "eval", "--policy", path],
            &["policy", "explain", "--policy", path, "FileRead", "--file", "/x"],
        ] {
            let (status, out, words) = run(arguments);
            assert!(
                status == Some(3) && out.is_empty() && words.contains("there is no policy in") && words.contains(path),
                "{words}"
            );
        }
    }
    let good = file(dir.path(), "good.cedar", PERMIT);
    assert_eq!(run(&["policy", "check", &empty, &good]).0, Some(0));
}

/// Each variable that a session's policies may name, with the value that it would have.
#[test]
fn policies_name_the_variables_of_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let names =
        ["HOME", "WORKSPACE", "TMPDIR", "USER", "UID", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "DNS1", "DNS2"];
    let asked: Vec<String> = names.iter().map(|name| format!("resource.path == \"/${{{name}}}\"")).collect();
    let all =
        file(&place, "all.cedar", &format!("permit(principal, action, resource is File) when {{ {} }};", asked.join(" || ")));
    let (status, _, words) = run(&["policy", "check", &all]);
    assert_eq!(status, Some(0), "{words}");
    let home = file(&place, "home.cedar", "@id(\"h\") permit(principal, action, resource == File::\"${WORKSPACE}/a\");");
    let explain = ["policy", "explain", "--policy", &home, "FileRead", "--file"];
    let asked = |path: &Path, options: &[&str]| {
        let words = [&explain[..], &[path.to_str().unwrap()], options].concat();
        let output = leash(&words).current_dir(&place).env("TMPDIR", "/elsewhere").output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains("allow")
    };
    assert!(asked(&place.join("a"), &[]) && !asked(Path::new("/w/a"), &[]));
    assert!(!asked(&place.join("a"), &["--var", "WORKSPACE=/w"]) && asked(Path::new("/w/a"), &["--var", "WORKSPACE=/w"]));
    let (status, _, words) =
        run(&["policy", "check", &file(&place, "unknown.cedar", "permit(principal, action, resource == File::\"${NOPE}\");")]);
    assert!(status == Some(3) && words.contains("${NOPE}") && words.contains("${DNS1}"), "{words}");
}

#[test]
fn requests_and_principals_are_objects() {
    let dir = tempfile::tempdir().unwrap();
    let policy = file(dir.path(), "p.cedar", PERMIT);
    let eval = ["policy", "eval", "--policy", &policy];
    let good = r#"{"action": "FileRead", "resource": {"type": "File", "path": "/x"}, "context": {"exe": "/bin/cat"}}"#;
    let (status, out, words) = with_input(&eval, &format!("{good}\n\n"));
    let answer = json!({"verdict": "allow", "policies": ["all"]});
    assert_eq!((status, words.as_str()), (Some(0), ""));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&out).unwrap(),
        json!({"cedar": answer, "tables": answer, "agree": true})
    );
    for bad in [
        r#"["FileRead", {"type": "File", "path": "/x"}, {"exe": "/bin/cat"}]"#,
        r#"{"action": "FileRead", "resource": ["File", "/x"], "context": {"exe": "/bin/cat"}}"#,
        r#"{"action": "FileRead", "resource": {"type": "File", "path": "/x"}, "context": ["/bin/cat"]}"#,
        "7",
    ] {
        let (status, out, words) = with_input(&eval, bad);
        assert!(status == Some(2) && out.is_empty() && words.contains("line 1") && words.contains("a JSON object"), "{words}");
        assert!(!words.contains("struct") && !words.contains("Raw"), "{words}");
    }
    for (text, status) in [("{\"name\": \"codex\", \"teams\": [\"a\"]}", 0), ("[\"codex\"]", 2), ("\"codex\"", 2), ("", 2)] {
        let principal = file(dir.path(), "principal.json", text);
        let (got, _, words) = run(&["policy", "check", "--principal", &principal, &policy]);
        assert_eq!(got, Some(status), "{text}: {words}");
        assert!(!words.contains("struct"), "{words}");
    }
}

#[test]
fn what_is_wrong_with_a_log_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = file(dir.path(), "log.jsonl", "hello\n");
    let (status, out, words) = run(&["log", "show", &log]);
    assert_eq!((status, out.as_str(), words.matches("expected value").count()), (Some(1), "", 1), "{words}");
    assert!(words.contains("line 1 is no log record"), "{words}");
    let (status, _, words) = run(&["log", "show", "/no/such/log"]);
    assert!(status == Some(1) && words.contains("/no/such/log"), "{words}");
}

#[test]
fn wrong_usage_is_2() {
    for arguments in
        [&["man", "nonsense"][..], &["nonsense"], &["run"], &["log"], &["completions", "nonsense"], &["policy", "check"]]
    {
        let (status, out, words) = run(arguments);
        assert!(status == Some(2) && out.is_empty() && !words.is_empty(), "{arguments:?}: {status:?} {words}");
    }
    let (status, page, _) = run(&["man", "run"]);
    assert!(status == Some(0) && page.contains(".TH"));
}

/// What names, ids, reasons and arguments may hold: a few of each kind. The table is in `src/words/tests.rs`.
const HOSTILE: [&str; 8] = [
    "a\u{1b}]0;owned\u{7}b\u{1b}[2Jc",
    "a\nleash: 9 actions allowed, 0 denied\n  log: x",
    "a\r\u{7f}b",
    "a\u{9b}2Jb\u{85}c",
    "a\u{202e}b\u{2066}c",
    "a\u{200b}b\u{feff}c\u{ad}",
    "a\u{2028}b\u{2029}c",
    "a\u{e0041}b\u{e007f}c",
];
const READABLE: &str = "Größe 日本語 😀";

/// Whether a terminal finds nothing in these words to obey, and none of their lines begins like one of ours but `ours`.
fn assert_harmless(words: &str, ours: usize, what: &str) {
    let obeyed = |c: &char| {
        *c != '\n'
            && (c.is_control()
                || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'))
    };
    assert_eq!(words.chars().find(obeyed), None, "{what}: {words:?}");
    assert_eq!(
        words.lines().filter(|line| line.starts_with("leash: ") || line.starts_with("  log: ")).count(),
        ours,
        "{what}: {words}"
    );
}

#[test]
fn policies_command_no_terminal() {
    let dir = tempfile::tempdir().unwrap();
    for hostile in HOSTILE.iter().map(|hostile| format!("{hostile} {READABLE}")) {
        let quoted = hostile.escape_debug().to_string();
        // Cedar takes every character as it is but this one.
        let raw = hostile.replace('\r', "\\r");
        let place = dir.path().join(format!("{hostile}.cedar"));
        let path = place.to_str().unwrap();
        for (text, status) in [
            (format!("// {hostile}\npermit(principal, action, resource) when {{ resource.nonsense }};"), 3),
            (
                format!(
                    "@id(\"{hostile}\") permit(principal, action, resource); @id(\"{hostile}\") permit(principal, action, resource);"
                ),
                3,
            ),
            (format!("permit(principal, action, resource == File::\"{hostile}${{NOPE}}\");"), 3),
            (format!("permit({hostile}"), 3),
            (format!("@id(\"{raw}\") {NEVER}"), 0),
        ] {
            fs::write(&place, &text).unwrap();
            let (code, out, words) = run(&["policy", "check", path]);
            assert!(code == Some(status) && out.is_empty() && words.contains("日本語"), "{text:?}: {words}");
            assert_harmless(&words, 0, &text);
        }
        fs::write(&place, "").unwrap();
        let (_, _, words) = run(&["policy", "check", path]);
        assert_harmless(&words, 1, "no policy");
        assert!(words.contains(READABLE), "{words}");
        for text in [&raw, &quoted] {
            let policy = format!(
                "@id(\"{text}\") @reason(\"{text}\") forbid(principal, action == Action::\"FileRead\", resource);\n\
                 @id(\"p {text}\") permit(principal, action == Action::\"FileWrite\", resource == File::\"/{text}\");"
            );
            fs::write(&place, &policy).unwrap();
            for action in ["FileRead", "FileWrite"] {
                let explain = [
                    "policy",
                    "explain",
                    "--policy",
                    path,
                    action,
                    "--file",
                    &format!("/x{hostile}"),
                    "--exe",
                    &format!("/e{hostile}"),
                ];
                let (status, words, errors) = run(&explain);
                assert!(status == Some(0) && words.contains(READABLE), "{words}{errors}");
                assert_harmless(&words, 0, &policy);
            }
            let request = json!({"action": "FileRead", "resource": {"type": "File", "path": format!("/{hostile}")}, "context": {"exe": "/bin/cat"}});
            let (status, out, words) = with_input(&["policy", "eval", "--policy", path], &request.to_string());
            assert_eq!((status, words.as_str()), (Some(0), ""), "{out}");
            assert_harmless(&out, 0, &policy);
            let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(answer["cedar"]["policies"], json!([hostile]), "the value is the same");
        }
        let (status, _, words) = with_input(&["policy", "eval", "--policy", path], &json!({"action": hostile}).to_string());
        assert_eq!(status, Some(2));
        assert_harmless(&words, 1, "a request");
        fs::remove_file(&place).unwrap();
    }
}

#[test]
fn arguments_and_variables_command_no_terminal() {
    for hostile in HOSTILE {
        for arguments in [
            &[hostile][..],
            &[&format!("--{hostile}")],
            &["run", &format!("--{hostile}"), "--", "true"],
            &["run", "--mode", hostile, "--", "true"],
            &["run", "--profile", hostile, "--", "true"],
            &["run", "--workspace", hostile, "--", "true"],
            &["run", hostile],
            &["man", hostile],
            &["completions", hostile],
            &["policy", hostile],
            &["policy", "explain", "--policy", "p", "FileRead", "--endpoint", hostile],
            &["policy", "check", hostile],
            &["policy", "check", "--var", hostile, "p"],
            &["log", "show", hostile],
        ] {
            let (status, out, words) = run(arguments);
            assert!(status != Some(0) && out.is_empty() && !words.is_empty(), "{arguments:?}: {out}{words}");
            assert_harmless(&words, usize::from(words.starts_with("leash: ")), &format!("{arguments:?}"));
        }
        for (variable, arguments) in [
            ("LEASH_MODE", &["run", "--", "true"][..]),
            ("LEASH_PROFILE", &["run", "--help"]),
            ("LEASH_POLICY", &["run", "--help"]),
        ] {
            let (_, out, words) = self::words(leash(arguments).env(variable, hostile).output().unwrap());
            assert_harmless(&(out + &words), 0, variable);
        }
    }
    let mut command = leash(&["nonsense"]);
    std::os::unix::process::CommandExt::arg0(&mut command, "\u{202e}leash\nleash: 0 denied");
    assert_harmless(&words(command.output().unwrap()).2, 0, "its own name");
}

#[test]
fn logs_command_no_terminal() {
    let dir = tempfile::tempdir().unwrap();
    for hostile in HOSTILE.iter().map(|hostile| format!("{hostile} {READABLE}")) {
        let head = json!({"v": 1, "seq": 0, "time": "2024-02-29T12:34:56.123456789Z", "session": hostile, "agent": hostile});
        let record = |body: serde_json::Value| {
            let mut record = head.clone();
            record.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            record
        };
        let set = json!({"generation": 1, "policies": 1, "sources": [{"name": hostile, "sha256": ""}]});
        let counts = json!({"performed": 0, "recorded": 0, "folded": 0, "dropped": 0});
        let records = [
            record(
                json!({"type": "session_start", "leash": hostile, "backend": hostile, "kernel": hostile, "mode": "enforce", "command": [hostile],
                "workspace": hostile, "user": hostile, "uid": 1, "profile": hostile, "principal": {"name": hostile}, "policies": set}),
            ),
            record(
                json!({"type": "event", "action": hostile, "resource": {"type": "File", "path": hostile}, "verdict": "deny", "mode": "enforce",
                "policies": [hostile], "reason": hostile, "pid": 5, "tgid": 4, "ppid": 3, "uid": 1000, "exe": hostile, "errno": 13, "count": 3,
                "generation": 1}),
            ),
            record(
                json!({"type": "event", "action": "SocketCreate", "resource": {"type": "Socket", "name": hostile}, "verdict": "allow",
                "mode": "enforce", "policies": [hostile], "reason": hostile, "pid": 5, "tgid": 4, "ppid": 3, "uid": 1000, "exe": hostile,
                "errno": 0, "count": 1, "generation": 1}),
            ),
            record(json!({"type": "policy_reload", "ok": false, "policies": set, "error": hostile})),
            record(
                json!({"type": "session_end", "status": 1, "error": hostile, "seconds": 1.0, "totals": {"allow": counts, "deny": counts},
                "actions": {}}),
            ),
        ];
        // Somebody else's writer may leave in it what ours escapes.
        let text = records.iter().map(|record| format!("{record}\t\r\n")).collect::<String>();
        let log = file(dir.path(), "log.jsonl", &text);
        for command in ["show", "tail"] {
            let (status, out, words) = run(&["log", command, &log]);
            assert_eq!((status, words.as_str(), out.lines().count()), (Some(0), "", records.len()), "{out}");
            assert_harmless(&out, 0, &hostile);
            assert!(out.contains(READABLE), "{out}");
            let (status, out, words) = run(&["log", command, "--json", &log]);
            assert_eq!((status, words.as_str()), (Some(0), ""));
            assert_harmless(&out, 0, &hostile);
            let same: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(same, records);
        }
    }
}

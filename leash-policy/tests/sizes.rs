//! Large and hostile inputs: each is compiled, or refused with its place, within bounded time and memory. Whoever starts an agent in
//! a repository compiles the policies that it brings.
//!
//! Each input is compiled in a process of its own, under limits. Processor time is limited, not time by the clock, so that a busy
//! machine changes nothing; and what the compiler counts is the same on every machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use std::process::Command;

use leash_policy::{Principal, Request, Resource, Source, Variables, compile};

/// What a compilation may take. These tests aren't optimised as what is shipped is, which takes a third.
const SECONDS: u32 = 12;
/// 512 MiB, and what the process, its threads and their heaps reserve without using it.
// Stacks for deep policies are address space, 256 MiB for each thread that parses, and memory only where they are touched.
const KIBIBYTES: u32 = (512 + 192 + 6 * 256) << 10;

const ALL: &str = "@id(\"all\") permit(principal, action, resource);\n";

fn many(count: usize, policy: impl Fn(usize) -> String) -> String {
    (0..count).map(policy).collect()
}

fn directories(count: usize, effect: &str) -> String {
    many(count, |i| format!("@id(\"d{i}\") {effect}(principal, action, resource in Dir::\"/srv/p{i}\");\n"))
}

fn files(effect: &str, condition: &str) -> String {
    format!("{effect}(principal, action, resource is File) when {{ {condition} }};\n")
}

fn names(count: usize, effect: &str) -> String {
    many(count, |i| format!("@id(\"n{i}\") ") + &files(effect, &format!("resource.name == \"{}\"", word(i))))
}

fn words(count: usize, effect: &str) -> String {
    many(count, |i| format!("@id(\"w{i}\") ") + &files(effect, &format!("resource.path like \"*{}*\"", word(i))))
}

/// Words that have little in common.
fn word(i: usize) -> String {
    format!("{:08x}", (i as u32).wrapping_mul(0x9e37_79b1) ^ 0x5bd1_e995)
}

fn letter(i: usize) -> char {
    char::from(b'a' + (i % 26) as u8)
}

/// What becomes of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The tables name all determining policies.
    Exact,
    /// They name at least one for each denial, and a warning says so.
    Verdicts,
    /// The input is refused with its place and the limit.
    Refused,
}
use End::{Exact, Refused, Verdicts};

/// The inputs by name.
fn inputs() -> Vec<(&'static str, End, String)> {
    let like = |pattern: &str| files("forbid", &format!("resource.path like \"{pattern}\""));
    let exe = |i: usize| format!("permit(principal, action, resource) when {{ context.exe == \"/usr/bin/p{i}\" }};\n");
    let chain = |i: usize| (0..40).map(|j| letter(i * 7 + j * (i + 3)).to_string()).collect::<Vec<_>>().join("*");
    vec![
        ("1,000 directories with 200 forbidden names", Exact, directories(1000, "permit") + &names(200, "forbid")),
        (
            "1,000 forbidden directories with 200 forbidden names",
            Exact,
            ALL.to_owned() + &directories(1000, "forbid") + &names(200, "forbid"),
        ),
        ("5,000 directories with 5,000 forbidden names", Refused, directories(5000, "permit") + &names(5000, "forbid")),
        ("5,000 directories with 5,000 permitted names", Verdicts, directories(5000, "permit") + &names(5000, "permit")),
        ("1,000 directories with 300 forbidden words", Refused, directories(1000, "permit") + &words(300, "forbid")),
        ("10,000 directories", Exact, directories(10_000, "permit")),
        ("200,000 directories", Refused, directories(200_000, "permit")),
        ("20,000 programs", Refused, many(20_000, exe)),
        ("11 words anywhere", Verdicts, ALL.to_owned() + &words(11, "forbid")),
        ("2,000 words anywhere", Refused, ALL.to_owned() + &words(2000, "forbid")),
        ("a character that the compiler uses", Exact, ALL.to_owned() + &like("*\u{10fff7}*")),
        ("one word that is longer than a path", Exact, ALL.to_owned() + &like(&format!("*{}*", "x".repeat(40_000)))),
        ("one word as long as a path", Exact, ALL.to_owned() + &like(&format!("*{}*", "x".repeat(4_000)))),
        ("ten patterns of 40 letters", Refused, ALL.to_owned() + &many(10, |i| like(&format!("*{}*", chain(i))))),
        (
            "letters unless other letters",
            Refused,
            many(12, |i| {
                let (own, other) = (letter(i), letter(i).to_ascii_uppercase());
                let condition = format!("resource.path like \"*{own}*\" && !(resource.path like \"*{other}*\")");
                files("permit", &condition)
            }),
        ),
        (
            "paths 2,000 directories deep",
            Refused,
            many(100, |i| format!("permit(principal, action, resource in Dir::\"/{i}{}\");\n", "/a".repeat(2000))),
        ),
    ]
}

/// Compiles the input that the environment names; without one there is nothing to do.
#[test]
fn child() {
    let Ok(name) = std::env::var("LEASH_SIZES_INPUT") else { return };
    let (_, _, text) = inputs().into_iter().find(|(known, ..)| *known == name).unwrap();
    let sources = [Source { name: "large.cedar".into(), text }];
    match compile(&sources, &Variables::default(), &Principal::default()) {
        Ok(compiled) => {
            for path in
                ["/srv/p1", "/srv/p1/x", "/srv/p7/a/x", "/etc/passwd", "/srv/p3/5bd1e995", "/srv/p3/x5bd1e995y", "/xx/x/abc"]
            {
                for action in ["FileRead", "ProcessExec"] {
                    let request = Request::new(action, Resource::File { path: path.into() }, "/usr/bin/p3").unwrap();
                    let (cedar, tables) = (compiled.cedar(&request), compiled.decide(&request));
                    let unnamed = compiled.unnamed(&cedar, &tables);
                    assert!(unnamed.is_some(), "{path}: {cedar:?} {tables:?}");
                    assert!(unnamed.unwrap().is_empty() || !compiled.warnings().is_empty());
                }
            }
            let exact = compiled.warnings().is_empty();
            assert!(compiled.warnings().iter().all(|warning| warning.span().is_some()));
            println!("end: {:?} {:?}", if exact { Exact } else { Verdicts }, compiled.stats());
        }
        Err(faults) => {
            for fault in faults.iter() {
                assert!(fault.span().is_some(), "no place: {fault}");
                assert!(
                    !fault.message().contains("internal") && fault.message().contains(|c: char| c.is_ascii_digit()),
                    "{fault}"
                );
            }
            println!("end: {Refused:?} {}", faults.iter().next().unwrap());
        }
    }
}

#[test]
fn any_input_is_compiled_or_refused_within_its_limits() {
    let mut wrong = Vec::new();
    for (name, wanted, _) in inputs() {
        let script = format!("ulimit -v {KIBIBYTES}; ulimit -t {SECONDS}; exec \"$0\" --exact child --nocapture");
        let child = std::env::current_exe().unwrap();
        let out = Command::new("sh").args(["-c", &script]).arg(child).env("LEASH_SIZES_INPUT", name).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        let end = said.lines().find_map(|line| Some(line.split_once("end: ")?.1)).unwrap_or("none");
        println!("{name}: {end}");
        if !out.status.success() || !end.starts_with(&format!("{wanted:?}")) {
            wrong.push(format!("{name}: {:?}, wanted {wanted:?}: {end}\n{}", out.status, String::from_utf8_lossy(&out.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Any text compiles or is refused at its place, on any thread, however deep and however much it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

use leash_policy::{Principal, Request, Resource, Source, Variables, Verdict, compile};

/// Compiles, asks and drops on a thread with a small stack; the faults with their lines if it is refused.
fn on_a_small_stack(text: String) -> Result<Verdict, Vec<(String, usize)>> {
    let work = move || {
        let sources = [Source { name: "deep.cedar".into(), text }];
        match compile(&sources, &Variables::default(), &Principal::default()) {
            Ok(policy) => {
                let request = Request::new("FileRead", Resource::File { path: "/a".into() }, "/bin/a").unwrap();
                let verdict = policy.cedar(&request).verdict;
                assert_eq!(policy.decide(&request).verdict, verdict);
                assert!(policy.explain(&request).join("\n").contains("FileRead"));
                Ok(verdict)
            }
            Err(faults) => Err(faults
                .iter()
                .map(|fault| (fault.message().to_owned(), fault.line_column().map_or(0, |(line, _)| line)))
                .collect()),
        }
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap()
}

fn policy(condition: &str) -> String {
    format!("permit(principal, action == Action::\"FileRead\", resource)\nwhen {{ {condition} }};\n")
}

type Shape = (&'static str, fn(usize) -> String);

/// Conditions that are nested so often.
const NESTED: [Shape; 9] = [
    ("brackets", |n| format!("{}true{}", "(".repeat(n), ")".repeat(n))),
    ("negations", |n| format!("{}true{}", "!(".repeat(n), ")".repeat(n))),
    ("four negations", |n| format!("{}true{}", "!!!!(".repeat(n), ")".repeat(n))),
    ("sets", |n| format!("{}1{} == []", "[".repeat(n), "]".repeat(n))),
    ("records", |n| format!("{}1{} == {{}}", "{a: ".repeat(n), "}".repeat(n))),
    ("ifs after then", |n| format!("{}true{}", "if true then ".repeat(n), " else false".repeat(n))),
    ("ifs after else", |n| format!("{}true", "if false then false else ".repeat(n))),
    ("brackets on the right", |n| {
        format!("{}resource.path == \"/a\"{}", "resource.path == \"/b\" || (".repeat(n), ")".repeat(n))
    }),
    ("calls", |n| format!("{}1{}", "ip(".repeat(n), ")".repeat(n))),
];

/// Conditions with so many operators in a row.
const LONG: [Shape; 8] = [
    ("alternatives", |n| format!("resource.path == \"/a\"{}", " || resource.path == \"/b\"".repeat(n))),
    ("conjunction", |n| format!("resource.path == \"/a\"{}", " && resource.path != \"/b\"".repeat(n))),
    ("sum", |n| format!("principal.uid{} > 0", " + 1".repeat(n))),
    ("product", |n| format!("principal.uid{} > 0", " * 1".repeat(n))),
    ("attributes", |n| format!("principal{} == 1", ".uid".repeat(n))),
    ("indices", |n| format!("principal{} == 1", "[\"uid\"]".repeat(n))),
    ("has", |n| format!("principal has uid{}", ".uid".repeat(n))),
    ("calls in a row", |n| format!("principal.name{}", ".contains(1)".repeat(n))),
];

#[test]
fn nesting_is_bounded_with_a_place_and_the_limit() {
    for (name, condition) in NESTED {
        // The condition has a bracket of its own.
        for n in [100, 999] {
            if let Err(faults) = on_a_small_stack(policy(&condition(n))) {
                assert!(!faults.iter().any(|(fault, _)| fault.contains("limit")), "{name}: {faults:?}");
            }
        }
        for n in [1_000, 5_000, 100_000] {
            let faults = on_a_small_stack(policy(&condition(n))).expect_err(name);
            let wanted = format!("brackets and `if`s are nested {} deep here; 1000 is the limit", n + 1);
            assert!(faults.contains(&(wanted, 2)), "{name}: {faults:?}");
        }
    }
}

#[test]
fn length_is_bounded_with_a_place_and_the_limit() {
    for (name, condition) in LONG {
        for n in [100, 9_000] {
            if let Err(faults) = on_a_small_stack(policy(&condition(n))) {
                assert!(!faults.iter().any(|(fault, _)| fault.contains("limit")), "{name}: {faults:?}");
            }
        }
        for n in [20_000, 100_000] {
            let faults = on_a_small_stack(policy(&condition(n))).expect_err(name);
            let deep = faults.iter().any(|(fault, line)| fault.contains("operators deep here; 10000 is the limit") && *line == 2);
            assert!(deep, "{name}: {faults:?}");
        }
    }
}

#[test]
fn what_is_deep_within_the_limits_is_decided() {
    let deep = |n: usize| format!("{}resource.path == \"/a\"{}", "!(!(".repeat(n / 2), "))".repeat(n / 2));
    assert_eq!(on_a_small_stack(policy(&deep(998))), Ok(Verdict::Allow));
    let long = LONG[0].1(9_000);
    assert_eq!(on_a_small_stack(policy(&long)), Ok(Verdict::Allow));
    let conditions = "when { true }\n".repeat(5_000);
    assert_eq!(on_a_small_stack(format!("permit(principal, action, resource)\n{conditions};")), Ok(Verdict::Allow));
}

/// Text of more than 64 KiB is parsed on threads of their own.
#[test]
fn depth_is_bounded_in_large_files_too() {
    let many = "permit(principal, action, resource in Dir::\"/srv\");\n".repeat(4_000);
    for n in [999, 1_000, 20_000] {
        let text = format!("{many}{}", policy(&NESTED[1].1(n)));
        match on_a_small_stack(text) {
            Ok(_) => assert_eq!(n, 999),
            Err(faults) => assert!(n >= 1_000 && faults[0].0.contains("nested") && faults[0].1 == 4_002, "{n}: {faults:?}"),
        }
    }
}

#[test]
fn strings_and_comments_are_not_deep() {
    let brackets = "([{".repeat(3_000);
    let text = format!(
        "// {brackets}\npermit(principal, action, resource) when {{ resource is File && resource.path != \"{brackets}\" }};"
    );
    assert_eq!(on_a_small_stack(text), Ok(Verdict::Allow));
}

//! Policies that differ in their pattern alone share a place in the tables where telling all combinations apart would take too
//! much room: verdicts stay exactly Cedar's, and at least one determining policy of each form is named.
#![allow(dead_code)] // the generator is shared with other suites
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod generate;

use generate::Random;
use leash_policy::{Compiled, Principal, Request, Resource, Source, Variables, Verdict, compile};

fn compiled(text: &str) -> Result<Compiled, String> {
    compiled_for(text, &Principal::default())
}

fn compiled_for(text: &str, principal: &Principal) -> Result<Compiled, String> {
    let sources = [Source { name: "many.cedar".into(), text: text.into() }];
    compile(&sources, &Variables::default(), principal).map_err(|faults| {
        faults.iter().map(|fault| format!("{fault} at {:?}", fault.line_column())).collect::<Vec<_>>().join("\n")
    })
}

/// 200 forbids by a word anywhere in the path, among others.
fn many(condition: impl Fn(usize) -> String) -> String {
    let mut text = "@id(\"all\") permit(principal, action, resource);\n".to_owned();
    for i in 0..200 {
        text.push_str(&format!(
            "@id(\"word{i}\") @reason(\"reason {i}\") forbid(principal, action, resource) when {{ {} }};\n",
            condition(i)
        ));
    }
    text
}

fn read(path: &str) -> Request {
    Request::new("FileRead", Resource::File { path: path.into() }, "/bin/cat").unwrap()
}

#[test]
fn two_hundred_words_anywhere_in_a_path_compile() {
    for (condition, size) in [
        ((|i| format!("resource is File && resource.path like \"*secret{i}*\"")) as fn(usize) -> String, 16),
        (|i| format!("resource is File && resource.path like \"*/.s{i}/*\""), 16),
        (|i| format!("resource is File && resource.name like \"*secret{i}*\""), 16),
        (|i| format!("resource is File && resource.path like \"*secret{i}*\" && context.exe like \"/usr/bin/*\""), 16),
    ] {
        let compiled = compiled(&many(condition)).unwrap();
        assert!(compiled.stats().pages <= size, "{:?}", compiled.stats());
        assert!(compiled.warnings().iter().any(|warning| warning.message().contains("`word0`") && warning.span().is_some()));
    }
}

#[test]
fn one_of_the_policies_is_named_and_the_others_are_told_of() {
    let policy = compiled(&many(|i| format!("resource is File && resource.path like \"*secret{i}*\""))).unwrap();
    let (one, two, none) = (read("/a/secret17/x"), read("/a/secret3x/secret150/secret42"), read("/a/secre"));
    assert_eq!(policy.decide(&none), policy.cedar(&none));
    assert_eq!(policy.decide(&one).policies, ["word1"]);
    assert_eq!(policy.cedar(&one).policies, ["word1", "word17"]);
    let (cedar, tables) = (policy.cedar(&two), policy.decide(&two));
    assert_eq!((tables.verdict, tables.policies.len()), (Verdict::Deny, 1));
    let unnamed = policy.unnamed(&cedar, &tables).unwrap();
    assert_eq!(unnamed.len() + 1, cedar.policies.len());
    let words = policy.explain(&two).join("\n");
    assert!(words.contains("word3") && words.contains("word150"), "{words}");
    // A wrong name, no name or another verdict is no agreement.
    let wrong = |policies: &[&str]| leash_policy::Outcome {
        policies: policies.iter().map(|id| (*id).to_owned()).collect(),
        ..tables.clone()
    };
    for wrong in [wrong(&[]), wrong(&["word9"]), wrong(&["all"]), policy.decide(&none)] {
        assert_eq!(policy.unnamed(&cedar, &wrong), None);
    }
}

#[test]
fn a_dozen_policies_still_name_every_one() {
    let text: String = (0..8)
        .map(|i| format!("@id(\"w{i}\") forbid(principal, action, resource is File) when {{ resource.path like \"*w{i}*\" }};\n"))
        .collect();
    let policy = compiled(&text).unwrap();
    let request = read("/w1w5w7");
    assert_eq!(policy.decide(&request).policies, ["w1", "w5", "w7"]);
    assert!(policy.warnings().is_empty());
}

/// Exceptions don't join: with any one of them unmatched its permit holds.
#[test]
fn policies_that_a_match_makes_fail_are_refused() {
    let text: String = (0..40)
        .map(|i| {
            format!("@id(\"u{i}\") permit(principal, action, resource is File) unless {{ resource.path like \"*w{i}*\" }};\n")
        })
        .collect();
    let faults = compiled(&text).err().unwrap();
    assert!(faults.contains("cannot stand for the others") && faults.contains("Some("), "{faults}");
}

#[test]
fn verdicts_are_cedars_among_policies_that_share_a_place() {
    let seed = std::env::var("LEASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("LEASH_SEED={seed}");
    // What must hold for every seed is equality; how often places are shared varies.
    let mut random = Random::new(seed);
    let (mut shared, mut unnamed) = (0, 0);
    for _ in 0..16 {
        let text = format!("{}{}", generate::policies(&mut random), alike(&mut random));
        let policy = match compiled_for(&text, &generate::principal(&mut random)) {
            Ok(policy) => policy,
            // Several groups can multiply with each other.
            Err(faults) => {
                assert!(["multiply", "too many", "steps of work"].iter().any(|limit| faults.contains(limit)), "{faults}\n{text}");
                continue;
            }
        };
        shared += usize::from(!policy.warnings().is_empty());
        for _ in 0..300 {
            let mut request = generate::request(&mut random, &text);
            if let Resource::File { path } = request.resource() {
                let mut path = path.trim_end_matches('/').to_owned() + "/x";
                for _ in 0..random.below(4) {
                    path.push_str(&format!("{}w{}", random.pick(&["", "/", "."]), random.below(40)));
                }
                request = Request::new(request.kind().action(), Resource::File { path }, request.exe()).unwrap();
            }
            let (cedar, tables) = (policy.cedar(&request), policy.decide(&request));
            match policy.unnamed(&cedar, &tables) {
                Some(more) => unnamed += more.len(),
                None => panic!("{request:?}\n  Cedar:  {cedar:?}\n  tables: {tables:?}\n{text}"),
            }
        }
    }
    assert!(shared >= 8 && unnamed > 100, "{shared} sets shared places, {unnamed} policies were not named");
}

/// Groups of policies that differ in a pattern.
fn alike(random: &mut Random) -> String {
    let mut text = String::new();
    for group in 0..1 + random.below(2) {
        let effect = random.pick(&["permit", "forbid", "forbid"]);
        let scope = random.pick(&[
            "action",
            "action == Action::\"FileRead\"",
            "action in [Action::\"FileOpen\", Action::\"ProcessExec\"]",
        ]);
        let attribute = random.pick(&["path", "path", "name"]);
        let more =
            random.pick(&["", "", " && context.exe like \"*a*\"", " || context.exe == \"/bin/ab\"", " && principal.is_ai"]);
        let (before, after) = (random.pick(&["*", "*.", "*/"]), random.pick(&["*", "*", "*x*"]));
        for i in 0..14 + random.below(25) {
            let before = if attribute == "name" { "*" } else { before };
            text.push_str(&format!(
                "@id(\"g{group}-{i}\") {effect}(principal, {scope}, resource) when {{ resource is File && (resource.{attribute} like \"{before}w{i}{after}\"{more}) }};\n"
            ));
        }
    }
    text
}

//! What the tables say about moving files and directories, against Cedar's verdicts: where they say that a move gains nothing, no
//! name below may gain a use. Cedar answers by the policies themselves, so the tables are no witness in their own case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job
#![allow(dead_code)] // the generator is shared with other suites

mod generate;

use generate::Random;
use leash_common::kind::Kind;
use leash_common::table::{
    Cursor, Image, PAGE_WORDS, Page, gains_nothing, header, header_word, subtree_gains_nothing, walk_bytes,
};
use leash_policy::{Compiled, Request, Resource, Source, Variables, Verdict, compile};

struct Pages<'a>(&'a [u64]);

impl Image for Pages<'_> {
    fn page(&self, number: u32) -> Option<&Page> {
        let start = number as usize * PAGE_WORDS;
        self.0.get(start..start + PAGE_WORDS)?.try_into().ok()
    }
}

fn walk<'a>(image: &'a Pages<'a>, text: &str) -> Cursor<'a> {
    let mut cursor = Cursor::enter(image, header_word(image, header::START_TEXT).unwrap() as u32).unwrap();
    walk_bytes(image, &mut cursor, text.as_bytes()).unwrap();
    cursor
}

const PROGRAMS: [&str; 4] = ["/bin/a", "/bin/ab", "/usr/bin/python3", "/a"];

fn uses(set: u32) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(move |kind| set >> (*kind as u32) & 1 != 0)
}

fn resource(kind: Kind, path: &str) -> Option<Resource> {
    use leash_common::kind::ResourceType as Type;
    let path = path.to_owned();
    match kind.resource_type() {
        Type::File => Some(Resource::File { path }),
        Type::Dir => Some(Resource::Dir { path }),
        Type::UnixSocket => Some(Resource::UnixSocket { path }),
        Type::Endpoint | Type::Socket => None,
    }
}

/// A use that Cedar grants on the new name and denies on the old one.
fn gain(policy: &Compiled, exe: &str, old: &str, new: &str, set: u32) -> Option<String> {
    for kind in uses(set) {
        let verdict = |path: &str| {
            let request = Request::new(kind.action(), resource(kind, path)?, exe).ok()?;
            Some(policy.cedar(&request).verdict)
        };
        if let (Some(Verdict::Deny), Some(Verdict::Allow)) = (verdict(old), verdict(new)) {
            return Some(format!("{} by {exe}: {old} → {new}", kind.action()));
        }
    }
    None
}

/// A way to go on below a directory, made of what the policies name.
fn below(random: &mut Random, parts: &[&str]) -> String {
    let mut path = String::new();
    for _ in 0..1 + random.below(3) {
        path.push('/');
        path.push_str(parts[random.below(parts.len())]);
        if random.chance(30) {
            path.push_str(parts[random.below(parts.len())]);
        }
    }
    path
}

#[test]
fn what_is_said_to_gain_nothing_gains_nothing_below() {
    let seed = std::env::var("LEASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("LEASH_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut files, mut trees, mut uniform, mut compared, mut refused) = (0, 0, 0, 0, 0);
    for _ in 0..80 {
        let text = generate::policies(&mut random);
        let principal = generate::principal(&mut random);
        let sources = [Source { name: "random.cedar".into(), text: text.clone() }];
        let policy = compile(&sources, &Variables::default(), &principal).unwrap();
        let image = Pages(policy.image());
        let mut parts: Vec<&str> = text
            .split(['"', '/', '*'])
            .filter(|part| !part.is_empty() && part.len() < 8 && !part.contains([' ', '\\', '(', '.']))
            .collect();
        parts.extend(["a", "b", ".a", "k.pem", "zz", "é"]);
        for _ in 0..6 {
            let (old, new) = (below(&mut random, &parts), below(&mut random, &parts));
            let (old_cursor, new_cursor) = (walk(&image, &old), walk(&image, &new));
            let set = Kind::LATER_USE_FILE;
            if gains_nothing(&image, old_cursor.accept(), new_cursor.accept(), set).unwrap() {
                files += 1;
                assert_eq!(gain(&policy, random.pick(&PROGRAMS), &old, &new, set), None, "{principal:?}\n{text}");
            } else {
                refused += 1;
            }
            let (old_dir, new_dir) = (walk(&image, &format!("{old}/")), walk(&image, &format!("{new}/")));
            for (cursor, directory) in [(&old_dir, &old), (&new_dir, &new)] {
                if !cursor.uniform_below() {
                    continue;
                }
                uniform += 1;
                // All that lies below is granted alike: no two names below differ in any use.
                for _ in 0..3 {
                    let (one, other) = (below(&mut random, &parts), below(&mut random, &parts));
                    let (one, other) = (format!("{directory}{one}"), format!("{directory}{other}"));
                    assert_eq!(
                        gain(&policy, random.pick(&PROGRAMS), &one, &other, Kind::LATER_USE_BELOW_DIRECTORY),
                        None,
                        "{principal:?}\n{text}"
                    );
                }
            }
            if subtree_gains_nothing(&image, &old_dir, &new_dir).unwrap() {
                trees += 1;
                for _ in 0..4 {
                    compared += 1;
                    let rest = below(&mut random, &parts);
                    let (one, other) = (format!("{old}{rest}"), format!("{new}{rest}"));
                    assert_eq!(
                        gain(&policy, random.pick(&PROGRAMS), &one, &other, Kind::LATER_USE_BELOW_DIRECTORY),
                        None,
                        "{principal:?}\n{text}"
                    );
                }
            } else {
                refused += 1;
            }
        }
    }
    println!("{files} files, {trees} trees ({compared} names below), {uniform} uniform, {refused} refused");
    assert!(files > 50 && trees > 50 && uniform > 50 && refused > 20);
}

/// The kernel's answer must also be usable: ordinary moves are not refused.
#[test]
fn ordinary_moves_are_granted_and_gaining_ones_are_not() {
    let text = r#"
        permit(principal, action, resource in Dir::"/w");
        forbid(principal, action in Action::"FileOpen", resource in Dir::"/w/deny");
        forbid(principal, action == Action::"ProcessExec", resource in Dir::"/w/data") unless { context.exe == "/bin/a" };
        permit(principal, action == Action::"FileRead", resource in Dir::"/r");
    "#;
    let sources = [Source { name: "m.cedar".into(), text: text.into() }];
    let policy = compile(&sources, &Variables::default(), &leash_policy::Principal::default()).unwrap();
    let image = Pages(policy.image());
    let file = |old: &str, new: &str| {
        gains_nothing(&image, walk(&image, old).accept(), walk(&image, new).accept(), Kind::LATER_USE_FILE).unwrap()
    };
    let tree = |old: &str, new: &str| {
        subtree_gains_nothing(&image, &walk(&image, &format!("{old}/")), &walk(&image, &format!("{new}/"))).unwrap()
    };
    for (old, new, granted) in [
        ("/w/a", "/w/b", true),
        ("/w/a", "/w/deny/b", true),
        ("/w/deny/a", "/w/b", false),
        ("/w/data/a", "/w/b", false),
        ("/w/a", "/w/data/b", true),
        ("/r/a", "/w/b", false),
        ("/x/a", "/x/b", true),
    ] {
        assert_eq!(file(old, new), granted, "file {old} → {new}");
    }
    for (old, new, granted) in [
        ("/w/a", "/w/b", true),
        ("/w/a", "/w/denylist", true),
        ("/w/deny", "/w/b", false),
        ("/w/deny/x", "/w/b", false),
        ("/w/a", "/w/deny/b", true),
        ("/w/data/x", "/w/b", false),
        // Something below one of them is otherwise than the rest, so neither may take the other's place.
        ("/w", "/x", false),
        ("/x", "/w", false),
    ] {
        assert_eq!(tree(old, new), granted, "tree {old} → {new}");
    }
}

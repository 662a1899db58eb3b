//! What is decided without knowing the acting program: it must be the "or" over all programs, by the same tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job
#![allow(dead_code)] // the generator is shared with other suites

mod generate;

use std::net::IpAddr;

use generate::Random;
use leash_common::kind::Protocol;
use leash_common::table::{
    Cursor, Image, PAGE_WORDS, Page, Whoever, decide_row, decide_whoever, header, header_word, walk_bytes, walk_endpoint,
};
use leash_policy::{Request, Resource, Source, Variables, Verdict, compile};

const SETS: u64 = 100;
const REQUESTS: usize = 200;

struct Pages<'a>(&'a [u64]);

impl Image for Pages<'_> {
    fn page(&self, number: u32) -> Option<&Page> {
        let start = number as usize * PAGE_WORDS;
        self.0.get(start..start + PAGE_WORDS)?.try_into().ok()
    }
}

/// The row of a request's resource.
fn row(image: &Pages<'_>, request: &Request) -> u32 {
    match request.resource() {
        Resource::Endpoint { ip, port, protocol } => {
            let protocol = Protocol::ALL.into_iter().find(|known| known.name() == protocol).unwrap();
            match ip {
                IpAddr::V4(ip) => walk_endpoint(image, &ip.octets(), protocol, *port).unwrap().accept(),
                IpAddr::V6(ip) => walk_endpoint(image, &ip.octets(), protocol, *port).unwrap().accept(),
            }
        }
        Resource::File { path: text }
        | Resource::Dir { path: text }
        | Resource::UnixSocket { path: text }
        | Resource::Socket { name: text } => {
            let mut cursor = Cursor::enter(image, header_word(image, header::START_TEXT).unwrap() as u32).unwrap();
            walk_bytes(image, &mut cursor, text.as_bytes()).unwrap();
            cursor.accept()
        }
    }
}

#[test]
fn without_a_program_the_answer_is_that_of_all_programs_together() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = std::env::var("LEASH_SEED").map_or(now, |seed| seed.parse().expect("`LEASH_SEED` is a number"));
    println!("LEASH_SEED={first}");
    let mut seen = [0; 3];
    for seed in (0..SETS).map(|number| first.wrapping_add(number)) {
        let mut random = Random::new(seed);
        let text = generate::policies(&mut random);
        let principal = generate::principal(&mut random);
        let sources = [Source { name: "random.cedar".into(), text: text.clone() }];
        let compiled = compile(&sources, &Variables::default(), &principal).unwrap_or_else(|_| panic!("seed {seed}: {text}"));
        let image = Pages(compiled.image());
        for _ in 0..REQUESTS {
            let request = generate::request(&mut random, &text);
            let row = row(&image, &request);
            let answer = decide_whoever(&image, row, request.kind()).unwrap();
            let classes = 0..compiled.stats().exe_classes as u32;
            let each: Vec<_> = classes.map(|class| decide_row(&image, row, request.kind(), class).unwrap()).collect();
            let of_one_reason = each.iter().all(|decision| decision.reason == each[0].reason);
            let expected = match each.iter().any(|decision| decision.allow) {
                true => Whoever::Allow,
                false if of_one_reason => Whoever::Deny(each[0].reason),
                false => Whoever::DenyVariously,
            };
            assert_eq!(answer, expected, "seed {seed}: {request:?}\n{each:?}\n{text}");
            if answer != Whoever::Allow {
                assert_eq!(compiled.cedar(&request).verdict, Verdict::Deny, "seed {seed}: {request:?}\n{text}");
            }
            seen[match answer {
                Whoever::Allow => 0,
                Whoever::Deny(_) => 1,
                Whoever::DenyVariously => 2,
            }] += 1;
        }
    }
    println!("allowed, denied alike, denied variously: {seen:?}");
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

//! Random policy sets and requests through Cedar's authorizer and through the tables: the verdict and the determining policies
//! must be the same, always.
//!
//! Seeds are printed; `LEASH_SEED` gives one back, `LEASH_COMPARISONS` says how many to make. Seeds that once found a difference
//! are in `tests/corpus/seeds.txt` and are replayed each time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests: failing loudly is their job

mod generate;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use generate::Random;
use leash_policy::{Source, Variables, compile};

const REQUESTS: usize = 200;

/// Compares one policy set on many requests, and returns how many comparisons were made.
fn compare(seed: u64) -> Result<usize, String> {
    let mut random = Random::new(seed);
    let text = generate::policies(&mut random);
    let principal = generate::principal(&mut random);
    let sources = [Source { name: "random.cedar".into(), text: text.clone() }];
    let compiled = compile(&sources, &Variables::default(), &principal).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(|fault| format!("{fault} at {:?}", fault.line_column())).collect();
        format!("seed {seed}: does not compile: {}\n{text}", faults.join("\n"))
    })?;
    for _ in 0..REQUESTS {
        let request = generate::request(&mut random, &text);
        let (cedar, tables) = (compiled.cedar(&request), compiled.decide(&request));
        if cedar != tables {
            return Err(format!("seed {seed}: {request:?}\n  Cedar:  {cedar:?}\n  tables: {tables:?}\n{principal:?}\n{text}"));
        }
    }
    Ok(REQUESTS)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

#[test]
fn tables_answer_as_cedar_does() {
    let corpus: Vec<u64> =
        include_str!("corpus/seeds.txt").lines().filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = number("LEASH_SEED").unwrap_or(now);
    let wanted = number("LEASH_COMPARISONS").unwrap_or(100_000) as usize;
    println!("LEASH_SEED={first}");
    let compared = AtomicUsize::new(0);
    let finds: Vec<String> = std::thread::scope(|scope| {
        let work = |start: u64| {
            let (compared, corpus) = (&compared, &corpus);
            scope.spawn(move || {
                let mut finds = Vec::new();
                let own = corpus.iter().copied().skip(start as usize).step_by(2);
                for seed in own.chain((0..).map(|i| first.wrapping_add(start + 2 * i))) {
                    match compare(seed) {
                        Ok(more) => {
                            if compared.fetch_add(more, Ordering::Relaxed) + more >= wanted {
                                break;
                            }
                        }
                        Err(find) => {
                            finds.push(find);
                            if finds.len() == 3 {
                                break;
                            }
                        }
                    }
                }
                finds
            })
        };
        [work(0), work(1)].into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    println!("{} comparisons", compared.load(Ordering::Relaxed));
    assert!(finds.is_empty(), "{} sets differ:\n{}", finds.len(), finds.join("\n\n"));
    assert!(compared.load(Ordering::Relaxed) >= wanted);
}

/// No answer depends on the data of an entity that a policy names, whatever stands around it.
#[test]
fn policies_that_ask_a_named_resource_are_refused_at_their_place() {
    let first = number("LEASH_SEED").unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("LEASH_SEED={first}");
    for seed in (0..300).map(|number| first.wrapping_add(number)) {
        let mut random = Random::new(seed);
        let before = generate::policies(&mut random);
        let condition = generate::asking_literal(&mut random);
        let effect = random.pick(&["permit", "forbid"]);
        let text = format!("{before}@id(\"asks\") {effect}(principal, action, resource) when {{ {condition} }};");
        let sources = [Source { name: "random.cedar".into(), text: text.clone() }];
        let Err(faults) = compile(&sources, &Variables::default(), &generate::principal(&mut random)) else {
            panic!("seed {seed}: accepted {condition}\n{text}");
        };
        for fault in faults.iter() {
            let at = fault.span().map_or(0, |span| span.offset());
            assert!(
                at >= before.len() && fault.message().contains("only in requests that are about it"),
                "seed {seed}: {fault}\n{text}"
            );
        }
    }
}

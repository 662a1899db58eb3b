//! Figures that need no BPF LSM: the compiler, and the table decision under this machine's JIT.

use std::time::Instant;

use anyhow::anyhow;
use leash_policy::{Compiled, Principal, Source, Variables, compile};

use crate::figure::{Figure, median};
use crate::policies::{path_rules, probe_path};

const ROUNDS: usize = 9;

/// All figures of this machine.
pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let text = path_rules(10_000);
    let mut seconds = Vec::new();
    let mut mebibytes = 0.0;
    for _ in 0..3 {
        let start = Instant::now();
        let compiled = compiled(&text)?;
        seconds.push(start.elapsed().as_secs_f64());
        mebibytes = compiled.image().len() as f64 * 8.0 / (1 << 20) as f64;
    }
    figures.push(Figure::at_most("compile 10,000 policies", median(&mut seconds), "s", 2.0));
    figures.push(Figure::at_most("table memory of 10,000 policies", mebibytes, "MiB", 64.0));
    decisions(&mut figures)?;
    Ok(figures)
}

fn compiled(text: &str) -> anyhow::Result<Compiled> {
    let source = Source { name: "bench.cedar".to_owned(), text: text.to_owned() };
    compile(&[source], &Variables::default(), &Principal::default()).map_err(|error| anyhow!("{error:?}"))
}

/// One decision on a path of 60 bytes, at 10, 1,000 and 10,000 rules, interleaved so that a slower moment hits all alike.
fn decisions(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let bench = leash_agent::enforce::bench::TableBench::load()?;
    let path = probe_path();
    let rules = [10, 1_000, 10_000];
    let mut images = Vec::new();
    for rules in rules {
        images.push(compiled(&path_rules(rules))?);
    }
    let mut nanoseconds = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (image, samples) in images.iter().zip(&mut nanoseconds) {
            samples.push(bench.nanoseconds(image.image(), path.as_bytes())?);
        }
    }
    let [mut ten, mut thousand, mut many] = nanoseconds;
    let (ten, thousand, many) = (median(&mut ten), median(&mut thousand), median(&mut many));
    for (rules, value) in [("10", ten), ("1,000", thousand), ("10,000", many)] {
        figures.push(Figure::at_most(format!("table decision, {rules} path rules"), value, "ns", 200.0));
    }
    figures.push(Figure::at_most("table decision, 10,000 over 10 rules", many / ten, "ratio", 1.2));
    Ok(())
}

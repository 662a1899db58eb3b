//! Figures of governed processes on a kernel with BPF LSM: `leash run`, against the same program without Leash.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context;

use crate::bench::{Bench, Waiting};
use crate::figure::{Figure, median};
use crate::policies::path_rules;

const PAIRS: u64 = 20_000;
const ROUNDS: usize = 7;
const STARTS: usize = 5;

/// All figures of this kernel.
pub(crate) fn figures(leash: &Path, opens: u64) -> anyhow::Result<Vec<Figure>> {
    let bench = Bench::new(leash, "bpf-lsm", None)?;
    let mut figures = Vec::new();
    open_close(&bench, &mut figures)?;
    bench.reload(&mut figures)?;
    bench.accounting(opens, &mut figures)?;
    starts(&bench, &mut figures)?;
    figures.push(Figure::reported("memory of the daemon with one session (Leash's own processes)", bench.memory()?, "MiB"));
    Ok(figures)
}

fn open_close(bench: &Bench, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let ten = bench.write("ten.cedar", &path_rules(10))?;
    let many = bench.write("many.cedar", &path_rules(10_000))?;
    let file = bench.open_me("opened")?;
    let file = file.to_str().context("a path that isn't UTF-8")?;
    let iterations = PAIRS.to_string();
    let workload = ["loop", file, &iterations];
    let (mut ten_over, mut many_over, mut outside_over) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // No session, so no program is attached.
        let before = bench.free_loop(&workload)?;
        let log = bench.path("outside.jsonl");
        let mut session = Waiting::start(&mut bench.run(&ten, &log, &["wait"])?, "ready")?;
        let samples = (|| {
            let governed = (bench.governed_loop(&ten, &workload)?, bench.governed_loop(&many, &workload)?);
            Ok::<_, anyhow::Error>((governed, bench.free_loop(&workload)?))
        })();
        session.stop()?;
        std::fs::remove_file(log)?;
        let ((ten, many), outside) = samples?;
        let baseline = (before + bench.free_loop(&workload)?) / 2.0;
        ten_over.push(ten / baseline);
        many_over.push(many / baseline);
        outside_over.push(outside / baseline);
    }
    for (what, samples, limit) in [
        ("open+close, enforcing 10 rules, over no LSM program", &mut ten_over, 1.25),
        ("open+close, enforcing 10,000 rules, over no LSM program", &mut many_over, 1.25),
        ("open+close outside every session, over no LSM program", &mut outside_over, 1.05),
    ] {
        figures.push(Figure::at_most(what, median(samples), "ratio", limit));
    }
    Ok(())
}

/// The first session has the programs verified; one that starts beside another finds them loaded.
fn starts(bench: &Bench, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let all = bench.write("all.cedar", "permit (principal, action, resource);")?;
    let (mut first, mut second, mut bwrap) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        first.push(bench.start()?);
        let mut session = Waiting::start(&mut bench.run(&all, &bench.path("beside.jsonl"), &["wait"])?, "ready")?;
        let sample = bench.start();
        session.stop()?;
        std::fs::remove_file(bench.path("beside.jsonl"))?;
        second.push(sample?);
        let start = Instant::now();
        const CONTAINER: [&str; 9] = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "true"];
        Bench::output(Command::new("bwrap").args(CONTAINER))?;
        bwrap.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let (first, second, bwrap) = (median(&mut first), median(&mut second), median(&mut bwrap));
    for (what, milliseconds) in [("the first session", first), ("beside another session", second)] {
        figures.push(Figure::reported(format!("`leash run -- true`, {what}"), milliseconds, "ms"));
        figures.push(Figure::reported(
            format!("`leash run -- true`, {what}, over `bwrap … true`"),
            milliseconds / bwrap,
            "ratio",
        ));
    }
    Ok(())
}

//! `cargo xtask test`: what can be tested on any machine is tested here, the rest on each kernel of the matrix.
//!
//! Test programs of the crate `leash-tests` named `kernel_*` need root and BPF LSM. They are built once, here, and run
//! as they are against `target/release/leash`, each in a machine of its own on each kernel, some machines at a time.

mod machine;
mod suite;
mod supervised;
mod tally;

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::suite::Suite;
use self::tally::Tally;
use crate::kernel::Series;
use crate::{build, ebpf, process, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which kernels to test on: 6.1, 6.12, 7.2, `all` or `none` [default: all, whole programs at work on 6.12 only]
    #[arg(long, value_name = "K", value_parser = parse_kernels)]
    kernel: Option<Kernels>,
    /// Leave out the tests that need no kernel of their own
    #[arg(long)]
    kernel_only: bool,
    /// Which backend's suites run on the kernels [default: bpf-lsm's, and two of supervised's as root on 6.1]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Only the kernel suites whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    suite: String,
    /// Only the tests of the kernel suites whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How many machines run at a time [default: as many as there are processors, at most 4]
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZero<usize>>,
    /// The memory of each machine
    #[arg(long, value_name = "MiB", default_value_t = 3072)]
    mem: u32,
}

impl Args {
    fn kernels(&self) -> &[Series] {
        self.kernel.as_ref().map_or(&Series::ALL, |kernels| &kernels.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    BpfLsm,
    Supervised,
}

#[derive(Clone, Debug)]
struct Kernels(Vec<Series>);

fn parse_kernels(text: &str) -> Result<Kernels, String> {
    match text {
        "all" => Ok(Kernels(Series::ALL.into())),
        "none" => Ok(Kernels(Vec::new())),
        one => Series::ALL
            .into_iter()
            .find(|series| series.name() == one)
            .map(|series| Kernels(vec![series]))
            .ok_or_else(|| "expected 6.1, 6.12, 7.2, all or none".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::everything()?;
    ebpf::build()?;
    build::release()?;
    let suites = suite::build()?;
    let (supervised, suites): (Vec<Suite>, Vec<Suite>) = suites.into_iter().partition(Suite::is_supervised);
    let (mut in_machines, here): (Vec<Suite>, Vec<Suite>) = suites.into_iter().partition(Suite::needs_kernel);
    let twice = in_machines.iter().chain(&supervised).filter(|suite| suite.is_for_supervised()).cloned().collect::<Vec<_>>();
    let mut supervised_in_machines = twice.clone();
    for suites in [&mut in_machines, &mut supervised_in_machines] {
        suites.retain(|suite| suite.name.contains(&args.suite));
        if let Some(filter) = &args.filter {
            let kept: Result<Vec<bool>> = suites.iter().map(|suite| suite.has_test(filter)).collect();
            let mut kept = kept?.into_iter();
            suites.retain(|_| kept.next().unwrap_or(true));
        }
    }
    if in_machines.is_empty() && supervised_in_machines.is_empty() && !args.kernels().is_empty() {
        bail!("no suite for the kernels has a test that matches: nothing would be tested on the kernels");
    }

    let mut results = Vec::new();
    if !args.kernel_only {
        results.push(("this machine".to_owned(), run_here(&here)?));
        results.push(("this machine, supervised".to_owned(), supervised::run(&twice)?));
    }
    results.extend(machine::run(args, &in_machines, &supervised_in_machines));
    Ok(report(&results))
}

/// The summary; its last line is for other programs.
fn report(results: &[(String, Tally)]) -> ExitCode {
    println!();
    let mut total = Tally::default();
    for (place, tally) in results {
        let left_out = if tally.left_out > 0 { format!(", {} left out", tally.left_out) } else { String::new() };
        println!("{place}: {tally}{left_out} in {} s", tally.elapsed.as_secs());
        for name in &tally.failures {
            println!("    failed: {name}");
        }
        total.add(tally);
    }
    if total.ignored > 0 {
        println!("not run, by declaration: {}", total.ignored);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_here(suites: &[Suite]) -> Result<Tally> {
    let start = Instant::now();
    let mut tally = Tally::default();
    for suite in suites {
        println!("\n=== {}", suite.name);
        let mut command = Command::new(&suite.program);
        command.current_dir(&suite.directory).env("CARGO_MANIFEST_DIR", &suite.directory).env("LEASH_BIN", build::leash());
        tally.add(&run_and_tally(&mut command, &suite.name)?);
    }
    println!("\n=== documentation examples");
    tally.add(&run_and_tally(build::cargo().args(["test", "--quiet", "--workspace", "--doc"]), "documentation examples")?);
    tally.elapsed = start.elapsed();
    Ok(tally)
}

fn run_and_tally(command: &mut Command, name: &str) -> Result<Tally> {
    use std::io::{Read, Write};
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("couldn't start `{}`", process::display(command)))?;
    let mut text = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        let mut buffer = vec![0; 1 << 14];
        loop {
            let length = output.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            std::io::stdout().write_all(bytes)?;
            text.extend_from_slice(bytes);
        }
    }
    let ended_well = child.wait()?.success();
    let mut tally = Tally::parse(&String::from_utf8_lossy(&text), &[name]);
    tally.expect_end(ended_well, name);
    Ok(tally)
}

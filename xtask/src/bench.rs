//! `cargo xtask bench`: takes the figures of SPECIFICATION.md and shows them beside what they should reach.
//!
//! Times of table walks are taken on this machine, with its JIT; the figures of governed processes on a kernel of the
//! matrix, as ratios, because an emulated processor's times mean little.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::kernel::Series;
use crate::{build, ebpf, paths, process, setup, vm};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also write the figures there, as a JSON array
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The kernel of the governed figures
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
    /// How many opens the accounting figure takes
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    opens: u64,
}

/// An emulated machine needs minutes for a million opens; an hour means that it hangs.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Succeeds if all figures could be taken, whether or not they reach what they should: a measured miss is a result.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::everything()?;
    ebpf::build()?;
    build::release()?;
    process::run(build::cargo().args(["build", "--release", "--package", "leash-tests", "--bin", "leash-bench"]))?;
    let program = paths::target().join("release/leash-bench");
    let dir = paths::target().join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("couldn't create {}", dir.display()))?;

    eprintln!("on this machine");
    let native = dir.join("native.json");
    process::run(Command::new(&program).arg("native").arg("--json").arg(&native))?;
    let mut figures = read(&native)?;

    eprintln!("on this machine, supervised");
    let supervised = dir.join("supervised.json");
    let projects = paths::root().join("tests/work");
    let opens = args.opens.to_string();
    let mut command = Command::new(&program);
    command.arg("supervised").arg("--json").arg(&supervised).arg("--projects").arg(projects).args(["--opens", &opens]);
    process::run(command.env("LEASH_BIN", build::leash()))?;
    figures.extend(read(&supervised)?);

    eprintln!("on kernel {}", args.kernel.name());
    let governed = dir.join("governed.json");
    let job = vm::Job {
        series: args.kernel,
        mem_mib: 3072,
        cpus: 2,
        rw: vec![dir.clone()],
        timeout: Some(LIMIT),
        env: vec![("LEASH_BIN".to_owned(), build::leash().display().to_string())],
        show_console: false,
        output: vm::Output::Passed,
        command: vec![
            program.into(),
            "governed".into(),
            "--json".into(),
            governed.clone().into(),
            "--opens".into(),
            opens.into(),
        ],
    };
    let status = vm::execute(&job)?;
    if status != 0 {
        bail!("taking the governed figures failed with exit code {status}");
    }
    figures.extend(read(&governed)?);

    for figure in &figures {
        println!("{}", row(figure));
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&figures)?;
        fs::write(file, text + "\n").with_context(|| format!("couldn't write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).with_context(|| format!("no figures in {}", file.display()))?;
    // One that stays from an earlier run must not be taken for this one's.
    fs::remove_file(file)?;
    serde_json::from_str(&text).with_context(|| format!("{} is not an array of figures", file.display()))
}

fn row(figure: &Value) -> String {
    let text = |name: &str| match figure.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let met = match figure.get("met") {
        Some(Value::Bool(true)) => "met",
        Some(Value::Bool(false)) => "MISSED",
        _ => "",
    };
    let value = figure.get("value").and_then(Value::as_f64).unwrap_or(f64::NAN);
    format!("{:<70} {value:>12.3} {:<10} {:<14} {met}", text("figure"), text("unit"), text("reach"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_figure_stands_out() {
        let figure = serde_json::json!({"figure": "open+close", "value": 1.5, "unit": "ratio", "reach": "≤ 1.25", "met": false});
        let row = row(&figure);
        assert!(row.starts_with("open+close") && row.contains("1.500") && row.ends_with("MISSED"));
    }
}

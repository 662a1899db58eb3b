//! `leash doctor`: what this machine can do, and what to change.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::Global;
use super::output::{Color, paint};
use crate::daemon::checks;
use crate::words::{Out, Plain};

/// Version of the JSON form.
const VERSION: u32 = 1;

/// Check whether this machine can enforce policies, and what to change if not
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    v: u32,
    ok: bool,
    backend: Option<&'static str>,
    /// What this backend doesn't promise.
    limits: Option<&'static str>,
    /// Whether sessions have a container.
    container: bool,
    /// What they don't have without one.
    container_limits: Option<&'static str>,
    checks: Vec<CheckReport<'a>>,
}

#[derive(Serialize)]
struct CheckReport<'a> {
    name: &'a str,
    ok: bool,
    found: &'a str,
    remedy: Option<&'a str>,
}

pub(super) fn run(args: DoctorArgs, global: Global) -> Result<ExitCode> {
    let checks::Findings { checks, backend, container } = checks::all();
    let ok = backend.is_some();
    let supervised = backend == Some("supervised");
    let mut out = Out::lock();
    if args.json {
        let checks = checks
            .iter()
            .map(|check| CheckReport { name: check.name, ok: check.ok, found: &check.found, remedy: check.remedy.as_deref() })
            .collect();
        let limits = supervised.then_some(checks::SUPERVISED_LIMITS);
        let container_limits = (!container).then_some(checks::BARE_LIMITS);
        let report = Report { v: VERSION, ok, backend, limits, container, container_limits, checks };
        out.pretty_json(&report)?;
    } else {
        let color = global.color.on_stdout();
        let paint = |text, tone| if color { paint(text, tone) } else { text };
        for check in &checks {
            let (word, tone) = if check.ok { ("ok  ", Color::Green) } else { ("FAIL", Color::Red) };
            let found = Plain::line(format_args!(" {:<18} {}", check.name, check.found));
            out.say(&paint(Plain::line(word), tone).and(found))?;
            if let Some(remedy) = &check.remedy {
                out.say(&paint(Plain::line(format_args!("     → {remedy}")), Color::Yellow))?;
            }
        }
        out.say(&match backend {
            Some(backend) => Plain::line(format_args!("leash run can enforce policies here, with backend {backend}")),
            None => Plain::line("leash run cannot enforce policies here"),
        })?;
        if supervised {
            out.say(&Plain::line(checks::SUPERVISED_LIMITS))?;
        }
        if ok && !container {
            out.say(&Plain::line(format_args!("sessions have no container: {}", checks::BARE_LIMITS)))?;
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

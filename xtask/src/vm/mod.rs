//! `cargo xtask vm`: a command in a virtual machine that has another kernel and this machine's files.
//!
//! The guest sees the host's root file system read-only over 9p with a throw-away overlay on top, so whatever
//! is installed or built here runs there. Program output, status and the kernel's console travel on channels
//! of their own: no output of the program can be taken for a status, and no kernel message gets lost in it.

mod console;
mod cpio;
mod guest;
mod qemu;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;

pub(crate) use self::guest::quote;
use crate::kernel::{self, Series};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel series
    #[arg(long, value_enum)]
    kernel: Series,
    /// The guest's memory
    #[arg(long, value_name = "MiB", default_value_t = 2048)]
    mem: u32,
    /// The guest's processors
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// A directory that the guest may write to; everything else it writes is thrown away
    #[arg(long, value_name = "DIR")]
    rw: Vec<PathBuf>,
    /// Give up after this time, with exit code 124
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Also set in the command's environment
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Show the kernel's console on stderr as it comes
    #[arg(long)]
    console: bool,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

/// What to run, and in what machine.
pub(crate) struct Job {
    pub(crate) series: Series,
    pub(crate) mem_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) rw: Vec<PathBuf>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) show_console: bool,
    pub(crate) output: Output,
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// Where what the command writes goes.
#[derive(Clone)]
pub(crate) enum Output {
    /// To the caller's stdout and stderr, as it comes.
    Passed,
    /// Nowhere: stdout and stderr are kept, as one.
    Kept(Arc<Mutex<Vec<u8>>>),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut env = Vec::new();
    for pair in &args.env {
        let (name, value) = pair.split_once('=').ok_or_else(|| anyhow::anyhow!("`--env {pair}` is not NAME=VALUE"))?;
        env.push((name.to_owned(), value.to_owned()));
    }
    let job = Job {
        series: args.kernel,
        mem_mib: args.mem,
        cpus: args.cpus,
        rw: args.rw.clone(),
        timeout: args.timeout.map(Duration::from_secs),
        env,
        show_console: args.console,
        output: Output::Passed,
        command: args.command.clone(),
    };
    Ok(ExitCode::from(execute(&job)?))
}

/// Runs the job and returns the command's exit status. A kernel that fell over is an
/// error even if the command succeeded.
pub(crate) fn execute(job: &Job) -> Result<u8> {
    let kernel = kernel::prepare(job.series)?;
    qemu::run(job, &kernel)
}

//! `leash log show` and `leash log tail`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Global;
use super::output::{Color, paint};
use crate::audit::record::Body;
use crate::audit::show::{Tone, is_denial, line, parse};
use crate::words::Out;

/// Read the log of a session
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print a log
    Show {
        /// The log; the newest one if not given
        file: Option<PathBuf>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Follow a log until its session ends
    Tail {
        /// The log; the newest one if not given
        file: Option<PathBuf>,
        #[command(flatten)]
        filter: Filter,
    },
}

#[derive(Clone, Copy, Debug, Args)]
struct Filter {
    /// Only what was denied (or would have been, where it was recorded)
    #[arg(long)]
    denied: bool,
    /// Print the records themselves
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: LogArgs, global: Global) -> Result<ExitCode> {
    let (file, filter, follow) = match args.command {
        LogCommand::Show { file, filter } => (file, filter, false),
        LogCommand::Tail { file, filter } => (file, filter, true),
    };
    let path = match file {
        Some(file) => file,
        None => newest().context("there is no log yet; name one, or make one with `leash run`")?,
    };
    let mut printer = Printer { color: global.color.on_stdout(), out: Out::lock(), filter, number: 0, ended: false };
    let watch = if follow { Some(watch(&path)?) } else { None };
    let file = File::open(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    loop {
        // A line without an end is still being written; the next round completes it.
        let read = reader.read_line(&mut text).with_context(|| format!("cannot read `{}`", path.display()))?;
        if text.ends_with('\n') {
            printer.print(text.trim_end_matches('\n'))?;
            text.clear();
        } else if read == 0 {
            printer.out.flush()?;
            match &watch {
                Some(watch) if !printer.ended => wait(watch)?,
                _ if text.is_empty() => return Ok(ExitCode::SUCCESS),
                _ => bail!("`{}` ends in the middle of a record", path.display()),
            }
        }
    }
}

struct Printer {
    out: Out,
    color: bool,
    filter: Filter,
    number: usize,
    ended: bool,
}

impl Printer {
    fn print(&mut self, text: &str) -> Result<()> {
        self.number += 1;
        let record = parse(self.number, text)?;
        self.ended |= matches!(record.body, Body::SessionEnd(_));
        if self.filter.denied && !is_denial(&record) {
            return Ok(());
        }
        if self.filter.json {
            return Ok(self.out.json_line(text)?);
        }
        let (tone, words) = line(&record);
        let words = match (self.color, tone) {
            (true, Tone::Bad) => paint(words, Color::Red),
            (true, Tone::Note) => paint(words, Color::Dim),
            _ => words,
        };
        Ok(self.out.say(&words)?)
    }
}

fn watch(path: &Path) -> Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
    inotify.add_watch(path, flags).with_context(|| format!("cannot watch `{}`", path.display()))?;
    Ok(inotify)
}

fn wait(watch: &Inotify) -> Result<()> {
    poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
    watch.read_events()?;
    Ok(())
}

/// The log that was begun last; names of logs sort by time.
fn newest() -> Option<PathBuf> {
    let dir = crate::daemon::default_log_dir()?;
    let files = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).max()
}

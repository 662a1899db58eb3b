//! Many suites in one machine: it boots once, the kernel verifies our programs once, and the suites run one after the other, each in mount
//! and network namespaces of its own.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::plan::{Job, Place, Run, Subject};
use super::tally::Tally;
use super::{Args, ground, report};
use crate::kernel::Series;
use crate::paths;
use crate::vm::{self, Output, quote};

/// A machine that takes longer than this hangs; one with all suites of a backend takes less.
const LIMIT: Duration = Duration::from_secs(80 * 60);
/// How often the machine's results are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the suites one after the other. A suite whose machine tripped over its emulation runs again in the next one, and those that had
/// ended by then don't.
///
/// Programs of the kernel live as long as something holds them: an idle session does, so that not every `leash run` has them verified
/// again, which takes many seconds on an emulated processor. It ends with the pipe that it reads.
const SCRIPT: &str = r#"
cd "$1"
keep() {
    mkdir -p /srv/leash-idle
    echo 'permit (principal, action, resource);' >/srv/leash-idle/p.cedar
    mkfifo /run/leash-idle.in /run/leash-idle.out
    "$LEASH_BIN" -q run --policy /srv/leash-idle/p.cedar --log /srv/leash-idle/log.jsonl --workspace /srv/leash-idle \
        -- sh -c 'echo ready; cat' </run/leash-idle.in >/run/leash-idle.out 2>idle.err &
    exec 9>/run/leash-idle.in
    read -r ready </run/leash-idle.out
}
suite() {
    number=$1
    [ ! -e "$number.status" ] || return 0
    begin=$(cut -d. -f1 /proc/uptime)
    sh "$number.sh" >"$number.out" 2>&1 </dev/null 9>&-
    status=$?
    echo "$status $(($(cut -d. -f1 /proc/uptime) - begin))" >"$number.new"
    mv "$number.new" "$number.status"
}
"#;

/// Where a machine's suites and their results are, on both sides; it goes with the run, which has printed all of it.
struct Exchange(PathBuf);

impl Exchange {
    fn new(name: &str) -> Result<Self> {
        // Of this process: another one may run the same suites at the same time.
        let dir = paths::target().join("machines").join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("couldn't create {}", dir.display()))?;
        Ok(Self(dir))
    }

    fn file(&self, index: usize, kind: &str) -> PathBuf {
        self.0.join(format!("{index:02}.{kind}"))
    }

    /// Writes what the machine runs.
    fn fill(&self, args: &Args, series: Series, runs: &[Run]) -> Result<()> {
        let mut script = SCRIPT.as_bytes().to_vec();
        if runs.iter().any(|run| run.subject == Subject::BpfLsm) {
            script.extend_from_slice(b"LEASH_BIN=");
            quote(args.binary().path().as_os_str(), &mut script);
            script.extend_from_slice(b"\nkeep\n");
        }
        for (index, run) in runs.iter().enumerate() {
            fs::write(self.file(index, "sh"), one(args, series, run)?)?;
            script.extend_from_slice(format!("suite {index:02}\n").as_bytes());
        }
        script.extend_from_slice(b"exec 9>&-\nwait\n");
        fs::write(self.0.join("all.sh"), script).context("couldn't write what the machine runs")
    }

    /// What came of a suite that has ended.
    fn result(&self, index: usize, run: &Run) -> Option<Tally> {
        let status = fs::read_to_string(self.file(index, "status")).ok()?;
        let (status, seconds) = status.trim().split_once(' ')?;
        let text = self.said(index);
        let elapsed = Duration::from_secs(seconds.parse().ok()?);
        Some(Tally::of(run, &text, status == "0", elapsed))
    }

    fn said(&self, index: usize) -> String {
        String::from_utf8_lossy(&fs::read(self.file(index, "out")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // What stays is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A script that runs one suite.
fn one(args: &Args, series: Series, run: &Run) -> Result<Vec<u8>> {
    let mut script = b"exec env".to_vec();
    let pairs = ground::environment(run, series.name(), args.binary());
    let pairs = pairs.into_iter().map(|(name, value)| OsString::from(format!("{name}={value}")));
    for word in pairs.chain(ground::command(run, Place::Machine(series))?) {
        script.push(b' ');
        quote(&word, &mut script);
    }
    script.push(b'\n');
    Ok(script)
}

/// Runs a machine's suites and reports each as it ends.
pub(super) fn run(args: &Args, number: usize, series: Series, job: &Job) -> Result<Vec<Tally>> {
    let exchange = Exchange::new(&format!("{}-{number}", series.name()))?;
    exchange.fill(args, series, &job.runs)?;
    let text = Arc::new(Mutex::new(Vec::new()));
    let machine = vm::Job {
        series,
        mem_mib: args.mem,
        cpus: 2,
        rw: vec![exchange.0.clone()],
        timeout: Some(LIMIT),
        env: Vec::new(),
        show_console: false,
        output: Output::Kept(Arc::clone(&text)),
        command: ["/bin/sh".into(), exchange.0.join("all.sh").into(), exchange.0.clone().into()].into(),
    };
    let ended = AtomicBool::new(false);
    let mut results: Vec<Option<Tally>> = vec![None; job.runs.len()];
    let outcome = thread::scope(|scope| {
        let machine = scope.spawn(|| {
            let outcome = vm::execute(&machine);
            ended.store(true, Ordering::Release);
            outcome
        });
        loop {
            let last = ended.load(Ordering::Acquire);
            for (index, run) in job.runs.iter().enumerate() {
                let Some(place) = results.get_mut(index).filter(|place| place.is_none()) else { continue };
                *place = exchange.result(index, run);
                if let Some(tally) = place {
                    report::suite(job.place, run, tally, &exchange.said(index));
                }
            }
            if last {
                break machine.join();
            }
            thread::sleep(LOOK);
        }
    });
    let words = match outcome {
        Ok(Ok(0)) => None,
        Ok(Ok(status)) => Some(format!("the machine's script ended with {status}")),
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some("the machine's thread panicked".to_owned()),
    };
    if let Some(words) = &words {
        let said = text.lock().unwrap_or_else(PoisonError::into_inner);
        println!("\n=== {}: {words}\n{}", job.place.name(), String::from_utf8_lossy(&said));
    }
    // What has no result failed with the machine, whatever it had printed.
    let lost = |(index, (run, tally)): (usize, (&Run, Option<Tally>))| {
        tally.unwrap_or_else(|| {
            let mut tally = Tally::lost(run, words.as_deref().unwrap_or("the machine ended before it"));
            tally.left_out = run.left_out as u64;
            report::suite(job.place, run, &tally, &exchange.said(index));
            tally
        })
    };
    Ok(job.runs.iter().zip(results).enumerate().map(lost).collect())
}

//! Attempts that repeat: races, floods, and a reload seen from inside.

use crate::files::os;
use crate::script::{Context, Words};
use crate::sys::{Answer, Fail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

pub(crate) fn operate(operation: &str, w: &Words, context: &mut Context) -> Option<Answer> {
    Some(match operation {
        "wait-file" => wait_file(w),
        "race" => race(w, context),
        "opens" => opens(w, context),
        "keep-opening" => keep_opening(w, context),
        _ => return None,
    })
}

/// Waits until the file of word 0 exists, at most word 1 seconds.
fn wait_file(w: &Words) -> Answer {
    let end = Instant::now() + Duration::from_secs(w.int(1) as u64);
    while Instant::now() < end {
        if std::fs::symlink_metadata(os(w.bytes(0))).is_ok() {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Fail::note(format!("`{}` did not appear", w.text(0))))
}

/// `race LINK VICTIM DECOY TIMES SUFFIX`: another process swaps the symlink between victim and decoy while this one reads through it.
/// Succeeds when the victim's content was read.
fn race(w: &Words, context: &mut Context) -> Answer {
    let link = os(w.bytes(0)).to_owned();
    let (victim, decoy) = (os(w.bytes(1)).to_owned(), os(w.bytes(2)).to_owned());
    std::os::unix::fs::symlink(&decoy, &link)?;
    // SAFETY: this program has one thread, so the child may do anything.
    let swapper = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let mut fresh = link.clone();
            fresh.push(".new");
            let end = Instant::now() + Duration::from_secs(120);
            while Instant::now() < end {
                for target in [&victim, &decoy] {
                    let _ = std::os::unix::fs::symlink(target, &fresh);
                    let _ = std::fs::rename(&fresh, &link);
                }
            }
            std::process::exit(0);
        }
    };
    // A fast reader would be done before the first swap.
    let end = Instant::now() + Duration::from_secs(60);
    while std::fs::read_link(&link).is_ok_and(|target| target == decoy) && Instant::now() < end {
        std::thread::yield_now();
    }
    let mut path = link;
    path.push(os(w.bytes(4)));
    let (mut won, mut denied, mut decoys) = (false, 0, 0);
    for _ in 0..w.int(3) {
        let mut text = Vec::new();
        match std::fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut text)) {
            Ok(_) if text.starts_with(b"SECRET") => {
                won = true;
                context.data.extend_from_slice(&text);
                break;
            }
            Ok(_) => decoys += 1,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => denied += 1,
            Err(_) => {}
        }
    }
    kill(swapper, Signal::SIGKILL)?;
    waitpid(swapper, None)?;
    if won {
        return Ok(0);
    }
    let errno = if denied > 0 && decoys > 0 { nix::libc::EACCES } else { -1 };
    Err(Fail { errno, note: format!("{denied} denied, {decoys} decoys") })
}

/// `opens PROCESSES TIMES PATH`: every process opens the file that often. The data counts what they were answered.
fn opens(w: &Words, context: &mut Context) -> Answer {
    let path = os(w.bytes(2));
    let (reader, writer) = nix::unistd::pipe()?;
    let mut children = Vec::new();
    for _ in 0..w.int(0) {
        // SAFETY: this program has one thread, so the child may do anything.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => children.push(child),
            ForkResult::Child => {
                let mut counts = [0u64; 3];
                for _ in 0..w.int(1) {
                    match std::fs::File::open(path) {
                        Ok(_) => counts[0] += 1,
                        Err(error) if error.kind() == ErrorKind::PermissionDenied => counts[1] += 1,
                        Err(_) => counts[2] += 1,
                    }
                }
                let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_ne_bytes()).collect();
                let written = nix::unistd::write(&writer, &bytes);
                std::process::exit(i32::from(written != Ok(24)));
            }
        }
    }
    drop(writer);
    let mut total = [0u64; 3];
    let mut all = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut all)?;
    for child in children {
        waitpid(child, None)?;
    }
    for (index, word) in all.chunks_exact(8).enumerate() {
        total[index % 3] += u64::from_ne_bytes(word.try_into().unwrap());
    }
    let text = format!("{{\"opened\":{},\"denied\":{},\"failed\":{}}}", total[0], total[1], total[2]);
    context.data.extend_from_slice(text.as_bytes());
    Ok(0)
}

/// `keep-opening STOP SECONDS PATH…`: opens each path in turn until STOP exists. The data is JSON: for each path, runs of equal errnos.
fn keep_opening(w: &Words, context: &mut Context) -> Answer {
    let paths = w.from(2);
    let mut seen: Vec<Vec<(i32, u64)>> = vec![Vec::new(); paths.len()];
    let end = Instant::now() + Duration::from_secs(w.int(1) as u64);
    let mut stopped = false;
    while !stopped && Instant::now() < end {
        // Every denial is a line of the log: a pause keeps the log readable, and what happens between pauses is load enough.
        std::thread::sleep(Duration::from_millis(5));
        for _ in 0..8 {
            for (path, runs) in paths.iter().zip(&mut seen) {
                let errno = std::fs::File::open(os(path)).map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0);
                match runs.last_mut() {
                    Some((last, count)) if *last == errno => *count += 1,
                    _ => runs.push((errno, 1)),
                }
            }
        }
        stopped = std::fs::symlink_metadata(os(w.bytes(0))).is_ok();
    }
    context.data.extend(format!("{seen:?}").replace('(', "[").replace(')', "]").into_bytes());
    if stopped { Ok(0) } else { Err(Fail::note("the stop file did not appear")) }
}

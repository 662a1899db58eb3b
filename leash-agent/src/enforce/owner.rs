//! Telling a session's owner from a later process with the same number.

use std::fs;

use super::error::{EnforceError, Result};

fn start_of(pid: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, field 2, may hold anything; fields are counted after its closing parenthesis.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// This process and its start time in clock ticks since boot.
pub(super) fn this_process() -> Result<(u32, u64)> {
    let start =
        start_of("self").ok_or_else(|| EnforceError::io("read", "/proc/self/stat")(std::io::ErrorKind::InvalidData.into()))?;
    Ok((std::process::id(), start))
}

/// Whether that process still runs.
pub(super) fn is_alive(pid: u32, start: u64) -> bool {
    start_of(&pid.to_string()) == Some(start)
}

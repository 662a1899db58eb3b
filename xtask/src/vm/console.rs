//! The kernel's console: kept for the report, and watched for signs that the kernel fell over.

use std::collections::VecDeque;

/// What a kernel prints when it is no longer to be trusted.
const FATAL: [&str; 10] = [
    "Kernel panic",
    "soft lockup",
    "hard LOCKUP",
    "detected stall",
    "self-detected stall",
    "BUG:",
    "Oops:",
    "general protection fault",
    "blocked for more than",
    "leash-vm: couldn't",
];

/// A panic of a kernel whose first interrupts came too late.
const NO_TIMER: &str = "Kernel panic - not syncing: IO-APIC + timer doesn't work";
/// The instruction `int3`.
const BREAKPOINT: &str = "cc";

/// Lines kept for a report; a panic with its call trace and registers fits.
const KEPT_LINES: usize = 200;

#[derive(Default)]
pub(super) struct Console {
    partial: Vec<u8>,
    lines: VecDeque<String>,
    fatal: bool,
}

impl Console {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.partial).into_owned();
                    self.partial.clear();
                    self.fatal |= FATAL.iter().any(|sign| line.contains(sign));
                    if self.lines.len() == KEPT_LINES && !self.fatal {
                        self.lines.pop_front();
                    }
                    if self.lines.len() < 2 * KEPT_LINES {
                        self.lines.push_back(line);
                    }
                }
                b'\r' => {}
                other => self.partial.push(*other),
            }
        }
    }

    /// Whether the kernel reported a panic, a stall or a bug.
    pub(super) fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// Whether it fell over a breakpoint of its own: it patches its code, mostly while it boots, and QEMU's emulation of several processors
    /// now and then runs into the half that is written. Once programs run, only over one that isn't there any more: the report marks the byte
    /// after it. Or it found its clock standing still when it looked, on a busy machine.
    pub(super) fn is_emulations_fault(&self) -> bool {
        let first = self.lines.iter().position(|line| FATAL.iter().any(|sign| line.contains(sign)));
        let report = || self.lines.iter().skip(first.unwrap_or_default());
        let code = report().find_map(|line| line.split_once(" Code: ")).and_then(|(_, code)| code.split_once(" <"));
        let boots = || report().find(|line| line.contains(" Comm: ")).is_some_and(|line| line.contains(" Comm: swapper/"));
        let begins = |words: &str| report().next().is_some_and(|line| line.contains(words));
        begins(NO_TIMER) || begins("Oops: int3:") && (boots() || code.is_some_and(|(before, _)| !before.ends_with(BREAKPOINT)))
    }

    /// The last lines, for a person.
    pub(super) fn tail(&self) -> String {
        let mut lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        let partial = String::from_utf8_lossy(&self.partial);
        lines.push(&partial);
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_noticed_across_reads_and_ordinary_lines_are_not() {
        let mut console = Console::default();
        console.feed(b"[    0.1] debugfs: ok\r\nrcu: INFO: rcu_preempt self-det");
        assert!(!console.is_fatal());
        console.feed(b"ected stall on CPU\r\n");
        assert!(console.is_fatal());
        assert!(console.tail().contains("self-detected stall on CPU"));
    }

    #[test]
    fn only_a_breakpoint_while_booting_or_that_is_gone_is_the_emulations_fault() {
        let fault = |oops: &str, comm: &str, code: &str| {
            let mut console = Console::default();
            let report = format!(
                "[ 2.6] Oops: {oops}: 0000 [#1] SMP\n[ 2.6] CPU: 1 PID: 1 Comm: {comm} Not tainted\n[ 2.6] Code: 41 {code} 89\n"
            );
            console.feed(report.as_bytes());
            assert!(console.is_fatal());
            console.is_emulations_fault()
        };
        assert!(fault("int3", "swapper/0", "cc <90>") && fault("int3", "swapper/0", "66 <90>"));
        assert!(fault("int3", "leash", "66 <90>"));
        assert!(!fault("int3", "leash", "cc <90>"));
        assert!(!fault("0002", "swapper/0", "66 <90>"));
        let mut late = Console::default();
        late.feed(b"[ 0.0] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug\n");
        assert!(late.is_emulations_fault());
    }

    #[test]
    fn what_led_to_the_end_is_kept() {
        let mut console = Console::default();
        for number in 0..1000 {
            console.feed(format!("line {number}\n").as_bytes());
        }
        console.feed(b"Kernel panic - not syncing\n");
        let tail = console.tail();
        assert!(tail.contains("line 999\n") && tail.contains("Kernel panic") && !tail.contains("line 1\n"));
    }
}

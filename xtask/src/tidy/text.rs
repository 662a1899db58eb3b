//! Rules about the text of a Rust file: its size, its head, its unsafe blocks, its loose ends.

use super::{Finding, Source};

/// Without tests. Half of the files should stay under a quarter of it.
const MAX_LINES: usize = 800;

/// Words that mark unfinished work; written so that this file doesn't find itself.
const LOOSE_ENDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    let size = product_lines(&source.text);
    if size > MAX_LINES {
        findings.push(Finding::new(&source.path, 0, format!("{size} lines without tests; {MAX_LINES} are the most")));
    }
    let head = lines.iter().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if !head.is_some_and(|line| line.starts_with("//!")) {
        findings.push(Finding::new(&source.path, 0, "the file doesn't begin with `//!` that says why it exists"));
    }
    for (index, line) in lines.iter().enumerate() {
        if LOOSE_ENDS.iter().any(|word| line.contains(word)) {
            findings.push(Finding::new(&source.path, index, "unfinished work belongs in an issue"));
        }
        if line.trim() == "#[ignore]" {
            findings.push(Finding::new(&source.path, index, "an ignored test says why: `#[ignore = \"…\"]`"));
        }
        // Elsewhere it's clippy's work; this crate is built by a compiler that brings none.
        if source.is_in("leash-ebpf") && opens_unsafe(line) && !is_justified(&lines, index) {
            findings.push(Finding::new(&source.path, index, "no `SAFETY:` comment names the invariant"));
        }
    }
    findings
}

/// The lines before the file's own test module.
pub(super) fn product_lines(text: &str) -> usize {
    text.lines().take_while(|line| line.trim_end() != "#[cfg(test)]").count()
}

fn opens_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    // As clippy has it: blocks, impls, and functions that others call.
    ["unsafe {", "unsafe impl ", "pub unsafe fn ", ") unsafe fn "].iter().any(|form| code.contains(form))
}

/// Whether the comment above the statement, or one on the line itself, gives the reason.
fn is_justified(lines: &[&str], index: usize) -> bool {
    let says = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    if lines.get(index).is_some_and(|line| says(line)) {
        return true;
    }
    let mut in_comment = false;
    for line in lines.get(..index).unwrap_or_default().iter().rev() {
        let line = line.trim();
        if line.starts_with("//") {
            if says(line) {
                return true;
            }
            in_comment = true;
        } else if in_comment || line.is_empty() || (line.ends_with([';', '{', '}']) && !line.starts_with('#')) {
            // The comment is over, or another statement begins.
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<String> {
        check(&Source { path: path.into(), text: text.into() }).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn unsafe_needs_a_reason_just_above_its_statement() {
        let good =
            "//! Doc.\nfn f() {\n    // SAFETY: the pointer is checked\n    // above.\n    let x =\n        unsafe { *p };\n}\n";
        assert!(rules("leash-ebpf/src/a.rs", good).is_empty());
        let documented = "//! Doc.\n/// # Safety\n/// `p` is valid.\n#[inline]\npub unsafe fn f(p: *const u8) {}\n";
        assert!(rules("leash-ebpf/src/a.rs", documented).is_empty());
        let bad = "//! Doc.\n// SAFETY: of another one\nlet a = unsafe { b() };\nlet x = unsafe { c() };\n";
        assert_eq!(rules("leash-ebpf/src/a.rs", bad).len(), 1);
        assert!(rules("leash-agent/src/a.rs", bad).is_empty());
    }

    #[test]
    fn files_have_a_head_and_an_end() {
        assert_eq!(rules("a.rs", "fn main() {}\n").len(), 1);
        assert!(rules("a.rs", "#![no_std]\n\n//! Why.\n").is_empty());
        let long = format!("//! Why.\n{}", "fn f() {}\n".repeat(800));
        assert_eq!(rules("a.rs", &long).len(), 1);
        let tested = format!("//! Why.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(800));
        assert!(rules("a.rs", &tested).is_empty());
    }

    #[test]
    fn loose_ends_are_found() {
        let text = format!("//! Why.\n// {}: later\n#[ignore]\n", LOOSE_ENDS[0]);
        assert_eq!(rules("a.rs", &text).len(), 2);
    }
}

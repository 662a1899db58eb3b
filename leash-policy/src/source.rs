//! Policy text and the `${NAME}` variables in it.
//!
//! Variables are expanded on the level of tokens: only inside string literals, and the value enters escaped. A directory name
//! can therefore add neither a policy nor a wildcard, whatever bytes it holds. Annotations are words for people: what looks like a
//! variable and is none stays there as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::depth::{Depth, Excess, MAX_NESTING, MAX_OPERATORS};
use crate::diagnostic::Diagnostic;

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name, as diagnostics show it. Its stem names policies that have no `@id`.
    pub name: String,
    /// The Cedar text.
    pub text: String,
}

/// Values of the `${NAME}` variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(pub BTreeMap<String, String>);

impl FromIterator<(String, String)> for Variables {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// A source after expansion, with the way back from its offsets.
pub(crate) struct Expanded {
    pub(crate) name: Arc<str>,
    /// The user's text.
    pub(crate) original: Arc<str>,
    /// What Cedar parses.
    pub(crate) text: String,
    /// Each replacement: where it starts in `text`, its length there, where it starts in `original`, its length there.
    replaced: Vec<[usize; 4]>,
    /// Offsets in `text` after each top-level `;`.
    pub(crate) statement_ends: Vec<usize>,
    /// Offsets in `original` of the line feeds.
    line_feeds: Vec<usize>,
}

impl Expanded {
    /// The line of an offset in the user's text, from 1.
    pub(crate) fn line(&self, original_offset: usize) -> usize {
        self.line_feeds.partition_point(|at| *at < original_offset) + 1
    }

    /// The offset in the user's text that belongs to `offset` in the expanded text. Inside of a replacement this is the
    /// variable's start, or its end if `end` is set.
    pub(crate) fn original_offset(&self, offset: usize, end: bool) -> usize {
        let before = self.replaced.partition_point(|[start, ..]| *start < offset + usize::from(!end));
        let Some([start, length, original, original_length]) = before.checked_sub(1).and_then(|i| self.replaced.get(i)) else {
            return offset.min(self.original.len());
        };
        let inside = offset - start;
        let mapped = match (inside < *length, end) {
            (true, false) => *original,
            (true, true) => original + original_length,
            (false, _) => original + original_length + (inside - length),
        };
        mapped.min(self.original.len())
    }
}

/// Expands `source`. All faults are collected in `faults`.
pub(crate) fn expand(source: &Source, variables: &Variables, faults: &mut Vec<Diagnostic>) -> Expanded {
    let mut scanner = Scanner {
        source,
        variables,
        faults,
        out: Expanded {
            name: source.name.as_str().into(),
            original: source.text.as_str().into(),
            text: String::with_capacity(source.text.len()),
            replaced: Vec::new(),
            statement_ends: Vec::new(),
            line_feeds: source.text.match_indices('\n').map(|(at, _)| at).collect(),
        },
    };
    scanner.run();
    scanner.out
}

/// What a string literal is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Value,
    Pattern,
    /// The value of an annotation.
    Words,
}

struct Scanner<'a> {
    source: &'a Source,
    variables: &'a Variables,
    faults: &'a mut Vec<Diagnostic>,
    out: Expanded,
}

impl Scanner<'_> {
    /// Text from byte `at` on; empty past the end.
    fn rest(&self, at: usize) -> &str {
        self.source.text.get(at..).unwrap_or_default()
    }

    fn fault(&mut self, at: usize, length: usize, message: String, help: &str) {
        let fault = Diagnostic::new(&self.out.name, &self.out.original, message).at(at, length, "here").help(help);
        self.faults.push(fault);
    }

    fn run(&mut self) {
        let mut at = 0;
        // The last word before the current token tells patterns (`like "…"`) from other strings.
        let mut word = String::new();
        let mut depth = Depth::default();
        // Words after an `@`; and whether an annotation's value is next, after `@word(`.
        let (mut after_at, mut annotation) = (None, false);
        while let Some(c) = self.rest(at).chars().next() {
            match c {
                '"' => {
                    depth.word(&word, at);
                    at = self.string(
                        at,
                        match word.as_str() {
                            "like" => Text::Pattern,
                            "" if annotation => Text::Words,
                            _ => Text::Value,
                        },
                    );
                    (after_at, annotation) = (None, false);
                    word.clear();
                    continue;
                }
                '/' if self.rest(at).starts_with("//") => {
                    let length = self.rest(at).find(['\n', '\r']).unwrap_or(self.rest(at).len());
                    self.copy(at, length);
                    at += length;
                    continue;
                }
                '$' if self.rest(at).starts_with("${") => {
                    let length = self.rest(at).find('}').map_or(2, |end| end + 1);
                    let name = self.rest(at).get(..length).unwrap_or_default().to_owned();
                    let help = "put it into a string literal, for example `Dir::\"${HOME}/.ssh\"`";
                    self.fault(at, length, format!("variable `{name}` outside of a string literal"), help);
                }
                _ => {}
            }
            if c.is_alphanumeric() || c == '_' {
                word.push(c);
            } else {
                depth.word(&word, at);
                if !word.is_empty() {
                    (after_at, annotation) = (after_at.map(|words: usize| words + 1), false);
                }
                if !c.is_whitespace() {
                    depth.symbol(c, at);
                    annotation = c == '(' && after_at == Some(1);
                    after_at = (c == '@').then_some(0);
                }
                // Told once: the space between `like` and its pattern may be long.
                if !c.is_whitespace() || word != "like" {
                    word.clear();
                }
            }
            self.copy(at, c.len_utf8());
            at += c.len_utf8();
            if c == ';' {
                self.out.statement_ends.push(self.out.text.len());
            }
        }
        self.limits(&depth);
    }

    /// Refuses what would be too deep to recurse into.
    fn limits(&mut self, depth: &Depth) {
        if let Some(Excess { at, most }) = depth.nesting {
            let message = format!("brackets and `if`s are nested {most} deep here; {MAX_NESTING} is the limit");
            self.fault(at, 1, message, "leave out brackets that change nothing, or split the policy");
        }
        if let Some(Excess { at, most }) = depth.operators {
            let message = format!("one expression is {most} operators deep here; {MAX_OPERATORS} is the limit");
            self.fault(at, 1, message, "put alternatives into a set (`[…].contains()`, `in […]`), or split the policy");
        }
    }

    fn copy(&mut self, at: usize, length: usize) {
        self.out.text.push_str(self.source.text.get(at..at + length).unwrap_or_default());
    }

    /// Copies the string literal at `at` and returns the offset after it.
    fn string(&mut self, start: usize, text: Text) -> usize {
        let mut at = start + 1;
        self.out.text.push('"');
        while let Some(c) = self.rest(at).chars().next() {
            match c {
                '"' => {
                    self.out.text.push('"');
                    return at + 1;
                }
                '\\' => {
                    let length = 1 + self.rest(at + 1).chars().next().map_or(0, char::len_utf8);
                    self.copy(at, length);
                    at += length;
                }
                '$' if self.rest(at).starts_with("${") => at = self.variable(at, text),
                _ => {
                    self.copy(at, c.len_utf8());
                    at += c.len_utf8();
                }
            }
        }
        at
    }

    /// Expands the variable at `at` and returns the offset after it.
    fn variable(&mut self, at: usize, text: Text) -> usize {
        let name: String = self.rest(at + 2).chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let length = 2 + name.len() + 1;
        if name.is_empty() || !self.rest(at + 2 + name.len()).starts_with('}') {
            if text == Text::Words {
                self.copy(at, 2);
                return at + 2;
            }
            let help = "write `${NAME}`; a literal dollar sign before a brace is written `\\u{24}{`";
            self.fault(at, 2 + name.len(), "unfinished variable in a string literal".to_owned(), help);
            return at + 2;
        }
        let Some(value) = self.variables.0.get(&name) else {
            if text == Text::Words {
                self.copy(at, length);
                return at + length;
            }
            let known: Vec<String> = self.variables.0.keys().map(|name| format!("`${{{name}}}`")).collect();
            let help = match known.is_empty() {
                true => "no variables are defined here".to_owned(),
                false => format!("known variables: {}", known.join(", ")),
            };
            self.fault(at, length, format!("unknown variable `${{{name}}}`"), &help);
            return at + length;
        };
        // The root directory as `${HOME}` in `${HOME}/.ssh` means `/.ssh`.
        let value = if self.rest(at + length).starts_with('/') { value.strip_suffix('/').unwrap_or(value) } else { value };
        let place = self.out.text.len();
        escape(value, text == Text::Pattern, &mut self.out.text);
        self.out.replaced.push([place, self.out.text.len() - place, at, length]);
        at + length
    }
}

/// Appends `value` as the inside of a Cedar string literal, or of a pattern.
fn escape(value: &str, pattern: bool, out: &mut String) {
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '*' if pattern => out.push_str("\\*"),
            c if c.is_control() => {
                // Writing to a string can't fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        Variables([("HOME".into(), "/home/a".into()), ("EVIL".into(), "x\"*\\\n;".into()), ("ROOT".into(), "/".into())].into())
    }

    fn expanded(text: &str) -> Result<String, Vec<String>> {
        let mut faults = Vec::new();
        let source = Source { name: "t.cedar".into(), text: text.into() };
        let out = expand(&source, &variables(), &mut faults);
        match faults.is_empty() {
            true => Ok(out.text),
            false => Err(faults.iter().map(|fault| fault.message().to_owned()).collect()),
        }
    }

    #[test]
    fn variables_enter_string_literals_escaped() {
        for (text, wanted) in [
            (r#"Dir::"${HOME}/.ssh""#, r#"Dir::"/home/a/.ssh""#),
            (r#"x == "${EVIL}""#, r#"x == "x\"*\\\u{a};""#),
            (r#"x like "${EVIL}*""#, r#"x like "x\"\*\\\u{a};*""#),
            ("x like // c\n \"${EVIL}\"", "x like // c\n \"x\\\"\\*\\\\\\u{a};\""),
            (r#"x["like"] == "${EVIL}""#, r#"x["like"] == "x\"*\\\u{a};""#),
            (r#"dislike == "${EVIL}""#, r#"dislike == "x\"*\\\u{a};""#),
            (r#"Dir::"${ROOT}/etc" Dir::"${ROOT}""#, r#"Dir::"/etc" Dir::"/""#),
            (r#""\u{24}{HOME} \"${HOME}""#, r#""\u{24}{HOME} \"/home/a""#),
            ("// ${HOME} \" \n\"a\"", "// ${HOME} \" \n\"a\""),
            (r#"@reason("no ${NOPE}, ${ in ${HOME}") @x("${Y}")"#, r#"@reason("no ${NOPE}, ${ in /home/a") @x("${Y}")"#),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn wrong_variables_are_refused() {
        for text in [
            "${HOME}",
            "x == ${HOME}",
            r#""${NOPE}""#,
            r#""${HOME""#,
            r#""${}""#,
            r#""${A B}""#,
            r#"@a permit(principal == Agent::"${NOPE}")"#,
            r#"@a("b") permit("${NOPE}")"#,
            r#"@a(b "${NOPE}")"#,
        ] {
            assert!(expanded(text).is_err(), "{text}");
        }
    }

    #[test]
    fn offsets_lead_back_to_the_users_text() {
        let text = r#"a == "${HOME}" + b"#;
        let out = expand(&Source { name: "t".into(), text: text.into() }, &variables(), &mut Vec::new());
        let at = out.text.find(" + b").map(|at| out.original_offset(at, false));
        assert_eq!(at, text.find(" + b"));
        assert_eq!(out.original_offset(6, false), 6);
        assert_eq!(out.original_offset(9, false), 6);
        assert_eq!(out.original_offset(9, true), 13);
        assert_eq!(out.original_offset(0, false), 0);
    }
}

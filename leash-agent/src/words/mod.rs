//! The one sink of words: what Leash shows to people is [`Plain`], and leaves through here.
//!
//! Names of files are an agent's to choose, and a policy's `@id`, `@reason`, text and file name a repository's. None of them may move the
//! cursor, turn the writing direction, hide, or begin a line. So a [`Plain`] is made a line at a time, and escaped as it is made; clippy
//! refuses every other way to standard output and standard error (`clippy.toml`).

mod arguments;
mod diagnostic;
pub(crate) mod json;

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::{self, StdoutLock, Write};

use serde::Serialize;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

pub(crate) use arguments::usage;
pub(crate) use diagnostic::report;

/// Text in which a terminal finds nothing to obey but line feeds and colours of Leash's own. It has no line feed at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plain(String);

impl Plain {
    /// One line, whatever `text` holds.
    pub fn line(text: impl Display) -> Self {
        Self(escape(&text.to_string()).into_owned())
    }

    /// Lines, one below the other.
    pub fn lines(lines: impl IntoIterator<Item = Self>) -> Self {
        Self(lines.into_iter().map(|line| line.0).collect::<Vec<_>>().join("\n"))
    }

    /// The lines of a text whose line feeds are Leash's own.
    fn text(text: &str) -> Self {
        Self::lines(text.lines().map(Self::line))
    }

    /// With words or colours of Leash's own around it.
    pub(crate) fn within(self, before: &'static str, after: &'static str) -> Self {
        Self(format!("{before}{}{after}", self.0))
    }

    /// With more on the same line.
    pub(crate) fn and(self, more: Self) -> Self {
        Self(self.0 + &more.0)
    }

    /// For a terminal in raw mode, which takes a line feed literally.
    pub(crate) fn raw(self) -> Self {
        Self(self.0.replace('\n', "\r\n") + "\r")
    }

    /// What is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text with everything escaped that a terminal obeys or doesn't show, line feeds included. `\u{` stands for nothing else: where the
/// text itself says so, that backslash is escaped.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\') {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let looks_escaped = c == '\\' && text.get(at + 1..).is_some_and(|rest| rest.starts_with("u{"));
        if looks_escaped || acts(c) {
            push_escaped(c, &mut shown);
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// A name inside of a line: in backticks unless it is one word, so that it can't go on with the sentence; in more of them than it has itself.
pub fn name(text: &str) -> Cow<'_, str> {
    if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '`') {
        return text.into();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    format!("{fence}{text}{fence}").into()
}

fn push_escaped(c: char, shown: &mut String) {
    // Writing to a string can't fail.
    let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
}

/// Whether a terminal would do something with this character, or show nothing.
fn acts(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, Surrogate, Unassigned};
    match c {
        ' '..='~' => false,
        // Invisible (Default_Ignorable_Code_Point), though letters and marks. The sixteen variation selectors that emoji are written with stay.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}' => true,
        '\u{e0100}'..='\u{e01ef}' => true,
        _ => {
            matches!(c.general_category(), Control | Format | LineSeparator | ParagraphSeparator | Surrogate | Unassigned)
        }
    }
}

/// Words on standard error; if that is closed there is nobody to tell.
pub(crate) fn say(text: &Plain) {
    #[expect(clippy::disallowed_methods, reason = "this is the sink")]
    let mut out = io::stderr();
    drop(writeln!(out, "{text}"));
}

/// Standard output.
pub(crate) struct Out(StdoutLock<'static>);

impl Out {
    pub(crate) fn lock() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the sink")]
        let out = io::stdout();
        Self(out.lock())
    }

    /// Words and a line feed.
    pub(crate) fn say(&mut self, text: &Plain) -> io::Result<()> {
        writeln!(self.0, "{text}")
    }

    /// A value, in one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        writeln!(self.0, "{}", json::plain(&serde_json::to_string(value)?))
    }

    /// A value for people who read JSON.
    pub(crate) fn pretty_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        text.lines().try_for_each(|line| writeln!(self.0, "{}", json::plain(line)))
    }

    /// One line of JSON that somebody else wrote.
    pub(crate) fn json_line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.0, "{}", json::plain(line))
    }

    /// What was made from the definition of the commands alone.
    pub(crate) fn generated(&mut self, text: &[u8]) -> io::Result<()> {
        self.0.write_all(text)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Takes what `tracing` writes, an event at a time.
pub(crate) struct Events;

impl Write for Events {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        say(&Plain::line(String::from_utf8_lossy(event).trim_end()));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A panic is a fault of Leash, and its words may name anything.
pub(crate) fn say_panics() {
    std::panic::set_hook(Box::new(|panic| {
        say(&Plain::text(&format!("leash: internal fault, please report it: {panic}\n{}", backtrace())));
    }));
}

/// As far as the environment asks for it.
fn backtrace() -> String {
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured { trace.to_string() } else { String::new() }
}

#[cfg(test)]
pub(crate) mod tests;

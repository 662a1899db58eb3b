//! Faults of policies, with their places. All of it is the policy's author's: names of files, ids, and the text that is shown.

use std::fmt;
use std::sync::Arc;

use leash_policy::{Diagnostic, Diagnostics};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};

use super::{Plain, acts, escape, push_escaped};

/// The report of one or several faults.
pub(crate) fn report<'a>(faults: impl Into<Faults<'a>>, color: bool) -> Plain {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let shown = match faults.into() {
        Faults::One(fault) => Shown::fault(fault, &mut Texts::default()),
        Faults::All(faults) => {
            let mut texts = Texts::default();
            let related = faults.iter().map(|fault| Shown::fault(fault, &mut texts)).collect();
            Shown { message: escape(&faults.to_string()).into_owned(), related, ..Shown::default() }
        }
    };
    let mut text = String::new();
    match GraphicalReportHandler::new_themed(theme).render_report(&mut text, &shown) {
        // Made of what was escaped before, and colours and lines of the handler's.
        Ok(()) => Plain(text.trim_end().to_owned()),
        Err(_) => Plain::line(shown),
    }
}

/// What there is to report.
pub(crate) enum Faults<'a> {
    One(&'a Diagnostic),
    All(&'a Diagnostics),
}

impl<'a> From<&'a Diagnostic> for Faults<'a> {
    fn from(fault: &'a Diagnostic) -> Self {
        Self::One(fault)
    }
}

impl<'a> From<&'a Diagnostics> for Faults<'a> {
    fn from(faults: &'a Diagnostics) -> Self {
        Self::All(faults)
    }
}

/// Texts of sources, and how they are shown: thousands of faults may be in one.
#[derive(Default)]
struct Texts(Vec<(Arc<str>, Arc<str>)>);

impl Texts {
    fn shown(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some((_, shown)) = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, text)) {
            return Arc::clone(shown);
        }
        let shown = if text.chars().any(changes) { source(text).into() } else { Arc::clone(text) };
        self.0.push((Arc::clone(text), Arc::clone(&shown)));
        shown
    }
}

/// A fault, escaped.
#[derive(Debug, Default)]
struct Shown {
    message: String,
    help: Option<String>,
    source: Option<NamedSource<Arc<str>>>,
    labels: Vec<LabeledSpan>,
    severity: Option<Severity>,
    related: Vec<Shown>,
}

/// Lines that are longer are shown to nobody: the handler counts columns in 16 bits and panics beyond, and a person reads none of it.
const LONGEST_LINE_BYTES: usize = 4096;

/// Whether the handler can show `text` from `start` to `end`, with the lines around it.
fn can_be_shown(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    let first = before.rmatch_indices('\n').nth(1).map_or(0, |(at, _)| at);
    let after = text.get(end..).unwrap_or_default();
    let last = after.match_indices('\n').nth(1).map_or(text.len(), |(at, _)| end + at);
    text.get(first..last).is_some_and(|lines| lines.lines().all(|line| line.len() <= LONGEST_LINE_BYTES))
}

impl Shown {
    fn fault(fault: &Diagnostic, texts: &mut Texts) -> Self {
        let spans =
            miette::Diagnostic::labels(fault).into_iter().flatten().map(|label| (label.offset(), label.offset() + label.len()));
        let unshown = spans.into_iter().find(|(start, end)| !can_be_shown(fault.text(), *start, *end));
        if let Some((start, _)) = unshown {
            let before = fault.text().get(..start).unwrap_or_default();
            let line = 1 + before.matches('\n').count();
            let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
            let place = format!("{}:{line}:{column}", fault.source_name());
            return Self {
                message: escape(&format!("{} (at {place})", fault.message())).into_owned(),
                help: fault.advice().map(|help| escape(help).into_owned()),
                severity: miette::Diagnostic::severity(fault),
                ..Self::default()
            };
        }
        let text = texts.shown(fault.text());
        let place = |offset| if Arc::ptr_eq(&text, fault.text()) { offset } else { shown_offset(fault.text(), offset) };
        let labels = miette::Diagnostic::labels(fault).into_iter().flatten().map(|label| {
            let (start, end) = (place(label.offset()), place(label.offset() + label.len()));
            LabeledSpan::new(label.label().map(|label| escape(label).into_owned()), start, end - start)
        });
        Self {
            message: escape(fault.message()).into_owned(),
            help: fault.advice().map(|help| escape(help).into_owned()),
            labels: labels.collect(),
            severity: miette::Diagnostic::severity(fault),
            related: Vec::new(),
            source: Some(NamedSource::new(escape(fault.source_name()), text)),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl miette::Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        self.severity
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.related.iter().map(|fault| fault as &dyn miette::Diagnostic)))
    }
}

/// Whether a character of a source is shown as something else. The handler makes lines of the line feeds, each behind its number, and spaces of
/// the tabs.
fn changes(c: char) -> bool {
    !matches!(c, '\n' | '\t') && acts(c)
}

/// The text of a source as it is shown. A backslash stays: what it escapes in Cedar is what it escapes here.
fn source(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            c if changes(c) => push_escaped(c, &mut shown),
            c => shown.push(c),
        }
    }
    shown
}

/// Where an offset of the text is in the text as it is shown.
fn shown_offset(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    // The line feed that follows a carriage return is in front of neither.
    source(before.strip_suffix('\r').unwrap_or(before)).len()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOSTILE, READABLE, is_inert};
    use super::*;
    use leash_policy::{Principal, Source, Variables, compile};

    fn faults(name: &str, text: &str) -> Diagnostics {
        let source = Source { name: name.into(), text: text.into() };
        compile(&[source], &Variables::default(), &Principal::default()).err().unwrap()
    }

    #[test]
    fn a_policy_commands_no_terminal_wherever_its_text_is_shown() {
        for (text, _) in HOSTILE {
            let id = text.escape_unicode();
            for policy in [
                format!("// {text}\npermit(principal, action, resource) when {{ resource.nonsense }}; // {text}"),
                format!(
                    "@id(\"{text}\") permit(principal, action, resource);\n@id(\"{text}\") permit(principal, action, resource);"
                ),
                format!("@id(\"{id}\") permit(principal, action, resource);\n@id(\"{id}\") permit(principal, action, resource);"),
                format!("permit(principal, action, resource == File::\"{text}${{NOPE}}\");"),
                format!("permit(principal, action == Action::\"{id}\", resource);"),
                format!("permit(principal == Agent::\"{text}\", action, resource == File::\"{text}\") when {{ 1 }};"),
                format!("permit({text}"),
                text.to_owned(),
            ] {
                let shown = report(&faults(&format!("/w/.leash/{text}.cedar"), &policy), false);
                assert!(is_inert(shown.as_str()), "{policy:?}: {:?}", shown.as_str());
                assert!(!shown.as_str().lines().any(|line| line.starts_with("leash") || line.starts_with("  log")), "{shown}");
            }
        }
    }

    #[test]
    fn places_are_marked_where_they_are_shown() {
        for (before, shown) in [("", ""), ("ä", "ä"), ("\x1b\u{202e}", "\\u{1b}\\u{202e}"), ("\\u{24}", "\\u{24}")] {
            for end in ["\n", "\r\n"] {
                let policy = format!(
                    "// {before}{end}/*{before}*/ permit(principal, action, resource) when {{ resource.nonsense }};{end}"
                );
                let policy = policy.replace("/*", "@id(\"").replace("*/", "\")");
                let report = report(&faults("p.cedar", &policy), false);
                let lines: Vec<&str> = report.as_str().lines().collect();
                let at = lines.iter().position(|line| line.contains("nonsense };")).expect("the policy is shown");
                assert!(lines[at].contains(&format!("@id(\"{shown}\") permit")) && !lines[at].contains("\\u{d}"), "{report}");
                let column = |line: &str, part: &str| line[..line.find(part).unwrap()].chars().count();
                let mark = lines[at + 1];
                assert_eq!(column(mark, "─").min(column(mark, "┬")), column(lines[at], "resource.nonsense"), "{report}");
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_to_be_shown_is_named() {
        for (before, place) in [("", "p.cedar:1:"), ("// first\n", "p.cedar:2:")] {
            let policy = format!(
                "{before}permit(principal, action, resource) when {{ {}true }};",
                "if true then true else ".repeat(50_000)
            );
            let shown = report(&faults("p.cedar", &policy), false);
            assert!(shown.as_str().len() < 1000 && shown.as_str().contains(place), "{shown}");
        }
    }

    #[test]
    fn readable_text_is_shown_as_it_is() {
        for text in READABLE {
            let policy =
                format!("@id(\"x\") permit(principal, action, resource is File) when {{ resource.nonsense }}; // {text}");
            let shown = report(&faults(text, &policy), false);
            assert_eq!(shown.as_str().matches(text).count(), 2, "{shown}");
        }
    }
}

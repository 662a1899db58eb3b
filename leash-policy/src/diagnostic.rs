//! What is wrong with a policy, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

use miette::{LabeledSpan, NamedSource, Severity, SourceCode, SourceSpan};

/// One fault in a policy source.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    message: String,
    help: Option<String>,
    source: Box<NamedSource<Arc<str>>>,
    labels: Vec<LabeledSpan>,
    severity: Severity,
}

impl Diagnostic {
    pub(crate) fn new(name: &str, text: &Arc<str>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            source: Box::new(NamedSource::new(name, Arc::clone(text))),
            labels: Vec::new(),
            severity: Severity::Error,
        }
    }

    /// Marks a place, in bytes of the user's text.
    pub(crate) fn at(mut self, offset: usize, length: usize, label: impl Into<String>) -> Self {
        self.labels.push(LabeledSpan::new(Some(label.into()), offset, length));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Makes it something that is valid all the same.
    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The source's name.
    pub fn source_name(&self) -> &str {
        self.source.name()
    }

    /// The source's text.
    pub fn text(&self) -> &Arc<str> {
        self.source.inner()
    }

    /// The marked bytes of the source, the first place only.
    pub fn span(&self) -> Option<SourceSpan> {
        self.labels.first().map(|label| *label.inner())
    }

    /// Line and column of the first marked place, both from 1.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let offset = self.span()?.offset();
        let before = self.source.inner().get(..offset)?;
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Some((line, column))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source.as_ref())
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// All faults that were found, at least one. Renders with `miette` as one report.
#[derive(Clone, Debug)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// `Err` if there are any faults.
    pub(crate) fn check(faults: Vec<Diagnostic>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// The faults, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(fault: Diagnostic) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [fault] => write!(f, "the policy cannot be enforced: {fault}"),
            faults => write!(f, "the policies cannot be enforced: {} faults", faults.len()),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl miette::Diagnostic for Diagnostics {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().map(|fault| fault as &dyn miette::Diagnostic)))
    }
}

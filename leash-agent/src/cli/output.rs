//! How text leaves the program.

use std::io::{IsTerminal, Write};

use miette::{GraphicalReportHandler, GraphicalTheme};

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorChoice {
    /// Whether to colour `stream`.
    pub(crate) fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// ANSI colours, ECMA-48 SGR.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Color {
    Red,
    Green,
    Yellow,
    Dim,
}

/// The text in a colour.
pub(crate) fn paint(text: &str, color: Color) -> String {
    let code = match color {
        Color::Red => 31,
        Color::Green => 32,
        Color::Yellow => 33,
        Color::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Words on stderr; if that is closed there is nobody to tell.
pub(crate) fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// A diagnostic with its places and snippets, for stderr.
pub(crate) fn report(diagnostic: &dyn miette::Diagnostic, color: ColorChoice) -> String {
    let theme = if color.on(&std::io::stderr()) { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    match GraphicalReportHandler::new_themed(theme).render_report(&mut text, diagnostic) {
        Ok(()) => text.trim_end().to_owned(),
        Err(_) => diagnostic.to_string(),
    }
}

/// An error on stderr.
pub(crate) fn complain(text: &str) {
    say(&format!("leash: {text}"));
}

/// Whether an error is that of a reader who went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

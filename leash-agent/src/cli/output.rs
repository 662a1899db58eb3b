//! How text leaves the program.

use std::fmt::Display;
use std::io::IsTerminal;

use crate::words::{Plain, say};

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
    /// Whether to colour standard output.
    #[expect(clippy::disallowed_methods, reason = "nothing is written")]
    pub(crate) fn on_stdout(self) -> bool {
        self.on(&std::io::stdout())
    }

    /// Whether to colour standard error.
    #[expect(clippy::disallowed_methods, reason = "nothing is written")]
    pub(crate) fn on_stderr(self) -> bool {
        self.on(&std::io::stderr())
    }

    fn on(self, stream: &impl IsTerminal) -> bool {
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
pub(crate) fn paint(text: Plain, color: Color) -> Plain {
    let begin = match color {
        Color::Red => "\x1b[31m",
        Color::Green => "\x1b[32m",
        Color::Yellow => "\x1b[33m",
        Color::Dim => "\x1b[2m",
    };
    text.within(begin, "\x1b[0m")
}

/// An error on stderr, in one line.
pub(crate) fn complain(text: impl Display) {
    say(&Plain::line(text).within("leash: ", ""));
}

/// Whether an error is that of a reader who went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

//! What the parser of the command line has to say. It repeats arguments and variables as they are.

use clap::error::{ContextKind, ContextValue};

use super::{Plain, escape};

/// The words of an error that is a complaint, and no help that was asked for.
pub(crate) fn usage(mut error: clap::Error) -> Plain {
    let said: Vec<(ContextKind, ContextValue)> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in said {
        // Made from the definition of the commands, and several lines long.
        if kind != ContextKind::Usage {
            error.insert(kind, escaped(value));
        }
    }
    Plain::text(error.render().to_string().trim_end())
}

fn escaped(value: ContextValue) -> ContextValue {
    let shown = |text: &str| escape(text).into_owned();
    match value {
        ContextValue::String(text) => ContextValue::String(shown(&text)),
        ContextValue::Strings(texts) => ContextValue::Strings(texts.iter().map(|text| shown(text)).collect()),
        ContextValue::StyledStr(text) => ContextValue::StyledStr(shown(&text.to_string()).into()),
        ContextValue::StyledStrs(texts) => {
            ContextValue::StyledStrs(texts.iter().map(|text| shown(&text.to_string()).into()).collect())
        }
        other => other,
    }
}

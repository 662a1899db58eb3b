//! One measured figure, as `cargo xtask bench --json` writes it.

use std::path::Path;

use anyhow::Context;

/// A figure with what it should reach.
#[derive(serde::Serialize)]
pub(crate) struct Figure {
    figure: String,
    value: f64,
    unit: &'static str,
    reach: String,
    met: Option<bool>,
}

impl Figure {
    /// A figure that must not exceed `limit`.
    pub(crate) fn at_most(figure: impl Into<String>, value: f64, unit: &'static str, limit: f64) -> Self {
        Self { figure: figure.into(), value, unit, reach: format!("≤ {limit}"), met: Some(value <= limit) }
    }

    /// A figure that is only reported.
    pub(crate) fn reported(figure: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { figure: figure.into(), value, unit, reach: "reported".to_owned(), met: None }
    }

    /// Says which backend it is of.
    pub(crate) fn name_backend(&mut self, backend: &str) {
        self.figure = format!("{backend}: {}", self.figure);
    }

    /// Something that holds or doesn't: 1 or 0.
    pub(crate) fn holds(figure: impl Into<String>, holds: bool) -> Self {
        Self { figure: figure.into(), value: f64::from(u8::from(holds)), unit: "holds", reach: "1".to_owned(), met: Some(holds) }
    }
}

/// Writes the figures as a JSON array.
pub(crate) fn write(path: &Path, figures: &[Figure]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(figures)?;
    std::fs::write(path, text).with_context(|| format!("writing `{}`", path.display()))
}

/// The middle of the samples; they are sorted in place.
pub(crate) fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

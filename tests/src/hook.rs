//! What proves that a hook asks. More than a [`Case`] proves: the records are about the attempt's own program.

use crate::case::{self, Case};
use crate::ground;

/// A call that reaches a hook.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The LSM hook.
    pub hook: &'static str,
    /// The call, its twin, and what the log says.
    pub case: Case,
}

/// Proves every line.
pub fn prove(lines: &[Line], policy: &dyn Fn(&[Case]) -> String) {
    let cases: Vec<Case> = lines.iter().map(|line| line.case).collect();
    case::prove(&cases, &policy(&cases), Some(ground::ATTEMPT));
}

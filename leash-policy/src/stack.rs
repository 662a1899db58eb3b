//! Room on the stack for what recurses into expressions: Cedar's parser, validator and evaluator, and dropping what they made.
//!
//! `depth` bounds how deep an expression is, before anything recurses. This gives that depth room in every thread, whatever its own
//! stack. Pages that aren't touched cost nothing.

/// Enough for the deepest expression that `depth` lets pass, more than twice over.
const STACK_BYTES: usize = 256 << 20;

/// Runs `work` where there is room for any policy.
pub(crate) fn deep<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(STACK_BYTES / 2, STACK_BYTES, work)
}

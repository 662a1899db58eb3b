//! Cedar policies in, decision tables and located diagnostics out.
//!
//! Cedar is the only evaluator that is trusted here, so the compiler never re-implements it. It *partitions*: it collects the
//! atoms that policies ask of each dimension of a request (a path, a program, an address, a port), splits each dimension into
//! classes whose members make the same atoms true, and lets Cedar decide one witness of each combination. What no dimension can
//! carry is an error with its place in the source; nothing is skipped or approximated.
//!
//! The way through: [`source`] → `parse` → `atoms` → classes (`text`, `net`) → `units` (truth tables, by Cedar) → `tables`
//! (rows, packing) → [`Compiled`]. This crate does no I/O.
#![forbid(unsafe_code)]

mod alike;
mod atoms;
mod compile;
mod compiled;
mod depth;
mod diagnostic;
mod fast;
mod form;
mod join;
mod nearest;
mod net;
mod parse;
pub mod profile;
mod request;
pub mod source;
mod stack;
mod tables;
mod text;
mod units;
mod world;

pub use compiled::{Compiled, Stats};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use parse::MAX_TEXT_BYTES;
pub use request::{Effect, Outcome, PolicyRef, Principal, Request, RequestError, Resource, Verdict};
pub use source::{Source, Variables};

/// Compiles all sources together for one principal. All faults that can be found are reported at once.
pub fn compile(sources: &[Source], variables: &Variables, principal: &Principal) -> Result<Compiled, Diagnostics> {
    stack::deep(|| compile::compile(sources, variables, principal))
}

/// The Cedar schema that policies are validated against.
pub const SCHEMA: &str = include_str!("../../policies/leash.cedarschema");

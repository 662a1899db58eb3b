//! From truth tables to the decision tables of `leash_common::table`.

mod endpoint;
mod graph;
mod pack;
mod reasons;
mod rows;
mod text;

pub(crate) use endpoint::endpoints;
pub(crate) use graph::Graph;
pub(crate) use pack::{Roots, pack};
pub(crate) use reasons::Reasons;
pub(crate) use rows::Rows;
pub(crate) use text::{programs, texts};

/// The tables need more room than they may have.
#[derive(Debug)]
pub(crate) struct TooLarge(pub(crate) &'static str);

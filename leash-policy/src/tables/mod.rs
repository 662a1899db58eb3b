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
pub(crate) struct TooLarge {
    /// Of what there is too much, and how much there may be.
    pub(crate) what: &'static str,
    pub(crate) most: usize,
    /// Policies that were met where the limit was reached; none if all of them together are at fault.
    pub(crate) policies: Vec<u32>,
}

impl TooLarge {
    /// More of this than there may be.
    pub(crate) fn of(what: &'static str, most: usize) -> Self {
        Self { what, most, policies: Vec::new() }
    }
}

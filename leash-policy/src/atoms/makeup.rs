//! What a value can be made of.
//!
//! Whether two values are equal, or how a value compares with a constant, depends on nothing but how the attributes in the one compare
//! with the constants in the other, and on the tests that choose between them. So `(if t then resource.path else resource.name) ==
//! "/a"` needs the atoms of `resource.path == "/a"`, of `resource.name == "/a"`, and of `t`. Records and sets are taken apart likewise.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp, Var};

use super::attribute::{Attribute, attribute_of};
use super::constant::is_open;

/// Something of a request that a value has in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// The resource itself.
    Resource,
    /// An attribute; the context is a record of its one attribute.
    Of(Attribute),
}

/// The parts of a value.
#[derive(Default)]
pub(super) struct Makeup<'e> {
    /// What of the request is in it.
    pub(super) elements: Vec<Element>,
    /// The parts that don't depend on the request.
    pub(super) closed: Vec<&'e Expr>,
    /// What decides which parts are in it, and truth values in it.
    pub(super) tests: Vec<&'e Expr>,
}

impl<'e> Makeup<'e> {
    /// The parts of `e`; `None` if it computes with attributes.
    pub(super) fn of(e: &'e Expr) -> Option<Self> {
        let mut makeup = Self::default();
        makeup.add(e, Vec::new())?;
        Some(makeup)
    }

    /// Whether the request is in it at all.
    pub(super) fn is_open(&self) -> bool {
        !self.elements.is_empty() || !self.tests.is_empty()
    }

    /// Whether all that is in it of the request is `element`.
    pub(super) fn only(&self, element: Element) -> bool {
        self.elements.iter().all(|found| *found == element)
    }

    /// Adds what `e` is after `fields` are read from it, the last one first.
    fn add(&mut self, e: &'e Expr, mut fields: Vec<&'e str>) -> Option<()> {
        if !is_open(e) {
            // With `fields` still to read that is more than the value, which does no harm.
            self.closed.push(e);
            return Some(());
        }
        match e.expr_kind() {
            ExprKind::If { test_expr, then_expr, else_expr } => {
                self.tests.push(test_expr);
                self.add(then_expr, fields.clone())?;
                self.add(else_expr, fields)
            }
            ExprKind::GetAttr { expr, attr } => {
                fields.push(attr);
                self.add(expr, fields)
            }
            ExprKind::Var(var @ (Var::Resource | Var::Context)) => {
                match (var, fields.pop()) {
                    (Var::Context, None) => self.elements.push(Element::Of(Attribute::Exe)),
                    (_, None) => self.elements.push(Element::Resource),
                    // An attribute that no request has is read nowhere: that Cedar validated the policy shows it.
                    (_, Some(field)) => self.elements.extend(attribute_of(*var, field).map(Element::Of)),
                }
                fields.is_empty().then_some(())
            }
            ExprKind::Record(record) => match fields.pop() {
                Some(field) => self.add(record.get(field)?, fields),
                None => record.values().try_for_each(|value| self.add(value, Vec::new())),
            },
            ExprKind::Set(values) => values.iter().try_for_each(|value| self.add(value, Vec::new())),
            _ => {
                self.tests.push(e);
                is_truth(e).then_some(())
            }
        }
    }
}

/// Whether `e` is true or false, and nothing else.
fn is_truth(e: &Expr) -> bool {
    match e.expr_kind() {
        ExprKind::And { .. }
        | ExprKind::Or { .. }
        | ExprKind::HasAttr { .. }
        | ExprKind::ExtHasAttr { .. }
        | ExprKind::Like { .. }
        | ExprKind::Is { .. } => true,
        ExprKind::UnaryApp { op, .. } => matches!(op, UnaryOp::Not | UnaryOp::IsEmpty),
        ExprKind::BinaryApp { op, .. } => !matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::GetTag),
        ExprKind::ExtensionFunctionApp { fn_name, .. } => {
            matches!(fn_name.to_string().as_str(), "isInRange" | "isIpv4" | "isIpv6" | "isLoopback" | "isMulticast")
        }
        _ => false,
    }
}

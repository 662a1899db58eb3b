//! Entities that a condition names, and whose attributes or ancestors it asks for.
//!
//! Cedar finds those among the entities of a request. A request holds its agent with the agent's teams, all actions, and of resources the one that
//! is asked about: `File::"/etc/shadow" in Dir::"/etc"` is true where that file is the resource, and false for every other
//! request. So no such part is a constant, and hardly anybody who writes one means what it says: it is refused.

use cedar_policy_core::ast::{BinaryOp, EntityUID, Expr, ExprKind, Literal};

/// Types whose entities are the same in every request of a session.
const CONSTANT: [&str; 3] = ["Agent", "Team", "Action"];

/// The entity named in the policy, of a type that depends on the request, whose data decides what `e` is.
pub(super) fn asked_of(e: &Expr) -> Option<&EntityUID> {
    match e.expr_kind() {
        ExprKind::BinaryApp { op: BinaryOp::In | BinaryOp::GetTag | BinaryOp::HasTag, arg1, .. } => named(arg1, Vec::new()),
        ExprKind::GetAttr { expr, .. } | ExprKind::HasAttr { expr, .. } => named(expr, Vec::new()),
        // `e has a.b` asks `e` for `a`, and `e.a` for `b`.
        ExprKind::ExtHasAttr { expr, attrs } => {
            let attrs: Vec<&str> = attrs.iter().map(|attr| attr.as_str()).collect();
            (0..attrs.len()).find_map(|read| named(expr, attrs.iter().take(read).rev().copied().collect()))
        }
        _ => None,
    }
}

/// The named entity that `e` can be after `fields` are read, the last one first.
fn named<'e>(e: &'e Expr, mut fields: Vec<&'e str>) -> Option<&'e EntityUID> {
    match e.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(entity)) if fields.is_empty() => {
            Some(entity.as_ref()).filter(|entity| !CONSTANT.contains(&entity.entity_type().to_string().as_str()))
        }
        ExprKind::If { then_expr, else_expr, .. } => named(then_expr, fields.clone()).or_else(|| named(else_expr, fields)),
        ExprKind::GetAttr { expr, attr } => {
            fields.push(attr);
            named(expr, fields)
        }
        ExprKind::Record(record) => {
            let field = fields.pop()?;
            named(record.get(field)?, fields)
        }
        _ => None,
    }
}

//! Sums with a port: `resource.port + 1 == 443` is true of one range of ports, as everything linear is.

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp};

use super::attribute::{Attribute, attribute};
use super::{Atom, PortRange};

/// `factor * port + term`.
#[derive(Clone, Copy)]
pub(super) struct Linear {
    factor: i128,
    term: i128,
}

impl Linear {
    fn at(self, port: u16) -> i128 {
        self.factor.saturating_mul(i128::from(port)).saturating_add(self.term)
    }

    /// What `e` is, and every sum on the way to it, which may not be representable for all ports. `constant` evaluates what doesn't depend
    /// on the request.
    pub(super) fn of(e: &Expr, constant: &mut impl FnMut(&Expr) -> Option<i64>, sums: &mut Vec<Self>) -> Option<Self> {
        if attribute(e) == Some(Attribute::Port) {
            return Some(Self { factor: 1, term: 0 });
        }
        let sum = match e.expr_kind() {
            ExprKind::UnaryApp { op: UnaryOp::Neg, arg } => Self::of(arg, constant, sums)?.times(-1)?,
            ExprKind::BinaryApp { op, arg1, arg2 } => {
                let (left, right) = (Self::of(arg1, constant, sums)?, Self::of(arg2, constant, sums)?);
                match op {
                    BinaryOp::Add => left.plus(right)?,
                    BinaryOp::Sub => left.plus(right.times(-1)?)?,
                    BinaryOp::Mul if left.factor == 0 => right.times(left.term)?,
                    BinaryOp::Mul if right.factor == 0 => left.times(right.term)?,
                    _ => return None,
                }
            }
            _ => return constant(e).map(|number| Self { factor: 0, term: i128::from(number) }),
        };
        sums.push(sum);
        Some(sum)
    }

    /// Whether it depends on the port.
    pub(super) fn varies(&self) -> bool {
        self.factor != 0
    }

    pub(super) fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.times(-1)?)
    }

    fn plus(self, other: Self) -> Option<Self> {
        Some(Self { factor: self.factor.checked_add(other.factor)?, term: self.term.checked_add(other.term)? })
    }

    fn times(self, by: i128) -> Option<Self> {
        Some(Self { factor: self.factor.checked_mul(by)?, term: self.term.checked_mul(by)? })
    }

    /// The ports for which this is less than `limit`.
    pub(super) fn below(self, limit: i128) -> Atom {
        let (first, last) = (self.at(0) < limit, self.at(u16::MAX) < limit);
        // It grows or shrinks all the way, so there is one end of the range at most.
        let (mut low, mut high) = (0, u16::MAX);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if (self.at(middle) < limit) == first { low = middle } else { high = middle }
        }
        let range = match (first, last) {
            (true, true) => Some(PortRange { low: 0, high: u16::MAX }),
            (true, false) => Some(PortRange { low: 0, high: low }),
            (false, true) => Some(PortRange { low: high, high: u16::MAX }),
            (false, false) => None,
        };
        Atom::Port(range.into_iter().collect())
    }
}

//! The attributes of a request: which dimension carries each, and as what.

use cedar_policy_core::ast::{Expr, ExprKind, Var};
use leash_common::table::MAX_PATH_BYTES;

use super::constant::Constant;
use super::{Atom, Piece, PortRange, TextLeaf};

/// What of a request an expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Path,
    Name,
    Exe,
    Ip,
    Port,
    /// Of an endpoint (enumerated) or of a socket (text).
    Protocol,
    Family,
}

impl Attribute {
    /// What it is called, and what can be done with it.
    pub(super) fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::Path => (
                "`resource.path`",
                "compare it with constants by `==`, `like` or `[…].contains()`, or use `resource in Dir::\"…\"`",
            ),
            Self::Name => ("`resource.name`", "compare it with constants by `==`, `like` or `[…].contains()`"),
            Self::Exe => ("`context.exe`", "compare it with constants by `==`, `like` or `[…].contains()`"),
            Self::Ip => (
                "`resource.ip`",
                "compare it with constants: `==`, `isInRange(ip(\"…\"))`, `isLoopback()`, `isMulticast()`, `isIpv4()`, `isIpv6()`",
            ),
            Self::Port => (
                "`resource.port`",
                "compare it with constants by `==`, `<`, `<=`, `>`, `>=` or `[…].contains()`, without arithmetic",
            ),
            Self::Protocol => ("`resource.protocol`", "compare it with constants by `==`, `like` or `[…].contains()`"),
            Self::Family => ("`resource.family`", "compare it with constants by `==`, `like` or `[…].contains()`"),
        }
    }

    /// The atom of this attribute's dimension.
    pub(super) fn atom(self, leaves: Vec<TextLeaf>) -> Atom {
        if self == Self::Exe { Atom::Exe(leaves) } else { Atom::Text(leaves) }
    }

    /// The texts whose attribute matches the pattern: `None` if this is no text, `Some(None)` if there can't be any.
    pub(super) fn matching(self, pieces: Vec<Piece>) -> Option<Option<TextLeaf>> {
        // No path is longer, and no part of one.
        let fits = pieces.iter().filter(|piece| matches!(piece, Piece::Byte(_))).count() < MAX_PATH_BYTES;
        let without_slash = |pieces: &[Piece]| !pieces.contains(&Piece::Byte(b'/'));
        let in_part = |pieces: Vec<Piece>| pieces.into_iter().map(|piece| if piece == Piece::Any { Piece::Part } else { piece });
        match self {
            Self::Path | Self::Name | Self::Exe if !fits => Some(None),
            Self::Path | Self::Exe => Some(Some(TextLeaf { name: false, pieces })),
            Self::Name => Some(without_slash(&pieces).then(|| TextLeaf { name: true, pieces: in_part(pieces).collect() })),
            // Sockets are named `family/protocol`.
            Self::Family => Some(without_slash(&pieces).then(|| {
                let after = [Piece::Byte(b'/'), Piece::Any];
                TextLeaf { name: false, pieces: in_part(pieces).chain(after).collect() }
            })),
            Self::Protocol => {
                Some(Some(TextLeaf { name: false, pieces: [Piece::Part, Piece::Byte(b'/')].into_iter().chain(pieces).collect() }))
            }
            Self::Ip | Self::Port => None,
        }
    }

    /// The values that are equal to a constant.
    pub(super) fn equal(self, constant: &Constant) -> Option<Atom> {
        match (self, constant) {
            (Self::Ip, Constant::Ip(range, single)) => Some(Atom::Ip(if *single { vec![*range] } else { Vec::new() })),
            (Self::Port, Constant::Long(number)) => {
                Some(Atom::Port(u16::try_from(*number).map(|port| PortRange { low: port, high: port }).into_iter().collect()))
            }
            (_, Constant::Text(text)) => {
                let leaf = self.matching(text.bytes().map(Piece::Byte).collect())?;
                Some(self.atom(leaf.into_iter().collect()))
            }
            _ => None,
        }
    }
}

/// The attribute that `e` is.
pub(super) fn attribute(e: &Expr) -> Option<Attribute> {
    let ExprKind::GetAttr { expr, attr } = e.expr_kind() else { return None };
    if let ExprKind::Var(var) = expr.expr_kind() { attribute_of(*var, attr) } else { None }
}

/// The attribute `attr` of the resource or the context.
pub(super) fn attribute_of(var: Var, attr: &str) -> Option<Attribute> {
    match (var, attr) {
        (Var::Resource, "path") => Some(Attribute::Path),
        (Var::Resource, "name") => Some(Attribute::Name),
        (Var::Resource, "ip") => Some(Attribute::Ip),
        (Var::Resource, "port") => Some(Attribute::Port),
        (Var::Resource, "protocol") => Some(Attribute::Protocol),
        (Var::Resource, "family") => Some(Attribute::Family),
        (Var::Context, "exe") => Some(Attribute::Exe),
        _ => None,
    }
}

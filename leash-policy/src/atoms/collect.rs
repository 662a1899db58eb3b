//! The walk over a policy's conditions that finds its atoms, and refuses what no dimension can carry.

use cedar_policy_core::ast::{BinaryOp, EntityUID, Expr, ExprKind, PatternElem, PrincipalOrResourceConstraint, UnaryOp, Var};

use leash_common::kind::{Kind, ResourceType};

use super::constant::{Constant, is_open, sees_action, values};
use super::{Atom, Atoms, Piece, PortRange, Seen, TextLeaf, exactly, network, within};
use crate::diagnostic::Diagnostic;
use crate::parse::{Policy, Sources};
use crate::request::check_path;
use crate::world::World;

/// What of a request an expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Path,
    Name,
    Exe,
    Ip,
    Port,
    /// Of an endpoint (enumerated) or of a socket (text).
    Protocol,
    Family,
}

/// A fault in a condition; it has been reported.
struct Refused;

/// The atoms through which an expression sees a request.
struct Found {
    atoms: Vec<Atom>,
    /// There is one atom, and the expression is true exactly on it.
    exact: bool,
}

impl Found {
    fn exactly(atom: Atom) -> Self {
        Self { atoms: vec![atom], exact: true }
    }

    fn several(atoms: Vec<Atom>) -> Self {
        Self { atoms, exact: false }
    }
}

pub(crate) struct Walk<'a> {
    world: &'a World,
    sources: &'a Sources,
    policy: &'a Policy,
    atoms: &'a mut Atoms,
    seen: &'a mut Seen,
    faults: &'a mut Vec<Diagnostic>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        world: &'a World,
        sources: &'a Sources,
        policy: &'a Policy,
        atoms: &'a mut Atoms,
        seen: &'a mut Seen,
        faults: &'a mut Vec<Diagnostic>,
    ) -> Self {
        Self { world, sources, policy, atoms, seen, faults }
    }

    /// Walks the resource scope and the conditions.
    pub(crate) fn policy(&mut self) {
        let constraint = self.policy.ast.resource_constraint();
        let inner = constraint.as_inner();
        let leaves = match (inner, inner.get_euid()) {
            (PrincipalOrResourceConstraint::Eq(_), Some(entity)) => self.entity_uid(entity, false),
            (PrincipalOrResourceConstraint::In(_) | PrincipalOrResourceConstraint::IsIn(..), Some(entity)) => {
                self.entity_uid(entity, true)
            }
            _ => Ok(Vec::new()),
        };
        if let Ok(leaves) = leaves
            && !leaves.is_empty()
        {
            self.add(Atom::Text(leaves));
        }
        let policy = self.policy;
        if let Some(conditions) = policy.ast.non_scope_constraints() {
            self.seen.action = sees_action(conditions);
            self.seen.protocol = conditions.subexpressions().any(|e| attribute(e) == Some(Attribute::Protocol));
            self.condition(conditions);
        }
    }

    fn refuse(&mut self, e: &Expr, message: impl Into<String>, label: &str, help: impl Into<String>) -> Refused {
        let loc = e.source_loc().or(self.policy.ast.loc());
        self.faults.push(self.sources.complain(self.policy.place, loc, message, label).help(help));
        Refused
    }

    fn add(&mut self, atom: Atom) {
        self.seen.add(self.atoms, atom);
    }

    /// Walks any expression.
    fn condition(&mut self, e: &Expr) {
        if !is_open(e) {
            return;
        }
        match e.expr_kind() {
            ExprKind::Or { .. } => self.alternatives(e, true),
            ExprKind::And { .. } => self.alternatives(e, false),
            _ => match self.atom(e) {
                Ok(Some(found)) => found.atoms.into_iter().for_each(|atom| self.add(atom)),
                Ok(None) => self.inside(e),
                Err(Refused) => {}
            },
        }
    }

    /// Walks `a || b || …`, or `a && b && …`. Of the former all plain atoms of a dimension become one atom, their union; of the
    /// latter all negated ones do, as `!a && !b` is `!(a || b)`. Without this, each of many patterns in a policy would double
    /// the states of the automaton.
    fn alternatives(&mut self, e: &Expr, or: bool) {
        let mut operands = Vec::new();
        flatten(e, or, &mut operands);
        let mut unions: Vec<Atom> = Vec::new();
        for operand in operands {
            let plain = match (or, operand.expr_kind()) {
                (true, _) => Some(operand),
                (false, ExprKind::UnaryApp { op: UnaryOp::Not, arg }) => Some(arg.as_ref()),
                (false, _) => None,
            };
            let Some(plain) = plain.filter(|e| is_open(e) && !matches!(e.expr_kind(), ExprKind::And { .. })) else {
                self.condition(operand);
                continue;
            };
            if let ExprKind::Or { .. } = plain.expr_kind() {
                self.condition(plain);
                continue;
            }
            match self.atom(plain) {
                Ok(Some(found)) if found.exact => found.atoms.into_iter().for_each(|atom| unite(&mut unions, atom)),
                Ok(Some(found)) => found.atoms.into_iter().for_each(|atom| self.add(atom)),
                Ok(None) => self.inside(plain),
                Err(Refused) => {}
            }
        }
        for atom in unions {
            self.add(atom);
        }
    }

    /// Walks the parts of an expression that is no atom. It must not use the open dimensions itself.
    fn inside(&mut self, e: &Expr) {
        if let Some(attribute) = attribute(e) {
            let (what, help) = attribute.advice();
            self.refuse(e, format!("{what} cannot be used in this way: the kernel's tables cannot carry it"), "used here", help);
            return;
        }
        match e.expr_kind() {
            ExprKind::Var(Var::Resource | Var::Context) => {
                let help =
                    "compare the resource with an entity (`resource in Dir::\"/etc\"`), or one of its attributes with a constant";
                self.refuse(e, "the kernel's tables cannot carry this use of a whole entity or record", "used here", help);
            }
            ExprKind::GetAttr { attr, .. } => {
                let message = format!("attribute `{attr}` is not known to the kernel when it decides");
                let help = "resources have path, name, ip, port, protocol and family; the context has exe";
                self.refuse(e, message, "not decidable in the kernel", help);
            }
            // Which attributes there are depends on the resource's type alone.
            ExprKind::HasAttr { expr, .. } | ExprKind::ExtHasAttr { expr, .. } | ExprKind::Is { expr, .. }
                if matches!(expr.expr_kind(), ExprKind::Var(Var::Resource | Var::Context)) => {}
            ExprKind::If { test_expr, then_expr, else_expr } => {
                for part in [test_expr, then_expr, else_expr] {
                    self.condition(part);
                }
            }
            ExprKind::And { left, right } | ExprKind::Or { left, right } => {
                self.condition(left);
                self.condition(right);
            }
            ExprKind::UnaryApp { arg, .. } => self.condition(arg),
            ExprKind::BinaryApp { arg1, arg2, .. } => {
                self.condition(arg1);
                self.condition(arg2);
            }
            ExprKind::HasAttr { expr, .. }
            | ExprKind::ExtHasAttr { expr, .. }
            | ExprKind::Is { expr, .. }
            | ExprKind::Like { expr, .. } => self.condition(expr),
            ExprKind::ExtensionFunctionApp { args, .. } | ExprKind::Set(args) => {
                for part in args.iter() {
                    self.condition(part);
                }
            }
            ExprKind::Record(fields) => {
                for part in fields.values() {
                    self.condition(part);
                }
            }
            ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
        }
    }

    /// The atoms that decide `e`, if it is one of the forms that the tables carry.
    fn atom(&mut self, e: &Expr) -> Result<Option<Found>, Refused> {
        match e.expr_kind() {
            ExprKind::Like { expr, pattern } => Ok(attribute(expr).and_then(|attribute| {
                let pieces: Vec<Piece> = pattern.iter().flat_map(pieces).collect();
                attribute.matching(pieces).map(|leaf| {
                    let atom = attribute.atom(leaf.into_iter().collect());
                    // Endpoints have a protocol too, which is enumerated and no text.
                    if attribute == Attribute::Protocol { Found::several(vec![atom]) } else { Found::exactly(atom) }
                })
            })),
            ExprKind::BinaryApp { op, arg1, arg2 } => match op {
                BinaryOp::Eq | BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny => {
                    self.equality(*op, arg1, arg2)
                }
                BinaryOp::In if is_resource(arg1) && !is_open(arg2) => {
                    let entities = self.values(arg2)?;
                    let mut atoms = Vec::new();
                    for entity in &entities {
                        atoms.push(Atom::Text(self.entity(e, entity, true)?));
                    }
                    let exact = entities.iter().all(|entity| self.only_such(entity, true)) && !sees_action(arg2);
                    Ok(Some(if exact { joined(atoms) } else { Found::several(atoms) }))
                }
                BinaryOp::Less | BinaryOp::LessEq => self.comparison(*op, arg1, arg2),
                _ => Ok(None),
            },
            ExprKind::ExtensionFunctionApp { fn_name, args } => self.ip_test(&fn_name.to_string(), args),
            _ => Ok(None),
        }
    }

    /// Whether all resources of this policy are of types for which the text of `entity` says all: a file and a socket may have the
    /// same path, and a comparison with one of them is not true of the other.
    fn only_such(&self, entity: &Constant, within_it: bool) -> bool {
        let Constant::Entity(entity_type, _) = entity else { return true };
        let like =
            |found: ResourceType| found.name() == entity_type || within_it && entity_type == "Dir" && found == ResourceType::File;
        Kind::ALL.into_iter().filter(|kind| self.seen.admits(*kind)).all(|kind| like(kind.resource_type()))
    }

    fn values(&mut self, e: &Expr) -> Result<Vec<Constant>, Refused> {
        values(self.world, e, self.seen.kinds).map_err(|fault| {
            self.refuse(e, format!("this cannot be evaluated: {fault}"), "fails", "Cedar would skip this policy; correct it")
        })
    }

    /// `==` and the set tests, where one side is closed and the other an attribute, the resource, or a set of such.
    fn equality(&mut self, op: BinaryOp, arg1: &Expr, arg2: &Expr) -> Result<Option<Found>, Refused> {
        let (open, closed) = match (is_open(arg1), is_open(arg2)) {
            (true, false) => (arg1, arg2),
            (false, true) => (arg2, arg1),
            _ => return Ok(None),
        };
        let elements: Vec<&Expr> = match open.expr_kind() {
            ExprKind::Set(elements) => elements.iter().filter(|element| is_open(element)).collect(),
            _ => vec![open],
        };
        if !elements.iter().all(|element| is_resource(element) || attribute(element).is_some()) {
            return Ok(None);
        }
        // All that such a test can depend on is which element equals which constant.
        let constants = self.values(closed)?;
        let mut atoms = Vec::new();
        for element in elements {
            for constant in &constants {
                match attribute(element) {
                    Some(attribute) => atoms.extend(attribute.equal(constant)),
                    None => atoms.push(Atom::Text(self.entity(element, constant, false)?)),
                }
            }
        }
        // `attribute == constant` and `[constant, …].contains(attribute)` are true exactly on the union.
        let plain = match attribute(open) {
            Some(attribute) => attribute != Attribute::Protocol,
            None => is_resource(open) && constants.iter().all(|constant| self.only_such(constant, false)),
        };
        let any = op == BinaryOp::Contains || op == BinaryOp::Eq && constants.len() == 1;
        Ok(Some(if plain && any && !sees_action(closed) { joined(atoms) } else { Found::several(atoms) }))
    }

    /// `<` and `<=` (Cedar writes `>` and `>=` as their negations) with a port.
    fn comparison(&mut self, op: BinaryOp, arg1: &Expr, arg2: &Expr) -> Result<Option<Found>, Refused> {
        let (port_first, closed) = match (attribute(arg1), attribute(arg2)) {
            (Some(Attribute::Port), None) if !is_open(arg2) => (true, arg2),
            (None, Some(Attribute::Port)) if !is_open(arg1) => (false, arg1),
            _ => return Ok(None),
        };
        let mut atoms = Vec::new();
        for constant in self.values(closed)? {
            let Constant::Long(number) = constant else { continue };
            let strict = i64::from(op == BinaryOp::Less);
            let (low, high) = match port_first {
                true => (0, number.checked_sub(strict).unwrap_or(-1)),
                false => (number.checked_add(strict).unwrap_or(65536), i64::from(u16::MAX)),
            };
            let range = (low <= 65535 && high >= 0).then(|| PortRange { low: low.max(0) as u16, high: high.min(65535) as u16 });
            atoms.push(Atom::Port(range.into_iter().collect()));
        }
        Ok(Some(if sees_action(closed) { Found::several(atoms) } else { joined(atoms) }))
    }

    /// `isInRange` and the other tests of addresses.
    fn ip_test(&mut self, function: &str, args: &[Expr]) -> Result<Option<Found>, Refused> {
        let is_ip = |e: &Expr| attribute(e) == Some(Attribute::Ip);
        let networks: &[(&str, u8)] = match (function, args) {
            // The two families have tables of their own.
            ("isIpv4" | "isIpv6", [e]) if is_ip(e) => return Ok(Some(Found::several(Vec::new()))),
            ("isLoopback", [e]) if is_ip(e) => &[("127.0.0.0", 8), ("::1", 128)],
            ("isMulticast", [e]) if is_ip(e) => &[("224.0.0.0", 4), ("ff00::", 8)],
            ("isInRange", [e, range]) if is_ip(e) && !is_open(range) => {
                let ranges = ip_ranges(&self.values(range)?);
                return Ok(Some(if sees_action(range) { Found::several(ranges) } else { joined(ranges) }));
            }
            // A range is in an address only if it is that address.
            ("isInRange", [range, e]) if is_ip(e) && !is_open(range) => {
                return Ok(Some(Found::several(ip_ranges(&self.values(range)?))));
            }
            _ => return Ok(None),
        };
        let ranges = networks.iter().filter_map(|(address, prefix)| network(address.parse().ok()?, *prefix)).collect();
        Ok(Some(Found::exactly(Atom::Ip(ranges))))
    }

    /// The texts that a comparison of the resource with an entity selects.
    fn entity(&mut self, e: &Expr, constant: &Constant, within_it: bool) -> Result<Vec<TextLeaf>, Refused> {
        let Constant::Entity(entity_type, id) = constant else { return Ok(Vec::new()) };
        match self.entity_leaves(entity_type, id, within_it) {
            Ok(leaves) => Ok(leaves),
            Err((message, help)) => Err(self.refuse(e, message, "here", help)),
        }
    }

    fn entity_uid(&mut self, entity: &EntityUID, within_it: bool) -> Result<Vec<TextLeaf>, Refused> {
        let id: &str = entity.eid().as_ref();
        match self.entity_leaves(&entity.entity_type().to_string(), id, within_it) {
            Ok(leaves) => Ok(leaves),
            Err((message, help)) => {
                let loc = entity.loc().or(self.policy.ast.loc());
                self.faults.push(self.sources.complain(self.policy.place, loc, message, "here").help(help));
                Err(Refused)
            }
        }
    }

    fn entity_leaves(&self, entity_type: &str, id: &str, within_it: bool) -> Result<Vec<TextLeaf>, (String, String)> {
        let path = |path: &str| {
            check_path(path).map_err(|fault| {
                let help = "no resource can ever have this path; without a correction the policy would do nothing";
                (fault.to_string(), help.to_owned())
            })
        };
        match entity_type {
            "File" => path(id).map(|()| vec![exactly(id)]),
            "Dir" => path(id).map(|()| if within_it { within(id).to_vec() } else { vec![exactly(id)] }),
            "UnixSocket" if id.starts_with('@') => Ok(vec![exactly(id)]),
            "UnixSocket" => path(id).map(|()| vec![exactly(id)]),
            "Socket" => Ok(vec![exactly(id)]),
            "Endpoint" => Err((
                "endpoints have no names of their own".to_owned(),
                "compare `resource.ip`, `resource.port` and `resource.protocol` instead".to_owned(),
            )),
            "Host" => Err((
                "host names cannot be decided by this version".to_owned(),
                "use addresses: `resource.ip.isInRange(ip(\"192.0.2.0/24\"))`".to_owned(),
            )),
            _ => Ok(Vec::new()),
        }
    }
}

impl Attribute {
    /// What it is called, and what can be done with it.
    fn advice(self) -> (&'static str, &'static str) {
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
    fn atom(self, leaves: Vec<TextLeaf>) -> Atom {
        if self == Self::Exe { Atom::Exe(leaves) } else { Atom::Text(leaves) }
    }

    /// The texts whose attribute matches the pattern: `None` if this is no text, `Some(None)` if there can't be any.
    fn matching(self, pieces: Vec<Piece>) -> Option<Option<TextLeaf>> {
        let without_slash = |pieces: &[Piece]| !pieces.contains(&Piece::Byte(b'/'));
        let in_part = |pieces: Vec<Piece>| pieces.into_iter().map(|piece| if piece == Piece::Any { Piece::Part } else { piece });
        match self {
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
    fn equal(self, constant: &Constant) -> Option<Atom> {
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

fn is_resource(e: &Expr) -> bool {
    matches!(e.expr_kind(), ExprKind::Var(Var::Resource))
}

/// The attribute that `e` is.
fn attribute(e: &Expr) -> Option<Attribute> {
    let ExprKind::GetAttr { expr, attr } = e.expr_kind() else { return None };
    match (expr.expr_kind(), attr.as_str()) {
        (ExprKind::Var(Var::Resource), "path") => Some(Attribute::Path),
        (ExprKind::Var(Var::Resource), "name") => Some(Attribute::Name),
        (ExprKind::Var(Var::Resource), "ip") => Some(Attribute::Ip),
        (ExprKind::Var(Var::Resource), "port") => Some(Attribute::Port),
        (ExprKind::Var(Var::Resource), "protocol") => Some(Attribute::Protocol),
        (ExprKind::Var(Var::Resource), "family") => Some(Attribute::Family),
        (ExprKind::Var(Var::Context), "exe") => Some(Attribute::Exe),
        _ => None,
    }
}

/// A character of a pattern in bytes. Cedar matches characters, which for whole characters comes to the same.
fn pieces(element: &PatternElem) -> Vec<Piece> {
    match element {
        PatternElem::Wildcard => vec![Piece::Any],
        PatternElem::Char(c) => c.encode_utf8(&mut [0; 4]).bytes().map(Piece::Byte).collect(),
    }
}

fn ip_ranges(constants: &[Constant]) -> Vec<Atom> {
    let range = |constant: &Constant| if let Constant::Ip(range, _) = constant { Some(Atom::Ip(vec![*range])) } else { None };
    constants.iter().filter_map(range).collect()
}

/// What is true exactly on the union of atoms of one dimension.
fn joined(atoms: Vec<Atom>) -> Found {
    let mut union = Vec::new();
    atoms.into_iter().for_each(|atom| unite(&mut union, atom));
    Found { exact: union.len() == 1, atoms: union }
}

/// The operands of a chain of `||` or `&&`.
fn flatten<'e>(e: &'e Expr, or: bool, operands: &mut Vec<&'e Expr>) {
    match (or, e.expr_kind()) {
        (true, ExprKind::Or { left, right }) | (false, ExprKind::And { left, right }) => {
            flatten(left, or, operands);
            flatten(right, or, operands);
        }
        _ => operands.push(e),
    }
}

/// Joins `atom` with the atom of its dimension in `unions`.
fn unite(unions: &mut Vec<Atom>, atom: Atom) {
    for union in unions.iter_mut() {
        match (union, &atom) {
            (Atom::Text(all), Atom::Text(more)) | (Atom::Exe(all), Atom::Exe(more)) => return all.extend(more.iter().cloned()),
            (Atom::Ip(all), Atom::Ip(more)) => return all.extend(more),
            (Atom::Port(all), Atom::Port(more)) => return all.extend(more),
            _ => {}
        }
    }
    unions.push(atom);
}

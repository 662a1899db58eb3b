//! The walk over a policy's conditions that finds its atoms, and refuses what no dimension can carry.

use cedar_policy_core::ast::{BinaryOp, EntityUID, Expr, ExprKind, PatternElem, PrincipalOrResourceConstraint, UnaryOp, Var};

use leash_common::kind::{Kind, ResourceType};

use super::arithmetic::Linear;
use super::attribute::{Attribute, attribute};
use super::constant::{Constant, is_open, sees_action, values, varies};
use super::literal::asked_of;
use super::makeup::{Element, Makeup};
use super::{Atom, Atoms, Piece, PortRange, Seen, TextLeaf, exactly, network, within};
use crate::diagnostic::Diagnostic;
use crate::parse::{Policy, Sources};
use crate::request::check_path;
use crate::world::World;

/// A fault in a condition; it has been reported.
struct Refused;

/// The atoms through which an expression sees a request.
struct Found {
    atoms: Vec<Atom>,
    /// There is one atom, and the expression is true exactly on it.
    exact: bool,
}

impl Found {
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
        if let Some(conditions) = policy.ast.non_scope_constraints()
            && self.asks_only_the_request(conditions)
        {
            self.seen.action = sees_action(conditions);
            // Whatever it is read from: the resource may stand behind an `if` or in a record.
            let is_protocol = |e: &Expr| matches!(e.expr_kind(), ExprKind::GetAttr { attr, .. } if attr == "protocol");
            self.seen.protocol = conditions.subexpressions().any(is_protocol);
            self.condition(conditions);
        }
    }

    /// Refuses each part that is decided by the data of an entity which requests have only where it is the resource.
    fn asks_only_the_request(&mut self, conditions: &Expr) -> bool {
        let before = self.faults.len();
        for e in conditions.subexpressions() {
            if let Some(entity) = asked_of(e) {
                let message = format!(
                    "`{entity}` has attributes and is in directories only in requests that are about it; in all others it has none"
                );
                let help = "ask the request's own resource instead: `resource in Dir::\"…\"`, `resource == File::\"…\"`, `resource.path`";
                self.refuse(e, message, "asked of an entity that the policy names", help);
            }
        }
        self.faults.len() == before
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
            ExprKind::GetAttr { expr, .. }
            | ExprKind::HasAttr { expr, .. }
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
            ExprKind::Like { expr, pattern } => {
                let Some(makeup) = Makeup::of(expr) else { return Ok(None) };
                let pieces: Vec<Piece> = pattern.iter().flat_map(pieces).collect();
                let mut atoms = Vec::new();
                for element in &makeup.elements {
                    let Element::Of(attribute) = element else { continue };
                    let leaf = attribute.matching(pieces.clone());
                    atoms.extend(leaf.map(|leaf| attribute.atom(leaf.into_iter().collect())));
                }
                self.tests(&makeup);
                // Endpoints have a protocol too, which is enumerated and no text.
                let plain = attribute(expr).is_some_and(|attribute| attribute != Attribute::Protocol);
                Ok(Some(if plain { joined(atoms) } else { Found::several(atoms) }))
            }
            ExprKind::BinaryApp { op, arg1, arg2 } => match op {
                BinaryOp::Eq | BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny => {
                    match self.equality(*op, e, arg1, arg2)? {
                        None if *op == BinaryOp::Eq => self.comparison(*op, arg1, arg2),
                        found => Ok(found),
                    }
                }
                BinaryOp::In => self.membership(e, arg1, arg2),
                BinaryOp::Less | BinaryOp::LessEq => self.comparison(*op, arg1, arg2),
                _ => Ok(None),
            },
            ExprKind::ExtensionFunctionApp { fn_name, args } => self.ip_test(&fn_name.to_string(), args),
            // Which attributes there are depends on the resource's type alone.
            ExprKind::HasAttr { expr, .. }
            | ExprKind::ExtHasAttr { expr, .. }
            | ExprKind::Is { expr, .. }
            | ExprKind::UnaryApp { op: UnaryOp::IsEmpty, arg: expr } => Ok(Makeup::of(expr).map(|makeup| {
                self.tests(&makeup);
                Found::several(Vec::new())
            })),
            // A truth value that is read from a record.
            ExprKind::GetAttr { .. } => Ok(Makeup::of(e).filter(|makeup| makeup.elements.is_empty()).map(|makeup| {
                self.tests(&makeup);
                Found::several(Vec::new())
            })),
            _ => Ok(None),
        }
    }

    /// Walks what decides of what a value is made.
    fn tests(&mut self, makeup: &Makeup) {
        for test in &makeup.tests {
            self.condition(test);
        }
    }

    /// `in`, of the resource.
    fn membership(&mut self, e: &Expr, arg1: &Expr, arg2: &Expr) -> Result<Option<Found>, Refused> {
        let (Some(left), Some(right)) = (Makeup::of(arg1), Makeup::of(arg2)) else { return Ok(None) };
        if !left.only(Element::Resource) || !right.only(Element::Resource) {
            return Ok(None);
        }
        let mut atoms = Vec::new();
        let mut exact = is_resource(arg1) && !right.is_open();
        for (elements, others, within_it) in [(&left.elements, &right, true), (&right.elements, &left, false)] {
            if elements.is_empty() {
                continue;
            }
            for entity in self.all_values(&others.closed)? {
                exact &= self.only_such(&entity, true);
                atoms.push(Atom::Text(self.entity(e, &entity, within_it)?));
            }
        }
        self.tests(&left);
        self.tests(&right);
        Ok(Some(if exact && !varies(arg2) { joined(atoms) } else { Found::several(atoms) }))
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
        values(self.world, e, self.seen).map_err(|fault| {
            self.refuse(e, format!("this cannot be evaluated: {fault}"), "fails", "Cedar would skip this policy; correct it")
        })
    }

    fn all_values(&mut self, closed: &[&Expr]) -> Result<Vec<Constant>, Refused> {
        let mut all = Vec::new();
        for e in closed {
            all.extend(self.values(e)?);
        }
        Ok(all)
    }

    /// `==` and the set tests.
    fn equality(&mut self, op: BinaryOp, e: &Expr, arg1: &Expr, arg2: &Expr) -> Result<Option<Found>, Refused> {
        let (Some(left), Some(right)) = (Makeup::of(arg1), Makeup::of(arg2)) else { return Ok(None) };
        // What is on both sides is equal to itself; no dimension knows whether two attributes are equal.
        if left.elements.iter().any(|element| right.elements.iter().any(|other| element != other)) {
            return Ok(None);
        }
        // All else that such a test can depend on is which element equals which constant.
        let mut atoms = Vec::new();
        let mut constants = Vec::new();
        for (elements, others) in [(&left.elements, &right), (&right.elements, &left)] {
            if elements.is_empty() {
                continue;
            }
            let start = constants.len();
            constants.extend(self.all_values(&others.closed)?);
            for constant in constants.iter().skip(start) {
                for element in elements {
                    match element {
                        Element::Of(attribute) => atoms.extend(attribute.equal(constant)),
                        Element::Resource => atoms.push(Atom::Text(self.entity(e, constant, false)?)),
                    }
                }
            }
        }
        self.tests(&left);
        self.tests(&right);
        // `attribute == constant` and `[constant, …].contains(attribute)` are true exactly on the union.
        let open = if left.is_open() { arg1 } else { arg2 };
        let closed = if left.is_open() { arg2 } else { arg1 };
        let plain = match attribute(open) {
            Some(attribute) => attribute != Attribute::Protocol,
            None => is_resource(open) && constants.iter().all(|constant| self.only_such(constant, false)),
        };
        let any = op == BinaryOp::Contains || op == BinaryOp::Eq && constants.len() == 1;
        let exact = plain && any && !is_open(closed) && !varies(closed);
        Ok(Some(if exact { joined(atoms) } else { Found::several(atoms) }))
    }

    /// `<`, `<=` (Cedar writes `>` and `>=` as their negations) and `==` of numbers.
    fn comparison(&mut self, op: BinaryOp, arg1: &Expr, arg2: &Expr) -> Result<Option<Found>, Refused> {
        if let (Some(left), Some(right)) = (Makeup::of(arg1), Makeup::of(arg2)) {
            let port = Element::Of(Attribute::Port);
            if !left.only(port) || !right.only(port) {
                return Ok(None);
            }
            let mut atoms = Vec::new();
            for (elements, others, port_first) in [(&left.elements, &right, true), (&right.elements, &left, false)] {
                for constant in if elements.is_empty() { Vec::new() } else { self.all_values(&others.closed)? } {
                    let Constant::Long(number) = constant else { continue };
                    let strict = i64::from(op == BinaryOp::Less);
                    let (low, high) = match port_first {
                        true => (0, number.checked_sub(strict).unwrap_or(-1)),
                        false => (number.checked_add(strict).unwrap_or(65536), i64::from(u16::MAX)),
                    };
                    let range =
                        (low <= 65535 && high >= 0).then(|| PortRange { low: low.max(0) as u16, high: high.min(65535) as u16 });
                    atoms.push(Atom::Port(range.into_iter().collect()));
                }
            }
            self.tests(&left);
            self.tests(&right);
            let is_port = |e: &Expr| attribute(e) == Some(Attribute::Port);
            let plain = is_port(arg1) && !is_open(arg2) && !varies(arg2) || is_port(arg2) && !is_open(arg1) && !varies(arg1);
            return Ok(Some(if plain { joined(atoms) } else { Found::several(atoms) }));
        }
        self.sum(arg1, arg2)
    }

    /// A comparison of sums with a port in them: both ends of equality and of what can be represented are bounds of ranges.
    fn sum(&mut self, arg1: &Expr, arg2: &Expr) -> Result<Option<Found>, Refused> {
        let mut sums = Vec::new();
        let (world, seen) = (self.world, &*self.seen);
        let mut constant = |e: &Expr| match is_open(e) || varies(e) {
            true => None,
            false => match values(world, e, seen).ok()?.as_slice() {
                [Constant::Long(number)] => Some(*number),
                _ => None,
            },
        };
        let left = Linear::of(arg1, &mut constant, &mut sums);
        let right = Linear::of(arg2, &mut constant, &mut sums);
        let Some(difference) = left.zip(right).and_then(|(left, right)| left.minus(right)) else { return Ok(None) };
        let (least, most) = (i128::from(i64::MIN), i128::from(i64::MAX));
        let representable = sums.iter().filter(|sum| sum.varies()).flat_map(|sum| [sum.below(least), sum.below(most + 1)]);
        Ok(Some(Found::several(representable.chain([difference.below(0), difference.below(1)]).collect())))
    }

    /// `isInRange` and the other tests of addresses.
    fn ip_test(&mut self, function: &str, args: &[Expr]) -> Result<Option<Found>, Refused> {
        let makeups: Option<Vec<Makeup>> = args.iter().map(Makeup::of).collect();
        let Some(makeups) = makeups else { return Ok(None) };
        if !makeups.iter().all(|makeup| makeup.only(Element::Of(Attribute::Ip))) {
            return Ok(None);
        }
        let networks: &[(&str, u8)] = match function {
            "isLoopback" => &[("127.0.0.0", 8), ("::1", 128)],
            "isMulticast" => &[("224.0.0.0", 4), ("ff00::", 8)],
            // The two families have tables of their own; `isInRange` asks for the ranges it is given.
            "isIpv4" | "isIpv6" | "isInRange" => &[],
            _ => return Ok(None),
        };
        let tested = args.first().and_then(attribute) == Some(Attribute::Ip);
        let ranges = networks.iter().filter_map(|(address, prefix)| network(address.parse().ok()?, *prefix)).collect();
        let mut atoms = vec![Atom::Ip(ranges)];
        let mut exact = tested && !networks.is_empty();
        if let [left, right] = makeups.as_slice() {
            atoms = Vec::new();
            exact = tested && !right.is_open() && !args.iter().skip(1).any(varies);
            for (elements, others) in [(&left.elements, right), (&right.elements, left)] {
                if !elements.is_empty() {
                    atoms.extend(ip_ranges(&self.all_values(&others.closed)?));
                }
            }
        }
        for makeup in &makeups {
            self.tests(makeup);
        }
        Ok(Some(if exact { joined(atoms) } else { Found::several(atoms) }))
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

fn is_resource(e: &Expr) -> bool {
    matches!(e.expr_kind(), ExprKind::Var(Var::Resource))
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

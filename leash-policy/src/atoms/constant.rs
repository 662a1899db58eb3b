//! Parts of a condition that don't depend on the request's resource or context, evaluated by Cedar.

use std::net::{IpAddr, Ipv4Addr};

use cedar_policy_core::ast::{EntityUIDEntry, Expr, ExprKind, Literal, Value, ValueKind, Var};
use leash_common::kind::{Kind, ResourceType};

use super::{IpRange, Seen, network};
use crate::request::Resource;
use crate::world::{World, context, resource_entity, uid};

/// What a condition compares with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Constant {
    Text(String),
    Long(i64),
    /// The addresses, and whether it is a single one.
    Ip(IpRange, bool),
    /// Type and id.
    Entity(String, String),
    Other,
}

/// Whether `e` depends on the resource or the context by more than the resource's type.
pub(crate) fn is_open(e: &Expr) -> bool {
    let mut open = 0_usize;
    let mut of_types = 0;
    for e in e.subexpressions() {
        match e.expr_kind() {
            ExprKind::Var(Var::Resource | Var::Context) => open += 1,
            ExprKind::HasAttr { expr, .. } | ExprKind::ExtHasAttr { expr, .. } | ExprKind::Is { expr, .. }
                if matches!(expr.expr_kind(), ExprKind::Var(Var::Resource | Var::Context)) =>
            {
                of_types += 1;
            }
            _ => {}
        }
    }
    open > of_types
}

/// Whether `e` depends on the action.
pub(crate) fn sees_action(e: &Expr) -> bool {
    e.subexpressions().any(|e| matches!(e.expr_kind(), ExprKind::Var(Var::Action)))
}

/// Whether the closed expression `e` can have more values than one in a session.
pub(crate) fn varies(e: &Expr) -> bool {
    e.subexpressions().any(|e| matches!(e.expr_kind(), ExprKind::Var(Var::Action | Var::Resource | Var::Context)))
}

/// All values that the closed expression `e` has, over the requests that `seen` admits; sets and records are replaced by their elements.
pub(crate) fn values(world: &World, e: &Expr, seen: &Seen) -> Result<Vec<Constant>, String> {
    let mut all = Vec::new();
    let varies = varies(e);
    let context = context("/");
    for kind in Kind::ALL.into_iter().filter(|kind| seen.admits(*kind)) {
        let value = if varies {
            let entity = resource_entity(&sample(kind.resource_type())).map_err(|fault| fault.to_string())?;
            let resource = EntityUIDEntry::known(entity.uid().clone(), None);
            let entities = world.with_resources([entity]).map_err(|fault| fault.to_string())?;
            world.evaluate(&entities, e, kind, &resource, &context)?
        } else {
            let resource = EntityUIDEntry::known(uid("System", "").map_err(|fault| fault.to_string())?, None);
            world.evaluate(world.constant(), e, kind, &resource, &context)?
        };
        flatten(&value, &mut all)?;
        if !varies {
            break;
        }
    }
    all.dedup();
    Ok(all)
}

/// Any resource of a type: closed expressions can tell no two of them apart.
fn sample(resource_type: ResourceType) -> Resource {
    let path = || "/".to_owned();
    match resource_type {
        ResourceType::File => Resource::File { path: path() },
        ResourceType::Dir => Resource::Dir { path: path() },
        ResourceType::UnixSocket => Resource::UnixSocket { path: path() },
        ResourceType::Socket => Resource::Socket { name: "netlink/route".to_owned() },
        ResourceType::Endpoint => Resource::Endpoint { ip: Ipv4Addr::UNSPECIFIED.into(), port: 0, protocol: "tcp".to_owned() },
    }
}

fn flatten(value: &Value, all: &mut Vec<Constant>) -> Result<(), String> {
    all.push(match value.value_kind() {
        ValueKind::Set(set) => {
            for element in set.iter() {
                flatten(element, all)?;
            }
            return Ok(());
        }
        ValueKind::Lit(Literal::String(text)) => Constant::Text(text.to_string()),
        ValueKind::Lit(Literal::Long(number)) => Constant::Long(*number),
        ValueKind::Lit(Literal::EntityUID(uid)) => {
            Constant::Entity(uid.entity_type().to_string(), AsRef::<str>::as_ref(uid.eid()).to_owned())
        }
        ValueKind::ExtensionValue(_) => match value.to_string() {
            text if text.starts_with("ip(") => {
                let (range, single) = parse_ip(&text).ok_or_else(|| format!("address `{text}` is not understood"))?;
                Constant::Ip(range, single)
            }
            _ => Constant::Other,
        },
        ValueKind::Record(record) => {
            for field in record.values() {
                flatten(field, all)?;
            }
            return Ok(());
        }
        ValueKind::Lit(Literal::Bool(_)) => Constant::Other,
    });
    Ok(())
}

/// Reads the ways in which Cedar writes an address: `ip("10.0.0.0/8")`, `ip("10.0.0.1")`.
fn parse_ip(text: &str) -> Option<(IpRange, bool)> {
    let text = text.strip_prefix("ip(\"")?.strip_suffix("\")")?;
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let prefix = prefix.map_or(Some(if address.is_ipv4() { 32 } else { 128 }), |prefix| prefix.parse().ok())?;
    let range = network(address, prefix)?;
    Some((range, range.low == range.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_cedar_writes_them() {
        assert_eq!(parse_ip("ip(\"10.1.2.3/8\")"), Some((IpRange { v6: false, low: 0x0a00_0000, high: 0x0aff_ffff }, false)));
        assert_eq!(parse_ip("ip(\"::1/128\")"), Some((IpRange { v6: true, low: 1, high: 1 }, true)));
        assert_eq!(parse_ip("ip(\"::/0\")"), Some((IpRange { v6: true, low: 0, high: u128::MAX }, false)));
        assert_eq!(parse_ip("ip(\"0.0.0.1\")"), Some((IpRange { v6: false, low: 1, high: 1 }, true)));
        assert_eq!(parse_ip("decimal(\"1.0\")"), None);
    }
}

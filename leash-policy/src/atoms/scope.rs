//! The scope of a policy: which kinds its action admits, and its constraint on the resource.

use std::collections::HashMap;

use cedar_policy_core::ast::{ActionConstraint, EntityUID, EntityUIDEntry};
use leash_common::kind::{Kind, ResourceType};

use super::Seen;
use crate::diagnostic::Diagnostic;
use crate::parse::{Policy, Sources};
use crate::world::{World, context, is_true, uid};

/// Reads scopes; Cedar's answers are remembered, as most policies share theirs.
pub(crate) struct Scopes<'a> {
    world: &'a World,
    kinds: HashMap<ActionConstraint, u32>,
}

impl<'a> Scopes<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world, kinds: HashMap::new() }
    }

    pub(crate) fn read(&mut self, sources: &Sources, policy: &Policy, seen: &mut Seen, faults: &mut Vec<Diagnostic>) {
        let actions = policy.ast.action_constraint();
        match self.admitted(actions) {
            Ok(kinds) => seen.kinds = kinds,
            Err(fault) => {
                faults.push(fault);
                return;
            }
        }
        if seen.kinds == 0 {
            let (message, help) = self.none_admitted(actions);
            let loc = actions.iter_euids().next().and_then(EntityUID::loc);
            faults.push(sources.complain(policy.place, loc.or(policy.ast.loc()), message, "not mediated").help(help));
        }
        seen.types = types(policy);
    }

    /// What is wrong with a constraint that no mediated action satisfies, and what to do.
    fn none_admitted(&mut self, actions: &ActionConstraint) -> (String, String) {
        if let ActionConstraint::Eq(action) = actions
            && self.admitted(&ActionConstraint::In(vec![action.clone()])).is_ok_and(|kinds| kinds != 0)
        {
            let message = format!("`{action}` is a group of actions, and no action is equal to a group");
            return (message, format!("write `action in {action}`, which is true of every action in the group"));
        }
        let names: Vec<String> = actions.iter_euids().map(|action| format!("`{action}`")).collect();
        match names.is_empty() {
            true => (
                "this policy is about no action".to_owned(),
                "name actions in the brackets, or write `action` for all".to_owned(),
            ),
            false => (
                format!("{} cannot be mediated by this version", names.join(", ")),
                "whatever policies say, a session can do none of it, or only to itself; remove this policy".to_owned(),
            ),
        }
    }

    /// The kinds whose action satisfies the constraint, by Cedar.
    fn admitted(&mut self, actions: &ActionConstraint) -> Result<u32, Diagnostic> {
        if let Some(kinds) = self.kinds.get(actions) {
            return Ok(*kinds);
        }
        let resource = EntityUIDEntry::known(uid("System", "")?, None);
        let condition = actions.as_expr();
        let mut kinds = 0;
        for kind in Kind::ALL {
            let value = self.world.evaluate(self.world.constant(), &condition, kind, &resource, &context(""));
            if value.as_ref().is_ok_and(is_true) {
                kinds |= kind.bit();
            }
        }
        self.kinds.insert(actions.clone(), kinds);
        Ok(kinds)
    }
}

/// The resource types that the scope can admit at all; `None` for any.
fn types(policy: &Policy) -> Option<Vec<ResourceType>> {
    use cedar_policy_core::ast::PrincipalOrResourceConstraint as Constraint;
    let constraint = policy.ast.resource_constraint();
    let name = match constraint.as_inner() {
        Constraint::Any => return None,
        Constraint::In(_) if constraint.as_inner().get_euid()?.entity_type().to_string() == "Dir" => {
            return Some(vec![ResourceType::File, ResourceType::Dir]);
        }
        Constraint::In(_) | Constraint::Eq(_) => constraint.as_inner().get_euid()?.entity_type().to_string(),
        Constraint::Is(name) | Constraint::IsIn(name, _) => name.to_string(),
    };
    let all = [ResourceType::File, ResourceType::Dir, ResourceType::Endpoint, ResourceType::UnixSocket, ResourceType::Socket];
    Some(all.into_iter().filter(|known| known.name() == name).collect())
}

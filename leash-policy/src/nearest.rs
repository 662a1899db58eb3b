//! Which permit comes closest to a request that nothing permits, and what is missing.

use cedar_policy_core::ast::{EntityUIDEntry, Expr, ExprKind, Policy};
use cedar_policy_core::entities::Entities;

use crate::diagnostic::Diagnostic;
use crate::request::{Effect, PolicyRef, Principal, Request};
use crate::world::{World, context, is_true, resource_entity};

/// How far a permit is from a request; the smallest is the nearest.
///
/// A permit of another action, or for another type of resource, is about something else, so these weigh most. Then the number of
/// failing parts counts, then whether the resource is among them, and at last how much the place that the failing parts name is like
/// the resource's.
type Distance = (usize, usize, usize, usize, std::cmp::Reverse<usize>);

/// The parts of a permit that fail.
struct Failing<'p> {
    policy: &'p PolicyRef,
    principal: Option<Expr>,
    action: Option<Expr>,
    resource: Option<Expr>,
    conditions: Vec<Expr>,
}

/// Lines about the nearest permit; none if there is no permit at all.
pub(crate) fn nearest<'p>(
    principal: &Principal,
    request: &Request,
    policies: impl Iterator<Item = (&'p Policy, &'p PolicyRef)>,
) -> Result<Option<Vec<String>>, Diagnostic> {
    let asker = Asker::new(principal, request)?;
    let place = request.resource.id();
    let permits = policies.filter(|(_, reference)| reference.effect == Effect::Permit);
    let nearest =
        permits.map(|(policy, reference)| asker.failing(policy, reference)).min_by_key(|failing| failing.distance(&place));
    Ok(nearest.map(|nearest| nearest.words(principal, request)))
}

/// Lets Cedar evaluate parts of policies for one request.
struct Asker<'r> {
    world: World,
    entities: Entities,
    resource: EntityUIDEntry,
    request: &'r Request,
}

impl<'r> Asker<'r> {
    fn new(principal: &Principal, request: &'r Request) -> Result<Self, Diagnostic> {
        let world = World::new(principal)?;
        let entity = resource_entity(&request.resource)?;
        let resource = EntityUIDEntry::known(entity.uid().clone(), None);
        let entities = world.with_resources([entity])?;
        Ok(Self { world, entities, resource, request })
    }

    fn holds(&self, part: &Expr) -> bool {
        let context = context(&self.request.exe);
        self.world.evaluate(&self.entities, part, self.request.kind, &self.resource, &context).as_ref().is_ok_and(is_true)
    }

    fn failing<'p>(&self, policy: &Policy, reference: &'p PolicyRef) -> Failing<'p> {
        let unless_it_holds = |part: Expr| Some(part).filter(|part| !self.holds(part));
        let resource = unless_it_holds(policy.resource_constraint().as_expr());
        let mut conditions = Vec::new();
        // A condition is written for the resources of the scope, and of the conditions before it; elsewhere it only fails.
        if resource.is_none()
            && let Some(condition) = policy.non_scope_constraints()
        {
            conjuncts(condition, &mut |part| {
                let failed = conditions.is_empty() && !self.holds(part);
                conditions.extend(failed.then(|| part.clone()));
            });
        }
        Failing {
            policy: reference,
            principal: unless_it_holds(policy.principal_constraint().as_expr()),
            action: unless_it_holds(policy.action_constraint().as_expr()),
            resource,
            conditions,
        }
    }
}

/// Calls `each` for every part that must hold, from left to right.
fn conjuncts(condition: &Expr, each: &mut impl FnMut(&Expr)) {
    match condition.expr_kind() {
        ExprKind::And { left, right } => {
            conjuncts(left, each);
            conjuncts(right, each);
        }
        ExprKind::Lit(literal) if literal == &true.into() => {}
        _ => each(condition),
    }
}

impl Failing<'_> {
    fn distance(&self, place: &str) -> Distance {
        let texts = self.resource.iter().chain(&self.conditions).map(Expr::to_string);
        let likeness = texts.map(|text| likeness(&text, place)).max().unwrap_or(0);
        (
            usize::from(self.action.is_some()),
            usize::from(self.other_type()),
            self.conditions.len() + usize::from(self.resource.is_some()) + usize::from(self.principal.is_some()),
            usize::from(self.resource.is_some()),
            std::cmp::Reverse(likeness),
        )
    }

    /// Whether it is the type of the resource that fails.
    fn other_type(&self) -> bool {
        self.resource.iter().chain(&self.conditions).any(|part| matches!(part.expr_kind(), ExprKind::Is { .. }))
    }

    fn words(&self, principal: &Principal, request: &Request) -> Vec<String> {
        let PolicyRef { id, source, line, .. } = self.policy;
        let mut lines = vec![format!("  the nearest permit is `{id}` at {source}:{line}; for this request it lacks")];
        let mut lacks = |what: &str, is: &str, part: &Expr| {
            lines.push(format!("    {what}: {is}, and the policy asks for `{part}`"));
        };
        if let Some(part) = &self.principal {
            lacks("principal", &format!("the agent is `{}`", principal.name), part);
        }
        if let Some(part) = &self.action {
            lacks("action", &format!("it is `{}`", request.kind.action()), part);
        }
        if let Some(part) = &self.resource {
            let is = format!("it is the {} `{}`", request.resource.resource_type().name(), request.resource.id());
            lacks("resource", &is, part);
        }
        for part in &self.conditions {
            let text = part.to_string();
            let subject = match (text.contains("context."), text.contains("resource"), text.contains("principal.")) {
                (true, false, false) => format!("the program is `{}`", request.exe),
                (false, true, false) => {
                    format!("the {} is `{}`", request.resource.resource_type().name(), request.resource.id())
                }
                (false, false, true) => format!("the agent is `{}`", principal.name),
                _ => "it does not hold".to_owned(),
            };
            lacks("condition", &subject, part);
        }
        lines
    }
}

/// Bytes that a string literal in `text` and the place begin with alike.
fn likeness(text: &str, place: &str) -> usize {
    let alike = |literal: &str| literal.bytes().zip(place.bytes()).take_while(|(a, b)| a == b).count();
    text.split('"').skip(1).step_by(2).map(alike).max().unwrap_or(0)
}

//! Requests as Cedar sees them: the entities, and Cedar's evaluator over them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cedar_policy_core::ast::{
    self, Context, Eid, Entity, EntityType, EntityUID, EntityUIDEntry, Expr, Literal, PartialValue, RestrictedExpr, Value,
};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::parser::err::ParseErrors;
use leash_common::kind::Kind;

use crate::diagnostic::Diagnostic;
use crate::parse::schema;
use crate::request::{Principal, Resource, cedar_ip};

/// A fault that no policy text can cause: Cedar refused something of our own making.
pub(crate) fn internal(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new("leash", &"".into(), format!("internal fault: {what}"))
        .help("this is a fault of the compiler; please report it with the policies")
}

/// The entity `type::"id"`.
pub(crate) fn uid(entity_type: &str, id: &str) -> Result<EntityUID, Diagnostic> {
    Ok(EntityUID::from_components(entity_type_of(entity_type)?, Eid::new(id), None))
}

/// The entity type of this name. Each is parsed once: that takes Cedar longer than everything else about an entity.
fn entity_type_of(name: &str) -> Result<EntityType, Diagnostic> {
    thread_local! {
        static PARSED: RefCell<BTreeMap<String, EntityType>> = const { RefCell::new(BTreeMap::new()) };
    }
    PARSED.with_borrow_mut(|parsed| {
        if let Some(known) = parsed.get(name) {
            return Ok(known.clone());
        }
        let new = ast::Name::parse_unqualified_name(name).map_err(|fault: ParseErrors| internal(fault))?;
        Ok(parsed.entry(name.to_owned()).or_insert(EntityType::from(new)).clone())
    })
}

/// The entities that are the same in each request of a session.
pub(crate) struct World {
    principal: EntityUIDEntry,
    actions: Vec<EntityUIDEntry>,
    constant: Entities,
}

impl World {
    pub(crate) fn new(principal: &Principal) -> Result<Self, Diagnostic> {
        let schema = schema()?;
        let mut actions = Vec::new();
        for kind in Kind::ALL {
            actions.push(EntityUIDEntry::known(uid("Action", kind.action())?, None));
        }
        let constant = schema
            .action_entities()
            .map_err(internal)?
            .add_entities(
                principal_entities(principal)?.into_iter().map(Arc::new),
                None::<&NoEntitiesSchema>,
                TCComputation::AssumeAlreadyComputed,
                Extensions::all_available(),
            )
            .map_err(internal)?;
        Ok(Self { principal: EntityUIDEntry::known(uid("Agent", &principal.name)?, None), actions, constant })
    }

    /// The entities with these resources added.
    pub(crate) fn with_resources(&self, resources: impl IntoIterator<Item = Entity>) -> Result<Entities, Diagnostic> {
        self.constant
            .clone()
            .add_entities(
                resources.into_iter().map(Arc::new),
                None::<&NoEntitiesSchema>,
                TCComputation::AssumeAlreadyComputed,
                Extensions::all_available(),
            )
            .map_err(internal)
    }

    /// The entities without any resource.
    pub(crate) fn constant(&self) -> &Entities {
        &self.constant
    }

    /// Lets Cedar evaluate `condition` for one request.
    pub(crate) fn evaluate(
        &self,
        entities: &Entities,
        condition: &Expr,
        kind: Kind,
        resource: &EntityUIDEntry,
        context: &Context,
    ) -> Result<Value, String> {
        let action = self.actions.get(kind as usize).unwrap_or(&self.principal);
        let request =
            ast::Request::new_unchecked(self.principal.clone(), action.clone(), resource.clone(), Some(context.clone()));
        let evaluator = Evaluator::new(request, entities, Extensions::all_available());
        evaluator.interpret(condition, &std::collections::HashMap::new()).map_err(|fault| fault.to_string())
    }
}

/// Whether a value is `true`.
pub(crate) fn is_true(value: &Value) -> bool {
    matches!(value.value_kind(), ast::ValueKind::Lit(Literal::Bool(true)))
}

/// The context of a request by the program `exe`.
pub(crate) fn context(exe: &str) -> Context {
    Context::Value(Arc::new(BTreeMap::from([("exe".into(), Value::from(exe))])))
}

/// The agent and its teams.
pub(crate) fn principal_entities(principal: &Principal) -> Result<Vec<Entity>, Diagnostic> {
    let teams: HashSet<EntityUID> = principal.teams.iter().map(|team| uid("Team", team)).collect::<Result<_, _>>()?;
    let labels = Value::set(principal.labels.iter().map(|label| Value::from(label.as_str())), None);
    let attributes = [
        ("is_ai".into(), PartialValue::from(principal.is_ai)),
        ("name".into(), principal.name.as_str().into()),
        ("user".into(), principal.user.as_str().into()),
        ("uid".into(), i64::from(principal.uid).into()),
        ("labels".into(), PartialValue::Value(labels)),
    ];
    let mut entities: Vec<Entity> = teams.iter().cloned().map(Entity::with_uid).collect();
    let agent = uid("Agent", &principal.name)?;
    entities.push(Entity::new_with_attr_partial_value(agent, attributes, HashSet::new(), teams, []));
    Ok(entities)
}

/// The entity of a resource. Files and directories are in every directory above them, and a file also in the directory of its own
/// path (a directory is in itself by Cedar's rules).
pub(crate) fn resource_entity(resource: &Resource) -> Result<Entity, Diagnostic> {
    let id = uid(resource.resource_type().name(), &resource.id())?;
    let text = |name: &str, value: &str| (name.into(), PartialValue::from(value));
    let plain = |attributes: Vec<_>, ancestors| {
        Entity::new_with_attr_partial_value(id.clone(), attributes, ancestors, HashSet::new(), [])
    };
    match resource {
        Resource::File { path } | Resource::Dir { path } => {
            let mut above = HashSet::new();
            for (at, _) in path.match_indices('/') {
                let directory = if at == 0 { "/" } else { path.get(..at).unwrap_or_default() };
                above.insert(uid("Dir", directory)?);
            }
            above.insert(uid("Dir", path)?);
            above.remove(&id);
            let name = path.rsplit('/').next().unwrap_or_default();
            Ok(plain(vec![text("path", path), text("name", name)], above))
        }
        Resource::UnixSocket { path } => Ok(plain(vec![text("path", path)], HashSet::new())),
        Resource::Socket { name } => {
            let (family, protocol) = name.split_once('/').unwrap_or((name, ""));
            Ok(plain(vec![text("family", family), text("protocol", protocol)], HashSet::new()))
        }
        Resource::Endpoint { ip, port, protocol } => {
            let function = "ip".parse::<ast::Name>().map_err(internal)?;
            let ip = RestrictedExpr::call_extension_fn(function, [RestrictedExpr::val(cedar_ip(*ip))]);
            let attributes = [
                ("ip".into(), ip),
                ("port".into(), RestrictedExpr::val(i64::from(*port))),
                ("protocol".into(), RestrictedExpr::val(protocol.as_str())),
            ];
            Entity::new(id, attributes, HashSet::new(), HashSet::new(), [], Extensions::all_available()).map_err(internal)
        }
    }
}

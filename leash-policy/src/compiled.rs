//! A compiled policy: the image for the kernel, and what userspace needs to explain its answers.

use std::net::IpAddr;
use std::sync::OnceLock;

use cedar_policy::{Authorizer, Context, Entities, PolicySet, RestrictedExpression};
use cedar_policy_core::ast;
use leash_common::kind::Protocol;
use leash_common::table::{
    Corrupt, Cursor, Decision, Image, PAGE_WORDS, Page, decide_row, header, header_word, walk_bytes, walk_endpoint,
};

use crate::diagnostic::Diagnostic;
use crate::nearest::nearest;
use crate::request::{Effect, Outcome, PolicyRef, Principal, Request, Resource, Verdict};
use crate::stack::deep;
use crate::tables::Reasons;
use crate::world::{internal, principal_entities, resource_entity, uid};

/// Sizes of a compiled policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Policies.
    pub policies: usize,
    /// Classes of paths.
    pub classes: usize,
    /// Classes of programs.
    pub exe_classes: usize,
    /// States of the automaton.
    pub states: usize,
    /// Sets of determining policies.
    pub reasons: usize,
    /// Pages of the image.
    pub pages: usize,
}

/// What a compiled policy is made of.
pub(crate) struct Parts {
    pub(crate) image: Vec<u64>,
    pub(crate) reasons: Reasons,
    pub(crate) references: Vec<PolicyRef>,
    pub(crate) policies: Vec<ast::Policy>,
    pub(crate) principal: Principal,
    pub(crate) stats: Stats,
    pub(crate) slots: Vec<Option<u32>>,
    pub(crate) joined: Vec<bool>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A compiled policy.
pub struct Compiled {
    image: Vec<u64>,
    reasons: Reasons,
    references: Vec<PolicyRef>,
    set: PolicySet,
    /// All policies, in the order of `references`.
    policies: Vec<ast::Policy>,
    constant: Vec<ast::Entity>,
    principal: Principal,
    stats: Stats,
    /// For each policy that another one may be named for, which these are: equal numbers.
    slots: Vec<Option<u32>>,
    /// For each policy whether it is one of those that the tables don't tell apart, and so never name.
    joined: Vec<bool>,
    warnings: Vec<Diagnostic>,
}

/// An image in a slice of whole pages.
struct Pages<'a>(&'a [u64]);

impl Image for Pages<'_> {
    fn page(&self, number: u32) -> Option<&Page> {
        let start = number as usize * PAGE_WORDS;
        self.0.get(start..start + PAGE_WORDS)?.try_into().ok()
    }
}

/// The schema, for Cedar's public interface.
fn schema() -> Result<&'static cedar_policy::Schema, Diagnostic> {
    static PARSED: OnceLock<Result<cedar_policy::Schema, String>> = OnceLock::new();
    let parsed = PARSED.get_or_init(|| crate::SCHEMA.parse().map_err(|fault: cedar_policy::CedarSchemaError| fault.to_string()));
    parsed.as_ref().map_err(internal)
}

impl Compiled {
    pub(crate) fn new(parts: Parts) -> Result<Self, Diagnostic> {
        let set = ast::PolicySet::try_from_iter(parts.policies.iter().cloned()).map_err(internal)?;
        Ok(Self {
            image: parts.image,
            reasons: parts.reasons,
            references: parts.references,
            set: PolicySet::from(set),
            policies: parts.policies,
            constant: principal_entities(&parts.principal)?,
            principal: parts.principal,
            stats: parts.stats,
            slots: parts.slots,
            joined: parts.joined,
            warnings: parts.warnings,
        })
    }

    /// The image: whole pages, to be installed as they are, with generation and mode in word 1.
    pub fn image(&self) -> &[u64] {
        &self.image
    }

    /// Sizes.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What is valid, and yet hardly meant or worth knowing.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The determining policies by Cedar that the tables don't name, sorted. There are some only where policies share a place in the
    /// tables (a warning says so). `None` if the answers disagree: another verdict, a policy named that doesn't determine it, one not
    /// named that shares its place with no other, or none named at all where one can be.
    pub fn unnamed(&self, cedar: &Outcome, tables: &Outcome) -> Option<Vec<String>> {
        if cedar.verdict != tables.verdict || tables.policies.iter().any(|id| !cedar.policies.contains(id)) {
            return None;
        }
        let unnamed: Vec<String> = cedar.policies.iter().filter(|id| !tables.policies.contains(id)).cloned().collect();
        let number = |id: &String| self.references.iter().position(|policy| &policy.id == id);
        let joined = |id: &String| number(id).and_then(|number| self.joined.get(number)) == Some(&true);
        let shares = |id: &String| number(id).is_some_and(|number| matches!(self.slots.get(number), Some(Some(_))));
        let any_named = !tables.policies.is_empty() || unnamed.is_empty() || unnamed.iter().any(joined);
        (any_named && unnamed.iter().all(|id| joined(id) || shares(id))).then_some(unnamed)
    }

    /// All policies, in the order of the sources.
    pub fn policies(&self) -> &[PolicyRef] {
        &self.references
    }

    /// The determining policies of a decision.
    pub fn reason(&self, reason: u32) -> Vec<&PolicyRef> {
        let named = |policy: &u32| self.joined.get(*policy as usize) != Some(&true);
        let policies = self.reasons.policies(reason).into_iter().filter(named);
        policies.filter_map(|policy| self.references.get(policy as usize)).collect()
    }

    /// What the tables answer, by the functions that the kernel runs.
    pub fn decide(&self, request: &Request) -> Outcome {
        // A corrupt image denies, as it does in the kernel.
        let decision = self.look_up(request).unwrap_or(Decision { allow: false, reason: 0 });
        let mut policies: Vec<String> = self.reason(decision.reason).into_iter().map(|policy| policy.id.clone()).collect();
        policies.sort_unstable();
        Outcome { verdict: if decision.allow { Verdict::Allow } else { Verdict::Deny }, policies }
    }

    fn look_up(&self, request: &Request) -> Result<Decision, Corrupt> {
        let image = &Pages(&self.image);
        let mut exe = Cursor::enter(image, header_word(image, header::START_EXE)? as u32)?;
        walk_bytes(image, &mut exe, request.exe.as_bytes())?;
        let end = match &request.resource {
            Resource::File { path: text }
            | Resource::Dir { path: text }
            | Resource::UnixSocket { path: text }
            | Resource::Socket { name: text } => {
                let mut cursor = Cursor::enter(image, header_word(image, header::START_TEXT)? as u32)?;
                walk_bytes(image, &mut cursor, text.as_bytes())?;
                cursor
            }
            Resource::Endpoint { ip, port, protocol } => {
                let protocol = Protocol::ALL.into_iter().find(|known| known.name() == protocol).unwrap_or(Protocol::Other);
                match ip {
                    IpAddr::V4(ip) => walk_endpoint(image, &ip.octets(), protocol, *port)?,
                    IpAddr::V6(ip) => walk_endpoint(image, &ip.octets(), protocol, *port)?,
                }
            }
        };
        decide_row(image, end.accept(), request.kind, exe.accept())
    }

    /// What Cedar answers.
    pub fn cedar(&self, request: &Request) -> Outcome {
        // Cedar refuses a request only if it isn't of the schema; `Request` holds no such one.
        deep(|| self.authorize(request)).unwrap_or(Outcome { verdict: Verdict::Deny, policies: Vec::new() })
    }

    fn authorize(&self, request: &Request) -> Result<Outcome, Diagnostic> {
        let schema = schema()?;
        let entities = self.constant.iter().cloned().chain([resource_entity(&request.resource)?]);
        let entities = Entities::from_entities(entities.map(cedar_policy::Entity::from), Some(schema)).map_err(internal)?;
        let exe = RestrictedExpression::new_string(request.exe.clone());
        let context = Context::from_pairs([("exe".to_owned(), exe)]).map_err(internal)?;
        let asked = cedar_policy::Request::new(
            uid("Agent", &self.principal.name)?.into(),
            uid("Action", request.kind.action())?.into(),
            uid(request.resource.resource_type().name(), &request.resource.id())?.into(),
            context,
            Some(schema),
        )
        .map_err(internal)?;
        let response = Authorizer::new().is_authorized(&asked, &self.set, &entities);
        let mut policies: Vec<String> = response.diagnostics().reason().map(|id| AsRef::<str>::as_ref(id).to_owned()).collect();
        policies.sort_unstable();
        let verdict = match response.decision() {
            cedar_policy::Decision::Allow => Verdict::Allow,
            cedar_policy::Decision::Deny => Verdict::Deny,
        };
        Ok(Outcome { verdict, policies })
    }

    /// The answer in words: the verdict, and each policy that decides it with its reason and place. Each is a line; names and reasons in it are as
    /// they were written, line feeds included.
    pub fn explain(&self, request: &Request) -> Vec<String> {
        let outcome = self.decide(request);
        let subject = format!(
            "{} on {} `{}` by `{}`",
            request.kind.action(),
            request.resource.resource_type().name(),
            request.resource.id(),
            request.exe
        );
        let mut lines = vec![match (outcome.verdict, outcome.policies.is_empty()) {
            (Verdict::Allow, _) => format!("{subject} is allowed."),
            (Verdict::Deny, false) => format!("{subject} is denied: a forbid outweighs every permit."),
            (Verdict::Deny, true) => format!("{subject} is denied: no policy permits it."),
        }];
        for id in &outcome.policies {
            let Some(policy) = self.references.iter().find(|policy| &policy.id == id) else { continue };
            let effect = match policy.effect {
                Effect::Permit => "permit",
                Effect::Forbid => "forbid",
            };
            let reason = policy.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
            lines.push(format!("  {effect} `{id}` at {}:{}{reason}", policy.source, policy.line));
        }
        if outcome.verdict == Verdict::Deny
            && outcome.policies.is_empty()
            && let Ok(Some(nearest)) = deep(|| nearest(&self.principal, request, self.policies.iter().zip(&self.references)))
        {
            lines.extend(nearest);
        }
        if let Some(unnamed) = self.unnamed(&self.cedar(request), &outcome).filter(|unnamed| !unnamed.is_empty()) {
            lines.push(format!("  also, but not named in a log: {}", unnamed.join(", ")));
        }
        lines
    }
}

impl Drop for Compiled {
    /// Dropping an expression recurses into it.
    fn drop(&mut self) {
        deep(|| {
            self.policies.clear();
            self.set = PolicySet::new();
        });
    }
}

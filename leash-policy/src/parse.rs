//! Text to validated policies. Parsing and strict validation are Cedar's; this module gives policies their names and leads every
//! complaint back to the user's text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use cedar_policy_core::ast;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::parser::{Loc, parse_policyset};
use cedar_policy_core::validator::{ValidationMode, ValidationResult, ValidationWarning, Validator, ValidatorSchema};

use crate::diagnostic::Diagnostic;
use crate::form::form;
use crate::request::{Effect, PolicyRef};
use crate::source::{Expanded, Source, Variables, expand};
use crate::stack::deep;

/// The most text of all sources together, with their variables expanded: Cedar's own form of a policy takes fifty times as many bytes.
pub const MAX_TEXT_BYTES: usize = 4 << 20;
/// The most policies of all sources together.
pub(crate) const MAX_POLICIES: usize = 100_000;
/// Text is cut into parts of about this size, which are parsed in parallel.
const PART_BYTES: usize = 64 << 10;
/// More threads than this gain nothing.
const MOST_THREADS: usize = 8;

/// The expanded sources, and the way from a Cedar location to the user's text.
pub(crate) struct Sources(Vec<Expanded>);

/// A part of a source: its index, and the offset at which the part starts.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    source: usize,
    base: usize,
}

/// A validated policy.
pub(crate) struct Policy {
    pub(crate) ast: ast::Policy,
    pub(crate) reference: PolicyRef,
    pub(crate) place: Place,
}

/// What all sources gave.
pub(crate) struct Parsed {
    pub(crate) sources: Sources,
    pub(crate) policies: Vec<Policy>,
    /// Policies that can never apply.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// The validator for the schema of this crate.
fn validator() -> Result<&'static Validator, Diagnostic> {
    static PARSED: OnceLock<Result<Validator, String>> = OnceLock::new();
    let parsed = PARSED.get_or_init(|| {
        let parsed = ValidatorSchema::from_cedarschema_str(crate::SCHEMA, Extensions::all_available());
        parsed.map(|(schema, _)| Validator::new(schema)).map_err(|fault| fault.to_string())
    });
    parsed.as_ref().map_err(|fault| Diagnostic::new("leash.cedarschema", &crate::SCHEMA.into(), fault.clone()))
}

/// The schema of this crate.
pub(crate) fn schema() -> Result<&'static ValidatorSchema, Diagnostic> {
    validator().map(Validator::schema)
}

impl Sources {
    /// A complaint about the place `loc` (or the whole part).
    pub(crate) fn complain(&self, place: Place, loc: Option<&Loc>, message: impl Into<String>, label: &str) -> Diagnostic {
        let span = loc.map(|loc| (loc.start(), loc.end()));
        self.complain_span(place, span, message, label)
    }

    /// Marks one more place in a complaint, if it is in the same source.
    pub(crate) fn mark(&self, complaint: Diagnostic, place: Place, loc: Option<&Loc>, label: &str) -> Diagnostic {
        match (self.0.get(place.source), loc) {
            (Some(source), Some(loc)) if *source.name == *complaint.source_name() => {
                let start = source.original_offset(place.base + loc.start(), false);
                let end = source.original_offset(place.base + loc.end(), true).max(start);
                complaint.at(start, end - start, label)
            }
            _ => complaint,
        }
    }

    fn complain_span(&self, place: Place, span: Option<(usize, usize)>, message: impl Into<String>, label: &str) -> Diagnostic {
        let Some(source) = self.0.get(place.source) else {
            return Diagnostic::new("", &"".into(), message);
        };
        let diagnostic = Diagnostic::new(&source.name, &source.original, message);
        match span {
            Some((start, end)) => {
                let start = source.original_offset(place.base + start, false);
                let end = source.original_offset(place.base + end, true).max(start);
                diagnostic.at(start, end - start, label)
            }
            None => diagnostic,
        }
    }

    /// That there are more policies than are compiled, at the first one beyond the limit. Nothing is parsed yet: each ends in a `;`.
    fn too_many(&self) -> Option<Diagnostic> {
        let all: usize = self.0.iter().map(|source| source.statement_ends.len()).sum();
        let mut room = MAX_POLICIES;
        for (number, source) in self.0.iter().enumerate() {
            if source.statement_ends.len() > room {
                let start = room.checked_sub(1).and_then(|last| source.statement_ends.get(last)).copied().unwrap_or(0);
                let end = source.statement_ends.get(room).copied().unwrap_or(start);
                let blank = source.text.get(start..end).map_or(0, |text| text.len() - text.trim_start().len());
                let message = format!("there are {all} policies; {MAX_POLICIES} is the limit");
                let help =
                    "join policies that differ in one constant: `resource in [Dir::\"…\", …]`, `[…].contains(resource.path)`";
                let place = Place { source: number, base: 0 };
                return Some(self.complain_span(place, Some((start + blank, end)), message, "the first one too many").help(help));
            }
            room -= source.statement_ends.len();
        }
        None
    }

    /// The source's name and the line of a location.
    fn line(&self, place: Place, loc: Option<&Loc>) -> (&str, usize) {
        let Some(source) = self.0.get(place.source) else { return ("", 0) };
        (&source.name, source.line(source.original_offset(place.base + loc.map_or(0, Loc::start), false)))
    }
}

/// What one part gave.
#[derive(Default)]
struct Part {
    policies: Vec<ast::Policy>,
    faults: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

/// Parses and validates all sources.
pub(crate) fn parse(sources: &[Source], variables: &Variables, faults: &mut Vec<Diagnostic>) -> Parsed {
    if let Some(fault) = too_long(sources.iter().map(|source| (&*source.name, &*source.text, source.text.len()))) {
        faults.push(fault);
        return Parsed { sources: Sources(Vec::new()), policies: Vec::new(), warnings: Vec::new() };
    }
    let sources = Sources(sources.iter().map(|source| expand(source, variables, faults)).collect());
    faults.extend(too_long(sources.0.iter().map(|source| (&*source.name, &*source.original, source.text.len()))));
    let validator = match validator() {
        Ok(validator) => validator,
        Err(fault) => {
            faults.push(fault);
            return Parsed { sources, policies: Vec::new(), warnings: Vec::new() };
        }
    };
    faults.extend(sources.too_many());
    if !faults.is_empty() {
        return Parsed { sources, policies: Vec::new(), warnings: Vec::new() };
    }
    let places = parts(&sources);
    let parse_one = |(place, end): &(Place, usize)| parse_part(&sources, *place, *end, validator);
    let parsed: Vec<Part> = if places.len() < 2 { places.iter().map(parse_one).collect() } else { parallel(&places, parse_one) };
    let (mut policies, mut warnings) = (Vec::new(), Vec::new());
    let mut numbers = BTreeMap::new();
    for ((place, _), part) in places.iter().zip(parsed) {
        faults.extend(part.faults);
        warnings.extend(part.warnings);
        for ast in part.policies {
            let number = numbers.entry(place.source).or_insert(0);
            *number += 1;
            policies.push(name(&sources, *place, ast, *number));
        }
    }
    unique(&sources, &policies, faults);
    Parsed { sources, policies, warnings }
}

/// That there is more text than is read, at the place where the limit is passed. Sources come with their names and texts, and with the bytes
/// that count.
fn too_long<'s>(sources: impl Iterator<Item = (&'s str, &'s str, usize)> + Clone) -> Option<Diagnostic> {
    let all: usize = sources.clone().map(|(_, _, bytes)| bytes).sum();
    let mut room = MAX_TEXT_BYTES;
    for (name, text, bytes) in sources {
        if bytes > room {
            let at = text.floor_char_boundary(room);
            let length = text.get(at..)?.chars().next().map_or(0, char::len_utf8);
            let message = format!("the policies are {all} bytes of text; {MAX_TEXT_BYTES} is the limit");
            let help = "join policies that differ in a name or directory alone: `||`, or a set";
            return Some(Diagnostic::new(name, &text.into(), message).at(at, length, "the limit is passed here").help(help));
        }
        room -= bytes;
    }
    None
}

/// Maps `items` on as many threads as there are processors, in order.
pub(crate) fn parallel<T: Sync, R: Send>(items: &[T], map: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let chunk = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            items.chunks(chunk).map(|items| scope.spawn(|| deep(|| items.iter().map(&map).collect::<Vec<R>>()))).collect();
        workers
            .into_iter()
            .flat_map(|worker| match worker.join() {
                Ok(results) => results,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

/// Cuts the sources between statements. Each part comes with its end.
fn parts(sources: &Sources) -> Vec<(Place, usize)> {
    let mut parts = Vec::new();
    for (source, expanded) in sources.0.iter().enumerate() {
        let mut base = 0;
        for &end in &expanded.statement_ends {
            if end - base >= PART_BYTES {
                parts.push((Place { source, base }, end));
                base = end;
            }
        }
        parts.push((Place { source, base }, expanded.text.len()));
    }
    parts
}

fn parse_part(sources: &Sources, place: Place, end: usize, validator: &Validator) -> Part {
    let mut part = Part::default();
    let text = sources.0.get(place.source).and_then(|source| source.text.get(place.base..end)).unwrap_or_default();
    let set = match parse_policyset(text) {
        Ok(set) => set,
        Err(errors) => {
            part.faults = errors.iter().map(|error| convert(sources, place, error, None)).collect();
            return part;
        }
    };
    for template in set.templates() {
        let help = "write a policy for each principal and resource; a template has nothing that would link it";
        let message = "templates are not supported: this policy has slots such as `?principal`";
        part.faults.push(sources.complain(place, template.loc(), message, "this is a template").help(help));
    }
    validate(sources, place, text, &set, validator, &mut part);
    part.policies = set.into_policies().filter(ast::Policy::is_static).collect();
    part.policies.sort_by_key(|policy| policy.loc().map_or(0, Loc::start));
    part
}

/// Validates one policy of each form, and all of them if there is anything to say.
fn validate(sources: &Sources, place: Place, text: &str, set: &ast::PolicySet, validator: &Validator, part: &mut Part) {
    let mut forms = BTreeSet::new();
    let first_of_form = |policy: &&ast::Policy| {
        let span = policy.loc().map_or(0..text.len(), |loc| loc.start()..loc.end());
        forms.insert(form(text.get(span).unwrap_or(text)))
    };
    let samples =
        ast::PolicySet::try_from_iter(set.policies().filter(|policy| policy.is_static()).filter(first_of_form).cloned());
    if part.faults.is_empty()
        && let Ok(samples) = samples
        && is_clean(&validator.validate(&samples, ValidationMode::Strict))
    {
        return;
    }
    let result = validator.validate(set, ValidationMode::Strict);
    let faults = result.validation_errors().map(|error| convert(sources, place, error, Some(set)));
    part.faults.extend(one_each(faults));
    let impossible = result.validation_warnings().filter(|warning| is_impossible(warning));
    part.warnings.extend(impossible.map(|warning| {
        let help = "no request of any action makes its conditions true; the scope and the conditions contradict each other";
        convert(sources, place, warning, Some(set)).help(help).warning()
    }));
}

fn is_clean(result: &ValidationResult) -> bool {
    result.validation_passed() && !result.validation_warnings().any(is_impossible)
}

fn is_impossible(warning: &ValidationWarning) -> bool {
    matches!(warning, ValidationWarning::ImpossiblePolicy(_))
}

/// One complaint a place: Cedar's validator repeats one for each kind of request, and for each type that a resource can have.
fn one_each(faults: impl Iterator<Item = Diagnostic>) -> Vec<Diagnostic> {
    let mut places = BTreeSet::new();
    faults.filter(|fault| fault.span().is_none_or(|span| places.insert((span.offset(), span.len())))).collect()
}

/// Cedar's complaint as ours. Where it has no place of its own, its place is the policy of `set` that it is about.
fn convert(sources: &Sources, place: Place, error: &dyn miette::Diagnostic, set: Option<&ast::PolicySet>) -> Diagnostic {
    // Cedar names policies by numbers that mean nothing to the user; the place says which one it is.
    let named =
        |text: &str| text.strip_prefix("for policy `")?.split_once("`, ").map(|(id, rest)| (id.to_owned(), rest.to_owned()));
    let nameless = |text: String| named(&text).map_or(text, |(_, rest)| rest);
    let whole = error.to_string();
    let policy = named(&whole).zip(set).and_then(|((id, _), set)| set.get(&ast::PolicyID::from_string(id)));
    let message = nameless(whole);
    let mut labels = error.labels().into_iter().flatten();
    let first = labels.next();
    let span = first.as_ref().map(|label| (label.offset(), label.offset() + label.len()));
    let span = span.or_else(|| policy.and_then(ast::Policy::loc).map(|loc| (loc.start(), loc.end())));
    let text = first.as_ref().and_then(|label| label.label()).unwrap_or("here");
    let mut diagnostic = sources.complain_span(place, span, message, text);
    if let Some(help) = error.help() {
        diagnostic = diagnostic.help(nameless(help.to_string()));
    }
    diagnostic
}

fn annotation<'a>(policy: &'a ast::Policy, key: &str) -> Option<&'a str> {
    policy.annotations().find(|(name, _)| name.as_ref() == key).map(|(_, annotation)| annotation.val.as_str())
}

fn name(sources: &Sources, place: Place, ast: ast::Policy, number: usize) -> Policy {
    let (source, line) = sources.line(place, ast.loc());
    let stem = source.rsplit('/').next().unwrap_or(source);
    let stem = stem.strip_suffix(".cedar").unwrap_or(stem);
    let id = annotation(&ast, "id").filter(|id| !id.is_empty()).map_or_else(|| format!("{stem}#{number}"), str::to_owned);
    let reference = PolicyRef {
        effect: match ast.effect() {
            ast::Effect::Permit => Effect::Permit,
            ast::Effect::Forbid => Effect::Forbid,
        },
        reason: annotation(&ast, "reason").filter(|reason| !reason.is_empty()).map(str::to_owned),
        notice: annotation(&ast, "notice").filter(|notice| !notice.is_empty()).map(str::to_owned),
        source: source.to_owned(),
        line,
        id: id.clone(),
    };
    Policy { ast: ast.new_id(ast::PolicyID::from_string(id)), reference, place }
}

/// No two policies may have the same name: a denial names its policy.
fn unique(sources: &Sources, policies: &[Policy], faults: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<&str, &Policy> = BTreeMap::new();
    let mut files: BTreeSet<(&str, &str)> = BTreeSet::new();
    for policy in policies {
        let id = policy.reference.id.as_str();
        let Some(first) = seen.insert(id, policy) else { continue };
        let (at, second) = (&first.reference, &policy.reference);
        let given = |policy: &Policy| annotation(&policy.ast, "id").is_some_and(|id| !id.is_empty());
        let (message, help) = match (given(first), given(policy)) {
            // Two files of one name collide in each of their policies; that is one fault.
            (false, false) if !files.insert((&at.source, &second.source)) => continue,
            (false, false) => (
                format!(
                    "two policies without an `@id` are both named `{id}` after their files: {}:{} and {}:{}",
                    at.source, at.line, second.source, second.line
                ),
                "give each policy of these files an `@id(\"…\")`, or give the files different names".to_owned(),
            ),
            (_, of_second) => (
                format!("two policies have the id `{id}`: {}:{} and {}:{}", at.source, at.line, second.source, second.line),
                match of_second {
                    true => format!("change the `@id` of one of them; the first one is at {}:{}", at.source, at.line),
                    false => format!(
                        "a policy without an `@id` is named after its file; change the `@id` at {}:{}",
                        at.source, at.line
                    ),
                },
            ),
        };
        faults.push(sources.complain(policy.place, policy.ast.loc(), message, "the second policy").help(help));
    }
}

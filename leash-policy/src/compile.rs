//! The whole way from sources to tables.

use cedar_policy_core::ast::{self, Expr};

use crate::alike::Alike;
use crate::atoms::{self, Seen, TextLeaf};
use crate::compiled::{Compiled, Parts, Stats};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::join::Joined;
use crate::net::{self, TooMany};
use crate::parse::{Parsed, Policy, Sources, parse};
use crate::request::{Effect, PolicyRef, Principal};
use crate::source::{Source, Variables};
use crate::tables::{self, Graph, Reasons, Roots, Rows};
use crate::text::{self, Automaton};
use crate::units::{Classes, Units, Variant, units};
use crate::world::{World, internal};
use leash_common::table::{MAX_EXE_CLASSES, PAGE_WORDS};

pub(crate) fn compile(sources: &[Source], variables: &Variables, principal: &Principal) -> Result<Compiled, Diagnostics> {
    let mut faults = Vec::new();
    let Parsed { sources, policies, mut warnings } = parse(sources, variables, &mut faults);
    Diagnostics::check(std::mem::take(&mut faults))?;
    let world = World::new(principal)?;
    let (atoms, seen) = atoms::collect(&world, &sources, &policies, &mut faults);
    Diagnostics::check(std::mem::take(&mut faults))?;

    let (text_atoms, exe_atoms) = (atoms.text.into_values(), atoms.exe.into_values());
    let (ip_atoms, port_atoms) = (atoms.ip.into_values(), atoms.port.into_values());
    let blame = Blame { sources: &sources, policies: &policies, seen: &seen };
    let exe = || automaton(&exe_atoms, &Alike::none(exe_atoms.len()), false, text::MOST);
    let room = if Alike::any_multiplies(&text_atoms) { text::EXACT } else { text::MOST };
    let exact = || automaton(&text_atoms, &Alike::none(text_atoms.len()), true, room);
    let (exact, exe) = if exe_atoms.len() < WORTH_A_THREAD {
        (exact(), exe())
    } else {
        std::thread::scope(|scope| {
            let exe = scope.spawn(exe);
            (exact(), exe.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    };
    let exe = exe.map_err(|fault| blame.automaton(fault, "programs", |seen| &seen.exe))?;
    if exe.classes.len() > MAX_EXE_CLASSES {
        return Err(blame.programs(&exe).into());
    }
    let overlap = |TooMany(atoms), what, of: fn(&Seen) -> &[u32]| {
        let fault = text::TooLarge { atoms, what: "atoms in overlapping ranges", most: net::MAX_MEMBERS };
        blame.automaton(fault, what, of)
    };
    let attempt = Attempt {
        world: &world,
        policies: &policies,
        exe: &exe,
        ipv4: net::addresses(&ip_atoms, false).map_err(|fault| overlap(fault, "addresses", |seen| &seen.ip))?,
        ipv6: net::addresses(&ip_atoms, true).map_err(|fault| overlap(fault, "addresses", |seen| &seen.ip))?,
        ports: net::ports(&port_atoms).map_err(|fault| overlap(fault, "ports", |seen| &seen.port))?,
        blame,
    };
    let conditions: Vec<Expr> = policies.iter().map(|policy| policy.ast.condition()).collect();
    let subjects = Subjects { seen: &seen, atoms: &text_atoms, conditions: &conditions };
    let mut alike = Alike::none(text_atoms.len());
    let mut members = vec![false; policies.len()];
    let mut built = exact.map_err(Failure::States).and_then(|text| attempt.build(&subjects, &text, &alike));
    // Exact sets of determining policies come first; where they need too much room, exact verdicts and a name for each denial do.
    if matches!(built, Err(Failure::States(_) | Failure::Tables(_)))
        && let Some(found) = Alike::find(&world, &policies, &seen, &text_atoms)
    {
        alike = found;
        built = attempt.automaton_and_tables(&subjects, &alike);
        if matches!(built, Err(Failure::States(_) | Failure::Tables(_)))
            && let Some(joined) = Joined::find(&alike, &seen, &text_atoms, &conditions)
        {
            let subjects = Subjects { seen: &joined.seen, atoms: &joined.atoms, conditions: &joined.conditions };
            let found = Alike::find(&world, &policies, &joined.seen, &joined.atoms);
            alike = found.unwrap_or_else(|| Alike::none(joined.atoms.len()));
            built = attempt.automaton_and_tables(&subjects, &alike);
            members = joined.members;
        }
    } else if matches!(built, Err(Failure::States(_))) && room.states < text::MOST.states {
        built = attempt.automaton_and_tables(&subjects, &alike);
    }
    let blame = attempt.blame;
    let built = built.map_err(|failure| match failure {
        Failure::States(fault) => blame.automaton(fault, "paths", |seen| &seen.text),
        Failure::Tables(fault) => blame.tables(&fault).into(),
        Failure::Faults(faults) => faults,
    })?;
    warnings.extend(blame.shared_names(&alike));
    warnings.extend(blame.no_names(&members));
    let (policies, references): (Vec<ast::Policy>, Vec<PolicyRef>) =
        policies.into_iter().map(|policy| (policy.ast, policy.reference)).unzip();
    let (image, reasons, stats) = built;
    let principal = principal.clone();
    Compiled::new(Parts { image, reasons, references, policies, principal, stats, slots: alike.slots, joined: members, warnings })
        .map_err(Into::into)
}

/// The automaton of fewer atoms than this is made before a thread has begun.
const WORTH_A_THREAD: usize = 4;

/// Why tables can't be built.
enum Failure {
    /// The automaton of paths has too many states.
    States(text::TooLarge),
    /// The tables are too large.
    Tables(tables::TooLarge),
    /// Something else is wrong.
    Faults(Diagnostics),
}

impl From<tables::TooLarge> for Failure {
    fn from(fault: tables::TooLarge) -> Self {
        Self::Tables(fault)
    }
}

/// Everything that tables are built from but the automaton of paths.
struct Attempt<'a> {
    world: &'a World,
    policies: &'a [Policy],
    exe: &'a Automaton,
    ipv4: Vec<net::Interval>,
    ipv6: Vec<net::Interval>,
    ports: Vec<net::Interval>,
    blame: Blame<'a>,
}

/// What the policies ask, which is the same in each attempt unless some of them are joined.
struct Subjects<'a> {
    seen: &'a [Seen],
    atoms: &'a [Vec<TextLeaf>],
    conditions: &'a [Expr],
}

/// The tables, what their reasons mean, and how large they are.
type Built = (Vec<u64>, Reasons, Stats);

impl Attempt<'_> {
    fn automaton_and_tables(&self, subjects: &Subjects, alike: &Alike) -> Result<Built, Failure> {
        let text = automaton(subjects.atoms, alike, true, text::MOST).map_err(Failure::States)?;
        self.build(subjects, &text, alike)
    }

    fn build(&self, subjects: &Subjects, text: &Automaton, alike: &Alike) -> Result<Built, Failure> {
        let classes =
            Classes { text: &text.classes, exe: &self.exe.classes, ipv4: &self.ipv4, ipv6: &self.ipv6, ports: &self.ports };
        let mut faults = Vec::new();
        let units = units(
            self.world,
            self.blame.sources,
            self.policies,
            subjects.seen,
            subjects.conditions,
            &classes,
            alike,
            &mut faults,
        );
        Diagnostics::check(faults).map_err(Failure::Faults)?;
        let effects: Vec<Effect> = self.policies.iter().map(|policy| policy.reference.effect).collect();
        let mut graph = Graph::default();
        let mut rows = Rows::new(&effects, &units);
        let roots = Roots {
            ipv4: tables::endpoints(&mut graph, &mut rows, Variant::Ipv4, &self.ipv4, &self.ports)?,
            ipv6: tables::endpoints(&mut graph, &mut rows, Variant::Ipv6, &self.ipv6, &self.ports)?,
            exe: tables::programs(&mut graph, self.exe),
            text: tables::texts(&mut graph, &mut rows, text)?,
        };
        let image = tables::pack(&graph, &roots).map_err(|fault| tables::TooLarge { policies: broadest(&units), ..fault })?;
        let stats = Stats {
            policies: self.policies.len(),
            classes: text.classes.len(),
            exe_classes: self.exe.classes.len(),
            states: graph.nodes.len(),
            reasons: rows.reasons.len(),
            pages: image.len() / PAGE_WORDS,
        };
        Ok((image, rows.reasons, stats))
    }
}

/// Builds the automaton, and makes sure that each class's witness is in the class: all else rests on that.
fn automaton(atoms: &[Vec<TextLeaf>], alike: &Alike, split: bool, room: text::Room) -> Result<Automaton, text::TooLarge> {
    let automaton = text::build(atoms, alike, split, room)?;
    let faithful = |(number, class): (usize, &text::Class)| automaton.classify(class.witness.as_bytes()) == Some(number as u32);
    match automaton.classes.iter().enumerate().all(faithful) {
        true => Ok(automaton),
        false => Err(text::TooLarge { atoms: Vec::new(), what: "", most: 0 }),
    }
}

/// Turns limits into complaints that name policies.
#[derive(Clone, Copy)]
struct Blame<'a> {
    sources: &'a Sources,
    policies: &'a [Policy],
    seen: &'a [Seen],
}

impl Blame<'_> {
    /// There are too many classes of programs.
    fn programs(&self, exe: &Automaton) -> Diagnostic {
        let message = format!(
            "the conditions on `context.exe` tell {} programs apart; {} is the limit",
            grouped(exe.classes.len()),
            grouped(MAX_EXE_CLASSES)
        );
        let help = "use fewer conditions on `context.exe`, or join them with `||` or in a set";
        let beyond = exe.classes.get(MAX_EXE_CLASSES..).unwrap_or_default();
        let atoms: Vec<u32> = beyond.iter().flat_map(|class| class.atoms.iter().copied()).collect();
        let one = |seen: &Seen| seen.exe.iter().any(|atom| atoms.contains(atom));
        let policy = self.policies.iter().zip(self.seen).find(|(_, seen)| one(seen)).map(|(policy, _)| policy);
        match policy.or(self.policies.first()) {
            Some(policy) => {
                let label = "one of the policies with such conditions";
                self.sources.complain(policy.place, policy.ast.loc(), message, label).help(help)
            }
            None => internal(message),
        }
    }

    /// An automaton or the intervals of a dimension have no room.
    fn automaton(&self, fault: text::TooLarge, what: &str, atoms: impl Fn(&Seen) -> &[u32]) -> Diagnostics {
        let holds = |seen: &Seen| atoms(seen).iter().any(|atom| fault.atoms.contains(atom));
        let responsible: Vec<&Policy> =
            self.policies.iter().zip(self.seen).filter(|(_, seen)| holds(seen)).map(|(policy, _)| policy).take(5).collect();
        let Some(first) = responsible.first().filter(|_| fault.most > 0) else {
            return internal(format!("a witness of the {what} is in another class than its own")).into();
        };
        let names: Vec<String> = responsible.iter().map(|policy| format!("`{}`", policy.reference.id)).collect();
        let message = format!(
            "the conditions on {what} need more than {} {}, above all those of {}",
            grouped(fault.most),
            fault.what,
            names.join(", ")
        );
        let help = "conditions of separate policies that can hold together in any combination multiply: patterns such as `*/x/*`, and \
                    names or patterns within many directories. Join them with `||` in one policy, or begin patterns with a directory \
                    instead of `*`. Any number of separate policies is fine where they differ in the pattern alone, have no other \
                    condition on the path, and a match makes them apply (no `unless`)";
        let mut first = self.sources.complain(first.place, first.ast.loc(), message, "one of these policies").help(help);
        for policy in responsible.iter().skip(1) {
            first = self.sources.mark(first, policy.place, policy.ast.loc(), "another one");
        }
        first.into()
    }

    /// What to say where policies share a place in the tables.
    fn shared_names(&self, alike: &Alike) -> Vec<Diagnostic> {
        let shared: Vec<&Policy> = self
            .policies
            .iter()
            .enumerate()
            .filter(|(number, _)| alike.slot(*number).is_some())
            .map(|(_, policy)| policy)
            .collect();
        let Some(first) = shared.first() else { return Vec::new() };
        let message = format!(
            "{} policies, such as `{}`, have patterns that can match together in too many combinations: where several of the same form \
             match one path, the log names only one of them; the verdict is exact",
            shared.len(),
            first.reference.id
        );
        let help =
            "join policies of the same form with `||` in one policy, or begin their patterns with a directory instead of `*`";
        vec![self.sources.complain(first.place, first.ast.loc(), message, "the first of these policies").help(help).warning()]
    }

    /// What to say where permits are joined.
    fn no_names(&self, members: &[bool]) -> Option<Diagnostic> {
        let mut joined = self.policies.iter().zip(members).filter(|(_, member)| **member).map(|(policy, _)| policy);
        let first = joined.next()?;
        let message = format!(
            "{} permits, such as `{}`, and patterns that are forbidden within them multiply to more than the tables can hold: the log \
             names none of these permits where they allow something; the verdict is exact, and denials name their policies",
            joined.count() + 1,
            first.reference.id
        );
        let help = "join permits of the same form with `||` in one policy";
        Some(self.sources.complain(first.place, first.ast.loc(), message, "the first of these permits").help(help).warning())
    }

    /// A complaint about the policies that were met where the limit was reached.
    fn tables(&self, fault: &tables::TooLarge) -> Diagnostic {
        let mut responsible: Vec<&Policy> =
            fault.policies.iter().filter_map(|number| self.policies.get(*number as usize)).collect();
        responsible.dedup_by_key(|policy| &policy.reference.id);
        responsible.truncate(5);
        if responsible.is_empty() {
            responsible.extend(self.policies.first());
        }
        let message = format!("the policies need more than {} {}", grouped(fault.most), fault.what);
        let Some((first, others)) = responsible.split_first() else { return internal(message) };
        let names: Vec<String> = responsible.iter().map(|policy| format!("`{}`", policy.reference.id)).collect();
        let message = format!("{message}, above all {}", names.join(", "));
        let help = "conditions on paths and programs, or on addresses and ports, multiply where they are in separate policies: join \
                    them in one policy, or make them disjoint";
        let complaint = self.sources.complain(first.place, first.ast.loc(), message, "one of these policies").help(help);
        others
            .iter()
            .fold(complaint, |complaint, policy| self.sources.mark(complaint, policy.place, policy.ast.loc(), "another one"))
    }
}

/// The policies that tell the most classes of places and programs apart.
fn broadest(units: &[Units]) -> Vec<u32> {
    let mut sizes: Vec<(usize, u32)> = units
        .iter()
        .flat_map(|units| &units.units)
        .map(|unit| (unit.sights.iter().map(|sight| sight.classes.len()).sum(), unit.policy))
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let mut policies = Vec::new();
    for (_, policy) in sizes {
        if !policies.contains(&policy) {
            policies.push(policy);
        }
        if policies.len() == 5 {
            break;
        }
    }
    policies
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

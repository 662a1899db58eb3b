//! The whole way from sources to tables.

use cedar_policy_core::ast;

use crate::atoms::{self, TextLeaf};
use crate::compiled::{Compiled, Parts, Stats};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::net;
use crate::parse::{Policy, Sources, parse};
use crate::request::{Effect, Principal};
use crate::source::{Source, Variables};
use crate::tables::{self, Graph, Roots, Rows};
use crate::text::{self, Automaton};
use crate::units::{Classes, Variant, units};
use crate::world::{World, internal};
use leash_common::table::{MAX_EXE_CLASSES, PAGE_WORDS};

/// Compiles all sources together for one principal. All faults that can be found are reported at once.
pub fn compile(sources: &[Source], variables: &Variables, principal: &Principal) -> Result<Compiled, Diagnostics> {
    let mut faults = Vec::new();
    let (sources, policies) = parse(sources, variables, &mut faults);
    Diagnostics::check(std::mem::take(&mut faults))?;
    let world = World::new(principal)?;
    let (atoms, seen) = atoms::collect(&world, &sources, &policies, &mut faults);
    Diagnostics::check(std::mem::take(&mut faults))?;

    let (text_atoms, exe_atoms) = (atoms.text.into_values(), atoms.exe.into_values());
    let blame = Blame { sources: &sources, policies: &policies };
    let (text, exe) = std::thread::scope(|scope| {
        let exe = scope.spawn(|| automaton(&exe_atoms, false));
        (automaton(&text_atoms, true), exe.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let text = text.map_err(|fault| blame.automaton(fault, "paths", |number| seen.get(number).map(|seen| &*seen.text)))?;
    let exe = exe.map_err(|fault| blame.automaton(fault, "programs", |number| seen.get(number).map(|seen| &*seen.exe)))?;
    if exe.classes.len() > MAX_EXE_CLASSES {
        let message =
            format!("the conditions on `context.exe` tell {} programs apart; {MAX_EXE_CLASSES} is the limit", exe.classes.len());
        return Err(internal(message).help("use fewer conditions on `context.exe`").into());
    }
    let (ip_atoms, port_atoms) = (atoms.ip.into_values(), atoms.port.into_values());
    let classes = Classes {
        text: &text.classes,
        exe: &exe.classes,
        ipv4: net::addresses(&ip_atoms, false),
        ipv6: net::addresses(&ip_atoms, true),
        ports: net::ports(&port_atoms),
    };
    let units = units(&world, &sources, &policies, &seen, &classes, &mut faults);
    Diagnostics::check(faults)?;

    let effects: Vec<Effect> = policies.iter().map(|policy| policy.reference.effect).collect();
    let mut graph = Graph::default();
    let mut rows = Rows::new(&effects, &units);
    let too_large = |fault: tables::TooLarge| blame.tables(&fault);
    let roots = Roots {
        ipv4: tables::endpoints(&mut graph, &mut rows, Variant::Ipv4, &classes.ipv4, &classes.ports).map_err(too_large)?,
        ipv6: tables::endpoints(&mut graph, &mut rows, Variant::Ipv6, &classes.ipv6, &classes.ports).map_err(too_large)?,
        exe: tables::programs(&mut graph, &exe),
        text: tables::texts(&mut graph, &mut rows, &text).map_err(too_large)?,
    };
    let image = tables::pack(&graph, &roots).map_err(too_large)?;
    let stats = Stats {
        policies: policies.len(),
        classes: text.classes.len(),
        exe_classes: exe.classes.len(),
        states: graph.nodes.len(),
        reasons: rows.reasons.len(),
        pages: image.len() / PAGE_WORDS,
    };
    let set = ast::PolicySet::try_from_iter(policies.iter().map(|policy| policy.ast.clone())).map_err(internal)?;
    let references = policies.iter().map(|policy| policy.reference.clone()).collect();
    Compiled::new(Parts { image, reasons: rows.reasons, references, set, principal: principal.clone(), stats })
        .map_err(Into::into)
}

/// Builds the automaton, and makes sure that each class's witness is in the class: all else rests on that.
fn automaton(atoms: &[Vec<TextLeaf>], split: bool) -> Result<Automaton, text::TooLarge> {
    let automaton = text::build(atoms, split)?;
    let faithful = |(number, class): (usize, &text::Class)| automaton.classify(class.witness.as_bytes()) == Some(number as u32);
    match automaton.classes.iter().enumerate().all(faithful) {
        true => Ok(automaton),
        false => Err(text::TooLarge { atoms: Vec::new() }),
    }
}

/// Turns limits into complaints that name policies.
struct Blame<'a> {
    sources: &'a Sources,
    policies: &'a [Policy],
}

impl Blame<'_> {
    fn automaton<'s>(&self, fault: text::TooLarge, what: &str, seen: impl Fn(usize) -> Option<&'s [u32]>) -> Diagnostics {
        let holds = |number: usize| seen(number).is_some_and(|atoms| atoms.iter().any(|atom| fault.atoms.contains(atom)));
        let responsible: Vec<&Policy> =
            self.policies.iter().enumerate().filter(|(number, _)| holds(*number)).map(|(_, policy)| policy).take(5).collect();
        let Some(first) = responsible.first() else {
            return internal(format!("a witness of the {what} is in another class than its own")).into();
        };
        let names: Vec<String> = responsible.iter().map(|policy| format!("`{}`", policy.reference.id)).collect();
        let message = format!(
            "the patterns for {what} multiply to more than {} states, above all in {}",
            text::MAX_STATES,
            names.join(", ")
        );
        let help = "patterns such as `*/x/*` in separate policies can match together in any combination: join them with `||` in one \
                    policy, or begin them with a directory instead of `*`";
        self.sources.complain(first.place, first.ast.loc(), message, "one of these policies").help(help).into()
    }

    fn tables(&self, fault: &tables::TooLarge) -> Diagnostic {
        internal(format!("the policies need too many {}", fault.0)).help(
            "conditions on paths and programs, or on addresses and ports, that are in separate policies multiply: join them",
        )
    }
}

//! The states for paths, names of sockets, and programs.

use leash_common::kind::Kind;

use super::graph::ACCEPT_STATE;
use super::rows::{DENY, Touched};
use super::{Graph, Rows, TooLarge};
use crate::fast::Interner;
use crate::text::Automaton;
use crate::units::{PLACE, Variant};

/// Adds the automaton of resource texts, with its rows, and returns its start.
pub(crate) fn texts(graph: &mut Graph, rows: &mut Rows, automaton: &Automaton) -> Result<u32, TooLarge> {
    let mut decisions = vec![[DENY; Kind::COUNT]; automaton.classes.len()];
    for variant in Variant::ALL {
        let (Some(domain), Some((number, units))) = (variant.domain(), rows.units(variant)) else { continue };
        let mut touched: Vec<Vec<Touched>> = vec![Vec::new(); automaton.classes.len()];
        for (unit, sights) in units.units.iter().enumerate() {
            for (class, key) in sights.sights.get(PLACE).into_iter().flat_map(|sight| &sight.classes) {
                if let Some(list) = touched.get_mut(*class as usize)
                    && sights.matters(PLACE, [0; 4], *key)
                {
                    list.push((unit as u32, [*key, 0, 0]));
                }
            }
        }
        for ((class, touched), decision) in automaton.classes.iter().zip(&touched).zip(&mut decisions) {
            if class.domain != domain {
                continue;
            }
            let row = rows.row(graph, number, touched)?;
            for kind in variant.kinds() {
                if let (Some(to), Some(from)) = (decision.get_mut(kind as usize), row.get(kind as usize)) {
                    *to = *from;
                }
            }
        }
    }
    let mut grants = Interner::new();
    let grants: Vec<u32> = decisions.iter().map(|row| grants.intern(rows.grants(row))).collect();
    let accepts: Vec<u32> = decisions.iter().map(|row| Rows::state(graph, row) | ACCEPT_STATE).collect();
    let start = add(graph, automaton, &accepts);
    let uniform = uniform(automaton, &grants);
    for (node, uniform) in graph.nodes.iter_mut().skip(start as usize).zip(uniform) {
        node.uniform = uniform;
    }
    Ok(start)
}

/// Adds the automaton of program paths and returns its start. A class is its own number.
pub(crate) fn programs(graph: &mut Graph, automaton: &Automaton) -> u32 {
    let accepts: Vec<u32> = (0..automaton.classes.len() as u32).collect();
    add(graph, automaton, &accepts)
}

fn add(graph: &mut Graph, automaton: &Automaton, accepts: &[u32]) -> u32 {
    let start = graph.nodes.len() as u32;
    let mut edges: Vec<(u8, u32)> = Vec::new();
    for state in &automaton.states {
        edges.clear();
        edges.extend(automaton.edges(state).iter().map(|(byte, to)| (*byte, start + to)));
        let accept = accepts.get(state.class as usize).copied().unwrap_or(0);
        graph.push(accept, start + state.default, &edges);
    }
    start
}

/// For each state, whether it and all states that bytes reach from it grant alike.
fn uniform(automaton: &Automaton, grants: &[u32]) -> Vec<bool> {
    let count = automaton.states.len();
    let grant = |state: usize| automaton.states.get(state).and_then(|state| grants.get(state.class as usize));
    let targets = |state: usize| {
        let state = automaton.states.get(state);
        let edges = state.map_or(&[][..], |state| automaton.edges(state));
        edges.iter().map(|(_, to)| *to).chain(state.map(|state| state.default))
    };
    // The predecessors of each state, in one array.
    let mut starts = vec![0_u32; count + 1];
    for state in 0..count {
        for to in targets(state) {
            if let Some(start) = starts.get_mut(to as usize + 1) {
                *start += 1;
            }
        }
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut places = starts.clone();
    let mut predecessors = vec![0_u32; sum as usize];
    let mut uniform = vec![true; count];
    let mut work = Vec::new();
    for state in 0..count {
        for to in targets(state) {
            if let Some(place) = places.get_mut(to as usize) {
                if let Some(predecessor) = predecessors.get_mut(*place as usize) {
                    *predecessor = state as u32;
                }
                *place += 1;
            }
            if grant(state) != grant(to as usize)
                && let Some(flag) = uniform.get_mut(state).filter(|flag| **flag)
            {
                *flag = false;
                work.push(state);
            }
        }
    }
    while let Some(state) = work.pop() {
        let range = starts.get(state).zip(starts.get(state + 1)).map_or(0..0, |(from, to)| *from as usize..*to as usize);
        for predecessor in predecessors.get(range).unwrap_or_default() {
            if let Some(flag) = uniform.get_mut(*predecessor as usize).filter(|flag| **flag) {
                *flag = false;
                work.push(*predecessor as usize);
            }
        }
    }
    uniform
}

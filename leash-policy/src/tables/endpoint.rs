//! The states for internet endpoints: nibbles of the address, the protocol, nibbles of the port.

use leash_common::kind::Protocol;

use super::graph::ACCEPT_STATE;
use super::rows::{DENY, Touched};
use super::{Graph, Rows, TooLarge};
use crate::fast::FastMap;
use crate::net::Interval;
use crate::units::{PLACE, PORT, PROTOCOL, Unit, Units, Variant};

/// Ports in one decision: the first one, the last one, and the state of the row.
type Span = (u128, u128, u32);

/// A unit with its keys for the address and the protocol.
type Addressed = (u32, u32, u32);

/// Steps of work on combinations of addresses, protocols and ports.
const MAX_WORK: usize = 10_000_000;

/// Adds the states of one address family and returns their start.
pub(crate) fn endpoints(
    graph: &mut Graph,
    rows: &mut Rows,
    variant: Variant,
    addresses: &[Interval],
    ports: &[Interval],
) -> Result<u32, TooLarge> {
    let nibbles = if variant == Variant::Ipv4 { 8 } else { 32 };
    let Some((number, units)) = rows.units(variant) else { return Ok(DENY) };
    let mut builder = Builder {
        graph,
        rows,
        number,
        units,
        ports,
        memo: FastMap::default(),
        count: 0,
        by_protocol: Vec::new(),
        by_port: FastMap::default(),
    };
    builder.prepare();
    let mut touched: Vec<Vec<(u32, u32)>> = vec![Vec::new(); addresses.len()];
    for (number, unit) in units.units.iter().enumerate() {
        for (class, key) in unit.sights.get(PLACE).into_iter().flat_map(|sight| &sight.classes) {
            if let Some(list) = touched.get_mut(*class as usize)
                && unit.matters(PLACE, [0; 4], *key)
            {
                list.push((number as u32, *key));
            }
        }
    }
    let mut spans: Vec<Span> = Vec::with_capacity(addresses.len());
    for (interval, touched) in addresses.iter().zip(&touched) {
        let state = builder.protocols(touched)?;
        push(&mut spans, (interval.low, interval.high, state));
    }
    Ok(nibble_states(builder.graph, &mut FastMap::default(), &spans, 0, nibbles))
}

struct Builder<'a, 'r> {
    graph: &'a mut Graph,
    rows: &'a mut Rows<'r>,
    /// The variant's number in `rows`.
    number: usize,
    units: &'r Units,
    ports: &'a [Interval],
    /// States for ports, by what is touched before.
    memo: FastMap<Box<[Addressed]>, u32>,
    count: usize,
    /// Units to which a protocol alone makes a difference.
    by_protocol: Vec<u32>,
    /// For each class of ports, the units to which it makes a difference alone, with their key.
    by_port: FastMap<u32, Vec<(u32, u32)>>,
}

impl Builder<'_, '_> {
    fn unit(&self, number: u32) -> Option<&Unit> {
        self.units.units.get(number as usize)
    }

    fn prepare(&mut self) {
        for (number, unit) in self.units.units.iter().enumerate() {
            if (1..unit.keys(PROTOCOL)).any(|key| unit.matters(PROTOCOL, [0; 4], key)) {
                self.by_protocol.push(number as u32);
            }
            for (class, key) in unit.sights.get(PORT).into_iter().flat_map(|sight| &sight.classes) {
                if unit.matters(PORT, [0; 4], *key) {
                    self.by_port.entry(*class).or_default().push((number as u32, *key));
                }
            }
        }
    }

    /// The state that takes the protocol, where these units (sorted) have these keys for the address.
    fn protocols(&mut self, touched: &[(u32, u32)]) -> Result<u32, TooLarge> {
        let mut targets = Vec::with_capacity(Protocol::ALL.len());
        for protocol in Protocol::ALL {
            let key = |unit: &Unit| if unit.keys(PROTOCOL) > 1 { protocol as u32 + 1 } else { 0 };
            let mut with: Vec<(u32, u32, u32)> =
                touched.iter().filter_map(|(number, place)| Some((*number, *place, key(self.unit(*number)?)))).collect();
            for number in &self.by_protocol {
                if let Some(unit) = self.unit(*number)
                    && touched.binary_search_by_key(number, |(number, _)| *number).is_err()
                {
                    with.push((*number, 0, key(unit)));
                }
            }
            with.sort_unstable();
            self.work(with.len() + 1, &with)?;
            targets.push((protocol as u8 + 1, self.port_states(with)?));
        }
        let default = Graph::best_default(targets.iter().map(|(_, target)| *target));
        Ok(self.graph.intern(0, default, targets))
    }

    /// Counts steps of work, done for these units.
    fn work(&mut self, steps: usize, touched: &[Addressed]) -> Result<(), TooLarge> {
        self.count += steps;
        if self.count <= MAX_WORK {
            return Ok(());
        }
        let all = touched
            .iter()
            .map(|(number, ..)| number)
            .chain(&self.by_protocol)
            .chain(self.by_port.values().flatten().map(|(number, _)| number));
        let policies = all.filter_map(|number| Some(self.unit(*number)?.policy)).take(5).collect();
        Err(TooLarge { what: "combinations of addresses and ports", most: MAX_WORK, policies })
    }

    /// The state that takes the port.
    fn port_states(&mut self, touched: Vec<(u32, u32, u32)>) -> Result<u32, TooLarge> {
        let touched = touched.into_boxed_slice();
        if let Some(state) = self.memo.get(&touched) {
            return Ok(*state);
        }
        let mut special: Vec<u32> = self.by_port.keys().copied().collect();
        for (number, ..) in &touched {
            let sight = self.unit(*number).and_then(|unit| unit.sights.get(PORT));
            special.extend(sight.into_iter().flat_map(|sight| &sight.classes).map(|(class, _)| *class));
        }
        special.sort_unstable();
        special.dedup();
        self.work((special.len() + 1) * (touched.len() + 2), &touched)?;
        let plain = self.row(&touched, None)?;
        let mut spans: Vec<Span> = Vec::new();
        let mut next = 0;
        for class in special {
            let Some(interval) = self.ports.get(class as usize) else { continue };
            if interval.low > next {
                push(&mut spans, (next, interval.low - 1, plain));
            }
            let row = self.row(&touched, Some(class))?;
            push(&mut spans, (interval.low, interval.high, row));
            next = interval.high + 1;
        }
        if next <= u128::from(u16::MAX) {
            push(&mut spans, (next, u16::MAX.into(), plain));
        }
        let state = nibble_states(self.graph, &mut FastMap::default(), &spans, 0, 4);
        self.memo.insert(touched, state);
        Ok(state)
    }

    /// The state at which an endpoint ends.
    fn row(&mut self, touched: &[(u32, u32, u32)], class: Option<u32>) -> Result<u32, TooLarge> {
        let mut all: Vec<Touched> = Vec::with_capacity(touched.len());
        for (number, place, protocol) in touched {
            let sight = self.unit(*number).and_then(|unit| unit.sights.get(PORT));
            let port = sight.zip(class).and_then(|(sight, class)| {
                let at = sight.classes.binary_search_by_key(&class, |(class, _)| *class).ok()?;
                sight.classes.get(at).map(|(_, key)| *key)
            });
            all.push((*number, [*place, *protocol, port.unwrap_or(0)]));
        }
        for (number, key) in class.and_then(|class| self.by_port.get(&class)).into_iter().flatten() {
            if touched.binary_search_by_key(number, |(number, ..)| *number).is_err() {
                all.push((*number, [0, 0, *key]));
            }
        }
        all.sort_unstable();
        let row = self.rows.row(self.graph, self.number, &all)?;
        let state = Rows::state(self.graph, &row);
        Ok(self.graph.intern(state | ACCEPT_STATE, DENY, Vec::new()))
    }
}

/// Appends a span, joined with the one before if they lead to the same state.
fn push(spans: &mut Vec<Span>, span: Span) {
    match spans.last_mut() {
        Some(before) if before.2 == span.2 => before.1 = span.1,
        _ => spans.push(span),
    }
}

/// The state that takes `nibbles` nibbles of a value that begins at `low`. `spans` covers its values, and may reach beyond them.
fn nibble_states(graph: &mut Graph, chains: &mut FastMap<(u32, u32), u32>, spans: &[Span], low: u128, nibbles: u32) -> u32 {
    let Some((.., first)) = spans.first() else { return DENY };
    if nibbles == 0 {
        return *first;
    }
    if spans.len() == 1 {
        // Whatever follows leads to the same place.
        if let Some(state) = chains.get(&(*first, nibbles)) {
            return *state;
        }
        let next = nibble_states(graph, chains, spans, low, nibbles - 1);
        let state = graph.intern(0, next, Vec::new());
        chains.insert((*first, nibbles), state);
        return state;
    }
    let bits = 4 * (nibbles - 1);
    let mut targets = Vec::with_capacity(16);
    for nibble in 0..16_u8 {
        let from = low + (u128::from(nibble) << bits);
        let to = from + ((1_u128 << bits) - 1);
        let start = spans.partition_point(|(_, high, _)| *high < from);
        let end = spans.partition_point(|(low, ..)| *low <= to);
        let own = spans.get(start..end).unwrap_or_default();
        targets.push((1 + nibble, nibble_states(graph, chains, own, from, nibbles - 1)));
    }
    let default = Graph::best_default(targets.iter().map(|(_, target)| *target));
    graph.intern(0, default, targets)
}

//! Rows: the decisions of all kinds at one place, by program where that matters.

use leash_common::kind::Kind;
use leash_common::table::{LEAF, LEAF_ALLOW, NOBODY, exe_symbols};

use super::{Graph, Reasons, TooLarge};
use crate::fast::{FastMap, Interner};
use crate::request::Effect;
use crate::units::{DIMENSIONS, EXE, Units, Variant};

/// Steps of work on combinations of places and programs, over all rows.
const MAX_WORK: usize = 50_000_000;
/// The same for one kind of request in one place, of which all results are held at once.
const MAX_WORK_AT_ONCE: usize = 5_000_000;
/// The most members of all sets that are kept: of policies, of programs, and of policies with what they see.
const MAX_KEPT: usize = 10_000_000;

/// The decisions of all kinds at one place.
type Row = [u32; Kind::COUNT];

/// A unit with the keys of its dimensions before the program.
pub(crate) type Touched = (u32, [u32; 3]);

/// What holds for a kind where no atom does.
#[derive(Clone, Copy, Default)]
struct Base {
    /// How many permits and forbids are satisfied, and the number of their set.
    permits: (u32, u32),
    forbids: (u32, u32),
}

/// A variant's units, prepared.
struct Prepared<'a> {
    units: &'a Units,
    bases: [Base; Kind::COUNT],
    /// Programs that change a unit where nothing else holds: the class, and the units.
    exe: Vec<(u32, Vec<u32>)>,
    /// How many units these are together.
    changes: usize,
}

/// Builds rows.
pub(crate) struct Rows<'a> {
    effects: &'a [Effect],
    variants: Vec<Prepared<'a>>,
    pub(crate) reasons: Reasons,
    allow_sets: Interner<(bool, Box<[u32]>)>,
    /// The allow set of each exe node.
    grants: FastMap<u32, u32>,
    memo: FastMap<(u32, Box<[Touched]>), Row>,
    work: usize,
    kept: usize,
}

/// The decision that nothing permits.
pub(crate) const DENY: u32 = LEAF;

impl<'a> Rows<'a> {
    pub(crate) fn new(effects: &'a [Effect], all: &'a [Units]) -> Self {
        let mut rows = Self {
            effects,
            variants: Vec::new(),
            reasons: Reasons::new(),
            allow_sets: Interner::new(),
            grants: FastMap::default(),
            memo: FastMap::default(),
            work: 0,
            kept: 0,
        };
        // The first two numbers of allow sets are nobody's and everybody's.
        for (number, everybody) in (NOBODY..).zip([false, true]) {
            let given = rows.allow_sets.intern((everybody, Box::default()));
            debug_assert_eq!(given, number);
        }
        for units in all {
            let prepared = rows.prepare(units);
            rows.variants.push(prepared);
        }
        rows
    }

    /// The units of a variant, with its number here.
    pub(crate) fn units(&self, variant: Variant) -> Option<(usize, &'a Units)> {
        let number = self.variants.iter().position(|prepared| prepared.units.variant == variant)?;
        Some((number, self.variants.get(number)?.units))
    }

    fn effect(&self, policy: u32) -> Effect {
        self.effects.get(policy as usize).copied().unwrap_or(Effect::Forbid)
    }

    fn prepare(&mut self, units: &'a Units) -> Prepared<'a> {
        let mut bases = [Base::default(); Kind::COUNT];
        for (kind, base) in Kind::ALL.into_iter().zip(&mut bases) {
            let holding = |effect: Effect| -> Vec<u32> {
                let units = units.units.iter().filter(|unit| unit.kinds & kind.bit() != 0 && unit.base());
                units.map(|unit| unit.policy).filter(|policy| self.effect(*policy) == effect).collect()
            };
            let (permits, forbids) = (holding(Effect::Permit), holding(Effect::Forbid));
            base.permits = (permits.len() as u32, self.reasons.base(permits));
            base.forbids = (forbids.len() as u32, self.reasons.base(forbids));
        }
        let mut exe: FastMap<u32, Vec<u32>> = FastMap::default();
        for (number, unit) in units.units.iter().enumerate() {
            for (class, key) in unit.sights.get(EXE).into_iter().flat_map(|sight| &sight.classes) {
                if unit.satisfied([0, 0, 0, *key]) != unit.base() {
                    exe.entry(*class).or_default().push(number as u32);
                }
            }
        }
        let mut exe: Vec<(u32, Vec<u32>)> = exe.into_iter().collect();
        exe.sort_unstable();
        let changes = exe.iter().map(|(_, changed)| changed.len()).sum();
        Prepared { units, bases, exe, changes }
    }

    /// The decisions of one variant's kinds, by the units that see something at this place, sorted.
    pub(crate) fn row(&mut self, graph: &mut Graph, variant: usize, touched: &[Touched]) -> Result<Row, TooLarge> {
        let mut row = [DENY; Kind::COUNT];
        let Some(prepared) = self.variants.get(variant) else { return Ok(row) };
        let units = prepared.units;
        // Units that are here as they are where nothing holds need no mention.
        let touched: Box<[Touched]> = touched
            .iter()
            .filter(|(unit, keys)| {
                units.units.get(*unit as usize).is_some_and(|unit| {
                    (0..unit.keys(EXE)).any(|exe| unit.satisfied(with_exe(*keys, exe)) != unit.satisfied([0, 0, 0, exe]))
                })
            })
            .copied()
            .collect();
        let key = (variant as u32, touched);
        if let Some(row) = self.memo.get(&key) {
            return Ok(*row);
        }
        self.kept += 4 * key.1.len();
        for kind in units.variant.kinds() {
            let next = self.kind(graph, variant, kind, &key.1)?;
            if let Some(place) = row.get_mut(kind as usize) {
                *place = next;
            }
        }
        self.memo.insert(key, row);
        Ok(row)
    }

    /// The decision of one kind, or the node that asks for the program.
    fn kind(&mut self, graph: &mut Graph, variant: usize, kind: Kind, touched: &[Touched]) -> Result<u32, TooLarge> {
        let Some(prepared) = self.variants.get(variant) else { return Ok(DENY) };
        let units = &prepared.units.units;
        let asks = |number: u32| units.get(number as usize).filter(|unit| unit.kinds & kind.bit() != 0);
        let mut default = Vec::new();
        let mut classes: Vec<u32> = Vec::new();
        for (number, keys) in touched {
            let Some(unit) = asks(*number) else { continue };
            let here = unit.satisfied(with_exe(*keys, 0));
            if here != unit.base() {
                default.push(unit.policy);
            }
            for (class, key) in unit.sights.get(EXE).into_iter().flat_map(|sight| &sight.classes) {
                // A class that changes the unit elsewhere is special here too, as there it counts as changed.
                if unit.satisfied(with_exe(*keys, *key)) != here || unit.satisfied([0, 0, 0, *key]) != unit.base() {
                    classes.push(*class);
                }
            }
        }
        for (class, changed) in &prepared.exe {
            if changed.iter().any(|number| asks(*number).is_some()) {
                classes.push(*class);
            }
        }
        classes.sort_unstable();
        classes.dedup();
        let work = 1 + prepared.changes + classes.len() * (1 + touched.len());
        self.work += work;
        let too_large = |what, most| {
            let policies = touched.iter().filter_map(|(number, _)| Some(asks(*number)?.policy)).take(5).collect();
            Err(TooLarge { what, most, policies })
        };
        if self.work > MAX_WORK {
            return too_large("combinations of resources and programs", MAX_WORK);
        }
        if work > MAX_WORK_AT_ONCE {
            return too_large("combinations of programs at one resource", MAX_WORK_AT_ONCE);
        }
        if self.kept > MAX_KEPT {
            return too_large("members of sets of policies and programs", MAX_KEPT);
        }
        let mut leaves = Vec::with_capacity(classes.len());
        for class in classes {
            let mut toggled = Vec::new();
            for (number, keys) in touched {
                let Some(unit) = asks(*number) else { continue };
                let sight = unit.sights.get(EXE);
                let key = sight.and_then(|sight| {
                    let at = sight.classes.binary_search_by_key(&class, |(class, _)| *class).ok()?;
                    sight.classes.get(at).map(|(_, key)| *key)
                });
                if unit.satisfied(with_exe(*keys, key.unwrap_or(0))) != unit.base() {
                    toggled.push(unit.policy);
                }
            }
            let changed = prepared.exe.binary_search_by_key(&class, |(class, _)| *class).ok().and_then(|at| prepared.exe.get(at));
            for number in changed.into_iter().flat_map(|(_, changed)| changed) {
                if let Some(unit) = asks(*number)
                    && touched.binary_search_by_key(number, |(number, _)| *number).is_err()
                {
                    toggled.push(unit.policy);
                }
            }
            leaves.push((class, toggled));
        }
        let base = prepared.bases.get(kind as usize).copied().unwrap_or_default();
        let default = self.leaf(base, default);
        let mut by_class = Vec::new();
        for (class, toggled) in leaves {
            let leaf = self.leaf(base, toggled);
            if leaf != default {
                by_class.push((class, leaf));
            }
        }
        Ok(if by_class.is_empty() { default } else { self.programs(graph, default, &by_class) })
    }

    /// The decision if these policies are otherwise than in the base.
    fn leaf(&mut self, base: Base, toggled: Vec<u32>) -> u32 {
        let count = |reasons: &Reasons, of: (u32, u32), toggled: &[u32]| {
            // A toggled policy that is in the base is satisfied no longer.
            let removed = toggled.iter().filter(|policy| reasons.holds(of.1, **policy)).count() as u32;
            of.0 + toggled.len() as u32 - 2 * removed
        };
        self.kept += toggled.len();
        let (permits, forbids): (Vec<u32>, Vec<u32>) =
            toggled.into_iter().partition(|policy| self.effect(*policy) == Effect::Permit);
        if count(&self.reasons, base.forbids, &forbids) > 0 {
            LEAF | self.reasons.number(base.forbids.1, forbids)
        } else if count(&self.reasons, base.permits, &permits) > 0 {
            LEAF | LEAF_ALLOW | self.reasons.number(base.permits.1, permits)
        } else {
            DENY
        }
    }

    /// The node that takes the two symbols of a program's class.
    fn programs(&mut self, graph: &mut Graph, default: u32, by_class: &[(u32, u32)]) -> u32 {
        let allows = |leaf: u32| leaf & LEAF_ALLOW != 0;
        let others: Box<[u32]> =
            by_class.iter().filter(|(_, leaf)| allows(*leaf) != allows(default)).map(|(class, _)| *class).collect();
        self.kept += others.len() + 2 * by_class.len();
        let allow_set = self.allow_sets.intern((allows(default), others));
        let mut edges: Vec<(u8, u32)> = Vec::new();
        let mut rest = by_class;
        while let Some((first, _)) = rest.first() {
            let [high, _] = exe_symbols(*first);
            let (group, after) = rest.split_at(rest.partition_point(|(class, _)| exe_symbols(*class)[0] == high));
            let low = group.iter().map(|(class, leaf)| (exe_symbols(*class)[1], *leaf)).collect();
            edges.push((high, graph.intern(0, default, low)));
            rest = after;
        }
        let node = graph.intern(allow_set, default, edges);
        self.grants.insert(node, allow_set);
        node
    }

    /// The state of a row.
    pub(crate) fn state(graph: &mut Graph, row: &Row) -> u32 {
        let default = Graph::best_default(row.iter().copied());
        graph.intern(0, default, (1..).zip(row.iter().copied()).collect())
    }

    /// Which programs a row lets do what; equal for rows that grant alike.
    pub(crate) fn grants(&self, row: &Row) -> Row {
        row.map(|next| match next & LEAF {
            0 => self.grants.get(&next).copied().unwrap_or(0),
            _ => u32::from(next & LEAF_ALLOW != 0),
        })
    }
}

fn with_exe(keys: [u32; 3], exe: u32) -> [u32; DIMENSIONS] {
    let [place, protocol, port] = keys;
    [place, protocol, port, exe]
}

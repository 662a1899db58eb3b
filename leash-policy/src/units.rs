//! Truth tables: for each policy and type of resource, Cedar's answer on each combination of the policy's own atoms.
//!
//! A unit is a policy seen through one [`Variant`] of resource. In each dimension the classes fall into a few *keys*, the sets of
//! the policy's own atoms that hold; key 0 is the empty set. One witness of each combination of keys is evaluated by Cedar, once.

use cedar_policy_core::ast::{Context, EntityUIDEntry, Expr};
use leash_common::kind::{Kind, Protocol};

use crate::alike::Alike;
use crate::atoms::Seen;
use crate::diagnostic::Diagnostic;
use crate::fast::FastMap;
use crate::net::Interval;
use crate::parse::{Policy, Sources, parallel};
use crate::request::Resource;
use crate::text::{Class, Domain};
use crate::world::{World, context, internal, is_true, resource_entity};

/// The dimensions of a request, in the order in which the tables ask for them.
pub(crate) const DIMENSIONS: usize = 4;
/// Path, name or address.
pub(crate) const PLACE: usize = 0;
/// Protocol of an endpoint.
pub(crate) const PROTOCOL: usize = 1;
/// Port of an endpoint.
pub(crate) const PORT: usize = 2;
/// The acting program.
pub(crate) const EXE: usize = 3;

/// The most combinations of one policy's atoms that are evaluated.
const MAX_COMBINATIONS: usize = 1 << 14;
/// Units in which one class may hold an atom, over all classes.
const MAX_TOUCHES: usize = 5_000_000;
/// The most expressions that are evaluated, each as often as its policy is.
const MAX_EVALUATED: usize = 20_000_000;
/// The most bytes of the names of directories above all witnesses, and of those that are held at a time.
const MAX_ABOVE: usize = 256 << 20;
const ABOVE_AT_A_TIME: usize = 16 << 20;
/// Fewer questions than this are answered before threads have begun.
const WORTH_THREADS: usize = 256;
/// Units of which the witnesses are held at a time.
const UNITS_AT_A_TIME: usize = 1 << 13;
/// An atom that holds in more classes than this is looked at last, see `keys`.
const COMMON: usize = 64;

/// A type of resource together with the part of the tables that decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    File,
    Dir,
    UnixPath,
    UnixAbstract,
    Socket,
    Ipv4,
    Ipv6,
}

impl Variant {
    pub(crate) const ALL: [Self; 7] =
        [Self::File, Self::Dir, Self::UnixPath, Self::UnixAbstract, Self::Socket, Self::Ipv4, Self::Ipv6];

    /// The questions that are asked of such resources.
    pub(crate) fn kinds(self) -> impl Iterator<Item = Kind> {
        use leash_common::kind::ResourceType as Type;
        Kind::ALL.into_iter().filter(move |kind| {
            kind.resource_type()
                == match self {
                    Self::File => Type::File,
                    Self::Dir => Type::Dir,
                    Self::UnixPath | Self::UnixAbstract => Type::UnixSocket,
                    Self::Socket => Type::Socket,
                    Self::Ipv4 | Self::Ipv6 => Type::Endpoint,
                }
        })
    }

    /// The texts that name such resources, if texts do.
    pub(crate) fn domain(self) -> Option<Domain> {
        match self {
            Self::File | Self::Dir | Self::UnixPath => Some(Domain::Path),
            Self::UnixAbstract => Some(Domain::Abstract),
            Self::Socket => Some(Domain::Socket),
            Self::Ipv4 | Self::Ipv6 => None,
        }
    }
}

/// The classes of each dimension.
pub(crate) struct Classes<'a> {
    pub(crate) text: &'a [Class],
    pub(crate) exe: &'a [Class],
    pub(crate) ipv4: &'a [Interval],
    pub(crate) ipv6: &'a [Interval],
    pub(crate) ports: &'a [Interval],
}

/// The classes of one dimension that one variant can meet.
struct Reach {
    /// The classes.
    classes: Vec<u32>,
    /// For each atom the classes that hold it, sorted, and how many of the classes come before the first that doesn't.
    by_atom: FastMap<u32, (Vec<u32>, usize)>,
}

impl Reach {
    fn new<'c>(classes: impl Iterator<Item = (u32, &'c [u32])>) -> Self {
        let mut reach = Self { classes: Vec::new(), by_atom: FastMap::default() };
        for (class, atoms) in classes {
            reach.classes.push(class);
            for atom in atoms {
                reach.by_atom.entry(*atom).or_default().0.push(class);
            }
        }
        for (holding, first) in reach.by_atom.values_mut() {
            *first = holding.iter().zip(&reach.classes).take_while(|(holding, class)| holding == class).count();
        }
        reach
    }

    fn holding(&self, atom: u32) -> &[u32] {
        self.by_atom.get(&atom).map_or(&[], |(holding, _)| holding)
    }

    /// The classes from the first one on that doesn't hold the atom.
    fn first_without_and_on(&self, atom: u32) -> &[u32] {
        let first = self.by_atom.get(&atom).map_or(0, |(_, first)| *first);
        self.classes.get(first..).unwrap_or_default()
    }
}

/// How a unit sees one dimension.
#[derive(Debug)]
pub(crate) struct Sight {
    /// The witness class of each key, `None` where key 0 holds for no class.
    witnesses: Vec<Option<u32>>,
    /// Classes with another key than 0, sorted, with their key.
    pub(crate) classes: Vec<(u32, u32)>,
    /// The most common atom, if it is looked at last. Classes that hold it alone have key 1.
    common: Option<u32>,
}

/// A policy through one variant.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) policy: u32,
    /// The kinds that it answers for, a bit a kind.
    pub(crate) kinds: u32,
    pub(crate) sights: [Sight; DIMENSIONS],
    /// Whether the policy is satisfied, for each combination of keys.
    table: Vec<bool>,
}

impl Unit {
    /// Place in the table of a combination of keys.
    fn index(&self, keys: [u32; DIMENSIONS]) -> usize {
        let mut index = 0;
        for (sight, key) in self.sights.iter().zip(keys) {
            index = index * sight.witnesses.len() + key as usize;
        }
        index
    }

    /// Whether the policy is satisfied under these keys.
    pub(crate) fn satisfied(&self, keys: [u32; DIMENSIONS]) -> bool {
        self.table.get(self.index(keys)).copied().unwrap_or(false)
    }

    /// Whether it is satisfied where none of its atoms hold.
    pub(crate) fn base(&self) -> bool {
        self.table.first().copied().unwrap_or(false)
    }

    /// The number of keys in a dimension.
    pub(crate) fn keys(&self, dimension: usize) -> u32 {
        self.sights.get(dimension).map_or(1, |sight| sight.witnesses.len() as u32)
    }

    /// Whether, after `keys` for the dimensions before `dimension`, the keys `a` and `b` of this dimension can differ.
    fn differ(&self, dimension: usize, keys: [u32; DIMENSIONS], a: u32, b: u32) -> bool {
        let with = |key: u32| {
            let mut keys = keys;
            if let Some(place) = keys.get_mut(dimension) {
                *place = key;
            }
            for place in keys.iter_mut().skip(dimension + 1) {
                *place = 0;
            }
            let rest: usize = self.sights.iter().skip(dimension + 1).map(|sight| sight.witnesses.len()).product();
            let start = self.index(keys);
            self.table.get(start..start + rest)
        };
        with(a) != with(b)
    }

    /// Whether anything after `dimension` can differ from where `keys` is all zero, if this dimension has `key`.
    pub(crate) fn matters(&self, dimension: usize, keys: [u32; DIMENSIONS], key: u32) -> bool {
        self.differ(dimension, keys, 0, key)
    }
}

/// All units of one variant.
pub(crate) struct Units {
    pub(crate) variant: Variant,
    pub(crate) units: Vec<Unit>,
}

/// Builds and evaluates all units.
#[expect(clippy::too_many_arguments, reason = "one caller, and each is a different part of what was parsed")]
pub(crate) fn units(
    world: &World,
    sources: &Sources,
    policies: &[Policy],
    seen: &[Seen],
    conditions: &[Expr],
    classes: &Classes,
    alike: &Alike,
    faults: &mut Vec<Diagnostic>,
) -> Vec<Units> {
    let contexts: Vec<Context> = classes.exe.iter().map(|class| context(&class.witness)).collect();
    let exe = classes.exe.iter().enumerate().filter(|(_, class)| class.domain == Domain::Path);
    let exe = Reach::new(exe.map(|(number, class)| (number as u32, &*class.atoms)));
    let ports = Reach::new(numbered(classes.ports));
    let mut all = Vec::new();
    let mut touches = 0;
    let mut spent = 0;
    for variant in Variant::ALL {
        let place = match variant.domain() {
            Some(domain) => {
                let own = classes.text.iter().enumerate().filter(|(_, class)| class.domain == domain);
                Reach::new(own.map(|(number, class)| (number as u32, &*class.atoms)))
            }
            None if variant == Variant::Ipv4 => Reach::new(numbered(classes.ipv4)),
            None => Reach::new(numbered(classes.ipv6)),
        };
        let mut units = Vec::new();
        let free = variant.domain().map_or_else(FastMap::default, |domain| free_of_groups(classes, alike, domain));
        for (number, seen) in seen.iter().enumerate() {
            let kinds = variant.kinds().filter(|kind| seen.admits(*kind)).fold(0, |kinds, kind| kinds | kind.bit());
            let groups: Vec<u32> = match seen.action {
                true => variant.kinds().map(Kind::bit).filter(|bit| kinds & bit != 0).collect(),
                false => Some(kinds).filter(|kinds| *kinds != 0).into_iter().collect(),
            };
            for kinds in groups {
                let endpoint = variant.domain().is_none();
                let atoms = if endpoint { &seen.ip } else { &seen.text };
                let mut place = sight(&place, atoms);
                if let (Some(_), Some(atom), Some(none)) = (alike.slot(number), atoms.first(), place.witnesses.first_mut()) {
                    // A class without this atom can hold another one of its group, and then says nothing about this one.
                    *none = free.get(&alike.group(*atom)).copied();
                }
                let sights = [
                    place,
                    if endpoint && seen.protocol { Sight::protocols() } else { Sight::blind() },
                    if endpoint { sight(&ports, &seen.port) } else { Sight::blind() },
                    sight(&exe, &seen.exe),
                ];
                touches += sights.iter().map(|sight| sight.classes.len()).sum::<usize>();
                if touches > MAX_TOUCHES {
                    faults.push(too_many(sources, policies.get(number), too_many_touches()));
                    return Vec::new();
                }
                units.push(Unit { policy: number as u32, kinds, sights, table: Vec::new() });
            }
        }
        let reaches = [Some(&place), None, Some(&ports), Some(&exe)];
        let evaluation =
            Evaluation { world, sources, policies, conditions, contexts: &contexts, classes, alike, variant, reaches };
        match evaluation.run(&mut units, &mut spent, faults) {
            Ok(()) => all.push(Units { variant, units }),
            Err(fault) => faults.push(fault),
        }
    }
    all
}

fn too_many_touches() -> String {
    format!("the policies' conditions meet in too many places; {MAX_TOUCHES} pairs of a policy and a class are the limit")
}

fn too_many(sources: &Sources, policy: Option<&Policy>, message: String) -> Diagnostic {
    let help = "join policies that differ in few conditions, or use disjoint conditions";
    match policy {
        Some(policy) => {
            let message = format!("{message}, reached in `{}`", policy.reference.id);
            sources.complain(policy.place, policy.ast.loc(), message, "this policy").help(help)
        }
        None => internal(message),
    }
}

/// The bytes of all names of directories above a resource.
fn directories_above(resource: &Resource) -> usize {
    match resource {
        Resource::File { path } | Resource::Dir { path } => path.match_indices('/').map(|(at, _)| at + 64).sum(),
        _ => 64,
    }
}

fn numbered(intervals: &[Interval]) -> impl Iterator<Item = (u32, &[u32])> {
    intervals.iter().enumerate().map(|(number, interval)| (number as u32, &*interval.atoms))
}

impl Sight {
    /// A dimension that the policy doesn't see.
    fn blind() -> Self {
        Self { witnesses: vec![Some(0)], classes: Vec::new(), common: None }
    }

    /// The protocols, each a class and, after the key 0 that none has, a key.
    fn protocols() -> Self {
        let classes: Vec<u32> = Protocol::ALL.iter().map(|protocol| *protocol as u32).collect();
        Self {
            witnesses: [None].into_iter().chain(classes.iter().map(|class| Some(*class))).collect(),
            classes: classes.iter().map(|class| (*class, class + 1)).collect(),
            common: None,
        }
    }
}

/// How a policy with these atoms sees a dimension.
///
/// An atom that very many classes hold, such as `resource in Dir::"/home"` above thousands of other patterns, usually decides
/// nothing by itself. Its classes are kept apart in `common`, and are forgotten if they turn out to be like key 0.
fn sight(reach: &Reach, atoms: &[u32]) -> Sight {
    let largest = atoms.iter().max_by_key(|atom| reach.holding(**atom).len()).copied();
    let common = largest.filter(|atom| atoms.len() > 1 && reach.holding(*atom).len() > COMMON);
    let mut masks: FastMap<u32, u64> = FastMap::default();
    for (bit, atom) in atoms.iter().enumerate().filter(|(_, atom)| Some(**atom) != common) {
        for class in reach.holding(*atom) {
            *masks.entry(*class).or_insert(0) |= 1 << bit;
        }
    }
    let held = common.map_or(&[][..], |atom| reach.holding(atom));
    if let Some(bit) = common.and_then(|common| atoms.iter().position(|atom| *atom == common)) {
        for (class, mask) in &mut masks {
            if held.binary_search(class).is_ok() {
                *mask |= 1 << bit;
            }
        }
    }
    let alone = held.iter().copied().find(|class| !masks.contains_key(class));
    let candidates = common.map_or(&*reach.classes, |common| reach.first_without_and_on(common));
    let none = candidates.iter().copied().find(|class| !masks.contains_key(class) && held.binary_search(class).is_err());
    let mut witnesses = vec![none];
    if alone.is_some() {
        witnesses.push(alone);
    }
    let mut masks: Vec<(u32, u64)> = masks.into_iter().collect();
    masks.sort_unstable();
    let mut keys: FastMap<u64, u32> = FastMap::default();
    let mut classes = Vec::with_capacity(masks.len());
    for (class, mask) in masks {
        let new = witnesses.len() as u32;
        let key = *keys.entry(mask).or_insert(new);
        if key == new {
            witnesses.push(Some(class));
        }
        classes.push((class, key));
    }
    Sight { witnesses, classes, common: common.filter(|_| alone.is_some()) }
}

/// For each group the first class of a domain in which no atom of it is true, nor one that absorbs it.
fn free_of_groups(classes: &Classes, alike: &Alike, domain: Domain) -> FastMap<u32, u32> {
    let mut free = FastMap::default();
    if alike.slots.is_empty() {
        return free;
    }
    let mut missing = alike.groups.clone();
    missing.sort_unstable();
    missing.dedup();
    for (number, class) in (0..).zip(classes.text).filter(|(_, class)| class.domain == domain) {
        let held: FastMap<u32, ()> =
            class.atoms.iter().flat_map(|atom| alike.absorbed(alike.group(*atom))).map(|group| (*group, ())).collect();
        missing.retain(|group| {
            let held = held.contains_key(group);
            if !held {
                free.insert(*group, number);
            }
            held
        });
        if missing.is_empty() {
            break;
        }
    }
    free
}

/// The first unit that cannot stand for the others of its slot: Cedar's answers differ, or grow fewer where its pattern matches, or
/// aren't what the pattern alone makes them, or what they are where no pattern of the group matches isn't known.
fn unlike<'u>(alike: &Alike, units: &'u [Unit]) -> Option<&'u Unit> {
    // For each slot and its kinds, Cedar's answers without a match, and with one.
    type Answers<'u> = (&'u [bool], Option<&'u [bool]>);
    let mut known: FastMap<(u32, u32), Answers> = FastMap::default();
    for unit in units {
        let Some(slot) = alike.slot(unit.policy as usize) else { continue };
        let Some(sight) = unit.sights.first() else { continue };
        let half = unit.table.len() / sight.witnesses.len().max(1);
        let without = unit.table.get(..half).unwrap_or_default();
        // No text of this domain matches where there is one key only.
        let with = (sight.witnesses.len() > 1).then(|| unit.table.get(half..).unwrap_or_default());
        let fits = match alike.plain(slot) {
            // By its form such a policy can't be satisfied without a match, so that no witness need say it.
            Some(kinds) => {
                let wanted = unit.kinds & kinds != 0;
                let whole = !wanted || unit.kinds & !kinds == 0;
                whole && !without.contains(&true) && with.is_none_or(|with| with.iter().all(|with| *with == wanted))
            }
            None => {
                let shrinks = with.is_some_and(|with| without.iter().zip(with).any(|(without, with)| without > with));
                !shrinks && sight.witnesses.first() != Some(&None)
            }
        };
        if !fits {
            return Some(unit);
        }
        let entry = known.entry((slot, unit.kinds)).or_insert((without, with));
        if entry.0 != without || entry.1.is_some() && with.is_some() && entry.1 != with {
            return Some(unit);
        }
        entry.1 = entry.1.or(with);
    }
    None
}

struct Evaluation<'a> {
    world: &'a World,
    sources: &'a Sources,
    policies: &'a [Policy],
    conditions: &'a [Expr],
    contexts: &'a [Context],
    classes: &'a Classes<'a>,
    alike: &'a Alike,
    variant: Variant,
    /// The classes of each dimension.
    reaches: [Option<&'a Reach>; DIMENSIONS],
}

/// The witness classes of a resource: place, protocol, port.
type Witness = [u32; 3];

impl Evaluation<'_> {
    fn run(&self, units: &mut Vec<Unit>, spent: &mut usize, faults: &mut Vec<Diagnostic>) -> Result<(), Diagnostic> {
        let mut evaluated = Vec::with_capacity(units.len());
        let mut above = 0;
        let mut rest = std::mem::take(units).into_iter().peekable();
        // The witnesses of all units together can be long paths, each with all the directories above it, so few are held at a time.
        while rest.peek().is_some() {
            let mut resources: FastMap<Witness, EntityUIDEntry> = FastMap::default();
            let mut entities = Vec::new();
            let mut questions = 0_usize;
            let mut some = Vec::new();
            let most = above + ABOVE_AT_A_TIME;
            while let Some(unit) = rest.next_if(|_| above < most && some.len() < UNITS_AT_A_TIME) {
                let policy = self.policies.get(unit.policy as usize);
                let combinations: usize = unit.sights.iter().map(|sight| sight.witnesses.len()).product();
                if combinations > MAX_COMBINATIONS {
                    let what =
                        format!("this policy's conditions hold in {combinations} combinations; {MAX_COMBINATIONS} is the limit");
                    return Err(too_many(self.sources, policy, what));
                }
                questions += combinations;
                let size = self.conditions.get(unit.policy as usize).map_or(0, |condition| condition.subexpressions().count());
                *spent += combinations * size;
                if *spent > MAX_EVALUATED {
                    let what = format!(
                        "the policies' conditions hold in too many combinations; {MAX_EVALUATED} evaluated expressions are the limit"
                    );
                    return Err(too_many(self.sources, policy, what));
                }
                for [place, protocol, port, exe] in combine(&unit) {
                    if let (Some(witness), 0) = (witness(&unit, [place, protocol, port]), exe)
                        && !resources.contains_key(&witness)
                    {
                        let resource = self.resource(witness)?;
                        above += directories_above(&resource);
                        let entity = resource_entity(&resource)?;
                        resources.insert(witness, EntityUIDEntry::known(entity.uid().clone(), None));
                        entities.push(entity);
                    }
                }
                if above > MAX_ABOVE {
                    let what = format!(
                        "the policies' paths are too deep: the directories above them have more than {MAX_ABOVE} bytes together"
                    );
                    return Err(too_many(self.sources, policy, what));
                }
                some.push(unit);
            }
            let entities = self.world.with_resources(entities)?;
            let table = |unit: &Unit| {
                combine(unit).map(|keys| self.one(unit, keys, &entities, &resources)).collect::<Result<Vec<bool>, Diagnostic>>()
            };
            let tables = if questions < WORTH_THREADS { some.iter().map(table).collect() } else { parallel(&some, table) };
            for (mut unit, table) in some.into_iter().zip(tables) {
                match table {
                    Ok(table) => unit.table = table,
                    Err(fault) => {
                        faults.push(fault);
                        continue;
                    }
                }
                evaluated.push(unit);
            }
        }
        let mut kept = Vec::with_capacity(evaluated.len());
        let mut touches = 0;
        if let Some(unit) = unlike(self.alike, &evaluated) {
            return Err(self.cannot_share(unit));
        }
        for mut unit in evaluated {
            // A policy that is never satisfied here decides nothing here.
            if unit.table.contains(&true) {
                touches += unit.settle_common(&self.reaches);
                if touches > MAX_TOUCHES {
                    return Err(too_many(self.sources, self.policies.get(unit.policy as usize), too_many_touches()));
                }
                kept.push(unit);
            }
        }
        *units = kept;
        Ok(())
    }

    fn cannot_share(&self, unit: &Unit) -> Diagnostic {
        let message =
            "the patterns for paths multiply to too many states, and this policy cannot stand for the others of its form";
        let help = "join policies of this form with `||` in one policy, or begin their patterns with a directory instead of `*`";
        match self.policies.get(unit.policy as usize) {
            Some(policy) => self.sources.complain(policy.place, policy.ast.loc(), message, "this policy").help(help),
            None => internal(message),
        }
    }

    fn one(
        &self,
        unit: &Unit,
        keys: [u32; DIMENSIONS],
        entities: &cedar_policy_core::entities::Entities,
        resources: &FastMap<Witness, EntityUIDEntry>,
    ) -> Result<bool, Diagnostic> {
        let [place, protocol, port, exe] = keys;
        // A combination that no request has.
        let Some(witness) = witness(unit, [place, protocol, port]) else { return Ok(false) };
        let Some(exe) = unit.sights.get(EXE).and_then(|sight| sight.witnesses.get(exe as usize).copied().flatten()) else {
            return Ok(false);
        };
        let kind = self.variant.kinds().find(|kind| unit.kinds & kind.bit() != 0);
        let (Some(kind), Some(resource), Some(condition), Some(context)) =
            (kind, resources.get(&witness), self.conditions.get(unit.policy as usize), self.contexts.get(exe as usize))
        else {
            return Err(internal("a witness is missing"));
        };
        match self.world.evaluate(entities, condition, kind, resource, context) {
            Ok(value) => Ok(is_true(&value)),
            Err(fault) => Err(self.skipped(unit, kind, witness, &fault)),
        }
    }

    fn skipped(&self, unit: &Unit, kind: Kind, witness: Witness, fault: &str) -> Diagnostic {
        let Some(policy) = self.policies.get(unit.policy as usize) else { return internal(fault) };
        let on = self.resource(witness).map_or_else(|_| String::new(), |resource| format!(" on `{}`", resource.id()));
        let message = format!("policy `{}` fails for {}{on}: {fault}", policy.reference.id, kind.action());
        let help = "Cedar skips a policy that fails, even a forbid; write it so that it cannot fail";
        self.sources.complain(policy.place, policy.ast.loc(), message, "fails when it is evaluated").help(help)
    }

    /// The resource that stands for its classes.
    fn resource(&self, [place, protocol, port]: Witness) -> Result<Resource, Diagnostic> {
        let text = || {
            let class = self.classes.text.get(place as usize).ok_or_else(|| internal("a class is missing"))?;
            Ok(class.witness.clone())
        };
        Ok(match self.variant {
            Variant::File => Resource::File { path: text()? },
            Variant::Dir => Resource::Dir { path: text()? },
            Variant::UnixPath | Variant::UnixAbstract => Resource::UnixSocket { path: text()? },
            Variant::Socket => Resource::Socket { name: text()? },
            Variant::Ipv4 | Variant::Ipv6 => {
                let intervals = if self.variant == Variant::Ipv4 { self.classes.ipv4 } else { self.classes.ipv6 };
                let missing = || internal("an interval is missing");
                let address = intervals.get(place as usize).ok_or_else(missing)?.low;
                let port = self.classes.ports.get(port as usize).ok_or_else(missing)?.low as u16;
                let ip = if self.variant == Variant::Ipv4 {
                    std::net::IpAddr::V4((address as u32).into())
                } else {
                    std::net::IpAddr::V6(address.into())
                };
                Resource::Endpoint { ip, port, protocol: Protocol::from_number(protocol as u8).name().to_owned() }
            }
        })
    }
}

/// All combinations of a unit's keys, in the order of its table.
fn combine(unit: &Unit) -> impl Iterator<Item = [u32; DIMENSIONS]> {
    let [places, protocols, ports, exes] = [PLACE, PROTOCOL, PORT, EXE].map(|dimension| unit.keys(dimension));
    (0..places).flat_map(move |place| {
        (0..protocols)
            .flat_map(move |protocol| (0..ports).flat_map(move |port| (0..exes).map(move |exe| [place, protocol, port, exe])))
    })
}

/// The witness classes for keys of the resource's dimensions.
fn witness(unit: &Unit, keys: [u32; 3]) -> Option<Witness> {
    let mut witness = [0; 3];
    for ((to, sight), key) in witness.iter_mut().zip(&unit.sights).zip(keys) {
        *to = sight.witnesses.get(key as usize).copied().flatten()?;
    }
    Some(witness)
}

impl Unit {
    /// Forgets the classes of the common atom alone where they are like key 0, and else lists them with the others. Returns how
    /// many were listed.
    fn settle_common(&mut self, reaches: &[Option<&Reach>; DIMENSIONS]) -> usize {
        let mut listed = 0;
        for (dimension, reach) in reaches.iter().enumerate() {
            let Some((reach, common)) = reach.zip(self.sights.get(dimension).and_then(|sight| sight.common)) else { continue };
            let mut differs = false;
            for keys in combine(self).filter(|keys| keys.get(dimension) == Some(&1)) {
                let mut zero = keys;
                if let Some(key) = zero.get_mut(dimension) {
                    *key = 0;
                }
                differs |= self.satisfied(keys) != self.satisfied(zero);
            }
            if let Some(sight) = self.sights.get_mut(dimension).filter(|_| differs) {
                let others = &sight.classes;
                let alone = |class: &u32| others.binary_search_by_key(class, |(class, _)| *class).is_err();
                let more: Vec<(u32, u32)> = reach.holding(common).iter().copied().filter(alone).map(|class| (class, 1)).collect();
                listed += more.len();
                sight.classes.extend(more);
                sight.classes.sort_unstable();
            }
        }
        listed
    }
}

//! Classes of addresses and ports: the intervals between the ends of all ranges.

use crate::atoms::{IpRange, PortRange};

/// Values that are in the same ranges of the policies, side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    /// The first value; also the witness.
    pub(crate) low: u128,
    /// The last value.
    pub(crate) high: u128,
    /// The atoms that hold it, sorted.
    pub(crate) atoms: Box<[u32]>,
}

/// The most atoms in all intervals together.
pub(crate) const MAX_MEMBERS: usize = 4_000_000;

/// There are more than [`MAX_MEMBERS`]; some of the atoms that overlap.
#[derive(Debug)]
pub(crate) struct TooMany(pub(crate) Vec<u32>);

/// Intervals of addresses of one family, in order, without gaps.
pub(crate) fn addresses(atoms: &[Vec<IpRange>], v6: bool) -> Result<Vec<Interval>, TooMany> {
    let last = if v6 { u128::MAX } else { u32::MAX.into() };
    let ranges = atoms.iter().enumerate().flat_map(|(atom, ranges)| {
        ranges.iter().filter(|range| range.v6 == v6).map(move |range| (range.low, range.high, atom as u32))
    });
    intervals(ranges, last)
}

/// Intervals of ports, likewise.
pub(crate) fn ports(atoms: &[Vec<PortRange>]) -> Result<Vec<Interval>, TooMany> {
    let ranges = atoms
        .iter()
        .enumerate()
        .flat_map(|(atom, ranges)| ranges.iter().map(move |range| (range.low.into(), range.high.into(), atom as u32)));
    intervals(ranges, u16::MAX.into())
}

/// Sweeps over the ends of the ranges.
fn intervals(ranges: impl Iterator<Item = (u128, u128, u32)>, last: u128) -> Result<Vec<Interval>, TooMany> {
    // Where a range begins (true) or has ended (false).
    let mut ends: Vec<(u128, bool, u32)> = Vec::new();
    for (low, high, atom) in ranges {
        ends.push((low, true, atom));
        if high < last {
            ends.push((high + 1, false, atom));
        }
    }
    ends.sort_unstable();
    let mut intervals: Vec<Interval> = Vec::new();
    // How many ranges of an atom are open; an atom can hold overlapping ones.
    let mut open: std::collections::BTreeMap<u32, u32> = std::collections::BTreeMap::new();
    let mut low = 0;
    let mut members = 0;
    let mut emit = |low: u128, high: u128, open: &std::collections::BTreeMap<u32, u32>| {
        let atoms: Box<[u32]> = open.keys().copied().collect();
        members += atoms.len();
        if members > MAX_MEMBERS {
            return Err(TooMany(atoms.into_iter().take(5).collect()));
        }
        match intervals.last_mut() {
            Some(before) if before.atoms == atoms => before.high = high,
            _ => intervals.push(Interval { low, high, atoms }),
        }
        Ok(())
    };
    for (at, begins, atom) in ends {
        if at > low {
            emit(low, at - 1, &open)?;
            low = at;
        }
        if begins {
            *open.entry(atom).or_insert(0) += 1;
        } else if let Some(count) = open.get_mut(&atom) {
            *count -= 1;
            if *count == 0 {
                open.remove(&atom);
            }
        }
    }
    emit(low, last, &open)?;
    Ok(intervals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(ranges: &[(u128, u128, u32)]) -> Vec<(u128, u128, Vec<u32>)> {
        intervals(ranges.iter().copied(), 100)
            .unwrap_or_default()
            .into_iter()
            .map(|i| (i.low, i.high, i.atoms.to_vec()))
            .collect()
    }

    #[test]
    fn ranges_cut_the_line_into_intervals() {
        assert_eq!(swept(&[]), [(0, 100, vec![])]);
        assert_eq!(swept(&[(0, 100, 3)]), [(0, 100, vec![3])]);
        assert_eq!(
            swept(&[(10, 20, 0), (15, 30, 1), (30, 30, 2)]),
            [(0, 9, vec![]), (10, 14, vec![0]), (15, 20, vec![0, 1]), (21, 29, vec![1]), (30, 30, vec![1, 2]), (31, 100, vec![])]
        );
    }

    #[test]
    fn overlapping_ranges_of_one_atom_are_one() {
        assert_eq!(swept(&[(10, 20, 0), (15, 30, 0), (31, 40, 0)]), [(0, 9, vec![]), (10, 40, vec![0]), (41, 100, vec![])]);
    }
}

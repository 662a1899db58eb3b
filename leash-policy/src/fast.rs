//! A quick hasher for the compiler's own integer keys. They come from interning, not from outside, so no defence against
//! chosen keys is needed.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A map with the quick hasher.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiplies and rotates, as rustc's own hasher does.
#[derive(Default)]
pub(crate) struct FastHasher(u64);

impl FastHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        // The map takes its buckets from the low bits, where a product has the least entropy.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.add(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, value: u8) {
        self.add(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.add(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }
}

/// Gives equal values equal, small numbers.
pub(crate) struct Interner<T> {
    numbers: HashTable<u32>,
    values: Vec<T>,
}

impl<T: Eq + Hash> Interner<T> {
    pub(crate) fn new() -> Self {
        Self { numbers: HashTable::new(), values: Vec::new() }
    }

    /// The number of `value`.
    pub(crate) fn intern(&mut self, value: T) -> u32 {
        let hash = |value: &T| BuildHasherDefault::<FastHasher>::default().hash_one(value);
        let values = &self.values;
        let equal = |number: &u32| values.get(*number as usize) == Some(&value);
        match self.numbers.entry(hash(&value), equal, |number| values.get(*number as usize).map_or(0, hash)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let number = values.len() as u32;
                place.insert(number);
                self.values.push(value);
                number
            }
        }
    }

    /// The value with this number.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn into_values(self) -> Vec<T> {
        self.values
    }
}

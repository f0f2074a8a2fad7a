//! A bounded map of what was touched lately. No I/O, no clock.
//!
//! Two generations: what is touched is young; when the young are as many as the limit, they are the old, and the old ones before
//! them are forgotten and counted. So it holds at most twice the limit, forgets only what was not touched while as many others
//! were, and never looks through all.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module.
#[derive(Clone, Debug)]
pub struct Recent<K, V> {
    limit: usize,
    young: HashMap<K, V, foldhash::fast::RandomState>,
    old: HashMap<K, V, foldhash::fast::RandomState>,
    forgotten: u64,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// An empty one whose generations have at most `limit` entries each.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, young: HashMap::default(), old: HashMap::default(), forgotten: 0 }
    }

    /// The entry of `key`, begun by `new` if there is none, and young from here on.
    pub fn touch(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_else(new);
            if self.young.len() >= self.limit {
                self.forgotten += self.old.len() as u64;
                self.old = std::mem::take(&mut self.young);
            }
            return self.young.entry(key).or_insert(value);
        }
        self.young.get_mut(&key).expect("it is there")
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    /// Entries that found no room, ever.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests;

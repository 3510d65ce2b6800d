//! Maps that give room back.
//!
//! A map grows with what is put into it and does not shrink by itself. Clients say how much they hold
//! at a time, and what that took must not stay for as long as the map does.

use core::fmt::Debug;
use core::hash::{BuildHasher, Hash};
use core::ops::Deref;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::RandomState;

/// Room for so many is not worth the work.
const LEAST: usize = 64;

/// A map that has room for four times of what is in it at the most, or for a few.
#[derive(Debug)]
pub(super) struct Shrinking<K, V, H = RandomState> {
    map: HashMap<K, V, H>,
    /// How many there is room for, or rather have been: how much a map has room for beyond what is in it
    /// is not what its capacity says, when something has been taken out.
    room: usize,
}

impl<K, V, H: Default> Default for Shrinking<K, V, H> {
    fn default() -> Shrinking<K, V, H> {
        Shrinking {
            map: HashMap::default(),
            room: 0,
        }
    }
}

/// As long as nothing is put in or taken out it is as any map.
impl<K, V, H> Deref for Shrinking<K, V, H> {
    type Target = HashMap<K, V, H>;

    fn deref(&self) -> &HashMap<K, V, H> {
        &self.map
    }
}

impl<K: Eq + Hash, V, H: BuildHasher> Shrinking<K, V, H> {
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let replaced = self.map.insert(key, value);
        self.room = self.room.max(self.map.len());
        replaced
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let removed = self.map.remove(key);
        let len = self.map.len();
        if self.room > LEAST && len < self.room / 4 {
            // As many as are left have to come, or half of them to go, before all is moved again.
            self.room = 2 * len;
            self.map.shrink_to(self.room);
        }
        removed
    }

    pub(super) fn into_map(self) -> HashMap<K, V, H> {
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(count: usize) -> Shrinking<usize, ()> {
        let mut map = Shrinking::default();
        for key in 0..count {
            map.insert(key, ());
        }
        map
    }

    #[test]
    fn what_many_needed_is_given_back_in_few_moves() {
        for count in [100, 1000, 100_000] {
            let (mut map, mut moves) = (full(count), 0);
            assert!(map.capacity() >= count);
            for key in 0..count {
                let before = map.room;
                map.remove(&key);
                if map.room != before {
                    moves += 1;
                    // Nothing has been taken out since it was moved, so this is what it takes.
                    assert!(map.capacity() <= LEAST.max(4 * map.len()));
                }
                assert!(map.room <= LEAST.max(4 * map.len() + 3));
            }
            let most = count.ilog2() + 1;
            assert!((1..=most).contains(&moves), "{moves} for {count}");
            assert!(map.is_empty() && map.capacity() <= 2 * LEAST);
        }
    }

    #[test]
    fn what_comes_and_goes_moves_nothing() {
        for count in [1, LEAST, 1000] {
            let mut map = full(count);
            let (room, capacity) = (map.room, map.capacity());
            for key in 0..=count / 2 {
                map.remove(&key);
            }
            for key in count..10 * count {
                map.insert(key, ());
                map.remove(&key);
            }
            assert_eq!(map.room, room);
            assert!(map.capacity() <= capacity);
        }
    }
}

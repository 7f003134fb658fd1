//! A bounded map that forgets what was touched longest ago.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Values by key with the time of their last change: at most `capacity`, none older than
/// `lifetime`. Ordered maps: the same inputs forget the same entries.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    capacity: usize,
    lifetime: Duration,
    entries: BTreeMap<K, (Duration, V)>,
    // Invariant: the same keys as `entries`, each with its time.
    by_age: BTreeSet<(Duration, K)>,
}

impl<K: Ord + Copy, V> Recent<K, V> {
    pub(super) fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { capacity, lifetime, entries: BTreeMap::new(), by_age: BTreeSet::new() }
    }

    /// The value, unless it is too old by now.
    pub(super) fn get(&self, now: Duration, key: &K) -> Option<&V> {
        self.entries
            .get(key)
            .filter(|(changed, _)| now.saturating_sub(*changed) < self.lifetime)
            .map(|(_, value)| value)
    }

    /// Sets the value, and forgets what is too old or too much.
    pub(super) fn put(&mut self, now: Duration, key: K, value: V) {
        if let Some((changed, _)) = self.entries.insert(key, (now, value)) {
            self.by_age.remove(&(changed, key));
        }
        self.by_age.insert((now, key));
        while let Some(&(changed, oldest)) = self.by_age.first() {
            let expired = now.saturating_sub(changed) >= self.lifetime;
            if !expired && self.entries.len() <= self.capacity {
                break;
            }
            self.by_age.remove(&(changed, oldest));
            self.entries.remove(&oldest);
        }
    }

    /// The value, to be changed without becoming younger.
    pub(super) fn get_mut(&mut self, now: Duration, key: &K) -> Option<&mut V> {
        self.entries
            .get_mut(key)
            .filter(|(changed, _)| now.saturating_sub(*changed) < self.lifetime)
            .map(|(_, value)| value)
    }

    /// Forgets the key.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (changed, value) = self.entries.remove(key)?;
        self.by_age.remove(&(changed, *key));
        Some(value)
    }

    /// Whether any key in the range has a value that is not too old.
    pub(super) fn any(&self, now: Duration, range: RangeInclusive<K>) -> bool {
        self.entries.range(range).any(|(_, (changed, _))| now.saturating_sub(*changed) < self.lifetime)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.entries.len(), self.by_age.len());
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut recent = Recent::new(2, 100 * SECOND);
        recent.put(SECOND, 'a', 1);
        recent.put(2 * SECOND, 'b', 2);
        recent.put(3 * SECOND, 'a', 3);
        recent.put(4 * SECOND, 'c', 4);
        let now = 5 * SECOND;
        assert_eq!(
            (recent.get(now, &'a'), recent.get(now, &'b'), recent.get(now, &'c')),
            (Some(&3), None, Some(&4))
        );
        assert_eq!(recent.len(), 2);
    }

    #[test]
    fn nothing_outlives_its_time() {
        let mut recent = Recent::new(10, 10 * SECOND);
        recent.put(SECOND, 'a', 1);
        assert!(recent.get(10 * SECOND, &'a').is_some());
        assert!(recent.get(11 * SECOND, &'a').is_none() && !recent.any(11 * SECOND, 'a'..='z'));
        recent.put(11 * SECOND, 'b', 2);
        assert_eq!(recent.len(), 1);
    }
}

//! Which refusals of listens are told: of one address, and of one worker, one in a second, with the number of the others. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Addresses that are told of in that time; a worker may ask for any number.
const ADDRESSES: usize = 64;
/// Of an address so much is kept.
const KEY_MAX: usize = 256;

/// When each address's refusals were last told.
#[derive(Default)]
pub(crate) struct Refused {
    told: HashMap<String, (Instant, u32)>,
    /// Those of whose addresses nothing is known.
    others: u32,
}

impl Refused {
    /// Notes one; how many were not told before it, if it is to be told.
    pub(crate) fn note(&mut self, address: &str, now: Instant) -> Option<u32> {
        let key: String = address.chars().take(KEY_MAX).collect();
        if let Some((told, untold)) = self.told.get_mut(&key) {
            if now.saturating_duration_since(*told) < TELL_AGAIN {
                *untold = untold.saturating_add(1);
                return None;
            }
            *told = now;
            return Some(std::mem::take(untold));
        }
        if self.told.len() >= ADDRESSES {
            let others = &mut self.others;
            self.told.retain(|_, (told, untold)| {
                let recent = now.saturating_duration_since(*told) < TELL_AGAIN;
                if !recent {
                    *others = others.saturating_add(*untold);
                }
                recent
            });
        }
        if self.told.len() >= ADDRESSES {
            self.others = self.others.saturating_add(1);
            return None;
        }
        self.told.insert(key, (now, 0));
        Some(std::mem::take(&mut self.others))
    }
}

/// When the refusals of one worker by the rules were last told.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Option<Instant>,
    untold: u32,
}

impl Refusals {
    /// Notes one; how many were not told before it, if it is to be told.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u32> {
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_AGAIN) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_few_are_told_and_all_are_counted() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let told: Vec<u32> = (0..3000).filter_map(|ms| refusals.note(start + Duration::from_millis(ms))).collect();
        assert_eq!(told, [0, 999, 999]);
    }

    #[test]
    fn of_one_address_one_refusal_is_told_in_a_second_and_all_are_counted() {
        let mut refused = Refused::default();
        let start = Instant::now();
        let told: Vec<u32> = (0..3000).filter_map(|ms| refused.note("a", start + Duration::from_millis(ms))).collect();
        assert_eq!(told, [0, 999, 999]);
        assert_eq!(refused.note("b", start), Some(0));
    }

    #[test]
    fn any_number_of_addresses_is_bounded() {
        let mut refused = Refused::default();
        let start = Instant::now();
        let told = (0..10_000).filter(|number| refused.note(&number.to_string(), start).is_some()).count();
        assert_eq!(told, ADDRESSES);
        assert_eq!(refused.told.len(), ADDRESSES);
        assert_eq!(refused.note("later", start + TELL_AGAIN), Some(10_000 - ADDRESSES as u32));
        assert_eq!(refused.told.len(), 1);
    }
}

//! The slot that belongs to a client's address.
//!
//! The address is hashed into one of `BUCKETS` buckets, and each bucket belongs to the slot that draws the greatest number
//! for it (rendezvous hashing). So a slot that leaves gives away its own buckets and no others, and gets exactly those
//! back when it returns.

use std::net::IpAddr;

/// A power of two, so that the bucket is the low bits of the hash.
pub(crate) const BUCKETS: usize = 4096;

/// Mixes 32-bit words into 32 bits. Only xor, shifts and multiplication of 32 bits, so that a program in the kernel can do
/// the same with the words as they stand in a packet:
///
/// ```text
/// h = seed
/// for each word:  h ^= word;  h *= 0x9e3779b1;  h ^= h >> 15;  h *= 0x85ebca77;  h ^= h >> 13
/// ```
///
/// The seed is drawn at random for each address that is listened on, so that nobody can choose clients that meet.
pub(crate) fn client_hash(words: &[u32], seed: u32) -> u32 {
    words.iter().fold(seed, |hash, word| {
        let hash = (hash ^ word).wrapping_mul(0x9e37_79b1);
        let hash = (hash ^ (hash >> 15)).wrapping_mul(0x85eb_ca77);
        hash ^ (hash >> 13)
    })
}

/// The hash of a client: of its address's bytes in network order, read as one (IPv4) or four (IPv6) words of the host's
/// order. An IPv4 address is the same whether it comes as such or mapped into IPv6. Ports do not count.
pub(crate) fn hash_of_client(ip: IpAddr, seed: u32) -> u32 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => client_hash(&[u32::from_ne_bytes(ip.octets())], seed),
        IpAddr::V6(ip) => {
            let bytes = ip.octets();
            let words =
                [0, 4, 8, 12].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
            client_hash(&words, seed)
        }
    }
}

/// What a slot draws for a bucket; the greater slot where two draw the same.
fn draw(bucket: usize, slot: u32, seed: u32) -> (u32, u32) {
    (client_hash(&[slot, bucket as u32], seed), slot)
}

/// Which slot each bucket belongs to.
#[derive(Debug)]
pub(crate) struct Table {
    seed: u32,
    /// Sorted.
    slots: Vec<u32>,
    /// By bucket; empty while there is no slot.
    owners: Vec<u32>,
    /// Another one after each change.
    version: u64,
}

impl Table {
    pub(crate) fn new(seed: u32) -> Self {
        Self { seed, slots: Vec::new(), owners: Vec::new(), version: 0 }
    }

    /// Changes who takes part. `slots` is sorted. True if that made a difference.
    pub(crate) fn follow(&mut self, slots: impl Iterator<Item = u32> + Clone) -> bool {
        if slots.clone().eq(self.slots.iter().copied()) {
            return false;
        }
        let wanted: Vec<u32> = slots.collect();
        self.version += 1;
        let before = std::mem::replace(&mut self.slots, wanted);
        if self.slots.is_empty() {
            self.owners.clear();
            return true;
        }
        let come: Vec<u32> = self.slots.iter().copied().filter(|slot| before.binary_search(slot).is_err()).collect();
        self.owners.resize(BUCKETS, self.slots[0]);
        for (bucket, owner) in self.owners.iter_mut().enumerate() {
            let stays = self.slots.binary_search(owner).is_ok();
            // Whoever stays has won against all that were there before; only the new ones can draw more.
            let (champion, challengers) = if stays { (*owner, &come) } else { (self.slots[0], &self.slots) };
            let best = |best: u32, slot: &u32| {
                if draw(bucket, *slot, self.seed) > draw(bucket, best, self.seed) { *slot } else { best }
            };
            *owner = challengers.iter().fold(champion, best);
        }
        true
    }

    pub(crate) fn seed(&self) -> u32 {
        self.seed
    }

    /// The slot of each bucket, `BUCKETS` of them, or none while there is no slot.
    pub(crate) fn owners(&self) -> &[u32] {
        &self.owners
    }

    /// Tells one state from the next.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The slots that take part, sorted.
    pub(crate) fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The slot of a hash.
    pub(crate) fn slot_of(&self, hash: u32) -> Option<u32> {
        self.owners.get(hash as usize % BUCKETS).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use proptest::prelude::*;

    fn table(slots: impl IntoIterator<Item = u32>, seed: u32) -> Table {
        let mut table = Table::new(seed);
        let slots: Vec<u32> = slots.into_iter().collect();
        table.follow(slots.iter().copied());
        table
    }

    #[test]
    fn nobody_owns_anything_while_nobody_is_there() {
        let mut table = table([], 1);
        assert_eq!(table.slot_of(7), None);
        assert!(table.follow([3].into_iter()));
        assert!(!table.follow([3].into_iter()));
        assert_eq!((table.slot_of(7), table.owners().len()), (Some(3), BUCKETS));
        assert!(table.follow([].into_iter()));
        assert_eq!(table.slot_of(7), None);
    }

    #[test]
    fn the_hash_is_the_one_that_is_written_down() {
        // A change would move every client of a cluster whose primary and kernel program are of different versions.
        assert_eq!(client_hash(&[], 5), 5);
        assert_eq!(client_hash(&[0], 0), 0);
        let by_hand = |seed: u32, word: u32| {
            let mut h = seed ^ word;
            h = h.wrapping_mul(0x9e37_79b1);
            h ^= h >> 15;
            h = h.wrapping_mul(0x85eb_ca77);
            h ^ (h >> 13)
        };
        assert_eq!(client_hash(&[1, 2], 3), by_hand(by_hand(3, 1), 2));
    }

    #[test]
    fn words_are_those_of_a_packet() {
        let ip: Ipv6Addr = "2001:db8::a01:203".parse().unwrap();
        let words = [[0x20, 0x01, 0x0d, 0xb8], [0; 4], [0; 4], [0x0a, 0x01, 0x02, 0x03]].map(u32::from_ne_bytes);
        assert_eq!(hash_of_client(ip.into(), 9), client_hash(&words, 9));
        let ip = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(hash_of_client(ip.into(), 9), client_hash(&[u32::from_ne_bytes([192, 0, 2, 1])], 9));
        assert_eq!(hash_of_client(ip.to_ipv6_mapped().into(), 9), hash_of_client(ip.into(), 9));
    }

    proptest! {
        // Each case fills tables of 4096 buckets.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn neighbours_spread_over_the_buckets(seed: u32, first: u16) {
            // 65536 neighbours are 16 to a bucket.
            let mut counts = vec![0_u32; BUCKETS];
            for host in 0..=u16::MAX {
                let [a, b] = first.to_be_bytes();
                let [c, d] = host.to_be_bytes();
                counts[hash_of_client(Ipv4Addr::new(a, b, c, d).into(), seed) as usize % BUCKETS] += 1;
            }
            prop_assert!(*counts.iter().max().unwrap() < 64, "{:?}", counts.iter().max());
        }

        #[test]
        fn the_slots_have_about_as_many_buckets_each(seed: u32, count in 1_usize..=16) {
            let table = table(0..count as u32, seed);
            for slot in 0..count as u32 {
                let own = table.owners().iter().filter(|owner| **owner == slot).count();
                prop_assert!((own * count).abs_diff(BUCKETS) <= BUCKETS / 2, "{own} of slot {slot} of {count}");
            }
        }

        #[test]
        fn one_that_leaves_moves_only_its_own_and_gets_them_back(
            seed: u32, slots in proptest::collection::btree_set(0_u32..300, 2..20), which: prop::sample::Index,
        ) {
            let gone = *slots.iter().nth(which.index(slots.len())).unwrap();
            let mut moving = table(slots.iter().copied(), seed);
            let before = moving.owners().to_vec();
            moving.follow(slots.iter().copied().filter(|slot| *slot != gone).collect::<Vec<_>>().into_iter());
            for (was, is) in before.iter().zip(moving.owners()) {
                prop_assert!(*is != gone);
                prop_assert!(*was == gone || was == is);
            }
            moving.follow(slots.iter().copied());
            prop_assert_eq!(before, moving.owners());
        }

        #[test]
        fn the_way_does_not_matter(
            seed: u32, steps in proptest::collection::vec(proptest::collection::btree_set(0_u32..12, 0..8), 1..8),
        ) {
            let mut walked = Table::new(seed);
            let mut last = BTreeSet::new();
            for slots in steps {
                let differs = walked.follow(slots.iter().copied());
                prop_assert_eq!(differs, slots != last);
                last = slots;
            }
            let fresh = table(last, seed);
            prop_assert_eq!(walked.owners(), fresh.owners());
        }
    }
}

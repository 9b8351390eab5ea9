//! How closely the primary looks at an address whose workers accept by themselves. Pure.
//!
//! *Asleep*: nothing happens there, and nothing is looked at. The kernel tells of the next connection, to whichever socket. *Awake*:
//! there are audits, and of a member's own socket the kernel tells where a connection finds the worker busy. *Calm*: it would tell of
//! every connection, because the workers wait in a way that lets nobody be passed over (an epoll in an epoll, poll(2)). So nothing is
//! asked of it, and the primary looks at all own sockets now and then: once in some ten connections.

use std::time::{Duration, Instant};

use crate::sys::poll::Interest;

/// How often there are audits, and how often where a few connections come, for each of which a wake-up counts.
pub(crate) const AUDIT: Duration = Duration::from_secs(1);
const AUDIT_OF_FEW: Duration = Duration::from_secs(2);
const FEW: u64 = 32;
/// After so many audits in a row without a connection it sleeps.
const QUIET_AUDITS: u32 = 2;

/// So many announcements of what was taken at once, and one in each so many connections that could be announced, are too many. (Of
/// workers that can be passed over so many are announced if they are busy for a third of the time.)
const NEEDLESS: u32 = 3;
const CONNECTIONS_OF_ONE: u64 = 3;
/// For so many audits it stays calm, before it tries again.
const CALM_AUDITS: u32 = 16;
/// A look for so many connections,
const CONNECTIONS_OF_A_LOOK: u32 = 12;
/// and this often. The last is for how long somebody may wait in front of a worker that was hung when nobody else came.
const LEAST: Duration = Duration::from_millis(20);
const FIRST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_millis(1250);

pub(super) struct Attention {
    awake: bool,
    /// An audit is to follow, which nobody has said yet.
    woken: bool,
    /// Connections that were begun by the last audit, where the kernel counts them.
    audited: u64,
    quiet: u32,
    /// Announcements of late that were not needed, of so many connections.
    needless: u32,
    of: u64,
    /// They are not worth having, for so many audits.
    worthless: u32,
    calm: Option<Calm>,
}

struct Calm {
    begun: u64,
    last: Instant,
    interval: Duration,
}

/// What is to be looked at now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// What the poll has told of.
    Told,
    /// Every own socket.
    All,
}

impl Default for Attention {
    fn default() -> Self {
        Self { awake: true, woken: true, audited: 0, quiet: 0, needless: 0, of: 0, worthless: 0, calm: None }
    }
}

impl Attention {
    pub(super) fn is_awake(&self) -> bool {
        self.awake
    }

    /// Something happens at the address.
    pub(super) fn wake(&mut self) {
        self.woken |= !self.awake;
        self.awake = true;
        self.quiet = 0;
    }

    /// The same, and there may have been nothing to audit before.
    pub(super) fn wake_anew(&mut self) {
        self.wake();
        self.woken = true;
    }

    /// True once after it woke.
    pub(super) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// A connection was announced. `begun`, here and below: how many there have been.
    pub(super) fn announced(&mut self, begun: u64, now: Instant) {
        self.wake();
        if self.worthless > 0 && self.calm.is_none() {
            self.calm = Some(Calm { begun, last: now, interval: FIRST });
        }
    }

    /// What the poll is to tell of an own socket in which nothing is known to wait.
    pub(super) fn interest(&self) -> Interest {
        match (self.awake, &self.calm) {
            (false, _) => Interest::ReadableOnce,
            (true, None) => Interest::ReadableByNobody,
            (true, Some(_)) => Interest::None,
        }
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.is_some()
    }

    /// In how long it is to be looked at.
    pub(super) fn next_look(&self, now: Instant) -> Option<Duration> {
        let calm = self.calm.as_ref()?;
        Some(calm.interval.saturating_sub(now.saturating_duration_since(calm.last)))
    }

    /// A look begins.
    pub(super) fn look(&mut self, begun: u64, now: Instant) -> Looked {
        let Some(calm) = &mut self.calm else { return Looked::Told };
        let elapsed = now.saturating_duration_since(calm.last);
        // One that is a little early is one less.
        if elapsed < calm.interval - calm.interval / 8 {
            return Looked::Told;
        }
        let interval = match begun.saturating_sub(calm.begun) {
            0 if calm.interval >= MOST => {
                self.calm = None;
                return Looked::All;
            }
            0 => calm.interval * 4,
            fresh => (elapsed * CONNECTIONS_OF_A_LOOK).div_f64(fresh as f64),
        };
        *calm = Calm { begun, last: now, interval: interval.clamp(LEAST, MOST) };
        Looked::All
    }

    /// A connection that was announced, the last of so many, had been taken when it was looked for. True: from here on it is calm.
    pub(super) fn was_needless(&mut self, last_of: u64, begun: u64, now: Instant) -> bool {
        if self.calm.is_some() {
            return false;
        }
        // What was before the last few counts less and less.
        if self.needless >= 2 * NEEDLESS {
            self.needless /= 2;
            self.of /= 2;
        }
        self.needless += 1;
        self.of += last_of;
        if self.needless < NEEDLESS || u64::from(self.needless) * CONNECTIONS_OF_ONE <= self.of {
            return false;
        }
        self.worthless = CALM_AUDITS;
        self.calm = Some(Calm { begun, last: now, interval: FIRST });
        true
    }

    /// An audit has been taken. `counted`: `begun` says whether anybody came. `may_sleep`: nothing is there that only audits show. When
    /// the next is due; `None`: it sleeps.
    pub(super) fn audited(&mut self, begun: u64, counted: bool, may_sleep: bool) -> Option<Duration> {
        let fresh = begun.saturating_sub(self.audited);
        self.audited = begun;
        if fresh == 0 {
            self.quiet += 1;
        } else {
            self.quiet = 0;
            self.worthless = self.worthless.saturating_sub(1);
            if self.worthless == 0 {
                self.calm = None;
            }
        }
        if self.quiet >= QUIET_AUDITS && self.calm.is_none() && may_sleep {
            self.awake = false;
            return None;
        }
        Some(if counted && (1..FEW).contains(&fresh) { AUDIT_OF_FEW } else { AUDIT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_sleeps_when_nobody_comes_and_wakes_with_the_first() {
        let (mut attention, now) = (Attention::default(), Instant::now());
        assert_eq!(attention.audited(0, true, true), Some(AUDIT));
        assert_eq!(attention.audited(0, true, false), Some(AUDIT), "something is there to be looked at");
        assert_eq!(attention.audited(0, true, true), None);
        assert_eq!((attention.is_awake(), attention.interest()), (false, Interest::ReadableOnce));
        attention.announced(1, now);
        assert_eq!((attention.is_awake(), attention.interest()), (true, Interest::ReadableByNobody));
        for begun in [11, 21, 31] {
            assert_eq!(attention.audited(begun, true, true), Some(AUDIT_OF_FEW));
        }
        assert_eq!(attention.audited(500, true, true), Some(AUDIT));
        assert_eq!(attention.audited(500, true, true), Some(AUDIT));
        assert_eq!(attention.audited(500, true, true), None);
    }

    #[test]
    fn announcements_that_nobody_needs_are_not_asked_for() {
        let (mut attention, now) = (Attention::default(), Instant::now());
        attention.announced(1, now);
        assert!(
            !(0..100).any(|_| attention.was_needless(3, 1000, now)),
            "of a worker that is busy for a third of the time"
        );
        let mut attention = Attention::default();
        assert!(!(1..NEEDLESS).any(|_| attention.was_needless(1, 1002, now)));
        assert!(attention.was_needless(1, 1003, now));
        assert_eq!(attention.interest(), Interest::None);
        for _ in 0..CALM_AUDITS - 1 {
            attention.audited(attention.audited + 100, true, true);
        }
        assert_eq!(attention.interest(), Interest::None);
        attention.audited(attention.audited + 100, true, true);
        assert_eq!(attention.interest(), Interest::ReadableByNobody, "perhaps they are by now");
    }

    /// Looks when it says; how many there were in some seconds.
    fn looks(attention: &mut Attention, per_second: u64, begun: &mut u64, from: Instant, seconds: u32) -> u32 {
        let (mut now, mut count) = (from, 0);
        let before = *begun;
        while let Some(wait) = attention.next_look(now) {
            now += wait;
            if now - from >= SECOND * seconds {
                break;
            }
            *begun = before + ((now - from).as_secs_f64() * per_second as f64) as u64;
            attention.look(*begun, now);
            count += 1;
        }
        count
    }

    #[test]
    fn a_calm_address_is_looked_at_once_in_ten_connections_and_not_when_nobody_comes() {
        for per_second in [10, 100, 1000] {
            let (mut attention, mut now, mut begun) = (Attention::default(), Instant::now(), 3);
            assert!((0..NEEDLESS).any(|_| attention.was_needless(1, begun, now)));
            looks(&mut attention, per_second, &mut begun, now, 5);
            now += 5 * SECOND;
            let count = looks(&mut attention, per_second, &mut begun, now, 20);
            let least = (per_second * 20 / 40) as u32;
            assert!((least.min(10)..=(per_second * 2) as u32).contains(&count), "{per_second}: {count}");
            let count = looks(&mut attention, 0, &mut begun, now + 20 * SECOND, 60);
            assert!(count <= 6, "{count}");
            assert!(!attention.is_calm());
            // It has learned.
            attention.announced(begun + 1, now);
            assert!(attention.is_calm());
        }
    }
}

//! Whether a member is in turn, and if not, whether what waits in its mailbox is for others.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the rotation.
    Open,
    /// Its mailbox or own socket did not move. Others are served, and what waits is taken back as far as they have room.
    /// `taken`: what its worker had taken out of the mailbox by then.
    Stuck { taken: u64 },
    /// Its worker has said that it takes nothing for now. What waits is taken back. `stuck`: it was, when so many were taken.
    Paused { stuck: Option<u64> },
    /// Its end of the mailbox was shut down. What waits is taken back; nothing is sent any more.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    state: State,
    /// While it is not open: nothing is left to be taken back.
    drained: bool,
}

impl Standing {
    pub(super) const OPEN: Self = Self { state: State::Open, drained: false };
    pub(super) const BROKEN: Self = Self { state: State::Broken, drained: false };

    /// `taken`, here and below: what its worker has taken out of its mailbox.
    pub(super) fn stuck(taken: u64) -> Self {
        Self { state: State::Stuck { taken }, drained: false }
    }

    pub(super) fn is_open(self) -> bool {
        self.state == State::Open
    }

    pub(super) fn is_broken(self) -> bool {
        self.state == State::Broken
    }

    pub(super) fn is_stuck(self) -> bool {
        matches!(self.state, State::Stuck { .. })
    }

    /// It is stuck, and its worker has taken nothing since.
    pub(super) fn stands_still(self, taken: u64) -> bool {
        matches!(self.state, State::Stuck { taken: before } if taken <= before)
    }

    /// What waits in its mailbox is for others.
    pub(super) fn is_source(self) -> bool {
        !self.is_open() && !self.drained
    }

    /// Others have been given all that waited in its mailbox.
    pub(super) fn is_drained(self) -> bool {
        !self.is_open() && self.drained
    }

    pub(super) fn drained(self) -> Self {
        Self { drained: true, ..self }
    }

    /// Nothing is to be expected of its worker: it takes nothing, or says so itself.
    pub(super) fn is_left_alone(self) -> bool {
        matches!(self.state, State::Paused { .. } | State::Broken)
    }

    /// Its worker says that it takes nothing. `None`: that changes nothing.
    pub(super) fn paused(self) -> Option<Self> {
        let stuck = match self.state {
            State::Paused { .. } | State::Broken => return None,
            State::Stuck { taken } => Some(taken),
            State::Open => None,
        };
        Some(Self { state: State::Paused { stuck }, drained: false })
    }

    /// Its worker says that it takes again. `None`: that changes nothing.
    pub(super) fn resumed(self, taken: u64) -> Option<Self> {
        match self.state {
            // Whoever only says so, again and again, would never be found to take nothing.
            State::Paused { stuck: Some(before) } if taken <= before => {
                Some(Self { state: State::Stuck { taken: before }, ..self })
            }
            State::Paused { .. } => Some(Self::OPEN),
            _ => None,
        }
    }
}

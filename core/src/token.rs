//! What an epoll event is about, packed into its 64 bits.

/// The source of an event in the primary. Ids are never reused, so a stale event finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Another thread or a signal handler wants a turn.
    Wake,
    /// The next timer is due.
    Alarm,
    /// A worker's channel.
    Channel(u32),
    /// A worker's grants socket has room again.
    Grants(u32),
    /// A worker's pidfd.
    Process(u32),
    /// A handle's listening socket.
    Listening(u32),
    /// The mailbox of a listener.
    Mailbox(u32),
    /// The own socket of a listener.
    OwnSocket(u32),
    /// The socket on which a worker hands connections back.
    Returns(u32),
}

impl Token {
    pub(crate) fn pack(self) -> u64 {
        let (kind, id) = match self {
            Token::Wake => (0, 0),
            Token::Alarm => (1, 0),
            Token::Channel(id) => (2, id),
            Token::Grants(id) => (3, id),
            Token::Process(id) => (4, id),
            Token::Listening(id) => (5, id),
            Token::Mailbox(id) => (6, id),
            Token::OwnSocket(id) => (7, id),
            Token::Returns(id) => (8, id),
        };
        u64::from(id) << 8 | kind
    }

    pub(crate) fn unpack(bits: u64) -> Option<Self> {
        let id = (bits >> 8) as u32;
        Some(match bits & 0xff {
            0 => Token::Wake,
            1 => Token::Alarm,
            2 => Token::Channel(id),
            3 => Token::Grants(id),
            4 => Token::Process(id),
            5 => Token::Listening(id),
            6 => Token::Mailbox(id),
            7 => Token::OwnSocket(id),
            8 => Token::Returns(id),
            _ => return None,
        })
    }
}

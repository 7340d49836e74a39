//! Label values: the outcomes and the places of checks, and the reasons for which connections end.

/// The outcome of a check in `tollgate_decisions_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DecisionOutcome {
    /// All limits had room.
    Allowed,
    /// A limit had no room.
    Refused,
    /// The cost was larger than a limit and can never fit.
    TooLarge,
    /// A report was charged. The limit is the first one in debt.
    Reported,
    /// A shadow limit had no room. The check itself is counted separately.
    ShadowRefused,
    /// The store was unreachable and the plan is `open`.
    FailedOpen,
    /// The store was unreachable and the plan is `closed`, or the check was a report.
    FailedClosed,
    /// The store was unreachable and the node's own share had room.
    LocalAllowed,
    /// The store was unreachable and the node's own share had no room.
    LocalRefused,
    /// Too many of the node's checks waited for the store.
    Overloaded,
    /// The store was full and the policy is `open`: the check's new subjects were not counted.
    FullOpen,
    /// The store was full and the policy is `closed`, or `local` without room in the node either.
    FullClosed,
}

impl DecisionOutcome {
    /// The outcomes that a check has.
    pub const OF_CHECKS: [Self; 11] = [
        Self::Allowed,
        Self::Refused,
        Self::TooLarge,
        Self::Reported,
        Self::FailedOpen,
        Self::FailedClosed,
        Self::LocalAllowed,
        Self::LocalRefused,
        Self::Overloaded,
        Self::FullOpen,
        Self::FullClosed,
    ];

    /// The label values of [`DecisionOutcome::OF_CHECKS`].
    pub const WORDS: [&'static str; Self::OF_CHECKS.len()] = {
        let mut words = [""; Self::OF_CHECKS.len()];
        let mut place = 0;
        while place < words.len() {
            words[place] = Self::OF_CHECKS[place].as_str();
            place += 1;
        }
        words
    };

    /// The outcome with a label value.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::OF_CHECKS.into_iter().find(|outcome| outcome.as_str() == word)
    }

    /// True if the check was not admitted, or its report perhaps not charged.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        match self {
            Self::Refused
            | Self::TooLarge
            | Self::FailedClosed
            | Self::LocalRefused
            | Self::Overloaded
            | Self::FullClosed => true,
            Self::Allowed
            | Self::Reported
            | Self::ShadowRefused
            | Self::FailedOpen
            | Self::LocalAllowed
            | Self::FullOpen => false,
        }
    }

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Reported => "reported",
            Self::ShadowRefused => "shadow_refused",
            Self::FailedOpen => "failed_open",
            Self::FailedClosed => "failed_closed",
            Self::LocalAllowed => "local_allowed",
            Self::LocalRefused => "local_refused",
            Self::Overloaded => "overloaded",
            Self::FullOpen => "full_open",
            Self::FullClosed => "full_closed",
        }
    }
}

/// The reason why this node closed a connection, in `tollgate_connections_closed_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The listener was at its connection limit, and this was the idlest connection.
    Limit,
    /// The preface of HTTP/2 did not arrive in time.
    Handshake,
    /// The client did not read a response in time.
    Unread,
    /// No byte was sent or received for too long.
    Stalled,
}

impl ConnectionEnd {
    pub(super) const ALL: [Self; 4] = [Self::Limit, Self::Handshake, Self::Unread, Self::Stalled];

    /// The label value.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Handshake => "handshake",
            Self::Unread => "unread",
            Self::Stalled => "stalled",
        }
    }
}

/// The place where a check was decided, in responses and in `tollgate_decided_by_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// Redis.
    Redis,
    /// The node's memory, which is the store.
    Memory,
    /// The node, from units that it has leased in Redis.
    Lease,
    /// The node, because Redis has just refused the same charge.
    Memo,
    /// The node alone, because the store is unreachable.
    Fallback,
    /// The node alone, because too many of its checks wait for the store.
    Overload,
    /// The node, because too many keys begin that it does not know.
    NewKeys,
    /// The failure policy for new subjects, because the store is nearly full; the store judged the
    /// other limits.
    FullStore,
}

impl DecidedBy {
    /// All places, each at its own number.
    pub(super) const ALL: [Self; 8] = [
        Self::Redis,
        Self::Memory,
        Self::Lease,
        Self::Memo,
        Self::Fallback,
        Self::Overload,
        Self::NewKeys,
        Self::FullStore,
    ];

    /// The word in responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memory => "memory",
            Self::Lease => "lease",
            Self::Memo => "memo",
            Self::Fallback => "fallback",
            Self::Overload => "overload",
            Self::NewKeys => "new_keys",
            Self::FullStore => "full_store",
        }
    }
}

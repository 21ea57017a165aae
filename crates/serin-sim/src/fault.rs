//! Faults that a test puts on API calls.

use std::collections::BTreeMap;

use crate::wire::{Refusal, Service};

/// A fault on some calls of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The operation, as `UpdateRoute`, or as `ECS CreateService` where two services have one of that name; `*` is every call.
    pub operation: &'static str,
    /// Which calls of it, counted from the injection.
    pub which: Which,
    /// What happens to them.
    pub kind: FaultKind,
}

/// Which calls a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Only the one with this number; the first is 1.
    Nth(usize),
    /// The next so many.
    Next(usize),
    /// The one with this number and all after it.
    From(usize),
    /// The one with this number and all after it, for so many seconds.
    Span {
        /// The number of the first.
        from: usize,
        /// How long it lasts.
        seconds: i64,
    },
    /// All.
    Always,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// Refused with this error name and sentence; nothing happens.
    Refused(&'static str, &'static str),
    /// Too many calls; nothing happens.
    Throttled,
    /// Not allowed; nothing happens.
    Denied,
    /// A fault of AWS's (HTTP 500); nothing happens.
    ServerError,
    /// The call takes effect, and the connection breaks before the answer comes.
    AnswerLost,
    /// The connection breaks before the call arrives; nothing happens.
    NeverSent,
    /// The call takes effect, and the answer is a fault of AWS's (HTTP 500).
    DoneThenServerError,
    /// The call takes effect, and its answer comes so many seconds later.
    AnsweredLate(u64),
    /// The connection breaks before the answer comes, and the call arrives and takes effect only so many seconds later,
    /// whatever has become of its caller. A call that changes nothing never arrives.
    ArrivesLate(i64),
    /// The call takes effect and is answered; but somebody else puts every route and rule back before anybody reads it.
    Undone,
    /// The Lambda dies before the call: the call unwinds with [`Killed`], which a test catches.
    KilledBefore,
    /// The Lambda dies after the call took effect.
    KilledAfter,
}

/// What a killed Lambda unwinds with. Its clients are broken afterwards, as those of a dead process; ask the account for
/// new ones.
#[derive(Debug, Clone, Copy)]
pub struct Killed;

impl FaultKind {
    /// The error that is answered instead of the real answer; `None` when no answer arrives at all.
    pub(crate) fn refusal(&self, service: Service, operation: &str) -> Option<Refusal> {
        match self {
            Self::Refused(code, message) => Some(Refusal::new(code, *message)),
            Self::Throttled => Some(Refusal::throttled(service)),
            Self::Denied => Some(Refusal::denied(service, operation)),
            Self::ServerError | Self::DoneThenServerError => Some(Refusal::server_error(service)),
            Self::AnswerLost
            | Self::NeverSent
            | Self::AnsweredLate(_)
            | Self::ArrivesLate(_)
            | Self::Undone
            | Self::KilledBefore
            | Self::KilledAfter => None,
        }
    }

    /// Its name, for a table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused(..) => "refused",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::ServerError => "server error",
            Self::AnswerLost => "done, answer lost",
            Self::NeverSent => "never sent",
            Self::DoneThenServerError => "done, server error",
            Self::AnsweredLate(_) => "answered late",
            Self::ArrivesLate(_) => "arrives late",
            Self::Undone => "undone by somebody else",
            Self::KilledBefore => "killed before",
            Self::KilledAfter => "killed after",
        }
    }

    /// Whether the call takes effect nevertheless.
    pub(crate) fn takes_effect(&self) -> bool {
        matches!(
            self,
            Self::AnswerLost
                | Self::DoneThenServerError
                | Self::AnsweredLate(_)
                | Self::Undone
                | Self::KilledAfter
        )
    }
}

/// The faults of an account.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    injected: Vec<Injected>,
    /// How often which kind has struck.
    pub(crate) struck: BTreeMap<&'static str, usize>,
}

/// A fault, how many calls it has seen, and since when it strikes.
#[derive(Debug)]
struct Injected {
    fault: Fault,
    seen: usize,
    since: Option<i64>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.injected.push(Injected {
            fault,
            seen: 0,
            since: None,
        });
    }

    pub(crate) fn clear(&mut self) {
        self.injected.clear();
    }

    /// Counts the call, and says what strikes it.
    pub(crate) fn strike(
        &mut self,
        service: Service,
        operation: &str,
        now: i64,
    ) -> Option<FaultKind> {
        if self.injected.is_empty() {
            return None;
        }
        let full = format!("{service} {operation}");
        let mut struck = None;
        for Injected { fault, seen, since } in &mut self.injected {
            if fault.operation != "*" && fault.operation != operation && fault.operation != full {
                continue;
            }
            *seen += 1;
            let strikes = match fault.which {
                Which::Nth(number) => *seen == number,
                Which::Next(count) => *seen <= count,
                Which::From(number) => *seen >= number,
                Which::Span { from, seconds } => {
                    *seen >= from && now < *since.get_or_insert(now) + seconds
                }
                Which::Always => true,
            };
            if strikes && struck.is_none() {
                struck = Some(fault.kind.clone());
            }
        }
        if let Some(kind) = &struck {
            *self.struck.entry(kind.name()).or_default() += 1;
        }
        struck
    }
}

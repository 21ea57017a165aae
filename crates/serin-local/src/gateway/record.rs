//! What went through the gateway: every API call and every invocation of a function.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

/// One call of an AWS API.
#[derive(Debug, Clone)]
pub struct Call {
    /// The service's short name, such as `ecs` or `appmesh`.
    pub service: String,
    /// The operation, such as `UpdateService`.
    pub operation: String,
    /// The function that made the call; absent when somebody else did, such as a person with the AWS CLI.
    pub function: Option<String>,
    /// The HTTP status that the caller got; 0 when it got no answer.
    pub status: u16,
    /// Whether the answer was made by a [`Fault`](super::Fault).
    pub injected: bool,
    /// When the call arrived.
    pub at: Timestamp,
    /// How long it took.
    pub duration: Duration,
}

impl Call {
    /// Whether the caller was told that it worked.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// One invocation of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The function's name.
    pub function: String,
    /// When the invocation arrived.
    pub at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// The name of the error with which it ended, if it did.
    pub error: Option<String>,
}

/// All that has been recorded so far.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The API calls, oldest first.
    pub calls: Vec<Call>,
    /// The invocations, in the order in which they ended.
    pub invocations: Vec<Invocation>,
}

impl Record {
    /// How often the functions called each operation, under the name that IAM gives it: `ecs:CreateService`.
    pub fn calls_by_operation(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for call in self.calls.iter().filter(|call| call.function.is_some()) {
            let operation = format!("{}:{}", call.service, call.operation);
            *counts.entry(operation).or_default() += 1;
        }
        counts
    }

    /// The invocation that took longest.
    pub fn longest_invocation(&self) -> Option<&Invocation> {
        self.invocations
            .iter()
            .max_by_key(|invocation| invocation.duration)
    }

    /// What came after an earlier look at the same record.
    #[must_use]
    pub fn since(&self, earlier: &Mark) -> Self {
        Self {
            calls: self.calls.get(earlier.calls..).unwrap_or_default().to_vec(),
            invocations: self
                .invocations
                .get(earlier.invocations..)
                .unwrap_or_default()
                .to_vec(),
        }
    }

    /// Remembers how much there is now.
    pub fn mark(&self) -> Mark {
        Mark {
            calls: self.calls.len(),
            invocations: self.invocations.len(),
        }
    }
}

/// A place in the record, from which later entries can be told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    calls: usize,
    invocations: usize,
}

/// Writes the record.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Record>);

impl Recorder {
    pub(crate) fn call(&self, call: Call) {
        self.with(|record| record.calls.push(call));
    }

    pub(crate) fn invocation(&self, invocation: Invocation) {
        self.with(|record| record.invocations.push(invocation));
    }

    pub(crate) fn read(&self) -> Record {
        self.with(|record| record.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        act(&mut record)
    }
}

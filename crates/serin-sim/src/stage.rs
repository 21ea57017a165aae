//! A stage for the unit tests of a step: a user's account, the adapters over it, and the input that a step gets.

use jiff::Timestamp;
use serde_json::{Value, json};
use serin::{ExecutionArn, StepInput};
use serin_aws::Adapters;

use crate::account::Account;
use crate::clock::Clock;
use crate::world;

/// A user's account with the service `checkout`, and the adapters over it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The account.
    pub account: Account,
    /// The adapters over the account.
    pub aws: Adapters,
    execution: ExecutionArn,
}

/// When the curtain rises; metrics of the hours before exist.
const START: &str = "2026-11-21T12:00:00Z";
/// The execution that the steps of a stage belong to at first.
const EXECUTION: &str = "arn:aws:states:eu-west-1:123456789012:execution:serin:first";
/// How long the service has run before the curtain rises, in seconds.
const BEFORE: u64 = 3600;

impl Default for Stage {
    fn default() -> Self {
        Self::with(&world::Options::default())
    }
}

impl Stage {
    /// A stage with a world that differs from the usual one.
    pub fn with(options: &world::Options) -> Self {
        let start: Timestamp = START.parse().expect("a constant in the right form");
        let account = Account::new(Clock::new(start));
        world::checkout_with(&account, options);
        account.clock().advance(BEFORE);
        let aws = Adapters::new(account.clients(), world::LEDGER_TABLE)
            .with_recovery(Some(world::RECOVERY.to_owned()));
        Self {
            account,
            aws,
            execution: ExecutionArn::new(EXECUTION),
        }
    }

    /// The same world in another execution, whose name is `name`.
    #[must_use]
    pub fn in_execution(&self, name: &str) -> Self {
        let machine = EXECUTION.trim_end_matches("first");
        Self {
            execution: ExecutionArn::new(format!("{machine}{name}")),
            ..self.clone()
        }
    }

    /// The execution that every step of the stage belongs to.
    pub fn execution(&self) -> ExecutionArn {
        self.execution.clone()
    }

    /// What the state machine gives a step now.
    pub fn input<S>(&self, state: S) -> StepInput<S> {
        let now = self.account.clock().now();
        StepInput {
            execution: self.execution(),
            started_at: now,
            now,
            state,
        }
    }

    /// A request for the image `2.0.0` with whatever else `more` has.
    pub fn request(&self, more: Value) -> Value {
        let mut request = json!({"cluster": world::CLUSTER, "service": world::SERVICE, "image": world::app_image("2.0.0")});
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        request
    }

    /// Lets time pass.
    pub fn wait(&self, seconds: u64) {
        self.account.clock().advance(seconds);
    }
}

//! What the ledger has kept of deployments, for whoever looks at them later. Nothing here decides anything but one thing: the last wish
//! that a person left for a running deployment is carried out by its next check.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::ExecutionArn;
use crate::notice::{Notice, NoticePhase};
use crate::ports::{LedgerRecord, Phase};
use crate::report::Ending;
use crate::request::Decision;
use crate::verdict::Verdict;

/// One deployment in the list of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its execution.
    pub execution: ExecutionArn,
    /// The cluster and the service, as `cluster/service`.
    pub service: String,
    /// What is deployed: the images that are not stable's, or the task definition.
    pub version: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended, once it has.
    pub ended_at: Option<Timestamp>,
    /// What it is doing.
    pub phase: Phase,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
}

/// All that was kept of one deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// Its execution.
    pub execution: ExecutionArn,
    /// The record; absent when its request was refused, or nothing was kept for so long.
    pub record: Option<LedgerRecord>,
    /// The request as it came.
    pub request: Option<Value>,
    /// What was told of it, in order.
    pub notices: Vec<Notice>,
    /// What each check found, in order.
    pub checks: Vec<Verdict>,
    /// What people wished of it, in order.
    pub wishes: Vec<Wish>,
}

impl Story {
    /// The question that it asks now, when it is frozen.
    pub fn question(&self) -> Option<&Notice> {
        let frozen = |notice: &&Notice| matches!(notice.phase, NoticePhase::Frozen { .. });
        let decided = self.record.as_ref()?;
        let is_open = decided.ending.is_none() && decided.phase == Phase::Running;
        self.notices.last().filter(frozen).filter(|_| is_open)
    }

    /// What a person can have done with it now.
    pub fn open_orders(&self) -> &'static [Order] {
        match &self.record {
            Some(record) if record.ending == Some(Ending::NeedsAttention) => &[Order::RollBack],
            Some(record) if record.phase == Phase::Running && record.ending.is_none() => {
                match self.question() {
                    Some(_) => &[Order::RollBack, Order::Resume, Order::Promote],
                    None => &[Order::RollBack, Order::Freeze, Order::Promote],
                }
            }
            _ => &[],
        }
    }
}

/// What a person can have done with a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Order {
    /// Put everything back.
    RollBack,
    /// Hold the weight and ask a person.
    Freeze,
    /// Begin the step of a frozen deployment anew.
    Resume,
    /// Go to the plan's last weight and make the new version the stable one.
    Promote,
}

impl Order {
    /// As in "somebody decided to".
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::RollBack => "roll it back",
            Self::Freeze => "freeze it",
            Self::Resume => "resume it",
            Self::Promote => "promote it",
        }
    }

    /// The same as an answer to the question of a frozen deployment, where it is one.
    #[must_use]
    pub const fn as_answer(self) -> Option<Decision> {
        match self {
            Self::RollBack => Some(Decision::RollBack),
            Self::Freeze => None,
            Self::Resume => Some(Decision::Resume),
            Self::Promote => Some(Decision::Promote),
        }
    }
}

/// What somebody wished of a deployment, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// The request that brought it; `CloudTrail` has it too, with the identity of who sent it.
    pub request_id: String,
    /// When.
    pub at: Timestamp,
    /// The name that the person gave. Nobody has checked it.
    pub by: String,
    /// What was wished.
    #[serde(rename = "decision")]
    pub order: Order,
    /// What came of it, as a sentence without its full stop.
    pub came_of_it: String,
}

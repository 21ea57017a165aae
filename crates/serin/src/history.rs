//! What the ledger has kept of deployments, for whoever looks at them later: nothing here decides anything.

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

    /// The decisions that a person can make about it now.
    pub fn open_decisions(&self) -> &'static [Decision] {
        match &self.record {
            Some(record) if record.ending == Some(Ending::NeedsAttention) => &[Decision::RollBack],
            Some(record) if record.phase == Phase::Running && record.ending.is_none() => {
                match self.question() {
                    Some(_) => &[Decision::RollBack, Decision::Resume, Decision::Promote],
                    None => &[Decision::RollBack],
                }
            }
            _ => &[],
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
    pub decision: Decision,
    /// What came of it, as a sentence without its full stop.
    pub came_of_it: String,
}

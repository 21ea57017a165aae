//! Every few minutes: looks for deployments whose execution is dead and that are not over, and has them recovered.
//!
//! The rule on an execution's end does that at once; this finds what the rule missed, because its event was lost, its recovery
//! failed, or the execution died before it had planned anything. Only services that somebody has locked are looked at.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serin::deployment::LATE_SECONDS;
use serin::ports::{ExecutionStatus, HeldLock, Ledger, Phase, Recoveries};
use serin::{DeploymentId, ExecutionArn, PortError, ServiceKey, step_error_from_port_error};

/// Why something could not be looked at. Everything else was; the next sweep comes in a few minutes.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum SweepError {
    /// Too many calls.
    #[error("{0}")]
    AwsThrottled(String),
    /// No answer.
    #[error("{0}")]
    AwsUnavailable(String),
    /// The function's role lacks a permission.
    #[error("{0}")]
    AwsDenied(String),
    /// A call was understood and refused.
    #[error("{0}")]
    AwsRefused(String),
}

step_error_from_port_error!(SweepError);

/// The event of the schedule, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// When it was due.
    pub time: Timestamp,
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Swept {
    /// How many locks were held.
    pub held: usize,
    /// The executions whose deployments are being recovered.
    pub recovering: Vec<ExecutionArn>,
    /// The services whose locks were given back, because there was nothing to recover.
    pub unlocked: Vec<ServiceKey>,
}

/// How long one name of a recovery serves, in seconds: a recovery that runs is not doubled, one that failed is repeated.
const ATTEMPT_SECONDS: i64 = 1800;

/// Looks at every lock that is held.
///
/// # Errors
/// [`SweepError`], the first one; the locks after it were looked at all the same.
pub async fn sweep(
    ledger: &impl Ledger,
    recoveries: &impl Recoveries,
    tick: Tick,
) -> Result<Swept, SweepError> {
    let held = ledger.held().await?;
    let mut swept = Swept {
        held: held.len(),
        ..Swept::default()
    };
    let mut first_error = None;
    for lock in held {
        match look(ledger, recoveries, &lock, tick.time).await {
            Ok(Found::Nothing) => {}
            Ok(Found::Dead) => swept.recovering.push(lock.holder.execution),
            Ok(Found::Unlocked) => swept.unlocked.push(lock.service),
            Err(error) => {
                tracing::warn!(service = %lock.service, %error, "cannot be looked at");
                first_error.get_or_insert(error);
            }
        }
    }
    tracing::info!(held = swept.held, recovering = ?swept.recovering, unlocked = swept.unlocked.len(), "swept");
    match first_error {
        None => Ok(swept),
        Some(error) => Err(error.into()),
    }
}

/// What a lock turned out to be.
enum Found {
    /// In order: its execution runs, or a person has been told.
    Nothing,
    /// Of a dead execution; the recovery was started.
    Dead,
    /// Of a deployment that never was, or that is over; it was given back.
    Unlocked,
}

async fn look(
    ledger: &impl Ledger,
    recoveries: &impl Recoveries,
    lock: &HeldLock,
    now: Timestamp,
) -> Result<Found, PortError> {
    let execution = &lock.holder.execution;
    if ledger.execution_status(execution).await? == ExecutionStatus::Running {
        return Ok(Found::Nothing);
    }
    let Some(record) = ledger.find(execution).await? else {
        // A planner that runs late may still be writing the record.
        let age = now.as_second() - lock.holder.since.as_second();
        if age < i64::from(LATE_SECONDS) {
            return Ok(Found::Nothing);
        }
        ledger.unlock(&lock.service, execution).await?;
        return Ok(Found::Unlocked);
    };
    match (record.phase, record.ending) {
        (Phase::Ended, Some(ending)) => {
            // The end was recorded, and the call that gives the lock back was not made any more.
            let deployment = &record.deployment;
            ledger
                .close(deployment, ending, deployment.bearer_after(ending), now)
                .await?;
            Ok(Found::Unlocked)
        }
        // With an ending and still open: a person has been told.
        (_, Some(_)) => Ok(Found::Nothing),
        (_, None) => {
            let attempt = now.as_second() / ATTEMPT_SECONDS;
            let name = format!("sweep-{}-{attempt}", DeploymentId::of(execution));
            recoveries.start(execution, &name).await?;
            Ok(Found::Dead)
        }
    }
}

#[cfg(test)]
mod tests;

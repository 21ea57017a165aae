//! How far a deployment is: what travels from step to step beside the resolved [`crate::Deployment`].

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::name::TaskDefinitionArn;
use crate::verdict::{Verdict, cut};
use crate::weight::Weight;

/// How far a deployment is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What create-canary made; absent until all of it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CreatedCanary>,
    /// The same for the baseline; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<CreatedCanary>,
    /// The index of the step in force, counted from zero; absent before the first shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The canary's weight as last read back.
    #[serde(default)]
    pub weight_percent: Weight,
    /// When the step in force got its weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shifted_at: Option<Timestamp>,
    /// From when on the canary is compared with stable: the first shift, or when a person decided that the deployment goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_since: Option<Timestamp>,
    /// Since when the baseline has had no weight any more, and the canary is compared with stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_until: Option<Timestamp>,
    /// When new tasks of the canary began to serve since then, which are not yet warm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_tasks_at: Vec<Timestamp>,
    /// Since when the canary has been lacking tasks for the next weight; absent while it has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacking_since: Option<Timestamp>,
    /// How many checks were unhealthy so far.
    #[serde(default)]
    pub unhealthy_checks: u32,
    /// How many of them came last, with no healthy one since.
    #[serde(default)]
    pub unhealthy_in_a_row: u32,
    /// How many checks were made so far.
    #[serde(default)]
    pub checks: u32,
    /// The request of the last wish of a person that a check has dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_wish: Option<String>,
    /// The last verdict of each step, in order.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
    /// How far the clean-up is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<CleanupProgress>,
    /// Since when a promotion that broke off is waited out: a function that began before it was stopped may still be updating
    /// stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion_stopped_at: Option<Timestamp>,
    /// Since when a rollback has been waiting for a task of stable that can serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_missed_since: Option<Timestamp>,
    /// How far the rollback is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackProgress>,
    /// Since when AWS has refused what the rollback wants to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_since: Option<Timestamp>,
    /// What was done, in order.
    #[serde(default)]
    pub timeline: Vec<Event>,
}

/// What create-canary made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedCanary {
    /// The canary's task definition.
    pub task_definition: TaskDefinitionArn,
    /// The ARN of the canary's ECS service.
    pub service_arn: String,
    /// How the router knows whether the canary's tasks can be reached.
    pub attachment: Attachment,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What the canary's tasks need so that the router can reach them; the router makes it, the fleet uses it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The Cloud Map service in which the canary's tasks are registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_arn: Option<String>,
    /// The target groups in which the canary's tasks are registered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_groups: Vec<TargetGroupUse>,
    /// Environment variables that differ from the source task definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<EnvironmentChange>,
}

/// A load balancer's target group, and which of a task's ports is registered in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupUse {
    /// The target group's ARN.
    pub target_group_arn: String,
    /// The container.
    pub container: String,
    /// The container's port.
    pub port: u16,
}

/// One environment variable of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentChange {
    /// The container.
    pub container: String,
    /// The variable; it exists in the source.
    pub variable: String,
    /// Its new value.
    pub value: String,
}

/// How far the clean-up is. Each field is set when its part was seen to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupProgress {
    /// The revision that stable was updated to (promote).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<TaskDefinitionArn>,
    /// When stable was told to run that revision (promote).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// When the traffic went to where it stays: back to stable (promote), or wholly to the canary (replace).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_settled_at: Option<Timestamp>,
    /// Since when a call has been refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_since: Option<Timestamp>,
}

/// How far the rollback is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackProgress {
    /// When stable had all the traffic again.
    pub traffic_returned_at: Timestamp,
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What, as a sentence without its full stop.
    pub what: String,
}

/// How many events are kept; the state of an execution has a limit (256 KiB), a deployment with many waits must not reach it.
const EVENTS_KEPT: usize = 200;
/// How much of each is kept, in characters.
const LONGEST_EVENT: usize = 200;

impl Progress {
    /// Notes for the comparison that the canary has got its weight: that is where it begins, and where a person wanted it to
    /// begin anew after what a comparison had shown, whose last interval of `period` seconds does not count again. Later the
    /// tasks that the weight needed are new.
    ///
    /// `baseline` is the weight that the baseline has now, when there is one.
    pub fn compare(
        &mut self,
        shifted_at: Timestamp,
        began_anew: bool,
        period: u32,
        baseline: Option<Weight>,
    ) {
        self.baseline_until = match baseline {
            Some(Weight::ZERO) if began_anew => Some(shifted_at),
            Some(Weight::ZERO) => self.baseline_until.or(Some(shifted_at)),
            _ => None,
        };
        if began_anew {
            self.compared_since = Some(shifted_at + SignedDuration::from_secs(period.into()));
            self.new_tasks_at.clear();
        } else if self.compared_since.is_none() {
            self.compared_since = Some(shifted_at);
        } else if self.lacking_since.is_some() {
            self.new_tasks_at.push(shifted_at);
        }
    }

    /// Notes that something was done.
    pub fn note(&mut self, at: Timestamp, what: impl Into<String>) {
        if self.timeline.len() < EVENTS_KEPT {
            let what = cut(&what.into(), LONGEST_EVENT);
            self.timeline.push(Event { at, what });
        }
    }

    /// Notes something that goes on over several calls, once.
    pub fn note_once(&mut self, at: Timestamp, what: impl Into<String>) {
        let what = cut(&what.into(), LONGEST_EVENT);
        if self.timeline.last().is_none_or(|event| event.what != what) {
            self.note(at, what);
        }
    }

    /// Keeps `verdict` as the last one of its step, and of the steps before only what fits into an execution's state.
    pub fn keep(&mut self, verdict: Verdict) {
        self.checks += 1;
        match self.verdicts.last_mut() {
            Some(last) if last.step == verdict.step => *last = verdict,
            Some(last) => {
                last.shorten();
                self.verdicts.push(verdict);
            }
            None => self.verdicts.push(verdict),
        }
    }
}

//! The resolved deployment: all that was discovered and decided before anything was created.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{
    ClusterName, ContainerName, DeploymentId, ExecutionArn, Family, ServiceKey, ServiceName,
    TaskDefinitionArn, VersionId,
};
use crate::plan::Plan;
use crate::ports::Side;
use crate::report::{Ending, Leftover};
use crate::request::{Capacity, Checks, Finish, FinishMode, Freeze, OnUnhealthy};
use crate::routing::RouterRecord;
use crate::weight::{Split, Weight};

/// One run of the state machine for one service, fully resolved. The state "Plan the deployment" returns it, so that
/// nothing is implicit, and the ledger keeps it, so that anybody can finish or undo the deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Eight digits for the names of what the deployment creates.
    pub id: DeploymentId,
    /// The execution that runs it.
    pub execution: ExecutionArn,
    /// When it began: when the execution started, or when its waiting was over.
    pub started_at: Timestamp,
    /// When the deployment is rolled back if it is not promoted by then.
    pub deadline_at: Timestamp,
    /// The cluster and the name by which people know the service.
    pub service: ServiceKey,
    /// The version that serves now.
    pub stable: StableVersion,
    /// The version on trial.
    pub canary: CanaryVersion,
    /// A fresh copy of stable beside the canary, when the request wants the canary compared with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// The router and its snapshot.
    pub router: RouterRecord,
    /// The steps.
    pub plan: Plan,
    /// Whether stable itself was above the limit on the error rate before the deployment. Then its being so later is no outage.
    #[serde(default)]
    pub stable_exceeds_limit: bool,
    /// The times above which a request of either side counts as slow, the shortest first; none when latency is not compared, and a
    /// note says why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow_thresholds: Vec<SlowThreshold>,
    /// How many tasks the canary gets.
    pub capacity: Capacity,
    /// How the canary is judged.
    pub checks: Checks,
    /// What happens after the last step.
    pub finish: Finish,
    /// What happens on an unhealthy verdict.
    pub on_unhealthy: OnUnhealthy,
    /// How a frozen deployment waits for a decision.
    #[serde(default)]
    pub freeze: Freeze,
    /// How long the canary may take until all its tasks run and can be reached, in seconds.
    pub ready_within_seconds: u32,
    /// What a person should know about how the plan was resolved.
    #[serde(default)]
    pub notes: Vec<String>,
    /// All that it may leave, by name: for the state machine to tell when the rollback itself cannot. Each has the command that
    /// rolls back, which alone knows what has become of what.
    #[serde(default)]
    pub may_leave: Vec<Leftover>,
}

/// A time that few of stable's requests exceeded before the deployment. It is fixed before there is a canary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowThreshold {
    /// The percentile of stable's response times that it is: 90 or 99.
    pub percentile: f64,
    /// The time in milliseconds.
    pub ms: f64,
}

impl SlowThreshold {
    /// The part of requests that is slower, as a fraction.
    pub fn share(&self) -> f64 {
        1.0 - self.percentile / 100.0
    }

    /// What the canary's requests are held against, in milliseconds: three tenths longer, to three digits.
    ///
    /// Two groups of tasks of one version differ in their times by some percent for minutes, and their shares above one and the same
    /// percentile by much more. What lasts up to 1.3 times as long is no reason to roll back, whatever the times are like.
    pub fn canary_ms(&self) -> f64 {
        const LONGER: f64 = 1.3;
        let ms = self.ms * LONGER;
        let digits = 10_f64.powf(2.0 - ms.log10().floor());
        (ms * digits).round() / digits
    }
}

/// The version that serves now, as it was when the deployment was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StableVersion {
    /// The ECS service that bears the name now; another one than people say after a `replace`.
    pub service: ServiceName,
    /// Its ARN.
    pub service_arn: String,
    /// Its task definition.
    pub task_definition: TaskDefinitionArn,
    /// The family of the task definition.
    pub family: Family,
    /// How many tasks it should have.
    pub desired_count: u32,
    /// What changes that number by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

/// What changes a service's number of tasks by itself: its scalable target in Application Auto Scaling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// The most tasks that it may have.
    pub max_tasks: u32,
    /// Whether a person had suspended scaling in before the deployment.
    #[serde(default)]
    pub scale_in_suspended: bool,
}

/// The version on trial, by name, before it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryVersion {
    /// Its ECS service.
    pub service: ServiceName,
    /// Its task-definition family.
    pub family: Family,
    /// The task definition that it copies: stable's, or the one that the request names.
    pub source: TaskDefinitionArn,
    /// The images that differ from the source, by container.
    pub images: BTreeMap<ContainerName, String>,
}

/// A fresh copy of stable, as young as the canary and with as many tasks and the same weight, by name, before it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// Its ECS service.
    pub service: ServiceName,
    /// Its task-definition family.
    pub family: Family,
}

/// How long a function that began before the ledger forbade it may still write, in seconds: Lambda ends every function after its
/// `Timeout` of 30 seconds (the template's, a test compares), and what it had sent by then has arrived within another 15.
pub const LATE_SECONDS: u32 = 45;

impl CanaryVersion {
    /// What it is compared with another deployment's by; `None` where an image is named by its tag.
    pub fn version_id(&self) -> Option<VersionId> {
        if self.images.is_empty() {
            return Some(VersionId::new(self.source.as_str()));
        }
        VersionId::of_images(self.images.values().map(String::as_str))
    }
}

impl Deployment {
    /// The cluster's name.
    pub fn cluster(&self) -> &ClusterName {
        &self.service.cluster
    }

    /// The ECS service of a side.
    pub fn service_of(&self, side: Side) -> &ServiceName {
        match side {
            Side::Stable => &self.stable.service,
            Side::Canary => &self.canary.service,
        }
    }

    /// The same deployment with the baseline in the canary's place, so that it is made, found and removed by what does so for the
    /// canary; `None` when there is no baseline.
    pub fn of_baseline(&self) -> Option<Self> {
        let baseline = self.baseline.clone()?;
        Some(Self {
            // AWS takes a call with the token of another one for its repetition.
            id: DeploymentId::of_baseline(&self.execution),
            canary: CanaryVersion {
                service: baseline.service,
                family: baseline.family,
                source: self.stable.task_definition.clone(),
                images: BTreeMap::new(),
            },
            baseline: None,
            router: self.router.of_baseline(),
            ..self.clone()
        })
    }

    /// All that goes when `side` does: the baseline goes with either.
    pub fn going_with(&self, side: Side) -> Vec<(Cow<'_, Self>, Side)> {
        let baseline = self.of_baseline();
        let baseline = baseline.map(|baseline| (Cow::Owned(baseline), Side::Canary));
        std::iter::once((Cow::Borrowed(self), side))
            .chain(baseline)
            .collect()
    }

    /// How the traffic is divided while the canary has `weight`.
    pub fn split_at(&self, weight: Weight) -> Split {
        Split::at(weight, self.baseline.is_some())
    }

    /// How the traffic is divided at each of the plan's steps, and before the first.
    pub fn splits(&self) -> impl Iterator<Item = Split> {
        let steps = self.plan.steps().iter();
        let weights = steps.map(|step| step.weight_percent);
        weights
            .chain([Weight::ZERO])
            .map(|weight| self.split_at(weight))
    }

    /// Whether a check has anything to ask the metrics store.
    pub fn is_measured(&self) -> bool {
        self.checks.counts_requests()
            || !self.checks.queries.is_empty()
            || self.checks.judge.is_some()
            || self.router.watches_targets()
    }

    /// How many tasks the canary needs before it may get `weight`, beside a stable that should have `stable_tasks`: never
    /// zero, and never fewer at a higher weight.
    pub fn tasks_at(&self, weight: Weight, stable_tasks: u32) -> u32 {
        match self.capacity {
            Capacity::Full => stable_tasks.max(1),
            Capacity::Tasks(tasks) => tasks,
            Capacity::MatchWeight => {
                let tenths = u64::from(stable_tasks) * u64::from(weight.tenths());
                u32::try_from(tenths.div_ceil(1000))
                    .expect("at most the desired count")
                    .max(1)
            }
        }
    }

    /// How many tasks stable needs before it may get all the traffic back: as many as it should have now. Where its number is
    /// scaled by load, what serves now is the measure: stable had none of the load, and scaling goes on from here. So it is
    /// where somebody has left stable without any: never zero.
    pub fn tasks_to_promote(&self, stable_tasks: u32, canary_tasks: u32) -> u32 {
        let tasks = match &self.stable.scaling {
            Some(scaling) => stable_tasks.max(canary_tasks.min(scaling.max_tasks)),
            None if stable_tasks == 0 => canary_tasks,
            None => stable_tasks,
        };
        tasks.max(1)
    }

    /// How long to wait before looking again at something that takes AWS time and began at `since`, in seconds.
    ///
    /// Short at first, because most things are quick, and then a tenth of the time that has passed, so that an execution
    /// that waits until its deadline stays far below the 25,000 events that Step Functions allows.
    pub fn poll_seconds(&self, since: Timestamp, now: Timestamp) -> u32 {
        const SHORTEST: i64 = 3;
        let elapsed = now.as_second() - since.as_second();
        let whole = self.deadline_at.as_second() - self.started_at.as_second();
        let longest = (whole / 1000).max(30);
        u32::try_from((elapsed / 10).clamp(SHORTEST, longest))
            .expect("a positive number of seconds below a week")
    }

    /// When to try again what has been refused since then, in seconds; `None` when it has lasted for so long that nobody will allow
    /// it by himself. What is refused now may be allowed in a minute: a role that was just changed, an object that somebody
    /// else is changing.
    pub fn try_again_in(&self, refused_since: Timestamp, now: Timestamp) -> Option<u32> {
        const LONGEST: i64 = 300;
        let lasted = now.as_second() - refused_since.as_second();
        (lasted < LONGEST).then(|| self.poll_seconds(refused_since, now))
    }

    /// Whether a removal that began at `since` has taken so long that a person must look.
    pub fn is_removal_stuck(&self, since: Timestamp, now: Timestamp) -> bool {
        // ECS stops a task within its stopTimeout (at most 120 seconds) after the router has drained it.
        const LONGEST: i64 = 1800;
        // What has lost its traffic is left alone at first, and drains when it goes.
        let drains =
            i64::from(self.quiet_seconds()) + i64::from(self.router.longest_drain_seconds());
        now.as_second() - since.as_second() > LONGEST + drains
    }

    /// The ECS service that bears the service's name after this ending, if it is another one than before.
    pub fn bearer_after(&self, ending: Ending) -> Option<&ServiceName> {
        let replaced = ending == Ending::Promoted && self.finish.mode == FinishMode::Replace;
        replaced.then_some(&self.canary.service)
    }

    /// The command that rolls this deployment back, whatever became of its execution.
    pub fn roll_back_command(&self) -> String {
        let (execution, machine) = (&self.execution, self.execution.state_machine());
        format!(
            r#"aws stepfunctions start-execution --state-machine-arn {machine} --input '{{"rollBack": "{execution}"}}'"#
        )
    }

    /// The deployment itself as the last of what is left.
    pub fn unfinished(&self) -> Leftover {
        Leftover {
            arn: self.execution.to_string(),
            what: "the deployment keeps its lock; when the above is in order, this rolls back what is left".to_owned(),
            command: self.roll_back_command(),
        }
    }

    /// What is left while scaling in is held, and the command that allows it again; nothing when nothing scales stable.
    pub fn held_scale_in(&self) -> Option<Leftover> {
        let scaling = self.stable.scaling.as_ref()?;
        if scaling.scale_in_suspended {
            return None;
        }
        let (cluster, service) = (self.cluster(), &self.stable.service);
        Some(Leftover {
            arn: self.stable.service_arn.clone(),
            what: format!(
                "scaling in of {service} may still be suspended, so it keeps tasks that its load does not need; this allows it again"
            ),
            command: format!(
                "aws application-autoscaling register-scalable-target --service-namespace ecs --scalable-dimension ecs:service:DesiredCount --resource-id service/{cluster}/{service} --suspended-state DynamicScalingInSuspended=false"
            ),
        })
    }

    /// How long scaling in must stay suspended after stable got its traffic at `since`, in seconds; `None` when it may be allowed
    /// again. The alarm of a policy that saw no load fires still, and clears when the load has been measured.
    pub fn hold_scale_in_for(&self, since: Timestamp, now: Timestamp) -> Option<u32> {
        const PERIODS: u32 = 4;
        let seconds = PERIODS * self.checks.period_seconds;
        let left = since.as_second() + i64::from(seconds) - now.as_second();
        let held = self.held_scale_in().is_some();
        u32::try_from(left).ok().filter(|left| held && *left > 0)
    }

    /// How long the router's data plane needs to hear of a change and requests in flight to end, in seconds, before what has
    /// lost its traffic may be removed: what the request calls settling, but never nothing.
    pub fn drain_seconds(&self) -> u32 {
        const SHORTEST: u32 = 5;
        self.checks
            .settle_seconds
            .max(SHORTEST)
            .max(self.router.shortest_drain_seconds())
    }

    /// How long what has lost its traffic is left alone before it is removed, in seconds: it drains, and no function that began
    /// before may still be making something.
    pub fn quiet_seconds(&self) -> u32 {
        self.drain_seconds().max(LATE_SECONDS)
    }

    /// Whether `now` is past the deadline.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        now >= self.deadline_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;
    use crate::routing::{AppMeshRecord, CloudMapService, MeshNames, ProxyIdentity};

    fn deployment(capacity: Capacity, desired_count: u32) -> Deployment {
        let request =
            serde_json::json!({"cluster": "prod", "service": "checkout", "image": "checkout:2"});
        let request = Request::parse(&request).unwrap();
        let started_at: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let execution = ExecutionArn::new("arn:aws:states:eu-west-1:1:execution:serin:one");
        Deployment {
            id: DeploymentId::of(&execution),
            execution,
            started_at,
            deadline_at: "2026-11-21T16:00:00Z".parse().unwrap(),
            service: ServiceKey {
                cluster: request.cluster.clone(),
                service: request.service.clone(),
            },
            stable: StableVersion {
                service: request.service.clone(),
                service_arn: String::new(),
                task_definition: TaskDefinitionArn::new("checkout:1"),
                family: Family::new("checkout"),
                desired_count,
                scaling: None,
            },
            canary: CanaryVersion {
                service: ServiceName::new("canary"),
                family: Family::new("checkout-canary"),
                source: TaskDefinitionArn::new("checkout:1"),
                images: BTreeMap::new(),
            },
            baseline: None,
            router: RouterRecord::AppMesh(AppMeshRecord {
                mesh: "prod".into(),
                mesh_owner: None,
                stable_node: "checkout".into(),
                canary_node: "canary".into(),
                proxy: ProxyIdentity {
                    container: String::new(),
                    variable: String::new(),
                    stable_value: String::new(),
                },
                stable_registry: CloudMapService {
                    namespace_id: String::new(),
                    id: String::new(),
                    arn: String::new(),
                    name: String::new(),
                },
                canary_registry_name: String::new(),
                baseline: MeshNames::default(),
                routes: vec![],
                left_out: Vec::new(),
            }),
            plan: request.resolve_plan(),
            capacity,
            checks: request.checks,
            finish: request.finish,
            on_unhealthy: request.on_unhealthy,
            freeze: request.freeze,
            ready_within_seconds: request.ready_within_seconds,
            notes: vec![],
            stable_exceeds_limit: false,
            slow_thresholds: Vec::new(),
            may_leave: vec![],
        }
    }

    fn percent(percent: f64) -> Weight {
        Weight::from_percent(percent).unwrap()
    }

    #[test]
    fn capacity_that_follows_the_weight_is_rounded_up_and_never_zero() {
        // The figures of Argo Rollouts' TestTrafficWeightToReplicas for 10 replicas, but for the first: zero is never enough.
        let tasks = |weight| deployment(Capacity::MatchWeight, 10).tasks_at(percent(weight), 10);
        assert_eq!(
            [0.0, 20.0, 25.0, 33.0, 99.0, 100.0].map(tasks),
            [1, 2, 3, 4, 10, 10]
        );
    }

    #[test]
    fn full_capacity_is_stables_and_a_number_is_that_number() {
        assert_eq!(deployment(Capacity::Full, 4).tasks_at(percent(1.0), 4), 4);
        assert_eq!(
            deployment(Capacity::Tasks(2), 4).tasks_at(percent(100.0), 4),
            2
        );
    }

    #[test]
    fn a_stable_that_is_scaled_by_load_gets_as_many_tasks_as_serve_and_one_that_is_not_keeps_its_own()
     {
        let mut deployment = deployment(Capacity::MatchWeight, 4);
        assert_eq!(deployment.tasks_to_promote(4, 9), 4);
        assert_eq!(deployment.tasks_to_promote(0, 9), 9);
        assert_eq!(deployment.tasks_to_promote(0, 0), 1);
        deployment.stable.scaling = Some(Scaling {
            max_tasks: 8,
            scale_in_suspended: false,
        });
        assert_eq!(deployment.tasks_to_promote(4, 6), 6);
        assert_eq!(
            deployment.tasks_to_promote(4, 9),
            8,
            "never above its maximum"
        );
        assert_eq!(
            deployment.tasks_to_promote(9, 6),
            9,
            "nor below what it has"
        );
    }

    #[test]
    fn held_scaling_is_named_with_its_command_unless_a_person_had_suspended_it_before() {
        let mut deployment = deployment(Capacity::MatchWeight, 4);
        assert_eq!(deployment.held_scale_in(), None);
        let scaling = |scale_in_suspended| {
            Some(Scaling {
                max_tasks: 8,
                scale_in_suspended,
            })
        };
        deployment.stable.scaling = scaling(true);
        assert_eq!(deployment.held_scale_in(), None);
        deployment.stable.scaling = scaling(false);
        let command = deployment.held_scale_in().unwrap().command;
        assert!(
            command.contains("--resource-id service/prod/checkout ")
                && command.ends_with("DynamicScalingInSuspended=false"),
            "{command}"
        );
    }

    #[test]
    fn a_removal_is_not_stuck_while_what_goes_is_left_alone_and_drains() {
        let mut deployment = deployment(Capacity::Full, 1);
        deployment.checks.settle_seconds = 3600;
        let stuck = |seconds| {
            let later = deployment.started_at + jiff::SignedDuration::from_secs(seconds);
            deployment.is_removal_stuck(deployment.started_at, later)
        };
        assert!(!stuck(5400));
        assert!(stuck(5401));
    }

    #[test]
    fn what_lost_its_traffic_is_left_alone_for_as_long_as_it_drains_and_a_late_function_may_run() {
        let mut deployment = deployment(Capacity::Full, 1);
        deployment.checks.settle_seconds = 0;
        assert_eq!(deployment.quiet_seconds(), LATE_SECONDS);
        deployment.checks.settle_seconds = LATE_SECONDS + 30;
        assert_eq!(deployment.quiet_seconds(), LATE_SECONDS + 30);
    }

    #[test]
    fn the_command_that_rolls_back_names_the_state_machine_of_the_execution() {
        let command = deployment(Capacity::Full, 1).roll_back_command();
        assert!(
            command.contains("--state-machine-arn arn:aws:states:eu-west-1:1:stateMachine:serin "),
            "{command}"
        );
        assert!(
            command.contains(r#"{"rollBack": "arn:aws:states:eu-west-1:1:execution:serin:one"}"#),
            "{command}"
        );
    }

    #[test]
    fn polling_until_the_longest_deadline_stays_within_an_executions_events() {
        let mut deployment = deployment(Capacity::Full, 1);
        deployment.deadline_at = deployment.started_at + jiff::SignedDuration::from_secs(518_400);
        let (mut now, mut polls) = (deployment.started_at, 0);
        while !deployment.is_overdue(now) {
            now += jiff::SignedDuration::from_secs(i64::from(
                deployment.poll_seconds(deployment.started_at, now),
            ));
            polls += 1;
        }
        assert!(polls * 9 < 20_000, "{polls}");
    }
}

//! The targets of a target group: registered, health-checked, drained.

use std::mem;

use aws_sdk_elasticloadbalancingv2::operation::describe_target_health::{
    DescribeTargetHealthInput, DescribeTargetHealthOutput,
};
use aws_sdk_elasticloadbalancingv2::types::{
    TargetDescription, TargetHealth, TargetHealthDescription, TargetHealthReasonEnum,
    TargetHealthStateEnum, TargetTypeEnum,
};

use super::{Group, LoadBalancing, no_group};
use crate::account::REGION;
use crate::wire::Refusal;
use crate::world::World;

/// A target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    /// Its address.
    pub(crate) id: String,
    pub(crate) port: i32,
    /// The ECS task; somebody else's target has none, and always answers.
    pub(crate) task: Option<String>,
    pub(crate) state: TargetState,
    /// Since when it is registered in a target group that is used.
    since: i64,
    /// How many health checks in a row it passed, or failed when it is below zero.
    streak: i32,
}

/// Where a target is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetState {
    Initial,
    Healthy,
    Unhealthy,
    Draining { until: i64 },
}

impl Target {
    pub(crate) fn new(id: String, port: i32, task: Option<String>, now: i64) -> Self {
        Self {
            id,
            port,
            task,
            state: TargetState::Initial,
            since: now,
            streak: 0,
        }
    }

    pub(crate) fn drains(&self) -> bool {
        matches!(self.state, TargetState::Draining { .. })
    }

    fn checked(&mut self, passes: bool, group: &Group) {
        let streak = if passes {
            self.streak.max(0) + 1
        } else {
            self.streak.min(0) - 1
        };
        self.streak = streak;
        if streak >= group.data.healthy_threshold_count().unwrap_or(1) {
            self.state = TargetState::Healthy;
        } else if -streak >= group.data.unhealthy_threshold_count().unwrap_or(1) {
            self.state = TargetState::Unhealthy;
        }
    }
}

impl LoadBalancing {
    /// The targets that a task is, with their groups.
    pub(crate) fn targets_of<'a>(
        &'a self,
        task: &'a str,
    ) -> impl Iterator<Item = (&'a Group, &'a Target)> {
        self.groups.iter().flat_map(move |group| {
            let of_task = |target: &&Target| target.task.as_deref() == Some(task);
            group
                .targets
                .iter()
                .filter(of_task)
                .map(move |target| (group, target))
        })
    }

    /// Takes a task out of every target group. Its targets drain where the target group is used.
    pub(crate) fn deregister(&mut self, task: &str, now: i64) {
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            let used = self.balancer_of(group.arn()).is_some();
            let until = now + group.deregistration_delay();
            let group = &mut self.groups[index];
            group
                .targets
                .retain(|target| used || target.task.as_deref() != Some(task));
            for target in &mut group.targets {
                if target.task.as_deref() == Some(task) && !target.drains() {
                    target.state = TargetState::Draining { until };
                }
            }
        }
    }
}

impl World {
    /// One second of health checks.
    pub(crate) fn run_targets(&mut self) {
        let now = self.now();
        for index in 0..self.load_balancing.groups.len() {
            if self.load_balancing.groups[index].targets.is_empty() {
                continue;
            }
            let mut targets = mem::take(&mut self.load_balancing.groups[index].targets);
            let group = &self.load_balancing.groups[index];
            // A load balancer that has not heard yet that a rule lost the target group goes on with its targets.
            let used = self.load_balancing.balancer_of(group.arn()).is_some()
                || self.balancer_traffic.follows(group.arn());
            let interval = i64::from(group.data.health_check_interval_seconds().unwrap_or(30));
            let before = targets.len();
            targets.retain(|target| match target.state {
                TargetState::Draining { until } => used && now < until,
                _ => true,
            });
            let mut changes = u64::from(targets.len() != before);
            for target in targets.iter_mut().filter(|target| !target.drains()) {
                if !used {
                    // Nobody checks the targets of a target group that is not used.
                    changes += u64::from(target.state != TargetState::Initial);
                    *target = Target::new(
                        mem::take(&mut target.id),
                        target.port,
                        target.task.take(),
                        now,
                    );
                } else if now > target.since && (now - target.since) % interval == 0 {
                    let before = (target.state, target.streak);
                    target.checked(self.passes(target), group);
                    changes += u64::from(before.0 != target.state || before.1 == 0);
                }
            }
            self.load_balancing.groups[index].targets = targets;
            self.changes += changes;
        }
    }

    /// The next second in which a target changes by itself. A check that finds what the last ones found changes nothing.
    pub(crate) fn next_event_at_targets(&self) -> i64 {
        let now = self.now();
        let groups = self.load_balancing.groups.iter();
        let events = groups.flat_map(|group| {
            let interval = i64::from(group.data.health_check_interval_seconds().unwrap_or(30));
            group.targets.iter().filter_map(move |target| {
                let is_known = match target.state {
                    TargetState::Draining { until } => return Some(until),
                    TargetState::Initial => false,
                    TargetState::Healthy => self.passes(target),
                    TargetState::Unhealthy => !self.passes(target),
                };
                (!is_known).then(|| now + interval - (now - target.since).rem_euclid(interval))
            })
        });
        events.min().unwrap_or(i64::MAX)
    }

    /// A target of a target group that is not used is as new in every second.
    pub(crate) fn leave_unused_targets(&mut self) {
        let now = self.now();
        for index in 0..self.load_balancing.groups.len() {
            let group = &self.load_balancing.groups[index];
            if group.targets.is_empty()
                || self.load_balancing.balancer_of(group.arn()).is_some()
                || self.balancer_traffic.follows(group.arn())
            {
                continue;
            }
            for target in &mut self.load_balancing.groups[index].targets {
                target.since = now;
            }
        }
    }

    fn passes(&self, target: &Target) -> bool {
        target
            .task
            .as_deref()
            .is_none_or(|task| self.answers_health_checks(task))
    }
}

pub(crate) fn describe_target_health(
    world: &mut World,
    input: &DescribeTargetHealthInput,
) -> Result<DescribeTargetHealthOutput, Refusal> {
    let named = input.target_group_arn().unwrap_or_default();
    let all = &world.load_balancing;
    let group = all.group(named).ok_or_else(|| no_group(named))?;
    let used = all.balancer_of(named).is_some();
    let mut described = Vec::new();
    if input.targets().is_empty() {
        described.extend(group.targets.iter().map(|target| {
            let place = TargetDescription::builder()
                .id(&target.id)
                .port(target.port)
                .availability_zone(format!("{REGION}a"))
                .build();
            describe(group, place, Some(target), used)
        }));
    }
    for asked in input.targets() {
        let found = group.targets.iter().find(|target| {
            Some(target.id.as_str()) == asked.id()
                && asked.port().is_none_or(|port| port == target.port)
        });
        described.push(describe(group, asked.clone(), found, used));
    }
    Ok(DescribeTargetHealthOutput::builder()
        .set_target_health_descriptions(Some(described))
        .build())
}

fn describe(
    group: &Group,
    place: TargetDescription,
    target: Option<&Target>,
    used: bool,
) -> TargetHealthDescription {
    use TargetHealthReasonEnum as Reason;
    use TargetHealthStateEnum as State;
    let (state, reason, text) = match target.map(|target| (target.state, target.streak)) {
        None => (
            State::Unused,
            Some(Reason::NotRegistered),
            "Target is not registered to the target group",
        ),
        Some(_) if !used => (
            State::Unused,
            Some(Reason::NotInUse),
            "Target group is not configured to receive traffic from the load balancer",
        ),
        Some((TargetState::Initial, 0)) => (
            State::Initial,
            Some(Reason::RegistrationInProgress),
            "Target registration is in progress",
        ),
        Some((TargetState::Initial, _)) => (
            State::Initial,
            Some(Reason::InitialHealthChecking),
            "Health checks in progress",
        ),
        Some((TargetState::Healthy, _)) => (State::Healthy, None, ""),
        Some((TargetState::Unhealthy, _)) => {
            (State::Unhealthy, Some(Reason::Timeout), "Request timed out")
        }
        Some((TargetState::Draining { .. }, _)) => (
            State::Draining,
            Some(Reason::DeregistrationInProgress),
            "Target deregistration is in progress",
        ),
    };
    let lambda = group.data.target_type() == Some(&TargetTypeEnum::Lambda);
    let port = target.map_or_else(|| group.data.port().unwrap_or_default(), |it| it.port);
    TargetHealthDescription::builder()
        .target(place)
        .set_health_check_port((!lambda).then(|| port.to_string()))
        .target_health(
            TargetHealth::builder()
                .state(state)
                .set_reason(reason)
                .set_description((!text.is_empty()).then(|| text.to_owned()))
                .build(),
        )
        .build()
}

//! The half of Elastic Load Balancing that moto lacks: targets, their health and their draining.
//!
//! Moto keeps a target under its id alone, so that two tasks of this machine would be one to it, and calls each of them
//! healthy. This module keeps the targets of all groups; the fleet agent and whoever calls the API register them here,
//! the load balancer agent checks them and routes to them, and the gateway tells what is known. Nothing here does I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::load_balancing::{HealthCheck, TargetGroup, list, number};

/// Deregistration takes at least as long as the load balancer needs to hear of it.
const SHORTEST_DRAINING: Duration = Duration::from_secs(1);

/// The attribute that says how long a target drains.
const DELAY: &str = "deregistration_delay.timeout_seconds";

/// What AWS takes when the attribute is not given.
const DEFAULT_DELAY: Duration = Duration::from_mins(5);

/// A target: an address and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) port: u16,
}

/// How it stands with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Initial,
    Healthy,
    Unhealthy,
    Draining,
    /// No load balancer uses its group.
    Unused,
}

impl Health {
    fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::Unused => "unused",
        }
    }
}

/// What a check of a target came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    Well,
    /// It answered with a code that is not healthy.
    WrongCode(u16),
    /// It did not answer in time, or not at all.
    NoAnswer,
}

/// A check that is due.
#[derive(Debug, Clone)]
pub(crate) struct DueCheck {
    pub(crate) group: String,
    pub(crate) target: Target,
    pub(crate) check: HealthCheck,
}

/// The targets of all target groups.
#[derive(Debug)]
pub struct TargetRuntime {
    groups: Mutex<BTreeMap<String, Group>>,
    /// Counts the changes, so that they can be waited for.
    changes: watch::Sender<u64>,
}

impl Default for TargetRuntime {
    fn default() -> Self {
        Self {
            groups: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

#[derive(Debug, Default)]
struct Group {
    /// What moto says of it; nothing before the first look.
    known: Option<TargetGroup>,
    attached: bool,
    targets: BTreeMap<Target, State>,
}

#[derive(Debug)]
struct State {
    healthy: Option<bool>,
    /// How many checks in a row contradicted `healthy`.
    against: u32,
    last: Option<Checked>,
    next_check: Instant,
    draining_until: Option<Instant>,
}

impl Group {
    fn health(&self, state: &State) -> Health {
        match (state.draining_until, self.attached, state.healthy) {
            (Some(_), _, _) => Health::Draining,
            (None, false, _) => Health::Unused,
            (None, true, None) => Health::Initial,
            (None, true, Some(true)) => Health::Healthy,
            (None, true, Some(false)) => Health::Unhealthy,
        }
    }

    fn delay(&self) -> Duration {
        let seconds = self
            .known
            .as_ref()
            .and_then(|group| group.attributes.get(DELAY)?.parse().ok());
        seconds
            .map_or(DEFAULT_DELAY, Duration::from_secs)
            .max(SHORTEST_DRAINING)
    }
}

impl TargetRuntime {
    /// Takes in what moto says of all target groups, and which of them a load balancer uses.
    pub(crate) fn observe(&self, known: &[TargetGroup], attached: &BTreeSet<String>) {
        let mut groups = self.lock();
        // A group that was never seen may be younger than this look.
        groups.retain(|arn, group| {
            group.known.is_none() || known.iter().any(|group| group.arn == *arn)
        });
        let mut changed = false;
        for group in known {
            let entry = groups.entry(group.arn.clone()).or_default();
            let is_attached = attached.contains(&group.arn);
            changed |= entry.attached != is_attached;
            if is_attached && !entry.attached {
                // Targets of a group that nobody used have not been checked.
                for state in entry.targets.values_mut() {
                    *state = State::new();
                }
            }
            entry.attached = is_attached;
            entry.known = Some(group.clone());
        }
        let count = |groups: &BTreeMap<String, Group>| -> usize {
            groups.values().map(|group| group.targets.len()).sum()
        };
        let before = count(&groups);
        let now = Instant::now();
        for group in groups.values_mut() {
            group
                .targets
                .retain(|_, state| state.draining_until.is_none_or(|until| now < until));
        }
        changed |= before != count(&groups);
        drop(groups);
        if changed {
            self.note_change();
        }
    }

    /// Registers a target. One that drains is taken back.
    pub(crate) fn register(&self, group: &str, target: &Target) {
        let mut groups = self.lock();
        let targets = &mut groups.entry(group.to_owned()).or_default().targets;
        let known = targets
            .get(target)
            .is_some_and(|state| state.draining_until.is_none());
        if !known {
            targets.insert(target.clone(), State::new());
        }
        drop(groups);
        self.note_change();
    }

    /// Deregisters a target: it gets no new request and is gone when its group's delay is over. One that no load
    /// balancer uses is gone at once.
    pub(crate) fn deregister(&self, group: &str, target: &Target) {
        let mut groups = self.lock();
        if let Some(group) = groups.get_mut(group) {
            let until = Instant::now() + group.delay();
            if group.attached {
                if let Some(state) = group.targets.get_mut(target) {
                    state.draining_until.get_or_insert(until);
                }
            } else {
                group.targets.remove(target);
            }
        }
        drop(groups);
        self.note_change();
    }

    /// Completes when a target is no longer registered in any of these groups and does not drain.
    pub(crate) async fn drained(&self, of_groups: &[String], target: &Target) {
        loop {
            let until = {
                let groups = self.lock();
                of_groups
                    .iter()
                    .filter_map(|arn| groups.get(arn)?.targets.get(target))
                    .filter_map(|state| state.draining_until)
                    .max()
            };
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// Completes when a target is healthy in all of these groups.
    pub(crate) async fn healthy(&self, in_groups: &[String], target: &Target) {
        self.until(|groups| {
            in_groups.iter().all(|arn| {
                groups
                    .get(arn)
                    .and_then(|group| Some(group.health(group.targets.get(target)?)))
                    == Some(Health::Healthy)
            })
        })
        .await;
    }

    /// Completes with the group in which a target is unhealthy.
    pub(crate) async fn unhealthy(&self, in_groups: &[String], target: &Target) -> String {
        let mut found = None;
        self.until(|groups| {
            found = in_groups
                .iter()
                .find(|arn| {
                    groups
                        .get(*arn)
                        .and_then(|group| Some(group.health(group.targets.get(target)?)))
                        == Some(Health::Unhealthy)
                })
                .cloned();
            found.is_some()
        })
        .await;
        found.unwrap_or_default()
    }

    async fn until(&self, mut condition: impl FnMut(&BTreeMap<String, Group>) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(&self.lock()) {
            // The sender lives in self, so this ends only with a change.
            let _ = changes.changed().await;
        }
    }

    /// The checks that are due; they count as begun.
    pub(crate) fn due_checks(&self) -> Vec<DueCheck> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (arn, group) in self.lock().iter_mut() {
            let Some(known) = group.known.as_ref().filter(|_| group.attached) else {
                continue;
            };
            for (target, state) in &mut group.targets {
                if state.draining_until.is_none() && state.next_check <= now {
                    state.next_check =
                        now + Duration::from_secs(known.health_check.interval_seconds);
                    due.push(DueCheck {
                        group: arn.clone(),
                        target: target.clone(),
                        check: known.health_check.clone(),
                    });
                }
            }
        }
        due
    }

    /// A target was checked.
    pub(crate) fn checked(&self, check: &DueCheck, result: Checked) {
        let mut groups = self.lock();
        let state = groups
            .get_mut(&check.group)
            .and_then(|group| group.targets.get_mut(&check.target));
        let Some(state) = state else {
            return;
        };
        state.last = Some(result);
        let well = result == Checked::Well;
        if state.healthy == Some(well) {
            state.against = 0;
            return;
        }
        state.against += 1;
        let enough = match (state.healthy, well) {
            // A new target needs one good check, as on AWS.
            (None, true) => 1,
            (_, true) => check.check.healthy_threshold,
            (_, false) => check.check.unhealthy_threshold,
        };
        if state.against >= enough {
            state.healthy = Some(well);
            state.against = 0;
            drop(groups);
            self.note_change();
        }
    }

    /// The targets of a group with their health, for the load balancer.
    pub(crate) fn targets(&self, group: &str) -> Vec<(Target, Health)> {
        let groups = self.lock();
        let Some(group) = groups.get(group) else {
            return Vec::new();
        };
        group
            .targets
            .iter()
            .map(|(target, state)| (target.clone(), group.health(state)))
            .collect()
    }

    /// How many targets of a group are healthy and how many are not; draining ones are neither.
    pub(crate) fn host_counts(&self, group: &str) -> (usize, usize) {
        let targets = self.targets(group);
        let count =
            |wanted: &[Health]| targets.iter().filter(|(_, it)| wanted.contains(it)).count();
        (
            count(&[Health::Healthy]),
            count(&[Health::Unhealthy, Health::Initial]),
        )
    }

    /// The number of changes, to be waited upon.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Does what `RegisterTargets` or `DeregisterTargets` asks for. `default_port` is the group's.
    pub(crate) fn change(&self, action: &str, request: &Value) {
        let group = request["TargetGroupArn"].as_str().unwrap_or_default();
        for target in list(&request["Targets"]) {
            let target = Target {
                address: target["Id"].as_str().unwrap_or_default().to_owned(),
                port: number(&target["Port"])
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or(80),
            };
            match action {
                "RegisterTargets" => self.register(group, &target),
                _ => self.deregister(group, &target),
            }
        }
    }

    /// Answers `DescribeTargetHealth`.
    pub(crate) fn describe(&self, request: &Value) -> Value {
        let arn = request["TargetGroupArn"].as_str().unwrap_or_default();
        let groups = self.lock();
        let nothing = Group::default();
        let group = groups.get(arn).unwrap_or(&nothing);
        let asked: Vec<(String, Option<u64>)> = list(&request["Targets"])
            .map(|target| {
                let id = target["Id"].as_str().unwrap_or_default();
                (id.to_owned(), number(&target["Port"]))
            })
            .collect();
        let meets = |target: &Target, (id, port): &(String, Option<u64>)| {
            target.address == *id && port.is_none_or(|port| port == u64::from(target.port))
        };
        let mut described: Vec<Value> = group
            .targets
            .iter()
            .filter(|(target, _)| {
                asked.is_empty() || asked.iter().any(|asked| meets(target, asked))
            })
            .map(|(target, state)| {
                let health_port = group
                    .known
                    .as_ref()
                    .and_then(|known| known.health_check.port)
                    .unwrap_or(target.port);
                json!({
                    "Target": {"Id": target.address, "Port": target.port, "AvailabilityZone": "all"},
                    "HealthCheckPort": health_port.to_string(),
                    "TargetHealth": target_health(group.health(state), state.last),
                })
            })
            .collect();
        for asked in asked {
            if !group.targets.keys().any(|target| meets(target, &asked)) {
                let mut target = json!({"Id": asked.0});
                if let Some(port) = asked.1 {
                    target["Port"] = json!(port);
                }
                described.push(json!({"Target": target, "TargetHealth": {
                    "State": "unused",
                    "Reason": "Target.NotRegistered",
                    "Description": "Target is not registered to the target group",
                }}));
            }
        }
        json!({"TargetHealthDescriptions": described})
    }

    fn note_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups
            .lock()
            .expect("nobody panics while holding the targets")
    }
}

impl State {
    fn new() -> Self {
        Self {
            healthy: None,
            against: 0,
            last: None,
            next_check: Instant::now(),
            draining_until: None,
        }
    }
}

/// A target's health in AWS's words. A healthy target has no reason.
fn target_health(health: Health, last: Option<Checked>) -> Value {
    let why = match (health, last) {
        (Health::Healthy, _) => return json!({"State": health.name()}),
        (Health::Initial, _) => (
            "Elb.InitialHealthChecking".to_owned(),
            "Initial health checks in progress".to_owned(),
        ),
        (Health::Draining, _) => (
            "Target.DeregistrationInProgress".to_owned(),
            "Target deregistration is in progress".to_owned(),
        ),
        (Health::Unused, _) => (
            "Target.NotInUse".to_owned(),
            "Target group is not configured to receive traffic from the load balancer".to_owned(),
        ),
        (Health::Unhealthy, Some(Checked::WrongCode(code))) => (
            "Target.ResponseCodeMismatch".to_owned(),
            format!("Health checks failed with these codes: [{code}]"),
        ),
        (Health::Unhealthy, _) => (
            "Target.FailedHealthChecks".to_owned(),
            "Health checks failed".to_owned(),
        ),
    };
    json!({"State": health.name(), "Reason": why.0, "Description": why.1})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(delay: &str) -> TargetGroup {
        TargetGroup {
            arn: "web".to_owned(),
            name: "web".to_owned(),
            http2: false,
            health_check: HealthCheck {
                path: "/".to_owned(),
                port: None,
                interval_seconds: 5,
                timeout_seconds: 2,
                healthy_threshold: 2,
                unhealthy_threshold: 2,
                matcher: "200".to_owned(),
            },
            attributes: [(DELAY.to_owned(), delay.to_owned())].into(),
        }
    }

    fn target(port: u16) -> Target {
        Target {
            address: "127.0.0.1".to_owned(),
            port,
        }
    }

    fn attached(delay: &str) -> TargetRuntime {
        let runtime = TargetRuntime::default();
        runtime.observe(&[group(delay)], &["web".to_owned()].into());
        runtime
    }

    fn states(runtime: &TargetRuntime) -> Vec<Health> {
        let targets = runtime.targets("web");
        targets.into_iter().map(|(_, health)| health).collect()
    }

    #[test]
    fn a_new_target_is_initial_and_healthy_after_one_good_check() {
        let runtime = attached("5");
        runtime.register("web", &target(1));
        assert_eq!(states(&runtime), [Health::Initial]);
        let due = runtime.due_checks();
        assert_eq!(due.len(), 1);
        assert!(runtime.due_checks().is_empty(), "once in an interval");
        runtime.checked(&due[0], Checked::Well);
        assert_eq!(states(&runtime), [Health::Healthy]);
    }

    #[test]
    fn a_target_changes_sides_only_after_as_many_checks_as_its_group_says() {
        let runtime = attached("5");
        runtime.register("web", &target(1));
        let due = runtime.due_checks();
        runtime.checked(&due[0], Checked::Well);
        runtime.checked(&due[0], Checked::WrongCode(500));
        assert_eq!(states(&runtime), [Health::Healthy]);
        runtime.checked(&due[0], Checked::WrongCode(500));
        assert_eq!(states(&runtime), [Health::Unhealthy]);
        let described = runtime.describe(&json!({"TargetGroupArn": "web"}));
        assert_eq!(
            described["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"],
            "Target.ResponseCodeMismatch"
        );
        runtime.checked(&due[0], Checked::Well);
        assert_eq!(states(&runtime), [Health::Unhealthy]);
        runtime.checked(&due[0], Checked::Well);
        assert_eq!(states(&runtime), [Health::Healthy]);
    }

    #[tokio::test]
    async fn a_deregistered_target_drains_for_the_delay_and_is_gone() {
        let runtime = attached("1");
        runtime.register("web", &target(1));
        let began = Instant::now();
        runtime.deregister("web", &target(1));
        assert_eq!(states(&runtime), [Health::Draining]);
        runtime.drained(&["web".to_owned()], &target(1)).await;
        assert!(began.elapsed() >= Duration::from_secs(1));
        runtime.observe(&[group("1")], &["web".to_owned()].into());
        assert_eq!(states(&runtime), []);
    }

    #[test]
    fn a_target_of_a_group_that_nobody_uses_is_unused_and_goes_at_once() {
        let runtime = TargetRuntime::default();
        runtime.observe(&[group("5")], &BTreeSet::new());
        runtime.register("web", &target(1));
        assert_eq!(states(&runtime), [Health::Unused]);
        assert!(runtime.due_checks().is_empty());
        runtime.deregister("web", &target(1));
        assert_eq!(states(&runtime), []);
    }

    #[test]
    fn two_targets_of_one_address_are_two_and_a_stranger_is_unused() {
        let runtime = attached("5");
        let request = json!({"TargetGroupArn": "web", "Targets": [
            {"Id": "127.0.0.1", "Port": "1"}, {"Id": "127.0.0.1", "Port": "2"},
        ]});
        runtime.change("RegisterTargets", &request);
        assert_eq!(states(&runtime).len(), 2);
        let stranger =
            json!({"TargetGroupArn": "web", "Targets": [{"Id": "127.0.0.1", "Port": "9"}]});
        let described = runtime.describe(&stranger);
        assert_eq!(
            described["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"],
            "Target.NotRegistered"
        );
    }
}

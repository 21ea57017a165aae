//! The safety rules of a deployment behind a load balancer.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_applicationautoscaling::types::ScalableTarget;
use aws_sdk_elasticloadbalancingv2::types::{
    Listener, Rule, TargetGroupStickinessConfig, TargetTypeEnum,
};

use super::{Subject, is_baseline};
use crate::load_balancing::{tuples, tuples_mut};
use crate::snapshot::Snapshot;
use crate::world::World;

/// How far a share may be from what it should be, in percentage points: whole weights cannot say everything.
const TOLERANCE: f64 = 0.01 + 1e-9;

/// The weights of a rule, by ARN.
fn weights(rule: &Rule) -> BTreeMap<&str, f64> {
    tuples(rule.actions())
        .iter()
        .map(|tuple| {
            let weight = f64::from(tuple.weight().unwrap_or(1));
            (tuple.target_group_arn().unwrap_or_default(), weight)
        })
        .collect()
}

impl Subject {
    /// Rules 1, 2, 3 and 5 for every rule of a load balancer that forwarded to stable, and rule 5 for every other one.
    pub(super) fn rules_are_kept(&self, world: &World, now: &Snapshot) -> Vec<String> {
        let mut violations = Vec::new();
        if self.before.rules.is_empty() && world.load_balancing.balancers.is_empty() {
            return violations;
        }
        for (path, before) in &self.before.rules {
            let Some(rule) = now.rules.get(path) else {
                violations.push(format!("rule 5: rule {path} is gone"));
                continue;
            };
            if self.forwards_to_stable(before) {
                violations.extend(self.rule_adds_up(path, before, rule));
                violations.extend(self.rule_is_within_the_step(path, before, rule));
                violations.extend(Self::rule_reaches_healthy_targets(world, path, rule));
            }
            let (was, is) = (
                self.without_weights(before, before),
                self.without_weights(before, rule),
            );
            if was != is {
                violations.push(format!("rule 5: rule {path} was {was:?} and is {is:?}"));
            }
        }
        let bare = |listeners: &BTreeMap<String, Listener>| {
            let mut listeners = listeners.clone();
            for listener in listeners.values_mut() {
                listener.default_actions = None;
            }
            listeners
        };
        if bare(&self.before.listeners) != bare(&now.listeners) {
            violations.push("rule 5: a listener was changed".to_owned());
        }
        if self.before.balancer_tags != now.balancer_tags {
            violations.push("rule 5: the tags of a load balancer were changed".to_owned());
        }
        violations
    }

    fn forwards_to_stable(&self, rule: &Rule) -> bool {
        weights(rule).keys().any(|group| self.is_stable(group))
    }

    fn is_stable(&self, group: &str) -> bool {
        self.stable_groups.iter().any(|stable| stable == group)
    }

    /// Rule 1: stable and canary together have the share of the whole that stable had.
    fn rule_adds_up(&self, path: &str, before: &Rule, now: &Rule) -> Option<String> {
        let (before, now) = (weights(before), weights(now));
        let known: BTreeSet<&str> = before.keys().copied().collect();
        let share = |weights: &BTreeMap<&str, f64>| {
            let ours: f64 = weights
                .iter()
                .filter(|(group, _)| self.is_stable(group) || !known.contains(*group))
                .map(|(_, weight)| weight)
                .sum();
            let all: f64 = weights.values().sum();
            if all == 0.0 {
                f64::NAN
            } else {
                ours * 100.0 / all
            }
        };
        let kept = (share(&before) - share(&now)).abs() <= TOLERANCE;
        (!kept)
            .then(|| format!("rule 1: the weights of rule {path} were {before:?} and are {now:?}"))
    }

    /// Rule 2: neither the canary's share of what all sides have nor the baseline's is above the current step.
    fn rule_is_within_the_step(&self, path: &str, before: &Rule, now: &Rule) -> Vec<String> {
        let (before, now) = (weights(before), weights(now));
        let sum = |wanted: &dyn Fn(&str) -> bool| -> f64 {
            now.iter()
                .filter(|(group, _)| wanted(group))
                .map(|(_, weight)| weight)
                .sum()
        };
        let is_new = |group: &str| !before.contains_key(group);
        let baseline = sum(&|group| is_new(group) && is_baseline(group));
        let canary = sum(&|group| is_new(group) && !is_baseline(group));
        let stable = sum(&|group| self.is_stable(group));
        self.within_the_step(&format!("rule {path}"), canary, baseline, stable, TOLERANCE)
    }

    /// Rule 3: no weight goes to a target group without a healthy target.
    fn rule_reaches_healthy_targets(world: &World, path: &str, now: &Rule) -> Vec<String> {
        let empty = |arn: &str| {
            world.load_balancing.group(arn).is_none_or(|group| {
                group.data.target_type() != Some(&TargetTypeEnum::Lambda)
                    && group.healthy_targets() == 0
            })
        };
        weights(now)
            .into_iter()
            .filter(|(group, weight)| *weight > 0.0 && empty(group))
            .map(|(group, weight)| {
                format!(
                    "rule 3: rule {path} gives {weight} to {group}, which has no healthy target"
                )
            })
            .collect()
    }

    /// A rule without what a deployment may change. A replacement may end with stable's own target group taken out.
    fn without_weights(&self, before: &Rule, rule: &Rule) -> Rule {
        let known = weights(before);
        let mut rule = rule.clone();
        let actions = rule.actions.get_or_insert_default();
        for action in actions.iter_mut() {
            let Some(forward) = &mut action.forward_config else {
                continue;
            };
            // It is only shown when there is one target group.
            action.target_group_arn = None;
            forward
                .target_group_stickiness_config
                .get_or_insert_with(|| {
                    TargetGroupStickinessConfig::builder()
                        .enabled(false)
                        .build()
                });
        }
        if let Some(tuples) = tuples_mut(actions) {
            tuples.retain(|tuple| {
                let group = tuple.target_group_arn().unwrap_or_default();
                known.contains_key(group) && !(self.promoting && self.is_stable(group))
            });
            for tuple in tuples {
                tuple.weight = None;
            }
        }
        rule
    }

    /// Rule 4: stable's target groups are as they were, with attributes and tags.
    pub(super) fn stable_groups_are_untouched(&self, now: &Snapshot) -> Vec<String> {
        let differs =
            |arn: &&String| now.target_groups.get(*arn) != self.before.target_groups.get(*arn);
        self.stable_groups
            .iter()
            .filter(differs)
            .map(|arn| format!("rule 4: the target group {arn} was modified before promotion"))
            .collect()
    }

    /// Rule 4: of stable's scalable target, only whether it may scale in may differ; its policies are as they were.
    pub(super) fn scaling_is_untouched(&self, now: &Snapshot) -> Option<String> {
        let resource = format!("service/{}", self.service);
        let shape = |snapshot: &Snapshot| {
            let mut target: ScalableTarget = snapshot.scalable_targets.get(&resource).cloned()?;
            if let Some(state) = &mut target.suspended_state {
                state.dynamic_scaling_in_suspended = None;
            }
            Some(target)
        };
        let policies = |snapshot: &Snapshot| {
            let policies = snapshot.scaling_policies.values();
            policies
                .filter(|policy| policy.resource_id == resource)
                .cloned()
                .collect::<Vec<_>>()
        };
        let same = shape(now) == shape(&self.before) && policies(now) == policies(&self.before);
        (!same).then(|| format!("rule 4: the scaling of {resource} was modified before promotion"))
    }
}

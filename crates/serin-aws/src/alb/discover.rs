//! Finds the load balancer's objects behind a service. Changes nothing.

use aws_sdk_elasticloadbalancingv2::types::{
    Listener, ProtocolEnum, TargetGroup, TargetGroupAttribute, TargetTypeEnum,
};
use serin::PortError;
use serin::name::{DeploymentId, baseline_name, canary_name, is_another_canary_of, is_canary_name};
use serin::ports::{DiscoveryError, ServiceDescription};
use serin::progress::TargetGroupUse;
use serin::request::RouterWish;
use serin::routing::{AlbRecord, Group, GroupPair, LoadBalancerKind, MOST_GROUPS, RuleRecord};

use super::{AlbRouter, groups, rules};
use crate::error::{failed, is_not_found};

/// Elastic Load Balancing's limit on a target group's name.
const LONGEST_NAME: usize = 32;

impl AlbRouter {
    pub(super) async fn find(
        &self,
        wish: Option<&RouterWish>,
        service: &ServiceDescription,
        id: &DeploymentId,
    ) -> Result<AlbRecord, DiscoveryError> {
        let uses = &service.target_groups;
        if uses.is_empty() {
            return Err(unsupported(format!(
                "service {} is registered in no target group, so no load balancer sends traffic to it",
                service.service
            )));
        }
        let mut pairs = Vec::new();
        let mut kinds = Vec::new();
        for (index, used) in uses.iter().enumerate() {
            if uses[..index]
                .iter()
                .any(|other| other.target_group_arn == used.target_group_arn)
            {
                return Err(unsupported(format!(
                    "service {} registers two of its ports in target group {}; a canary's targets could not be told by port",
                    service.service, used.target_group_arn
                )));
            }
            let (pair, kind) = self.pair(used, service, index, id).await?;
            pairs.push(pair);
            kinds.push(kind);
        }
        let balancer = kinds[0];
        if kinds.iter().any(|kind| *kind != balancer) {
            return Err(unsupported(format!(
                "service {} is behind an Application and a Network Load Balancer; their weights mean different things, and the canary would get \
                 another share from each",
                service.service
            )));
        }
        let mut record = AlbRecord {
            balancer,
            groups: pairs,
            rules: Vec::new(),
            left_out: Vec::new(),
        };
        let rules = self.rules_to(&record).await?;
        let (chosen, left_out) =
            choose(rules, wish.and_then(|wish| wish.rules.as_deref()), service)?;
        record.left_out = left_out.into_iter().map(|rule| rule.name).collect();
        record.rules = chosen;
        for rule in &record.rules {
            check(rule, &record, id)?;
        }
        for (index, pair) in record.groups.iter().enumerate() {
            let in_a_rule = |rule: &RuleRecord| {
                let mut groups = rule.groups.iter();
                groups.any(|entry| entry.group == Group::Stable(index))
            };
            if !record.rules.iter().any(in_a_rule) {
                return Err(unsupported(format!(
                    "no rule that is to be shifted forwards to target group {} of service {}; ECS would refuse the canary's copy of it, which nothing \
                     would use",
                    pair.stable.target_group_arn, service.service
                )));
            }
        }
        if !record.rules.iter().any(RuleRecord::gets_traffic) {
            return Err(unsupported(format!(
                "every rule that names the target groups of service {} gives them weight 0, so there is no traffic to shift",
                service.service
            )));
        }
        Ok(record)
    }

    /// One of stable's target groups with the name of its copy, after making sure that a copy can do what it does.
    async fn pair(
        &self,
        used: &TargetGroupUse,
        service: &ServiceDescription,
        index: usize,
        id: &DeploymentId,
    ) -> Result<(GroupPair, LoadBalancerKind), DiscoveryError> {
        let arn = &used.target_group_arn;
        let request = self
            .load_balancing
            .describe_target_groups()
            .target_group_arns(arn);
        let group = match request.send().await {
            Err(error) if is_not_found(&error) => None,
            answer => answer
                .map_err(failed("Elastic Load Balancing DescribeTargetGroups"))?
                .target_groups
                .and_then(|groups| groups.into_iter().next()),
        };
        let Some(group) = group else {
            return Err(unsupported(format!(
                "service {} is registered in target group {arn}, which does not exist",
                service.service
            )));
        };
        let (load_balancer_arn, kind) = balancer_of(&group, service)?;
        refuse_unknown_targets(&group)?;
        self.refuse_shared(&group, service).await?;
        let attributes = self.attributes_of(arn).await?;
        let name = group.target_group_name().unwrap_or_default();
        let place = Place {
            index,
            of: service.target_groups.len(),
        };
        let pair = GroupPair {
            canary_name: numbered(canary_name, "-canary-", name, place, id),
            baseline_name: numbered(baseline_name, "-baseline-", name, place, id),
            stable: used.clone(),
            load_balancer_arn,
            deregistration_delay_seconds: value(
                &attributes,
                "deregistration_delay.timeout_seconds",
            )
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(0),
            sticky: value(&attributes, "stickiness.enabled") == Some("true"),
            grpc: group.protocol_version() == Some("GRPC"),
        };
        Ok((pair, kind))
    }

    /// A target group in which others are registered as well cannot be shifted away from without them.
    async fn refuse_shared(
        &self,
        group: &TargetGroup,
        service: &ServiceDescription,
    ) -> Result<(), DiscoveryError> {
        let arn = group.target_group_arn().unwrap_or_default();
        let states = self.target_states(arn).await?;
        let registered = states
            .iter()
            .filter(|state| !groups::is_draining(state))
            .count();
        // A task that has just started may not be registered yet; a target more than tasks is somebody else's.
        if registered > service.running_count as usize {
            return Err(unsupported(format!(
                "target group {} has {registered} targets, but service {} runs {} tasks: others are registered in it, and their traffic would be \
                 shifted too",
                group.target_group_name().unwrap_or(arn),
                service.service,
                service.running_count
            )));
        }
        Ok(())
    }

    /// Every rule of every listener of the load balancers that forwards to one of stable's target groups, default actions
    /// included.
    pub(super) async fn rules_to(&self, record: &AlbRecord) -> Result<Vec<RuleRecord>, PortError> {
        let mut balancers: Vec<_> = record
            .groups
            .iter()
            .map(|pair| pair.load_balancer_arn.as_str())
            .collect();
        balancers.sort_unstable();
        balancers.dedup();
        let mut found = Vec::new();
        for balancer in balancers {
            let mut listeners = self
                .load_balancing
                .describe_listeners()
                .load_balancer_arn(balancer)
                .into_paginator()
                .items()
                .send();
            while let Some(listener) = listeners.next().await {
                let listener =
                    listener.map_err(failed("Elastic Load Balancing DescribeListeners"))?;
                found.extend(default_action(record, &listener));
                // A Network Load Balancer's listeners have no rules.
                if record.balancer == LoadBalancerKind::Application {
                    found.extend(self.rules_of(record, &listener).await?);
                }
            }
        }
        Ok(found)
    }

    /// The rules of a listener that forward to one of stable's target groups, without the default action.
    async fn rules_of(
        &self,
        record: &AlbRecord,
        listener: &Listener,
    ) -> Result<Vec<RuleRecord>, PortError> {
        let arn = listener.listener_arn().unwrap_or_default();
        let request = self.load_balancing.describe_rules().listener_arn(arn);
        let mut rules = request.into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(rule) = rules.next().await {
            let rule = rule.map_err(failed("Elastic Load Balancing DescribeRules"))?;
            if rule.is_default == Some(true) {
                continue;
            }
            let live = rules::Live::new(record, rule.actions(), rules::beside(&rule));
            if let Some(live) = live.filter(names_stable) {
                found.push(RuleRecord {
                    listener_arn: arn.to_owned(),
                    rule_arn: rule.rule_arn.clone(),
                    name: format!(
                        "rule {} of {}",
                        rule.priority().unwrap_or("without a priority"),
                        name_of_listener(listener)
                    ),
                    fingerprint: live.fingerprint(),
                    sticky_seconds: live.sticky_seconds(),
                    groups: live.groups,
                });
            }
        }
        Ok(found)
    }
}

fn default_action(record: &AlbRecord, listener: &Listener) -> Option<RuleRecord> {
    let live = rules::Live::new(record, listener.default_actions(), String::new());
    let live = live.filter(names_stable)?;
    Some(RuleRecord {
        listener_arn: listener.listener_arn().unwrap_or_default().to_owned(),
        rule_arn: None,
        name: format!("the default action of {}", name_of_listener(listener)),
        fingerprint: live.fingerprint(),
        sticky_seconds: live.sticky_seconds(),
        groups: live.groups,
    })
}

fn names_stable(live: &rules::Live) -> bool {
    live.groups
        .iter()
        .any(|entry| matches!(entry.group, Group::Stable(_)))
}

/// A listener as sentences name it: `listener HTTPS:443 of load balancer shop`.
fn name_of_listener(listener: &Listener) -> String {
    let balancer = listener.load_balancer_arn().unwrap_or_default();
    // `...:loadbalancer/app/<name>/<part that AWS chooses>`
    let name = balancer.rsplit('/').nth(1).unwrap_or(balancer);
    let protocol = listener.protocol().map_or("", ProtocolEnum::as_str);
    let port = listener.port.unwrap_or(0);
    format!("listener {protocol}:{port} of load balancer {name}")
}

/// The load balancer of a target group, and its kind, which is in its ARN.
fn balancer_of(
    group: &TargetGroup,
    service: &ServiceDescription,
) -> Result<(String, LoadBalancerKind), DiscoveryError> {
    let name = group.target_group_name().unwrap_or_default();
    let [arn] = group.load_balancer_arns() else {
        return Err(unsupported(format!(
            "target group {name} of service {} is used by {} load balancers and a canary needs exactly one",
            service.service,
            group.load_balancer_arns().len()
        )));
    };
    let kind = match arn
        .split(":loadbalancer/")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
    {
        Some("app") => LoadBalancerKind::Application,
        Some("net") => LoadBalancerKind::Network,
        _ => {
            return Err(unsupported(format!(
                "target group {name} is used by {arn}; only Application and Network Load Balancers divide traffic by weights"
            )));
        }
    };
    Ok((arn.clone(), kind))
}

fn refuse_unknown_targets(group: &TargetGroup) -> Result<(), DiscoveryError> {
    let name = group.target_group_name().unwrap_or_default();
    match group.target_type() {
        Some(TargetTypeEnum::Ip | TargetTypeEnum::Instance) | None => {}
        Some(other) => {
            return Err(unsupported(format!(
                "target group {name} has targets of type {}; ip and instance are supported, which is what ECS registers",
                other.as_str()
            )));
        }
    }
    match group.protocol() {
        Some(ProtocolEnum::Http | ProtocolEnum::Https | ProtocolEnum::Tcp | ProtocolEnum::Tls)
        | None => Ok(()),
        Some(other) => Err(unsupported(format!(
            "target group {name} has protocol {}, whose flows do not end, so a side that loses its traffic cannot be drained; HTTP, HTTPS, TCP and TLS \
             are supported",
            other.as_str()
        ))),
    }
}

/// Which of how many target groups.
#[derive(Debug, Clone, Copy)]
struct Place {
    index: usize,
    of: usize,
}

/// What `named` calls the copy of a target group, as `<stable>-canary-<deployment>`; with several target groups, whose names may
/// begin alike, also which one.
fn numbered(
    named: fn(&str, &DeploymentId, usize) -> String,
    kind: &str,
    stable: &str,
    place: Place,
    id: &DeploymentId,
) -> String {
    if place.of == 1 {
        return named(stable, id, LONGEST_NAME);
    }
    let number = format!("-{}", place.index + 1);
    let tail = format!("{kind}{id}");
    let name = named(stable, id, LONGEST_NAME - number.len());
    let base = name.strip_suffix(&tail).unwrap_or(&name);
    // A stable that is a former canary has its number.
    let base = match base.strip_suffix(&number) {
        Some(base) if is_canary_name(stable) => base,
        _ => base,
    };
    format!("{base}{number}{tail}")
}

/// The rules that the request names, by the ARN of a rule or of a listener for its default action, or all; and those that it
/// leaves out.
fn choose(
    rules: Vec<RuleRecord>,
    wish: Option<&[String]>,
    service: &ServiceDescription,
) -> Result<(Vec<RuleRecord>, Vec<RuleRecord>), DiscoveryError> {
    if rules.is_empty() {
        return Err(unsupported(format!(
            "no rule and no default action of a listener forwards to the target groups of service {}, so there is no weight to shift",
            service.service
        )));
    }
    let Some(wish) = wish else {
        return Ok((rules, Vec::new()));
    };
    let arn = |rule: &RuleRecord| {
        rule.rule_arn
            .clone()
            .unwrap_or_else(|| rule.listener_arn.clone())
    };
    if let Some(unknown) = wish
        .iter()
        .find(|wished| !rules.iter().any(|rule| arn(rule) == **wished))
    {
        let known: Vec<_> = rules.iter().map(arn).collect();
        return Err(unsupported(format!(
            "router.rules names {unknown}, which is no rule to the target groups of service {}; these are: {}",
            service.service,
            known.join(", ")
        )));
    }
    Ok(rules
        .into_iter()
        .partition(|rule| wish.contains(&arn(rule))))
}

/// Whether the canary's target groups can be put into the rule, and nothing else is in the way.
fn check(rule: &RuleRecord, record: &AlbRecord, id: &DeploymentId) -> Result<(), DiscoveryError> {
    let names: Vec<_> = rule
        .groups
        .iter()
        .map(|entry| name_in(record, &entry.group))
        .collect();
    // A service that was replaced has a former canary for its stable; one that is being deployed has both in the rule.
    let of_a_deployment = |name: &str| {
        let mut beside = names.iter().filter(|other| **other != name);
        let mut ours = record.groups.iter();
        beside.any(|other| is_another_canary_of(name, &canary_name(other, id, LONGEST_NAME)))
            || ours.any(|pair| is_another_canary_of(name, &pair.canary_name))
    };
    let mut others = rule
        .groups
        .iter()
        .zip(&names)
        .filter_map(|(entry, name)| matches!(entry.group, Group::Other(_)).then_some(*name));
    if let Some(other) = others.find(|name| of_a_deployment(name)) {
        return Err(unsupported(format!(
            "{} already names {other}, the canary of another deployment, which must be over, or taken out, first",
            rule.name
        )));
    }
    let mut stables = rule.groups.iter().filter_map(|entry| match entry.group {
        Group::Stable(index) => record.groups.get(index),
        Group::Canary(_) | Group::Baseline(_) | Group::Other(_) => None,
    });
    if rule.groups.len() + stables.clone().count() > MOST_GROUPS {
        return Err(unsupported(format!(
            "{} has {} target groups, and a load balancer allows {MOST_GROUPS}: there is no room for the canary's",
            rule.name,
            rule.groups.len()
        )));
    }
    // "You must enable group stickiness" is how the load balancer refuses more than one group in such a rule.
    let binds = stables.find(|pair| pair.sticky && rule.sticky_seconds.is_none());
    if let (LoadBalancerKind::Application, Some(pair)) = (record.balancer, binds) {
        return Err(unsupported(format!(
            "target group {} has sticky sessions, and beside another target group the load balancer allows that only in a rule whose forward action is \
             sticky too, which {} is not; turn that on, or the sessions off",
            name_in(record, &Group::Other(pair.stable.target_group_arn.clone())),
            rule.name
        )));
    }
    Ok(())
}

/// The name of a target group of a rule.
fn name_in<'a>(record: &'a AlbRecord, group: &'a Group) -> &'a str {
    let arn = match group {
        Group::Stable(index) | Group::Canary(index) | Group::Baseline(index) => {
            &record.groups[*index].stable.target_group_arn
        }
        Group::Other(arn) => arn,
    };
    arn.rsplit('/').nth(1).unwrap_or_default()
}

fn value<'a>(attributes: &'a [TargetGroupAttribute], key: &str) -> Option<&'a str> {
    attributes
        .iter()
        .find(|attribute| attribute.key() == Some(key))
        .and_then(TargetGroupAttribute::value)
}

fn unsupported(sentence: String) -> DiscoveryError {
    DiscoveryError::Unsupported(sentence)
}

#[cfg(test)]
mod tests {
    use serin::ExecutionArn;

    use super::*;

    #[test]
    fn target_groups_whose_names_begin_alike_get_copies_with_names_of_their_own() {
        let id = DeploymentId::of(&ExecutionArn::new("one"));
        let name = |stable, index| {
            let place = Place { index, of: 2 };
            numbered(canary_name, "-canary-", stable, place, &id)
        };
        let (public, private) = (
            name("checkout-service-public", 0),
            name("checkout-service-private", 1),
        );
        assert_ne!(public, private);
        for name in [&public, &private] {
            assert!(name.len() <= 32 && is_canary_name(name), "{name}");
        }
        let short = name("shop", 1);
        assert_eq!(name(&short, 1), short, "and it does not grow");
        assert_eq!(
            numbered(
                canary_name,
                "-canary-",
                "shop",
                Place { index: 0, of: 1 },
                &id
            ),
            format!("shop-canary-{id}")
        );
    }
}

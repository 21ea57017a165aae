//! The attributes of a target group.

use aws_sdk_elasticloadbalancingv2::types::{ProtocolEnum, TargetGroup, TargetTypeEnum};

use super::{Pairs, validation};
use crate::wire::Refusal;

const COMMON: &[(&str, &str)] = &[
    ("deregistration_delay.timeout_seconds", "300"),
    ("stickiness.enabled", "false"),
    (
        "load_balancing.cross_zone.enabled",
        "use_load_balancer_configuration",
    ),
    (
        "target_group_health.dns_failover.minimum_healthy_targets.count",
        "1",
    ),
    (
        "target_group_health.dns_failover.minimum_healthy_targets.percentage",
        "off",
    ),
    (
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
        "1",
    ),
    (
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        "off",
    ),
];

const APPLICATION: &[(&str, &str)] = &[
    ("stickiness.type", "lb_cookie"),
    ("stickiness.lb_cookie.duration_seconds", "86400"),
    ("stickiness.app_cookie.cookie_name", ""),
    ("stickiness.app_cookie.duration_seconds", "86400"),
    ("slow_start.duration_seconds", "0"),
    ("load_balancing.algorithm.type", "round_robin"),
    ("load_balancing.algorithm.anomaly_mitigation", "off"),
];

const NETWORK: &[(&str, &str)] = &[
    ("stickiness.type", "source_ip"),
    (
        "deregistration_delay.connection_termination.enabled",
        "false",
    ),
    ("preserve_client_ip.enabled", "false"),
    ("proxy_protocol_v2.enabled", "false"),
    (
        "target_health_state.unhealthy.connection_termination.enabled",
        "true",
    ),
    (
        "target_health_state.unhealthy.draining_interval_seconds",
        "0",
    ),
];

const LAMBDA: &[(&str, &str)] = &[("lambda.multi_value_headers.enabled", "false")];

/// The attributes of a new target group.
pub(crate) fn defaults(group: &TargetGroup) -> Pairs {
    let lambda = group.target_type() == Some(&TargetTypeEnum::Lambda);
    let tables: &[&[(&str, &str)]] = match group.protocol() {
        _ if lambda => &[LAMBDA],
        Some(ProtocolEnum::Http | ProtocolEnum::Https) => &[COMMON, APPLICATION],
        _ => &[COMMON, NETWORK],
    };
    tables
        .iter()
        .flat_map(|table| table.iter())
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Whether a target group that has `had` may have this attribute, all attributes given together.
pub(super) fn check(had: &Pairs, key: &str, value: &str) -> Result<(), Refusal> {
    if !had.contains_key(key) {
        return Err(validation(format!(
            "Target group attribute key '{key}' is not recognized"
        )));
    }
    let number = value.parse::<u32>().ok();
    let within = |range: std::ops::RangeInclusive<u32>| number.is_some_and(|n| range.contains(&n));
    let one_of = |values: &[&str]| values.contains(&value);
    let valid = match key {
        "deregistration_delay.timeout_seconds" => within(0..=3600),
        "slow_start.duration_seconds" => within(0..=0) || within(30..=900),
        "stickiness.type" => one_of(&["lb_cookie", "app_cookie", "source_ip"]),
        "stickiness.lb_cookie.duration_seconds" | "stickiness.app_cookie.duration_seconds" => {
            within(1..=604_800)
        }
        "stickiness.app_cookie.cookie_name" => !value.starts_with("AWSALB"),
        "load_balancing.algorithm.type" => one_of(&[
            "round_robin",
            "least_outstanding_requests",
            "weighted_random",
        ]),
        "load_balancing.algorithm.anomaly_mitigation" => one_of(&["on", "off"]),
        "load_balancing.cross_zone.enabled" => {
            one_of(&["true", "false", "use_load_balancer_configuration"])
        }
        "target_health_state.unhealthy.draining_interval_seconds" => within(0..=360_000),
        key if key.starts_with("target_group_health.") => value == "off" || within(1..=10_000),
        _ => one_of(&["true", "false"]),
    };
    if valid {
        Ok(())
    } else {
        Err(validation(format!(
            "The value '{value}' of the target group attribute '{key}' is not valid"
        )))
    }
}

/// What does not go together.
pub(super) fn check_together(attributes: &Pairs) -> Result<(), Refusal> {
    let is = |key: &str, value: &str| attributes.get(key).is_some_and(|had| had == value);
    if is("stickiness.enabled", "true")
        && is("stickiness.type", "app_cookie")
        && is("stickiness.app_cookie.cookie_name", "")
    {
        return Err(validation(
            "The stickiness type app_cookie needs a cookie name",
        ));
    }
    let algorithm = attributes.get("load_balancing.algorithm.type");
    let slow = attributes
        .get("slow_start.duration_seconds")
        .is_some_and(|seconds| seconds != "0");
    if slow && algorithm.is_some_and(|algorithm| algorithm != "round_robin") {
        return Err(Refusal::new(
            "InvalidConfigurationRequest",
            "Slow start needs the algorithm round_robin",
        ));
    }
    if is("load_balancing.algorithm.anomaly_mitigation", "on")
        && !is("load_balancing.algorithm.type", "weighted_random")
    {
        return Err(Refusal::new(
            "InvalidConfigurationRequest",
            "Anomaly mitigation needs the algorithm weighted_random",
        ));
    }
    Ok(())
}

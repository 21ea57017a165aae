//! Target groups: the calls.

use aws_sdk_elasticloadbalancingv2::operation::create_target_group::{
    CreateTargetGroupInput, CreateTargetGroupOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::delete_target_group::{
    DeleteTargetGroupInput, DeleteTargetGroupOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::describe_target_group_attributes::{
    DescribeTargetGroupAttributesInput, DescribeTargetGroupAttributesOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::describe_target_groups::{
    DescribeTargetGroupsInput, DescribeTargetGroupsOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::modify_target_group_attributes::{
    ModifyTargetGroupAttributesInput, ModifyTargetGroupAttributesOutput,
};
use aws_sdk_elasticloadbalancingv2::types::{
    Matcher, ProtocolEnum, TargetGroup, TargetGroupAttribute, TargetGroupIpAddressTypeEnum,
    TargetTypeEnum,
};

use super::{
    Group, Pairs, arn, attributes, defaults, no_balancer, no_group, paged, tags, validation,
};
use crate::wire::Refusal;
use crate::world::World;

pub(crate) fn describe_target_groups(
    world: &mut World,
    input: &DescribeTargetGroupsInput,
) -> Result<DescribeTargetGroupsOutput, Refusal> {
    let all = &world.load_balancing;
    let (arns, names) = (input.target_group_arns(), input.names());
    let ways = [
        !arns.is_empty(),
        !names.is_empty(),
        input.load_balancer_arn().is_some(),
    ];
    if ways.iter().filter(|way| **way).count() > 1 {
        return Err(validation(
            "Load balancer ARN, target group names and target group ARNs exclude each other",
        ));
    }
    let mut chosen: Vec<&Group> = Vec::new();
    for arn in arns {
        chosen.push(all.group(arn).ok_or_else(|| no_group(arn))?);
    }
    for name in names {
        let missing = || Refusal::new("TargetGroupNotFound", "One or more target groups not found");
        chosen.push(all.group_named(name).ok_or_else(missing)?);
    }
    if let Some(balancer) = input.load_balancer_arn() {
        if all.balancer(balancer).is_none() {
            return Err(no_balancer(balancer));
        }
        let of_it = |group: &&Group| {
            all.balancer_of(group.arn())
                .is_some_and(|found| found.load_balancer_arn() == Some(balancer))
        };
        chosen = all.groups.iter().filter(of_it).collect();
    } else if arns.is_empty() && names.is_empty() {
        chosen = all.groups.iter().collect();
    }
    let described: Vec<TargetGroup> = chosen
        .into_iter()
        .map(|group| all.describe_group(group))
        .collect();
    let (items, next) = paged(
        &described,
        world.settings.page_size,
        input.page_size(),
        input.marker(),
    )?;
    Ok(DescribeTargetGroupsOutput::builder()
        .set_target_groups(Some(items))
        .set_next_marker(next)
        .build())
}

pub(crate) fn create_target_group(
    world: &mut World,
    input: &CreateTargetGroupInput,
) -> Result<CreateTargetGroupOutput, Refusal> {
    let name = checked_name(input.name())?;
    let data = template(input, name)?;
    let given = tags::pairs(input.tags())?;
    let all = &mut world.load_balancing;
    if let Some(existing) = all.group_named(name) {
        let mut had = existing.data.clone();
        had.target_group_arn = None;
        let tags = all.tags.get(existing.arn()).cloned().unwrap_or_default();
        if had != data || tags != given {
            return Err(Refusal::new(
                "DuplicateTargetGroupName",
                format!(
                    "A target group with the same name '{name}' exists, but with different settings"
                ),
            ));
        }
        return Ok(CreateTargetGroupOutput::builder()
            .target_groups(all.describe_group(existing))
            .build());
    }
    let hash = all.next_hash();
    let mut data = data;
    data.target_group_arn = Some(arn(&format!("targetgroup/{name}/{hash}")));
    let group = Group {
        attributes: defaults(&data),
        data,
        targets: Vec::new(),
    };
    all.tags.insert(group.arn().to_owned(), given);
    let output = CreateTargetGroupOutput::builder().target_groups(all.describe_group(&group));
    all.groups.push(group);
    Ok(output.build())
}

fn checked_name(name: Option<&str>) -> Result<&str, Refusal> {
    let name = name.ok_or_else(|| validation("A target group name is required"))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.len() > 32 {
        return Err(validation(format!(
            "Target group name '{name}' cannot be longer than '32' characters"
        )));
    }
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(validation(format!(
            "Target group name '{name}' can only contain characters that are alphanumeric characters or hyphens(-)"
        )));
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err(validation(format!(
            "Target group name '{name}' cannot begin or end with '-'"
        )));
    }
    Ok(name)
}

/// What becomes of the request, with the defaults that AWS fills in.
fn template(input: &CreateTargetGroupInput, name: &str) -> Result<TargetGroup, Refusal> {
    let target_type = input
        .target_type
        .clone()
        .unwrap_or(TargetTypeEnum::Instance);
    let data = TargetGroup::builder()
        .target_group_name(name)
        .target_type(target_type.clone())
        .ip_address_type(
            input
                .ip_address_type
                .clone()
                .unwrap_or(TargetGroupIpAddressTypeEnum::Ipv4),
        );
    if target_type == TargetTypeEnum::Lambda {
        if input.protocol.is_some() || input.port.is_some() || input.vpc_id.is_some() {
            return Err(validation(
                "Protocol, port and VPC cannot be specified for a Lambda target group",
            ));
        }
        return Ok(data
            .health_check_enabled(input.health_check_enabled.unwrap_or(false))
            .build());
    }
    let protocol = input
        .protocol
        .clone()
        .ok_or_else(|| validation("A protocol must be specified"))?;
    let port = input
        .port
        .filter(|port| (1..=65_535).contains(port))
        .ok_or_else(|| validation("A port must be specified"))?;
    let vpc = input
        .vpc_id()
        .ok_or_else(|| validation("A VPC ID must be specified"))?;
    let http = matches!(protocol, ProtocolEnum::Http | ProtocolEnum::Https);
    if !http && !matches!(protocol, ProtocolEnum::Tcp | ProtocolEnum::Tls) {
        return Err(validation(format!("The protocol {protocol} is not known")));
    }
    if !http && input.protocol_version.is_some() {
        return Err(validation(format!(
            "Protocol version cannot be specified for {protocol}"
        )));
    }
    let version = http.then(|| {
        let given = input.protocol_version();
        given.unwrap_or("HTTP1").to_owned()
    });
    if version
        .as_deref()
        .is_some_and(|version| !["HTTP1", "HTTP2", "GRPC"].contains(&version))
    {
        return Err(validation("The protocol version is not valid"));
    }
    let data = data
        .protocol(protocol.clone())
        .port(port)
        .vpc_id(vpc)
        .set_protocol_version(version.clone())
        .set_target_control_port(input.target_control_port)
        .build();
    with_health_check(data, input, http, version.as_deref() == Some("GRPC"))
}

fn with_health_check(
    data: TargetGroup,
    input: &CreateTargetGroupInput,
    http: bool,
    grpc: bool,
) -> Result<TargetGroup, Refusal> {
    let usual = if http {
        ProtocolEnum::Http
    } else {
        ProtocolEnum::Tcp
    };
    let protocol = input.health_check_protocol.clone().unwrap_or(usual);
    let checks_http = matches!(protocol, ProtocolEnum::Http | ProtocolEnum::Https);
    if http && !checks_http {
        return Err(validation(format!(
            "Health check protocol {protocol} is not supported for an HTTP target group"
        )));
    }
    if !checks_http && (input.health_check_path.is_some() || input.matcher.is_some()) {
        return Err(validation("A path or a matcher needs an HTTP health check"));
    }
    let interval = input.health_check_interval_seconds.unwrap_or(30);
    let timeout = input
        .health_check_timeout_seconds
        .unwrap_or(if checks_http { 5 } else { 10 });
    let healthy = input.healthy_threshold_count.unwrap_or(5);
    let unhealthy = input.unhealthy_threshold_count.unwrap_or(2);
    let in_range = (5..=300).contains(&interval)
        && (2..=120).contains(&timeout)
        && (2..=10).contains(&healthy)
        && (2..=10).contains(&unhealthy);
    if !in_range {
        return Err(validation("A number of the health check is out of range"));
    }
    if timeout >= interval {
        return Err(validation(format!(
            "Health check interval '{interval}' must be greater than the timeout '{timeout}'"
        )));
    }
    let path = checks_http.then(|| {
        let usual = if grpc { "/AWS.ALB/healthcheck" } else { "/" };
        input.health_check_path().unwrap_or(usual).to_owned()
    });
    if path.as_deref().is_some_and(|path| !path.starts_with('/')) {
        return Err(validation("The health check path must begin with '/'"));
    }
    let matcher = checks_http.then(|| {
        input.matcher.clone().unwrap_or_else(|| {
            if grpc {
                Matcher::builder().grpc_code("12").build()
            } else {
                Matcher::builder().http_code("200").build()
            }
        })
    });
    if matcher
        .as_ref()
        .is_some_and(|matcher| matcher.grpc_code.is_some() != grpc)
    {
        return Err(validation("The matcher does not suit the protocol version"));
    }
    let mut data = data;
    data.health_check_enabled = Some(true);
    data.health_check_port = Some(
        input
            .health_check_port()
            .unwrap_or("traffic-port")
            .to_owned(),
    );
    data.health_check_protocol = Some(protocol);
    data.health_check_interval_seconds = Some(interval);
    data.health_check_timeout_seconds = Some(timeout);
    data.healthy_threshold_count = Some(healthy);
    data.unhealthy_threshold_count = Some(unhealthy);
    data.health_check_path = path;
    data.matcher = matcher;
    if input.health_check_enabled == Some(false) {
        return Err(validation(
            "Health checks can only be disabled for Lambda targets",
        ));
    }
    Ok(data)
}

pub(crate) fn delete_target_group(
    world: &mut World,
    input: &DeleteTargetGroupInput,
) -> Result<DeleteTargetGroupOutput, Refusal> {
    let named = input.target_group_arn().unwrap_or_default();
    if !named.contains(":targetgroup/") {
        return Err(validation(format!(
            "'{named}' is not a valid target group ARN"
        )));
    }
    if world.load_balancing.balancer_of(named).is_some() {
        return Err(Refusal::new(
            "ResourceInUse",
            format!("Target group '{named}' is currently in use by a listener or a rule"),
        ));
    }
    // A target group that is not there is deleted already.
    world
        .load_balancing
        .groups
        .retain(|group| group.arn() != named);
    world.load_balancing.tags.remove(named);
    Ok(DeleteTargetGroupOutput::builder().build())
}

fn listed(attributes: &Pairs) -> Vec<TargetGroupAttribute> {
    attributes
        .iter()
        .map(|(key, value)| {
            TargetGroupAttribute::builder()
                .key(key)
                .value(value)
                .build()
        })
        .collect()
}

pub(crate) fn describe_target_group_attributes(
    world: &mut World,
    input: &DescribeTargetGroupAttributesInput,
) -> Result<DescribeTargetGroupAttributesOutput, Refusal> {
    let named = input.target_group_arn().unwrap_or_default();
    let group = world
        .load_balancing
        .group(named)
        .ok_or_else(|| no_group(named))?;
    Ok(DescribeTargetGroupAttributesOutput::builder()
        .set_attributes(Some(listed(&group.attributes)))
        .build())
}

pub(crate) fn modify_target_group_attributes(
    world: &mut World,
    input: &ModifyTargetGroupAttributesInput,
) -> Result<ModifyTargetGroupAttributesOutput, Refusal> {
    let named = input.target_group_arn().unwrap_or_default();
    let group = world
        .load_balancing
        .group_mut(named)
        .ok_or_else(|| no_group(named))?;
    if input.attributes().is_empty() {
        return Err(validation("At least one attribute is required"));
    }
    let mut attributes = group.attributes.clone();
    for attribute in input.attributes() {
        let key = attribute.key().unwrap_or_default();
        let value = attribute.value().unwrap_or_default();
        attributes::check(&group.attributes, key, value)?;
        attributes.insert(key.to_owned(), value.to_owned());
    }
    attributes::check_together(&attributes)?;
    group.attributes = attributes;
    Ok(ModifyTargetGroupAttributesOutput::builder()
        .set_attributes(Some(listed(&group.attributes)))
        .build())
}

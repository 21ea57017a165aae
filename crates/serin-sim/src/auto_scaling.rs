//! Application Auto Scaling of ECS services: scalable targets, their policies, and an autoscaler that a test can switch on.

use std::collections::BTreeMap;

use aws_sdk_applicationautoscaling::operation::deregister_scalable_target::{
    DeregisterScalableTargetInput, DeregisterScalableTargetOutput,
};
use aws_sdk_applicationautoscaling::operation::describe_scalable_targets::{
    DescribeScalableTargetsInput, DescribeScalableTargetsOutput,
};
use aws_sdk_applicationautoscaling::operation::describe_scaling_policies::{
    DescribeScalingPoliciesInput, DescribeScalingPoliciesOutput,
};
use aws_sdk_applicationautoscaling::operation::list_tags_for_resource::{
    ListTagsForResourceInput, ListTagsForResourceOutput,
};
use aws_sdk_applicationautoscaling::operation::register_scalable_target::{
    RegisterScalableTargetInput, RegisterScalableTargetOutput,
};
use aws_sdk_applicationautoscaling::types::{
    ScalableDimension, ScalableTarget, ScalingPolicy, ServiceNamespace, SuspendedState,
};
use aws_smithy_types::DateTime;

use crate::account::{ACCOUNT, REGION};
use crate::ecs::ServiceStatus;
use crate::paging::page;
use crate::wire::Refusal;
use crate::world::World;

/// What the account has in Application Auto Scaling.
#[derive(Debug, Clone, Default)]
pub(crate) struct AutoScaling {
    /// By resource id, as `service/prod/checkout`.
    pub(crate) targets: BTreeMap<String, ScalableTarget>,
    pub(crate) tags: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) policies: Vec<ScalingPolicy>,
}

fn validation(message: impl Into<String>) -> Refusal {
    Refusal::new("ValidationException", message)
}

fn not_found(resource: &str) -> Refusal {
    Refusal::new(
        "ObjectNotFoundException",
        format!("No scalable target found for resource ID: {resource}"),
    )
}

fn check_namespace(namespace: Option<&ServiceNamespace>) -> Result<(), Refusal> {
    match namespace {
        Some(ServiceNamespace::Ecs) => Ok(()),
        other => Err(validation(format!(
            "The namespace {other:?} is not simulated"
        ))),
    }
}

fn check_dimension(dimension: Option<&ScalableDimension>) -> Result<(), Refusal> {
    match dimension {
        Some(ScalableDimension::EcsServiceDesiredCount) => Ok(()),
        other => Err(validation(format!(
            "Unsupported service namespace, resource type or scalable dimension: {other:?}"
        ))),
    }
}

/// The cluster and the service of `service/cluster/service`.
fn parts(resource: &str) -> Result<(&str, &str), Refusal> {
    resource
        .strip_prefix("service/")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(_, service)| !service.contains('/'))
        .ok_or_else(|| {
            validation("Unsupported service namespace, resource type or scalable dimension")
        })
}

pub(crate) fn describe_scalable_targets(
    world: &mut World,
    input: &DescribeScalableTargetsInput,
) -> Result<DescribeScalableTargetsOutput, Refusal> {
    check_namespace(input.service_namespace())?;
    if input.scalable_dimension().is_some() {
        check_dimension(input.scalable_dimension())?;
        if input.resource_ids().is_empty() {
            return Err(validation("A scalable dimension needs resource ids"));
        }
    }
    if input.resource_ids().len() > 50 {
        return Err(validation("At most 50 resource ids"));
    }
    let wanted = |target: &&ScalableTarget| {
        input.resource_ids().is_empty() || input.resource_ids().contains(&target.resource_id)
    };
    let chosen: Vec<ScalableTarget> = world
        .auto_scaling
        .targets
        .values()
        .filter(wanted)
        .cloned()
        .collect();
    let (items, next) = page(
        &chosen,
        world.settings.page_size,
        input.max_results(),
        input.next_token(),
    )
    .ok_or_else(bad_token)?;
    Ok(DescribeScalableTargetsOutput::builder()
        .set_scalable_targets(Some(items))
        .set_next_token(next)
        .build())
}

fn bad_token() -> Refusal {
    Refusal::new("InvalidNextTokenException", "The next token is invalid")
}

pub(crate) fn register_scalable_target(
    world: &mut World,
    input: &RegisterScalableTargetInput,
) -> Result<RegisterScalableTargetOutput, Refusal> {
    check_namespace(input.service_namespace())?;
    check_dimension(input.scalable_dimension())?;
    let resource = input
        .resource_id()
        .ok_or_else(|| validation("ResourceId is required"))?;
    let (cluster, service) = parts(resource)?;
    let found = world.ecs.service(cluster, service);
    if !found.is_some_and(|service| service.status == ServiceStatus::Active) {
        return Err(validation(format!("ECS service doesn't exist: {resource}")));
    }
    let had = world.auto_scaling.targets.get(resource);
    let limit = |given: Option<i32>, had: Option<i32>, what: &str| {
        given.or(had).ok_or_else(|| {
            validation(format!(
                "{what} is required when registering a new scalable target"
            ))
        })
    };
    let least = limit(
        input.min_capacity(),
        had.map(|had| had.min_capacity),
        "Minimum capacity",
    )?;
    let most = limit(
        input.max_capacity(),
        had.map(|had| had.max_capacity),
        "Maximum capacity",
    )?;
    if least < 0 || most < least {
        return Err(validation(
            "Maximum capacity cannot be less than minimum capacity",
        ));
    }
    if had.is_some() && input.tags.is_some() {
        return Err(validation(
            "Tags can only be given to a new scalable target",
        ));
    }
    let before = had.and_then(ScalableTarget::suspended_state).cloned();
    let arn = had.and_then(ScalableTarget::scalable_target_arn).map_or_else(
        || format!("arn:aws:application-autoscaling:{REGION}:{ACCOUNT}:scalable-target/0ec5{:024x}", world.auto_scaling.targets.len()),
        str::to_owned,
    );
    let created = had.map_or_else(|| DateTime::from_secs(world.now()), |had| had.creation_time);
    let target = ScalableTarget::builder()
        .service_namespace(ServiceNamespace::Ecs)
        .resource_id(resource)
        .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
        .min_capacity(least)
        .max_capacity(most)
        .role_arn(format!("arn:aws:iam::{ACCOUNT}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_ECSService"))
        .creation_time(created)
        .suspended_state(suspended(before, input.suspended_state(), world.settings.suspended_state_replaces))
        .scalable_target_arn(&arn)
        .build()
        .expect("all members are set");
    world
        .auto_scaling
        .targets
        .insert(resource.to_owned(), target);
    if let Some(tags) = &input.tags {
        let tags = tags.clone().into_iter().collect();
        world.auto_scaling.tags.insert(arn.clone(), tags);
    }
    let (cluster, service) = (cluster.to_owned(), service.to_owned());
    world.scale(&cluster, &service, |desired| desired.clamp(least, most));
    Ok(RegisterScalableTargetOutput::builder()
        .scalable_target_arn(arn)
        .build())
}

/// Which activities are suspended from now on.
fn suspended(
    before: Option<SuspendedState>,
    given: Option<&SuspendedState>,
    replaces: bool,
) -> SuspendedState {
    let kept = before.filter(|_| given.is_none() || !replaces);
    let member = |of: fn(&SuspendedState) -> Option<bool>| {
        let given = given.and_then(of);
        given
            .or_else(|| kept.as_ref().and_then(of))
            .unwrap_or(false)
    };
    SuspendedState::builder()
        .dynamic_scaling_in_suspended(member(SuspendedState::dynamic_scaling_in_suspended))
        .dynamic_scaling_out_suspended(member(SuspendedState::dynamic_scaling_out_suspended))
        .scheduled_scaling_suspended(member(SuspendedState::scheduled_scaling_suspended))
        .build()
}

pub(crate) fn deregister_scalable_target(
    world: &mut World,
    input: &DeregisterScalableTargetInput,
) -> Result<DeregisterScalableTargetOutput, Refusal> {
    check_namespace(input.service_namespace())?;
    check_dimension(input.scalable_dimension())?;
    let resource = input.resource_id().unwrap_or_default();
    world
        .auto_scaling
        .targets
        .remove(resource)
        .ok_or_else(|| not_found(resource))?;
    world
        .auto_scaling
        .policies
        .retain(|policy| policy.resource_id != resource);
    Ok(DeregisterScalableTargetOutput::builder().build())
}

pub(crate) fn describe_scaling_policies(
    world: &mut World,
    input: &DescribeScalingPoliciesInput,
) -> Result<DescribeScalingPoliciesOutput, Refusal> {
    check_namespace(input.service_namespace())?;
    if input.scalable_dimension().is_some() {
        check_dimension(input.scalable_dimension())?;
    }
    let wanted = |policy: &&ScalingPolicy| {
        input
            .resource_id()
            .is_none_or(|resource| resource == policy.resource_id)
            && (input.policy_names().is_empty()
                || input.policy_names().contains(&policy.policy_name))
    };
    let chosen: Vec<ScalingPolicy> = world
        .auto_scaling
        .policies
        .iter()
        .filter(wanted)
        .cloned()
        .collect();
    let (items, next) = page(
        &chosen,
        world.settings.page_size,
        input.max_results(),
        input.next_token(),
    )
    .ok_or_else(bad_token)?;
    Ok(DescribeScalingPoliciesOutput::builder()
        .set_scaling_policies(Some(items))
        .set_next_token(next)
        .build())
}

pub(crate) fn list_tags_for_resource(
    world: &mut World,
    input: &ListTagsForResourceInput,
) -> Result<ListTagsForResourceOutput, Refusal> {
    let arn = input.resource_arn().unwrap_or_default();
    let known = world
        .auto_scaling
        .targets
        .values()
        .any(|target| target.scalable_target_arn() == Some(arn));
    if !known {
        return Err(Refusal::new("ResourceNotFoundException", arn));
    }
    let tags = world.auto_scaling.tags.get(arn).cloned();
    Ok(ListTagsForResourceOutput::builder()
        .set_tags(Some(tags.unwrap_or_default().into_iter().collect()))
        .build())
}

impl World {
    fn scale(&mut self, cluster: &str, service: &str, scaled: impl FnOnce(i32) -> i32) {
        let Some(id) = self.ecs.service(cluster, service).map(|found| found.id) else {
            return;
        };
        let found = self
            .ecs
            .services
            .iter_mut()
            .find(|service| service.id == id && service.status == ServiceStatus::Active);
        if let Some(service) = found {
            let desired = scaled(service.desired);
            self.changes += u64::from(desired != service.desired);
            service.desired = desired;
        }
    }

    /// Once a minute: as many tasks as the requests of the last minute need, for every service with a policy.
    pub(crate) fn run_auto_scaling(&mut self) {
        if self.now().rem_euclid(60) != 0 {
            return;
        }
        let requests = std::mem::take(&mut self.traffic.by_service);
        let Some(each) = self.settings.requests_per_task else {
            return;
        };
        for target in self.auto_scaling.targets.clone().into_values() {
            let has_policy = self
                .auto_scaling
                .policies
                .iter()
                .any(|policy| policy.resource_id == target.resource_id);
            let Ok((cluster, service)) = parts(&target.resource_id) else {
                continue;
            };
            let Some(id) = self.ecs.service(cluster, service).map(|found| found.id) else {
                continue;
            };
            if !has_policy {
                continue;
            }
            let per_second = requests.get(&id).copied().unwrap_or(0.0) / 60.0;
            // A hair less than a whole task more is no task more.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a service has some thousand tasks at most"
            )]
            let needed = (per_second / each - 1e-6).ceil() as i32;
            let needed = needed.clamp(target.min_capacity, target.max_capacity);
            let state = target.suspended_state();
            let may = |suspended: fn(&SuspendedState) -> Option<bool>| {
                state.and_then(suspended) != Some(true)
            };
            let may_shrink = may(SuspendedState::dynamic_scaling_in_suspended);
            let may_grow = may(SuspendedState::dynamic_scaling_out_suspended);
            self.scale(cluster, service, |desired| {
                if (needed < desired && may_shrink) || (needed > desired && may_grow) {
                    needed
                } else {
                    desired
                }
            });
        }
    }
}

//! The scalable target of the service, with a policy.

use aws_sdk_applicationautoscaling::operation::register_scalable_target::RegisterScalableTargetInput;
use aws_sdk_applicationautoscaling::types as scaling;
use aws_smithy_types::DateTime;

use super::{SCALABLE_TARGET, TARGET_GROUP};
use crate::account::{ACCOUNT, REGION};
use crate::auto_scaling::register_scalable_target;
use crate::world::World;

pub(super) fn build(world: &mut World, least: i32, most: i32) {
    let now = world.now();
    let input = RegisterScalableTargetInput::builder()
        .service_namespace(scaling::ServiceNamespace::Ecs)
        .resource_id(SCALABLE_TARGET)
        .scalable_dimension(scaling::ScalableDimension::EcsServiceDesiredCount)
        .min_capacity(least)
        .max_capacity(most)
        .tags("team", "payments")
        .build()
        .expect("nothing is required by the type");
    register_scalable_target(world, &input).expect("the scalable target is valid");
    let group = world.load_balancing.group_named(TARGET_GROUP);
    let metric = match group {
        None => scaling::PredefinedMetricSpecification::builder()
            .predefined_metric_type(scaling::MetricType::EcsServiceAverageCpuUtilization),
        Some(group) => scaling::PredefinedMetricSpecification::builder()
            .predefined_metric_type(scaling::MetricType::AlbRequestCountPerTarget)
            .resource_label(world.load_balancing.resource_label(group.arn())),
    };
    let tracking = scaling::TargetTrackingScalingPolicyConfiguration::builder()
        .target_value(1500.0)
        .predefined_metric_specification(metric.build().expect("the type is set"))
        .scale_in_cooldown(60)
        .build()
        .expect("the value is set");
    let policy = scaling::ScalingPolicy::builder()
        .policy_arn(format!(
            "arn:aws:autoscaling:{REGION}:{ACCOUNT}:scalingPolicy:0001:resource/ecs/{SCALABLE_TARGET}:policyName/checkout-requests"
        ))
        .policy_name("checkout-requests")
        .service_namespace(scaling::ServiceNamespace::Ecs)
        .resource_id(SCALABLE_TARGET)
        .scalable_dimension(scaling::ScalableDimension::EcsServiceDesiredCount)
        .policy_type(scaling::PolicyType::TargetTrackingScaling)
        .target_tracking_scaling_policy_configuration(tracking)
        .creation_time(DateTime::from_secs(now))
        .build()
        .expect("all members are set");
    world.auto_scaling.policies.push(policy);
}

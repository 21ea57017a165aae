//! SDK clients whose answers are computed in process, from the typed request.

use aws_credential_types::Credentials;
use aws_smithy_mocks::{MockResponseInterceptor, RuleMode, mock};
use aws_smithy_types::retry::RetryConfig;
use serin_aws::Clients;

use crate::account::{Account, REGION};
use crate::wire::{Service, Wire};
use crate::{
    app_mesh, auto_scaling, cloud_map, cloud_watch, dynamo_db, ecr, ecs, load_balancing,
    step_functions,
};

/// What `mock_client!` does, but without the SDK's `test-util` feature, which would recompile the SDK for the product.
macro_rules! client {
    ($account:ident, $sdk:ident, $service:expr, { $($method:ident $operation:literal => $handle:path,)* }) => {{
        let interceptor = MockResponseInterceptor::new().rule_mode(RuleMode::MatchAny)
            $(.with_rule(&mock!($sdk::Client::$method).then_compute_response({
                let account = $account.clone();
                move |input| account.answer($service, $operation, |world| $handle(world, input))
            })))*;
        let config = $sdk::config::Config::builder()
            .behavior_version($sdk::config::BehaviorVersion::v2026_01_12())
            .region($sdk::config::Region::from_static(REGION))
            .credentials_provider(Credentials::new("simulated", "simulated", None, None, "simulation"))
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection($sdk::config::StalledStreamProtectionConfig::disabled())
            .http_client(Wire::new())
            .interceptor(interceptor)
            .build();
        $sdk::Client::from_conf(config)
    }};
}

/// The clients of an account.
pub(crate) fn of(account: &Account) -> Clients {
    Clients {
        ecs: client!(account, aws_sdk_ecs, Service::Ecs, {
            describe_services "DescribeServices" => ecs::describe_services,
            describe_task_definition "DescribeTaskDefinition" => ecs::describe_task_definition,
            register_task_definition "RegisterTaskDefinition" => ecs::register_task_definition,
            deregister_task_definition "DeregisterTaskDefinition" => ecs::deregister_task_definition,
            create_service "CreateService" => ecs::create_service,
            update_service "UpdateService" => ecs::update_service,
            delete_service "DeleteService" => ecs::delete_service,
            list_tasks "ListTasks" => ecs::list_tasks,
            describe_tasks "DescribeTasks" => ecs::describe_tasks,
        }),
        app_mesh: client!(account, aws_sdk_appmesh, Service::AppMesh, {
            list_virtual_routers "ListVirtualRouters" => app_mesh::list_virtual_routers,
            list_routes "ListRoutes" => app_mesh::list_routes,
            describe_route "DescribeRoute" => app_mesh::describe_route,
            update_route "UpdateRoute" => app_mesh::update_route,
            describe_virtual_node "DescribeVirtualNode" => app_mesh::describe_virtual_node,
            create_virtual_node "CreateVirtualNode" => app_mesh::create_virtual_node,
            delete_virtual_node "DeleteVirtualNode" => app_mesh::delete_virtual_node,
            list_tags_for_resource "ListTagsForResource" => app_mesh::list_tags_for_resource,
        }),
        load_balancing: client!(account, aws_sdk_elasticloadbalancingv2, Service::LoadBalancing, {
            describe_load_balancers "DescribeLoadBalancers" => load_balancing::describe_load_balancers,
            describe_listeners "DescribeListeners" => load_balancing::describe_listeners,
            modify_listener "ModifyListener" => load_balancing::modify_listener,
            describe_rules "DescribeRules" => load_balancing::describe_rules,
            modify_rule "ModifyRule" => load_balancing::modify_rule,
            describe_target_groups "DescribeTargetGroups" => load_balancing::describe_target_groups,
            create_target_group "CreateTargetGroup" => load_balancing::create_target_group,
            delete_target_group "DeleteTargetGroup" => load_balancing::delete_target_group,
            describe_target_group_attributes "DescribeTargetGroupAttributes" => load_balancing::describe_target_group_attributes,
            modify_target_group_attributes "ModifyTargetGroupAttributes" => load_balancing::modify_target_group_attributes,
            describe_target_health "DescribeTargetHealth" => load_balancing::describe_target_health,
            describe_tags "DescribeTags" => load_balancing::describe_tags,
            add_tags "AddTags" => load_balancing::add_tags,
            remove_tags "RemoveTags" => load_balancing::remove_tags,
        }),
        auto_scaling: client!(account, aws_sdk_applicationautoscaling, Service::AutoScaling, {
            describe_scalable_targets "DescribeScalableTargets" => auto_scaling::describe_scalable_targets,
            register_scalable_target "RegisterScalableTarget" => auto_scaling::register_scalable_target,
            deregister_scalable_target "DeregisterScalableTarget" => auto_scaling::deregister_scalable_target,
            describe_scaling_policies "DescribeScalingPolicies" => auto_scaling::describe_scaling_policies,
            list_tags_for_resource "ListTagsForResource" => auto_scaling::list_tags_for_resource,
        }),
        cloud_map: client!(account, aws_sdk_servicediscovery, Service::CloudMap, {
            get_service "GetService" => cloud_map::get_service,
            list_services "ListServices" => cloud_map::list_services,
            create_service "CreateService" => cloud_map::create_service,
            delete_service "DeleteService" => cloud_map::delete_service,
            get_instances_health_status "GetInstancesHealthStatus" => cloud_map::get_instances_health_status,
            get_namespace "GetNamespace" => cloud_map::get_namespace,
            list_instances "ListInstances" => cloud_map::list_instances,
        }),
        cloud_watch: client!(account, aws_sdk_cloudwatch, Service::CloudWatch, {
            get_metric_data "GetMetricData" => cloud_watch::get_metric_data,
            describe_alarms "DescribeAlarms" => cloud_watch::describe_alarms,
        }),
        dynamo_db: client!(account, aws_sdk_dynamodb, Service::DynamoDb, {
            get_item "GetItem" => dynamo_db::get_item,
            put_item "PutItem" => dynamo_db::put_item,
            update_item "UpdateItem" => dynamo_db::update_item,
            delete_item "DeleteItem" => dynamo_db::delete_item,
            scan "Scan" => dynamo_db::scan,
        }),
        ecr: client!(account, aws_sdk_ecr, Service::Ecr, {
            describe_images "DescribeImages" => ecr::describe_images,
        }),
        step_functions: client!(account, aws_sdk_sfn, Service::StepFunctions, {
            describe_execution "DescribeExecution" => step_functions::describe_execution,
            start_execution "StartExecution" => step_functions::start_execution,
        }),
    }
}

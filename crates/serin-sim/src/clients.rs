//! SDK clients whose answers are computed in process, from the typed request.

use std::sync::Mutex;

use aws_credential_types::Credentials;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use serin_aws::Clients;

use crate::account::{Account, REGION};
use crate::answering::{Answering, Slot};
use crate::wire::{Service, Wire};
use crate::{
    app_mesh, auto_scaling, channels, cloud_map, cloud_watch, dynamo_db, ecr, ecs, event_bridge,
    load_balancing, step_functions,
};

macro_rules! client {
    ($slot:ident, $sdk:ident, $service:expr, { $($method:ident $operation:literal => $handle:path,)* }) => {{
        let answering = Answering::new($service, $slot)$(.with($operation, $handle))*;
        $(let _: fn(&$sdk::Client) -> _ = $sdk::Client::$method;)* // the operation is the client's
        let config = $sdk::config::Config::builder()
            .behavior_version($sdk::config::BehaviorVersion::v2026_01_12())
            .region($sdk::config::Region::from_static(REGION))
            .credentials_provider(Credentials::new("simulated", "simulated", None, None, "simulation"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .identity_cache($sdk::config::IdentityCache::no_cache())
            .stalled_stream_protection($sdk::config::StalledStreamProtectionConfig::disabled())
            .http_client(Wire)
            .interceptor(answering)
            .build();
        $sdk::Client::from_conf(config)
    }};
}

/// SDK clients that can be used for one account after the other: building them is dear.
pub struct Kit {
    slot: Slot,
    clients: Option<Clients>,
}

/// The clients that nobody uses.
static IDLE: Mutex<Vec<(Slot, Clients)>> = Mutex::new(Vec::new());

impl Kit {
    /// Clients whose calls `account` answers until the kit is dropped.
    pub fn of(account: &Account) -> Self {
        let idle = IDLE.lock().expect("nobody panics while holding it").pop();
        let (slot, clients) = idle.unwrap_or_else(|| {
            let slot = Slot::default();
            let clients = of(&slot);
            (slot, clients)
        });
        slot.put(Some(account.clone()));
        Self {
            slot,
            clients: Some(clients),
        }
    }

    /// The clients.
    pub fn clients(&self) -> Clients {
        self.clients.clone().expect("it is there until the end")
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        self.slot.put(None);
        if let (Some(clients), Ok(mut idle)) = (self.clients.take(), IDLE.lock()) {
            idle.push((self.slot.clone(), clients));
        }
    }
}

impl std::fmt::Debug for Kit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Kit").finish_non_exhaustive()
    }
}

/// Clients whose calls are answered by the account in the slot.
pub(crate) fn of(slot: &Slot) -> Clients {
    Clients {
        ecs: client!(slot, aws_sdk_ecs, Service::Ecs, {
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
        app_mesh: client!(slot, aws_sdk_appmesh, Service::AppMesh, {
            list_virtual_routers "ListVirtualRouters" => app_mesh::list_virtual_routers,
            list_routes "ListRoutes" => app_mesh::list_routes,
            describe_route "DescribeRoute" => app_mesh::describe_route,
            update_route "UpdateRoute" => app_mesh::update_route,
            describe_virtual_node "DescribeVirtualNode" => app_mesh::describe_virtual_node,
            create_virtual_node "CreateVirtualNode" => app_mesh::create_virtual_node,
            delete_virtual_node "DeleteVirtualNode" => app_mesh::delete_virtual_node,
            list_tags_for_resource "ListTagsForResource" => app_mesh::list_tags_for_resource,
        }),
        load_balancing: client!(slot, aws_sdk_elasticloadbalancingv2, Service::LoadBalancing, {
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
        auto_scaling: client!(slot, aws_sdk_applicationautoscaling, Service::AutoScaling, {
            describe_scalable_targets "DescribeScalableTargets" => auto_scaling::describe_scalable_targets,
            register_scalable_target "RegisterScalableTarget" => auto_scaling::register_scalable_target,
            deregister_scalable_target "DeregisterScalableTarget" => auto_scaling::deregister_scalable_target,
            describe_scaling_policies "DescribeScalingPolicies" => auto_scaling::describe_scaling_policies,
            list_tags_for_resource "ListTagsForResource" => auto_scaling::list_tags_for_resource,
        }),
        cloud_map: client!(slot, aws_sdk_servicediscovery, Service::CloudMap, {
            get_service "GetService" => cloud_map::get_service,
            list_services "ListServices" => cloud_map::list_services,
            create_service "CreateService" => cloud_map::create_service,
            delete_service "DeleteService" => cloud_map::delete_service,
            get_instances_health_status "GetInstancesHealthStatus" => cloud_map::get_instances_health_status,
            get_namespace "GetNamespace" => cloud_map::get_namespace,
            list_instances "ListInstances" => cloud_map::list_instances,
        }),
        cloud_watch: client!(slot, aws_sdk_cloudwatch, Service::CloudWatch, {
            get_metric_data "GetMetricData" => cloud_watch::get_metric_data,
            describe_alarms "DescribeAlarms" => cloud_watch::describe_alarms,
        }),
        dynamo_db: client!(slot, aws_sdk_dynamodb, Service::DynamoDb, {
            get_item "GetItem" => dynamo_db::get_item,
            put_item "PutItem" => dynamo_db::put_item,
            update_item "UpdateItem" => dynamo_db::update_item,
            delete_item "DeleteItem" => dynamo_db::delete_item,
            scan "Scan" => dynamo_db::scan,
            query "Query" => dynamo_db::query,
        }),
        ecr: client!(slot, aws_sdk_ecr, Service::Ecr, {
            describe_images "DescribeImages" => ecr::describe_images,
        }),
        step_functions: client!(slot, aws_sdk_sfn, Service::StepFunctions, {
            describe_execution "DescribeExecution" => step_functions::describe_execution,
            start_execution "StartExecution" => step_functions::start_execution,
            stop_execution "StopExecution" => step_functions::stop_execution,
            send_task_success "SendTaskSuccess" => step_functions::send_task_success,
        }),
        event_bridge: client!(slot, aws_sdk_eventbridge, Service::EventBridge, {
            put_events "PutEvents" => event_bridge::put_events,
        }),
        secrets_manager: client!(slot, aws_sdk_secretsmanager, Service::SecretsManager, {
            get_secret_value "GetSecretValue" => channels::get_secret_value,
        }),
        sns: client!(slot, aws_sdk_sns, Service::Sns, {
            publish "Publish" => channels::publish,
        }),
    }
}

//! A deployment for the unit tests.

use serin::deployment::{CanaryVersion, StableVersion};
use serin::name::DeploymentId;
use serin::request::Request;
use serin::routing::{AppMeshRecord, CloudMapService, ProxyIdentity};
use serin::{
    Deployment, ExecutionArn, Family, RouterRecord, ServiceKey, ServiceName, TaskDefinitionArn,
};

/// A deployment of `prod/checkout`, whose router has no route.
pub(crate) fn deployment() -> Deployment {
    let request =
        serde_json::json!({"cluster": "prod", "service": "checkout", "image": "checkout:2"});
    let request = Request::parse(&request).unwrap();
    let execution = ExecutionArn::new("arn:aws:states:eu-west-1:1:execution:serin:one");
    let id = DeploymentId::of(&execution);
    let source = TaskDefinitionArn::new("arn:aws:ecs:eu-west-1:1:task-definition/checkout:7");
    Deployment {
        service: ServiceKey {
            cluster: request.cluster.clone(),
            service: request.service.clone(),
        },
        stable: StableVersion {
            service: request.service.clone(),
            service_arn: "arn:aws:ecs:eu-west-1:1:service/prod/checkout".into(),
            task_definition: source.clone(),
            family: Family::new("checkout"),
            desired_count: 4,
            scaling: None,
        },
        canary: CanaryVersion {
            service: ServiceName::new(format!("checkout-canary-{id}")),
            family: Family::new("checkout-canary"),
            source,
            images: [(serin::ContainerName::new("app"), "checkout:2".to_owned())].into(),
        },
        baseline: None,
        router: RouterRecord::AppMesh(AppMeshRecord {
            mesh: "prod".into(),
            mesh_owner: None,
            stable_node: "checkout".into(),
            canary_node: format!("checkout-canary-{id}"),
            proxy: ProxyIdentity {
                container: "envoy".into(),
                variable: "APPMESH_RESOURCE_ARN".into(),
                stable_value: "mesh/prod/virtualNode/checkout".into(),
            },
            stable_registry: CloudMapService {
                namespace_id: "ns-1".into(),
                id: "srv-1".into(),
                arn: "arn:aws:servicediscovery:eu-west-1:1:service/srv-1".into(),
                name: "checkout".into(),
            },
            canary_registry_name: format!("checkout-canary-{id}"),
            baseline: serin::routing::MeshNames::default(),
            routes: vec![],
            left_out: Vec::new(),
        }),
        id,
        execution,
        started_at: "2026-11-21T12:00:00Z".parse().unwrap(),
        deadline_at: "2026-11-21T16:00:00Z".parse().unwrap(),
        plan: request.resolve_plan(),
        capacity: request.capacity,
        checks: request.checks,
        finish: request.finish,
        on_unhealthy: request.on_unhealthy,
        freeze: request.freeze,
        ready_within_seconds: request.ready_within_seconds,
        stable_exceeds_limit: false,
        slow_thresholds: Vec::new(),
        may_leave: Vec::new(),
        notes: vec![],
    }
}

//! The adapters on the simulated account: what they ask of AWS, and what they make of its answers.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot get what it asks for has failed"
)]

mod alb;
mod fleet;
mod ledger;
mod router;
mod scaling;
mod signals;

use serin::deployment::{CanaryVersion, StableVersion};
use serin::name::{DeploymentId, canary_family, canary_name};
use serin::ports::{
    Fleet, Removal, ServiceDescription, Side, TaskDefinitionDescription, TrafficRouter,
};
use serin::progress::Attachment;
use serin::request::Request;
use serin::routing::AppMeshRecord;
use serin::{
    ClusterName, ContainerName, Deployment, ExecutionArn, Leftover, PortError, RouterRecord,
    ServiceKey, ServiceName, TaskDefinitionArn, Weight,
};
use serin_aws::{Adapters, EcsFleet};
use serin_sim::{Account, Clock, world};

/// The execution of every deployment in these tests.
const EXECUTION: &str = "arn:aws:states:eu-west-1:123456789012:execution:serin:first";

/// An account with the service `checkout`, the adapters over it, and a deployment that is planned.
struct Scene {
    account: Account,
    aws: Adapters,
    deployment: Deployment,
}

/// All that the fleet finds of a deployment that should have left nothing.
async fn all_traces(fleet: &EcsFleet, deployment: &Deployment) -> Vec<Leftover> {
    let mut traces = fleet.changes(deployment).await;
    traces.extend(fleet.traces(deployment, Side::Canary).await);
    traces.certain().unwrap()
}

impl Scene {
    async fn new() -> Self {
        Self::with(&world::Options::default()).await
    }

    async fn with(options: &world::Options) -> Self {
        let (account, aws) = account(options);
        let deployment = plan(&account, &aws).await;
        Self {
            account,
            aws,
            deployment,
        }
    }

    fn record(&self) -> &AppMeshRecord {
        let RouterRecord::AppMesh(record) = &self.deployment.router else {
            panic!("{:?}", self.deployment.router)
        };
        record
    }

    fn wait(&self, seconds: u64) {
        self.account.clock().advance(seconds);
    }

    /// The canary, ready.
    async fn created(&self, tasks: u32) -> Attachment {
        let attachment = self.aws.router.prepare(&self.deployment).await.unwrap();
        let definition = self
            .aws
            .fleet
            .ensure_canary_definition(&self.deployment, &attachment)
            .await
            .unwrap();
        self.aws
            .fleet
            .ensure_canary_service(&self.deployment, &definition, &attachment, tasks)
            .await
            .unwrap();
        self.wait(60);
        attachment
    }

    /// The targets of the first route, as text.
    fn targets(&self) -> String {
        let route = &self.record().routes[0];
        self.targets_of(&route.virtual_router, &route.route)
    }

    fn targets_of(&self, router: &str, route: &str) -> String {
        self.account.look(|world| {
            let spec = world.route(router, route).spec.clone().unwrap();
            let targets = serin_sim::targets(&spec).unwrap().iter();
            let targets: Vec<_> = targets
                .map(|target| format!("{} {}", target.virtual_node, target.weight))
                .collect();
            targets
                .join(", ")
                .replace(&self.record().canary_node, "canary")
        })
    }
}

fn account(options: &world::Options) -> (Account, Adapters) {
    let account = Account::new(Clock::new("2026-11-21T12:00:00Z".parse().unwrap()));
    world::checkout_with(&account, options);
    account.clock().advance(3600);
    let aws = Adapters::new(account.clients(), world::LEDGER_TABLE);
    (account, aws)
}

fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

fn cluster() -> ClusterName {
    ClusterName::new(world::CLUSTER)
}

async fn described(aws: &Adapters) -> (ServiceDescription, TaskDefinitionDescription) {
    let service = aws
        .fleet
        .service(&cluster(), &ServiceName::new(world::SERVICE))
        .await
        .unwrap()
        .unwrap();
    let definition = aws
        .fleet
        .task_definition(service.task_definition.as_str())
        .await
        .unwrap()
        .unwrap();
    (service, definition)
}

/// What the first step does, as far as the adapters need it.
async fn plan(account: &Account, aws: &Adapters) -> Deployment {
    let request = serde_json::json!({"cluster": world::CLUSTER, "service": world::SERVICE, "image": world::app_image("2.0.0")});
    let request = Request::parse(&request).unwrap();
    let execution = ExecutionArn::new(EXECUTION);
    let id = DeploymentId::of(&execution);
    let (service, definition) = described(aws).await;
    let router = aws
        .router
        .discover(None, &service, &definition, &id)
        .await
        .unwrap();
    let now = account.clock().now();
    Deployment {
        baseline: None,
        service: ServiceKey {
            cluster: cluster(),
            service: service.service.clone(),
        },
        stable: StableVersion {
            service: service.service.clone(),
            service_arn: service.arn.clone(),
            task_definition: service.task_definition.clone(),
            family: definition.family.clone(),
            desired_count: service.desired_count,
            scaling: None,
        },
        canary: CanaryVersion {
            service: ServiceName::new(canary_name(service.service.as_str(), &id, 255)),
            family: canary_family(&definition.family),
            source: service.task_definition.clone(),
            images: [(ContainerName::new("app"), world::app_image("2.0.0"))].into(),
        },
        router,
        id,
        execution,
        started_at: now,
        deadline_at: now + jiff::SignedDuration::from_hours(4),
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

/// The sentence of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, PortError>) -> String {
    match result {
        Err(PortError::Refused { message, .. }) => message,
        other => panic!("expected a refusal: {other:?}"),
    }
}

/// Calls a removal until it is done; gives how many calls that took.
async fn removed(
    account: &Account,
    mut remove: impl AsyncFnMut() -> Result<Removal, PortError>,
) -> usize {
    for calls in 1..20 {
        if remove().await.unwrap() == Removal::Gone {
            return calls;
        }
        account.clock().advance(10);
    }
    panic!("it never went");
}

fn arn(text: &str) -> TaskDefinitionArn {
    TaskDefinitionArn::new(text)
}

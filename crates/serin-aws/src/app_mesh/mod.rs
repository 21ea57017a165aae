//! The router on AWS App Mesh.
//!
//! The canary gets a virtual node and a Cloud Map service of its own, so that none of its tasks can be in stable's pool at any
//! weight. Traffic is shifted in the routes that name stable's node, by changing nothing but their weighted targets.

mod discover;
mod identity;
mod nodes;
mod registries;
mod routes;

pub(crate) use identity::is_in_a_mesh;

use jiff::Timestamp;
use serin::name::DeploymentId;
use serin::ports::{
    DiscoveryError, Removal, ServiceDescription, Settled, ShiftError, Side,
    TaskDefinitionDescription, Traces, TrafficRouter,
};
use serin::progress::{Attachment, EnvironmentChange};
use serin::request::RouterWish;
use serin::routing::AppMeshRecord;
use serin::{Deployment, Leftover, PortError, RouterRecord, Weight};

/// Where the traffic goes, as routes of a mesh.
#[derive(Debug, Clone)]
pub struct AppMeshRouter {
    app_mesh: aws_sdk_appmesh::Client,
    cloud_map: aws_sdk_servicediscovery::Client,
}

impl AppMeshRouter {
    pub(crate) fn new(
        app_mesh: aws_sdk_appmesh::Client,
        cloud_map: aws_sdk_servicediscovery::Client,
    ) -> Self {
        Self {
            app_mesh,
            cloud_map,
        }
    }
}

/// What this router remembers of the deployment. [`crate::Router`] calls it for no other kind.
fn record(deployment: &Deployment) -> &AppMeshRecord {
    let RouterRecord::AppMesh(record) = &deployment.router else {
        unreachable!("crate::Router chooses the router by this record");
    };
    record
}

impl TrafficRouter for AppMeshRouter {
    async fn discover(
        &self,
        wish: Option<&RouterWish>,
        service: &ServiceDescription,
        definition: &TaskDefinitionDescription,
        id: &DeploymentId,
    ) -> Result<RouterRecord, DiscoveryError> {
        self.find(wish, service, definition, id)
            .await
            .map(RouterRecord::AppMesh)
    }

    async fn prepare(&self, deployment: &Deployment) -> Result<Attachment, ShiftError> {
        let record = record(deployment);
        let registry_arn = self.ensure_registry(deployment, record).await?;
        let node_arn = self.ensure_node(deployment, record).await?;
        let value = identity::of_canary(&record.proxy.stable_value, &record.canary_node, &node_arn);
        Ok(Attachment {
            registry_arn: Some(registry_arn),
            target_groups: Vec::new(),
            environment: vec![EnvironmentChange {
                container: record.proxy.container.clone(),
                variable: record.proxy.variable.clone(),
                value,
            }],
        })
    }

    async fn healthy_targets(
        &self,
        _: &Deployment,
        attachment: &Attachment,
    ) -> Result<u32, PortError> {
        match &attachment.registry_arn {
            Some(arn) => self.healthy_instances(registries::id_of(arn)).await,
            None => Ok(0),
        }
    }

    async fn healthy_targets_of(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<u32, PortError> {
        let record = record(deployment);
        let registry = match side {
            Side::Stable => Some(record.stable_registry.id.clone()),
            Side::Canary => self.find_registry(record, side).await?,
        };
        match registry {
            Some(id) => self.healthy_instances(&id).await,
            None => Ok(0),
        }
    }

    async fn shift(
        &self,
        deployment: &Deployment,
        from: Weight,
        to: Weight,
    ) -> Result<Option<Timestamp>, ShiftError> {
        self.shift_routes(deployment, record(deployment), from, to)
            .await
    }

    async fn verify(&self, deployment: &Deployment, weight: Weight) -> Result<(), ShiftError> {
        self.verify_routes(record(deployment), deployment.split_at(weight))
            .await
    }

    async fn settle(&self, deployment: &Deployment, on: Side) -> Result<Settled, PortError> {
        self.settle_routes(deployment, record(deployment), on).await
    }

    async fn tear_down(&self, deployment: &Deployment, side: Side) -> Result<Removal, PortError> {
        let record = record(deployment);
        // The node first: while it is there, Envoys look into its Cloud Map service.
        if let going @ Removal::Going(_) = self.delete_node(record, record.node(side)).await? {
            return Ok(going);
        }
        match self.find_registry(record, side).await? {
            Some(id) => self.delete_registry(&id, record.registry_name(side)).await,
            None => Ok(Removal::Gone),
        }
    }

    async fn traces(&self, deployment: &Deployment, side: Side) -> Traces {
        let record = record(deployment);
        let mut traces = Traces::default();
        for route in &record.routes {
            let names = self.route_names(record, route, side).await;
            traces.look_for(routes::leftover(deployment, record, route, side), names);
        }
        let node = record.node(side);
        let there = self.node_exists(record, node).await;
        traces.look_for(nodes::leftover(deployment, record, node), there);
        let found = self.find_registry(record, side).await;
        let found =
            found.map(|id| id.map(|id| registries::leftover(deployment, record, side, &id)));
        traces.look(
            registries::leftover_by_name(deployment, record, side),
            found,
        );
        traces
    }

    fn possible_traces(&self, deployment: &Deployment) -> Vec<Leftover> {
        let record = record(deployment);
        let route = |route| routes::leftover(deployment, record, route, Side::Canary);
        let mut traces: Vec<_> = record.routes.iter().map(route).collect();
        traces.push(nodes::leftover(deployment, record, &record.canary_node));
        traces.push(registries::leftover_by_name(
            deployment,
            record,
            Side::Canary,
        ));
        traces
    }
}

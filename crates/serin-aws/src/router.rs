//! Which router a service has, and the adapter for it.

use jiff::Timestamp;
use serin::name::DeploymentId;
use serin::ports::{
    DiscoveryError, Removal, ServiceDescription, Settled, ShiftError, Side,
    TaskDefinitionDescription, Traces, TrafficRouter,
};
use serin::progress::Attachment;
use serin::request::{RouterKind, RouterWish};
use serin::{Deployment, Leftover, PortError, RouterRecord, Weight};

use crate::alb::AlbRouter;
use crate::app_mesh::{AppMeshRouter, is_in_a_mesh};

/// All routers; each call goes to the one that the deployment's record names.
#[derive(Debug, Clone)]
pub struct Router {
    alb: AlbRouter,
    app_mesh: AppMeshRouter,
}

impl Router {
    pub(crate) fn new(
        app_mesh: aws_sdk_appmesh::Client,
        cloud_map: aws_sdk_servicediscovery::Client,
        load_balancing: aws_sdk_elasticloadbalancingv2::Client,
    ) -> Self {
        Self {
            alb: AlbRouter::new(load_balancing),
            app_mesh: AppMeshRouter::new(app_mesh, cloud_map),
        }
    }
}

/// The place where routers are chosen: one line for each.
macro_rules! with_router {
    ($self:ident, $deployment:ident, |$router:ident| $call:expr) => {
        match &$deployment.router {
            RouterRecord::Alb(_) => {
                let $router = &$self.alb;
                $call
            }
            RouterRecord::AppMesh(_) => {
                let $router = &$self.app_mesh;
                $call
            }
        }
    };
}

/// The only router by which the service can be reached.
fn kind_of(
    service: &ServiceDescription,
    definition: &TaskDefinitionDescription,
) -> Result<RouterKind, DiscoveryError> {
    let name = &service.service;
    match (service.target_groups.is_empty(), is_in_a_mesh(definition)) {
        (false, false) => Ok(RouterKind::Alb),
        (true, true) => Ok(RouterKind::AppMesh),
        (false, true) => Err(DiscoveryError::Ambiguous(format!(
            "service {name} is reached through a load balancer and through App Mesh; router.kind says which of the two shifts its traffic: {} or {}; \
             what comes by the other stays with stable",
            RouterKind::Alb,
            RouterKind::AppMesh
        ))),
        (true, false) => Err(DiscoveryError::Unsupported(format!(
            "service {name} is registered in no target group of a load balancer, and no container of task definition {} is the proxy of a mesh; one of \
             the two is needed to shift its traffic",
            definition.arn
        ))),
    }
}

impl TrafficRouter for Router {
    async fn discover(
        &self,
        wish: Option<&RouterWish>,
        service: &ServiceDescription,
        definition: &TaskDefinitionDescription,
        id: &DeploymentId,
    ) -> Result<RouterRecord, DiscoveryError> {
        let kind = match wish {
            Some(wish) => wish.kind,
            None => kind_of(service, definition)?,
        };
        match kind {
            RouterKind::Alb => self.alb.discover(wish, service, definition, id).await,
            RouterKind::AppMesh => self.app_mesh.discover(wish, service, definition, id).await,
        }
    }

    async fn prepare(&self, deployment: &Deployment) -> Result<Attachment, ShiftError> {
        with_router!(self, deployment, |router| router.prepare(deployment).await)
    }

    async fn healthy_targets(
        &self,
        deployment: &Deployment,
        attachment: &Attachment,
    ) -> Result<u32, PortError> {
        with_router!(self, deployment, |router| router
            .healthy_targets(deployment, attachment)
            .await)
    }

    async fn healthy_targets_of(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<u32, PortError> {
        with_router!(self, deployment, |router| router
            .healthy_targets_of(deployment, side)
            .await)
    }

    async fn shift(
        &self,
        deployment: &Deployment,
        from: Weight,
        to: Weight,
    ) -> Result<Option<Timestamp>, ShiftError> {
        with_router!(self, deployment, |router| router
            .shift(deployment, from, to)
            .await)
    }

    async fn verify(&self, deployment: &Deployment, weight: Weight) -> Result<(), ShiftError> {
        with_router!(self, deployment, |router| router
            .verify(deployment, weight)
            .await)
    }

    async fn settle(&self, deployment: &Deployment, on: Side) -> Result<Settled, PortError> {
        with_router!(self, deployment, |router| router
            .settle(deployment, on)
            .await)
    }

    async fn tear_down(&self, deployment: &Deployment, side: Side) -> Result<Removal, PortError> {
        with_router!(self, deployment, |router| router
            .tear_down(deployment, side)
            .await)
    }

    async fn traces(&self, deployment: &Deployment, side: Side) -> Traces {
        with_router!(self, deployment, |router| router
            .traces(deployment, side)
            .await)
    }

    fn possible_traces(&self, deployment: &Deployment) -> Vec<Leftover> {
        with_router!(self, deployment, |router| router
            .possible_traces(deployment))
    }
}

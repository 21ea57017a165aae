//! Which router a service has, and the adapter for it.

use jiff::Timestamp;
use serin::name::DeploymentId;
use serin::ports::{
    DiscoveryError, Removal, ServiceDescription, Settled, ShiftError, Side,
    TaskDefinitionDescription, TrafficRouter,
};
use serin::progress::Attachment;
use serin::request::{RouterKind, RouterWish};
use serin::{Deployment, Leftover, PortError, RouterRecord, Weight};

use crate::app_mesh::AppMeshRouter;

/// All routers; each call goes to the one that the deployment's record names.
#[derive(Debug, Clone)]
pub struct Router {
    app_mesh: AppMeshRouter,
}

impl Router {
    pub(crate) fn new(
        app_mesh: aws_sdk_appmesh::Client,
        cloud_map: aws_sdk_servicediscovery::Client,
    ) -> Self {
        Self {
            app_mesh: AppMeshRouter::new(app_mesh, cloud_map),
        }
    }
}

/// The place where routers are chosen: one line for each.
macro_rules! with_router {
    ($self:ident, $deployment:ident, |$router:ident| $call:expr) => {
        match &$deployment.router {
            RouterRecord::AppMesh(_) => {
                let $router = &$self.app_mesh;
                $call
            }
        }
    };
}

impl TrafficRouter for Router {
    async fn discover(
        &self,
        wish: Option<&RouterWish>,
        service: &ServiceDescription,
        definition: &TaskDefinitionDescription,
        id: &DeploymentId,
    ) -> Result<RouterRecord, DiscoveryError> {
        match wish.map_or(RouterKind::AppMesh, |wish| wish.kind) {
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

    async fn traces(&self, deployment: &Deployment) -> Result<Vec<Leftover>, PortError> {
        with_router!(self, deployment, |router| router.traces(deployment).await)
    }

    fn commands_to_stable(&self, deployment: &Deployment) -> Vec<Leftover> {
        with_router!(self, deployment, |router| router
            .commands_to_stable(deployment))
    }
}

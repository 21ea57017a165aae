//! The fleet on Amazon ECS.

mod copy;
mod definitions;
mod images;
mod scaling;
mod services;

use serin::ports::{
    Fleet, ImagePin, Observation, Removal, ServiceDescription, Side, StoppedTask,
    TaskDefinitionDescription, Traces,
};
use serin::progress::Attachment;
use serin::{ClusterName, Deployment, Leftover, PortError, ServiceName, TaskDefinitionArn};

/// The tasks of the versions, as ECS services.
#[derive(Debug, Clone)]
pub struct EcsFleet {
    ecs: aws_sdk_ecs::Client,
    ecr: aws_sdk_ecr::Client,
    auto_scaling: aws_sdk_applicationautoscaling::Client,
}

impl EcsFleet {
    pub(crate) fn new(
        ecs: aws_sdk_ecs::Client,
        ecr: aws_sdk_ecr::Client,
        auto_scaling: aws_sdk_applicationautoscaling::Client,
    ) -> Self {
        Self {
            ecs,
            ecr,
            auto_scaling,
        }
    }
}

impl Fleet for EcsFleet {
    async fn service(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Option<ServiceDescription>, PortError> {
        let Some(described) = self.describe_service(cluster, service).await? else {
            return Ok(None);
        };
        let scaling = self.scaling(cluster, service).await?;
        Ok(Some(services::description(&described, scaling)))
    }

    async fn task_definition(
        &self,
        name: &str,
    ) -> Result<Option<TaskDefinitionDescription>, PortError> {
        let definition = self.describe_definition(name).await?;
        Ok(definition.map(|(definition, _)| definitions::description(&definition)))
    }

    async fn pin_image(&self, image: &str) -> Result<ImagePin, PortError> {
        self.pin(image).await
    }

    async fn hold_scale_in(&self, deployment: &Deployment) -> Result<(), PortError> {
        self.suspend_scale_in(deployment, true).await
    }

    async fn release_scale_in(&self, deployment: &Deployment) -> Result<(), PortError> {
        self.suspend_scale_in(deployment, false).await
    }

    async fn ensure_canary_definition(
        &self,
        deployment: &Deployment,
        attachment: &Attachment,
    ) -> Result<TaskDefinitionArn, PortError> {
        self.ensure_definition(
            deployment,
            &deployment.canary.family,
            &attachment.environment,
        )
        .await
    }

    async fn ensure_canary_service(
        &self,
        deployment: &Deployment,
        definition: &TaskDefinitionArn,
        attachment: &Attachment,
        tasks: u32,
    ) -> Result<String, PortError> {
        self.ensure_service(deployment, definition, attachment, tasks)
            .await
    }

    async fn observe(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Observation, PortError> {
        let service = self.describe_service(cluster, service).await?;
        Ok(service.map_or(Observation::Absent, |service| {
            services::observation(&service)
        }))
    }

    async fn stopped_tasks(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Vec<StoppedTask>, PortError> {
        self.list_stopped_tasks(cluster, service).await
    }

    async fn resize(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
        tasks: u32,
    ) -> Result<(), PortError> {
        self.set_desired_count(cluster, service, tasks).await
    }

    async fn ensure_promoted_definition(
        &self,
        deployment: &Deployment,
    ) -> Result<TaskDefinitionArn, PortError> {
        if deployment.canary.images.is_empty()
            && deployment.canary.source != deployment.stable.task_definition
        {
            // The request named a task definition: that is what is promoted, not a copy of it.
            return Ok(deployment.canary.source.clone());
        }
        // With the source's own environment: the promoted tasks are stable's again, for the proxy as well.
        self.ensure_definition(deployment, &deployment.stable.family, &[])
            .await
    }

    async fn update_stable(
        &self,
        deployment: &Deployment,
        definition: &TaskDefinitionArn,
        tasks: u32,
    ) -> Result<(), PortError> {
        let (cluster, stable) = (deployment.cluster(), &deployment.stable.service);
        self.set_task_definition(cluster, stable, definition, tasks)
            .await
    }

    async fn remove_service(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<Removal, PortError> {
        self.remove(deployment, side).await
    }

    async fn retire_definition(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<(), PortError> {
        match side {
            Side::Canary => {
                self.deregister_own(&deployment.canary.family, &deployment.execution)
                    .await
            }
            Side::Stable => self.deregister(&deployment.stable.task_definition).await,
        }
    }

    async fn retire_promoted_definition(&self, deployment: &Deployment) -> Result<(), PortError> {
        let stable = self
            .describe_service(deployment.cluster(), &deployment.stable.service)
            .await?;
        let own = self
            .own_definition(&deployment.stable.family, &deployment.execution)
            .await?;
        match (stable.as_ref().map(services::task_definition), own) {
            // It is in use: stable was updated, and taking its definition away would keep it from starting tasks.
            (Some(running), Some(own)) if running == own => Ok(()),
            (_, Some(_)) => {
                self.deregister_own(&deployment.stable.family, &deployment.execution)
                    .await
            }
            (_, None) => Ok(()),
        }
    }

    async fn changes(&self, deployment: &Deployment) -> Traces {
        let mut changes = Traces::default();
        let running = self.change_of_stable(deployment).await;
        changes.look(services::changed_by_name(deployment), running);
        let family = &deployment.stable.family;
        let revisions = self.own_leftovers(family, &deployment.execution).await;
        changes.look_at_all(definitions::leftover_by_name(deployment, family), revisions);
        changes
    }

    async fn traces(&self, deployment: &Deployment, side: Side) -> Traces {
        let mut traces = Traces::default();
        let service = self.service_trace(deployment, side).await;
        traces.look(services::leftover_by_name(deployment, side), service);
        match side {
            Side::Canary => {
                let family = &deployment.canary.family;
                let own = self.own_leftovers(family, &deployment.execution).await;
                traces.look_at_all(definitions::leftover_by_name(deployment, family), own);
            }
            Side::Stable => {
                let definition = &deployment.stable.task_definition;
                let active = self.is_active(definition).await;
                traces.look_for(definitions::leftover(definition), active);
            }
        }
        if let Some(held) = deployment.held_scale_in() {
            traces.look_for(held, self.is_scale_in_held(deployment).await);
        }
        traces
    }

    fn possible_traces(&self, deployment: &Deployment) -> Vec<Leftover> {
        let family = |family| definitions::leftover_by_name(deployment, family);
        let certain = [
            services::leftover_by_name(deployment, Side::Canary),
            family(&deployment.canary.family),
            services::changed_by_name(deployment),
            family(&deployment.stable.family),
        ];
        certain
            .into_iter()
            .chain(deployment.held_scale_in())
            .collect()
    }
}

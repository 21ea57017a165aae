//! What scales a service by itself: its scalable target in Application Auto Scaling.
//!
//! While the canary has some of stable's traffic, stable looks idle, and a policy would take away the tasks that a rollback
//! needs. So scaling in is suspended for as long as the deployment lasts; scaling out is not.

use aws_sdk_applicationautoscaling::types::{
    ScalableDimension, ScalableTarget, ServiceNamespace, SuspendedState,
};
use serin::{ClusterName, Deployment, PortError, Scaling, ServiceName};

use super::EcsFleet;
use crate::error::failed;

impl EcsFleet {
    /// What scales the service; `None` if nothing does.
    pub(super) async fn scaling(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Option<Scaling>, PortError> {
        let target = self.scalable_target(cluster, service).await?;
        Ok(target.map(|target| Scaling {
            max_tasks: u32::try_from(target.max_capacity).unwrap_or(0),
            scale_in_suspended: is_suspended(&target),
        }))
    }

    /// Suspends or resumes scaling stable in, if the deployment has anything to do with it.
    pub(super) async fn suspend_scale_in(
        &self,
        deployment: &Deployment,
        suspended: bool,
    ) -> Result<(), PortError> {
        // Nothing scaled it, or somebody had suspended that before: neither is ours to change.
        let held = deployment.stable.scaling.as_ref();
        if held.is_none_or(|scaling| scaling.scale_in_suspended) {
            return Ok(());
        }
        let (cluster, service) = (deployment.cluster(), &deployment.stable.service);
        let Some(target) = self.scalable_target(cluster, service).await? else {
            return Ok(()); // somebody removed it
        };
        if is_suspended(&target) == suspended {
            return Ok(());
        }
        // A member that is not given would be false again, so the others are given as they are.
        let now = target.suspended_state();
        let out = now.and_then(SuspendedState::dynamic_scaling_out_suspended);
        let scheduled = now.and_then(SuspendedState::scheduled_scaling_suspended);
        let state = SuspendedState::builder()
            .dynamic_scaling_in_suspended(suspended)
            .dynamic_scaling_out_suspended(out.unwrap_or(false))
            .scheduled_scaling_suspended(scheduled.unwrap_or(false))
            .build();
        // Without minimum and maximum, which stay as they are.
        let request = self
            .auto_scaling
            .register_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .resource_id(resource_id(cluster, service))
            .suspended_state(state);
        request
            .send()
            .await
            .map_err(failed("Application Auto Scaling RegisterScalableTarget"))?;
        Ok(())
    }

    /// Whether scaling in of stable is suspended now.
    pub(super) async fn is_scale_in_held(
        &self,
        deployment: &Deployment,
    ) -> Result<bool, PortError> {
        let (cluster, service) = (deployment.cluster(), &deployment.stable.service);
        let target = self.scalable_target(cluster, service).await?;
        Ok(target.is_some_and(|target| is_suspended(&target)))
    }

    async fn scalable_target(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Option<ScalableTarget>, PortError> {
        let answer = self
            .auto_scaling
            .describe_scalable_targets()
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .resource_ids(resource_id(cluster, service))
            .send()
            .await
            .map_err(failed("Application Auto Scaling DescribeScalableTargets"))?;
        Ok(answer
            .scalable_targets
            .unwrap_or_default()
            .into_iter()
            .next())
    }
}

fn resource_id(cluster: &ClusterName, service: &ServiceName) -> String {
    format!("service/{cluster}/{service}")
}

fn is_suspended(target: &ScalableTarget) -> bool {
    target
        .suspended_state()
        .and_then(SuspendedState::dynamic_scaling_in_suspended)
        .unwrap_or(false)
}

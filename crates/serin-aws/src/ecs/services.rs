//! ECS services: described, created, updated, removed.

use aws_sdk_ecs::types::{
    DeploymentRolloutState, DesiredStatus, LoadBalancer, ResourceManagementType, Service,
    ServiceField, Task,
};
use jiff::Timestamp;
use serin::ports::{
    Observation, Removal, Rollout, Running, ServiceDescription, Side, StoppedContainer, StoppedTask,
};
use serin::progress::{Attachment, TargetGroupUse};
use serin::{
    ClusterName, Deployment, Leftover, PortError, Scaling, ServiceName, TaskDefinitionArn,
};

use super::EcsFleet;
use super::copy::{self, primary};
use crate::error::{failed, has_code, is_not_found, port_error, refused};
use crate::ownership;

/// The most tasks that one `DescribeTasks` takes.
const TASKS_PER_CALL: usize = 100;

impl EcsFleet {
    /// The service with its tags; `None` if there is none of that name, or no such cluster.
    pub(super) async fn describe_service(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Option<Service>, PortError> {
        const CALL: &str = "ECS DescribeServices";
        let answer = self
            .ecs
            .describe_services()
            .cluster(cluster.as_str())
            .services(service.as_str())
            .include(ServiceField::Tags)
            .send()
            .await;
        let answer = match answer {
            Err(error) if has_code(&error, "ClusterNotFoundException") => return Ok(None),
            answer => answer.map_err(failed(CALL))?,
        };
        if let Some(failure) = answer
            .failures()
            .iter()
            .find(|failure| failure.reason() != Some("MISSING"))
        {
            let reason = failure.reason().unwrap_or("no reason given");
            return Err(refused(CALL, format!("{service} in {cluster}: {reason}")));
        }
        Ok(answer.services.unwrap_or_default().into_iter().next())
    }

    /// Ensures the canary's service.
    pub(super) async fn ensure_service(
        &self,
        deployment: &Deployment,
        definition: &TaskDefinitionArn,
        attachment: &Attachment,
        tasks: u32,
    ) -> Result<String, PortError> {
        const CALL: &str = "ECS CreateService";
        if let Some(arn) = self.own_canary(deployment).await? {
            return Ok(arn);
        }
        let stable = &deployment.stable.service;
        let Some(stable) = self.describe_service(deployment.cluster(), stable).await? else {
            return Err(refused(
                "ECS DescribeServices",
                format!("service {stable} is gone"),
            ));
        };
        let tasks = i32::try_from(tasks)
            .map_err(|_| refused(CALL, format!("{tasks} tasks are more than ECS counts")))?;
        let request = copy::service(&stable, deployment, definition, attachment, tasks)
            .map_err(|sentence| refused(CALL, sentence))?;
        match request.send_with(&self.ecs).await {
            Ok(answer) => {
                let arn = answer.service.and_then(|service| service.service_arn);
                arn.ok_or_else(|| refused(CALL, "the answer has no service"))
            }
            // ECS says this of a name that is taken: by ours, if an answer was lost and the description above came too early.
            Err(error) if is_not_idempotent(&error) => match self.own_canary(deployment).await? {
                Some(arn) => Ok(arn),
                None => Err(port_error(CALL, &error)),
            },
            Err(error) => Err(failed(CALL)(error)),
        }
    }

    /// The ARN of the canary's service if it is active and this deployment's.
    async fn own_canary(&self, deployment: &Deployment) -> Result<Option<String>, PortError> {
        let canary = self
            .describe_service(deployment.cluster(), &deployment.canary.service)
            .await?;
        Ok(canary
            .filter(|service| service.status() == Some("ACTIVE") && is_ours(service, deployment))
            .and_then(|service| service.service_arn))
    }

    /// Sets how many tasks a service should have.
    pub(super) async fn set_desired_count(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
        tasks: u32,
    ) -> Result<(), PortError> {
        const CALL: &str = "ECS UpdateService";
        let tasks = i32::try_from(tasks)
            .map_err(|_| refused(CALL, format!("{tasks} tasks are more than ECS counts")))?;
        let request = self
            .ecs
            .update_service()
            .cluster(cluster.as_str())
            .service(service.as_str())
            .desired_count(tasks);
        request.send().await.map_err(failed(CALL))?;
        Ok(())
    }

    /// Tells a service to run `definition` with at least `tasks` tasks, and nothing else, if it does not run it.
    pub(super) async fn set_task_definition(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
        definition: &TaskDefinitionArn,
        tasks: u32,
    ) -> Result<(), PortError> {
        const CALL: &str = "ECS UpdateService";
        let Some(described) = self.describe_service(cluster, service).await? else {
            return Err(refused(
                "ECS DescribeServices",
                format!("service {service} is gone"),
            ));
        };
        // The same definition again would be a new roll-out of the same tasks.
        if task_definition(&described) == *definition {
            return Ok(());
        }
        let tasks = i32::try_from(tasks)
            .map_err(|_| refused(CALL, format!("{tasks} tasks are more than ECS counts")))?;
        let more = (tasks > described.desired_count).then_some(tasks);
        let request = self
            .ecs
            .update_service()
            .cluster(cluster.as_str())
            .service(service.as_str())
            .task_definition(definition.as_str())
            .set_desired_count(more);
        request.send().await.map_err(failed(CALL))?;
        Ok(())
    }

    /// Removes the service of one side: first to no tasks, so that each leaves the load balancing before it stops and the
    /// progress can be watched; then altogether.
    pub(super) async fn remove(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<Removal, PortError> {
        let (cluster, name) = (deployment.cluster(), deployment.service_of(side));
        let Some(service) = self.describe_service(cluster, name).await? else {
            return Ok(Removal::Gone);
        };
        match service.status() {
            Some("ACTIVE") => {}
            Some("DRAINING") => {
                return Ok(Removal::Going(format!(
                    "ECS to finish the deletion of service {name}"
                )));
            }
            _ => return Ok(Removal::Gone),
        }
        if side == Side::Canary && !is_ours(&service, deployment) {
            let sentence = format!(
                "service {name} was not created by this deployment (tag {}) and is left alone",
                ownership::EXECUTION
            );
            return Err(refused("ECS DeleteService", sentence));
        }
        if service.desired_count > 0 {
            return match self.set_desired_count(cluster, name, 0).await {
                Ok(()) => Ok(going(&service)),
                Err(error) => self.unless_gone(cluster, name, error).await,
            };
        }
        if service.running_count > 0 || service.pending_count > 0 {
            return Ok(going(&service));
        }
        // Forced: a service whose tasks never started counts as active for ECS, and then only this removes it.
        match self
            .ecs
            .delete_service()
            .cluster(cluster.as_str())
            .service(name.as_str())
            .force(true)
            .send()
            .await
        {
            Err(error) if is_not_found(&error) => Ok(Removal::Gone),
            Err(error) => Err(failed("ECS DeleteService")(error)),
            Ok(answer) => match answer.service.as_ref().and_then(Service::status) {
                Some("INACTIVE") => Ok(Removal::Gone),
                _ => Ok(Removal::Going(format!(
                    "ECS to finish the deletion of service {name}"
                ))),
            },
        }
    }

    /// A service that went away between two calls needs no removal, and its error is no error.
    async fn unless_gone(
        &self,
        cluster: &ClusterName,
        name: &ServiceName,
        error: PortError,
    ) -> Result<Removal, PortError> {
        let PortError::Refused { .. } = &error else {
            return Err(error);
        };
        match self
            .describe_service(cluster, name)
            .await?
            .as_ref()
            .and_then(Service::status)
        {
            Some("ACTIVE") => Err(error),
            Some("DRAINING") => Ok(Removal::Going(format!(
                "ECS to finish the deletion of service {name}"
            ))),
            _ => Ok(Removal::Gone),
        }
    }

    /// The tasks of a service that stopped lately, oldest first.
    pub(super) async fn list_stopped_tasks(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Vec<StoppedTask>, PortError> {
        let mut arns = Vec::new();
        let mut token = None;
        while arns.len() < TASKS_PER_CALL {
            let request = self
                .ecs
                .list_tasks()
                .cluster(cluster.as_str())
                .service_name(service.as_str());
            let answer = match request
                .desired_status(DesiredStatus::Stopped)
                .set_next_token(token)
                .send()
                .await
            {
                Err(error) if is_not_found(&error) => return Ok(Vec::new()),
                answer => answer.map_err(failed("ECS ListTasks"))?,
            };
            arns.extend(answer.task_arns.unwrap_or_default());
            token = answer.next_token;
            if token.is_none() {
                break;
            }
        }
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        arns.truncate(TASKS_PER_CALL);
        let answer = self
            .ecs
            .describe_tasks()
            .cluster(cluster.as_str())
            .set_tasks(Some(arns))
            .send()
            .await;
        let answer = answer.map_err(failed("ECS DescribeTasks"))?;
        let mut stopped: Vec<_> = answer.tasks().iter().map(stopped_task).collect();
        stopped.sort_by_key(|task| task.stopped_at);
        Ok(stopped)
    }

    /// What stable's service runs, if it is not what the snapshot says.
    pub(super) async fn change_of_stable(
        &self,
        deployment: &Deployment,
    ) -> Result<Option<Leftover>, PortError> {
        let cluster = deployment.cluster();
        let name = &deployment.stable.service;
        let before = &deployment.stable.task_definition;
        let stable = self
            .describe_service(cluster, name)
            .await?
            .filter(|service| service.status() == Some("ACTIVE"));
        Ok(match stable.as_ref().map(task_definition) {
            None => Some(Leftover {
                arn: deployment.stable.service_arn.clone(),
                what: format!("service {name} is no longer active, so nothing serves in its name"),
                command: format!("aws ecs describe-services --cluster {cluster} --services {name}"),
            }),
            Some(now) if now != *before => Some(Leftover {
                what: format!("service {name} runs {now} and not {before}"),
                ..changed_by_name(deployment)
            }),
            Some(_) => None,
        })
    }

    /// A side's service, if it is there.
    pub(super) async fn service_trace(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<Option<Leftover>, PortError> {
        let name = deployment.service_of(side);
        let service = self.describe_service(deployment.cluster(), name).await?;
        let status = service.as_ref().and_then(Service::status);
        Ok(match status {
            Some(status @ ("ACTIVE" | "DRAINING")) => Some(Leftover {
                what: format!(
                    "service {name} is still {status}: its tasks run and cost, and serve what the router still sends them"
                ),
                ..leftover_by_name(deployment, side)
            }),
            _ => None,
        })
    }
}

/// That stable may have been updated, in the words of one who has to put the old version back by hand.
pub(super) fn changed_by_name(deployment: &Deployment) -> Leftover {
    let (cluster, stable) = (deployment.cluster(), &deployment.stable);
    let (name, before) = (&stable.service, &stable.task_definition);
    Leftover {
        arn: stable.service_arn.clone(),
        what: format!("service {name} runs another version than {before}"),
        command: format!(
            "aws ecs update-service --cluster {cluster} --service {name} --task-definition {before}"
        ),
    }
}

/// A side's service, in the words of one who has to delete it by hand.
pub(super) fn leftover_by_name(deployment: &Deployment, side: Side) -> Leftover {
    let (cluster, name) = (deployment.cluster(), deployment.service_of(side));
    let path = format!("service/{cluster}/{name}");
    Leftover {
        arn: deployment.execution.arn_beside("ecs", None, &path),
        what: format!(
            "service {name} is still there: its tasks run and cost, and serve what the router still sends them"
        ),
        command: format!("aws ecs delete-service --cluster {cluster} --service {name} --force"),
    }
}

/// A service in the planner's words.
pub(super) fn description(service: &Service, scaling: Option<Scaling>) -> ServiceDescription {
    let primary = primary(service);
    let connect = primary.and_then(|primary| primary.service_connect_configuration());
    ServiceDescription {
        service: ServiceName::new(service.service_name().unwrap_or_default()),
        arn: service.service_arn().unwrap_or_default().to_owned(),
        status: service.status().unwrap_or_default().to_owned(),
        // Absent means the default in these three.
        controller: service
            .deployment_controller()
            .map_or("ECS", |controller| controller.r#type().as_str())
            .to_owned(),
        strategy: service
            .deployment_configuration()
            .and_then(|configuration| configuration.strategy())
            .map_or("ROLLING", |strategy| strategy.as_str())
            .to_owned(),
        scheduling: service
            .scheduling_strategy()
            .map_or("REPLICA", |scheduling| scheduling.as_str())
            .to_owned(),
        managed_by_ecs: service.resource_management_type() == Some(&ResourceManagementType::Ecs),
        desired_count: count(service.desired_count),
        running_count: count(service.running_count),
        deployments: in_flight(service),
        task_definition: task_definition(service),
        registries: service
            .service_registries()
            .iter()
            .filter_map(|registry| registry.registry_arn.clone())
            .collect(),
        service_connect_server: connect
            .is_some_and(|connect| connect.enabled() && !connect.services().is_empty()),
        created_for: ownership::service_of(
            service.tags().iter().map(|tag| (tag.key(), tag.value())),
        ),
        target_groups: service
            .load_balancers()
            .iter()
            .filter_map(target_group_use)
            .collect(),
        classic_load_balancers: service
            .load_balancers()
            .iter()
            .filter(|balancer| balancer.load_balancer_name().is_some())
            .count(),
        scaling,
    }
}

fn target_group_use(balancer: &LoadBalancer) -> Option<TargetGroupUse> {
    Some(TargetGroupUse {
        target_group_arn: balancer.target_group_arn.clone()?,
        container: balancer.container_name().unwrap_or_default().to_owned(),
        port: balancer
            .container_port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(0),
    })
}

/// What a service looks like now.
pub(super) fn observation(service: &Service) -> Observation {
    match service.status() {
        Some("ACTIVE") => {}
        Some("DRAINING") => {
            return Observation::Draining {
                running: count(service.running_count),
            };
        }
        _ => return Observation::Absent,
    }
    let deployments = in_flight(service);
    let primary = primary(service);
    let reason = || {
        primary
            .and_then(|primary| primary.rollout_state_reason())
            .unwrap_or("ECS gives no reason")
            .to_owned()
    };
    let all_run = deployments == 1 && service.running_count == service.desired_count;
    let rollout = match primary.and_then(|primary| primary.rollout_state()) {
        Some(DeploymentRolloutState::Completed) => Rollout::Completed,
        Some(DeploymentRolloutState::Failed) => Rollout::Failed(reason()),
        // ECS says nothing of services behind a Classic Load Balancer.
        None if all_run => Rollout::Completed,
        _ => Rollout::InProgress,
    };
    Observation::Active(Running {
        desired: count(service.desired_count),
        running: count(service.running_count),
        running_new: count(primary.map_or(0, |primary| primary.running_count)),
        task_definition: task_definition(service),
        rollout,
        deployments,
    })
}

/// The task definition that a service runs or is moving to.
pub(super) fn task_definition(service: &Service) -> TaskDefinitionArn {
    let primary = primary(service).and_then(|primary| primary.task_definition());
    TaskDefinitionArn::new(primary.or(service.task_definition()).unwrap_or_default())
}

fn is_ours(service: &Service, deployment: &Deployment) -> bool {
    ownership::is_ours(
        service.tags().iter().map(|tag| (tag.key(), tag.value())),
        &deployment.execution,
    )
}

fn going(service: &Service) -> Removal {
    let name = service.service_name().unwrap_or_default();
    let tasks = service.running_count + service.pending_count;
    Removal::Going(format!("the last {tasks} tasks of service {name} to drain"))
}

fn is_not_idempotent(
    error: &aws_sdk_ecs::error::SdkError<
        aws_sdk_ecs::operation::create_service::CreateServiceError,
    >,
) -> bool {
    use aws_sdk_ecs::error::ProvideErrorMetadata;
    has_code(error, "InvalidParameterException")
        && error
            .message()
            .is_some_and(|message| message.contains("not idempotent"))
}

/// The deployments that still have or want tasks.
fn in_flight(service: &Service) -> usize {
    service
        .deployments()
        .iter()
        .filter(|deployment| deployment.status() != Some("INACTIVE"))
        .count()
}

fn stopped_task(task: &Task) -> StoppedTask {
    let containers = task
        .containers()
        .iter()
        .filter(|container| container.exit_code.is_some() || container.reason.is_some());
    StoppedTask {
        stop_code: task
            .stop_code()
            .map_or_else(String::new, |code| code.as_str().to_owned()),
        reason: task
            .stopped_reason()
            .unwrap_or("ECS gives no reason")
            .to_owned(),
        containers: containers
            .map(|container| StoppedContainer {
                name: container.name().unwrap_or_default().to_owned(),
                exit_code: container.exit_code,
                reason: container.reason().unwrap_or_default().to_owned(),
            })
            .collect(),
        stopped_at: task
            .stopped_at()
            .and_then(|at| Timestamp::from_nanosecond(at.as_nanos()).ok()),
    }
}

/// ECS counts in signed numbers that are never negative.
fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

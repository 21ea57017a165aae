//! Tasks: the calls.

use aws_sdk_ecs::operation::describe_tasks::{DescribeTasksInput, DescribeTasksOutput};
use aws_sdk_ecs::operation::list_tasks::{ListTasksInput, ListTasksOutput};
use aws_sdk_ecs::types::{Container, DesiredStatus, Failure, HealthStatus, Task};
use aws_smithy_types::DateTime;

use super::{Fate, Phase, TaskState, arn, invalid};
use crate::paging::page;
use crate::wire::Refusal;
use crate::world::World;

pub(crate) fn list_tasks(
    world: &mut World,
    input: &ListTasksInput,
) -> Result<ListTasksOutput, Refusal> {
    let cluster = world.ecs.cluster(input.cluster())?;
    let service = match input.service_name() {
        None => None,
        Some(name) => {
            let found = world.ecs.service(&cluster, name);
            Some(
                found
                    .ok_or_else(|| Refusal::new("ServiceNotFoundException", "Service not found."))?
                    .name
                    .clone(),
            )
        }
    };
    let lives = match input.desired_status() {
        None | Some(DesiredStatus::Running) => true,
        Some(DesiredStatus::Stopped) => false,
        Some(other) => return Err(invalid(format!("desiredStatus {other}"))),
    };
    let all: Vec<String> = world
        .ecs
        .tasks
        .iter()
        .filter(|task| task.cluster == cluster && task.lives() == lives)
        .filter(|task| {
            service
                .as_ref()
                .is_none_or(|service| *service == task.service_name)
        })
        .filter(|task| input.family().is_none_or(|family| family == task.family))
        .map(|task| task.arn.clone())
        .collect();
    let (items, next) = page(
        &all,
        world.settings.page_size,
        input.max_results(),
        input.next_token(),
    )
    .ok_or_else(|| invalid("Invalid token."))?;
    Ok(ListTasksOutput::builder()
        .set_task_arns(Some(items))
        .set_next_token(next)
        .build())
}

pub(crate) fn describe_tasks(
    world: &mut World,
    input: &DescribeTasksInput,
) -> Result<DescribeTasksOutput, Refusal> {
    let cluster = world.ecs.cluster(input.cluster())?;
    if !(1..=100).contains(&input.tasks().len()) {
        return Err(invalid("Tasks must have 1 to 100 members."));
    }
    let mut output = DescribeTasksOutput::builder()
        .set_tasks(Some(Vec::new()))
        .set_failures(Some(Vec::new()));
    for name in input.tasks() {
        let found = world
            .ecs
            .tasks
            .iter()
            .find(|task| task.cluster == cluster && (task.arn == *name || task.id == *name));
        output = match found {
            Some(task) => output.tasks(world.describe_task(task)),
            None => output.failures(Failure::builder().arn(name).reason("MISSING").build()),
        };
    }
    Ok(output.build())
}

impl World {
    fn describe_task(&self, task: &TaskState) -> Task {
        let last_status = match task.phase {
            Phase::Pending { .. } => "PENDING",
            Phase::Running { .. } => "RUNNING",
            Phase::Draining | Phase::Stopping { .. } => "DEACTIVATING",
            Phase::Stopped { .. } => "STOPPED",
        };
        let health = match (task.phase, task.healthy, task.fate) {
            (_, true, _) => HealthStatus::Healthy,
            (Phase::Running { .. }, false, Fate::NeverHealthy) => HealthStatus::Unhealthy,
            _ => HealthStatus::from("UNKNOWN"),
        };
        let stopped_at = match task.phase {
            Phase::Stopped { at } => Some(DateTime::from_secs(at)),
            _ => None,
        };
        let definition = self
            .ecs
            .definition(&task.definition)
            .expect("definitions are never deleted");
        let proxy = definition
            .data
            .proxy_configuration()
            .map(|proxy| proxy.container_name.as_str());
        let mut blamed = false;
        let containers = definition
            .data
            .container_definitions()
            .iter()
            .map(|container| {
                let is_app = container.essential == Some(true) && container.name() != proxy;
                let culprit = is_app && !blamed;
                blamed |= is_app;
                let ended = task.stop.as_ref().filter(|_| stopped_at.is_some());
                // Only the app's container is to blame; the others are told to stop.
                let exit_code = ended
                    .and_then(|stop| stop.exit_code)
                    .map(|code| if culprit { code } else { 0 });
                Container::builder()
                    .container_arn(format!(
                        "{}/{}",
                        task.arn.replace(":task/", ":container/"),
                        container.name().unwrap_or_default()
                    ))
                    .task_arn(&task.arn)
                    .set_name(container.name.clone())
                    .set_image(container.image.clone())
                    .last_status(if stopped_at.is_some() {
                        "STOPPED"
                    } else {
                        last_status
                    })
                    .set_exit_code(exit_code)
                    .set_reason(
                        ended
                            .filter(|_| culprit)
                            .and_then(|stop| stop.container_reason.clone()),
                    )
                    .health_status(health.clone())
                    .build()
            });
        Task::builder()
            .task_arn(&task.arn)
            .cluster_arn(arn(&format!("cluster/{}", task.cluster)))
            .task_definition_arn(&task.definition)
            .group(format!("service:{}", task.service_name))
            .started_by(&task.rollout)
            .last_status(last_status)
            .desired_status(if task.lives() { "RUNNING" } else { "STOPPED" })
            .health_status(health.clone())
            .set_containers(Some(containers.collect()))
            .created_at(DateTime::from_secs(task.created_at))
            .set_started_at(task.started_at.map(DateTime::from_secs))
            .set_stopping_at(
                task.stop
                    .as_ref()
                    .map(|stop| DateTime::from_secs(stop.ordered_at)),
            )
            .set_stopped_at(stopped_at)
            .set_stop_code(task.stop.as_ref().map(|stop| stop.code.clone()))
            .set_stopped_reason(task.stop.as_ref().map(|stop| stop.reason.clone()))
            .version(1)
            .build()
    }
}

//! Task definitions: described, copied, retired.

use aws_sdk_ecs::types::{Tag, TaskDefinition, TaskDefinitionField, TaskDefinitionStatus};
use serin::ports::{ContainerDescription, TaskDefinitionDescription};
use serin::progress::EnvironmentChange;
use serin::{Deployment, ExecutionArn, Family, Leftover, PortError, TaskDefinitionArn};

use super::EcsFleet;
use super::copy::{self, DefinitionChange};
use crate::error::{failed, has_code, refused};
use crate::ownership;

/// How many revisions of its own a deployment could have made of one family: one, and one more for each answer that was
/// lost while ECS did not yet show the revision.
const OWN_REVISIONS: usize = 5;

impl EcsFleet {
    /// A task definition and its tags, by ARN, by `family:revision`, or by family (its newest active revision).
    pub(super) async fn describe_definition(
        &self,
        name: &str,
    ) -> Result<Option<(TaskDefinition, Vec<Tag>)>, PortError> {
        const CALL: &str = "ECS DescribeTaskDefinition";
        let answer = self
            .ecs
            .describe_task_definition()
            .task_definition(name)
            .include(TaskDefinitionField::Tags)
            .send()
            .await;
        match answer {
            // ECS has no error of its own for a task definition that is not there; this is the one that it gives.
            Err(error) if has_code(&error, "ClientException") => Ok(None),
            Err(error) => Err(failed(CALL)(error)),
            Ok(answer) => {
                let tags = answer.tags.unwrap_or_default();
                Ok(answer.task_definition.map(|definition| (definition, tags)))
            }
        }
    }

    /// The newest active revision of `family`, if `execution` registered it.
    pub(super) async fn own_definition(
        &self,
        family: &Family,
        execution: &ExecutionArn,
    ) -> Result<Option<TaskDefinitionArn>, PortError> {
        self.if_own(family.as_str(), execution).await
    }

    /// The revision of that name, or the newest one of that family, if it is active and `execution` registered it.
    async fn if_own(
        &self,
        name: &str,
        execution: &ExecutionArn,
    ) -> Result<Option<TaskDefinitionArn>, PortError> {
        let described = self.describe_definition(name).await?;
        Ok(described
            .filter(|(definition, _)| is_active(definition))
            .filter(|(_, tags)| {
                ownership::is_ours(tags.iter().map(|tag| (tag.key(), tag.value())), execution)
            })
            .map(|(definition, _)| arn(&definition)))
    }

    /// Ensures a copy of the canary's source in `family`.
    ///
    /// `RegisterTaskDefinition` takes no token, so the tag of the newest revision says whether it has been made already:
    /// otherwise every repetition would add a revision.
    pub(super) async fn ensure_definition(
        &self,
        deployment: &Deployment,
        family: &Family,
        environment: &[EnvironmentChange],
    ) -> Result<TaskDefinitionArn, PortError> {
        const CALL: &str = "ECS RegisterTaskDefinition";
        if let Some(own) = self.own_definition(family, &deployment.execution).await? {
            return Ok(own);
        }
        let source = &deployment.canary.source;
        let Some((source, tags)) = self.describe_definition(source.as_str()).await? else {
            return Err(refused(
                "ECS DescribeTaskDefinition",
                format!("task definition {source} is gone"),
            ));
        };
        let change = DefinitionChange {
            family,
            images: &deployment.canary.images,
            environment,
        };
        let request = copy::task_definition(&source, &tags, change, deployment)
            .map_err(|sentence| refused(CALL, sentence))?;
        let answer = request.send_with(&self.ecs).await.map_err(failed(CALL))?;
        answer
            .task_definition
            .as_ref()
            .map(arn)
            .ok_or_else(|| refused(CALL, "the answer has no task definition"))
    }

    /// Deregisters a revision, if it is active.
    pub(super) async fn deregister(&self, definition: &TaskDefinitionArn) -> Result<(), PortError> {
        if self.is_active(definition).await? {
            self.deregister_active(definition).await?;
        }
        Ok(())
    }

    /// Deregisters the newest revisions of `family` as long as they are `execution`'s.
    pub(super) async fn deregister_own(
        &self,
        family: &Family,
        execution: &ExecutionArn,
    ) -> Result<(), PortError> {
        let mut last = None;
        for _ in 0..OWN_REVISIONS {
            let own = self.own_definition(family, execution).await?;
            // A revision that still shows up after it was deregistered is an answer from before, not another revision.
            if own.is_none() || own == last {
                break;
            }
            if let Some(own) = &own {
                self.deregister_active(own).await?;
            }
            last = own;
        }
        Ok(())
    }

    /// What is left of the revisions that the execution registered in `family`: the newest ones, as long as they are its own. A
    /// registration whose answer was lost may have come in once more.
    pub(super) async fn own_leftovers(
        &self,
        family: &Family,
        execution: &ExecutionArn,
    ) -> Result<Vec<Leftover>, PortError> {
        let mut left = Vec::new();
        let mut next = self.own_definition(family, execution).await?;
        while let Some(own) = next {
            left.push(leftover(&own));
            next = match before(&own).filter(|_| left.len() < OWN_REVISIONS) {
                Some(name) => self.if_own(&name, execution).await?,
                None => None,
            };
        }
        Ok(left)
    }

    /// Whether a revision may still be given to a service.
    pub(super) async fn is_active(&self, name: &TaskDefinitionArn) -> Result<bool, PortError> {
        let described = self.describe_definition(name.as_str()).await?;
        Ok(described.is_some_and(|(definition, _)| is_active(&definition)))
    }

    async fn deregister_active(&self, definition: &TaskDefinitionArn) -> Result<(), PortError> {
        let answer = self
            .ecs
            .deregister_task_definition()
            .task_definition(definition.as_str())
            .send()
            .await;
        answer.map_err(failed("ECS DeregisterTaskDefinition"))?;
        Ok(())
    }
}

/// The name of the revision before this one, `arn:...:task-definition/FAMILY:REVISION`; none before the first.
fn before(definition: &TaskDefinitionArn) -> Option<String> {
    let (family, revision) = definition.as_str().rsplit_once(':')?;
    let before = revision.parse::<u32>().ok()?.checked_sub(1)?;
    (before > 0).then(|| format!("{family}:{before}"))
}

/// A revision, in the words of one who has to retire it by hand.
pub(super) fn leftover(definition: &TaskDefinitionArn) -> Leftover {
    Leftover {
        arn: definition.to_string(),
        what: format!("task definition {definition} is still active; by itself it runs nothing"),
        command: format!("aws ecs deregister-task-definition --task-definition {definition}"),
    }
}

/// The deployment's own revision of `family`, whose number only ECS knows. Only the rollback looks whether it is the
/// deployment's: the family has others.
pub(super) fn leftover_by_name(deployment: &Deployment, family: &Family) -> Leftover {
    let execution = &deployment.execution;
    let arn = execution.arn_beside("ecs", None, &format!("task-definition/{family}:*"));
    Leftover {
        what: format!(
            "the revision of {family} with the tag {} {execution} is still active; by itself it runs nothing",
            ownership::EXECUTION
        ),
        command: deployment.roll_back_command(),
        arn,
    }
}

/// A task definition in the planner's words.
pub(super) fn description(definition: &TaskDefinition) -> TaskDefinitionDescription {
    let containers =
        definition
            .container_definitions()
            .iter()
            .map(|container| ContainerDescription {
                name: container.name().unwrap_or_default().to_owned(),
                image: container.image().unwrap_or_default().to_owned(),
                // ECS: "If the essential parameter of a container is omitted, a container is assumed to be essential."
                essential: container.essential().unwrap_or(true),
                environment: container
                    .environment()
                    .iter()
                    .filter_map(|pair| {
                        Some((
                            pair.name()?.to_owned(),
                            pair.value().unwrap_or_default().to_owned(),
                        ))
                    })
                    .collect(),
            });
    TaskDefinitionDescription {
        active: is_active(definition),
        arn: arn(definition),
        family: Family::new(definition.family().unwrap_or_default()),
        containers: containers.collect(),
        proxy_container: definition
            .proxy_configuration()
            .map(|proxy| proxy.container_name().to_owned()),
    }
}

fn is_active(definition: &TaskDefinition) -> bool {
    definition.status() == Some(&TaskDefinitionStatus::Active)
}

fn arn(definition: &TaskDefinition) -> TaskDefinitionArn {
    TaskDefinitionArn::new(definition.task_definition_arn().unwrap_or_default())
}

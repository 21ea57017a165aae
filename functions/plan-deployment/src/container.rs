//! Which container is the application's.

use serin::ContainerName;
use serin::ports::{ContainerDescription, TaskDefinitionDescription};

use crate::PlanDeploymentError;

/// Parts of the image names of proxies and agents that stand beside an application, some of them as essential containers.
const SIDECARS: &[&str] = &[
    "appmesh-envoy",
    "envoyproxy/envoy",
    "aws-xray-daemon",
    "xray-daemon",
    "aws-otel-collector",
    "opentelemetry-collector",
    "cloudwatch-agent",
    "aws-for-fluent-bit",
    "fluent-bit",
    "fluentd",
    "datadog/agent",
    "ecs-service-connect-agent",
];
/// The environment variables by which a container is App Mesh's Envoy.
const PROXY_VARIABLES: &[&str] = &["APPMESH_RESOURCE_ARN", "APPMESH_VIRTUAL_NODE_NAME"];

/// The container that the request's one image is for: the one it names, or the only essential one that is no sidecar.
pub(crate) fn choose(
    definition: &TaskDefinitionDescription,
    named: Option<&ContainerName>,
    proxy: Option<&str>,
) -> Result<ContainerName, PlanDeploymentError> {
    if let Some(named) = named {
        all_exist(definition, [named])?;
        return Ok(named.clone());
    }
    let candidates: Vec<_> = definition
        .containers
        .iter()
        .filter(|container| container.essential)
        .filter(|container| {
            definition.proxy_container.as_deref() != Some(&container.name)
                && proxy != Some(&container.name)
        })
        .filter(|container| !is_sidecar(container))
        .collect();
    match candidates.as_slice() {
        [only] => Ok(ContainerName::new(&only.name)),
        [] => Err(ambiguous(
            "has no essential container that is not a proxy or an agent",
            &definition.containers.iter().collect::<Vec<_>>(),
            definition,
        )),
        _ => Err(ambiguous(
            "has more than one container that could be the application's",
            &candidates,
            definition,
        )),
    }
}

/// Refuses names of containers that the task definition does not have.
pub(crate) fn all_exist<'a>(
    definition: &TaskDefinitionDescription,
    names: impl IntoIterator<Item = &'a ContainerName>,
) -> Result<(), PlanDeploymentError> {
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| {
            definition
                .containers
                .iter()
                .all(|container| container.name != name.as_str())
        })
        .map(|name| format!("{name:?}", name = name.as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let known: Vec<_> = definition
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    Err(PlanDeploymentError::InvalidRequest(format!(
        "container: {} has no container {}; it has {}",
        definition.arn,
        missing.join(", "),
        known.join(", ")
    )))
}

/// Refuses a source whose proxy is not the one that stable has: the canary could not be told from it, or be reached.
pub(crate) fn same_sidecars(
    running: &TaskDefinitionDescription,
    source: &TaskDefinitionDescription,
) -> Result<(), PlanDeploymentError> {
    let identity = |definition: &TaskDefinitionDescription| -> Vec<(String, String)> {
        let containers = definition.containers.iter();
        let variables = containers.flat_map(|container| container.environment.clone());
        variables
            .filter(|(name, _)| PROXY_VARIABLES.contains(&name.as_str()))
            .collect()
    };
    let (has, needs) = (identity(source), identity(running));
    if has == needs {
        return Ok(());
    }
    let shown = |identity: Vec<(String, String)>| match identity.as_slice() {
        [] => "none".to_owned(),
        pairs => pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(", "),
    };
    Err(PlanDeploymentError::ServiceNotSupported(format!(
        "taskDefinition: the proxy of {} is {}, stable's is {}; they must be the same",
        source.arn,
        shown(has),
        shown(needs)
    )))
}

fn is_sidecar(container: &ContainerDescription) -> bool {
    SIDECARS.iter().any(|part| container.image.contains(part))
        || PROXY_VARIABLES
            .iter()
            .any(|variable| container.environment.contains_key(*variable))
}

fn ambiguous(
    what: &str,
    containers: &[&ContainerDescription],
    definition: &TaskDefinitionDescription,
) -> PlanDeploymentError {
    let names: Vec<_> = containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    PlanDeploymentError::AmbiguousDiscovery(format!(
        "task definition {} {what}: {}; the field container decides",
        definition.arn,
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serin::{Family, TaskDefinitionArn};

    use super::*;

    fn container(name: &str, image: &str) -> ContainerDescription {
        ContainerDescription {
            name: name.into(),
            image: image.into(),
            essential: true,
            environment: BTreeMap::new(),
        }
    }

    fn definition(containers: Vec<ContainerDescription>) -> TaskDefinitionDescription {
        TaskDefinitionDescription {
            active: true,
            arn: TaskDefinitionArn::new("checkout:1"),
            family: Family::new("checkout"),
            containers,
            proxy_container: Some("envoy".into()),
        }
    }

    #[test]
    fn the_application_is_what_is_left_when_proxy_and_agents_are_not_counted() {
        let mut log_router = container(
            "log_router",
            "public.ecr.aws/aws-observability/aws-for-fluent-bit:stable",
        );
        log_router.essential = true;
        let mut migration = container("migration", "checkout-migration:1");
        migration.essential = false;
        let definition = definition(vec![
            log_router,
            container("envoy", "any"),
            migration,
            container("app", "checkout:1"),
        ]);
        assert_eq!(
            choose(&definition, None, None).unwrap(),
            ContainerName::new("app")
        );
    }

    #[test]
    fn two_applications_are_listed_with_the_field_that_decides() {
        let definition = definition(vec![
            container("app", "a"),
            container("worker", "b"),
            container("envoy", "c"),
        ]);
        let error = choose(&definition, None, None).unwrap_err().to_string();
        assert!(
            error.contains("app, worker") && error.ends_with("the field container decides"),
            "{error}"
        );
        assert_eq!(
            choose(&definition, Some(&ContainerName::new("worker")), None).unwrap(),
            ContainerName::new("worker")
        );
    }

    #[test]
    fn a_container_that_does_not_exist_is_refused_with_those_that_do() {
        let definition = definition(vec![container("app", "a")]);
        let error = choose(&definition, Some(&ContainerName::new("ap")), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(r#"no container "ap"; it has app"#),
            "{error}"
        );
    }
}

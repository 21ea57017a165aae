//! What the fleet needs to know of a task definition.

use serde_json::Value;

/// A task definition as the fleet runs it: one application and, usually, a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskDefinition {
    pub(crate) arn: String,
    pub(crate) family: String,
    pub(crate) cpu: Option<String>,
    pub(crate) memory: Option<String>,
    pub(crate) containers: Vec<Container>,
    /// The container that runs the sample service: the first essential one that is no Envoy.
    pub(crate) application: Option<String>,
    /// The container that is the sidecar.
    pub(crate) sidecar: Option<String>,
    /// The virtual node that the sidecar stands for, as `mesh/node`.
    pub(crate) virtual_node: Option<String>,
}

/// A container of a task definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) environment: Vec<(String, String)>,
}

impl TaskDefinition {
    /// Reads what `DescribeTaskDefinition` calls `taskDefinition`.
    pub(crate) fn from_json(definition: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let given = definition["containerDefinitions"].as_array()?;
        let containers: Vec<Container> = given
            .iter()
            .map(|container| Container {
                name: text(&container["name"]).unwrap_or_default(),
                image: text(&container["image"]).unwrap_or_default(),
                environment: container["environment"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|pair| Some((text(&pair["name"])?, text(&pair["value"])?)))
                    .collect(),
            })
            .collect();
        let sidecar = text(&definition["proxyConfiguration"]["containerName"]).or_else(|| {
            containers
                .iter()
                .find(|container| container.name == "envoy" || container.image.contains("envoy"))
                .map(|container| container.name.clone())
        });
        let is_application = |name: &str| Some(name) != sidecar.as_deref();
        let application = given
            .iter()
            .filter(|container| container["essential"].as_bool().unwrap_or(true))
            .chain(given)
            .filter_map(|container| container["name"].as_str())
            .find(|name| is_application(name))
            .map(ToOwned::to_owned);
        let virtual_node = containers
            .iter()
            .filter(|container| Some(&container.name) == sidecar.as_ref())
            .flat_map(|container| &container.environment)
            .find(|(name, _)| name == "APPMESH_RESOURCE_ARN" || name == "APPMESH_VIRTUAL_NODE_NAME")
            .and_then(|(_, value)| virtual_node(value));
        Some(Self {
            arn: text(&definition["taskDefinitionArn"])?,
            family: text(&definition["family"])?,
            cpu: text(&definition["cpu"]),
            memory: text(&definition["memory"]),
            containers,
            application,
            sidecar,
            virtual_node,
        })
    }

    /// The container that runs the sample service.
    pub(crate) fn application(&self) -> Option<&Container> {
        let name = self.application.as_deref()?;
        self.containers
            .iter()
            .find(|container| container.name == name)
    }
}

/// `arn:...:mesh/demo/virtualNode/web` or `mesh/demo/virtualNode/web`, as `demo/web`.
fn virtual_node(resource: &str) -> Option<String> {
    let (_, path) = resource.split_once("mesh/")?;
    let (mesh, node) = path.split_once("/virtualNode/")?;
    Some(format!("{mesh}/{node}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_application_is_the_container_that_is_not_the_sidecar() {
        let definition = TaskDefinition::from_json(&json!({
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:1:task-definition/web:3",
            "family": "web",
            "containerDefinitions": [
                {"name": "proxy", "image": "aws-appmesh-envoy:v1", "environment": [
                    {"name": "APPMESH_RESOURCE_ARN", "value": "arn:aws:appmesh:eu-west-1:1:mesh/demo/virtualNode/web"},
                ]},
                {"name": "agent", "image": "agent:1", "essential": false},
                {"name": "app", "image": "sample:good-1"},
            ],
        }))
        .unwrap();
        assert_eq!(definition.application().unwrap().image, "sample:good-1");
        assert_eq!(definition.sidecar.as_deref(), Some("proxy"));
        assert_eq!(definition.virtual_node.as_deref(), Some("demo/web"));
    }
}

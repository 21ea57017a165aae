//! How a task tells App Mesh which virtual node it is.

use serin::ports::{ContainerDescription, DiscoveryError, TaskDefinitionDescription};
use serin::routing::ProxyIdentity;

/// What Envoy images since 1.15 read, and what older ones read. The first one wins where a container has both.
const VARIABLES: [&str; 2] = ["APPMESH_RESOURCE_ARN", "APPMESH_VIRTUAL_NODE_NAME"];

/// A virtual node, as the value of such a variable names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeName {
    pub(super) mesh: String,
    /// The account that owns the mesh, where it is another one than `home`: `mesh/NAME@ACCOUNT`, or the ARN's own account.
    pub(super) mesh_owner: Option<String>,
    pub(super) node: String,
}

/// Whether a task of this definition has a proxy of a mesh.
pub(crate) fn is_in_a_mesh(definition: &TaskDefinitionDescription) -> bool {
    definition.proxy_container.is_some()
        || definition
            .containers
            .iter()
            .any(|container| identity(container).is_some())
}

/// The Envoy container: the one that the request names, or the task definition's proxy, or the only one that has the variable.
pub(super) fn proxy(
    definition: &TaskDefinitionDescription,
    wish: Option<&str>,
) -> Result<ProxyIdentity, DiscoveryError> {
    let wished = wish.map(|name| (name, "router.proxyContainer"));
    let configured = definition
        .proxy_container
        .as_deref()
        .map(|name| (name, "its proxyConfiguration"));
    if let Some((name, who)) = wished.or(configured) {
        return definition.containers.iter().find(|container| container.name == name).and_then(identity).ok_or_else(|| {
            DiscoveryError::Unsupported(format!(
                "task definition {}: container {name}, which {who} names, has neither {} nor {} among its plain environment variables, \
                 so its virtual node is not known",
                definition.arn, VARIABLES[0], VARIABLES[1]
            ))
        });
    }
    let mut found: Vec<_> = definition.containers.iter().filter_map(identity).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            let names: Vec<_> = found
                .iter()
                .chain([&last])
                .map(|identity| identity.container.as_str())
                .collect();
            Err(DiscoveryError::Ambiguous(format!(
                "task definition {} has {} containers that name a virtual node ({}); router.proxyContainer says which is the Envoy proxy",
                definition.arn,
                names.len(),
                names.join(", ")
            )))
        }
        (None, _) => Err(DiscoveryError::Unsupported(format!(
            "task definition {} has no container with the environment variable {} or {}, so the service is in no App Mesh mesh",
            definition.arn, VARIABLES[0], VARIABLES[1]
        ))),
    }
}

fn identity(container: &ContainerDescription) -> Option<ProxyIdentity> {
    let (variable, value) = VARIABLES
        .iter()
        .find_map(|name| container.environment.get_key_value(*name))?;
    Some(ProxyIdentity {
        container: container.name.clone(),
        variable: variable.clone(),
        stable_value: value.clone(),
    })
}

/// Reads `arn:aws:appmesh:REGION:ACCOUNT:mesh/MESH/virtualNode/NODE`, or its last part alone, as both variables take it.
///
/// The part `mesh/` may be missing: AWS's own documentation of `CreateVirtualNode` leaves it out. `home` is the account in
/// which the tasks run.
pub(super) fn parse(proxy: &ProxyIdentity, home: &str) -> Result<NodeName, DiscoveryError> {
    let value = &proxy.stable_value;
    let unsupported = |why: &str| {
        DiscoveryError::Unsupported(format!(
            "{} of container {} is {value}, {why}",
            proxy.variable, proxy.container
        ))
    };
    let arn = value.starts_with("arn:");
    let path = if arn {
        value.splitn(6, ':').nth(5).unwrap_or_default()
    } else {
        value
    };
    let account = if arn { account_of(value) } else { home };
    let path = path.strip_prefix("mesh/").unwrap_or(path);
    let parts: Vec<_> = path.split('/').collect();
    match parts.as_slice() {
        [mesh, "virtualNode", node] if !mesh.is_empty() && !node.is_empty() => {
            let (mesh, owner) = mesh.split_once('@').unwrap_or((mesh, account));
            let mesh_owner = (owner != home).then(|| owner.to_owned());
            Ok(NodeName {
                mesh: mesh.to_owned(),
                mesh_owner,
                node: (*node).to_owned(),
            })
        }
        [_, "virtualGateway", _] => Err(unsupported(
            "a virtual gateway: its traffic is not split by routes that name it",
        )),
        _ => Err(unsupported(
            "which names no virtual node (mesh/MESH/virtualNode/NODE or the ARN)",
        )),
    }
}

/// The account in an ARN.
pub(super) fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// The canary's value of the variable, in the form that stable's has: an ARN (the one that the API returned) or a path.
pub(super) fn of_canary(stable_value: &str, canary_node: &str, canary_arn: &str) -> String {
    if stable_value.starts_with("arn:") {
        return canary_arn.to_owned();
    }
    match stable_value.rsplit_once('/') {
        Some((path, _)) => format!("{path}/{canary_node}"),
        None => canary_node.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin::{Family, TaskDefinitionArn};
    use std::collections::BTreeMap;

    fn container(name: &str, environment: &[(&str, &str)]) -> ContainerDescription {
        ContainerDescription {
            name: name.into(),
            image: String::new(),
            essential: true,
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    fn definition(
        containers: Vec<ContainerDescription>,
        proxy: Option<&str>,
    ) -> TaskDefinitionDescription {
        TaskDefinitionDescription {
            active: true,
            arn: TaskDefinitionArn::new("checkout:7"),
            family: Family::new("checkout"),
            containers,
            proxy_container: proxy.map(str::to_owned),
        }
    }

    fn of(value: &str) -> ProxyIdentity {
        ProxyIdentity {
            container: "envoy".into(),
            variable: VARIABLES[0].into(),
            stable_value: value.into(),
        }
    }

    const NODE: (&str, &str) = ("APPMESH_RESOURCE_ARN", "mesh/prod/virtualNode/checkout");

    #[test]
    fn every_form_of_a_nodes_name_is_understood() {
        let node = NodeName {
            mesh: "prod".into(),
            mesh_owner: None,
            node: "checkout".into(),
        };
        for value in [
            "arn:aws:appmesh:eu-west-1:1234:mesh/prod/virtualNode/checkout",
            "arn:aws-cn:appmesh:cn-north-1:1234:mesh/prod/virtualNode/checkout",
            "arn:aws:appmesh:eu-west-1:1234:mesh/prod@1234/virtualNode/checkout",
            "arn:aws:appmesh:eu-west-1:1234:prod/virtualNode/checkout",
            "mesh/prod/virtualNode/checkout",
        ] {
            assert_eq!(parse(&of(value), "1234").unwrap(), node, "{value}");
        }
        for value in [
            "arn:aws:appmesh:eu-west-1:1234:mesh/prod@9876/virtualNode/checkout",
            "arn:aws:appmesh:eu-west-1:9876:mesh/prod/virtualNode/checkout",
            "mesh/prod@9876/virtualNode/checkout",
        ] {
            let shared = parse(&of(value), "1234").unwrap();
            assert_eq!(
                (shared.mesh.as_str(), shared.mesh_owner.as_deref()),
                ("prod", Some("9876")),
                "{value}"
            );
        }
    }

    #[test]
    fn a_virtual_gateway_or_a_bare_name_is_refused_with_the_reason() {
        let sentence = |value| parse(&of(value), "1234").unwrap_err().to_string();
        assert!(sentence("mesh/prod/virtualGateway/ingress").contains("a virtual gateway"));
        assert!(sentence("checkout").contains("names no virtual node"));
        assert!(
            sentence("arn:aws:appmesh:eu-west-1:1234:mesh/prod/virtualNode/")
                .contains("names no virtual node")
        );
    }

    #[test]
    fn the_canarys_value_has_the_form_of_stables() {
        let arn = "arn:aws:appmesh:eu-west-1:1234:mesh/prod/virtualNode/canary";
        assert_eq!(
            of_canary(
                "arn:aws:appmesh:eu-west-1:1234:prod/virtualNode/checkout",
                "canary",
                arn
            ),
            arn
        );
        assert_eq!(
            of_canary("mesh/prod/virtualNode/checkout", "canary", arn),
            "mesh/prod/virtualNode/canary"
        );
    }

    #[test]
    fn the_only_container_with_the_variable_is_the_proxy() {
        let definition = definition(
            vec![container("app", &[]), container("envoy", &[NODE])],
            None,
        );
        assert_eq!(proxy(&definition, None).unwrap().container, "envoy");
    }

    #[test]
    fn two_proxies_are_listed_and_the_deciding_field_is_named() {
        let definition = definition(
            vec![container("in", &[NODE]), container("out", &[NODE])],
            None,
        );
        let error = proxy(&definition, None).unwrap_err();
        assert!(matches!(error, DiscoveryError::Ambiguous(_)));
        assert!(
            error
                .to_string()
                .contains("(in, out); router.proxyContainer"),
            "{error}"
        );
        assert_eq!(proxy(&definition, Some("out")).unwrap().container, "out");
    }

    #[test]
    fn the_proxy_configuration_decides_between_two() {
        let definition = definition(
            vec![container("in", &[NODE]), container("out", &[NODE])],
            Some("in"),
        );
        assert_eq!(proxy(&definition, None).unwrap().container, "in");
    }

    #[test]
    fn a_proxy_without_the_variable_is_refused_and_named() {
        let error = proxy(
            &definition(vec![container("envoy", &[])], Some("envoy")),
            None,
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("container envoy, which its proxyConfiguration names"),
            "{error}"
        );
        let error = proxy(&definition(vec![container("app", &[])], None), None).unwrap_err();
        assert!(error.to_string().contains("in no App Mesh mesh"), "{error}");
    }

    #[test]
    fn the_newer_variable_wins_over_the_older() {
        let both = container(
            "envoy",
            &[
                NODE,
                ("APPMESH_VIRTUAL_NODE_NAME", "mesh/prod/virtualNode/old"),
            ],
        );
        assert_eq!(
            proxy(&definition(vec![both], None), None).unwrap().variable,
            "APPMESH_RESOURCE_ARN"
        );
    }
}

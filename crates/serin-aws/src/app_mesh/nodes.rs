//! The virtual nodes.

use aws_sdk_appmesh::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_appmesh::types::{
    ServiceDiscovery, TagRef, VirtualNodeData, VirtualNodeSpec, VirtualNodeStatusCode,
};
use serin::ports::Removal;
use serin::routing::AppMeshRecord;
use serin::{Deployment, Leftover, PortError};

use super::{AppMeshRouter, routes};
use crate::error::{failed, has_code, is_not_found, port_error, refused};
use crate::ownership;

impl AppMeshRouter {
    /// A virtual node; `None` if there is none of that name, or it is deleted.
    pub(super) async fn describe_node(
        &self,
        mesh: &str,
        mesh_owner: Option<&str>,
        node: &str,
    ) -> Result<Option<VirtualNodeData>, PortError> {
        let request = self
            .app_mesh
            .describe_virtual_node()
            .mesh_name(mesh)
            .virtual_node_name(node);
        match request
            .set_mesh_owner(mesh_owner.map(str::to_owned))
            .send()
            .await
        {
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(failed("App Mesh DescribeVirtualNode")(error)),
            Ok(answer) => Ok(answer.virtual_node.filter(|node| {
                node.status()
                    .is_none_or(|status| *status.status() != VirtualNodeStatusCode::Deleted)
            })),
        }
    }

    /// Whether there is a node of that name.
    pub(super) async fn node_exists(
        &self,
        record: &AppMeshRecord,
        node: &str,
    ) -> Result<bool, PortError> {
        Ok(self
            .describe_node(&record.mesh, record.mesh_owner.as_deref(), node)
            .await?
            .is_some())
    }

    /// Ensures the canary's node, a copy of stable's in all but where its tasks are found; gives its ARN.
    pub(super) async fn ensure_node(
        &self,
        deployment: &Deployment,
        record: &AppMeshRecord,
    ) -> Result<String, PortError> {
        const CALL: &str = "App Mesh CreateVirtualNode";
        let stable = self
            .describe_node(
                &record.mesh,
                record.mesh_owner.as_deref(),
                &record.stable_node,
            )
            .await?;
        let Some((Some(spec), Some(metadata))) = stable.map(|node| (node.spec, node.metadata))
        else {
            return Err(refused(
                "App Mesh DescribeVirtualNode",
                format!("virtual node {} is gone", record.stable_node),
            ));
        };
        let spec =
            spec_of_canary(spec, deployment, record).map_err(|sentence| refused(CALL, sentence))?;
        let tags = self.tags_of_canary(&metadata.arn, deployment).await?;
        let request = self
            .app_mesh
            .create_virtual_node()
            .mesh_name(&record.mesh)
            .set_mesh_owner(record.mesh_owner.clone())
            .virtual_node_name(&record.canary_node)
            .spec(spec.clone())
            .set_tags(Some(tags))
            .client_token(format!("{}-node", deployment.id));
        let arn = match request.send().await {
            Ok(answer) => answer
                .virtual_node
                .and_then(|node| node.metadata)
                .map(|metadata| metadata.arn),
            Err(error) if is_taken(&error) => {
                let live = self
                    .describe_node(
                        &record.mesh,
                        record.mesh_owner.as_deref(),
                        &record.canary_node,
                    )
                    .await?;
                match live.map(|node| (node.spec, node.metadata)) {
                    // Ours: the answer to the first call was lost.
                    Some((Some(live), Some(metadata))) if live == spec => Some(metadata.arn),
                    Some(_) => {
                        let node = &record.canary_node;
                        return Err(refused(
                            CALL,
                            format!(
                                "there is a virtual node {node} that is no copy of {}",
                                record.stable_node
                            ),
                        ));
                    }
                    None => return Err(port_error(CALL, &error)),
                }
            }
            Err(error) => return Err(failed(CALL)(error)),
        };
        arn.ok_or_else(|| refused(CALL, "the answer has no ARN"))
    }

    /// Stable's tags and ours.
    async fn tags_of_canary(
        &self,
        stable_arn: &str,
        deployment: &Deployment,
    ) -> Result<Vec<TagRef>, PortError> {
        let mut pages = self
            .app_mesh
            .list_tags_for_resource()
            .resource_arn(stable_arn)
            .into_paginator()
            .items()
            .send();
        let mut tags = Vec::new();
        while let Some(tag) = pages.next().await {
            let tag = tag.map_err(failed("App Mesh ListTagsForResource"))?;
            if ownership::is_copied(&tag.key) {
                tags.push(tag);
            }
        }
        let ours = ownership::tags(deployment).into_iter().map(|(key, value)| {
            TagRef::builder()
                .key(key)
                .value(value)
                .build()
                .expect("key and value are given")
        });
        tags.extend(ours);
        Ok(tags)
    }

    /// Deletes a node; one that is not there is deleted.
    pub(super) async fn delete_node(
        &self,
        record: &AppMeshRecord,
        node: &str,
    ) -> Result<Removal, PortError> {
        const CALL: &str = "App Mesh DeleteVirtualNode";
        let request = self
            .app_mesh
            .delete_virtual_node()
            .mesh_name(&record.mesh)
            .virtual_node_name(node);
        match request
            .set_mesh_owner(record.mesh_owner.clone())
            .send()
            .await
        {
            Err(error) if is_not_found(&error) => Ok(Removal::Gone),
            // A route that has just been written may still seem to name it; one that somebody else wrote really does.
            Err(error) if has_code(&error, "ResourceInUseException") => Ok(Removal::Going(
                format!("the last route to stop naming virtual node {node}"),
            )),
            answer => answer.map(|_| Removal::Gone).map_err(failed(CALL)),
        }
    }
}

/// A side's node, in the words of one who has to remove it by hand.
pub(super) fn leftover(deployment: &Deployment, record: &AppMeshRecord, node: &str) -> Leftover {
    let mesh = routes::mesh_options(record);
    let path = format!("virtualNode/{node}");
    Leftover {
        arn: routes::arn_in_mesh(record, &deployment.execution, &path),
        what: format!(
            "virtual node {node} of mesh {} still exists; it gets only what a route still sends it",
            record.mesh
        ),
        command: format!("aws appmesh delete-virtual-node {mesh} --virtual-node-name {node}"),
    }
}

/// Stable's spec with the canary's tasks behind it: in the canary's own Cloud Map service, and picked, where stable picks
/// them by service or family, by the canary's.
fn spec_of_canary(
    mut spec: VirtualNodeSpec,
    deployment: &Deployment,
    record: &AppMeshRecord,
) -> Result<VirtualNodeSpec, String> {
    match &mut spec.service_discovery {
        Some(ServiceDiscovery::AwsCloudMap(cloud_map)) => {
            cloud_map
                .service_name
                .clone_from(&record.canary_registry_name);
            for attribute in cloud_map.attributes.iter_mut().flatten() {
                match attribute.key.as_str() {
                    "ECS_SERVICE_NAME" => attribute.value = deployment.canary.service.to_string(),
                    "ECS_TASK_DEFINITION_FAMILY" => {
                        attribute.value = deployment.canary.family.to_string();
                    }
                    _ => {}
                }
            }
        }
        Some(ServiceDiscovery::Dns(dns)) => {
            let stable = &record.stable_registry.name;
            // Compared without regard to case, as in discovery; ASCII, so that the byte length is the same.
            let namespace = dns
                .hostname
                .get(stable.len()..)
                .filter(|rest| rest.starts_with('.'));
            let Some(namespace) = namespace else {
                return Err(format!(
                    "stable's virtual node now finds its tasks at {}, no longer at {stable}",
                    dns.hostname
                ));
            };
            dns.hostname = format!("{}{namespace}", record.canary_registry_name);
        }
        _ => return Err("stable's virtual node no longer has a service discovery".to_owned()),
    }
    Ok(spec)
}

/// Whether a node of that name exists already. moto has a name of its own for it.
fn is_taken<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.code().is_some_and(|code| {
        code == "ConflictException"
            || code.contains("AlreadyTaken")
            || code.contains("AlreadyExists")
    })
}

//! The Cloud Map services.

use aws_sdk_servicediscovery::operation::create_service::CreateServiceError;
use aws_sdk_servicediscovery::types::{
    DnsConfig, FilterCondition, HealthStatus, Service, ServiceFilter, ServiceFilterName,
    ServiceSummary, ServiceType, ServiceTypeOption, Tag,
};
use serin::ports::{Removal, Side};
use serin::routing::AppMeshRecord;
use serin::{Deployment, Leftover, PortError};

use super::AppMeshRouter;
use crate::error::{failed, has_code, is_not_found, port_error, refused};
use crate::ownership;

impl AppMeshRouter {
    /// Ensures the canary's Cloud Map service, a copy of stable's in the same namespace; gives its ARN.
    pub(super) async fn ensure_registry(
        &self,
        deployment: &Deployment,
        record: &AppMeshRecord,
    ) -> Result<String, PortError> {
        const CALL: &str = "Cloud Map CreateService";
        let creator = format!("serin-{}", deployment.id);
        let name = &record.canary_registry_name;
        if let Some(id) = self.find_registry(record, Side::Canary).await? {
            return self.adopt(&id, &creator, name).await;
        }
        let Some(stable) = self.get_registry(&record.stable_registry.id).await? else {
            return Err(refused(
                "Cloud Map GetService",
                format!("service {} is gone", record.stable_registry.name),
            ));
        };
        let tags = ownership::tags(deployment).into_iter().map(|(key, value)| {
            Tag::builder()
                .key(key)
                .value(value)
                .build()
                .expect("key and value are given")
        });
        let request = self
            .cloud_map
            .create_service()
            .name(name)
            .namespace_id(&record.stable_registry.namespace_id)
            .creator_request_id(&creator)
            .set_dns_config(stable.dns_config().map(without_namespace))
            .set_health_check_config(stable.health_check_config().cloned())
            .set_health_check_custom_config(stable.health_check_custom_config().cloned())
            .set_type(
                (stable.r#type() == Some(&ServiceType::Http)).then_some(ServiceTypeOption::Http),
            )
            .set_tags(Some(tags.collect()));
        match request.send().await {
            Ok(answer) => {
                let arn = answer.service.and_then(|service| service.arn);
                arn.ok_or_else(|| refused(CALL, "the answer has no ARN"))
            }
            Err(error) => match error.as_service_error() {
                Some(CreateServiceError::ServiceAlreadyExists(taken)) => match taken.service_id() {
                    Some(id) => self.adopt(id, &creator, name).await,
                    None => Err(port_error(CALL, &error)),
                },
                _ => Err(failed(CALL)(error)),
            },
        }
    }

    /// The ARN of a service of the canary's name, if this deployment created it.
    async fn adopt(&self, id: &str, creator: &str, name: &str) -> Result<String, PortError> {
        const CALL: &str = "Cloud Map CreateService";
        match self.get_registry(id).await? {
            Some(service) if service.creator_request_id() == Some(creator) => service
                .arn
                .ok_or_else(|| refused("Cloud Map GetService", "the answer has no ARN")),
            Some(_) => Err(refused(
                CALL,
                format!("there is a service {name} ({id}) that this deployment did not create"),
            )),
            None => Err(refused(
                CALL,
                format!("service {name} ({id}) is there and is not; it may just be going"),
            )),
        }
    }

    async fn get_registry(&self, id: &str) -> Result<Option<Service>, PortError> {
        match self.cloud_map.get_service().id(id).send().await {
            Err(error) if is_not_found(&error) => Ok(None),
            answer => Ok(answer.map_err(failed("Cloud Map GetService"))?.service),
        }
    }

    /// The id of a side's Cloud Map service, if there is one.
    pub(super) async fn find_registry(
        &self,
        record: &AppMeshRecord,
        side: Side,
    ) -> Result<Option<String>, PortError> {
        let is_the_one = |service: &ServiceSummary| match side {
            Side::Stable => service.id() == Some(&record.stable_registry.id),
            Side::Canary => service.name() == Some(&record.canary_registry_name),
        };
        let in_namespace = ServiceFilter::builder()
            .name(ServiceFilterName::NamespaceId)
            .values(&record.stable_registry.namespace_id)
            .condition(FilterCondition::Eq)
            .build()
            .expect("name and values are given");
        let mut pages = self
            .cloud_map
            .list_services()
            .filters(in_namespace)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error) if is_not_found(&error) => return Ok(None),
                page => page.map_err(failed("Cloud Map ListServices"))?,
            };
            let named = page.services.into_iter().flatten().find(is_the_one);
            if let Some(service) = named {
                return Ok(service.id);
            }
        }
        Ok(None)
    }

    /// Deletes a Cloud Map service; one that is not there is deleted. `name` is for people.
    pub(super) async fn delete_registry(&self, id: &str, name: &str) -> Result<Removal, PortError> {
        match self.cloud_map.delete_service().id(id).send().await {
            Err(error) if is_not_found(&error) => Ok(Removal::Gone),
            Err(error) if has_code(&error, "ResourceInUse") => Ok(Removal::Going(format!(
                "the last tasks to leave Cloud Map service {name}"
            ))),
            answer => answer
                .map(|_| Removal::Gone)
                .map_err(failed("Cloud Map DeleteService")),
        }
    }

    /// How many instances can get traffic: those that Cloud Map knows to be healthy, and in a service that checks no health
    /// at all, every one.
    pub(super) async fn healthy_instances(&self, id: &str) -> Result<u32, PortError> {
        let (mut healthy, mut unknown, mut all) = (0, 0, 0);
        let mut pages = self
            .cloud_map
            .get_instances_health_status()
            .service_id(id)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error) if is_not_found(&error) => return Ok(0),
                page => page.map_err(failed("Cloud Map GetInstancesHealthStatus"))?,
            };
            for status in page.status().into_iter().flat_map(|status| status.values()) {
                all += 1;
                match status {
                    HealthStatus::Healthy => healthy += 1,
                    HealthStatus::UnknownValue => unknown += 1,
                    _ => {}
                }
            }
        }
        // Only then does it matter whether there is a check that could have said more.
        if unknown == 0 && all > 0 {
            return Ok(healthy);
        }
        match self.get_registry(id).await? {
            None => Ok(0),
            Some(service)
                if service.health_check_config.is_some()
                    || service.health_check_custom_config.is_some() =>
            {
                Ok(healthy)
            }
            Some(_) if all > 0 => Ok(healthy + unknown),
            Some(_) => self.count_instances(id).await,
        }
    }

    async fn count_instances(&self, id: &str) -> Result<u32, PortError> {
        let mut count = 0;
        let mut pages = self
            .cloud_map
            .list_instances()
            .service_id(id)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            match page {
                Err(error) if is_not_found(&error) => return Ok(0),
                page => {
                    count += page
                        .map_err(failed("Cloud Map ListInstances"))?
                        .instances()
                        .len();
                }
            }
        }
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// The id in a Cloud Map service's ARN, `arn:aws:servicediscovery:REGION:ACCOUNT:service/ID`.
pub(super) fn id_of(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, id)| id)
}

/// A side's Cloud Map service, in the words of one who has to remove it by hand.
pub(super) fn leftover(
    deployment: &Deployment,
    record: &AppMeshRecord,
    side: Side,
    id: &str,
) -> Leftover {
    let execution = &deployment.execution;
    Leftover {
        arn: execution.arn_beside("servicediscovery", None, &format!("service/{id}")),
        what: format!(
            "Cloud Map service {} still exists; nothing is registered in it once the tasks of the {side} side are gone",
            record.registry_name(side)
        ),
        command: format!("aws servicediscovery delete-service --id {id}"),
    }
}

/// The same, when its id is not known.
pub(super) fn leftover_by_name(
    deployment: &Deployment,
    record: &AppMeshRecord,
    side: Side,
) -> Leftover {
    let id = match side {
        Side::Stable => return leftover(deployment, record, side, &record.stable_registry.id),
        Side::Canary => format!(
            r#""$(aws servicediscovery list-services --filters Name=NAMESPACE_ID,Values={},Condition=EQ --query "Services[?Name=='{}'].Id" --output text)""#,
            record.stable_registry.namespace_id, record.canary_registry_name
        ),
    };
    Leftover {
        command: format!("aws servicediscovery delete-service --id {id}"),
        ..leftover(deployment, record, side, "*")
    }
}

/// Stable's DNS records without the namespace's id, which Cloud Map reports there but takes beside it.
fn without_namespace(dns: &DnsConfig) -> DnsConfig {
    DnsConfig::builder()
        .set_routing_policy(dns.routing_policy().cloned())
        .set_dns_records(Some(dns.dns_records().to_vec()))
        .build()
        .expect("the records are given")
}

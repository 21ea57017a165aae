//! AWS Cloud Map: namespaces, services, and the instances that ECS registers in them.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_servicediscovery::operation::create_service::{
    CreateServiceInput, CreateServiceOutput,
};
use aws_sdk_servicediscovery::operation::delete_service::{
    DeleteServiceInput, DeleteServiceOutput,
};
use aws_sdk_servicediscovery::operation::get_instances_health_status::{
    GetInstancesHealthStatusInput, GetInstancesHealthStatusOutput,
};
use aws_sdk_servicediscovery::operation::get_namespace::{GetNamespaceInput, GetNamespaceOutput};
use aws_sdk_servicediscovery::operation::get_service::{GetServiceInput, GetServiceOutput};
use aws_sdk_servicediscovery::operation::list_instances::{
    ListInstancesInput, ListInstancesOutput,
};
use aws_sdk_servicediscovery::operation::list_services::{ListServicesInput, ListServicesOutput};
use aws_sdk_servicediscovery::types::{
    DnsProperties, HealthStatus, HttpProperties, InstanceSummary, Namespace, NamespaceProperties,
    NamespaceType, Service, ServiceFilterName, ServiceSummary, Tag,
};
use aws_smithy_types::DateTime;
use serde_json::json;

use crate::account::{ACCOUNT, REGION};
use crate::paging::page;
use crate::wire::Refusal;
use crate::world::World;

/// The namespaces and services of the account, by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct CloudMap {
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    pub(crate) services: BTreeMap<String, Registry>,
    next_id: u64,
}

/// One service with its instances.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    pub(crate) service: Service,
    pub(crate) tags: Vec<Tag>,
    pub(crate) instances: BTreeMap<String, Instance>,
}

/// One instance: a task.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) healthy: bool,
}

impl CloudMap {
    pub(crate) fn add_namespace(&mut self, name: &str, kind: NamespaceType, now: i64) -> String {
        self.next_id += 1;
        let id = format!("ns-{:016}", self.next_id);
        let http = HttpProperties::builder().http_name(name).build();
        let mut properties = NamespaceProperties::builder().http_properties(http);
        if kind != NamespaceType::Http {
            properties = properties.dns_properties(
                DnsProperties::builder()
                    .hosted_zone_id("Z0123456789ABCDEFGHIJ")
                    .build(),
            );
        }
        let namespace = Namespace::builder()
            .id(&id)
            .arn(format!(
                "arn:aws:servicediscovery:{REGION}:{ACCOUNT}:namespace/{id}"
            ))
            .name(name)
            .r#type(kind)
            .properties(properties.build())
            .create_date(DateTime::from_secs(now))
            .build();
        self.namespaces.insert(id.clone(), namespace);
        id
    }

    /// The service with this ARN.
    pub(crate) fn id_of(&self, arn: &str) -> Option<&str> {
        self.services
            .iter()
            .find(|(_, registry)| registry.service.arn() == Some(arn))
            .map(|(id, _)| id.as_str())
    }

    /// The service with this name in the namespace with that name.
    pub(crate) fn named(&self, namespace: &str, service: &str) -> Option<&Registry> {
        self.services.values().find(|registry| {
            let in_namespace = registry
                .service
                .namespace_id()
                .and_then(|id| self.namespaces.get(id));
            registry.service.name() == Some(service)
                && in_namespace.is_some_and(|found| found.name() == Some(namespace))
        })
    }

    fn find(&self, id: Option<&str>) -> Result<&Registry, Refusal> {
        let id = required("Id", id)?;
        self.services
            .get(id)
            .or_else(|| self.services.get(self.id_of(id)?))
            .ok_or_else(|| Refusal::new("ServiceNotFound", format!("Service {id} not found")))
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidInput", message)
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, Refusal> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| invalid(format!("{name} is required")))
}

fn with_count(registry: &Registry) -> Service {
    let mut service = registry.service.clone();
    service.instance_count = i32::try_from(registry.instances.len()).ok();
    service
}

pub(crate) fn get_service(
    world: &mut World,
    input: &GetServiceInput,
) -> Result<GetServiceOutput, Refusal> {
    let registry = world.cloud_map.find(input.id())?;
    Ok(GetServiceOutput::builder()
        .service(with_count(registry))
        .build())
}

pub(crate) fn get_namespace(
    world: &mut World,
    input: &GetNamespaceInput,
) -> Result<GetNamespaceOutput, Refusal> {
    let id = required("Id", input.id())?;
    let map = &world.cloud_map;
    let found = map
        .namespaces
        .get(id)
        .ok_or_else(|| Refusal::new("NamespaceNotFound", format!("Namespace {id} not found")))?;
    let mut namespace = found.clone();
    let services = map
        .services
        .values()
        .filter(|registry| registry.service.namespace_id() == Some(id))
        .count();
    namespace.service_count = i32::try_from(services).ok();
    Ok(GetNamespaceOutput::builder().namespace(namespace).build())
}

pub(crate) fn list_services(
    world: &mut World,
    input: &ListServicesInput,
) -> Result<ListServicesOutput, Refusal> {
    let mut namespace = None;
    for filter in input.filters() {
        let [value] = filter.values.as_slice() else {
            return Err(invalid("EQ takes one value"));
        };
        match &filter.name {
            ServiceFilterName::NamespaceId => namespace = Some(value.as_str()),
            ServiceFilterName::ResourceOwner if value == "SELF" => {}
            other => {
                return Err(invalid(format!(
                    "the simulation does not know the filter {other:?} {value}"
                )));
            }
        }
    }
    let all: Vec<ServiceSummary> = world
        .cloud_map
        .services
        .values()
        .filter(|registry| namespace.is_none() || registry.service.namespace_id() == namespace)
        .map(|registry| {
            let service = with_count(registry);
            ServiceSummary::builder()
                .set_id(service.id)
                .set_arn(service.arn)
                .resource_owner(ACCOUNT)
                .set_name(service.name)
                .set_description(service.description)
                .set_type(service.r#type)
                .set_instance_count(service.instance_count)
                .set_dns_config(service.dns_config)
                .set_health_check_config(service.health_check_config)
                .set_health_check_custom_config(service.health_check_custom_config)
                .set_create_date(service.create_date)
                .build()
        })
        .collect();
    let (items, next) = page(
        &all,
        world.settings.page_size,
        input.max_results(),
        input.next_token(),
    )
    .ok_or_else(|| invalid("NextToken"))?;
    Ok(ListServicesOutput::builder()
        .set_services(Some(items))
        .set_next_token(next)
        .build())
}

pub(crate) fn create_service(
    world: &mut World,
    input: &CreateServiceInput,
) -> Result<CreateServiceOutput, Refusal> {
    let now = world.now();
    let map = &mut world.cloud_map;
    let name = required("Name", input.name())?;
    let namespace = input
        .namespace_id()
        .ok_or_else(|| invalid("NamespaceId is required"))?;
    let kind = map
        .namespaces
        .get(namespace)
        .ok_or_else(|| {
            Refusal::new(
                "NamespaceNotFound",
                format!("Namespace {namespace} not found"),
            )
        })?
        .r#type()
        .cloned();
    if kind == Some(NamespaceType::Http) && input.dns_config().is_some() {
        return Err(invalid(
            "A service in an HTTP namespace cannot have a DnsConfig",
        ));
    }
    if input.health_check_config().is_some() && input.health_check_custom_config().is_some() {
        return Err(invalid(
            "Only one of HealthCheckConfig and HealthCheckCustomConfig is allowed",
        ));
    }
    if input.creator_request_id().is_some_and(|id| id.len() > 64) {
        return Err(invalid("CreatorRequestId has more than 64 characters"));
    }
    let in_namespace = |registry: &&Registry| registry.service.namespace_id() == Some(namespace);
    if let Some(existing) = map
        .services
        .values()
        .filter(in_namespace)
        .find(|registry| registry.service.name() == Some(name))
    {
        if existing.service.creator_request_id() == input.creator_request_id()
            && input.creator_request_id().is_some()
        {
            return Ok(CreateServiceOutput::builder()
                .service(with_count(existing))
                .build());
        }
        return Err(Refusal::new(
            "ServiceAlreadyExists",
            format!("Service {name} already exists"),
        )
        .member(
            "CreatorRequestId",
            json!(existing.service.creator_request_id()),
        )
        .member("ServiceId", json!(existing.service.id()))
        .member("ServiceArn", json!(existing.service.arn())));
    }
    map.next_id += 1;
    let id = format!("srv-{:016}", map.next_id);
    let service = Service::builder()
        .id(&id)
        .arn(format!(
            "arn:aws:servicediscovery:{REGION}:{ACCOUNT}:service/{id}"
        ))
        .resource_owner(ACCOUNT)
        .name(name)
        .namespace_id(namespace)
        .set_description(input.description.clone())
        .set_dns_config(input.dns_config.clone())
        .r#type(match (&kind, input.dns_config().is_some()) {
            (Some(NamespaceType::Http), _) | (_, false) => {
                aws_sdk_servicediscovery::types::ServiceType::Http
            }
            _ => aws_sdk_servicediscovery::types::ServiceType::DnsHttp,
        })
        .set_health_check_config(input.health_check_config.clone())
        .set_health_check_custom_config(input.health_check_custom_config.clone())
        .set_creator_request_id(input.creator_request_id.clone())
        .create_date(DateTime::from_secs(now))
        .build();
    let registry = Registry {
        service,
        tags: input.tags().to_vec(),
        instances: BTreeMap::new(),
    };
    let output = with_count(&registry);
    map.services.insert(id, registry);
    Ok(CreateServiceOutput::builder().service(output).build())
}

pub(crate) fn delete_service(
    world: &mut World,
    input: &DeleteServiceInput,
) -> Result<DeleteServiceOutput, Refusal> {
    let registry = world.cloud_map.find(input.id())?;
    if !registry.instances.is_empty() {
        let message = "Service contains registered instances; delete the instances before deleting the service";
        return Err(Refusal::new("ResourceInUse", message));
    }
    let id = registry
        .service
        .id()
        .expect("every service has an id")
        .to_owned();
    world.cloud_map.services.remove(&id);
    Ok(DeleteServiceOutput::builder().build())
}

pub(crate) fn get_instances_health_status(
    world: &mut World,
    input: &GetInstancesHealthStatusInput,
) -> Result<GetInstancesHealthStatusOutput, Refusal> {
    let registry = world.cloud_map.find(input.service_id())?;
    if let Some(unknown) = input
        .instances()
        .iter()
        .find(|id| !registry.instances.contains_key(*id))
    {
        return Err(Refusal::new(
            "InstanceNotFound",
            format!("Instance {unknown} not found"),
        ));
    }
    let checked = registry.service.health_check_custom_config.is_some()
        || registry.service.health_check_config.is_some();
    let all: Vec<(String, HealthStatus)> = registry
        .instances
        .iter()
        .filter(|_| checked || world.settings.unchecked_instances_are_named)
        .filter(|(id, _)| input.instances().is_empty() || input.instances().contains(id))
        .map(|(id, instance)| {
            let status = match (checked, instance.healthy) {
                (false, _) => HealthStatus::from("UNKNOWN"),
                (true, true) => HealthStatus::Healthy,
                (true, false) => HealthStatus::Unhealthy,
            };
            (id.clone(), status)
        })
        .collect();
    let (items, next) = page(
        &all,
        world.settings.page_size,
        input.max_results(),
        input.next_token(),
    )
    .ok_or_else(|| invalid("NextToken"))?;
    Ok(GetInstancesHealthStatusOutput::builder()
        .set_status(Some(items.into_iter().collect()))
        .set_next_token(next)
        .build())
}

pub(crate) fn list_instances(
    world: &mut World,
    input: &ListInstancesInput,
) -> Result<ListInstancesOutput, Refusal> {
    let registry = world.cloud_map.find(input.service_id())?;
    let all: Vec<InstanceSummary> = registry
        .instances
        .iter()
        .map(|(id, instance)| {
            InstanceSummary::builder()
                .id(id)
                .set_attributes(Some(instance.attributes.clone()))
                .build()
        })
        .collect();
    let (items, next) = page(
        &all,
        world.settings.page_size,
        input.max_results(),
        input.next_token(),
    )
    .ok_or_else(|| invalid("NextToken"))?;
    Ok(ListInstancesOutput::builder()
        .set_instances(Some(items))
        .set_next_token(next)
        .build())
}
